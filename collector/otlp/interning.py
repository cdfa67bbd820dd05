"""Codes for equal values, numbered in order of first appearance.

Equal is decided by bytes, the hash only says where to look; it is seeded per process, so that nobody can send values
that collide. Keys and values repeat in sequence, so the first guess is what followed the previous value of the group last time.
"""

from __future__ import annotations

import secrets

import numpy as np

from collector.otlp import layout as L
from collector.otlp.compiled import kernel
from collector.otlp.growing import twice
from collector.otlp.raw import Int, address, equal_bytes, fold, hash_bytes, prefetch
from collector.otlp.tables import I32, I64, U8, Text

ALONE = np.empty(0, np.int32)  # values of one group
AHEAD = np.int64(16)  # rows whose values are asked for before they are read: each is a trip to memory
SEED = secrets.randbits(62)  # of this process's hash tables


@kernel
def intern(
    body: U8, type_: U8, number: I64, offset: I64, size: I32, group: I32, groups: Int, seed: Int
) -> tuple[I32, I64, Int]:
    """For each value its code (-1 for EMPTY), for each code the row where it stood first, and a bit per type seen.

    Values are equal if their types are, and their numbers (BOOL, INT, DOUBLE) or bytes (the rest). group: below `groups`, per
    value, or for all; values of one group follow one another.
    """
    data = address(body)
    codes = np.empty(len(offset), np.int32)
    table = np.full(1024, -1, np.int32)  # slot → code
    first, hashes = np.empty(512, np.int64), np.empty(512, np.int64)
    after = np.empty(512, np.int64)  # code → the code that followed it last
    last = np.full(groups, -1, np.int64)  # group → its last code
    count, types, alone = np.int64(0), np.int64(0), len(group) == 0
    for row in range(len(offset)):
        if row + AHEAD < len(offset):
            prefetch(data, offset[row + AHEAD])
        kind, at, length = np.int64(type_[row]), offset[row], np.int64(size[row])
        of = np.int64(0) if alone else np.int64(group[row])
        previous = last[of]
        if kind == L.EMPTY:
            codes[row] = -1
            continue
        by_number = kind == L.BOOL or kind == L.INT or kind == L.DOUBLE  # noqa: PLR1714 (compiles to less)
        code = after[previous] if previous >= 0 else np.int64(-1)
        if code >= 0:
            other = first[code]
            if (
                type_[other] == kind
                and size[other] == length
                and (number[other] == number[row] if by_number else equal_bytes(data, at, offset[other], length))
            ):
                codes[row] = code
                last[of] = code
                continue
        value = fold(number[row] ^ seed, seed - kind) if by_number else hash_bytes(data, at, length, seed + kind)
        slot = value & (len(table) - 1)
        code = np.int64(table[slot])
        while code >= 0:
            other = first[code]
            if (
                hashes[code] == value
                and type_[other] == kind
                and size[other] == length
                and (number[other] == number[row] if by_number else equal_bytes(data, at, offset[other], length))
            ):
                break
            slot = (slot + 1) & (len(table) - 1)
            code = np.int64(table[slot])
        if code < 0:
            if count == len(first):
                first, hashes, after = twice(first), twice(hashes), twice(after)
                table = np.full(2 * len(table), -1, np.int32)
                for known in range(count):
                    slot = hashes[known] & (len(table) - 1)
                    while table[slot] >= 0:
                        slot = (slot + 1) & (len(table) - 1)
                    table[slot] = known
                slot = value & (len(table) - 1)
                while table[slot] >= 0:
                    slot = (slot + 1) & (len(table) - 1)
            code = count
            table[slot] = code
            first[code], hashes[code], after[code] = row, value, -1
            types |= 1 << kind
            count += 1
        if previous >= 0:
            after[previous] = code
        codes[row] = code
        last[of] = code
    return codes, first[:count], types


def texts(body: U8, text: Text, group: I32 = ALONE, groups: int = 1) -> tuple[I32, I64]:
    """For each text its code, for each code the row where it stood first.

    `group` as in `intern`: put texts that repeat in sequence, such as the values of one key, into a group of their own, and the
    first guess is nearly always right.
    """
    type_ = np.full(len(text.off), L.STRING, np.uint8)
    codes, first, _ = intern(body, type_, text.off, text.off, text.len, group, groups, SEED)
    return codes, first


def distinct(body: U8, text: Text) -> tuple[I32, list[str]]:
    """For each text its number, and the texts by number."""
    codes, first = texts(body, text)
    ends = text.off[first] + text.len[first]
    places = zip(text.off[first].tolist(), ends.tolist(), strict=True)
    return codes, [body[start:end].tobytes().decode("utf-8", "replace") for start, end in places]
