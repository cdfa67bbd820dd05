"""The declared schema as statements: for one server, for a cluster, with Distributed tables over the local ones."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from exporters.clickhouse import schema
from exporters.clickhouse.config import ClickHouseConfig
from exporters.clickhouse.declare import Field, Projection, Table
from exporters.clickhouse.hourly import COSTS
from exporters.clickhouse.schema import DEDUPLICATION_WINDOW
from exporters.clickhouse.views import VIEWS, View

_WEEK = 7 * 24 * 3600
#: What a table with projections needs so that they are made anew where merges or deletes change rows (ClickHouse 24.8 and newer).
REBUILT = {"deduplicate_merge_projection_mode": "'rebuild'", "lightweight_mutation_projection_mode": "'rebuild'"}


def quote(name: str) -> str:
    """An identifier as ClickHouse reads it back whatever it holds."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def text(value: str) -> str:
    """A string literal."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the tables go and how: what the options say, in the terms of DDL. TTLs are in whole days, 0 is for ever."""

    database: str
    traces: str = "otel_traces"
    logs: str = "otel_logs"
    ttl_days: int = 0
    ledger_ttl_days: int = 0
    findings_ttl_days: int = 0
    cluster: str | None = None
    distributed: bool = False

    @classmethod
    def of(cls, config: ClickHouseConfig) -> Layout:
        """The layout that the config asks for."""
        return cls(
            config.database_name,
            config.traces_table_name,
            config.logs_table_name,
            math.ceil(config.ttl / 86400),
            math.ceil(config.ledger_ttl / 86400),
            math.ceil(config.findings_ttl / 86400),
            config.cluster,
            config.distributed,
        )

    def name(self, table: str) -> str:
        """A table's or view's full name, quoted."""
        return f"{quote(self.database)}.{quote(table)}"

    def local(self, table: str) -> str:
        """The name of the table that holds the rows: with Distributed tables another one."""
        return f"{table}_local" if self.distributed else table

    @property
    def on_cluster(self) -> str:
        return f" ON CLUSTER {quote(self.cluster)}" if self.cluster else ""

    def days(self, table: Table) -> int:
        """How many days the rows of a table are kept, 0 for ever."""
        if table.name == schema.SCHEMA_TABLE:
            return 0
        if table.name == schema.FINDINGS_TABLE:
            return self.findings_ttl_days
        if table.name == schema.SHARES_TABLE:
            return schema.SHARES_DAYS
        return (
            self.ledger_ttl_days
            if table.name in (schema.CALLS_TABLE, schema.HOURLY_TABLE, schema.TRAFFIC_TABLE)
            else self.ttl_days
        )

    @property
    def tables(self) -> tuple[Table, ...]:
        return schema.tables(self.traces, self.logs)


def column(field: Field) -> str:
    """A column's definition."""
    parts = [quote(field.name), field.type]
    if field.alias:
        parts.append(f"ALIAS {field.alias}")
    if field.default:
        parts.append(f"DEFAULT {field.default}")
    if field.codec:
        parts.append(f"CODEC({field.codec})")
    return " ".join(parts) + (f" COMMENT {text(field.doc)}" if field.doc else "")


def ttl(table: Table, layout: Layout) -> str:
    """The TTL expression of a table, empty where rows are kept for ever."""
    days = layout.days(table)
    return f"{table.ttl} + toIntervalDay({days})" if table.ttl and days else ""


def settings(table: Table, layout: Layout) -> dict[str, int | str]:
    """A table's own settings. The windows make an insert that is repeated under its token a no-op."""
    found: dict[str, int | str]
    if layout.cluster:
        found = {
            "replicated_deduplication_window": DEDUPLICATION_WINDOW,
            "replicated_deduplication_window_seconds": _WEEK,
        }
    else:
        found = {"non_replicated_deduplication_window": DEDUPLICATION_WINDOW}
    if table.whole_parts:
        found["ttl_only_drop_parts"] = 1
    if table.projections:
        found |= REBUILT
    return found


def projection(one: Projection) -> str:
    """A projection's definition."""
    return f"{quote(one.name)} ({one.select})"


def create_table(table: Table, layout: Layout) -> str:
    """CREATE TABLE of the table that holds the rows."""
    lines = [f"    {column(field)}" for field in table.fields] + [f"    {index}" for index in table.indexes]
    lines += [f"    PROJECTION {projection(one)}" for one in table.projections]
    engine = f"Replicated{table.engine}" if layout.cluster else table.engine
    clauses = [f"ENGINE = {engine}"]
    if table.partition_by:
        clauses.append(f"PARTITION BY {table.partition_by}")
    if table.primary_key:
        clauses.append(f"PRIMARY KEY {table.primary_key}")
    clauses.append(f"ORDER BY {table.order_by}")
    if expression := ttl(table, layout):
        clauses.append(f"TTL {expression}")
    clauses.append("SETTINGS " + ", ".join(f"{name} = {value}" for name, value in settings(table, layout).items()))
    clauses.append(f"COMMENT {text(table.doc)}")
    name = layout.name(layout.local(table.name))
    return (
        f"CREATE TABLE IF NOT EXISTS {name}{layout.on_cluster}\n(\n" + ",\n".join(lines) + "\n)\n" + "\n".join(clauses)
    )


def create_distributed(table: Table, layout: Layout) -> str:
    """CREATE TABLE of the Distributed table over the local ones."""
    parts = (
        f"{quote(layout.cluster or '')}, {quote(layout.database)}, {quote(layout.local(table.name))}, {table.sharding}"
    )
    return (
        f"CREATE TABLE IF NOT EXISTS {layout.name(table.name)}{layout.on_cluster} "
        f"AS {layout.name(layout.local(table.name))}\nENGINE = Distributed({parts})"
    )


def create_trace_times_view(layout: Layout) -> str:
    """CREATE MATERIALIZED VIEW of what fills the table of trace times."""
    view = schema.trace_times_view(layout.traces)
    source, target = layout.name(layout.local(view.source)), layout.name(layout.local(view.target))
    return (
        f"CREATE MATERIALIZED VIEW IF NOT EXISTS {layout.name(view.name)}{layout.on_cluster} TO {target} AS\n"
        + view.select.format(source=source)
    )


def select_of(view: View, layout: Layout) -> str:
    """A view's SELECT with the tables' full names."""
    return view.select.format(
        traces=layout.name(layout.traces),
        calls=layout.name(schema.CALLS),
        calls_table=layout.name(schema.CALLS_TABLE),
        hourly=layout.name(COSTS.view),
        hourly_table=layout.name(schema.HOURLY_TABLE),
        traffic_table=layout.name(schema.TRAFFIC_TABLE),
        findings_table=layout.name(schema.FINDINGS_TABLE),
    )


def create_view(view: View, layout: Layout) -> str:
    """CREATE OR REPLACE VIEW."""
    return f"CREATE OR REPLACE VIEW {layout.name(view.name)}{layout.on_cluster} AS\n{select_of(view, layout)}"


def statements(layout: Layout) -> Iterator[str]:
    """Everything, in order, for an empty server."""
    yield f"CREATE DATABASE IF NOT EXISTS {quote(layout.database)}{layout.on_cluster}"
    for table in layout.tables:
        yield create_table(table, layout)
        if layout.distributed:
            yield create_distributed(table, layout)
    yield create_trace_times_view(layout)
    for view in VIEWS:
        yield create_view(view, layout)
    yield f"INSERT INTO {layout.name(schema.SCHEMA_TABLE)} SELECT {schema.SCHEMA_VERSION}, now()"
