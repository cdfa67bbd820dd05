"""Numbers as text, in JSON's notation: whole numbers in decimal, doubles with the fewest digits that give the same number back.

`1`, `0.25`, `1e-7`, `1e+21`; `NaN`, `Infinity`, `-Infinity`. `out` is an address with room for 128 bytes behind `at`, of which a
text takes 25 at the most: the rest is scratch space.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from collector.otlp.compiled import kernel
from collector.otlp.raw import Int, copy, load8, store8

_POWERS = np.array([10.0**n for n in range(23)])
EXPONENT = np.int64(0x7FF0000000000000)  # all of these bits: no number, or an infinite one
_FRACTION = np.int64(0x000FFFFFFFFFFFFF)
_NORMAL = 2.2250738585072014e-308
# Words of up to 8 letters, as numbers: first letter in the lowest byte.
_NAN, _INFINITY = (np.int64(int.from_bytes(word, "little")) for word in (b"NaN", b"Infinity"))

# From the C library: the number with so many significant digits into a buffer, and back.
_gcvt: Any = types.ExternalFunction("gcvt", types.intp(types.float64, types.int32, types.intp))
_strtod: Any = types.ExternalFunction("strtod", types.float64(types.intp, types.intp))


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
    if bits & EXPONENT == EXPONENT and bits & _FRACTION != 0:
        return put_word(out, at, _NAN)
    if bits < 0:
        store8(out, at, 45)
        at += 1
        value = -value
    if bits & EXPONENT == EXPONENT:
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
