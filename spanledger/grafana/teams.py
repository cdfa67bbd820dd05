"""Teams: where a team's money goes, and whose keys nobody owns."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from spanledger.grafana.overview import CALL_COLUMNS, EXPENSIVE_CALLS, HOURLY, SPEND, by_spend
from spanledger.grafana.page import page, with_filters
from spanledger.grafana.panels import CALL, COUNT, SHARE, SUM, TOKENS, USD, Column, number, ranking, stacked
from spanledger.grafana.query import (
    CALL_MODEL,
    COST,
    FILTERS,
    FROM_CALLS,
    FROM_HOURS,
    UNKNOWN,
    named,
    nobodys,
    ten_greatest,
    usd,
)

_PER_CALL = f"SELECT {usd(COST)} / nullIf(sum(h.PricedCalls), 0) AS USD {FROM_HOURS}"
_CALLS = f"SELECT sum(h.Calls) AS Calls {FROM_HOURS}"
_FAILED = f"SELECT sum(h.FailedCalls) / nullIf(sum(h.Calls), 0) AS Failed {FROM_HOURS}"
_TOKENS = f"SELECT sum(h.InputTokens) + sum(h.OutputTokens) AS Tokens {FROM_HOURS}"
_CACHED = f"SELECT sum(h.CacheReadTokens) / nullIf(sum(h.InputTokens), 0) AS Cached {FROM_HOURS}"
_BREAKDOWN = f"""
SELECT {named("h.Team")} AS Team, {named("h.App")} AS App, {named("h.Environment")} AS Environment, {named("h.Model", UNKNOWN)} AS Model,
       sum(h.Calls) AS Calls, sum(h.FailedCalls) AS Failed, sum(h.UnpricedCalls) AS Unpriced, sum(h.InputTokens) AS Input,
       sum(h.CacheReadTokens) AS Cached, sum(h.OutputTokens) AS Output, {usd(COST)} AS USD
{FROM_HOURS}
GROUP BY Team, App, Environment, Model
HAVING Calls != 0
ORDER BY USD DESC NULLS LAST, Calls DESC
LIMIT 200"""
_OWNERLESS = f"""
SELECT {named("c.ApiKey", "(no key)")} AS Key, {named("c.ServiceName", UNKNOWN)} AS Service, {named("c.App")} AS App,
       {named(CALL_MODEL, UNKNOWN)} AS Model, count() AS Calls, {usd("sum(c.CostUSD)")} AS USD, max(c.Timestamp) AS LastSeen
{FROM_CALLS} AND {nobodys("c.Team")}
GROUP BY Key, Service, App, Model
ORDER BY USD DESC NULLS LAST, Calls DESC
LIMIT 50"""


def build() -> dashboard.Dashboard:
    board = page("teams", "teams", "Where a team's money goes: apps, models, users, calls; and which keys nobody owns.")
    return (
        with_filters(board, FILTERS)
        .with_panel(number("Spend", f"Known cost of the chosen calls. {HOURLY}", SPEND, USD, decimals=SUM))
        .with_panel(number("Price per call", f"Known cost by the number of calls that have one. {HOURLY}", _PER_CALL, USD, decimals=CALL))
        .with_panel(number("Calls", f"All calls, failed ones too. {HOURLY}", _CALLS, COUNT))
        .with_panel(number("Failed", f"Share of the calls that failed. {HOURLY}", _FAILED, SHARE, decimals=1, steps={0.02: "orange", 0.1: "red"}))
        .with_panel(number("Tokens", f"Input and output of all calls, cached input included. {HOURLY}", _TOKENS, TOKENS))
        .with_panel(number("Input from a cache", f"Share of the input tokens that a prompt cache gave. {HOURLY}", _CACHED, SHARE, decimals=1))
        .with_panel(stacked("Spend by team", f"USD. The ten dearest, and (all others). {HOURLY}", ten_greatest("toString(h.Team)", usd(COST)), USD, decimals=4))
        .with_panel(stacked("Spend by app", f"USD. The ten dearest, and (all others). {HOURLY}", ten_greatest("toString(h.App)", usd(COST)), USD, decimals=4))
        .with_panel(by_spend("Models by spend", "Model", UNKNOWN, "models?var-model"))
        .with_panel(by_spend("Users by spend", "User"))
        .with_panel(ranking("Who calls what", f"Unpriced: calls that did not fail and have no known cost. Cached is part of Input. {HOURLY}", _BREAKDOWN, (Column("USD", USD, 4, bar=True), *(Column(name, COUNT, width=90) for name in ("Calls", "Failed", "Unpriced", "Input", "Cached", "Output"))), width=24, height=10))
        .with_panel(ranking("Calls without a team, by key", "Give these keys or services a team: `mappings` of the processor attribution. From llm_calls.", _OWNERLESS, (Column("USD", USD, CALL, 130), Column("Calls", COUNT, width=90)), width=24, height=8))
        .with_panel(ranking("Most expensive calls", "Single calls, exact. A click on the trace id shows what happened. From llm_calls.", EXPENSIVE_CALLS, CALL_COLUMNS, width=24))
    )  # fmt: skip
