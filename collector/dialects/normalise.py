"""Spans of every gateway and SDK, in one language: a batch gets its reports.

A span is looked at only where its dialect says that it matters; every fact comes from where the dialect's file says that it
stands. Work is done per distinct text and per column, never per span.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from collector import columns
from collector.batch import SpanBatch
from collector.dialects.choose import Chooser
from collector.dialects.load import dialects, resource_keys, span_keys
from collector.dialects.model import MONEY, OVERHEAD, TIME
from collector.dialects.report import CALLER, ERROR, ROLES, Part, report
from collector.dialects.table import Coded, Mask, Table, as_int64, distinct, first_of
from collector.otlp import gather
from collector.otlp.tables import I64

Number = TypeVar("Number", bound=np.generic)
_STATUSES = pa.array(["Unset", "Ok", "Error"], pa.large_string())
_COLUMN_OF = {TIME: columns.TTFT.name, MONEY: columns.REPORTED_COST.name, OVERHEAD: columns.OVERHEAD.name}
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
    reports = made.frame()
    return batch.with_(reports=reports, spans=made.on_spans(batch.spans, reports))


class _Reports:
    """The dialects' parts as one table, in the order of the spans."""

    def __init__(self, table: Table, parts: list[tuple[int, Part]]) -> None:
        self.table = table
        self.parts = [part for _, part in parts]
        self.rows: I64 = np.sort(np.concatenate([part.rows for part in self.parts]))
        self.places = [np.searchsorted(self.rows, part.rows) for part in self.parts]
        self._dialects = [_readers().chooser.dialects[number] for number, _ in parts]
        numbers = self._spread(
            [np.full(len(part.rows), number, np.int32) for number, part in enumerate(self.parts)], -1
        )
        self._texts: dict[str, Coded | None] = {
            "dialect": Coded(numbers, pa.array([dialect.name for dialect in self._dialects], pa.large_string()))
        }

    def _spread(self, parts: list[NDArray[Number] | None], nothing: Any) -> NDArray[Number]:
        """One column from the dialects' parts, each at its own places; `nothing` where a dialect has none."""
        if len(parts) == 1 and parts[0] is not None:
            return parts[0]
        first = next(part for part in parts if part is not None)
        values = np.full(len(self.rows), nothing, dtype=first.dtype)
        for place, part in zip(self.places, parts, strict=True):
            if part is not None:
                values[place] = part
        return values

    def text(self, name: str) -> Coded | None:
        """A column of texts, or of lists of them; None where no report has any."""
        if name not in self._texts:
            column: Coded | None = None
            for number, part in enumerate(self.parts):
                coded = part.texts.get(name, part.lists.get(name))
                if coded is None or not len(coded.values) or not (coded.codes >= 0).any():
                    continue
                codes = self._spread([coded.codes if at == number else None for at in range(len(self.parts))], -1)
                coded = Coded(codes, coded.values)
                column = coded if column is None else first_of(column, coded)
            self._texts[name] = column
        return self._texts[name]

    def number(self, name: str) -> tuple[I64, Mask] | None:
        """A column of numbers; None where no report has any."""
        told_parts = [part.numbers.get(name) for part in self.parts]
        if not any(counted is not None and counted[1].any() for counted in told_parts):
            return None
        values = self._spread([counted and counted[0] for counted in told_parts], 0)
        return values, self._spread([counted and counted[1] for counted in told_parts], False)

    def flag(self, name: str) -> tuple[Mask, Mask] | None:
        """A column of yes and no, and where it is told; None where no report tells."""
        told_parts = [part.flags.get(name) for part in self.parts]
        if not any(told is not None and told[1].any() for told in told_parts):
            return None
        return self._spread([told and told[0] for told in told_parts], False), self._spread(
            [told and told[1] for told in told_parts], False
        )

    def frame(self) -> pl.DataFrame:
        """REPORT_COLUMNS."""
        found = {**self._where(), **self._said()}
        nothing = columns.nulls(columns.REPORT_COLUMNS, len(self.rows))
        return pl.DataFrame([found[name].alias(name) if name in found else null for name, null in nothing.items()])

    def _where(self) -> dict[str, pl.Series]:
        spans = self.table.traces.spans
        rows: Any = slice(None) if len(self.rows) == self.table.size else self.rows
        start = as_int64(spans.start_ns[rows])
        service = self.table.resource("service.name")
        service = Coded(service.codes[spans.resource[rows]], service.values)
        scope = self._emitters(Coded(self.table.scope_name.codes[spans.scope[rows]], self.table.scope_name.values))
        told = spans.status_code[rows]
        failed = self._spread([part.failed for part in self.parts], False)
        status = np.where(failed, ERROR, np.where((told >= 0) & (told <= ERROR), told, 0)).astype(np.int32)
        role = self._spread([part.role for part in self.parts], 0).astype(np.int32)
        trace_id, span_id, parent = gather.span_ids(
            spans.ids if len(self.rows) == self.table.size else spans.ids.take(self.rows, axis=1)
        )
        return {
            "span": pl.Series(values=self.rows.astype(np.int32)),
            "trace_id": pl.Series(values=trace_id),
            "span_id": pl.Series(values=span_id),
            "parent_span_id": pl.Series(values=parent),
            "start_ns": pl.Series(values=start),
            "duration_ns": pl.Series(values=np.maximum(as_int64(spans.end_ns[rows]) - start, 0)),
            "service_name": service.taken(),
            "status": Coded(status, _STATUSES).taken(),
            "role": Coded(role, _ROLES).taken(),
            "source": _sources(scope, service).taken(),
            "rank": pl.Series(values=self._spread([part.rank for part in self.parts], 0)),
        }

    def _emitters(self, scope: Coded) -> Coded:
        """The scope of each report; where it says who asked a gateway, the one of the calls that the gateway reports."""
        for dialect, part, places in zip(self._dialects, self.parts, self.places, strict=True):
            asked = part.role == CALLER
            if dialect.scope is None or not asked.any():
                continue
            values = scope.values.to_pylist()
            if dialect.scope not in values:
                values.append(dialect.scope)
            codes = scope.codes.copy()
            codes[places[asked]] = values.index(dialect.scope)
            scope = Coded(codes, pa.array(values, pa.large_string()))
        return scope

    def _said(self) -> dict[str, pl.Series]:
        found: dict[str, pl.Series] = {}
        for name in {"dialect"}.union(*((*part.texts, *part.lists) for part in self.parts)):
            coded = self.text(name)
            if coded is not None:
                found[name] = coded.taken()
        for name in set().union(*(part.numbers for part in self.parts)):
            counted = self.number(name)
            if counted is not None:
                found[_COLUMN_OF.get(name, name)] = pl.Series(values=pa.array(counted[0], mask=~counted[1]))
        for name in set().union(*(part.flags for part in self.parts)):
            answered = self.flag(name)
            if answered is not None:
                found[name] = pl.Series(values=pa.array(answered[0], mask=~answered[1]))
        return found

    def on_spans(self, spans: pl.DataFrame, reports: pl.DataFrame) -> pl.DataFrame:
        """SPAN_COLUMNS, filled where a span reports something."""
        if len(reports) == len(spans):
            return _filled(spans.clone(), {name: reports[name] for name in _ON_SPANS})
        missing, place = np.ones(len(spans), dtype=np.bool_), np.zeros(len(spans), dtype=np.uint32)
        missing[self.rows], place[self.rows] = False, np.arange(len(self.rows), dtype=np.uint32)
        at = pl.Series(values=pa.array(place, mask=missing))
        return _filled(spans.clone(), {name: reports[name][at] for name in _ON_SPANS})


def _filled(frame: pl.DataFrame, found: dict[str, pl.Series]) -> pl.DataFrame:
    """The frame, these columns of it exchanged."""
    for name, series in found.items():
        frame.replace_column(frame.get_column_index(name), series.alias(name))
    return frame


_ROLES = pa.array(ROLES, pa.large_string())


def _sources(scope: Coded, service: Coded) -> Coded:
    """`scope@service` of each report."""
    services = len(service.values) + 1
    pairs = scope.codes.astype(np.int64) * services + service.codes + 1
    found, codes = distinct(pairs, len(scope.values) * services)
    scopes, names = scope.values.to_pylist(), ["", *service.values.to_pylist()]
    texts = [f"{scopes[pair // services]}@{names[pair % services]}" for pair in found.tolist()]
    return Coded(codes.astype(np.int32), pa.array(texts, pa.large_string()))
