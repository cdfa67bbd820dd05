"""Attribute values as text, as the OpenTelemetry Collector's ClickHouse exporter writes them into its maps.

STRING as it is; INT and DOUBLE as `numerals.py` writes them; BOOL `true` or `false`; BYTES in base64; ARRAY and KVLIST as JSON
without blanks, members in the order in which they were sent; EMPTY as nothing, `null` inside JSON.

`out` is an address with enough room behind `at`: `bound` says how much that is.
"""

from __future__ import annotations

import numpy as np

from collector.otlp import layout as L
from collector.otlp.compiled import kernel
from collector.otlp.kernels import any_value, key_value
from collector.otlp.numerals import EXPONENT, put_double, put_int, put_word
from collector.otlp.raw import Int, copy, load8, load64, store8
from collector.otlp.wire import TOP, payload, skip, tag

_BASE64 = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", dtype=np.uint8).copy()
_HEX = np.frombuffer(b"0123456789abcdef", dtype=np.uint8).copy()
_SHORT = np.zeros(128, np.uint8)  # byte → what JSON writes behind the backslash, 0: u00XX
_SHORT[[8, 9, 10, 12, 13, 34, 92]] = np.frombuffer(b'btnfr"\\', dtype=np.uint8)
_ONES = np.int64(0x0101010101010101)
_HIGHS = np.int64(-0x7F7F7F7F7F7F7F80)
_DEPTH = 128  # of JSON; what protobuf's parser takes is not as deep

# Words of up to 8 letters, as numbers: first letter in the lowest byte.
_TRUE, _FALSE, _NULL = (np.int64(int.from_bytes(word, "little")) for word in (b"true", b"false", b"null"))


@kernel
def bound(kind: Int, size: Int) -> Int:
    """As many bytes as the text of a value can take, its scratch space included."""
    if kind == L.STRING:
        return size
    if kind == L.ARRAY or kind == L.KVLIST:  # noqa: PLR1714 (compiles to less)
        # The worst cases: a control character, 1 byte, is six; a member without key or value, 2 bytes, is nine.
        return 6 * size + 128
    return size * 4 // 3 + 128


@kernel
def put_base64(out: Int, at: Int, data: Int, offset: Int, size: Int) -> Int:
    """Standard base64 with padding; the position behind it."""
    end = offset + size
    while offset < end:
        left = end - offset
        word = load8(data, offset) << 16
        if left > 1:
            word |= load8(data, offset + 1) << 8
        if left > 2:
            word |= load8(data, offset + 2)
        store8(out, at, np.int64(_BASE64[word >> 18]))
        store8(out, at + 1, np.int64(_BASE64[(word >> 12) & 63]))
        store8(out, at + 2, np.int64(_BASE64[(word >> 6) & 63]) if left > 1 else 61)  # =
        store8(out, at + 3, np.int64(_BASE64[word & 63]) if left > 2 else 61)
        at += 4
        offset += 3
    return at


@kernel
def _plain(data: Int, at: Int, end: Int) -> Int:
    """The first position from `at` on whose byte a JSON string must escape, 8 bytes at a time; `end` if there is none."""
    while at + 8 <= end:
        word = load64(data, at)
        quote = word ^ (_ONES * 34)
        backslash = word ^ (_ONES * 92)
        control = (word - _ONES * 32) & ~word
        if ((((quote - _ONES) & ~quote) | ((backslash - _ONES) & ~backslash) | control) & _HIGHS) != 0:
            break
        at += 8
    while at < end:
        c = load8(data, at)
        if c < 32 or c == 34 or c == 92:  # noqa: PLR1714
            break
        at += 1
    return at


@kernel
def put_json_text(out: Int, at: Int, data: Int, offset: Int, size: Int) -> Int:
    store8(out, at, 34)
    at += 1
    end = offset + size
    while True:
        stop = _plain(data, offset, end)
        copy(out, at, data, offset, stop - offset)
        at += stop - offset
        if stop >= end:
            break
        c = load8(data, stop)
        store8(out, at, 92)
        short = np.int64(_SHORT[c])
        if short != 0:
            store8(out, at + 1, short)
            at += 2
        else:
            at = put_word(out, at + 1, 0x303075)  # u00
            store8(out, at, np.int64(_HEX[c >> 4]))
            store8(out, at + 1, np.int64(_HEX[c & 15]))
            at += 2
        offset = stop + 1
    store8(out, at, 34)
    return at + 1


@kernel
def _put_json(out: Int, at: Int, data: Int, kind: Int, offset: Int, size: Int) -> Int:
    """An ArrayValue or KeyValueList as JSON. What is not well-formed, or too deep, ends its array or object."""
    stack = np.empty((_DEPTH, 3), np.int64)  # per open array or object: its kind, what is still to read of it
    level, number = -1, TOP
    while True:
        if (kind == L.ARRAY or kind == L.KVLIST) and level + 1 < _DEPTH:  # noqa: PLR1714
            level += 1
            stack[level, 0], stack[level, 1], stack[level, 2] = kind, offset, offset + size
            store8(out, at, 91 if kind == L.ARRAY else 123)
            at += 1
        else:
            # JSON has no NaN and no infinity: their names, as in OTLP/JSON
            quoted = kind == L.BYTES or (kind == L.DOUBLE and number & EXPONENT == EXPONENT)
            if quoted:
                store8(out, at, 34)
                at += 1
            if kind == L.STRING:
                at = put_json_text(out, at, data, offset, size)
            elif kind == L.EMPTY or kind == L.ARRAY or kind == L.KVLIST:  # noqa: PLR1714
                at = put_word(out, at, _NULL)
            else:
                at = _put_plain(out, at, data, kind, number, offset, size)
            if quoted:
                store8(out, at, 34)
                at += 1
        # On to the next member, closing what has no more of them.
        start, stop = np.int64(-1), TOP
        while level >= 0:
            here, end = stack[level, 1], stack[level, 2]
            while here >= 0 and here < end and start < 0:
                field, here = tag(data, here, end)
                if here >= 0 and field == L.VALUES:
                    start, here = payload(data, here, end)
                    stop = here
                elif here >= 0:
                    here = skip(data, here, end, field, TOP)
            stack[level, 1] = here if here >= 0 else end
            if start >= 0:
                break
            store8(out, at, 93 if stack[level, 0] == L.ARRAY else 125)
            at += 1
            level -= 1
        if level < 0:
            return at
        last = load8(out, at - 1)
        if last != 91 and last != 123:  # noqa: PLR1714
            store8(out, at, 44)
            at += 1
        if stack[level, 0] == L.KVLIST:
            key, length, start, stop = key_value(data, start, stop)
            at = put_json_text(out, at, data, key, length)
            store8(out, at, 58)
            at += 1
        kind, offset, size, number = any_value(data, start, stop)
        if kind < 0:
            kind, size = L.EMPTY, 0


@kernel
def _put_plain(out: Int, at: Int, data: Int, kind: Int, number: Int, offset: Int, size: Int) -> Int:
    """A number, a bool or bytes."""
    if kind == L.INT:
        return put_int(out, at, number)
    if kind == L.BOOL:
        return put_word(out, at, _TRUE if number != 0 else _FALSE)
    if kind == L.DOUBLE:
        bits = np.empty(1, np.int64)
        bits[0] = number
        return put_double(out, at, number, bits.view(np.float64)[0])
    if kind == L.BYTES:
        return put_base64(out, at, data, offset, size)
    return at


@kernel
def put_value(out: Int, at: Int, data: Int, kind: Int, number: Int, offset: Int, size: Int) -> Int:
    """The text of an attribute value; the position behind it."""
    if kind == L.STRING:
        copy(out, at, data, offset, size)
        return at + size
    if kind == L.ARRAY or kind == L.KVLIST:  # noqa: PLR1714
        return _put_json(out, at, data, kind, offset, size)
    return _put_plain(out, at, data, kind, number, offset, size)
