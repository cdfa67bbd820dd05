"""Buckets that still take calls: sums per combination of values, and how they lie on disk.

Each batch stores what it adds, one value per bucket; now and then these are made one. Sums are whole numbers, so adding up what is
stored gives what was in memory, to the last digit.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import lz4.frame
import numpy as np

from collector.component import StateReader, StateWriter
from collector.otlp.tables import I32, I64
from processors.anomaly.gathering import OCTAVES, Examples, Gathered, Values
from processors.anomaly.measures import SUMS

#: Combinations in one bucket: whoever makes up names must not fill the memory.
MOST = 100_000
#: Combinations in closed buckets that are kept beyond the newest of them.
MOST_KEPT = 50_000
#: So many stored additions of a bucket are made one.
_ADDITIONS = 64
#: Texts of a bucket that are looked for in other combinations of it.
_SHARED = 4096
_PREFIX = b"b"


class Addition(NamedTuple):
    """What a batch adds to a bucket: its combinations, their sums, costs by octave, and examples."""

    keys: list[Values]
    sums: I64
    costs: I32
    dear: Examples
    bad: Examples


class Bucket:
    """The sums of one bucket. Arrays may be longer than `keys`."""

    def __init__(self) -> None:
        self.keys: dict[Values, int] = {}
        self.sums: I64 = np.zeros((0, SUMS), np.int64)
        self.costs: I32 = np.zeros((0, OCTAVES), np.int32)
        self.dear, self.bad = Examples.none(0), Examples.none(0)
        self._texts: dict[str | None, str | None] = {}  # those that combinations share are there once

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, addition: Addition) -> int:
        """Add it up: how many combinations found no room."""
        rows = np.array([self._row(key) for key in addition.keys], np.int64)
        self._grow(len(self.keys))
        kept = np.flatnonzero(rows >= 0)
        rows = rows[kept]
        self.sums[rows] += addition.sums[kept]  # keys are distinct
        self.costs[rows] += addition.costs[kept]
        self.dear.better(rows, addition.dear.at(kept))
        self.bad.better(rows, addition.bad.at(kept))
        return len(addition.keys) - len(rows)

    def _row(self, key: Values) -> int:
        """Where a combination stands; -1: there is no room for another one."""
        row = self.keys.get(key)
        if row is not None:
            return row
        if len(self.keys) >= MOST:
            return -1
        texts = self._texts
        if len(texts) < _SHARED:
            texts.update((text, text) for text in key if text not in texts)
        self.keys[tuple([texts.get(text, text) for text in key])] = len(self.keys)
        return len(self.keys) - 1

    def _grow(self, count: int) -> None:
        if count <= len(self.sums):
            return
        more = max(count, len(self.sums) * 5 // 4, 64) - len(self.sums)
        self.sums = np.concatenate([self.sums, np.zeros((more, SUMS), np.int64)])
        self.costs = np.concatenate([self.costs, np.zeros((more, OCTAVES), np.int32)])
        self.dear, self.bad = self.dear.more(more), self.bad.more(more)

    def cut(self, undo: _Undo) -> None:
        """As it was before an addition."""
        for key in list(self.keys)[undo.size :]:
            del self.keys[key]
        self.sums[undo.size :], self.costs[undo.size :] = 0, 0
        self.sums[undo.rows], self.costs[undo.rows] = undo.sums, undo.costs
        for own, was in ((self.dear, undo.dear), (self.bad, undo.bad)):
            own.ranks[undo.size :] = -1
            own.put(undo.rows, was)

    def thin(self) -> None:
        """Keep what is asked of closed buckets: the sums."""
        self.sums = self.sums[: len(self)].copy()
        self.costs = np.zeros((0, OCTAVES), np.int32)
        self.dear = self.bad = Examples.none(0)

    @property
    def whole(self) -> Addition:
        """All of it."""
        all_ = slice(len(self))
        return Addition(list(self.keys), self.sums[all_], self.costs[all_], self.dear.at(all_), self.bad.at(all_))


class _Undo(NamedTuple):
    size: int  # combinations there were
    rows: I64  # of those that change
    sums: I64
    costs: I32
    dear: Examples
    bad: Examples


class Buckets:
    """All open ones, by their start (Unix ns), and those that were closed a short while ago.

    keep_ns: for how long these are kept
    """

    def __init__(self, keep_ns: int) -> None:
        self.open: dict[int, Bucket] = {}
        self.closed: dict[int, Bucket] = {}
        self._keep_ns = keep_ns
        self._stored: dict[int, list[int]] = {}  # numbers of the additions that lie in the store
        self._forget()

    def _forget(self) -> None:
        self._added: dict[int, Addition] = {}
        self._undo: dict[int, _Undo | None] = {}
        self._closed: list[int] = []  # by the last batch
        self._dropped: dict[int, Bucket] = {}
        self._written: dict[int, int] = {}  # bucket → number of the addition that `save` wrote
        self._merged: set[int] = set()

    def load(self, state: StateReader, usable: bool, last: int) -> None:
        """Rebuild what `save` wrote; those that begin at `last` or before are closed. Not usable: it is of other dimensions than those
        of now, and goes once its time is over."""
        for name, value in state.items(_PREFIX):
            start, number = (int.from_bytes(part, "big") for part in (name[1:9], name[9:]))
            self._stored.setdefault(start, []).append(number)
            bucket = (self.closed if start <= last else self.open).setdefault(start, Bucket())
            if usable:
                bucket.add(_read(value))
        for bucket in self.closed.values():
            bucket.thin()

    def add(self, found: Gathered) -> int:
        """Take what a batch adds; how many combinations found no room."""
        rows: dict[int, list[int]] = {}
        for row, (start, _) in enumerate(found.keys):
            rows.setdefault(start, []).append(row)
        crowded = 0
        for start, own in rows.items():
            bucket = self.open.get(start)
            self._undo[start] = None
            if bucket is None:
                bucket = self.open[start] = Bucket()
            keys = [found.keys[row][1] for row in own]
            if len(bucket):
                at = np.array([bucket.keys[key] for key in keys if key in bucket.keys], np.int64)
                self._undo[start] = _Undo(len(bucket), at, bucket.sums[at], bucket.costs[at], bucket.dear.at(at), bucket.bad.at(at))  # fmt: skip
            of = np.array(own, np.int64)
            self._added[start] = Addition(keys, found.sums[of], found.costs[of], found.dear.at(of), found.bad.at(of))
            crowded += bucket.add(self._added[start])
        return crowded

    def close(self, last: int) -> list[tuple[int, Bucket]]:
        """Those that begin at `last` or before, oldest first; they are open no more."""
        self._closed = sorted(start for start in self.open if start <= last)
        for start in self._closed:
            self.closed[start] = self.open.pop(start)
        kept = 0
        for start in sorted(self.closed, reverse=True):
            if start <= last - self._keep_ns or kept > MOST_KEPT:
                self._dropped[start] = self.closed.pop(start)
            else:
                kept += len(self.closed[start])
        return [(start, self._last(start)) for start in self._closed]

    def _last(self, start: int) -> Bucket:
        found = self.closed.get(start)
        return self._dropped[start] if found is None else found

    def until(self, start: int) -> list[Bucket]:
        """The closed ones up to this one, newest first, as far back as they are kept. In the batch that closed it."""
        both = self.closed | self._dropped
        found: list[Bucket] = []
        for other in sorted((other for other in both if start - self._keep_ns < other <= start), reverse=True):
            if sum(map(len, found)) > MOST_KEPT:
                break
            found.append(both[other])
        return found

    def begin(self) -> None:
        """The last batch is committed; another one begins."""
        for start in self._closed:
            if start in self.closed:
                self.closed[start].thin()
        for start in self._dropped:
            self._stored.pop(start, None)
        for start, number in self._written.items():
            if start in self._merged:
                self._stored[start] = []
            self._stored.setdefault(start, []).append(number)
        self._forget()

    def save(self, state: StateWriter) -> None:
        """Write what the batch added; what was stored of closed ones goes. May run again for the same batch."""
        for start in self._dropped:
            for number in self._stored.get(start, ()):
                state.delete(_name(start, number))
        for start, addition in self._added.items():
            if start in self._dropped:
                continue
            stored = self._stored.get(start, [])
            self._written[start] = max(stored, default=-1) + 1
            if len(stored) >= _ADDITIONS:
                self._merged.add(start)
                for number in stored:
                    state.delete(_name(start, number))
            bucket = self.open.get(start) or self.closed[start]
            value = _write(bucket.whole if start in self._merged else addition)
            state.put(_name(start, self._written[start]), value)

    def rollback(self) -> None:
        """As it was before the last batch."""
        self.closed |= self._dropped
        for start in self._closed:
            self.open[start] = self.closed.pop(start)
        for start, undo in self._undo.items():
            if undo is None:
                del self.open[start]
                continue
            self.open[start].cut(undo)
        self._forget()


def _name(start: int, number: int) -> bytes:
    return _PREFIX + start.to_bytes(8, "big") + number.to_bytes(4, "big")


def _write(addition: Addition) -> bytes:
    texts = json.dumps(addition.keys, separators=(",", ":")).encode()
    arrays = (addition.sums, addition.costs, *addition.dear, *addition.bad)
    plain = b"".join([len(addition.keys).to_bytes(4, "big"), *(array.tobytes() for array in arrays), texts])
    packed: bytes = lz4.frame.compress(plain)
    return packed


def _read(value: bytes) -> Addition:
    plain = lz4.frame.decompress(value)
    count, at = int.from_bytes(plain[:4], "big"), 4
    parts: list[Any] = []
    ranks, ids = Examples.none(0)
    for dtype, width in (
        (np.dtype(np.int64), SUMS),
        (np.dtype(np.int32), OCTAVES),
        *2 * ((ranks.dtype, 1), (ids.dtype, 1)),
    ):
        parts.append(np.frombuffer(plain, dtype, count * width, at))
        at += parts[-1].nbytes
    sums, costs, *examples = parts
    keys = [tuple(key) for key in json.loads(plain[at:])]
    return Addition(
        keys, sums.reshape(count, SUMS), costs.reshape(count, OCTAVES), Examples(*examples[:2]), Examples(*examples[2:])
    )
