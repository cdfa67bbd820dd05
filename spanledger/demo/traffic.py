"""A month of calls as columns: what a collector's ledger would have of them, drawn by a seed.

```python
world = World.seeded(1)
for hour in month(world, start_ns, days=30):
    ...  # a frame of CALL_COLUMNS, priced and attributed, sorted by start
```

A day is drawn from the world's seed and its number alone, so nothing that happens on one changes another, and an incident
leaves all calls as they are but those that it is about.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from collector.columns import CALL_COLUMNS, nulls
from collector.component import Context
from processors.pricing import Pricing, PricingConfig
from spanledger.demo.company import Workload, World
from spanledger.demo.draws import Weighted, hex_digits, picked, texts
from spanledger.demo.incidents import Incident, after_pricing, before_pricing
from spanledger.demo.rhythm import DAY_NS, HOUR_NS, S_NS, SLOT_S, Calendar

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]
_FAILED, _LIMITED, _TIMED_OUT = 0.004, 0.003, 0.001  # shares of attempts that fail, and why
_ERRORS = ("InternalServerError", "RateLimitError", "Timeout")
_RETRIED = 0.8  # of failed attempts
_REPLAYED = 0.01  # share of calls that the gateway answers from its cache
_LONGEST_INPUT = 180_000


@dataclass(frozen=True, slots=True)
class Day:
    """One day: `calls` as they happened, `usual` as they would have been without incidents. Sorted by start."""

    start_ns: int
    calls: pl.DataFrame
    usual: pl.DataFrame


def month(
    world: World, start_ns: int, days: int = 30, incidents: Sequence[Incident] = ()
) -> Iterator[pl.DataFrame]:  # fmt: skip
    """One frame of CALL_COLUMNS for each hour that has calls, sorted by start."""
    for day in by_day(world, start_ns, days, incidents):
        hours = (day.calls["start_ns"].to_numpy() - day.start_ns) // HOUR_NS
        ends = np.searchsorted(hours, np.arange(25))
        yield from (day.calls[first:last] for first, last in pairwise(ends) if last > first)


def by_day(world: World, start_ns: int, days: int = 30, incidents: Sequence[Incident] = ()) -> Iterator[Day]:
    """As `month`, by whole days, with what the incidents changed told apart."""
    pricing = Pricing(PricingConfig(), Context("pricing", Path(), CollectorRegistry()))
    calendar, drawing = Calendar(world, start_ns), _Drawing(world)
    for number in range(days):
        begin = start_ns + number * DAY_NS
        draw = np.random.default_rng([world.seed, 2, number])
        drawn = drawing.calls(calendar.rates(number, draw), begin, draw)
        usual = priced(pricing, drawn, begin)
        acting = [one for one in incidents if one.start_ns < begin + DAY_NS and one.end_ns > begin]
        calls = usual
        if acting:
            for one in acting:
                drawn = before_pricing(one, drawn, world, begin)
            calls = priced(pricing, drawn, begin)
            for one in acting:
                calls = after_pricing(one, calls)
        yield Day(begin, calls, usual)


def priced(pricing: Pricing, calls: pl.DataFrame, day_ns: int) -> pl.DataFrame:
    """Sorted by start, with the costs of the project's price book. Prices of these models hold for whole days."""
    calls = calls.sort("start_ns", "span_id")
    starts = calls["start_ns"]
    priced = pricing.price(calls.with_columns(pl.lit(day_ns).alias("start_ns"))).with_columns(starts)
    return priced.with_columns(pl.col("cost_pico").alias("reported_cost_pico"))


class _Drawing:
    """Draws the calls of a day from how many are expected."""

    def __init__(self, world: World) -> None:
        self.workloads = world.workloads
        offers = self._offers = world.offers
        number = {offer.alias: place for place, offer in enumerate(offers)}
        self._model = Weighted([[(number[alias], weight) for alias, weight in one.models] for one in world.workloads])
        self._other = np.array([number[one.models[-1][0]] for one in world.workloads])
        places = [(place, one) for place, offer in enumerate(offers) for one in offer.deployments]
        self._deployments = [one for _, one in places]
        self._deployment = Weighted([[(at, one.weight) for at, (of, one) in enumerate(places) if of == place] for place in range(len(offers))])  # fmt: skip
        self._users = [user for one in world.workloads for user in one.users]
        self._first_user = np.cumsum([0, *(len(one.users) for one in world.workloads)])[:-1]

    def _of_each(self, name: str, which: I64) -> NDArray[np.float64]:
        """A number of each call's workload."""
        return np.array([float(getattr(one, name) or 0) for one in self.workloads])[which]

    def calls(self, rates: F64, begin_ns: int, draw: np.random.Generator) -> pl.DataFrame:
        """CALL_COLUMNS without prices, in no order. `rates`: [workload, slot of the day]."""
        counts = draw.poisson(rates)
        which = np.repeat(np.arange(len(rates)), counts.sum(axis=1))
        slots = np.concatenate([np.repeat(np.arange(rates.shape[1]), row) for row in counts])
        start = begin_ns + ((slots + draw.random(len(which))) * SLOT_S * S_NS).astype(np.int64)
        model = self._model(draw, which)
        share = draw.random(len(which))
        failed = share < _FAILED + _LIMITED + _TIMED_OUT
        refused = ~failed & (draw.random(len(which)) < self._of_each("refused", which))
        # What failed is tried once more, below the same span; where the server had an error, at the app's other model, if it has one.
        again = np.flatnonzero(failed & (draw.random(len(which)) < _RETRIED))
        source = np.concatenate([np.arange(len(which)), again])
        retry = np.arange(len(source)) >= len(which)
        asked = np.where(retry & (share[source] < _FAILED), self._other[which[source]], model[source])
        attempts = _Attempts(
            source, which[source], asked, retry, failed[source] & ~retry, refused[source] & ~retry,
            np.select([share < _FAILED, share < _FAILED + _LIMITED], [0, 1], 2)[source],
        )  # fmt: skip
        times = self._times(attempts, tokens := self._tokens(attempts, draw), draw)
        late = np.zeros(len(source), np.int64)
        late[retry] = times["duration_ns"][again] + 50_000_000
        return self._frame(attempts, start[source] + late, tokens, times, draw)

    def _tokens(self, of: _Attempts, draw: np.random.Generator) -> dict[str, I64]:
        """Counts of tokens by column, with a tail: one call in a hundred is much longer than the others."""
        count = len(of.which)
        tail = np.where(draw.random(count) < 0.01, 1 + draw.pareto(1.6, count), 1.0)
        asked = self._of_each("input_tokens", of.which) * draw.lognormal(0, 0.45, count) * tail
        asked = np.clip(asked, 8, _LONGEST_INPUT).astype(np.int64)
        embeds = np.array([one.model.embeds for one in self._offers])[of.model]
        answer = self._of_each("output_tokens", of.which) * draw.lognormal(0, 0.5, count)
        reasoning = np.where(
            np.array([one.model.reasons for one in self._offers])[of.model], answer * draw.uniform(0.5, 3, count), 0
        )
        reasoning = reasoning.astype(np.int64) // 64 * 64
        most = self._of_each("output_limit", of.which)
        output = np.maximum(answer.astype(np.int64), 1) + reasoning
        output = np.where(most > 0, np.minimum(output, most.astype(np.int64)), output)
        caches = np.array([one.model.caches for one in self._offers])[of.model] & (asked > 1200)
        prefix = np.where(caches & (draw.random(count) < self._of_each("cached", of.which)), (asked * draw.uniform(0.55, 0.85, count)).astype(np.int64) // 128 * 128, 0)  # fmt: skip
        writes = np.array([one.model.provider == "anthropic" for one in self._offers])[of.model] & (draw.random(count) < 0.15)  # fmt: skip
        return {
            "input_tokens": asked, "output_tokens": np.where(embeds, 0, output), "reasoning_tokens": np.where(reasoning > output, output, reasoning),
            "cache_read_tokens": np.where(writes, 0, prefix), "cache_write_tokens": np.where(writes, prefix, 0),
        }  # fmt: skip

    def _times(self, of: _Attempts, tokens: dict[str, I64], draw: np.random.Generator) -> dict[str, I64]:
        """Times in ns by column. A longer prompt takes longer to the first token; a failed attempt takes what it takes."""
        count = len(of.which)
        gateway = draw.lognormal(np.log(0.006), 0.4, count)
        first = np.array([one.first_token_s for one in self._offers])[of.model] * draw.lognormal(0, 0.35, count)
        first = first * (1 + tokens["input_tokens"] / 60_000)
        speed = np.array([one.model.tokens_per_second for one in self._offers])[of.model] * draw.lognormal(0, 0.15, count)  # fmt: skip
        whole = gateway + first + tokens["output_tokens"] / speed
        whole = np.where(of.failed, np.where(of.error == 2, 60.0, first), np.where(of.refused, gateway + 0.12, whole))
        return {name: (seconds * S_NS).astype(np.int64) for name, seconds in (("gateway_overhead_ns", gateway), ("time_to_first_token_ns", gateway + first), ("duration_ns", whole))}  # fmt: skip

    def _frame(self, of: _Attempts, start: I64, tokens: dict[str, I64], times: dict[str, I64], draw: np.random.Generator) -> pl.DataFrame:  # fmt: skip
        """The columns, in the ledger's order."""
        first, offers = self.workloads, self._offers
        count, requests = len(of.which), int(of.source.max(initial=-1)) + 1
        answered = ~of.failed & ~of.refused
        trace, parent = hex_digits(draw, requests, 32)[of.source], hex_digits(draw, requests, 16)[of.source]
        span = hex_digits(draw, count, 16)
        instrumented = np.array([one.instrumented for one in first])[of.which]
        deployment = self._deployment(draw, of.model)
        # Few of many make most calls; attempts of one request are the same person's.
        person = (draw.random(requests) ** 2)[of.source]
        user = self._first_user[of.which] + (person * np.array([len(one.users) for one in first])[of.which]).astype(int)
        customer = (((draw.random(requests) ** 3)[of.source]) * self._of_each("end_users", of.which)).astype(np.int64)
        streamed = answered & (draw.random(count) < self._of_each("streaming", of.which))
        made: dict[str, pl.Series] = nulls(CALL_COLUMNS, count)

        def named(name: str, values: list[str | None], nothing: Mask | None = None) -> None:
            made[name] = picked(name, values, of.which, nothing)

        def model(name: str, values: list[str | None], nothing: Mask | None = None) -> None:
            made[name] = picked(name, values, of.model, nothing)

        def number(name: str, values: NDArray[np.generic], known: Mask) -> None:
            made[name] = pl.Series(name, values).zip_with(pl.Series(known), pl.Series(name, [None], pl.Series(values).dtype))  # fmt: skip

        made["start_ns"] = pl.Series("start_ns", start)
        made["trace_id"], made["span_id"], made["parent_span_id"] = texts("trace_id", trace), texts("span_id", span), texts("parent_span_id", parent)  # fmt: skip
        made["call_id"] = texts("call_id", trace, b"-", span)
        made["response_id"] = texts("response_id", b"chatcmpl-", hex_digits(draw, count, 24)).zip_with(pl.Series(answered), made["response_id"])  # fmt: skip
        made["service_name"] = picked("service_name", [*(one.app for one in first), "litellm-proxy"], np.where(instrumented, of.which, len(first)))  # fmt: skip
        made["dialect"] = picked("dialect", ["litellm_v1"], np.zeros(count, np.int64))
        made["reports"] = pl.Series("reports", [["litellm_v1"], ["litellm_v1", "otel_contrib"]])[instrumented.astype(np.uint32)]  # fmt: skip
        made["report_count"] = pl.Series("report_count", 1 + instrumented.astype(np.int64))
        model("operation", ["embeddings" if one.model.embeds else "chat" for one in offers])
        model("provider", [one.model.provider for one in offers], of.refused)
        model("request_model", [one.alias for one in offers])
        model("response_model", [one.alias for one in offers], ~answered)
        model("upstream_model", [one.upstream for one in offers], of.refused)
        unnamed = of.failed | of.refused  # of a call that failed, the gateway names no deployment
        made["deployment"] = picked("deployment", [one.name for one in self._deployments], deployment, unnamed)
        made["region"] = picked("region", [one.region for one in self._deployments], deployment, unnamed)
        for name in ("team", "app", "environment"):
            named(name, [getattr(one, name) for one in first])
        named("api_key", [one.key for one in first])
        named("task_type", [one.task for one in first])
        named("refused_by", [one.guardrail for one in first], ~of.refused)
        named("attribution_source", [_attributed(one) for one in first])
        made["user"] = picked("user", self._users, user)
        customers = [f"customer-{n}" for n in range(1, 1 + int(customer.max(initial=0)) + 1)]
        made["end_user"] = picked("end_user", customers, customer, self._of_each("end_users", of.which) == 0)
        sessions = (customer * 31 + user * 7 + (start // HOUR_NS)) % 9000
        made["conversation_id"] = picked("conversation_id", [f"s-{n}" for n in range(1000, 10_000)], sessions, self._of_each("streaming", of.which) == 0)  # fmt: skip
        for name, values in tokens.items():
            told = answered & (values > 0) if name in ("cache_write_tokens", "reasoning_tokens") else answered
            number(name, values, told)
        number("duration_ns", times["duration_ns"], np.ones(count, np.bool_))
        number("gateway_overhead_ns", times["gateway_overhead_ns"], np.ones(count, np.bool_))
        number("time_to_first_token_ns", times["time_to_first_token_ns"], streamed)
        number("streaming", streamed, streamed)
        number("output_limit", self._of_each("output_limit", of.which).astype(np.int64), self._of_each("output_limit", of.which) > 0)  # fmt: skip
        number("response_cache_hit", (hit := answered & (draw.random(count) < _REPLAYED)), hit)
        made["status"] = picked("status", ["Unset", "Error"], (~answered).astype(np.int64))
        made["error_type"] = picked("error_type", [*_ERRORS, "HTTPException"], np.where(of.refused, len(_ERRORS), of.error), answered)  # fmt: skip
        cut = made["output_tokens"] == made["output_limit"]
        made["finish_reason"] = picked("finish_reason", ["stop", "length"], cut.fill_null(False).to_numpy(), ~answered)
        made["service_tier"] = picked("service_tier", ["default"], np.zeros(count, np.int64), ~answered)
        made["day"] = pl.Series("day", (start // DAY_NS).astype(np.int32)).cast(pl.Date())
        made["version"] = pl.Series("version", [1], pl.Int64()).new_from_index(0, count)
        made["withdrawn"] = pl.Series("withdrawn", [False]).new_from_index(0, count)
        return pl.DataFrame(list(made.values()))


def _attributed(one: Workload) -> str:
    """Which rule decides each dimension of its calls, as attribution writes it."""
    customers = "end_user=gateway;" if one.end_users else ""
    return f"team=gateway;app=claimed;user=gateway;{customers}api_key=gateway;environment=resource.deployment.environment.name;task_type=claimed"


@dataclass(frozen=True, slots=True)
class _Attempts:
    """Attempts at requests: of each the number of its request, of its workload and of the model that is asked for."""

    source: I64
    which: I64
    model: I64
    retry: Mask
    failed: Mask
    refused: Mask  # by a guardrail
    error: I64  # of those that failed, in _ERRORS


__all__ = ["Day", "Incident", "Workload", "World", "by_day", "month", "priced"]
