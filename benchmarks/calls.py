"""Millions of calls, made inside ClickHouse: lifelike names, numbers and times, without a byte of them passing through Python.

A month of days and nights, 20 teams, 60 apps with 80 users and four models each, 14 models of 5 providers; the few that use most
use much more than the rest. One call in fifty has an older version in the table, as corrected calls have, so that reading has versions to merge.
"""

from __future__ import annotations

from collections.abc import Callable

from collector.columns import VERSION
from exporters.clickhouse.ddl import Layout
from exporters.clickhouse.hourly import SUMS
from exporters.clickhouse.schema import CALL_FIELDS, CALLS, CALLS_TABLE, FINDINGS_TABLE

#: model, provider, USD per million tokens of input and output, quality tier
_MODELS = (
    ("gpt-4o-mini", "openai", 0.15, 0.6, 3), ("gpt-4.1", "openai", 2.0, 8.0, 1), ("gpt-4.1-mini", "openai", 0.4, 1.6, 2),
    ("gpt-5", "openai", 1.25, 10.0, 1), ("claude-sonnet-4-5", "anthropic", 3.0, 15.0, 1), ("claude-haiku-4-5", "anthropic", 1.0, 5.0, 2),
    ("claude-opus-4-1", "anthropic", 15.0, 75.0, 1), ("gemini-2.5-flash", "gcp.vertex_ai", 0.3, 2.5, 2),
    ("gemini-2.5-pro", "gcp.vertex_ai", 1.25, 10.0, 1), ("gemini-2.5-flash-lite", "gcp.vertex_ai", 0.1, 0.4, 3),
    ("mistral-large", "mistral_ai", 2.0, 6.0, 2), ("mistral-small", "mistral_ai", 0.1, 0.3, 3),
    ("nova-pro", "aws.bedrock", 0.8, 3.2, 2), ("nova-lite", "aws.bedrock", 0.06, 0.24, 3),
)  # fmt: skip
DAYS = 30
_PER_INSERT = 1_000_000
Run = Callable[[str], object]


def _array(place: int) -> str:
    return "[" + ", ".join(repr(model[place]) for model in _MODELS) + "]"


def _random(number: int) -> str:
    """A number in [0, 1) of the row, another one for each `number`."""
    return f"(cityHash64(n, {number}) % 1000003 / 1000003.)"


#: Every column of a call that is not empty, over the names of `_INNER`.
_VALUES = {
    "Timestamp": "fromUnixTimestamp64Nano(toInt64(at))",
    "CallId": "lower(hex(sipHash128(n)))",
    "TraceId": "lower(hex(sipHash128(intDiv(n, 3), 1)))",
    "SpanId": "lower(hex(sipHash64(n, 2)))",
    "ParentSpanId": "lower(hex(sipHash64(intDiv(n, 3), 3)))",
    "ServiceName": "concat('app-', toString(app))",
    "Dialect": "'litellm_v2'",
    "Reports": "['litellm_v2', 'otel_genai']",
    "ReportCount": "2",
    "Operation": "if(n % 12 = 0, 'embeddings', 'chat')",
    "Provider": f"{_array(1)}[model]",
    "RequestModel": f"{_array(0)}[if(failed_over, 1 + model % {len(_MODELS)}, model)]",
    "ResponseModel": f"{_array(0)}[model]",
    "UpstreamModel": f"{_array(0)}[model]",
    "ResponseId": "concat('chatcmpl-', toString(n))",
    "Team": "if(app % 19 = 7, '(unattributed)', concat('team-', toString(app % 20)))",
    "App": "concat('app-', toString(app))",
    "User": f"concat('user-', toString(app), '-', toString(toUInt32(80 * pow({_random(4)}, 3))))",
    "ApiKey": "concat('key-', toString(app * 2 + n % 2))",
    "Environment": "multiIf(n % 20 = 0, 'dev', app % 6 = 5, 'staging', 'production')",
    "CostCentre": "concat('cc-', toString(app % 7))",
    "AttributionSource": "'team=gateway;app=resource.service.name;user=gateway'",
    "InputTokens": "input",
    "OutputTokens": "output",
    "CacheReadTokens": "cached",
    "CostUSD": "if(priced, cost, NULL)",
    "ListCostUSD": "if(priced, cost, NULL)",
    "CacheSavingsUSD": "if(priced, toDecimal64(cached * price_in * 0.9 / 1e6, 12), NULL)",
    "PriceStatus": "multiIf(failed, 'failed', priced, 'priced', 'unpriced_model')",
    "PriceSource": f"if(priced, concat('genai-prices 0.2.3 ', {_array(0)}[model]), '')",
    "Duration": f"toUInt64(2e8 + output * 1.2e7 * (0.5 + {_random(5)}))",
    "TimeToFirstToken": f"toUInt64(1.5e8 + 6e8 * {_random(6)})",
    "Streaming": "n % 2 = 0",
    "StatusCode": "if(failed, 'Error', 'Ok')",
    "ErrorType": "if(failed, ['429', '500', 'timeout'][1 + n % 3], '')",
    "FinishReason": "if(failed, '', 'stop')",
    "ConversationId": "concat('conversation-', toString(intDiv(n, 9)))",
    "Day": "toDate(Timestamp, 'UTC')",
    "Version": "version",
    "TaskType": "['summarization', 'general_chat', 'extraction', 'code'][1 + app % 4]",
    "UserPriority": "['low', 'high'][1 + n % 2]",
    "Deployment": "concat('deployment-', toString(model), '-', toString(n % 3))",
    "Region": "['us-east-1', 'eu-west-1', 'eu-central-1'][1 + n % 3]",
    "RefusedBy": "multiIf(n % 211 = 0, 'pii-guard', n % 509 = 0, 'model', '')",
    "OutputLimit": "4096",
    "GatewayOverhead": f"toUInt64(4e6 * (0.5 + {_random(7)}))",
    "Route": "concat('route-', toString(app % 5))",
    "ExpectedModel": f"{_array(0)}[1 + app % 3]",
    "RouteVerdict": "['ok', 'ok', 'ok', 'premium_instead', 'other_model'][1 + n % 5]",
    "ExpectedCostUSD": "if(priced, toDecimal64(cost * 4 / 5, 12), NULL)",
    "AvoidableCostUSD": "if(priced, if(n % 5 = 3, toDecimal64(cost / 5, 12), toDecimal64(0, 12)), NULL)",
    "ModelTier": f"{_array(4)}[model]",
}


def _rows(first: int, last: int, total: int, end_ns: int, version: int, where: str) -> str:
    """SELECT of the calls `first` to `last` of `total`, which end at `end_ns`, in the order of time."""
    span = DAYS * 86_400 * 10**9
    columns = ", ".join(f"{sql} AS `{name}`" for name, sql in _VALUES.items())
    return f"""
WITH {version} AS version
SELECT {columns} FROM (
    SELECT number AS n,
        -- days are busier than nights: the middle of a day gets what is moved there from its edges
        {end_ns - span} + {span} * (number / {total}) - 3e12 * sin(number / {total} * {DAYS} * 6.283) AS at,
        toUInt32(60 * pow({_random(2)}, 2)) AS app, 1 + (app * 5 + toUInt32(4 * pow({_random(1)}, 2))) % {len(_MODELS)} AS model,
        toUInt64(exp(4 + 5 * {_random(3)})) AS input, toUInt64(exp(3 + 3.5 * {_random(8)})) AS output,
        if(n % 3 = 0, intDiv(input * 2, 3), 0) AS cached, n % 37 = 0 AS failed, n % 41 = 0 AS failed_over,
        NOT failed AND n % 97 != 0 AS priced, {_array(2)}[model] AS price_in, {_array(3)}[model] AS price_out,
        toDecimal64(((input - cached * 0.9) * price_in + output * price_out) / 1e6, 12) AS cost
    FROM numbers({first}, {last - first}) WHERE {where}
)"""


def fill(run: Run, layout: Layout, calls: int, end_ns: int) -> None:
    """Write so many calls, their hourly sums, and a finding an hour. The schema is there already."""
    unknown = set(_VALUES) - {field.name for field in CALL_FIELDS}
    if unknown:
        raise ValueError(f"no columns of a call: {', '.join(sorted(unknown))}")
    table, names = layout.name(CALLS_TABLE), ", ".join(f"`{name}`" for name in _VALUES)
    for first in range(0, calls, _PER_INSERT):
        last = min(first + _PER_INSERT, calls)
        for version, where in ((1, "number % 50 = 0"), (2, "1")):
            run(f"INSERT INTO {table} ({names}) {_rows(first, last, calls, end_ns, version, where)}")
    for sums in SUMS:
        run(sums.fill(layout.name(sums.name), layout.name(CALLS)))
    run(
        f"INSERT INTO {layout.name(FINDINGS_TABLE)} (FindingId, Kind, State, Severity, FirstSeen, LastSeen, Team, Subject, CostUSD, Message, "
        f"Observations, TraceIds, Day, {VERSION.clickhouse}) SELECT lower(hex(sipHash128(number))), ['budget.soft', 'route.premium', 'privacy.pii_sent'][1 + number % 3], "
        f"if(number % 4, 'resolved', 'open'), ['info', 'warning', 'critical'][1 + number % 3], fromUnixTimestamp64Nano(toInt64({end_ns} - number * 36 * 100000000000)) AS at, "
        "at, concat('team-', toString(number % 20)), map('team', concat('team-', toString(number % 20))), number, 'What was noticed', 3, "
        f"[lower(hex(sipHash128(number, 1)))], toDate(at, 'UTC'), 1 FROM numbers({DAYS * 24})"
    )
