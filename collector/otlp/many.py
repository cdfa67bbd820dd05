"""Codes for many attribute keys at once, span by span.

A span's attributes lie side by side, in the table and in the bytes. Read key by key, each value costs a trip to memory; read
span by span, the next ones have come along with the first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from collector.otlp import layout as L
from collector.otlp.compiled import kernel
from collector.otlp.gather import codes, strings
from collector.otlp.interning import AHEAD, SEED
from collector.otlp.raw import Int, address, equal_bytes, fold, hash_bytes, prefetch
from collector.otlp.tables import I32, I64, U8, Traces

_MOST = np.int64(1024)  # distinct values of a key; one that has more is read alone


def codes_of(traces: Traces, columns: Sequence[I32]) -> list[tuple[I32, pa.Array]]:
    """`gather.codes` of each column of attribute rows. The texts may repeat: an INT 5 and a STRING "5" are two values."""
    if not columns:
        return []
    table = traces.attributes
    found, first, counts = intern_columns(
        traces.data, table.type, table.number, table.value.off, table.value.len, np.stack(columns), SEED
    )
    answers = []
    for column, numbers, rows, count in zip(columns, found, first, counts.tolist(), strict=True):
        answers.append(codes(traces, column) if count < 0 else (numbers, strings(traces, rows[:count])))
    return answers


@kernel
def intern_columns(
    body: U8, type_: U8, number: I64, offset: I64, size: I32, columns: I32, seed: Int
) -> tuple[I32, I32, I64]:
    """For each column [K, n] of attribute rows: the codes [K, n] (-1 for row -1 and EMPTY), for each code the attribute row
    where it stood first [K, _MOST], and how many there are [K]; -1 where there are too many.
    """
    data = address(body)
    keys, rows = columns.shape
    found = np.full((keys, rows), -1, np.int32)
    first = np.full((keys, _MOST), -1, np.int32)
    hashes = np.zeros((keys, _MOST), np.int64)
    after = np.full((keys, _MOST), -1, np.int32)  # code → the code that followed it last
    table = np.full((keys, 2 * _MOST), -1, np.int32)  # slot → code
    counts = np.zeros(keys, np.int64)
    before = np.full(keys, -1, np.int64)
    for place in range(rows):
        for key in range(keys):
            if place + AHEAD < rows:
                row = np.int64(columns[key, place + AHEAD])
                if 0 <= row < len(type_):
                    prefetch(data, offset[row])
            if counts[key] < 0:
                continue
            row = np.int64(columns[key, place])
            if row < 0 or row >= len(type_):
                continue
            kind = np.int64(type_[row])
            if kind == L.EMPTY:
                continue
            at, length = offset[row], np.int64(size[row])
            by_number = kind == L.BOOL or kind == L.INT or kind == L.DOUBLE  # noqa: PLR1714 (compiles to less)
            code = np.int64(after[key, before[key]]) if before[key] >= 0 else np.int64(-1)
            if code >= 0:
                other = np.int64(first[key, code])
                if (
                    np.int64(type_[other]) == kind
                    and np.int64(size[other]) == length
                    and (number[other] == number[row] if by_number else equal_bytes(data, at, offset[other], length))
                ):
                    found[key, place] = code
                    before[key] = code
                    continue
            value = fold(number[row] ^ seed, seed - kind) if by_number else hash_bytes(data, at, length, seed + kind)
            slot = value & (2 * _MOST - 1)
            code = np.int64(table[key, slot])
            while code >= 0:
                other = np.int64(first[key, code])
                if (
                    hashes[key, code] == value
                    and np.int64(type_[other]) == kind
                    and np.int64(size[other]) == length
                    and (number[other] == number[row] if by_number else equal_bytes(data, at, offset[other], length))
                ):
                    break
                slot = (slot + 1) & (2 * _MOST - 1)
                code = np.int64(table[key, slot])
            if code < 0:
                if counts[key] == _MOST:
                    counts[key] = -1
                    continue
                code = counts[key]
                counts[key] += 1
                table[key, slot], first[key, code], hashes[key, code] = code, row, value
            if before[key] >= 0:
                after[key, before[key]] = code
            before[key] = code
            found[key, place] = code
    return found, first, counts
