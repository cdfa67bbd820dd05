"""Whether what takes the place of a hit needs quotes, so that the document around it can still be read."""

from __future__ import annotations

import numpy as np

from collector.otlp.compiled import kernel
from collector.otlp.raw import Flag, Int, address, load8
from collector.otlp.tables import I32, I64, U8
from processors.redaction import escapes as E
from processors.redaction import literals as T

_SIGNS = tuple(b"+-._")
_OPEN, _CLOSE = tuple(b"[{"), tuple(b"]}")
_BEFORE, _BEHIND = tuple(b",:[{("), tuple(b",:]})")
_PARENTHESIS, _WHITE = 0x28, tuple(b"nrt")


@kernel
def _bare(byte: Int) -> Flag:
    """Whether a byte can be part of a number or a name that stands in a document without quotes."""
    letter = 0x41 <= byte <= 0x5A or 0x61 <= byte <= 0x7A
    return letter or 0x30 <= byte <= 0x39 or byte in _SIGNS


@kernel
def _back(data: Int, start: Int, at: Int) -> Int:
    """The position behind the last byte of data[start : at] that is no white space, escaped or not."""
    while at > start:
        byte = load8(data, at - 1)
        if byte == 0x20 or 0x09 <= byte <= 0x0D:
            at -= 1
            continue
        slash = at - 1
        while slash > start and load8(data, slash - 1) == E.BACKSLASH:
            slash -= 1
        if slash == at - 1 or byte not in _WHITE:
            break
        at = slash
    return at


@kernel
def _slashes(state: I64, open_: Int) -> Int:
    """How many backslashes a quote needs in the innermost of `open_` literals."""
    count = np.int64(0)
    for level in range(open_, 0, -1):
        count = 2 * count + (1 if state[level, T.CHARACTER] == E.QUOTE else 0)
    return count


@kernel
def quotes(body: U8, off: I64, size: I32, row: I32, start: I32, end: I32) -> tuple[I32, I32, I32]:
    """For each range of a row (sorted, without overlaps): backslashes before a quote, or -1; start and end of the whole number
    or name if there are to be quotes, else as they are; empty for a range in a number that one before it stands for."""
    data = address(body)
    slashes, starts, ends = np.full(len(row), -1, np.int32), start.copy(), end.copy()
    state = np.empty((T.DEEPEST + 1, T.STATE), np.int64)
    current, at, begin, behind, open_ = np.int64(-1), np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    high, owner = np.int64(0), np.int64(-1)  # of the number or name that was looked at last
    for hit in range(len(row)):
        if row[hit] != current:
            current, owner = np.int64(row[hit]), np.int64(-1)
            begin = at = off[current]
            behind = begin + size[current]
            open_ = np.int64(0)
            T.whole(state, data, begin, behind)
        low = begin + start[hit]
        if owner >= 0 and low < high:
            # Part of the same one
            high = max(high, begin + end[hit])
            if slashes[owner] >= 0:
                starts[hit] = ends[owner]
                ends[hit] = max(ends[owner], end[hit])
            continue
        at, open_ = _follow(state, data, begin, at, low, behind, open_)
        owner, high = np.int64(hit), begin + end[hit]
        while low > begin and _bare(load8(data, low - 1)):
            low -= 1
        while high < behind and _bare(load8(data, high)):
            high += 1
        before, next_ = _back(data, begin, low), T.blank(data, high, behind)
        opened = before > begin and load8(data, before - 1) in _BEFORE
        closed = next_ < behind and load8(data, next_) in _BEHIND
        listed = state[open_, T.BRACKETS] > 0 or state[open_, T.DOCUMENT] == _PARENTHESIS
        if opened and closed and listed:
            slashes[hit], starts[hit], ends[hit] = _slashes(state, open_), low - begin, high - begin
    return slashes, starts, ends


@kernel
def _follow(state: I64, data: Int, begin: Int, at: Int, to: Int, end: Int, open_: Int) -> tuple[Int, Int]:
    """Follow literals and brackets of data[begin : end] from `at` to `to`; where that is, and how many literals are open."""
    while at < to:
        byte = load8(data, at)
        if byte in (E.QUOTE, E.APOSTROPHE):
            open_ = T.quote(state, open_, data, begin, at, end)
        elif byte in _OPEN:
            state[open_, T.BRACKETS] += 1
        elif byte in _CLOSE:
            state[open_, T.BRACKETS] = max(0, state[open_, T.BRACKETS] - 1)
        at += 1
    return at, open_
