"""Findings as OTLP log records, over both protocols."""

from __future__ import annotations

import gzip
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from pydantic import ValidationError

from collector.findings import Resolution, Severity, State, Transition
from exporters.otlp.config import OtlpHttpConfig
from tests.findings_kit import NOON_NS, S, finding
from tests.spans_kit import request, span
from tests.vendor_kit import grpc_exporter, http_exporter, span_batch

BODY = request(spans=[span("chat")])
OPENED = finding(transitions=(Transition.OPENED,))
OVER = replace(
    OPENED, id="cd" * 16, severity=Severity.CRITICAL, state=State.RESOLVED, resolution=Resolution.QUIET, resolved_ns=NOON_NS + 90 * S,
    transitions=(Transition.OPENED, Transition.RESOLVED), evidence=(), measured=None, unit="", cost_pico=None,
)  # fmt: skip
UPDATED = finding(id="ef" * 16)


def records(exporter: Any, framed: int = 0) -> list[Any]:
    sent = list(exporter.encode(span_batch(BODY).with_(findings=(OPENED, OVER, UPDATED))))
    assert [payload.meta["signal"] for payload in sent] == ["traces", "logs"]
    assert sent[1].items == 3
    message = ExportLogsServiceRequest()
    message.ParseFromString(gzip.decompress(sent[1].body[framed:]))
    (of_resource,) = message.resource_logs
    assert of_resource.resource.attributes[0].value.string_value == "spanledger"
    return list(of_resource.scope_logs[0].log_records)


def attributes(record: Any) -> dict[str, Any]:
    found = {}
    for one in record.attributes:
        name = one.value.WhichOneof("value")
        value = getattr(one.value, name)
        found[one.key] = [v.string_value for v in value.values] if name == "array_value" else value
    return found


def test_each_transition_is_one_record() -> None:
    first, second, third = records(http_exporter("http://127.0.0.1:1", findings=True))
    assert records(grpc_exporter("127.0.0.1:1", findings=True, tls={"insecure": True}), framed=5) == [
        first,
        second,
        third,
    ]
    assert {r.event_name for r in (first, second, third)} == {"spanledger.finding"}
    assert (first.body.string_value, first.severity_text) == (OPENED.message, "WARN")
    assert (first.trace_id.hex(), first.span_id.hex()) == ("0a" * 16, "0b" * 8)
    assert [r.time_unix_nano for r in (first, second, third)] == [NOON_NS, NOON_NS, NOON_NS + 90 * S]
    assert [r.severity_text for r in (second, third)] == ["ERROR", "INFO"]
    prefix = "spanledger.finding."
    assert attributes(first) == {
        prefix + "id": "ab" * 16, prefix + "kind": "budget.hard", prefix + "transition": "opened", prefix + "severity": "warning",
        prefix + "state": "open", prefix + "first_seen_ns": NOON_NS, prefix + "last_seen_ns": NOON_NS + 60 * S, prefix + "observations": 2,
        prefix + "measured": 120.5, prefix + "expected": 100.0, prefix + "unit": "USD", prefix + "cost_usd": 20.5,
        prefix + "subject.model": "gpt-4o", prefix + "subject.team": "search", prefix + "evidence.trace_ids": ["0a" * 16],
        prefix + "evidence.span_ids": ["0b" * 8],
    }  # fmt: skip
    assert attributes(third)[prefix + "resolution"] == "quiet"
    assert prefix + "cost_usd" not in attributes(third)


def test_nobody_gets_them_who_does_not_want_them_and_updates_are_not_sent() -> None:
    silent = http_exporter("http://127.0.0.1:1")
    assert len(list(silent.encode(span_batch(BODY).with_(findings=(OPENED,))))) == 1
    wants = http_exporter("http://127.0.0.1:1", findings=True)
    assert len(list(wants.encode(span_batch(BODY).with_(findings=(UPDATED,))))) == 1


def test_findings_need_somewhere_to_go() -> None:
    with pytest.raises(ValidationError, match="logs_endpoint"):
        OtlpHttpConfig.model_validate({"traces_endpoint": "http://x/v1/traces", "findings": True})
