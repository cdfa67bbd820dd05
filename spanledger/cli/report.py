"""`spanledger report`: what was spent in a period, as one HTML file for mail and for print."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from spanledger.cli.ledger import AdminOption, DsnOption, TokenOption, open_ledger
from spanledger.cli.shell import CommandError, ConfigOption, SetOption, err, examples, usage
from spanledger.cli.when import moment

EPILOG = examples(
    ("the last week", "spanledger report --since 7d -o report.html"),
    ("a month, under a title of its own", "spanledger report --since 2026-10-01 --until 2026-11-01 --title 'LLM spend, October' -o october.html"),
    ("by mail, every Monday", "spanledger report -o - | mail -a 'Content-Type: text/html' -s 'LLM spend' team@example.com"),
)  # fmt: skip


def report(
    since: Annotated[str, typer.Option(help="From when: 24h, 7d, 2026-11-24, 2026-11-24T12:00 (UTC).")] = "7d",
    until: Annotated[
        str | None, typer.Option(help="Until when, not included. Default: now.", show_default=False)
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file to write; - is standard output.")
    ] = Path("report.html"),
    title: Annotated[str, typer.Option(help="What stands above it.")] = "LLM spend",
    config: ConfigOption = None,
    set_: SetOption = None,
    dsn: DsnOption = None,
    admin: AdminOption = None,
    token: TokenOption = None,
) -> None:  # fmt: skip
    """Write a report: spend and its change, by team over time, by app and model, the most expensive calls, findings.

    One HTML file with its charts in it, without scripts and without anything to load; light and dark, and good to print. Figures of calls, no content of theirs.
    """
    from spanledger.report import ask, page

    now = datetime.now(tz=UTC)
    start = moment(since, "--since", now)
    end = now if until is None else moment(until, "--until", now)
    if start is None or end is None:
        usage("a report needs a period", "Write --since 7d, or two days: --since 2026-10-01 --until 2026-11-01.")
    if start >= end:
        usage("--since is not before --until")
    with open_ledger(config, set_, dsn, admin, token) as ledger:
        figures = ask(lambda sql: ledger.query(sql).rows, start, end)
        where = ledger.where
    text = page(figures, title, now)
    if str(output) == "-":
        sys.stdout.write(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(
            f"{output} cannot be written: {error.strerror}", "Name another file with --output."
        ) from None
    err.print(
        f"{output}: {len(text) / 1000:,.0f} kB, {figures.totals.calls:,} calls [dim]from {where}[/]", soft_wrap=True
    )


__all__ = ["EPILOG", "report"]
