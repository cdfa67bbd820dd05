"""What is remembered of each series: a row of 4-byte words, found by the series' name; the least recently seen go.

Whole numbers, fractions and the season's bytes share a row (views of the same memory): what a batch touched is copied, judged,
and stored row by row. Memory is committed by the system as rows are touched, so room for the most there may be costs nothing
until then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from collector.component import StateReader, StateWriter
from collector.otlp.tables import I64, U8
from processors.anomaly.gathering import OCTAVES
from processors.anomaly.measures import COUNT

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
#: Hours of the week; an hour of which nothing is known.
HOURS, UNKNOWN = 168, 255

# Words of a row. Of the series: whole numbers, …
BORN, GROUP_BORN, SEEN, HOUR, SINCE_NEW, NEW_CALLS = range(
    6
)  # buckets counted from 1970 (hours likewise; 0: not new); calls since
# … fractions, …
HOUR_SUM, DAILY, FACTOR, NEW_USD, EACH = range(
    6, 11
)  # the hour's volume so far; USD a day, of late; sensitivity; USD since it was new; usual USD of a call
# … the season (four hours to a word), the sketch of costs (four octaves to a word), …
SEASON = 11
SKETCH = SEASON + HOURS // 4
# … and of each measure: usual value, deviation, buckets seen; evidence of a change, and since it left 0 the calls and the excess
# that came together; the bucket in which an alarm began (a whole number; 0: there is none).
MEASURED = SKETCH + OCTAVES // 4
LEVEL, SPREAD, WEIGHT, SCORE, RUN_CALLS, RUN_EXCESS, SINCE = range(7)
FIELDS = 7
WORDS = MEASURED + COUNT * FIELDS

_PREFIX = b"s"
_BETWEEN = "\x1f"


def plain(value: str) -> str:
    """A value as it may stand in a name."""
    return value.replace(_BETWEEN, " ") if _BETWEEN in value else value


def name_of(scope: str, values: Iterable[str]) -> str:
    """A series as one text, of plain values."""
    return _BETWEEN.join((scope, *values))


def parts_of(name: str) -> tuple[str, ...]:
    """Scope and values of a series."""
    return tuple(name.split(_BETWEEN))


class Rows:
    """Rows of series, as whole numbers, as fractions, and the season and the sketch of costs as bytes."""

    def __init__(self, words: F32) -> None:
        self.words = words
        self.whole: I32 = words.view(np.int32)
        octets = words.view(np.uint8)
        self.season: U8 = octets[:, 4 * SEASON : 4 * SKETCH]
        self.sketch: U8 = octets[:, 4 * SKETCH : 4 * MEASURED]

    def __len__(self) -> int:
        return len(self.words)

    @classmethod
    def blank(cls, count: int) -> Rows:
        """Rows of series that were never seen."""
        rows = cls(np.zeros((count, WORDS), np.float32))
        rows.words[:, FACTOR] = 1
        rows.season[:] = UNKNOWN
        return rows

    def since_new(self, row: int) -> tuple[int, float]:
        """Calls and USD of a series since it was new."""
        return int(self.whole[row, NEW_CALLS]), float(self.words[row, NEW_USD])


class Series:
    """Rows by slot, slots by name. Changes can be taken back until the next `begin`."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.rows = Rows(np.zeros((most, WORDS), np.float32))
        self.slots: dict[str, int] = {}
        self.names: list[str | None] = []
        self._free: list[int] = []
        self.begin()

    def __len__(self) -> int:
        return len(self.slots)

    def begin(self) -> None:
        """What came before is committed."""
        self._undo: list[tuple[I64, F32]] = []
        self._undo_names: list[tuple[int, str | None, str | None]] = []

    def load(self, state: StateReader, scopes: Collection[str]) -> list[bytes]:
        """Rebuild what `save` wrote, of these scopes and as far as there is room; keys of what is not."""
        size = WORDS * 4
        lost = []
        for key, value in state.items(_PREFIX):
            slot, name = int.from_bytes(key[1:], "big"), value[size:].decode("utf-8", "surrogatepass")
            if slot >= self.most or name.partition(_BETWEEN)[0] not in scopes:
                lost.append(key)
                continue
            self.names += [None] * (slot + 1 - len(self.names))
            self.names[slot], self.slots[name] = name, slot
            self.rows.words[slot] = np.frombuffer(value[:size], np.float32)
        self._find_free()
        return lost

    def _find_free(self) -> None:
        while self.names and self.names[-1] is None:
            self.names.pop()
        self._free = [slot for slot in range(len(self.names) - 1, -1, -1) if self.names[slot] is None]

    def rollback(self) -> None:
        """As it was at `begin`."""
        for slots, words in reversed(self._undo):
            self.rows.words[slots] = words
        for slot, was, now in reversed(self._undo_names):
            if now is not None:
                del self.slots[now]
            if was is not None:
                self.slots[was] = slot
            self.names[slot] = was
        if self._undo_names:
            self._find_free()
        self.begin()

    def save(self, state: StateWriter) -> None:
        """Write the rows that changed. May run again."""
        touched = {slot for slots, _ in self._undo for slot in slots.tolist()} | {
            slot for slot, _, _ in self._undo_names
        }
        for slot in sorted(touched):
            name = self.names[slot] if slot < len(self.names) else None
            key = _PREFIX + slot.to_bytes(4, "big")
            if name is None:
                state.delete(key)
            else:
                state.put(key, self.rows.words[slot].tobytes() + name.encode("utf-8", "surrogatepass"))

    def copy(self, slots: I64) -> Rows:
        """Rows to work on."""
        return Rows(self.rows.words[slots])

    def put(self, slots: I64, rows: Rows) -> None:
        """Exchange rows."""
        self._undo.append((slots, self.rows.words[slots]))
        self.rows.words[slots] = rows.words

    def add(self, names: Sequence[str], rows: Rows) -> I64:
        """Slots for series that are new. There must be room."""
        slots = np.array([self._take(name) for name in names], np.int64)
        self.put(slots, rows)
        return slots

    def make_room(self, wanted: int, keep: Iterable[int]) -> list[str]:
        """Let go of the least recently seen, so that there is room for so many, but not of these slots; some more than needed, not a few
        at every bucket."""
        over = len(self.slots) + wanted - self.most
        if over <= 0:
            return []
        used = np.setdiff1d(np.fromiter(self.slots.values(), np.int64, len(self.slots)), np.fromiter(keep, np.int64))
        order = np.lexsort((used, self.rows.whole[used, SEEN]))[: over + self.most // 20]
        gone = []
        for slot in used[order].tolist():
            name = self.names[slot]
            assert name is not None
            self._name(slot, None)
            self._free.append(slot)
            gone.append(name)
        self._free.sort(reverse=True)  # which slot comes next does not depend on restarts
        return gone

    def _take(self, name: str) -> int:
        if self._free:
            slot = self._free.pop()
        else:
            slot = len(self.names)
            self.names.append(None)
        self._name(slot, name)
        return slot

    def _name(self, slot: int, name: str | None) -> None:
        was = self.names[slot]
        self._undo_names.append((slot, was, name))
        if was is not None:
            del self.slots[was]
        if name is not None:
            self.slots[name] = slot
        self.names[slot] = name
