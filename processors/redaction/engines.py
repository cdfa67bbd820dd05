"""The first look: where in a buffer of texts may which pattern match?

An engine is asked once per buffer, not per text. It may say yes too often: RE2 has the last word on every text, see
`scanner.py`. Hyperscan looks for all patterns in one pass; where there is no wheel of it, RE2 goes through the buffer
once per pattern that its literals do not rule out.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np
import re2

from collector.otlp.tables import I64, U8
from processors.redaction.patterns import compiled

hyperscan: Any
try:
    import hyperscan
except ImportError:  # no wheel for this platform
    hyperscan = None


class Spots(NamedTuple):
    """What to look at: an expression in a row. The first match there, shortened, ends at `first` or later, the last one
    at `last` or earlier (both in the buffer). Sorted by row, each pair once."""

    row: I64
    expression: I64
    first: I64
    last: I64


_ID_BITS = 16
#: Places in one buffer: what is told of more is a pattern that matches everywhere.
_MOST_TOLD = 1 << 22
NOWHERE = Spots(*(np.empty(0, np.int64) for _ in range(4)))


def installed() -> bool:
    """Whether Hyperscan is."""
    return hyperscan is not None


class Engine(Protocol):
    """Made of expressions; row i of a buffer is buffer[start[i]:start[i + 1]], its last byte a newline."""

    def look(self, buffer: U8, start: I64) -> Spots: ...


class HyperscanEngine:
    """One pass, in block mode. Threads may share it: each has a scratch of its own."""

    def __init__(self, expressions: Sequence[str]) -> None:
        if hyperscan is None:
            raise ImportError("hyperscan is not installed")
        self._local = threading.local()
        sources = list(expressions)
        try:
            self._database, left = _database(sources, range(len(sources))) if sources else None, []
        except hyperscan.error:  # it does not know a construct that RE2 does, or finds it too large
            left = [number for number, source in enumerate(sources) if not _takes(source)]
            taken = sorted(set(range(len(sources))) - set(left))
            self._database = _database([sources[number] for number in taken], taken) if taken else None
        self._left = np.array(left, np.int64)
        self._others = Re2Engine([expressions[number] for number in left]) if left else None

    def look(self, buffer: U8, start: I64) -> Spots:
        told: array[int] = array("q")
        if self._database is not None:
            self._database.scan(buffer.data, _note, 0, told, self._scratch())
        spots = NOWHERE
        if told:
            found = np.frombuffer(told, np.int64)
            end = found >> _ID_BITS
            row = np.searchsorted(start, end - 1, "right") - 1
            spots = _spots(row, found & ((1 << _ID_BITS) - 1), end, end)
        if self._others is None:
            return spots
        more = self._others.look(buffer, start)
        more = more._replace(expression=self._left[more.expression])
        return united(spots, more)

    def _scratch(self) -> Any:
        scratch = getattr(self._local, "scratch", None)
        if scratch is None:
            scratch = self._local.scratch = hyperscan.Scratch(self._database)
        return scratch


class Re2Engine:
    """A pass per pattern, of those whose literals are in the buffer."""

    def __init__(self, expressions: Sequence[str]) -> None:
        self._regexps = [compiled("(?m)" + expression) for expression in expressions]
        self._literals = re2.Filter()
        options = re2.Options()
        options.log_errors = False
        for expression in expressions:
            self._literals.Add(("(?m)" + expression).encode(), options)
        if expressions:
            self._literals.Compile()

    def look(self, buffer: U8, start: I64) -> Spots:
        if not self._regexps or not len(buffer):
            return NOWHERE
        text = buffer.tobytes()
        rows: list[int] = []
        expressions: list[int] = []
        for number in self._literals.Match(text, True):
            regexp, at = self._regexps[number], 0
            while match := regexp.search(text, at):
                # A match may begin in one row and end in another, and hide one that does not: all these rows are looked at.
                low, high = np.searchsorted(start, (match.start(), max(match.end() - 1, match.start())), "right") - 1
                rows.extend(range(low, high + 1))
                expressions.extend([number] * (high + 1 - low))
                at = int(start[high + 1])
        row = np.array(rows, np.int64)
        return _spots(row, np.array(expressions, np.int64), start[row], start[row + 1])


@lru_cache(maxsize=64)
def _engine(name: str, expressions: tuple[str, ...]) -> Engine:
    """Pipelines that look for the same share what was compiled: that takes a second."""
    return (HyperscanEngine if name == "hyperscan" else Re2Engine)(expressions)


class Look:
    """An engine for the triggers of expressions, which tells of the expressions that have them."""

    def __init__(self, engine: str, triggers: Mapping[int, str]) -> None:
        """`engine` is `hyperscan` or `re2`, `triggers` are by number of expression: many may have one trigger."""
        distinct = list(dict.fromkeys(triggers.values()))
        self._engine = _engine(engine, tuple(distinct))
        of = [[number for number, one in triggers.items() if one == trigger] for trigger in distinct]
        self._count = np.array([len(numbers) for numbers in of], np.int64)
        self._first = np.cumsum(self._count) - self._count
        self._numbers = np.array([number for numbers in of for number in numbers], np.int64)

    def __len__(self) -> int:
        return len(self._numbers)

    def __call__(self, buffer: U8, start: I64) -> Spots:
        """As of an engine, by number of expression."""
        if not len(buffer):
            return NOWHERE
        spots = self._engine.look(buffer, start)
        which, place = repeated(self._first[spots.expression], self._count[spots.expression])
        return Spots(spots.row[which], self._numbers[place], spots.first[which], spots.last[which])


def repeated(first: I64, count: I64) -> tuple[I64, I64]:
    """Of ranges first[i] : first[i] + count[i], one after the other: the number of the range, and what is in it."""
    which = np.repeat(np.arange(len(first)), count)
    place = np.repeat(first - (np.cumsum(count) - count), count) + np.arange(len(which))
    return which, place


def united(one: Spots, other: Spots) -> Spots:
    """The spots of both; those of one pair as one."""
    return _spots(*(np.concatenate(pair) for pair in zip(one, other, strict=True)))


def _note(expression: int, start: int, end: int, flags: int, told: array[int]) -> bool:  # noqa: ARG001
    """Called for each place where a match ends. Ends the scan, with an error, when there are too many."""
    told.append(end << _ID_BITS | expression)
    return len(told) > _MOST_TOLD


def _database(sources: Sequence[str], ids: Sequence[int]) -> Any:
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    flags = hyperscan.HS_FLAG_MULTILINE | hyperscan.HS_FLAG_UTF8
    database.compile(expressions=[source.encode() for source in sources], ids=list(ids), flags=[flags] * len(sources))
    return database


def _takes(source: str) -> bool:
    try:
        _database([source], [0])
    except hyperscan.error:
        return False
    return True


def _spots(row: I64, expression: I64, first: I64, last: I64) -> Spots:
    """Each row and expression once."""
    if not len(row):
        return NOWHERE
    order = np.lexsort((expression, row))
    row, expression = row[order], expression[order]
    new = np.flatnonzero(np.diff(row, prepend=-1) | np.diff(expression, prepend=-1))
    return Spots(
        row[new], expression[new], np.minimum.reduceat(first[order], new), np.maximum.reduceat(last[order], new)
    )
