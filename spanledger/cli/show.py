"""Rows as a table, as JSON, as CSV; money and counts as people read them."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Any

from rich.table import Table
from rich.text import Text

from spanledger.cli.shell import out


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def money(amount: Decimal | int | None) -> str:
    """`12.345`: to the last digit that is there, two at least, thousands apart. Nothing for None: unknown is not zero."""
    if amount is None:
        return ""
    whole, _, fraction = f"{Decimal(amount):,f}".partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(2, '0')}"


def glance(amount: Decimal) -> str:
    """Money at a glance: cents, more digits below a dollar."""
    return f"{amount:,.2f}" if amount >= 1 or not amount else f"{amount:.4f}"


def count(number: int | None) -> str:
    """`1,234`; nothing for None."""
    return "" if number is None else f"{number:,}"


def rows(columns: Sequence[str], types: Sequence[str], data: Sequence[Sequence[Any]], format_: Format) -> None:
    """Print a result. JSON is a list of objects, decimals as numbers with all their digits."""
    if format_ is Format.JSON:
        print_json([dict(zip(columns, row, strict=True)) for row in data])
    elif format_ is Format.CSV:
        print_csv(columns, data)
    else:
        table = Table(header_style="bold", box=None, pad_edge=False)
        for name, type_ in zip(columns, types, strict=True):
            numeric = any(word in type_ for word in ("Int", "Float", "Decimal")) and not type_.startswith(
                ("Array", "Map")
            )
            table.add_column(name, justify="right" if numeric else "left", overflow="fold")
        for row in data:
            table.add_row(*(_cell(value) for value in row))
        out.print(table)


def print_json(data: list[dict[str, Any]]) -> None:
    """A JSON array, one object a line."""
    sys.stdout.write("[" + ",\n ".join(as_json(row) for row in data) + "]\n")


def print_csv(columns: Sequence[str], data: Sequence[Sequence[Any]]) -> None:
    """CSV with a header line, or without columns none; nothing for NULL."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if columns:
        writer.writerow(columns)
    writer.writerows(
        [["" if v is None else v if isinstance(v, str | int | Decimal) else as_json(v) for v in r] for r in data]
    )


def as_json(value: Any) -> str:
    """JSON that keeps a decimal's digits, which `json.dumps` would put through a float."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, dict):
        return (
            "{" + ", ".join(f"{json.dumps(str(k), ensure_ascii=False)}: {as_json(v)}" for k, v in value.items()) + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(as_json, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _cell(value: Any) -> Text:
    if value is None:
        return Text("NULL", style="dim")
    if isinstance(value, str):
        return Text("".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in value))
    return Text(as_json(value))
