"""Texts without their escapes, level by level, and the way back to the bytes as they stand.

A view is a text in which one more level of escapes is read than in the one before; view 0 is the text itself. It keeps
segments: places in the view where the distance to the text changes, with the place in the text. A segment that is as long
in the text as in the view is the same bytes; any other is one character in the view and its whole escape in the text.
"""

from __future__ import annotations

import numpy as np

from collector.otlp.compiled import kernel
from collector.otlp.growing import roomy, twice
from collector.otlp.raw import Int, address, copy, load8
from collector.otlp.tables import I32, I64, U8
from processors.redaction import escapes as E
from processors.redaction import literals as T

#: Levels that are read. What has more is nobody's text: every level doubles its backslashes.
MOST_LEVELS = 8

#: Of a segment that is an escape: nobody means the characters it is written with, on any level.
_MEANT = 0x80
_KNOWN = 0x7F  # and the literals around it
#: What makes an escape of the backslash before it.
_LETTERS = tuple(b"nrtbfuxU/\"'")

# What becomes of a row
PLAIN, READ, TOO_DEEP = range(3)


@kernel
def _first_escape(data: Int, at: Int, end: Int) -> Int:
    """Where the first escape begins; `end` if there is none."""
    while True:
        at = E.marked(data, at, end)
        if at == end:
            return end
        size, _, _ = E.escape(data, at, end)
        if size > 0:
            return at
        at += 1


@kernel
def _level(
    source: Int,
    start: Int,
    end: Int,
    level: Int,
    first: Int,
    out: Int,
    to: Int,
    place: I32,
    raw: I32,
    marks: U8,
    n: Int,
    state: I64,
) -> tuple[Int, Int, bool, bool]:
    """Read one level of escapes in source[start : end], which is view `level` - 1 with the segments first : n.

    Writes the view to out[to:] and its segments from row n on, behind them one for its end. Gives the view's size, the row
    behind its segments; whether, beyond the last level, an escape is any but a doubled backslash (or becomes so); and whether
    all stood in literals of documents, so that nobody means the view before.
    """
    begin, open_ = to, np.int64(0)
    if level == 1:
        T.whole(state, source, start, end)
    at = run = start
    segment, last = first, n - 1
    telling, meant = False, True
    while True:
        at = E.marked(source, at, end)
        size, code, kind = np.int64(0), np.int64(-1), np.int64(E.NONE)
        if at < end:
            byte = load8(source, at)
            if level == 1 and (byte == E.QUOTE or byte == E.APOSTROPHE):  # noqa: PLR1714
                open_ = T.quote(state, open_, source, start, at, end)
            size, code, kind = E.escape(source, at, end)
            if size == 0:
                at += 1
                continue
        # What is the same bytes, up to here
        while run < at:
            stop, from_, mark = at, run - start, np.int64(0)
            if level > 1:
                while place[segment + 1] <= run - start:
                    segment += 1
                stop = min(at, start + np.int64(place[segment + 1]))
                from_, mark = np.int64(raw[segment]), np.int64(marks[segment])
                if raw[segment + 1] - raw[segment] == place[segment + 1] - place[segment]:
                    from_ += run - start - place[segment]
            place[n], raw[n], marks[n] = to - begin, from_, mark
            n += 1
            copy(out, to, source, run, stop - run)
            to += stop - run
            run = stop
        if at == end:
            break
        # The escape, and those of the level before that it is made of
        from_, known, fair = at - start, np.int64(0), kind != E.FOREIGN
        if level == 1:
            known = state[open_, T.SURE]
        else:
            while place[segment + 1] <= at - start:
                segment += 1
            from_ = np.int64(raw[segment])
            if raw[segment + 1] - raw[segment] == place[segment + 1] - place[segment]:
                from_ += at - start - place[segment]
            else:
                known = np.int64(marks[segment] & _KNOWN)
            part = segment
            while part < last and place[part] < at + size - start:
                same = raw[part + 1] - raw[part] == place[part + 1] - place[part]
                fair &= same or marks[part] & _MEANT != 0
                part += 1
        fair &= known >= level
        place[n], raw[n], marks[n] = to - begin, from_, known | (_MEANT if fair else 0)
        n += 1
        meant &= fair
        if level > MOST_LEVELS:
            telling |= kind != E.DOUBLED or (at + 2 < end and load8(source, at + 2) in _LETTERS)
        to = E.put_character(out, to, code)
        if level == 1 and kind == E.ESCAPED and size == 2 and (code == E.QUOTE or code == E.APOSTROPHE):  # noqa: PLR1714
            open_ = T.quote(state, open_, source, start, at + 1, end)
        at += size
        run = at
    place[n], raw[n], marks[n] = to - begin, end - start if level == 1 else np.int64(raw[last]), 0
    return to - begin, n + 1, telling, meant


@kernel
def unescape(body: U8, off: I64, size: I32) -> tuple[U8, U8, I64, I32, I32, I32, I64, I64, I32, I32, U8]:
    """The views of all rows body[off : off + size] that have escapes, sorted by row, then by level.

    Gives what became of each row; a buffer, and place, size, row and level of each view in it; its segments, from one up to
    another (none: the row as it is), the last of which is its end; and of all segments the place in the view and in the row, and
    marks.
    A view that nobody can mean is left out, the deepest never is.
    """
    data = address(body)
    became = np.zeros(len(off), np.uint8)
    out_array, used = np.empty(1024, np.uint8), np.int64(0)
    place, raw, marks = np.empty(256, np.int32), np.empty(256, np.int32), np.empty(256, np.uint8)
    n = np.int64(0)
    view_off, view_first, view_behind = np.empty(16, np.int64), np.empty(16, np.int64), np.empty(16, np.int64)
    view_size, view_row, view_level = np.empty(16, np.int32), np.empty(16, np.int32), np.empty(16, np.int32)
    views = np.int64(0)
    state = np.empty((T.DEEPEST + 1, T.STATE), np.int64)
    for row in range(len(off)):
        behind_row = off[row] + size[row]
        if _first_escape(data, off[row], behind_row) == behind_row:
            continue
        # The view that was read last: place (-1: the row itself, which is not in the buffer), size, segments first : n
        here, length, first = np.int64(-1), np.int64(size[row]), n
        for level in range(1, MOST_LEVELS + 2):
            out_array = roomy(out_array, used + 2 * length)
            room = 2 * n - first + length + 2
            place, raw, marks = roomy(place, room), roomy(raw, room), roomy(marks, room)
            out = address(out_array)
            source, start = (data, off[row]) if here < 0 else (out, here)
            made, behind, telling, meant = np.int64(0), n, False, True
            deepest = _first_escape(source, start, start + length) == start + length
            if not deepest:
                made, behind, telling, meant = _level(
                    source, start, start + length, level, first, out, used, place, raw, marks, n, state
                )
                deepest = level > MOST_LEVELS
            if deepest or not meant:
                # What was read from is looked at.
                if views == len(view_off):
                    view_off, view_first, view_behind = twice(view_off), twice(view_first), twice(view_behind)
                    more = 2 * views
                    view_size, view_row = roomy(view_size, more), roomy(view_row, more)
                    view_level = roomy(view_level, more)
                view_row[views], view_level[views], view_size[views] = row, level - 1, length
                view_off[views], view_first[views], view_behind[views] = here, first, n
                if here < 0:
                    view_off[views] = used + made
                    copy(out, used + made, data, off[row], length)
                views += 1
            if deepest:
                became[row] = TOO_DEEP if telling else READ
                break
            copied = length if here < 0 and not meant else np.int64(0)
            here, first, n, length = used, n, behind, made
            used += made + copied
    return (
        became, out_array[:used], view_off[:views], view_size[:views], view_row[:views], view_level[:views],
        view_first[:views], view_behind[:views], place[:n], raw[:n], marks[:n],
    )  # fmt: skip


@kernel
def _segment(starts: I32, first: Int, behind: Int, at: Int) -> Int:
    """The segment from `first` on, before the last of `behind`, that has the place `at`."""
    low, high = first, behind - 1
    while high - low > 1:
        middle = (low + high) >> 1
        if starts[middle] <= at:
            low = middle
        else:
            high = middle
    return low


@kernel
def to_rows(
    data: U8,
    off: I64,
    view_row: I32,
    view_first: I64,
    view_behind: I64,
    place: I32,
    raw: I32,
    marks: U8,
    view: I32,
    start: I32,
    end: I32,
) -> tuple[I32, I32]:
    """Ranges in views as ranges of the rows, which begin at data[off].

    No escape is cut, of whatever level. One that is cut by a range in a view of a lower level is left out of the range, if
    nobody means what that view says; else all of it is taken in.
    """
    base = address(data)
    starts, ends = np.empty(len(view), np.int32), np.empty(len(view), np.int32)
    for hit in range(len(view)):
        number = np.int64(view[hit])
        low: Int = np.int64(start[hit])
        high: Int = np.int64(end[hit])
        first, behind = view_first[number], view_behind[number]
        if behind > first:
            at = _segment(place, first, behind, low)
            same = raw[at + 1] - raw[at] == place[at + 1] - place[at]
            low = raw[at] + (low - place[at] if same else 0)
            at = _segment(place, first, behind, high - 1)
            same = raw[at + 1] - raw[at] == place[at + 1] - place[at]
            high = raw[at] + high - place[at] if same else np.int64(raw[at + 1])
        # The deepest view of the row has the largest escapes.
        while number + 1 < len(view_row) and view_row[number + 1] == view_row[number]:
            number += 1
        first, behind = view_first[number], view_behind[number]
        left, right = _segment(raw, first, behind, low), _segment(raw, first, behind, high - 1)
        cut_left = raw[left + 1] - raw[left] != place[left + 1] - place[left] and low > raw[left]
        cut_right = raw[right + 1] - raw[right] != place[right + 1] - place[right] and high < raw[right + 1]
        # Backslashes at the end belong to an escape, not to the hit.
        slash = high
        while cut_right and slash > raw[right] and load8(base, off[view_row[number]] + slash - 1) == E.BACKSLASH:
            slash -= 1
        drop_left = cut_left and marks[left] & _MEANT != 0
        drop_right = cut_right and (marks[right] & _MEANT != 0 or slash == raw[right])
        inner_low = np.int64(raw[left + 1]) if drop_left else (np.int64(raw[left]) if cut_left else low)
        inner_high = np.int64(raw[right]) if drop_right else (np.int64(raw[right + 1]) if cut_right else high)
        if inner_low < inner_high:
            low, high = inner_low, inner_high
        else:
            low = np.int64(raw[left]) if cut_left else low
            high = np.int64(raw[right + 1]) if cut_right else high
        starts[hit], ends[hit] = low, high
    return starts, ends


@kernel
def united(row: I32, start: I32, end: I32, level: I32, order: I64) -> tuple[I32, I32, I32, I64]:
    """Ranges, in the order of row and start, with those that overlap as one; and the number of the one of the highest level,
    the longest of these, in each."""
    rows, starts = np.empty(len(order), np.int32), np.empty(len(order), np.int32)
    ends, names = np.empty(len(order), np.int32), np.empty(len(order), np.int64)
    count = 0
    for hit in order:
        if count > 0 and rows[count - 1] == row[hit] and start[hit] < ends[count - 1]:
            ends[count - 1] = max(ends[count - 1], end[hit])
            best = names[count - 1]
            longer = end[hit] - start[hit] > end[best] - start[best]
            if level[hit] > level[best] or (level[hit] == level[best] and longer):
                names[count - 1] = hit
            continue
        rows[count], starts[count], ends[count], names[count] = row[hit], start[hit], end[hit], hit
        count += 1
    return rows[:count], starts[:count], ends[:count], names[:count]
