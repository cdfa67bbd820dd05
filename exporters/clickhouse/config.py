"""The options of the ClickHouse exporter, and what a DSN says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import AfterValidator, Field, model_validator

from config.delivery import ExporterConfig
from config.types import Duration, Secret

DEFAULT_DATABASE = "spanledger"
_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
_HTTP_OPTIONS = frozenset({"verify", "ca_cert", "client_cert", "client_cert_key", "server_host_name", "http_proxy", "https_proxy"})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Dsn:
    """Where the store is: a directory of the embedded engine (`path`), or a server (`url`, the rest of the fields)."""

    path: Path | None = None
    url: str = ""
    host: str = ""
    port: int = 0
    user: str = ""
    password: str = ""
    secure: bool = False
    database: str = ""
    options: tuple[tuple[str, str], ...] = ()

    @property
    def embedded(self) -> bool:
        return self.path is not None

    def __str__(self) -> str:
        """For people: without the password."""
        return f"chdb://{self.path}" if self.embedded else self.url

    def __repr__(self) -> str:
        return f"Dsn({self})"


def parse_dsn(text: str) -> Dsn:
    """`chdb://DIRECTORY` or `http(s)://user:password@host:8123/database`. Raises `ValueError`, never quoting the text."""
    scheme, separator, rest = text.partition("://")
    if scheme in ("clickhouse", "tcp", "native"):
        raise ValueError(
            "ClickHouse is spoken to over HTTP: write http(s)://user:password@host:8123/database (8443 with TLS)"
        )
    if not separator or scheme not in ("chdb", "http", "https"):
        raise ValueError(
            "not a ClickHouse DSN: expected chdb://DIRECTORY (embedded) or http(s)://user:password@host:8123/database"
        )
    if scheme == "chdb":
        if not rest or "?" in rest or rest in ("memory", ":memory:"):
            raise ValueError(
                "not a directory for the embedded ClickHouse: expected chdb://DIRECTORY, such as chdb://data/clickhouse"
            )
        return Dsn(path=Path(rest))
    parts = urlsplit(text)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("the DSN's port is not a number from 1 to 65535") from None
    if not host:
        raise ValueError(f"the DSN names no host: expected {scheme}://user:password@host:8123/database")
    database = unquote(parts.path.strip("/"))
    if database and not re.match(_NAME, database):
        raise ValueError("the DSN's database is not a plain name: expected letters, digits and underscores")
    options = tuple(parse_qsl(parts.query))
    unknown = sorted({name for name, _ in options} - _HTTP_OPTIONS)
    if unknown:
        raise ValueError(
            f"the DSN has options that are not known: {', '.join(unknown)}; there are {', '.join(sorted(_HTTP_OPTIONS))}"
        )
    secure = scheme == "https"
    port = port or (8443 if secure else 8123)
    return Dsn(
        url=f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}",
        host=host,
        port=port,
        user=unquote(parts.username or "default"),
        password=unquote(parts.password or ""),
        secure=secure,
        database=database,
        options=options,
    )


def _checked(dsn: Secret) -> Secret:
    parse_dsn(dsn.get_secret_value())
    return dsn


class ClickHouseConfig(ExporterConfig):
    """Writes spans, calls, hourly sums, findings and log records to ClickHouse, embedded or on a server."""

    dsn: Annotated[Secret, AfterValidator(_checked)] = Secret("chdb://spanledger-data/clickhouse")
    """`chdb://DIRECTORY` for the embedded ClickHouse, `http(s)://user:password@host:8123/database` for a server."""
    database: Annotated[str, Field(pattern=_NAME)] | None = None
    """Database of all tables. Default: the DSN's, else `spanledger`."""
    create_schema: bool = True
    """Create and extend tables and views at start. When false the tables must be there: `spanledger schema` prints them."""
    ttl: Duration = Field(default=0.0, ge=0)
    """How long spans and log records are kept after they came in, in whole days, rounded up. 0 keeps them for ever."""
    ledger_ttl: Duration = Field(default=0.0, ge=0)
    """How long calls and hourly sums are kept after the day of the call, in whole days, rounded up. 0 keeps them for ever."""
    findings_ttl: Duration = Field(default=0.0, ge=0)
    """How long findings are kept after the day they were first seen, in whole days, rounded up. 0 keeps them for ever."""
    traces_table_name: Annotated[str, Field(pattern=_NAME)] = "otel_traces"
    """Table of the spans, as in the OpenTelemetry Collector's exporter."""
    logs_table_name: Annotated[str, Field(pattern=_NAME)] = "otel_logs"
    """Table of the log records, likewise."""
    cluster: Annotated[str, Field(pattern=_NAME)] | None = None
    """Cluster to create the tables on (`ON CLUSTER`), with Replicated engines."""
    distributed: bool = False
    """With `cluster`: tables `NAME_local` on each shard, and Distributed tables called NAME over them."""
    compression: Literal["lz4", "zstd", "none"] = "lz4"
    """Compression of what is sent."""
    timeout: Duration = Field(default=60.0, gt=0, le=3600)
    """How long one insert may take."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.traces_table_name == self.logs_table_name:
            raise ValueError("spans and log records need tables of their own")
        if self.distributed and self.cluster is None:
            raise ValueError("distributed needs cluster: name the cluster that the tables are spread over")
        if self.cluster is not None and self.target.embedded:
            raise ValueError("cluster needs a server: the embedded ClickHouse has no cluster")
        return self

    def destination(self, signal: str) -> tuple[Path | str, int, str, str]:
        """The database: calls have tables there whose names are fixed, so that another table of spans is not enough."""
        dsn = self.target
        table = self.logs_table_name if signal == "logs" else ""
        return dsn.path.resolve() if dsn.path is not None else dsn.host, dsn.port, self.database_name, table

    @property
    def target(self) -> Dsn:
        """The DSN, read."""
        return parse_dsn(self.dsn.get_secret_value())

    @property
    def database_name(self) -> str:
        """The database that the tables are in."""
        return self.database or self.target.database or DEFAULT_DATABASE
