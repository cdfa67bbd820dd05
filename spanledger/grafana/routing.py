"""Routing: what the gateway does against its policy, what that costs, what fails over, who refuses.

Verdicts, tiers and avoidable costs come from the processor routing; without it those panels stay empty.
"""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from spanledger.grafana.overview import TRACE_COLUMN
from spanledger.grafana.page import page, with_filters
from spanledger.grafana.panels import CALL, COUNT, MILLISECONDS, SHARE, SUM, USD, Column, number, ranking, stacked
from spanledger.grafana.query import APP, CALL_MODEL, FILTERS, FROM_CALLS, TEAM, UNKNOWN, chosen, named, usd

_TIME = "$__timeInterval(c.Timestamp)"
_SOURCE = "From llm_calls, as the processor routing judged them."
_TIERED = f"{FROM_CALLS} AND c.ModelTier IS NOT NULL"
_JUDGED = f"{FROM_CALLS} AND c.RouteVerdict != ''"
PREMIUM_CALLS = f"SELECT countIf(c.ModelTier = 1) / nullIf(count(), 0) AS Premium {_TIERED}"
PREMIUM_SPEND = (
    f"SELECT {usd('sumIf(c.CostUSD, c.ModelTier = 1)')} / nullIf({usd('sum(c.CostUSD)')}, 0) AS Premium {_TIERED}"
)
#: By the model's tier, 1 the makers' best.
TIERS = f"""
SELECT {_TIME} AS time, if(c.ModelTier IS NULL, 'unknown', concat('tier ', toString(c.ModelTier), if(c.ModelTier = 1, ', premium', ''))) AS series,
       {usd("sum(c.CostUSD)")} AS USD
{FROM_CALLS} AND c.CostUSD IS NOT NULL
GROUP BY time, series
ORDER BY time, series"""
_VERDICTS = f"SELECT {_TIME} AS time, c.RouteVerdict AS series, count() AS value\n{_JUDGED}\nGROUP BY time, series\nORDER BY time, series"
_AVOIDABLE = f"""
SELECT {named("c.Team")} AS Team, {named("c.App")} AS App, c.Route AS Route, c.ExpectedModel AS Expected, {named(CALL_MODEL, UNKNOWN)} AS Served,
       c.RouteVerdict AS Verdict, count() AS Calls, {usd("sum(c.CostUSD)")} AS USD, {usd("sum(c.ExpectedCostUSD)")} AS ExpectedUSD,
       {usd("sum(c.AvoidableCostUSD)")} AS Avoidable
{_JUDGED}
GROUP BY Team, App, Route, Expected, Served, Verdict
ORDER BY Avoidable DESC NULLS LAST, Calls DESC
LIMIT 100"""
_FAILED_OVER = (
    "FROM llm_fallbacks AS f WHERE f.Day >= toDate($__fromTime, 'UTC') AND f.Day <= toDate($__toTime, 'UTC') "
    f"AND $__timeFilter(f.Timestamp) AND {chosen('f', (TEAM, APP))}"
)
_FALLBACKS = f"""
SELECT f.Kind AS Kind, {named("f.RequestModel", UNKNOWN)} AS Requested, {named("f.FailedModel", UNKNOWN)} AS Failed, {named("f.ServedModel", UNKNOWN)} AS Served,
       {named("f.ErrorType", "(not told)")} AS Error, f.TierChange AS Quality, count() AS Times, {usd("sum(f.CostUSD)")} AS USD,
       avg(f.LostTime) / 1e6 AS Lost, max(f.Timestamp) AS LastSeen, argMax(f.TraceId, f.Timestamp) AS TraceId
{_FAILED_OVER}
GROUP BY Kind, Requested, Failed, Served, Error, Quality
ORDER BY Times DESC
LIMIT 100"""
_REFUSALS = f"SELECT {_TIME} AS time, c.RefusedBy AS series, count() AS value\n{FROM_CALLS} AND c.RefusedBy != ''\nGROUP BY time, series\nORDER BY time, series"
_REFUSED = f"SELECT countIf(c.RefusedBy != '') AS Calls {FROM_CALLS}"
_LOAD = f"""
SELECT {named("c.RequestModel", UNKNOWN)} AS Requested, {named("c.Provider", UNKNOWN)} AS Provider, {named(CALL_MODEL, UNKNOWN)} AS Served,
       {named("c.Deployment", "(not told)")} AS Deployment, {named("c.Region", "(not told)")} AS Region, count() AS Calls,
       count() / sum(count()) OVER (PARTITION BY Requested) AS Share, countIf(c.StatusCode = 'Error') / count() AS Failed,
       quantile(0.95)(c.Duration) / 1e6 AS P95, {usd("sum(c.CostUSD)")} AS USD
{FROM_CALLS}
GROUP BY Requested, Provider, Served, Deployment, Region
ORDER BY Requested, Calls DESC
LIMIT 200"""


def build() -> dashboard.Dashboard:
    board = page("routing", "routing", "Whether the gateway routes as its policy says, what that costs, what fails over, who refuses.")  # fmt: skip
    return (
        with_filters(board, FILTERS)
        .with_panel(number("Avoidable cost", f"What calls cost more than the model that the policy expects for them would have. {_SOURCE}", f"SELECT {usd('sum(c.AvoidableCostUSD)')} AS USD {_JUDGED}", USD, decimals=SUM, none="no policy"))
        .with_panel(number("Off the policy", f"Share of the judged calls that another model served than their route leads to. {_SOURCE}", f"SELECT countIf(c.RouteVerdict NOT IN ('ok', 'unknown_route')) / nullIf(countIf(c.RouteVerdict != 'unknown_route'), 0) AS Off {_JUDGED}", SHARE, decimals=1, none="no policy"))
        .with_panel(number("Without a route", f"Judged calls that no route of the policy matches. {_SOURCE}", f"SELECT countIf(c.RouteVerdict = 'unknown_route') AS Calls {_JUDGED}", COUNT))
        .with_panel(number("Premium share of calls", f"Served by a model of quality tier 1, of those whose tier is known. {_SOURCE}", PREMIUM_CALLS, SHARE, decimals=1, none="no tiers"))
        .with_panel(number("Failed over", "Attempts that failed and that another model or provider answered for, or the same again. From llm_fallbacks.", f"SELECT count() AS Attempts {_FAILED_OVER}", COUNT))
        .with_panel(number("Refused", "Calls that a guardrail of the gateway refused, or the model itself. From llm_calls.", _REFUSED, COUNT))
        .with_panel(stacked("Verdicts", f"premium_instead: a dearer model served; cheaper_instead: a cheaper one; other_model: as dear, or of unknown cost; unknown_route: no route matches. {_SOURCE}", _VERDICTS, COUNT))
        .with_panel(stacked("Refusals", "By the guardrail's name, or `model`. From llm_calls.", _REFUSALS, COUNT))
        .with_panel(ranking("Expected and served", f"Avoidable: what the calls cost more than the expected model would have. {_SOURCE}", _AVOIDABLE, (Column("Avoidable", USD, CALL, bar=True), Column("USD", USD, CALL, 130), Column("ExpectedUSD", USD, CALL, 130), Column("Calls", COUNT, width=90)), width=24, height=10))
        .with_panel(ranking("Fallbacks and retries", "Attempts that failed, and who answered instead. Quality: whether the tier drops; Lost: until the next attempt began. The trace is the newest one. From llm_fallbacks.", _FALLBACKS, (Column("Times", COUNT, width=80), Column("USD", USD, CALL, 130), Column("Lost", MILLISECONDS, width=100), TRACE_COLUMN), width=24))
        .with_panel(ranking("Load", "How the calls of one model name are shared among providers, deployments and regions: hold Share against the gateway's weights. From llm_calls.", _LOAD, (Column("Share", SHARE, 1, 90), Column("Failed", SHARE, 1, 90), Column("Calls", COUNT, width=90), Column("P95", MILLISECONDS, width=100), Column("USD", USD, CALL, 130)), width=24, height=10))
    )  # fmt: skip
