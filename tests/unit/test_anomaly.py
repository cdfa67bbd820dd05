"""Anomalies: every kind is told once, about the right subject, with its money and the calls that show it; and what is not told."""

from __future__ import annotations

import logging
import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from pydantic import ValidationError

from collector.findings import Observation, Severity
from collector.findings_book import FindingsBook
from config.errors import ConfigError
from config.loader import loads
from processors.anomaly import Anomaly, AnomalyConfig, Scope
from processors.anomaly.journal import Records
from processors.anomaly.layouts import layouts
from processors.anomaly.measures import MEASURES, PLACES
from processors.anomaly.rows import CORE, DAILY, FIELDS, MEASURED, WEIGHT, Layout, Rows
from processors.anomaly.series import Series
from tests.anomaly_kit import (
    DAY,
    HOUR,
    MINUTE,
    START,
    Change,
    batch,
    counted,
    exchanged,
    multiplied,
    opened,
    processor,
    take,
    traffic,
)  # fmt: skip
from tests.findings_kit import Memory, new_book

#: The past of all tests: a day and a half.
OPTIONS: dict[str, Any] = {"warm_up": "24h"}
NOW = START + 36 * HOUR
CHAT, DOCS, BIDS = (pl.col("app") == app for app in ("chat", "docs", "bids"))
OPENAI = pl.col("provider") == "openai"


@pytest.fixture(scope="module")
def past() -> Memory:
    state = Memory()
    made = processor(**OPTIONS)
    for hour in range(36):
        take(made, traffic(START + hour * HOUR, START + (hour + 1) * HOUR), state)
    return state


def started(past: Memory, **options: Any) -> tuple[Anomaly, Memory]:
    """A processor that knows the past, and a state of its own."""
    state = Memory()
    state.values = dict(past.values)
    return processor(state, **{**OPTIONS, **options}), state


def stored(state: Memory) -> list[str]:
    """Names of the series that a state has."""
    names: dict[int, str] = {}
    for _, value in state.items(b"r"):
        names |= {slot: name for slot, _, _, name in Records.read(value).rows()}
    return [name for name in names.values() if name]


def after(past: Memory, *changes: Change, lasts: int = HOUR, **options: Any) -> list[Observation]:
    """What is observed while calls are other ones for an hour, and in the two hours behind it."""
    made, state = started(past, **options)
    calls = pl.concat([traffic(NOW, NOW + lasts), traffic(NOW + lasts, NOW + lasts + 2 * HOUR)])
    during = pl.col("start_ns") < NOW + lasts
    for change in changes:
        calls = pl.concat([change(calls.filter(during)), calls.filter(~during)])
    return take(made, calls.sort("start_ns"), state)


def more(where: pl.Expr, times: int, **values: Any) -> Change:
    """So many times the calls, the additional ones with other values."""

    def change(calls: pl.DataFrame) -> pl.DataFrame:
        first, last = int(calls["start_ns"].min()), int(calls["start_ns"].max()) + 1  # type: ignore[arg-type]
        again = traffic(first, last, seed=2, times=times - 1, **values).filter(where)
        return pl.concat([calls, again.with_columns(("2" + pl.col("call_id")).alias("call_id"))])

    return change


def test_a_usual_day_says_nothing(past: Memory) -> None:
    made, state = started(past)
    calls = pl.concat([traffic(NOW + hour * HOUR, NOW + (hour + 1) * HOUR) for hour in range(12)])
    assert take(made, calls, state) == []


@pytest.mark.parametrize(
    ("change", "kind", "subject"),
    [
        (more(CHAT, 20), "cost", {"team": "search", "app": "chat"}),
        (multiplied(OPENAI & (pl.col("request_model") == "small"), 2.5, "cost_pico"), "cost_per_call", {"provider": "openai", "model": "small"}),
        (multiplied(DOCS, 5, "input_tokens", "cache_read_tokens", "cost_pico"), "input_tokens", {"team": "search", "app": "docs", "model": "small"}),
        (multiplied(DOCS, 5, "output_tokens", "duration_ns", "cost_pico"), "output_tokens", {"team": "search", "app": "docs", "model": "small"}),
        (exchanged(CHAT, cache_read_tokens=0), "cache_hit_rate", {"team": "search", "app": "chat"}),
        (multiplied(OPENAI, 4, "duration_ns", "time_to_first_token_ns"), "latency", {"provider": "openai"}),
        (multiplied(OPENAI, 6, "time_to_first_token_ns"), "time_to_first_token", {"provider": "openai"}),
        (exchanged(OPENAI & (pl.col("output_tokens") % 3 > 0), status="Error", output_tokens=None, cost_pico=None), "error_rate", {"provider": "openai"}),
        (exchanged(BIDS & (pl.col("output_tokens") % 2 > 0), refused_by="strict", status="Error"), "refusal_rate", {"team": "ads", "app": "bids"}),
        (exchanged(pl.col("deployment") == "small-a", deployment="small-b"), "share_lost", {"model": "small", "deployment": "small-a"}),
        (exchanged(BIDS, request_model="small", response_model="small", provider="openai", deployment="small-a"), "share_gained", {"team": "ads", "app": "bids", "model": "small"}),
    ],
)  # fmt: skip
def test_what_changes_is_told_once_by_its_cause_about_the_narrowest_subject(
    past: Memory, change: Change, kind: str, subject: dict[str, str]
) -> None:
    observed = after(past, change)
    assert opened(observed) == [(f"anomaly.{kind}", subject)]
    first, last = observed[0], observed[-1]
    assert NOW < first.at_ns <= NOW + 30 * MINUTE
    assert not last.holds, "it is over within two hours"
    assert first.evidence
    assert all(one.trace_id and one.span_id for one in first.evidence)
    assert first.message.endswith(
        ("in 5m, usually " + first.message.split("usually ")[1], first.message.split(": ")[1])
    )
    assert (first.measured or 0) * 1.2 < (first.expected or 0) if kind in {"cache_hit_rate", "share_lost"} else (first.measured or 0) > 1.2 * (first.expected or 0)  # fmt: skip


def test_money_at_stake_is_what_is_too_much(past: Memory) -> None:
    change = multiplied(OPENAI & (pl.col("request_model") == "small"), 2.5, "cost_pico")
    observed = after(past, change)
    during = traffic(NOW, NOW + HOUR).filter(pl.col("request_model") == "small")["cost_pico"].sum()
    told = sum(one.cost_pico or 0 for one in observed if one.holds)
    assert 0.8 * 1.5 * during < told < 1.2 * 1.5 * during


def test_other_measures_and_scopes_are_a_matter_of_configuration(past: Memory) -> None:
    scopes = dict.fromkeys(("providers", "provider_models", "deployments"))
    speed = {
        **scopes,
        "speeds": {"per": ["provider"], "measures": ["tokens_per_second"]},
        "volumes": {"per": ["team"], "measures": ["calls"]},
    }
    state, made = Memory(), processor(**OPTIONS, scopes=speed)
    for hour in range(36):
        take(made, traffic(START + hour * HOUR, START + (hour + 1) * HOUR), state)
    assert opened(after(state, multiplied(OPENAI, 4, "duration_ns"), scopes=speed)) == [
        ("anomaly.tokens_per_second", {"provider": "openai"})
    ]
    free = exchanged(BIDS, cost_pico=None)
    assert opened(after(state, more(BIDS, 30, cost_pico=None), free, scopes=speed)) == [
        ("anomaly.calls", {"team": "ads"})
    ]


@pytest.mark.parametrize(
    ("values", "subject"),
    [
        ({"response_model": "huge", "request_model": "huge", "cost_pico": 10**12}, {"model": "huge"}),
        ({"api_key": "unknown"}, {"team": "search", "api_key": "unknown"}),
        ({"team": "newcomers", "app": "first", "api_key": None}, {"team": "newcomers"}),
    ],
)  # fmt: skip
def test_what_was_never_seen_is_told_once_it_is_worth_a_word(
    past: Memory, values: dict[str, Any], subject: dict[str, str]
) -> None:
    few = (
        pl.col("call_id").str.slice(-2) == "57"
        if "cost_pico" in values
        else pl.col("call_id").str.slice(-1).is_in(["5", "6", "7"])
    )
    observed = after(past, exchanged(DOCS & few, **values))
    assert opened(observed) == [("anomaly.new", subject)]
    assert observed[0].severity is Severity.INFO
    assert observed[0].measured is not None
    assert 1 <= observed[0].measured <= 30


def test_nothing_is_new_before_the_warm_up_is_over() -> None:
    made = processor(**OPTIONS)
    observed = take(
        made,
        pl.concat(
            [traffic(START + h * HOUR, START + (h + 1) * HOUR, app=f"app-{h}", team=f"team-{h}") for h in range(20)]
        ),
    )
    assert observed == []


def test_a_single_call_of_many_times_the_usual_cost(past: Memory) -> None:
    one = pl.col("call_id") == traffic(NOW, NOW + HOUR).filter(DOCS)["call_id"][30]
    observed = after(past, multiplied(one, 400, "cost_pico"))
    assert opened(observed) == [("anomaly.single", {"team": "search", "app": "docs", "model": "small"})]
    (said,) = observed
    call = traffic(NOW, NOW + HOUR).filter(one)
    assert said.cost_pico == call["cost_pico"][0] * 400
    assert next(e.span_id for e in said.evidence) == call["span_id"][0]
    assert after(past, multiplied(one, 40, "cost_pico")) == []


def test_one_odd_call_among_few_says_nothing_of_the_others(past: Memory) -> None:
    calls = traffic(NOW, NOW + HOUR).filter(DOCS)
    few = ~DOCS | pl.col("call_id").is_in(calls["call_id"].gather_every(8).implode())
    one = pl.col("call_id") == calls["call_id"][32]
    odd = multiplied(one, 500, "input_tokens", "cost_pico")
    observed = after(past, lambda frame: odd(frame.filter(few)))
    assert opened(observed) == [("anomaly.single", {"team": "search", "app": "docs", "model": "small"})]


def test_bursts_of_three_times_the_usual_are_no_anomaly(past: Memory) -> None:
    assert opened(after(past, more(CHAT, 3), lasts=40 * MINUTE)) == []


def test_money_floors_minimum_evidence_and_sensitivity(past: Memory) -> None:
    change = more(CHAT, 20)
    assert after(past, change, min_usd=1e6) == []
    assert after(past, multiplied(DOCS, 5, "input_tokens"), min_calls=10_000) == []
    assert after(past, exchanged(OPENAI & (pl.col("output_tokens") % 6 == 0), status="Error"), threshold=1000) == []
    assert after(past, change, sensitivity=[{"match": {"team": "search"}, "factor": 0.001}]) == []
    assert opened(after(past, change, sensitivity=[{"match": {"team": "ads"}, "factor": 0.001}])) == [
        ("anomaly.cost", {"team": "search", "app": "chat"})
    ]


def test_what_lasts_is_usual_in_the_end(past: Memory) -> None:
    change = multiplied(OPENAI, 4, "duration_ns", "time_to_first_token_ns")
    observed = after(past, change, lasts=12 * HOUR, accept_after="2h")
    assert opened(observed)[0] == ("anomaly.latency", {"provider": "openai"})
    ended = next(one for one in observed if not one.holds)
    assert "counts as usual now" in ended.message
    assert ended.at_ns < NOW + 3 * HOUR


def test_the_book_keeps_one_finding_of_an_incident(past: Memory) -> None:
    observed = after(past, more(CHAT, 20))
    book: FindingsBook = new_book()
    findings = book.take(observed, NOW + 4 * HOUR)
    assert len(findings) == 1
    assert findings[0].observations == sum(one.holds for one in observed)
    assert findings[0].severity is Severity.CRITICAL


# Which calls count --------------------------------------------------------------------------------------------------


def test_a_better_version_of_a_call_takes_back_what_the_one_before_added(past: Memory) -> None:
    calls = traffic(NOW, NOW + HOUR)
    wrong = more(CHAT, 20)(multiplied(CHAT, 20, "cost_pico", "input_tokens")(calls)).sort("start_ns")
    made, state = started(past)
    first = take(made, wrong.filter(pl.col("start_ns") < NOW + 4 * MINUTE), state)
    early = calls.filter(pl.col("start_ns") < NOW + 4 * MINUTE)
    replaced = wrong.filter(pl.col("start_ns") < NOW + 4 * MINUTE)
    withdrawn = replaced.with_columns(pl.lit(True).alias("withdrawn"))
    again = take(made, withdrawn, state, replaced=replaced)
    right = take(made, early, state)
    rest = take(made, calls.filter(pl.col("start_ns") >= NOW + 4 * MINUTE), state)
    assert first == again == right == rest == []


def test_calls_that_come_too_late_are_counted_apart(past: Memory) -> None:
    made, state = started(past)
    take(made, traffic(NOW, NOW + HOUR), state)
    assert counted(made, "late_calls_total") == 0
    take(made, traffic(NOW, NOW + 10 * MINUTE, seed=2), state)
    assert counted(made, "late_calls_total") > 50


def test_calls_of_several_reports_that_stand_behind_others_of_a_long_batch_are_not_late(past: Memory) -> None:
    made, state = started(past)
    calls = traffic(NOW, NOW + HOUR)
    merged = calls.filter(CHAT).with_columns(report_count=pl.lit(2, pl.Int64()))
    take(made, pl.concat([calls.filter(~CHAT), merged]), state)
    assert counted(made, "late_calls_total") == 0
    take(made, merged.with_columns(pl.col("call_id") + "again")[:5], state)
    assert counted(made, "late_calls_total") == 5, "what comes after its bucket was closed is late all the same"


def test_a_clock_that_is_ahead_closes_no_bucket(past: Memory) -> None:
    made, state = started(past)
    first, ahead = traffic(NOW, NOW + 10 * MINUTE), traffic(NOW + 30 * MINUTE, NOW + 31 * MINUTE)
    take(made, pl.concat([first, ahead]), state, received_ns=NOW + 10 * MINUTE)
    take(made, traffic(NOW + 10 * MINUTE, NOW + 20 * MINUTE), state)
    assert counted(made, "late_calls_total") == 0


def test_whatever_calls_say_sums_stay_whole(past: Memory) -> None:
    made, state = started(past)
    calls = traffic(
        NOW,
        NOW + 20 * MINUTE,
        cost_pico=2**63 - 1,
        input_tokens=2**63 - 1,
        output_tokens=2**63 - 1,
        duration_ns=2**63 - 1,
    )
    take(made, calls, state)
    take(
        made,
        traffic(
            NOW + 20 * MINUTE,
            NOW + HOUR,
            cost_pico=10**18 - 1,
            input_tokens=-5,
            duration_ns=-1,
            cache_read_tokens=-(2**62),
        ),
        state,
    )
    assert take(made, traffic(NOW + 3 * HOUR, NOW + 4 * HOUR), state) is not None


# State --------------------------------------------------------------------------------------------------------------


def test_the_least_recently_seen_go_where_there_are_too_many_and_are_counted() -> None:
    made, state = processor(**OPTIONS, max_series=100), Memory()
    for hour in range(12):
        calls = traffic(START + hour * HOUR, START + (hour + 1) * HOUR)
        take(made, calls.with_columns((pl.col("app") + str(hour)).alias("app")), state)
    assert counted(made, "evicted_series_total") > 0
    assert counted(made, "series") <= 100
    names = stored(state)
    assert len(names) == len(set(names)) == counted(made, "series")
    assert any("chat11" in name for name in names)
    assert not any("chat0" in name for name in names)
    assert processor(state, **OPTIONS, max_series=100)._series.slots == made._series.slots


def test_other_scopes_and_buckets_are_learnt_anew_and_what_was_stored_of_them_goes(
    past: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        made, state = started(past, scopes={"keys": None, "regions": {"per": ["region"], "measures": ["cost"]}})
    assert "learnt anew" in caplog.text
    take(made, traffic(NOW, NOW + HOUR), state)
    names = {name.partition("\x1f")[0] for name in stored(state)}
    assert "apps" in names
    assert "keys" not in names
    made, state = started(past, bucket="10m")
    assert counted(made, "series") == 0
    take(made, traffic(NOW, NOW + HOUR), state)
    assert sorted(stored(state)) == sorted(made._series.slots)
    assert sorted(processor(state, **OPTIONS, bucket="10m")._series.slots) == sorted(made._series.slots)


def test_only_what_a_batch_touched_is_written(past: Memory) -> None:
    made, state = started(past)
    take(made, traffic(NOW, NOW + 20 * MINUTE), state)
    written = Memory()
    made.process(batch(traffic(NOW + 20 * MINUTE, NOW + 21 * MINUTE).filter(BIDS)))
    made.save(written)
    assert stored(written) == []
    take(made, traffic(NOW + 21 * MINUTE, NOW + 31 * MINUTE).filter(BIDS), written)
    assert 0 < len(stored(written)) <= len(made._series)


def test_other_measures_of_a_scope_are_learnt_beside_what_is_known(past: Memory) -> None:
    made, _ = started(past)
    kept = AnomalyConfig().scopes["apps"]
    again, _ = started(past, scopes={"apps": {"per": kept.per, "measures": ["cost", "latency"]}})
    slots = np.array([slot for name, slot in made._series.slots.items() if name.startswith("apps\x1f")])
    before, after_ = made._series.copy(slots), again._series.copy(slots)
    assert (before.season == after_.season).all()
    (cost, latency, cached) = (
        MEASURED + PLACES[name] * FIELDS + WEIGHT for name in ("cost", "latency", "cache_hit_rate")
    )
    assert (before.words[:, cost] == after_.words[:, cost]).all()
    assert before.words[:, cached].all()
    assert not after_.words[:, [latency, cached]].any()


# Bounds -------------------------------------------------------------------------------------------------------------


def test_a_million_series_fit_in_a_gigabyte() -> None:
    """`python -m benchmarks.series` measures it; here is what a series adds to arrays and objects, and to the most that a bucket takes."""
    users: dict[str, Any] = {"per": ["team", "user"], "measures": ["cost"]}
    (layout,) = layouts({"users": Scope(**users)}, None)
    row = 4 * (CORE + len(layout.columns))
    calls = traffic(START, START + HOUR, times=30)[:10_000]
    names = pl.Series([f"somebody-{n}@example.com" for n in range(len(calls))])
    calls = calls.with_columns(user=names, start_ns=pl.lit(START, pl.Int64()))

    def traced(count: int) -> tuple[int, int]:
        made = processor(max_series=20_000, scopes={"users": users})
        tracemalloc.start()
        try:
            take(made, calls[:count])
            take(made, calls[:count].with_columns(start_ns=pl.lit(START + 12 * MINUTE, pl.Int64())))
            take(made, calls[:1].with_columns(start_ns=pl.lit(START + 13 * MINUTE, pl.Int64())))
            return tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    few, many = traced(1000), traced(len(calls))
    kept, most = ((more - less) / (len(calls) - 1000) for less, more in zip(few, many, strict=True))
    # Of that, kept is of the buckets that are open or were closed last: of a million series, a tenth have calls in one.
    assert row < 250
    assert kept < 1500
    assert row + kept / 10 + most / 10 < 1000


def test_memory_of_series_that_went_serves_series_of_other_scopes() -> None:
    layouts = [Layout(True, False, (0,)), Layout(False, False, (3, 4))]
    series = Series(20_000, layouts)
    for turn in range(3):
        for scope in (0, 1):
            names = [f"{scope}\x1f{turn}\x1f{n}" for n in range(20_000)]
            series.make_room(len(names), np.empty(0, np.int64))
            series.add(names, [scope] * len(names), Rows.blank(len(names)))
            series.begin()
            ends = [table._end for table in series._tables]
            assert ends[scope] == 20_000
            assert ends[1 - scope] <= 4096


def test_what_is_stored_of_series_is_bounded_by_what_there_is() -> None:
    state, series = Memory(), Series(3000, [Layout(False, False, (0,))])
    draw = np.random.default_rng(3)
    for turn in range(60):
        series.begin()
        fresh = [f"s\x1f{turn}\x1f{n}" for n in range(200)]
        series.make_room(len(fresh), np.empty(0, np.int64))
        series.add(fresh, [0] * len(fresh), Rows.blank(len(fresh)))
        slots = np.sort(draw.choice(np.array(sorted(series.slots.values())), 150, replace=False))
        rows = series.copy(slots)
        rows.words[:, DAILY] = turn
        series.put(slots, rows)
        series.save(state)
        series.save(state)
        if turn % 7 == 3:  # given up, and done again
            series.rollback()
            series.save(Memory())
            series = Series(3000, [Layout(False, False, (0,))])
            series.load(state, {"s": 0})
    series.begin()
    again = Series(3000, [Layout(False, False, (0,))])
    again.load(state, {"s": 0})
    assert again.slots == series.slots
    every = np.array(sorted(series.slots.values()))
    assert (again.copy(every).whole == series.copy(every).whole).all()
    assert sum(len(Records.read(value).slots) for _, value in state.items(b"r")) <= 2 * 3000 + 2000 + 400


# Configuration --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"scopes": {"mine": {"per": ["planet"], "measures": ["cost"]}}}, "no dimension 'planet'"),
        ({"scopes": {"mine": {"per": ["team"]}}}, "nothing is watched"),
        ({"scopes": {"mine": {"per": ["team"], "measures": ["cost", "calls"]}}}, "one season"),
        ({"scopes": {"mine": {"per": ["team"], "measures": ["share_lost"]}}}, "one of several"),
        ({"scopes": {"mine": {"per": ["team", "team"], "measures": ["cost"]}}}, "once"),
        ({"scopes": {"mine": {"per": ["team"], "measures": ["price"]}}}, "cost_per_call"),
        ({"scopes": {"app_models": None}}, "alike: no scope 'app_models'"),
        ({"sensitivity": [{"match": {}, "factor": 1}]}, "at least 1 item"),
    ],
)  # fmt: skip
def test_mistakes_are_told(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        AnomalyConfig.model_validate(options)


def test_shipped_scopes_watch_every_measure_but_calls_alone() -> None:
    watched = {name for scope in AnomalyConfig().scopes.values() for name in scope.measures}
    assert watched == {measure.name for measure in MEASURES} - {"calls"}
    assert np.prod([len(AnomalyConfig(scopes={"keys": None}).scopes)]) == len(AnomalyConfig().scopes) - 1


def test_the_documentation_shows_the_scopes_that_ship() -> None:
    text = (Path(__file__).parents[2] / "docs" / "anomalies.md").read_text(encoding="utf-8")
    (shown,) = [block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if block.startswith("scopes:")]
    assert AnomalyConfig.model_validate({"scopes": yaml.safe_load(shown)["scopes"]}) == AnomalyConfig()
    assert {
        name for measure in MEASURES for name in (f"anomaly.{measure.name}", f".{measure.name}") if f"`{name}`" in text
    } >= {
        f"anomaly.{measure.name}"
        for measure in MEASURES
        if measure.name not in {"time_to_first_token", "tokens_per_second"}
    }


def test_without_calls_there_is_nothing_to_do(past: Memory) -> None:
    made, state = started(past)
    assert take(made, traffic(NOW, NOW + HOUR)[:0], state, received_ns=NOW) == []
    assert take(made, traffic(NOW + 2 * DAY, NOW + 2 * DAY + HOUR), state) == []


def test_scopes_are_added_and_taken_out_in_a_config_file() -> None:
    """As the documentation has it: lists as YAML writes them, and null."""
    text = """
receivers: {otlp: }
processors:
  anomaly:
    scopes:
      users: {per: [team, user], measures: [cost], new: true}
      keys: null
exporters: {nop: }
service: {pipelines: {traces: {receivers: [otlp], processors: [anomaly], exporters: [nop]}}}
"""
    config = loads(text, "scopes.yaml").processors["anomaly"].config
    assert isinstance(config, AnomalyConfig)
    assert config.scopes["users"] == Scope(per=("team", "user"), measures=("cost",), new=True)
    assert "teams" in config.scopes
    assert "keys" not in config.scopes
    with pytest.raises(ConfigError, match=r"scopes\.yaml:6:21: processors\.anomaly\.scopes\.users\.per\[0\]: no dimension 'tema'"):  # fmt: skip
        loads(text.replace("[team, user]", "[tema]"), "scopes.yaml")
