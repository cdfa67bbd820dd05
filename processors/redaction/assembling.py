"""Texts with some of their parts exchanged, many at once."""

from __future__ import annotations

import numpy as np

from collector.otlp.compiled import kernel, read_only
from collector.otlp.raw import address, copy
from collector.otlp.tables import I64, U8


def assemble(
    data: U8, off: I64, size: I64, first: I64, start: I64, end: I64, piece: I64, blob: U8, at: I64, length: I64
) -> tuple[U8, I64]:
    """The texts data[off : off + size], in each of which parts are exchanged; one after the other, and where each begins.

    Parts first[i] : first[i + 1] are those of text i: bytes start : end of it, in order, become blob[at : at + length] of
    their piece. Raises ValueError for parts that overlap or reach beyond their text.
    """
    text = np.repeat(np.arange(len(off)), np.diff(first))
    limit = size[text]  # where a part must have ended: at the next one's beginning, or with the text
    limit[:-1] = np.where(text[1:] == text[:-1], start[1:], limit[:-1])
    if not ((start >= 0) & (start <= end) & (end <= limit)).all():
        raise ValueError("parts overlap, or reach beyond their text")
    made: tuple[U8, I64] = _assemble(read_only(data), off, size, first, start, end, piece, read_only(blob), at, length)
    return made


@kernel
def _assemble(
    data: U8, off: I64, size: I64, first: I64, start: I64, end: I64, piece: I64, blob: U8, at: I64, length: I64
) -> tuple[U8, I64]:
    total = np.int64(0)
    begin = np.empty(len(off) + 1, np.int64)
    for i in range(len(off)):
        begin[i] = total
        total += size[i]
        for part in range(first[i], first[i + 1]):
            total += length[piece[part]] - (end[part] - start[part])
    begin[len(off)] = total
    made = np.empty(total if total > 0 else 0, np.uint8)
    source, pieces, out = address(data), address(blob), address(made)
    to = np.int64(0)
    for i in range(len(off)):
        here = np.int64(0)
        for part in range(first[i], first[i + 1]):
            copy(out, to, source, off[i] + here, start[part] - here)
            to += start[part] - here
            copy(out, to, pieces, at[piece[part]], length[piece[part]])
            to += length[piece[part]]
            here = end[part]
        copy(out, to, source, off[i] + here, size[i] - here)
        to += size[i] - here
    return made, begin
