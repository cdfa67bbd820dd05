"""The season of a volume: what is usual by hour of the week, 168 bytes in a series' row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from collector.otlp.compiled import kernel
from processors.anomaly.rows import F32, HOUR, HOUR_SUM, HOURS, I32, UNKNOWN

Season = NDArray[np.uint8]
#: A new week's part in an hour.
_PART = 0.35
#: Kept are fifteenths of log(1 + 16 × what comes in a bucket), right to 3%.
_UNIT, _STEPS = 16.0, 15.0


@kernel
def turn(own: F32, marks: I32, season: Season, bucket: int, bucket_s: float, volume: float, frozen: bool) -> None:
    """Add to the hour's volume; an hour that is over goes into the season, and the hours of silence after it.

    frozen: what comes is not usual, and is left out of the season
    """
    hour = int(bucket * bucket_s // 3600)
    last = marks[HOUR]
    if last != hour and last > 0 and not frozen:
        mean = own[HOUR_SUM] / max(3600 / bucket_s, 1.0)
        for past in range(last, min(hour, last + HOURS)):
            cell = past % HOURS
            if season[cell] != UNKNOWN:
                was = np.expm1(season[cell] / _STEPS) / _UNIT
                # One week's burst is not the next week's custom.
                mean = was + _PART * (min(mean, 3 * was + 2) - was)
            season[cell] = min(round(np.log1p(_UNIT * mean) * _STEPS), UNKNOWN - 1)
            mean = 0.0
    if last != hour:
        own[HOUR_SUM] = 0.0
        marks[HOUR] = hour
    own[HOUR_SUM] += max(volume, 0.0)


@kernel
def expected(season: Season, bucket: int, bucket_s: float) -> tuple[float, bool]:
    """What is usual in the middle of a bucket, between the hours around it, and whether anything like it was seen."""
    at = (bucket + 0.5) * bucket_s / 3600 - 0.5
    before = int(np.floor(at))
    part = at - before
    one, two = _hour(season, before), _hour(season, before + 1)
    if one < 0 or two < 0:
        return max(one, two, 0.0), one >= 0 or two >= 0
    return one * (1 - part) + two * part, True


@kernel
def _hour(season: Season, hour: int) -> float:
    """The hour of the week, shrunk to the same hour of the days like it, or else of the others; below 0: none was seen."""
    weekend = _weekend(hour // 24 % 7)
    alike, count, others, other_count = 0.0, 0, 0.0, 0
    for day in range(7):
        cell = season[day * 24 + hour % 24]
        if cell == UNKNOWN:
            continue
        mean = np.expm1(cell / _STEPS) / _UNIT
        if _weekend(day) == weekend:
            alike += mean
            count += 1
        else:
            others += mean
            other_count += 1
    if count == 0:
        return others / other_count if other_count > 0 else -1.0
    found, own = alike / count, season[hour % HOURS]
    if own != UNKNOWN:
        found = 0.5 * found + 0.5 * float(np.expm1(own / _STEPS)) / _UNIT
    return found


@kernel
def _weekend(day: int) -> bool:
    """Days are counted from 1970, which began on a Thursday. In UTC: the weekend of a far country begins and ends some hours off."""
    return 2 <= day <= 3
