"""Where costs are summed from: hourly sums for the whole hours of a period, calls for what is left of it at both ends.

Both sums are exact, so their total is that of the calls to the last digit. What the hourly sums are not kept by is asked of the
calls alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from exporters.clickhouse.hourly import COSTS, MODEL
from spanledger.cli.when import literal

#: Dimensions that the hourly sums have.
OF_HOURS = frozenset({"team", "app", "user", "environment", "model", "provider", "day", "hour"})
#: The same as columns; `served` is the model that a call is charged under.
_KEYS = ("Team", "App", "User", "Environment", "Provider", "served")
#: What lines are made of: name → of a call, of a movement of the sums.
_MEASURES = {
    "calls": ("1", "Calls"),
    "failed": ("StatusCode = 'Error'", "FailedCalls"),
    "priced": ("CostUSD IS NOT NULL", "PricedCalls"),
    "unpriced": (
        "CostUSD IS NULL AND StatusCode != 'Error'",
        "UnpricedCalls",
    ),  # a failed call is not billed: nothing is missing
    "input_tokens": ("toInt64(ifNull(InputTokens, 0))", "InputTokens"),
    "cache_read_tokens": ("toInt64(ifNull(CacheReadTokens, 0))", "CacheReadTokens"),
    "output_tokens": ("toInt64(ifNull(OutputTokens, 0))", "OutputTokens"),
    "cost": ("toDecimal128(ifNull(CostUSD, 0), 12)", "CostUSD"),
}
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Period:
    """From a time on and up to another, which is not in it. None: without such an end."""

    start: datetime | None
    end: datetime | None

    @property
    def where(self) -> str:
        """SQL over `Timestamp`."""
        bounds = [f"Timestamp >= {literal(self.start)}"] if self.start is not None else []
        bounds += [f"Timestamp < {literal(self.end)}"] if self.end is not None else []
        return " AND ".join(bounds) or "1"


def source(names: Sequence[str], period: Period) -> str:
    """SQL of a table of `Timestamp`, the columns of the dimensions `names`, and the measures `calls`, `failed`, `priced`,
    `unpriced`, `input_tokens`, `cache_read_tokens`, `output_tokens` and `cost`. A row is a call, or a movement of many."""
    if not set(names) <= OF_HOURS:
        return _of_calls(period)
    first = None if period.start is None else _whole(period.start + _HOUR - timedelta(microseconds=1))
    last = None if period.end is None else _whole(period.end)
    if first is not None and last is not None and first >= last:
        return _of_calls(period)
    edges = [
        Period(start, end)
        for start, end in ((period.start, first), (last, period.end))
        if start is not None and end is not None and start < end
    ]
    hours = [f"Hour >= {literal(first)}"] if first is not None else []
    hours += [f"Hour < {literal(last)}"] if last is not None else []
    columns = [*_KEYS[:-1], "Model AS served", *(f"{column} AS {name}" for name, (_, column) in _MEASURES.items())]
    sums = (
        f"(SELECT toDateTime64(Hour, 9, 'UTC') AS Timestamp, {', '.join(columns)} "  # noqa: S608
        f"FROM {COSTS.name} WHERE {' AND '.join(hours) or '1'})"
    )
    same = ", ".join(("Timestamp", *_KEYS, *_MEASURES))
    parts = (f"SELECT {same} FROM {part}" for part in (sums, *(_of_calls(edge) for edge in edges)))  # noqa: S608
    return f"({' UNION ALL '.join(parts)})"


def _of_calls(period: Period) -> str:
    measures = ", ".join(f"{sql} AS {name}" for name, (sql, _) in _MEASURES.items())
    return f"(SELECT *, {MODEL} AS served, {measures} FROM llm_calls WHERE {period.where})"  # noqa: S608


def _whole(when: datetime) -> datetime:
    return when.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
