"""Compile ahead what is compiled: every inner loop runs once, on a call made up for it."""

from __future__ import annotations

from functools import cache

import numpy as np
import polars as pl

from collector.batch import Position, SpanBatch
from collector.columns import CALL_COLUMNS, nulls
from collector.otlp.decode import decode
from processors.anomaly.config import AnomalyConfig
from processors.anomaly.gathering import OCTAVES, gathered
from processors.anomaly.judging import Came, Judge
from processors.anomaly.measures import COUNT, SUMS
from processors.anomaly.series import Rows
from processors.anomaly.summing import summed


@cache
def warm() -> None:
    """Run everything compiled, from calls to a verdict. Once per process."""
    columns = nulls(CALL_COLUMNS, 1)
    for name, value in (("start_ns", 10**18), ("duration_ns", 10**9), ("cost_pico", 10**9), ("withdrawn", False)):
        columns[name] = pl.Series(name, [value], dtype=columns[name].dtype)
    calls = pl.DataFrame(list(columns.values()))
    batch = SpanBatch.blank(decode(b""), Position(1, 1), 10**18).with_(calls=calls)
    found = gathered(batch, ["team"], 0, 300 * 10**9, 0)
    rows = Rows.blank(1)
    numbers = np.concatenate([found.sums, found.costs], axis=1)
    sums, _, alike, spends = summed(numbers, np.zeros((1, 1), np.int64), rows.words, -1)
    no = np.zeros(1, np.bool_)
    came = Came(
        np.ascontiguousarray(sums[:, :SUMS]), np.zeros((1, OCTAVES), np.int64), np.zeros((1, COUNT), np.bool_), np.zeros(1, np.int64), alike,
        spends, no,
    )  # fmt: skip
    Judge(AnomalyConfig())(rows, came, 1)
