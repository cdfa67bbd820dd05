"""docs/clickhouse.md: its tables are the declared ones, and each of its queries runs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.findings import Evidence
from exporters.clickhouse.config import ClickHouseConfig
from exporters.clickhouse.document import PAGE, SECTIONS, render
from exporters.clickhouse.exporter import ClickHouse
from exporters.clickhouse.reader import Reader
from tests.findings_kit import finding
from tests.integration.clickhouse_matrix import log_batch
from tests.ledger_rows import batch, call, context
from tests.signals_kit import logs, record
from tests.spans_kit import request, span

TEXT = PAGE.read_text(encoding="utf-8")
QUERIES = dict(re.findall(r"### ([^\n]+)\n\n```sql\n(.*?)```", TEXT, re.DOTALL))


def test_the_page_shows_what_is_declared() -> None:
    assert render(TEXT) == TEXT, "docs/clickhouse.md is stale: run `python -m exporters.clickhouse.document`"
    assert set(re.findall(r"made of: (\S+)", TEXT)) == set(SECTIONS)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    folder = tmp_path_factory.mktemp("docs")
    exporter = ClickHouse(
        ClickHouseConfig.model_validate({"dsn": f"chdb://{folder / 'clickhouse'}"}), context(Path(folder))
    )
    exporter.start()
    now = time.time_ns()
    today = time.gmtime(now // 10**9)
    import datetime

    one = span("chat", start_ns=now)
    made = call(
        "a", trace_id=one.trace_id.hex(), start_ns=now, day=datetime.date(*today[:3]), cost_pico=5, list_cost_pico=5, reported_cost_pico=6,
        cache_savings_pico=1, cache_read_tokens=1, input_tokens=2, output_tokens=3, time_to_first_token_ns=5, price_status="priced",
    )  # fmt: skip
    shown = finding(evidence=(Evidence(one.trace_id.hex(), one.span_id.hex()),), first_seen_ns=now, last_seen_ns=now)
    for payload in exporter.encode(batch(request(spans=[one]), made=[made]).with_(findings=(shown,))):
        exporter.send(payload)
    for payload in exporter.encode_requests(log_batch(logs(record(trace_id=one.trace_id, time_unix_nano=now)))):
        exporter.send(payload)
    found = Reader(folder / "clickhouse", "spanledger")
    yield found
    found.close()
    exporter.close()


@pytest.mark.parametrize("question", QUERIES)
def test_each_query_of_the_page_runs_as_it_stands_and_finds_something(question: str, reader: Reader) -> None:
    assert reader.ask(QUERIES[question]).result.body.count(b"\n") == 1


def test_the_page_has_queries() -> None:
    assert len(QUERIES) >= 6
