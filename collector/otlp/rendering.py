"""Attribute values as text, as the OpenTelemetry Collector's ClickHouse exporter writes them into its maps.

STRING as it is; INT in decimal; BOOL `true` or `false`; DOUBLE with the fewest digits that give the same number back, in
JSON's notation (`1`, `0.25`, `1e-7`, `1e+21`; `NaN`, `Infinity`, `-Infinity`); BYTES in base64; ARRAY and KVLIST as JSON
without blanks, members in the order in which they were sent; EMPTY as nothing, `null` inside JSON.

`out` is an address with enough room behind `at`: `bound` says how much that is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from collector.otlp import layout as L
from collector.otlp.compiled import kernel
from collector.otlp.kernels import any_value, key_value
from collector.otlp.wire import TOP, Int, copy, load8, load64, payload, skip, store8, tag

_POWERS = np.array([10.0**n for n in range(23)])
_BASE64 = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", dtype=np.uint8).copy()
_HEX = np.frombuffer(b"0123456789abcdef", dtype=np.uint8).copy()
_SHORT = np.zeros(128, np.uint8)  # byte → what JSON writes behind the backslash, 0: u00XX
_SHORT[[8, 9, 10, 12, 13, 34, 92]] = np.frombuffer(b'btnfr"\\', dtype=np.uint8)
_ONES = np.int64(0x0101010101010101)
_HIGHS = np.int64(-0x7F7F7F7F7F7F7F80)
_EXPONENT = np.int64(0x7FF0000000000000)
_FRACTION = np.int64(0x000FFFFFFFFFFFFF)
_NORMAL = 2.2250738585072014e-308
_DEPTH = 128  # of JSON; what protobuf's parser takes is not as deep

# Words of up to 8 letters, as numbers: first letter in the lowest byte.
_TRUE, _FALSE, _NULL, _NAN, _INFINITY = (
    np.int64(int.from_bytes(word, "little")) for word in (b"true", b"false", b"null", b"NaN", b"Infinity")
)

# From the C library: the number with so many significant digits into a buffer, and back.
_gcvt: Any = types.ExternalFunction("gcvt", types.intp(types.float64, types.int32, types.intp))
_strtod: Any = types.ExternalFunction("strtod", types.float64(types.intp, types.intp))


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
def put_word(out: Int, at: Int, word: Int) -> Int:
    """Up to 8 letters from a number; the position behind them."""
    while word != 0:
        store8(out, at, word & 0xFF)
        word >>= 8
        at += 1
    return at


@kernel
def put_int(out: Int, at: Int, value: Int) -> Int:
    """Decimal digits; the position behind them."""
    if value < 0:
        store8(out, at, 45)  # -
        at += 1
    rest, digits = value, 1
    while rest >= 10 or rest <= -10:
        rest = rest // 10 if rest >= 0 else -(rest // -10)
        digits += 1
    rest, place = value, at + digits
    while place > at:
        quotient = rest // 10 if rest >= 0 else -(rest // -10)
        place -= 1
        digit = rest - quotient * 10
        store8(out, place, 48 + (digit if digit >= 0 else -digit))
        rest = quotient
    return at + digits


@kernel
def _next_up(out: Int, at: Int, precision: Int) -> bool:
    """Make the decimal text at `at`, which `gcvt` wrote, the next one of so many digits. Not behind a nine: what comes of that
    has a digit less, and was tried before."""
    end, count, point = at, 0, False
    while load8(out, end) != 0 and load8(out, end) != 101:  # e
        c = load8(out, end)
        point |= c == 46
        count += 1 if 48 <= c <= 57 and (count > 0 or c != 48) else 0
        end += 1
    if count == precision:
        c = load8(out, end - 1)
        store8(out, end - 1, c + 1)
        return bool(48 <= c < 57)
    # The zeros at the end are not written: with them, and a one, the exponent moves on.
    more = precision - count + (0 if point else 1)
    tail = end
    while load8(out, tail) != 0:
        tail += 1
    for i in range(tail, end - 1, -1):
        store8(out, i + more, load8(out, i))
    for i in range(end, end + more):
        store8(out, i, 48)
    store8(out, end + more - 1, 49)
    if not point:
        store8(out, end, 46)
    return True


@kernel
def _digits(bits: Int, value: float, out: Int, at: Int) -> tuple[Int, Int]:
    """The shortest digits of a positive finite double, written at `at`: how many, and p in 0.DIGITS * 10**p."""
    if 1e-6 <= value < 1e15:
        # m / 10**k is rounded correctly when both are exact, and no two decimals of 15 digits are the same double.
        for k in range(22):
            m = np.rint(value * _POWERS[k])
            if m >= 1e15:
                break
            if m / _POWERS[k] == value:
                count = put_int(out, at, np.int64(m)) - at
                point = count - k
                while count > 1 and load8(out, at + count - 1) == 48:
                    count -= 1
                return count, point
    # Of 15 digits all are needed, or zeros; but subnormal numbers have fewer. Above a power of two the next double is twice
    # as far as below, so that the nearest decimal may be another double's, and the one behind it be ours.
    power = bits & _FRACTION == 0
    for precision in range(15 if value >= _NORMAL else 1, 18):
        _gcvt(value, np.int32(precision), out + at)
        if _strtod(out + at, 0) == value or (power and _next_up(out, at, precision) and _strtod(out + at, 0) == value):
            break
    # What stands there, zero-terminated: 123.456, 0.00123, 1.5e-07, 5e-324. The digits move together at its front.
    count, point, exponent, sign = 0, 0, 0, 1
    seen_point = in_exponent = False
    for i in range(32):
        c = load8(out, at + i)
        if c == 0:
            break
        if c == 101:  # e
            in_exponent = True
        elif in_exponent:
            if c == 45:
                sign = -1
            elif c != 43:
                exponent = exponent * 10 + c - 48
        elif 48 <= c <= 57:
            if count > 0 or c != 48:
                store8(out, at + count, c)
                count += 1
                point += 0 if seen_point else 1
            elif seen_point:
                point -= 1
        else:
            seen_point = True
    while count > 1 and load8(out, at + count - 1) == 48:
        count -= 1
    return count, point + sign * exponent


@kernel
def put_double(out: Int, at: Int, bits: Int, value: float) -> Int:
    """A double, given twice: by its bits and as it is; the position behind it."""
    if bits & _EXPONENT == _EXPONENT and bits & _FRACTION != 0:
        return put_word(out, at, _NAN)
    if bits < 0:
        store8(out, at, 45)
        at += 1
        value = -value
    if bits & _EXPONENT == _EXPONENT:
        return put_word(out, at, _INFINITY)
    if value == 0.0:
        store8(out, at, 48)
        return at + 1
    scratch = at + 40
    count, point = _digits(bits, value, out, scratch)
    if point < -5 or point > 21:
        store8(out, at, load8(out, scratch))
        at += 1
        if count > 1:
            store8(out, at, 46)
            copy(out, at + 1, out, scratch + 1, count - 1)
            at += count
        store8(out, at, 101)
        at += 1
        if point > 0:
            store8(out, at, 43)
            at += 1
        return put_int(out, at, point - 1)
    if point <= 0:
        for _ in range(2 - point):
            store8(out, at, 48)
            at += 1
        store8(out, at - 1 + point, 46)
        copy(out, at, out, scratch, count)
        return at + count
    for i in range(point):
        store8(out, at, load8(out, scratch + i) if i < count else 48)
        at += 1
    if count > point:
        store8(out, at, 46)
        copy(out, at + 1, out, scratch + point, count - point)
        at += 1 + count - point
    return at


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
            quoted = kind == L.BYTES or (kind == L.DOUBLE and number & _EXPONENT == _EXPONENT)
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
