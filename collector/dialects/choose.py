"""Which dialect each span is written in: decided once per distinct scope, resource and set of telling keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from collector.dialects.load import match_keys
from collector.dialects.model import Dialect, Match
from collector.dialects.places import in_range, matches
from collector.dialects.table import Coded, Table, distinct
from collector.otlp.tables import I64

_DENSE = 1 << 18  # above it, numbers are sorted instead of looked up
_REMEMBERED = 4096  # scopes and keys come from outside: what is remembered of them is bounded


class Origin(NamedTuple):
    """What is the same for all spans of a scope."""

    scope: str
    version: str
    schema_url: str
    resource: tuple[str | None, ...]


class Chooser:
    """The dialects in the order in which they are tried.

    Priority first; then the strength of the match (a scope by name, one by pattern, a resource, the number of keys); then the
    name, so that the order never depends on the disk.
    """

    def __init__(self, dialects: Sequence[Dialect]) -> None:
        self.dialects = tuple(dialects)
        pairs = [
            (place, one) for place, dialect in enumerate(dialects) for match in dialect.match for one in _single(match)
        ]
        self._order = sorted(pairs, key=lambda pair: self._rank(*pair))
        self.telling_keys = sorted(set().union(*(match_keys(dialect) for dialect in dialects)))
        self.resource_keys = sorted({key for _, match in pairs for key in match.resource})
        self._known: dict[tuple[Origin, frozenset[str]], int] = {}

    def _rank(self, place: int, match: Match) -> tuple[object, ...]:
        dialect = self.dialects[place]
        return (-dialect.priority, tuple(-part for part in match.strength), dialect.name)

    def choose(self, table: Table) -> NDArray[np.int16]:
        """Per span the number of its dialect, -1 for none."""
        if not table.size:
            return np.zeros(0, dtype=np.int16)
        scope_class, origins = self._origins(table)
        code = scope_class[table.traces.spans.scope]
        size = len(origins)
        there = [key for key in self.telling_keys if key in table.slots]
        for key in there:
            code, size = _combined(code, size, (table.slots[key] >= 0).astype(np.int64), 2)
        code, size = _dense(code, size)
        one_of = np.zeros(size, dtype=np.int64)
        one_of[code[::-1]] = np.arange(table.size - 1, -1, -1)
        answers = np.empty(size, dtype=np.int16)
        for number, span in enumerate(one_of.tolist()):
            keys = frozenset(key for key in there if table.slots[key][span] >= 0)
            answers[number] = self._dialect(origins[scope_class[table.traces.spans.scope[span]]], keys)
        found: NDArray[np.int16] = answers[code]
        return found

    def _origins(self, table: Table) -> tuple[I64, list[Origin]]:
        """Per scope row the number of its origin, and the origins."""
        parts: list[Coded] = [table.scope_name, table.scope_version, table.schema_url]
        resource_rows = table.traces.scopes.resource
        resources = [table.resource(key) for key in self.resource_keys]
        parts += [Coded(coded.codes[resource_rows], coded.values) for coded in resources]
        code, size = np.zeros(len(resource_rows), dtype=np.int64), 1
        for coded in parts:
            if len(coded.values):
                code, size = _combined(code, size, coded.codes.astype(np.int64) + 1, len(coded.values) + 1)
        code, size = _dense(code, size)
        one_of = np.zeros(size, dtype=np.int64)
        one_of[code] = np.arange(len(code))
        texts = [[*coded.values.to_pylist(), None] for coded in parts]
        origins = []
        for row in one_of.tolist():
            name, version, url, *rest = (text[coded.codes[row]] for text, coded in zip(texts, parts, strict=True))
            origins.append(Origin(name or "", version or "", url or "", tuple(rest)))
        return code, origins

    def _dialect(self, origin: Origin, keys: frozenset[str]) -> int:
        known = self._known.get((origin, keys))
        if known is None:
            known = next((place for place, match in self._order if self._fits(match, origin, keys)), -1)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[origin, keys] = known
        return known

    def _fits(self, match: Match, origin: Origin, keys: frozenset[str]) -> bool:
        resource = dict(zip(self.resource_keys, origin.resource, strict=True))
        return (
            keys.issuperset(match.keys)
            and (not match.any or not keys.isdisjoint(match.any))
            and keys.isdisjoint(match.lacks)
            and (match.scope is None or matches(origin.scope, match.scope))
            and (match.version is None or in_range(origin.version, match.version))
            and (match.schema_url is None or matches(origin.schema_url, match.schema_url))
            and all(_is_one_of(resource[key], globs) for key, globs in match.resource.items())
        )


def _is_one_of(text: str | None, globs: tuple[str, ...]) -> bool:
    return text is not None and matches(text, globs)


def _single(match: Match) -> list[Match]:
    """One match for each scope that it names: a name and a pattern are not equally strong."""
    return [match.model_copy(update={"scope": (scope,)}) for scope in match.scope] if match.scope else [match]


def _combined(code: I64, size: int, other: I64, values: int) -> tuple[I64, int]:
    """One number for two, numbered without gaps before it grows too large."""
    if size * values > _DENSE:
        code, size = _dense(code, size)
    return code * values + other, size * values


def _dense(code: I64, size: int) -> tuple[I64, int]:
    """The same classes, numbered from 0 without gaps."""
    found, places = distinct(code, size)
    return places, len(found)
