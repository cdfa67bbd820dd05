"""The spans behind the calls of `benchmarks.calls`: two and a half a call, made inside ClickHouse of the calls themselves.

Every call has the span of its gateway; every second one that of the SDK above it; of three calls in a trace one has the request
that the gateway served, one a guardrail's run, one a tool's. One call in forty has personal data, half of it in what was sent.
"""

from __future__ import annotations

from collections.abc import Callable

from exporters.clickhouse.ddl import Layout
from exporters.clickhouse.schema import CALLS, COLLECTOR_FIELDS, OUR_FIELDS

#: What a span is: with the call's `n` (a hash), whether it is there.
_KINDS = "arrayConcat(['call'], if(n % 2 = 0, ['sdk'], []), [['server', 'guardrail', 'tool'][1 + intDiv(n, 2) % 3]])"
_OF_CALL = "kind IN ('call', 'sdk')"
_MAP = "Map(LowCardinality(String), String)"
_FOUND = "Map(LowCardinality(String), UInt32)"
_NONE = f"CAST(map(), '{_FOUND}')"
_SENT = "kind = 'call' AND intDiv(n, 7) % 40 = 0"


def _found(often: int) -> str:
    """Personal data of every so-many-th span that has any."""
    kind = "['email', 'phone_number', 'iban', 'person'][1 + intDiv(n, 280) % 4]"
    return f"if({_SENT} AND intDiv(n, 1120) % {often} = 0, CAST(map({kind}, toUInt32(1 + n % 3)), '{_FOUND}'), {_NONE})"


#: Every column of a span that is not empty, over those of its call (`c`).
_VALUES = {
    "Timestamp": "c.Timestamp + toIntervalNanosecond(transform(kind, ['server', 'sdk', 'guardrail'], [-3000000, -2000000, -1000000], 0))",
    "TraceId": "c.TraceId",
    "SpanId": "if(kind = 'call', c.SpanId, lower(hex(sipHash64(c.SpanId, kind))))",
    "ParentSpanId": "if(kind = 'server', '', c.ParentSpanId)",
    "SpanName": "multiIf(kind = 'server', 'POST /v1/chat/completions', kind = 'guardrail', concat('execute_guardrail ', ['pii-guard', 'prompt-shield'][1 + n % 2]), "
    "kind = 'tool', concat('execute_tool ', ['search', 'lookup', 'sql'][1 + n % 3]), concat('chat ', c.RequestModel))",
    "SpanKind": "transform(kind, ['server', 'call', 'sdk'], ['Server', 'Client', 'Client'], 'Internal')",
    "ServiceName": "if(kind IN ('sdk', 'tool'), c.App, 'gateway')",
    "ResourceAttributes": f"CAST(map('service.name', if(kind IN ('sdk', 'tool'), c.App, 'gateway'), 'deployment.environment.name', c.Environment, 'telemetry.sdk.language', 'python'), '{_MAP}')",
    "ScopeName": "if(kind = 'sdk', 'opentelemetry.instrumentation.openai_v2', 'litellm')",
    "SpanAttributes": f"if({_OF_CALL}, CAST(map('gen_ai.operation.name', c.Operation, 'gen_ai.provider.name', c.Provider, 'gen_ai.request.model', c.RequestModel, "
    "'gen_ai.response.model', c.ResponseModel, 'gen_ai.response.id', c.ResponseId, 'gen_ai.usage.input_tokens', toString(c.InputTokens), "
    f"'gen_ai.usage.output_tokens', toString(c.OutputTokens), 'litellm.team.alias', c.Team, 'gen_ai.conversation.id', c.ConversationId), '{_MAP}'), "
    f"CAST(map('http.response.status_code', '200', 'litellm.team.alias', c.Team), '{_MAP}'))",
    "Duration": "multiIf(kind = 'guardrail', toUInt64(2e7 + n % 100000000), kind = 'tool', toUInt64(1e8 + n % 1000000000), c.Duration + 2000000)",
    "StatusCode": f"if({_OF_CALL}, c.StatusCode, 'Unset')",
    "Dialect": "transform(kind, ['call', 'sdk'], ['litellm_v2', 'otel_genai'], '')",
    "CallId": f"if({_OF_CALL}, c.CallId, '')",
    "PriceStatus": "multiIf(kind = 'call', c.PriceStatus, kind = 'sdk', 'duplicate', 'not_a_call')",
    "Provider": f"if({_OF_CALL}, c.Provider, '')",
    "RequestModel": f"if({_OF_CALL}, c.RequestModel, '')",
    "ResponseModel": f"if({_OF_CALL}, c.ResponseModel, '')",
    "InputTokens": f"if({_OF_CALL}, c.InputTokens, NULL)",
    "OutputTokens": f"if({_OF_CALL}, c.OutputTokens, NULL)",
    "Team": "c.Team",
    "App": "c.App",
    "User": "c.User",
    "Environment": "c.Environment",
    "CostUSD": "if(kind = 'call', c.CostUSD, NULL)",
    "Pii": _found(1),
    "PiiInRequest": _found(2),
    "RefusedBy": "if(kind = 'call', c.RefusedBy, '')",
    # on average a second and a half after it ended, once in a while minutes
    "Received": "toDateTime(c.Timestamp + toIntervalNanosecond(c.Duration) + toIntervalMillisecond(if(n % 1000 = 0, 120000, 500 + n % 2000)), 'UTC')",
}  # fmt: skip


def fill(run: Callable[[str], object], layout: Layout) -> None:
    """Write the spans of the calls that are there, a day of calls at a time."""
    unknown = set(_VALUES) - {field.name for field in (*COLLECTOR_FIELDS, *OUR_FIELDS)} - {"Received"}
    if unknown:
        raise ValueError(f"no columns of a span: {', '.join(sorted(unknown))}")
    names, values = ", ".join(f"`{name}`" for name in _VALUES), ", ".join(_VALUES.values())
    calls = layout.name(CALLS)
    for day in str(run(f"SELECT DISTINCT Day FROM {calls} ORDER BY Day")).split():
        run(
            f"INSERT INTO {layout.name(layout.traces)} ({names}) SELECT {values} FROM (SELECT *, cityHash64(CallId) AS n FROM {calls} "
            f"WHERE Day = '{day}') AS c ARRAY JOIN {_KINDS} AS kind"
        )
