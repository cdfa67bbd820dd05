"""Compile ahead what is compiled: every inner loop runs once, on a call made up for it."""

from __future__ import annotations

from functools import cache

import numpy as np
import polars as pl

from collector.batch import Position, SpanBatch
from collector.columns import CALL_COLUMNS, nulls
from collector.otlp.decode import decode
from processors.anomaly.config import AnomalyConfig
from processors.anomaly.gathering import gathered
from processors.anomaly.judging import Came, Judge
from processors.anomaly.measures import COUNT
from processors.anomaly.rows import Rows
from processors.anomaly.summing import Usual, summed


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
    usually = Usual(np.full((1, COUNT), np.nan), np.full(1, np.nan))
    made = summed(found.sums, found.costs, np.zeros((1, 1), np.int64), 0, 1, -1, usually)
    no, every = np.zeros(1, np.bool_), np.ones((1, COUNT), np.bool_)
    came = Came(made.sums, made.costs, every, every, np.zeros(1, np.int64), made.alike, made.spends, no)
    Judge(AnomalyConfig())(rows, came, 1)
