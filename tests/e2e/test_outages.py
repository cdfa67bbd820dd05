"""What a user fears: the store is away, refuses, loses its answers, is slow; the disk or the inbox is full. Nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clickhouse_kit import ClickHouseServer, clickhouse_server
from tests.collector_kit import Collector
from tests.spans_kit import calls

RETRY = ", retry_on_failure: {initial_interval: 50ms, max_interval: 200ms}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    with clickhouse_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def collector(tmp_path: Path, server: ClickHouseServer) -> Iterator[Collector]:
    started = Collector(tmp_path, server.dsn, RETRY)
    try:
        started.start()
        yield started
    finally:
        server.fault("ok")
        started.close()


def some(run: str, first: int, count: int, padding: int = 0) -> bytes:
    """A request of `count` calls, each with a response id of its own."""
    ids = [f"{run}-{number}" for number in range(first, first + count)]
    return calls(ids, {"note": "x" * padding} if padding else None)


def ledger(server: ClickHouseServer, run: str) -> tuple[int, int, int]:
    """Rows, distinct calls, and spans of one test."""
    rows = server.sql(f"SELECT count(), uniqExact(ResponseId) FROM spanledger.llm_calls WHERE startsWith(ResponseId, '{run}-')")  # fmt: skip
    spans = server.sql(f"SELECT count() FROM spanledger.otel_traces WHERE startsWith(SpanAttributes['gen_ai.response.id'], '{run}-')")  # fmt: skip
    return int(rows[0][0]), int(rows[0][1]), int(spans[0][0])


def hourly_equals_ledger(server: ClickHouseServer) -> None:
    total = server.sql("SELECT toString(sum(CostUSD)), count() FROM spanledger.llm_calls")
    hourly = server.sql("SELECT toString(sum(CostUSD)), toUInt64(sum(Calls)) FROM spanledger.llm_costs_hourly")
    assert [str(v) for v in hourly[0]] == [str(v) for v in total[0]]


@pytest.mark.parametrize("mode", ["error", "late_error", "slow"])
def test_a_server_that_errs_loses_answers_or_is_slow_ends_up_with_every_call_once(
    collector: Collector, server: ClickHouseServer, mode: str
) -> None:
    server.fault(mode, share=0.7)
    for number in range(10):
        assert collector.post(some(mode, number * 20, 20))[0] == 200
        time.sleep(0.06)
    time.sleep(1)
    server.fault("ok")
    collector.settled()
    assert ledger(server, mode) == (200, 200, 200)
    hourly_equals_ledger(server)


def test_a_server_that_is_away_for_a_while_gets_everything_when_it_is_back(
    collector: Collector, server: ClickHouseServer
) -> None:
    server.stop()
    for number in range(10):
        assert collector.post(some("away", number * 20, 20))[0] == 200
        time.sleep(0.06)
    status, body = collector.get("/status")
    assert status == 200
    assert b"does not answer" in body
    assert collector.get("/readyz")[0] == 200, "an exporter that waits is no reason to take no spans"
    # A restart in the middle of the outage changes nothing.
    assert collector.stop() == 0
    collector.start()
    server.start()
    collector.settled()
    assert ledger(server, "away") == (200, 200, 200)
    hourly_equals_ledger(server)


def test_a_collector_that_starts_while_the_server_is_away_takes_spans_already(
    tmp_path: Path, server: ClickHouseServer
) -> None:
    server.stop()
    collector = Collector(tmp_path, server.dsn, RETRY)
    try:
        collector.start()
        assert collector.post(some("early", 0, 20))[0] == 200
        server.start()
        collector.settled()
        assert ledger(server, "early") == (20, 20, 20)
    finally:
        collector.close()


def test_a_full_inbox_tells_senders_to_come_back_and_takes_them_when_there_is_room(
    tmp_path: Path, server: ClickHouseServer
) -> None:
    server.stop()
    exporter = ", sending_queue: {max_size: 1MiB}, retry_on_failure: {initial_interval: 50ms, max_interval: 200ms}"
    collector = Collector(tmp_path, server.dsn, exporter, service="  inbox: {max_size: 2MiB}")
    bodies = [some("full", number * 10, 10, padding=2000) for number in range(400)]
    accepted, refused = 0, 0
    try:
        collector.start()
        for body in bodies:
            status, _ = collector.post(body)
            assert status in (200, 503)
            accepted += status == 200
            refused += status == 503
            if refused >= 3:
                break
        assert accepted
        assert refused, "an inbox that never fills is not bounded"
        server.start()
        collector.settled()
        # What was refused was not half taken: it is sent again and is there once.
        for body in bodies[: accepted + refused]:
            while (status := collector.post(body)[0]) == 503:
                time.sleep(0.05)
            assert status == 200
        collector.settled()
        rows, distinct, _ = ledger(server, "full")
        assert rows == distinct == (accepted + refused) * 10
        hourly_equals_ledger(server)
    finally:
        collector.close()
