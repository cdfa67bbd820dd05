"""The generator of a month: the same by seed, with its rhythm, its tails and its calm; and incidents that change what they say, and nothing else."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

from collector.columns import CALL_COLUMNS, schema
from spanledger.demo.company import OFFERS, UNUSED, Rhythm, World
from spanledger.demo.incidents import Incident, Kind
from spanledger.demo.rhythm import DAY_NS, HOUR_NS, SLOTS, Calendar
from spanledger.demo.traffic import Day, by_day, month

#: A Monday.
START_NS = 1_793_577_600 * 10**9
WORLD = World.seeded(3, calls_a_day=6_000)


pytestmark = pytest.mark.usefixtures("without_warnings")


@cache
def days(count: int = 2) -> pl.DataFrame:
    return pl.concat(month(WORLD, START_NS, count))


# The company ----------------------------------------------------------------------------------------------------------


def test_a_company_has_twenty_teams_of_very_different_sizes() -> None:
    world = World.seeded(5)
    sizes = {team: sum(w.calls_a_day for w in world.workloads if w.team == team) for team in world.teams}
    assert len(sizes) == 20
    assert sum(sizes.values()) == pytest.approx(50_000)
    assert min(sizes.values()) < 150
    assert max(sizes.values()) > 10_000
    assert len({w.zone for w in world.workloads}) >= 5
    assert World.seeded(5) == world
    assert World.seeded(6) != world


def test_every_model_that_an_app_calls_is_offered_and_unused_ones_are_not_called() -> None:
    offered = {offer.alias for offer in OFFERS}
    assert {alias for w in WORLD.workloads for alias, _ in w.models} <= offered
    assert not offered & {offer.alias for offer in UNUSED}
    with pytest.raises(KeyError):
        WORLD.offer("gpt-1")


# The month ------------------------------------------------------------------------------------------------------------


def test_frames_are_those_of_a_ledger() -> None:
    frames = list(month(WORLD, START_NS, 1))
    assert len(frames) == 24
    for number, frame in enumerate(frames):
        assert dict(frame.schema) == schema(CALL_COLUMNS)
        assert frame["start_ns"].is_sorted()
        hour = (frame["start_ns"] - START_NS) // HOUR_NS
        assert hour.min() == number
        if number < 23:  # a retry may begin after midnight
            assert hour.max() == number
    calls = pl.concat(frames)
    assert calls["call_id"].n_unique() == len(calls)
    for name in (
        "start_ns",
        "duration_ns",
        "trace_id",
        "span_id",
        "team",
        "app",
        "api_key",
        "user",
        "request_model",
        "status",
        "price_status",
    ):
        assert calls[name].null_count() == 0, name


def test_the_same_seed_gives_the_same_month_and_days_do_not_depend_on_how_many_there_are() -> None:
    one, more = pl.concat(month(WORLD, START_NS, 1)), pl.concat(month(WORLD, START_NS, 2))
    assert one.equals(more[: len(one)])
    assert not one.equals(pl.concat(month(World.seeded(4, calls_a_day=6_000), START_NS, 1)))


def test_calls_are_priced_by_the_price_book() -> None:
    calls = days().filter(pl.col("status") == "Unset")
    haiku = calls.filter(
        (pl.col("request_model") == "claude-haiku")
        & (pl.col("price_status") == "priced")
        & pl.col("cache_write_tokens").is_null()
    )
    fresh = haiku["input_tokens"] - haiku["cache_read_tokens"]
    assert len(haiku) > 50
    assert (
        haiku["cost_pico"]
        == fresh * 1_000_000 + haiku["cache_read_tokens"] * 100_000 + haiku["output_tokens"] * 5_000_000
    ).all()
    assert set(calls.filter(pl.col("response_cache_hit"))["cost_pico"].fill_null(0)) == {0}
    failed = days().filter(pl.col("status") == "Error")
    assert failed["cost_pico"].null_count() == len(failed)


def test_failed_attempts_are_few_and_tried_again_below_the_same_span() -> None:
    failed = days().filter((pl.col("status") == "Error") & pl.col("refused_by").is_null())
    assert 0.003 < len(failed) / len(days()) < 0.02
    both = failed.join(days().filter(pl.col("status") == "Unset"), on=["trace_id", "parent_span_id"], suffix="_after")
    assert 0.6 < len(both) / len(failed) <= 1
    assert (both["start_ns_after"] > both["start_ns"] + both["duration_ns"]).all()


def test_tokens_have_a_heavy_tail_and_caps_hold() -> None:
    calls = days().filter(pl.col("input_tokens").is_not_null())
    app = calls.filter(pl.col("app") == calls["app"].mode()[0])["input_tokens"]
    assert app.max() > 6 * app.median()  # type: ignore[operator]
    capped = calls.filter(pl.col("output_limit").is_not_null())
    assert (capped["output_tokens"] <= capped["output_limit"]).all()
    assert set(capped.filter(pl.col("output_tokens") == pl.col("output_limit"))["finish_reason"]) <= {"length"}


def test_deployments_take_the_shares_that_are_configured() -> None:
    world = World.seeded(1, calls_a_day=60_000)
    calls = pl.concat(month(world, START_NS, 1)).filter(pl.col("request_model") == "gpt-4o")
    shares = calls["deployment"].drop_nulls().value_counts(normalize=True)
    assert dict(shares.iter_rows())["azure-eu"] == pytest.approx(0.75, abs=0.03)


# Its rhythm -----------------------------------------------------------------------------------------------------------


@cache
def rates() -> tuple[Any, Calendar]:
    calendar = Calendar(WORLD, START_NS)
    return np.stack([calendar.rates(day, np.random.default_rng(day)) for day in range(30)], axis=1), calendar


def daily(rhythm: Rhythm) -> dict[str, Any]:
    """Expected calls of each day of the month, by app."""
    found, _ = rates()
    return {one.app: found[number].sum(axis=1) for number, one in enumerate(WORLD.workloads) if one.rhythm is rhythm}


def test_offices_are_empty_on_weekends_and_days_off() -> None:
    _, calendar = rates()
    zones = {one.app: one.zone for one in WORLD.workloads}
    for app, calls in daily(Rhythm.OFFICE).items():
        off = {day for day in range(30) if day % 7 in (5, 6) or day in calendar.days_off[zones[app]]}
        working = np.median(
            [calls[day] for day in range(30) if day not in off and day - 1 not in off and day + 1 not in off]
        )
        # Days of the calendar are UTC, so a day off begins and ends some hours beside them.
        assert calls[[5, 12, 19, 26]].mean() < 0.6 * working, app
        assert all(calls[day] < 0.95 * working for day in calendar.days_off[zones[app]]), app


def test_people_work_by_their_own_clocks() -> None:
    found, _ = rates()
    for number, one in enumerate(WORLD.workloads):
        if one.rhythm is not Rhythm.OFFICE:
            continue
        slots = found[number, 1:4].sum(axis=0)
        clock = [
            datetime.fromtimestamp((START_NS // 10**9) + DAY_NS // 10**9 + slot * 300, ZoneInfo(one.zone)).hour
            for slot in range(SLOTS)
        ]
        at_work = sum(calls for calls, hour in zip(slots, clock, strict=True) if 8 <= hour < 18)
        assert at_work > 0.7 * slots.sum(), (one.app, one.zone)


def test_batch_jobs_run_at_their_hour_and_machines_around_the_clock() -> None:
    found, _ = rates()
    for number, one in enumerate(WORLD.workloads):
        busy = (found[number, 3] > 0).mean() * 24
        if one.rhythm is Rhythm.BATCH:
            assert busy == pytest.approx(one.job_hours, abs=0.2)
        elif one.rhythm is Rhythm.STEADY:
            hours = found[number, 3].reshape(24, -1).sum(axis=1)
            assert hours.min() > 0.5 * hours.max()


def test_launches_bring_more_calls_that_stay() -> None:
    found, calendar = rates()
    assert calendar.launches
    without = Calendar(WORLD, START_NS)
    without.launches.clear()
    calm = np.stack([without.rates(day, np.random.default_rng(day)) for day in range(30)], axis=1)
    for number, one in enumerate(WORLD.workloads):
        launch = calendar.launches.get(one.app)
        times = found[number].sum(axis=1) / np.maximum(calm[number].sum(axis=1), 1e-9)
        assert times[29] == pytest.approx(launch.factor if launch else 1.0)
        assert times[0] == pytest.approx(1.0)


# Incidents ------------------------------------------------------------------------------------------------------------

APP = max(
    (w for w in WORLD.workloads if w.cached >= 0.5 and w.guardrail and w.output_limit), key=lambda w: w.calls_a_day
)
MODEL = APP.models[0][0]
OFFER = WORLD.offer(MODEL)
OF_APP = (("app", APP.app), ("team", APP.team))
OF_MODEL = (("model", MODEL), ("provider", OFFER.model.provider))
SPREAD = next(
    o
    for o in OFFERS
    if len(o.deployments) > 1 and any(o.alias == alias for w in WORLD.workloads for alias, _ in w.models)
)
FROM_NS, TO_NS = START_NS + 6 * HOUR_NS, START_NS + 20 * HOUR_NS

#: Per kind: whom it is about, its strength, the model that it leads to, and the columns that it may change.
CASES: dict[Kind, tuple[Any, float, str, set[str]]] = {
    Kind.PREMIUM_DRIFT: ((*OF_APP, ("model", MODEL)), 0.7, "claude-opus", {"request_model", *(SERVED := {"provider", "response_model", "upstream_model", "deployment", "region", "duration_ns", "cache_read_tokens", "cache_write_tokens", "money"})}),
    Kind.NEW_MODEL: (OF_APP, 0.5, "grok-4", {"request_model", *SERVED}),
    Kind.SILENT_FALLBACK: (OF_MODEL, 0.9, "claude-opus", SERVED),
    Kind.CAP_REMOVED: (OF_APP, 4.0, "", {"output_limit", "output_tokens", "duration_ns", "finish_reason", "money"}),
    Kind.PROMPT_BLOAT: (OF_APP, 4.0, "", {"input_tokens", "money"}),
    Kind.CACHE_BROKEN: (OF_APP, 1.0, "", {"cache_read_tokens", "cache_write_tokens", "money"}),
    Kind.PRICE_CHANGE: (OF_MODEL, 2.0, "", {"money"}),
    Kind.PROVIDER_SLOW: ((("provider", OFFER.model.provider),), 3.0, "", {"duration_ns", "time_to_first_token_ns"}),
    Kind.ERROR_BURST: (OF_MODEL, 0.6, "", (NO_ANSWER := {"status", "error_type", "duration_ns", "money", "tokens", "answer"})),
    Kind.RATE_LIMITED: (OF_MODEL, 0.4, "", NO_ANSWER),
    Kind.GUARDRAIL_STRICT: (OF_APP, 0.4, "", {*NO_ANSWER, "refused_by", "provider", "upstream_model"}),
    Kind.DEPLOYMENT_STARVED: ((("deployment", SPREAD.deployments[0].name), ("model", SPREAD.alias)), 0.9, "", {"deployment", "region"}),
    Kind.RUNAWAY_LOOP: (OF_APP, 5.0, "", set()),
    Kind.KEY_LEAKED: ((("api_key", APP.key), ("team", APP.team)), 5.0, "claude-opus", set()),
    Kind.SINGLE_CALL: ((*OF_APP, ("model", MODEL)), 400.0, "", set()),
}  # fmt: skip
GROUPS = {
    "money": {"cost_pico", "list_cost_pico", "reported_cost_pico", "cache_savings_pico", "price_status", "price_source", "price_assumptions"},
    "tokens": {"input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens"},
    "answer": {"response_model", "response_id", "finish_reason", "time_to_first_token_ns", "streaming", "response_cache_hit", "deployment", "region", "service_tier"},
}  # fmt: skip


@cache
def happened(kind: Kind, *others: Incident) -> tuple[Incident, Day]:
    where, strength, to, _ = CASES[kind]
    end = FROM_NS + 60 * 10**9 if kind is Kind.SINGLE_CALL else TO_NS
    one = Incident(kind, where, FROM_NS, end, strength, to, 7)
    return one, next(by_day(WORLD, START_NS, 1, (*others, one)))


@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.value)
def test_an_incident_changes_what_it_says_and_nothing_else(kind: Kind) -> None:
    one, day = happened(kind)
    allowed = {name for column in CASES[kind][3] for name in GROUPS.get(column, {column})}
    both = day.usual.join(day.calls, on="call_id", suffix="_now", maintain_order="left")
    assert len(both) == len(day.usual)  # no call is lost
    names = [name for name in day.usual.columns if name != "call_id"]
    moved = {name for name in names if both.filter(pl.col(name).ne_missing(pl.col(f"{name}_now"))).height}
    assert moved <= allowed
    touched = both.filter(pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_now")) for name in names))
    assert (touched["start_ns"] >= one.start_ns).all()
    assert (touched["start_ns"] < one.end_ns).all()
    columns = {"model": "request_model"}
    for dimension, value in one.where:
        assert set(touched[columns.get(dimension, dimension)]) <= {value}
    more = day.calls.join(day.usual, on="call_id", how="anti")
    assert more["call_id"].n_unique() == len(more)
    if CASES[kind][3]:
        assert len(touched) > 20
        assert more.is_empty()
    else:
        assert len(more) == (1 if kind is Kind.SINGLE_CALL else 5 * 14 * 60)
        assert set(more["team"]) == {APP.team}
        assert more["start_ns"].is_between(one.start_ns, one.end_ns).all()


def test_incidents_do_not_disturb_one_another() -> None:
    loop = happened(Kind.RUNAWAY_LOOP)[0]
    alone, beside = happened(Kind.PROVIDER_SLOW)[1].calls, happened(Kind.PROVIDER_SLOW, loop)[1].calls
    assert beside.join(alone, on="call_id", how="semi").equals(alone)


def ratio(kind: Kind, column: str, how: str = "mean") -> float:
    """Of the calls that it is about: a column with the incident, by what it would have been."""
    one, day = happened(kind)
    about = [pl.col({"model": "request_model"}.get(name, name)) == value for name, value in one.where]
    ids = day.usual.filter(
        *about, pl.col("start_ns").is_between(one.start_ns, one.end_ns), pl.col("status") == "Unset"
    )["call_id"]
    now, before = (
        frame.filter(pl.col("call_id").is_in(ids.implode()))[column].cast(pl.Float64())
        for frame in (day.calls, day.usual)
    )
    return float(getattr(now, how)() / getattr(before, how)())


def test_how_strong_incidents_are() -> None:
    assert ratio(Kind.CAP_REMOVED, "output_tokens") == pytest.approx(4, rel=0.05)
    assert ratio(Kind.PROMPT_BLOAT, "input_tokens") == pytest.approx(4, rel=0.05)
    assert ratio(Kind.PRICE_CHANGE, "cost_pico", "sum") == pytest.approx(2, rel=1e-6)
    assert ratio(Kind.PROVIDER_SLOW, "duration_ns") == pytest.approx(3, rel=0.1)
    assert ratio(Kind.CACHE_BROKEN, "cost_pico", "sum") > 1.05
    assert ratio(Kind.PREMIUM_DRIFT, "cost_pico", "sum") > 1.5


def test_shares_of_incidents() -> None:
    for kind, value in (
        (Kind.ERROR_BURST, "InternalServerError"),
        (Kind.RATE_LIMITED, "RateLimitError"),
        (Kind.GUARDRAIL_STRICT, "HTTPException"),
    ):
        one, day = happened(kind)
        changed = day.calls.join(day.usual.filter(pl.col("status") == "Unset"), on="call_id", how="semi").filter(
            pl.col("status") == "Error"
        )
        about = [pl.col({"model": "request_model"}.get(name, name)) == v for name, v in one.where]
        usual = day.usual.filter(
            *about, pl.col("start_ns").is_between(one.start_ns, one.end_ns), pl.col("status") == "Unset"
        )
        assert len(changed) / len(usual) == pytest.approx(one.strength, abs=0.06)
        assert set(changed["error_type"]) == {value}
        assert changed["cost_pico"].null_count() == len(changed)


def test_a_loop_is_one_conversation_that_grows() -> None:
    _, day = happened(Kind.RUNAWAY_LOOP)
    more = day.calls.join(day.usual, on="call_id", how="anti")
    assert more["conversation_id"].n_unique() == more["user"].n_unique() == 1
    first, last = more[: len(more) // 4], more[-len(more) // 4 :]
    assert last["input_tokens"].mean() > 1.8 * first["input_tokens"].mean()  # type: ignore[operator]


def test_a_leaked_key_is_used_by_somebody_else() -> None:
    _, day = happened(Kind.KEY_LEAKED)
    more = day.calls.join(day.usual, on="call_id", how="anti")
    assert set(more["api_key"]) == {APP.key}
    assert set(more["request_model"]) == {"claude-opus"}
    assert set(more["service_name"]) == {"litellm-proxy"}
    assert more["end_user"].null_count() == len(more)
    assert (more["cost_pico"] > 0).all()


def test_a_single_call_costs_hundreds_of_times_the_usual() -> None:
    _, day = happened(Kind.SINGLE_CALL)
    (huge,) = day.calls.join(day.usual, on="call_id", how="anti").to_dicts()
    usual = day.usual.filter((pl.col("app") == APP.app) & (pl.col("request_model") == MODEL))["cost_pico"].median()
    assert huge["cost_pico"] > 100 * usual  # type: ignore[operator]
