"""What tables are declared of: columns, projections, tables, and what fills one from another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from collector.columns import Column


@dataclass(frozen=True, slots=True)
class Field:
    """A column of a table. `alias` is the expression of an ALIAS column, which is computed when it is read; `default` of a column
    that rows do not bring along."""

    name: str
    type: str
    codec: str = ""
    alias: str = ""
    default: str = ""
    doc: str = ""
    column: Column | None = None


@dataclass(frozen=True, slots=True)
class Projection:
    """The same rows once more inside a table's parts, aggregated by fewer keys. Parts carry it: it is never ahead of the table
    or behind it, and the engine answers from it whatever asks for nothing else, in the same terms."""

    name: str
    keys: tuple[str, ...]
    aggregates: tuple[str, ...]

    @property
    def select(self) -> str:
        keys = ", ".join(self.keys)
        return f"SELECT {keys}, {', '.join(self.aggregates)} GROUP BY {keys}"


@dataclass(frozen=True, slots=True)
class Table:
    """A table. `engine` without Replicated; `ttl` is a date expression that the kept days are added to."""

    name: str
    doc: str
    fields: tuple[Field, ...]
    engine: str
    order_by: str
    sharding: str  # of what is in the row alone, so that a block that is sent again is parted as before
    partition_by: str = ""
    primary_key: str = ""
    indexes: tuple[str, ...] = ()
    ttl: str = ""
    whole_parts: bool = False
    projections: tuple[Projection, ...] = ()

    @property
    def inserted(self) -> Iterator[Field]:
        """The columns that rows bring along."""
        return (field for field in self.fields if not field.alias and not field.default)


@dataclass(frozen=True, slots=True)
class MaterializedView:
    """What is written to `target` whenever rows come into `source`."""

    name: str
    source: str
    target: str
    select: str


ZSTD = "ZSTD(1)"
TIME = "Delta(8), ZSTD(1)"
MAP = "Map(LowCardinality(String), String)"
ITEMS = "arrayMap((key, value) -> concat(key, '=', value), mapKeys({0}), mapValues({0}))"


def text(name: str, doc: str) -> Field:
    return Field(name, "String", ZSTD, doc=doc)


def low(name: str, doc: str) -> Field:
    return Field(name, "LowCardinality(String)", ZSTD, doc=doc)


def field_of(column: Column) -> Field:
    """A declared column as ClickHouse keeps it. Raises `ValueError` for one that stays inside the pipeline."""
    if column.clickhouse is None or column.clickhouse_type is None:
        raise ValueError(f"the column {column.name} has no ClickHouse name")
    kind = column.clickhouse_type
    number = "UInt64" in kind or "UInt32" in kind
    codec = TIME if kind.startswith("DateTime64") else "T64, ZSTD(1)" if number and not kind.startswith("Map") else ZSTD
    return Field(column.clickhouse, kind, codec, doc=column.doc, column=column)
