"""Models: what was asked for and what served, what they cost, what has no price, what fails."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from spanledger.grafana.overview import HOURLY, UNPRICED
from spanledger.grafana.page import page, with_filters
from spanledger.grafana.panels import CALL, COUNT, SHARE, TOKENS, USD, WARN, Column, lines, number, ranking, stacked
from spanledger.grafana.query import (
    CALL_MODEL,
    COST,
    FILTERS,
    FROM_CALLS,
    FROM_HOURS,
    UNKNOWN,
    named,
    ten_greatest,
    usd,
)
from spanledger.grafana.routing import PREMIUM_CALLS, PREMIUM_SPEND, TIERS

_NAME = named("h.Model", UNKNOWN)
_CALL_NAME = named(CALL_MODEL, UNKNOWN)
#: Served by another name than was asked for, but for the date that providers put behind it.
_ELSEWHERE = "c.RequestModel != '' AND (c.ResponseModel NOT IN ('', c.RequestModel) OR c.UpstreamModel NOT IN ('', c.RequestModel))"


def _stack(value: str) -> str:
    return ten_greatest("toString(h.Model)", value, UNKNOWN)


def _over_time(value: str, known: str) -> str:
    return f"""
SELECT $__timeInterval(h.Hour) AS time, {_NAME} AS series, {value} AS value
{FROM_HOURS}
GROUP BY time, series
HAVING {known}
ORDER BY time, series"""


_PER_CALL = _over_time(f"{usd(COST)} / sum(h.PricedCalls)", "sum(h.PricedCalls) > 0")
_PER_1K = _over_time(
    f"1000 * {usd(COST)} / (sum(h.InputTokens) + sum(h.OutputTokens))",
    "sum(h.PricedCalls) > 0 AND sum(h.InputTokens) + sum(h.OutputTokens) > 0",
)
_MODELS = f"""
SELECT {_NAME} AS Model, {named("h.Provider", UNKNOWN)} AS Provider, sum(h.Calls) AS Calls, sum(h.FailedCalls) / nullIf(Calls, 0) AS Failed,
       sum(h.UnpricedCalls) AS Unpriced, sum(h.InputTokens) AS Input, sum(h.CacheReadTokens) / nullIf(sum(h.InputTokens), 0) AS Cached,
       sum(h.OutputTokens) AS Output, {usd(COST)} AS USD, USD / nullIf(sum(h.PricedCalls), 0) AS PerCall,
       1000 * USD / nullIf(sum(h.InputTokens) + sum(h.OutputTokens), 0) AS Per1k
{FROM_HOURS}
GROUP BY Model, Provider
HAVING sum(h.Calls) != 0
ORDER BY USD DESC NULLS LAST, Calls DESC
LIMIT 100"""
_SERVED = f"""
SELECT c.RequestModel AS Requested, {named("c.UpstreamModel", "(as requested)")} AS Upstream, {named("c.ResponseModel", "(not told)")} AS Answered,
       {named("c.Provider", UNKNOWN)} AS Provider, count() AS Calls, {usd("sum(c.CostUSD)")} AS USD, max(c.Timestamp) AS LastSeen
{FROM_CALLS} AND {_ELSEWHERE}
GROUP BY Requested, Upstream, Answered, Provider
ORDER BY Calls DESC
LIMIT 50"""
_WITHOUT_PRICE = f"""
SELECT {named("c.Provider", UNKNOWN)} AS Provider, {_CALL_NAME} AS Model, c.PriceStatus AS Status, count() AS Calls,
       sum(c.InputTokens) AS Input, sum(c.OutputTokens) AS Output, max(c.Timestamp) AS LastSeen
{FROM_CALLS} AND c.CostUSD IS NULL AND c.StatusCode != 'Error'
GROUP BY Provider, Model, Status
ORDER BY Calls DESC
LIMIT 50"""
_ASSUMED = f"""
SELECT c.PriceStatus AS Status, if(empty(c.PriceAssumptions), 'exact', arrayStringConcat(c.PriceAssumptions, ', ')) AS RestsOn, count() AS Calls,
       {usd("sum(c.CostUSD)")} AS USD
{FROM_CALLS}
GROUP BY Status, RestsOn
ORDER BY Calls DESC
LIMIT 50"""
_REPORTED = f"""
SELECT {_CALL_NAME} AS Model, count() AS Calls, {usd("sum(c.ReportedCostUSD)")} AS Reported, {usd("sum(c.ListCostUSD)")} AS List,
       {usd("sum(c.ReportedCostUSD - c.ListCostUSD)")} AS Difference
{FROM_CALLS} AND c.ReportedCostUSD IS NOT NULL AND c.ListCostUSD IS NOT NULL
GROUP BY Model
ORDER BY abs(Difference) DESC
LIMIT 50"""
_FAILURES = f"""
SELECT {_CALL_NAME} AS Model, {named("c.Provider", UNKNOWN)} AS Provider, {named("c.ErrorType", "(not told)")} AS Error, count() AS Calls, max(c.Timestamp) AS LastSeen
{FROM_CALLS} AND c.StatusCode = 'Error'
GROUP BY Model, Provider, Error
ORDER BY Calls DESC
LIMIT 50"""
_MONEY = (Column("USD", USD, CALL, 130), Column("Calls", COUNT, width=90))
_OF_TOKENS = (Column("Input", TOKENS, width=100), Column("Output", TOKENS, width=100), Column("Calls", COUNT, width=90))


def build() -> dashboard.Dashboard:
    board = page(
        "models", "models", "Which models serve, what they cost a call and a token, what has no price, what fails."
    )
    return (
        with_filters(board, FILTERS)
        .with_panel(stacked("Calls by model", f"The model that a call is charged under: what the gateway asked its provider for, else who answered. The ten with the most, and (all others). {HOURLY}", _stack("sum(h.Calls)"), COUNT))
        .with_panel(stacked("Spend by model", f"USD. The ten dearest, and (all others). {HOURLY}", _stack(usd(COST)), USD, decimals=4))
        .with_panel(lines("Price per call", f"Known cost by the calls that have one, USD. {HOURLY}", _PER_CALL, USD, decimals=CALL, interval="1h"))
        .with_panel(lines("Price per 1,000 tokens", f"Known cost by all tokens, input and output together, USD: rises with longer answers and falls with caching. {HOURLY}", _PER_1K, USD, decimals=CALL, interval="1h"))
        .with_panel(ranking("Models", f"Failed and Cached are shares of calls and of input tokens; Per1k is USD for 1,000 tokens, input and output together. {HOURLY}", _MODELS, (Column("Failed", SHARE, 1, 90), Column("Cached", SHARE, 1, 90), Column("USD", USD, 4, bar=True), Column("PerCall", USD, CALL, 130), Column("Per1k", USD, CALL, 130), Column("Unpriced", COUNT, width=90), *_OF_TOKENS), width=24, height=10))
        .with_panel(ranking("Requested, and served by another", "Aliases, fallbacks and silent substitutions: what clients asked for, what the gateway asked its provider for, who answered. From llm_calls.", _SERVED, _MONEY, width=24))
        .with_panel(stacked("Failed calls by model", f"The ten with the most, and (all others). {HOURLY}", _stack("sum(h.FailedCalls)"), COUNT, width=12))
        .with_panel(ranking("Failures", "error.type of the calls that failed, or their HTTP status. From llm_calls.", _FAILURES, (Column("Calls", COUNT, width=90),)))
        .with_panel(number("Premium share of calls", "Served by a model of quality tier 1, of those whose tier is known. From llm_calls; the processor routing tells tiers.", PREMIUM_CALLS, SHARE, decimals=1, width=4, none="no tiers"))
        .with_panel(number("Premium share of spend", "Of the cost of calls whose model's tier is known. From llm_calls; the processor routing tells tiers.", PREMIUM_SPEND, SHARE, decimals=1, width=4, none="no tiers"))
        .with_panel(stacked("Spend by quality tier", "USD. 1 is the makers' best; `tiers` of the processor routing says which model is which. From llm_calls.", TIERS, USD, decimals=4, width=16, height=8))
        .with_panel(number("Calls without a price", f"Calls that did not fail and have no known cost. {HOURLY}", UNPRICED, COUNT, steps=WARN))
        .with_panel(ranking("What has no price", "unpriced_model: give it one by `overrides` of the processor pricing. missing_usage: no span told the tokens. From llm_calls.", _WITHOUT_PRICE, _OF_TOKENS, width=20))
        .with_panel(ranking("What prices rest on", "exact: nothing was assumed. Else what no span told and the price supposes. From llm_calls.", _ASSUMED, _MONEY))
        .with_panel(ranking("The gateway's own cost against the list price", "Calls whose gateway or SDK told a cost: theirs, and ours before discounts. From llm_calls.", _REPORTED, (Column("Calls", COUNT, width=90), *(Column(name, USD, CALL, 130) for name in ("Reported", "List", "Difference")))))
    )  # fmt: skip
