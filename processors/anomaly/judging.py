"""One closed bucket against what is usual: how evidence of a change adds up, when that is an alarm, and what is learnt.

Each measure has a usual level and deviation, learnt with a bounded influence of every bucket. Evidence of a change (`comparing`) adds
up from bucket to bucket, never below 0 (CUSUM): what is usual brings it down. So a tenfold loop is told after two buckets, a third
more per call within the hour, and a lasting shift however little of it a bucket shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from collector.columns import PICO_PER_USD
from collector.otlp.compiled import kernel
from collector.otlp.tables import I32, I64
from processors.anomaly.comparing import F64, KNOWN, Compared, grown, rate, volume
from processors.anomaly.config import AnomalyConfig
from processors.anomaly.measures import COUNT, LEAST, MONEY, PLACES, TABLE, Scale, Sum
from processors.anomaly.rows import (
    BORN,
    DAILY,
    EACH,
    F32,
    FACTOR,
    FIELDS,
    GROUP_BORN,
    LEVEL,
    MEASURED,
    NEW_CALLS,
    NEW_USD,
    RUN_CALLS,
    RUN_EXCESS,
    SCORE,
    SEEN,
    SINCE,
    SINCE_NEW,
    SPREAD,
    WEIGHT,
    Rows,
)  # fmt: skip
from processors.anomaly.sketches import count, median

Mask = NDArray[np.bool_]
#: Flags of a row and measure.
BEGAN, HOT, ENDED, ACCEPTED, SHOWS = 1, 2, 4, 8, 16

_VOLUME = int(Scale.VOLUME)
_COST, _CALLS, _PRICED, _SERVED = int(Sum.COST), int(Sum.CALLS), int(Sum.PRICED), int(Sum.SERVED)
_OF_COST, _OF_CALLS, _PER_CALL, _OUTPUT = (PLACES[name] for name in ("cost", "calls", "cost_per_call", "output_tokens"))
_LOST, _GAINED = PLACES["share_lost"], PLACES["share_gained"]
#: Most that a bucket takes off the evidence, as a part of the threshold; and what one without calls does.
_LEAST_EVIDENCE, _SILENT = -0.3, -0.5
_FORGOTTEN = 0.7  # evidence that goes with every bucket in which a series was not seen
#: Most evidence that is kept, as a part of the threshold: what is over is seen to be so soon.
_KEPT = 1.3
#: A bucket's part in what is usual: a mean at first, then one of so many.
_MEMORY_VOLUME, _MEMORY_RATE = 300.0, 600.0
#: Part of `min_calls` that a bucket must have, to be evidence enough by itself.
_SEVERAL = 0.3
#: Calls over which their usual cost is a mean.
_EACH_CALLS = 5000.0
#: A share of the calls below this is too small to miss.
_LEAST_SHARE = 0.05
_NEVER = 2**30


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a bucket came to.

    flags:  [rows, COUNT], BEGAN, HOT (no alarm yet, and half the evidence is there), ENDED, ACCEPTED (because it is usual now),
            SHOWS (of an alarm that goes on: the bucket is more evidence of it)
    median: [rows], usual cost of a call in USD; inf where too little is known
    new:    [rows], a series that was never seen before, and is worth a word now
    told:   rows that have a flag, ascending
    numbers: [told, COUNT, 3], the measure and what is usual, of this bucket; how much of it is too much: USD, calls, or calls × deviation.
            NaN where nothing came
    """

    flags: NDArray[np.uint8]
    median: F64
    new: Mask
    told: I64
    numbers: F64

    @classmethod
    def joined(cls, parts: Sequence[Verdict]) -> Verdict:
        """Those of the rows of one bucket, part by part."""
        first = np.cumsum([0, *(len(part.flags) for part in parts)])
        return cls(
            np.concatenate([part.flags for part in parts]), np.concatenate([part.median for part in parts]),
            np.concatenate([part.new for part in parts]),
            np.concatenate([part.told + at for part, at in zip(parts, first, strict=False)]),
            np.concatenate([part.numbers for part in parts]),
        )  # fmt: skip

    def of(self, row: int, place: int) -> tuple[float, float, float]:
        """The measure of a row, what is usual, and what is too much."""
        at = int(np.searchsorted(self.told, row))
        if at == len(self.told) or self.told[at] != row:
            return np.nan, np.nan, np.nan
        value, usual, excess = self.numbers[at, place].tolist()
        return value, usual, excess


@dataclass(frozen=True, slots=True)
class Came:
    """What came in a bucket, series by series.

    sums:    [rows, SUMS]
    costs:   [rows, OCTAVES], calls by octave of their cost
    kept:    [rows, COUNT], the measures that something is remembered of
    watched: [rows, COUNT]
    volumes: [rows], the measure that the season of each is of
    alike:   [rows, COUNT, 3], of calls of which it is known what such calls usually come to: the sum, the usual sum, and how many
             (of a share: of what) they are. NaN where a series is compared with itself
    spends:  [rows, 2], what such calls usually cost, and the sum of the squares of that: USD
    unsettled: [rows], whether series that share calls with one have an alarm: what it has of them meanwhile is not usual
    """

    sums: I64
    costs: I32
    kept: Mask
    watched: Mask
    volumes: I64
    alike: F64
    spends: F64
    unsettled: Mask


class Judge:
    """The arithmetic, with a config."""

    def __init__(self, config: AnomalyConfig) -> None:
        self._bucket_s = config.bucket
        self._params = np.array([
            config.threshold, config.min_calls, config.min_usd, config.min_share, config.warm_up / config.bucket,
            config.accept_after / config.bucket,
        ])  # fmt: skip

    def __call__(self, rows: Rows, came: Came, bucket: int) -> Verdict:
        """Judge rows, and learn from them: `rows` changes."""
        size = len(rows)
        flags = np.zeros((size, COUNT), np.uint8)
        numbers = np.full((size, COUNT, 3), np.nan)
        medians, new = np.full(size, np.inf), np.zeros(size, np.bool_)
        _judge(
            rows.whole, rows.words, rows.season, rows.sketch, came.sums, came.costs, came.kept, came.watched, came.volumes, came.alike, came.spends,
            came.unsettled, bucket, self._bucket_s, self._params, flags, numbers, medians, new,
        )  # fmt: skip
        told = np.flatnonzero(flags.any(axis=1))
        return Verdict(flags, medians, new, told, numbers[told])


@kernel
def _judge(
    whole: I32, words: F32, season: NDArray[np.uint8], sketch: NDArray[np.uint8], sums: I64, costs: I32, kept: Mask, watched: Mask, volumes: I64,
    alike: F64, spends: F64, unsettled: Mask, bucket: int, bucket_s: float, params: F64, flags: NDArray[np.uint8], numbers: F64,
    medians: F64, new: Mask,
) -> None:  # fmt: skip
    warm_up = params[4]
    for row in range(len(words)):
        own, marks, came = words[row], whole[row], sums[row]
        usd = max(came[_COST], 0) / PICO_PER_USD
        longer = grown(own, came, alike[row], _OUTPUT)
        spent = usd * -np.expm1(-grown(own, came, alike[row], _PER_CALL))
        for place in range(COUNT):
            if not kept[row, place]:
                continue
            at = MEASURED + place * FIELDS
            is_volume = TABLE[place, 0] == _VOLUME
            if is_volume:
                if place != volumes[row]:
                    continue
                one = volume(own, marks, season[row], came, spends[row], place, bucket, bucket_s, unsettled[row])
                ready = bucket - marks[BORN] >= warm_up
            else:
                one = rate(own, came, alike[row], place, longer, spent if MONEY[place] else -1.0)
                born = marks[GROUP_BORN] if _LOST <= place <= _GAINED else marks[BORN]
                ready = bucket - born >= warm_up / 3
            ready = ready and own[at + WEIGHT] >= KNOWN and _worth_a_look(place, one[4])
            flags[row, place] = _alarm(own, marks, place, one, ready, watched[row, place], came[_PRICED] > 0, bucket, params)  # fmt: skip
            unit = PICO_PER_USD if place == _OF_COST else 1.0
            numbers[row, place, 1] = (one[4] if is_volume else one[4] + one[2] - one[3]) * unit
            if not one[0]:
                continue
            numbers[row, place, 0], numbers[row, place, 2] = one[2] * unit, one[10]
            moves = unsettled[row] and (is_volume or _LOST <= place <= _GAINED)
            if marks[at + SINCE] == 0 and not flags[row, place] & ENDED and not moves:
                _learn(own, place, one, own[at + SCORE] > params[0] / own[FACTOR] / 2)
        medians[row] = median(sketch[row])
        count(sketch[row], costs[row])
        new[row] = _go_on(own, marks, came, usd, bucket, bucket_s, params)


@kernel
def _worth_a_look(place: int, level: float) -> bool:
    """Whether a share can move as much as would be told."""
    if place == _LOST:
        return level >= _LEAST_SHARE
    return place != _GAINED or level <= 1 - 2 * LEAST[place]


@kernel
def _alarm(
    own: F32, marks: I32, place: int, one: Compared, ready: bool, watched: bool, priced: bool, bucket: int, params: F64
) -> int:  # fmt: skip
    """Add the bucket's evidence; what that makes of the alarm."""
    threshold, min_calls, min_usd, min_share, _, accept_after = params
    informed, calls, _, compared, level, evidence, most, _, _, _, more = one
    at = MEASURED + place * FIELDS
    is_volume = TABLE[place, 0] == _VOLUME
    need, since, gap = threshold / own[FACTOR], marks[at + SINCE], max(bucket - marks[SEEN], 1)
    score = own[at + SCORE]
    if gap > 1 and since == 0:
        score = max(score - _FORGOTTEN * (gap - 1), 0.0)
    if informed:
        if not is_volume:  # one call, or two, may be as odd as they like: what is said of calls rests on several
            most *= min(calls / (_SEVERAL * min_calls), 1.0)
        evidence = min(max(evidence, _LEAST_EVIDENCE * need), most * need)
    else:  # that nobody calls does not make an alarm's cause go away
        evidence = _SILENT if since == 0 or is_volume else 0.0
    score = min(max(score + evidence, 0.0), _KEPT * need) if ready else 0.0
    own[at + SCORE] = score
    own[at + RUN_CALLS] = own[at + RUN_CALLS] + calls if score > 0 else 0.0
    own[at + RUN_EXCESS] = own[at + RUN_EXCESS] + more if score > 0 else 0.0
    if since == 0:
        if not watched or score < need / 2:
            return 0
        floor = max(min_usd, min_share * own[DAILY]) / own[FACTOR]
        enough = own[at + RUN_CALLS] >= min_calls
        if place == _OF_COST:
            enough = own[at + RUN_EXCESS] >= floor
        elif place == _OF_CALLS:
            enough = own[at + RUN_EXCESS] >= 10 * min_calls
        elif place == _LOST:
            enough = own[at + RUN_CALLS] * level >= min_calls
        elif MONEY[place] and priced:  # at stake so far, or in a day at this rate
            at_stake = own[DAILY] * own[at + RUN_EXCESS] / max(own[at + RUN_CALLS] * own[EACH], 1e-9)
            enough = enough and max(own[at + RUN_EXCESS], at_stake) >= floor
        if score < need or not enough or evidence <= 0:
            return HOT
        marks[at + SINCE] = bucket
        return BEGAN
    accepted = bucket - since >= accept_after and informed
    if score >= need / 4 and gap <= accept_after and not accepted:
        return SHOWS if informed and evidence > 0 else 0
    marks[at + SINCE] = 0
    own[at + SCORE] = 0.0
    if score < need / 4 or gap > accept_after:
        return ENDED
    own[at + WEIGHT] = KNOWN / 5  # learnt anew from here
    own[at + LEVEL] = own[at + LEVEL] + compared if is_volume else compared
    return ENDED | ACCEPTED


@kernel
def _learn(own: F32, place: int, one: Compared, doubtful: bool) -> None:
    """What is usual moves a little towards the bucket, less where it may be a change."""
    _, _, _, compared, level, _, _, deviation, chance, root, _ = one
    at = MEASURED + place * FIELDS
    is_volume = TABLE[place, 0] == _VOLUME
    weight = own[at + WEIGHT]
    part = 1.0 / min(weight + 1.0, _MEMORY_VOLUME if is_volume else _MEMORY_RATE)
    if doubtful:
        part /= 4
    young = weight < KNOWN / 4
    bound = 10.0 if young else 2 * deviation
    if is_volume:
        own[at + LEVEL] += part * min(max(compared, -bound), bound)
        size = min(compared * compared, 16 * deviation * deviation) - chance
    else:
        own[at + LEVEL] = level + part * min(max(compared - level, -bound), bound)
        size = min(abs(compared - level), 10.0 if young else 4 * deviation) * root
    own[at + SPREAD] += part * (size - own[at + SPREAD])
    own[at + WEIGHT] = weight + 1


@kernel
def _go_on(own: F32, marks: I32, came: I64, usd: float, bucket: int, bucket_s: float, params: F64) -> bool:
    """What a series is known by beside its measures; whether it is new and worth a word now."""
    new = False
    if marks[SINCE_NEW] > 0:
        marks[NEW_CALLS] = min(marks[NEW_CALLS] + max(came[_SERVED], 0), _NEVER)
        own[NEW_USD] += usd
        if marks[NEW_CALLS] >= params[1] or own[NEW_USD] >= params[2]:
            new = True
            marks[SINCE_NEW] = 0
    own[DAILY] = own[DAILY] * np.exp(-max(bucket - marks[SEEN], 1) * bucket_s / 86400.0) + usd
    if came[_PRICED] > 0:
        each = usd / came[_PRICED]
        if own[EACH] > 0:
            part = min(float(came[_PRICED]) / _EACH_CALLS, 0.1)
            own[EACH] += part * (min(each, 3 * own[EACH]) - own[EACH])
        else:
            own[EACH] = each
    if came[_CALLS] > 0:
        marks[SEEN] = bucket
    return new
