"""As a user: the real process with the shipped processors, real OTLP clients, the commands of the README."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from collector.signals import Signal
from tests.collector_kit import Collector, running
from tests.otlp_oracle import items_of
from tests.signals_kit import application

CAPTURES = Path(__file__).parents[1] / "captures"


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with running(tmp_path_factory.mktemp("collector")) as started:
        yield started


def spans_in(folder: str) -> int:
    """How many spans a capture's trace bodies hold, by protobuf's own parser."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    bodies = [ExportTraceServiceRequest.FromString(p.read_bytes()) for p in (CAPTURES / folder).glob("*-traces.pb")]
    return sum(len(scope.spans) for b in bodies for r in b.resource_spans for scope in r.scope_spans)


@pytest.mark.parametrize("folder", ["litellm-v1", "litellm-v2"])
def test_a_gateways_captures_sent_with_the_command_are_in_the_ledger_once(collector: Collector, folder: str) -> None:
    before = collector.sql("SELECT count() FROM otel_traces")[0][0]
    files = sorted(str(p) for p in (CAPTURES / folder).glob("*-traces.pb"))
    sent = collector.cli("send", *files)
    assert sent.returncode == 0, sent.stderr
    collector.settled()
    assert int(collector.sql("SELECT count() FROM otel_traces")[0][0]) - int(before) == spans_in(folder)
    priced = collector.sql("SELECT Dialect, count(), uniqExact(CallId) FROM llm_calls WHERE CostUSD > 0 GROUP BY Dialect")  # fmt: skip
    by_dialect = {row[0]: (int(row[1]), int(row[2])) for row in priced}
    dialect = folder.replace("-", "_")
    assert by_dialect[dialect] == (24, 24)
    failed = collector.sql(f"SELECT count(), countIf(CostUSD IS NULL) FROM llm_calls WHERE Dialect = '{dialect}' AND StatusCode = 'Error'")  # fmt: skip
    assert int(failed[0][0]) > 0
    assert failed[0][0] == failed[0][1], "a failed call costs nothing"


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_real_sdk_sends_and_its_call_is_priced(collector: Collector, protocol: str) -> None:
    exporter = (
        GrpcExporter(endpoint=f"http://127.0.0.1:{collector.grpc}", insecure=True)
        if protocol == "grpc"
        else HttpExporter(endpoint=f"http://127.0.0.1:{collector.http}/v1/traces")
    )
    provider = TracerProvider(resource=Resource.create({"service.name": f"sdk-{protocol}", "team": "search"}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    with provider.get_tracer("opentelemetry.instrumentation.openai_v2").start_as_current_span("chat gpt-4o-mini") as span:  # fmt: skip
        for key, value in {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o-mini",
            "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
            "gen_ai.response.id": f"chatcmpl-{protocol}",
            "gen_ai.usage.input_tokens": 2000,
            "gen_ai.usage.output_tokens": 500,
        }.items():
            span.set_attribute(key, value)
    provider.shutdown()
    collector.settled()
    rows = collector.sql(
        f"SELECT Team, App, toString(CostUSD), InputTokens, OutputTokens FROM llm_calls WHERE ResponseId = 'chatcmpl-{protocol}'"
    )
    assert len(rows) == 1
    team, app, cost, tokens_in, tokens_out = rows[0]
    assert (team, app, int(tokens_in), int(tokens_out)) == ("search", f"sdk-{protocol}", 2000, 500)
    assert Decimal(cost) == Decimal("0.0006")  # 2000 at $0.15 and 500 at $0.60 a million


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_an_applications_whole_sdk_exports_without_an_error(collector: Collector, protocol: str) -> None:
    """Traces, logs and metrics at once: spans and log records are there to ask for, metrics are taken and counted."""
    counts = (
        "SELECT (SELECT count() FROM otel_traces), (SELECT count() FROM otel_logs), (SELECT count() FROM llm_calls)"
    )
    before = [int(n) for n in collector.sql(counts)[0]]
    points = collector.metric("spanledger_pipeline_items_total", pipeline="metrics")
    port = collector.grpc if protocol == "grpc" else collector.http
    assert application(protocol, f"http://127.0.0.1:{port}", rounds=4) == []
    collector.settled()
    assert [int(n) for n in collector.sql(counts)[0]] == [before[0] + 4, before[1] + 4, before[2] + 4]
    assert collector.metric("spanledger_pipeline_items_total", pipeline="metrics") > points
    said = collector.sql("SELECT ServiceName, SeverityText, EventName, JSONExtractString(Body, 'gen_ai.input.messages', 1, 'content') FROM otel_logs WHERE LogAttributes['n'] = '3' ORDER BY Received DESC LIMIT 1")  # fmt: skip
    assert said == [["chat-app", "INFO", "gen_ai.client.inference.operation.details", "question 3"]]


@pytest.mark.parametrize("folder", ["litellm-v1", "litellm-v2"])
def test_a_gateways_metrics_and_logs_never_add_to_the_ledger(collector: Collector, folder: str) -> None:
    """LiteLLM measures tokens and cost of the calls that its spans report: the ledger has them from the spans alone."""
    if not int(collector.sql(f"SELECT count() FROM llm_calls WHERE Dialect = '{folder.replace('-', '_')}'")[0][0]):
        assert collector.cli("send", str(CAPTURES / folder), "--signal", "traces").returncode == 0
        collector.settled()
    ledger = "SELECT count(), sum(CostUSD), sum(InputTokens), sum(OutputTokens) FROM llm_calls"
    sums = "SELECT sum(Calls), sum(CostUSD), sum(InputTokens), sum(OutputTokens) FROM llm_costs_hourly"
    before, records = (
        (collector.sql(ledger), collector.sql(sums)),
        int(collector.sql("SELECT count() FROM otel_logs")[0][0]),
    )
    for signal in ("logs", "metrics"):
        sent = collector.cli("send", str(CAPTURES / folder), "--signal", signal)
        assert sent.returncode == 0, sent.stderr
        assert f" {signal} (" in sent.stdout
    collector.settled()
    assert (collector.sql(ledger), collector.sql(sums)) == before
    assert int(collector.sql("SELECT count() FROM otel_logs")[0][0]) - records == log_records_in(folder) > 0


def log_records_in(folder: str) -> int:
    """How many log records a capture holds, by protobuf's own parser."""
    bodies = [ExportLogsServiceRequest.FromString(p.read_bytes()) for p in (CAPTURES / folder).glob("*-logs.pb")]
    return sum(items_of(body, Signal.LOGS) for body in bodies)


def test_costs_add_up_to_the_last_digit(collector: Collector) -> None:
    answer = collector.cli("costs", "--by", "team,model", "--since", "all", "--format", "json")
    assert answer.returncode == 0, answer.stderr
    lines = json.loads(answer.stdout, parse_float=Decimal)
    total = Decimal(collector.sql("SELECT toString(sum(CostUSD)) FROM llm_calls")[0][0])
    assert sum(Decimal(line["cost_usd"]) for line in lines) == total > 0
    table = collector.cli("costs", "--by", "team", "--since", "all")
    assert "Without a price" in table.stdout
    assert "Without team" in table.stdout


def test_the_demo_arrives_as_the_bill_that_it_prints(collector: Collector) -> None:
    def spent() -> Decimal:
        return Decimal(collector.sql("SELECT toString(sum(CostUSD)) FROM llm_calls")[0][0])

    before = spent()
    answer = collector.cli("demo", "--calls", "60", "--rate", "1000", "--seed", "7")
    assert answer.returncode == 0, answer.stderr + answer.stdout
    collector.settled()
    billed = re.search(r"The providers bill ([0-9.]+) USD for ([0-9]+) calls", answer.stdout)
    assert billed is not None, answer.stdout
    assert int(billed[2]) > 40
    assert spent() - before == Decimal(billed[1])


def test_metrics_health_and_status_say_what_runs(collector: Collector) -> None:
    status, body = collector.get("/metrics")
    assert status == 200
    text = body.decode()
    for name in ("spanledger_receiver_accepted_spans_total", "spanledger_pipeline_items_total", "spanledger_exporter_sent_items_total"):  # fmt: skip
        values = [float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name + "{")]
        assert sum(values) > 0, name
    assert collector.get("/healthz") == (200, b"ok\n")
    state = json.loads(collector.get("/status")[1])
    assert state["ready"]
    assert state["problems"] == []
    with grpc.insecure_channel(f"127.0.0.1:{collector.grpc}") as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_query_works_while_the_collector_runs_and_when_it_does_not(tmp_path: Path) -> None:
    with running(tmp_path) as own:
        body = next((CAPTURES / "openai-v2").glob("*-traces.pb")).read_bytes()
        assert own.post(body)[0] == 200
        own.settled()
        while_running = own.cli("query", "SELECT count() AS n FROM llm_calls", "--format", "json")
        assert while_running.returncode == 0, while_running.stderr
        assert own.stop() == 0
        stopped = own.cli("query", "SELECT count() AS n FROM llm_calls", "--format", "json")
        assert stopped.returncode == 0, stopped.stderr
        assert json.loads(stopped.stdout) == json.loads(while_running.stdout) != [{"n": 0}]
        refused = own.cli("query", "DROP TABLE otel_traces")
        assert refused.returncode == 1
        assert "Traceback" not in refused.stderr


def test_a_stop_drains_and_what_was_answered_is_there_after_the_next_start(tmp_path: Path) -> None:
    with running(tmp_path, service="  shutdown_timeout: 20s") as own:
        bodies = sorted((CAPTURES / "litellm-v2").glob("*-traces.pb"))
        for body in bodies:
            assert own.post(body.read_bytes())[0] == 200
        started = time.monotonic()
        assert own.stop() == 0
        assert time.monotonic() - started < 25
        own.start()
        own.settled()
        assert int(own.sql("SELECT count() FROM otel_traces")[0][0]) == spans_in("litellm-v2")


def test_run_says_where_it_listens_and_what_to_set(collector: Collector) -> None:
    text = re.sub(r"\s+", " ", collector.log.read_text())
    assert "Spanledger is ready." in text
    assert f"export OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:{collector.grpc}" in text
    assert "export OTEL_EXPORTER_OTLP_PROTOCOL=grpc" in text


def test_a_port_in_use_is_one_clear_line(collector: Collector, tmp_path: Path) -> None:
    second = Collector(tmp_path)
    second.config.write_text(second.config.read_text().replace(str(second.http), str(collector.http)))
    with pytest.raises(AssertionError, match="the collector ended") as failed:
        second.start()
    assert "Traceback" not in str(failed.value)
    assert str(collector.http) in str(failed.value)


def test_a_second_collector_on_the_same_data_is_refused(collector: Collector, tmp_path: Path) -> None:
    second = Collector(tmp_path)
    mine, theirs = str(tmp_path / "data"), str(collector.folder / "data")
    second.config.write_text(second.config.read_text().replace(mine, theirs))
    with pytest.raises(AssertionError, match="the collector ended") as failed:
        second.start()
    assert "Traceback" not in str(failed.value)
    assert collector.get("/readyz")[0] == 200
