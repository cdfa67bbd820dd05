"""The overview: what is spent, on what, by whom, and whether the figure is whole."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard, table

from spanledger.grafana.page import one_of, page, with_filters
from spanledger.grafana.panels import (
    CALL,
    COUNT,
    SHARE,
    SUM,
    TOKENS,
    TRACE_LINK,
    USD,
    WARN,
    Column,
    number,
    ranking,
    stacked,
)
from spanledger.grafana.query import (
    CALL_MODEL,
    COST,
    FILTERS,
    FROM_CALLS,
    FROM_HOURS,
    MOVEMENTS,
    UNATTRIBUTED,
    UNKNOWN,
    chosen,
    named,
    nobodys,
    series,
    ten_greatest,
    usd,
)

#: What the trend can be stacked by: columns of the hourly sums.
DIMENSIONS = ("Team", "App", "Model", "Provider", "Environment", "User")
HOURLY = "From llm_costs_hourly_sums; the hour in which the period starts counts whole."

SPEND = f"SELECT {usd(COST)} AS USD {FROM_HOURS}"
CHANGE = f"""
WITH toStartOfHour($__fromTime + INTERVAL 3599 SECOND, 'UTC') AS start, toStartOfHour($__toTime, 'UTC') AS stop,
     start - toIntervalSecond(stop - start) AS earlier
SELECT toFloat64(sumIf(Cost, Now)) / nullIf(toFloat64(sumIf(Cost, NOT Now)), 0) - 1 AS Change
FROM (SELECT h.Hour >= start AS Now, sum(h.CostUSD) AS Cost FROM {MOVEMENTS} WHERE h.Hour >= earlier AND h.Hour < stop AND {chosen("h")} GROUP BY Now)"""
#: A month's pace is that of the last seven days, or of as many hours of them as there are calls for.
PROJECTED = f"""
WITH toDateTime(toStartOfMonth($__toTime, 'UTC'), 'UTC') AS month, addMonths(month, 1) AS next, $__toTime - INTERVAL 7 DAY AS week,
     greatest(1, dateDiff('hour', minIf(At, At >= week), $__toTime)) AS hours
SELECT toFloat64(sumIf(Cost, At >= month)) + toFloat64(sumIf(Cost, At >= week)) / hours * dateDiff('hour', $__toTime, next) AS Projected
FROM (SELECT h.Hour AS At, sum(h.CostUSD) AS Cost FROM {MOVEMENTS} WHERE h.Hour >= least(month, week) AND h.Hour <= $__toTime AND {chosen("h")} GROUP BY At HAVING sum(h.Calls) != 0)
HAVING countIf(At >= week) > 0"""
SAVED = f"SELECT {usd('sum(h.CacheSavingsUSD)')} AS USD {FROM_HOURS}"
UNPRICED = f"SELECT sum(h.UnpricedCalls) AS Calls {FROM_HOURS}"
_NOBODYS = nobodys("h.Team")
OF_NOBODY = f"SELECT {usd('sum(h.CostUSD)')} AS USD {FROM_HOURS} AND {_NOBODYS}"

_KEY = f"multiIf({', '.join(f'${{by:singlequote}} = {name!r}, toString(h.{name})' for name in DIMENSIONS[:-1])}, toString(h.{DIMENSIONS[-1]}))"
TREND = ten_greatest(_KEY, usd(COST), "(none)")
_HOUR = "$__timeInterval(h.Hour)"
TOKENS_TREND = series(
    _HOUR,
    {
        "Input, fresh": "sum(h.InputTokens) - sum(h.CacheReadTokens)",
        "Input, from a cache": "sum(h.CacheReadTokens)",
        "Output": "sum(h.OutputTokens)",
    },
    FROM_HOURS,
)
CALLS_TREND = series(_HOUR, {"Answered": "sum(h.Calls) - sum(h.FailedCalls)", "Failed": "sum(h.FailedCalls)"}, FROM_HOURS)  # fmt: skip
EXPENSIVE_CALLS = f"""
SELECT c.Timestamp AS Time, {named("c.Team")} AS Team, {named("c.App")} AS App, {named(CALL_MODEL, UNKNOWN)} AS Model,
       c.InputTokens AS Input, c.OutputTokens AS Output, {usd("c.CostUSD")} AS USD, c.TraceId AS TraceId
{FROM_CALLS} AND c.CostUSD IS NOT NULL
ORDER BY c.CostUSD DESC, c.CallId
LIMIT 20"""
EXPENSIVE_TRACES = f"""
SELECT min(c.Timestamp) AS Start, any({named("c.Team")}) AS Team, any({named("c.App")}) AS App, count() AS Calls,
       arrayStringConcat(arraySort(groupUniqArray({named(CALL_MODEL, UNKNOWN)})), ', ') AS Models, {usd("sum(c.CostUSD)")} AS USD, c.TraceId AS TraceId
{FROM_CALLS} AND c.TraceId != '' AND c.CostUSD IS NOT NULL
GROUP BY c.TraceId
ORDER BY USD DESC, TraceId
LIMIT 20"""

TRACE_COLUMN = Column("TraceId", link=TRACE_LINK, title="Show the trace")
CALL_COLUMNS = (Column("Input", TOKENS, width=90), Column("Output", TOKENS, width=90), Column("USD", USD, CALL, 130), TRACE_COLUMN)  # fmt: skip


def by_spend(title: str, column: str, absent: str = UNATTRIBUTED, page_and_variable: str = "") -> table.Panel:
    """Who or what costs most. A click on a name filters another dashboard by it (`page?var-variable`)."""
    sql = f"""
SELECT {named(f"h.{column}", absent)} AS Name, {usd(COST)} AS USD, sum(h.Calls) AS Calls,
       USD / nullIf(sum(h.PricedCalls), 0) AS PerCall
{FROM_HOURS}
GROUP BY Name
HAVING Calls != 0
ORDER BY USD DESC NULLS LAST, Name
LIMIT 15"""
    link = f"/d/spanledger-{page_and_variable}=${{__value.text:percentencode}}&var-datasource=${{datasource}}&${{__url_time_range}}" if page_and_variable else ""  # fmt: skip
    columns = (
        Column("Name", link=link, title="Show more"),
        Column("USD", USD, 4, bar=True),
        Column("Calls", COUNT, width=90),
        Column("PerCall", USD, CALL, width=130),
    )
    text = f"The dearest first; USD is known cost, PerCall divides it by the calls that have one. {HOURLY}"
    return ranking(title, text, sql, columns, height=8)


def build() -> dashboard.Dashboard:
    board = page("overview", "overview", "What calls to models cost, who spends it, and whether the figure is whole.")
    board = with_filters(board, FILTERS).with_variable(one_of("by", "Stack by", DIMENSIONS))
    return (
        board.with_panel(number("Spend", f"Known cost of all calls of the period. {HOURLY}", SPEND, USD, decimals=SUM))
        .with_panel(number("Change", "Spend of the period's complete hours against as many hours right before them. From llm_costs_hourly_sums.", CHANGE, SHARE, decimals=1, none="nothing before"))
        .with_panel(number("Projected month", "Spend since the first of the month (UTC) in which the period ends, and the average of the last seven days for the hours that are left. From llm_costs_hourly_sums.", PROJECTED, USD, decimals=SUM, none="no calls in 7 days"))
        .with_panel(number("Saved by prompt caching", f"What cached tokens would have cost fresh, minus what they cost. {HOURLY}", SAVED, USD, decimals=SUM))
        .with_panel(number("Calls without a price", f"Calls that did not fail and have no known cost: they are missing in every sum of money here. The dashboard Models says which they are; `overrides` of the processor pricing gives them a price. {HOURLY}", UNPRICED, COUNT, steps=WARN))
        .with_panel(number("Spend of nobody", f"Cost of calls that no team was found for: part of the spend. The dashboard Teams says which keys they came with; `mappings` of the processor attribution gives those a team. {HOURLY}", OF_NOBODY, USD, decimals=SUM, steps={0.000001: "orange"}))
        .with_panel(stacked("Spend by ${by}", f"USD. The ten dearest of the period, and (all others). {HOURLY}", TREND, USD, decimals=4, width=24, height=10))
        .with_panel(stacked("Tokens", f"All input, what came from a prompt cache apart, and all output. {HOURLY}", TOKENS_TREND, TOKENS))
        .with_panel(stacked("Calls", f"Calls that were answered, and calls that failed. {HOURLY}", CALLS_TREND, COUNT))
        .with_panel(by_spend("Teams by spend", "Team", page_and_variable="teams?var-team"))
        .with_panel(by_spend("Apps by spend", "App", page_and_variable="teams?var-app"))
        .with_panel(by_spend("Models by spend", "Model", UNKNOWN, "models?var-model"))
        .with_panel(by_spend("Users by spend", "User"))
        .with_panel(ranking("Most expensive calls", "Single calls, exact. A click on the trace id shows what happened. From llm_calls.", EXPENSIVE_CALLS, CALL_COLUMNS, width=24))
        .with_panel(ranking("Most expensive traces", "Calls of a trace that lie in the period, together: one request of an app, or one run of an agent. From llm_calls.", EXPENSIVE_TRACES, (Column("USD", USD, CALL, 130), Column("Calls", COUNT, width=80), TRACE_COLUMN), width=24))
    )  # fmt: skip
