"""Findings from a span to everybody who is told: a real collector, killed in between."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from tests.cli_kit import serve
from tests.collector_kit import Collector
from tests.unit.test_privacy import CARD, call

CONFIG = """
receivers:
  otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{grpc}"}}, http: {{endpoint: "127.0.0.1:{http}"}}}}}}
processors: {{attribution: , pricing: , redaction: , privacy: }}
exporters:
  clickhouse: {{dsn: "chdb://{data}/clickhouse"}}
  otlphttp: {{endpoint: "http://{other}/otlp", findings: true}}
  notify: {{targets: {{hook: {{webhook: "http://{other}/hook", secret: "a secret of some length"}}}}}}
service:
  data_dir: {data}
  batch: {{timeout: 50ms}}
  admin: {{endpoint: "127.0.0.1:{admin}"}}
  pipelines:
    traces: {{receivers: [otlp], processors: [attribution, pricing, redaction, privacy], exporters: [clickhouse, otlphttp, notify]}}
"""


def test_a_finding_is_one_row_one_record_and_one_notification_also_after_a_kill(tmp_path: Path) -> None:
    now = time.time_ns()
    with serve(lambda request: (200, {"Content-Type": "application/x-protobuf"}, b"")) as other:
        made = Collector(tmp_path)
        made.config.write_text(
            CONFIG.format(grpc=made.grpc, http=made.http, admin=made.admin, data=tmp_path / "data", other=other.address)
        )
        try:
            made.start()
            assert made.post(call(f"Charge {CARD}.", at_ns=now - 7200 * 10**9))[0] == 200
            made.settled()
            made.kill()
            made.start()
            assert made.post(call(f"Charge {CARD}.", at_ns=now))[0] == 200
            made.settled()
            assert made.sql("SELECT Kind, State, App, Provider, Subject['detector'], toUInt32(Observations) FROM llm_findings") == [
                ["privacy.pii_sent", "open", "checkout", "openai", "card", 2]
            ]  # fmt: skip
            assert made.sql("SELECT DISTINCT Findings FROM otel_traces") == [["privacy.pii_sent"]]
            assert b"\nspanledger_findings_open 1.0\n" in made.get("/metrics")[1]
            shown = made.cli("findings", "--open", "--format", "json")
            assert [one["message"] for one in json.loads(shown.stdout)] == [
                "Payment card numbers reach openai, from app checkout."
            ]
            assert made.stop() == 0
        finally:
            made.close()
    events = [json.loads(request.body) for request in other.requests if request.path == "/hook"]
    assert [event["type"] for event in events] == ["spanledger.finding.opened"]
    logs = [request for request in other.requests if request.path == "/otlp/v1/logs"]
    message = ExportLogsServiceRequest()
    message.ParseFromString(gzip.decompress(logs[0].body))
    assert len(logs) == 1
    assert message.resource_logs[0].scope_logs[0].log_records[0].event_name == "spanledger.finding"
    assert all(CARD.replace(" ", "") not in json.dumps(event) for event in events)
