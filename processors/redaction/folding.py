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
from numpy.typing import NDArray

from collector.otlp.compiled import kernel
from collector.otlp.growing import twice
from collector.otlp.tables import I32, I64, U8
from collector.otlp.wire import Flag, Int, address, copy, load8, load64, store8

Mask = NDArray[np.bool_]

_HIGH = np.int64(-0x7F7F7F7F7F7F7F80)  # the highest bit of 8 bytes
_HIGH_HALVES = np.int64(-0x0F0F0F0F0F0F0F10)  # the upper four bits of each
_ONES, _THREES = np.int64(0x0101010101010101), np.int64(0x3030303030303030)
_NOTHING = np.empty(0, np.int64)
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


class Numbers(NamedTuple):
    """Runs of digits: buffer[first:last + 1] in a row, in order.

    dull: a whole number, a decimal fraction, or a date, as they are everywhere: nobody's, unless a word beside it says so.
    Whole numbers of 13 to 19 digits may be cards (these do not begin with 1) or ids, those with a letter, a hyphen and a
    letter, or `+` beside them may be part of something, and those that begin with 00 are called.
    """

    row: I32
    first: I64
    last: I64
    dull: Mask

    def shapely(self) -> Numbers:
        """Without the dull ones."""
        keep = ~self.dull
        return Numbers(self.row[keep], self.first[keep], self.last[keep], self.dull[keep])


def numbers(folded: Folded, least: int, gap: int) -> Numbers:
    """Where `least` digits stand with no more than `gap` bytes between two, all of these spaces or of `.()/-`."""
    return Numbers(*_numbers(folded.buffer, folded.start, least, gap))


def around(folded: Folded, runs: Numbers, margin: int) -> tuple[Folded, I32, I64]:
    """The surroundings of numbers as a buffer of its own: `margin` bytes on both sides, within the row, and whole characters.
    Those that touch are one. With the row of each piece, and how far the piece was moved to the left."""
    buffer, start, rows, moved = _around(folded.buffer, folded.start, runs.row, runs.first, runs.last, margin)
    return Folded(buffer, start, _NOTHING, _NOTHING), rows, moved


@kernel
def _numbers(buffer: U8, start: I64, least: Int, gap: Int) -> tuple[I32, I64, I64, Mask]:
    data = address(buffer)
    rows, firsts, lasts = np.empty(64, np.int64), np.empty(64, np.int64), np.empty(64, np.int64)
    dull = np.empty(64, np.int64)
    known = np.int64(0)
    for row in range(len(start) - 1):
        at, end = start[row], start[row + 1] - 1
        while at < end:
            while at + 8 <= end and _no_digit(load64(data, at)):
                at += 8
            while at < end and not 48 <= load8(data, at) <= 57:
                at += 1
            first, last, count = at, at, np.int64(0)
            group, sizes = np.int64(0), np.int64(0)  # digits in the first four groups, a byte each
            while at < end and at - last <= gap + 1:
                byte = load8(data, at)
                if 48 <= byte <= 57:
                    group += at - last > 1
                    if group < 4 and sizes >> (8 * group) & 0xFF < 0xFF:
                        sizes += np.int64(1) << (8 * group)
                    last = at
                    count += 1
                elif not (byte == 32 or byte == 40 or byte == 41 or 45 <= byte <= 47):  # noqa: PLR1714 (compiles to less)
                    break
                at += 1
            if count < least:
                continue
            if known == len(rows):
                rows, firsts, lasts, dull = twice(rows), twice(firsts), twice(lasts), twice(dull)
            before = _beside(data, first - 1, first - 2, start[row], end)
            after = _beside(data, last + 1, last + 2, start[row], end)
            rows[known], firsts[known], lasts[known] = row, first, last
            dull[known] = _dull(data, first, before, after, count, group, sizes)
            known += 1
    return rows[:known].astype(np.int32), firsts[:known], lasts[:known], dull[:known].astype(np.bool_)


@kernel
def _dull(data: Int, first: Int, before: Int, after: Int, count: Int, last_group: Int, sizes: Int) -> Flag:
    """See Numbers: for a run of `count` digits from `first` on, in groups 0 to `last_group`, between two other bytes."""
    if last_group == 0:
        if before == 43 or _is_letter(before) or _is_letter(after):
            return False
        if load8(data, first) == 48 and load8(data, first + 1) == 48:
            return False
        return not (13 <= count <= 19 and (load8(data, first) != 49 or count == 15 or count == 18))  # noqa: PLR1714
    if last_group == 1:
        whole = sizes & 0xFF
        return (
            whole < 0xFF
            and load8(data, first + whole) == 46
            and 48 <= load8(data, first + whole + 1) <= 57
            and not _is_letter(before)
        )
    start = sizes & 0xFFFFFF
    date = start == 0x020204 or start == 0x040202  # noqa: PLR1714
    return date and (last_group == 2 or (last_group == 3 and sizes >> 24 <= 2))


@kernel
def _beside(data: Int, at: Int, further: Int, start: Int, end: Int) -> Int:
    """The byte beside a number, or beyond a hyphen; a newline outside of the row."""
    if not start <= at < end:
        return np.int64(10)
    byte = load8(data, at)
    if byte == 45 and start <= further < end:
        return load8(data, further)
    return byte


@kernel
def _is_letter(byte: Int) -> Flag:
    return 97 <= byte | 32 <= 122


@kernel
def _around(buffer: U8, start: I64, row: I32, first: I64, last: I64, margin: Int) -> tuple[U8, I64, I32, I64]:
    data = address(buffer)
    begin, end, rows = np.empty(len(row), np.int64), np.empty(len(row), np.int64), np.empty(len(row), np.int32)
    pieces, total = np.int64(0), np.int64(0)
    for run in range(len(row)):
        low, high = start[row[run]], start[row[run] + 1] - 1
        left = _whole(data, max(low, first[run] - margin), low, -1)
        right = _whole(data, min(high, last[run] + 1 + margin), high, 1)
        if pieces > 0 and rows[pieces - 1] == row[run] and left <= end[pieces - 1]:
            total += right - end[pieces - 1]
            end[pieces - 1] = right
        else:
            rows[pieces], begin[pieces], end[pieces] = row[run], left, right
            total += right - left + 1
            pieces += 1
    gathered, starts = np.empty(total, np.uint8), np.empty(pieces + 1, np.int64)
    out, put = address(gathered), np.int64(0)
    for piece in range(pieces):
        starts[piece] = put
        size = end[piece] - begin[piece]
        copy(out, put, data, begin[piece], size)
        begin[piece] -= put
        put += size
        store8(out, put, np.int64(10))
        put += 1
    starts[pieces] = put
    return gathered, starts, rows[:pieces], begin[:pieces]


@kernel
def _whole(data: Int, at: Int, stop: Int, step: Int) -> Int:
    """`at`, or the next place towards `stop` where no character is cut."""
    while at != stop and load8(data, at) & 0xC0 == 0x80:
        at += step
    return at


@kernel
def _no_digit(word: Int) -> Flag:
    """Whether none of 8 bytes is 0x30 to 0x3F, which digits are; may be wrong only in denying it."""
    odd = (word & _HIGH_HALVES) ^ _THREES
    return (odd - _ONES) & ~odd & _HIGH == 0
