"""Calls and batches for tests of exporters: rows of CALL_COLUMNS by name, spans by their OTLP bodies."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
from prometheus_client import CollectorRegistry

from collector.batch import Position, SpanBatch
from collector.columns import CALL_COLUMNS, SPAN_COLUMNS, schema
from collector.component import Context
from collector.otlp import decode
from tests.spans_kit import NOON_NS

DAY = datetime.date(2026, 11, 24)
RECEIVED_NS = NOON_NS + 60 * 10**9


def call(id_: str, **columns: Any) -> dict[str, Any]:
    """One version of a call."""
    row: dict[str, Any] = dict.fromkeys(schema(CALL_COLUMNS))
    row |= {
        "call_id": id_, "start_ns": NOON_NS, "duration_ns": 10**9, "trace_id": "a" * 32, "span_id": "b" * 16, "day": DAY, "version": 1,
        "withdrawn": False, "reports": ["litellm"], "report_count": 1, "status": "Unset", "service_name": "gateway",
        "provider": "openai", "request_model": "gpt-4o", "team": "search", "usage_flags": [], "tags": [], "price_assumptions": [],
    }  # fmt: skip
    return row | columns


def calls(rows: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """Rows of `call` as `SpanBatch.calls`."""
    return pl.DataFrame(list(rows), schema=schema(CALL_COLUMNS), orient="row")


def batch(
    body: bytes = b"",
    *,
    made: Iterable[Mapping[str, Any]] = (),
    replaced: Iterable[Mapping[str, Any]] = (),
    spans: Mapping[str, Any] | None = None,
    position: int = 1,
) -> SpanBatch:
    """A batch as it comes to an exporter. `spans` are values of SPAN_COLUMNS, the same for all spans."""
    traces = decode.decode(body)
    table = pl.DataFrame(
        {name: [(spans or {}).get(name)] * len(traces) for name in schema(SPAN_COLUMNS)}, schema=schema(SPAN_COLUMNS)
    )
    return SpanBatch(
        traces, Position(position, position), RECEIVED_NS, table, calls=calls(made), replaced=calls(replaced)
    )


def context(folder: Path, id_: str = "clickhouse") -> Context:
    """Where an exporter runs."""
    return Context(id_, folder, CollectorRegistry())
