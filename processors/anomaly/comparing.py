"""How a bucket of one series compares with what is usual, measure by measure.

Evidence is a logarithm of how much likelier the bucket is if something has changed than if not. Of a mean of logarithms and of a
share that is exact but for what is learnt (the deviation). Of a volume it is counted in standard deviations, of calls of the usual
cost each: bursts of some three times the usual are no change, so they add little, however sure they are.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from collector.columns import PICO_PER_USD
from collector.otlp.compiled import kernel
from collector.otlp.tables import I64
from processors.anomaly.measures import LEAST, MILLI, PLACES, TABLE, Scale, Sum
from processors.anomaly.rows import EACH, F32, FIELDS, I32, LEVEL, MEASURED, SINCE, SPREAD, WEIGHT
from processors.anomaly.seasons import Season, expected, turn

F64 = NDArray[np.float64]
#: Whether anything is known of it in this bucket; how many calls tell; the value as measured, as it is compared, and what is usual;
#: evidence of a change, and the most of it (as a part of the threshold) that counts; how far it usually is off, what of that is
#: mere chance, and what makes that of one call; how much is too much (USD, calls, or calls × deviation).
Compared: TypeAlias = tuple[bool, float, float, float, float, float, float, float, float, float, float]

#: Buckets after which a measure has a usual deviation.
KNOWN = 60.0
DEVIATION = 1.2533  # standard deviations to a mean absolute one
_COST, _CALLS, _PRICED = int(Sum.COST), int(Sum.CALLS), int(Sum.PRICED)
_OF_COST, _OUTPUT, _LATENCY, _CACHE = (
    PLACES["cost"],
    PLACES["output_tokens"],
    PLACES["latency"],
    PLACES["cache_hit_rate"],
)
_LOST, _GAINED = PLACES["share_lost"], PLACES["share_gained"]
_LOG = int(Scale.LOG)
#: Money of a season is kept in thousandths of a dollar.
_MILLI_USD = 1000.0
#: How much more calls, and their cost, scatter than if each came by itself.
_SCATTER_CALLS, _SCATTER_COST = 1.5, 4.0
#: The least that a volume scatters from bucket to bucket beyond that, and a mean of logarithms; as parts of them.
_LEAST_VARIANCE, _LEAST_DEVIATION = 0.15**2, 0.05
#: However steady a measure is, it moves by itself as much as that.
_STEADIEST = 0.12
#: Calls of usual cost that one call counts for at most: what is dear by itself is told otherwise.
_DEAR = 8.0
#: Part of the smallest change worth a word that is no evidence of one.
_DEAD = 0.6
#: The most that counts of what is no more than a burst may be; of more than that, and the logarithm that leads from one to the
#: other; and of a rate, which may be sure after one bucket.
_MOST_BURST, _MOST_VOLUME, _FAST, _MOST_RATE = 0.1, 0.65, 1.2, 1.0
#: What more calls than that do for a bucket's mean is less than what happens between buckets.
_CALLS_CAP = 60.0


@kernel
def volume(
    own: F32, marks: I32, season: Season, came: I64, spends: F64, place: int, bucket: int, bucket_s: float, unsettled: bool
) -> Compared:  # fmt: skip
    """A sum against its season, which goes on by the bucket."""
    at = MEASURED + place * FIELDS
    money = place == _OF_COST
    calls = float(max(came[_CALLS], 0))
    found = max(came[_COST], 0) / PICO_PER_USD if money else calls
    turn(
        own, marks, season, bucket, bucket_s, found * _MILLI_USD if money else found, unsettled or marks[at + SINCE] > 0
    )
    level, known = expected(season, bucket, bucket_s)
    level *= np.exp(min(own[at + LEVEL], 10.0)) / (_MILLI_USD if money else 1.0)
    each = own[EACH] if money else 1.0
    informed = known and each > 0
    each = max(each, 1e-12)
    if money and spends[0] > 0:  # where few calls are dear and many cheap, it is the dear ones that scatter
        each = max(each, spends[1] / spends[0])
    count, wanted = min(found / each, _DEAR * calls), level / each
    scatters = _SCATTER_COST if money else _SCATTER_CALLS
    chance, variance = scatters / (wanted + 1), max(own[at + SPREAD], _LEAST_VARIANCE)
    most_usual = wanted * np.exp(_DEAD * LEAST[place])
    evidence = (count - most_usual) / np.sqrt(scatters * (most_usual + 1) + variance * most_usual**2) - 0.5
    surely = max(count - 1.5 * np.sqrt(scatters * (count + 1)), 0.1)
    fast = (np.log(surely / (wanted + 1)) - LEAST[place]) / _FAST
    most = min(max(_MOST_BURST + fast, _MOST_BURST), _MOST_VOLUME)
    off = np.log((count + 1) / (wanted + 1))
    return (
        informed,
        calls,
        found,
        off,
        level,
        evidence,
        most,
        np.sqrt(variance + chance),
        chance,
        1.0,
        max(found - level, 0.0),
    )


@kernel
def rate(own: F32, came: I64, alike: F64, place: int, longer: float, spent: float) -> Compared:
    """A mean or a share against what is usual for it, or for the same apps and models where `alike` says that.

    longer: how much longer answers are than usual, a logarithm
    spent:  USD that are too much in this bucket
    """
    scale, total, of, sign = TABLE[place]
    at = MEASURED + place * FIELDS
    whole = float(max(came[of], 0))
    shares = _LOST <= place <= _GAINED
    calls = whole if scale == _LOG or shares else float(max(came[_CALLS], 0))
    found = came[total] / max(whole, 1.0)
    found = found / MILLI if scale == _LOG else min(max(found, 0.0), 1.0)
    compared = found
    if not np.isnan(alike[place, 0]):
        whole = alike[place, 2]
        calls = whole if scale == _LOG else calls
        compared = (alike[place, 0] - alike[place, 1]) / max(whole, 1.0)
    level = own[at + LEVEL] if own[at + WEIGHT] > 0 else compared
    root = np.sqrt(min(max(calls, 1.0), _CALLS_CAP))
    deviation = DEVIATION * own[at + SPREAD] / root
    if scale == _LOG:
        deviation = max(deviation, _LEAST_DEVIATION)
    else:
        deviation = max(deviation, np.sqrt(max(level * (1 - level), 0.01) / max(calls, 1.0)))
    least = max(LEAST[place], 0.5 * level) if place == _LOST else LEAST[place]
    change = 2 * _DEAD * least
    off = (compared - level) * sign
    if place == _LATENCY:
        off -= longer
    if scale == _LOG or place == _CACHE:
        evidence = change * (off - change / 2) / max(deviation, _STEADIEST) ** 2
    else:
        evidence = _likelier(float(came[total]), whole, level, change * sign, own[at + SPREAD])
    return (
        whole > 0 and calls > 0, calls, found, compared, level, evidence, _MOST_RATE, deviation, 0.0, root,
        spent if spent >= 0 else calls * max(off, 0.0),
    )  # fmt: skip


@kernel
def grown(own: F32, came: I64, alike: F64, place: int) -> float:
    """By how much a mean of logarithms is above the usual; 0 where it is not, or too little is known."""
    at = MEASURED + place * FIELDS
    if own[at + WEIGHT] < KNOWN:
        return 0.0
    total, usual, of = float(came[TABLE[place, 1]]) / MILLI, 0.0, float(came[TABLE[place, 2]])
    if not np.isnan(alike[place, 0]):
        total, usual, of = alike[place, 0], alike[place, 1], alike[place, 2]
    return max((total - usual) / of - own[at + LEVEL], 0.0) if of > 0 else 0.0


@kernel
def _likelier(part: float, of: float, usual: float, change: float, spread: float) -> float:
    """How much likelier a part is if its share has changed by so much, as a logarithm; less where it scatters more than chance."""
    usual = min(max(usual, 0.01), 0.99)
    other = min(max(usual + change, usual / 5), (usual + 1) / 2 if usual > 0.5 else 0.9)
    found = part * np.log(other / usual) + (of - part) * np.log((1 - other) / (1 - usual))
    scatter = DEVIATION * spread
    likelier: float = found / min(max(scatter * scatter / (usual * (1 - usual)), 1.0), 10.0)
    return likelier
