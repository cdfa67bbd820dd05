"""From groups, combinations of all dimensions, to the series that these are part of, and what their calls usually come to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from collector.otlp.compiled import kernel
from collector.otlp.tables import I64
from processors.anomaly.measures import COUNT, MEASURES, MILLI, TABLE, Scale, Sum
from processors.anomaly.series import EACH, F32, FIELDS, LEVEL, MEASURED, WEIGHT

F64 = NDArray[np.float64]
#: Buckets after which a series says what is usual of others.
_LEARNT = 20
_PRICED = int(Sum.PRICED)
_ALIKE = np.array([measure.alike for measure in MEASURES])
_UNITS = np.array([MILLI if measure.scale is Scale.LOG else 1 for measure in MEASURES], np.int64)


def summed(numbers: I64, rows_of: I64, words: F32, scope: int) -> tuple[I64, F64, F64, F64]:
    """The sums of each row, and what is usual for such calls.

    numbers: [groups, columns], sums of groups
    rows_of: [groups, scopes], the row of each scope's series that a group belongs to, -1 for none
    words:   [rows, WORDS]
    scope:   whose series say what such calls usually come to; -1: none

    [rows, columns]; [groups, COUNT], what a group usually comes to, NaN where that is not known; [rows, COUNT, 3] and [rows, 2] as
    `Judge` takes them.
    """
    sums = np.zeros((len(words), numbers.shape[1]), np.int64)
    expected, alike = np.full((len(numbers), COUNT), np.nan), np.full((len(words), COUNT, 3), np.nan)
    spends = np.zeros((len(words), 2))
    _summed(numbers, rows_of, words, scope, sums, expected, alike, spends)
    return sums, expected, alike, spends


@kernel
def _summed(
    numbers: I64, rows_of: I64, words: F32, scope: int, sums: I64, expected: F64, alike: F64, spends: F64
) -> None:
    for group in range(len(numbers)):
        own = rows_of[group, scope] if scope >= 0 else -1
        for place in range(COUNT):
            at = MEASURED + place * FIELDS
            if _ALIKE[place] and own >= 0 and words[own, at + WEIGHT] >= _LEARNT:
                expected[group, place] = words[own, at + LEVEL] * numbers[group, TABLE[place, 2]]
        for other in range(rows_of.shape[1]):
            row = rows_of[group, other]
            if row < 0:
                continue
            for column in range(numbers.shape[1]):
                sums[row, column] += numbers[group, column]
            if scope < 0 or other == scope:
                continue
            if own >= 0:
                each, calls = words[own, EACH], numbers[group, _PRICED]
                spends[row, 0] += calls * each
                spends[row, 1] += calls * each * each
            for place in range(COUNT):
                if not _ALIKE[place]:
                    continue
                if np.isnan(alike[row, place, 0]):
                    alike[row, place] = 0.0
                if not np.isnan(expected[group, place]):
                    alike[row, place, 0] += numbers[group, TABLE[place, 1]] / _UNITS[place]
                    alike[row, place, 1] += expected[group, place]
                    alike[row, place, 2] += numbers[group, TABLE[place, 2]]
