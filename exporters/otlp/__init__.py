"""OTLP out, over gRPC and over HTTP: to a vendor, to another OpenTelemetry Collector, to another Spanledger."""

from exporters.otlp.exporter import Otlp, OtlpHttp

__all__ = ["Otlp", "OtlpHttp"]
