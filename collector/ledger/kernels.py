"""The ledger's inner loops: keyed hashes of ids, and open-addressing tables over rings of remembered spans.

A *ring* holds entries in order of arrival: entry `e` (0, 1, 2 …, never reused) stands at `e & (capacity - 1)`; those from
`low` to below `high` are known. A *table* maps a hash to the newest entry of that hash: slots hold position + 1, 0 is
empty. A slot whose entry is forgotten may be taken again; if its position holds another entry by now, the key there
tells. Hash 0 means "none".
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

I64 = NDArray[np.int64]
I32 = NDArray[np.int32]
U8 = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_M1 = np.uint64(0xFF51AFD7ED558CCD)
_M2 = np.uint64(0xC4CEB9FE1A85EC53)
#: Entries of a trace that are looked at one by one to recognise a span.
NEAR = 64
_33 = np.uint64(33)
_8 = np.uint64(8)


@njit(cache=True, nogil=True, inline="always")
def _mix(value: np.uint64) -> np.uint64:
    value = (value ^ (value >> _33)) * _M1
    value = (value ^ (value >> _33)) * _M2
    return value ^ (value >> _33)


@njit(cache=True, nogil=True, inline="always")
def _word(data: U8, at: int) -> np.uint64:
    """Eight bytes, little-endian: one load, once compiled."""
    return (
        np.uint64(data[at])
        | (np.uint64(data[at + 1]) << np.uint64(8))
        | (np.uint64(data[at + 2]) << np.uint64(16))
        | (np.uint64(data[at + 3]) << np.uint64(24))
        | (np.uint64(data[at + 4]) << np.uint64(32))
        | (np.uint64(data[at + 5]) << np.uint64(40))
        | (np.uint64(data[at + 6]) << np.uint64(48))
        | (np.uint64(data[at + 7]) << np.uint64(56))
    )


@njit(cache=True, nogil=True)
def _hash_bytes(data: U8, start: int, length: int, seed: np.uint64) -> np.uint64:
    """Keyed 64-bit hash of some bytes; never 0. Bytes outside of `data` count as absent."""
    end = min(start + length, len(data))
    value = _mix(seed ^ np.uint64(length))
    at = max(start, 0)
    while at + 8 <= end:
        value = _mix(value ^ _word(data, at)) + seed
        at += 8
    if at < end:
        word = np.uint64(0)
        for place in range(end - 1, at - 1, -1):
            word = (word << _8) | np.uint64(data[place])
        value = _mix(value ^ word) + seed
    return value if value != np.uint64(0) else np.uint64(1)


@njit(cache=True, nogil=True, inline="always")
def _hash_word(word: np.uint64, seed: np.uint64) -> np.uint64:
    """As `_hash_bytes` of its eight bytes."""
    value = _mix(_mix(seed ^ _8) ^ word) + seed
    return value if value != np.uint64(0) else np.uint64(1)


@njit(cache=True, nogil=True)
def hash_spans(ids: I64, seed: np.uint64) -> I64:
    """Rows trace, span, parent (0: none) of an int64 matrix [3, spans]; a span's hash is keyed by its trace.

    ids [4, spans]: as in the table of spans.
    """
    out = np.empty((3, ids.shape[1]), dtype=np.int64)
    first = _mix(seed ^ np.uint64(16))
    for i in range(ids.shape[1]):
        trace = _mix((_mix(first ^ np.uint64(ids[0, i])) + seed) ^ np.uint64(ids[1, i])) + seed
        trace = trace if trace != np.uint64(0) else np.uint64(1)  # as `_hash_bytes` of its sixteen bytes
        out[0, i] = np.int64(trace)
        out[1, i] = np.int64(_hash_word(np.uint64(ids[2, i]), trace ^ seed))
        out[2, i] = np.int64(_hash_word(np.uint64(ids[3, i]), trace ^ seed)) if ids[3, i] != 0 else 0
    return out


@njit(cache=True, nogil=True)
def hash_texts(data: U8, offsets: I64, valid: Mask, seed: np.uint64) -> I64:
    """One hash per text of an Arrow string array; 0 where it is null or empty."""
    out = np.zeros(len(valid), dtype=np.int64)
    for i in range(len(valid)):
        if valid[i] and offsets[i + 1] > offsets[i]:
            out[i] = np.int64(_hash_bytes(data, offsets[i], offsets[i + 1] - offsets[i], seed))
    return out


@njit(cache=True, nogil=True, inline="always")
def _slot(key: int, size: int) -> int:
    return int(np.int64(np.uint64(key) & np.uint64(size - 1)))


@njit(cache=True, nogil=True, inline="always")
def _entry(slot: int, high: int, capacity: int) -> int:
    """The newest entry below `high` at the position that a slot holds."""
    return high - 1 - ((high - slot) & (capacity - 1))


@njit(cache=True, nogil=True)
def find(slots: I32, keys: I64, low: int, high: int, key: int) -> int:
    """The newest entry of a hash, or -1."""
    at = _slot(key, len(slots))
    while slots[at] != 0:
        if keys[slots[at] - 1] == key:
            entry = _entry(slots[at], high, len(keys))
            if entry >= low:
                return entry
        at = (at + 1) & (len(slots) - 1)
    return -1


@njit(cache=True, nogil=True)
def append(slots: I32, keys: I64, following: I64, low: int, first: int, high: int) -> int:
    """Enter the entries first..high, whose keys stand in the ring, into a table. Gives the fresh slots taken.

    `following` chains entries of one hash, newest first, -1 at the end; an empty array where no chain is kept.
    """
    mask = len(keys) - 1
    fresh = 0
    for entry in range(first, high):
        key = keys[entry & mask]
        before = -1
        if key != 0:
            at = _slot(key, len(slots))
            free = -1
            while slots[at] != 0:
                # What is at or above `entry` was not entered yet: its slot belonged to one that is forgotten.
                other = _entry(slots[at], high, len(keys))
                if other < low or other >= entry:
                    if free < 0:
                        free = at
                elif keys[other & mask] == key:
                    before = other
                    break
                at = (at + 1) & (len(slots) - 1)
            if before < 0 and free >= 0:
                at = free
            if slots[at] == 0:
                fresh += 1
            slots[at] = (entry & mask) + 1
        if len(following) > 0:
            following[entry & mask] = before
    return fresh


@njit(cache=True, nogil=True)
def chain(slots: I32, keys: I64, following: I64, dead: U8, low: int, high: int, key: int, most: int) -> I64:
    """The entries of a hash that are in force, newest first, at most so many."""
    out = np.empty(most, dtype=np.int64)
    count = 0
    entry = find(slots, keys, low, high, key)
    while entry >= low and count < most:
        if not dead[entry & (len(keys) - 1)]:
            out[count] = entry
            count += 1
        entry = following[entry & (len(keys) - 1)]
    return out[:count]


@njit(cache=True, nogil=True)
def mark_mixed(following: I64, source: I64, settled: Mask, mixed: U8, low: int, first: int, high: int) -> None:
    """Note for the entries first..high whether their trace holds anything but calls of one source that share nothing, up to
    them. settled: per entry from `first` on whether it was settled with others, as calls with one response id are: whether
    these are one call depends on what stands between them, which may come later.
    """
    mask = len(source) - 1
    for entry in range(first, high):
        before = following[entry & mask]
        same = before < low or (not mixed[before & mask] and source[before & mask] == source[entry & mask])
        mixed[entry & mask] = 0 if same and source[entry & mask] != 0 and not settled[entry - first] else 1


@njit(cache=True, nogil=True)
def classify(
    trace: I64,
    span: I64,
    response: I64,
    source: I64,
    plain: Mask,
    scratch: I32,
    trace_slots: I32,
    trace_keys: I64,
    response_slots: I32,
    response_keys: I64,
    following: I64,
    spans: I64,
    sources: I64,
    mixed: U8,
    low: int,
    high: int,
) -> Mask:
    """Which reports stand alone: plain themselves, no report known or of this batch shares their id, and their trace
    holds nothing but calls of the same source, which are never one call, and not this span.

    source: 0 for what is no call. scratch: three zeroed tables, one after the other, each of a power of two of slots above
    twice the reports. In long traces the span is looked for no further than NEAR entries back.
    """
    alone = plain.copy()
    size = len(scratch) // 3
    mask = len(sources) - 1
    firsts = np.empty(len(trace), dtype=np.int32)
    several = np.zeros(len(trace), dtype=np.bool_)
    for i in range(len(trace)):
        for kind in range(3):
            keys = trace if kind == 0 else response if kind == 1 else span
            key = keys[i]
            if key == 0:
                continue
            table = scratch[kind * size : (kind + 1) * size]
            at = _slot(key, size)
            while table[at] != 0 and keys[table[at] - 1] != key:
                at = (at + 1) & (size - 1)
            if table[at] == 0:
                table[at] = i + 1
            first = table[at] - 1
            if kind == 0:
                firsts[i] = first
                if source[i] == 0 or source[i] != source[first]:
                    several[first] = True
            elif first != i:
                alone[first] = False
                alone[i] = False
    for i in range(len(trace)):
        if alone[i] and several[firsts[i]]:
            alone[i] = False
        if alone[i]:
            entry = find(trace_slots, trace_keys, low, high, trace[i])
            if entry >= 0 and (mixed[entry & mask] or sources[entry & mask] != source[i]):
                alone[i] = False
            steps = 0
            while alone[i] and entry >= low:
                steps += 1
                if spans[entry & mask] == span[i] or steps > NEAR:
                    alone[i] = False
                entry = following[entry & mask]
            if response[i] != 0 and find(response_slots, response_keys, low, high, response[i]) >= 0:
                alone[i] = False
    return alone


@njit(cache=True, nogil=True)
def find_spans(
    slots: I32,
    keys: I64,
    following: I64,
    dead: U8,
    low: int,
    high: int,
    trace: int,
    spans: I64,
    wanted: I64,
    scratch: I64,
) -> I64:
    """Per wanted span of one trace its entry that is in force, or -1. scratch: zeroed, as `members` wants it."""
    out = np.full(len(wanted), -1, dtype=np.int64)
    for i in range(len(wanted)):
        at = _slot(wanted[i], len(scratch))
        while scratch[at] != 0:
            at = (at + 1) & (len(scratch) - 1)
        scratch[at] = i + 1
    mask = len(keys) - 1
    entry = find(slots, keys, low, high, trace)
    while entry >= low:
        if not dead[entry & mask]:
            span = spans[entry & mask]
            at = _slot(span, len(scratch))
            while scratch[at] != 0:
                if wanted[scratch[at] - 1] == span:
                    out[scratch[at] - 1] = entry
                at = (at + 1) & (len(scratch) - 1)
        entry = following[entry & mask]
    return out


@njit(cache=True, nogil=True)
def crowded(trace: I64, other: Mask, slots: I32, keys: I64, mixed: U8, low: int, high: int) -> Mask:
    """Which of the `other` spans (no reports) stand in a trace whose known reports a link may join or tell apart."""
    out = np.zeros(len(trace), dtype=np.bool_)
    for i in range(len(trace)):
        if other[i]:
            entry = find(slots, keys, low, high, trace[i])
            out[i] = entry >= 0 and mixed[entry & (len(keys) - 1)] != 0
    return out


@njit(cache=True, nogil=True)
def members(keys: I64, wanted: I64, slots: I64) -> Mask:
    """Which keys are among the wanted. slots: zeroed scratch, a power of two above twice the wanted."""
    for key in wanted:
        at = _slot(key, len(slots))
        while slots[at] != 0 and slots[at] != key:
            at = (at + 1) & (len(slots) - 1)
        slots[at] = key
    out = np.zeros(len(keys), dtype=np.bool_)
    for i in range(len(keys)):
        at = _slot(keys[i], len(slots))
        while slots[at] != 0 and slots[at] != keys[i]:
            at = (at + 1) & (len(slots) - 1)
        out[i] = slots[at] == keys[i] and keys[i] != 0
    return out
