"""Columns of the pipeline as Arrow arrays of the shape that a ClickHouse column reads, without a detour over values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from collector.repeats import coded
from collector.sums import LAST_NS
from exporters.clickhouse.declare import Field, Table

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
    return record_batch(told(rows, [(field.name, field) for field in table.inserted]))


def record_batch(columns: dict[str, pa.Array]) -> pa.RecordBatch:
    """Columns by name as one block."""
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def told(rows: pl.DataFrame, wanted: Sequence[tuple[str, Field]]) -> dict[str, pa.Array]:
    """Columns of a frame, by name there, as their ClickHouse columns read them; by the names that these have.

    A column that is null in all rows is left out: the server fills in what stands for it. Elsewhere null stays null where
    the server makes its default of it, or NULL.
    """
    count, columns = len(rows), {column.name: column for column in rows.get_columns()}
    return {field.name: _array(columns[name], field) for name, field in wanted if columns[name].null_count() < count}


def _array(series: pl.Series, field: Field) -> pa.Array:
    kind = field.type
    if series.dtype == pl.String:
        return _texts(series, repeats="LowCardinality" in kind)
    arrow = series.to_arrow()
    if "Decimal" in kind:
        return _decimals(arrow, kind)
    if kind.startswith("DateTime64"):
        return timestamps(_values(arrow, np.int64))
    if kind == "Date":
        days = np.clip(_values(arrow, np.int32), 0, _LAST_DAY)
        return pa.Array.from_buffers(pa.date32(), len(days), [None, pa.py_buffer(days)])
    if kind.startswith("DateTime"):
        return arrow.cast(pa.uint32())
    if kind == "UInt8":
        return arrow.cast(pa.uint8())
    if kind.startswith("Array"):
        return _lists(series, arrow)
    if kind.startswith("Map"):
        return _counts(series, arrow)
    return arrow


def _values(numbers: pa.Array, dtype: type[np.generic]) -> NDArray[Any]:
    """The buffer of numbers, whatever stands where one is null."""
    return np.frombuffer(numbers.buffers()[1], dtype)[numbers.offset : numbers.offset + len(numbers)]


def _texts(series: pl.Series, *, repeats: bool) -> pa.Array:
    """Texts, null ones empty. Of a column whose texts repeat, each distinct one is written once."""
    if repeats:
        views = series.to_arrow(compat_level=pl.CompatLevel.newest())
        found = coded(views.combine_chunks() if isinstance(views, pa.ChunkedArray) else views)
        if found is not None:
            return found
        return short(series.to_arrow()).dictionary_encode()
    return short(series.to_arrow())


def short(texts: pa.Array) -> pa.Array:
    """Texts with offsets of 32 bits, where these reach: half as much to compress."""
    return texts.cast(pa.string()) if texts.nbytes < 2**31 else texts


def short_map(maps: pa.MapArray) -> pa.MapArray:
    """A map as narrow as its contents allow."""
    keys = maps.keys
    if len(keys.dictionary) < 128:
        keys = pa.DictionaryArray.from_arrays(keys.indices.cast(pa.int8()), keys.dictionary)
    return pa.MapArray.from_arrays(maps.offsets, keys, short(maps.items))


def _decimals(arrow: pa.Array, kind: str) -> pa.Array:
    """int64 or Decimal(38, 0) of pico-dollars as decimals with twelve digits: the unscaled value is the same number."""
    precision = 38 if "38" in kind else 18
    buffers, offset = arrow.buffers(), arrow.offset  # of some rows of a frame, decimals are a part of its buffer
    if pa.types.is_int64(arrow.type):
        values = _values(arrow, np.int64)
        wide = np.empty((len(arrow), 2), dtype=np.int64)
        wide[:, 0] = values
        wide[:, 1] = values >> 63
        mask = arrow.is_null().to_numpy(zero_copy_only=False) if arrow.null_count else None
        validity = pa.py_buffer(np.packbits(~mask, bitorder="little")) if mask is not None else None
        buffers, offset = [validity, pa.py_buffer(wide)], 0
    return pa.Array.from_buffers(pa.decimal128(precision, 12), len(arrow), buffers, offset=offset)


def _counts(series: pl.Series, arrow: pa.Array) -> pa.Array:
    """Counts by name as maps, null ones empty."""
    if arrow.null_count:
        arrow = series.fill_null([]).to_arrow()
    names, counts = arrow.values.flatten()
    return pa.MapArray.from_arrays(arrow.offsets.cast(pa.int32()), short(names).dictionary_encode(), counts)


def _lists(series: pl.Series, arrow: pa.Array) -> pa.Array:
    """Lists of texts, null ones empty."""
    if arrow.null_count:
        arrow = series.fill_null([]).to_arrow()
    lists = arrow.cast(pa.list_(pa.large_string()))
    return pa.ListArray.from_arrays(lists.offsets, short(lists.values).dictionary_encode())
