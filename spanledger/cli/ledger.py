"""Asking the ledger, wherever it is: in a running collector, in its files while none runs, or on a ClickHouse server."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spanledger.cli.admin import Admin, endpoint
from spanledger.cli.shell import CommandError, ConfigOption, SetOption, usage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from config import LoadedConfig
    from exporters.clickhouse.config import Dsn

DsnOption = Annotated[
    str | None,
    typer.Option(envvar="SPANLEDGER_DSN", help="Ask this store instead: chdb://DIRECTORY or http(s)://user:password@host:8123/database.", show_default=False),
]  # fmt: skip
AdminOption = Annotated[
    str | None,
    typer.Option("--admin", help="Admin port of the running collector. Default: service.admin.endpoint of the config.", show_default=False),
]  # fmt: skip
TokenOption = Annotated[
    str | None,
    typer.Option("--token", envvar="SPANLEDGER_ADMIN_TOKEN", help="Token of the admin port. Default: the config's.", show_default=False),
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """A result as rows. Decimals and 64-bit integers are exact, times are text as ClickHouse writes them.

    `totals` is the row over all groups that `WITH TOTALS` asks for, None without it.
    """

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: list[list[Any]]
    totals: list[Any] | None = None


@dataclass(frozen=True, slots=True)
class Ledger:
    """An open way to the ledger. `where` is for people."""

    where: str
    _ask: Callable[[str], bytes]

    def query(self, sql: str) -> Answer:
        """Run one read-only statement. Raises `CommandError` with what the store says."""
        body = self._ask(sql)
        if not body.strip():
            return Answer((), (), [])
        try:
            answer = json.loads(body, parse_float=Decimal)
            meta, rows = answer["meta"], answer["data"]
        except (ValueError, KeyError, TypeError):
            usage(
                "the query names a FORMAT of its own",
                "Leave FORMAT out of the SQL and say --format table, json or csv.",
            )
        return Answer(tuple(m["name"] for m in meta), tuple(m["type"] for m in meta), rows, answer.get("totals"))


def load_config(config: Path | None, overrides: Sequence[str] | None) -> LoadedConfig:
    """The config that the options name; its errors are the command's."""
    from config import load

    return load(config, overrides=overrides or ())


def admin_of(loaded: LoadedConfig, admin: str | None, token: str | None) -> Admin:
    """The admin port that options and config name."""
    settings = loaded.service.admin
    if token is None and settings.auth is not None:
        token = settings.auth.token.get_secret_value()
    return endpoint(admin or settings.endpoint, token)


@contextmanager
def open_ledger(
    config: ConfigOption = None,
    overrides: SetOption = None,
    dsn: str | None = None,
    admin: str | None = None,
    token: str | None = None,
) -> Iterator[Ledger]:
    """The ledger that the options mean.

    A DSN is asked directly. Otherwise the config's ClickHouse exporter says where the ledger is: a server is asked
    directly, an embedded store through the collector if one runs, else from its files.
    """
    if admin is not None and dsn is None:
        port = endpoint(admin, token)
        yield Ledger(f"the collector at {port.url}", port.sql)
        return
    database = None
    if dsn is None:
        loaded = load_config(config, overrides)
        dsn, database = configured_dsn(loaded)
        port = admin_of(loaded, None, token)
        if dsn.startswith("chdb:") and port.alive():
            yield Ledger(f"the collector at {port.url}", port.sql)
            return
    with _direct(dsn, database) as ledger:
        yield ledger


def configured_dsn(loaded: LoadedConfig) -> tuple[str, str]:
    """The DSN and the database of the config's ClickHouse exporter."""
    from exporters.clickhouse.config import ClickHouseConfig

    for spec in loaded.exporters.values():
        if isinstance(spec.config, ClickHouseConfig):
            return spec.config.dsn.get_secret_value(), spec.config.database_name
    raise CommandError(
        "the config has no clickhouse exporter, so there is no ledger to ask", "Say where with --dsn.", 2
    )


@contextmanager
def _direct(dsn: str, database: str | None) -> Iterator[Ledger]:
    """The ledger at a DSN, without a collector between: read-only either way."""
    from exporters.clickhouse.config import DEFAULT_DATABASE, parse_dsn

    try:
        target = parse_dsn(dsn)
    except ValueError as error:
        usage(str(error))
    database = database or target.database or DEFAULT_DATABASE
    with _files(target.path, database) if target.path is not None else _server(target, database) as ledger:
        yield ledger


@contextmanager
def _files(path: Path, database: str) -> Iterator[Ledger]:
    """The embedded store's own files, by the rules that the collector's query interface has too."""
    from exporters.clickhouse.engine import EngineBusy, EngineError
    from exporters.clickhouse.reader import Reader
    from exporters.clickhouse.sql import Denied

    reader = Reader(path, database, create=False)

    def ask(statement: str) -> bytes:
        try:
            return reader.ask(statement, "JSONCompact").result.body
        except EngineBusy:
            raise CommandError(
                f"another process holds the ledger in {path}, and no collector answers",
                "Say where the collector's admin port is, with --admin or the config it runs with (--config).",
            ) from None
        except EngineError as error:
            hint = "Start a collector that writes there, or say where the ledger is: --config, --dsn or --admin."
            raise CommandError(str(error), hint) from None
        except Denied as error:
            raise CommandError(f"Code: {error.code}. {error} ({error.name})") from None
        except RuntimeError as error:
            raise CommandError(str(error).strip()[:2000]) from None

    try:
        yield Ledger(str(path), ask)
    finally:
        reader.close()


@contextmanager
def _server(target: Dsn, database: str) -> Iterator[Ledger]:
    """A ClickHouse server, asked in a session that may only read."""
    from exporters.clickhouse.client import Connection, explain

    def connect() -> Connection:
        try:
            return Connection(target, timeout=120.0, settings={"readonly": "2"})
        except Exception as error:
            if "readonly" not in str(error).lower():
                raise
        return Connection(target, timeout=120.0)  # a user who may only read cannot say so again

    try:
        connection = connect()
    except Exception as error:
        raise CommandError(str(explain(error, str(target)))) from None
    connection.use(database)

    def ask(statement: str) -> bytes:
        try:
            return connection.raw(statement, "JSONCompact")
        except Exception as error:
            raise CommandError(" ".join(str(error).split())[:2000]) from None

    try:
        yield Ledger(str(target), ask)
    finally:
        connection.close()
