"""Parts of the decoded tables as Arrow arrays and NumPy arrays, always one entry per row asked for.

Work is one pass of a kernel over the rows; what costs Python is done per distinct value.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from collector.memory import large_buffer
from collector.otlp import gathering, interning
from collector.otlp.compiled import read_only
from collector.otlp.tables import I32, I64, U64, Decoded, Owner, Ranges, Text, ValueTable, ValueType

F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]
Number = TypeVar("Number", bound=np.generic)

# Bits per type, as `interning.intern` gives them: where different values are different texts.
_ONE_TEXT_EACH = {0, *(1 << kind for kind in (ValueType.STRING, ValueType.BOOL, ValueType.INT, ValueType.BYTES))}
_NUMBER = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,4})?", re.ASCII)


def slots(decoded: Decoded, keys: Sequence[str], owner: Owner) -> list[I32]:
    """For each key, one array over the owner's table: the attribute row with that key, -1 if absent, the last one wins.

    One pass over the attribute table for all keys. Keys that the batch does not have share one array: treat all as
    read-only.
    """
    rows = len(decoded.ranges(owner).start)
    wanted = np.full(max(len(decoded.keys), 1), -1, np.int32)
    columns: dict[str, int] = {}
    for key in keys:
        id_ = decoded.key_ids.get(key)
        if id_ is not None and key not in columns:
            wanted[id_] = columns[key] = len(columns)
    found = np.full((len(columns) + 1, rows), -1, np.int32)  # the last one stays -1: absent keys
    table = decoded.attributes
    if columns:
        gathering.slots(table.owner_kind, table.owner, table.key, int(owner), wanted, found)
    return [found[columns.get(key, -1)] for key in keys]


def strings(decoded: Decoded, rows: I32) -> pa.Array:
    """The values of attribute rows as text (large_string; `rendering.py` says how), null for row -1 and for EMPTY."""
    table = decoded.attributes
    rows = _rows(decoded, rows)
    buffer = np.empty(64 + 24 * len(rows), np.uint8)
    offsets, values = gathering.values(
        decoded.data, table.type, table.number, table.value.off, table.value.len, rows, buffer
    )
    return _large_string(offsets, values, _take(table.type, rows) != ValueType.EMPTY)


def value_texts(decoded: Decoded, values: ValueTable) -> pa.Array:
    """Values as text, as `strings` gives them, but never null: EMPTY is empty."""
    rows = np.arange(len(values.type), dtype=np.int32)
    value = values.value
    # Text is rarely longer than what it is made of; the kernel wants room for the worst that the next value can be.
    buffer = large_buffer(int(value.len.sum(dtype=np.int64)) + 16 * len(rows) + 6 * int(value.len.max(initial=0)) + 128)
    return _large_string(
        *gathering.values(decoded.data, values.type, values.number, value.off, value.len, rows, buffer)
    )


def codes(decoded: Decoded, rows: I32) -> tuple[I32, pa.Array]:
    """The values of attribute rows, interned: a code per row (-1 for row -1 and EMPTY) and the distinct texts.

    Codes count in order of first appearance: texts[code] is what `strings` would give for the row.
    """
    table = decoded.attributes
    rows = _rows(decoded, rows)
    numbers, first, types = interning.intern(
        decoded.data,
        _take(table.type, rows),
        _take(table.number, rows),
        _take(table.value.off, rows),
        _take(table.value.len, rows),
        interning.ALONE,
        1,
        interning.SEED,
    )
    texts = strings(decoded, rows[first])
    if types in _ONE_TEXT_EACH:
        return numbers, texts
    # An INT 5 and a STRING "5" are one text.
    seen: dict[str, int] = {}
    merged = np.array([seen.setdefault(text, len(seen)) for text in texts.to_pylist()] + [-1], np.int32)
    return merged[numbers], pa.array(list(seen), pa.large_string())


def integers(decoded: Decoded, rows: I32) -> tuple[I64, Mask]:
    """int64 values of attribute rows and where they are valid: INT, DOUBLE without a fraction, STRING of digits."""
    table = decoded.attributes
    result: tuple[I64, Mask] = gathering.integers(
        decoded.data,
        table.type,
        table.number,
        table.number.view(np.float64),
        table.value.off,
        table.value.len,
        _rows(decoded, rows),
    )
    return result


def doubles(decoded: Decoded, rows: I32) -> tuple[F64, Mask]:
    """Doubles of attribute rows and where they are valid: DOUBLE, INT, STRING of a decimal number (`1.5e-3`)."""
    table = decoded.attributes
    rows = _rows(decoded, rows)
    values, valid = gathering.doubles(table.type, table.number, table.number.view(np.float64), rows)
    text_at = np.flatnonzero(_take(table.type, rows) == ValueType.STRING)
    if len(text_at):
        numbers, texts = codes(decoded, rows[text_at])
        parsed = [float(text) if _NUMBER.fullmatch(text) else None for text in texts.to_pylist()]
        values[text_at] = np.array([0.0 if value is None else value for value in parsed])[numbers]
        valid[text_at] = np.array([value is not None for value in parsed])[numbers]
    return values, valid


def texts(decoded: Decoded, text: Text) -> pa.Array:
    """Texts as large_string, never null: what is absent is empty."""
    offsets, values = gathering.texts(decoded.data, text.off, text.len)
    return _large_string(offsets, values)


def text_codes(decoded: Decoded, text: Text) -> tuple[I32, pa.Array]:
    """Texts, interned: a code per row (never -1: what is absent is empty), and the distinct texts."""
    if len(text.len) and not text.len.any():
        return np.zeros(len(text.len), np.int32), pa.array([""], pa.large_string())
    numbers, first = interning.texts(decoded.data, text)
    return numbers, texts(decoded, Text(text.off[first], text.len[first]))


def hex_ids(decoded: Decoded, text: Text) -> pa.Array:
    """Ids in lower-case hexadecimal, as large_string; empty for no id."""
    offsets, values = gathering.hex_texts(decoded.data, text.off, text.len)
    return _large_string(offsets, values)


def span_ids(ids: I64) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Trace, span and parent in lower-case hexadecimal, as large_string, of `SpanTable.ids` or some of its columns; empty for
    no id."""
    trace, span, parent = (_large_string(*gathering.hex_words(words)) for words in (ids[0:2], ids[2:3], ids[3:4]))
    return trace, span, parent


def id_words(ids: pa.Array, width: int) -> I64:
    """The words [width, ids] of ids in lower-case hexadecimal (large_string), as `SpanTable.ids` has them; zeros for what is no id
    of so many words."""
    offsets = np.frombuffer(ids.buffers()[1], np.int64)[ids.offset : ids.offset + len(ids) + 1]
    data = np.frombuffer(ids.buffers()[2] or b"", np.uint8)
    words: I64 = gathering.words_of(read_only(data), read_only(offsets), width)
    return words


def hash64(decoded: Decoded, text: Text) -> U64:
    """64 bits of each text, the same in every process and version: fit to be kept, not fit against an adversary."""
    result: U64 = gathering.hashes(decoded.data, text.off, text.len)
    return result


def attribute_maps(decoded: Decoded, owner: Owner) -> pa.MapArray:
    """All attributes of each owner row: map from key (dictionary-encoded) to value as text (large_string).

    Of entries with one key the last one is taken; an EMPTY value is an empty text.
    """
    table, range_ = decoded.attributes, decoded.ranges(owner)
    owners, entries, offsets, values = gathering.maps(
        decoded.data,
        table.type,
        table.number,
        table.value.off,
        table.value.len,
        table.key,
        range_.start,
        range_.end,
        len(decoded.keys),
        large_buffer(_text_size(decoded, range_)),
    )
    keys = pa.DictionaryArray.from_arrays(pa.array(entries), pa.array(decoded.keys, pa.string()))
    return pa.MapArray.from_arrays(pa.array(owners), keys, _large_string(offsets, values))


def _text_size(decoded: Decoded, range_: Ranges) -> int:
    """Bytes that these attributes' values take as text: texts their own, the rest rarely more than a few digits."""
    if not len(range_.start):
        return 0
    rows = slice(int(range_.start[0]), int(range_.end[-1]))  # one kind of owner's attributes stand together
    return int(decoded.attributes.value.len[rows].sum(dtype=np.int64)) + 16 * (rows.stop - rows.start) + 128


def _rows(decoded: Decoded, rows: I32) -> I32:
    """Rows as the kernels take them. Raises IndexError for rows that the attribute table does not have."""
    rows = np.ascontiguousarray(rows, dtype=np.int32)
    if len(rows) and not -1 <= int(rows.min()) <= int(rows.max()) < len(decoded.attributes.type):
        raise IndexError("attribute rows out of range")
    return rows


def _take(column: NDArray[Number], rows: I32) -> NDArray[Number]:
    """column[rows], zero for row -1."""
    if len(column) == 0:
        return np.zeros(len(rows), column.dtype)
    taken = column[rows]
    taken[rows < 0] = 0
    return taken


def _large_string(offsets: I64, values: NDArray[np.uint8], valid: Mask | None = None) -> pa.Array:
    bitmap = None
    if valid is not None and not valid.all():
        bitmap = pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(
        pa.large_string(), len(offsets) - 1, [bitmap, pa.py_buffer(offsets), pa.py_buffer(values)]
    )
