"""Prices that the user writes: additions to the book, and corrections of it."""

from __future__ import annotations

import fnmatch
from datetime import date
from decimal import Decimal
from typing import Annotated

from genai_prices.types import ModelPrice, Tier, TieredPrices
from pydantic import Field, model_validator

from config.types import StrictModel

Price = Annotated[Decimal, Field(ge=0)]


class TierStart(StrictModel):
    """One step of a price that rises."""

    start: Annotated[int, Field(gt=0)]
    """Input tokens above which the price holds, for all tokens of the call."""
    price: Price
    """USD per million tokens."""


class Tiered(StrictModel):
    """A price that rises with the length of the prompt."""

    base: Price
    """USD per million tokens, up to the first start."""
    tiers: list[TierStart]
    """Higher prices, by where they start."""


class PriceList(StrictModel):
    """USD per million tokens, by kind. A kind without a price of its own costs what the wider kind costs."""

    input_mtok: Price | Tiered | None = None
    """All input."""
    output_mtok: Price | Tiered | None = None
    """All output."""
    cache_read_mtok: Price | Tiered | None = None
    """Input read from the provider's cache."""
    cache_write_mtok: Price | Tiered | None = None
    """Input written to the provider's cache, for five minutes where the lifetimes differ."""
    cache_write_1h_mtok: Price | Tiered | None = None
    """Input written to the provider's cache for an hour."""
    input_audio_mtok: Price | Tiered | None = None
    """Audio in."""
    cache_audio_read_mtok: Price | Tiered | None = None
    """Audio read from the cache."""
    output_audio_mtok: Price | Tiered | None = None
    """Audio out."""
    output_reasoning_mtok: Price | Tiered | None = None
    """Output spent on reasoning, where it has a price of its own."""
    requests_kcount: Price | None = None
    """Per thousand calls, whatever their length."""

    def model_price(self) -> ModelPrice:
        """The same as genai-prices' own type."""
        prices: dict[str, Decimal | TieredPrices | None] = {}
        for name in PriceList.model_fields:
            value = getattr(self, name)
            if isinstance(value, Tiered):
                value = TieredPrices(value.base, [Tier(tier.start, tier.price) for tier in value.tiers])
            if value is not None:
                prices[name] = value
        return ModelPrice(**prices)


class Override(PriceList):
    """One price of the user's own. Wins over the book; among overrides the last that is valid and matches wins."""

    model: str
    """Model name: exact, or with `*` and `?` (`my-llama-*`). Case does not matter."""
    provider: str | None = None
    """Only for this provider (OpenTelemetry's spelling, such as `azure.ai.openai`)."""
    valid_from: date | None = None
    """First UTC day on which the price holds; none: always."""
    valid_until: date | None = None
    """First UTC day on which it no longer holds."""
    tier_multipliers: dict[str, Price] = {}
    """Factor on all prices by served tier, such as `{batch: 0.5, priority: 2}`."""

    @model_validator(mode="after")
    def _priced(self) -> Override:
        if all(getattr(self, name) is None for name in PriceList.model_fields):
            raise ValueError("an override needs at least one price, such as input_mtok; write 0 for a free model")
        if self.valid_from and self.valid_until and self.valid_from >= self.valid_until:
            raise ValueError("valid_until must be after valid_from")
        return self

    def holds(self, day: date) -> bool:
        """Whether it is in force on that UTC day."""
        return (self.valid_from is None or day >= self.valid_from) and (
            self.valid_until is None or day < self.valid_until
        )

    def matches(self, model: str, provider: str | None, day: date) -> bool:
        """Whether this override speaks for `model` of `provider` on that UTC day."""
        if self.provider is not None and (provider or "").lower() != self.provider.lower():
            return False
        return self.holds(day) and fnmatch.fnmatchcase(model.lower(), self.model.lower())
