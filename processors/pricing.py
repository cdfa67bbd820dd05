"""Cost of each call, from its usage and the price in force when it started.

Names and times repeat, so the book is asked once per distinct combination; rows are priced by integer
arithmetic over columns. What no report settles (the tier, how long a cache write lives, cached tokens that a dialect
never tells) is settled by the gateway's reported cost where one explains it, else it is written into `price_assumptions`.

```yaml
processors:
  pricing:
    overrides:
      - {model: "my-llama-*", provider: vllm, input_mtok: 0.10, output_mtok: 0.40}
    discounts:
      - {provider: openai, percent: 22}
    reported_cost: when_assumed
```
"""

from __future__ import annotations

import fnmatch
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa
from genai_prices import UpdatePrices
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter
from pydantic import Field

from collector import columns, distinct
from collector.batch import SpanBatch
from collector.component import Context, Processor, Stage
from collector.once import once
from collector.prices import USAGE, Book, Found, Override, Wanted
from collector.prices.book import as_utc
from collector.prices.usage import (
    ASSUMPTIONS,
    ESTIMATED,
    HALF_TOLD,
    IMPOSSIBLE,
    MAYBE_TWICE,
    MISSING,
    PRICED,
    REPLAY,
    REPORTED,
    STATUSES,
    UNPRICED,
    Usages,
)
from config.types import Duration, StrictModel

logger = logging.getLogger(__name__)

I64 = NDArray[np.int64]
I16 = NDArray[np.int16]
Mask = NDArray[np.bool_]
#: Some prices change within the day; a quarter of an hour is the finest step that any list uses.
TIME_STEP_NS = 15 * 60 * 10**9
CACHED_LOOKUPS = 50_000
LABELLED_MODELS = 1_000

NAMES = ["provider", "upstream_model", "response_model", "request_model", "service_tier", "requested_tier"]


class Adjustment(StrictModel):
    """What you add on top of a price. The first one that matches a call holds."""

    percent: Annotated[Decimal, Field(ge=0, le=1000)]
    """Per cent of the price."""
    provider: str | None = None
    """Only calls to this provider."""
    model: str | None = None
    """Only models that match, with `*` and `?`."""
    team: str | None = None
    """Only calls of this team."""

    def matches(self, provider: str | None, models: Sequence[str | None], team: str | None) -> bool:
        """Whether it holds for such a call."""
        return (
            (self.provider is None or (provider or "").lower() == self.provider.lower())
            and (self.team is None or team == self.team)
            and (self.model is None or any(m and fnmatch.fnmatchcase(m.lower(), self.model.lower()) for m in models))
        )


class Discount(Adjustment):
    """What your contract takes off the list price. The first one that matches a call holds."""

    percent: Annotated[Decimal, Field(ge=0, le=100)]
    """Per cent of the list price."""


class Refresh(StrictModel):
    """Opt-in download of newer prices. Off: the book is the one that was installed, and nothing is fetched."""

    enabled: bool = False
    """Fetch the newest price list from genai-prices' repository."""
    interval: Duration = Field(default=3600.0, ge=60, le=7 * 86400)
    """How often."""


class PricingConfig(StrictModel):
    """Prices, discounts, and whether a gateway's own cost is believed."""

    overrides: list[Override] = []
    """Prices of your own: corrections, models that the book lacks, self-hosted models. The last that matches wins."""
    discounts: list[Discount] = []
    """Taken off the list price."""
    margins: list[Adjustment] = []
    """Added after discounts."""
    reported_cost: Literal["when_assumed", "never", "always"] = "when_assumed"
    """When the cost that a gateway wrote on its span becomes the call's cost: where ours would rest on an assumption
    or there is no price; never; or always. It is kept in ReportedCostUSD in any case."""
    refresh: Refresh = Refresh()
    """Newer prices by download."""


class Pricing(Processor[PricingConfig]):
    """Cost of each call, to the last digit, and what it rests on; overrides, discounts, margins."""

    Config = PricingConfig
    stage = Stage.CALLS
    adds = (
        columns.COST,
        columns.LIST_COST,
        columns.CACHE_SAVINGS,
        columns.PRICE_STATUS,
        columns.PRICE_ASSUMPTIONS,
        columns.PRICE_SOURCE,
    )

    def __init__(self, config: PricingConfig, context: Context) -> None:
        super().__init__(config, context)
        self.book = Book(config.overrides)
        self._lookups: OrderedDict[Wanted, Found | None] = OrderedDict()
        self._warned: set[str] = set()
        self._unpriced = once(context.metrics, _unpriced)
        self._updater = UpdatePrices(update_interval=config.refresh.interval) if config.refresh.enabled else None
        if self._updater:
            self._updater.start()

    def close(self) -> None:
        if self._updater:
            self._updater.stop()  # type: ignore[no-untyped-call]

    def process(self, batch: SpanBatch) -> SpanBatch:
        if batch.calls.is_empty():
            return batch
        return batch.with_(calls=self.price(batch.calls), quote=self.quote)

    def price(self, calls: pl.DataFrame) -> pl.DataFrame:
        """`calls` (CALL_COLUMNS) with the cost columns filled in."""
        wanted, found, code = self._look_up(calls)
        work = Usages(calls, found, code)
        status, assumed = work.judge()
        factors = self._factors(calls)
        self._settle(work, status, assumed, factors)
        cost = work.cost if factors is None else _times(work.cost, *factors)
        cost = np.where(status == REPORTED, work.reported, np.where(status == REPLAY, 0, cost))
        savings = np.where(status == REPLAY, work.cost, work.savings())
        known = (status == PRICED) | (status == REPORTED) | (status == REPLAY)
        listed = known & work.listed
        self._warn(wanted, code, status)
        return _exchanged(
            calls,
            _money("cost_pico", cost, known),
            _money("list_cost_pico", work.cost, listed),
            _money("cache_savings_pico", savings, listed),
            _spelt("price_status", STATUSES, status),
            _assumptions(np.where(known, assumed, 0)),
            _sources(found, code, status, known),
            *_solved(calls, work),
        )

    def quote(self, calls: pl.DataFrame, models: pl.Series) -> pl.DataFrame:
        """What `calls` would have cost, had `models` served them: see `collector.batch.Quote`.

        At the provider of the call where it offers that model, else at the one that the model's name suggests. What a
        gateway reported is of the model that served, so it does not count here.
        """
        nobody = pl.Series([None], dtype=pl.String()).new_from_index(0, len(calls))
        asked = _exchanged(
            calls, nobody.alias("upstream_model"), nobody.alias("response_model"), models.alias("request_model")
        )
        wanted, found, code = self._look_up(asked)
        for number, (question, entry) in enumerate(zip(wanted, found, strict=True)):
            if entry is None and question.provider is not None:
                found[number] = self._find(replace(question, provider=None))
        served = [self.book.seller(entry, one.provider) if entry else None for one, entry in zip(wanted, found, strict=True)]  # fmt: skip
        asked = _exchanged(asked, _spelt("provider", served, code))
        work = Usages(asked, found, code)
        status, _ = work.judge()
        factors = self._factors(asked)
        cost = work.cost if factors is None else _times(work.cost, *factors)
        known = (status == PRICED) | (status == REPLAY)
        return pl.DataFrame(
            [
                _money("cost_pico", np.where(status == REPLAY, 0, cost), known),
                _sources(found, code, status, np.array([entry is not None for entry in found], dtype=np.bool_)[code]),
            ]
        )

    def _look_up(self, calls: pl.DataFrame) -> tuple[list[Wanted], list[Found | None], I64]:
        """Distinct combinations of names and time, what the book says of each, and which one each row has."""
        steps = distinct.integers(calls["start_ns"])[0] // TIME_STEP_NS
        code, first = distinct.combinations(calls, NAMES, [steps])
        names, wanted = [calls[name] for name in NAMES], []
        for row in first.tolist():
            provider, upstream, response, request, served, requested = (column.item(row) for column in names)
            tier = (served or requested or "").lower() or None
            at = as_utc(int(steps[row]) * TIME_STEP_NS)
            wanted.append(Wanted((upstream, response, request), provider, tier, at))
        return wanted, [self._find(combination) for combination in wanted], code

    def _find(self, wanted: Wanted) -> Found | None:
        if wanted in self._lookups:
            self._lookups.move_to_end(wanted)
            return self._lookups[wanted]
        found, _ = self.book.find(wanted)
        # A refreshed book must be asked again: with refresh on, nothing is remembered.
        if self._updater is None:
            self._lookups[wanted] = found
            if len(self._lookups) > CACHED_LOOKUPS:
                self._lookups.popitem(last=False)
        return found

    def _factors(self, calls: pl.DataFrame) -> tuple[I64, I64] | None:
        """Per row numerator and denominator of what discounts and margins make of the list price."""
        if not self.config.discounts and not self.config.margins:
            return None
        names = ["provider", "team", "upstream_model", "response_model", "request_model"]
        code, first = distinct.combinations(calls, names)
        columns, factors = [calls[name] for name in names], []
        for row in first.tolist():
            provider, team, *models = (column.item(row) for column in columns)
            discount = next((a.percent for a in self.config.discounts if a.matches(provider, models, team)), Decimal(0))
            margin = next((a.percent for a in self.config.margins if a.matches(provider, models, team)), Decimal(0))
            factors.append((1 - Fraction(discount) / 100) * (1 + Fraction(margin) / 100))
        numerators = np.array([factor.numerator for factor in factors], dtype=np.int64)[code]
        return numerators, np.array([factor.denominator for factor in factors], dtype=np.int64)[code]

    def _settle(self, work: Usages, status: NDArray[np.int8], assumed: I16, factors: tuple[I64, I64] | None) -> None:
        """Use the gateway's reported cost, in place: to confirm ours, to solve for what is unknown, or instead of it."""
        mode = self.config.reported_cost
        usable = (work.reported > 0) & (status != REPLAY)
        if mode == "never" or not usable.any():
            return
        priced = usable & (status == PRICED)
        same = priced & (work.reported == work.cost)
        if factors is not None:  # the gateway may know our discounts
            same |= priced & (work.reported == _times(work.cost, *factors))
        assumed[same] &= ESTIMATED | HALF_TOLD | MAYBE_TWICE
        work.confirm(same)
        differs = np.flatnonzero(priced & ~same & ((assumed & ~(ESTIMATED | MAYBE_TWICE)) != 0))
        if len(differs):
            solved = work.solve(differs)
            status[differs] = REPORTED
            status[solved] = PRICED
            assumed[differs] &= ESTIMATED | MAYBE_TWICE
        status[usable & np.isin(status, (UNPRICED, MISSING, IMPOSSIBLE))] = REPORTED
        if mode == "always":
            status[usable & (status == PRICED)] = REPORTED

    def _warn(self, wanted: Sequence[Wanted], code: I64, status: NDArray[np.int8]) -> None:
        missing = code[status == UNPRICED]
        for number, count in enumerate(np.bincount(missing).tolist()):
            if not count:
                continue
            name = next((model for model in wanted[number].models if model), "(none)")
            provider = wanted[number].provider or "(none)"
            label = f"{provider} {name}"
            if label not in self._warned:
                if len(self._warned) >= LABELLED_MODELS:
                    self._unpriced.labels("(other)", "(other)").inc(count)
                    continue
                self._warned.add(label)
                logger.warning(
                    "no price for model %r of provider %r: its calls count as unpriced, not as free. "
                    "Add it under processors.pricing.overrides; `spanledger prices lookup %s` says what was tried",
                    name,
                    provider,
                    name,
                )
            self._unpriced.labels(provider, name).inc(count)


def _unpriced(registry: CollectorRegistry) -> Counter:
    return Counter(
        "spanledger_pricing_unpriced_calls",
        "Calls whose model has no price: their cost is unknown.",
        ["provider", "model"],
        registry=registry,
    )


def _times(cost: I64, numerator: I64, denominator: I64) -> I64:
    """cost * numerator / denominator, exactly, rounded half to even; in Python integers where int64 would overflow."""
    big = np.abs(cost.astype(np.float64)) * numerator > 4e18
    safe = np.where(big, 0, cost) * numerator
    quotient, remainder = np.divmod(safe, denominator)
    up = (2 * remainder > denominator) | ((2 * remainder == denominator) & (quotient % 2 == 1))
    result: I64 = quotient + up
    for row in np.flatnonzero(big):
        result[row] = round(Fraction(int(cost[row])) * Fraction(int(numerator[row]), int(denominator[row])))
    return result


def _exchanged(frame: pl.DataFrame, *columns: pl.Series) -> pl.DataFrame:
    """The frame with these in the place of its columns of the same names."""
    result = frame.clone()
    for column in columns:
        result.replace_column(result.get_column_index(column.name), column)
    return result


def _money(name: str, values: I64, known: Mask) -> pl.Series:
    if known.all():
        return pl.Series(name, values)
    return pl.Series(name, pa.array(values, mask=~known))


def _spelt(name: str, table: Sequence[str | None], rows: NDArray[np.integer[Any]]) -> pl.Series:
    """The table's texts by number."""
    texts = pl.Series(name, table, dtype=pl.String())
    if (rows == rows[0]).all():
        return texts.new_from_index(int(rows[0]), len(rows))
    return texts[rows.astype(np.uint32)]


def _sources(found: Sequence[Found | None], code: I64, status: NDArray[np.int8], known: Mask) -> pl.Series:
    """Which rule and book priced a row; null where nothing did."""
    table = [*(entry.source if entry else None for entry in found), "reported by the gateway", None]
    rows = np.where(known, np.where(status == REPORTED, len(found), code), len(found) + 1)
    return _spelt("price_source", table, rows)


def _assumptions(bits: NDArray[np.integer[Any]]) -> pl.Series:
    counts = np.bincount(bits)
    lists = [
        [name for bit, name in ASSUMPTIONS.items() if value & bit] if count else []
        for value, count in enumerate(counts)
    ]
    table = pl.Series("price_assumptions", lists, dtype=pl.List(pl.String()))
    return table.new_from_index(0, len(bits)) if len(lists) == 1 else table[bits.astype(np.uint32)]


def _solved(calls: pl.DataFrame, work: Usages) -> list[pl.Series]:
    """The columns in which a reported cost gave something away."""
    columns: list[pl.Series] = []
    if work.tiers:
        rows = list(work.tiers)
        columns.append(calls["service_tier"].clone().scatter(rows, [work.tiers[row] for row in rows]))
    if work.hours:
        rows = np.concatenate(work.hours).tolist()
        hours = work.counts[USAGE.index("cache_write_1h_tokens")][rows]
        columns.append(calls["cache_write_1h_tokens"].clone().scatter(rows, hours))
    return columns


__all__ = ["Adjustment", "Discount", "Pricing", "PricingConfig", "Refresh"]
