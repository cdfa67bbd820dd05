"""Batches of reports for tests of the ledger, without OTLP bodies: spans have ids and parents, reports have columns."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from prometheus_client import CollectorRegistry

from collector.batch import Position, SpanBatch
from collector.columns import CALL_COLUMNS, DIMENSIONS, REPORT_COLUMNS, SPAN_COLUMNS, TAGS, schema
from collector.ledger import Ledger
from collector.ledger.rows import MONEY
from collector.otlp.tables import (
    AttributeTable,
    EventTable,
    LinkTable,
    Ranges,
    ResourceTable,
    ScopeTable,
    SpanTable,
    Text,
    Traces,
)
from config.model import LedgerConfig

MS = 1_000_000
SECOND = 1000 * MS
START = 1_795_000_000 * SECOND
REPORT_SCHEMA = schema(REPORT_COLUMNS) | {
    name: dtype
    for d in DIMENSIONS
    for name, dtype in ((d.name, pl.String()), (f"{d.name}_rank", pl.Int16()), (f"{d.name}_rule", pl.String()))
} | {"tags": TAGS.dtype}  # fmt: skip


@dataclass(frozen=True)
class Span:
    """A span: numbers for ids, the parent's number (0: none), and the columns of its report (None: it is none)."""

    trace: int
    id: int
    parent: int = 0
    report: dict[str, Any] | None = None

    @property
    def key(self) -> tuple[str, str]:
        return (f"{self.trace:032x}", f"{self.id:016x}")


def call(trace: int, id_: int, parent: int = 0, at: int = 0, took: int = 100, **columns: Any) -> Span:
    """A span that reports a call; `at` and `took` in milliseconds. Counts `i` and `o` for input and output tokens."""
    report: dict[str, Any] = {
        "start_ns": START + at * MS,
        "duration_ns": took * MS,
        "service_name": "app",
        "status": "Unset",
        "role": "call",
        "dialect": "otel",
        "source": "otel app",
        "rank": 2,
        "operation": "chat",
        "request_model": "gpt-4o-mini",
    }
    for short, name in (
        ("i", "input_tokens"),
        ("o", "output_tokens"),
        ("id", "response_id"),
        ("model", "request_model"),
    ):
        if short in columns:
            columns[name] = columns.pop(short)
    return Span(trace, id_, parent, report | columns)


GATEWAY: dict[str, Any] = {"source": "litellm gw", "rank": 1, "dialect": "litellm", "service_name": "gw"}
SDK: dict[str, Any] = {"source": "anthropic app", "rank": 0, "dialect": "anthropic_sdk"}


def by(name: str, value: str, rank: int, rule: str) -> dict[str, Any]:
    """What attribution decided of a dimension."""
    return {name: value, f"{name}_rank": rank, f"{name}_rule": rule}


def batch_of(spans: Sequence[Span], position: int = 1, received_ns: int = START) -> SpanBatch:
    """A batch as it comes to the ledger."""
    rows = [(number, span) for number, span in enumerate(spans) if span.report is not None]
    records = [
        {**dict.fromkeys(REPORT_SCHEMA), "span": n, "trace_id": s.key[0], "span_id": s.key[1], **(s.report or {})}
        for n, s in rows
    ]
    reports = pl.DataFrame(records, schema=REPORT_SCHEMA)
    empty = {name: pl.Series([None] * len(spans), dtype=dtype) for name, dtype in schema(SPAN_COLUMNS).items()}
    return SpanBatch(
        otlp=_traces(spans), position=Position(position, position), received_ns=received_ns, spans=pl.DataFrame(empty), reports=reports
    )  # fmt: skip


def _traces(spans: Sequence[Span]) -> Traces:
    data = b"".join(bytes.fromhex(s.key[0] + s.key[1]) + s.parent.to_bytes(8, "big") for s in spans)
    count = len(spans)
    starts = np.arange(count, dtype=np.int64) * 32
    none = np.zeros(count, dtype=np.int32)
    empty = Text(starts, none)
    nothing = Text(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int32))
    no32, no8, no64, nou = (np.zeros(0, dtype=d) for d in (np.int32, np.uint8, np.int64, np.uint64))
    ranges = Ranges(no32, no32)
    ids = np.ascontiguousarray(np.frombuffer(data, dtype="<i8").reshape(count, 4).T)
    table = SpanTable(
        none, none, empty, Text(starts, none + 16), Text(starts + 16, none + 8),
        Text(starts + 24, np.array([8 if s.parent else 0 for s in spans], dtype=np.int32)), ids, empty, empty, none,
        none.astype(np.uint64), none.astype(np.uint64), none, empty, none.astype(np.uint32), Ranges(none, none), none, none, none, none,
    )  # fmt: skip
    return Traces(
        data=np.frombuffer(data, dtype=np.uint8), resources=ResourceTable(nothing, nothing, nothing, ranges),
        scopes=ScopeTable(no32, nothing, nothing, nothing, nothing, nothing, ranges), spans=table,
        events=EventTable(no32, nothing, nou, nothing, ranges),
        links=LinkTable(no32, nothing, nothing, nothing, nothing, ranges),
        attributes=AttributeTable(no8, no32, no32, no8, nothing, no64, nothing), keys=[],
    )  # fmt: skip


class Memory:
    """A component's part of the state, in memory: what is written shows up at `commit`, or not at all."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self._before: dict[bytes, bytes] | None = None

    def get(self, key: bytes) -> bytes | None:
        return self.values.get(key)

    def items(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted((k, v) for k, v in self.values.items() if k.startswith(prefix)))

    def put(self, key: bytes, value: bytes) -> None:
        self.values[key] = value

    def delete(self, key: bytes) -> None:
        self.values.pop(key, None)

    def copy(self) -> Memory:
        other = Memory()
        other.values = dict(self.values)
        return other


def price(batch: SpanBatch) -> SpanBatch:
    """Stands for pricing: a call costs its tokens; one without usage costs nobody knows what."""
    known = pl.col("input_tokens").is_not_null() | pl.col("output_tokens").is_not_null()
    tokens = pl.col("input_tokens").fill_null(0) * 3 + pl.col("output_tokens").fill_null(0) * 5
    hit = pl.col("response_cache_hit").fill_null(False)
    calls = batch.calls.with_columns(
        cost_pico=pl.when(hit).then(0).when(known).then(tokens).cast(pl.Int64()),
        price_status=pl.when(hit).then(pl.lit("cached_replay")).when(known).then(pl.lit("priced")).otherwise(pl.lit("missing_usage")),
    )  # fmt: skip
    return batch.with_(calls=calls)


class Books:
    """A ledger, its state, and the table of calls that an exporter would hold."""

    def __init__(self, **config: Any) -> None:
        self.config = LedgerConfig(**config)
        self.state = Memory()
        self.table: dict[str, dict[str, Any]] = {}
        self.spans: list[pl.DataFrame] = []
        self.total = 0  # what a counter shows that moves by `calls` minus `replaced`
        self.position = 0
        self.now = START
        self.restart()

    def restart(self) -> None:
        self.registry = CollectorRegistry()
        self.ledger = Ledger(self.config, self.registry)
        self.ledger.load(self.state)

    def process(self, spans: Sequence[Span]) -> SpanBatch:
        """A batch's way up to the commit."""
        self.position += 1
        batch = self.ledger.merge(batch_of(spans, self.position, self.now), self.state)
        return self.ledger.annotate(price(batch))

    def take(self, spans: Sequence[Span]) -> SpanBatch:
        """Process and commit."""
        batch = self.process(spans)
        self.ledger.save(self.state, batch)
        self.apply(batch)
        return batch

    def apply(self, batch: SpanBatch) -> None:
        """Do what an exporter and a counter do with a committed batch."""
        before = {row["call_id"]: row for row in batch.replaced.to_dicts()}
        for row in batch.calls.to_dicts():
            old = self.table.get(row["call_id"])
            if row["call_id"] in before:
                assert old == before[row["call_id"]], "replaced is the row in force, exactly as it was saved"
            else:
                assert old is None or old["withdrawn"], "a row in force is given in `replaced`"
            assert old is None or row["version"] > old["version"]
            assert old is None or row["day"] == old["day"] or old["withdrawn"]
            self.table[row["call_id"]] = row
        assert set(before) <= set(batch.calls["call_id"])
        self.total += _cost(row for row in batch.calls.to_dicts() if not row["withdrawn"])
        self.total -= _cost(before.values())
        self.spans.append(batch.spans)

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The rows in force."""
        return [row for row in self.table.values() if not row["withdrawn"]]

    def cost(self) -> int:
        cost = _cost(self.calls)
        assert cost == self.total, "counters that move by differences agree with the table"
        return cost


def _cost(rows: Iterable[dict[str, Any]]) -> int:
    return sum(row["cost_pico"] or 0 for row in rows)


def facts(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What must not depend on order: the rows without id, day, version and money."""
    left_out = {"call_id", "day", "version", "withdrawn", *MONEY}
    names = [name for name in schema(CALL_COLUMNS) if name not in left_out]
    return sorted(({name: row[name] for name in names} for row in rows), key=repr)


def split(spans: Sequence[Span], cuts: int, seed: int) -> list[list[Span]]:
    """The spans in random order, in random batches."""
    shuffled = list(spans)
    chance = random.Random(seed)
    chance.shuffle(shuffled)
    edges = sorted(chance.randint(0, len(shuffled)) for _ in range(cuts))
    return [shuffled[a:b] for a, b in zip([0, *edges], [*edges, len(shuffled)], strict=True)]
