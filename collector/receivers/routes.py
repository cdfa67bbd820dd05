"""Which URL paths take which signal."""

from __future__ import annotations

#: What SDKs of known vendors append to a base URL: Langfuse, LangSmith, Opik, Grafana.
PREFIXES = ("", "/api/public/otel", "/otel", "/api/v1/otel", "/api/v1/private/otel", "/otlp")
_SIGNALS = ("traces", "logs", "metrics")


def routes(traces_url_path: str) -> dict[bytes, str]:
    """Signal by path."""
    found = {f"{prefix}/v1/{signal}".encode(): signal for prefix in PREFIXES for signal in _SIGNALS}
    found[b"/api/public/otel"] = "traces"  # Langfuse takes it without the suffix too
    found[traces_url_path.encode()] = "traces"
    return found
