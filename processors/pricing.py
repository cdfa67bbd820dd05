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
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Literal

import numpy as np
import polars as pl
from genai_prices import UpdatePrices
from numpy.typing import NDArray
from prometheus_client import Counter
from pydantic import Field

from collector import columns
from collector.batch import SpanBatch
from collector.component import Context, Processor, Stage
from collector.prices import Book, Found, Override, Wanted
from collector.prices.book import as_utc
from collector.prices.usage import (
    ASSUMPTIONS,
    ESTIMATED,
    IMPOSSIBLE,
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
Mask = NDArray[np.bool_]
#: Some prices change within the day; a quarter of an hour is the finest step that any list uses.
TIME_STEP_NS = 15 * 60 * 10**9
CACHED_LOOKUPS = 50_000
LABELLED_MODELS = 1_000

NAMES = ["provider", "upstream_model", "response_model", "request_model", "service_tier", "requested_tier"]


class Adjustment(StrictModel):
    """What your contract takes off the list price, or what you add on top. The first one that matches holds."""

    percent: Annotated[Decimal, Field(ge=0, le=1000)]
    """Per cent of the list price."""
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


class Refresh(StrictModel):
    """Opt-in download of newer prices. Off: the book is the one that was installed, and nothing is fetched."""

    enabled: bool = False
    """Fetch the newest price list from genai-prices' repository."""
    interval: Duration = 3600.0
    """How often."""


class PricingConfig(StrictModel):
    """Prices, discounts, and whether a gateway's own cost is believed."""

    overrides: list[Override] = []
    """Prices of your own: corrections, models that the book lacks, self-hosted models. The last that matches wins."""
    discounts: list[Adjustment] = []
    """Taken off the list price."""
    margins: list[Adjustment] = []
    """Added after discounts."""
    reported_cost: Literal["when_assumed", "never", "always"] = "when_assumed"
    """When the cost that a gateway wrote on its span becomes the call's cost: where ours would rest on an assumption
    or there is no price; never; or always. It is kept in ReportedCostUSD in any case."""
    refresh: Refresh = Refresh()
    """Newer prices by download."""


class Pricing(Processor[PricingConfig]):
    """Cost of each call, to the last digit, with how it is known."""

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
        self._unpriced = Counter(
            "spanledger_pricing_unpriced_calls",
            "Calls whose model has no price: their cost is unknown.",
            ["provider", "model"],
            registry=context.metrics,
        )
        self._updater = UpdatePrices(update_interval=config.refresh.interval) if config.refresh.enabled else None
        if self._updater:
            self._updater.start()

    def close(self) -> None:
        if self._updater:
            self._updater.stop()  # type: ignore[no-untyped-call]

    def process(self, batch: SpanBatch) -> SpanBatch:
        if batch.calls.is_empty():
            return batch
        return batch.with_(calls=self.price(batch.calls))

    def price(self, calls: pl.DataFrame) -> pl.DataFrame:
        """`calls` (CALL_COLUMNS) with the cost columns filled in."""
        found, code = self._look_up(calls)
        work = Usages(calls, found, code)
        status, assumed = work.judge()
        self._settle(work, status, assumed)
        listed = work.cost
        factors = self._factors(calls)
        cost = listed.copy() if factors is None else _times(listed, *factors)
        cost[status == REPORTED] = work.reported[status == REPORTED]
        cost[status == REPLAY] = 0
        self._warn(calls, status)
        known = (status == PRICED) | (status == REPORTED) | (status == REPLAY)
        table = pl.Series([*(entry.source if entry else None for entry in found), "reported by the gateway", None])
        sources = table.gather(
            pl.Series(np.where(known, np.where(status == REPORTED, len(found), code), len(found) + 1))
        )
        tiers = list(work.solved_tiers)
        served = calls["service_tier"].clone().scatter(tiers, [work.solved_tiers[row] for row in tiers])
        return calls.with_columns(
            _money("cost_pico", cost, known),
            _money("list_cost_pico", listed, known & work.listed),
            _money("cache_savings_pico", np.where(status == REPLAY, listed, work.savings()), known & work.listed),
            pl.Series("price_status", STATUSES).gather(pl.Series(status)),
            _assumptions(np.where(known, assumed, 0)),
            sources.cast(pl.String()).alias("price_source"),
            served.alias("service_tier"),
            pl.Series("cache_write_1h_tokens", work.counts[:, 4]).set(pl.Series(~work.present[:, 4]), None),
        )

    def _look_up(self, calls: pl.DataFrame) -> tuple[list[Found | None], NDArray[np.int64]]:
        """Distinct combinations of names and time: what the book says of each, and which one each row has."""
        step = (pl.col("start_ns") // TIME_STEP_NS).alias("step")
        keyed = calls.select(*NAMES, step)
        distinct = keyed.unique(maintain_order=True).with_row_index("code")
        code = keyed.join(distinct, on=[*NAMES, "step"], nulls_equal=True, how="left", maintain_order="left")["code"]
        found = []
        for _, provider, upstream, response, request, served, requested, at in distinct.iter_rows():
            tier = (served or requested or "").lower() or None
            wanted = Wanted((upstream, response, request), provider, tier, as_utc(at * TIME_STEP_NS))
            found.append(self._find(wanted))
        return found, code.to_numpy().astype(np.int64)

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
        distinct = calls.select(names).unique(maintain_order=True).with_row_index("code")
        code = calls.select(names).join(distinct, on=names, nulls_equal=True, how="left", maintain_order="left")["code"]
        factors = []
        for _, provider, team, *models in distinct.iter_rows():
            discount = next((a.percent for a in self.config.discounts if a.matches(provider, models, team)), Decimal(0))
            margin = next((a.percent for a in self.config.margins if a.matches(provider, models, team)), Decimal(0))
            factors.append((1 - Fraction(discount) / 100) * (1 + Fraction(margin) / 100))
        rows = code.to_numpy()
        numerators = np.array([factor.numerator for factor in factors], dtype=np.int64)[rows]
        return numerators, np.array([factor.denominator for factor in factors], dtype=np.int64)[rows]

    def _settle(self, work: Usages, status: NDArray[np.int8], assumed: NDArray[np.int8]) -> None:
        """Use the gateway's reported cost, in place: to confirm ours, to solve for what is unknown, or instead of it."""
        mode = self.config.reported_cost
        if mode == "never":
            return
        usable = (work.reported > 0) & (status != REPLAY)
        priced = usable & (status == PRICED)
        assumed[priced & (work.reported == work.cost)] &= ESTIMATED
        for row in np.flatnonzero(priced & ((assumed & ~ESTIMATED) != 0)):
            assumed[row] &= ESTIMATED
            if not work.solve(int(row)):
                status[row] = REPORTED
        status[usable & np.isin(status, (UNPRICED, MISSING, IMPOSSIBLE))] = REPORTED
        if mode == "always":
            status[usable & (status == PRICED)] = REPORTED

    def _warn(self, calls: pl.DataFrame, status: NDArray[np.int8]) -> None:
        if not (status == UNPRICED).any():
            return
        missing = calls.filter(pl.Series(status == UNPRICED))
        model = pl.coalesce("upstream_model", "response_model", "request_model").fill_null("(none)").alias("model")
        for provider, name, count in missing.group_by(pl.col("provider").fill_null("(none)"), model).len().iter_rows():
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


def _money(name: str, values: I64, known: Mask) -> pl.Series:
    return pl.Series(name, values).set(pl.Series(~known), None)


def _assumptions(bits: NDArray[np.int8]) -> pl.Series:
    distinct, rows = np.unique(bits, return_inverse=True)
    lists = [[name for bit, name in ASSUMPTIONS.items() if value & bit] for value in distinct]
    table = pl.Series("price_assumptions", lists, dtype=pl.List(pl.String()))
    return table.gather(pl.Series(rows))


__all__ = ["Adjustment", "Pricing", "PricingConfig", "Refresh"]
