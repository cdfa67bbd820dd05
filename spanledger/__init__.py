"""The cost ledger for LLM gateways. Here are the names that authors of receivers, processors and exporters import.

Each name is imported when it is first used, so that `spanledger --help` does not wait for the column engine.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collector.batch import RequestBatch, SpanBatch
    from collector.columns import Column
    from collector.component import Context, Exporter, Intake, Payload, Processor, Receiver, Stage
    from collector.errors import Overloaded, PartlyRefused, Permanent, Retryable
    from collector.findings import Evidence, Observation, Severity
    from collector.signals import Signal
    from config.types import ByteSize, Duration, Secret, StrictModel

    __version__: str

_HOME = {
    "ByteSize": "config.types",
    "Column": "collector.columns",
    "Context": "collector.component",
    "Duration": "config.types",
    "Evidence": "collector.findings",
    "Exporter": "collector.component",
    "Intake": "collector.component",
    "Observation": "collector.findings",
    "Overloaded": "collector.errors",
    "PartlyRefused": "collector.errors",
    "Payload": "collector.component",
    "Permanent": "collector.errors",
    "Processor": "collector.component",
    "Receiver": "collector.component",
    "RequestBatch": "collector.batch",
    "Retryable": "collector.errors",
    "Secret": "config.types",
    "Severity": "collector.findings",
    "Signal": "collector.signals",
    "SpanBatch": "collector.batch",
    "Stage": "collector.component",
    "StrictModel": "config.types",
}

__all__ = [
    "ByteSize",
    "Column",
    "Context",
    "Duration",
    "Evidence",
    "Exporter",
    "Intake",
    "Observation",
    "Overloaded",
    "PartlyRefused",
    "Payload",
    "Permanent",
    "Processor",
    "Receiver",
    "RequestBatch",
    "Retryable",
    "Secret",
    "Severity",
    "Signal",
    "SpanBatch",
    "Stage",
    "StrictModel",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("spanledger")
    elif name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
    else:
        raise AttributeError(f"module 'spanledger' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
