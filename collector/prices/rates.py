"""A model's prices as whole pico-dollars per token, per usage column.

Price lists name overlapping kinds: all input, the part read from a cache, the audio part of that. genai-prices
charges each token at its most specific price. For a fixed list of priced kinds that is linear in the counts, so it is worked
out once, as one coefficient per usage column: cost = per_call + counts · coefficients. A tier ("above 200,000 input
tokens everything costs double") chooses another row of coefficients.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from functools import cached_property

import numpy as np
from genai_prices.types import ModelPrice, TieredPrices
from genai_prices.units import UnitDef, _get_registry
from numpy.typing import NDArray

from collector.columns import PICO_PER_USD

#: Usage column → genai-prices' usage key, in the order of a coefficient row.
USAGE_KEYS: Mapping[str, str] = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_tokens": "cache_read_tokens",
    "cache_write_tokens": "cache_write_tokens",
    "cache_write_1h_tokens": "cache_write_1h_tokens",
    "reasoning_tokens": "output_reasoning_tokens",
    "input_audio_tokens": "input_audio_tokens",
    "cache_audio_read_tokens": "cache_audio_read_tokens",
    "output_audio_tokens": "output_audio_tokens",
}
USAGE: tuple[str, ...] = tuple(USAGE_KEYS)
#: The columns that a provider's prompt cache makes cheaper or dearer.
CACHE_COLUMNS = ("cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens")
_KEY_INDEX = {key: i for i, key in enumerate(USAGE_KEYS.values())}


#: Kinds that a price list may charge by and that no usage column counts, apart from tools' fees.
_UNMEASURED = frozenset({"durations", "characters", "messages", "pixels", "document_pages", "rerank"})


class Modality(IntEnum):
    """What of a model's price depends on how much was not text."""

    TEXT = 0  # nothing
    AUDIO_IN = 1  # audio that goes in
    AUDIO = 2  # audio that goes in and comes out
    OTHER = 3  # images, video or citations, which no usage column counts


@dataclass(frozen=True)
class Rates:
    """Rates in pico-USD.

    thresholds:   input token counts above which the next row of coefficients holds, rising; n - 1 of them
    coefficients: int64 [n, len(USAGE)], pico-USD per token
    per_call:     pico-USD that every call costs besides
    modality:     what of the price depends on how much was not text
    unmeasured:   the list charges only by what no usage column counts (seconds, characters, pages): no cost can be told
    """

    thresholds: tuple[int, ...]
    coefficients: NDArray[np.int64]
    per_call: int = 0
    modality: Modality = Modality.TEXT
    unmeasured: bool = False

    @classmethod
    def from_model_price(cls, price: ModelPrice) -> Rates:
        """Rates of a genai-prices `ModelPrice`. Rates that are no whole pico-dollars are rounded half to even."""
        units = _get_registry().units
        priced = [(unit, value) for unit in units.values() if (value := getattr(price, unit.price_key)) is not None]
        tokens = [(unit, value) for unit, value in priced if unit.dimensions.get("family") == "tokens"]
        starts = {tier.start for _, value in tokens if isinstance(value, TieredPrices) for tier in value.tiers}
        thresholds = tuple(sorted(starts))
        leaves = _leaves([unit for unit, _ in tokens])
        rows = [_row(tokens, leaves, above) for above in (-1, *thresholds)]
        per_call = sum(
            (_pico(_at(value, -1), unit.per) for unit, value in priced if unit.usage_key == "requests"), Fraction(0)
        )
        by_other = any(unit.dimensions.get("family") in _UNMEASURED for unit, _ in priced)
        return cls(
            thresholds,
            np.array([[round(c) for c in row] for row in rows], dtype=np.int64),
            round(per_call),
            Modality.OTHER if by_other else _modality({unit.usage_key for unit, _ in tokens}),
            by_other and not tokens and not per_call,
        )

    def scaled(self, factor: Fraction) -> Rates:
        """The same rates times `factor`: what a user's tier multiplier makes of them."""
        scaled = [[round(int(c) * factor) for c in row] for row in self.coefficients]
        coefficients = np.array(scaled, dtype=np.int64)
        return replace(self, coefficients=coefficients, per_call=round(self.per_call * factor))

    @cached_property
    def one_hour_surcharge(self) -> NDArray[np.int64]:
        """Per row of coefficients: what a cache write that lives an hour costs more than one of five minutes."""
        column: NDArray[np.int64] = self.coefficients[:, USAGE.index("cache_write_1h_tokens")]
        return column

    def cost(self, usage: Mapping[str, int | None]) -> int:
        """Pico-USD of one usage; absent counts count as none. Exact."""
        counts = [usage.get(name) or 0 for name in USAGE]
        row = self.coefficients[self.segment(counts[0])]
        return self.per_call + sum(count * int(rate) for count, rate in zip(counts, row, strict=True))

    def segment(self, input_tokens: int) -> int:
        """Which row of coefficients holds for a call with so much input."""
        return sum(input_tokens > start for start in self.thresholds)


def _modality(priced: set[str]) -> Modality:
    if any(part in key for key in priced for part in ("image", "video", "citation")):
        return Modality.OTHER
    if "output_audio_tokens" in priced:
        return Modality.AUDIO
    return Modality.AUDIO_IN if "input_audio_tokens" in priced else Modality.TEXT


def _leaves(units: list[UnitDef]) -> dict[str, NDArray[np.int64]]:
    """Per priced unit, as a vector over usage columns: its own count minus what more specific priced units take of it."""
    leaves: dict[str, NDArray[np.int64]] = {}
    done: list[UnitDef] = []
    for unit in sorted(units, key=lambda unit: (-len(unit.dimensions), unit.usage_key)):
        own = np.zeros(len(USAGE), dtype=np.int64)
        if unit.usage_key in _KEY_INDEX:
            own[_KEY_INDEX[unit.usage_key]] = 1
        for other in done:
            if unit.dimensions.items() <= other.dimensions.items():
                own = own - leaves[other.usage_key]
        leaves[unit.usage_key] = own
        done.append(unit)
    return leaves


def _row(
    tokens: list[tuple[UnitDef, Decimal | TieredPrices]], leaves: Mapping[str, NDArray[np.int64]], above: int
) -> list[Fraction]:
    total = [Fraction(0)] * len(USAGE)
    for unit, price in tokens:
        rate = _pico(_at(price, above), unit.per)
        for i, weight in enumerate(leaves[unit.usage_key]):
            if weight:
                total[i] += rate * int(weight)
    return total


def _at(price: Decimal | TieredPrices, above: int) -> Decimal:
    """The price once the input is over `above` tokens."""
    if isinstance(price, TieredPrices):
        reached = [tier.price for tier in price.tiers if tier.start <= above]
        return reached[-1] if reached else price.base
    return price


def _pico(usd: Decimal, per: int) -> Fraction:
    return Fraction(usd) * PICO_PER_USD / per
