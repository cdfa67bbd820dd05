"""Protobuf's wire format: small functions compiled into the kernels.

A message is a sequence of fields; a field is a tag (varint: number << 3 | wire type) and a payload; the payload is a varint
(wire type 0), 8 bytes (1), 4 bytes (5), or a length and that many bytes (2), which may be a message again; or fields up to a
closing tag (3, 4: groups, which OTLP does not use, so they are unknown fields). Fields come in any order, a later one of the
same number replaces an earlier one.

A reader answers with the position behind what it read, -1 if it could not. How bytes are addressed: `raw.py`.
"""

from __future__ import annotations

import numpy as np

from collector.otlp.compiled import kernel
from collector.otlp.layout import END_GROUP, FIXED32, FIXED64, GROUP, LEN, VARINT
from collector.otlp.raw import Int, load8, store8

# np.int64, so that they are no literal types: one compiled version serves all callers.
MAX_DEPTH = np.int64(100)  # messages and groups below the request, as in protobuf's own parser
TOP = np.int64(0)
_MAX_LENGTH = np.int64(0x7FFFFFFF)
_MAX_TAG = np.int64(0xFFFFFFFF)


@kernel
def varint(data: Int, at: Int, end: Int) -> tuple[Int, Int]:
    """The varint at `at` (its low 64 bits) and the position behind it; position -1 if it has no end within 10 bytes."""
    value = shift = 0
    while at < end and shift < 70:
        byte = load8(data, at)
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    return 0, -1


@kernel
def _varint32(data: Int, at: Int, end: Int, largest: Int) -> tuple[Int, Int]:
    """As `varint`, within 5 bytes and not above `largest`."""
    value, behind = varint(data, at, end)
    if behind < 0 or behind - at > 5 or value > largest:
        return 0, -1
    return value, behind


@kernel
def tag(data: Int, at: Int, end: Int) -> tuple[Int, Int]:
    """The tag at `at` (below `end`) and the position behind it; position -1 for no tag, and for field number 0."""
    value = load8(data, at)
    at += 1
    if value >= 0x80:
        value, at = _varint32(data, at - 1, end, _MAX_TAG)
    if value < 8:
        return 0, -1
    return value, at


@kernel
def payload(data: Int, at: Int, end: Int) -> tuple[Int, Int]:
    """Start and end of the payload whose length stands at `at`; (-1, -1) if it reaches beyond `end`."""
    if at >= end:
        return -1, -1
    size = load8(data, at)
    at += 1
    if size >= 0x80:
        size, at = _varint32(data, at - 1, end, _MAX_LENGTH)
        if at < 0:
            return -1, -1
    if size > end - at:
        return -1, -1
    return at, at + size


@kernel
def _skip_plain(data: Int, at: Int, end: Int, kind: Int) -> Int:
    if kind == LEN:
        _, at = payload(data, at, end)
    elif kind == VARINT:
        _, at = varint(data, at, end)
    elif kind == FIXED64:
        at += 8
    elif kind == FIXED32:
        at += 4
    else:
        return -1
    return at if at <= end else -1


@kernel
def _skip_group(data: Int, at: Int, end: Int, number: Int, depth: Int) -> Int:
    """The position behind the group whose opening tag was read. `depth`: how many messages it stands in."""
    if depth >= MAX_DEPTH:
        return -1
    numbers = np.empty(MAX_DEPTH, np.int64)  # of the groups that are open
    outer = depth
    numbers[depth] = number
    depth += 1
    while depth > outer:
        field, at = _varint32(data, at, end, _MAX_TAG)  # in here protobuf's parser takes field number 0
        if at < 0:
            return -1
        kind = field & 7
        if kind == GROUP:
            if depth >= MAX_DEPTH:
                return -1
            numbers[depth] = field >> 3
            depth += 1
        elif kind == END_GROUP:
            depth -= 1
            if numbers[depth] != field >> 3:
                return -1
        else:
            at = _skip_plain(data, at, end, kind)
            if at < 0:
                return -1
    return at


@kernel
def skip(data: Int, at: Int, end: Int, field: Int, depth: Int) -> Int:
    """The position behind the payload of the field with tag `field`, in a message `depth` levels below the request."""
    if field & 7 == GROUP:
        return _skip_group(data, at, end, field >> 3, depth)
    return _skip_plain(data, at, end, field & 7)


@kernel
def varint_size(value: Int) -> Int:
    """How many bytes the varint of a number >= 0 takes."""
    size = 1
    while value >= 0x80:
        value >>= 7
        size += 1
    return size


@kernel
def put_varint(out: Int, at: Int, value: Int) -> Int:
    """Write a number >= 0; the position behind it."""
    while value >= 0x80:
        store8(out, at, (value & 0x7F) | 0x80)
        value >>= 7
        at += 1
    store8(out, at, value)
    return at + 1
