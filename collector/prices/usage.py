"""The usage columns of a batch of calls as arrays, and the arithmetic that prices them.

One array per kind of token, so that what a batch does not have costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from collector import distinct
from collector.prices.book import Found
from collector.prices.rates import CACHE_COLUMNS, USAGE, Modality, Rates

I64 = NDArray[np.int64]
I16 = NDArray[np.int16]
Mask = NDArray[np.bool_]

#: What `price_status` says, by number.
STATUSES = ("priced", "reported", "unpriced_model", "missing_usage", "failed", "cached_replay", "impossible_usage")
PRICED, REPORTED, UNPRICED, MISSING, FAILED, REPLAY, IMPOSSIBLE = range(len(STATUSES))

#: What `price_assumptions` spells out, by bit.
(
    STANDARD_TIER,
    FIVE_MINUTES,
    NO_CACHE_COUNTS,
    ESTIMATED,
    REQUESTED_TIER,
    TIER_UNPRICED,
    TEXT_ONLY,
    REQUESTED_MODEL,
    HALF_TOLD,
    UNCLEAR,
    MAYBE_TWICE,
) = (1 << bit for bit in range(11))
ASSUMPTIONS = {
    STANDARD_TIER: "standard_tier",  # no report names the tier, and other tiers cost differently
    FIVE_MINUTES: "cache_writes_5m",  # no report says how long the cache writes live
    NO_CACHE_COUNTS: "nothing_cached",  # the dialect has no word for cached tokens
    ESTIMATED: "estimated_usage",  # somebody on the way estimated the counts
    REQUESTED_TIER: "requested_tier",  # only the tier that was asked for is known, not the one that served
    TIER_UNPRICED: "tier_at_standard_price",  # the tier has no price of its own
    TEXT_ONLY: "text_only",  # audio, images or video cost differently, and no report says how much of it there was
    REQUESTED_MODEL: "requested_model",  # the model that served has no price: the asked one's stands in
    HALF_TOLD: "half_of_usage",  # no report tells the output, or the input, and the model charges for it
    UNCLEAR: "unclear_usage",  # whether the counts hold what the cache or reasoning took part in is not known
    MAYBE_TWICE: "maybe_twice",  # its emitter leaves nothing by which another report of the same call could be known
}
#: Operations whose tokens are text unless a report says otherwise.
_OF_SOUND = ("transcription", "speech")
#: Operations that answer without tokens, though the model's list may name a price for them.
_NO_OUTPUT = ("embeddings", "rerank")
#: (part, whole): the part cannot be more.
_PARTS = (
    ("cache_write_1h_tokens", "cache_write_tokens"),
    ("input_audio_tokens", "input_tokens"),
    ("cache_audio_read_tokens", "cache_read_tokens"),
    ("cache_audio_read_tokens", "input_audio_tokens"),
    ("reasoning_tokens", "output_tokens"),
    ("output_audio_tokens", "output_tokens"),
)
_INDEX = {name: kind for kind, name in enumerate(USAGE)}
_INPUT, _OUTPUT, _READ, _WRITE, _HOUR = range(5)
_LARGEST = 4e18  # pico-USD; beyond it no int64 can hold what follows
_IMPOSSIBLE_FLAG, _NO_CACHE_FLAG, _ESTIMATED_FLAG, _UNCLEAR_FLAG, _TWICE_FLAG = 1, 2, 4, 8, 16
_NOTHING = Rates((), np.zeros((1, len(USAGE)), dtype=np.int64))


class Usages:
    """Usage and list cost of each call of a batch.

    found, code: what the book says of each distinct combination of names, and which one each row has
    counts:      per kind of USAGE one int64 array, unknown counted as 0; `present` says which are known
    cost:        int64 pico-USD at list price; 0 where `listed` is false: no price, or counts that no int64 can price
    tiers:       row → tier, where `solve` found the one that the reported cost gives away
    hours:       rows whose one-hour part of the cache writes `solve` found
    """

    def __init__(self, calls: pl.DataFrame, found: Sequence[Found | None], code: I64) -> None:
        self._calls, self._found, self._code = calls, found, code
        self._kinds = [kind for kind, name in enumerate(USAGE) if calls[name].null_count() < len(calls)]
        nothing = np.zeros(len(calls), dtype=np.int64), np.zeros(len(calls), dtype=np.bool_)
        read = [distinct.integers(calls[name]) if kind in self._kinds else nothing for kind, name in enumerate(USAGE)]
        self.counts: list[I64] = [values for values, _ in read]
        self.present: list[Mask] = [known for _, known in read]
        self.reported: I64 = distinct.integers(calls["reported_cost_pico"])[0]
        self._flags = _flags(calls["usage_flags"])
        self.tiers: dict[int, str] = {}
        self.hours: list[I64] = []
        self._priced = self._by_code([entry is not None for entry in found])
        self._rows, per_call = self._rates()
        self._overflow = self._too_large()
        if self._overflow is not None:
            self.counts = [np.where(self._overflow, 0, count) for count in self.counts]
        self.listed: Mask = self._priced if self._overflow is None else self._priced & ~self._overflow
        self.cost: I64 = per_call
        for kind in self._kinds:
            self.cost += self.counts[kind] * self._rows[kind]

    def _by_code(self, values: Sequence[bool]) -> Mask:
        mask: Mask = np.array(values, dtype=np.bool_)[self._code]
        return mask

    def _rates(self) -> tuple[dict[int, I64], I64]:
        """By kind the coefficients that hold for each row, and what each call costs besides."""
        rates = [entry.rates if entry else _NOTHING for entry in self._found]
        first = np.cumsum([0, *[len(rate.coefficients) for rate in rates]])[:-1][self._code]
        widest = max(len(rate.thresholds) for rate in rates)
        never = np.iinfo(np.int64).max
        for step in range(widest):
            starts = [rate.thresholds[step] if step < len(rate.thresholds) else never for rate in rates]
            first += self.counts[_INPUT] > np.array(starts, dtype=np.int64)[self._code]
        stacked = np.concatenate([rate.coefficients for rate in rates]).T
        wanted = {*self._kinds, _INPUT, _OUTPUT, *([_HOUR] if _WRITE in self._kinds else [])}
        rows = {kind: stacked[kind][first] for kind in wanted}
        return rows, np.array([rate.per_call for rate in rates], dtype=np.int64)[self._code]

    def _too_large(self) -> Mask | None:
        """Rows whose sum an int64 might not hold; None: none of them, which one look at the largest counts tells."""
        if sum(_size(self.counts[kind]) * _size(self._rows[kind]) for kind in self._kinds) < _LARGEST:
            return None
        sums, largest = np.zeros(len(self._code)), np.zeros(len(self._code))
        for kind in self._kinds:
            size = np.abs(self.counts[kind].astype(np.float64))
            sums += size * np.abs(self._rows[kind].astype(np.float64))
            np.maximum(largest, size, out=largest)
        too_large: Mask = (sums > _LARGEST) | (largest > _LARGEST)
        return too_large

    def savings(self) -> I64:
        """Pico-USD: what the tokens read from and written to a cache would have cost fresh, minus what they cost."""
        saved = np.zeros(len(self._code), dtype=np.int64)
        for kind in (_INDEX[name] for name in CACHE_COLUMNS):
            if kind in self._kinds:
                saved -= self.counts[kind] * self._rows[kind]
        return saved

    def judge(self) -> tuple[NDArray[np.int8], I16]:
        """Per row its status and the bits of what pricing it assumes."""
        calls = self._calls
        usage = self.present[_INPUT] | self.present[_OUTPUT]
        status = np.where(self._priced, PRICED, UNPRICED).astype(np.int8)
        unmeasured = [entry is not None and entry.rates.unmeasured for entry in self._found]
        if any(unmeasured):
            status[self._by_code(unmeasured)] = MISSING
        status[self._impossible()] = IMPOSSIBLE
        if not usage.all():
            status[~usage] = MISSING
            error = (calls["status"] == "Error").fill_null(False).to_numpy()
            status[~usage & error] = FAILED
        if calls["response_cache_hit"].null_count() < len(calls):
            status[calls["response_cache_hit"].fill_null(False).to_numpy()] = REPLAY
        return status, np.where(status == PRICED, self._assumed(), 0).astype(np.int16)

    def _impossible(self) -> Mask:
        counts, kinds = self.counts, self._kinds
        wrong: Mask = (self._flags & _IMPOSSIBLE_FLAG) != 0
        for kind in kinds:
            wrong |= counts[kind] < 0
        if _READ in kinds or _WRITE in kinds:
            wrong |= counts[_READ] + counts[_WRITE] > counts[_INPUT]
        for part, whole in _PARTS:
            if _INDEX[part] in kinds:
                wrong |= counts[_INDEX[part]] > counts[_INDEX[whole]]
        if self._overflow is not None:
            wrong |= self._overflow
        return wrong

    def _assumed(self) -> I16:
        calls, found = self._calls, self._found
        assumed = np.zeros(len(self._code), dtype=np.int16)
        tiered = [bool(_other_tiers(entry)) for entry in found]
        if any(tiered) and calls["service_tier"].null_count():
            untold = self._by_code(tiered) & ~distinct.valid(calls["service_tier"])
            assumed[untold] |= STANDARD_TIER
            asked = untold & distinct.valid(calls["requested_tier"])
            assumed[asked] ^= STANDARD_TIER | REQUESTED_TIER
        for bit, of_code in (
            (TIER_UNPRICED, [entry is not None and not entry.tier_priced for entry in found]),
            (REQUESTED_MODEL, [entry is not None and entry.asked_only for entry in found]),
        ):
            if any(of_code):
                assumed[self._by_code(of_code)] |= bit
        assumed[self._mixed()] |= TEXT_ONLY
        if _WRITE in self._kinds:
            five = (self.counts[_WRITE] > 0) & ~self.present[_HOUR] & (self._rows[_HOUR] != 0)
            assumed[five] |= FIVE_MINUTES
        for kind in (_INPUT, _OUTPUT):
            if not self.present[kind].all():
                half = ~self.present[kind] & (self._rows[kind] != 0)
                if kind == _OUTPUT and half.any():
                    half &= ~calls["operation"].is_in(_NO_OUTPUT).fill_null(False).to_numpy()
                assumed[half] |= HALF_TOLD
        assumed[(self._flags & _NO_CACHE_FLAG) != 0] |= NO_CACHE_COUNTS
        assumed[(self._flags & _ESTIMATED_FLAG) != 0] |= ESTIMATED
        assumed[(self._flags & _UNCLEAR_FLAG) != 0] |= UNCLEAR
        assumed[(self._flags & _TWICE_FLAG) != 0] |= MAYBE_TWICE
        return assumed

    def _mixed(self) -> Mask:
        """Rows whose price depends on how much was audio, image or video, which no report says."""
        modality = np.array([entry.rates.modality if entry else Modality.TEXT for entry in self._found], dtype=np.int8)
        if not modality.any():
            return np.zeros(len(self._code), dtype=np.bool_)
        kind = modality[self._code]
        audio_in = self.present[_INDEX["input_audio_tokens"]]
        audio_out = self.present[_INDEX["output_audio_tokens"]]
        sound = self._calls["operation"].is_in(_OF_SOUND).fill_null(False).to_numpy()
        unknown: Mask = (
            ((kind == Modality.AUDIO_IN) & sound & ~audio_in)
            | ((kind == Modality.AUDIO) & ~(audio_in & audio_out))
            | (kind == Modality.OTHER)
        )
        return unknown

    def confirm(self, rows: Mask) -> None:
        """The reported cost says what these rows' own does: their cache writes were for five minutes."""
        self._set_hours(np.flatnonzero(rows & ~self.present[_HOUR] & (self.counts[_WRITE] > 0)), 0)

    def solve(self, rows: I64) -> I64:
        """Of rows whose reported cost differs from ours, those for which a tier, or a one-hour part of the cache writes,
        makes the two equal; written down. Only whole tokens within the bounds count as a solution."""
        solved = [rows[:0]]
        for code in np.unique(self._code[rows]):
            entry, left = self._found[code], rows[self._code[rows] == code]
            if entry is None:
                continue
            choices: list[tuple[str | None, Rates]] = [(None, entry.rates)]
            if self._calls["service_tier"][int(left[0])] is None:
                choices += _other_tiers(entry).items()
            for with_hour in (False, True):
                for tier, rates in choices:
                    hit, hour = self._explained(left, rates, with_hour)
                    self._set_hours(left[hit], hour[hit])
                    self.cost[left[hit]] = self.reported[left[hit]]
                    if tier is not None:
                        self.tiers.update(dict.fromkeys(left[hit].tolist(), tier))
                    solved.append(left[hit])
                    left = left[~hit]
        return np.concatenate(solved)

    def _explained(self, rows: I64, rates: Rates, with_hour: bool) -> tuple[Mask, I64]:
        """Which rows' reported cost these rates explain, and with how many one-hour tokens."""
        counts = np.stack([count[rows] for count in self.counts])
        segment = (counts[_INPUT][:, None] > np.array(rates.thresholds, dtype=np.int64)).sum(axis=1)
        rest = self.reported[rows] - rates.per_call - (counts * rates.coefficients.T[:, segment]).sum(axis=0)
        if not with_hour:
            return rest == 0, np.zeros_like(rest)
        surcharge = rates.one_hour_surcharge[segment]
        hour, over = np.divmod(rest, np.where(surcharge == 0, 1, surcharge))
        open_ = ~self.present[_HOUR][rows] & (surcharge != 0) & (over == 0)
        return open_ & (hour > 0) & (hour <= counts[_WRITE]), hour

    def _set_hours(self, rows: I64, hours: I64 | int) -> None:
        """Write the one-hour part down, where there are cache writes of which none is told."""
        told = self.present[_HOUR][rows] | (self.counts[_WRITE][rows] == 0)
        if told.all():
            return
        if not self.hours:  # what was read is the frame's own, or shared
            self.counts[_HOUR], self.present[_HOUR] = self.counts[_HOUR].copy(), self.present[_HOUR].copy()
        self.counts[_HOUR][rows[~told]] = hours if isinstance(hours, int) else hours[~told]
        self.present[_HOUR][rows[~told]] = True
        self.hours.append(rows[~told])


def _size(values: I64) -> float:
    """The largest magnitude among them."""
    return max(float(values.max()), -float(values.min()))


def _other_tiers(entry: Found | None) -> dict[str, Rates]:
    """Tiers that a call of which none is told may have had. Batch jobs make no spans, so a call seen was no batch job."""
    return {tier: rates for tier, rates in entry.tiers.items() if tier != "batch"} if entry else {}


def _flags(column: pl.Series) -> NDArray[np.int8]:
    """What the usage flags of each row mean for its price, as bits."""
    if column.null_count() == len(column):
        return np.zeros(len(column), dtype=np.int8)
    codes, kinds = distinct.lists(column)
    bits = [
        any(flag.startswith("impossible") for flag in flags) * _IMPOSSIBLE_FLAG
        | any(flag == "no_cache_counts" for flag in flags) * _NO_CACHE_FLAG
        | any(flag.startswith("estimated") for flag in flags) * _ESTIMATED_FLAG
        | any(flag.startswith(("input_unclear", "output_unclear")) for flag in flags) * _UNCLEAR_FLAG
        | any(flag == "maybe_twice" for flag in flags) * _TWICE_FLAG
        for flags in kinds
    ]
    return np.array([*bits, 0], dtype=np.int8)[codes]
