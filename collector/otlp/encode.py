"""Tables back to request bytes: what did not change is copied as it came, changed spans are rewritten around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from collector.otlp import encoding
from collector.otlp import layout as L
from collector.otlp.rewriting import Edits, Level, rewrite
from collector.otlp.tables import I32, I64, U8, Owner, Text, Traces

Column: TypeAlias = Any  # pl.Series | pa.Array
Mask = NDArray[np.bool_]


def encode(
    traces: Traces, changes: Mapping[str, Column] | None = None, removed: Mapping[str, Mask] | None = None
) -> U8:
    """An ExportTraceServiceRequest with all that `traces` was decoded from.

    changes: attribute key → values over the spans (text, bool, integer, float): where a value is not null, the span
        has the attribute with that value, in the place of any it had under the key
    removed: attribute key → true for the spans that lose the attribute

    Raises TypeError for other values, ValueError for lengths that do not fit the spans.
    """
    changes, removed = changes or {}, removed or {}
    keys = list(dict.fromkeys((*changes, *removed)))
    columns = [_column(key, changes.get(key), len(traces)) for key in keys]
    drop = np.zeros((len(keys), len(traces)), np.bool_)
    for row, (key, column) in enumerate(zip(keys, columns, strict=True)):
        drop[row] = column.valid
        if key in removed:
            drop[row] |= removed[key]
    edits = [_removals(traces, keys, drop)]
    valid = np.array([column.valid for column in columns], np.bool_).reshape(len(keys), len(traces))
    blob, starts = _fields(keys, columns, valid)
    grows = np.flatnonzero(np.diff(starts)).astype(np.int32)
    if len(grows) == 0 and len(edits[0].row) == 0:
        return traces.data
    message = traces.spans.message
    edits.append(
        Edits.inserting(
            message.off[grows] + message.len[grows], 2, grows, starts[grows], starts[grows + 1] - starts[grows]
        )
    )
    levels = [
        Level(traces.resources.message, np.empty(0, np.int32), L.REQUEST_RESOURCE_SPANS),
        Level(traces.scopes.message, traces.scopes.resource, L.RESOURCE_SPANS_SCOPE_SPANS),
        Level(message, traces.spans.scope, L.SCOPE_SPANS_SPANS),
    ]
    return rewrite(traces.data, levels, edits, blob)


class _Values:
    """One column of changes as the kernel takes it."""

    def __init__(self, rows: int) -> None:
        self.kind = L.INT
        self.valid: Mask = np.zeros(rows, np.bool_)
        self.number: I64 = np.zeros(rows, np.int64)
        self.texts: U8 = np.empty(0, np.uint8)
        self.offset: I64 = np.zeros(rows, np.int64)
        self.size: I32 = np.zeros(rows, np.int32)


def _column(key: str, column: Column | None, rows: int) -> _Values:
    values = _Values(rows)
    if column is None:
        return values
    array = _arrow(column)
    if len(array) != rows:
        raise ValueError(f"{key}: {len(array)} values for {rows} spans")
    values.valid = pc.is_valid(array).to_numpy(zero_copy_only=False)
    if pa.types.is_boolean(array.type):
        values.kind = L.BOOL
        values.number = pc.fill_null(array, False).to_numpy(zero_copy_only=False).astype(np.int64)
    elif pa.types.is_integer(array.type):
        values.number = pc.fill_null(array.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    elif pa.types.is_floating(array.type):
        values.kind = L.DOUBLE
        values.number = pc.fill_null(array.cast(pa.float64()), 0.0).to_numpy(zero_copy_only=False).view(np.int64)
    elif pa.types.is_null(array.type):
        values.valid = np.zeros(rows, np.bool_)
    else:
        values.kind = L.STRING
        text = pc.fill_null(array, "")
        _, offsets, data = text.buffers()
        bounds = (
            np.frombuffer(offsets, np.int64)[text.offset : text.offset + rows + 1] if offsets else np.zeros(1, np.int64)
        )
        values.offset, values.size = bounds[:rows].copy(), np.diff(bounds).astype(np.int32)
        values.texts = np.frombuffer(data, np.uint8) if data else values.texts
    return values


def _arrow(column: Column) -> Any:
    """One Arrow array of bools, integers, floats, large_string or nulls."""
    array = column.to_arrow() if isinstance(column, pl.Series) else column
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    if text:
        return array.cast(kind).cast(pa.large_string()) if array.type != pa.large_string() else array
    plain = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_null)
    if any(is_kind(array.type) for is_kind in plain):
        return array
    raise TypeError(f"an attribute cannot be {array.type}; give text, bool, integer or float")


def _removals(traces: Traces, keys: list[str], drop: NDArray[np.bool_]) -> Edits:
    """Edits that take out the attributes of spans which `drop` (key, span) names."""
    column = np.full(len(traces.keys) + 1, -1, np.int64)
    for row, key in enumerate(keys):
        column[traces.key_ids.get(key, -1)] = row
    column[-1] = -1
    table = traces.attributes
    rows = np.empty(0, np.int64)
    if (column >= 0).any():  # else there is no need to look at every attribute
        rows = np.flatnonzero((table.owner_kind == Owner.SPAN) & (column[table.key] >= 0))
    rows = rows[drop[column[table.key[rows]], table.owner[rows]]]
    message = Text(table.message.off[rows], table.message.len[rows])
    return Edits.removing(traces.data, message, L.SPAN_ATTRIBUTES, 2, table.owner[rows])


def _fields(keys: list[str], columns: list[_Values], valid: NDArray[np.bool_]) -> tuple[U8, I64]:
    """For each span its new attributes as wire format, and where they begin."""
    rows = valid.shape[1]
    names = [key.encode() for key in keys]
    shift = np.cumsum([0, *(len(column.texts) for column in columns)])
    number, offset = np.zeros((len(keys), rows), np.int64), np.zeros((len(keys), rows), np.int64)
    size = np.zeros((len(keys), rows), np.int32)
    for row, column in enumerate(columns):
        number[row], offset[row], size[row] = column.number, column.offset + shift[row], column.size
    blob, starts = encoding.span_attributes(
        np.frombuffer(b"".join(names), np.uint8),
        np.cumsum([len(name) for name in names], dtype=np.int64),
        np.array([column.kind for column in columns], np.uint8),
        valid,
        number,
        np.concatenate([np.empty(0, np.uint8), *(column.texts for column in columns)]),
        offset,
        size,
    )
    return blob, starts
