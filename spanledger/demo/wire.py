"""OTLP spans from columns: each field of each span is one piece of bytes, and pieces side by side are a message.

Lengths and counts are written as varints of a fixed size, which protobuf reads as any other; so a column of numbers is one array
of bytes, and no Python object stands for a span. Pieces are Arrow's binary arrays, one value a span; an empty one says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue

U8 = NDArray[np.uint8]
Pieces = list[pa.Array]
#: Bytes of a varint that stands for a length (up to 256 MiB), and of one for a count (up to 32 billion).
_LENGTH, _COUNT = 4, 5
_ATTRIBUTE = 0x4A  # field 9 of a span, a message
_EMPTY = pa.scalar(b"", pa.large_binary())


def key_value(name: str, value: object) -> bytes:
    """One attribute, as the bytes of a KeyValue."""
    return KeyValue(key=name, value=_any(value)).SerializeToString()


def _any(value: object) -> AnyValue:
    match value:
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case list():
            return AnyValue(array_value=ArrayValue(values=[_any(item) for item in value]))
        case _:
            return AnyValue(string_value=str(value))


def field(tag: int, body: bytes) -> bytes:
    """A field that is a message or a text."""
    return bytes([tag]) + _varints(np.array([len(body)]), _LENGTH).tobytes() + body


def _varints(values: NDArray[Any], size: int) -> U8:
    """Numbers as varints of so many bytes: [number, byte]."""
    shifts = 7 * np.arange(size)
    bits = (values.astype(np.int64)[:, None] >> shifts) & 0x7F
    bits[:, :-1] |= 0x80
    return bits.astype(np.uint8)


def fixed(rows: U8, there: NDArray[np.bool_] | None = None) -> pa.Array:
    """Pieces that are all as long: [span, byte]; nothing of a span where it is not `there`."""
    lengths = np.full(len(rows), rows.shape[1], np.int64)
    if there is not None:
        lengths, rows = np.where(there, lengths, 0), rows[there]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return pa.Array.from_buffers(pa.large_binary(), len(lengths), [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(rows))])  # fmt: skip


def ids(tag: int, values: U8) -> pa.Array:
    """A field of ids: [span, byte]."""
    head = np.tile(np.array([tag, values.shape[1]], np.uint8), (len(values), 1))
    return fixed(np.concatenate([head, values], axis=1))


def times(tag: int, ns: NDArray[np.int64]) -> pa.Array:
    """A field of fixed 64 bits."""
    return fixed(np.concatenate([np.full((len(ns), 1), tag, np.uint8), _eight(ns)], axis=1))


def _eight(values: NDArray[Any]) -> U8:
    return np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).view(np.uint8).reshape(len(values), 8)


def text(name: str, values: pl.Series) -> pa.Array:
    """An attribute that is a text: made once for each distinct one, nothing where it is null."""
    return each(values, lambda value: field(_ATTRIBUTE, key_value(name, value)))


def each(values: pl.Series, make: Any) -> pa.Array:
    """What a function makes of each distinct value; nothing where it is null."""
    found = values.to_arrow().dictionary_encode()
    made = pa.array([make(value) for value in found.dictionary.to_pylist()], pa.large_binary())
    return pc.fill_null(made.take(found.indices), _EMPTY)


def number(name: str, values: pl.Series) -> pa.Array:
    """An attribute that is a count; nothing where it is null."""
    return _valued(name, values, b"\x18", _varints(values.fill_null(0).to_numpy(), _COUNT))


def real(name: str, values: pl.Series) -> pa.Array:
    """An attribute that is a fraction; nothing where it is null."""
    return _valued(name, values, b"\x21", _eight(values.fill_null(0.0).to_numpy().astype(np.float64)))


def _valued(name: str, values: pl.Series, tag: bytes, rows: U8) -> pa.Array:
    size = rows.shape[1] + 1
    inner = b"\x0a" + bytes([len(name)]) + name.encode() + b"\x12" + bytes([size]) + tag
    head = np.frombuffer(bytes([_ATTRIBUTE, len(inner) + rows.shape[1]]) + inner, np.uint8)
    whole = np.concatenate([np.tile(head, (len(values), 1)), rows], axis=1)
    return fixed(whole, values.is_not_null().to_numpy())


def constant(body: bytes, count: int) -> pa.Array:
    """The same piece of all spans."""
    return pa.repeat(pa.scalar(body, pa.large_binary()), count)


def attributes(values: Mapping[str, object], count: int) -> pa.Array:
    """Attributes that all spans have."""
    return constant(b"".join(field(_ATTRIBUTE, key_value(name, value)) for name, value in values.items()), count)


def joined(tag: int, pieces: Pieces) -> pa.Array:
    """Messages of these pieces, each as a field of what it stands in."""
    bodies = pc.binary_join_element_wise(*pieces, _EMPTY)
    lengths = pc.binary_length(bodies).to_numpy(zero_copy_only=False)
    head = np.concatenate([np.full((len(bodies), 1), tag, np.uint8), _varints(lengths, _LENGTH)], axis=1)
    return pc.binary_join_element_wise(fixed(head), bodies, _EMPTY)


def flat(messages: pa.Array) -> bytes:
    """Messages one behind the other."""
    offsets = np.frombuffer(messages.buffers()[1], np.int64)[messages.offset :][: len(messages) + 1]
    data = messages.buffers()[2]
    return b"" if data is None else data.to_pybytes()[offsets[0] : offsets[-1]]
