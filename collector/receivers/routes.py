"""Which URL paths take which signal."""

from __future__ import annotations

from collections.abc import Mapping

from collector.signals import Signal

#: What SDKs of known vendors append to a base URL: Langfuse, LangSmith, Opik, Grafana.
PREFIXES = ("", "/api/public/otel", "/otel", "/api/v1/otel", "/api/v1/private/otel", "/otlp")


def routes(paths: Mapping[Signal, str]) -> dict[bytes, Signal]:
    """Signal by path: the usual ones, and those that are configured."""
    found = {f"{prefix}/v1/{signal}".encode(): signal for prefix in PREFIXES for signal in Signal}
    found[b"/api/public/otel"] = Signal.TRACES  # Langfuse takes it without the suffix too
    found.update((path.encode(), signal) for signal, path in paths.items())
    return found
