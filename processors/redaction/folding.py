"""Texts gathered into one buffer, in the spelling that patterns are written for.

A row is a text followed by a newline. In it

- invalid UTF-8 is one SUB (U+001A) per byte: what scans the buffer may rely on valid UTF-8;
- full-width forms (U+FF01 to U+FF5E) and digits of other scripts are ASCII, as are the Kelvin sign and the long s;
- spaces of any width are a space, dashes, hyphens and minus signs a hyphen;
- invisible characters (soft hyphen, zero-width spaces and joiners, direction marks, variation selectors) are gone.

Letters that only look like others, and digits in circles or in mathematical type, are what they are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from collector.otlp.compiled import kernel
from collector.otlp.growing import twice
from collector.otlp.raw import Int, address, copy, load8, load64, store8
from collector.otlp.tables import I32, I64, U8

_HIGH = np.int64(-0x7F7F7F7F7F7F7F80)  # the highest bit of 8 bytes
_KEEP, _GONE = np.int64(-1), np.int64(-2)
#: Scripts whose ten digits stand in order, by their zero: Arabic, Persian, N'Ko, and the Indic and South-East Asian ones.
_ZEROS = np.array(
    [0x0660, 0x06F0, 0x07C0]
    + [0x0966 + 0x80 * block for block in range(10)]
    + [0x0E50, 0x0ED0, 0x0F20, 0x1040, 0x17E0, 0x1810],
    np.int64,
)


class Folded(NamedTuple):
    """Rows `start[i]:start[i + 1] - 1` of `buffer`; and where a byte of the buffer stands for more than one of its text:
    from offset `at` on, `extra` bytes more than in the buffer have been passed, counted over all rows."""

    buffer: U8
    start: I64
    at: I64
    extra: I64

    def text(self, row: int) -> bytes:
        """A row, without the newline."""
        return self.buffer[self.start[row] : self.start[row + 1] - 1].tobytes()

    def offsets(self, row: I64, place: I64) -> I64:
        """Places in the buffer, each inside (or at the end of) a row, as offsets in that row's text."""
        begin = self.start[row]
        extra = np.concatenate([np.zeros(1, np.int64), self.extra])
        passed = extra[np.searchsorted(self.at, place, "right")] - extra[np.searchsorted(self.at, begin, "left")]
        result: I64 = place - begin + passed
        return result


def fold(data: U8, off: I64, size: I32) -> Folded:
    """The texts data[off:off + size], in order."""
    return Folded(*_fold(data, off, size, _ZEROS))


@kernel
def _fold(body: U8, off: I64, size: I32, zeros: I64) -> tuple[U8, I64, I64, I64]:
    data = address(body)
    start = np.empty(len(off) + 1, np.int64)
    total = np.int64(0)
    for row in range(len(off)):
        total += np.int64(size[row]) + 1
    buffer = np.empty(total, np.uint8)
    out = address(buffer)
    at, extra = np.empty(64, np.int64), np.empty(64, np.int64)
    known, passed, put = np.int64(0), np.int64(0), np.int64(0)
    for row in range(len(off)):
        start[row] = put
        here, length = off[row], np.int64(size[row])
        plain = _ascii(data, here, length)
        copy(out, put, data, here, plain)
        put += plain
        here, end = here + plain, here + length
        while here < end:
            byte = load8(data, here)
            if byte < 0x80:
                plain = max(np.int64(1), _ascii(data, here, end - here))
                copy(out, put, data, here, plain)
                here, put = here + plain, put + plain
                continue
            width, point = _character(data, here, end)
            became = _ascii_for(point, zeros) if width > 0 else _KEEP
            if width == 0:
                store8(out, put, np.int64(0x1A))
                here, put = here + 1, put + 1
            elif became == _KEEP:
                for i in range(width):
                    store8(out, put + i, load8(data, here + i))
                here, put = here + width, put + width
            else:
                if became != _GONE:
                    store8(out, put, became)
                    put += 1
                    width -= 1
                    here += 1
                here += width
                passed += width
                if known > 0 and at[known - 1] == put:
                    extra[known - 1] = passed
                    continue
                if known == len(at):
                    at, extra = twice(at), twice(extra)
                at[known], extra[known] = put, passed
                known += 1
        store8(out, put, np.int64(10))
        put += 1
    start[len(off)] = put
    return buffer[:put], start, at[:known], extra[:known]


@kernel
def _ascii(data: Int, at: Int, size: Int) -> Int:
    """How many bytes from `at` on are surely ASCII: all of them, or those before the first 8 that are not."""
    i = np.int64(0)
    while i + 8 <= size:
        if load64(data, at + i) & _HIGH:
            return i
        i += 8
    while i < size and load8(data, at + i) < 0x80:
        i += 1
    return i


@kernel
def _character(data: Int, at: Int, end: Int) -> tuple[Int, Int]:
    """Width and code point of the character at `at`, whose first byte is not ASCII; width 0 for no valid UTF-8."""
    lead = load8(data, at)
    if lead < 0xC2 or lead > 0xF4:
        return 0, 0
    width = 2 if lead < 0xE0 else (3 if lead < 0xF0 else 4)
    if at + width > end:
        return 0, 0
    point = lead & (0xFF >> (width + 1))
    for i in range(1, width):
        byte = load8(data, at + i)
        if byte & 0xC0 != 0x80:
            return 0, 0
        point = point << 6 | (byte & 0x3F)
    if width == 3 and (point < 0x800 or 0xD800 <= point <= 0xDFFF):
        return 0, 0
    if width == 4 and (point < 0x10000 or point > 0x10FFFF):
        return 0, 0
    return width, point


@kernel
def _ascii_for(point: Int, zeros: I64) -> Int:
    """The ASCII character that a code point is read as, _GONE for none, _KEEP for itself."""
    if 0xFF01 <= point <= 0xFF5E:
        return point - 0xFEE0
    if point < 0x2000:
        if point == 0xAD or point == 0x61C or point == 0x180E:  # noqa: PLR1714 (compiles to less)
            return _GONE
        if point == 0xA0 or point == 0x1680:  # noqa: PLR1714
            return np.int64(32)
        if point == 0x17F:
            return np.int64(115)
        if 0x660 <= point <= 0x1819:
            for zero in zeros:
                if zero <= point <= zero + 9:
                    return point - zero + 48
        return _KEEP
    if 0x2000 <= point <= 0x200A or point == 0x202F or point == 0x205F or point == 0x3000:  # noqa: PLR1714
        return np.int64(32)
    if 0x200B <= point <= 0x200F or 0x202A <= point <= 0x202E or 0x2060 <= point <= 0x2064 or 0x2066 <= point <= 0x206F:
        return _GONE
    if point == 0xFEFF or 0xFE00 <= point <= 0xFE0F:
        return _GONE
    if 0x2010 <= point <= 0x2015 or point == 0x2212 or point == 0xFE58 or point == 0xFE63:  # noqa: PLR1714
        return np.int64(45)
    if point == 0x212A:
        return np.int64(75)
    return _KEEP
