"""What is drawn of a finding: the measure that it is about, by its kind; for kinds whose measure the ledger does not have, nothing.

Sums come from the hourly sums, shares and typical values from the calls. A typical value is a geometric mean, as the
processors `behaviour` and `anomaly` have it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spanledger.ui import units
from spanledger.ui.filters import DIMENSIONS
from spanledger.ui.sql import CALL_MODEL, COST, MOVEMENTS

#: Dimensions of a subject → columns of the hourly sums, and of calls.
_OF_HOURS = {**{name: f"h.{column}" for name, column in DIMENSIONS.items()}, "user": "h.User"}
_OF_CALLS = {
    **{name: f"c.{column}" for name, column in DIMENSIONS.items()}, "user": "c.User", "model": CALL_MODEL,
    "deployment": "c.Deployment", "region": "c.Region", "api_key": "c.ApiKey", "guardrail": "c.RefusedBy",
}  # fmt: skip
#: What a subject may say beside whom it is about.
_QUALIFIERS = frozenset({"budget", "threshold"})
_LIMITED = "c.StatusCode = 'Error' AND (c.ErrorType = '429' OR c.ErrorType ILIKE '%rate%limit%' OR c.ErrorType ILIKE '%throttl%')"


@dataclass(frozen=True, slots=True)
class Measured:
    """A measure as a chart of hours. `part`: dimensions of the subject that tell the part of a share, not the whole; `{part}`
    in the SQL stands for their condition. `sums`: an hour without calls had 0 of it; of a share or a typical value nothing is
    known then."""

    title: str
    sql: str
    unit: units.Unit
    axis: units.Unit
    sums: bool = False
    part: tuple[str, ...] = ()
    requested: bool = False  # its subject's model is the one that was asked for
    days: int = 7  # of history: calls are more to read than sums

    @property
    def of_hours(self) -> bool:
        return "h." in self.sql

    def question(self, subject: Mapping[str, str]) -> tuple[str, dict[str, str]]:
        """SQL of `time` and `value` by hour between the parameters `before` and `end`, and the parameters of the subject."""
        columns = _OF_HOURS if self.of_hours else _OF_CALLS | ({"model": "c.RequestModel"} if self.requested else {})
        tests = {name: f"{columns[name]} = {{s_{name}:String}}" for name in subject}
        part = " AND ".join(test for name, test in tests.items() if name in self.part) or "1"
        whole = "".join(f" AND {test}" for name, test in tests.items() if name not in self.part)
        time, bounds = ("h.Hour", "h.Hour") if self.of_hours else ("toStartOfHour(c.Timestamp, 'UTC')", "c.Timestamp")
        source = MOVEMENTS if self.of_hours else "llm_calls AS c"
        sql = f"""SELECT {time} AS time, {self.sql.format(part=part)} AS value
FROM {source}
WHERE {bounds} >= toStartOfHour({{before:DateTime64(6, 'UTC')}}) AND {bounds} <= {{end:DateTime64(6, 'UTC')}}{whole}
GROUP BY time
ORDER BY time"""
        return sql, {f"s_{name}": value for name, value in subject.items()}


def _percent(value: float) -> str:
    return f"{value * 100:.0f}%"


def _took(value: float | None) -> str:
    return units.took(None if value is None else value * 1e9)


def _seconds(value: float) -> str:
    return f"{value:,.3g} s"


def _typical(title: str, value: str, unit: units.Unit, axis: units.Unit) -> Measured:
    return Measured(title, f"exp(avgIf(log({value}), {value} > 0 AND c.StatusCode != 'Error'))", unit, axis)


def _share(title: str, condition: str, *part: str, requested: bool = False) -> Measured:
    return Measured(title, f"countIf({condition}) / count()", units.share, _percent, part=part, requested=requested)


_SPEND = Measured("Spend", COST, units.usd, units.usd_short, sums=True, days=14)
_TOKENS = Measured("Tokens", "sum(h.InputTokens) + sum(h.OutputTokens)", units.count, units.short, sums=True, days=14)
_CALLS = Measured("Calls", "sum(h.Calls)", units.count, units.short, sums=True, days=14)
_DURATION = _typical("Typical duration", "c.Duration / 1e9", _took, _seconds)
_MEMBERS = ("deployment", "provider", "region", "api_key")
_BY_KIND = {
    "anomaly.cost": _SPEND,
    "anomaly.calls": _CALLS,
    "anomaly.new": _CALLS,
    "anomaly.single": Measured("Dearest call", "toFloat64(max(c.CostUSD))", units.usd_call, units.usd_short),
    "anomaly.cost_per_call": _typical("Typical cost of a call", "toFloat64(c.CostUSD)", units.usd_call, units.usd_short),
    "anomaly.input_tokens": _typical("Typical input of a call", "c.InputTokens", units.count, units.short),
    "anomaly.output_tokens": _typical("Typical output of a call", "c.OutputTokens", units.count, units.short),
    "anomaly.latency": _DURATION,
    "anomaly.time_to_first_token": _typical("Typical time to the first token", "c.TimeToFirstToken / 1e9", _took, _seconds),
    "anomaly.tokens_per_second": _typical("Typical output a second", "c.OutputTokens / c.Duration * 1e9", units.short, units.short),
    "anomaly.error_rate": Measured("Share of calls that fail", "sum(h.FailedCalls) / nullIf(sum(h.Calls), 0)", units.share, _percent, days=14),
    "anomaly.refusal_rate": _share("Share of calls that are refused", "c.RefusedBy != ''"),
    "anomaly.cache_hit_rate": Measured("Share of input from the cache", "sum(h.CacheReadTokens) / nullIf(sum(h.InputTokens), 0)", units.share, _percent, days=14),
    "load.skewed": _share("Share of the calls", "{part}", *_MEMBERS, requested=True),
    "load.idle": _share("Share of the calls", "{part}", *_MEMBERS, requested=True),
    "load.rate_limited": _share("Share of calls over a rate limit", _LIMITED, requested=True),
    "load.overloaded": _share("Share of calls over a rate limit", _LIMITED, requested=True),
    "guardrail.stricter": _share("Share of calls that it refuses", "{part}", "guardrail"),
}  # fmt: skip
_BUDGETS = {"USD": _SPEND, "tokens": _TOKENS, "calls": _CALLS}


def about(subject: Mapping[str, str]) -> dict[str, str]:
    """The part of a subject that tells calls apart."""
    return {name: value for name, value in subject.items() if name not in _QUALIFIERS}


def measured(kind: str, unit: str, subject: Mapping[str, str]) -> Measured | None:
    """What to draw of a finding of this kind `about` this. None where its measure is none of these, or where the sums or calls
    lack a dimension of the subject: the chart would be of more calls than the finding."""
    family = kind.partition(".")[0]
    found = _BUDGETS.get(unit) if family == "budget" else _DURATION if family == "latency" else _BY_KIND.get(kind)
    if found is None or not set(subject) <= set(_OF_HOURS if found.of_hours else _OF_CALLS):
        return None
    return found
