"""String literals in JSON and in Python's repr, also in the texts of other literals.

A literal is told by its quote and by the backslashes before it: inside of a literal the same quote is escaped, and once more
inside of the literals that stand in its text.
"""

from __future__ import annotations

import numpy as np

from collector.otlp.compiled import kernel
from collector.otlp.raw import Flag, Int, load8
from collector.otlp.tables import I64
from processors.redaction.escapes import APOSTROPHE, BACKSLASH, QUOTE, marked

DEEPEST = 31  # literals inside of literals that are told apart

# A row of the state is a literal that is open, and what is known about its text; row 0 is the whole text.
# DOCUMENT: the bracket or quote that the text begins with, if it is a document; SURE: how many literals around and with this
# one are sure to be such, each standing in a document; BRACKETS: how many of [ and { are open
CHARACTER, DOCUMENT, SURE, BRACKETS = range(4)
STATE = 4


@kernel
def blank(data: Int, at: Int, end: Int) -> Int:
    """The position behind white space, escaped or not."""
    while at < end:
        byte = load8(data, at)
        if byte == BACKSLASH:
            behind = at + 1
            while behind < end and load8(data, behind) == BACKSLASH:
                behind += 1
            byte = load8(data, behind) if behind < end else np.int64(0)
            if byte != 0x6E and byte != 0x72 and byte != 0x74:  # noqa: PLR1714
                return at
            at = behind + 1
        elif byte == 0x20 or 0x09 <= byte <= 0x0D:
            at += 1
        else:
            return at
    return at


@kernel
def _alphanumeric(byte: Int) -> Flag:
    return 0x30 <= byte <= 0x39 or 0x61 <= byte | 0x20 <= 0x7A or byte >= 0x80


@kernel
def _closes(state: I64, open_: Int, data: Int, start: Int, at: Int) -> tuple[Int, Int, Int]:
    """The literal that the quote at `at` in data[start:] ends (0: none of those that are open), the backslashes before it that
    belong to no literal around it, and where its backslashes begin."""
    character = load8(data, at)
    first = at
    while first > start and load8(data, first - 1) == BACKSLASH:
        first -= 1
    slashes = at - first
    for level in range(1, open_ + 1):
        if state[level, CHARACTER] == character:
            if slashes & 1 == 0:
                return level, 0, first
            slashes -= 1
        slashes >>= 1
    return 0, slashes, first


@kernel
def _begins(state: I64, open_: Int, data: Int, start: Int, at: Int, end: Int) -> Int:
    """The bracket or quote that the text of literal `open_` begins with, at `at`, if it is a document: something in brackets,
    or one literal and nothing else. 0 if not."""
    at = blank(data, at, end)
    while at < end and load8(data, at) == BACKSLASH:
        at += 1
    byte = load8(data, at) if at < end else np.int64(0)
    if byte == 0x7B or byte == 0x5B or byte == 0x28:  # noqa: PLR1714
        return byte
    if (byte != QUOTE and byte != APOSTROPHE) or open_ == DEEPEST:  # noqa: PLR1714
        return 0
    ended, slashes, _ = _closes(state, open_, data, start, at)
    if ended > 0 or slashes > 0:
        return 0
    state[open_ + 1, CHARACTER] = byte
    while at < end:
        at = marked(data, at + 1, end)
        if at >= end or (load8(data, at) != QUOTE and load8(data, at) != APOSTROPHE):
            continue
        ended, _, _ = _closes(state, open_ + 1, data, start, at)
        if 0 < ended <= open_:
            return 0
        if ended > 0:
            break
    at = blank(data, at + 1, end)
    if at >= end:
        return byte if open_ == 0 else np.int64(0)
    while at < end and load8(data, at) == BACKSLASH:
        at += 1
    if at >= end or (load8(data, at) != QUOTE and load8(data, at) != APOSTROPHE):
        return 0
    ended, _, _ = _closes(state, open_, data, start, at)
    return byte if open_ > 0 and ended == open_ else np.int64(0)


@kernel
def whole(state: I64, data: Int, at: Int, end: Int) -> None:
    """Begin with a text."""
    state[0, CHARACTER], state[0, SURE], state[0, BRACKETS] = 0, 0, 0
    state[0, DOCUMENT] = _begins(state, np.int64(0), data, at, at, end)


@kernel
def quote(state: I64, open_: Int, data: Int, start: Int, at: Int, end: Int) -> Int:
    """How many literals are open behind the quote at `at` in data[start : end], `open_` before it."""
    ended, slashes, first = _closes(state, open_, data, start, at)
    if ended > 0:
        return ended - 1
    if slashes > 0 or open_ == DEEPEST:
        return open_
    character = load8(data, at)
    before = load8(data, first - 1) if first > start else np.int64(0)
    if character == APOSTROPHE and _alphanumeric(before):
        # An apostrophe, or a literal with a prefix (b'', u'')
        prefix = before | 0x20
        known = prefix == 0x62 or prefix == 0x75 or prefix == 0x72 or prefix == 0x66  # noqa: PLR1714
        if not known or (first - 2 >= start and _alphanumeric(load8(data, first - 2))):
            return open_
    sure = state[open_, SURE]
    if sure == open_ and state[open_, DOCUMENT] != 0:
        sure += 1
    open_ += 1
    state[open_, CHARACTER], state[open_, SURE], state[open_, BRACKETS] = character, sure, 0
    state[open_, DOCUMENT] = _begins(state, open_, data, start, at + 1, end)
    return open_
