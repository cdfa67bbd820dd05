"""What a loaded config is: the `service` section's models, and the components that the file names.

Each option's meaning, unit and default stand here and nowhere else; docs/config.md and the JSON Schema derive from it.
The models of components live with their components.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from config.errors import Finding
from config.tls import TlsConfig
from config.types import ByteSize, Duration, Endpoint, Network, Secret, StrictModel


class ClientConfig(StrictModel):
    """One sender that may come in."""

    token: Secret
    """What it sends as `Authorization: Bearer TOKEN`."""
    attributes: dict[str, str] = Field(default_factory=dict)
    """Resource attributes that its spans, logs and metrics get whatever they say themselves, such as `team: search`."""


class AuthConfig(StrictModel):
    """Bearer tokens. Several may be valid at once. Tokens are compared in constant time."""

    token: Secret | None = None
    """One token for everybody."""
    clients: dict[str, ClientConfig] = Field(default_factory=dict)
    """Senders by name, each with a token and, if wanted, attributes that it cannot override."""
    tokens_file: Path | None = None
    """YAML or JSON file of `client: token` or `client: {token: …, attributes: {…}}`. Reloaded when it changes."""

    @model_validator(mode="after")
    def _says_who(self) -> AuthConfig:
        if self.token is None and not self.clients and self.tokens_file is None:
            raise ValueError("nobody could come in: set token, clients or tokens_file, or leave auth out")
        return self


class AdminAuthConfig(StrictModel):
    """Bearer token of the admin port."""

    token: Secret
    """What to send as `Authorization: Bearer TOKEN`, or as the password of HTTP basic authentication."""


class UiConfig(StrictModel):
    """The pages in a browser, at `/ui/` of the admin port (docs/ui.md)."""

    enabled: bool = True
    """Whether they are served."""
    viewer_token: Secret | None = None
    """Token for people who may see figures and traces, but not what was said to models; the admin port's token shows all."""
    proxy_header: str | None = Field(default=None, pattern=r"^[A-Za-z0-9-]+$")
    """Request header in which a proxy in front says who was signed in, such as `X-Forwarded-Email` of oauth2-proxy."""
    trusted_proxies: tuple[Network, ...] = ("127.0.0.1/32", "::1/128")
    """Networks of these proxies. From anywhere else the header means nothing."""
    admins: tuple[str, ...] = ()
    """Who of those that the proxy signs in may see content; the others are viewers."""
    session: Duration = Field(default=43200.0, ge=60, le=2592000)
    """How long somebody who signed in with a token stays so."""


class AdminConfig(StrictModel):
    """The admin port: health, metrics, and the read-only query interface of the embedded store."""

    endpoint: Endpoint = "127.0.0.1:8787"
    """Host and port to listen on. Port 0 takes a free one."""
    auth: AdminAuthConfig | None = None
    """Asked for everywhere but `/healthz` and `/readyz`. Without it anybody who reaches the port may query."""
    allowed_hosts: tuple[str, ...] = ()
    """Host headers to answer to besides the endpoint's own and loopback names (a guard against DNS rebinding)."""
    ui: UiConfig = Field(default_factory=UiConfig)
    """The pages in a browser."""


class VerdictConfig(StrictModel):
    """The verdict port: gateways ask it, before they send a call, whether a budget is used up (docs/budgets.md)."""

    endpoint: Endpoint = "127.0.0.1:8788"
    """Host and port of `GET /v1/verdict`."""
    grpc_endpoint: Endpoint | None = None
    """Host and port of Envoy's external authorization service (`envoy.service.auth.v3`). Not served unless it is set."""
    auth: AdminAuthConfig | None = None
    """Asked for on both ports. It opens nothing else: give gateways this one, and not the admin port's."""
    tls: TlsConfig | None = None
    """Encryption of both ports. Without it they speak plain text."""
    own_process: bool = False
    """Answer from a process of its own, which reads the counters from the data directory: answers do not wait for the pipeline
    then. It costs a process's memory; on Linux the collector's threads become nicer by ten, so that it goes first."""
    on_error: Literal["allow", "deny"] = "allow"
    """What to answer while the counters cannot be trusted: the collector is starting, its pipeline stands still or is behind."""
    max_lag: Duration = Field(default=60.0, ge=1, le=86400)
    """For how long the oldest request may have waited in the inbox until the pipeline counts as behind."""
    deny_status: int = Field(default=429, ge=400, le=599)
    """HTTP status of a refusal."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Request header that names a dimension, by dimension, such as `team: x-team`, for proxies that pass the client's request
    on. The gateway must set these headers itself and take out what a client sent."""


class LogsConfig(StrictModel):
    """The collector's own log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest severity that is written."""
    format: Literal["auto", "text", "json"] = "auto"
    """`text` for people, `json` for machines; `auto` is text on a terminal and JSON elsewhere."""


class TelemetryConfig(StrictModel):
    """What the collector says about itself. Its metrics are at the admin port, `/metrics`."""

    logs: LogsConfig = Field(default_factory=LogsConfig)
    """The collector's own log."""


class EncryptionConfig(StrictModel):
    """Encryption (AES-256-GCM) of what lies on disk before redaction: the inbox and the dead letters."""

    enabled: bool = True
    """Off only where the disk is encrypted anyway."""
    key: Secret | None = None
    """32 bytes, base64 or hex. Without it and without `key_file`, a key is made in the data directory (`inbox.key`)."""
    key_file: Path | None = None
    """File that holds the key, as base64 or hex. To change keys put the new one on a line above the old one and restart:
    the first line seals, every line opens. The old line can go once the inbox has run empty after that; a start without
    a key that is still needed is refused."""

    @model_validator(mode="after")
    def _one_key(self) -> EncryptionConfig:
        if self.key is not None and self.key_file is not None:
            raise ValueError("set key or key_file, not both")
        return self


class InboxConfig(StrictModel):
    """The queue on disk between receivers and pipelines."""

    max_size: ByteSize = Field(default=2 * 2**30, ge=2**20)
    """Bytes of requests kept at most; senders are told to come back when it is full."""


class DeadLettersConfig(StrictModel):
    """Requests that cannot be processed, and deliveries that no other side will ever take, kept until a person decides."""

    max_size: ByteSize = Field(default=2**30, ge=2**20)
    """Bytes kept at most. When it is full, whatever would add to it waits: its pipeline or exporter stands still and says
    so (`/status`, the log) until something is replayed or dropped. Nothing that a sender was told is kept goes by itself."""


class BatchConfig(StrictModel):
    """How much of the inbox is processed at once. The pipeline takes what is there; it never waits when busy."""

    max_size: ByteSize = Field(default=34 * 2**20, ge=2**10, le=2**28)
    """Bytes joined into one batch at most. A single larger request is a batch of its own."""
    max_items: int = Field(default=64_000, ge=1, le=1_000_000)
    """Spans, log records or data points joined into one batch at most, likewise. Memory grows with it, the cost per span
    falls with it."""
    timeout: Duration = Field(default=1.0, ge=0, le=60)
    """How long to wait for more after the first request of a batch: ClickHouse wants few large inserts, one a second."""


class LedgerConfig(StrictModel):
    """How long the ledger remembers calls in order to merge later reports of them."""

    window: Duration = Field(default=24 * 3600.0, ge=60, le=30 * 86400)
    """A report that comes later than this after the first one of its call counts as a call of its own."""
    trace_window: Duration = Field(default=3600.0, ge=10, le=86400)
    """How long the spans of a trace are remembered, to find the calls' ancestors and identity."""
    max_spans: int = Field(default=1_000_000, ge=1000, le=100_000_000)
    """Spans remembered at most; the oldest go first. About 100 bytes of memory each."""


class PipelineConfig(StrictModel):
    """One way through the collector: from these receivers, through these processors in order, to these exporters."""

    receivers: tuple[str, ...]
    """Ids of the `receivers` section."""
    processors: tuple[str, ...] = ()
    """Ids of the `processors` section, in the order in which they run."""
    exporters: tuple[str, ...]
    """Ids of the `exporters` section. Each has a queue of its own on disk."""


class ServiceConfig(StrictModel):
    """Where the collector keeps its data, how it behaves, and what is connected to what."""

    data_dir: Path = Path("spanledger-data")
    """Directory of the inbox, the outboxes, the state and the embedded store. One collector at a time."""
    admin: AdminConfig = Field(default_factory=AdminConfig)
    """Health, metrics and queries."""
    verdict: VerdictConfig | None = None
    """Whether a call may be made, for gateways that ask. Not served unless it is there; `{}` for all defaults."""
    telemetry: TelemetryConfig = Field(default_factory=TelemetryConfig)
    """The collector's own log."""
    shutdown_timeout: Duration = Field(default=30.0, ge=0, le=3600)
    """How long a stop may spend on draining. What is left stays on disk and is sent after the next start."""
    encryption: EncryptionConfig = Field(default_factory=EncryptionConfig)
    """Encryption of what lies on disk before redaction."""
    inbox: InboxConfig = Field(default_factory=InboxConfig)
    """The queue on disk between receivers and pipelines."""
    dead_letters: DeadLettersConfig = Field(default_factory=DeadLettersConfig)
    """What could not be processed or delivered."""
    batch: BatchConfig = Field(default_factory=BatchConfig)
    """How much is processed at once."""
    ledger: LedgerConfig = Field(default_factory=LedgerConfig)
    """How reports are merged into calls."""
    pipelines: dict[str, PipelineConfig] = Field(min_length=1)
    """By `traces`, `logs` or `metrics`, or `traces/name` … for a further one of a signal."""


@dataclass(frozen=True, slots=True)
class ComponentSpec:
    """One component as the config wants it: `cls(config, context)` builds it."""

    id: str  # `type` or `type/name`
    type: str
    cls: builtins.type[Any]
    config: BaseModel  # an instance of `cls.Config`


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A config without errors. The three mappings keep the file's order and hold unused components too."""

    receivers: Mapping[str, ComponentSpec]
    processors: Mapping[str, ComponentSpec]
    exporters: Mapping[str, ComponentSpec]
    service: ServiceConfig
    source: Path  # the file that was read, the shipped default included
    warnings: tuple[Finding, ...] = field(default=())

    @property
    def sources(self) -> dict[str, list[str]]:
        """Column → attributes that components take it from, as their configs say (`sources`)."""
        found: dict[str, list[str]] = {}
        for spec in self.processors.values():
            for column, attributes in getattr(spec.config, "sources", {}).items():
                found.setdefault(column, []).extend(attributes)
        return found

    def pipelines(self, signal: str) -> dict[str, PipelineConfig]:
        """The pipelines of one signal (`traces`, `logs`, `metrics`), by id."""
        return {id_: p for id_, p in self.service.pipelines.items() if id_.partition("/")[0] == signal}
