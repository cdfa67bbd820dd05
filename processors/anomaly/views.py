"""A closed bucket by series: the sums of each, what is usual for its calls, and the calls that show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from collector.findings import Evidence
from collector.otlp.tables import I64
from processors.anomaly.buckets import Bucket
from processors.anomaly.gathering import Example, Values
from processors.anomaly.incidents import Traffic
from processors.anomaly.judging import Came
from processors.anomaly.measures import PLACES, SUMS, Sum
from processors.anomaly.series import FIELDS, MEASURED, SINCE, Rows, Series
from processors.anomaly.summing import summed
from processors.anomaly.watching import Watching

#: Calls that a finding is shown by.
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class View:
    """A bucket.

    slots, scopes: [rows], of the series that are looked at
    rows:    what is remembered of them; a copy
    came:    what came of each
    of:      [groups, scopes], the row of each scope's series that a group belongs to, -1 for none
    kin:     [rows], a number that series have in common which share the calls of one group; -1 for none
    dear, bad: calls by group
    """

    slots: I64
    scopes: I64
    rows: Rows
    came: Came
    of: I64
    kin: I64
    dear: list[Example | None]
    bad: list[Example | None]

    def row(self, slot: int) -> int:
        """Where a series stands; -1: it is not looked at."""
        found = np.flatnonzero(self.slots == slot)
        return int(found[0]) if len(found) else -1

    def evidence(self, row: int, bad: bool) -> tuple[Evidence, ...]:
        """The calls of a series that show it best; where it has none, those that went to the series beside it."""
        rows = self.of[:, self.scopes[row]]
        groups = np.flatnonzero(rows == row).tolist()
        if not groups and self.kin[row] >= 0:
            groups = np.flatnonzero((rows >= 0) & (self.kin[rows] == self.kin[row])).tolist()
        calls = [one for one in ((self.bad if bad else self.dear)[group] for group in groups) if one is not None]
        return tuple(Evidence(one.trace_id, one.span_id) for one in sorted(calls, key=_order)[:_SHOWN])

    def dearest(self, scopes: Sequence[int]) -> list[Example | None]:
        """Of each row of some scopes its dearest call."""
        found: list[Example | None] = [None] * len(self.slots)
        for scope in scopes:
            for row, one in zip(self.of[:, scope].tolist(), self.dear, strict=True):
                best = found[row] if row >= 0 else one
                if one is not None and (best is None or _order(one) < _order(best)):
                    found[row] = one
        return found


def _order(one: Example) -> tuple[int, str]:
    return -one.rank, one.span_id


def ordered(keys: Sequence[Values]) -> list[Values]:
    """Combinations in an order that does not depend on when they came: sums of fractions depend on it."""
    return sorted(keys, key=lambda key: tuple([value or "" for value in key]))


def view(bucket: Bucket, keys: Sequence[Values], slots: I64, silent: I64, series: Series, watching: Watching) -> View:
    """A bucket of these combinations, whose series are in `slots`; and of series that have no calls in it."""
    at = np.array([bucket.keys[key] for key in keys], np.int64)
    found, inverse = np.unique(slots[slots >= 0], return_inverse=True)
    of = np.full(slots.shape, -1, np.int64)
    of[slots >= 0] = inverse
    every = np.concatenate([found, silent])
    rows = series.copy(every)
    sums, _, alike, spends = summed(bucket.numbers[at], of, rows.words, watching.alike)
    kin = watching.kin(every)
    together = np.zeros(int(kin.max(initial=-1)) + 1, np.int64)
    tried = sums[:, Sum.SERVED] + sums[:, Sum.ERRORS]  # whose calls fail leaves no larger share to the others
    np.add.at(together, kin[kin >= 0], tried[kin >= 0])
    sums[kin >= 0, Sum.GROUP] = together[kin[kin >= 0]]
    shared = [MEASURED + PLACES[name] * FIELDS + SINCE for name in ("share_lost", "share_gained")]
    alarmed = (kin >= 0) & (rows.whole[:, shared] > 0).any(axis=1)
    unsettled = np.isin(kin, kin[alarmed])
    examples = ([own[row] for row in at.tolist()] for own in (bucket.dear, bucket.bad))
    came = Came(
        np.ascontiguousarray(sums[:, :SUMS]), np.ascontiguousarray(sums[:, SUMS:]), watching.watched(every), watching.volumes(every), alike,
        spends, unsettled,
    )  # fmt: skip
    return View(every, watching.scopes_of(every), rows, came, of, kin, *examples)


def traffic(buckets: Sequence[Bucket], series: Series, watching: Watching) -> tuple[Traffic, I64]:
    """The calls of several buckets together, and the slots of their series."""
    keys = ordered(list({key: None for bucket in buckets for key in bucket.keys}))
    places = {key: place for place, key in enumerate(keys)}
    numbers = np.zeros((len(keys), buckets[0].numbers.shape[1]), np.int64)
    for bucket in buckets:
        numbers[[places[key] for key in bucket.keys]] += bucket.numbers[: len(bucket)]
    slots = watching.slots_of(keys)
    every, inverse = np.unique(slots[slots >= 0], return_inverse=True)
    of = np.full(slots.shape, -1, np.int64)
    of[slots >= 0] = inverse
    _, expected, _, _ = summed(numbers, of, series.copy(every).words, watching.alike)
    kin = {
        slot: number for slot, number in zip(every.tolist(), watching.kin(every).tolist(), strict=True) if number >= 0
    }
    return Traffic(numbers[:, :SUMS], slots, expected, kin), every
