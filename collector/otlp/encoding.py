"""Attributes as OTLP's wire format, from columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from collector.otlp import layout as L
from collector.otlp.compiled import kernel
from collector.otlp.raw import Int, address, copy, store8
from collector.otlp.tables import I32, I64, U8
from collector.otlp.wire import put_varint, varint_size

Masks = NDArray[np.bool_]

_REST = np.int64(0x01FFFFFFFFFFFFFF)  # what is left of 64 bits after a shift by 7


@kernel
def _number_size(value: Int) -> Int:
    """How many bytes the varint of a number takes, 10 for one below zero."""
    return varint_size(value) if value >= 0 else 10


@kernel
def _put_number(out: Int, at: Int, value: Int) -> Int:
    if value < 0:
        store8(out, at, (value & 0x7F) | 0x80)
        value = (value >> 7) & _REST
        at += 1
    return put_varint(out, at, value)


@kernel
def span_attributes(
    keys: U8, key_end: I64, kind: U8, valid: Masks, number: I64, texts: U8, text_at: I64, text_size: I32
) -> tuple[U8, I64]:
    """For each span its new attributes, as fields of the Span message: all bytes, and where each span's begin.

    One row per column of changes: its key ends at key_end in `keys`, its values are of one kind (STRING, BOOL, INT,
    DOUBLE) and stand in `number`, or in `texts` at text_at; only where `valid`.
    """
    key_data, text_data = address(keys), address(texts)
    starts = np.empty(valid.shape[1] + 1, np.int64)
    total = np.int64(0)
    for write in range(2):
        buffer = np.empty(total if write == 1 else 0, np.uint8)
        out = address(buffer)
        at = np.int64(0)
        for span in range(valid.shape[1]):
            starts[span] = at
            for column in range(len(kind)):
                if not valid[column, span]:
                    continue
                key_at = key_end[column - 1] if column > 0 else np.int64(0)
                key_size = key_end[column] - key_at
                bits, size = number[column, span], np.int64(text_size[column, span])
                if kind[column] == L.STRING:
                    value_size = 1 + varint_size(size) + size
                elif kind[column] == L.DOUBLE:
                    value_size = np.int64(9)
                else:
                    value_size = 1 + _number_size(bits)
                message = 1 + varint_size(key_size) + key_size + 1 + varint_size(value_size) + value_size
                if write == 0:
                    at += 1 + varint_size(message) + message
                    continue
                store8(out, at, L.SPAN_ATTRIBUTES)
                at = put_varint(out, at + 1, message)
                store8(out, at, L.KEY_VALUE_KEY)
                at = put_varint(out, at + 1, key_size)
                copy(out, at, key_data, key_at, key_size)
                at += key_size
                store8(out, at, L.KEY_VALUE_VALUE)
                at = put_varint(out, at + 1, value_size)
                if kind[column] == L.STRING:
                    store8(out, at, L.ANY_STRING)
                    at = put_varint(out, at + 1, size)
                    copy(out, at, text_data, text_at[column, span], size)
                    at += size
                elif kind[column] == L.DOUBLE:
                    store8(out, at, L.ANY_DOUBLE)
                    for i in range(8):
                        store8(out, at + 1 + i, bits >> (8 * i))
                    at += 9
                else:
                    store8(out, at, L.ANY_INT if kind[column] == L.INT else L.ANY_BOOL)
                    at = _put_number(out, at + 1, bits)
        starts[valid.shape[1]] = at
        total = at
    return buffer, starts
