"""`spanledger costs`: who spent what on which model, as a table whose lines add up to its total."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any

import typer

from exporters.clickhouse.hourly import MODEL
from spanledger.cli.cost_source import Period, source
from spanledger.cli.ledger import AdminOption, DsnOption, Ledger, TokenOption, open_ledger
from spanledger.cli.shell import CommandError, ConfigOption, SetOption, err, examples, out, usage
from spanledger.cli.show import Format, count, money, print_csv, print_json
from spanledger.cli.spark import cells, cells_sql, spark
from spanledger.cli.when import moment

if TYPE_CHECKING:
    from rich.table import Table

UNATTRIBUTED = "(unattributed)"


@dataclass(frozen=True, slots=True)
class Dimension:
    """What costs can be broken down by: the SQL, and what stands where the ledger has nothing."""

    sql: str
    heading: str
    absent: str = "(none)"


def _owner(column: str, heading: str) -> Dimension:
    return Dimension(column, heading, UNATTRIBUTED)


DIMENSIONS: dict[str, Dimension] = {
    "team": _owner("Team", "Team"),
    "app": _owner("App", "App"),
    "user": _owner("User", "User"),
    "end_user": _owner("EndUser", "End user"),
    "key": _owner("ApiKey", "API key"),
    "environment": _owner("Environment", "Environment"),
    "cost_centre": _owner("CostCentre", "Cost centre"),
    "model": Dimension(MODEL, "Model", "(unknown)"),
    "requested_model": Dimension("RequestModel", "Requested model", "(unknown)"),
    "served_model": Dimension("ResponseModel", "Served model", "(unknown)"),
    "provider": Dimension("Provider", "Provider", "(unknown)"),
    "operation": Dimension("Operation", "Operation", "(unknown)"),
    "service": Dimension("ServiceName", "Service"),
    "dialect": Dimension("Dialect", "Dialect"),
    "tier": Dimension("ServiceTier", "Tier"),
    "status": Dimension("StatusCode", "Status"),
    "price_status": Dimension("PriceStatus", "Price status"),
    "task": Dimension("TaskType", "Task type"),
    "priority": Dimension("UserPriority", "User priority"),
    "route": Dimension("Route", "Route", "(no route)"),
    "verdict": Dimension("RouteVerdict", "Route verdict"),
    "expected_model": Dimension("ExpectedModel", "Expected model"),
    "deployment": Dimension("Deployment", "Deployment"),
    "region": Dimension("Region", "Region", "(unknown)"),
    "refused_by": Dimension("RefusedBy", "Refused by", "(nobody)"),
    "conversation": Dimension("ConversationId", "Conversation"),
    "day": Dimension("toString(toDate(Timestamp, 'UTC'))", "Day (UTC)"),
    "hour": Dimension("formatDateTime(toStartOfHour(Timestamp, 'UTC'), '%Y-%m-%d %H:00', 'UTC')", "Hour (UTC)"),
}  # fmt: skip
_ALIASES = {
    "env": "environment",
    "api_key": "key",
    "end-user": "end_user",
    "cost_center": "cost_centre",
    "cost-centre": "cost_centre",
    "task_type": "task",
    "user_priority": "priority",
}
_OWNERS = ("team", "app", "user", "end_user", "key", "environment", "cost_centre")

_NAMES = ("calls", "failed", "input_tokens", "cache_read_tokens", "output_tokens", "cost_usd", "unpriced")

EPILOG = examples(
    ("who spent what on which model in the last day", "spanledger costs --by team,model"),
    ("this month, by day, for a spreadsheet", "spanledger costs --by day --since 2026-11-01 --format csv"),
    ("which calls have no price", "spanledger costs --by price_status,model --since all"),
)  # fmt: skip


def costs(
    by: Annotated[
        str, typer.Option(help=f"What to break down by, separated by commas: {', '.join(DIMENSIONS)}.")
    ] = "team,model",
    since: Annotated[
        str, typer.Option(help="From when: 90m, 24h, 7d, 2026-11-24, 2026-11-24T12:00 (UTC), all.")
    ] = "24h",
    until: Annotated[
        str | None, typer.Option(help="Until when, not included. Default: now.", show_default=False)
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=10_000, help="Lines at most; what is over is summed in one line.")
    ] = 50,
    format_: Annotated[Format, typer.Option("--format", "-f", help="How to print the lines.")] = Format.TABLE,
    config: ConfigOption = None,
    set_: SetOption = None,
    dsn: DsnOption = None,
    admin: AdminOption = None,
    token: TokenOption = None,
) -> None:
    """Show what calls cost: by team and model, or by whatever you ask for.

    Each call counts once, however many spans reported it. Money is exact: the lines add up to the total to the last
    digit. What has no owner and what has no price is said in lines of its own.
    """  # fmt: skip
    names = _dimensions(by)
    period = _period(since, until)
    with open_ledger(config, set_, dsn, admin, token) as ledger:
        report = _ask(ledger, names, period, limit)
        trends = _trends(ledger, names, period, limit) if format_ is Format.TABLE and report.total["calls"] else {}
    if format_ is Format.TABLE:
        _print(report, names, since, until, trends)
    else:
        columns = [*names, *_NAMES]
        lines = [[*keys, *(line[n] for n in _NAMES)] for keys, line in report.lines]
        if format_ is Format.CSV:
            print_csv(columns, lines)
        else:
            print_json([dict(zip(columns, line, strict=True)) for line in lines])


@dataclass(frozen=True, slots=True)
class Report:
    """The lines by dimension values, their total, and what of it has no owner and no price."""

    lines: list[tuple[list[str], dict[str, Any]]]
    total: dict[str, Any]
    unattributed_by: str
    unpriced: list[tuple[str, int, list[str]]]  # price status, calls, some models
    where: str


def _dimensions(by: str) -> list[str]:
    from difflib import get_close_matches

    names = [_ALIASES.get(name.strip(), name.strip()) for name in by.split(",") if name.strip()]
    for name in names:
        if name not in DIMENSIONS:
            match = get_close_matches(name, DIMENSIONS, n=1)
            hint = f"Did you mean {match[0]}?" if match else f"There are {', '.join(DIMENSIONS)}."
            usage(f"--by: no dimension {name!r}", hint)
    if not names or len(set(names)) != len(names):
        usage("--by: name one dimension or more, each once", f"There are {', '.join(DIMENSIONS)}.")
    return names


def _period(since: str, until: str | None) -> Period:
    now = datetime.now(tz=UTC)
    start = moment(since, "--since", now)
    end = moment(until, "--until", now) if until is not None else None
    if start is not None and end is not None and start >= end:
        usage("--since is not before --until")
    return Period(start, end)


def _keys(names: list[str]) -> tuple[str, str]:
    """SQL of the dimensions as columns, and their names."""
    return (
        ", ".join(f"toString({'served' if n == 'model' else DIMENSIONS[n].sql}) AS d{i}" for i, n in enumerate(names)),
        ", ".join(f"d{i}" for i in range(len(names))),
    )


#: The order of lines. What no call of a line has is unknown, and last.
_TOTAL = "if(sum(priced) = 0, NULL, sum(cost))"


def _ask(ledger: Ledger, names: list[str], period: Period, limit: int) -> Report:
    """Lines and total come from one query, so that they agree while calls come in."""
    owner = next((n for n in names if n in _OWNERS), "team")
    nobody = f"toString({DIMENSIONS[owner].sql}) IN ('', '{UNATTRIBUTED}')"
    measures = (
        f"sum(calls), sum(failed), sum(input_tokens), sum(cache_read_tokens), sum(output_tokens), "
        f"{_TOTAL} AS total, sum(unpriced), sumIf(calls, {nobody}), sumIf(cost, {nobody})"
    )
    keys, group = _keys(names)
    # Every part of these statements stands in this program or is a number or a time that was parsed.
    answer = ledger.query(
        f"SELECT {keys}, {measures} FROM {source([*names, owner], period)} GROUP BY {group} WITH TOTALS HAVING sum(calls) != 0 "  # noqa: S608
        f"ORDER BY total DESC NULLS LAST, sum(calls) DESC, {group} LIMIT {limit}"
    )
    width = len(names)
    lines = [
        ([v or DIMENSIONS[n].absent for n, v in zip(names, row[:width], strict=True)], _measures(row[width:]))
        for row in answer.rows
    ]
    total = _measures((answer.totals or [])[width:] or [0] * 9)
    rest = {name: total[name] - sum(line[name] for _, line in lines) for name in total}
    if any(rest.values()):
        lines.append((["(others)"] + [""] * (width - 1), rest))
    if not total["unpriced"]:
        return Report(lines, total, owner, [], ledger.where)
    unpriced = ledger.query(
        f"SELECT PriceStatus, count() AS n, groupUniqArrayIf(4)(served, served != '') FROM {source(['price_status'], period)} "  # noqa: S608
        f"WHERE unpriced GROUP BY PriceStatus ORDER BY n DESC"
    ).rows
    return Report(lines, total, owner, [(s, int(n), m) for s, n, m in unpriced], ledger.where)


#: Parts of the period that a sparkline shows.
_TREND = 12
_HOURS_MEAN_LITTLE = timedelta(days=3)
#: What lines stand for, as shown → USD in each part of the period. The total's key is empty.
Trends = dict[tuple[str, ...], list[float]]


def _trends(ledger: Ledger, names: list[str], period: Period, limit: int) -> Trends:
    """How the cost of each line went. None for a period without a beginning, or for lines that are times themselves.

    A line is a dozen characters: where each stands for many hours, what an hour had may stand in the part that the hour began in.
    """
    start, end = period.start, period.end or datetime.now(tz=UTC)
    if start is None or end <= start or {"day", "hour"} & set(names):
        return {}
    keys, group = _keys(names)
    within = Period(start, end)
    rows = source(names if end - start >= _HOURS_MEAN_LITTLE else ["call"], within)
    answer = ledger.query(
        f"SELECT {keys}, {cells_sql('cost', start, end, _TREND)} AS trend FROM {rows} GROUP BY {group} WITH TOTALS HAVING sum(calls) != 0 "  # noqa: S608
        f"ORDER BY {_TOTAL} DESC NULLS LAST, sum(calls) DESC, {group} LIMIT {limit}"
    )
    found = {
        tuple(v or DIMENSIONS[n].absent for n, v in zip(names, row, strict=False)): cells(row[-1], _TREND)
        for row in answer.rows
    }
    return {**found, (): cells(answer.totals[-1], _TREND)} if answer.totals else found


def _measures(row: list[Any]) -> dict[str, Any]:
    numbers = [value if isinstance(value, Decimal) else _number(value) for value in row]
    found: dict[str, Any] = dict(zip((*_NAMES, "unattributed", "unattributed_usd"), numbers, strict=True))
    return {**found, "cost_usd": Decimal(found["cost_usd"]), "unattributed_usd": Decimal(found["unattributed_usd"])}


def _number(value: str | int | None) -> int | Decimal:
    """64-bit integers come as text, decimals too where the server's settings say so."""
    return Decimal(value) if isinstance(value, str) and "." in value else int(value or 0)


_CELLS = (
    ("Calls", "calls"),
    ("Failed", "failed"),
    ("Input\ntokens", "input_tokens"),
    ("of it\ncached", "cache_read_tokens"),
    ("Output\ntokens", "output_tokens"),
)


def _print(report: Report, names: list[str], since: str, until: str | None, trends: Trends) -> None:
    period = (
        "of all time" if since == "all" and until is None else f"since {since}" + (f" until {until}" if until else "")
    )
    if not report.total["calls"]:
        raise CommandError(
            f"there are no calls {period} at {report.where}",
            "Fill it with `spanledger demo`, point a gateway at the collector, or ask for more: --since all.",
        )
    # No figure is ever cut: on a narrow terminal a column less is shown, and names fold where that is not enough.
    cached, failed = ("cache_read_tokens",), ("cache_read_tokens", "failed")
    nothing: Trends = {}
    choices = ((trends, ()), (trends, cached), (nothing, cached), (nothing, failed))
    everything = (nothing, tuple(key for _, key in _CELLS))
    for room, (shown, left_out) in (*product((28, 14, 8), choices), (8, everything)):
        figures = [cell for cell in _CELLS if cell[1] not in left_out and report.total[cell[1]]]
        table = _table(report, names, figures, shown, room)
        if sum(column.min_width or 0 for column in table.columns) + 2 * len(table.columns) <= out.width:
            break
    out.print(f"Costs {period}")
    out.print(table)
    total, owner = report.total, DIMENSIONS[report.unattributed_by].heading
    out.print(
        f"Without {owner if owner.startswith('API') else owner.lower()}: {count(total['unattributed'])} calls, "
        f"{money(total['unattributed_usd'])} USD [dim](part of the total)[/]",
        soft_wrap=True,
    )
    if report.unpriced:
        parts = [f"{count(n)} {status or 'unknown'}{_some(models)}" for status, n, models in report.unpriced]
        out.print(
            f"Without a price (*): {count(total['unpriced'])} calls, not in the total: {'; '.join(parts)}",
            markup=False,
            soft_wrap=True,
        )
    else:
        out.print("Without a price: 0 calls")
    err.print(f"[dim]from {report.where}[/]")


def _table(report: Report, names: list[str], figures: list[tuple[str, str]], trends: Trends, room: int) -> Table:
    """The lines; names fold where they are longer than `room` and do not fit, figures keep their width."""
    from rich import box
    from rich.table import Table

    table = Table(header_style="bold", show_footer=True, box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    total, lines = report.total, [line for _, line in report.lines]
    for i, name in enumerate(names):
        longest = max(len(keys[i]) for keys, _ in report.lines)
        width = min(longest, room)
        table.add_column(DIMENSIONS[name].heading, footer="Total" if i == 0 else "", overflow="fold", min_width=width)
    for heading, key in figures:
        shown = [count(line[key]) if line[key] else "" for line in [*lines, total]]
        width = max(map(len, [*shown, *heading.split("\n")]))
        table.add_column(heading, justify="right", footer=shown[-1], min_width=width, no_wrap=True)
    digits = max(len(f"{line['cost_usd']:f}".rstrip("0").partition(".")[2]) for line in [*lines, total])
    sum_ = _aligned(total["cost_usd"], digits)
    table.add_column(
        "Cost USD", justify="right", footer=f"[bold]{sum_}[/]", min_width=max(8, len(sum_) + 1), no_wrap=True
    )
    if trends:
        table.add_column("Trend", footer=f"[cyan]{spark(trends.get((), []))}[/]", min_width=_TREND, no_wrap=True)
    for keys, line in report.lines:
        counts = [count(line[key]) if line[key] else "" for _, key in figures]
        trend = [f"[cyan]{spark(trends.get(tuple(keys), []))}[/]"] if trends else []
        table.add_row(*map(_name, keys), *counts, _cost(line, digits), *trend)
    return table


def _cost(line: dict[str, Any], digits: int) -> str:
    if line["failed"] == line["calls"] and not line["cost_usd"]:
        return ""  # nothing was billed
    if line["unpriced"] and line["unpriced"] + line["failed"] >= line["calls"]:
        return "[dim]no price[/]"
    return _aligned(line["cost_usd"], digits) + ("[yellow]*[/]" if line["unpriced"] else "")


def _some(models: list[str]) -> str:
    return f" ({', '.join(sorted(models)[:3])}{', …' if len(models) > 3 else ''})" if models else ""


def _aligned(amount: Decimal, digits: int) -> str:
    whole, _, fraction = f"{amount:f}".partition(".")
    return f"{int(whole):,}.{fraction[: max(digits, 2)].ljust(max(digits, 2), '0')}"


def _name(text: str) -> Any:
    from rich.text import Text

    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return Text(shown, style="yellow" if text in (UNATTRIBUTED, "(unknown)") else "")
