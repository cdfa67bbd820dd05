"""Requests as no exporter sends them: OTLP bodies taken apart into fields, changed, and written down again.

`mutate(random, body, signal)` gives a body that may or may not still be well-formed. Changes know the structure (fields doubled,
moved, dropped, in groups, with long varints, values nested deep, texts that are not UTF-8), or only the bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from collector.otlp.requests import REQUESTS
from collector.signals import Signal

NOT_UTF8 = (
    b"\xff",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xe2\x82",
    b"a\x80b",
    b"\xf0\x9f\x98",
    b"x" * 9 + b"\xc3",
)
UTF8 = (
    b"",
    b"a",
    "é".encode(),
    "€uro".encode(),
    "😀".encode() * 3,
    b"\0",
    "日本語のテキスト".encode(),
    b"twelve bytes",
)


@dataclass
class Field:
    """One field. `value`: a number (wire types 0, 1, 5), bytes, or the fields of a message or group."""

    number: int
    wire: int
    value: Any
    type: Descriptor | None = None
    tag_pad: int = 0  # bytes by which the varints are longer than they need be
    size_pad: int = 0

    def copied(self) -> Field:
        value = [field.copied() for field in self.value] if isinstance(self.value, list) else self.value
        return replace(self, value=value)


def varint(value: int, pad: int = 0) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    if pad:
        out[-1] |= 0x80
        out += b"\x80" * (pad - 1) + b"\0"
    return bytes(out)


def field_bytes(field: Field) -> bytes:
    head = varint(field.number << 3 | field.wire, field.tag_pad)
    if field.wire == 0:
        return head + (field.value if isinstance(field.value, bytes) else varint(field.value, field.size_pad))
    if field.wire in {1, 5}:
        return head + struct.pack(
            "<Q" if field.wire == 1 else "<I", field.value & (1 << 32 if field.wire == 5 else 1 << 64) - 1
        )
    payload = field.value if isinstance(field.value, bytes) else b"".join(map(field_bytes, field.value))
    if field.wire == 3:
        return head + payload + varint(field.number << 3 | 4)
    return head + varint(len(payload), field.size_pad) + payload


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7


def take_apart(data: bytes, type_: Descriptor) -> list[Field]:
    """The fields of a well-formed message without groups."""
    fields, at = [], 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        number, wire = tag >> 3, tag & 7
        known = type_.fields_by_number.get(number)
        if wire == 0:
            value, at = _read_varint(data, at)
            fields.append(Field(number, wire, value))
        elif wire in {1, 5}:
            size = 8 if wire == 1 else 4
            fields.append(Field(number, wire, int.from_bytes(data[at : at + size], "little")))
            at += size
        else:
            size, at = _read_varint(data, at)
            payload = data[at : at + size]
            at += size
            message = known.message_type if known is not None else None
            fields.append(Field(number, wire, take_apart(payload, message) if message else payload, message))
    return fields


def _all(fields: list[Field], type_: Descriptor) -> list[tuple[list[Field], Descriptor]]:
    """All messages: their fields and their types."""
    found, waiting = [], [(fields, type_)]
    while waiting:
        here, kind = waiting.pop()
        found.append((here, kind))
        waiting += [
            (field.value, field.type) for field in here if field.type is not None and isinstance(field.value, list)
        ]
    return found


def _unknown(random: Random, number: int | None = None) -> Field:
    number = number or random.choice((17, 99, 100, 5000, 2**29 - 1))
    wire = random.choice((0, 1, 2, 3, 5))
    if wire == 3:
        inner = [_unknown(random) for _ in range(random.randrange(3))]
        for _ in range(random.choice((0, 0, 0, 5, 97, 120))):
            inner = [Field(number, 3, inner)]
        return Field(number, wire, inner)
    return Field(number, wire, random.randbytes(random.randrange(20)) if wire == 2 else random.getrandbits(64))


def _change(
    random: Random, fields: list[Field], type_: Descriptor, every: list[tuple[list[Field], Descriptor]]
) -> None:
    """One change of one message, in place."""
    what = random.randrange(13)
    place = random.randrange(len(fields)) if fields else 0
    field = fields[place] if fields else None
    if what == 0 or field is None:
        fields.insert(random.randrange(len(fields) + 1), _unknown(random))
    elif what == 1:
        fields.insert(random.randrange(len(fields) + 1), field.copied())
    elif what == 2:
        del fields[place]
    elif what == 3:
        random.shuffle(fields)
    elif what == 4:
        field.tag_pad = random.choice((1, 2, 3, 4, 5))
    elif what == 5:
        field.size_pad = random.choice((1, 2, 3, 4, 5, 9, 10))
    elif what == 6:
        # A known field with the wire type of another
        fields[place] = _unknown(random, field.number)
    elif what == 7 and isinstance(field.value, bytes):
        field.value = random.choice(NOT_UTF8 + UTF8)
    elif what == 8:
        known: FieldDescriptor = random.choice(type_.fields)
        wire = {1: 1, 3: 0, 4: 0, 5: 0, 6: 1, 7: 5, 8: 0, 13: 0, 14: 0, 16: 1, 17: 0}.get(known.type, 2)
        if known.is_packed and random.random() < 0.5:
            wire = 2
        packed = known.is_packed and wire == 2
        value = (
            random.choice(NOT_UTF8 + UTF8)
            if known.type in {9, 12}
            else random.randbytes(8 * packed * random.randrange(3))
        )
        number = random.choice((0, 1, 2**31, 2**32 + 1, 2**63, random.getrandbits(64)))
        fields.append(Field(known.number, wire, value if wire == 2 else number, known.message_type))
    elif what == 9:
        # What stands elsewhere in a message of this type
        other, _ = random.choice([entry for entry in every if entry[1] is type_])
        if other is not fields and other:
            fields.append(random.choice(other).copied())
    elif what == 10 and type_.name == "AnyValue":
        levels, array = random.choice((1, 2, 10, 30, 40, 46, 60)), random.random() < 0.5
        for _ in range(levels):
            values = Field(1, 2, fields[:] if array else [Field(2, 2, fields[:])])
            fields[:] = [Field(5 if array else 6, 2, [values])]
    elif what == 11 and field.wire == 0:
        field.value = random.choice(
            (0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, b"\xff" * 9 + b"\x7f", b"\x80" * 10 + b"\0")
        )
    elif what == 12 and isinstance(field.value, bytes):
        field.value = field.value[: random.randrange(len(field.value) + 1)]


def _change_bytes(random: Random, body: bytes) -> bytes:
    at, other = random.randrange(len(body) + 1), random.randrange(len(body) + 1)
    what = random.randrange(5)
    if what == 0 and at < len(body):
        return body[:at] + bytes([body[at] ^ 1 << random.randrange(8)]) + body[at + 1 :]
    if what == 1:
        return body[:at]
    if what == 2:
        return body[:at] + body[other : other + random.randrange(40)] + body[at:]
    if what == 3:
        return body[:at] + random.randbytes(random.randrange(4)) + body[at + random.randrange(4) :]
    return body + body


def mutate(random: Random, body: bytes, signal: Signal = Signal.TRACES) -> bytes:
    """A few changes of a well-formed request: of its structure, of its bytes, or of both."""
    if random.random() < 0.75:
        type_ = REQUESTS[signal].message.DESCRIPTOR
        try:
            fields = take_apart(body, type_)
            every = _all(fields, type_)
            for _ in range(random.choice((1, 1, 2, 4, 8))):
                _change(random, *random.choice(every), every)
            body = b"".join(map(field_bytes, fields))
        except (IndexError, RecursionError):  # with groups in it; or too deep, before or now
            return _change_bytes(random, body)
    if random.random() < 0.4:
        for _ in range(random.choice((1, 1, 2, 4))):
            body = _change_bytes(random, body)
    return body
