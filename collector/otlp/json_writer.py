"""OTLP/protobuf to OTLP/JSON, of any signal, in one pass: no object is made for a message.

As the OTLP specification has it: keys in lowerCamelCase, trace and span ids in hexadecimal, other bytes in base64, 64-bit integers
as text, enums as numbers, NaN and infinities by their names. What protobuf's schema does not know, JSON cannot say: unknown
fields are left out. A request must be as `check` leaves it: well-formed, text in UTF-8.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.errors import Malformed
from collector.otlp import layout as L
from collector.otlp.compiled import kernel
from collector.otlp.numerals import EXPONENT, put_int, put_word
from collector.otlp.raw import Int, address, copy, load8, load64, store8
from collector.otlp.rendering import put_base64, put_json_text, put_value
from collector.otlp.tables import I64, U8
from collector.otlp.wire import TOP, payload, skip, tag, varint
from collector.signals import Signal

_REQUESTS = {
    Signal.TRACES: ExportTraceServiceRequest.DESCRIPTOR,
    Signal.LOGS: ExportLogsServiceRequest.DESCRIPTOR,
    Signal.METRICS: ExportMetricsServiceRequest.DESCRIPTOR,
}
_HEX_FIELDS = frozenset({"trace_id", "span_id", "parent_span_id"})
_DEPTH = 110  # messages inside of each other; protobuf's own limit is 100
_ROOM = np.int64(256)  # what a field takes at most besides its payload

# The kinds of fields, by how their values are written
_NEGATIVE_ZERO = np.int64(-(2**63))
_POINT_ZERO = np.int64(int.from_bytes(b".0", "little"))
TEXT, BASE64, HEX, MESSAGE, BOOL, NUMBER, NUMBER32, UNSIGNED32, ZIGZAG32, UNSIGNED64, DOUBLE = range(11)
_KINDS: dict[int, tuple[int, int, bool]] = {  # protobuf's type → kind, wire type, whether it is text in JSON
    FieldDescriptor.TYPE_STRING: (TEXT, L.LEN, False),
    FieldDescriptor.TYPE_BYTES: (BASE64, L.LEN, False),
    FieldDescriptor.TYPE_MESSAGE: (MESSAGE, L.LEN, False),
    FieldDescriptor.TYPE_BOOL: (BOOL, L.VARINT, False),
    FieldDescriptor.TYPE_ENUM: (NUMBER32, L.VARINT, False),
    FieldDescriptor.TYPE_INT32: (NUMBER32, L.VARINT, False),
    FieldDescriptor.TYPE_UINT32: (UNSIGNED32, L.VARINT, False),
    FieldDescriptor.TYPE_SINT32: (ZIGZAG32, L.VARINT, False),
    FieldDescriptor.TYPE_FIXED32: (UNSIGNED32, L.FIXED32, False),
    FieldDescriptor.TYPE_INT64: (NUMBER, L.VARINT, True),
    FieldDescriptor.TYPE_UINT64: (UNSIGNED64, L.VARINT, True),
    FieldDescriptor.TYPE_FIXED64: (UNSIGNED64, L.FIXED64, True),
    FieldDescriptor.TYPE_SFIXED64: (NUMBER, L.FIXED64, True),
    FieldDescriptor.TYPE_DOUBLE: (DOUBLE, L.FIXED64, False),
}

F_KIND, F_WIRE, F_QUOTED, F_REPEATED, F_CHILD, F_ONEOF, F_NAME_AT, F_NAME_SIZE = range(8)  # columns of the fields


class Schema(NamedTuple):
    """The messages of a signal. fields[message, number]: see F_…, F_KIND -1 where there is none; message 0 is the request."""

    fields: I64
    names: U8  # `"name":`, all in one


@cache
def schema(signal: Signal) -> Schema:
    """Read from protobuf's descriptors."""
    messages: list[Descriptor] = [_REQUESTS[signal]]
    for message in messages:  # grows while it is read
        for field in message.fields:
            if field.message_type is not None and field.message_type not in messages:
                messages.append(field.message_type)
    largest = max(field.number for message in messages for field in message.fields)
    fields = np.full((len(messages), largest + 1, 8), -1, np.int64)
    names = bytearray()
    for row, message in enumerate(messages):
        for field in message.fields:
            kind, wire, quoted = _KINDS[field.type]
            kind = HEX if field.name in _HEX_FIELDS else kind
            name = f'"{field.json_name}":'.encode()
            child = messages.index(field.message_type) if field.message_type is not None else -1
            oneof = field.containing_oneof.index if field.containing_oneof is not None else -1
            fields[row, field.number] = (kind, wire, quoted, field.is_repeated, child, oneof, len(names), len(name))
            names += name
    return Schema(fields, np.frombuffer(bytes(names), np.uint8))


def to_json(signal: Signal, data: U8) -> U8:
    """The request as OTLP/JSON. Raises Malformed for what is no well-formed request of the signal."""
    found = schema(signal)
    room = 4 * len(data) + 4096
    while True:
        out = np.empty(room, np.uint8)
        size = write(data, found.fields, found.names, out)
        if size >= 0:
            return out[:size].copy()
        if size == -1:
            raise Malformed("the request is not well-formed: it cannot be written as JSON")
        room *= 2


@kernel
def write(body: U8, fields: I64, names: U8, out_array: U8) -> Int:
    """The request as JSON into the array; how long it is, -1: not well-formed, or too deep; -2: the array is too short."""
    data, name_data, out = address(body), address(names), address(out_array)
    room = len(out_array)
    # Per open message: its type, its end, where the next field is, which repeated fields are written already
    type_, ends, ats = np.zeros(_DEPTH, np.int64), np.zeros(_DEPTH, np.int64), np.zeros(_DEPTH, np.int64)
    written = np.zeros(_DEPTH, np.int64)
    # … and of the array that is being written: its field's number (0: none), where its next member is looked for
    arrays, array_ats = np.zeros(_DEPTH, np.int64), np.zeros(_DEPTH, np.int64)
    ends[0] = len(body)
    store8(out, 0, 123)  # {
    to, level, fresh = np.int64(1), 0, True  # fresh: nothing stands before what comes, so no comma
    while level >= 0:
        end = ends[level]
        number = arrays[level]
        in_array = number > 0
        at = array_ats[level] if in_array else ats[level]
        if at >= end:
            if to + _ROOM > room:
                return -2
            store8(out, to, 93 if in_array else 125)
            to += 1
            fresh = False
            if in_array:
                arrays[level] = 0
            else:
                level -= 1
            continue
        here = at
        field, begin = tag(data, at, end)
        if begin < 0:
            return -1
        behind = np.int64(0)
        if field & 7 == L.LEN:
            begin, behind = payload(data, begin, end)
        else:
            behind = skip(data, begin, end, field, TOP)
        if behind < 0:
            return -1
        if in_array:
            array_ats[level] = behind
            if field >> 3 != number:
                continue
        else:
            ats[level] = behind
            number = field >> 3
        if number >= fields.shape[1] or fields[type_[level], number, F_KIND] < 0:
            continue
        rule = fields[type_[level], number]
        packed = rule[F_REPEATED] == 1 and rule[F_WIRE] != L.LEN and field & 7 == L.LEN
        if field & 7 != rule[F_WIRE] and not packed:
            continue
        if to + 6 * (behind - here) * (5 if packed else 1) + _ROOM > room:
            return -2
        if not in_array:
            if rule[F_REPEATED] == 1:
                if written[level] >> number & 1:
                    continue
                written[level] |= np.int64(1) << number
            elif rule[F_ONEOF] >= 0 and _is_followed(data, behind, end, fields[type_[level]], rule[F_ONEOF]):
                continue
            if not fresh:
                store8(out, to, 44)
                to += 1
            copy(out, to, name_data, rule[F_NAME_AT], rule[F_NAME_SIZE])
            to += rule[F_NAME_SIZE]
            fresh = False
            if rule[F_REPEATED] == 1:
                store8(out, to, 91)
                to += 1
                arrays[level], array_ats[level], fresh = number, here, True
                continue
        elif not packed:
            if not fresh:
                store8(out, to, 44)
                to += 1
            fresh = False
        if rule[F_KIND] == MESSAGE:
            level += 1
            if level == _DEPTH:
                return -1
            type_[level], ends[level], ats[level] = rule[F_CHILD], behind, begin
            written[level], arrays[level] = 0, 0
            store8(out, to, 123)
            to += 1
            fresh = True
        elif packed:
            while begin < behind:
                if not fresh:
                    store8(out, to, 44)
                    to += 1
                fresh = False
                bits, begin = _bits(data, begin, behind, rule[F_WIRE])
                if begin < 0:
                    return -1
                to = _put_number(out, to, rule, bits)
        elif rule[F_WIRE] == L.LEN:
            to = _put_bytes(out, to, data, rule[F_KIND], begin, behind - begin)
        else:
            bits, begin = _bits(data, begin, behind, rule[F_WIRE])
            if begin < 0:
                return -1
            to = _put_number(out, to, rule, bits)
    return to


@kernel
def _is_followed(data: Int, at: Int, end: Int, fields: I64, oneof: Int) -> bool:
    """Whether another field of a oneof follows: then that one counts."""
    while at < end:
        field, at = tag(data, at, end)
        if at < 0:
            return False
        number = field >> 3
        if number < len(fields) and fields[number, F_KIND] >= 0 and fields[number, F_ONEOF] == oneof:
            return True
        at = skip(data, at, end, field, TOP)
        if at < 0:
            return False
    return False


@kernel
def _bits(data: Int, at: Int, end: Int, wire: Int) -> tuple[Int, Int]:
    """A number as it stands there, and the position behind it."""
    if wire == L.VARINT:
        return varint(data, at, end)
    size = 8 if wire == L.FIXED64 else 4
    if at + size > end:
        return 0, -1
    if size == 8:
        return load64(data, at), at + 8
    value = np.int64(0)
    for i in range(4):
        value |= load8(data, at + i) << (8 * i)
    return value, at + 4


@kernel
def _put_number(out: Int, at: Int, rule: I64, bits: Int) -> Int:
    kind = rule[F_KIND]
    infinite = kind == DOUBLE and bits & EXPONENT == EXPONENT
    quoted = rule[F_QUOTED] == 1 or infinite
    if quoted:
        store8(out, at, 34)
        at += 1
    if kind == DOUBLE:
        at = put_value(out, at, out, L.DOUBLE, bits, TOP, TOP)
        if bits == _NEGATIVE_ZERO:  # readers take -0 for an integer, which has no sign
            at = put_word(out, at, _POINT_ZERO)
    elif kind == BOOL:
        at = put_word(out, at, np.int64(0x65757274) if bits != 0 else np.int64(0x65736C6166))  # true, false
    elif kind == UNSIGNED64 and bits < 0:
        tenth = ((bits >> 1) & 0x7FFFFFFFFFFFFFFF) // 5
        at = put_int(out, at, tenth)
        at = put_int(out, at, bits - tenth * 10)
    else:
        low = bits & 0xFFFFFFFF
        if kind == NUMBER32:
            bits = low - (1 << 32) if low >= 1 << 31 else low
        elif kind == UNSIGNED32:
            bits = low
        elif kind == ZIGZAG32:
            bits = (low >> 1) ^ -(low & 1)
        at = put_int(out, at, bits)
    if quoted:
        store8(out, at, 34)
        at += 1
    return at


@kernel
def _put_bytes(out: Int, at: Int, data: Int, kind: Int, begin: Int, size: Int) -> Int:
    if kind == TEXT:
        return put_json_text(out, at, data, begin, size)
    store8(out, at, 34)
    at += 1
    if kind == HEX:
        for i in range(size):
            value = load8(data, begin + i)
            for digit in (value >> 4, value & 15):
                store8(out, at, digit + (48 if digit < 10 else 87))
                at += 1
    else:
        at = put_base64(out, at, data, begin, size)
    store8(out, at, 34)
    return at + 1
