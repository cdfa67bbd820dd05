"""Every column, declared once: name, type, ClickHouse column, OpenTelemetry attribute, unit, meaning.

DDL, insert lists, OTLP output, `spanledger schema` and docs/columns.md all derive from the tuples at the end.
Units are in the names where the type does not say: `_ns` nanoseconds, `_pico` pico-dollars (1 USD = 10^12).
Unknown is null, never zero. Counts follow one convention: `input_tokens` includes what was read from and written to a
cache, `cache_write_tokens` includes the one-hour part, `output_tokens` includes reasoning.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

PICO_PER_USD = 10**12


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `clickhouse` is None for a column that stays inside the pipeline."""

    name: str
    dtype: pl.DataType
    doc: str
    clickhouse: str | None = None
    clickhouse_type: str | None = None
    unit: str = ""
    attribute: str | None = None


def _text(
    name: str, doc: str, clickhouse: str | None = None, attribute: str | None = None, *, low: bool = True
) -> Column:
    kind = "LowCardinality(String)" if low else "String"
    return Column(name, pl.String(), doc, clickhouse, kind if clickhouse else None, attribute=attribute)


def _tokens(name: str, doc: str, clickhouse: str, attribute: str | None = None) -> Column:
    return Column(name, pl.Int64(), doc, clickhouse, "Nullable(UInt64)", "tokens", attribute)


def _money(name: str, doc: str, clickhouse: str, attribute: str | None = None) -> Column:
    return Column(name, pl.Int64(), doc, clickhouse, "Nullable(Decimal(18, 12))", "pico-USD", attribute)


def _list(name: str, doc: str, clickhouse: str | None = None, attribute: str | None = None) -> Column:
    kind = "Array(LowCardinality(String))" if clickhouse else None
    return Column(name, pl.List(pl.String()), doc, clickhouse, kind, attribute=attribute)


# Where the call is -------------------------------------------------------------------------------------------------
START = Column(
    "start_ns", pl.Int64(), "Start of the call, from the report nearest the app", "Timestamp", "DateTime64(9)", "ns"
)
DURATION = Column("duration_ns", pl.Int64(), "End minus start", "Duration", "UInt64", "ns")
TRACE_ID = _text("trace_id", "Trace, lower-case hex", "TraceId", low=False)
SPAN_ID = _text("span_id", "Span of the report that names the call, lower-case hex", "SpanId", low=False)
SERVICE = _text("service_name", "service.name of the resource that made the call", "ServiceName")

# What was asked and answered ---------------------------------------------------------------------------------------
DIALECT = _text(
    "dialect",
    "How the reporting span spells things: a name from `spanledger components`",
    "Dialect",
    "spanledger.dialect",
)
OPERATION = _text(
    "operation",
    "GenAI operation: chat, text_completion, embeddings, generate_content, rerank, image_generation, speech, transcription …",
    "Operation",
    "gen_ai.operation.name",
)
PROVIDER = _text(
    "provider",
    "Who served the call, in the conventions' spelling (openai, anthropic, aws.bedrock, gcp.vertex_ai …)",
    "Provider",
    "gen_ai.provider.name",
)
REQUEST_MODEL = _text(
    "request_model", "Model or alias that the client asked for", "RequestModel", "gen_ai.request.model"
)
RESPONSE_MODEL = _text(
    "response_model", "Model that answered, as the answer names it", "ResponseModel", "gen_ai.response.model"
)
UPSTREAM_MODEL = _text(
    "upstream_model", "Model that a gateway asked its provider for", "UpstreamModel", "spanledger.upstream.model"
)
RESPONSE_ID = _text(
    "response_id", "The provider's or gateway's id of the answer", "ResponseId", "gen_ai.response.id", low=False
)
SERVICE_TIER = _text(
    "service_tier",
    "Tier that served the call (default, flex, priority, batch …)",
    "ServiceTier",
    "openai.response.service_tier",
)
STREAMING = Column(
    "streaming",
    pl.Boolean(),
    "Whether the answer was streamed",
    "Streaming",
    "Nullable(Bool)",
    attribute="gen_ai.request.stream",
)
TTFT = Column(
    "time_to_first_token_ns",
    pl.Int64(),
    "From start to the first chunk of the answer",
    "TimeToFirstToken",
    "Nullable(UInt64)",
    "ns",
    "spanledger.time_to_first_token_ns",
)
FINISH_REASON = _text(
    "finish_reason",
    "Why the model stopped; several choices joined by a comma",
    "FinishReason",
    "spanledger.finish_reason",
)
STATUS = _text("status", "Unset, Ok or Error", "StatusCode")
ERROR_TYPE = _text("error_type", "error.type, or the HTTP status of a failed call", "ErrorType", "error.type")
CONVERSATION = _text(
    "conversation_id",
    "Conversation, thread or session of the app",
    "ConversationId",
    "gen_ai.conversation.id",
    low=False,
)

PARENT = _text(
    "parent_span_id",
    "Span above the report nearest to the provider: attempts of one request share it",
    "ParentSpanId",
    low=False,
)
DEPLOYMENT = _text("deployment", "Deployment that a gateway chose for the call, as it calls it", "Deployment")
REGION = _text("region", "Region that served the call, where an endpoint or an attribute names one", "Region")
REFUSED_BY = _text(
    "refused_by",
    "Who refused: name of the gateway's guardrail; `model` for the model itself, which the processor routing says",
    "RefusedBy",
    "spanledger.refused_by",
)
OUTPUT_LIMIT = Column(
    "output_limit",
    pl.Int64(),
    "Tokens of output that the request allowed at most (max_tokens)",
    "OutputLimit",
    "Nullable(UInt64)",
    "limit",
)
OVERHEAD = Column(
    "gateway_overhead_ns",
    pl.Int64(),
    "Time that the gateway itself took, as it tells",
    "GatewayOverhead",
    "Nullable(UInt64)",
    "ns",
)

# Usage --------------------------------------------------------------------------------------------------------------
INPUT_TOKENS = _tokens(
    "input_tokens",
    "All input, with what was read from and written to a cache",
    "InputTokens",
    "gen_ai.usage.input_tokens",
)
OUTPUT_TOKENS = _tokens("output_tokens", "All output, reasoning included", "OutputTokens", "gen_ai.usage.output_tokens")
CACHE_READ_TOKENS = _tokens(
    "cache_read_tokens",
    "Part of the input read from the provider's cache",
    "CacheReadTokens",
    "gen_ai.usage.cache_read.input_tokens",
)
CACHE_WRITE_TOKENS = _tokens(
    "cache_write_tokens",
    "Part of the input written to the provider's cache, any lifetime",
    "CacheWriteTokens",
    "gen_ai.usage.cache_write.input_tokens",
)
CACHE_WRITE_1H_TOKENS = _tokens(
    "cache_write_1h_tokens",
    "Part of the cache writes that live an hour; null: not told",
    "CacheWrite1hTokens",
    "spanledger.usage.cache_write_1h.input_tokens",
)
REASONING_TOKENS = _tokens(
    "reasoning_tokens",
    "Part of the output spent on reasoning",
    "ReasoningTokens",
    "gen_ai.usage.reasoning.output_tokens",
)
INPUT_AUDIO_TOKENS = _tokens(
    "input_audio_tokens", "Part of the input that is audio", "InputAudioTokens", "gen_ai.usage.audio.input_tokens"
)
CACHE_AUDIO_READ_TOKENS = _tokens(
    "cache_audio_read_tokens",
    "Part of the cache reads that is audio",
    "CacheAudioReadTokens",
    "gen_ai.usage.audio.cache_read.input_tokens",
)
OUTPUT_AUDIO_TOKENS = _tokens(
    "output_audio_tokens", "Part of the output that is audio", "OutputAudioTokens", "gen_ai.usage.audio.output_tokens"
)
USAGE_FLAGS = _list(
    "usage_flags",
    "What is special about the counts: `input_exclusive:<how decided>`, `impossible:<what>`, `estimated:<by whom>`, `no_cache_counts`",
    "UsageFlags",
    "spanledger.usage.flags",
)
REPORTED_COST = _money(
    "reported_cost_pico",
    "Cost that a gateway or SDK wrote on its span; 0 counts as none",
    "ReportedCostUSD",
    "spanledger.reported_cost_usd",
)

# Who pays -----------------------------------------------------------------------------------------------------------
TEAM = _text("team", "Team that the call is charged to", "Team", "spanledger.team")
APP = _text("app", "Application that made the call", "App", "spanledger.app")
USER = _text("user", "Who holds the key", "User", "spanledger.user", low=False)
END_USER = _text("end_user", "Whom the app served", "EndUser", "spanledger.end_user", low=False)
API_KEY = _text("api_key", "Alias, or else hash, of the gateway's key", "ApiKey", "spanledger.api_key")
ENVIRONMENT = _text("environment", "deployment.environment.name", "Environment", "spanledger.environment")
COST_CENTRE = _text("cost_centre", "Cost centre, where a mapping names one", "CostCentre", "spanledger.cost_centre")
TASK_TYPE = _text(
    "task_type", "What the call is for (summarization, general_chat …)", "TaskType", "spanledger.task_type"
)
USER_PRIORITY = _text(
    "user_priority", "How much whom the call serves matters (low, high …)", "UserPriority", "spanledger.user_priority"
)
TAGS = _list("tags", "Tags of the call, sorted", "Tags", "spanledger.tags")
ATTRIBUTION_SOURCE = _text(
    "attribution_source",
    "Which rule decided each dimension: `team=gateway;app=resource.service.name;…`",
    "AttributionSource",
    "spanledger.attribution.source",
)

# What was found -----------------------------------------------------------------------------------------------------
COUNTS = pl.List(pl.Struct({"name": pl.String(), "count": pl.UInt32()}))
PII = Column(
    "pii",
    COUNTS,
    "Personal data and secrets that redaction found on the span: how many, by detector; null: none",
    "Pii",
    "Map(LowCardinality(String), UInt32)",
    attribute="spanledger.pii",
)
PII_IN_REQUEST = Column(
    "pii_in_request",
    COUNTS,
    "Those of them that stood in what was sent to a model: where the span is a call, its provider has seen them",
    "PiiInRequest",
    "Map(LowCardinality(String), UInt32)",
    attribute="spanledger.pii_in_request",
)
FINDINGS = _text(
    "findings",
    "Kinds of the findings that the span is evidence of, separated by commas; null: none was made of it in its batch",
    "Findings",
    "spanledger.findings",
)

# Money --------------------------------------------------------------------------------------------------------------
COST = _money("cost_pico", "What the call costs; null where that is unknown", "CostUSD", "spanledger.cost_usd")
LIST_COST = _money("list_cost_pico", "Cost at list price, before discounts and margins", "ListCostUSD")
CACHE_SAVINGS = _money(
    "cache_savings_pico",
    "What the cached tokens would have cost fresh, minus what they cost",
    "CacheSavingsUSD",
    "spanledger.cache_savings_usd",
)
PRICE_STATUS = _text(
    "price_status",
    "priced, reported, unpriced_model, missing_usage, failed, cached_replay, impossible_usage; on spans also duplicate, rollup, not_a_call",
    "PriceStatus",
    "spanledger.price.status",
)
PRICE_ASSUMPTIONS = _list(
    "price_assumptions",
    "What the price rests on that no report settles; empty: the cost is exact",
    "PriceAssumptions",
    "spanledger.price.assumptions",
)
PRICE_SOURCE = _text(
    "price_source",
    "Rule and book that priced the call, e.g. `genai-prices 0.2.3 openai/gpt-4o-mini`",
    "PriceSource",
    "spanledger.price.source",
)

# Routing ------------------------------------------------------------------------------------------------------------
ROUTE = _text(
    "route",
    "Route of the policy that the call falls under: its name, else its number from 1",
    "Route",
    "spanledger.routing.route",
)
EXPECTED_MODEL = _text(
    "expected_model", "Model that this route leads to", "ExpectedModel", "spanledger.routing.expected_model"
)
ROUTE_VERDICT = _text(
    "route_verdict",
    "ok, premium_instead (a dearer model served), cheaper_instead, other_model (another one, as dear or of unknown cost), unknown_route (no route matches)",
    "RouteVerdict",
    "spanledger.routing.verdict",
)
EXPECTED_COST = _money(
    "expected_cost_pico", "What the expected model would have cost for the same tokens", "ExpectedCostUSD"
)
AVOIDABLE_COST = _money(
    "avoidable_cost_pico",
    "What the call cost more than the expected model would have; 0 where it cost less",
    "AvoidableCostUSD",
    "spanledger.routing.avoidable_cost_usd",
)

MODEL_TIER = Column(
    "model_tier", pl.Int64(), "Quality tier of the model that served, 1 is the best", "ModelTier", "Nullable(UInt32)"
)

# The ledger's own ---------------------------------------------------------------------------------------------------
CALL_ID = _text(
    "call_id",
    "The ledger's key of the call; stays when further reports arrive",
    "CallId",
    "spanledger.call_id",
    low=False,
)
DAY = Column("day", pl.Date(), "UTC day that the row is kept under; stays whatever Timestamp does", "Day", "Date")
REPORTS = _list("reports", "Dialects of the spans that reported the call, best first", "Reports")
REPORT_COUNT = Column("report_count", pl.Int64(), "How many distinct spans reported the call", "ReportCount", "UInt32")
VERSION = Column("version", pl.Int64(), "Rises with every better version of the row", "Version", "UInt64")
WITHDRAWN = Column(
    "withdrawn", pl.Boolean(), "The row turned out to be another call's; it no longer counts", "Withdrawn", "UInt8"
)

# Of a report only -----------------------------------------------------------------------------------------------------
SPAN = Column("span", pl.Int32(), "Row of `SpanBatch.spans`")
ROLE = _text(
    "role",
    "call; copy (tells again what the call above it tells: counts only if there is none); wrapper (a call must stand below it); rollup (usage of the calls below: counts only if there are none); context (identity for the calls below); caller (who asked a gateway: identity for calls that it does not report itself); abort (the client hung up: the gateway's usage below is its own estimate)",
)
SOURCE = _text("source", "Scope and service that reported: two reports of one source are two calls")
RANK = Column(
    "rank",
    pl.Int8(),
    "Who knows the counts best: 0 provider's SDK, 1 gateway, 2 instrumentor, 3 framework, 4 model server",
)
CALL_HINT = _text("call_hint", "The gateway's own call id (litellm.call_id); equal on the attempts of one request")
RESPONSE_CACHE = Column(
    "response_cache_hit",
    pl.Boolean(),
    "The gateway answered from its own response cache: nothing was billed",
    "ResponseCacheHit",
    "Nullable(Bool)",
)
REQUESTED_TIER = _text("requested_tier", "Tier that the client asked for", "RequestedTier")
KEY_ALIAS = _text("gateway_key_alias", "Trusted: alias of the gateway key")
KEY_HASH = _text("gateway_key_hash", "Trusted: hash of the gateway key")
GATEWAY_TEAM = _text("gateway_team", "Trusted: team that the gateway authenticated (alias, else id)")
GATEWAY_USER = _text("gateway_user", "Trusted: user that the gateway authenticated (id, else e-mail)")
GATEWAY_ORG = _text("gateway_org", "Trusted: organisation that the gateway authenticated")
GATEWAY_END_USER = _text("gateway_end_user", "Trusted: end user as the gateway resolved it")
CLAIMED_USER = _text("claimed_user", "Sent by the caller: user")
CLAIMED_TEAM = _text("claimed_team", "Sent by the caller: team")
CLAIMED_APP = _text("claimed_app", "Sent by the caller: app")
CLAIMED_TASK_TYPE = _text("claimed_task_type", "Sent by the caller: what the call is for")
CLAIMED_PRIORITY = _text("claimed_user_priority", "Sent by the caller: how much whom the call serves matters")
CLAIMED_TAGS = _list("claimed_tags", "Sent by the caller: tags")

#: What normalising finds on one span, in the words of all dialects.
FACTS: tuple[Column, ...] = (
    OPERATION, PROVIDER, REQUEST_MODEL, RESPONSE_MODEL, UPSTREAM_MODEL, RESPONSE_ID, SERVICE_TIER, REQUESTED_TIER, STREAMING,
    TTFT, FINISH_REASON, ERROR_TYPE, CONVERSATION, INPUT_TOKENS, OUTPUT_TOKENS, CACHE_READ_TOKENS, CACHE_WRITE_TOKENS,
    CACHE_WRITE_1H_TOKENS, REASONING_TOKENS, INPUT_AUDIO_TOKENS, CACHE_AUDIO_READ_TOKENS, OUTPUT_AUDIO_TOKENS, USAGE_FLAGS,
    REPORTED_COST, RESPONSE_CACHE, DEPLOYMENT, REGION, REFUSED_BY, OUTPUT_LIMIT, OVERHEAD,
)  # fmt: skip

#: Who the dialect says it was, trusted and not: what attribution reads.
IDENTITY: tuple[Column, ...] = (
    KEY_ALIAS, KEY_HASH, GATEWAY_TEAM, GATEWAY_USER, GATEWAY_ORG, GATEWAY_END_USER, CLAIMED_USER, CLAIMED_TEAM, CLAIMED_APP, CLAIMED_TASK_TYPE,
    CLAIMED_PRIORITY, CLAIMED_TAGS,
)  # fmt: skip

#: What attribution decides; on a report each dimension also has `<name>_rank`, the number of the rule that decided (Int16, lower wins).
DIMENSIONS: tuple[Column, ...] = (TEAM, APP, USER, END_USER, API_KEY, ENVIRONMENT, COST_CENTRE, TASK_TYPE, USER_PRIORITY)  # fmt: skip

#: `SpanBatch.reports` after normalising: one row per span that matters to the ledger.
REPORT_COLUMNS: tuple[Column, ...] = (
    SPAN, TRACE_ID, SPAN_ID, PARENT, START, DURATION, SERVICE, STATUS, ROLE, DIALECT, SOURCE, RANK, CALL_HINT, *FACTS, *IDENTITY,
)  # fmt: skip

#: `SpanBatch.calls`, and the ledger table: one row per call.
CALL_COLUMNS: tuple[Column, ...] = (
    START, CALL_ID, TRACE_ID, SPAN_ID, SERVICE, DIALECT, REPORTS, REPORT_COUNT, OPERATION, PROVIDER, REQUEST_MODEL, RESPONSE_MODEL,
    UPSTREAM_MODEL, RESPONSE_ID, SERVICE_TIER, REQUESTED_TIER, TEAM, APP, USER, END_USER, API_KEY, ENVIRONMENT, COST_CENTRE, TAGS, ATTRIBUTION_SOURCE,
    INPUT_TOKENS, OUTPUT_TOKENS, CACHE_READ_TOKENS, CACHE_WRITE_TOKENS, CACHE_WRITE_1H_TOKENS, REASONING_TOKENS,
    INPUT_AUDIO_TOKENS, CACHE_AUDIO_READ_TOKENS, OUTPUT_AUDIO_TOKENS, USAGE_FLAGS,
    COST, REPORTED_COST, LIST_COST, CACHE_SAVINGS, PRICE_STATUS, PRICE_ASSUMPTIONS, PRICE_SOURCE,
    DURATION, TTFT, STREAMING, STATUS, ERROR_TYPE, FINISH_REASON, CONVERSATION, RESPONSE_CACHE, DAY, VERSION, WITHDRAWN,
    TASK_TYPE, USER_PRIORITY, PARENT, DEPLOYMENT, REGION, REFUSED_BY, OUTPUT_LIMIT, OVERHEAD,
    ROUTE, EXPECTED_MODEL, ROUTE_VERDICT, EXPECTED_COST, AVOIDABLE_COST, MODEL_TIER,
)  # fmt: skip

#: The typed columns that follow the Collector's 22 in `otel_traces`, and leave as attributes on OTLP output.
SPAN_COLUMNS: tuple[Column, ...] = (
    DIALECT, CALL_ID, PRICE_STATUS, PROVIDER, REQUEST_MODEL, RESPONSE_MODEL, INPUT_TOKENS, OUTPUT_TOKENS, TEAM, APP, USER, ENVIRONMENT, COST,
    PII, PII_IN_REQUEST, FINDINGS, TASK_TYPE, USER_PRIORITY, REFUSED_BY, ROUTE, EXPECTED_MODEL, ROUTE_VERDICT, AVOIDABLE_COST,
)  # fmt: skip


def nulls(columns: Iterable[Column], count: int) -> dict[str, pl.Series]:
    """Per column, by name, so many nulls. Columns of one type share their memory: a frame is mostly columns that say nothing."""
    made: dict[pl.DataType, pl.Series] = {}
    for column in columns:
        if column.dtype not in made:
            made[column.dtype] = _ONE_NULL[column.dtype].new_from_index(0, count)
    return {column.name: made[column.dtype].alias(column.name) for column in columns}


def schema(columns: tuple[Column, ...]) -> dict[str, pl.DataType]:
    """Column names and Polars types, as `pl.DataFrame(schema=…)` takes them."""
    return {column.name: column.dtype for column in columns}


#: Making a column of one null costs as much as making it longer.
_ONE_NULL = {
    column.dtype: pl.Series([None], dtype=column.dtype) for column in (*SPAN_COLUMNS, *REPORT_COLUMNS, *CALL_COLUMNS)
}
