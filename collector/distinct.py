"""The distinct values of a column, numbered: what is heavy is done once per value and brought back to rows by number.

Polars takes a tenth of a millisecond for the smallest expression; these read a column's Arrow buffers where they stand.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from collector.otlp import interning
from collector.otlp.compiled import read_only
from collector.otlp.tables import I32, I64, U8, Text

Mask = NDArray[np.bool_]
_SEED = secrets.randbits(64)
_POINT = np.uint64(secrets.randbits(64) | 1)  # at which the polynomial of a row's hashes is taken


def valid(column: pl.Series) -> Mask:
    """Which rows are not null."""
    if not column.null_count():
        return np.ones(len(column), np.bool_)
    return _bits(column.to_arrow())


def integers(column: pl.Series) -> tuple[I64, Mask]:
    """The values of an Int64 column, 0 where it is null, and which rows are not null. Treat both as read-only."""
    known = len(column) - column.null_count()
    if known == len(column):
        return column.to_numpy(), np.ones(len(column), np.bool_)
    if not known:
        return np.zeros(len(column), np.int64), np.zeros(len(column), np.bool_)
    array = column.to_arrow()
    mask = _bits(array)
    values = np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array)]
    return np.where(mask, values, 0), mask


def texts(column: pl.Series) -> tuple[I32, pl.Series]:
    """Of a String column: per row the number of its text, -1 for null, and the distinct texts by number."""
    array = column.to_arrow(compat_level=pl.CompatLevel.oldest())
    codes, first = _intern(array, _bits(array) if column.null_count() else None)
    return codes, column[first]


def lists(column: pl.Series) -> tuple[I32, list[list[str]]]:
    """Of a List(String) column: per row the number of its list, -1 for null, and the distinct lists by number."""
    array = column.to_arrow(compat_level=pl.CompatLevel.oldest())
    offsets = np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array) + 1]
    items = array.values
    if not len(items):
        return np.where(valid(column), 0, -1).astype(np.int32), [[]]
    known = _bits(items) if items.null_count else None
    members, _ = _intern(items, known)
    # A list is the text that its members' numbers spell.
    codes = np.full(len(array), -1, np.int32)
    rows = np.flatnonzero(_bits(array)) if column.null_count() else np.arange(len(array))
    sizes = (np.diff(offsets)[rows] * 4).astype(np.int32)
    codes[rows], first = _numbered(members.view(np.uint8), offsets[:-1][rows] * 4, sizes)
    found = column[rows[first]].to_list()
    return codes, [[item for item in members if item is not None] for members in found]


def combinations(frame: pl.DataFrame, names: Sequence[str], numbers: Sequence[I64] = ()) -> tuple[I64, I64]:
    """Per row the number of its combination of values of some columns (and of `numbers`), and for each combination a row that has it.

    Rows are compared by 64-bit hashes whose seeds are this process's own secret: two of a million combinations in a batch
    coincide once in forty million batches, and nobody can bring that about.
    """
    columns = [name for name in names if frame[name].null_count() < len(frame)]
    hashes = frame.select_seq(pl.col(name).hash(_SEED) for name in columns).get_columns() if columns else []
    if not hashes and not numbers:
        return np.zeros(len(frame), np.int64), np.zeros(min(1, len(frame)), np.int64)
    word = np.zeros(len(frame), np.uint64)
    for values in [*(column.to_numpy() for column in hashes), *map(_mixed, numbers)]:
        word *= _POINT
        word += values
    codes, first = _numbered(word.view(np.uint8), np.arange(len(word)) * 8, np.full(len(word), 8, np.int32))
    return codes.astype(np.int64), first


def rows(matrix: I64) -> tuple[I32, I64]:
    """Per row of a matrix the number of what stands in it, and for each number the row where it stands first."""
    size = 8 * matrix.shape[1]
    data = np.ascontiguousarray(matrix).view(np.uint8).reshape(-1)
    return _numbered(data, np.arange(len(matrix)) * size, np.full(len(matrix), size, np.int32))


def _mixed(numbers: I64) -> NDArray[np.uint64]:
    """Numbers as hashes: near ones, and ones that differ in their high bits alone, are far apart in all bits."""
    mixed = (numbers.view(np.uint64) ^ np.uint64(_SEED)) * _POINT
    mixed ^= mixed >> np.uint64(32)
    mixed *= _POINT
    return mixed


def _numbered(data: U8, at: I64, sizes: I32) -> tuple[I32, I64]:
    """Per text its number, and for each number the row where it stands first."""
    # As the decoder calls it, bytes that may only be read and numbers that may be written: one compiled version is enough.
    at = at if at.flags.writeable and at.flags.c_contiguous else at.copy()
    result: tuple[I32, I64] = interning.texts(read_only(data), Text(at, sizes))
    return result


def _intern(array: pa.Array, mask: Mask | None) -> tuple[I32, I64]:
    _, offset_buffer, data_buffer = array.buffers()
    offsets = np.frombuffer(offset_buffer, np.int64)[array.offset : array.offset + len(array) + 1]
    data = np.frombuffer(data_buffer, np.uint8) if data_buffer is not None else np.empty(0, np.uint8)
    sizes = np.diff(offsets).astype(np.int32)
    if mask is None:
        return _numbered(data, offsets[:-1], sizes)
    rows = np.flatnonzero(mask)
    codes = np.full(len(array), -1, np.int32)
    codes[rows], first = _numbered(data, offsets[:-1][rows], sizes[rows])
    return codes, rows[first]


def _bits(array: pa.Array) -> Mask:
    buffer = array.buffers()[0]
    if buffer is None:
        return np.ones(len(array), np.bool_)
    bits = np.unpackbits(np.frombuffer(buffer, np.uint8), count=array.offset + len(array), bitorder="little")
    return bits[array.offset :].view(np.bool_)
