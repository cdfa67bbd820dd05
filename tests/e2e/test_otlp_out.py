"""OTLP out of real processes: from one Spanledger to the next, and to a vendor that does everything wrong for a while."""

from __future__ import annotations

import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.collector_kit import Collector
from tests.spans_kit import request, span
from tests.vendor_kit import OK, Answer, vendor

CAPTURES = Path(__file__).parents[1] / "captures"
CONFIG = """
receivers:
  otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{grpc}"}}, http: {{endpoint: "127.0.0.1:{http}"}}}}}}
processors: {{attribution: , pricing: }}
exporters:
  clickhouse: {{dsn: "chdb://{data}/clickhouse"}}
{exporters}
service:
  data_dir: {data}
  batch: {{timeout: 50ms}}
  shutdown_timeout: 3s
  admin: {{endpoint: "127.0.0.1:{admin}"}}
  pipelines:
    traces: {{receivers: [otlp], processors: [attribution, pricing], exporters: [clickhouse{names}]}}
"""
RETRY = "retry_on_failure: {initial_interval: 100ms, max_interval: 300ms}"


def collector(folder: Path, exporters: str = "", names: str = "") -> Collector:
    """A collector with a ledger of its own, and these exporters besides."""
    folder.mkdir()
    made = Collector(folder)
    made.config.write_text(
        CONFIG.format(
            grpc=made.grpc, http=made.http, admin=made.admin, data=folder / "data", exporters=exporters, names=names
        )
    )
    return made


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not within {seconds} s: {what}"
        time.sleep(0.05)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_second_spanledger_has_the_same_ledger(tmp_path: Path, protocol: str) -> None:
    """Two processes, each with ClickHouse: the second gets the spans from the first, with what the first knows of them, and
    counts the same calls at the same prices, once."""
    second = collector(tmp_path / "second")
    if protocol == "grpc":
        exporters = f'  otlp/next: {{endpoint: "127.0.0.1:{second.grpc}", tls: {{insecure: true}}, compression: zstd}}'
    else:
        exporters = f'  otlphttp/next: {{endpoint: "http://127.0.0.1:{second.http}"}}'
    first = collector(tmp_path / "first", exporters, f", otlp{protocol.removeprefix('grpc')}/next")
    query = "SELECT * EXCEPT (Version, Reports, Collector) FROM llm_calls ORDER BY CallId"
    try:
        second.start()
        first.start()
        folders = ["chain-app-litellm", "openinference"] if protocol == "grpc" else ["vercel-ai", "traceloop"]
        for folder in folders:
            for path in sorted((CAPTURES / folder).glob("*-traces.pb")):
                assert first.post(path.read_bytes())[0] == 200
        first.settled()
        second.settled()
        calls = first.sql(query)
        assert len(calls) > 10
        assert second.sql(query) == calls
        total = "SELECT toString(sum(CostUSD)), count() FROM llm_calls"
        assert first.sql(total) == second.sql(total)
        assert float(first.sql(total)[0][0]) > 0
        spans = "SELECT toString(sum(CostUSD)), count() FROM otel_traces"
        assert first.sql(spans) == second.sql(spans)
        # What the first one wrote on the spans is there to be seen, once for each call that shows its cost on a span.
        noted = "SELECT round(sum(toFloat64OrZero(SpanAttributes['spanledger.cost_usd'])), 9), round(sum(toFloat64(CostUSD)), 9) FROM otel_traces"
        written, priced = second.sql(noted)[0]
        assert written == priced > 0
    finally:
        first.close()
        second.close()


def spans(run: str, first: int, count: int, size: int = 100) -> bytes:
    """Spans with a text of so many bytes that do not compress."""
    made = [
        span("chat", {"gen_ai.response.id": f"{run}-{n}", "note": os.urandom(size).hex()})
        for n in range(first, first + count)
    ]
    return request(resource={"service.name": "gateway"}, scope="litellm", spans=made)


def ids(body: bytes) -> list[str]:
    """The response ids of a request's spans."""
    message = ExportTraceServiceRequest.FromString(body)
    return [
        a.value.string_value
        for r in message.resource_spans for c in r.scope_spans for s in c.spans for a in s.attributes
        if a.key == "gen_ai.response.id"
    ]  # fmt: skip


def memory(made: Collector) -> float:
    """MiB of its own; pages of files, which the system takes back at will, do not count."""
    status = Path(f"/proc/{made.pid}/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def exporter_status(made: Collector, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(made.get("/status")[1])["exporters"][f"traces/{name}"]
    return found


def test_a_vendor_that_does_everything_wrong_delays_and_loses_nothing(tmp_path: Path) -> None:
    """503 for long, 429 with Retry-After, answers that never come, connections that are reset; a restart in the middle.

    ClickHouse meanwhile gets everything at once; afterwards the vendor has taken every span exactly once, and what was sent
    again is the same bytes.
    """
    with vendor(Answer(503)) as there:
        exporters = f'  otlphttp/vendor: {{endpoint: "{there.address}", timeout: 500ms, {RETRY}}}'
        made = collector(tmp_path / "one", exporters, ", otlphttp/vendor")
        sent = 0

        def post(requests: int = 5, count: int = 200) -> None:
            nonlocal sent
            for _ in range(requests):
                assert made.post(spans("v", sent, count))[0] == 200
                sent += count

        def in_clickhouse() -> int:
            return int(made.sql("SELECT count() FROM otel_traces")[0][0])

        def phase(*answers: Answer, text: str) -> None:
            """Traffic while the vendor answers so."""
            there.answers[:] = answers
            post()
            wait_for(lambda: in_clickhouse() == sent, 20, "ClickHouse is delayed by another exporter")
            wait_for(lambda: text in (exporter_status(made, "otlphttp/vendor")["failed"] or ""), 30, text)

        try:
            made.start()
            post(1)
            wait_for(lambda: exporter_status(made, "otlphttp/vendor")["waiting_items"] == sent, 60, "the first batch")
            wait_for(lambda: not exporter_status(made, "clickhouse")["waiting_items"], 60, "tables are made")
            phase(Answer(503), text="503 Service Unavailable")
            status = exporter_status(made, "otlphttp/vendor")
            assert status["to"] == there.address
            assert status["attempts"] >= 1
            assert status["waiting_items"] == sent
            assert status["oldest_seconds"] > 0
            shown = made.cli("status")
            assert shown.returncode == 1, "something is stuck"
            assert "503 Service Unavailable" in " ".join(shown.stdout.split())
            metrics = made.get("/metrics")[1].decode()
            assert 'spanledger_exporter_queue_oldest_seconds{exporter="traces/otlphttp/vendor"}' in metrics
            assert 'spanledger_exporter_attempts{exporter="traces/clickhouse"} 0.0' in metrics
            phase(Answer(503), text="503 Service Unavailable")
            phase(Answer(429, {"Retry-After": "1"}), text="429 Too Many Requests")
            phase(Answer(misdeed="hang"), text="no answer in time")
            assert made.stop() == 0
            made.start()
            phase(Answer(misdeed="reset"), text="the connection broke")
            assert made.get("/readyz")[0] == 200
            tried = len(there.got)
            # Now and then it takes one; of the last of each three attempts.
            there.answers[:] = [
                Answer(misdeed="reset"),
                OK,
                Answer(429, {"Retry-After": "1"}),
                OK,
                Answer(misdeed="hang"),
                OK,
            ]
            made.settled(timeout=60)
        finally:
            made.close()
        assert tried >= 10  # some in each phase; how many depends on the machine
        taken = Counter(id_ for got in there.taken for id_ in ids(got.body))
        assert taken == Counter({f"v-{n}": 1 for n in range(sent)})
        attempts: defaultdict[str, set[bytes]] = defaultdict(set)
        for got in there.got:
            attempts[ids(got.body)[0]].add(got.raw)
        assert len(there.got) > len(attempts), "nothing was sent again"
        assert all(len(bodies) == 1 for bodies in attempts.values()), "an attempt had other bytes"


def test_what_waits_for_a_vendor_takes_no_memory(tmp_path: Path) -> None:
    """It lies on disk: tens of megabytes more of it, and the process is as large as before."""
    with vendor(Answer(503)) as there:
        exporters = f'  nop:\n  otlphttp/vendor: {{endpoint: "{there.address}", {RETRY}}}'
        made = collector(tmp_path / "one", exporters, ", otlphttp/vendor, nop")
        text = made.config.read_text().replace("exporters: [clickhouse, ", "exporters: [")
        # A request, a batch: how many of them a slow moment gathers into one would else be what is measured.
        made.config.write_text(text.replace("{timeout: 50ms}", "{timeout: 50ms, max_items: 500}"))
        sent = 0

        def more(phases: int) -> tuple[float, float]:
            """Memory and what waits on disk, in MiB, after so much more traffic."""
            nonlocal sent
            for _ in range(phases * 10):
                assert made.post(spans("v", sent, 500, 1500))[0] == 200
                sent += 500
            wait_for(lambda: exporter_status(made, "otlphttp/vendor")["waiting_items"] == sent, 60, "all is encoded")
            return memory(made), exporter_status(made, "otlphttp/vendor")["waiting_bytes"] / 2**20

        try:
            made.start()
            before, waited = more(4)
            after, wait = more(4)
            assert made.get("/readyz")[0] == 200
        finally:
            made.close()
        assert wait - waited > 25
        assert after - before < 10, f"{after - before:.0f} MiB more memory"
