"""What the ClickHouse exporter does, over any store: run by test_clickhouse_chdb.py and test_clickhouse_server.py.

Each test has a database of its own. A module that runs the matrix has a fixture `dsn`: where the store is.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.batch import Position, RequestBatch
from collector.component import Payload
from collector.errors import Permanent, Retryable
from collector.signals import Signal
from exporters.clickhouse.client import Connection
from exporters.clickhouse.config import ClickHouseConfig, parse_dsn
from exporters.clickhouse.exporter import ClickHouse
from exporters.clickhouse.hourly import SUMS, TRAFFIC, Sums
from exporters.clickhouse.schema import COLLECTOR_FIELDS, HOURLY_OF, LOG_FIELDS
from exporters.clickhouse.views import VIEWS
from tests.findings_kit import finding
from tests.ledger_rows import RECEIVED_NS, batch, call, context
from tests.signals_kit import logs, record
from tests.spans_kit import NOON_NS, event, request, span

_numbers = itertools.count()
HOUR_NS = 3600 * 10**9
Make = Callable[..., ClickHouse]
Rows = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def database() -> str:
    return f"test_{next(_numbers)}"


@pytest.fixture
def rows(dsn: str, database: str) -> Iterator[Rows]:
    """Ask the store; `{db}` in the SQL is the test's database."""
    connection = Connection(parse_dsn(dsn), timeout=60)

    def ask(sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in connection._client.query(sql.replace("{db}", database)).result_rows]

    ask.command = lambda sql: connection.command(sql.replace("{db}", database))  # type: ignore[attr-defined]
    yield ask
    connection.command(f"DROP DATABASE IF EXISTS {database}")
    connection.close()


@pytest.fixture
def make(dsn: str, database: str, tmp_path: Path, rows: Rows) -> Iterator[Make]:
    """An exporter on the test's database, started."""
    made: list[ClickHouse] = []

    def build(start: bool = True, **options: Any) -> ClickHouse:
        config = ClickHouseConfig.model_validate({"dsn": dsn, "database": database, **options})
        exporter = ClickHouse(config, context(tmp_path))
        made.append(exporter)
        if start:
            exporter.start()
        return exporter

    yield build
    for exporter in made:
        exporter.close()


def deliver(exporter: ClickHouse, *batches: Any, times: int = 1) -> list[Payload]:
    payloads = [payload for one in batches for payload in exporter.encode(one)]
    for payload in payloads:
        for _ in range(times):
            exporter.send(payload)
    return payloads


def hourly_of_calls(of: Sums, rows: Rows) -> list[tuple[Any, ...]]:
    """What the hourly sums should be, from `llm_calls`."""
    keys = ", ".join(f"{key.of_calls} AS k{place}" for place, key in enumerate(of.keys))
    sums = ", ".join(f"ifNull({m.of_calls}, 0)" for m in of.measures)
    return rows(f"SELECT {keys}, {sums} FROM {{db}}.llm_calls GROUP BY {', '.join(f'k{place}' for place in range(len(of.keys)))} ORDER BY ALL")  # fmt: skip


def hourly(of: Sums, rows: Rows) -> list[tuple[Any, ...]]:
    names = ", ".join(f"ifNull({m.name}, 0) AS of_{m.name}" for m in of.measures)
    return rows(f"SELECT toDateTime64(Hour, 9) AS Hour, {', '.join(of.key_names[1:])}, {names} FROM {{db}}.{of.view} ORDER BY ALL")  # fmt: skip


def test_a_span_arrives_as_the_collectors_exporter_writes_it(make: Make, rows: Rows) -> None:
    made = span(
        "chat gpt-4o",
        {"gen_ai.request.model": "gpt-4o", "n": 5, "share": 0.1, "ok": True, "list": ["a", 1], "none": None},
        kind="server",
        parent=b"\x07" * 8,
        status="error",
        message="quota's gone",
        events=[event("exception", {"type": "Quota"}, at_ns=NOON_NS + 5)],
    )
    why = event("", {"why": "retry"}).attributes
    made.links.append(Span.Link(trace_id=b"\x09" * 16, span_id=b"\x08" * 8, trace_state="a=b", attributes=why))
    made.trace_state = "vendor=1"
    body = request(
        resource={"service.name": "shop", "host": "h1"}, scope="my.scope", version="1.2", spans=[made, span("plain")]
    )
    deliver(make(), batch(body, spans={"team": "search", "cost_pico": 1_500_000_000_001, "input_tokens": 7}))
    (row,) = rows(
        "SELECT toUnixTimestamp64Nano(Timestamp), TraceId, SpanId, ParentSpanId, TraceState, SpanName, SpanKind, ServiceName, "
        "ResourceAttributes, ScopeName, ScopeVersion, SpanAttributes, Duration, StatusCode, StatusMessage, "
        "arrayMap(t -> toUnixTimestamp64Nano(t), Events.Timestamp), Events.Name, Events.Attributes, Links.TraceId, Links.SpanId, "
        "Links.TraceState, Links.Attributes, Team, CostUSD, InputTokens, OutputTokens, Provider, SpanAttributeItems[2] "
        "FROM {db}.otel_traces WHERE SpanName = 'chat gpt-4o'"
    )
    assert row == (
        NOON_NS, made.trace_id.hex(), made.span_id.hex(), "07" * 8, "vendor=1", "chat gpt-4o", "Server", "shop",
        {"service.name": "shop", "host": "h1"}, "my.scope", "1.2",
        {"gen_ai.request.model": "gpt-4o", "n": "5", "share": "0.1", "ok": "true", "list": '["a",1]', "none": ""},
        800_000_000, "Error", "quota's gone", [NOON_NS + 5], ["exception"], [{"type": "Quota"}], ["09" * 16], ["08" * 8],
        ["a=b"], [{"why": "retry"}], "search", Decimal("1.500000000001"), 7, None, "", "n=5",
    )  # fmt: skip
    assert rows("SELECT ParentSpanId, SpanKind, StatusCode, Events.Name, Links.TraceId FROM {db}.otel_traces WHERE SpanName = 'plain'") == [
        ("", "Internal", "Unset", [], [])
    ]  # fmt: skip
    assert (
        rows(f"SELECT TraceId, Start, End FROM {{db}}.otel_traces_trace_id_ts WHERE TraceId = '{made.trace_id.hex()}'")[
            0
        ][1].year
        == 2026
    )


def test_absurd_times_neither_fail_the_insert_nor_make_partitions(make: Make, rows: Rows) -> None:
    """Time 0, the year 2300, an end before the start, and a span of each of a hundred years."""
    odd = [
        span("zero", start_ns=0, duration_ns=0),
        span("far", start_ns=10_413_792_000 * 10**9),
        span("back", duration_ns=0),
        *(span("year", start_ns=year * 31_557_600 * 10**9) for year in range(100)),
    ]
    odd[2].end_time_unix_nano = odd[2].start_time_unix_nano - 5
    deliver(make(), batch(request(spans=odd)))
    found = dict(rows("SELECT SpanName, toString(Timestamp, 'UTC') FROM {db}.otel_traces WHERE SpanName != 'year'"))
    assert found["zero"] == "1970-01-01 00:00:00.000000000"
    assert found["far"] == "2105-12-31 23:59:59.000000000"
    assert rows("SELECT Duration FROM {db}.otel_traces WHERE SpanName = 'back'") == [(0,)]
    assert rows("SELECT count() FROM {db}.otel_traces") == [(103,)]
    assert rows("SELECT count() FROM system.parts WHERE database = '{db}' AND table = 'otel_traces' AND active") == [
        (1,)
    ]


def test_the_same_payload_again_changes_nothing(make: Make, rows: Rows) -> None:
    """Three inserts under one token are one, in the tables and in what materialized views make of them."""
    exporter = make()
    one = batch(request(spans=[span(), span()]), made=[call("a", cost_pico=5), call("b", cost_pico=7)])
    first = deliver(exporter, one, times=3)
    assert [(p.meta, p.body) for p in exporter.encode(one)] == [(p.meta, p.body) for p in first]
    assert rows("SELECT count() FROM {db}.otel_traces") == [(2,)]
    assert rows("SELECT count() FROM {db}.llm_calls_versions") == [(2,)]
    assert rows("SELECT sum(Calls), sum(CostUSD) FROM {db}.llm_costs_hourly") == [(2, Decimal("0.000000000012"))]


def test_equal_rows_of_another_batch_are_not_taken_for_a_repetition(make: Make, rows: Rows) -> None:
    """Two collectors may stand at one position, and a wiped data directory counts from one again."""
    exporter = make()
    deliver(exporter, batch(request(spans=[span()])), batch(request(spans=[span()])))
    assert rows("SELECT count() FROM {db}.otel_traces") == [(2,)]


def test_the_newest_version_counts_and_a_withdrawn_call_does_not(make: Make, rows: Rows) -> None:
    exporter = make()
    old = call("a", cost_pico=10**12, input_tokens=5, team="before")
    new = call("a", cost_pico=2 * 10**12, input_tokens=6, team="after", version=2, start_ns=NOON_NS + HOUR_NS)
    other = call("b", cost_pico=3 * 10**12)
    gone = call("b", cost_pico=None, version=2, withdrawn=True)
    deliver(exporter, batch(made=[old, other]), batch(made=[new], replaced=[old], position=2))
    assert rows("SELECT CallId, Team, CostUSD FROM {db}.llm_calls ORDER BY CallId") == [
        ("a", "after", Decimal(2)),
        ("b", "search", Decimal(3)),
    ]
    deliver(exporter, batch(made=[gone], replaced=[other], position=3))
    assert rows("SELECT CallId, CostUSD FROM {db}.llm_calls") == [("a", Decimal(2))]
    assert rows("SELECT Team, Calls, InputTokens, CostUSD FROM {db}.llm_costs_hourly") == [("after", 1, 6, Decimal(2))]
    # A filter on a column that differs between versions must not bring back an old one.
    assert rows("SELECT count() FROM {db}.llm_calls WHERE Team = 'before'") == [(0,)]
    assert rows("SELECT count() FROM {db}.llm_calls WHERE Timestamp < '2026-11-24 12:30:00'") == [(0,)]


def test_unknown_is_null_and_never_zero(make: Make, rows: Rows) -> None:
    deliver(make(), batch(made=[call("a", price_status="unpriced_model", input_tokens=5)]))
    assert rows("SELECT CostUSD, OutputTokens, Streaming, EndUser FROM {db}.llm_calls") == [(None, None, None, "")]
    assert rows("SELECT Calls, UnpricedCalls, CostUSD FROM {db}.llm_costs_hourly") == [(1, 1, None)]
    assert rows("SELECT Model, Calls FROM {db}.llm_unpriced_models") == [("gpt-4o", 1)]


def test_amounts_and_counts_beyond_the_columns_are_unknown_and_the_row_stays(make: Make, rows: Rows) -> None:
    most = 10**18 - 1
    deliver(
        make(),
        batch(made=[
            *(call(f"most{i}", cost_pico=most) for i in range(20)),
            call("over", cost_pico=10**18),
            call("below", cost_pico=-(10**18), input_tokens=-5),
            call("minus", cost_pico=-most),
        ]),
    )  # fmt: skip
    assert rows("SELECT count(), count(CostUSD), sum(CostUSD) FROM {db}.llm_calls") == [
        (23, 21, Decimal(19 * most).scaleb(-12))
    ]
    assert rows("SELECT sum(Calls), sum(PricedCalls), sum(CostUSD) FROM {db}.llm_costs_hourly") == [
        (23, 21, Decimal(19 * most).scaleb(-12))
    ]
    assert rows("SELECT CostUSD, InputTokens FROM {db}.llm_calls WHERE CallId = 'below'") == [(None, None)]


def test_calls_of_two_months_are_two_payloads_each_one_part(make: Make, rows: Rows) -> None:
    import datetime

    other = call("b", day=datetime.date(2026, 12, 1), start_ns=NOON_NS + 7 * 24 * HOUR_NS)
    sent = deliver(make(), batch(made=[call("a"), other]))
    tables = "llm_traffic_hourly_sums", "llm_calls_versions", "llm_costs_hourly_sums"
    assert [p.meta["table"] for p in sent] == [table for table in tables for _ in range(2)]
    assert len({p.meta["token"] for p in sent}) == 6
    assert rows("SELECT count() FROM {db}.llm_calls") == [(2,)]


def test_text_is_kept_whatever_it_holds(make: Make, rows: Rows) -> None:
    team = "'; DROP TABLE llm_calls; -- \\ \" ` {x:String} \x00 \n\t é 🦊"
    deliver(
        make(),
        batch(request(spans=[span(team, {team: team})]), made=[call("a", team=team, user=team)], spans={"team": team}),
    )
    assert rows("SELECT Team, User FROM {db}.llm_calls") == [(team, team)]
    assert rows("SELECT SpanName, SpanAttributes, Team FROM {db}.otel_traces") == [(team, {team: team}, team)]
    assert rows("SELECT Team FROM {db}.llm_costs_hourly") == [(team,)]


def test_every_view_answers_and_hourly_sums_equal_the_calls(make: Make, rows: Rows) -> None:
    made = [
        call("a", cost_pico=3, list_cost_pico=4, reported_cost_pico=5, cache_savings_pico=1, cache_read_tokens=3, input_tokens=9, output_tokens=2),
        call("b", cost_pico=8, upstream_model="openai/gpt-4o", response_model="gpt-4o-2024", team=None, user="u"),
        call("c", status="Error", error_type="429"),
        call("d", price_status="unpriced_model", request_model="mystery", cache_write_tokens=5, reasoning_tokens=1),
        call("e", status="Error", parent_span_id="c" * 16, route_verdict="ok", refused_by="model"),
        call("f", parent_span_id="c" * 16, request_model="gpt-4o-mini"),
    ]  # fmt: skip
    found = {"pii": [{"name": "email", "count": 1}]}
    refused = {"http.response.status_code": 400, "gen_ai.request.model": "gpt-4o"}
    spans = [span("guardrail"), span("POST", refused, kind="server", trace=b"\xaa" * 16)]
    body = request(resource={"service.name": "gateway"}, spans=spans)
    deliver(make(), batch(body, made=made, spans=found).with_(findings=(finding(),)))
    for view in VIEWS:
        assert rows(f"SELECT * FROM {{db}}.{view.name}"), view.name
    for sums in SUMS:
        assert hourly_of_calls(sums, rows) == hourly(sums, rows)
    assert rows("SELECT RequestModel, ResponseModel FROM {db}.llm_requested_against_served") == [
        ("gpt-4o", "gpt-4o-2024")
    ]
    assert rows("SELECT DifferenceUSD FROM {db}.llm_reported_against_computed") == [(Decimal("0.000000000001"),)]
    assert rows("SELECT Team, CallId FROM {db}.llm_most_expensive_calls LIMIT 1") == [("", "b")]


def test_what_redaction_found_arrives_as_maps_and_a_view_says_whether_the_provider_saw_it(
    make: Make, rows: Rows
) -> None:
    exporter = make()
    card = {"name": "card", "count": 2}
    of_call = {"pii": [card, {"name": "email", "count": 1}], "pii_in_request": [card], "provider": "openai", "app": "shop", "call_id": "c"}  # fmt: skip
    deliver(exporter, batch(request(spans=[span("a")]), spans=of_call))
    deliver(exporter, batch(request(spans=[span("b")]), spans={**of_call, "pii_in_request": None}, position=2))
    deliver(exporter, batch(request(spans=[span("c")]), position=3))
    assert rows("SELECT SpanName, Pii, PiiInRequest FROM {db}.otel_traces ORDER BY SpanName") == [
        ("a", {"card": 2, "email": 1}, {"card": 2}),
        ("b", {"card": 2, "email": 1}, {}),
        ("c", {}, {}),
    ]
    names = "App, Provider, Detector, Spans, Calls, Hits, InRequestSpans, InRequestCalls, InRequestHits"
    assert rows(f"SELECT {names} FROM {{db}}.llm_pii ORDER BY Detector") == [
        ("shop", "openai", "card", 2, 1, 4, 1, 1, 2),
        ("shop", "openai", "email", 2, 1, 2, 0, 0, 0),
    ]


def test_starting_again_keeps_the_rows_and_does_nothing_else(make: Make, rows: Rows) -> None:
    deliver(make(), batch(made=[call("a")]))
    make()
    assert rows("SELECT count() FROM {db}.llm_calls") == [(1,)]
    assert rows("SELECT Version FROM {db}.spanledger_schema") == [(2,)]


def test_a_table_of_the_collector_gets_our_columns(make: Make, rows: Rows) -> None:
    """Its partitions stay by the spans' own days: more days than a server allows in one insert go in all the same."""
    rows.command("CREATE DATABASE IF NOT EXISTS {db}")  # type: ignore[attr-defined]
    fields = ", ".join(f"`{f.name}` {f.type}" for f in COLLECTOR_FIELDS)
    rows.command(
        f"CREATE TABLE {{db}}.otel_traces ({fields}) ENGINE = MergeTree PARTITION BY toDate(Timestamp) ORDER BY (ServiceName, SpanName, toDateTime(Timestamp))"
    )  # type: ignore[attr-defined]
    exporter = make()
    days = [span("day", start_ns=NOON_NS - day * 24 * HOUR_NS) for day in range(120)]
    deliver(exporter, batch(request(spans=days), spans={"team": "search"}), times=2)
    assert rows("SELECT count(), countIf(Team = 'search'), max(toYear(Received)) FROM {db}.otel_traces") == [
        (120, 120, 2026)
    ]


def test_a_table_that_cannot_take_our_rows_is_named_with_what_is_wrong(make: Make, rows: Rows) -> None:
    rows.command("CREATE DATABASE IF NOT EXISTS {db}")  # type: ignore[attr-defined]
    rows.command(
        "CREATE TABLE {db}.otel_traces (Timestamp DateTime64(9), SpanAttributes JSON, Duration Int64) ENGINE = MergeTree ORDER BY Timestamp"
    )  # type: ignore[attr-defined]
    with pytest.raises(
        Retryable,
        match=r"otel_traces does not fit: column SpanAttributes is JSON, expected Map.*column Duration is Int64, expected UInt64",
    ):
        make()


def test_a_newer_releases_schema_is_left_alone(make: Make, rows: Rows) -> None:
    make()
    rows.command("INSERT INTO {db}.spanledger_schema VALUES (99, now())")  # type: ignore[attr-defined]
    with pytest.raises(Retryable, match="schema version 99, made by a newer Spanledger"):
        make()


def test_without_create_schema_the_dbas_tables_are_used_or_what_they_lack_is_said(make: Make, rows: Rows) -> None:
    rows.command("CREATE DATABASE IF NOT EXISTS {db}")  # type: ignore[attr-defined]
    with pytest.raises(Retryable, match=r"there is no table otel_traces.*there is no table llm_calls_versions"):
        make(create_schema=False)
    make()
    exporter = make(create_schema=False)
    deliver(exporter, batch(request(spans=[span()]), made=[call("a")]))
    assert rows("SELECT count() FROM {db}.llm_calls") == [(1,)]


def test_a_new_ttl_is_put_in_place(make: Make, rows: Rows) -> None:
    make()
    make(ttl="30d")
    ((statement,),) = rows(
        "SELECT create_table_query FROM system.tables WHERE database = '{db}' AND name = 'otel_traces'"
    )
    assert "toIntervalDay(30)" in statement


def test_rows_that_no_server_takes_are_refused_for_good_and_the_next_ones_go_in(make: Make, rows: Rows) -> None:
    exporter = make()
    (good,) = exporter.encode(batch(request(spans=[span()])))
    with pytest.raises(Permanent):
        exporter.send(Payload(b"not an Arrow stream at all, but long enough to be looked at" * 4, dict(good.meta)))
    exporter.send(good)
    assert rows("SELECT count() FROM {db}.otel_traces") == [(1,)]


def test_a_dropped_table_comes_back_with_the_next_try(make: Make, rows: Rows) -> None:
    exporter = make()
    (payload,) = exporter.encode(batch(request(spans=[span()])))
    rows.command("DROP TABLE {db}.otel_traces")  # type: ignore[attr-defined]
    with pytest.raises(Retryable, match="table is missing"):
        exporter.send(payload)
    exporter.send(payload)
    assert rows("SELECT count() FROM {db}.otel_traces") == [(1,)]


# Logs ------------------------------------------------------------------------------------------------------------------


def log_batch(*bodies: bytes, position: int = 1) -> RequestBatch:
    """Requests of logs as they come to an exporter."""
    data = np.frombuffer(b"".join(bodies), np.uint8)
    return RequestBatch(Signal.LOGS, data, len(bodies), Position(position, position), RECEIVED_NS)


def deliver_logs(exporter: ClickHouse, *batches: RequestBatch, times: int = 1) -> list[Payload]:
    payloads = [payload for one in batches for payload in exporter.encode_requests(one)]
    for payload in payloads:
        for _ in range(times):
            exporter.send(payload)
    return payloads


LOG_COLUMNS = ", ".join(field.name for field in LOG_FIELDS[1:])


def test_a_log_record_arrives_as_the_collectors_exporter_writes_it(make: Make, rows: Rows) -> None:
    made = record(
        "user asked", {"n": 5, "list": ["a", 1], "none": None}, time_unix_nano=NOON_NS, trace_id=b"\x09" * 16, span_id=b"\x08" * 8,
        flags=0x301, event_name="gen_ai.user.message", severity_number=13, severity_text="WARN",
    )  # fmt: skip
    message = ExportLogsServiceRequest.FromString(logs(made, resource={"service.name": "shop", "host": "h1"}))
    message.resource_logs[0].schema_url = "https://r"
    scope = message.resource_logs[0].scope_logs[0]
    scope.schema_url, scope.scope.name, scope.scope.version = "https://s", "my.scope", "1.2"
    scope.scope.attributes.add(key="lib").value.string_value = "x"
    deliver_logs(make(), log_batch(message.SerializeToString(), logs(record("plain"))))
    found = rows(
        f"SELECT toUnixTimestamp64Nano(Timestamp), {LOG_COLUMNS}, toString(Received) FROM {{db}}.otel_logs WHERE Body = 'user asked'"
    )
    assert found == [(
        NOON_NS, "09" * 16, "08" * 8, 1, "WARN", 13, "shop", "user asked", "https://r", {"service.name": "shop", "host": "h1"},
        "https://s", "my.scope", "1.2", {"lib": "x"}, {"n": "5", "list": '["a",1]', "none": ""}, "gen_ai.user.message",
        "2026-11-24 12:01:00",
    )]  # fmt: skip
    assert rows("SELECT TraceId, SpanId, TraceFlags, EventName, ServiceName, TimestampTime = toDateTime(Timestamp) FROM {db}.otel_logs WHERE Body = 'plain'") == [
        ("", "", 0, "", "chat-app", 1)
    ]  # fmt: skip


def test_bodies_of_every_shape_are_text(make: Make, rows: Rows) -> None:
    """Text as it is, the rest as the Collector's exporter writes it."""
    shapes = {
        "text": "plain \x00 'quoted' \"é🦊\"", "int": -5, "float": 0.1, "whole": 1e21, "yes": True, "none": None,
        "map": {"gen_ai.input.messages": [{"role": "user", "content": "hi"}]}, "list": ["a", 1, None], "bytes": b"\x00\xff", "empty": "",
    }  # fmt: skip
    deliver_logs(make(), log_batch(logs(*(record(body, {"shape": name}) for name, body in shapes.items()))))
    assert dict(rows("SELECT LogAttributes['shape'], Body FROM {db}.otel_logs")) == {
        "text": shapes["text"], "int": "-5", "float": "0.1", "whole": "1e+21", "yes": "true", "none": "",
        "map": '{"gen_ai.input.messages":[{"role":"user","content":"hi"}]}', "list": '["a",1,null]', "bytes": "AP8=", "empty": "",
    }  # fmt: skip


def test_odd_log_records_are_kept(make: Make, rows: Rows) -> None:
    """No time at all, only the time of observation, absurd times, ids that are none, a severity that is none: one part."""
    never = record("never", trace_id=b"odd", span_id=b"\0" * 8, severity_number=99)
    never.time_unix_nano = 0
    seen = record("seen", observed_time_unix_nano=NOON_NS + 7)
    seen.time_unix_nano = 0
    far = [record("far", time_unix_nano=year * 31_557_600 * 10**9) for year in (400, 584)]
    deliver_logs(make(), log_batch(logs(never, seen, *far)))
    found = {
        body: rest
        for body, *rest in rows(
            "SELECT Body, toUnixTimestamp64Nano(Timestamp), TraceId, SpanId, SeverityNumber FROM {db}.otel_logs"
        )
    }
    assert found["never"] == [RECEIVED_NS, "", "", 0]
    assert found["seen"][0] == NOON_NS + 7
    assert rows("SELECT max(toString(Timestamp, 'UTC')) FROM {db}.otel_logs") == [("2105-12-31 23:59:59.000000000",)]
    assert rows("SELECT count() FROM system.parts WHERE database = '{db}' AND table = 'otel_logs' AND active") == [(1,)]


def test_the_same_logs_again_change_nothing_and_equal_ones_of_another_batch_count(make: Make, rows: Rows) -> None:
    exporter = make()
    body = logs(record("said", time_unix_nano=NOON_NS), record("said", time_unix_nano=NOON_NS))
    first = deliver_logs(exporter, log_batch(body), times=3)
    assert [(p.meta, p.body, p.items) for p in exporter.encode_requests(log_batch(body))] == [
        (p.meta, p.body, 2) for p in first
    ]
    assert rows("SELECT count() FROM {db}.otel_logs") == [(2,)]
    deliver_logs(exporter, log_batch(body, position=2))
    assert rows("SELECT count() FROM {db}.otel_logs") == [(4,)]
    assert list(exporter.encode_requests(log_batch(b""))) == []


def test_the_collectors_own_logs_table_is_used(make: Make, rows: Rows) -> None:
    """One of before v0.151, with TimestampTime and without EventName: what is there stays, what lacks is added."""
    rows.command("CREATE DATABASE IF NOT EXISTS {db}")  # type: ignore[attr-defined]
    columns = ", ".join(f"`{f.name}` {f.type}" for f in LOG_FIELDS if f.name != "EventName")
    rows.command(  # type: ignore[attr-defined]
        f"CREATE TABLE {{db}}.otel_logs ({columns}, TimestampTime DateTime DEFAULT toDateTime(Timestamp)) ENGINE = MergeTree "
        "PARTITION BY toDate(TimestampTime) PRIMARY KEY (ServiceName, TimestampTime) ORDER BY (ServiceName, TimestampTime, Timestamp)"
    )
    body = logs(record("said", event_name="e"))
    deliver_logs(make(create_schema=True), log_batch(body), times=2)
    assert rows("SELECT EventName, TimestampTime = toDateTime(Timestamp) FROM {db}.otel_logs") == [("e", 1)]


def test_without_create_schema_a_logs_pipeline_asks_for_the_logs_table_alone(
    make: Make, rows: Rows, dsn: str, database: str, tmp_path: Path
) -> None:
    """The Collector's columns do; what is missing is named, and the ledger's tables are not."""
    options = {"dsn": dsn, "database": database, "create_schema": False}
    of_logs = ClickHouse(ClickHouseConfig.model_validate(options), replace(context(tmp_path), signal=Signal.LOGS))
    rows.command("CREATE DATABASE IF NOT EXISTS {db}")  # type: ignore[attr-defined]
    with pytest.raises(Retryable, match="there is no table otel_logs") as raised:
        of_logs.start()
    assert "llm_calls" not in str(raised.value)
    columns = ", ".join(f"`{f.name}` {f.type}" for f in LOG_FIELDS if f.name not in ("EventName", "Body"))
    rows.command(f"CREATE TABLE {{db}}.otel_logs ({columns}) ENGINE = MergeTree ORDER BY Timestamp")  # type: ignore[attr-defined]
    with pytest.raises(Retryable, match=r"otel_logs has no column Body \(String\)"):
        of_logs.start()
    rows.command("ALTER TABLE {db}.otel_logs ADD COLUMN Body String")  # type: ignore[attr-defined]
    of_logs.start()
    deliver_logs(of_logs, log_batch(logs(record("said", event_name="not kept here"))))
    assert rows("SELECT Body, ServiceName FROM {db}.otel_logs") == [("said", "chat-app")]
    of_logs.close()
    with pytest.raises(Retryable, match="there is no table otel_traces") as raised:
        make(create_schema=False)
    assert "otel_logs" not in str(raised.value)


def test_exporters_of_two_pipelines_may_start_at_once(make: Make, rows: Rows) -> None:
    """The first start of a config with traces and logs: both make the schema."""
    exporters = [make(start=False) for _ in range(4)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda exporter: exporter.start(), exporters))
    deliver_logs(exporters[0], log_batch(logs(record("said"))))
    deliver(exporters[1], batch(request(spans=[span()])))
    assert rows("SELECT (SELECT count() FROM {db}.otel_logs), (SELECT count() FROM {db}.otel_traces)") == [(1, 1)]


def test_sums_of_an_older_release_get_the_ones_without_users_of_what_is_there(
    make: Make, rows: Rows, caplog: pytest.LogCaptureFixture
) -> None:
    """Parts from before and after are asked together, the background at work or not; who may not change the table is told what to run."""
    exporter = make()
    deliver(exporter, batch(made=[call("a", user="u1", cost_pico=5), call("b", user="u2", cost_pico=7)]))
    table, narrow = "{db}.llm_costs_hourly_sums", HOURLY_OF.projections[0].name
    rows.command(f"ALTER TABLE {table} DROP PROJECTION {narrow} SETTINGS mutations_sync = 1")  # type: ignore[attr-defined]
    asked = f"SELECT Team, sum(Calls), sum(CostUSD) FROM {table} GROUP BY Team"
    with pytest.raises(Exception, match="PROJECTION_NOT_USED"):
        rows(f"{asked} SETTINGS force_optimize_projection = 1")
    make(create_schema=False)
    assert f"ADD PROJECTION IF NOT EXISTS `{narrow}`" in caplog.text
    assert f"MATERIALIZE PROJECTION `{narrow}`" in caplog.text
    caplog.clear()
    again = make()
    deliver(again, batch(made=[call("c", cost_pico=11)], position=2))
    assert rows(asked) == [("search", 3, Decimal("0.000000000023"))]
    for _ in range(100):
        if not rows(f"SELECT name FROM system.parts WHERE database = '{{db}}' AND table = 'llm_costs_hourly_sums' AND active AND NOT has(projections, '{narrow}')"):  # fmt: skip
            break
        time.sleep(0.1)
    assert rows(f"{asked} SETTINGS force_optimize_projection = 1") == [("search", 3, Decimal("0.000000000023"))]
    make(create_schema=False)
    assert "ADD PROJECTION" not in caplog.text


def test_traffic_is_summed_of_what_an_older_release_left_stored_or_committed(make: Make, rows: Rows) -> None:
    """Its calls that are stored, those that it committed and could not send, and better versions of both that come now."""
    exporter = make()
    old, waiting, new = (
        batch(made=[call("a", cost_pico=5, route="r1", route_verdict="ok"), call("b", refused_by="model")]),
        batch(made=[call("c", status="Error", error_type="rate limit")], position=2),
        batch(made=[call("a", cost_pico=6, version=2), call("d")], replaced=[call("a", cost_pico=5, route="r1", route_verdict="ok")], position=3),
    )  # fmt: skip
    deliver(exporter, old)
    exporter.close()
    rows.command("TRUNCATE TABLE {db}.llm_traffic_hourly_sums")  # type: ignore[attr-defined]
    rows.command("TRUNCATE TABLE {db}.spanledger_schema")  # type: ignore[attr-defined]
    rows.command("INSERT INTO {db}.spanledger_schema SELECT 1, now()")  # type: ignore[attr-defined]
    again = make()
    assert hourly_of_calls(TRAFFIC, rows) == hourly(TRAFFIC, rows) != []
    for payload in again.encode(waiting):
        if payload.meta["table"] != "llm_traffic_hourly_sums":
            again.send(replace(payload, meta={n: v for n, v in payload.meta.items() if n != "schema"}))
    assert rows("SELECT max(Version) FROM {db}.spanledger_schema") == [(1,)]
    deliver(again, new, times=2)
    assert hourly_of_calls(TRAFFIC, rows) == hourly(TRAFFIC, rows)
    assert rows("SELECT sum(Calls), sum(LimitedCalls), sum(CostUSD) FROM {db}.llm_traffic_hourly") == [(4, 1, Decimal("0.000000000006"))]  # fmt: skip
    assert rows("SELECT max(Version) FROM {db}.spanledger_schema") == [(2,)]
    deliver(make(), batch(made=[call("e")], position=4))
    assert hourly_of_calls(TRAFFIC, rows) == hourly(TRAFFIC, rows)
