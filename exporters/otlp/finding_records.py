"""Findings as OTLP log records: one for each that opened, became more severe, or was resolved.

The record is an event named `spanledger.finding`. Its body is the sentence, its trace and span those of the first evidence,
its time that of what happened (event time). docs/findings.md lists the attributes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import version

import numpy as np
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber

from collector.columns import PICO_PER_USD
from collector.findings import Finding, Severity, Transition
from collector.otlp.tables import U8

EVENT = "spanledger.finding"
_SEVERITIES = {
    Severity.INFO: (SeverityNumber.SEVERITY_NUMBER_INFO, "INFO"),
    Severity.WARNING: (SeverityNumber.SEVERITY_NUMBER_WARN, "WARN"),
    Severity.CRITICAL: (SeverityNumber.SEVERITY_NUMBER_ERROR, "ERROR"),
}
_Value = str | int | float | list[str] | None


def finding_records(findings: Sequence[Finding], received_ns: int) -> tuple[U8, int]:
    """A logs request, and how many records it has. `received_ns`: when the spans came that led to it."""
    request = ExportLogsServiceRequest()
    of_resource = request.resource_logs.add()
    of_resource.resource.attributes.append(_attribute("service.name", "spanledger"))
    of_scope = of_resource.scope_logs.add()
    of_scope.scope.name, of_scope.scope.version = "spanledger", version("spanledger")
    for finding in findings:
        of_scope.log_records.extend(_record(finding, made, received_ns) for made in finding.transitions)
    return np.frombuffer(request.SerializeToString(), np.uint8), len(of_scope.log_records)


def _record(finding: Finding, made: Transition, received_ns: int) -> LogRecord:
    number, text = _SEVERITIES[finding.severity]
    if made is Transition.RESOLVED:
        number, text = _SEVERITIES[Severity.INFO]
    moments = {Transition.OPENED: finding.first_seen_ns, Transition.RESOLVED: finding.resolved_ns}
    record = LogRecord(
        time_unix_nano=max(moments.get(made) or finding.last_seen_ns, 0),
        observed_time_unix_nano=received_ns,
        severity_number=number,
        severity_text=text,
        event_name=EVENT,
        body=AnyValue(string_value=finding.message),
        attributes=list(_attributes(finding, made)),
    )
    if finding.evidence:
        record.trace_id = bytes.fromhex(finding.evidence[0].trace_id)
        record.span_id = bytes.fromhex(finding.evidence[0].span_id)
    return record


def _attributes(finding: Finding, made: Transition) -> Iterator[KeyValue]:
    values: dict[str, _Value] = {
        "id": finding.id,
        "kind": finding.kind,
        "transition": made.value,
        "severity": finding.severity.value,
        "state": finding.state.value,
        "resolution": finding.resolution.value if finding.resolution else None,
        "first_seen_ns": finding.first_seen_ns,
        "last_seen_ns": finding.last_seen_ns,
        "observations": finding.observations,
        "measured": finding.measured,
        "expected": finding.expected,
        "unit": finding.unit or None,
        "cost_usd": None if finding.cost_pico is None else finding.cost_pico / PICO_PER_USD,
        **{f"subject.{name}": value for name, value in finding.subject},
        "evidence.trace_ids": [one.trace_id for one in finding.evidence] or None,
        "evidence.span_ids": [one.span_id for one in finding.evidence] or None,
    }
    for name, value in values.items():
        if value is not None:
            yield _attribute(f"{EVENT}.{name}", value)


def _attribute(key: str, value: str | int | float | list[str]) -> KeyValue:
    match value:
        case str():
            made = AnyValue(string_value=value)
        case int():
            made = AnyValue(int_value=value)
        case float():
            made = AnyValue(double_value=value)
        case _:
            made = AnyValue(array_value=ArrayValue(values=[AnyValue(string_value=text) for text in value]))
    return KeyValue(key=key, value=made)
