"""What the ledger writes on spans: whose call a span reports, and the call's cost on one span of it.

The cost stands on the span that names the call, if it goes out now and no span went out with it before: so that summing
spans counts nothing twice. Spans that were sent cannot be changed; only the ledger's own table is exact later on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa

from collector.batch import SpanBatch
from collector.ledger.archive import Record
from collector.ledger.changes import Component
from collector.ledger.kernels import I32, I64, Mask
from collector.ledger.rows import by_name, numbers

#: Columns of a span that are its call's.
_OF_CALL = (
    "call_id", "team", "app", "user", "environment", "task_type", "user_priority", "refused_by",
    "route", "expected_model", "route_verdict",
)  # fmt: skip
_COST, _STATUS = "cost_pico", "price_status"
#: Money, on one span of the call.
_ONCE = (_COST, "avoidable_cost_pico")
_NOT_A_CALL, _ROLLUP, _DUPLICATE, _OWN = range(4)
_WORDS = ("not_a_call", "rollup", "duplicate")


def annotated(
    batch: SpanBatch, report_span: I32, fresh: I64, components: Sequence[Component]
) -> tuple[pl.DataFrame, Mask]:
    """The spans with their calls' columns, and per row of `batch.calls` whether a span shows its cost."""
    place: I64 = np.full(len(batch.spans), -1, dtype=np.int64)
    status: I64 = np.full(len(batch.spans), _NOT_A_CALL, dtype=np.int64)
    namers = report_span[fresh]
    place[namers] = np.arange(len(fresh))
    status[namers] = _OWN
    priced = numbers(batch.calls[_COST])[1]
    shown: Mask = priced.copy()
    shown[len(fresh) :] = False
    unchanged: list[Record] = []
    for component in components:
        _place(component, len(batch.calls), unchanged, place, status, shown)
    shown &= priced
    calls = pl.DataFrame([batch.calls[name] for name in (*_OF_CALL, *_ONCE, _STATUS)])
    if unchanged:
        rows = [{name: record.get(name) for name in calls.columns} for record in unchanged]
        calls = pl.concat([calls, pl.DataFrame(rows, schema=calls.schema)])
    at = _index(place, len(calls))
    columns = {name: _gather(calls[name], at) for name in _OF_CALL}
    words = calls[_STATUS].append(pl.Series(_WORDS, dtype=pl.String()))
    columns[_STATUS] = _gather(words, _index(np.where(status == _OWN, place, len(calls) + status), len(words)))
    own = status == _OWN
    own[own] = shown[place[own]]
    at = at if own.all() else _index(np.where(own, place, -1), len(calls))
    columns |= {name: _gather(calls[name], at) for name in _ONCE}
    spans = by_name(batch.spans) | {name: series.alias(name) for name, series in columns.items()}
    return pl.DataFrame(list(spans.values())), shown


def _place(component: Component, count: int, unchanged: list[Record], place: I64, status: I64, shown: Mask) -> None:
    """Note where the calls of a component's spans are. Calls that did not change go to the end of `unchanged`."""
    spans = component.spans
    for unit in component.units:
        here = [(report, span) for report in unit.reports for span in spans.get(report.key, ())]
        if not here:
            continue
        number = unit.number
        if number < 0 and unit.committed is not None:
            number = count + len(unchanged)
            unchanged.append(unit.committed)
        for report, span in here:
            place[span] = number
            if number >= 0:
                status[span] = _DUPLICATE
            else:
                status[span] = _ROLLUP if report.role in ("wrapper", "rollup") else _NOT_A_CALL
        if unit.row is not None and not unit.shown:
            namer = spans.get((unit.row["trace_id"], unit.row["span_id"]))
            if namer:
                status[namer[0]] = _OWN
                shown[unit.number] = True


def _index(rows: I64, size: int) -> pl.Series | None:
    """Rows of a column of `size` values, as Polars gathers by them: null where one is below zero. None: all, in order."""
    if len(rows) == size and (not size or (rows[0] == 0 and (np.diff(rows) == 1).all())):
        return None
    none = rows < 0
    return pl.Series(values=pa.array(rows.astype(np.uint32), mask=none if none.any() else None))


def _gather(values: pl.Series, at: pl.Series | None) -> pl.Series:
    """The values at an `_index`."""
    if at is None:
        return values
    return (
        values.new_from_index(0, len(at)) if values.null_count() == len(values) and len(values) else values.gather(at)
    )
