"""The ledger's rows: versions of calls, and what they move in the hourly sums."""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from collector import columns
from collector.columns import CALL_COLUMNS
from exporters.clickhouse.arrow import LAST_NS, LAST_PICO, arrays
from exporters.clickhouse.schema import CALL_FIELDS

_MONEY = frozenset(column.name for column in CALL_COLUMNS if column.unit == "pico-USD")
_COUNTS = frozenset(c.name for c in CALL_COLUMNS if c.unit in ("tokens", "ns") and c is not columns.START)
_HOUR_NS = 3600 * 10**9
KEYS = ["Hour", "Team", "App", "User", "Environment", "Provider", "Model"]


def within(rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` with what no column can hold made unknown: an amount of a million dollars or more, a count below zero.

    Nobody means such a value; the row stays.
    """
    if rows.is_empty():
        return rows
    counts, money = [n for n in rows.columns if n in _COUNTS], [n for n in rows.columns if n in _MONEY]
    ends = rows.select(pl.min(*counts, *money), pl.max(*money).name.suffix("_max")).row(0, named=True)
    bad = [n for n in counts if (ends[n] or 0) < 0]
    bad += [n for n in money if (ends[n] or 0) < -LAST_PICO or (ends[f"{n}_max"] or 0) > LAST_PICO]
    lowest = {n: 0 if n in _COUNTS else -LAST_PICO for n in bad}
    return rows.with_columns(pl.when(pl.col(n).is_between(lowest[n], LAST_PICO)).then(n).alias(n) for n in bad)


def call_rows(calls: pl.DataFrame) -> pa.RecordBatch:
    """CALL_COLUMNS as rows of the table of versions."""
    wanted = [(field.column.name, field) for field in CALL_FIELDS if field.column is not None]
    return pa.RecordBatch.from_arrays(arrays(calls, wanted), names=[field.name for field in CALL_FIELDS])


def _text(name: str) -> pl.Expr:
    return pl.col(name).fill_null("")


def _model() -> pl.Expr:
    """As `schema.MODEL` says it in SQL."""
    upstream, response = pl.col("upstream_model"), pl.col("response_model")
    return (
        pl.when(upstream != "")
        .then(upstream)
        .when(response != "")
        .then(response)
        .otherwise("request_model")
        .fill_null("")
    )


def _movement(calls: pl.DataFrame, sign: int) -> pl.DataFrame:
    """What each row adds to the sums (sign 1), or had added (-1). A withdrawn row counts as nothing."""
    one = pl.lit(sign, pl.Int64)
    failed = pl.col("status").eq_missing("Error")
    priced = pl.col("cost_pico").is_not_null()

    def counted(condition: pl.Expr) -> pl.Expr:
        return condition.cast(pl.Int64) * one

    def total(name: str) -> pl.Expr:
        return pl.col(name).fill_null(0) * one

    rows = calls if not calls["withdrawn"].any() else calls.filter(~pl.col("withdrawn"))
    return rows.select(
        (pl.col("start_ns").clip(0, LAST_NS) // _HOUR_NS * 3600).cast(pl.UInt32).alias("Hour"),
        _text("team").alias("Team"),
        _text("app").alias("App"),
        _text("user").alias("User"),
        _text("environment").alias("Environment"),
        _text("provider").alias("Provider"),
        _model().alias("Model"),
        one.alias("Calls"),
        counted(failed).alias("FailedCalls"),
        counted(priced).alias("PricedCalls"),
        counted(~priced & ~failed).alias("UnpricedCalls"),
        total("input_tokens").alias("InputTokens"),
        total("cache_read_tokens").alias("CacheReadTokens"),
        total("cache_write_tokens").alias("CacheWriteTokens"),
        total("output_tokens").alias("OutputTokens"),
        total("reasoning_tokens").alias("ReasoningTokens"),
        # Ten amounts near a million dollars no longer fit 64 bits.
        total("cost_pico").cast(pl.Decimal(38, 0)).alias("CostUSD"),
        total("cache_savings_pico").cast(pl.Decimal(38, 0)).alias("CacheSavingsUSD"),
    )


def hourly_rows(calls: pl.DataFrame, replaced: pl.DataFrame) -> pl.DataFrame:
    """How the hourly sums move, one row per key whose sums change, named as the table's columns. Money is in pico-dollars."""
    moves = [_movement(frame, sign) for frame, sign in ((calls, 1), (replaced, -1)) if not frame.is_empty()]
    sums = pl.concat(moves).group_by(KEYS, maintain_order=True).agg(pl.all().sum())
    if len(moves) == 1:
        return sums
    return sums.filter(pl.any_horizontal(pl.exclude(KEYS) != 0))
