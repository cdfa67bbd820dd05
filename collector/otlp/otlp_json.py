"""OTLP/JSON to OTLP/protobuf, by the OTLP specification's rules on top of protobuf's JSON mapping.

Trace and span ids are hexadecimal, other bytes are base64. Numbers may be numbers or text, a double also `"NaN"`, `"Infinity"` or
`"-Infinity"`. Enums are numbers. null is absent, unknown fields are ignored, keys are lowerCamelCase.
Taken as well, because senders do it: enum names, snake_case keys, base64 without padding or in its URL alphabet, a null
member of an array (an empty value). Text that is not Unicode becomes U+FFFD where it is not.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Callable
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import EncodeError, Message
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from collector.errors import Malformed
from collector.otlp.requests import REQUESTS
from collector.signals import Signal

_MAX_DEPTH = 100  # messages below the request, as in protobuf's own parser
_HEX_FIELDS = frozenset({"trace_id", "span_id", "parent_span_id"})
_INTEGER = re.compile(r"-?[0-9]{1,20}", re.ASCII)
_NUMBER = re.compile(r"-?[0-9]{1,400}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,4})?", re.ASCII)
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def to_protobuf(body: bytes, signal: Signal = Signal.TRACES) -> bytes:
    """An OTLP/JSON request of a signal as protobuf bytes, still to be checked.

    Raises Malformed, which says where the request is wrong, by field names and numbers, and what was expected.
    """
    try:
        # A lone half of a surrogate pair is no text either: U+FFFD.
        data = json.loads(body.decode("utf-8", "replace").removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        raise Malformed("the body is not JSON, or nested too deep") from None
    request = REQUESTS[signal].message()
    try:
        _fill(request, data, 0)
        return request.SerializeToString()
    except _Wrong as wrong:
        raise Malformed(f"{wrong.place()}: expected {wrong.expected}") from None
    except (EncodeError, RecursionError):
        raise Malformed("messages are nested more than 100 deep, which protobuf does not allow") from None


class _Wrong(Exception):
    """What was expected, and where, from the inside out."""

    def __init__(self, expected: str) -> None:
        super().__init__(expected)
        self.expected = expected
        self.path: list[str] = []

    def place(self) -> str:
        """As in `resourceSpans[0].schemaUrl`; the outer part of it, if it is deep."""
        path = "".join(reversed(self.path[-16:])).lstrip(".")
        return path or "the request"


def _fill(message: Message, data: Any, depth: int) -> None:
    if not isinstance(data, dict):
        raise _Wrong("an object")
    if depth > _MAX_DEPTH:
        raise _Wrong("no more than 100 messages inside of each other")
    fields = _fields(message.DESCRIPTOR)
    for key, value in data.items():
        found = fields.get(key)
        if found is None or value is None:
            continue
        field, convert = found
        try:
            if field.is_repeated:
                _fill_list(getattr(message, field.name), field, convert, value, depth)
            elif convert is None:
                child = getattr(message, field.name)
                child.SetInParent()
                _fill(child, value, depth + 1)
            else:
                setattr(message, field.name, convert(value))
        except _Wrong as wrong:
            wrong.path.append(f".{field.json_name}")
            raise


def _fill_list(target: Any, field: FieldDescriptor, convert: _Convert | None, values: Any, depth: int) -> None:
    if not isinstance(values, list):
        raise _Wrong("an array")
    for place, value in enumerate(values):
        try:
            if convert is not None:
                target.append(convert(value))
            elif value is None and _is_value(field):
                target.add()
            else:
                _fill(target.add(), value, depth + 1)
        except _Wrong as wrong:
            wrong.path.append(f"[{place}]")
            raise


def _is_value(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.full_name == AnyValue.DESCRIPTOR.full_name


_Convert = Callable[[Any], Any]


@cache
def _fields(descriptor: Descriptor) -> dict[str, tuple[FieldDescriptor, _Convert | None]]:
    """JSON key → the field and what converts its values; None: it is a message."""
    fields = {}
    for field in descriptor.fields:
        fields[field.name] = fields[field.json_name] = (field, _converter(field))
    return fields


def _converter(field: FieldDescriptor) -> _Convert | None:
    if field.message_type is not None:
        return None
    if field.enum_type is not None:
        return _enum(field.enum_type)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _hex if field.name in _HEX_FIELDS else _base64
    kinds: dict[int, _Convert] = {
        FieldDescriptor.CPPTYPE_STRING: _text,
        FieldDescriptor.CPPTYPE_BOOL: _bool,
        FieldDescriptor.CPPTYPE_DOUBLE: _double,
        FieldDescriptor.CPPTYPE_INT32: _integer(-(2**31), 2**31),
        FieldDescriptor.CPPTYPE_INT64: _integer(-(2**63), 2**63),
        FieldDescriptor.CPPTYPE_UINT32: _integer(0, 2**32),
        FieldDescriptor.CPPTYPE_UINT64: _integer(0, 2**64),
    }
    return kinds[field.cpp_type]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Wrong("text")
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Wrong("true or false")
    return value


def _integer(low: int, behind: int) -> _Convert:
    def convert(value: Any) -> int:
        text = isinstance(value, str) and _INTEGER.fullmatch(value)
        if text or (isinstance(value, float) and value.is_integer()):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value < behind:
            raise _Wrong(f"a whole number from {low} to {behind - 1}, as a number or as text")
        return value

    return convert


def _double(value: Any) -> float:
    if isinstance(value, str):
        if value in _NOT_FINITE:
            return _NOT_FINITE[value]
        if _NUMBER.fullmatch(value):
            value = float(value)
            if math.isinf(value):
                raise _Wrong("a number that a double can hold")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _Wrong("a number, or NaN, Infinity or -Infinity as text")
    try:
        return float(value)
    except OverflowError:
        raise _Wrong("a number that a double can hold") from None


def _enum(enum: EnumDescriptor) -> _Convert:
    number = _integer(-(2**31), 2**31)

    def convert(value: Any) -> int:
        known = enum.values_by_name.get(value) if isinstance(value, str) else None
        result: int = known.number if known is not None else number(value)
        return result

    return convert


def _hex(value: Any) -> bytes:
    try:
        # Not bytes.fromhex: it takes blanks.
        return binascii.unhexlify(value if isinstance(value, str) else None)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        raise _Wrong("hexadecimal text") from None


def _base64(value: Any) -> bytes:
    if not isinstance(value, str):
        raise _Wrong("base64 text")
    try:
        plain = value.replace("-", "+").replace("_", "/").rstrip("=")
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError:
        raise _Wrong("base64 text") from None
