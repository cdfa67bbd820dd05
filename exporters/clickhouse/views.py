"""The views: `llm_calls` and `llm_costs_hourly`, exact as they are asked, and ready answers to what people ask most.

`{calls}`, `{hourly}` … stand for the quoted names. A view over a period has a Day or Hour to filter by.
"""

from __future__ import annotations

from dataclasses import dataclass

from exporters.clickhouse import routing_views
from exporters.clickhouse.hourly import COSTS, MODEL, TRAFFIC, Sums
from exporters.clickhouse.schema import CALL_NAMES, CALLS, FINDINGS, FINDINGS_OF

#: All versions of a call lie in one partition, so none has to be merged with another's rows. The minmax index on Timestamp
#: may be used although versions differ in it: the engine reads again what an older version could have hidden.
_FINAL_SETTINGS = "do_not_merge_across_partitions_select_final = 1, use_skip_indexes_if_final = 1"


@dataclass(frozen=True, slots=True)
class View:
    """A view: its name, what it answers, its SELECT."""

    name: str
    doc: str
    select: str


_TOTALS = (
    "sum(h.Calls) AS Calls, sum(h.FailedCalls) AS FailedCalls, sum(h.UnpricedCalls) AS UnpricedCalls, "
    "sum(h.InputTokens) AS InputTokens, sum(h.CacheReadTokens) AS CacheReadTokens, sum(h.OutputTokens) AS OutputTokens, "
    "sum(h.CostUSD) AS CostUSD"
)


def _by(dimension: str) -> View:
    column = {"team": "Team", "app": "App", "user": "User", "environment": "Environment", "model": "Model", "provider": "Provider"}[dimension]  # fmt: skip
    return View(
        f"llm_costs_by_{dimension}",
        f"Cost by day and {dimension}",
        f"SELECT toDate(h.Hour) AS Day, h.{column} AS {column}, {_TOTALS} FROM {{hourly}} AS h GROUP BY Day, {column}",
    )


def _hours(sums: Sums, table: str) -> View:
    return View(sums.view, sums.doc, sums.select.format(table))


def _calls_with(found: str) -> str:
    """Distinct calls of spans by what a map of the spans names. Spans are read for it: who asks for other counts only is
    answered from what the spans' parts carry (`schema.OF_SPANS`)."""
    return f"uniqExactMapIf(mapApply((k, v) -> (k, s.CallId), s.{found}), s.CallId != '' AND notEmpty(s.{found}))"


VIEWS: tuple[View, ...] = (
    View(
        CALLS,
        "One row per call, exact as it is asked: the newest version, no withdrawn call",
        f"SELECT {', '.join(f'`{name}`' for name in CALL_NAMES)} FROM {{calls_table}} FINAL WHERE `Withdrawn` = 0 SETTINGS {_FINAL_SETTINGS}",
    ),
    _hours(COSTS, "{hourly_table}"),
    _hours(TRAFFIC, "{traffic_table}"),
    View(
        FINDINGS,
        "One row per finding, exact as it is asked: the newest version",
        f"SELECT {', '.join(f'`{field.name}`' for field in FINDINGS_OF.fields if field.name != 'Version')} FROM {{findings_table}} FINAL "
        "SETTINGS do_not_merge_across_partitions_select_final = 1",
    ),
    View("llm_costs_by_hour", "Cost by hour", f"SELECT h.Hour AS Hour, {_TOTALS} FROM {{hourly}} AS h GROUP BY Hour"),
    *(_by(dimension) for dimension in ("team", "app", "user", "environment", "model", "provider")),
    View(
        "llm_most_expensive_calls",
        "Calls with a cost, the most expensive first: give a Day or a Timestamp, and a LIMIT",
        f"SELECT Timestamp, Day, CallId, TraceId, Team, App, User, Provider, {MODEL} AS Model, InputTokens, CacheReadTokens, OutputTokens, CostUSD "
        "FROM {calls} WHERE CostUSD IS NOT NULL ORDER BY CostUSD DESC, CallId",
    ),
    View(
        "llm_most_expensive_traces",
        "What traces cost on a day, the most expensive first: give a Day, and a LIMIT",
        f"SELECT c.Day AS Day, c.TraceId AS TraceId, min(c.Timestamp) AS Start, any(c.Team) AS Team, any(c.App) AS App, count() AS Calls, "
        f"arraySort(groupUniqArray({MODEL})) AS Models, sum(c.InputTokens) AS InputTokens, sum(c.OutputTokens) AS OutputTokens, "
        "sum(c.CostUSD) AS CostUSD FROM {calls} AS c WHERE c.TraceId != '' GROUP BY Day, TraceId HAVING CostUSD IS NOT NULL "
        "ORDER BY CostUSD DESC, TraceId",
    ),
    View(
        "llm_cache_savings",
        "What prompt caching saved, by day, team and model, and which part of the input came from a cache",
        "SELECT toDate(h.Hour) AS Day, h.Team AS Team, h.Provider AS Provider, h.Model AS Model, sum(h.InputTokens) AS InputTokens, "
        "sum(h.CacheReadTokens) AS CacheReadTokens, sum(h.CacheWriteTokens) AS CacheWriteTokens, "
        "round(CacheReadTokens / nullIf(InputTokens, 0), 4) AS CachedShare, sum(h.CostUSD) AS CostUSD, "
        "sum(h.CacheSavingsUSD) AS CacheSavingsUSD FROM {hourly} AS h GROUP BY Day, Team, Provider, Model",
    ),
    View(
        "llm_unpriced_models",
        "Models that have no price, and what was used of them",
        f"SELECT c.Provider AS Provider, {MODEL} AS Model, count() AS Calls, sum(c.InputTokens) AS InputTokens, "
        "sum(c.OutputTokens) AS OutputTokens, min(c.Timestamp) AS FirstSeen, max(c.Timestamp) AS LastSeen FROM {calls} AS c "
        "WHERE c.PriceStatus = 'unpriced_model' GROUP BY Provider, Model ORDER BY Calls DESC",
    ),
    View(
        "llm_reported_against_computed",
        "Calls whose gateway or SDK reported a cost: theirs, ours, and the difference",
        f"SELECT Timestamp, CallId, Team, Provider, {MODEL} AS Model, PriceStatus, PriceAssumptions, ReportedCostUSD, CostUSD, ListCostUSD, "
        "ReportedCostUSD - ListCostUSD AS DifferenceUSD FROM {calls} WHERE ReportedCostUSD IS NOT NULL",
    ),
    View(
        "llm_requested_against_served",
        "Which models were asked for and which answered, where the two differ",
        "SELECT c.Provider AS Provider, c.RequestModel AS RequestModel, c.UpstreamModel AS UpstreamModel, c.ResponseModel AS ResponseModel, "
        "count() AS Calls, sum(c.CostUSD) AS CostUSD, min(c.Timestamp) AS FirstSeen, max(c.Timestamp) AS LastSeen FROM {calls} AS c "
        "WHERE c.RequestModel != '' AND (c.ResponseModel NOT IN ('', c.RequestModel) OR c.UpstreamModel NOT IN ('', c.RequestModel)) "
        "GROUP BY Provider, RequestModel, UpstreamModel, ResponseModel ORDER BY Calls DESC",
    ),
    View("llm_routing", "What the routing policy says of calls, by day, team, app and route, and what it would have saved", routing_views.ROUTING),
    View(
        "llm_fallbacks",
        "Attempts that failed, each with the one that answered instead: whether another model or provider did (fallback) or the same (retry), the "
        "error, the change of quality tier, the cost, and the time lost (ns)",
        routing_views.FALLBACKS,
    ),
    View(
        "llm_fallback_rates",
        "How often attempts fail over, by day, team, model asked for, model that answered, kind and error",
        routing_views.FALLBACK_RATES,
    ),
    View("llm_guardrails", "Refusals by day, team, app and who refused: a guardrail's name, or `model`", routing_views.GUARDRAILS),
    View("llm_guardrail_latency", "How long guardrails took, where they have spans of their own", routing_views.GUARDRAIL_LATENCY),
    View(
        "llm_load",
        "How the calls of a model group (the model asked for) are shared among providers, deployments, regions and keys, with failures and "
        "rate limits",
        routing_views.LOAD,
    ),
    View("llm_latency", "Where the time of calls goes: whole, to the first token, and in the gateway itself where it tells", routing_views.LATENCY),
    View(
        "llm_gateway_time",
        "How long requests took in a gateway, how much of it its calls took, and what is left: where the gateway has a server span",
        routing_views.GATEWAY_TIME,
    ),
    View(
        "llm_refused_requests",
        "Requests that a gateway refused (4xx) before it called a model, where no call's span tells: by a guardrail, for an unknown model, over a limit",
        routing_views.REFUSED,
    ),
    View(
        "llm_pii",
        "Personal data and secrets that redaction found, by day, app, team, provider and detector; InRequest…: it stood in what was sent to the "
        "provider, which has seen it before it was taken out here",
        "SELECT f.Day AS Day, f.App AS App, f.Team AS Team, f.Provider AS Provider, Detector, f.Spans[Detector] AS Spans, f.Calls[Detector] AS Calls, "
        "Hits, f.InRequestSpans[Detector] AS InRequestSpans, f.InRequestCalls[Detector] AS InRequestCalls, f.InRequestHits[Detector] AS InRequestHits "
        "FROM (SELECT toDate(s.Timestamp) AS Day, s.App AS App, s.Team AS Team, s.Provider AS Provider, countMap(s.Pii) AS Spans, sumMap(s.Pii) AS Found, "
        "countMap(s.PiiInRequest) AS InRequestSpans, sumMap(s.PiiInRequest) AS InRequestHits, "
        f"{_calls_with('Pii')} AS Calls, {_calls_with('PiiInRequest')} AS InRequestCalls FROM {{traces}} AS s GROUP BY Day, App, Team, Provider) AS f "
        "ARRAY JOIN mapKeys(f.Found) AS Detector, mapValues(f.Found) AS Hits ORDER BY Day DESC, Hits DESC",
    ),
)  # fmt: skip
