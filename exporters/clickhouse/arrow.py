"""Columns of the pipeline as Arrow arrays of the shape that a ClickHouse column reads, without a detour over values."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from exporters.clickhouse.schema import Field, Table

I64 = NDArray[np.int64]
#: DateTime ends in February 2106; beyond it, and before 1970, functions of time wrap around. 2105-12-31T23:59:59.
LAST_NS = 4_291_747_199 * 10**9
#: Decimal(18, 12) holds less than a million dollars.
LAST_PICO = 10**18 - 1
_LAST_DAY = 49_673  # 2105-12-31, in days since 1970


def timestamps(ns: NDArray[Any]) -> pa.Array:
    """Unix time in ns, signed or unsigned, as DateTime64(9); what lies outside 1970 to 2105 becomes the nearest end."""
    clamped = np.clip(ns, 0, LAST_NS).astype(np.int64)
    return pa.Array.from_buffers(pa.timestamp("ns"), len(clamped), [None, pa.py_buffer(clamped)])


def dictionary(codes: NDArray[np.int32], values: pa.Array) -> pa.Array:
    """Codes into `values` (-1: nothing) as a dictionary array; nothing becomes the empty text."""
    if len(values) == 0 or (len(codes) and int(codes.min()) < 0):
        values = pa.concat_arrays([values, pa.array([""], values.type)])
        codes = np.where(codes < 0, np.int32(len(values) - 1), codes)
    return pa.DictionaryArray.from_arrays(pa.array(codes), values)


def batch_of(rows: pl.DataFrame, table: Table) -> pa.RecordBatch:
    """A frame whose columns are named as the table's."""
    fields = list(table.inserted)
    return pa.RecordBatch.from_arrays([array(rows[f.name], f) for f in fields], names=[f.name for f in fields])


def array(series: pl.Series, field: Field) -> pa.Array:
    """A column as its ClickHouse column reads it. Null stays null: the server makes its default of it, or NULL."""
    kind = field.type
    if "Decimal" in kind:
        return _decimals(series, kind)
    if kind.startswith("DateTime64"):
        return timestamps(series.to_numpy())
    if kind == "Date":
        return series.to_physical().clip(0, _LAST_DAY).cast(pl.Date).to_arrow()
    if kind.startswith("DateTime"):
        return series.cast(pl.UInt32).to_arrow()
    if kind == "UInt8":
        return series.cast(pl.UInt8).to_arrow()
    if kind.startswith("Array"):
        return _lists(series)
    return series.to_arrow()


def _decimals(series: pl.Series, kind: str) -> pa.Array:
    """int64 or Decimal(38, 0) of pico-dollars as decimals with twelve digits: the unscaled value is the same number."""
    precision = 38 if "38" in kind else 18
    if series.dtype == pl.Int64:
        validity = series.to_arrow().buffers()[0] if series.null_count() else None
        values = series.fill_null(0).to_numpy() if validity is not None else series.to_numpy()
        wide = np.empty((len(series), 2), dtype=np.int64)
        wide[:, 0] = values
        wide[:, 1] = values >> 63
        buffers = [validity, pa.py_buffer(wide)]
    else:
        buffers = series.to_arrow().buffers()
    return pa.Array.from_buffers(pa.decimal128(precision, 12), len(series), buffers)


def _lists(series: pl.Series) -> pa.Array:
    """Lists of texts, null ones empty."""
    if series.null_count() == len(series):
        offsets = pa.array(np.zeros(len(series) + 1, dtype=np.int32))
        return pa.ListArray.from_arrays(offsets, pa.array([], pa.string()))
    if series.null_count():
        series = series.fill_null([])
    return series.to_arrow().cast(pa.list_(pa.large_string()))
