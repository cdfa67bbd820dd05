"""The ledger's rows: versions of calls, and what they move in the hourly sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from collector import columns
from collector.columns import CALL_COLUMNS
from collector.distinct import combinations, integers
from collector.ledger.rows import equal_to
from collector.otlp.tables import I64
from collector.sums import LAST_NS, LAST_PICO, LAST_TOKENS, served_model, sums
from exporters.clickhouse.arrow import record_batch, told
from exporters.clickhouse.schema import CALL_FIELDS, COLLECTOR

_MONEY = frozenset(column.name for column in CALL_COLUMNS if column.unit == "pico-USD")
_COUNTS = frozenset(c.name for c in CALL_COLUMNS if c.unit in ("tokens", "ns") and c is not columns.START)
#: The most that means something, by column; time has no such bound.
_MOST = dict.fromkeys(_MONEY, LAST_PICO) | {
    column.name: LAST_TOKENS for column in CALL_COLUMNS if column.unit == "tokens"
}
_ANY = 2**63 - 1
_EMPTY = pl.Series([""], dtype=pl.String())
_HOUR_NS = 3600 * 10**9
_KEY_COLUMNS = {"Team": "team", "App": "app", "User": "user", "Environment": "environment", "Provider": "provider"}
_TOTALS = {
    "InputTokens": "input_tokens",
    "CacheReadTokens": "cache_read_tokens",
    "CacheWriteTokens": "cache_write_tokens",
    "OutputTokens": "output_tokens",
    "ReasoningTokens": "reasoning_tokens",
}


def within(rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` with what no column can hold made unknown: an amount of a million dollars or more, a count below zero, a trillion
    tokens.

    Nobody means such a value; the row stays.
    """
    if rows.is_empty():
        return rows
    series = {column.name: column for column in rows.get_columns() if column.name in _COUNTS or column.name in _MONEY}
    lowest = {name: 0 if name in _COUNTS else -LAST_PICO for name in series}
    bad = [name for name, values in series.items() if _beyond(values, lowest[name])]
    if not bad:
        return rows
    return rows.with_columns(pl.when(pl.col(n).is_between(lowest[n], _MOST.get(n, _ANY))).then(n).alias(n) for n in bad)


def _beyond(values: pl.Series, lowest: int) -> bool:
    """Whether one of them is too small or too large. Columns are asked one by one: an expression costs more than its work."""
    if values.null_count() == len(values):
        return False
    ends: Any = (values.min(), values.max())
    return bool(ends[0] < lowest or ends[1] > _MOST.get(values.name, _ANY))


def call_rows(calls: pl.DataFrame, collector: str) -> pa.RecordBatch:
    """CALL_COLUMNS as rows of the table of versions, written by a collector."""
    wanted = [(field.column.name, field) for field in CALL_FIELDS if field.column is not None]
    writer = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(calls), np.int8)), pa.array([collector]))
    return record_batch({**told(calls, wanted), COLLECTOR.name: writer})


@dataclass(frozen=True, slots=True)
class _Moves:
    """What calls add to the sums (sign 1), or had added (-1): keys as columns, measures as int64 per call."""

    keys: pl.DataFrame
    hours: I64
    measures: dict[str, I64]


def _moves(calls: pl.DataFrame, sign: int) -> _Moves:
    """A withdrawn row counts as nothing."""
    rows = calls if not calls["withdrawn"].any() else calls.filter(~pl.col("withdrawn"))
    failed = equal_to(rows["status"], "Error")
    cost, priced = integers(rows["cost_pico"])
    ones = np.full(len(rows), sign, np.int64)
    keys = [rows[name].alias(key) for key, name in _KEY_COLUMNS.items()]
    return _Moves(
        pl.DataFrame([*keys, served_model(rows).alias("Model")]),
        np.clip(integers(rows["start_ns"])[0], 0, LAST_NS) // _HOUR_NS * 3600,
        {
            "Calls": ones,
            "FailedCalls": ones * failed,
            "PricedCalls": ones * priced,
            "UnpricedCalls": ones * (~priced & ~failed),
            **{measure: integers(rows[name])[0] * sign for measure, name in _TOTALS.items()},
            "CostUSD": cost * sign,
            "CacheSavingsUSD": integers(rows["cache_savings_pico"])[0] * sign,
        },
    )


def hourly_rows(calls: pl.DataFrame, replaced: pl.DataFrame) -> pl.DataFrame:
    """How the hourly sums move, one row per key whose sums change, named as the table's columns. Money is in pico-dollars.

    What is null stands under the empty text. A key that is null in one call and empty in another has two rows, which the
    table adds up as it does all others.
    """
    moves = [_moves(frame, sign) for frame, sign in ((calls, 1), (replaced, -1)) if not frame.is_empty()]
    keys = pl.concat([move.keys for move in moves]) if len(moves) > 1 else moves[0].keys
    hours = np.concatenate([move.hours for move in moves])
    codes, first = combinations(keys, keys.columns, [hours])
    moved: dict[str, pl.Series] = {}
    changed = np.full(len(first), len(moves) == 1)
    for name in moves[0].measures:
        total = sums(np.concatenate([move.measures[name] for move in moves]), codes, len(first))
        changed |= np.array(total != 0, np.bool_)
        money = name.endswith("USD")
        moved[name] = pl.Series(name, total.tolist(), dtype=pl.Decimal(38, 0)) if money else pl.Series(name, total)
    texts = [_known(column.gather(first)) for column in keys.get_columns()]
    frame = pl.DataFrame([pl.Series("Hour", hours[first].astype(np.uint32)), *texts, *moved.values()])
    return frame if changed.all() else frame.filter(pl.Series(changed))


def _known(texts: pl.Series) -> pl.Series:
    """Texts, null ones empty."""
    return texts.zip_with(texts.is_not_null(), _EMPTY).alias(texts.name) if texts.null_count() else texts
