"""How a batch moves the sums by hour: what its calls add, minus what those that they replace had added.

A key or measure that is not simply a column of the calls has a function here, by its name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from collector.distinct import combinations, integers, texts
from collector.ledger.rows import equal_to
from collector.otlp.tables import I64
from collector.sums import LAST_NS, served_model, sums
from exporters.clickhouse.hourly import LONGEST_NS, Sums

Mask = NDArray[np.bool_]
_EMPTY = pl.Series([""], dtype=pl.String())
_HOUR_NS = 3600 * 10**9


@dataclass(slots=True)
class Moves:
    """What calls add to sums (sign 1), or had added (-1). What several sums ask of them is computed once."""

    calls: pl.DataFrame
    sign: int
    _kept: dict[str, tuple[I64, Mask]] = field(default_factory=dict)

    @classmethod
    def of(cls, calls: pl.DataFrame, sign: int) -> Moves:
        """A withdrawn row counts as nothing."""
        return cls(calls if not calls["withdrawn"].any() else calls.filter(~pl.col("withdrawn")), sign)

    def integers(self, name: str) -> tuple[I64, Mask]:
        """A column's values, 0 where it is null, and which are not."""
        if name not in self._kept:
            self._kept[name] = integers(self.calls[name])
        return self._kept[name]

    @property
    def failed(self) -> Mask:
        if "failed" not in self._kept:
            self._kept["failed"] = np.empty(0, np.int64), equal_to(self.calls["status"], "Error")
        return self._kept["failed"][1]

    @property
    def hours(self) -> I64:
        """Unix seconds of the hours in which they started."""
        return np.clip(self.integers("start_ns")[0], 0, LAST_NS) // _HOUR_NS * 3600


def _count(which: Callable[[Moves], Mask]) -> Callable[[Moves], I64]:
    return lambda moves: np.where(which(moves), 1, 0)


def _total(column: str) -> Callable[[Moves], I64]:
    return lambda moves: moves.integers(column)[0]


#: A measure's name → what each call adds to it. Money is in pico-dollars.
MEASURED: dict[str, Callable[[Moves], I64]] = {
    "Calls": lambda moves: np.ones(len(moves.calls), np.int64),
    "FailedCalls": _count(lambda moves: moves.failed),
    "LimitedCalls": _count(lambda moves: _limited(moves.calls["error_type"])),
    "PricedCalls": _count(lambda moves: moves.integers("cost_pico")[1]),
    "UnpricedCalls": _count(lambda moves: ~(moves.integers("cost_pico")[1] | moves.failed)),
    "InputTokens": _total("input_tokens"),
    "CacheReadTokens": _total("cache_read_tokens"),
    "CacheWriteTokens": _total("cache_write_tokens"),
    "OutputTokens": _total("output_tokens"),
    "ReasoningTokens": _total("reasoning_tokens"),
    "CostUSD": _total("cost_pico"),
    "CacheSavingsUSD": _total("cache_savings_pico"),
    "ExpectedCostUSD": _total("expected_cost_pico"),
    "AvoidableCostUSD": _total("avoidable_cost_pico"),
    "AnsweredTime": lambda moves: np.where(moves.failed, 0, np.minimum(moves.integers("duration_ns")[0], LONGEST_NS)),
}


def _limited(errors: pl.Series) -> Mask:
    """`hourly.LIMITED`, once for each error that there is."""
    if errors.null_count() == len(errors):
        return np.zeros(len(errors), np.bool_)
    codes, found = texts(errors)
    limited = [_is_limit(error.lower()) for error in found.to_list()]
    return np.array([*limited, False], np.bool_)[codes]  # -1, for null, is the last


def _is_limit(error: str) -> bool:
    at = error.find("rate")
    return error == "429" or "throttl" in error or (at >= 0 and "limit" in error[at + 4 :])


def _book(calls: pl.DataFrame) -> pl.Series:
    """The book that a price's source names: its first two words."""
    sources = calls["price_source"]
    if sources.null_count() == len(sources):
        return sources
    codes, found = texts(sources)
    books = pl.Series([*(" ".join(source.split(" ")[:2]) for source in found.to_list()), None], dtype=pl.String())
    return books.gather(np.where(codes < 0, len(books) - 1, codes))


#: Keys that are no column of calls.
_MADE: dict[str, Callable[[pl.DataFrame], pl.Series]] = {"Model": served_model, "PriceBook": _book}


def moved(of: Sums, moves: list[Moves]) -> pl.DataFrame:
    """How the sums move, one row per key whose sums change, named as the table's columns. Money is in pico-dollars.

    What is null stands under the empty text. A key that is null in one call and empty in another has two rows, which the
    table adds up as it does all others.
    """
    parts = [_keys(of, move.calls) for move in moves]
    keys = pl.concat(parts) if len(parts) > 1 else parts[0]
    hours = np.concatenate([move.hours for move in moves])
    codes, first = combinations(keys, keys.columns, [hours])
    columns: list[pl.Series] = []
    changed = np.full(len(first), len(moves) == 1)
    for measure in of.measures:
        total = sums(np.concatenate([MEASURED[measure.name](move) * move.sign for move in moves]), codes, len(first))
        changed |= np.array(total != 0, np.bool_)
        money = measure.name.endswith("USD")
        columns.append(pl.Series(measure.name, total.tolist(), pl.Decimal(38, 0)) if money else pl.Series(measure.name, total))  # fmt: skip
    named = [pl.Series("Hour", hours[first].astype(np.uint32)), *(_known(column.gather(first)) for column in keys.get_columns())]  # fmt: skip
    frame = pl.DataFrame([*named, *columns])
    return frame if changed.all() else frame.filter(pl.Series(changed))


def _keys(of: Sums, calls: pl.DataFrame) -> pl.DataFrame:
    """The keys but the hour, as columns."""
    names = {key.field.name: key.column for key in of.keys[1:]}
    return pl.DataFrame([(_MADE[name](calls) if column is None else calls[column.name]).alias(name) for name, column in names.items()])  # fmt: skip


def _known(column: pl.Series) -> pl.Series:
    """Texts, null ones empty; numbers, null ones 0."""
    if column.dtype != pl.String:
        return column.fill_null(0).cast(pl.UInt32)
    return column.zip_with(column.is_not_null(), _EMPTY).alias(column.name) if column.null_count() else column
