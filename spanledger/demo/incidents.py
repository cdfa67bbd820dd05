"""What goes wrong in a company's traffic: pure effects on a day of calls.

An incident changes the calls that it is about, within its time, and adds calls where somebody makes more of them. What it does to
a call depends on that call and the incident alone, so incidents do not disturb one another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import polars as pl

from collector.columns import CALL_COLUMNS
from collector.findings import Subject
from spanledger.demo.company import Deployment, Offer, World
from spanledger.demo.draws import hex_digits, texts
from spanledger.demo.rhythm import DAY_NS, S_NS

_USAGE = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
_ORDER = [column.name for column in CALL_COLUMNS]
#: Dimensions of `where` that are no columns of calls.
_COLUMNS = {"model": "request_model"}


class Kind(StrEnum):
    """What can go wrong, and what `Incident.strength` says of it."""

    RUNAWAY_LOOP = "runaway_loop"  # an agent that does not end: calls a minute
    KEY_LEAKED = "key_leaked"  # somebody else uses a key, for the model `to`: calls a minute
    SINGLE_CALL = "single_call"  # one call with so many times the usual input
    PREMIUM_DRIFT = "premium_drift"  # clients ask for the dearer model `to`: share of calls
    NEW_MODEL = "new_model"  # clients ask for `to`, which nobody used before: share of calls
    SILENT_FALLBACK = "silent_fallback"  # the gateway serves `to` in place of what was asked for: share of calls
    CAP_REMOVED = "cap_removed"  # max_tokens is gone: times the usual output
    PROMPT_BLOAT = "prompt_bloat"  # prompts have grown: times the usual input
    CACHE_BROKEN = "cache_broken"  # prompts no longer hit the provider's cache: share of calls
    PRICE_CHANGE = "price_change"  # the provider asks for so many times the price
    PROVIDER_SLOW = "provider_slow"  # answers take so many times as long
    ERROR_BURST = "error_burst"  # calls fail at the provider: share of calls
    RATE_LIMITED = "rate_limited"  # the provider refuses calls for a rate limit: share of calls
    GUARDRAIL_STRICT = "guardrail_strict"  # a guardrail refuses more: share of calls
    DEPLOYMENT_STARVED = "deployment_starved"  # a deployment's calls go to the others of its model: share of its calls


@dataclass(frozen=True, slots=True)
class Incident:
    """One thing that goes wrong. `where`: dimensions and values of the calls that it is about; `model` is the one asked for."""

    kind: Kind
    where: Subject
    start_ns: int
    end_ns: int
    strength: float
    to: str = ""
    seed: int = 0

    @property
    def about(self) -> dict[str, str]:
        return dict(self.where)


def before_pricing(one: Incident, calls: pl.DataFrame, world: World, day_ns: int) -> pl.DataFrame:
    """A day's calls, not priced yet, with what the incident makes of them."""
    change = _CHANGES.get(one.kind)
    if change is not None:
        return change(one, calls, world)
    add = _ADDITIONS.get(one.kind)
    return calls if add is None else pl.concat([calls, add(one, calls, world, day_ns)])


def after_pricing(one: Incident, calls: pl.DataFrame) -> pl.DataFrame:
    """Priced calls, with what the incident makes of their cost."""
    if one.kind is not Kind.PRICE_CHANGE:
        return calls
    money = ("cost_pico", "list_cost_pico", "reported_cost_pico", "cache_savings_pico")
    return _changed(calls, about(one), {name: (pl.col(name) * one.strength).round().cast(pl.Int64()) for name in money})


# Which calls ------------------------------------------------------------------------------------------------------------


def about(one: Incident) -> pl.Expr:
    """The calls that the incident is about, in its time."""
    found = pl.col("start_ns").is_between(one.start_ns, one.end_ns, closed="left")
    for dimension, value in one.where:
        found &= pl.col(_COLUMNS.get(dimension, dimension)) == value
    return found


def _chance(one: Incident, again: int = 0) -> pl.Expr:
    """From 0 to 1, of each call by its id; `again`: another number, from other digits of it."""
    digits = pl.col("span_id").str.slice(8 * again, 8).str.to_integer(base=16)
    mixed = (digits + one.seed * 2_654_435_761 + 12_345) * 1_103_515_245 % 2**31
    return mixed / 2**31


_ANSWERED = pl.col("status") == "Unset"


def _share(one: Incident) -> pl.Expr:
    """Of the calls that it is about and that were answered, the share that its strength says."""
    return about(one) & _ANSWERED & (_chance(one) < one.strength)


def _changed(calls: pl.DataFrame, where: pl.Expr, values: Mapping[str, pl.Expr | None]) -> pl.DataFrame:
    """The frame with other values (null for None) in some rows."""
    types = calls.schema
    made = [pl.when(where).then(pl.lit(None, types[name]) if value is None else value).otherwise(pl.col(name)).cast(types[name]).alias(name) for name, value in values.items()]  # fmt: skip
    return calls.with_columns(made)


# Calls that are other ones ----------------------------------------------------------------------------------------------


def _asked_for(one: Incident, calls: pl.DataFrame, world: World) -> pl.DataFrame:
    offer = world.offer(one.to)
    return _changed(calls, _share(one), {"request_model": pl.lit(one.to), **_served(one, offer, world)})


def _served_instead(one: Incident, calls: pl.DataFrame, world: World) -> pl.DataFrame:
    return _changed(calls, _share(one), _served(one, world.offer(one.to), world))


def _served(one: Incident, offer: Offer, world: World) -> dict[str, pl.Expr | None]:
    """Who answers: the model, with its deployments by weight; an answer takes as long as that model's speed says."""
    speeds = {other.alias: other.model.tokens_per_second for other in (*world.offers, *world.unused)}
    speed = offer.model.tokens_per_second
    slower = pl.col("request_model").replace_strict(speeds, default=speed, return_dtype=pl.Float64()) / speed
    return {
        "provider": pl.lit(offer.model.provider), "response_model": pl.lit(offer.alias), "upstream_model": pl.lit(offer.upstream),
        "duration_ns": (pl.col("duration_ns") * slower).round(), **_spread(one, offer.deployments),
        **({} if offer.model.caches else {"cache_read_tokens": pl.lit(0), "cache_write_tokens": None}),
    }  # fmt: skip


def _spread(one: Incident, among: Sequence[Deployment]) -> dict[str, pl.Expr | None]:
    """Each call goes to one of these deployments, by their weights."""
    place, ends = _chance(one, again=1), np.cumsum([member.weight for member in among])
    names, regions = pl.lit(among[-1].name, pl.String()), pl.lit(among[-1].region, pl.String())
    for member, end in reversed(list(zip(among, ends / ends[-1], strict=True))):
        names = pl.when(place < float(end)).then(pl.lit(member.name)).otherwise(names)
        regions = pl.when(place < float(end)).then(pl.lit(member.region, pl.String())).otherwise(regions)
    return {"deployment": names, "region": regions}


def _cap_removed(one: Incident, calls: pl.DataFrame, _: World) -> pl.DataFrame:
    longer = one.strength * (0.6 + 0.8 * _chance(one))
    calls = _changed(calls, about(one), {"output_limit": None})
    grown = {name: (pl.col(name) * longer).round() for name in ("output_tokens", "duration_ns")}
    return _changed(calls, about(one) & _ANSWERED, {**grown, "finish_reason": pl.lit("stop")})


def _bloated(one: Incident, calls: pl.DataFrame, _: World) -> pl.DataFrame:
    """What is added is new in every call, so none of it is cached."""
    grown = {"input_tokens": (pl.col("input_tokens") * one.strength * (0.8 + 0.4 * _chance(one))).round()}
    return _changed(calls, about(one) & _ANSWERED, grown)


def _uncached(one: Incident, calls: pl.DataFrame, _: World) -> pl.DataFrame:
    return _changed(calls, _share(one), {"cache_read_tokens": pl.lit(0), "cache_write_tokens": None})


def _slow(one: Incident, calls: pl.DataFrame, _: World) -> pl.DataFrame:
    slower = one.strength * (0.75 + 0.5 * _chance(one))
    times = {name: (pl.col(name) * slower).round() for name in ("duration_ns", "time_to_first_token_ns")}
    return _changed(calls, about(one) & _ANSWERED, times)


_NO_ANSWER: dict[str, pl.Expr | None] = {
    **dict.fromkeys(_USAGE), "response_model": None, "response_id": None, "finish_reason": None, "time_to_first_token_ns": None,
    "streaming": None, "response_cache_hit": None, "deployment": None, "region": None, "service_tier": None, "status": pl.lit("Error"),
}  # fmt: skip


def _failing(one: Incident, calls: pl.DataFrame, _: World) -> pl.DataFrame:
    error = "RateLimitError" if one.kind is Kind.RATE_LIMITED else "InternalServerError"
    took = (pl.col("gateway_overhead_ns") + 400_000_000 * (0.5 + _chance(one))).round()
    return _changed(calls, _share(one), {**_NO_ANSWER, "error_type": pl.lit(error), "duration_ns": took})


def _refusing(one: Incident, calls: pl.DataFrame, world: World) -> pl.DataFrame:
    guardrail = one.about.get("guardrail") or next(w.guardrail for w in world.workloads if w.app == one.about["app"])
    unguarded = Incident(one.kind, tuple(pair for pair in one.where if pair[0] != "guardrail"), one.start_ns, one.end_ns, one.strength, seed=one.seed)  # fmt: skip
    values = {"refused_by": pl.lit(guardrail), "error_type": pl.lit("HTTPException"), "provider": None, "upstream_model": None}  # fmt: skip
    return _changed(calls, _share(unguarded), {**_NO_ANSWER, **values, "duration_ns": pl.col("gateway_overhead_ns") + 120_000_000})  # fmt: skip


def _elsewhere(one: Incident, calls: pl.DataFrame, world: World) -> pl.DataFrame:
    """Each call of the deployment goes to one of the others."""
    (offer,) = [o for o in world.offers if any(d.name == one.about["deployment"] for d in o.deployments)]
    others = [d for d in offer.deployments if d.name != one.about["deployment"]]
    return _changed(calls, _share(one), _spread(one, others))


# Calls that nobody should have made -------------------------------------------------------------------------------------


def _again(one: Incident, calls: pl.DataFrame, world: World, day_ns: int, count: int) -> tuple[pl.DataFrame, np.random.Generator]:  # fmt: skip
    """More calls like those of the day that it is about, at times of the incident, with ids of their own."""
    draw = np.random.default_rng([world.seed, 3, one.seed, day_ns // DAY_NS])
    like = calls.filter(*(pl.col(_COLUMNS.get(name, name)) == value for name, value in one.where), _ANSWERED).sort("span_id")  # fmt: skip
    if like.is_empty() or count == 0:
        return calls.clear(), draw
    rows = like[draw.integers(0, len(like), count).astype(np.uint32)]
    trace, span = hex_digits(draw, count, 32), hex_digits(draw, count, 16)
    low, high = max(one.start_ns, day_ns), min(one.end_ns, day_ns + DAY_NS)
    start = pl.Series("start_ns", np.sort(draw.integers(low, max(high, low + 1), count)))
    made = rows.with_columns(
        start, texts("trace_id", trace), texts("span_id", span), texts("parent_span_id", hex_digits(draw, count, 16)),
        texts("call_id", trace, b"-", span), texts("response_id", b"chatcmpl-", hex_digits(draw, count, 24)),
        (start // DAY_NS).cast(pl.Int32()).cast(pl.Date()).alias("day"), pl.lit(None, pl.Boolean()).alias("response_cache_hit"),
    )  # fmt: skip
    return made.select(_ORDER), draw


def _minutes(one: Incident, day_ns: int) -> float:
    """How many minutes of it lie in a day."""
    return max(min(one.end_ns, day_ns + DAY_NS) - max(one.start_ns, day_ns), 0) / (60 * S_NS)


def _looping(one: Incident, calls: pl.DataFrame, world: World, day_ns: int) -> pl.DataFrame:
    """One conversation goes on and on, and is sent along with each call."""
    rows, _ = _again(one, calls, world, day_ns, round(one.strength * _minutes(one, day_ns)))
    if rows.is_empty():
        return rows
    session, user, customer = (pl.lit(rows[name][0], pl.String()).alias(name) for name in ("conversation_id", "user", "end_user"))  # fmt: skip
    longer = 1 + 3 * ((pl.col("start_ns") - one.start_ns) / (one.end_ns - one.start_ns))
    return rows.with_columns(session, user, customer, (pl.col("input_tokens") * longer).round().cast(pl.Int64()))


def _stolen(one: Incident, calls: pl.DataFrame, world: World, day_ns: int) -> pl.DataFrame:
    """Somebody else calls, straight at the gateway, the model of their choice, and caches nothing."""
    rows, draw = _again(one, calls, world, day_ns, round(one.strength * _minutes(one, day_ns)))
    if rows.is_empty():
        return rows
    offer, count = world.offer(one.to), len(rows)
    sizes = {"input_tokens": 2500 * draw.lognormal(0, 0.6, count), "output_tokens": 900 * draw.lognormal(0, 0.5, count)}
    made = rows.with_columns(
        pl.lit(one.to).alias("request_model"), pl.lit("chat").alias("operation"), pl.lit("litellm-proxy").alias("service_name"),
        *(pl.Series(name, values.astype(np.int64)) for name, values in sizes.items()), pl.lit(0, pl.Int64()).alias("cache_read_tokens"),
        *(pl.lit(None, rows.schema[name]).alias(name) for name in ("end_user", "conversation_id", "task_type", "output_limit", "cache_write_tokens", "reasoning_tokens")),
        pl.Series("duration_ns", ((offer.first_token_s + sizes["output_tokens"] / offer.model.tokens_per_second) * S_NS).astype(np.int64)),
        pl.lit(["litellm_v2"]).alias("reports"), pl.lit(1, pl.Int64()).alias("report_count"),
    )  # fmt: skip
    served = {name: value for name, value in _served(one, offer, world).items() if name != "duration_ns"}
    return _changed(made, pl.lit(True), served)


def _huge(one: Incident, calls: pl.DataFrame, world: World, day_ns: int) -> pl.DataFrame:
    """One call whose input is that many times the usual."""
    if not day_ns <= one.start_ns < day_ns + DAY_NS:
        return calls.clear()
    rows, _ = _again(one, calls, world, day_ns, 1)
    usual = calls.filter(_ANSWERED & (pl.col("app") == one.about["app"]))["input_tokens"].median() or 0
    tokens = min(round(one.strength * float(usual)), 900_000)  # type: ignore[arg-type]
    return rows.with_columns(pl.lit(tokens, pl.Int64()).alias("input_tokens"), pl.lit(0, pl.Int64()).alias("cache_read_tokens"), pl.lit(None, pl.Int64()).alias("cache_write_tokens"), pl.col("duration_ns") * 20)  # fmt: skip


_CHANGES: dict[Kind, Callable[[Incident, pl.DataFrame, World], pl.DataFrame]] = {
    Kind.PREMIUM_DRIFT: _asked_for,
    Kind.NEW_MODEL: _asked_for,
    Kind.SILENT_FALLBACK: _served_instead,
    Kind.CAP_REMOVED: _cap_removed,
    Kind.PROMPT_BLOAT: _bloated,
    Kind.CACHE_BROKEN: _uncached,
    Kind.PROVIDER_SLOW: _slow,
    Kind.ERROR_BURST: _failing,
    Kind.RATE_LIMITED: _failing,
    Kind.GUARDRAIL_STRICT: _refusing,
    Kind.DEPLOYMENT_STARVED: _elsewhere,
}
_ADDITIONS: dict[Kind, Callable[[Incident, pl.DataFrame, World, int], pl.DataFrame]] = {
    Kind.RUNAWAY_LOOP: _looping,
    Kind.KEY_LEAKED: _stolen,
    Kind.SINGLE_CALL: _huge,
}

__all__ = ["Incident", "Kind", "about", "after_pricing", "before_pricing"]
