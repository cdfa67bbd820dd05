"""OTLP's three signals."""

from __future__ import annotations

from enum import StrEnum


class Signal(StrEnum):
    """The part of a pipeline's id before the slash, and of OTLP's paths behind `/v1/`."""

    TRACES = "traces"
    LOGS = "logs"
    METRICS = "metrics"


def signal_of(pipeline: str) -> Signal:
    """The signal of a pipeline's id, `signal` or `signal/name`. Raises ValueError for any other."""
    return Signal(pipeline.partition("/")[0])
