"""The escapes that stand for a character: those of JSON and of Python's repr, and those of URLs (`%40`) and HTML (`&#64;`).

What looks like one and is none (`\\d`, `C:\\Users`, `100%`) stays as it is.
"""

from __future__ import annotations

import numpy as np

from collector.otlp.compiled import kernel
from collector.otlp.raw import Int, load8, load64, store8

_HIGHS, _LOWS = np.int64(-0x7F7F7F7F7F7F7F80), np.int64(0x7F7F7F7F7F7F7F7F)
_ONES = np.int64(0x0101010101010101)
_BACKSLASHES = _ONES * 0x5C
_FROM_QUOTE, _BEHIND_APOSTROPHE = _ONES * (0x80 - 0x22), _ONES * (0x80 - 0x28)

QUOTE, PERCENT, AMPERSAND, APOSTROPHE, BACKSLASH = 0x22, 0x25, 0x26, 0x27, 0x5C
REPLACEMENT = np.int64(0xFFFD)

# Kinds of escapes: a backslash that stands for one, any other after a backslash, those of URLs and HTML
NONE, DOUBLED, ESCAPED, FOREIGN = range(4)


@kernel
def marked(data: Int, at: Int, end: Int) -> Int:
    """The first quote, apostrophe, backslash, per cent or ampersand from `at` on, or `end`. May stop at # and $, too."""
    while at + 8 <= end:
        word = load64(data, at)
        slashes = word ^ _BACKSLASHES
        low = word & _LOWS
        quotes = (low + _FROM_QUOTE) & ~(low + _BEHIND_APOSTROPHE) & ~word
        if (((slashes - _ONES) & ~slashes) | quotes) & _HIGHS != 0:
            break
        at += 8
    while at < end:
        byte = load8(data, at)
        if byte == BACKSLASH or QUOTE <= byte <= APOSTROPHE:
            return at
        at += 1
    return end


@kernel
def _digit(byte: Int) -> Int:
    """The value of a hexadecimal digit, -1 for another byte."""
    if 0x30 <= byte <= 0x39:
        return byte - 0x30
    byte |= 0x20
    return byte - 0x57 if 0x61 <= byte <= 0x66 else -1


@kernel
def _number(data: Int, at: Int, end: Int, digits: Int) -> Int:
    """The number in `digits` hexadecimal digits at `at`, -1 if they are not there."""
    if at + digits > end:
        return -1
    value = np.int64(0)
    for i in range(digits):
        digit = _digit(load8(data, at + i))
        if digit < 0:
            return -1
        value = value << 4 | digit
    return value


@kernel
def _character(code: Int) -> Int:
    """A code point, U+FFFD for one that is none; -1 stays."""
    return REPLACEMENT if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF else code


@kernel
def _backslash(data: Int, at: Int, end: Int) -> tuple[Int, Int, Int]:
    if at + 2 > end:
        return 0, -1, NONE
    byte = load8(data, at + 1)
    if byte == BACKSLASH:
        return 2, byte, DOUBLED
    code = np.int64(-1)
    if byte == QUOTE or byte == APOSTROPHE or byte == 0x2F:  # noqa: PLR1714, SIM109 (compiles to less)
        code = byte
    elif byte == 0x6E:
        code = np.int64(10)
    elif byte == 0x74:
        code = np.int64(9)
    elif byte == 0x72:
        code = np.int64(13)
    elif byte == 0x62:
        code = np.int64(8)
    elif byte == 0x66:
        code = np.int64(12)
    if code >= 0:
        return 2, code, ESCAPED
    digits = np.int64(0)
    if byte == 0x75:
        digits = np.int64(4)
    elif byte == 0x55:
        digits = np.int64(8)
    elif byte == 0x78:
        digits = np.int64(2)
    code = _number(data, at + 2, end, digits) if digits > 0 else np.int64(-1)
    if code < 0 or (digits == 8 and code > 0x10FFFF):
        return 0, -1, NONE
    size = digits + 2
    if digits == 4 and 0xD800 <= code <= 0xDBFF and at + 12 <= end:
        # Half a character, and the other half
        low = np.int64(-1)
        if load8(data, at + 6) == BACKSLASH and load8(data, at + 7) == 0x75:
            low = _number(data, at + 8, end, digits)
        if 0xDC00 <= low <= 0xDFFF:
            code, size = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00), size + 6
    return size, _character(code), ESCAPED


@kernel
def _percent(data: Int, at: Int, end: Int) -> tuple[Int, Int, Int]:
    """One character of a URL: as many %XX as its UTF-8 has bytes."""
    code = _number(data, at + 1, end, np.int64(2))
    if code < 0x80:
        return 3 if code >= 0 else 0, code, FOREIGN
    more = 1 if 0xC2 <= code <= 0xDF else (2 if 0xE0 <= code <= 0xEF else (3 if 0xF0 <= code <= 0xF4 else 0))
    if more == 0:
        return 0, -1, NONE
    code &= 0x3F >> more
    for i in range(1, more + 1):
        here = at + 3 * i
        byte = np.int64(-1)
        if here < end and load8(data, here) == PERCENT:
            byte = _number(data, here + 1, end, np.int64(2))
        if byte & 0xC0 != 0x80 or byte < 0:
            return 0, -1, NONE
        code = code << 6 | (byte & 0x3F)
    least = 0x80 if more == 1 else (0x800 if more == 2 else 0x10000)
    if code < least or _character(code) != code:
        return 0, -1, NONE
    return 3 * (more + 1), code, FOREIGN


@kernel
def _entity(data: Int, at: Int, end: Int) -> tuple[Int, Int, Int]:
    """`&#64;`, `&#x40;`, and the names of the characters that mean something in HTML or in an address."""
    if at + 4 > end:
        return 0, -1, NONE
    code, here = np.int64(0), at + 1
    if load8(data, here) == 0x23:
        here += 1
        base = np.int64(16 if load8(data, here) | 0x20 == 0x78 else 10)
        if base == 16:
            here += 1
        first = here
        while here < end and here < first + 7:
            digit = _digit(load8(data, here))
            if digit < 0 or digit >= base:
                break
            code = code * base + digit
            here += 1
        if here == first or here >= end or load8(data, here) != 0x3B:
            return 0, -1, NONE
        return here + 1 - at, _character(code), FOREIGN
    name = np.int64(0)
    while here < end and here < at + 8:
        byte = load8(data, here)
        if byte == 0x3B:
            code = _named(name)
            return here + 1 - at if code > 0 else 0, code, FOREIGN
        name = name << 8 | byte
        here += 1
    return 0, -1, NONE


@kernel
def _named(name: Int) -> Int:
    """The character of an entity whose name is these bytes, 0 for others."""
    if name == 0x616D70:  # amp
        return 0x26
    if name == 0x6C74:  # lt
        return 0x3C
    if name == 0x6774:  # gt
        return 0x3E
    if name == 0x71756F74:  # quot
        return QUOTE
    if name == 0x61706F73:  # apos
        return APOSTROPHE
    if name == 0x636F6D6D6174:  # commat
        return 0x40
    if name == 0x706572696F64:  # period
        return 0x2E
    return 0


@kernel
def escape(data: Int, at: Int, end: Int) -> tuple[Int, Int, Int]:
    """The escape at `at`: its size (0: there is none), the character it stands for, and its kind. Halves of a character that
    stand alone are U+FFFD."""
    byte = load8(data, at)
    if byte == BACKSLASH:
        return _backslash(data, at, end)
    if byte == PERCENT:
        return _percent(data, at, end)
    if byte == AMPERSAND:
        return _entity(data, at, end)
    return 0, -1, NONE


@kernel
def put_character(out: Int, at: Int, code: Int) -> Int:
    """Write a character as UTF-8; the position behind it."""
    if code < 0x80:
        store8(out, at, code)
        return at + 1
    more = 1 if code < 0x800 else (2 if code < 0x10000 else 3)
    lead = 0xC0 if more == 1 else (0xE0 if more == 2 else 0xF0)
    store8(out, at, lead | code >> (6 * more))
    for i in range(more - 1, -1, -1):
        at += 1
        store8(out, at, 0x80 | ((code >> (6 * i)) & 0x3F))
    return at + 1
