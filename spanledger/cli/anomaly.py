"""`spanledger anomaly`: the detector tried on what the ledger has."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spanledger.cli.ledger import AdminOption, DsnOption, Ledger, TokenOption, open_ledger
from spanledger.cli.shell import CommandError, ConfigOption, SetOption, err, examples, out, usage
from spanledger.cli.show import Format, print_csv, print_json
from spanledger.cli.when import literal, moment

if TYPE_CHECKING:
    import polars as pl
    from rich.table import Table
    from rich.text import Text

    from collector.columns import Column
    from processors.anomaly import AnomalyConfig
    from processors.anomaly.backtest import Backtest, Raised

app = typer.Typer(
    help="Anomalies: what a detector would have raised.",
    no_args_is_help=True,
    epilog=examples(("the last month under the config's thresholds", "spanledger anomaly backtest --since 30d")),
)

#: Calls that are asked for at once, and the time that they are of.
PAGE, WINDOW = 20_000, timedelta(hours=2)
_NAMES = ("raised", "first_seen", "last_seen", "kind", "state", "severity", "subject", "measured", "expected", "unit", "cost_usd", "message")  # fmt: skip


@app.command(
    "backtest",
    epilog=examples(
        ("the last month under the config's thresholds", "spanledger anomaly backtest --since 30d"),
        ("half as sensitive", "spanledger anomaly backtest --since 30d --set processors.anomaly.threshold=28"),
        ("for a script", "spanledger anomaly backtest --since 30d --format json"),
    ),
)
def backtest(
    since: Annotated[str, typer.Option(help="From when: 24h, 30d, 2026-11-24, 2026-11-24T12:00 (UTC), all.")] = "30d",
    until: Annotated[
        str | None, typer.Option(help="Until when, not included. Default: now.", show_default=False)
    ] = None,
    format_: Annotated[Format, typer.Option("--format", "-f", help="How to print the findings.")] = Format.TABLE,
    config: ConfigOption = None,
    set_: SetOption = None,
    dsn: DsnOption = None,
    admin: AdminOption = None,
    token: TokenOption = None,
) -> None:
    """Replay the ledger's calls through the processor `anomaly`, with the config's options, and show what it would have raised.

    It knows nothing before the first call: what the warm-up takes (a week, unless the config says otherwise) is only learnt from.
    Nothing is written anywhere.
    """
    from rich.progress import Progress

    from processors.anomaly.backtest import Backtest

    now = datetime.now(tz=UTC)
    start, end = moment(since, "--since", now), now if until is None else moment(until, "--until", now)
    if start is not None and end is not None and start >= end:
        usage("--since is not before --until")
    options = _options(config, set_)
    test, calls = Backtest(options), 0
    with open_ledger(config, set_, dsn, admin, token) as ledger:
        first, last = _span(ledger, start, end)
        if first is None or last is None:
            raise CommandError(f"there are no calls since {since} at {ledger.where}", "Ask for more: --since all.")
        windows = int((last - first) / WINDOW) + 1
        with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
            task = progress.add_task("Replaying", total=windows)
            for number in range(windows):
                for page in _pages(ledger, test.columns, first + number * WINDOW, min(first + (number + 1) * WINDOW, last)):  # fmt: skip
                    calls += len(page)
                    test.add(page)
                progress.advance(task)
    _print(test, options, calls, first, format_)


def _options(config: Path | None, overrides: list[str] | None) -> AnomalyConfig:
    """The config's own; the defaults where it has none."""
    from config import load
    from processors.anomaly import AnomalyConfig

    found = (spec.config for spec in load(config, overrides=overrides or ()).processors.values())
    return next((one for one in found if isinstance(one, AnomalyConfig)), AnomalyConfig())


def _where(start: datetime | None, end: datetime | None) -> list[str]:
    bounds = [f"Timestamp >= {literal(start)}"] if start is not None else []
    return bounds + ([f"Timestamp < {literal(end)}"] if end is not None else [])


def _span(ledger: Ledger, start: datetime | None, end: datetime | None) -> tuple[datetime | None, datetime | None]:
    """From the first call of a time to just behind the last."""
    condition = " AND ".join(_where(start, end)) or "1"
    # Its only variable parts are times that were parsed.
    answer = ledger.query(
        f"SELECT count(), toUnixTimestamp(min(Timestamp)), toUnixTimestamp(max(Timestamp)) FROM llm_calls WHERE {condition}"  # noqa: S608
    )
    count, first, last = answer.rows[0] if answer.rows else (0, 0, 0)
    if not int(count):
        return None, None
    return datetime.fromtimestamp(int(first), UTC), datetime.fromtimestamp(int(last) + 1, UTC)


def _pages(ledger: Ledger, columns: list[Column], start: datetime, end: datetime) -> Iterator[pl.DataFrame]:
    """The calls of a time, in the order of their starts, page by page."""
    from processors.routing.simulation import frame_of

    values = [f"toUnixTimestamp64Nano({c.clickhouse})" if n == 0 else str(c.clickhouse) for n, c in enumerate(columns)]
    after: list[str] = []
    while True:
        # Every part of the statement stands in this file, is a column's declared name, a time that was parsed, or the
        # start and the id of a call, in quotes.
        answer = ledger.query(
            f"SELECT {', '.join(values)}, CallId FROM llm_calls WHERE {' AND '.join([*_where(start, end), *after])} "  # noqa: S608
            f"ORDER BY Timestamp, CallId LIMIT {PAGE}"
        )
        if answer.rows:
            yield frame_of(columns, [row[:-1] for row in answer.rows])
        if len(answer.rows) < PAGE:
            return
        ns, id_ = int(answer.rows[-1][0]), str(answer.rows[-1][-1]).replace("\\", "\\\\").replace("'", "\\'")
        after = [f"(toUnixTimestamp64Nano(Timestamp), CallId) > ({ns}, '{id_}')"]


def _print(test: Backtest, options: AnomalyConfig, calls: int, first: datetime, format_: Format) -> None:
    raised = sorted(test.raised.values(), key=lambda one: (one.at_ns, one.finding.id))
    if format_ is Format.JSON:
        print_json([dict(zip(_NAMES, _values(one), strict=True)) for one in raised])
        return
    if format_ is Format.CSV:
        print_csv(_NAMES, [[_subject(one) if name == "subject" else value for name, value in zip(_NAMES, _values(one), strict=True)] for one in raised])  # fmt: skip
        return
    if raised:
        out.print(_table(raised))
    stake = sum(one.finding.cost_pico or 0 for one in raised)
    out.print(
        f"{len(raised)} finding{'' if len(raised) == 1 else 's'} over {calls:,} calls; {_usd(stake):,.2f} USD at stake.", markup=False
    )  # fmt: skip
    err.print(learnt(first, datetime.now(tz=UTC), options.warm_up), style="dim", markup=False, soft_wrap=True)


def learnt(first: datetime, now: datetime, warm_up: float) -> str:
    """What the time before the first findings was for. `warm_up` in seconds."""
    end = first + timedelta(seconds=warm_up)
    if end < now:
        return f"Until {end:%Y-%m-%d %H:%M} UTC it mostly learnt what is usual."
    return f"All this time it mostly learnt what is usual, which takes {warm_up / 86400:g} days: ask for more than that with --since."


def _values(one: Raised) -> list[Any]:
    finding = one.finding
    cost = None if finding.cost_pico is None else _usd(finding.cost_pico)
    return [
        _iso(one.at_ns), _iso(finding.first_seen_ns), _iso(finding.last_seen_ns), finding.kind, finding.state.value, finding.severity.value,
        dict(finding.subject), finding.measured, finding.expected, finding.unit, cost, finding.message,
    ]  # fmt: skip


def _subject(one: Raised) -> str:
    return " ".join(f"{name}={value}" for name, value in one.finding.subject)


def _table(raised: list[Raised]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(header_style="bold", box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False, expand=True)
    table.add_column("Raised (UTC)", no_wrap=True, min_width=11)
    table.add_column("Until", no_wrap=True, min_width=11)
    table.add_column("Kind", overflow="fold", min_width=10)
    table.add_column("What", overflow="fold", min_width=16, ratio=1)
    table.add_column("USD", justify="right", no_wrap=True)
    for one in raised:
        finding = one.finding
        end = "still open" if finding.resolved_ns is None else _iso(finding.resolved_ns)[5:16].replace("T", " ")
        cost = "" if finding.cost_pico is None else f"{_usd(finding.cost_pico):,.2f}"
        table.add_row(
            _iso(one.at_ns)[5:16].replace("T", " "), end, _printable(finding.kind), _printable(finding.message), cost
        )
    return table


def _printable(text: str) -> Text:
    """A text of the ledger, without what a terminal would act upon."""
    from rich.text import Text

    return Text("".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text))


def _iso(ns: int) -> str:
    return f"{datetime.fromtimestamp(ns / 1e9, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _usd(pico: int) -> Decimal:
    return Decimal(pico).scaleb(-12)
