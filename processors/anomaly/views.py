"""A closed bucket by series: the sums of each, what is usual for its calls, and the calls that show it."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from collector.findings import Evidence
from collector.otlp.tables import I64
from processors.anomaly.buckets import Bucket
from processors.anomaly.gathering import Examples, Values
from processors.anomaly.incidents import Traffic
from processors.anomaly.judging import Came
from processors.anomaly.measures import PLACES, SUMS, Sum
from processors.anomaly.rows import CHUNK, FIELDS, MEASURED, SINCE, Rows
from processors.anomaly.series import Series, chunks
from processors.anomaly.summing import Usual, summed, usual
from processors.anomaly.watching import Watching

#: Calls that a finding is shown by.
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class View:
    """A bucket.

    slots, scopes: [rows], of the series that are looked at
    of:      [groups, scopes], the row of each scope's series that a group belongs to, -1 for none
    kin:     [rows], a number that series have in common which share the calls of one group; -1 for none
    dear, bad: calls by group
    """

    slots: I64
    scopes: I64
    of: I64
    kin: I64
    dear: Examples
    bad: Examples

    def row(self, slot: int) -> int:
        """Where a series stands; -1: it is not looked at."""
        found = np.flatnonzero(self.slots == slot)
        return int(found[0]) if len(found) else -1

    def evidence(self, row: int, bad: bool) -> tuple[Evidence, ...]:
        """The calls of a series that show it best; where it has none, those that went to the series beside it."""
        rows = self.of[:, self.scopes[row]]
        groups = np.flatnonzero(rows == row)
        if not len(groups) and self.kin[row] >= 0:
            groups = np.flatnonzero((rows >= 0) & (self.kin[rows] == self.kin[row]))
        calls = (self.bad if bad else self.dear).at(groups)
        best = (
            (-rank, one[32:], one[:32]) for rank, one in zip(*map(np.ndarray.tolist, calls), strict=True) if rank >= 0
        )
        return tuple(Evidence(trace.decode(), span.decode()) for _, span, trace in heapq.nsmallest(_SHOWN, best))

    def dearest(self, scopes: Sequence[int]) -> I64:
        """Of each row of some scopes what its dearest call cost, in pico-USD; 0 for none."""
        found = np.zeros(len(self.slots), np.int64)
        for scope in scopes:
            rows = self.of[:, scope]
            np.maximum.at(found, rows[rows >= 0], self.dear.ranks[rows >= 0])
        return found


def ordered(keys: Sequence[Values]) -> list[Values]:
    """Combinations in an order that does not depend on when they came: sums of fractions depend on it."""
    return sorted(keys, key=lambda key: tuple([value or "" for value in key]))


class Look:
    """A bucket of these combinations, whose series are in `slots`, and of series that have no calls in it, before it is judged."""

    def __init__(
        self, bucket: Bucket, keys: Sequence[Values], slots: I64, silent: I64, series: Series, watching: Watching
    ) -> None:
        at = np.array([bucket.keys[key] for key in keys], np.int64)
        self._series, self._watching = series, watching
        self._sums, self._costs = bucket.sums[at], bucket.costs[at]
        every, of = _rows(slots)
        every = np.concatenate([every, silent])
        kin = watching.kin(every)
        self.view = View(every, watching.scopes_of(every), of, kin, bucket.dear.at(at), bucket.bad.at(at))
        self._usual = _usual(self._sums, slots, series, watching)
        tried = (
            self._sums[:, Sum.SERVED] + self._sums[:, Sum.ERRORS]
        )  # whose calls fail leaves no larger share to the others
        self._beside = np.zeros(len(every), np.int64)
        for rows in of.T:
            np.add.at(self._beside, rows[rows >= 0], tried[rows >= 0])
        together = np.zeros(int(kin.max(initial=-1)) + 1, np.int64)
        np.add.at(together, kin[kin >= 0], self._beside[kin >= 0])
        self._beside = np.where(kin >= 0, together[kin] if len(together) else 0, 0)
        self._unsettled = np.isin(kin, kin[self._alarmed()])

    def _alarmed(self) -> NDArray[np.bool_]:
        """[rows], whether it is an alarm that the calls of a group are shared otherwise."""
        found = np.zeros(len(self.view.slots), np.bool_)
        shared = [MEASURED + PLACES[name] * FIELDS + SINCE for name in ("share_lost", "share_gained")]
        for rows in chunks(np.flatnonzero(self.view.kin >= 0)):
            found[rows] = (self._series.copy(self.view.slots[rows]).whole[:, shared] > 0).any(axis=1)
        return found

    def parts(self) -> Iterator[tuple[slice, Rows, Came]]:
        """Rows of the view, some at a time: what is remembered of them, a copy, and what came."""
        view = self.view
        for first in range(0, max(len(view.slots), 1), CHUNK):
            part = slice(first, min(first + CHUNK, len(view.slots)))
            slots = view.slots[part]
            sums, costs, alike, spends = summed(
                self._sums, self._costs, view.of, first, len(slots), self._watching.alike, self._usual
            )
            sums[:, Sum.GROUP] = self._beside[part]
            came = Came(
                sums, costs, self._watching.kept(view.scopes[part]), self._watching.watched(slots), self._watching.volumes(slots), alike, spends,
                self._unsettled[part],
            )  # fmt: skip
            yield part, self._series.copy(slots), came


def traffic(buckets: Sequence[Bucket], series: Series, watching: Watching) -> tuple[Traffic, I64]:
    """The calls of several buckets together, and the slots of their series."""
    keys = ordered(list({key: None for bucket in buckets for key in bucket.keys}))
    places = {key: place for place, key in enumerate(keys)}
    sums = np.zeros((len(keys), SUMS), np.int64)
    for bucket in buckets:
        sums[[places[key] for key in bucket.keys]] += bucket.sums[: len(bucket)]
    slots = watching.slots_of(keys)
    every = np.unique(slots[slots >= 0])
    kin = {
        slot: number for slot, number in zip(every.tolist(), watching.kin(every).tolist(), strict=True) if number >= 0
    }
    return Traffic(sums, slots, _usual(sums, slots, series, watching).sums, kin), every


def _rows(slots: I64) -> tuple[I64, I64]:
    """The slots that there are, ascending; and for each of `slots` where it stands there, -1 where there is none."""
    found, inverse = np.unique(slots[slots >= 0], return_inverse=True)
    of = np.full(slots.shape, -1, np.int64)
    of[slots >= 0] = inverse
    return found, of


def _usual(sums: I64, slots: I64, series: Series, watching: Watching) -> Usual:
    own = slots[:, watching.alike] if watching.alike >= 0 else np.full(len(slots), -1, np.int64)
    return usual(sums, own, series)
