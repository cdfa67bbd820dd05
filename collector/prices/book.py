"""The price book: genai-prices, offline, with the user's overrides before it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fractions import Fraction
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import yaml
from genai_prices.data_snapshot import DataSnapshot, find_provider_by_id, get_snapshot
from genai_prices.types import ModelInfo, Provider

from collector.prices.overrides import Override
from collector.prices.rates import Rates

#: Tiers under which a call is billed as if no tier had been named.
STANDARD_TIERS = frozenset({"default", "standard", "auto", "standard_only", "on_demand", "on-demand"})
_REGION_PREFIX = re.compile(r"^(?:us|eu|apac|jp|au|ca|us-gov|global)\.(?=[a-z0-9]+\.)")
#: Bedrock\'s ids name the maker: `anthropic.claude-…`, `amazon.nova-…`.
_VENDOR_PREFIX = re.compile(r"^(?:amazon|anthropic|meta|mistral|cohere|ai21|deepseek)\.(?=[a-z])")
_PACKAGE = version("genai-prices")  # asked for at every price: looked up once


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of the book: one distinct combination of a call's names.

    models: upstream, served and asked name, best first; None where a report has none
    tier:   the tier that served the call, None: not told
    at:     start of the call, UTC
    """

    models: tuple[str | None, ...]
    provider: str | None
    tier: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Found:
    """The rates, and why these.

    source:       `book provider/model`, as the ledger's PriceSource column shows it
    model:        the name, of those asked for, that has the price
    tiers:        rates by tier that this model could also have been served under, where they differ from `rates`
    tier_priced:  false where a tier was named for which there is no price: the standard one stands in
    asked_only:   the price is the asked model's; the one that served is known by another name, which has no price
    """

    rates: Rates
    source: str
    model: str
    provider: str
    tiers: dict[str, Rates]
    tier_priced: bool = True
    asked_only: bool = False


@cache
def _names() -> dict[str, Any]:
    text = files("collector.prices").joinpath("providers.yaml").read_text(encoding="utf-8")
    data: dict[str, Any] = yaml.safe_load(text)
    return data


class Book:
    """Looks prices up. Pure but for the snapshot in force, which an opt-in refresh may exchange."""

    def __init__(self, overrides: Sequence[Override] = (), snapshot: DataSnapshot | None = None) -> None:
        self.overrides = tuple(overrides)
        self._snapshot = snapshot

    @property
    def snapshot(self) -> DataSnapshot:
        """genai-prices' data in force."""
        return self._snapshot or get_snapshot()

    @property
    def version(self) -> str:
        """Which book this is: package version, or when it was refreshed."""
        snapshot = self.snapshot
        if snapshot.from_auto_update:
            return f"genai-prices {snapshot.timestamp:%Y-%m-%dT%H:%M}"
        return f"genai-prices {_PACKAGE}"

    def find(self, wanted: Wanted) -> tuple[Found | None, tuple[str, ...]]:
        """The first of the wanted models that has a price, and the steps taken. None: nothing prices it.

        For each model: an override; the provider that the call names, if it lists the whole name (Groq sells
        `openai/gpt-oss-120b`); the provider that the name itself names (`openai/gpt-4o`); the provider that the call
        names; the maker that the name suggests (never for self-hosted providers).
        """
        steps: list[str] = []
        for model in dict.fromkeys(name for name in wanted.models if name):
            found = self._override(model, wanted, steps) or self._booked(model, wanted, steps)
            if found:
                asked_only = model == wanted.models[-1] and any(name and name != model for name in wanted.models[:-1])
                return replace(found, asked_only=asked_only), tuple(steps)
        return None, tuple(steps)

    def _override(self, model: str, wanted: Wanted, steps: list[str]) -> Found | None:
        names = [model, model.split("/", 1)[1]] if "/" in model else [model]
        for override in reversed(self.overrides):
            if not any(override.matches(name, wanted.provider, wanted.at.date()) for name in names):
                continue
            steps.append(f"{model}: override for {override.model!r}")
            standard = Rates.from_model_price(override.model_price())
            by_tier = {
                tier.lower(): standard.scaled(Fraction(factor)) for tier, factor in override.tier_multipliers.items()
            }
            rates = by_tier.get(wanted.tier or "", standard)
            others = {
                tier: other for tier, other in {"default": standard, **by_tier}.items() if not _same(other, rates)
            }
            source = f"override {override.model}" + (f" {wanted.tier}" if rates is not standard else "")
            tier_priced = rates is not standard or _is_standard(wanted.tier)
            return Found(rates, source, model, wanted.provider or "", others, tier_priced)
        return None

    def _booked(self, model: str, wanted: Wanted, steps: list[str]) -> Found | None:
        for provider, name, why in self._candidates(model, wanted.provider):
            info = provider.find_model(name, all_providers=self.snapshot.providers)
            if info is None:
                steps.append(f"{model}: not in the book under {provider.id} ({why})")
                continue
            steps.append(f"{model}: {provider.id}/{info.id} ({why})")
            rates = _rates(provider, info, wanted.at, wanted.tier)
            by_tier = {tier: _rates(provider, info, wanted.at, tier) for tier in (None, *_tiers(info, wanted.at))}
            others = {tier or "default": other for tier, other in by_tier.items() if not _same(other, rates)}
            tier_priced = _is_standard(wanted.tier) or wanted.tier in by_tier
            note = "" if _is_standard(wanted.tier) else f" {wanted.tier}"
            source = f"{self.version} {provider.id}/{info.id}{note}"
            return Found(rates, source, model, provider.id, others, tier_priced)
        if not steps or not steps[-1].startswith(f"{model}:"):
            steps.append(f"{model}: no provider in the book is named or suggested")
        return None

    def _candidates(self, model: str, named: str | None) -> Iterator[tuple[Provider, str, str]]:
        """Providers to try for a model name, each with the name to look for there and the reason."""
        snapshot, names = self.snapshot, _names()
        tried: set[tuple[str, str]] = set()

        def once(provider: Provider | None, name: str, why: str) -> Iterator[tuple[Provider, str, str]]:
            if provider is not None and (provider.id, name) not in tried:
                tried.add((provider.id, name))
                yield provider, name, why

        own_hosted = (named or "").lower() in names["self_hosted"]
        bare = model
        seller = self._provider(named) if named and not own_hosted and "/" in model else None
        if seller and (listed := seller.find_model(model)) and "/" in listed.id:
            yield from once(seller, model, f"the call says {named}, which lists the whole name")
        if "/" in model:
            prefix, rest = model.split("/", 1)
            if prefix.lower() in names["self_hosted"]:
                own_hosted = True
            elif provider := self._provider(prefix):
                yield from once(provider, rest, f"the name says {prefix}")
                bare = rest
        if named and not own_hosted and (provider := self._provider(named)):
            yield from once(provider, bare, f"the call says {named}")
            stripped = _REGION_PREFIX.sub("", bare)
            if stripped != bare:
                yield from once(provider, stripped, f"the call says {named}, region taken off")
            for vendor in names["vendors"].get(provider.id, ()):
                yield from once(provider, f"{vendor}.{bare}", f"the call says {named}, {vendor} put before")
        if own_hosted:
            return
        if _REGION_PREFIX.match(bare) or _VENDOR_PREFIX.match(bare):
            seller = find_provider_by_id(snapshot.providers, "aws")
            yield from once(seller, bare, "only Bedrock names models so")
            yield from once(seller, _REGION_PREFIX.sub("", bare), "only Bedrock names models so, region taken off")
        guessed = next((p for p in snapshot.providers if p.model_match and p.model_match.is_match(bare.lower())), None)
        yield from once(guessed, bare, "the name suggests it")
        for maker in names["makers"]:
            provider = find_provider_by_id(snapshot.providers, maker)
            if provider and provider.find_model(bare):
                yield from once(provider, bare, "its maker's price")

    def _provider(self, name: str) -> Provider | None:
        known: str = _names()["names"].get(name.lower(), name)
        return find_provider_by_id(self.snapshot.providers, known)

    def seller(self, found: Found, named: str | None) -> str:
        """Who sells at these rates: the provider that was named, in the words it was named in, if it is that one."""
        if named and (not found.provider or ((known := self._provider(named)) and known.id == found.provider)):
            return named
        return found.provider

    def models(self) -> Iterator[tuple[Provider, ModelInfo]]:
        """Every model of the book."""
        for provider in self.snapshot.providers:
            for model in provider.models:
                yield provider, model


def _is_standard(tier: str | None) -> bool:
    return tier is None or tier in STANDARD_TIERS


def _same(one: Rates, other: Rates) -> bool:
    same_steps = one.thresholds == other.thresholds and one.per_call == other.per_call
    return same_steps and bool((one.coefficients == other.coefficients).all())


def _context(tier: str | None) -> dict[str, str] | None:
    if tier is None:
        return None
    return {"processing": "batch"} if tier == "batch" else {"service_tier": tier}


def _rates(provider: Provider, model: ModelInfo, at: datetime, tier: str | None) -> Rates:
    # As genai-prices does it: tier prices hold only at the provider that lists the model itself.
    own = any(model is other for other in provider.models)
    return Rates.from_model_price(model.get_prices(at, _context(tier) if own else None))


def _tiers(model: ModelInfo, at: datetime) -> list[str]:
    """The tiers for which the model has a price of its own at that time."""
    active = (v for v in model.price_variants or () if v.constraint is None or v.constraint.active(at))
    tiers = ("batch" if v.when.get("processing") == "batch" else v.when.get("service_tier") for v in active)
    return [tier for tier in dict.fromkeys(tiers) if tier]


def as_utc(ns: int) -> datetime:
    """Unix nanoseconds → UTC, clamped to what a datetime holds."""
    return datetime.fromtimestamp(min(max(ns, 0), 253_402_300_799 * 10**9) // 10**9, tz=UTC)
