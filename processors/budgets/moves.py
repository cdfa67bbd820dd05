"""How a batch moves what was used: by its calls, minus the versions of them that were in force before."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from collector.distinct import Mask, combinations, integers, texts
from collector.otlp.tables import I64
from collector.sums import COUNTED_BY, LAST_NS, LAST_PICO, LAST_TOKENS, served_model, sums
from processors.budgets.scopes import Scope

Values = tuple[str, ...]


class Change(NamedTuple):
    """What one subject's use in one window moves by. `code` finds its rows."""

    period: int
    values: Values
    usd: int
    tokens: int
    calls: int
    last_ns: int  # start of the newest call; 0 where there is none
    late: int  # calls that came
    code: int


class Moves:
    """A batch's rows that count: first what was in force before (sign -1), then the calls."""

    def __init__(self, calls: pl.DataFrame, replaced: pl.DataFrame) -> None:
        self._frames = [_counted(frame) for frame in (replaced, calls)]
        self.before = len(self._frames[0])  # rows from here on are calls
        self.start = np.clip(self._numbers("start_ns"), 0, LAST_NS)
        sign = np.ones(len(self.start), np.int64)
        sign[: self.before] = -1
        self._sign = sign
        cost = self._numbers("cost_pico")
        self._cost = np.where(np.abs(cost) <= LAST_PICO, cost, 0) * sign
        self._input = self._tokens("input_tokens") * sign
        self._output = self._tokens("output_tokens") * sign
        self._columns: dict[str, pl.Series] = {}
        self._texts: dict[str, tuple[NDArray[np.int32], list[str]]] = {}

    def __len__(self) -> int:
        return len(self.start)

    def _numbers(self, name: str) -> I64:
        return np.concatenate([integers(frame[name])[0] for frame in self._frames])

    def _tokens(self, name: str) -> I64:
        """A count that is nobody's is unknown, as in the ledger's table."""
        counts = self._numbers(name)
        return np.where((counts >= 0) & (counts <= LAST_TOKENS), counts, 0)

    def column(self, dimension: str) -> pl.Series:
        """The values of a dimension, by row."""
        found = self._columns.get(dimension)
        if found is None:
            name = COUNTED_BY[dimension]
            parts = [frame[name] if name else served_model(frame) for frame in self._frames if len(frame)]
            found = (parts[0] if len(parts) == 1 else pl.concat(parts)).alias(dimension)
            self._columns[dimension] = found
        return found

    def _fit(self, dimension: str, pattern: re.Pattern[str]) -> Mask:
        """Which rows have a value that fits; one that is null is the empty text."""
        if dimension not in self._texts:
            codes, distinct = texts(self.column(dimension))
            self._texts[dimension] = codes, [(text or "").lower() for text in distinct.to_list()]
        codes, names = self._texts[dimension]
        return np.array([*(pattern.match(name) is not None for name in names), pattern.match("") is not None])[codes]

    def _rows(self, match: Mapping[str, re.Pattern[str]], unless: Mapping[str, re.Pattern[str]]) -> I64:
        mask = np.ones(len(self), np.bool_)
        for dimension, pattern in match.items():
            mask &= self._fit(dimension, pattern)
        for dimension, pattern in unless.items():
            mask &= ~self._fit(dimension, pattern)
        return np.flatnonzero(mask)

    def of(self, scope: Scope) -> Changes:
        """What moves in a scope."""
        rows: Any = self._rows(scope.match, scope.unless) if scope.match or scope.unless else slice(None)
        start = self.start[rows]
        periods = scope.window.starts(start)
        columns = [self.column(name) if isinstance(rows, slice) else self.column(name)[rows] for name in scope.per]
        if not columns:  # a frame of no columns has no rows
            columns = [pl.Series("", [None], dtype=pl.String()).new_from_index(0, len(start))]
        frame = pl.DataFrame(columns)
        codes, first = combinations(frame, frame.columns, [periods])
        count = len(first)
        usd, asked, answered, calls = (
            sums(v[rows], codes, count) for v in (self._cost, self._input, self._output, self._sign)
        )
        last, come = np.zeros(count, np.int64), np.zeros(count, np.int64)
        called = (np.arange(len(self)) if isinstance(rows, slice) else rows) >= self.before
        np.maximum.at(last, codes[called], start[called])
        np.add.at(come, codes[called], 1)
        values = list(zip(*(column[first].to_list() for column in columns), strict=True)) if scope.per else [()] * count
        found = [
            Change(period, value if None not in value else tuple([v or "" for v in value]), u, i + o, n, newest, late, code)
            for code, (period, value, u, i, o, n, newest, late) in enumerate(
                zip(
                    periods[first].tolist(), values, usd.tolist(), asked.tolist(), answered.tolist(), calls.tolist(),
                    last.tolist(), come.tolist(), strict=True,
                )
            )
        ]  # fmt: skip
        return Changes(self, rows, codes, found)

    def amounts(self, rows: I64, measure: int) -> list[int]:
        """What rows add to one of MEASURES."""
        if measure == 0:
            return [int(v) for v in self._cost[rows].tolist()]
        if measure == 1:
            return [i + o for i, o in zip(self._input[rows].tolist(), self._output[rows].tolist(), strict=True)]
        return [int(v) for v in self._sign[rows].tolist()]

    def ids(self, row: int) -> tuple[str, str]:
        """Trace and span of a call."""
        calls, at = self._frames[1], row - self.before
        return calls["trace_id"][at] or "", calls["span_id"][at] or ""


class Changes:
    """What a batch moves in one scope."""

    def __init__(self, moves: Moves, rows: I64 | slice, codes: I64, found: list[Change]) -> None:
        self.moves = moves
        self._rows = rows
        self._codes = codes
        self._found = found

    def __iter__(self) -> Iterator[Change]:
        return iter(self._found)

    def calls(self, codes: list[int]) -> I64:
        """Rows of the calls of these changes, in the order in which they came."""
        at = np.flatnonzero(np.isin(self._codes, codes))
        rows: I64 = at if isinstance(self._rows, slice) else self._rows[at]
        return rows[rows >= self.moves.before]


def _counted(rows: pl.DataFrame) -> pl.DataFrame:
    """A withdrawn row counts as nothing."""
    return rows.filter(~pl.col("withdrawn")) if len(rows) and rows["withdrawn"].any() else rows
