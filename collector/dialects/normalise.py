"""Spans of every gateway and SDK, in one language: a batch gets its reports.

A span is looked at only where its dialect says that it matters; every fact comes from where the dialect's file says that it
stands. Work is done per distinct text and per column, never per span.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from collector import columns
from collector.batch import SpanBatch
from collector.dialects.choose import Chooser
from collector.dialects.load import dialects, resource_keys, span_keys
from collector.dialects.model import MONEY, TIME
from collector.dialects.report import ERROR, ROLES, Part, report
from collector.dialects.table import Coded, Mask, Table, as_int64, first_of
from collector.otlp import gather
from collector.otlp.tables import I64, Text, Traces

_STATUSES = pa.array(["Unset", "Ok", "Error"], pa.large_string())
_COLUMN_OF = {TIME: columns.TTFT.name, MONEY: columns.REPORTED_COST.name}
_ON_SPANS = ("dialect", "provider", "request_model", "response_model", "input_tokens", "output_tokens")


class _Readers:
    """The shipped dialects, ready to be used."""

    def __init__(self) -> None:
        self.chooser = Chooser(dialects())
        self.keys = sorted(set().union(*(span_keys(dialect) for dialect in dialects())))
        self.resource_keys = sorted(
            {"service.name", "service.version"}.union(*(resource_keys(dialect) for dialect in dialects()))
        )


@cache
def _readers() -> _Readers:
    return _Readers()


def describe() -> list[tuple[str, str]]:
    """Name and one line of every dialect."""
    return [(dialect.name, dialect.about) for dialect in dialects()]


def normalise(batch: SpanBatch) -> SpanBatch:
    """The batch with its reports, and with what the spans' own columns show of them."""
    readers = _readers()
    table = Table(batch.otlp, readers.keys, readers.resource_keys)
    chosen = readers.chooser.choose(table)
    parts: list[tuple[int, Part]] = []
    for number in np.unique(chosen[chosen >= 0]).tolist():
        part = report(table, readers.chooser.dialects[number], np.flatnonzero(chosen == number))
        if part is not None:
            parts.append((number, part))
    if not parts:
        return batch
    made = _Reports(table, parts)
    return batch.with_(reports=made.frame(), spans=made.on_spans(batch.spans))


class _Reports:
    """The dialects' parts as one table, in the order of the spans."""

    def __init__(self, table: Table, parts: list[tuple[int, Part]]) -> None:
        self.table = table
        self.parts = [part for _, part in parts]
        self.rows: I64 = np.sort(np.concatenate([part.rows for part in self.parts]))
        self.places = [np.searchsorted(self.rows, part.rows) for part in self.parts]
        names = [dialect.name for dialect in _readers().chooser.dialects]
        self.dialect = self._constant([names[number] for number, _ in parts])
        self._texts: dict[str, Coded | None] = {}

    def _constant(self, texts: list[str]) -> Coded:
        codes = np.empty(len(self.rows), dtype=np.int32)
        for number, place in enumerate(self.places):
            codes[place] = number
        return Coded(codes, pa.array(texts, pa.large_string()))

    def _small(self, parts: list[NDArray[np.int8]]) -> NDArray[np.int8]:
        values = np.empty(len(self.rows), dtype=np.int8)
        for place, part in zip(self.places, parts, strict=True):
            values[place] = part
        return values

    def text(self, name: str) -> Coded | None:
        """A column of texts, or of lists of them; None where no report has any."""
        if name not in self._texts:
            column: Coded | None = None
            for part, place in zip(self.parts, self.places, strict=True):
                coded = part.texts.get(name, part.lists.get(name))
                if coded is None or not len(coded.values) or not (coded.codes >= 0).any():
                    continue
                if len(coded.codes) != len(self.rows):
                    codes = np.full(len(self.rows), -1, dtype=np.int32)
                    codes[place] = coded.codes
                    coded = Coded(codes, coded.values)
                column = coded if column is None else first_of(column, coded)
            self._texts[name] = column
        return self._texts[name]

    def number(self, name: str) -> tuple[I64, Mask] | None:
        """A column of numbers; None where no report has any."""
        values, told = np.zeros(len(self.rows), dtype=np.int64), np.zeros(len(self.rows), dtype=np.bool_)
        for part, place in zip(self.parts, self.places, strict=True):
            if name in part.numbers:
                values[place], told[place] = part.numbers[name]
        return (values, told) if told.any() else None

    def frame(self) -> pl.DataFrame:
        """REPORT_COLUMNS."""
        arrays = {**self._identity(), **self._said()}
        size = len(self.rows)
        ordered = []
        for column in columns.REPORT_COLUMNS:
            array = arrays.get(column.name)
            if array is None:
                ordered.append(pl.Series(column.name, [None], dtype=column.dtype).new_from_index(0, size))
            else:
                series = pl.Series(column.name, array)
                ordered.append(series if series.dtype == column.dtype else series.cast(column.dtype))
        return pl.DataFrame(ordered)

    def _identity(self) -> dict[str, pa.Array]:
        traces, rows = self.table.traces, self.rows
        spans = traces.spans
        start = as_int64(spans.start_ns[rows])
        service = self.table.resource("service.name")
        service = Coded(service.codes[spans.resource[rows]], service.values)
        status = np.where(
            (spans.status_code[rows] >= 0) & (spans.status_code[rows] <= ERROR), spans.status_code[rows], 0
        )
        failed = np.zeros(len(rows), dtype=np.bool_)
        for part, place in zip(self.parts, self.places, strict=True):
            failed[place] = part.failed
        status = np.where(failed, ERROR, status).astype(np.int32)
        return {
            "span": pa.array(rows.astype(np.int32)),
            "trace_id": gather.hex_ids(traces, Text(spans.trace_id.off[rows], spans.trace_id.len[rows])),
            "span_id": gather.hex_ids(traces, Text(spans.span_id.off[rows], spans.span_id.len[rows])),
            "start_ns": pa.array(start),
            "duration_ns": pa.array(np.maximum(as_int64(spans.end_ns[rows]) - start, 0)),
            "service_name": service.taken(),
            "status": Coded(status, _STATUSES).taken(),
            "role": Coded(self._small([part.role for part in self.parts]).astype(np.int32), _ROLES).taken(),
            "dialect": self.dialect.taken(),
            "source": _sources(traces, self.table.scope_name, service, rows).taken(),
            "rank": pa.array(self._small([part.rank for part in self.parts])),
        }

    def _said(self) -> dict[str, pa.Array]:
        arrays: dict[str, pa.Array] = {}
        for name in {name for part in self.parts for name in (*part.texts, *part.lists)}:
            coded = self.text(name)
            if coded is not None:
                arrays[name] = coded.taken()
        for name in {name for part in self.parts for name in part.numbers}:
            counted = self.number(name)
            if counted is not None:
                values, told = counted
                arrays[_COLUMN_OF.get(name, name)] = pa.array(values, mask=~told)
        for name in {name for part in self.parts for name in part.flags}:
            yes, told = np.zeros(len(self.rows), dtype=np.bool_), np.zeros(len(self.rows), dtype=np.bool_)
            for part, place in zip(self.parts, self.places, strict=True):
                if name in part.flags:
                    yes[place], told[place] = part.flags[name]
            arrays[name] = pa.array(yes, mask=~told)
        return arrays

    def on_spans(self, spans: pl.DataFrame) -> pl.DataFrame:
        """SPAN_COLUMNS, filled where a span reports something."""
        size = self.table.size
        filled = []
        for name in _ON_SPANS:
            coded = self.dialect if name == "dialect" else self.text(name)
            if coded is not None:
                codes = np.full(size, -1, dtype=np.int32)
                codes[self.rows] = coded.codes
                filled.append(pl.Series(name, Coded(codes, coded.values).taken()))
                continue
            counted = self.number(name)
            if counted is not None:
                values, missing = np.zeros(size, dtype=np.int64), np.ones(size, dtype=np.bool_)
                values[self.rows], missing[self.rows] = counted[0], ~counted[1]
                filled.append(pl.Series(name, pa.array(values, mask=missing)))
        return spans.with_columns(filled)


_ROLES = pa.array(ROLES, pa.large_string())


def _sources(traces: Traces, scope_name: Coded, service: Coded, rows: I64) -> Coded:
    """`scope@service` of each report."""
    scopes = scope_name.codes[traces.spans.scope[rows]].astype(np.int64)
    services = len(service.values) + 1
    distinct, codes = np.unique(scopes * services + service.codes + 1, return_inverse=True)
    scope_texts, service_texts = scope_name.values.to_pylist(), ["", *service.values.to_pylist()]
    texts = [f"{scope_texts[pair // services]}@{service_texts[pair % services]}" for pair in distinct.tolist()]
    return Coded(codes.astype(np.int32), pa.array(texts, pa.large_string()))
