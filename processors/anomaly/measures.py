"""The measures: which of a bucket's sums are compared, on which scale, in which direction, and how it is said.

A bucket's sums are whole numbers, so that they depend neither on the order of calls nor on where batches end. What is
compared as a mean of logarithms is summed in thousandths.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from collector.columns import PICO_PER_USD
from config.types import show_duration

#: Logarithms are summed in units of a thousandth.
MILLI = 1000


class Sum(IntEnum):
    """What is summed of the calls of a bucket. Each logarithm has a count of the calls that had it."""

    CALLS = 0
    COST = 1  # pico-USD
    PRICED = 2
    LOG_COST = 3
    LOG_INPUT = 4
    ASKED = 5
    LOG_OUTPUT = 6
    ANSWERED = 7
    LOG_DURATION = 8
    TIMED = 9
    LOG_TTFT = 10
    STREAMED = 11
    LOG_SPEED = 12
    SPED = 13
    ERRORS = 14
    REFUSALS = 15
    CACHEABLE = 16  # input tokens of calls that say what was read from a cache
    CACHE_READ = 17
    SERVED = 18  # calls that were answered
    GROUP = 19  # calls, refused ones apart, of the series beside this one, with it: of the same app, say; filled when the bucket is judged


SUMS = len(Sum)


class Scale(IntEnum):
    """How values of a measure are compared."""

    VOLUME = 0  # a sum, with the season
    LOG = 1  # a mean of logarithms
    SHARE = 2  # a part of a whole


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure.

    total, of: sums whose quotient it is; of a volume: the sum
    sign:      1 where more is bad, -1 where less is
    least:     smallest change worth a word: of a logarithm, or of a share
    rank:      which of several signs of one incident is told: the lowest, which is nearest to the cause
    follows:   measures that move as a consequence of it
    """

    name: str
    words: str
    scale: Scale
    total: Sum
    of: Sum
    sign: int
    least: float
    rank: int
    unit: str
    follows: tuple[str, ...] = ()

    @property
    def alike(self) -> bool:
        """Whether it can be compared call by call with what such calls usually take. What fails names its model otherwise than what
        is answered, so rates of failures cannot."""
        return self.scale is Scale.LOG or self.total is Sum.CACHE_READ


MEASURES: tuple[Measure, ...] = (
    Measure("cost", "spends", Scale.VOLUME, Sum.COST, Sum.CALLS, 1, 1.1, 6, "USD"),
    Measure("calls", "makes", Scale.VOLUME, Sum.CALLS, Sum.CALLS, 1, 1.1, 5, "calls", ("cost", "latency", "time_to_first_token", "error_rate")),
    Measure("cost_per_call", "cost per call", Scale.LOG, Sum.LOG_COST, Sum.PRICED, 1, 0.3, 4, "USD", ("cost",)),
    Measure("input_tokens", "input of a call", Scale.LOG, Sum.LOG_INPUT, Sum.ASKED, 1, 0.5, 3, "tokens", ("cost", "cost_per_call", "latency", "time_to_first_token", "cache_hit_rate")),
    Measure("output_tokens", "output of a call", Scale.LOG, Sum.LOG_OUTPUT, Sum.ANSWERED, 1, 0.5, 3, "tokens", ("cost", "cost_per_call", "latency")),
    Measure("latency", "duration of calls", Scale.LOG, Sum.LOG_DURATION, Sum.TIMED, 1, 0.5, 2, "s", ("time_to_first_token", "tokens_per_second", "error_rate")),
    Measure("time_to_first_token", "time to the first token", Scale.LOG, Sum.LOG_TTFT, Sum.STREAMED, 1, 0.5, 2, "s", ("latency",)),
    Measure("tokens_per_second", "output per second", Scale.LOG, Sum.LOG_SPEED, Sum.SPED, -1, 0.5, 2, "tokens/s", ("latency",)),
    Measure("error_rate", "share of calls that fail", Scale.SHARE, Sum.ERRORS, Sum.CALLS, 1, 0.08, 1, "share", ("calls", "cost", "latency", "share_lost")),
    Measure("refusal_rate", "share of calls that are refused", Scale.SHARE, Sum.REFUSALS, Sum.CALLS, 1, 0.08, 0, "share", ("calls", "error_rate", "latency")),
    Measure("cache_hit_rate", "share of input read from the cache", Scale.SHARE, Sum.CACHE_READ, Sum.CACHEABLE, -1, 0.15, 0, "share", ("cost", "cost_per_call", "latency", "time_to_first_token")),
    Measure("share_lost", "share of the calls", Scale.SHARE, Sum.SERVED, Sum.GROUP, -1, 0.1, 0, "share", ("calls", "latency", "error_rate")),
    Measure("share_gained", "share of the calls", Scale.SHARE, Sum.SERVED, Sum.GROUP, 1, 0.2, 3, "share", ("cost", "calls", "cost_per_call", "input_tokens", "output_tokens", "latency", "time_to_first_token", "cache_hit_rate", "error_rate")),
)  # fmt: skip
COUNT = len(MEASURES)
PLACES = {measure.name: place for place, measure in enumerate(MEASURES)}
NAMES = tuple(PLACES)

#: What the kernel knows of them, a row each: scale, total, of, sign.
TABLE = np.array([(m.scale, m.total, m.of, m.sign) for m in MEASURES], np.int64)
LEAST = np.array([m.least for m in MEASURES], np.float64)
#: Measures whose excess is money.
MONEY = np.array(
    [name in {"cost", "cost_per_call", "input_tokens", "output_tokens", "cache_hit_rate"} for name in NAMES]
)
_SCALES = {"USD": 1 / PICO_PER_USD, "s": 1e-9, "tokens": 1.0, "tokens/s": 1e9}


def shown(measure: Measure, value: float) -> float:
    """A value as it is compared, in the measure's unit."""
    if measure.scale is Scale.LOG:
        return float(np.exp(min(value, 60.0))) * _SCALES[measure.unit]
    return value / PICO_PER_USD if measure.unit == "USD" else value


def told(unit: str, amount: float) -> str:
    """An amount in a sentence."""
    if unit == "USD":
        return f"{amount:,.2f} USD" if abs(amount) >= 1 else f"{amount:.3g} USD"
    if unit == "share":
        return f"{100 * amount:.0f}%" if amount >= 0.1 else f"{100 * amount:.1f}%"
    if unit == "s":
        return f"{amount:,.0f} s" if amount >= 100 else f"{amount:.3g} s"
    return f"{amount:,.0f} {unit}" if amount >= 100 else f"{amount:.3g} {unit}"


def lasts(seconds: float) -> str:
    """A time in a sentence: `5m`, `24h`."""
    return show_duration(seconds)
