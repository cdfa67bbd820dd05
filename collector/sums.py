"""What calls add up to, as the ledger counts it: exactly, under one model name, and within what a column of money holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from collector.columns import DIMENSIONS
from collector.otlp.tables import I64

#: An amount of a million dollars or more is nobody's: it counts as unknown. Also what ClickHouse's Decimal(18, 12) holds.
LAST_PICO = 10**18 - 1
#: More tokens in one call than this are nobody's either: they count as unknown. Nine million such calls fit into an Int64.
LAST_TOKENS = 10**12
#: Times beyond it count as this one: where ClickHouse's DateTime ends. 2105-12-31T23:59:59.
LAST_NS = 4_291_747_199 * 10**9
#: How far ahead of its arrival an event may say it happened. What is further ahead has a wrong clock, and would end all that waits for it.
AHEAD_NS = 3600 * 10**9
#: What calls may be counted by, and the column of each; the model is the one that `served_model` says.
COUNTED_BY: dict[str, str | None] = {
    **{column.name: column.name for column in DIMENSIONS},
    "provider": "provider", "model": None, "deployment": "deployment", "region": "region", "operation": "operation", "service": "service_name",
}  # fmt: skip


def served_model(calls: pl.DataFrame) -> pl.Series:
    """The model that a call counts under: the first of upstream, response and request model that says something."""
    found: pl.Series | None = None
    for name in ("upstream_model", "response_model", "request_model"):
        texts = calls[name]
        if texts.null_count() == len(texts):
            continue
        # Which of two columns wins where one says nothing is rarely asked: most batches have the first in all rows.
        if found is None:
            found = texts
        elif found.null_count() or (found == "").any():
            found = found.zip_with(found.is_not_null() & (found != ""), texts)
    return calls["request_model"] if found is None else found


def sums(values: I64, codes: I64, count: int) -> NDArray[Any]:
    """The sum of each code's values: int64, or Python's integers where these might not reach."""
    largest = max(abs(int(values.min(initial=0))), abs(int(values.max(initial=0))))
    exact: Any = np.int64 if largest * max(len(values), 1) < 2**63 else object
    found = np.zeros(count, exact)
    np.add.at(found, codes, values.astype(exact))
    return found
