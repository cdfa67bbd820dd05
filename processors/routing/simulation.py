"""History under another policy: calls as the ledger has them, and what they would have cost where the policy sends them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl

from collector import distinct
from collector.batch import Quote
from collector.columns import CALL_COLUMNS, PICO_PER_USD, START, Column, schema
from processors.routing.policy import OK, QUOTED, UNKNOWN, Columns, Policy

_BY_NAME = {column.name: column for column in CALL_COLUMNS}
NO_ROUTE = ""


@dataclass
class Line:
    """What became of the calls of one team and route. Money in pico-USD, of the calls whose both costs are known.

    changed:  calls that another model would have served
    unpriced: calls left out of the money, since what they cost or would have cost is not known
    """

    team: str
    route: str
    model: str
    calls: int = 0
    changed: int = 0
    unpriced: int = 0
    cost_pico: int = 0
    expected_pico: int = 0

    @property
    def saved_pico(self) -> int:
        """What the policy saves; below zero: spends."""
        return self.cost_pico - self.expected_pico


@dataclass
class Simulation:
    """Adds up pages of history. `lines` by team and route."""

    policy: Policy
    quote: Quote
    lines: dict[tuple[str, str], Line] = field(default_factory=dict)

    @property
    def columns(self) -> list[Column]:
        """What it needs of each call, START first."""
        names = {*QUOTED, *self.policy.columns, "team", "cost_pico", "status"} - {START.name}
        return [START, *(_BY_NAME[name] for name in sorted(names))]

    def add(self, rows: Sequence[Sequence[Any]]) -> None:
        """Calls as a query gives them, values in the order of `columns`; the start in nanoseconds."""
        if not rows:
            return
        calls = frame_of(self.columns, rows)
        route = self.policy.route(Columns(calls))
        cost, costs = distinct.integers(calls["cost_pico"])
        judged = self.policy.judge(calls, None)
        stays = (judged.verdict == OK) | (judged.verdict == UNKNOWN)
        expected, known = np.where(stays, cost, 0), stays & costs
        moved = np.flatnonzero(~stays)
        if len(moved):
            expected[moved], known[moved] = self.policy.quoted(calls[moved], route[moved], self.quote)
        both = known & costs
        billed = (
            both | (calls["status"] != "Error").fill_null(True).to_numpy()
        )  # a failed call has no cost that could be missing
        parts = pl.DataFrame({
            "team": calls["team"].fill_null(""), "route": route, "changed": ~stays & both, "unpriced": billed & ~both,
            "cost": np.where(both, cost, 0), "expected": np.where(both, expected, 0),
        })  # fmt: skip
        sums = pl.col("changed", "unpriced", "cost", "expected").sum()
        for team, number, calls_, changed, unpriced, spent, wanted in (
            parts.group_by("team", "route").agg(pl.len().alias("calls"), sums).rows()
        ):
            name = self.policy.names[number] if number >= 0 else NO_ROUTE
            model = self.policy.expected[number] if number >= 0 else ""
            line = self.lines.setdefault((team, name), Line(team, name, model))
            line.calls += calls_
            line.changed += changed
            line.unpriced += unpriced
            line.cost_pico += spent
            line.expected_pico += wanted

    @property
    def total(self) -> Line:
        """All lines together."""
        total = Line("", "", "")
        for line in self.lines.values():
            for name in ("calls", "changed", "unpriced", "cost_pico", "expected_pico"):
                setattr(total, name, getattr(total, name) + getattr(line, name))
        return total


def frame_of(columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> pl.DataFrame:
    """CALL_COLUMNS of rows as ClickHouse's JSON has them: the empty text is none, 64-bit numbers and decimals may be text."""
    given: dict[str, list[Any]] = {
        column.name: [_value(column, row[place]) for row in rows] for place, column in enumerate(columns)
    }
    known: Mapping[str, pl.DataType] = schema(CALL_COLUMNS)
    count = len(rows)
    return pl.DataFrame([
        pl.Series(name, given[name], dtype=dtype) if name in given else pl.Series(name, [None], dtype=dtype).new_from_index(0, count)
        for name, dtype in known.items()
    ])  # fmt: skip


def _value(column: Column, value: Any) -> Any:
    if value is None or value == "":
        return None
    if column.unit == "pico-USD":
        return int(Decimal(value) * PICO_PER_USD)
    if column.dtype == pl.Int64():
        return int(value)
    if column.dtype == pl.Boolean():
        return value in (True, 1, "1", "true")
    return value
