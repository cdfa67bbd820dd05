"""The OTLP receiver's options, shaped as the OpenTelemetry Collector's.

```yaml
receivers:
  otlp:
    protocols:
      grpc: {endpoint: 0.0.0.0:4317, tls: {cert_file: server.pem, key_file: server.key, client_ca_file: ca.pem}}
      http: {endpoint: 0.0.0.0:4318, auth: {clients: {search: {token: "${env:SEARCH_TOKEN}", attributes: {team: search}}}}}
```
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from collector.signals import Signal
from config.model import AuthConfig
from config.tls import TlsConfig
from config.types import ByteSize, Duration, Endpoint, StrictModel, parse_endpoint


def _path(text: str) -> str:
    if not text.startswith("/") or any(c in text for c in "?# "):
        raise ValueError(f"not a URL path: {text!r}; write it with a leading slash, such as /v1/traces")
    return text


UrlPath = Annotated[str, AfterValidator(_path)]


class KeepaliveParameters(StrictModel):
    """How long connections live."""

    max_connection_idle: Duration = Field(default=300.0, ge=1)
    """A connection without a call is closed after this."""
    max_connection_age: Duration = Field(default=86400.0, ge=1)
    """A connection older than this is told to finish its calls and come back, so that load balancers can rebalance."""
    time: Duration = Field(default=60.0, ge=1)
    """A connection on which nothing came for this long is sent a ping."""
    timeout: Duration = Field(default=20.0, ge=0.1)
    """A connection whose peer does not answer the ping for this long is closed."""


class KeepaliveConfig(StrictModel):
    """Keep-alive of gRPC connections."""

    server_parameters: KeepaliveParameters = KeepaliveParameters()
    """When the collector closes or probes a connection."""


class GrpcConfig(StrictModel):
    """OTLP/gRPC."""

    endpoint: Endpoint = "127.0.0.1:4317"
    """Host and port to listen on. `:4317` is every interface; port 0 takes a free one."""
    tls: TlsConfig | None = None
    """Encryption of the port. Without it the port speaks plain text."""
    auth: AuthConfig | None = None
    """Who may send. Without it everybody who reaches the port (and has a certificate, with mTLS) may."""
    max_recv_msg_size: ByteSize = Field(default=64 * 2**20, ge=1024, le=2**30)
    """Largest message, as it comes and again after inflating."""
    max_concurrent_streams: int = Field(default=100, ge=1, le=10_000)
    """Calls that one connection may have open at once."""
    max_connections: int = Field(default=512, ge=1, le=65536)
    """Connections at most. When all are taken, the one that has been waiting for its peer the longest makes room."""
    read_timeout: Duration = Field(default=30.0, ge=0.1)
    """How long a call may take to send its message, and a new connection to say hello."""
    keepalive: KeepaliveConfig = KeepaliveConfig()
    """When a connection is closed or probed."""


class CorsConfig(StrictModel):
    """Which web pages may send from a browser."""

    allowed_origins: list[str] = Field(min_length=1)
    """Origins such as `https://app.example.com`; `*` stands for any text within one, alone for every origin."""
    allowed_headers: list[str] = Field(default_factory=list)
    """Request headers that pages may set besides Content-Type and Authorization."""
    max_age: Duration = Field(default=7200.0, ge=0)
    """How long browsers may remember the permission."""


class HttpConfig(StrictModel):
    """OTLP/HTTP, protobuf and JSON."""

    endpoint: Endpoint = "127.0.0.1:4318"
    """Host and port to listen on. `:4318` is every interface; port 0 takes a free one."""
    traces_url_path: UrlPath = "/v1/traces"
    """Path that takes traces, besides `/v1/traces` and the paths that SDKs of known vendors append to a base URL."""
    logs_url_path: UrlPath = "/v1/logs"
    """Path that takes logs, likewise."""
    metrics_url_path: UrlPath = "/v1/metrics"
    """Path that takes metrics, likewise."""
    tls: TlsConfig | None = None
    """Encryption of the port. Without it the port speaks plain text."""
    auth: AuthConfig | None = None
    """Who may send. Without it everybody who reaches the port (and has a certificate, with mTLS) may."""
    max_request_body_size: ByteSize = Field(default=64 * 2**20, ge=1024, le=2**30)
    """Largest body, as it comes and again after inflating."""
    max_header_size: ByteSize = Field(default=64 * 2**10, ge=1024, le=2**20)
    """Largest request line with headers."""
    max_connections: int = Field(default=512, ge=1, le=65536)
    """Connections at most. When all are taken, the one that has been waiting for its peer the longest makes room."""
    read_header_timeout: Duration = Field(default=10.0, ge=0.1)
    """How long the request line and headers may take, TLS handshake included."""
    read_timeout: Duration = Field(default=30.0, ge=0.1)
    """How long the body may take after the headers."""
    write_timeout: Duration = Field(default=30.0, ge=0.1)
    """How long a sender may take to read its answer."""
    idle_timeout: Duration = Field(default=60.0, ge=0.1)
    """How long a connection stays open between requests."""
    cors: CorsConfig | None = None
    """Which web pages may send from a browser. Without it none."""

    @model_validator(mode="after")
    def _paths_apart(self) -> HttpConfig:
        for signal, path in self.paths.items():
            other = path.removeprefix("/v1/")
            if other in set(Signal) - {signal}:
                raise ValueError(f"{signal}_url_path is {path}, which is the path of {other}")
        if len(set(self.paths.values())) < len(Signal):
            raise ValueError("traces, logs and metrics need paths of their own")
        return self

    @property
    def paths(self) -> dict[Signal, str]:
        """The configured path of each signal."""
        return {
            Signal.TRACES: self.traces_url_path,
            Signal.LOGS: self.logs_url_path,
            Signal.METRICS: self.metrics_url_path,
        }


class Protocols(StrictModel):
    """The protocols that run: those that are named, with nothing behind the name for its defaults."""

    grpc: GrpcConfig | None = None
    """OTLP/gRPC."""
    http: HttpConfig | None = None
    """OTLP/HTTP, protobuf and JSON."""

    @model_validator(mode="before")
    @classmethod
    def _named_is_on(cls, data: Any) -> Any:
        return {key: {} if value is None else value for key, value in data.items()} if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _some_port(self) -> Protocols:
        if self.grpc is None and self.http is None:
            raise ValueError("nothing would listen: name grpc, http or both, or leave protocols out for both")
        if self.grpc and self.http and self.grpc.endpoint == self.http.endpoint and not _any_port(self.grpc.endpoint):
            raise ValueError(f"grpc and http cannot both listen on {self.grpc.endpoint}")
        return self


def _any_port(endpoint: str) -> bool:
    return parse_endpoint(endpoint)[1] == 0


class LimitsConfig(StrictModel):
    """What one request may hold and what all of them may take together, over both protocols."""

    max_items: int = Field(default=100_000, ge=1)
    """Spans, log records or data points in one request at most."""
    max_attributes: int = Field(default=2_000_000, ge=1)
    """Attributes in one request at most, those of resources, scopes, events, links and exemplars included."""
    max_depth: int = Field(default=64, ge=4, le=100)
    """Nesting of attribute values at most."""
    max_in_flight_size: ByteSize = Field(default=128 * 2**20, ge=2**20)
    """Bytes of requests that are being received, checked or written. Above it senders are told to come back."""
    max_in_flight_requests: int = Field(default=2_000, ge=1)
    """Requests that are being received, checked or written. Above it senders are told to come back."""


class OtlpConfig(StrictModel):
    """OTLP in, over gRPC and HTTP."""

    protocols: Protocols = Protocols(grpc=GrpcConfig(), http=HttpConfig())
    """What listens. Without it both protocols do, on 127.0.0.1:4317 and 127.0.0.1:4318."""
    limits: LimitsConfig = LimitsConfig()
    """What one request may hold and what all of them may take together."""
