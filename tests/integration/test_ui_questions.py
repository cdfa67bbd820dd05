"""Questions of pages over an embedded store: what is drawn of findings is their measure, against figures counted by hand, and the
newest calls are the newest, though not all are read."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from exporters.clickhouse.config import ClickHouseConfig
from exporters.clickhouse.exporter import ClickHouse
from processors.anomaly.measures import MEASURES
from spanledger.ui.ask import Embedded
from spanledger.ui.auth import Visitor
from spanledger.ui.filters import Filters
from spanledger.ui.html import render
from spanledger.ui.measured import _BY_KIND, about, measured
from spanledger.ui.page import Source, View
from spanledger.ui.pages import calls, models, registered
from tests.ledger_rows import batch, call, context
from tests.spans_kit import NOON_NS
from tests.ui_kit import FrameStore

SECOND = 10**9
NOON = datetime.fromtimestamp(NOON_NS / 1e9, UTC)
#: Four calls of an hour: three at one deployment, one refused by a guardrail, one over a rate limit.
CALLS: list[dict[str, Any]] = [
    {"deployment": "eu", "duration_ns": SECOND, "cost_pico": 10**12, "input_tokens": 100, "cache_read_tokens": 50},
    {"deployment": "eu", "duration_ns": 4 * SECOND, "cost_pico": 4 * 10**12, "input_tokens": 100, "output_tokens": 40},
    {"deployment": "eu", "duration_ns": 9 * SECOND, "status": "Error", "error_type": "429"},
    {"deployment": "us", "duration_ns": 2 * SECOND, "refused_by": "pii-guard", "time_to_first_token_ns": SECOND // 2},
]
#: Twenty hours, of which each has more calls than the one before.
MANY = [
    {"app": "many", "provider": "other", "request_model": "many", "user": f"u{n % 2}", "start_ns": NOON_NS - (19 - hour) * 3600 * SECOND - n * 7 * SECOND, "status": "Error" if n % 3 == 0 else "Ok"}
    for hour in range(20) for n in range(hour)
]  # fmt: skip
SUBJECT = {"app": "chat", "model": "gpt-4o"}
SKEWED = {"deployment": "eu", "model": "gpt-4o"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    folder = tmp_path_factory.mktemp("measures")
    path = Path(folder) / "clickhouse"
    exporter = ClickHouse(ClickHouseConfig.model_validate({"dsn": f"chdb://{path}"}), context(Path(folder)))
    exporter.start()
    for payload in exporter.encode(
        batch(made=[call(str(n), **{"app": "chat", **one}) for n, one in enumerate([*CALLS, *MANY])])
    ):
        exporter.send(payload)
    embedded = Embedded(path, "spanledger")
    yield embedded
    embedded.close()
    exporter.close()


@pytest.mark.parametrize(
    ("kind", "unit", "subject", "value"),
    [
        ("budget.hard", "USD", SUBJECT, 5.0),
        ("budget.soft", "tokens", SUBJECT, 240),
        ("anomaly.calls", "calls", SUBJECT, 4),
        ("anomaly.cost_per_call", "USD", SUBJECT, 2.0),
        ("anomaly.single", "USD", SUBJECT, 4.0),
        ("anomaly.error_rate", "share", SUBJECT, 0.25),
        ("anomaly.refusal_rate", "share", SUBJECT, 0.25),
        ("anomaly.cache_hit_rate", "share", SUBJECT, 0.25),
        ("anomaly.time_to_first_token", "s", SUBJECT, 0.5),
        ("anomaly.tokens_per_second", "tokens/s", SUBJECT, 10.0),
        ("latency.answer", "s", {"model": "gpt-4o", "provider": "openai"}, 2.0),
        ("load.skewed", "share", SKEWED, 0.75),
        ("load.idle", "share", {"deployment": "asia", "model": "gpt-4o"}, 0.0),
        ("load.overloaded", "share", SKEWED, 1 / 3),
        ("guardrail.stricter", "share", {"app": "chat", "guardrail": "pii-guard"}, 0.25),
    ],
)
def test_a_finding_is_drawn_as_what_it_measures(store: Embedded, kind: str, unit: str, subject: dict[str, str], value: float) -> None:  # fmt: skip
    found = measured(kind, unit, subject)
    assert found is not None
    sql, parameters = found.question(subject)
    frame = store.ask(sql, {"before": NOON - timedelta(days=1), "end": NOON + timedelta(hours=1), **parameters})
    assert frame["value"].to_list() == [pytest.approx(value)]


@pytest.mark.parametrize(
    ("query", "test"),
    [({}, "1"), ({"status": "failed"}, "StatusCode = 'Error'"), ({"user": "u1"}, "User = 'u1'"), ({"status": "refused"}, "RefusedBy != ''")],
)  # fmt: skip
@pytest.mark.parametrize("until", [timedelta(hours=1), timedelta(minutes=-37), timedelta(hours=-5)])
def test_the_newest_calls_are_the_newest_on_every_page(store: Embedded, monkeypatch: pytest.MonkeyPatch, query: dict[str, str], test: str, until: timedelta) -> None:  # fmt: skip
    monkeypatch.setattr(calls, "ROWS", 7)
    filters = Filters("15h", "", (("app", ("many",)),), NOON + until)
    found = []
    for number in range(1, 30):
        asked = FrameStore()
        with ThreadPoolExecutor(1) as threads:
            view = View(Source(asked, threads), registered()["/calls"], Visitor("test", admin=True), filters, {}, {**query, "page": str(number)})  # fmt: skip
            list(view.stream(render(calls.body(view))))
        ((sql, parameters),) = asked.asked
        found += store.ask(sql, parameters)["CallId"].to_list()
    since, end = (f"toDateTime64('{moment:%Y-%m-%d %H:%M:%S}', 6, 'UTC')" for moment in (filters.start, filters.end))
    wanted = store.ask(f"SELECT CallId FROM llm_calls WHERE App = 'many' AND {test} AND Timestamp >= {since} AND Timestamp < {end} ORDER BY Timestamp DESC, CallId", {})  # fmt: skip
    assert found == wanted["CallId"].to_list()


def test_every_kind_asks_what_the_store_answers(store: Embedded) -> None:
    for kind, found in _BY_KIND.items():
        sql, parameters = found.question(SUBJECT)
        store.ask(sql, {"before": NOON - timedelta(days=1), "end": NOON, **parameters})
        assert found.days > 0, kind


def test_what_the_ledger_does_not_know_is_not_drawn() -> None:
    """No measure of that kind, or a subject that neither sums nor calls tell apart."""
    assert measured("routing.fallback", "tier", {"model": "gpt-4o"}) is None
    assert measured("privacy.pii_sent", "", {"provider": "openai"}) is None
    assert measured("anomaly.cost", "USD", {"end_user": "ann"}) is None
    assert measured("budget.hard", "USD", about({"cost_centre": "7", "budget": "b"})) is None
    assert measured("budget.hard", "USD", about({"team": "search", "budget": "b", "threshold": "50%"})) is not None


def test_each_measure_of_the_processor_anomaly_is_drawn_or_left_out_on_purpose() -> None:
    """A share among models is of a group that a finding does not name."""
    assert {m.name for m in MEASURES if measured(f"anomaly.{m.name}", m.unit, SUBJECT) is None} == {"share_lost", "share_gained"}  # fmt: skip


@pytest.mark.parametrize(("since", "days"), [("36h", 1.5), ("7d", 7), ("30d", 3)])
def test_fallbacks_of_a_long_period_are_those_of_its_last_days_and_say_so(since: str, days: float) -> None:
    asked = FrameStore()
    with ThreadPoolExecutor(1) as threads:
        filters = Filters(since, "", (), NOON)
        view = View(Source(asked, threads), registered()["/models"], Visitor("test", admin=True), filters, {}, {})
        shown = "".join(map(str, view.stream(render(models.body(view)))))
    times = {name: p["since"] for sql, p in asked.asked for name in ("llm_fallbacks", "llm_traffic") if name in sql}
    assert NOON - times["llm_fallbacks"] == timedelta(days=days)
    assert NOON - times["llm_traffic"] == timedelta(days={"36h": 1.5, "7d": 7, "30d": 30}[since])
    assert ("Of the last 3 days of the period." in shown) == (since == "30d")
