"""Buckets that still take calls: sums per combination of values, and how they lie on disk.

Each batch stores what it adds, one value per bucket; now and then these are made one. Sums are whole numbers, so adding up what is
stored gives what was in memory, to the last digit.
"""

from __future__ import annotations

import json
from typing import NamedTuple

import lz4.frame
import numpy as np

from collector.component import StateReader, StateWriter
from collector.otlp.tables import I64
from processors.anomaly.gathering import OCTAVES, Example, Gathered, Values
from processors.anomaly.measures import SUMS

#: Combinations in one bucket: whoever makes up names must not fill the memory.
MOST = 200_000
#: Combinations in closed buckets that are kept beyond the newest of them.
MOST_KEPT = 50_000
#: So many stored additions of a bucket are made one.
_ADDITIONS = 64
_PREFIX = b"b"
_WIDTH = SUMS + OCTAVES


class Addition(NamedTuple):
    """What a batch adds to a bucket: rows of [sums, costs by octave], and examples that are better than what was there."""

    keys: list[Values]
    numbers: I64
    dear: list[Example | None]
    bad: list[Example | None]


class Bucket:
    """The sums of one bucket. Arrays may be longer than `keys`."""

    def __init__(self) -> None:
        self.keys: dict[Values, int] = {}
        self.numbers: I64 = np.zeros((64, _WIDTH), np.int64)
        self.dear: list[Example | None] = []
        self.bad: list[Example | None] = []

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, addition: Addition) -> tuple[I64, int]:
        """Add it up: the rows that changed, and how many combinations found no room."""
        at = []
        crowded = 0
        for key in addition.keys:
            row = self.keys.get(key, -1)
            if row < 0:
                if len(self.keys) >= MOST:
                    crowded += 1
                else:
                    row = self.keys[key] = len(self.keys)
                    self.dear.append(None)
                    self.bad.append(None)
            at.append(row)
        rows = np.array(at, np.int64)
        if len(self.keys) > len(self.numbers):
            more = np.zeros((max(len(self.keys), 2 * len(self.numbers)), _WIDTH), np.int64)
            more[: len(self.numbers)] = self.numbers
            self.numbers = more
        kept = rows >= 0
        self.numbers[rows[kept]] += addition.numbers[kept]  # keys are distinct
        for row, dear, bad in zip(at, addition.dear, addition.bad, strict=True):
            if row >= 0:
                self.dear[row] = _better(self.dear[row], dear)
                self.bad[row] = _better(self.bad[row], bad)
        return rows[kept], crowded

    @property
    def whole(self) -> Addition:
        """All of it."""
        return Addition(list(self.keys), self.numbers[: len(self.keys)], list(self.dear), list(self.bad))


class _Undo(NamedTuple):
    size: int  # combinations there were
    rows: I64
    numbers: I64
    dear: list[Example | None]
    bad: list[Example | None]


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

    def add(self, found: Gathered) -> int:
        """Take what a batch adds; how many combinations found no room."""
        rows: dict[int, list[int]] = {}
        for row, (start, _) in enumerate(found.keys):
            rows.setdefault(start, []).append(row)
        numbers = np.concatenate([found.sums, found.costs], axis=1)
        crowded = 0
        for start, own in rows.items():
            bucket = self.open.get(start)
            self._undo[start] = None
            if bucket is None:
                bucket = self.open[start] = Bucket()
            keys = [found.keys[row][1] for row in own]
            if len(bucket):
                at = np.array([bucket.keys[key] for key in keys if key in bucket.keys], np.int64)
                dear, bad = [bucket.dear[row] for row in at.tolist()], [bucket.bad[row] for row in at.tolist()]
                self._undo[start] = _Undo(len(bucket), at, bucket.numbers[at], dear, bad)
            addition = Addition(keys, numbers[own], [found.dear[row] for row in own], [found.bad[row] for row in own])
            self._added[start] = addition
            crowded += bucket.add(addition)[1]
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
            bucket = self.open[start]
            for key in list(bucket.keys)[undo.size :]:
                del bucket.keys[key]
            bucket.numbers[undo.size :] = 0
            bucket.numbers[undo.rows] = undo.numbers
            del bucket.dear[undo.size :], bucket.bad[undo.size :]
            for row, dear, bad in zip(undo.rows.tolist(), undo.dear, undo.bad, strict=True):
                bucket.dear[row], bucket.bad[row] = dear, bad
        self._forget()


def _better(one: Example | None, other: Example | None) -> Example | None:
    if one is None or other is None:
        return one or other
    return other if other.rank > one.rank else one


def _name(start: int, number: int) -> bytes:
    return _PREFIX + start.to_bytes(8, "big") + number.to_bytes(4, "big")


def _write(addition: Addition) -> bytes:
    texts = json.dumps([addition.keys, addition.dear, addition.bad], separators=(",", ":")).encode()
    packed: bytes = lz4.frame.compress(len(texts).to_bytes(4, "big") + texts + addition.numbers.astype("<i8").tobytes())
    return packed


def _read(value: bytes) -> Addition:
    plain = lz4.frame.decompress(value)
    end = 4 + int.from_bytes(plain[:4], "big")
    keys, *examples = json.loads(plain[4:end])
    numbers = np.frombuffer(plain[end:], "<i8").reshape(len(keys), _WIDTH).astype(np.int64)
    dear, bad = ([None if one is None else Example(*one) for one in own] for own in examples)
    return Addition([tuple(key) for key in keys], numbers, dear, bad)
