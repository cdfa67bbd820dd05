"""`spanledger top`: what is being spent right now, by whom, on what, and whether the collector keeps up."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spanledger.cli import status
from spanledger.cli.admin import Admin, endpoint
from spanledger.cli.costs import DIMENSIONS
from spanledger.cli.ledger import AdminOption, DsnOption, Ledger, TokenOption, admin_of, load_config, open_ledger
from spanledger.cli.shell import CommandError, ConfigOption, SetOption, examples, out
from spanledger.cli.show import glance
from spanledger.cli.spark import cells, cells_sql, spark
from spanledger.cli.when import literal

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

EPILOG = examples(
    ("live, until Ctrl-C", "spanledger top"),
    ("the last ten minutes, looked at every five seconds", "spanledger top --minutes 10 --interval 5"),
    ("one look, into a file", "spanledger top > now.txt"),
    ("of a ClickHouse server", "spanledger top --dsn http://reader:secret@clickhouse:8123/spanledger"),
)  # fmt: skip

#: Parts of the period that a line's sparkline shows, and that the one over all calls does.
_CELLS = 16
_WIDE = 60
_LINES = 6


def top(
    minutes: Annotated[int, typer.Option(min=1, max=1440, help="How far back to look.")] = 60,
    interval: Annotated[float, typer.Option(min=0.5, max=3600, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="One look, then stop. So it is too where the output is no terminal.")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    dsn: DsnOption = None,
    admin: AdminOption = None,
    token: TokenOption = None,
) -> None:  # fmt: skip
    """Watch the spend: dollars per minute, by team and by model, open findings, and what the collector has still to do.

    Times are those of the calls. A call shows when its spans have come in, a second or two after it ended.
    """
    port = _port(config, set_, dsn, admin, token)
    with open_ledger(config, set_, dsn, admin, token) as ledger:
        if once or not out.is_terminal:
            out.print(view(look(ledger, port, minutes)))
            return
        _live(ledger, port, minutes, interval)


def _port(config: Any, set_: Any, dsn: str | None, admin: str | None, token: str | None) -> Admin | None:
    """The collector whose health is shown; with a DSN alone nobody knows which that is."""
    if admin is not None:
        return endpoint(admin, token)
    return None if dsn is not None else admin_of(load_config(config, set_), None, token)


def _live(ledger: Ledger, port: Admin | None, minutes: int, interval: float) -> None:
    """One frame after the other. A store that goes away is waited for."""
    from rich.live import Live
    from rich.text import Text

    with Live(console=out, auto_refresh=False, screen=True, vertical_overflow="crop") as live:
        while True:
            try:
                shown: RenderableType = view(look(ledger, port, minutes))
            except CommandError as error:
                shown = Text(f"{error} — looking again", style="yellow")
            live.update(shown, refresh=True)
            time.sleep(interval)


@dataclass(frozen=True, slots=True)
class Line:
    """A team's or a model's part: calls, failed ones, USD, and USD over the period in equal parts."""

    name: str
    calls: int
    failed: int
    usd: Decimal
    trend: list[float]


@dataclass(frozen=True, slots=True)
class Look:
    """What one frame shows. `health` is what /status says; None: no collector was asked, or none answered."""

    at: datetime
    minutes: int
    total: Line
    tokens: int
    unpriced: int
    last_minute: Decimal
    teams: list[Line]
    models: list[Line]
    findings: list[tuple[str, int]]  # severity, open ones
    health: dict[str, Any] | None
    where: str


def look(ledger: Ledger, port: Admin | None, minutes: int, now: datetime | None = None) -> Look:
    """Ask for one frame. Raises `CommandError`."""
    now = now or datetime.now(tz=UTC)
    start = now - timedelta(minutes=minutes)
    # Day leads the table's order: with it, today's rows alone are read. It may be a day off Timestamp's, no more.
    day = (start - timedelta(days=1)).date()
    where = f"Timestamp >= {literal(start)} AND Timestamp < {literal(now)} AND Day >= '{day}'"

    def measures(cells: int) -> str:
        return (
            f"count(), countIf(StatusCode = 'Error'), sum(CostUSD) AS cost, {cells_sql('CostUSD', start, now, cells)}"
        )

    def lines(by: str) -> list[Line]:
        dimension = DIMENSIONS[by]
        # Every part of these statements stands in this file or is a time.
        rows = ledger.query(
            f"SELECT toString({dimension.sql}) AS name, {measures(_CELLS)} FROM llm_calls WHERE {where} "  # noqa: S608
            f"GROUP BY name ORDER BY cost DESC NULLS LAST, count() DESC, name LIMIT {_LINES}"
        ).rows
        return [_line(name or dimension.absent, row, _CELLS) for name, *row in rows]

    minute = literal(now - timedelta(minutes=1))
    unpriced = "countIf(CostUSD IS NULL AND StatusCode != 'Error')"
    (row,) = ledger.query(
        f"SELECT {measures(_WIDE)}, sum(InputTokens) + sum(OutputTokens), {unpriced}, sumIf(CostUSD, Timestamp >= {minute}) "  # noqa: S608
        f"FROM llm_calls WHERE {where}"
    ).rows or [[0, 0, None, {}, None, 0, None]]
    found = ledger.query("SELECT Severity, count() FROM llm_findings WHERE State = 'open' GROUP BY Severity").rows
    order = ("critical", "warning", "info")
    severities = sorted(((str(name), int(n)) for name, n in found), key=lambda one: order.index(one[0]))
    return Look(
        now, minutes, _line("", row[:4], _WIDE), int(row[4] or 0), int(row[5] or 0), Decimal(row[6] or 0),
        lines("team"), lines("model"), severities, _health(port), ledger.where,
    )  # fmt: skip


def _line(name: str, row: list[Any], parts: int) -> Line:
    return Line(name, int(row[0]), int(row[1]), Decimal(row[2] or 0), cells(row[3] or {}, parts))


def _health(port: Admin | None) -> dict[str, Any] | None:
    if port is None:
        return None
    try:
        found = json.loads(port.get("/status"))
    except (CommandError, ValueError):
        return None
    return found if isinstance(found, dict) and "exporters" in found else None


def view(found: Look) -> RenderableType:
    """One frame."""
    from rich.console import Group
    from rich.text import Text

    total = found.total
    rate = total.usd / found.minutes
    head = Text.assemble(
        (f"{glance(total.usd)} USD", "bold"), (f" in {_period(found.minutes)}", "dim"), "   ",
        (f"{glance(rate)} USD a minute", "bold cyan"), (f" (last: {glance(found.last_minute)})", "dim"),
    )  # fmt: skip
    calls = Text.assemble(
        f"{total.calls:,} calls", ("   ", ""),
        (f"{total.failed:,} failed", "red" if total.failed else "dim"), "   ",
        (f"{found.tokens:,} tokens", "dim"), "   ",
        (f"{found.unpriced:,} without a price", "yellow" if found.unpriced else "dim"),
    )  # fmt: skip
    graph = Text(spark(total.trend), style="cyan")
    graph.append(f"  {found.at:%H:%M:%S} UTC", style="dim")
    opened = Text("findings open: ", style="dim")
    styles = {"critical": "bold red", "warning": "yellow", "info": "cyan"}
    for number, (severity, count) in enumerate(found.findings):
        opened.append(f"{', ' if number else ''}{count} {severity}", style=styles.get(severity, ""))
    if not found.findings:
        opened.append("none", style="green")
    parts: list[RenderableType] = [head, calls, graph, opened, ""]
    if total.calls:
        parts += [_table("Team", found.teams, total), "", _table("Model", found.models, total), ""]
    else:
        parts += [Text(f"no calls in {_period(found.minutes)}", style="yellow"), ""]
    parts.append(status.view(found.health) if found.health else Text(f"from {found.where}", style="dim"))
    return Group(*parts)


def _table(heading: str, lines: list[Line], total: Line) -> Table:
    """The dearest first: what each has of the whole."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(heading, no_wrap=True, overflow="ellipsis", width=22)
    for name, width in (("USD", 12), ("Share", 6), ("Calls", 7), ("Failed", 6)):
        table.add_column(name, justify="right", no_wrap=True, min_width=width)
    table.add_column("", no_wrap=True, width=_CELLS)
    for line in lines:
        share = f"{100 * line.usd / total.usd:.0f}%" if total.usd else ""
        failed = Text(f"{line.failed:,}" if line.failed else "", style="red")
        name = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in line.name)
        table.add_row(
            Text(name), glance(line.usd), share, f"{line.calls:,}", failed, Text(spark(line.trend), style="cyan")
        )
    return table


def _period(minutes: int) -> str:
    return f"{minutes} min" if minutes < 120 or minutes % 60 else f"{minutes // 60} h"


__all__ = ["EPILOG", "look", "top", "view"]
