"""`spanledger findings`: what was noticed about spend and behaviour, newest first; `--follow` tells what comes."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from collector.findings import Severity
from spanledger.cli.ledger import AdminOption, DsnOption, Ledger, TokenOption, open_ledger
from spanledger.cli.shell import ConfigOption, SetOption, err, examples, out, usage
from spanledger.cli.show import Format, as_json, glance, print_csv, print_json
from spanledger.cli.spark import spark
from spanledger.cli.when import literal, moment

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_STYLES = {"critical": "bold red", "warning": "yellow", "info": "cyan"}
#: Narrower than this, findings are paragraphs, not lines of a table.
_TABLE_WIDTH = 110
#: Parts of the period that the sparkline of a kind shows.
_TREND = 24
#: How often `--follow` looks.
_EVERY_S = 2.0
_TIME = "formatDateTime({0}, '%Y-%m-%dT%H:%i:%SZ', 'UTC')"
_COLUMNS = {
    "id": "FindingId",
    "kind": "Kind",
    "state": "State",
    "severity": "Severity",
    "first_seen": _TIME.format("FirstSeen"),
    "last_seen": _TIME.format("LastSeen"),
    "resolved_at": f"if(ResolvedAt IS NULL, NULL, {_TIME.format('assumeNotNull(ResolvedAt)')})",
    "resolution": "Resolution",
    "subject": "Subject",
    "measured": "Measured",
    "expected": "Expected",
    "unit": "Unit",
    "cost_usd": "CostUSD",
    "message": "Message",
    "observations": "Observations",
    "trace_ids": "TraceIds",
    "span_ids": "SpanIds",
}

EPILOG = examples(
    ("what is wrong right now", "spanledger findings --open --since all"),
    ("budgets alone, those that somebody should look at", "spanledger findings --kind 'budget.*' --severity critical"),
    ("a line for each that opens, gets worse or is resolved", "spanledger findings --follow"),
    ("for a script", "spanledger findings --since 7d --format json"),
)  # fmt: skip


def findings(
    since: Annotated[
        str, typer.Option(help="Seen or resolved since: 90m, 24h, 7d, 2026-11-24, 2026-11-24T12:00 (UTC), all.")
    ] = "24h",
    kind: Annotated[
        str | None, typer.Option(help="Of this kind; * stands for anything: budget.*", show_default=False)
    ] = None,
    severity: Annotated[Severity | None, typer.Option(help="Of this severity or above.", show_default=False)] = None,
    open_: Annotated[bool, typer.Option("--open", help="Only what is still so.")] = False,
    follow: Annotated[
        bool,
        typer.Option("--follow", help="Go on, and print what opens, gets worse or is resolved, until interrupted."),
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Findings at most, the newest.")] = 100,
    format_: Annotated[Format, typer.Option("--format", "-f", help="How to print them.")] = Format.TABLE,
    config: ConfigOption = None,
    set_: SetOption = None,
    dsn: DsnOption = None,
    admin: AdminOption = None,
    token: TokenOption = None,
) -> None:
    """Show what was noticed about spend and behaviour: budgets, routing, anomalies, personal data.

    One line per finding, however often it was observed. Times are those of the calls. Kinds: docs/findings.md.
    """  # fmt: skip
    where = _where(since, kind, severity, open_)
    with open_ledger(config, set_, dsn, admin, token) as ledger:
        if not follow:
            _print(_ask(ledger, where, limit), since, ledger.where, format_)
            return
        if format_ is Format.CSV:
            print_csv(list(_COLUMNS), [])
        for one in _news(ledger, where, limit):
            _tell(one, format_)


def _where(since: str, kind: str | None, severity: Severity | None, only_open: bool) -> str:
    """The condition. What people typed stands in it as literals, or as a time that was parsed."""
    start = moment(since, "--since", datetime.now(tz=UTC))
    parts = []
    if start is not None:
        parts.append(f"(LastSeen >= {literal(start)} OR ResolvedAt >= {literal(start)})")
    if kind is not None:
        if not re.fullmatch(r"[A-Za-z0-9_.*-]+", kind):
            usage("--kind: not a kind", "Write it as it is shown, such as budget.hard; * stands for anything: budget.*")
        parts.append("Kind LIKE '" + kind.replace("_", "\\\\_").replace("*", "%") + "'")
    if severity is not None:
        levels = list(Severity)
        parts.append("Severity IN (" + ", ".join(f"'{one}'" for one in levels[levels.index(severity) :]) + ")")
    if only_open:
        parts.append("State = 'open'")
    return " AND ".join(parts) or "1"


def _ask(ledger: Ledger, where: str, limit: int) -> list[dict[str, Any]]:
    """The newest findings, the newest last."""
    columns = ", ".join(_COLUMNS.values())
    rows = ledger.query(
        f"SELECT {columns} FROM llm_findings WHERE {where} ORDER BY LastSeen DESC, FindingId LIMIT {limit}"  # noqa: S608
    ).rows
    return [_typed(dict(zip(_COLUMNS, row, strict=True))) for row in reversed(rows)]


def _typed(one: dict[str, Any]) -> dict[str, Any]:
    """Numbers as numbers: 64-bit integers come as text, decimals too where the server's settings say so."""
    cost = one["cost_usd"]
    return {**one, "observations": int(one["observations"]), "cost_usd": None if cost is None else Decimal(cost)}


def _news(ledger: Ledger, where: str, limit: int) -> Iterator[dict[str, Any]]:
    """Findings, then whenever one is new, more severe, or resolved."""
    seen: dict[str, tuple[str, str]] = {}
    while True:
        for one in _ask(ledger, where, limit):
            now = (one["state"], one["severity"])
            if seen.get(one["id"]) != now:
                seen[one["id"]] = now
                yield one
        time.sleep(_EVERY_S)


def _tell(one: dict[str, Any], format_: Format) -> None:
    """One finding on one line."""
    if format_ is Format.JSON:
        sys.stdout.write(as_json(one) + "\n")
    elif format_ is Format.CSV:
        print_csv((), [list(one.values())])
    else:
        from rich.text import Text

        parts = [_when(one), _severity(one), _plain(one["kind"]), _plain(_subject(one)), _plain(one["message"])]
        if one["cost_usd"]:
            parts.append(_plain(f"{glance(one['cost_usd'])} USD"))
        out.print(Text("  ").join(parts), soft_wrap=True)
    sys.stdout.flush()


def _print(found: list[dict[str, Any]], since: str, where: str, format_: Format) -> None:
    if format_ is Format.JSON:
        print_json(found)
    elif format_ is Format.CSV:
        print_csv(list(_COLUMNS), [list(one.values()) for one in found])
    else:
        period = "of all time" if since == "all" else f"since {since}"
        if found:
            out.print(_table(found) if out.width >= _TABLE_WIDTH else _paragraphs(found))
            out.print(_kinds(found))
        still = sum(one["state"] == "open" for one in found)
        out.print(f"{len(found)} finding{'' if len(found) == 1 else 's'} {period}, {still} open")
        err.print(f"[dim]from {where}[/]")


def _table(found: list[dict[str, Any]]) -> Table:
    """The findings; sentences fold where there is no room for them."""
    from rich import box
    from rich.table import Table

    table = Table(header_style="bold", box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False, expand=True)
    table.add_column("Severity", no_wrap=True, min_width=8)
    table.add_column("When (UTC)", no_wrap=True, min_width=11)
    table.add_column("Kind", overflow="fold", min_width=10)
    table.add_column("About", overflow="fold", min_width=10)
    table.add_column("What", overflow="fold", min_width=16, ratio=1)
    costs = ["" if one["cost_usd"] is None else glance(one["cost_usd"]) for one in found]
    table.add_column("USD", justify="right", no_wrap=True, min_width=max(map(len, costs)))
    for one, cost in zip(found, costs, strict=True):
        style = "dim" if one["state"] != "open" else ""
        message = _plain(one["message"] + (f" ({one['resolution']})" if one["resolution"] else ""))
        about = _plain(_subject(one, "\n"))
        table.add_row(_severity(one), _when(one), _plain(one["kind"]), about, message, cost, style=style)
    return table


def _paragraphs(found: list[dict[str, Any]]) -> Text:
    """The findings where a table would be all folds: what, when and how much on a line, whom and why below it."""
    from rich.text import Text

    parts = []
    for one in found:
        cost = f"{glance(one['cost_usd'])} USD" if one["cost_usd"] is not None else ""
        head = Text("  ").join([_severity(one), _when(one), Text(_plain(one["kind"]).plain, style="bold")])
        if cost:
            gap = out.width - head.cell_len - len(cost)
            head.append(" " * gap + cost if gap > 1 else f"\n  {cost}")
        said = one["message"] + (f" ({one['resolution']})" if one["resolution"] else "")
        lines = [_plain(_subject(one, ", ")), _plain(said)]
        body = [Text("  ") + piece for line in lines for piece in line.wrap(out, max(out.width - 2, 20))]
        parts.append(Text("\n").join([head, *body]))
        if one["state"] != "open":
            parts[-1].stylize("dim")
    return Text("\n\n").join(parts) + Text("\n")


def _kinds(found: list[dict[str, Any]]) -> Table:
    """When findings of each kind were first seen, over the time of all that are shown."""
    from rich.table import Table

    moments = [datetime.fromisoformat(one["first_seen"]).timestamp() for one in found]
    start = min(moments)
    width = max(max(moments) - start, 1) / (_TREND - 1)
    by_kind: dict[str, list[float]] = {}
    for one, at in zip(found, moments, strict=True):
        by_kind.setdefault(one["kind"], [0.0] * _TREND)[int((at - start) / width)] += 1
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for kind, trend in sorted(by_kind.items(), key=lambda item: -sum(item[1])):
        table.add_row(_plain(kind), f"{sum(trend):.0f}", f"[cyan]{spark(trend)}[/]")
    return table


def _severity(one: dict[str, Any]) -> Text:
    from rich.text import Text

    if one["state"] != "open":
        return Text("resolved", style="green")
    return Text(one["severity"].ljust(8), style=_STYLES.get(one["severity"], ""))


def _when(one: dict[str, Any]) -> Text:
    """`11-24 12:05`: when it was first seen."""
    return _plain(one["first_seen"][5:16].replace("T", " "))


def _subject(one: dict[str, Any], between: str = " ") -> str:
    return between.join(f"{name}={value}" for name, value in one["subject"].items())


def _plain(text: str) -> Text:
    """A text of the ledger, without what a terminal would act upon."""
    from rich.text import Text

    return Text("".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text))
