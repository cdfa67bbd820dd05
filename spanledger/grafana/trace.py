"""One trace: the spans as a waterfall, the calls in it, what was logged. Other dashboards lead here."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from spanledger.grafana.page import page
from spanledger.grafana.panels import CALL, COUNT, MILLISECONDS, TOKENS, USD, Column, number, ranking, trace
from spanledger.grafana.query import CALL_MODEL, UNKNOWN, named, usd

_ID = "${trace:singlequote}"
#: The table of traces' times spares a scan of all spans. It holds whole seconds.
_SPANS = f"""FROM otel_traces AS s
WHERE s.TraceId = {_ID}
  AND s.Timestamp >= (SELECT min(Start) FROM otel_traces_trace_id_ts WHERE TraceId = {_ID})
  AND s.Timestamp < (SELECT max(End) + 1 FROM otel_traces_trace_id_ts WHERE TraceId = {_ID})"""


def _tags(column: str) -> str:
    return f"arrayMap(key -> map('key', key, 'value', s.{column}[key]), mapKeys(s.{column}))"


#: Names and units are those that Grafana's trace view reads: milliseconds.
_WATERFALL = f"""
SELECT s.TraceId AS traceID, s.SpanId AS spanID, s.ParentSpanId AS parentSpanID, s.ServiceName AS serviceName, s.SpanName AS operationName,
       toUnixTimestamp64Nano(s.Timestamp) / 1e6 AS startTime, s.Duration / 1e6 AS duration, {_tags("SpanAttributes")} AS tags,
       {_tags("ResourceAttributes")} AS serviceTags, s.SpanKind AS kind, if(s.StatusCode = 'Error', 2, 0) AS statusCode, s.StatusMessage AS statusMessage
{_SPANS}
ORDER BY s.Timestamp
LIMIT 5000"""
_CALLS = f"""
SELECT c.Timestamp AS Time, {named("c.Team")} AS Team, {named("c.App")} AS App, {named("c.RequestModel", UNKNOWN)} AS Requested,
       {named(CALL_MODEL, UNKNOWN)} AS Model, c.InputTokens AS Input, c.CacheReadTokens AS Cached, c.OutputTokens AS Output, {usd("c.CostUSD")} AS USD,
       c.PriceStatus AS Price, c.Duration / 1e6 AS Took, c.StatusCode AS Status, c.AttributionSource AS Attribution, c.PriceSource AS PriceSource
FROM llm_calls AS c
WHERE c.TraceId = {_ID}
ORDER BY c.Timestamp
LIMIT 1000"""
_LOGS = f"""
SELECT l.Timestamp AS Time, l.SeverityText AS Severity, l.ServiceName AS Service, l.EventName AS Event, l.Body AS Body
FROM otel_logs AS l
WHERE l.TraceId = {_ID}
ORDER BY l.Timestamp
LIMIT 1000"""


def build() -> dashboard.Dashboard:
    board = page(
        "trace", "trace", "What happened between app, gateway and model in one trace, and what it cost.", refresh=""
    )
    of = f"WHERE c.TraceId = {_ID}"
    return (
        board.with_variable(dashboard.TextBoxVariable("trace").label("Trace id"))
        .with_panel(number("Cost", "Known cost of the trace's calls, whenever they were. From llm_calls.", f"SELECT {usd('sum(c.CostUSD)')} AS USD FROM llm_calls AS c {of}", USD, decimals=CALL, width=6))
        .with_panel(number("Calls", "Calls to models, each once, however many spans report it. From llm_calls.", f"SELECT count() AS Calls FROM llm_calls AS c {of}", COUNT, width=6))
        .with_panel(number("Tokens", "Input and output of these calls. From llm_calls.", f"SELECT sum(c.InputTokens) + sum(c.OutputTokens) AS Tokens FROM llm_calls AS c {of}", TOKENS, width=6))
        .with_panel(number("Spans", "From otel_traces.", f"SELECT count() AS Spans {_SPANS}", COUNT, width=6))
        .with_panel(trace("Spans", "As they were reported; what redaction took out stays out. From otel_traces.", _WATERFALL))
        .with_panel(ranking("Calls", "Price and Attribution say which rule decided. From llm_calls.", _CALLS, (Column("USD", USD, CALL, 130), Column("Took", MILLISECONDS, width=100), *(Column(name, TOKENS, width=90) for name in ("Input", "Cached", "Output"))), width=24))
        .with_panel(ranking("Logs", "What was logged in the trace. From otel_logs.", _LOGS, (Column("Body", width=700),), width=24))
    )  # fmt: skip
