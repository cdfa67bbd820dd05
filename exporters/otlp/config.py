"""The options of both OTLP exporters, named as the OpenTelemetry Collector's.

```yaml
exporters:
  otlp/gateway:
    endpoint: collector.example:4317
    headers: {x-tenant: platform}
    tls: {ca_file: ca.pem, cert_file: client.pem, key_file: client.key}
  otlphttp/vendor:
    endpoint: https://otlp.vendor.example
    headers: {api-key: "${env:SEARCH_TOKEN}"}
    compression: zstd
    also_as: {gen_ai.usage.cost: spanledger.cost_usd}
```
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from collector.columns import COUNTS, SPAN_COLUMNS
from collector.signals import Signal
from config.delivery import ExporterConfig
from config.types import ByteSize, Duration, Secret, StrictModel

#: Attributes that a span gets from one of its columns.
ATTRIBUTES = tuple(column.attribute for column in SPAN_COLUMNS if column.attribute and column.dtype != COUNTS)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: Headers that say what the request is, not who sends it.
_OURS = frozenset({
    "connection", "content-encoding", "content-length", "content-type", "expect", "host", "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip


def _host_and_port(parts: SplitResult, example: str) -> None:
    """Raises ValueError, never quoting what might hold a password."""
    try:
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"the endpoint's port is not a number from 0 to 65535; write it as {example}") from None
    if not host:
        raise ValueError(f"the endpoint names no host; write it as {example}")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the endpoint holds a user name or password: endpoints are logged; put them into headers")
    if parts.query or parts.fragment:
        raise ValueError("the endpoint has a query or fragment: endpoints are logged; put what is secret into headers")


def grpc_target(text: str) -> SplitResult:
    """`host:port`, `http://host:port` or `https://host:port`, read; the scheme is empty where none is written."""
    parts = urlsplit(text.strip() if "://" in text else f"//{text.strip()}")
    if parts.scheme not in ("", "http", "https") or parts.path.strip("/"):
        raise ValueError("not a gRPC endpoint; write host:port, or http(s)://host:port, such as collector.example:4317")
    _host_and_port(parts, "host:port")
    return parts


def _grpc_endpoint(text: str) -> str:
    grpc_target(text)
    return text


def _url(text: str) -> str:
    parts = urlsplit(text.strip())
    if parts.scheme not in ("http", "https"):
        raise ValueError("not a URL; write http(s)://host:port, such as https://otlp.example or http://127.0.0.1:4318")
    _host_and_port(parts, "http(s)://host:port/path")
    return text.strip()


GrpcEndpoint = Annotated[str, AfterValidator(_grpc_endpoint)]
Url = Annotated[str, AfterValidator(_url)]


class HeaderFile(StrictModel):
    """A header's value in a file, such as a mounted secret."""

    file: Path
    """File that holds the value and nothing else; a line break at its end is left out. Read again when it changes."""
    prefix: str = ""
    """What stands in front of it, such as `Bearer ` or `Basic `."""


class TlsConfig(StrictModel):
    """Encryption and certificates. The files are read again when they change, for the connections that come from then on."""

    ca_file: Path | None = None
    """PEM file of the authorities that the other side's certificate may be signed by. Default: the system's."""
    cert_file: Path | None = None
    """PEM file with our certificate, then its intermediates, where the other side asks for one (mTLS)."""
    key_file: Path | None = None
    """PEM file with our certificate's private key, without a passphrase."""
    insecure: bool = False
    """gRPC in plain text. An endpoint that begins with `http://` or `https://` says so itself and stands above this."""
    insecure_skip_verify: bool = False
    """Take any certificate. For trying out only: whoever is in between can read everything, headers included."""
    server_name_override: str | None = None
    """Name that the certificate has to be for, and that is asked for (SNI), in the place of the endpoint's host."""
    min_version: Literal["1.2", "1.3"] = "1.2"
    """Oldest TLS version to speak."""
    reload_interval: Duration = Field(default=10.0, ge=0.1, le=86400)
    """How often to look whether the files have changed."""

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together: name both, or none")
        return self


class CommonConfig(ExporterConfig):
    """What both protocols have."""

    headers: dict[str, Secret | HeaderFile] = Field(default_factory=dict)
    """Headers of every request (gRPC: metadata), such as an API key. A value is a text, or `{file: PATH, prefix: "Bearer "}`."""
    compression: Literal["gzip", "zstd", "none"] = "gzip"
    """Compression, done once: attempts send the same bytes. Every OTLP receiver takes gzip; zstd makes half as many bytes."""
    timeout: Duration = Field(default=30.0, gt=0, le=3600)
    """How long one attempt may take, from connecting to the end of the answer."""
    tls: TlsConfig = Field(default_factory=TlsConfig)
    """Encryption and certificates."""
    max_request_size: ByteSize = Field(default=4_000_000, ge=64 * 2**10, le=2**28)
    """Bytes of one request before compression; a batch is cut between spans, log records or metrics. gRPC servers take
    4 MiB unless they are told otherwise."""
    attributes: bool = True
    """Send what Spanledger knows of a span as its attributes: `spanledger.*`, and those of the GenAI conventions that it
    lacks. When false, what was not redacted leaves byte for byte as it came."""
    also_as: dict[str, str] = Field(default_factory=dict)
    """Further names for what is known of a span, where it has no such attribute: `gen_ai.usage.cost: spanledger.cost_usd`."""
    findings: bool = False
    """In a pipeline of traces: send each finding that opens, gets worse or is resolved as a log record, an event named
    `spanledger.finding`."""
    retry_setup_errors_for: Duration = Field(default=3600.0, ge=0)
    """How long, since the last success, to hold what is refused because of the setup and not of the data (wrong key, wrong
    path, a redirect). After that each refusal goes to the dead-letter store at once, as OTLP has it. 0: from the start."""

    @field_validator("headers")
    @classmethod
    def _sendable(cls, headers: dict[str, Secret | HeaderFile]) -> dict[str, Secret | HeaderFile]:
        for name, value in headers.items():
            if not _HEADER_NAME.fullmatch(name):
                raise ValueError("a header's name is letters, digits and hyphens")
            if name.lower() in _OURS or name.lower().startswith("grpc-"):
                raise ValueError(f"{name} is set by the exporter itself")
            text = value.prefix if isinstance(value, HeaderFile) else value.get_secret_value()
            if not text.isprintable() or not text.isascii():
                raise ValueError(f"the value of {name} holds what a header cannot: only printable ASCII is possible")
        return headers

    @field_validator("also_as")
    @classmethod
    def _known(cls, names: dict[str, str]) -> dict[str, str]:
        for name, attribute in names.items():
            if attribute not in ATTRIBUTES:
                match = get_close_matches(attribute, ATTRIBUTES, n=1, cutoff=0.4)
                hint = f"did you mean {match[0]!r}? " if match else ""
                raise ValueError(f"nothing is known of a span as {attribute!r}; {hint}docs/otlp.md lists what is")
            if not name or name in ATTRIBUTES:
                raise ValueError(f"{name!r} is no further name")
        return names

    @property
    def sender(self) -> frozenset[tuple[str, str]]:
        """As whom it sends: the headers, which may name a tenant or an account."""
        return frozenset(
            (name.lower(), repr(value) if isinstance(value, HeaderFile) else value.get_secret_value())
            for name, value in self.headers.items()
        )


class OtlpConfig(CommonConfig):
    """OTLP over gRPC."""

    endpoint: GrpcEndpoint
    """`host:port`. TLS unless `tls.insecure` is set or it begins with `http://`."""

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        parts = grpc_target(self.endpoint)
        scheme = parts.scheme or ("http" if self.tls.insecure else "https")
        return f"{scheme}://{parts.netloc}"

    def destination(self, signal: str) -> Hashable:  # noqa: ARG002
        return self.url, self.sender


class OtlpHttpConfig(CommonConfig):
    """OTLP over HTTP."""

    endpoint: Url | None = None
    """Base URL; `/v1/traces`, `/v1/logs` and `/v1/metrics` are added to it."""
    traces_endpoint: Url | None = None
    """Whole URL for traces, in the place of `endpoint`."""
    logs_endpoint: Url | None = None
    """Whole URL for logs, likewise."""
    metrics_endpoint: Url | None = None
    """Whole URL for metrics, likewise."""
    encoding: Literal["proto", "json"] = "proto"
    """Protobuf, or JSON, which is several times larger."""

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if not any((self.endpoint, self.traces_endpoint, self.logs_endpoint, self.metrics_endpoint)):
            raise ValueError("there is nowhere to send to: set endpoint, or traces_endpoint")
        if self.findings and not (self.endpoint or self.logs_endpoint):
            raise ValueError(
                "findings are log records, and there is nowhere to send them to: set endpoint, or logs_endpoint"
            )
        return self

    def url(self, signal: Signal) -> str | None:
        """Where requests of a signal go; None: nowhere."""
        own: str | None = getattr(self, f"{signal.value}_endpoint")
        return own or (f"{self.endpoint.rstrip('/')}/v1/{signal.value}" if self.endpoint else None)

    def destination(self, signal: str) -> Hashable:
        url = self.url(Signal(signal))
        return url and (url, self.sender)
