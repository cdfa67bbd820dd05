"""Components for config tests: shaped like the real ones, importing nothing of them."""

from __future__ import annotations

from enum import Enum

from config import Registry
from config.types import Duration, Secret, StrictModel


class Stage(Enum):
    REPORTS = "reports"
    REDACTION = "redaction"
    CALLS = "calls"


class Grpc(StrictModel):
    """A protocol."""

    endpoint: str = "127.0.0.1:4317"
    max_streams: int = 100


class Protocols(StrictModel):
    """Protocols."""

    grpc: Grpc | None = None


class ReceiverConfig(StrictModel):
    """A receiver."""

    protocols: Protocols = Protocols()
    headers: dict[str, Secret] = {}
    target: str | Grpc = "none"


class ProcessorConfig(StrictModel):
    """A processor."""

    rules: tuple[str, ...] = ()


class ExporterConfig(StrictModel):
    """An exporter."""

    dsn: str = "chdb://data/clickhouse"
    timeout: Duration = 5.0


class Otlp:
    """Receives."""

    Config = ReceiverConfig


class Attribution:
    """Works on reports."""

    Config = ProcessorConfig
    stage = Stage.REPORTS


class Pricing:
    """Works on calls."""

    Config = ProcessorConfig
    stage = Stage.CALLS


class RedactionConfig(StrictModel):
    """A redaction, which may be off."""

    idle: bool = False


class Redaction:
    """Takes out."""

    Config = RedactionConfig
    stage = Stage.REDACTION


class ClickHouse:
    """Exports."""

    Config = ExporterConfig
    signals = frozenset({"traces", "logs"})


class Debug:
    """Exports too."""

    Config = ExporterConfig
    signals = frozenset({"traces", "logs", "metrics"})


class Broken:
    """Has no stage, so that no pipeline knows where to put it."""

    Config = ProcessorConfig


REGISTRY = Registry.of(
    receivers={"otlp": Otlp},
    processors={"attribution": Attribution, "pricing": Pricing, "redaction": Redaction, "broken": Broken},
    exporters={"clickhouse": ClickHouse, "debug": Debug},
)
