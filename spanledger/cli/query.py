"""`spanledger query`: SQL on the ledger."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from spanledger.cli.ledger import AdminOption, DsnOption, TokenOption, open_ledger
from spanledger.cli.shell import ConfigOption, SetOption, err, examples, usage
from spanledger.cli.show import Format, rows

EPILOG = examples(
    ("the tables and views there are", "spanledger query 'SHOW TABLES'"),
    ("the five most expensive calls", "spanledger query 'SELECT Team, UpstreamModel, CostUSD FROM llm_calls ORDER BY CostUSD DESC LIMIT 5'"),
    ("for a spreadsheet", "spanledger query 'SELECT * FROM llm_calls' --format csv > calls.csv"),
    ("from a file", "spanledger query - < report.sql"),
)  # fmt: skip


def query(
    sql: Annotated[
        str,
        typer.Argument(metavar="SQL", help="One SELECT, SHOW, DESCRIBE or EXPLAIN; - reads it from standard input."),
    ],
    format_: Annotated[Format, typer.Option("--format", "-f", help="How to print the rows.")] = Format.TABLE,
    config: ConfigOption = None,
    set_: SetOption = None,
    dsn: DsnOption = None,
    admin: AdminOption = None,
    token: TokenOption = None,
) -> None:
    """Ask the ledger in SQL (ClickHouse's), while the collector runs and when it does not.

    The tables: llm_calls (one row per call), otel_traces (every span), and views over them (docs/clickhouse.md). Reading only.
    """  # fmt: skip
    statement = (sys.stdin.read() if sql == "-" else sql).strip().rstrip(";")
    if not statement:
        usage("there is no SQL", "Try: spanledger query 'SHOW TABLES'")
    with open_ledger(config, set_, dsn, admin, token) as ledger:
        answer = ledger.query(statement)
    rows(answer.columns, answer.types, answer.rows, format_)
    if format_ is Format.TABLE:
        err.print(f"[dim]{len(answer.rows):,} row{'' if len(answer.rows) == 1 else 's'} from {ledger.where}[/]")
