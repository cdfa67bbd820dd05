"""Latency: how long calls take, when their first token comes, how fast tokens follow, and what fails."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from spanledger.grafana.page import page, with_filters
from spanledger.grafana.panels import COUNT, MILLISECONDS, SHARE, Column, lines, number, ranking, stacked
from spanledger.grafana.query import CALL_MODEL, FILTERS, FROM_CALLS, UNKNOWN, named, series

#: Calls that say how long they took to answer: neither failed nor replayed from the gateway's own cache.
_ANSWERED = f"{FROM_CALLS} AND c.StatusCode != 'Error' AND c.PriceStatus != 'cached_replay'"
_TIME = "$__timeInterval(c.Timestamp)"
_NAME = named(CALL_MODEL, UNKNOWN)
_QUANTILES = {"median": 0.5, "p95": 0.95, "p99": 0.99}
#: Tokens a second while tokens came. Nanoseconds; a call that was not streamed counts from its start.
_RATE = "c.OutputTokens / nullIf((c.Duration - ifNull(c.TimeToFirstToken, 0)) / 1e9, 0)"
_FROM_LEDGER = "From llm_calls: calls that were answered by a model, neither failed nor replayed by the gateway."


def _quantile(column: str, level: float) -> str:
    return f"quantile({level})(c.{column}) / 1e6"


def _over_time(column: str, source: str) -> str:
    return series(_TIME, {name: _quantile(column, level) for name, level in _QUANTILES.items()}, source)


def _by_model(column: str, level: float, source: str) -> str:
    return f"SELECT {_TIME} AS time, {_NAME} AS series, {_quantile(column, level)} AS value\n{source}\nGROUP BY time, series\nORDER BY time, series"


_STREAMED = f"{_ANSWERED} AND c.TimeToFirstToken IS NOT NULL"
_SPEED = f"SELECT {_TIME} AS time, {_NAME} AS series, median({_RATE}) AS value\n{_ANSWERED} AND c.OutputTokens > 0\nGROUP BY time, series\nORDER BY time, series"
_TABLE = f"""
SELECT {_NAME} AS Model, {named("c.Provider", UNKNOWN)} AS Provider, count() AS Calls, {_quantile("Duration", 0.5)} AS Median, {_quantile("Duration", 0.95)} AS P95,
       {_quantile("Duration", 0.99)} AS P99, {_quantile("TimeToFirstToken", 0.5)} AS FirstToken, {_quantile("TimeToFirstToken", 0.95)} AS FirstTokenP95,
       medianIf({_RATE}, c.OutputTokens > 0) AS TokensPerSecond
{_ANSWERED}
GROUP BY Model, Provider
ORDER BY Calls DESC
LIMIT 100"""
_SLOWEST = f"""
SELECT c.Timestamp AS Time, {named("c.Team")} AS Team, {named("c.App")} AS App, {_NAME} AS Model, c.OutputTokens AS Output, c.Duration / 1e6 AS Took,
       c.TimeToFirstToken / 1e6 AS FirstToken, c.TraceId AS TraceId
{_ANSWERED}
ORDER BY c.Duration DESC, c.CallId
LIMIT 20"""
_ERRORS = f"""
SELECT {_TIME} AS time, {named("c.ErrorType", "(not told)")} AS series, count() AS value
{FROM_CALLS} AND c.StatusCode = 'Error'
GROUP BY time, series
ORDER BY time, series"""
_ERROR_SHARE = f"""
SELECT {_TIME} AS time, {named("c.Provider", UNKNOWN)} AS series, countIf(c.StatusCode = 'Error') / count() AS value
{FROM_CALLS}
GROUP BY time, series
ORDER BY time, series"""
_MS = tuple(Column(name, MILLISECONDS, width=110) for name in ("Median", "P95", "P99", "FirstToken", "FirstTokenP95"))


def build() -> dashboard.Dashboard:
    from spanledger.grafana.overview import TRACE_COLUMN

    board = page("latency", "latency", "How long calls take, when the first token comes, how fast tokens follow, what fails.", since="now-24h")  # fmt: skip
    return (
        with_filters(board, FILTERS)
        .with_panel(number("Duration, median", f"Half of the calls took no longer, start to end. {_FROM_LEDGER}", f"SELECT {_quantile('Duration', 0.5)} AS ms {_ANSWERED}", MILLISECONDS))
        .with_panel(number("Duration, p95", f"95% of the calls took no longer. {_FROM_LEDGER}", f"SELECT {_quantile('Duration', 0.95)} AS ms {_ANSWERED}", MILLISECONDS))
        .with_panel(number("First token, median", f"Start to the first chunk of the answer, of streamed calls that tell it. {_FROM_LEDGER}", f"SELECT {_quantile('TimeToFirstToken', 0.5)} AS ms {_STREAMED}", MILLISECONDS))
        .with_panel(number("First token, p95", f"Of streamed calls that tell it. {_FROM_LEDGER}", f"SELECT {_quantile('TimeToFirstToken', 0.95)} AS ms {_STREAMED}", MILLISECONDS))
        .with_panel(number("Output tokens a second", f"Median over calls: output tokens by the time from the first token to the end; by all of the time where a call tells no first token. {_FROM_LEDGER}", f"SELECT median({_RATE}) AS TokensPerSecond {_ANSWERED} AND c.OutputTokens > 0", COUNT, decimals=1))
        .with_panel(number("Failed", "Share of all calls that failed. From llm_calls.", f"SELECT countIf(c.StatusCode = 'Error') / nullIf(count(), 0) AS Failed {FROM_CALLS}", SHARE, decimals=1, steps={0.02: "orange", 0.1: "red"}))
        .with_panel(lines("Duration", f"Start to end of a call. {_FROM_LEDGER}", _over_time("Duration", _ANSWERED), MILLISECONDS))
        .with_panel(lines("Time to first token", f"Of streamed calls that tell it. {_FROM_LEDGER}", _over_time("TimeToFirstToken", _STREAMED), MILLISECONDS))
        .with_panel(lines("Duration by model, p95", f"{_FROM_LEDGER}", _by_model("Duration", 0.95, _ANSWERED), MILLISECONDS))
        .with_panel(lines("Time to first token by model, p95", f"Of streamed calls that tell it. {_FROM_LEDGER}", _by_model("TimeToFirstToken", 0.95, _STREAMED), MILLISECONDS))
        .with_panel(lines("Output tokens a second by model", f"Median over calls. {_FROM_LEDGER}", _SPEED, COUNT, decimals=1))
        .with_panel(lines("Failed by provider", "Share of the calls that failed. From llm_calls.", _ERROR_SHARE, SHARE, decimals=1))
        .with_panel(ranking("Models and providers", f"{_FROM_LEDGER} FirstToken: streamed calls only.", _TABLE, (*_MS, Column("TokensPerSecond", COUNT, 1, 140), Column("Calls", COUNT, width=90)), width=24))
        .with_panel(stacked("Errors by type", "error.type of the calls that failed, or their HTTP status. From llm_calls.", _ERRORS, COUNT, interval="1m"))
        .with_panel(ranking("Slowest calls", f"A click on the trace id shows what happened. {_FROM_LEDGER}", _SLOWEST, (Column("Took", MILLISECONDS, width=110), Column("FirstToken", MILLISECONDS, width=110), Column("Output", COUNT, width=90), TRACE_COLUMN)))
    )  # fmt: skip
