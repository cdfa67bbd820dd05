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
from processors.anomaly.layouts import layouts
from processors.anomaly.measures import COUNT, PLACES
from processors.anomaly.rows import (
    BORN,
    CHUNK,
    FACTOR,
    FIELDS,
    GROUP_BORN,
    MEASURED,
    SEEN,
    SINCE_NEW,
    WEIGHT,
    WORDS,
    Rows,
)
from processors.anomaly.series import Series, name_of, parts_of, plain

#: A series without calls is missed for so long.
_MISSED_S = 86400
#: Of stored rows: 2, a layout of its own for each.
_FORMAT = [2, WORDS]
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
        self._kept = np.array([layout.mask for layout in layouts(config.scopes, config.alike)])
        self._volumes = np.array(
            [PLACES["cost" if "cost" in scope.measures else "calls"] for _, scope in self._scopes], np.int64
        )
        self.alike = -1 if config.alike is None else self._numbers[config.alike]
        self._group_of = np.zeros(series.most, np.int64)  # by slot: of a share, the hash of the group's name; else 0
        self._missed_after = round(_MISSED_S / config.bucket)
        self.start()

    @property
    def made(self) -> dict[str, Any]:
        """What rows and sums mean: with other options they would mean something else."""
        return {
            "bucket": self._config.bucket,
            "row": _FORMAT,
            "scopes": {name: list(scope.per) for name, scope in self._scopes},
        }

    def known(self, made: dict[str, Any]) -> dict[str, int]:
        """Scopes whose series mean what they meant, and their numbers."""
        if (made["bucket"], made["row"]) != (self._config.bucket, _FORMAT):
            return {}
        return {
            name: self._numbers[name] for name, scope in self._scopes if made["scopes"].get(name) == list(scope.per)
        }

    def start(self) -> None:
        """Remember what follows from the series as they are."""
        self._memory: dict[Values, list[int]] = {}
        self._group_of[:] = 0
        for name, slot in self._series.slots.items():
            self._enter(name, slot)

    def attend(self) -> None:
        """Be as sensitive for the series that are there as the config says now."""
        slots = list(self._series.slots.values())
        self._series.words[slots, FACTOR] = 1.0
        if self._config.sensitivity:
            for name, slot in self._series.slots.items():
                self._series.words[slot, FACTOR] = self._factor(name, int(self._series.scope_of[slot]))

    def _enter(self, name: str, slot: int) -> None:
        shares = self._shares[self._series.scope_of[slot]]
        self._group_of[slot] = hash(name.rpartition("\x1f")[0]) or 1 if shares else 0

    # Series of a bucket ---------------------------------------------------------------------------------------------

    def slots(self, keys: Sequence[Values], bucket: int, can_be_new: bool) -> tuple[I64, int, int]:
        """[keys, scopes]: the slot of each one's series, -1 for none; how many series had to go, and how many found no room."""
        if len(self._memory) >= _REMEMBERED:
            self._memory.clear()
        found = np.zeros((len(keys), len(self._scopes)), np.int64)
        fresh: list[int] = []
        unknown: dict[str, int] = {}
        for place, key in enumerate(keys):
            row = self._memory.get(key)
            if row is None:
                names = self._names(key)
                row = self._placed(key, names)
                if -2 in row:
                    fresh.append(place)
                    unknown.update((name, scope) for scope, name in enumerate(names) if row[scope] == -2 and name)
            found[place] = row
        missing = sorted(unknown)
        if not missing:
            return found, 0, 0
        present = np.unique(found[found >= 0])
        room = max(self._series.most - len(present), 0)
        gone = self._series.make_room(min(len(missing), room), present)
        if len(gone):
            self._memory.clear()
            self._group_of[gone] = 0
        without = missing[room:]
        self._add(missing[:room], unknown, bucket, can_be_new)
        for place in fresh:
            found[place] = self._placed(keys[place], self._names(keys[place]))
        return np.maximum(found, -1), len(gone), len(without)

    def slots_of(self, keys: Sequence[Values]) -> I64:
        """As `slots`, of the series that are there."""
        found = np.zeros((len(keys), len(self._scopes)), np.int64)
        for place, key in enumerate(keys):
            found[place] = self._memory.get(key) or self._placed(key, self._names(key))
        return np.maximum(found, -1)

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
        if -2 not in row and len(self._memory) < _REMEMBERED:
            self._memory[key] = row
        return row

    def _add(self, names: Sequence[str], scopes: dict[str, int], bucket: int, can_be_new: bool) -> None:
        for first in range(0, len(names), CHUNK):
            self._add_some(names[first : first + CHUNK], scopes, bucket, can_be_new)

    def _add_some(self, names: Sequence[str], scopes: dict[str, int], bucket: int, can_be_new: bool) -> None:
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
                rows.whole[place, GROUP_BORN] = self._series.whole[group, BORN]
                rows.words[place, gained + WEIGHT] = self._series.copy(np.array([group])).words[0, seen + WEIGHT]
        slots = self._series.add(names, [scopes[name] for name in names], rows)
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
        present = np.unique(slots[slots >= 0])
        named = np.array([self._series.slots[name] for name in names if name in self._series.slots], np.int64)
        of, seen = self._group_of[: len(self._series.names)], self._series.whole[: len(self._series.names), SEEN]
        groups = np.unique(of[present])
        missing = np.flatnonzero(np.isin(of, groups[groups != 0]) & (seen >= bucket - self._missed_after))
        return np.setdiff1d(np.concatenate([named, missing]), present)

    def kin(self, slots: I64) -> I64:
        """A number that series have in common which share the calls of one group; -1 for none."""
        groups = self._group_of[slots]
        known, numbers = np.unique(groups, return_inverse=True)
        return np.where(groups == 0, -1, numbers - (0 in known[:1]))

    def watched(self, slots: I64) -> NDArray[np.bool_]:
        """[slots, COUNT]: what is watched of each."""
        found: NDArray[np.bool_] = self._watched[self._series.scope_of[slots]]
        return found

    def kept(self, scopes: I64) -> NDArray[np.bool_]:
        """[scopes, COUNT]: which measures the rows of series of a scope have."""
        found: NDArray[np.bool_] = self._kept[scopes]
        return found

    def volumes(self, slots: I64) -> I64:
        """The measure that the season of each is of."""
        found: I64 = self._volumes[self._series.scope_of[slots]]
        return found

    def scope(self, name: str) -> int:
        """The number of the scope that a series is of."""
        return self._numbers[name.partition("\x1f")[0]]

    def scopes_of(self, slots: I64) -> I64:
        """The number of each one's scope."""
        return self._series.scope_of[slots].astype(np.int64)

    def subject(self, name: str) -> Subject | None:
        """Whom a series is about; None where its scope is no more."""
        scope, *values = parts_of(name)
        number = self._numbers.get(scope)
        if number is None or len(values) != len(self._scopes[number][1].per):
            return None
        return tuple(sorted(zip(self._scopes[number][1].per, values, strict=True)))
