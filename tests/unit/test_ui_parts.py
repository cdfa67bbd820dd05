"""The parts that pages are made of: HTML, filters, units, charts, and what a trace's spans are."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanledger.ui import units
from spanledger.ui.ask import quoted, written
from spanledger.ui.charts import lines, moments, stacked, ticks
from spanledger.ui.filters import FilterError, Filters
from spanledger.ui.html import e, render
from spanledger.ui.page import runnable
from spanledger.ui.spans import Span, classify, covered, times, tree

NOW = datetime(2026, 11, 27, 12, 30, tzinfo=UTC)


def test_html_is_escaped_and_says_what_it_was_told() -> None:
    made = e("a.one.two", "<&", [1, None, e("br")], href='"x"&', data_copy=True, hidden=False, aria_label=None)
    assert made == '<a class="one two" href="&quot;x&quot;&amp;" data-copy>&lt;&amp;1<br></a>'
    assert render(["a\0b", True, None]) == "ab"


@given(st.lists(st.sampled_from(["team", "app", "model"]), max_size=3, unique=True), st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=3, unique=True))  # fmt: skip
def test_a_view_is_its_address(names: list[str], values: list[str]) -> None:
    chosen = tuple((name, tuple(values)) for name in ("team", "app", "model") if name in names)
    view = Filters("24h", "", chosen, NOW)
    assert Filters.from_query(view.query().lstrip("?"), NOW) == view


def test_conditions_are_parameters() -> None:
    view = Filters.from_query("since=2026-11-01&until=2026-11-02T12:00&team=a'b&team=(none)&nothing=1", NOW)
    sql, parameters = view.where("h", time="Hour", columns={"Model": "x"})
    assert sql == (
        "h.Hour >= toStartOfHour({since:DateTime64(6, 'UTC')}) AND h.Hour < {until:DateTime64(6, 'UTC')} AND h.Team IN {team:Array(String)}"
    )
    assert parameters["team"] == ["a'b", "", "(unattributed)"]
    assert parameters["until"] == datetime(2026, 11, 2, 12, tzinfo=UTC)
    assert "a\\'b" in runnable(sql, parameters)
    assert "{" not in runnable(sql, parameters)
    assert view.query(team="", since="1h") == "?since=1h&until=2026-11-02T12%3A00"


@pytest.mark.parametrize("query", ["since=soon", "since=1h&until=2h", "until=2026-13-01", "since=2999-01-01"])
def test_a_period_that_is_none_is_said(query: str) -> None:
    with pytest.raises(FilterError):
        Filters.from_query(query, NOW)


def test_parameters_are_written_as_clickhouse_reads_them() -> None:
    assert written(["a'b", "c\\d"]) == "['a\\'b','c\\\\d']"
    assert written("a\tb") == "a\\tb"
    assert quoted("o'x") == "'o\\'x'"


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (units.usd(1234.5), "$1,234.50"), (units.usd(0.0123), "$0.0123"), (units.usd(0.000012), "$0.000012"), (units.usd(None), "–"), (units.usd(-3), "-$3.00"), (units.usd_call(-0.220224), "-$0.220224"),
        (units.usd_short(1_500_000), "$1.5M"), (units.short(0.00001), "1e-05"), (units.share(0.123), "12.3%"), (units.change(0.5), "+50.0%"),
        (units.took(158e9), "2 min 38 s"), (units.took(3_700e9), "1 h 01 min"), (units.took(1.5e9), "1.5 s"), (units.took(2_000), "2 µs"), (units.took(None), "–"),
        (units.count(1234.0), "1,234"),
    ],
)  # fmt: skip
def test_units(shown: str, text: str) -> None:
    assert shown == text


@given(st.floats(min_value=1e-9, max_value=1e12))
def test_an_axis_is_round_and_reaches_the_greatest(greatest: float) -> None:
    marks = ticks(greatest)
    assert marks[0] == 0
    assert marks[-1] >= greatest * 0.999
    assert 2 <= len(marks) <= 6


@pytest.mark.parametrize(
    ("seconds", "marks"),
    [(2.5, [0, 1, 2, 3]), (100, [0, 60, 120]), (3000, [0, 900, 1800, 2700, 3600]), (90_000, [0, 43_200, 86_400, 129_600]), (9e9, [0, 2.5e9, 5e9, 7.5e9, 1e10])],
)  # fmt: skip
def test_an_axis_of_seconds_has_whole_minutes_and_hours(seconds: float, marks: list[float]) -> None:
    assert ticks(seconds, clock=True) == marks


def test_moments_are_whole_and_cover_the_period() -> None:
    found = moments(NOW - timedelta(hours=2), NOW, 3600)
    assert [f"{when:%H:%M}" for when in found] == ["10:00", "11:00", "12:00"]


def test_bars_are_as_high_as_their_values_and_tell_them() -> None:
    stamp = int((NOW - timedelta(hours=1)).timestamp()) // 3600 * 3600
    frame = pl.DataFrame({"time": [stamp, stamp], "series": ["a & b", "(all others)"], "value": [3.0, 1.0]})
    text = render(stacked(frame, NOW - timedelta(hours=3), NOW, 3600, marks=[(NOW - timedelta(minutes=50), "noticed", "/ui/x")]))  # fmt: skip
    assert text.count("a &amp; b\t$3.00") == 2  # wide and narrow
    assert 'height="157.5"' in text
    assert 'height="52.5"' in text
    assert text.index('class="s0"') < text.index('class="rest"')
    assert 'href="/ui/x"' in text


def test_a_line_has_gaps_and_a_lonely_point_is_seen() -> None:
    hours = [NOW.replace(minute=0) - timedelta(hours=n) for n in (1, 2, 5)]
    frame = pl.DataFrame({"time": hours, "series": ["x"] * 3, "value": [1.0, 2.0, 3.0]})
    text = render(lines(frame, NOW - timedelta(hours=6), NOW, 3600))
    path = text.partition('class="line')[2].partition("</path>")[0] or text
    assert text.partition("at-narrow")[0].count("m-2 0h4") == 1, path


def span(id_: str, parent: str = "", start: int = 0, duration: int = 10, **more: object) -> Span:
    values = {"name": id_, "service": "app", "span_kind": "Internal", "failed": False, "message": "", "call": "", "price_status": "", "attributes": {}, "events": (), "row": {}} | more  # fmt: skip
    return Span(id_, parent, start=start, duration=duration, **values)  # type: ignore[arg-type]


def test_a_trace_is_a_tree_whatever_parents_say() -> None:
    found = tree([span("c", "a", 5), span("a"), span("b", "a", 2), span("lost", "gone", 1), span("x", "y"), span("y", "x")])  # fmt: skip
    assert [(s.id, s.depth) for s in found] == [("a", 0), ("b", 1), ("c", 1), ("lost", 0), ("x", 0), ("y", 1)]


def test_spans_are_told_apart() -> None:
    gateway = {"service": "gateway"}
    spans = [
        span("app"), span("door", "app", span_kind="Server", **gateway), span("guardrail pii", "door", **gateway), span("auth", "door", **gateway),
        span("one", "door", 0, failed=True, call="1", row={"RequestModel": "m"}, **gateway), span("two", "door", 10, call="2", row={"RequestModel": "m"}, failed=True, **gateway),
        span("three", "door", 20, call="3", row={"RequestModel": "n"}, **gateway), span("search", "app", attributes={"gen_ai.tool.name": "search"}),
        span("again", "one", call="1", price_status="duplicate"), span("cache get", "app"),
    ]  # fmt: skip
    classify(spans)
    assert {s.id: s.kind for s in spans} == {
        "app": "app", "door": "gateway", "guardrail pii": "guardrail", "auth": "gateway", "one": "failed", "two": "failed", "three": "fallback",
        "search": "tool", "again": "report", "cache get": "cache",
    }  # fmt: skip


def test_time_is_the_models_or_the_gateways() -> None:
    spans = [
        span("app", duration=100), span("door", "app", 5, 90, span_kind="Server", service="gw"),
        span("first", "door", 10, 30, call="1", service="gw"), span("second", "door", 20, 40, call="2", service="gw"),
    ]  # fmt: skip
    classify(spans)
    assert times(spans) == type(times(spans))(100, 50, 40)
    assert covered([(0, 10), (5, 20), (30, 40)]) == 30
    assert times([span("a")]).models is None


def test_an_axis_names_whole_days_also_where_the_period_begins_in_one() -> None:
    start = datetime(2026, 11, 21, 8, 40, tzinfo=UTC)
    frame = pl.DataFrame({"time": [start.replace(minute=0)], "series": [""], "value": [1.0]})
    wide, narrow = str(render(stacked(frame, start, start + timedelta(days=7), 3 * 3600))).split("at-narrow")
    days = [re.findall(r">(\d\d Nov|\d\d:\d\d)</text>", text) for text in (wide, narrow)]
    assert days == [[f"{day} Nov" for day in range(22, 29)], [f"{day} Nov" for day in (22, 24, 26)]]
