"""Frames as tables: figures to the right and aligned, names that lead somewhere, empty cells as a dash."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from spanledger.ui import units
from spanledger.ui.charts import meter
from spanledger.ui.html import Markup, Node, e

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `show`: a value as text or markup; `cell`: the whole row as markup instead; `number`: to the right;
    `minor`: left out on narrow screens; `bar`: with a bar of its share of the greatest; `sort`: the head's link."""

    name: str
    title: str
    show: Callable[[Any], Node] = lambda value: units.DASH if value in (None, "") else str(value)
    cell: Callable[[Row], Node] | None = None
    number: bool = False
    minor: bool = False
    bar: bool = False
    sort: str = ""
    sorted: bool = False


def table(frame: pl.DataFrame, columns: Sequence[Column], caption: str = "") -> Markup:
    """All rows. On narrow screens it scrolls sideways in its own box."""
    greatest = {c.name: float(frame[c.name].max() or 0) for c in columns if c.bar}  # type: ignore[arg-type]
    head = [
        e("th", e("a", c.title, href=c.sort) if c.sort else c.title, scope="col", class_=_class(c), aria_sort="descending" if c.sorted else None)
        for c in columns
    ]  # fmt: skip
    rows = [e("tr", (e("td", _cell(c, row, greatest), class_=_class(c)) for c in columns)) for row in frame.iter_rows(named=True)]  # fmt: skip
    return e("div.scroll", e("table", e("caption.sr", caption) if caption else None, e("thead", e("tr", head)), e("tbody", rows)), tabindex="0", role="region", aria_label=caption or "Table")  # fmt: skip


def _cell(column: Column, row: Row, greatest: Mapping[str, float]) -> Node:
    shown = column.cell(row) if column.cell is not None else column.show(row[column.name])
    bar = column.bar and meter(float(row[column.name] or 0), greatest[column.name])
    return e("div.bar", bar, e("span", shown)) if column.bar else shown


def _class(column: Column) -> str | None:
    return " ".join(name for name, on in (("n", column.number), ("minor", column.minor), ("barred", column.bar)) if on) or None  # fmt: skip


def facts(rows: Sequence[tuple[str, Node]]) -> Markup:
    """Names and values, one a line."""
    return e("dl.facts", [[e("dt", name), e("dd", value if value not in (None, "") else units.DASH)] for name, value in rows])  # fmt: skip


def tile(title: str, value: Node, below: Node = "", class_: str = "", href: str = "") -> Markup:
    """One figure, large."""
    inner = [e("span.name", title), e("strong", value), e("span.below", below)]
    return e("a.tile", inner, href=href, class_=class_) if href else e("div.tile", inner, class_=class_)
