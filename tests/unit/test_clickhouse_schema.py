"""The declared schema and its DDL: the Collector's columns to the letter, ours behind them, and what the options do."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from collector.columns import CALL_COLUMNS, SPAN_COLUMNS
from exporters.clickhouse import ddl, schema
from exporters.clickhouse.config import ClickHouseConfig
from exporters.clickhouse.ddl import Layout
from exporters.clickhouse.hourly import SUMS
from exporters.clickhouse.sum_rows import MEASURED, Moves, moved
from exporters.clickhouse.views import VIEWS
from tests import ledger_rows as rows

MAP = "Map(LowCardinality(String), String)"
#: The Collector's exporter: internal/sqltemplates/traces_table.sql.
COLLECTOR = {
    "Timestamp": "DateTime64(9)", "TraceId": "String", "SpanId": "String", "ParentSpanId": "String", "TraceState": "String",
    "SpanName": "LowCardinality(String)", "SpanKind": "LowCardinality(String)", "ServiceName": "LowCardinality(String)",
    "ResourceAttributes": MAP, "ScopeName": "String", "ScopeVersion": "String", "SpanAttributes": MAP, "Duration": "UInt64",
    "StatusCode": "LowCardinality(String)", "StatusMessage": "String", "Events.Timestamp": "Array(DateTime64(9))",
    "Events.Name": "Array(LowCardinality(String))", "Events.Attributes": f"Array({MAP})", "Links.TraceId": "Array(String)",
    "Links.SpanId": "Array(String)", "Links.TraceState": "Array(String)", "Links.Attributes": f"Array({MAP})",
}  # fmt: skip


#: internal/sqltemplates/logs_table.sql, as of v0.151.
COLLECTOR_LOGS = {
    "Timestamp": "DateTime64(9)", "TraceId": "String", "SpanId": "String", "TraceFlags": "UInt8",
    "SeverityText": "LowCardinality(String)", "SeverityNumber": "UInt8", "ServiceName": "LowCardinality(String)", "Body": "String",
    "ResourceSchemaUrl": "LowCardinality(String)", "ResourceAttributes": MAP, "ScopeSchemaUrl": "LowCardinality(String)",
    "ScopeName": "String", "ScopeVersion": "LowCardinality(String)", "ScopeAttributes": MAP, "LogAttributes": MAP, "EventName": "String",
}  # fmt: skip


def layout(**options: object) -> Layout:
    return Layout.of(ClickHouseConfig.model_validate(options))


def all_of(**options: object) -> str:
    return ";\n".join(ddl.statements(layout(**options)))


def test_spans_have_the_collectors_22_columns_first_and_then_ours() -> None:
    found = [(field.name, field.type) for field in schema.traces("otel_traces").inserted]
    assert found[:22] == list(COLLECTOR.items())
    assert [name for name, _ in found[22:]] == [column.clickhouse for column in SPAN_COLUMNS] + ["Received"]


def test_logs_have_the_collectors_16_columns_first() -> None:
    """And the column that its releases before v0.151 have, for readers that filter by it."""
    found = [(field.name, field.type) for field in schema.logs("otel_logs").inserted]
    assert found[:16] == list(COLLECTOR_LOGS.items())
    assert found[16:] == [("Received", "DateTime('UTC')")]
    assert "`TimestampTime` DateTime ALIAS toDateTime(Timestamp)" in ddl.create_table(
        schema.logs("otel_logs"), layout()
    )


def test_calls_have_every_declared_column_under_its_clickhouse_name() -> None:
    declared, (collector,) = schema.CALLS_OF.fields[: len(CALL_COLUMNS)], schema.CALLS_OF.fields[len(CALL_COLUMNS) :]
    assert [field.name for field in declared] == [column.clickhouse for column in CALL_COLUMNS]
    assert [field.type for field in declared] == [column.clickhouse_type for column in CALL_COLUMNS]
    assert collector.name == "Collector"
    assert {"Version", "Withdrawn"} == {f.name for f in schema.CALLS_OF.fields} - set(schema.CALL_NAMES)


def test_every_table_remembers_insert_tokens() -> None:
    """Plain MergeTree forgets them unless it is told not to, and then every retried insert counts twice."""
    for table in schema.tables("otel_traces", "otel_logs"):
        assert "non_replicated_deduplication_window = 10000" in ddl.create_table(table, layout())


def test_names_are_quoted_wherever_a_statement_has_one() -> None:
    assert ddl.quote("a`b\\c") == "`a\\`b\\\\c`"
    assert ddl.text("it's \\ so") == "'it\\'s \\\\ so'"
    created = re.findall(
        r"CREATE (?:OR REPLACE )?(?:TABLE|VIEW|MATERIALIZED VIEW|DATABASE)(?: IF NOT EXISTS)? ([^\s;]+)", all_of()
    )
    assert len(created) == 1 + 9 + 1 + len(VIEWS)
    assert all(re.fullmatch(r"(`\w+`\.)?`\w+`", name) for name in created)


def test_ttl_is_in_whole_days_rounded_up_and_absent_without_the_option() -> None:
    assert re.findall("TTL (.*)", all_of()) == [
        "toDate(Period) + toIntervalDay(200)"
    ]  # no budget's window is open any more
    kept = all_of(ttl="36h", ledger_ttl="90d", findings_ttl="30d")
    assert kept.count("TTL toDate(Received) + toIntervalDay(2)") == 2
    assert kept.count("TTL Day + toIntervalDay(90)") == 1
    assert kept.count("TTL Day + toIntervalDay(30)") == 1
    assert kept.count("TTL toDate(Hour) + toIntervalDay(90)") == 2


def test_a_cluster_gets_replicated_engines_on_every_node() -> None:
    made = all_of(dsn="http://ch:8123/llm", cluster="main")
    assert made.count("ON CLUSTER `main`") == made.count("CREATE ")
    assert set(re.findall(r"ENGINE = (\w+)", made)) == {
        "ReplicatedMergeTree", "ReplicatedAggregatingMergeTree", "ReplicatedReplacingMergeTree", "ReplicatedSummingMergeTree",
    }  # fmt: skip
    assert "replicated_deduplication_window = 10000" in made
    assert "non_replicated" not in made


def test_distributed_tables_stand_over_local_ones_and_keep_a_calls_versions_on_one_shard() -> None:
    made = all_of(dsn="http://ch:8123/llm", cluster="main", distributed=True)
    assert "CREATE TABLE IF NOT EXISTS `llm`.`llm_calls_versions_local` ON CLUSTER `main`" in made
    assert "Distributed(`main`, `llm`, `llm_calls_versions_local`, cityHash64(CallId))" in made
    assert "Distributed(`main`, `llm`, `otel_logs_local`, cityHash64(Timestamp, TraceId, SpanId, Body))" in made
    assert "rand()" not in made, "a block that is sent again must be parted as before"
    assert "TO `llm`.`otel_traces_trace_id_ts_local`" in made
    assert "FROM `llm`.`llm_calls_versions` FINAL" in made


def test_database_and_table_names_come_from_the_options() -> None:
    made = all_of(
        dsn="http://ch:8123/from_dsn", database="from_option", traces_table_name="spans", logs_table_name="logs"
    )
    assert "`from_dsn`" not in made
    assert "`from_option`.`spans_trace_id_ts_mv`" in made
    assert "`from_option`.`logs`" in made
    assert "`otel_traces`" not in made
    assert "`otel_logs`" not in made


@pytest.mark.parametrize(
    "options",
    [
        {"database": "a`b"},
        {"traces_table_name": "x; DROP TABLE y"},
        {"logs_table_name": "x y"},
        {"traces_table_name": "otel_logs"},
        {"dsn": "http://ch/", "cluster": "a b"},
        {"distributed": True},
        {"cluster": "main"},
    ],
)
def test_options_that_are_no_plain_names_or_do_not_go_together_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ClickHouseConfig.model_validate(options)


def test_hourly_sums_are_kept_without_users_too_which_a_merge_makes_anew() -> None:
    """Every column but the user: what any figure asks that names nobody is answered from it."""
    (one,) = schema.HOURLY_OF.projections
    assert {*one.keys, *(total[4:-1] for total in one.aggregates), "User"} == {
        field.name for field in schema.HOURLY_OF.fields
    }
    made = ddl.create_table(schema.HOURLY_OF, layout())
    assert f"PROJECTION `{one.name}` (SELECT Hour, Team, App, Environment, Provider, Model, sum(Calls), " in made
    assert "deduplicate_merge_projection_mode = 'rebuild'" in made
    assert [t.name for t in schema.tables("a", "b") if "PROJECTION" in ddl.create_table(t, layout())] == [
        "a",
        schema.HOURLY_TABLE,
    ]


def test_hourly_sums_have_a_way_to_each_column_from_the_pipelines_rows() -> None:
    for sums in SUMS:
        assert [field.name for field in sums.table.fields] == [*sums.key_names, *(m.name for m in sums.measures)]
        assert {measure.name for measure in sums.measures} <= set(MEASURED)
        made = moved(sums, [Moves.of(rows.calls([rows.call("a")]), 1)])
        assert made.columns == [field.name for field in sums.table.fields]
