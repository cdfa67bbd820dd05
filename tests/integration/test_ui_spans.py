"""What pages say of spans over days is answered from what the spans' parts carry, and is what the spans say, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import polars as pl
import pytest

from exporters.clickhouse.config import ClickHouseConfig
from exporters.clickhouse.engine import Handle
from exporters.clickhouse.exporter import ClickHouse
from spanledger.ui.ask import written
from spanledger.ui.auth import Visitor
from spanledger.ui.filters import Filters
from spanledger.ui.html import render
from spanledger.ui.page import Source, View
from spanledger.ui.pages import registered
from tests.ledger_rows import RECEIVED_NS, batch, context
from tests.spans_kit import request, span
from tests.ui_kit import FrameStore

KINDS = ("card", "email", "iban")
#: Personal data by day, app, team, provider and detector as it reads: span by span.
BY_SPAN = """SELECT toDate(s.Timestamp) AS Day, s.App AS App, s.Team AS Team, s.Provider AS Provider, Detector, count() AS Spans,
uniqExactIf(s.CallId, s.CallId != '') AS Calls, sum(Found) AS Hits, countIf(s.PiiInRequest[Detector] > 0) AS InRequestSpans,
uniqExactIf(s.CallId, s.CallId != '' AND s.PiiInRequest[Detector] > 0) AS InRequestCalls, sum(s.PiiInRequest[Detector]) AS InRequestHits
FROM spanledger.otel_traces AS s ARRAY JOIN mapKeys(s.Pii) AS Detector, mapValues(s.Pii) AS Found GROUP BY Day, App, Team, Provider, Detector ORDER BY ALL"""
ARRIVED = datetime.fromtimestamp(RECEIVED_NS / 1e9, UTC)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Handle]:
    """Forty deliveries of spans of three days, of which some have personal data and some are of calls."""
    folder, random = Path(tmp_path_factory.mktemp("spans")), Random(5)
    exporter = ClickHouse(ClickHouseConfig.model_validate({"dsn": f"chdb://{folder / 'clickhouse'}"}), context(folder))
    exporter.start()
    for place in range(40):
        start = RECEIVED_NS - random.randrange(3 * 86400) * 10**9
        pii = [{"name": kind, "count": random.randrange(1, 4)} for kind in random.sample(KINDS, random.randrange(4))]
        values: dict[str, Any] = {
            "pii": pii or None, "pii_in_request": random.choice([None, pii or None, pii[:1] or None]), "app": random.choice(["shop", "chat", ""]),
            "team": random.choice(["search", None]), "provider": random.choice(["openai", "anthropic"]), "call_id": random.choice([None, "a", "b", "c"]),
            "dialect": random.choice([None, "openinference"]),
        }  # fmt: skip
        spans = [
            span("a", start_ns=start + n, status=random.choice(["ok", "error"])) for n in range(random.randrange(1, 4))
        ]
        body = request(resource={"service.name": random.choice(["gateway", "app"])}, spans=spans)
        for payload in exporter.encode(batch(body, spans=values, position=place + 1)):
            exporter.send(payload)
    engine = Handle(folder / "clickhouse")
    yield engine
    engine.close()
    exporter.close()


def questions(path: str, about: str, since: str = "30d") -> list[tuple[str, dict[str, str]]]:
    """What a page asks about spans."""
    asked = FrameStore()
    with ThreadPoolExecutor(1) as threads:
        page = registered()[path]
        filters = Filters(since, "", (), ARRIVED + timedelta(minutes=1))
        view = View(Source(asked, threads), page, Visitor("test", admin=True), filters, {}, {})
        list(view.stream(render(page.body(view))))
    found = {sql: {name: written(value) for name, value in given.items()} for sql, given in asked.asked if about in sql}
    return list(found.items())


def answers(engine: Handle, path: str, about: str) -> list[tuple[str, pl.DataFrame]]:
    """What a page asks about spans of the last thirty days, and what stands in the projections, and nowhere else, of it."""
    engine.query("USE spanledger")
    settings = "force_optimize_projection = 1, output_format_arrow_string_as_string = 1, output_format_arrow_low_cardinality_as_dictionary = 0"
    return [
        (sql, pl.read_ipc_stream(engine.run(f"{sql} SETTINGS {settings}", "ArrowStream", params).body))
        for sql, params in questions(path, about)
    ]


def test_personal_data_is_counted_as_span_by_span(engine: Handle) -> None:
    names = "Day, App, Team, Provider, Detector, Spans, Calls, Hits, InRequestSpans, InRequestCalls, InRequestHits"
    found = engine.query(f"SELECT {names} FROM spanledger.llm_pii ORDER BY ALL")
    assert found == engine.query(BY_SPAN)
    assert found.count("\n") > 10


def test_the_page_of_guardrails_asks_no_span_about_personal_data(engine: Handle) -> None:
    asked = answers(engine, "/guardrails", "llm_pii")
    assert len(asked) == 4
    for sql, frame in asked:
        if "AS Spans" in sql:
            total = engine.query("SELECT sum(Hits), sum(InRequestHits), sum(InRequestSpans) FROM llm_pii").split()
            assert [str(frame[name].sum()) for name in ("Found", "Sent", "Spans")] == total


def test_the_page_of_the_pipeline_over_days_asks_no_span(engine: Handle) -> None:
    asked = answers(engine, "/pipeline", "otel_traces")
    assert len(asked) == 3
    for sql, frame in asked:
        if "AS Spans" in sql:
            of_each = "SELECT count(), countIf(CallId != ''), countIf(StatusCode = 'Error') FROM otel_traces"
            assert [str(frame[n].sum()) for n in ("Spans", "Reports", "Failed")] == engine.query(of_each).split()
        elif "delays" in sql:
            late = [int(value) / 1e9 for value in engine.query(f"SELECT {RECEIVED_NS} - toUnixTimestamp64Nano(Timestamp) - Duration FROM otel_traces").split()]  # fmt: skip
            level = dict(zip(frame["series"], frame["value"], strict=True))
            assert level["median"] == pytest.approx(np.quantile(late, 0.5), rel=0.1)
            assert level["p95"] == pytest.approx(np.quantile(late, 0.95), rel=0.1)
        else:
            assert str(frame["value"].sum()) == engine.query("SELECT count() FROM otel_traces").strip()


def test_the_page_of_the_pipeline_over_an_hour_counts_to_the_second(engine: Handle) -> None:
    """Spans themselves are asked: none of the minute that the period leaves out counts."""
    engine.query("USE spanledger")
    counted = []
    for sql, params in questions("/pipeline", "AS Spans", since="1h"):
        for end in (ARRIVED, ARRIVED + timedelta(seconds=1)):
            times = params | {"until": written(end)}
            counted.append(engine.run(sql, "TabSeparated", times).body.count(b"\n"))
    assert counted[0] == 0
    assert counted[1] > 0
