"""Rows of `otel_logs` say what protobuf's own reading of the requests says, as the Collector's exporter renders it."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from collector.batch import Position, RequestBatch
from collector.signals import Signal
from collector.sums import LAST_NS
from exporters.clickhouse.log_rows import log_rows
from exporters.clickhouse.schema import RECEIVED, logs
from tests.otlp_oracle import known_id, value_text
from tests.otlp_strategies import log_requests

RECEIVED_NS = 1_795_521_600 * 10**9 + 5


def expected(requests: list[ExportLogsServiceRequest]) -> list[dict[str, Any]]:
    """Rows made in plain Python from protobuf's messages."""
    rows = []
    for group in (group for request in requests for group in request.resource_logs):
        resource = texts(group.resource.attributes)
        for scoped in group.scope_logs:
            shared = {
                "ServiceName": resource.get("service.name", ""),
                "ResourceSchemaUrl": group.schema_url,
                "ResourceAttributes": resource,
                "ScopeSchemaUrl": scoped.schema_url,
                "ScopeName": scoped.scope.name,
                "ScopeVersion": scoped.scope.version,
                "ScopeAttributes": texts(scoped.scope.attributes),
                "Received": RECEIVED_NS // 10**9,
            }
            for record in scoped.log_records:
                time = record.time_unix_nano or record.observed_time_unix_nano or RECEIVED_NS
                rows.append(
                    {
                        "Timestamp": min(time, LAST_NS),
                        "TraceId": known_id(record.trace_id, 16).hex(),
                        "SpanId": known_id(record.span_id, 8).hex(),
                        "TraceFlags": record.flags & 0xFF,
                        "SeverityText": record.severity_text,
                        "SeverityNumber": int(record.severity_number) if 0 <= record.severity_number <= 24 else 0,
                        "Body": value_text(record.body) or "",
                        "LogAttributes": texts(record.attributes),
                        "EventName": record.event_name,
                        **shared,
                    }
                )
    return rows


def texts(attributes: Any) -> dict[str, str]:
    return {attribute.key: value_text(attribute.value) or "" for attribute in attributes}


def found(body: bytes) -> list[dict[str, Any]]:
    rows = log_rows(RequestBatch(Signal.LOGS, np.frombuffer(body, np.uint8), 0, Position(1, 1), RECEIVED_NS))
    rows = rows.set_column(0, "Timestamp", rows.column("Timestamp").cast("int64"))
    read: list[dict[str, Any]] = rows.to_pylist(maps_as_pydicts="strict")
    return read


@settings(deadline=None, max_examples=60)
@given(st.lists(log_requests, max_size=3), st.text(max_size=5))
def test_rows_are_what_protobuf_reads(requests: list[ExportLogsServiceRequest], service: str) -> None:
    """Any number of requests, joined; some resources have a service."""
    for request in requests[:2]:
        for group in request.resource_logs[:1]:
            group.resource.attributes.add(key="service.name").value.string_value = service
    assert found(b"".join(request.SerializeToString() for request in requests)) == expected(requests)


def test_the_columns_are_the_tables() -> None:
    """What is inserted, in the table's order; without records, too."""
    rows = log_rows(RequestBatch(Signal.LOGS, np.empty(0, np.uint8), 0, Position(1, 1), RECEIVED_NS))
    assert rows.schema.names == [field.name for field in logs("otel_logs").inserted]
    assert (rows.num_rows, rows.schema.names[-1]) == (0, RECEIVED.name)
