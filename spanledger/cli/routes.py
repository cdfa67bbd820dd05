"""`spanledger routes`: a routing policy checked, and tried on what the ledger has."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spanledger.cli.ledger import AdminOption, DsnOption, Ledger, TokenOption, open_ledger
from spanledger.cli.shell import CommandError, ConfigOption, SetOption, err, examples, out, usage
from spanledger.cli.show import Format, count, money, print_csv, print_json
from spanledger.cli.when import literal, moment

if TYPE_CHECKING:
    from rich.table import Table

    from collector.columns import Column
    from processors.pricing import Pricing
    from processors.routing import PolicyConfig
    from processors.routing.simulation import Line, Simulation

app = typer.Typer(
    help="Routing policies: is one right, and what would it have saved.",
    no_args_is_help=True,
    epilog=examples(
        ("whether a policy file is right", "spanledger routes check --policy policy.yaml"),
        ("what it would have saved last week", "spanledger routes simulate --policy new.yaml --since 7d"),
    ),
)

#: Calls that are asked for at once.
PAGE = 20_000
_NAMES = ("team", "route", "model", "calls", "changed", "unpriced", "cost_usd", "expected_usd", "saved_usd")
PolicyOption = Annotated[
    Path, typer.Option("--policy", "-p", help="File with routes, rules, aliases and tiers.", show_default=False)
]


@app.command("check", epilog=examples(("before it goes into force", "spanledger routes check --policy policy.yaml")))
def check(policy: PolicyOption, config: ConfigOption = None, set_: SetOption = None) -> None:
    """Read a policy file: every mistake with line and column, and which expected models have a price today."""
    from rich.table import Table

    from collector.prices import Wanted
    from processors.routing.config import route_name

    read, pricing = _policy(policy), _pricing(config, set_)
    table = Table(header_style="bold", box=None, pad_edge=False)
    for heading in ("Route", "Model", "Priced as"):
        table.add_column(heading, overflow="fold")
    unpriced = []
    for number, route in enumerate(read.routes):
        model = read.aliases.get(route.route_to[0], route.route_to[0])
        found, _ = pricing.book.find(Wanted((model,), None, None, datetime.now(tz=UTC)))
        unpriced += [] if found else [route.route_to[0]]
        table.add_row(
            route_name(route, number), ", ".join(route.route_to), found.source if found else "[yellow]no price[/]"
        )
    out.print(table)
    out.print(f"{policy}: {len(read.routes)} routes, {len(read.rules)} rules", markup=False, soft_wrap=True)
    if unpriced:
        err.print(
            f"No price for {', '.join(dict.fromkeys(unpriced))}: calls are judged, and not compared in cost. Say under `aliases` what a name of "
            "your gateway stands for, or give a price under processors.pricing.overrides.",
            style="yellow", markup=False, soft_wrap=True,
        )  # fmt: skip


@app.command(
    "simulate",
    epilog=examples(
        ("the last week under another policy", "spanledger routes simulate --policy new.yaml --since 7d"),
        ("for a script", "spanledger routes simulate --policy new.yaml --since 30d --format json"),
    ),
)
def simulate(
    policy: PolicyOption,
    since: Annotated[str, typer.Option(help="From when: 24h, 7d, 2026-11-24, 2026-11-24T12:00 (UTC), all.")] = "7d",
    until: Annotated[
        str | None, typer.Option(help="Until when, not included. Default: now.", show_default=False)
    ] = None,
    format_: Annotated[Format, typer.Option("--format", "-f", help="How to print the lines.")] = Format.TABLE,
    config: ConfigOption = None,
    set_: SetOption = None,
    dsn: DsnOption = None,
    admin: AdminOption = None,
    token: TokenOption = None,
) -> None:
    """Price the ledger's calls as if a policy had been in force: money saved or spent, by team and route.

    Each call that a route matches and another model served is priced again with the route's model, for the same tokens, at
    the prices of that time and with the config's overrides, discounts and margins. What no route matches stays as it is.
    """
    from processors.routing import Policy
    from processors.routing.simulation import Simulation

    now = datetime.now(tz=UTC)
    start = moment(since, "--since", now)
    end = moment(until, "--until", now) if until is not None else now
    if start is not None and end is not None and start >= end:
        usage("--since is not before --until")
    simulation = Simulation(Policy(_policy(policy)), _pricing(config, set_).quote)
    if not simulation.policy.tests:
        usage(f"{policy} has no routes", "Rules say what may not be; only routes move calls.")
    with open_ledger(config, set_, dsn, admin, token) as ledger:
        for page in _pages(ledger, simulation.columns, start, end):
            simulation.add(page)
    lines = sorted(simulation.lines.values(), key=lambda line: (-abs(line.saved_pico), line.team, line.route))
    if format_ is Format.TABLE:
        if not lines:
            raise CommandError(f"there are no calls since {since} at {ledger.where}", "Ask for more: --since all.")
        out.print(_table(simulation, lines))
        _say(simulation.total)
    elif format_ is Format.CSV:
        print_csv(_NAMES, [_values(line) for line in lines])
    else:
        print_json([dict(zip(_NAMES, _values(line), strict=True)) for line in lines])


def _policy(path: Path) -> PolicyConfig:
    from config.loader import load_part
    from processors.routing import PolicyConfig

    return load_part(path, PolicyConfig)


def _pricing(config: Path | None, overrides: list[str] | None) -> Pricing:
    """The config's own prices; the book's where it has none."""
    from prometheus_client import CollectorRegistry

    from collector.component import Context
    from config import load
    from processors.pricing import Pricing, PricingConfig

    found = (spec.config for spec in load(config, overrides=overrides or ()).processors.values())
    options = next((one for one in found if isinstance(one, PricingConfig)), PricingConfig())
    return Pricing(options, Context("pricing", Path(), CollectorRegistry()))


def _pages(
    ledger: Ledger, columns: list[Column], start: datetime | None, end: datetime | None
) -> Iterator[list[list[Any]]]:
    """The calls of a time, in the order in which they lie, page by page."""
    values = [f"toUnixTimestamp64Nano({c.clickhouse})" if n == 0 else str(c.clickhouse) for n, c in enumerate(columns)]
    bounds = [f"Timestamp >= {literal(start)}"] if start is not None else []
    bounds += [f"Timestamp < {literal(end)}"] if end is not None else []
    after: list[str] = []
    while True:
        # Every part of the statement stands in this file, is a column's declared name, a time that was parsed, or the
        # day and the id of a call, in quotes.
        answer = ledger.query(
            f"SELECT {', '.join(values)}, toString(Day), CallId FROM llm_calls WHERE {' AND '.join([*bounds, *after]) or '1'} "  # noqa: S608
            f"ORDER BY Day, CallId LIMIT {PAGE}"
        )
        yield [row[:-2] for row in answer.rows]
        if len(answer.rows) < PAGE:
            return
        day, id_ = (str(text).replace("\\", "\\\\").replace("'", "\\'") for text in answer.rows[-1][-2:])
        after = [f"(Day, CallId) > (toDate('{day}'), '{id_}')"]


def _usd(pico: int) -> Decimal:
    return Decimal(pico).scaleb(-12)


def _values(line: Line) -> list[Any]:
    money_ = (_usd(line.cost_pico), _usd(line.expected_pico), _usd(line.saved_pico))
    return [line.team, line.route, line.model, line.calls, line.changed, line.unpriced, *money_]


def _table(simulation: Simulation, lines: list[Line]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    total = simulation.total
    table = Table(header_style="bold", show_footer=True, box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for heading, footer in (("Team", "Total"), ("Route", ""), ("Model", "")):
        table.add_column(heading, footer=footer, overflow="fold")
    for heading, number in (("Calls", total.calls), ("Changed", total.changed)):
        table.add_column(heading, justify="right", footer=count(number), no_wrap=True)
    for heading, pico in (
        ("Cost USD", total.cost_pico),
        ("under policy", total.expected_pico),
        ("Saved", total.saved_pico),
    ):
        table.add_column(heading, justify="right", footer=_short(pico), no_wrap=True)
    for line in lines:
        names = (line.team or "(none)", line.route or "(no route)", line.model)
        saved = Text(
            _short(line.saved_pico), style="green" if line.saved_pico > 0 else "red" if line.saved_pico < 0 else ""
        )
        figures = (count(line.calls), count(line.changed), _short(line.cost_pico), _short(line.expected_pico))
        table.add_row(*map(Text, names), *figures, saved)
    return table


def _short(pico: int) -> str:
    """Dollars to a hundredth of a cent: a simulation is no bill. JSON and CSV have every digit."""
    return f"{_usd(pico):,.4f}"


def _say(total: Line) -> None:
    saved = total.saved_pico
    verb = "saved" if saved >= 0 else "cost more:"
    share = f" ({100 * abs(saved) / total.cost_pico:.1f}%)" if total.cost_pico else ""
    out.print(f"The policy would have {verb} {money(abs(_usd(saved)))} USD{share}, for the same tokens.", markup=False)
    if total.unpriced:
        out.print(f"Not counted: {count(total.unpriced)} calls whose cost, now or then, is not known.", markup=False)
