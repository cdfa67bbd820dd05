"""The usage columns of a batch of calls as arrays, and the arithmetic that prices them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from collector.prices.book import Found
from collector.prices.rates import CACHE_COLUMNS, USAGE, Rates

I64 = NDArray[np.int64]
Mask = NDArray[np.bool_]

#: What `price_status` says, by number.
STATUSES = ("priced", "reported", "unpriced_model", "missing_usage", "failed", "cached_replay", "impossible_usage")
PRICED, REPORTED, UNPRICED, MISSING, FAILED, REPLAY, IMPOSSIBLE = range(len(STATUSES))

#: What `price_assumptions` spells out, by bit.
STANDARD_TIER, FIVE_MINUTES, NO_CACHE_COUNTS, ESTIMATED, REQUESTED_TIER, TIER_UNPRICED = 1, 2, 4, 8, 16, 32
ASSUMPTIONS = {
    STANDARD_TIER: "standard_tier",
    FIVE_MINUTES: "cache_writes_5m",
    NO_CACHE_COUNTS: "nothing_cached",
    ESTIMATED: "estimated_usage",
    REQUESTED_TIER: "requested_tier",
    TIER_UNPRICED: "tier_at_standard_price",
}
_HOUR = USAGE.index("cache_write_1h_tokens")
_NOTHING = Rates((), np.zeros((1, len(USAGE)), dtype=np.int64))


class Usages:
    """Usage, price and list cost of each call of a batch.

    found, code: what the book says of each distinct combination of names, and which one each row has
    counts:      int64 [rows, len(USAGE)], unknown counted as 0; `present` says which are known
    cost:        int64 pico-USD at list price; 0 where `listed` is false: no price, or counts that no int64 can price
    solved_tiers: row → tier, where `solve` found the one that the reported cost gives away
    """

    def __init__(self, calls: pl.DataFrame, found: Sequence[Found | None], code: I64) -> None:
        usage = [calls[name] for name in USAGE]
        self.counts: I64 = np.column_stack([column.fill_null(0).to_numpy() for column in usage])
        self.present: Mask = np.column_stack([column.is_not_null().to_numpy() for column in usage])
        self.reported: I64 = calls["reported_cost_pico"].fill_null(0).to_numpy()
        self.solved_tiers: dict[int, str] = {}
        self._untold: Mask = calls["service_tier"].is_null().to_numpy()
        self._requested: Mask = calls["requested_tier"].is_not_null().to_numpy()
        self._error: Mask = (calls["status"] == "Error").fill_null(False).to_numpy()
        self._replayed: Mask = calls["response_cache_hit"].fill_null(False).to_numpy()
        flags = calls["usage_flags"].list.join(",").fill_null("")
        bits = {text: _flag_bits(text) for text in flags.unique()}
        self._flags: NDArray[np.int8] = np.array([bits[text] for text in flags], dtype=np.int8)
        self._found, self._code = found, code
        self._rows, per_call = self._rates()
        sums = (np.abs(self.counts.astype(np.float64)) * np.abs(self._rows)).sum(axis=1)
        self._overflow: Mask = sums > 9e18
        self._safe: I64 = np.where(self._overflow[:, None], 0, self.counts)
        self.listed: Mask = self._by_code([entry is not None for entry in found]) & ~self._overflow
        self.cost: I64 = per_call + (self._safe * self._rows).sum(axis=1)

    def _by_code(self, values: Sequence[bool]) -> Mask:
        mask: Mask = np.array(values, dtype=np.bool_)[self._code]
        return mask

    def _rates(self) -> tuple[I64, I64]:
        """Per row, the coefficients that hold for it, and what each call costs besides."""
        rates = [entry.rates if entry else _NOTHING for entry in self._found]
        widest = max(len(rate.thresholds) for rate in rates)
        never = np.iinfo(np.int64).max
        padded = [[*rate.thresholds, *[never] * (widest - len(rate.thresholds))] for rate in rates]
        thresholds = np.array(padded, dtype=np.int64).reshape(len(rates), widest)
        start = np.cumsum([0, *[len(rate.coefficients) for rate in rates]])[:-1]
        stacked = np.concatenate([rate.coefficients for rate in rates])
        segment = (self.counts[:, :1] > thresholds[self._code]).sum(axis=1)
        per_call = np.array([rate.per_call for rate in rates], dtype=np.int64)
        return stacked[start[self._code] + segment], per_call[self._code]

    def savings(self) -> I64:
        """Pico-USD: what the tokens read from and written to a cache would have cost fresh, minus what they cost."""
        cached = [USAGE.index(name) for name in CACHE_COLUMNS]
        saved: I64 = -(self._safe[:, cached] * self._rows[:, cached]).sum(axis=1)
        return saved

    def judge(self) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
        """Per row its status and the bits of what pricing it assumes."""
        has, tokens = self.present, dict(zip(USAGE, self.counts.T, strict=True))
        usage = has[:, 0] | has[:, 1]
        write = tokens["cache_write_tokens"]
        impossible = (
            (self.counts < 0).any(axis=1)
            | (tokens["cache_read_tokens"] + write > tokens["input_tokens"])
            | (tokens["cache_write_1h_tokens"] > write)
            | (tokens["input_audio_tokens"] > tokens["input_tokens"])
            | (tokens["cache_audio_read_tokens"] > tokens["cache_read_tokens"])
            | (tokens["cache_audio_read_tokens"] > tokens["input_audio_tokens"])
            | (tokens["reasoning_tokens"] > tokens["output_tokens"])
            | (tokens["output_audio_tokens"] > tokens["output_tokens"])
            | ((self._flags & 1) != 0)
            | self._overflow
        )
        priced = self._by_code([entry is not None for entry in self._found])
        status = np.select(
            [self._replayed, ~usage & self._error, ~usage, impossible, ~priced],
            [REPLAY, FAILED, MISSING, IMPOSSIBLE, UNPRICED],
            PRICED,
        ).astype(np.int8)
        tiered = self._untold & self._by_code([bool(_other_tiers(entry)) for entry in self._found])
        assumed = (
            np.where(tiered, np.where(self._requested, REQUESTED_TIER, STANDARD_TIER), 0)
            | np.where(
                self._by_code([entry is not None and not entry.tier_priced for entry in self._found]), TIER_UNPRICED, 0
            )
            | np.where((write > 0) & ~has[:, _HOUR] & (self._rows[:, _HOUR] != 0), FIVE_MINUTES, 0)
            | np.where((self._flags & 2) != 0, NO_CACHE_COUNTS, 0)
            | np.where((self._flags & 4) != 0, ESTIMATED, 0)
        )
        return status, np.where(status == PRICED, assumed, 0).astype(np.int8)

    def solve(self, row: int) -> bool:
        """Find the tier, or the one-hour part of the cache writes, that makes the reported cost, and write it down.

        Only whole tokens within the bounds count as a solution; false: nothing explains the reported cost.
        """
        entry = self._found[self._code[row]]
        if entry is None:
            return False
        usage = {name: int(count) for name, count in zip(USAGE, self.counts[row], strict=True)}
        choices: list[tuple[str | None, Rates]] = [(None, entry.rates)]
        if self._untold[row]:
            choices += _other_tiers(entry).items()
        for with_hour in (False, True):
            for tier, rates in choices:
                hour = self._one_hour_part(row, usage, rates) if with_hour else 0
                if hour is None or (not with_hour and rates.cost(usage) != self.reported[row]):
                    continue
                if tier is not None:
                    self.solved_tiers[row] = tier
                if not self.present[row, _HOUR] and usage["cache_write_tokens"]:
                    self.counts[row, _HOUR], self.present[row, _HOUR] = hour, True
                self.cost[row] = self.reported[row]
                return True
        return False

    def _one_hour_part(self, row: int, usage: dict[str, int], rates: Rates) -> int | None:
        surcharge = int(rates.one_hour_surcharge[rates.segment(usage["input_tokens"])])
        if self.present[row, _HOUR] or surcharge == 0:
            return None
        hour, rest = divmod(int(self.reported[row]) - rates.cost(usage), surcharge)
        return hour if rest == 0 and 0 < hour <= usage["cache_write_tokens"] else None


def _other_tiers(entry: Found | None) -> dict[str, Rates]:
    """Tiers that a call of which none is told may have had. Batch jobs make no spans, so a call seen was no batch job."""
    return {tier: rates for tier, rates in entry.tiers.items() if tier != "batch"} if entry else {}


def _flag_bits(text: str) -> int:
    flags = text.split(",") if text else []
    return (
        any(flag.startswith("impossible") for flag in flags) * 1
        | any(flag == "no_cache_counts" for flag in flags) * 2
        | any(flag.startswith("estimated") for flag in flags) * 4
    )
