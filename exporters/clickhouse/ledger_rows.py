"""The ledger's rows: versions of calls. What they move in sums by hour is in `sum_rows`."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from collector import columns
from collector.columns import CALL_COLUMNS
from collector.sums import LAST_PICO, LAST_TOKENS
from exporters.clickhouse.arrow import record_batch, told
from exporters.clickhouse.schema import CALL_FIELDS, COLLECTOR

_MONEY = frozenset(column.name for column in CALL_COLUMNS if column.unit == "pico-USD")
_COUNTS = frozenset(c.name for c in CALL_COLUMNS if c.unit in ("tokens", "ns") and c is not columns.START)
#: The most that means something, by column; time has no such bound.
_MOST = dict.fromkeys(_MONEY, LAST_PICO) | {
    column.name: LAST_TOKENS for column in CALL_COLUMNS if column.unit == "tokens"
}
_ANY = 2**63 - 1


def within(rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` with what no column can hold made unknown: an amount of a million dollars or more, a count below zero, a trillion
    tokens.

    Nobody means such a value; the row stays.
    """
    if rows.is_empty():
        return rows
    series = {column.name: column for column in rows.get_columns() if column.name in _COUNTS or column.name in _MONEY}
    lowest = {name: 0 if name in _COUNTS else -LAST_PICO for name in series}
    bad = [name for name, values in series.items() if _beyond(values, lowest[name])]
    if not bad:
        return rows
    return rows.with_columns(pl.when(pl.col(n).is_between(lowest[n], _MOST.get(n, _ANY))).then(n).alias(n) for n in bad)


def _beyond(values: pl.Series, lowest: int) -> bool:
    """Whether one of them is too small or too large. Columns are asked one by one: an expression costs more than its work."""
    if values.null_count() == len(values):
        return False
    ends: Any = (values.min(), values.max())
    return bool(ends[0] < lowest or ends[1] > _MOST.get(values.name, _ANY))


def call_rows(calls: pl.DataFrame, collector: str) -> pa.RecordBatch:
    """CALL_COLUMNS as rows of the table of versions, written by a collector."""
    wanted = [(field.column.name, field) for field in CALL_FIELDS if field.column is not None]
    writer = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(calls), np.int8)), pa.array([collector]))
    return record_batch({**told(calls, wanted), COLLECTOR.name: writer})
