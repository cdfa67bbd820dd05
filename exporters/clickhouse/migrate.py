"""Creating the schema, bringing an older one up to date, and saying clearly why a foreign one cannot be used."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from collector.errors import Retryable
from collector.signals import Signal
from exporters.clickhouse import ddl, schema
from exporters.clickhouse.ddl import Layout, text
from exporters.clickhouse.declare import Field, Table
from exporters.clickhouse.hourly import TRAFFIC
from exporters.clickhouse.views import VIEWS

logger = logging.getLogger(__name__)

#: Run a statement without a result.
Command = Callable[[str], object]
#: Run a SELECT and get its rows.
Rows = Callable[[str], list[tuple[str, ...]]]


#: The schema version that had no sums of traffic.
_WITHOUT_TRAFFIC = 1


class Incompatible(Retryable):
    """The tables that are there cannot take our rows. Somebody has to do something; then the same payloads are taken."""


def migrate(layout: Layout, command: Command, rows: Rows) -> bool:
    """Create what is missing, add columns that are new, replace the views. Raises `Incompatible`.

    Gives whether the schema is whole. Where an older release was, it is not yet: sums that it did not keep have been made of
    the calls that are there, but what it committed and could not send may bring more. `settle` once that is sent.
    """
    command(f"CREATE DATABASE IF NOT EXISTS {ddl.quote(layout.database)}{layout.on_cluster}")
    found = _version(layout, rows)
    if found > schema.SCHEMA_VERSION:
        raise Incompatible(
            f"the database {layout.database} has schema version {found}, made by a newer Spanledger; this one knows "
            f"{schema.SCHEMA_VERSION}: install the newer release, or name another database"
        )
    for declared in layout.tables:
        table = declared if not declared.projections or _can_project(rows) else replace(declared, projections=())
        command(ddl.create_table(table, layout))
        _extend(table, layout, command, rows)
        if layout.distributed:
            command(ddl.create_distributed(table, layout))
    command(ddl.create_trace_times_view(layout))
    for view in VIEWS:
        command(ddl.create_view(view, layout))
    if found == _WITHOUT_TRAFFIC:
        fill(layout, command, rows)
        return False
    if found < schema.SCHEMA_VERSION:
        settle(layout, command)
    return True


def fill(layout: Layout, command: Command, rows: Rows) -> None:
    """Make the hourly sums of traffic of the calls that are there, anew if need be."""
    local, calls = layout.name(layout.local(schema.TRAFFIC_TABLE)), layout.name(schema.CALLS)
    command(f"TRUNCATE TABLE {local}{layout.on_cluster}")
    days = [
        day for (day,) in rows(f"SELECT DISTINCT toString(Day) AS d FROM {layout.name(schema.CALLS_TABLE)} ORDER BY d")
    ]
    logger.info("making %s of the calls of %d days", schema.TRAFFIC_TABLE, len(days))
    for day in days:
        # A day at a time: no more of them than these are in memory. What is inserted here has no token, and is never a repetition.
        insert = TRAFFIC.fill(layout.name(schema.TRAFFIC_TABLE), calls, f"Day = {text(day)}")
        command(f"{insert} SETTINGS insert_deduplicate = 0, distributed_foreground_insert = 1")


def settle(layout: Layout, command: Command) -> None:
    """Note that the schema is whole, so that no later start makes any of it anew."""
    command(f"INSERT INTO {layout.name(schema.SCHEMA_TABLE)} SELECT {schema.SCHEMA_VERSION}, now()")


def check(layout: Layout, signal: Signal, rows: Rows) -> None:
    """Whether tables that somebody else made can take the rows of a signal. Raises `Incompatible`, naming all that is wrong."""
    collectors = {layout.traces: schema.COLLECTOR_FIELDS, layout.logs: schema.LOG_FIELDS}
    wrong = []
    for table in layout.tables:
        of_logs = table.name == layout.logs
        if of_logs != (signal is Signal.LOGS) or table.name in (schema.SCHEMA_TABLE, f"{layout.traces}_trace_id_ts"):
            continue
        there = _columns(layout, table.name, rows)
        if not there:
            wrong.append(f"there is no table {table.name}")
            continue
        needed = collectors.get(table.name, tuple(table.inserted))
        missing = [f for f in needed if f.name not in there and f is not schema.EVENT_NAME]
        wrong += [f"{table.name} has no column {f.name} ({f.type})" for f in missing]
        wrong += _mismatches(table, there)
    if wrong:
        raise Incompatible(
            f"the tables in {layout.database} do not fit: {'; '.join(wrong)}. `spanledger schema` prints what is expected; "
            "with create_schema: true it is put in place"
        )
    if signal is Signal.TRACES and _can_project(rows):
        slow = [line for table in layout.tables for line in projecting(table, layout, rows)]
        if slow:
            logger.warning("answers are exact and slow until somebody runs: %s", "; ".join(slow))


def _version(layout: Layout, rows: Rows) -> int:
    if not _columns(layout, schema.SCHEMA_TABLE, rows):
        return 0
    ((newest,),) = rows(f"SELECT toString(max(Version)) FROM {layout.name(schema.SCHEMA_TABLE)}")
    return int(newest)


def _columns(layout: Layout, table: str, rows: Rows) -> dict[str, str]:
    """Column name → type of a table that is there; empty if it is not."""
    where = f"database = {text(layout.database)} AND table = {text(table)}"
    return {name: kind for name, kind in rows(f"SELECT name, type FROM system.columns WHERE {where} ORDER BY position")}  # noqa: C416


def _extend(table: Table, layout: Layout, command: Command, rows: Rows) -> None:
    """Add the columns that a table of an older release, or the Collector's, lacks, and set what deduplication needs."""
    local = layout.local(table.name)
    there = _columns(layout, local, rows)
    if wrong := _mismatches(table, there):
        raise Incompatible(
            f"the table {layout.database}.{local} does not fit: {'; '.join(wrong)}. Rename it, or name another database, "
            "traces_table_name or logs_table_name"
        )
    name = layout.name(local)
    for field, before in zip(table.fields, (None, *table.fields), strict=False):
        if field.name not in there:
            after = f" AFTER {ddl.quote(before.name)}" if before is not None else " FIRST"
            logger.info("adding the column %s to %s", field.name, local)
            command(f"ALTER TABLE {name}{layout.on_cluster} ADD COLUMN IF NOT EXISTS {ddl.column(field)}{after}")
    where = f"database = {text(layout.database)} AND name = {text(local)}"
    ((engine, statement),) = rows(f"SELECT engine, create_table_query FROM system.tables WHERE {where}")
    wanted = table.engine.partition("(")[0]
    if engine.removeprefix("Replicated").removeprefix("Shared") != wanted:
        raise Incompatible(
            f"the table {layout.database}.{local} has the engine {engine}, where {wanted} is needed: rename it, or name another database"
        )
    if engine == wanted and "non_replicated_deduplication_window" not in statement:
        setting = f"non_replicated_deduplication_window = {schema.DEDUPLICATION_WINDOW}"
        command(f"ALTER TABLE {name} MODIFY SETTING {setting}")
    expression = ddl.ttl(table, layout)
    if expression and re.sub(r"\s", "", expression) not in re.sub(r"\s", "", statement):
        logger.info("rows of %s are kept for %d days from now on", local, layout.days(table))
        command(f"ALTER TABLE {name}{layout.on_cluster} MODIFY TTL {expression}")
    for line in projecting(table, layout, rows):
        logger.info("bringing the projections of %s up to date", local)
        command(line)


def _can_project(rows: Rows) -> bool:
    """Whether the server keeps projections of tables whose merges change rows. Without them answers are the same, later."""
    return bool(rows(f"SELECT name FROM system.merge_tree_settings WHERE name = {text(next(iter(ddl.REBUILT)))}"))


def projecting(table: Table, layout: Layout, rows: Rows) -> Iterator[str]:
    """The statements that give a table, and each part that it has, its projections. None where all have them.

    The server makes them of older parts in the background. A part that has none yet is read as it is, so that sums are exact
    all the while, whoever writes meanwhile.
    """
    local = layout.local(table.name)
    alter = f"ALTER TABLE {layout.name(local)}{layout.on_cluster}"
    where = f"database = {text(layout.database)} AND table = {text(local)}"
    if not table.projections:
        return
    ((statement,),) = rows(f"SELECT create_table_query FROM system.tables WHERE {where}")
    new = [one for one in table.projections if f"PROJECTION {one.name} (" not in statement]
    missing = [
        one
        for one in table.projections
        if rows(
            f"SELECT name FROM system.parts WHERE {where} AND active AND NOT has(projections, {text(one.name)}) LIMIT 1"
        )
    ]
    if new:
        yield f"{alter} MODIFY SETTING {', '.join(f'{setting} = {value}' for setting, value in ddl.REBUILT.items())}"
        yield f"{alter} {', '.join(f'ADD PROJECTION IF NOT EXISTS {ddl.projection(one)}' for one in new)}"
    if missing:
        # All at once, and last: what changes a table waits until its parts are not being rewritten.
        yield f"{alter} {', '.join(f'MATERIALIZE PROJECTION {ddl.quote(one.name)}' for one in missing)} SETTINGS mutations_sync = 0"


def _mismatches(table: Table, there: dict[str, str]) -> list[str]:
    return [
        f"column {field.name} is {there[field.name]}, expected {field.type}"
        for field in table.inserted
        if field.name in there and not _same(field, there[field.name])
    ]


def _same(field: Field, kind: str) -> bool:
    """Whether a column can take our values: low cardinality, time zones and what an aggregate is for do not matter."""

    def plain(type_: str) -> str:
        type_ = re.sub(r"\s|, ?'[^']*'|\('[^']*'\)", "", type_)
        type_ = re.sub(r"LowCardinality\(((?:[^()]|\([^()]*\))*)\)", r"\1", type_)
        return re.sub(r"SimpleAggregateFunction\(\w+,(.*)\)", r"\1", type_)

    return plain(kind).replace("DateTime64(9)", "DateTime") == plain(field.type).replace("DateTime64(9)", "DateTime")
