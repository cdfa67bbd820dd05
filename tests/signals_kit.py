"""An application that uses all of OpenTelemetry's SDK, and requests of logs and metrics as it would send them."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry._logs import LogRecord as ApiLogRecord
from opentelemetry._logs import SeverityNumber
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from tests.spans_kit import NOON_NS, any_value

_numbers = itertools.count(1)


@contextmanager
def complaints() -> Iterator[list[str]]:
    """What the SDK logs while the block runs: its exporters tell errors there, and nowhere else."""
    found: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    listener, logger = Listener(logging.WARNING), logging.getLogger("opentelemetry")
    logger.addHandler(listener)
    try:
        yield found
    finally:
        logger.removeHandler(listener)


def application(protocol: str, endpoint: str, rounds: int = 3) -> list[str]:
    """Trace, log and measure some chats, export it all by `grpc` or `http`; what the SDK complained of."""
    spans, logs, metrics = _exporters(protocol, endpoint)
    resource = Resource({"service.name": "chat-app"})
    tracers, loggers = TracerProvider(resource=resource), LoggerProvider(resource=resource)
    tracers.add_span_processor(BatchSpanProcessor(spans))
    loggers.add_log_record_processor(BatchLogRecordProcessor(logs))
    meters = MeterProvider([PeriodicExportingMetricReader(metrics, export_interval_millis=1e9)], resource)
    tracer, logger, meter = tracers.get_tracer("app"), loggers.get_logger("app"), meters.get_meter("app")
    tokens = meter.create_histogram("gen_ai.client.token.usage", "{token}")
    cost, active = meter.create_counter("gateway.cost", "USD"), meter.create_up_down_counter("active")
    with complaints() as found:
        for number in range(rounds):
            with tracer.start_as_current_span("chat", attributes={"gen_ai.operation.name": "chat"}):
                tokens.record(100 + number, {"gen_ai.token.type": "input", "gen_ai.request.model": "gpt-4o-mini"})
                cost.add(0.01 * number, {"team": "search"})
                active.add(1)
                message = {"role": "user", "content": f"question {number}"}
                logger.emit(
                    ApiLogRecord(
                        timestamp=NOON_NS + number,
                        severity_number=SeverityNumber.INFO,
                        severity_text="INFO",
                        body={"gen_ai.input.messages": [message]},
                        attributes={"n": number},
                        event_name="gen_ai.client.inference.operation.details",
                    )
                )
        for provider in (tracers, loggers, meters):
            if not provider.force_flush(20_000):
                found.append(f"{type(provider).__name__} could not flush")
            provider.shutdown()
    return found


def _exporters(protocol: str, endpoint: str) -> tuple[Any, Any, Any]:
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        made = (
            exporter(endpoint, insecure=True) for exporter in (OTLPSpanExporter, OTLPLogExporter, OTLPMetricExporter)
        )
        return tuple(made)  # type: ignore[return-value]
    from opentelemetry.exporter.otlp.proto.http import _log_exporter, metric_exporter, trace_exporter

    return (
        trace_exporter.OTLPSpanExporter(f"{endpoint}/v1/traces"),
        _log_exporter.OTLPLogExporter(f"{endpoint}/v1/logs"),
        metric_exporter.OTLPMetricExporter(f"{endpoint}/v1/metrics"),
    )


def record(body: Any = "said", attributes: Mapping[str, Any] | None = None, **fields: Any) -> LogRecord:
    """One log record; `fields` are LogRecord's own."""
    made = LogRecord(time_unix_nano=NOON_NS + next(_numbers), severity_number=9, severity_text="INFO")  # type: ignore[arg-type]
    made.MergeFrom(LogRecord(**fields))
    if body is not None:
        made.body.CopyFrom(any_value(body))
    for key, value in (attributes or {}).items():
        made.attributes.add(key=key).value.CopyFrom(any_value(value))
    return made


def logs(*records: LogRecord, resource: Mapping[str, Any] | None = None, scope: str = "app") -> bytes:
    """An ExportLogsServiceRequest of one resource and one scope."""
    message = ExportLogsServiceRequest()
    of_resource = message.resource_logs.add()
    for key, value in (resource or {"service.name": "chat-app"}).items():
        of_resource.resource.attributes.add(key=key).value.CopyFrom(any_value(value))
    of_resource.scope_logs.add(log_records=records).scope.name = scope
    return message.SerializeToString()


def metrics(points: int = 1, name: str = "gen_ai.client.token.usage", cost: float = 0.5) -> bytes:
    """An ExportMetricsServiceRequest: a sum of tokens and a gateway's cost, `points` points altogether (two at least are
    two metrics)."""
    message = ExportMetricsServiceRequest()
    of_resource = message.resource_metrics.add()
    of_resource.resource.attributes.add(key="service.name").value.string_value = "gateway"
    of_scope = of_resource.scope_metrics.add()
    tokens = of_scope.metrics.add(name=name, unit="{token}").sum
    for number in range(max(points - 1, 1)):
        point = tokens.data_points.add(as_int=1000 + number, time_unix_nano=NOON_NS)
        point.attributes.add(key="gen_ai.request.model").value.string_value = "gpt-4o-mini"
    if points > 1:
        of_scope.metrics.add(name="gateway.cost", unit="USD").sum.data_points.add(
            as_double=cost, time_unix_nano=NOON_NS
        )
    return message.SerializeToString()
