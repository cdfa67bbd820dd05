"""Columns of texts without a Python object a row: random ids, and picks from a few names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)


def hex_digits(draw: np.random.Generator, count: int, digits: int) -> NDArray[np.uint8]:
    """So many ids as ASCII: [id, digit]."""
    found: NDArray[np.uint8] = _HEX[draw.integers(0, 16, (count, digits), np.uint8)]
    return found


def texts(name: str, *parts: NDArray[np.uint8] | bytes) -> pl.Series:
    """ASCII side by side as a column of texts: arrays [row, letter], and what is the same in all rows."""
    count = next(len(part) for part in parts if not isinstance(part, bytes))
    whole = np.concatenate([np.tile(np.frombuffer(part, np.uint8), (count, 1)) if isinstance(part, bytes) else part for part in parts], axis=1)  # fmt: skip
    offsets = pa.py_buffer(np.arange(count + 1, dtype=np.int64) * whole.shape[1])
    found = pl.from_arrow(pa.LargeStringArray.from_buffers(count, offsets, pa.py_buffer(np.ascontiguousarray(whole))))
    assert isinstance(found, pl.Series)
    return found.alias(name)


def picked(name: str, values: Sequence[str | None], codes: NDArray[np.integer], nothing: NDArray[np.bool_] | None = None) -> pl.Series:  # fmt: skip
    """`values` by number; null where `nothing`."""
    table = pl.Series(name, [*values, None], dtype=pl.String())
    return table[(codes if nothing is None else np.where(nothing, len(values), codes)).astype(np.uint32)]


class Weighted:
    """Draws from one of several weighted lists, another one for each row."""

    def __init__(self, lists: Sequence[Sequence[tuple[int, float]]]) -> None:
        """Of each list what it holds and how often."""
        self._values = np.array([value for one in lists for value, _ in one], np.int64)
        cut = [np.cumsum([weight for _, weight in one]) / sum(weight for _, weight in one) for one in lists]
        self._ends = np.concatenate([number + np.minimum(ends, 1.0) for number, ends in enumerate(cut)])

    def __call__(self, draw: np.random.Generator, which: NDArray[np.int64]) -> NDArray[np.int64]:
        """A value of the list of each row."""
        at = np.searchsorted(self._ends, which + draw.random(len(which)), "right")
        return self._values[np.minimum(at, len(self._values) - 1)]
