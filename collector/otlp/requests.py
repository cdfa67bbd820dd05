"""What a request of each signal is called, and which message it is to protobuf's own runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.errors import Malformed
from collector.signals import Signal


@dataclass(frozen=True, slots=True)
class Request:
    """A signal's request: protobuf's class, what its items are called, and what else is counted in it."""

    message: type[Message]
    items: str
    parts: str

    def malformed(self) -> Malformed:
        """The error for a body that is none."""
        return Malformed(f"the body is no well-formed {self.message.DESCRIPTOR.name}")


REQUESTS: Mapping[Signal, Request] = {
    Signal.TRACES: Request(ExportTraceServiceRequest, "spans", "attributes, events or links"),
    Signal.LOGS: Request(ExportLogsServiceRequest, "log records", "attributes"),
    Signal.METRICS: Request(ExportMetricsServiceRequest, "data points", "attributes, exemplars or quantiles"),
}
