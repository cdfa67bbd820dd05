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
    if dsn is None:
        loaded = load_config(config, overrides)
        dsn = configured_dsn(loaded)
        port = admin_of(loaded, None, token)
        if dsn.startswith("chdb:") and port.alive():
            yield Ledger(f"the collector at {port.url}", port.sql)
            return
    with _direct(dsn) as ledger:
        yield ledger


def configured_dsn(loaded: LoadedConfig) -> str:
    """The DSN of the config's ClickHouse exporter."""
    for spec in loaded.exporters.values():
        dsn = getattr(spec.config, "dsn", None)
        if spec.type == "clickhouse" and dsn is not None:
            return str(dsn.get_secret_value() if hasattr(dsn, "get_secret_value") else dsn)
    raise CommandError(
        "the config has no clickhouse exporter, so there is no ledger to ask", "Say where with --dsn.", 2
    )
