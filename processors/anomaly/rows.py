"""What is remembered of a series: a row of 4-byte words, of which each scope keeps those that it needs.

Whole numbers, fractions and the bytes of season and sketch share a row (views of the same memory): what a batch touched is copied,
judged, and stored row by row.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from collector.otlp.tables import I64, U8
from processors.anomaly.gathering import OCTAVES
from processors.anomaly.measures import COUNT

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
Mask = NDArray[np.bool_]
#: Hours of the week; an hour of which nothing is known.
HOURS, UNKNOWN = 168, 255

# Words of a row. Of the series: whole numbers, …
BORN, GROUP_BORN, SEEN, HOUR, SINCE_NEW, NEW_CALLS = range(
    6
)  # buckets counted from 1970 (hours likewise; 0: not new); calls since
# … fractions, …
HOUR_SUM, DAILY, FACTOR, NEW_USD, EACH = range(
    6, 11
)  # the hour's volume so far; USD a day, of late; sensitivity; USD since it was new; usual USD of a call
CORE = 11  # every series has these
# … the season (four hours to a word), the sketch of costs (four octaves to a word), …
SEASON = CORE
SKETCH = SEASON + HOURS // 4
# … and of each measure: usual value, deviation, buckets seen; evidence of a change, and since it left 0 the calls and the excess
# that came together; the bucket in which an alarm began (a whole number; 0: there is none).
MEASURED = SKETCH + OCTAVES // 4
LEVEL, SPREAD, WEIGHT, SCORE, RUN_CALLS, RUN_EXCESS, SINCE = range(7)
FIELDS = 7
#: Rows that are worked on at a time: what they take meanwhile is bounded.
CHUNK = 16_384
WORDS = MEASURED + COUNT * FIELDS


class Rows:
    """Rows of series, as whole numbers, as fractions, and the season and the sketch of costs as bytes."""

    def __init__(self, words: F32) -> None:
        self.words = words
        self.whole: I32 = words.view(np.int32)
        octets = words.view(np.uint8)
        self.season: U8 = octets[:, 4 * SEASON : 4 * SKETCH]
        self.sketch: U8 = octets[:, 4 * SKETCH : 4 * MEASURED]

    def __len__(self) -> int:
        return len(self.words)

    @classmethod
    def blank(cls, count: int) -> Rows:
        """Rows of series that were never seen."""
        rows = cls(np.zeros((count, WORDS), np.float32))
        rows.words[:, FACTOR] = 1
        rows.season[:] = UNKNOWN
        return rows

    def since_new(self, row: int) -> tuple[int, float]:
        """Calls and USD of a series since it was new."""
        return int(self.whole[row, NEW_CALLS]), float(self.words[row, NEW_USD])


class Layout(NamedTuple):
    """What is kept of a scope's series beside the first `CORE` words. `measures`: their places, ascending."""

    season: bool
    sketch: bool
    measures: tuple[int, ...]

    @property
    def code(self) -> int:
        """As one number: by it whoever reads a stored row knows what it has."""
        return self.season | self.sketch << 1 | sum(1 << place + 2 for place in self.measures)

    @classmethod
    def of(cls, code: int) -> Layout:
        """What `code` was of."""
        return cls(bool(code & 1), bool(code & 2), tuple(place for place in range(COUNT) if code >> place + 2 & 1))

    @property
    def columns(self) -> I64:
        """The words of a row that are kept."""
        return _columns(self)

    @property
    def mask(self) -> Mask:
        """Which measures are kept."""
        found = np.zeros(COUNT, np.bool_)
        found[list(self.measures)] = True
        return found


@cache
def _columns(layout: Layout) -> I64:
    parts = [np.arange(SEASON, SKETCH)] if layout.season else []
    parts += [np.arange(SKETCH, MEASURED)] if layout.sketch else []
    parts += [MEASURED + place * FIELDS + np.arange(FIELDS) for place in layout.measures]
    return np.concatenate([np.empty(0, np.int64), *parts])
