"""The simulation's score: a finding matches an incident by time, subject and what it says, and by nothing less."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from prometheus_client import CollectorRegistry

from collector.component import Context, Processor
from collector.findings import Observation
from config.types import StrictModel
from spanledger.demo.company import World
from spanledger.demo.incidents import Incident, Kind
from spanledger.demo.rhythm import DAY_NS, HOUR_NS
from tests.findings_kit import finding
from tests.simulation.incidents import FIRST_DAY, plan
from tests.simulation.labels import Label, measured
from tests.simulation.scoring import GRACE_NS, Found, Machine, Score, matches, measure, score, steps

START_NS = 1_793_577_600 * 10**9
MINUTE_NS = 60 * 10**9
WORLD = World.seeded(3, calls_a_day=4_000)
APP = max((w for w in WORLD.workloads if w.output_limit and len(w.models) == 2), key=lambda w: w.calls_a_day)
OTHER = next(w for w in WORLD.workloads if w.team != APP.team and w.calls_a_day > 50)
BEGIN_NS, END_NS = START_NS + 6 * HOUR_NS, START_NS + 18 * HOUR_NS
CAP = Incident(Kind.CAP_REMOVED, (("app", APP.app), ("team", APP.team)), BEGIN_NS, END_NS, 5.0, seed=3)


pytestmark = pytest.mark.usefixtures("without_warnings")


@cache
def label(one: Incident = CAP) -> Label:
    made = Label(one)
    for _ in measured(WORLD, START_NS, [made], 1):
        pass
    return made


def found(after: float = 30, kind: str = "anomaly.output_tokens", delay: float = 5, **subject: str) -> Found:
    """A finding that opened so many minutes after the incident's first call."""
    at = label().first_ns + round(after * MINUTE_NS)
    about = subject or {"app": APP.app, "team": APP.team}
    return Found(
        finding(kind=kind, subject=tuple(sorted(about.items())), first_seen_ns=at), at + round(delay * MINUTE_NS)
    )


def test_a_label_is_measured() -> None:
    one = label()
    assert BEGIN_NS <= one.first_ns < BEGIN_NS + 2 * HOUR_NS
    assert one.changed > 50
    assert one.cost_usd > 0
    assert one.cost_a_day == one.cost_usd  # of half a day, in all
    assert one.dear == (one.cost_usd > 0.05 * one.daily_usd)


def test_a_finding_that_says_it_matches() -> None:
    assert matches(found(), label())
    assert matches(found(0), label())
    assert matches(found(kind="anomaly.cost"), label())
    assert matches(found(kind="latency.longer_answers", model=APP.models[0][0], app=APP.app), label())


@pytest.mark.parametrize("after", [-1, (END_NS + GRACE_NS - BEGIN_NS) / MINUTE_NS + 1])
def test_before_and_long_after_it_matches_nothing(after: float) -> None:
    assert not matches(found(after), label())


@pytest.mark.parametrize(
    "subject",
    [
        {"app": OTHER.app, "team": OTHER.team},
        {"team": OTHER.team},
        {"app": APP.app, "team": OTHER.team},
        {"model": "a model that nobody calls"},
        {"weather": "rain"},
    ],
    ids=["other app", "other team", "contradiction", "unknown model", "unknown dimension"],
)
def test_another_subject_does_not_match(subject: dict[str, str]) -> None:
    assert not matches(found(**subject), label())


def test_a_subject_that_is_mostly_others_does_not_match() -> None:
    environment = label().part_of({"environment": APP.environment})
    assert 0 < environment < 1
    assert matches(found(environment=APP.environment), label()) == (environment >= 0.25)
    assert label().part_of({"app": APP.app}) == 1
    assert label().part_of({"app": OTHER.app}) == 0


def test_what_it_does_not_move_does_not_match() -> None:
    for kind in ("anomaly.cache_hit_rate", "anomaly.error_rate", "anomaly.share", "load.skewed", "guardrail.stricter"):
        assert not matches(found(kind=kind), label()), kind


def test_a_model_may_be_called_by_either_name() -> None:
    model = WORLD.offer(APP.models[0][0])
    assert label().part_of({"app": APP.app, "model": model.alias}) == 1
    assert label().part_of({"app": APP.app, "model": model.upstream}) == 1


def test_a_starved_deployment_is_named_by_the_calls_that_it_lost() -> None:
    of = next(
        o for o in WORLD.offers if len(o.deployments) > 1 and any(o.alias == w.models[0][0] for w in WORLD.workloads)
    )
    starved, other = of.deployments[0].name, of.deployments[1].name
    one = label(
        Incident(Kind.DEPLOYMENT_STARVED, (("deployment", starved), ("model", of.alias)), BEGIN_NS, END_NS, 1.0)
    )
    assert one.part_of({"deployment": starved, "model": of.alias}) == 1
    assert one.part_of({"deployment": other, "model": of.alias}) > 0.25


def test_the_score_counts_findings_and_incidents() -> None:
    other = Label(
        Incident(Kind.ERROR_BURST, (("model", "gpt-4o"),), BEGIN_NS, END_NS, 0.5),
        first_ns=BEGIN_NS,
        cost_usd=10,
        daily_usd=100,
    )
    never = Label(Incident(Kind.ERROR_BURST, (("model", "gpt-5"),), BEGIN_NS, END_NS, 0.5))  # nobody called it
    said = [found(30), found(20, delay=7), found(40, app=OTHER.app), found(50, kind="anomaly.share")]
    result = score(said, [label(), other, never], 2)
    assert (result.true, len(result.false), result.precision, result.false_a_day) == (2, 2, 0.5, 1.0)
    assert (len(result.rows), result.recall) == (2, 0.5)
    assert result.rows[0].delay_s == 27 * 60
    assert result.rows[1].delay_s is None


def test_an_expensive_incident_that_nobody_found_counts_as_endless() -> None:
    one, two = (Label(CAP, first_ns=BEGIN_NS, cost_usd=10, daily_usd=100, calls=label().calls) for _ in range(2))
    cheap = Label(CAP, first_ns=BEGIN_NS, cost_usd=4, daily_usd=100)
    assert one.dear
    assert not cheap.dear
    at = Found(found(3).finding, BEGIN_NS + 4 * MINUTE_NS)
    seen = score([at], [cheap, one], 1)
    assert seen.median_delay_s == 240
    two.incident = Incident(Kind.ERROR_BURST, CAP.where, BEGIN_NS, END_NS, 0.5)
    assert score([at], [one, two], 1).median_delay_s == float("inf")


def test_nothing_said_and_nothing_to_say() -> None:
    silent = score([], [label()], 1)
    assert (silent.precision, silent.recall, silent.median_delay_s) == (
        1.0,
        0.0,
        float("inf") if label().dear else None,
    )
    calm = score([], [], 1)
    assert (calm.precision, calm.recall, calm.median_delay_s) == (1.0, 1.0, None)
    assert isinstance(calm, Score)


@pytest.mark.parametrize(
    ("kind", "about"),
    [
        ("anomaly.cost_per_call", "cost_per_call"), ("anomaly.new", "new"), ("latency.first_token", "latency"), ("load.idle", "share"),
        ("load.overloaded", "error_rate"), ("guardrail.stricter", "refusal_rate"),
    ],
)  # fmt: skip
def test_what_findings_are_about(kind: str, about: str) -> None:
    assert measure(kind) == about


# Driving processors ---------------------------------------------------------------------------------------------------


class _Counting(Processor[StrictModel]):
    """Says something of every tenth call of one app, also what is not scored."""

    Config = StrictModel

    def process(self, batch: Any) -> Any:
        rows = batch.calls.filter(pl.col("app") == APP.app).to_dicts()
        said = [
            Observation(kind, (("app", row["app"]), ("call", row["call_id"])), row["start_ns"], "said")
            for row in rows[::10]
            for kind in ("anomaly.cost", "routing.fallback")
        ]
        return batch.with_(observed=(*batch.observed, *said))


def test_processors_are_driven_as_in_a_pipeline() -> None:
    machine = Machine([_Counting(StrictModel(), Context("counting", Path(), CollectorRegistry()))])
    day = next(measured(WORLD, START_NS, [], 1))
    batches = list(steps(day.calls))
    assert pl.concat(batches).equals(day.calls)
    assert max(batch["start_ns"].max() - batch["start_ns"].min() for batch in batches) < 5 * MINUTE_NS
    found = [one for batch in batches for one in machine.take(batch)]
    assert found
    assert {one.finding.kind for one in found} == {"anomaly.cost"}
    assert all(0 <= one.at_ns - one.finding.first_seen_ns < 5 * MINUTE_NS for one in found)


# The plan -------------------------------------------------------------------------------------------------------------


def test_the_plan_has_sixty_incidents_of_fifteen_kinds_by_seed() -> None:
    world = World.seeded(2)
    made = plan(world, START_NS, 2)
    assert len(made) == 60
    assert {kind: sum(one.kind is kind for one in made) for kind in Kind} == dict.fromkeys(Kind, 4)
    for one in made:
        assert START_NS + FIRST_DAY * DAY_NS <= one.start_ns < one.end_ns <= START_NS + 30 * DAY_NS
    assert (
        plan(world, START_NS, 2, per_kind=1)
        == plan(world, START_NS, 2, per_kind=1)
        != plan(world, START_NS, 3, per_kind=1)
    )
    assert list(made) == sorted(made, key=lambda one: one.start_ns)
    teams: dict[str, list[Incident]] = {}
    for one in made:
        if "team" in dict(one.where):
            teams.setdefault(dict(one.where)["team"], []).append(one)
    for mine in teams.values():
        assert all(b.start_ns - a.end_ns >= 30 * HOUR_NS for a, b in pairwise(mine))


def test_a_month_too_short_for_its_incidents_is_refused() -> None:
    with pytest.raises(AssertionError, match="no room for another"):
        plan(WORLD, START_NS, 1, days=FIRST_DAY + 5, per_kind=30)
