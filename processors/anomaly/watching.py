"""Which series a combination of values belongs to, scope by scope, and which series should have had calls and have none."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collector.findings import Subject
from collector.otlp.tables import I64
from processors.anomaly.config import AnomalyConfig
from processors.anomaly.gathering import Values
from processors.anomaly.measures import COUNT, PLACES
from processors.anomaly.series import (
    BORN,
    FACTOR,
    FIELDS,
    GROUP_BORN,
    MEASURED,
    SEEN,
    SINCE_NEW,
    WEIGHT,
    WORDS,
    Rows,
    Series,
    name_of,
    parts_of,
    plain,
)

#: A series without calls is missed for so long.
_MISSED_S = 86400
#: Combinations whose series are remembered.
_REMEMBERED = 50_000


class Watching:
    """Places combinations in series. What it remembers follows from the series, and is forgotten when these change."""

    def __init__(self, config: AnomalyConfig, series: Series) -> None:
        self._config, self._series = config, series
        self._scopes = list(config.scopes.items())
        self.dimensions = sorted({name for _, scope in self._scopes for name in scope.per})
        self._places = [[self.dimensions.index(name) for name in scope.per] for _, scope in self._scopes]
        self._numbers = {name: number for number, (name, _) in enumerate(self._scopes)}
        self._shares = [scope.shares for _, scope in self._scopes]
        self._parents = [
            next((name for name, other in self._scopes if other.per == scope.per[:-1]), None)
            for _, scope in self._scopes
        ]
        self._watched = np.zeros((len(self._scopes), COUNT), np.bool_)
        for number, (_, scope) in enumerate(self._scopes):
            self._watched[number, [PLACES[name] for name in scope.measures]] = True
        self._volumes = np.array(
            [PLACES["cost" if "cost" in scope.measures else "calls"] for _, scope in self._scopes], np.int64
        )
        self.alike = -1 if config.alike is None else self._numbers[config.alike]
        self._scope_of = np.zeros(series.most, np.int8)
        self._missed_after = round(_MISSED_S / config.bucket)
        self.start()

    @property
    def made(self) -> dict[str, Any]:
        """What rows and sums mean: with other options they would mean something else."""
        return {
            "bucket": self._config.bucket,
            "row": WORDS,
            "scopes": {name: list(scope.per) for name, scope in self._scopes},
        }

    def kept(self, made: dict[str, Any]) -> frozenset[str]:
        """Scopes whose series mean what they meant."""
        if (made["bucket"], made["row"]) != (self._config.bucket, WORDS):
            return frozenset()
        return frozenset(name for name, scope in self._scopes if made["scopes"].get(name) == list(scope.per))

    def start(self) -> None:
        """Remember what follows from the series as they are."""
        self._memory: dict[Values, list[int]] = {}
        self._members: dict[str, dict[str, None]] = {}  # of those that are missed, by the group that they share
        self._group_of: dict[int, str] = {}  # by slot
        for name, slot in self._series.slots.items():
            self._enter(name, slot)

    def attend(self) -> None:
        """Be as sensitive for the series that are there as the config says now."""
        slots = list(self._series.slots.values())
        self._series.rows.words[slots, FACTOR] = 1.0
        if self._config.sensitivity:
            for name, slot in self._series.slots.items():
                self._series.rows.words[slot, FACTOR] = self._factor(name, self._numbers[name.partition("\x1f")[0]])

    def _enter(self, name: str, slot: int) -> None:
        scope = self._numbers[name.partition("\x1f")[0]]
        self._scope_of[slot] = scope
        if self._shares[scope]:
            group = name.rpartition("\x1f")[0]
            self._group_of[slot] = group
            self._members.setdefault(group, {})[name] = None

    # Series of a bucket ---------------------------------------------------------------------------------------------

    def slots(self, keys: Sequence[Values], bucket: int, can_be_new: bool) -> tuple[I64, int, int]:
        """[keys, scopes]: the slot of each one's series, -1 for none; how many series had to go, and how many found no room."""
        if len(self._memory) > _REMEMBERED:
            self._memory.clear()
        rows: list[list[int]] = []
        fresh: list[tuple[int, list[str | None]]] = []
        unknown: dict[str, int] = {}
        for place, key in enumerate(keys):
            row = self._memory.get(key)
            if row is None:
                names = self._names(key)
                row = self._placed(key, names)
                if -2 in row:
                    fresh.append((place, names))
                    unknown.update((name, scope) for scope, name in enumerate(names) if row[scope] == -2 and name)
            rows.append(row)
        found = np.array(rows, np.int64).reshape(len(keys), len(self._scopes))
        missing = sorted(unknown)
        if not missing:
            return found, 0, 0
        present = np.unique(found[found >= 0]).tolist()
        room = max(self._series.most - len(present), 0)
        gone = self._series.make_room(min(len(missing), room), present)
        without = missing[room:]
        self._add(missing[:room], unknown, bucket, can_be_new)
        if gone:
            self.start()
        for place, names in fresh:
            found[place] = self._placed(keys[place], names)
        return np.maximum(found, -1), len(gone), len(without)

    def slots_of(self, keys: Sequence[Values]) -> I64:
        """As `slots`, of the series that are there."""
        rows = [self._memory.get(key) or self._placed(key, self._names(key)) for key in keys]
        return np.maximum(np.array(rows, np.int64).reshape(len(keys), len(self._scopes)), -1)

    def _names(self, key: Values) -> list[str | None]:
        """The series that a combination is in, scope by scope; None where it lacks a value."""
        key = tuple([value and plain(value) for value in key])
        names: list[str | None] = []
        for (name, _), places in zip(self._scopes, self._places, strict=True):
            values = [value for value in [key[place] for place in places] if value]
            names.append(name_of(name, values) if len(values) == len(places) else None)
        return names

    def _placed(self, key: Values, names: Sequence[str | None]) -> list[int]:
        """The slots of a combination; -1 where it is in no series of the scope, -2 where that is not there."""
        slots = self._series.slots
        row = [-1 if name is None else slots.get(name, -2) for name in names]
        if -2 not in row:
            self._memory[key] = row
        return row

    def _add(self, names: Sequence[str], scopes: dict[str, int], bucket: int, can_be_new: bool) -> None:
        rows = Rows.blank(len(names))
        rows.whole[:, BORN] = rows.whole[:, GROUP_BORN] = rows.whole[:, SEEN] = bucket
        gained, seen = (MEASURED + PLACES[name] * FIELDS for name in ("share_gained", "error_rate"))
        for place, name in enumerate(names):
            scope = scopes[name]
            rows.words[place, FACTOR] = self._factor(name, scope)
            if can_be_new and self._scopes[scope][1].new:
                rows.whole[place, SINCE_NEW] = bucket
            group = self._group(name, scope) if self._shares[scope] else None
            if group is not None:  # what it had of its group's calls until now is known: nothing
                rows.whole[place, GROUP_BORN] = self._series.rows.whole[group, BORN]
                rows.words[place, gained + WEIGHT] = self._series.rows.words[group, seen + WEIGHT]
        slots = self._series.add(names, rows)
        for name, slot in zip(names, slots.tolist(), strict=True):
            self._enter(name, slot)

    def _group(self, name: str, scope: int) -> int | None:
        """The slot of the series of all calls that a series has a share of; None where no scope watches them."""
        parent = self._parents[scope]
        return None if parent is None else self._series.slots.get(name_of(parent, parts_of(name)[1:-1]))

    def _factor(self, name: str, scope: int) -> float:
        """How sensitive to be for a series."""
        if not self._config.sensitivity:
            return 1.0
        values = dict(zip(self._scopes[scope][1].per, parts_of(name)[1:], strict=False))
        return prod(one.factor for one in self._config.sensitivity if one.match.items() <= values.items())

    def silent(self, slots: I64, names: Sequence[str], bucket: int) -> I64:
        """Series without calls that are looked at all the same: those named, and those that share the calls of a group that has some."""
        present = set(np.unique(slots[slots >= 0]).tolist())
        found = {self._series.slots[name] for name in names if name in self._series.slots}
        for group in {self._group_of[slot] for slot in present if slot in self._group_of}:
            found.update(
                slot for slot in (self._series.slots[name] for name in self._members[group])
                if slot not in present and self._series.rows.whole[slot, SEEN] >= bucket - self._missed_after
            )  # fmt: skip
        return np.array(sorted(found - present), np.int64)

    def kin(self, slots: I64) -> I64:
        """A number that series have in common which share the calls of one group; -1 for none."""
        numbers: dict[str, int] = {}
        names = [self._group_of.get(slot) for slot in slots.tolist()]
        return np.array([-1 if name is None else numbers.setdefault(name, len(numbers)) for name in names], np.int64)

    def watched(self, slots: I64) -> NDArray[np.bool_]:
        """[slots, COUNT]: what is watched of each."""
        found: NDArray[np.bool_] = self._watched[self._scope_of[slots]]
        return found

    def volumes(self, slots: I64) -> I64:
        """The measure that the season of each is of."""
        found: I64 = self._volumes[self._scope_of[slots]]
        return found

    def scope(self, name: str) -> int:
        """The number of the scope that a series is of."""
        return self._numbers[name.partition("\x1f")[0]]

    def scopes_of(self, slots: I64) -> I64:
        """The number of each one's scope."""
        return self._scope_of[slots].astype(np.int64)

    def subject(self, name: str) -> Subject | None:
        """Whom a series is about; None where its scope is no more."""
        scope, *values = parts_of(name)
        number = self._numbers.get(scope)
        if number is None or len(values) != len(self._scopes[number][1].per):
            return None
        return tuple(sorted(zip(self._scopes[number][1].per, values, strict=True)))
