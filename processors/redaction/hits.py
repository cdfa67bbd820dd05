"""What was found in the leaves of a request, from several searches, as one table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collector.otlp import interning
from collector.otlp.compiled import read_only
from collector.otlp.tables import I64, U8, Text

#: In the place of a detector: somebody's name in a document, which is exchanged and not counted.
PERSON = -1


@dataclass(frozen=True, slots=True)
class Found:
    """One row per hit. Of one leaf no two overlap, after `merged`.

    leaf:      row of `Strings`
    start,end: bytes of the leaf's payload (of a number: of its digits)
    detector:  place in `Policy.detectors`; PERSON: a member of a document
    text:      number of the hit's text in `texts`, as it reads without escapes; of a PERSON, of what takes its place
    slashes:   backslashes before the quotes that what takes its place needs around it; -1: it needs none
    """

    leaf: I64
    start: I64
    end: I64
    detector: I64
    text: I64
    slashes: I64
    texts: list[bytes]

    def __len__(self) -> int:
        return len(self.leaf)

    def taken(self, rows: Any) -> Found:
        """Some of the rows."""
        return Found(
            self.leaf[rows],
            self.start[rows],
            self.end[rows],
            self.detector[rows],
            self.text[rows],
            self.slashes[rows],
            self.texts,
        )


def nothing() -> Found:
    """No hits."""
    none = np.empty(0, np.int64)
    return Found(none, none, none, none, none, none, [])


def of(leaf: I64, start: I64, end: I64, detector: I64, data: U8, at: I64, size: I64) -> Found:
    """Hits whose texts are data[at : at + size]."""
    if not len(leaf):
        return nothing()
    codes, first = interning.texts(read_only(data), Text(np.ascontiguousarray(at), size.astype(np.int32)))
    texts = [data[at[row] : at[row] + size[row]].tobytes() for row in first.tolist()]
    return Found(
        leaf.astype(np.int64), start.astype(np.int64), end.astype(np.int64), detector.astype(np.int64), codes.astype(np.int64),
        np.full(len(leaf), -1), texts,
    )  # fmt: skip


def spread(text: I64, codes: NDArray[np.integer[Any]]) -> tuple[I64, I64]:
    """Hits of distinct texts (the text of each, in order) as hits of rows, whose texts are `codes`: row and hit of each."""
    if not len(text):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    count = np.bincount(text, minlength=int(codes.max(initial=-1)) + 1)
    before = np.cumsum(count) - count
    rows = np.flatnonzero(count[codes])
    each = count[codes[rows]]
    hit = np.repeat(before[codes[rows]] - (np.cumsum(each) - each), each) + np.arange(each.sum())
    return np.repeat(rows, each), hit


def merged(parts: list[Found]) -> Found:
    """All hits, sorted by leaf and place. Where hits overlap the one of the earlier part stands for all, and covers them all."""
    parts = [part for part in parts if len(part)]
    if not parts:
        return nothing()
    texts: list[bytes] = []
    codes, rank = [], []
    for number, part in enumerate(parts):
        codes.append(part.text + len(texts))
        texts += part.texts
        rank.append(np.full(len(part), number, np.int64))
    columns = ("leaf", "start", "end", "detector", "slashes")
    leaf, start, end, detector, slashes = (np.concatenate([getattr(part, name) for part in parts]) for name in columns)
    part_of = np.concatenate(rank)
    order = np.lexsort((part_of, start, leaf))
    found = Found(leaf, start, end, detector, np.concatenate(codes), slashes, texts).taken(order)
    overlaps = np.flatnonzero((found.leaf[1:] == found.leaf[:-1]) & (found.start[1:] < found.end[:-1]))
    if not len(overlaps):
        return found
    touched = np.isin(found.leaf, found.leaf[overlaps])
    return _resolved(found, part_of[order], np.flatnonzero(touched), np.flatnonzero(~touched))


def _resolved(found: Found, part: I64, touched: I64, clear: I64) -> Found:
    """Hits of leaves in which some overlap, put together."""
    kept: list[int] = []
    end = found.end.copy()
    start = found.start.copy()
    best = -1
    for row in touched.tolist():
        if kept and found.leaf[row] == found.leaf[best] and found.start[row] < end[best]:
            low, high = start[best], max(end[best], end[row])
            if part[row] < part[best]:
                best = kept[-1] = row
            start[best], end[best] = low, high
            continue
        best = row
        kept.append(row)
    rows = np.sort(np.concatenate([clear, np.array(kept, np.int64)]))
    return replace(found.taken(rows), start=start[rows], end=end[rows])
