"""What stands in ClickHouse, declared once: tables, columns, engines. DDL, insert lists and docs/clickhouse.md derive from it.

The spans' table has the 22 columns of the OpenTelemetry Collector's ClickHouse exporter, names and types and order, and the
logs' table its 16 (as of v0.151), so that Grafana and HyperDX read them unchanged; what follows them is ours. The ledger's
columns come from `collector.columns`.

| Table | Engine | One row is | Partition |
| --- | --- | --- | --- |
| otel_traces | MergeTree | a span as it came | day of arrival |
| otel_logs | MergeTree | a log record as it came | day of arrival |
| otel_traces_trace_id_ts | AggregatingMergeTree | first and last second of a trace | month |
| llm_calls_versions | ReplacingMergeTree | one version of a call; read `llm_calls` | month of Day |
| llm_findings_versions | ReplacingMergeTree | one version of a finding; read `llm_findings` | month of Day |
| llm_budget_shares | ReplacingMergeTree | what one collector counts of a budget's window | month of Period |
| llm_costs_hourly_sums, llm_traffic_hourly_sums | SummingMergeTree | one movement of the hourly sums (`hourly.py`); read `llm_costs_hourly`, `llm_traffic_hourly` | month |
| spanledger_schema | MergeTree | a schema version that was put in place | - |

Partitions follow what a sender cannot make up without end: spans and logs go by the day they came in, whatever their
timestamps say, calls and sums by month, of which DateTime has 1,633.
"""

from __future__ import annotations

from collector import columns
from collector.columns import CALL_COLUMNS, SPAN_COLUMNS
from exporters.clickhouse.declare import (
    ITEMS,
    MAP,
    TIME,
    ZSTD,
    Field,
    MaterializedView,
    Projection,
    Table,
    field_of,
    low,
    text,
)
from exporters.clickhouse.hourly import COSTS, TRAFFIC

#: Rises when start-up has to do more than add a column.
SCHEMA_VERSION = 2
#: Inserts that the server remembers by token. A payload is repeated right after it failed, so this is ample.
DEDUPLICATION_WINDOW = 10_000
CALLS = "llm_calls"
CALLS_TABLE = "llm_calls_versions"
HOURLY_TABLE = COSTS.name
HOURLY_OF = COSTS.table
TRAFFIC_TABLE = TRAFFIC.name
TRAFFIC_OF = TRAFFIC.table
FINDINGS = "llm_findings"
FINDINGS_TABLE = "llm_findings_versions"
SHARES_TABLE = "llm_budget_shares"
SCHEMA_TABLE = "spanledger_schema"

#: The 22 physical columns of the Collector's exporter, in its order, and its two alias columns.
COLLECTOR_FIELDS: tuple[Field, ...] = (
    Field("Timestamp", "DateTime64(9)", TIME, doc="Start of the span; clamped to the years 1970 to 2105"),
    text("TraceId", "32 digits, lower-case hex"),
    text("SpanId", "16 digits, lower-case hex"),
    text("ParentSpanId", "16 digits, lower-case hex; empty for a root"),
    text("TraceState", "W3C trace state"),
    low("SpanName", "Name of the span"),
    low("SpanKind", "Unspecified, Internal, Server, Client, Producer or Consumer"),
    low("ServiceName", "service.name of the resource"),
    Field("ResourceAttributes", MAP, ZSTD, doc="All attributes of the resource, as text"),
    text("ScopeName", "Instrumentation scope"),
    text("ScopeVersion", "Its version"),
    Field("SpanAttributes", MAP, ZSTD, doc="All attributes of the span, as text"),
    Field("Duration", "UInt64", "T64, ZSTD(1)", doc="Nanoseconds; 0 where the end is before the start"),
    low("StatusCode", "Unset, Ok or Error"),
    text("StatusMessage", "What the span says about its error"),
    Field("Events.Timestamp", "Array(DateTime64(9))", ZSTD, doc="Events: when"),
    Field("Events.Name", "Array(LowCardinality(String))", ZSTD, doc="Events: what"),
    Field("Events.Attributes", f"Array({MAP})", ZSTD, doc="Events: their attributes"),
    Field("Links.TraceId", "Array(String)", ZSTD, doc="Links: trace"),
    Field("Links.SpanId", "Array(String)", ZSTD, doc="Links: span"),
    Field("Links.TraceState", "Array(String)", ZSTD, doc="Links: trace state"),
    Field("Links.Attributes", f"Array({MAP})", ZSTD, doc="Links: their attributes"),
)
ALIASES: tuple[Field, ...] = (
    Field("ResourceAttributeItems", "Array(String)", alias=ITEMS.format("ResourceAttributes"), doc="`key=value` of each"),
    Field("SpanAttributeItems", "Array(String)", alias=ITEMS.format("SpanAttributes"), doc="`key=value` of each"),
)  # fmt: skip
RECEIVED = Field("Received", "DateTime('UTC')", "Delta(4), ZSTD(1)", doc="When it came in")

#: The 16 physical columns of the Collector's logs table, in its order. EventName is younger than the rest: a table that the
#: Collector made before may lack it.
EVENT_NAME = text("EventName", "Name of the event, for records that are events")
LOG_FIELDS: tuple[Field, ...] = (
    Field("Timestamp", "DateTime64(9)", TIME, doc="When it happened, else when it was observed; clamped to the years 1970 to 2105"),
    text("TraceId", "32 digits, lower-case hex; empty where the record belongs to no trace"),
    text("SpanId", "16 digits, lower-case hex; empty likewise"),
    Field("TraceFlags", "UInt8", doc="W3C trace flags"),
    low("SeverityText", "Severity as the source calls it"),
    Field("SeverityNumber", "UInt8", doc="1 to 24 (9 is INFO, 17 is ERROR), 0 for none"),
    low("ServiceName", "service.name of the resource"),
    text("Body", "What it says: text as it is, maps and arrays as JSON"),
    low("ResourceSchemaUrl", "Schema of the resource"),
    Field("ResourceAttributes", MAP, ZSTD, doc="All attributes of the resource, as text"),
    low("ScopeSchemaUrl", "Schema of the scope"),
    text("ScopeName", "Instrumentation scope"),
    low("ScopeVersion", "Its version"),
    Field("ScopeAttributes", MAP, ZSTD, doc="All attributes of the scope, as text"),
    Field("LogAttributes", MAP, ZSTD, doc="All attributes of the log record, as text"),
    EVENT_NAME,
)  # fmt: skip
#: A column of the Collector's table before v0.151, which readers of that one filter by.
TIMESTAMP_TIME = Field("TimestampTime", "DateTime", alias="toDateTime(Timestamp)", doc="Timestamp in whole seconds")


#: Our columns of `otel_traces`, and those of the ledger.
OUR_FIELDS: tuple[Field, ...] = tuple(field_of(column) for column in SPAN_COLUMNS)
CALL_FIELDS: tuple[Field, ...] = tuple(field_of(column) for column in CALL_COLUMNS)
COLLECTOR = Field("Collector", "LowCardinality(String)", ZSTD, doc="Id of the collector that wrote it")
#: What the ledger's readers see: the bookkeeping of versions stays behind the view.
CALL_NAMES: tuple[str, ...] = tuple(
    field.name for field in (*CALL_FIELDS, COLLECTOR) if field.column not in (columns.VERSION, columns.WITHDRAWN)
)


CALLS_OF = Table(
    CALLS_TABLE,
    "Every version of every call. Ask `llm_calls`, which shows the newest one and no withdrawn call",
    (*CALL_FIELDS, COLLECTOR),
    engine="ReplacingMergeTree(`Version`)",
    # Day is the same in all versions of a call, so it may lead: days then lie apart, and FINAL merges within one.
    order_by="(Day, CallId)",
    partition_by="toYYYYMM(Day)",
    indexes=(
        "INDEX idx_timestamp `Timestamp` TYPE minmax GRANULARITY 1",
        "INDEX idx_trace_id `TraceId` TYPE bloom_filter(0.001) GRANULARITY 1",
    ),
    ttl="Day",
    sharding="cityHash64(CallId)",
)

#: Whom findings are about most often, as columns; all of it is in Subject. Column → dimension.
FINDING_SUBJECT = {"Team": "team", "App": "app", "User": "user", "Model": "model", "Provider": "provider"}
_MOMENT = "DateTime64(9)"
FINDINGS_OF = Table(
    FINDINGS_TABLE,
    "Every version of every finding. Ask `llm_findings`, which shows the newest one",
    (
        text("FindingId", "The finding's id; stays while it is open and when it is resolved"),
        low("Kind", "What was noticed, such as budget.hard or privacy.pii_sent"),
        low("State", "open, or resolved"),
        low("Severity", "info, warning or critical: the highest that was observed"),
        Field("FirstSeen", _MOMENT, TIME, doc="When it was first observed (the time of the calls, not of processing)"),
        Field("LastSeen", _MOMENT, TIME, doc="When it was last observed"),
        Field("ResolvedAt", f"Nullable({_MOMENT})", TIME, doc="When it was so no more; NULL: it is open"),
        low("Resolution", "Why it is resolved: recovered, quiet (not observed for long enough), evicted (too many were open)"),
        *(text(name, f"Of the subject; empty where the finding is not about one {dimension}") for name, dimension in FINDING_SUBJECT.items()),
        Field("Subject", MAP, ZSTD, doc="Whom it is about, by dimension"),
        Field("Measured", "Nullable(Float64)", ZSTD, doc="What was measured last"),
        Field("Expected", "Nullable(Float64)", ZSTD, doc="What it was measured against"),
        low("Unit", "Unit of both"),
        Field("CostUSD", "Nullable(Decimal(38, 12))", ZSTD, doc="Money at stake; NULL where no observation names any"),
        text("Message", "What it is, in a sentence"),
        Field("Observations", "UInt64", "T64, ZSTD(1)", doc="How often it was observed"),
        Field("TraceIds", "Array(String)", ZSTD, doc="Evidence: traces of the first few spans that show it"),
        Field("SpanIds", "Array(String)", ZSTD, doc="Evidence: these spans"),
        Field("Day", "Date", ZSTD, doc="UTC day of FirstSeen"),
        Field("Version", "UInt64", "T64, ZSTD(1)", doc="Rises with every change"),
    ),
    engine="ReplacingMergeTree(`Version`)",
    order_by="(Day, Kind, FindingId)",
    partition_by="toYYYYMM(Day)",
    ttl="Day",
    sharding="cityHash64(FindingId)",
)  # fmt: skip

#: No window is open for longer: a rolling one has 90 days, and takes late calls for as long again.
SHARES_DAYS = 200
SHARES_OF = Table(
    SHARES_TABLE,
    "What each of several collectors counts of budgets that they share. Ask it with FINAL: the sum over collectors is what is used",
    (
        low("Scope", "What is counted: dimensions, filters and window, as a number. Budgets that count the same have one"),
        Field("Period", _MOMENT, TIME, doc="Start of the window, or of a step of a rolling one"),
        Field("Dimensions", "Array(LowCardinality(String))", ZSTD, doc="What there is a counter for each value of"),
        Field("Values", "Array(String)", ZSTD, doc="Of these dimensions, in this order; empty: the call has none"),
        low("Collector", "Whose share it is"),
        Field("CostUSD", "Decimal(38, 12)", ZSTD, doc="Known cost of the calls that it counted"),
        Field("Tokens", "Int64", "T64, ZSTD(1)", doc="Input and output tokens of these"),
        Field("Calls", "Int64", "T64, ZSTD(1)", doc="How many these are"),
        Field("LastCall", _MOMENT, TIME, doc="Start of the newest one"),
        Field("Said", "Map(String, Int64)", ZSTD, doc="Lines of which it tells: since when it wants to (Unix time, ns), or minus the time of the finding by which it has"),
        Field("Version", "UInt64", "T64, ZSTD(1)", doc="Rises with every change; below 2^62: what another collector found in the ledger of it"),
        Field("Written", "DateTime64(3, 'UTC')", "Delta(8), ZSTD(1)", default="now64(3)", doc="When it came to the server"),
    ),
    engine="ReplacingMergeTree(`Version`)",
    order_by="(Scope, Period, Values, Collector)",
    partition_by="toYYYYMM(Period)",
    indexes=("INDEX idx_written `Written` TYPE minmax GRANULARITY 1",),
    ttl="toDate(Period)",
    sharding="cityHash64(Scope, Values)",
)  # fmt: skip

SCHEMA_OF = Table(
    SCHEMA_TABLE,
    "Which schema versions were put in place, and when",
    (Field("Version", "UInt32", doc="Schema version"), Field("AppliedAt", "DateTime('UTC')", doc="When")),
    engine="MergeTree",
    order_by="Version",
    sharding="Version",
)


#: Seconds from the end of a span to its arrival. Clocks that run ahead give less than nothing.
DELAY = "greatest(0, toUnixTimestamp(Received) - (toUnixTimestamp64Nano(Timestamp) + Duration) / 1e9)"
#: Its median and what 95 of 100 spans stay below, as an array.
DELAYS = f"quantilesTDigest(0.5, 0.95)({DELAY})"
#: Who looks at days of spans asks in these terms, and no span is read: what came in and how late, and what redaction found.
OF_SPANS = (
    Projection(
        "arrivals",
        ("toStartOfHour(Received)", "ServiceName", "Dialect"),
        # Not `!= ''`, which the engine turns into something of its own in the question, and not here.
        ("count()", "countIf(CallId > '')", "countIf(StatusCode = 'Error')", "max(Received)"),
    ),
    Projection("delays", ("toStartOfHour(Received)",), (DELAYS,)),
    Projection(
        "privacy",
        ("toDate(Timestamp)", "App", "Team", "Provider"),
        ("countMap(Pii)", "sumMap(Pii)", "countMap(PiiInRequest)", "sumMap(PiiInRequest)"),
    ),
)


def traces(name: str) -> Table:
    """The spans' table, called `name`."""
    return Table(
        name,
        "Every span: the OpenTelemetry Collector's columns, then ours",
        (*COLLECTOR_FIELDS, *OUR_FIELDS, RECEIVED, *ALIASES),
        engine="MergeTree",
        primary_key="(ServiceName, SpanName, toDateTime(Timestamp))",
        order_by="(ServiceName, SpanName, toDateTime(Timestamp), Timestamp)",
        partition_by="toDate(Received)",
        indexes=(
            "INDEX idx_timestamp `Timestamp` TYPE minmax GRANULARITY 1",
            "INDEX idx_trace_id `TraceId` TYPE bloom_filter(0.001) GRANULARITY 1",
            "INDEX idx_res_attr_key mapKeys(`ResourceAttributes`) TYPE bloom_filter(0.01) GRANULARITY 1",
            "INDEX idx_res_attr_value mapValues(`ResourceAttributes`) TYPE bloom_filter(0.01) GRANULARITY 1",
            "INDEX idx_span_attr_key mapKeys(`SpanAttributes`) TYPE bloom_filter(0.01) GRANULARITY 1",
            "INDEX idx_span_attr_value mapValues(`SpanAttributes`) TYPE bloom_filter(0.01) GRANULARITY 1",
            "INDEX idx_duration `Duration` TYPE minmax GRANULARITY 1",
            "INDEX idx_lower_span_name lower(`SpanName`) TYPE tokenbf_v1(32768, 3, 0) GRANULARITY 8",
        ),
        ttl="toDate(Received)",
        whole_parts=True,
        sharding="cityHash64(TraceId)",
        projections=OF_SPANS,
    )


def logs(name: str) -> Table:
    """The log records' table, called `name`."""
    maps = (("res", "ResourceAttributes"), ("scope", "ScopeAttributes"), ("log", "LogAttributes"))
    return Table(
        name,
        "Every log record: the OpenTelemetry Collector's columns, and when it came in",
        (*LOG_FIELDS, RECEIVED, TIMESTAMP_TIME),
        engine="MergeTree",
        order_by="(toStartOfFiveMinutes(Timestamp), ServiceName, Timestamp)",
        partition_by="toDate(Received)",
        indexes=(
            "INDEX idx_timestamp `Timestamp` TYPE minmax GRANULARITY 1",
            "INDEX idx_trace_id `TraceId` TYPE bloom_filter(0.001) GRANULARITY 1",
            *(
                f"INDEX idx_{short}_attr_{part} map{part.title()}s(`{column}`) TYPE bloom_filter(0.01) GRANULARITY 1"
                for short, column in maps
                for part in ("key", "value")
            ),
            "INDEX idx_lower_body lower(`Body`) TYPE tokenbf_v1(32768, 3, 0) GRANULARITY 8",
        ),
        ttl="toDate(Received)",
        whole_parts=True,
        sharding="cityHash64(Timestamp, TraceId, SpanId, Body)",
    )


def trace_times(name: str) -> Table:
    """When each trace of the spans' table `name` began and ended, for looking one up by its id."""
    return Table(
        f"{name}_trace_id_ts",
        "First and last second of each trace, for looking one up by its id",
        (
            Field("TraceId", "String", ZSTD, doc="Trace"),
            Field("Start", "SimpleAggregateFunction(min, DateTime)", "Delta(4), ZSTD(1)", doc="First span's start"),
            Field("End", "SimpleAggregateFunction(max, DateTime)", "Delta(4), ZSTD(1)", doc="Last span's start"),
        ),
        engine="AggregatingMergeTree",
        order_by="TraceId",
        partition_by="toYYYYMM(Start)",
        ttl="toDate(Start)",
        sharding="cityHash64(TraceId)",
    )


def trace_times_view(name: str) -> MaterializedView:
    """What fills `trace_times`."""
    select = "SELECT TraceId, min(Timestamp) AS Start, max(Timestamp) AS End FROM {source} WHERE TraceId != '' GROUP BY TraceId"
    return MaterializedView(f"{name}_trace_id_ts_mv", name, f"{name}_trace_id_ts", select)


def tables(traces_name: str, logs_name: str) -> tuple[Table, ...]:
    """All tables, in the order in which they are made."""
    ours = CALLS_OF, HOURLY_OF, TRAFFIC_OF, FINDINGS_OF, SHARES_OF, SCHEMA_OF
    return traces(traces_name), trace_times(traces_name), logs(logs_name), *ours
