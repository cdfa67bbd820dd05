"""Runs of digits in texts as `folding` spells them: what nearly all patterns of numbers need, and few texts have.

They are found in one pass, and what stands around them is all that such patterns have to look at.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from collector.otlp.compiled import kernel
from collector.otlp.growing import twice
from collector.otlp.raw import Flag, Int, address, copy, load8, load64, store8
from collector.otlp.tables import I32, I64, U8
from processors.redaction.folding import Folded

Mask = NDArray[np.bool_]

_HIGH = np.int64(-0x7F7F7F7F7F7F7F80)  # the highest bit of 8 bytes
_HIGH_HALVES = np.int64(-0x0F0F0F0F0F0F0F10)  # the upper four bits of each
_ONES, _THREES = np.int64(0x0101010101010101), np.int64(0x3030303030303030)
_NOTHING = np.empty(0, np.int64)


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
