"""From groups, combinations of all dimensions, to the series that these are part of, and what their calls usually come to."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from collector.otlp.compiled import kernel
from collector.otlp.tables import I32, I64
from processors.anomaly.gathering import OCTAVES
from processors.anomaly.measures import COUNT, MEASURES, MILLI, SUMS, TABLE, Scale, Sum
from processors.anomaly.rows import EACH, FIELDS, LEVEL, MEASURED, WEIGHT
from processors.anomaly.series import Series, chunks

F64 = NDArray[np.float64]
#: Buckets after which a series says what is usual of others.
_LEARNT = 20
_PRICED = int(Sum.PRICED)
_ALIKE = np.array([measure.alike for measure in MEASURES])
_UNITS = np.array([MILLI if measure.scale is Scale.LOG else 1 for measure in MEASURES], np.int64)


class Usual(NamedTuple):
    """What the calls of groups usually come to.

    sums: [groups, COUNT], of a measure that can be compared so; NaN where it is not known
    each: [groups], USD of a call; NaN where it is not known
    """

    sums: F64
    each: F64


class Summed(NamedTuple):
    """Sums of some rows: [rows, SUMS], [rows, OCTAVES]; and, as `Judge` takes them, [rows, COUNT, 3] and [rows, 2]."""

    sums: I64
    costs: I32
    alike: F64
    spends: F64


def usual(sums: I64, slots: I64, series: Series) -> Usual:
    """What groups usually come to, by the series that each is compared with: `slots`, [groups], -1 for none."""
    own, inverse = np.unique(slots, return_inverse=True)
    levels, each = np.full((len(own), COUNT), np.nan), np.full(len(own), np.nan)
    first = int(np.searchsorted(own, 0))
    for part in chunks(own[first:]):
        words = series.copy(part).words
        fields = words[:, MEASURED:].reshape(len(part), COUNT, FIELDS)
        known = _ALIKE & (fields[:, :, WEIGHT] >= _LEARNT)
        levels[first : first + len(part)] = np.where(known, fields[:, :, LEVEL], np.nan)
        each[first : first + len(part)] = words[:, EACH]
        first += len(part)
    return Usual(levels[inverse] * sums[:, TABLE[:, 2]], each[inverse])


def summed(sums: I64, costs: I32, rows_of: I64, first: int, count: int, scope: int, usually: Usual) -> Summed:
    """The sums of `count` rows from `first` on.

    sums, costs: [groups, …]
    rows_of:     [groups, scopes], the row of each scope's series that a group belongs to, -1 for none
    scope:       whose series say what calls usually come to; -1: none. They are not compared with themselves
    """
    made = Summed(
        np.zeros((count, SUMS), np.int64), np.zeros((count, OCTAVES), np.int32), np.full((count, COUNT, 3), np.nan), np.zeros((count, 2))
    )  # fmt: skip
    _summed(sums, costs, rows_of, first, count, scope, usually.sums, usually.each, *made)
    return made


@kernel
def _summed(
    group_sums: I64, group_costs: I32, rows_of: I64, first: int, count: int, scope: int, expected: F64, each: F64, sums: I64, costs: I32,
    alike: F64, spends: F64,
) -> None:  # fmt: skip
    for group in range(len(group_sums)):
        for other in range(rows_of.shape[1]):
            row = rows_of[group, other] - first
            if rows_of[group, other] < 0 or not 0 <= row < count:
                continue
            for column in range(SUMS):
                sums[row, column] += group_sums[group, column]
            for column in range(OCTAVES):
                costs[row, column] += group_costs[group, column]
            if scope < 0 or other == scope:
                continue
            if not np.isnan(each[group]):
                calls = group_sums[group, _PRICED]
                spends[row, 0] += calls * each[group]
                spends[row, 1] += calls * each[group] * each[group]
            for place in range(COUNT):
                if not _ALIKE[place]:
                    continue
                if np.isnan(alike[row, place, 0]):
                    alike[row, place] = 0.0
                if not np.isnan(expected[group, place]):
                    alike[row, place, 0] += group_sums[group, TABLE[place, 1]] / _UNITS[place]
                    alike[row, place, 1] += expected[group, place]
                    alike[row, place, 2] += group_sums[group, TABLE[place, 2]]
