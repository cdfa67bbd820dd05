"""What pages make of frames: flows, what is usual, projections and burn-downs of budgets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from starlette.testclient import TestClient

from config.model import UiConfig
from spanledger.ui import units
from spanledger.ui.app import alone
from spanledger.ui.flows import against_usual, flows, usual_range
from spanledger.ui.html import render
from spanledger.ui.pages.budgets import left, projected
from spanledger.ui.pages.findings import shown
from spanledger.ui.pages.models import _wanted
from spanledger.ui.pages.pipeline import seconds_short, size
from spanledger.ui.site import Site
from spanledger.ui.weights import Weighted, configured
from tests.ui_kit import FrameStore

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def test_bands_are_as_wide_as_what_flows_and_names_are_escaped() -> None:
    frame = pl.DataFrame({"source": ["a<b", "a<b", "c"], "target": ["x", "y", "x"], "value": [30, 10, 60]})
    html = str(render(flows(frame)))
    assert html.count('class="flow') == 6  # three bands, wide and narrow
    assert "a<b" not in html
    assert "a&lt;b → x\n30\t30.0%" in html
    assert html.index('class="flow s0"') < html.index('class="flow s1"')
    assert "c → x\n60\t60.0%" in html


def test_nothing_flows() -> None:
    assert "Nothing flows" in render(flows(pl.DataFrame({"source": ["a"], "target": ["b"], "value": [0]})))


def test_usual_is_the_median_of_the_same_hour_and_an_hour_without_calls_counts_as_nothing() -> None:
    first = NOW.replace(hour=9)
    rows = [(first - timedelta(days=day), value) for day, value in ((1, 2.0), (2, 4.0), (3, 9.0))]
    rows.append((first, 100.0))
    frame = pl.DataFrame({"time": [int(at.timestamp()) for at, _ in rows], "value": [value for _, value in rows]})
    found = against_usual(frame, first, first - timedelta(hours=1), first + timedelta(hours=1))
    by = {(series, time): value for time, series, value in found.iter_rows()}
    at = int(first.timestamp())
    assert by["measured", at] == 100
    assert by["measured", at - 3600] == 0
    assert by["usual", at] == 4
    assert by["usual", at - 3600] == 0


def test_the_usual_band_holds_eight_in_ten_of_the_same_hours_and_needs_three_days() -> None:
    first = NOW.replace(hour=9)
    rows = [(first - timedelta(days=day), float(day)) for day in range(1, 12)] + [(first, 100.0)]
    frame = pl.DataFrame({"time": [int(at.timestamp()) for at, _ in rows], "value": [value for _, value in rows]})
    found = usual_range(frame, first, first - timedelta(hours=1), first + timedelta(hours=1))
    at = int(first.timestamp())
    assert found == {at - 3600: (0, 0), at: (2, 10), at + 3600: (0, 0)}
    assert usual_range(frame.filter(pl.col("time") > at - 3 * 86400), first, first, first) == {}


def test_without_a_past_nothing_is_usual() -> None:
    frame = pl.DataFrame({"time": [int(NOW.timestamp())], "value": [5.0]})
    assert set(against_usual(frame, NOW, NOW, NOW + timedelta(hours=2))["series"]) == {"measured"}


def _budget(used: str, ends: datetime | None = NOW + timedelta(days=5)) -> tuple[dict[str, Any], dict[str, Any]]:
    budget = {"begins_ns": int((NOW - timedelta(days=5)).timestamp()) * 10**9, "ends_ns": ends and int(ends.timestamp()) * 10**9}  # fmt: skip
    return budget, {"subject": {"team": "search"}, "unit": "USD", "used": used, "limit": "100", "denies": False}


@pytest.mark.parametrize(
    ("used", "percent", "leads", "reached"),
    [
        ("40", 40, 80, None),
        ("80", 80, 160, NOW + timedelta(days=1.25)),
        ("0", 0, None, None),
        ("120", 120, 240, None),
    ],
)
def test_the_pace_so_far_leads_to_the_end_of_the_window(used: str, percent: float, leads: float | None, reached: datetime | None) -> None:  # fmt: skip
    row = projected(*_budget(used), NOW)
    assert (row["percent"], row["projected"], row["reached"]) == (percent, leads, reached)


def test_a_rolling_window_leads_nowhere() -> None:
    row = projected(*_budget("40", None), NOW)
    assert row["projected"] is None
    assert row["reached"] is None
    assert row["name"] == "search"


def test_a_burn_down_ends_at_what_is_left_and_is_not_drawn_where_the_ledger_disagrees() -> None:
    start = NOW - timedelta(hours=3)
    frame = pl.DataFrame({"time": [int(start.timestamp()), int(start.timestamp()) + 7200], "value": [3.0, 5.0]})
    found = left(frame, 8.0, 10.0, start, NOW, 3600)
    assert found is not None
    assert found["value"].to_list() == [7, 7, 2, 2]
    assert left(frame, 4.0, 10.0, start, NOW, 3600) is None


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(None, "USD", "–"), (5.5, "USD", "$5.50"), (12.34, "%", "12.3%"), (3.0, "calls", "3 calls"), (0.25, "s", "250 ms"), (0.344, "share", "34.4%"), (7.0, "", "7")],
)  # fmt: skip
def test_measured_values_have_their_unit(value: float | None, unit: str, text: str) -> None:
    assert shown(value, unit) == text


def test_bytes_and_axis_times_are_short() -> None:
    assert [size(value) for value in (0, 1536, 3 * 2**20, 2**31)] == ["0 B", "1.5 KiB", "3 MiB", "2 GiB"]
    assert [seconds_short(value) for value in (0, 90, 7200)] == ["0 s", "1.5 min", "2 h"]


STATUS: dict[str, Any] = {
    "version": "1", "ready": True, "problems": ["exporter ch: cannot reach db.internal"], "receivers": ["grpc://127.0.0.1:4317"],
    "inbox": {"bytes": 1024, "capacity_bytes": 2048, "failed": None},
    "pipelines": {"traces": {"position": 1, "waiting_items": 5, "waiting_bytes": 9, "oldest_seconds": 90.0, "failed": None}},
    "exporters": {"traces/ch": {"to": "http://db.internal", "waiting_deliveries": 1, "waiting_items": 1, "waiting_bytes": 8, "capacity_bytes": 10, "oldest_seconds": 1.0, "failed": None, "last_error": {"text": "refused by db.internal", "seconds_ago": 3.0}}},
    "dead_letters": 2, "dead_letter_bytes": 10, "dead_letter_capacity_bytes": 100, "config": "service: {admin: db.internal}",
}  # fmt: skip


def client(store: FrameStore, token: str | None = None, **options: Any) -> TestClient:
    config = UiConfig.model_validate({"viewer_token": "looks"} if token else {})
    site = Site(store, config, token, clock=lambda: NOW, **options)
    return TestClient(alone(site), base_url="http://spanledger.test", client=("127.0.0.1", 5000))


def test_without_a_collector_pages_say_where_its_counters_are() -> None:
    asker = client(FrameStore())
    assert "open its admin port" in asker.get("/ui/budgets").text
    assert "open its admin port" in asker.get("/ui/pipeline").text


def test_a_collector_without_budgets_says_how_to_have_some() -> None:
    assert "The collector has no budgets" in client(FrameStore(), budgets=list).get("/ui/budgets").text


def test_a_store_that_fails_is_said_in_each_figure() -> None:
    asker = client(FrameStore(fails="no memory"))
    for path in ("models", "guardrails", "budgets", "findings", "pipeline"):
        answer = asker.get(f"/ui/{path}")
        assert answer.status_code == 200, path
        assert "no memory" in answer.text, path
    assert asker.get("/ui/finding/x").status_code == 503


def test_a_finding_that_is_gone_is_not_found() -> None:
    answer = client(FrameStore()).get("/ui/finding/x")
    assert answer.status_code == 404
    assert "retention" in answer.text


def test_only_admins_see_what_names_machines() -> None:
    admin = client(FrameStore(), status=lambda: STATUS).get("/ui/pipeline").text
    assert admin.count("db.internal") == 4
    assert "1 min 30 s" in admin
    viewer = client(FrameStore(), status=lambda: STATUS, token="the token").get("/ui/pipeline", headers={"authorization": "Bearer looks"})  # fmt: skip
    assert viewer.status_code == 200
    assert "Config in force" in viewer.text
    assert "db.internal" not in viewer.text


LOAD = pl.DataFrame(
    {
        "Asked": ["gpt-4o", "gpt-4o", "gpt-4o", "o3"], "Provider": ["azure", "azure", "openai", "openai"], "Deployment": ["eu", "us", "x", ""],
        "Region": ["", "", "", ""], "ApiKey": ["", "", "", ""], "Calls": [60, 30, 10, 5], "Share": [0.6, 0.3, 0.1, 1.0], "P95": [1.0, 1.0, 1.0, 1.0],
    }
)  # fmt: skip


def test_load_is_compared_with_the_configured_weights_also_of_members_without_calls() -> None:
    found = configured(LOAD, [Weighted("GPT-*", "deployment", {"eu": 3, "us": 1, "asia": 1}), Weighted("*", "region", {"a": 1, "b": 1})])  # fmt: skip
    rows = {(row["Asked"], row["Deployment"]): (row["Configured"], row["Has"], row["Calls"]) for row in found.iter_rows(named=True) if row["By"] == "deployment"}  # fmt: skip
    assert rows == {
        ("gpt-4o", "eu"): (0.6, 0.6, 60), ("gpt-4o", "us"): (0.2, 0.3, 30), ("gpt-4o", "x"): (0.0, 0.1, 10), ("gpt-4o", "asia"): (0.2, 0.0, 0),
    }  # fmt: skip
    others = found.filter(pl.col("By") == "region")
    assert others["Configured"].to_list() == [0.0, 0.5, 0.5]
    assert others["P95"].to_list() == [1.0, None, None]


def test_members_of_several_rows_are_compared_as_one_and_models_without_a_group_not_at_all() -> None:
    found = configured(LOAD, [Weighted("gpt-4o", "provider", {"azure": 1, "openai": 1})])
    assert found.select("Configured", "Has").rows() == [(0.5, 0.9), (0.5, 0.9), (0.5, 0.1), (None, None)]


def test_a_share_far_from_its_weight_is_marked() -> None:
    row = {"Configured": 0.5, "Has": 0.9, "Share": 0.6, "By": "provider"}
    assert render(_wanted(row)) == '<span class="tag warn">50.0% (provider: 90.0%)</span>'
    assert render(_wanted({**row, "Has": 0.52, "Share": 0.52})) == "50.0%"
    assert render(_wanted({**row, "Configured": None})) == units.DASH


def test_hours_without_a_row_have_no_share_and_no_sum() -> None:
    """Of a share nothing is known then; of a sum, that it was 0."""
    first = datetime(2026, 11, 24, 12, tzinfo=UTC)
    rows = [(int((first - timedelta(days=day)).timestamp()), 0.5) for day in (1, 2, 3, 4)]
    frame = pl.DataFrame(rows, schema=["time", "value"], orient="row")
    start, end = first - timedelta(hours=1), first
    shares = against_usual(frame, first, start, end, None)
    assert shares.rows() == [(int(first.timestamp()), "usual", 0.5)]
    assert against_usual(frame, first, start, end).filter(pl.col("series") == "measured")["value"].to_list() == [0.0, 0.0]  # fmt: skip
    assert usual_range(frame, first, start, end, None) == {int(first.timestamp()): (0.5, 0.5)}
