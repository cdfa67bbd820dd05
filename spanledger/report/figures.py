"""What a report says: its figures, asked once, so that every part of it speaks of the same calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from exporters.clickhouse.hourly import MODEL
from exporters.clickhouse.schema import HOURLY_TABLE

#: Rows of one read-only statement. Whole numbers and decimals may be texts, as ClickHouse's JSON writes them.
Query = Callable[[str], Sequence[Sequence[Any]]]
OTHERS = "(all others)"
#: What spend is ranked by: column of the hourly sums → what stands for none.
RANKED = {"Team": "(unattributed)", "App": "(unattributed)", "Model": "(unknown)"}
_SERIES = 8
_LINES = 10
_CALLS = 10
_FINDINGS = 15


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums of the period."""

    usd: Decimal
    saved_usd: Decimal
    calls: int
    failed: int
    unpriced: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Rank:
    """A line of a ranking. `before_usd`: in the period before."""

    name: str
    usd: Decimal
    before_usd: Decimal
    calls: int


@dataclass(frozen=True, slots=True)
class Call:
    """A single call, one of the most expensive."""

    at: str
    team: str
    app: str
    model: str
    tokens: int
    usd: Decimal
    trace_id: str


@dataclass(frozen=True, slots=True)
class Finding:
    at: str
    severity: str
    open: bool
    kind: str
    message: str
    usd: Decimal | None


@dataclass(frozen=True, slots=True)
class Figures:
    """All of a report. `trend`: per series (team), USD in each step from `start`; the dearest first. `before_usd`: of as long a
    period right before; 0 where the ledger does not go back that far."""

    start: datetime
    end: datetime
    step: timedelta
    totals: Totals
    before_usd: Decimal
    trend: dict[str, list[float]]
    ranks: dict[str, list[Rank]]
    calls: list[Call]
    findings: list[Finding]
    unpriced: list[tuple[str, int]]  # model, calls


def ask(query: Query, start: datetime, end: datetime) -> Figures:
    """The figures from `start` to `end`, UTC. Sums are of whole hours: the period begins at `start`'s."""
    start = start.replace(minute=0, second=0, microsecond=0)
    step = next((s for s in (timedelta(hours=1), timedelta(hours=6)) if (end - start) / s <= 48), timedelta(days=1))
    if step >= timedelta(days=1):
        start = start.replace(hour=0)
    hours = f"Hour >= {_time(start)} AND Hour < {_time(end)}"
    # Every part of these statements stands in this file or is a time.
    earlier = _time(start - (end - start))
    ((younger,),) = query(f"SELECT toString(toUInt8(min(Hour) > {earlier})) FROM {HOURLY_TABLE}")  # noqa: S608
    # A period of which the ledger has a part only compares with nothing.
    before = "0" if str(younger) == "1" else f"Hour >= {earlier} AND Hour < {_time(start)}"
    (row,) = query(
        f"SELECT sum(CostUSD), sum(CacheSavingsUSD), sum(Calls), sum(FailedCalls), sum(UnpricedCalls), sum(InputTokens), "  # noqa: S608
        f"sum(CacheReadTokens), sum(OutputTokens) FROM {HOURLY_TABLE} WHERE {hours}"
    )
    totals = Totals(_usd(row[0]), _usd(row[1]), *(int(value or 0) for value in row[2:]))
    ((before_usd,),) = query(f"SELECT sum(CostUSD) FROM {HOURLY_TABLE} WHERE {before}")  # noqa: S608
    ranks = {column: _ranks(query, column, hours, before) for column in RANKED}
    steps = max(int(-(-(end - start) // step)), 1)
    return Figures(
        start, end, step, totals, _usd(before_usd),
        _trend(query, [rank.name for rank in ranks["Team"][:_SERIES]], hours, start, step, steps),
        ranks, _expensive(query, start, end), _findings(query, start, end), _unpriced(query, start, end, totals.unpriced),
    )  # fmt: skip


def _ranks(query: Query, column: str, hours: str, before: str) -> list[Rank]:
    rows = query(
        f"SELECT toString({column}) AS name, sumIf(CostUSD, {hours}) AS usd, sumIf(CostUSD, {before}), sumIf(Calls, {hours}) AS calls "  # noqa: S608
        f"FROM {HOURLY_TABLE} WHERE ({hours}) OR ({before}) GROUP BY name HAVING calls > 0 ORDER BY usd DESC NULLS LAST, calls DESC, name LIMIT {_LINES}"
    )
    return [Rank(name or RANKED[column], _usd(usd), _usd(earlier), int(calls)) for name, usd, earlier, calls in rows]


def _trend(query: Query, names: list[str], hours: str, start: datetime, step: timedelta, steps: int) -> dict[str, list[float]]:  # fmt: skip
    """USD of the dearest teams in each step, and of all others together."""
    seconds = int(step.total_seconds())
    rows = query(
        f"SELECT toString(Team), intDiv(toUnixTimestamp(Hour) - {int(start.timestamp())}, {seconds}) AS step, sum(CostUSD) "  # noqa: S608
        f"FROM {HOURLY_TABLE} WHERE {hours} GROUP BY Team, step ORDER BY step, Team"
    )
    found: dict[str, list[float]] = {name: [0.0] * steps for name in (*names, OTHERS)}
    for team, number, usd in rows:
        name = team or RANKED["Team"]
        found[name if name in names else OTHERS][int(number)] += float(usd or 0)
    return {name: values for name, values in found.items() if any(values)}


def _expensive(query: Query, start: datetime, end: datetime) -> list[Call]:
    rows = query(
        f"SELECT formatDateTime(Timestamp, '%Y-%m-%d %H:%i:%S', 'UTC'), Team, App, {MODEL}, ifNull(InputTokens, 0) + ifNull(OutputTokens, 0), CostUSD, TraceId "  # noqa: S608
        f"FROM llm_calls WHERE {_calls(start, end)} AND CostUSD > 0 ORDER BY CostUSD DESC, CallId LIMIT {_CALLS}"
    )
    return [Call(at, team or RANKED["Team"], app or RANKED["App"], model or RANKED["Model"], int(tokens), _usd(usd), trace) for at, team, app, model, tokens, usd, trace in rows]  # fmt: skip


def _findings(query: Query, start: datetime, end: datetime) -> list[Finding]:
    """Those of the period, the gravest first: open before resolved, then by severity."""
    rows = query(
        "SELECT formatDateTime(FirstSeen, '%Y-%m-%d %H:%i', 'UTC'), Severity, State = 'open', Kind, Message, CostUSD FROM llm_findings "  # noqa: S608
        f"WHERE FirstSeen < {_time(end)} AND LastSeen >= {_time(start)} "
        f"ORDER BY State = 'open' DESC, indexOf(['critical', 'warning', 'info'], toString(Severity)), LastSeen DESC, FindingId LIMIT {_FINDINGS}"
    )
    return [
        Finding(at, severity, bool(int(still)), kind, message, None if usd is None else _usd(usd))
        for at, severity, still, kind, message, usd in rows
    ]


def _unpriced(query: Query, start: datetime, end: datetime, calls: int) -> list[tuple[str, int]]:
    if not calls:
        return []
    rows = query(
        f"SELECT {MODEL} AS model, count() AS n FROM llm_calls WHERE {_calls(start, end)} AND CostUSD IS NULL AND StatusCode != 'Error' "  # noqa: S608
        f"GROUP BY model ORDER BY n DESC, model LIMIT {_LINES}"
    )
    return [(model or RANKED["Model"], int(n)) for model, n in rows]


def _calls(start: datetime, end: datetime) -> str:
    return f"Timestamp >= {_time(start)} AND Timestamp < {_time(end)}"


def _time(when: datetime) -> str:
    return f"toDateTime('{when:%Y-%m-%d %H:%M:%S}', 'UTC')"


def _usd(value: Any) -> Decimal:
    return Decimal(str(value or 0))
