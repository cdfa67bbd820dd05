"""Views of what the gateway does: routes, fallbacks, guardrails, load, and where the time goes.

Attempts of one request share the span above them. They are looked at day by day, so that a Day to filter by bounds the work: a
fallback over midnight (UTC) is not among them.
"""

from __future__ import annotations

from exporters.clickhouse.hourly import MODEL

#: How long after a failed attempt ended another one may start, as the processor `routing` has it by default.
_WITHIN_NS = 120 * 10**9
#: What is known of each attempt, as an array of the attempts of its request: who asks for few of them reads few columns. Arrays
#: leave NULL out, so what may be NULL is in a tuple.
_ATTEMPTS = {
    "start": "toUnixTimestamp64Nano(c.Timestamp)", "took": "toInt64(c.Duration)", "failed": "c.StatusCode = 'Error'", "wide": "c.ReportCount > 1",
    "id": "c.CallId", "span": "c.SpanId", "team": "c.Team", "app": "c.App", "requested": "c.RequestModel", "upstream": "c.UpstreamModel",
    "model": MODEL, "provider": "c.Provider", "error": "c.ErrorType", "tier": "tuple(c.ModelTier)", "cost": "tuple(c.CostUSD)",
}  # fmt: skip


def _differ(name: str) -> str:
    """Whether a name is told of both attempts, and is another."""
    return f"({name}[f] != '' AND {name}[a] != '' AND {name}[f] != {name}[a])"


#: One row per attempt that failed and was followed by one that did not: places f and a in the arrays of the request's attempts.
#: Only requests with a failed attempt are gathered. These are found among all versions of calls, which takes no merging of
#: them: what only an older version says is sorted out afterwards. A Day that is asked for goes to both sides of the join. The
#: report of an app spans all attempts that the gateway made for it, and is one call with the one that answered: that call
#: begins before the attempt that failed.
_GATHERED = (
    f"SELECT c.Day AS Day, c.TraceId AS TraceId, {', '.join(f'groupArray({sql}) AS {name}' for name, sql in _ATTEMPTS.items())} FROM {{calls}} AS c "
    "GLOBAL LEFT SEMI JOIN (SELECT Day, cityHash64(TraceId, ParentSpanId) AS request FROM {calls_table} "
    "WHERE StatusCode = 'Error' AND ParentSpanId != '' AND TraceId != '') AS e ON c.Day = e.Day AND cityHash64(c.TraceId, c.ParentSpanId) = e.request "
    "GROUP BY Day, TraceId, c.ParentSpanId HAVING countIf(c.StatusCode = 'Error') > 0 AND countIf(c.StatusCode != 'Error') > 0"
)
_PAIRS = (
    f"SELECT *, start[f] + took[f] AS stop, arrayFirst(i -> NOT failed[i] AND ((start[i] >= start[f] AND start[i] <= stop + {_WITHIN_NS}) "
    "OR (wide[i] AND start[i] <= start[f] AND start[i] + took[i] >= stop)), places) AS a FROM (SELECT *, f FROM ("
    f"SELECT *, arraySort(i -> (start[i], id[i]), arrayEnumerate(id)) AS places FROM ({_GATHERED})) "
    "ARRAY JOIN arrayEnumerate(id) AS f WHERE failed[f]) WHERE a > 0"
)
FALLBACKS = (
    "SELECT Day, fromUnixTimestamp64Nano(start[f], 'UTC') AS Timestamp, TraceId, span[f] AS FailedSpanId, span[a] AS ServedSpanId, "
    f"if({_differ('requested')} OR {_differ('upstream')} OR {_differ('provider')}, 'fallback', 'retry') AS Kind, "
    "team[f] AS Team, app[f] AS App, requested[f] AS RequestModel, model[f] AS FailedModel, provider[f] AS FailedProvider, "
    "error[f] AS ErrorType, requested[a] AS ServedRequestModel, model[a] AS ServedModel, provider[a] AS ServedProvider, "
    "tier[f].1 AS FailedTier, tier[a].1 AS ServedTier, "
    "multiIf(FailedTier IS NULL OR ServedTier IS NULL, 'unknown', ServedTier > FailedTier, 'drop', ServedTier < FailedTier, 'rise', 'same') AS TierChange, "
    f"cost[a].1 AS CostUSD, greatest(start[a] - start[f], took[f]) AS LostTime FROM ({_PAIRS})"
)
FALLBACK_RATES = (
    "SELECT f.Day AS Day, f.Team AS Team, f.RequestModel AS RequestModel, f.ServedModel AS ServedModel, f.Kind AS Kind, f.ErrorType AS ErrorType, "
    "f.TierChange AS TierChange, count() AS Attempts, round(Attempts / any(c.Calls), 4) AS ShareOfCalls, sum(f.CostUSD) AS CostUSD, "
    f"round(avg(f.LostTime) / 1e9, 3) AS LostSeconds FROM ({FALLBACKS}) AS f INNER JOIN (SELECT Day, Team, RequestModel, count() AS Calls "
    "FROM {calls} GROUP BY Day, Team, RequestModel) AS c ON c.Day = f.Day AND c.Team = f.Team AND c.RequestModel = f.RequestModel "
    "GROUP BY Day, Team, RequestModel, ServedModel, Kind, ErrorType, TierChange ORDER BY Day DESC, Attempts DESC"
)
ROUTING = (
    "SELECT c.Day AS Day, c.Team AS Team, c.App AS App, c.Route AS Route, c.ExpectedModel AS ExpectedModel, "
    f"{MODEL} AS Model, c.RouteVerdict AS RouteVerdict, count() AS Calls, sum(c.CostUSD) AS CostUSD, "
    "sum(c.ExpectedCostUSD) AS ExpectedCostUSD, sum(c.AvoidableCostUSD) AS AvoidableCostUSD FROM {calls} AS c WHERE c.RouteVerdict != '' "
    "GROUP BY Day, Team, App, Route, ExpectedModel, Model, RouteVerdict ORDER BY Day DESC, AvoidableCostUSD DESC"
)
GUARDRAILS = (
    "SELECT Day, Team, App, Refused.1 AS RefusedBy, Refused.2 AS Refusals, Calls, round(Refusals / Calls, 4) AS ShareOfCalls, "
    "Refused.3 AS LastSeen FROM (SELECT Day, Team, App, sum(Part) AS Calls, groupArrayIf(tuple(By, Part, Seen), By != '') AS Refusers "
    "FROM (SELECT c.Day AS Day, c.Team AS Team, c.App AS App, c.RefusedBy AS By, count() AS Part, max(c.Timestamp) AS Seen FROM {calls} AS c "
    "GROUP BY Day, Team, App, By) GROUP BY Day, Team, App) ARRAY JOIN Refusers AS Refused ORDER BY Day DESC, Refusals DESC"
)
#: By their names, and, among the others, by what they say of themselves: only where the index of keys has that is a map read.
_GUARDRAIL = "s.SpanName ILIKE '%guardrail%'"
_OTHERS = (
    f"NOT {_GUARDRAIL} AND ((mapContains(s.SpanAttributes, 'openinference.span.kind') AND s.SpanAttributes['openinference.span.kind'] = 'GUARDRAIL') "
    "OR (mapContains(s.SpanAttributes, 'agentgateway.outbound.subtype') AND s.SpanAttributes['agentgateway.outbound.subtype'] = 'guardrail'))"
)
_RUNS = (
    "SELECT toDate(s.Timestamp) AS Day, s.ServiceName AS ServiceName, multiIf(s.SpanAttributes['guardrail_name'] != '', "
    "s.SpanAttributes['guardrail_name'], s.SpanAttributes['gen_ai.guardrail.name'] != '', s.SpanAttributes['gen_ai.guardrail.name'], s.SpanName) "
    "AS Guardrail, s.StatusCode AS StatusCode, s.Duration AS Duration FROM {traces} AS s WHERE "
)
GUARDRAIL_LATENCY = (
    "SELECT Day, ServiceName, Guardrail, count() AS Runs, countIf(StatusCode = 'Error') AS Failed, round(quantile(0.5)(Duration) / 1e6, 3) AS P50Ms, "
    "round(quantile(0.95)(Duration) / 1e6, 3) AS P95Ms, round(sum(Duration) / 1e9, 3) AS TotalSeconds "
    f"FROM ({_RUNS}{_GUARDRAIL} UNION ALL {_RUNS}{_OTHERS}) GROUP BY Day, ServiceName, Guardrail ORDER BY Day DESC, TotalSeconds DESC"
)
LOAD = (
    "SELECT Day, RequestModel, One.1 AS Provider, One.2 AS Model, One.3 AS Deployment, One.4 AS Region, One.5 AS ApiKey, One.6 AS Calls, "
    "round(Calls / GroupCalls, 4) AS Share, One.7 AS FailedCalls, One.8 AS RateLimitedCalls, One.9 AS P50Ms, One.10 AS P95Ms, One.11 AS CostUSD "
    "FROM (SELECT Day, RequestModel, sum(Part) AS GroupCalls, groupArray(tuple(Provider_, Model_, Deployment_, Region_, ApiKey_, Part, Failed, "
    "Limited, P50, P95, Cost)) AS Parts FROM (SELECT c.Day AS Day, c.RequestModel AS RequestModel, c.Provider AS Provider_, "
    f"{MODEL} AS Model_, c.Deployment AS Deployment_, c.Region AS Region_, c.ApiKey AS ApiKey_, count() AS Part, "
    "countIf(c.StatusCode = 'Error') AS Failed, countIf(c.ErrorType = '429' OR c.ErrorType ILIKE '%rate%limit%' OR c.ErrorType ILIKE '%throttl%') AS Limited, "
    "round(quantile(0.5)(c.Duration) / 1e6, 3) AS P50, round(quantile(0.95)(c.Duration) / 1e6, 3) AS P95, sum(c.CostUSD) AS Cost FROM {calls} AS c "
    "GROUP BY Day, RequestModel, Provider_, Model_, Deployment_, Region_, ApiKey_) GROUP BY Day, RequestModel) ARRAY JOIN Parts AS One "
    "ORDER BY Day DESC, RequestModel, Calls DESC"
)
LATENCY = (
    f"SELECT c.Day AS Day, c.Team AS Team, c.Provider AS Provider, {MODEL} AS Model, count() AS Calls, "
    "round(quantile(0.5)(c.Duration) / 1e6, 3) AS P50Ms, round(quantile(0.95)(c.Duration) / 1e6, 3) AS P95Ms, "
    "round(quantile(0.5)(c.TimeToFirstToken) / 1e6, 3) AS FirstTokenP50Ms, round(quantile(0.95)(c.TimeToFirstToken) / 1e6, 3) AS FirstTokenP95Ms, "
    "round(quantile(0.5)(c.GatewayOverhead) / 1e6, 3) AS GatewayP50Ms, round(quantile(0.95)(c.GatewayOverhead) / 1e6, 3) AS GatewayP95Ms, "
    "round(sumIf(c.GatewayOverhead, c.GatewayOverhead IS NOT NULL) / nullIf(sumIf(c.Duration, c.GatewayOverhead IS NOT NULL), 0), 4) AS GatewayShare, "
    "round(sum(c.OutputTokens) / nullIf(sumIf(c.Duration, c.OutputTokens > 0), 0) * 1e9, 2) AS OutputTokensPerSecond FROM {calls} AS c "
    "WHERE c.StatusCode != 'Error' GROUP BY Day, Team, Provider, Model ORDER BY Day DESC, Calls DESC"
)
GATEWAY_TIME = (
    "SELECT s.Day AS Day, s.ServiceName AS ServiceName, count() AS Requests, round(quantile(0.5)(s.Whole) / 1e6, 3) AS WholeP50Ms, "
    "round(quantile(0.95)(s.Whole) / 1e6, 3) AS WholeP95Ms, round(quantile(0.5)(c.Calls) / 1e6, 3) AS CallsP50Ms, "
    "round(quantile(0.95)(c.Calls) / 1e6, 3) AS CallsP95Ms, round(quantile(0.5)(greatest(toInt64(s.Whole) - toInt64(c.Calls), 0)) / 1e6, 3) AS GatewayP50Ms, "
    "round(quantile(0.95)(greatest(toInt64(s.Whole) - toInt64(c.Calls), 0)) / 1e6, 3) AS GatewayP95Ms "
    "FROM (SELECT toDate(t.Timestamp) AS Day, t.TraceId AS TraceId, t.ServiceName AS ServiceName, max(t.Duration) AS Whole FROM {traces} AS t "
    "WHERE t.SpanKind = 'Server' AND t.TraceId != '' GROUP BY Day, TraceId, ServiceName) AS s INNER JOIN (SELECT Day, TraceId, ServiceName, sum(Duration) AS Calls "
    "FROM {calls} GROUP BY Day, TraceId, ServiceName) AS c ON c.Day = s.Day AND c.TraceId = s.TraceId AND c.ServiceName = s.ServiceName "
    "GROUP BY Day, ServiceName ORDER BY Day DESC, Requests DESC"
)
#: The asked model stands on a span of the gateway, or on the call's; a request that made a call has the call's id on a span.
REFUSED = (
    "SELECT toDate(s.Timestamp) AS Day, min(s.Timestamp) AS Timestamp, s.TraceId AS TraceId, any(s.ServiceName) AS ServiceName, "
    "anyIf(s.SpanAttributes['gen_ai.request.model'], s.SpanAttributes['gen_ai.request.model'] != '') AS RequestModel, "
    "anyIf(multiIf(s.SpanAttributes['litellm.team.alias'] != '', s.SpanAttributes['litellm.team.alias'], s.SpanAttributes['litellm.team.id']), "
    "s.SpanAttributes['litellm.team.alias'] != '' OR s.SpanAttributes['litellm.team.id'] != '') AS Team, "
    "maxIf(toUInt16OrZero(s.SpanAttributes['http.response.status_code']), s.SpanKind = 'Server') AS HttpStatus, "
    "anyIf(s.SpanAttributes['error.type'], s.SpanAttributes['error.type'] != '') AS ErrorType FROM {traces} AS s WHERE s.TraceId != '' "
    "GROUP BY Day, TraceId HAVING max(s.CallId) = '' AND RequestModel != '' AND HttpStatus BETWEEN 400 AND 499 ORDER BY Timestamp DESC"
)
