"""Sixty incidents of fifteen kinds in a month, drawn by a seed.

Which app, model or provider has which incident when, and how bad it is, is drawn from what such incidents are like. No detector has
a say in it. Drawn again is what nobody would call an incident: what touches too few calls (`LEAST_CALLS`), or is about money and
costs next to nothing (`LEAST_PART` of what the company spends a day); a single call must cost `LEAST_TIMES` the median.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from prometheus_client import CollectorRegistry

from collector.columns import PICO_PER_USD
from collector.component import Context
from collector.findings import Subject
from processors.pricing import Pricing, PricingConfig
from spanledger.demo.company import Workload, World
from spanledger.demo.incidents import Incident, Kind, after_pricing, before_pricing
from spanledger.demo.rhythm import DAY_NS, HOUR_NS, SLOT_S, SLOTS, Calendar
from spanledger.demo.traffic import by_day, priced

#: The first week is for getting to know the company: it has no incidents.
FIRST_DAY = 7
PER_KIND = 4
#: Incidents of the same team, or of the same provider, are so far apart.
APART_NS = 30 * HOUR_NS
LEAST_CALLS, LEAST_PART, LEAST_TIMES = 50, 0.005, 250
#: Calls a day that an app must have to be looked at, and that a model must have for what concerns all who use it.
_APP_CALLS, _MODEL_CALLS = 150, 800

#: How long incidents last (hours), and how strong they are; both from and to.
_LASTS: dict[Kind, tuple[float, float]] = {
    Kind.RUNAWAY_LOOP: (1, 8), Kind.KEY_LEAKED: (2, 14), Kind.SINGLE_CALL: (0.02, 0.02), Kind.PREMIUM_DRIFT: (30, 96), Kind.NEW_MODEL: (24, 72),
    Kind.SILENT_FALLBACK: (4, 30), Kind.CAP_REMOVED: (12, 60), Kind.PROMPT_BLOAT: (12, 60), Kind.CACHE_BROKEN: (6, 48), Kind.PRICE_CHANGE: (48, 96),
    Kind.PROVIDER_SLOW: (1, 5), Kind.ERROR_BURST: (0.5, 3), Kind.RATE_LIMITED: (1, 5), Kind.GUARDRAIL_STRICT: (4, 30), Kind.DEPLOYMENT_STARVED: (3, 24),
}  # fmt: skip
_STRENGTH: dict[Kind, tuple[float, float]] = {
    Kind.RUNAWAY_LOOP: (8, 60), Kind.KEY_LEAKED: (4, 40), Kind.SINGLE_CALL: (300, 1500), Kind.PREMIUM_DRIFT: (0.5, 1.0), Kind.NEW_MODEL: (0.1, 0.6),
    Kind.SILENT_FALLBACK: (0.6, 1.0), Kind.CAP_REMOVED: (2.5, 6), Kind.PROMPT_BLOAT: (2.5, 6), Kind.CACHE_BROKEN: (0.9, 1.0), Kind.PRICE_CHANGE: (1.5, 2.5),
    Kind.PROVIDER_SLOW: (2.2, 5), Kind.ERROR_BURST: (0.3, 0.9), Kind.RATE_LIMITED: (0.2, 0.6), Kind.GUARDRAIL_STRICT: (0.15, 0.5), Kind.DEPLOYMENT_STARVED: (0.85, 1.0),
}  # fmt: skip
#: The dearer model that clients drift to, or that a gateway falls back to.
_DEARER = {
    "gpt-4o-mini": "gpt-4o", "gemini-flash": "gemini-pro", "gpt-4.1-mini": "gpt-4.1", "claude-haiku": "claude-sonnet", "claude-sonnet": "claude-opus",
    "mistral-large": "claude-sonnet", "llama-70b": "gpt-4o", "gpt-4.1": "claude-sonnet", "gpt-4o": "claude-sonnet", "gpt-5": "claude-opus",
    "gemini-pro": "claude-sonnet",
}  # fmt: skip
_STOLEN_FOR = ("claude-opus", "gpt-4.1", "claude-sonnet", "gpt-5")
_OF_ONE_APP = frozenset({
    Kind.RUNAWAY_LOOP, Kind.KEY_LEAKED, Kind.SINGLE_CALL, Kind.PREMIUM_DRIFT, Kind.NEW_MODEL, Kind.CAP_REMOVED, Kind.PROMPT_BLOAT,
    Kind.CACHE_BROKEN, Kind.GUARDRAIL_STRICT,
})  # fmt: skip
_ADDING = frozenset({Kind.RUNAWAY_LOOP, Kind.KEY_LEAKED, Kind.SINGLE_CALL})
#: Kinds that are about money.
_SPENDING = _ADDING | {Kind.PREMIUM_DRIFT, Kind.SILENT_FALLBACK, Kind.CAP_REMOVED, Kind.PROMPT_BLOAT, Kind.CACHE_BROKEN, Kind.PRICE_CHANGE}  # fmt: skip
#: Kinds whose strength is no share of calls: they touch all.
_TOUCH_ALL = frozenset({Kind.CAP_REMOVED, Kind.PROMPT_BLOAT, Kind.PRICE_CHANGE, Kind.PROVIDER_SLOW})


def plan(world: World, start_ns: int, seed: int = 1, days: int = 30, per_kind: int = PER_KIND) -> tuple[Incident, ...]:
    """The incidents of a month, in order of time. Those of a kind concern different apps and models while there are such."""
    planner = _Planner(world, start_ns, days, seed)
    # The longest first: they are hardest to place.
    kinds = sorted((kind for kind in Kind for _ in range(per_kind)), key=lambda kind: -_LASTS[kind][1])
    for kind in kinds:
        planner.place(kind)
    return tuple(sorted(planner.made, key=lambda one: (one.start_ns, one.kind)))


@dataclass(frozen=True, slots=True)
class _Claim:
    """What an incident is about, and what else it leans on: what another one must leave alone meanwhile."""

    own: frozenset[str]
    leans_on: frozenset[str]
    start_ns: int
    end_ns: int

    def disturbs(self, other: _Claim) -> bool:
        apart = APART_NS if self.own & other.own else 0 if (self.own & other.leans_on) | (self.leans_on & other.own) else None  # fmt: skip
        return apart is not None and self.start_ns < other.end_ns + apart and other.start_ns < self.end_ns + apart


class _Planner:
    """Draws incidents, and draws again what would disturb another one or is none."""

    def __init__(self, world: World, start_ns: int, days: int, seed: int) -> None:
        self.made: list[Incident] = []
        self._world, self._start_ns, self._days, self._seed = world, start_ns, days, seed
        self._draw = random.Random(seed)
        self._claims: list[_Claim] = []
        calendar = Calendar(world, start_ns)
        #: Calls to be expected, by workload and slot of the month.
        self._rates = np.concatenate([calendar.rates(day, np.random.default_rng([seed, day])) for day in range(days)], axis=1)  # fmt: skip
        self._workday = next(by_day(world, start_ns + DAY_NS, 1)).usual
        self._daily_usd = float(self._workday["cost_pico"].sum()) / PICO_PER_USD
        self._pricing = Pricing(PricingConfig(), Context("pricing", Path(), CollectorRegistry()))

    def place(self, kind: Kind) -> None:
        """Find one of a kind that fits. Raises AssertionError where the month has no room."""
        used = {_who(one) for one in self.made if one.kind is kind}
        for attempt in range(3000):
            one = self._drawn(kind)
            if _who(one) in used and attempt < 300:
                continue
            claim = _claim(one, self._world)
            if not any(claim.disturbs(other) for other in self._claims) and self._is_one(one):
                self.made.append(one)
                self._claims.append(claim)
                return
        raise AssertionError(f"no room for another {kind} in {self._days} days")

    def _drawn(self, kind: Kind) -> Incident:
        draw = self._draw
        where, to, workload = _where(kind, self._world, draw)
        slots = round(draw.uniform(*_LASTS[kind]) * 3600 / SLOT_S * 10) / 10
        last = self._rates.shape[1] - int(np.ceil(slots))
        if kind in _ADDING:  # machines and thieves choose any hour
            slot = draw.randrange(FIRST_DAY * SLOTS, last)
        else:  # what changes calls begins when there are some, as a release does
            weights = np.maximum(self._rates[self._world.workloads.index(workload), FIRST_DAY * SLOTS : last], 1e-9)
            slot = FIRST_DAY * SLOTS + draw.choices(range(len(weights)), weights.tolist())[0]
        begin = self._start_ns + round((slot + draw.random()) * SLOT_S) * 10**9
        return Incident(kind, where, begin, begin + round(slots * SLOT_S) * 10**9, draw.uniform(*_STRENGTH[kind]), to, self._seed * 1000 + len(self.made))  # fmt: skip

    def _is_one(self, one: Incident) -> bool:
        """Whether it touches enough calls, and costs enough where it is about money."""
        hours, first = (one.end_ns - one.start_ns) / HOUR_NS, self._start_ns + DAY_NS
        sample = replace(one, start_ns=first + 12 * HOUR_NS if one.kind in _ADDING else first, end_ns=first + (13 * HOUR_NS if one.kind in _ADDING else DAY_NS))  # fmt: skip
        scope = self._workday.filter(*(pl.col("request_model" if name == "model" else name) == value for name, value in one.where))  # fmt: skip
        if scope.is_empty():
            return False
        after = after_pricing(sample, priced(self._pricing, before_pricing(sample, scope, self._world, first), first))
        extra = (float(after["cost_pico"].sum()) - float(scope["cost_pico"].sum())) / PICO_PER_USD
        if one.kind is Kind.SINGLE_CALL:
            median = scope["cost_pico"].median() or 0
            return extra >= LEAST_PART * self._daily_usd and extra * PICO_PER_USD >= LEAST_TIMES * float(median)  # type: ignore[arg-type]
        if one.kind in _ADDING:
            return extra * hours >= LEAST_PART * self._daily_usd
        calls = self._expected(one, scope)
        touched = calls if one.kind in _TOUCH_ALL else calls * one.strength
        dear = one.kind not in _SPENDING or extra / len(scope) * calls >= LEAST_PART * self._daily_usd
        return touched >= LEAST_CALLS and dear

    def _expected(self, one: Incident, scope: pl.DataFrame) -> float:
        """Calls that it is about, in its time: each app's, as many of them as on the working day."""
        first, last = ((ns - self._start_ns) / (SLOT_S * 10**9) for ns in (one.start_ns, one.end_ns))
        during = self._rates[:, int(first) : max(int(np.ceil(last)), int(first) + 1)].sum(axis=1)
        of_day = self._rates[:, SLOTS : 2 * SLOTS].sum(axis=1)
        mine = dict(scope.group_by("app").len().iter_rows())
        return float(sum(mine.get(w.app, 0) / max(of_day[n], 1.0) * during[n] for n, w in enumerate(self._world.workloads)))  # fmt: skip


def _who(one: Incident) -> str:
    """Whom it is about, so that a kind is not about the same again and again."""
    wanted = dict(one.where)
    return wanted.get("app") or wanted.get("api_key") or wanted.get("model") or wanted["provider"]


def _where(kind: Kind, world: World, draw: random.Random) -> tuple[Subject, str, Workload]:
    """Which calls it is about, the model that it leads to, and a workload whose rhythm these have."""
    if kind in _OF_ONE_APP:
        one = draw.choice([w for w in world.workloads if w.calls_a_day >= _APP_CALLS and _has(kind, w)])
        of_app, model = (("app", one.app), ("team", one.team)), one.models[0][0]
        match kind:
            case Kind.KEY_LEAKED:
                return (("api_key", one.key), ("team", one.team)), draw.choice(_STOLEN_FOR), one
            case Kind.PREMIUM_DRIFT | Kind.SINGLE_CALL:
                to = _DEARER[model] if kind is Kind.PREMIUM_DRIFT else ""
                return (("app", one.app), ("model", model), ("team", one.team)), to, one
            case Kind.NEW_MODEL:
                return of_app, draw.choice(world.unused).alias, one
            case _:
                return of_app, "", one
    users = {alias: one for one in world.workloads for alias, weight in one.models if one.calls_a_day * weight >= _MODEL_CALLS}  # fmt: skip
    offers = [offer for offer in map(world.offer, sorted(users)) if offer.model.book and not offer.model.embeds]
    if kind is Kind.DEPLOYMENT_STARVED:
        offer = draw.choice([one for one in offers if len(one.deployments) > 1])
        return (("deployment", draw.choice(offer.deployments).name), ("model", offer.alias)), "", users[offer.alias]
    if kind is Kind.SILENT_FALLBACK:  # there is no dearer one than the dearest
        offers = [one for one in offers if one.alias in _DEARER]
    offer = draw.choice(offers)
    if kind is Kind.PROVIDER_SLOW:
        return (("provider", offer.model.provider),), "", users[offer.alias]
    to = _DEARER[offer.alias] if kind is Kind.SILENT_FALLBACK else ""
    return (("model", offer.alias), ("provider", offer.model.provider)), to, users[offer.alias]


def _has(kind: Kind, one: Workload) -> bool:
    """Whether an app is one that this can happen to."""
    if one.models[0][0] not in _DEARER:  # embeddings, and what has no price
        return False
    match kind:
        case Kind.CAP_REMOVED:
            return one.output_limit is not None
        case Kind.CACHE_BROKEN:
            return one.cached >= 0.3 and one.input_tokens > 1200
        case Kind.GUARDRAIL_STRICT:
            return one.guardrail is not None
        case _:
            return True


def _claim(one: Incident, world: World) -> _Claim:
    wanted = dict(one.where)
    if one.kind not in _OF_ONE_APP:
        provider = wanted.get("provider") or world.offer(wanted["model"]).model.provider
        return _Claim(frozenset({f"provider {provider}"}), frozenset(), one.start_ns, one.end_ns)
    apps = [w for w in world.workloads if w.app == wanted.get("app") or w.key == wanted.get("api_key")]
    models = {alias for w in apps for alias, _ in w.models} | ({one.to} if one.to else set())
    leans_on = frozenset(f"provider {world.offer(alias).model.provider}" for alias in models)
    return _Claim(frozenset(f"team {w.team}" for w in apps), leans_on, one.start_ns, one.end_ns)


__all__ = ["FIRST_DAY", "plan"]
