"""Logs and metrics through a real process: forwarded as they came, kept through a kill, and never counted as calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from collector.otlp.requests import REQUESTS
from collector.signals import Signal
from tests.collector_kit import Collector
from tests.otlp_oracle import items_of
from tests.receivers_kit import FakeIntake, running

CAPTURES = Path(__file__).parents[1] / "captures"
CONFIG = """
receivers:
  otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{grpc}"}}, http: {{endpoint: "127.0.0.1:{http}"}}}}}}
processors: {{attribution: , pricing: }}
exporters:
  clickhouse: {{dsn: "chdb://{data}/clickhouse"}}
  otlp: {{endpoint: "{to_grpc}", tls: {{insecure: true}}}}
  otlphttp: {{endpoint: "http://{to_http}", encoding: json}}
service:
  data_dir: {data}
  batch: {{timeout: 50ms}}
  admin: {{endpoint: "127.0.0.1:{admin}"}}
  pipelines:
    traces: {{receivers: [otlp], processors: [attribution, pricing], exporters: [clickhouse]}}
    logs: {{receivers: [otlp], exporters: [clickhouse, otlphttp]}}
    metrics: {{receivers: [otlp], exporters: [otlp]}}
    metrics/again: {{receivers: [otlp], exporters: [otlphttp]}}
"""


def bodies(signal: Signal) -> list[bytes]:
    """What gateways and SDKs sent of a signal."""
    return [path.read_bytes() for path in sorted(CAPTURES.glob(f"*/*-{signal}.pb"))]


def things(body: bytes, signal: Signal) -> Iterator[bytes]:
    """Each log record or metric of a request, with the resource and the scope that it stands in."""
    request: Any = REQUESTS[signal].message.FromString(body)
    for group in getattr(request, f"resource_{signal}"):
        for scoped in getattr(group, f"scope_{signal}"):
            around = (group.resource, scoped.scope)
            head = b"".join(part.SerializeToString(deterministic=True) for part in around)
            urls = f"{group.schema_url} {scoped.schema_url}".encode()
            for thing in scoped.log_records if signal is Signal.LOGS else scoped.metrics:
                yield head + urls + thing.SerializeToString(deterministic=True)


def test_logs_and_metrics_leave_as_they_came_also_after_a_kill(tmp_path: Path) -> None:
    """Captures of all gateways, half of them before a kill -9 and half after: whatever was answered OK arrives over gRPC and as JSON,
    field by field, log records are in ClickHouse once, and the ledger has no call."""
    sent: dict[Signal, list[bytes]] = {signal: bodies(signal) for signal in (Signal.LOGS, Signal.METRICS)}
    with running(intake=FakeIntake(frozenset(Signal))) as there:
        made = Collector(tmp_path)
        ports = {"grpc": made.grpc, "http": made.http, "admin": made.admin}
        made.config.write_text(CONFIG.format(data=tmp_path / "data", to_grpc=there.grpc, to_http=there.http, **ports))
        try:
            made.start()
            for half in (0, 1):
                for signal, found in sent.items():
                    for body in found[half::2]:
                        assert made.post(body, path=f"/v1/{signal}") == (200, b"")
                if not half:
                    made.kill()
                    made.start()
            made.settled()
            records = sum(
                items_of(REQUESTS[Signal.LOGS].message.FromString(body), Signal.LOGS) for body in sent[Signal.LOGS]
            )
            assert [
                int(n) for n in made.sql("SELECT (SELECT count() FROM otel_logs), (SELECT count() FROM llm_calls)")[0]
            ] == [records, 0]
        finally:
            made.close()
    arrived = {
        signal: [b for s, b in zip(there.intake.taken, there.intake.bodies, strict=True) if s is signal]
        for signal in sent
    }
    for signal, times in ((Signal.LOGS, 1), (Signal.METRICS, 2)):
        before = Counter(thing for body in sent[signal] for thing in things(body, signal))
        after = Counter(thing for body in arrived[signal] for thing in things(body, signal))
        assert set(after) == set(before)
        # Once for each pipeline; what was under way at the kill may come a second time.
        assert all(after[thing] >= times * count for thing, count in before.items())
    assert len(sent[Signal.LOGS]) > 10
    assert len(sent[Signal.METRICS]) > 10
