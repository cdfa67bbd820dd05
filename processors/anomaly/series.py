"""The rows of all series, found by the series' name; the least recently seen go.

Every series has the first words of its row in one table, and the rest in one of its scope, where a row has what the scope needs
(`Layout`). Memory is committed by the system as rows are touched, so room for the most there may be costs nothing until then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import lz4.block
import numpy as np
from numpy.typing import NDArray

from collector.component import StateReader, StateWriter
from collector.otlp.tables import I64
from processors.anomaly.journal import Journal, Records
from processors.anomaly.rows import CHUNK, CORE, F32, I32, SEASON, SEEN, SKETCH, UNKNOWN, WORDS, Layout, Rows

_BETWEEN = "\x1f"
#: A table is made smaller from so many rows on, where most of them are of series that went.
_LARGE = 4096


def plain(value: str) -> str:
    """A value as it may stand in a name."""
    return value.replace(_BETWEEN, " ") if _BETWEEN in value else value


def name_of(scope: str, values: Iterable[str]) -> str:
    """A series as one text, of plain values."""
    return _BETWEEN.join((scope, *values))


def parts_of(name: str) -> tuple[str, ...]:
    """Scope and values of a series."""
    return tuple(name.split(_BETWEEN))


def chunks(slots: I64) -> Iterator[I64]:
    """Slots, so many at a time."""
    for first in range(0, len(slots), CHUNK):
        yield slots[first : first + CHUNK]


class _Table:
    """What a scope keeps of its series. Rows are taken and given back by their number."""

    def __init__(self, layout: Layout, most: int) -> None:
        self.layout, self.columns = layout, layout.columns
        self.words: F32 = np.zeros((most, len(self.columns)), np.float32)
        self._end = 0  # rows that were ever taken
        self._free: list[int] = []

    def take(self, count: int) -> I64:
        """Numbers of rows for so many."""
        again = [self._free.pop() for _ in range(min(count, len(self._free)))]
        first, self._end = self._end, self._end + count - len(again)
        return np.array([*again, *range(first, self._end)], np.int64)

    def release(self, row: int) -> None:
        """Nobody needs it any more."""
        self._free.append(row)

    def keep(self, rows: I64) -> None:
        """Nothing but these is taken."""
        self._end = int(rows.max(initial=-1)) + 1
        self._free = np.setdiff1d(np.arange(self._end), rows).tolist()[::-1]

    @property
    def sparse(self) -> bool:
        """Whether most of it is of series that went."""
        return self._end > _LARGE and 2 * len(self._free) > self._end

    def compacted(self, rows: I64) -> None:
        """Move these, all that are taken, to the beginning, in their order."""
        words = np.zeros_like(self.words)
        words[: len(rows)] = self.words[rows]
        self.words = words
        self._end, self._free = len(rows), []


class Series:
    """Rows by slot, slots by name. Changes can be taken back until the next `begin`."""

    def __init__(self, most: int, layouts: Sequence[Layout]) -> None:
        self.most = most
        self.words: F32 = np.zeros((most, CORE), np.float32)
        self.whole: I32 = self.words.view(np.int32)
        self.scope_of: NDArray[np.int8] = np.zeros(most, np.int8)
        self.slots: dict[str, int] = {}
        self.names: list[str | None] = []
        self._tables = [_Table(layout, most) for layout in layouts]
        self._row: I32 = np.zeros(most, np.int32)  # in the scope's table
        self._free: list[int] = []
        self._touched: NDArray[np.bool_] = np.zeros(most, np.bool_)  # since `begin`
        self._journal = Journal(most)
        self._lost: I64 = np.empty(
            0, np.int64
        )  # slots of series that are stored, and of no scope; the next `save` says so
        self._saved = False
        self._forget()

    def __len__(self) -> int:
        return len(self.slots)

    def begin(self) -> None:
        """What came before is committed."""
        self._journal.begin()
        if self._saved:
            self._lost = np.empty(0, np.int64)
        for scope, table in enumerate(self._tables):
            if table.sparse:
                own = self._of(scope)
                table.compacted(self._row[own].astype(np.int64))
                self._row[own] = np.arange(len(own))
        self._forget()

    def _forget(self) -> None:
        self._touched[:] = False
        self._saved = False
        self._undo: list[tuple[I64, F32, list[tuple[_Table, I64, bytes]]]] = []
        self._undo_names: list[tuple[int, str | None, str | None, int, int]] = []

    def _of(self, scope: int) -> I64:
        used = np.sort(np.fromiter(self.slots.values(), np.int64, len(self.slots)))
        own: I64 = used[self.scope_of[used] == scope]
        return own

    # Rows -----------------------------------------------------------------------------------------------------------

    def copy(self, slots: I64) -> Rows:
        """Rows to work on; what is not kept of them is as of series that were never seen."""
        words = np.zeros((len(slots), WORDS), np.float32)
        words[:, :CORE] = self.words[slots]
        for table, at, rows in self._parts(slots):
            if not table.layout.season:
                words.view(np.uint8)[at, 4 * SEASON : 4 * SKETCH] = UNKNOWN
            words[at[:, None], table.columns] = table.words[rows]
        return Rows(words)

    def put(self, slots: I64, rows: Rows) -> None:
        """Exchange rows."""
        self._remember(slots)
        self._write(slots, rows.words)

    def _write(self, slots: I64, words: F32) -> None:
        self.words[slots] = words[:, :CORE]
        for table, at, rows in self._parts(slots):
            table.words[rows] = words[at[:, None], table.columns]

    def _parts(self, slots: I64) -> Iterator[tuple[_Table, I64, I64]]:
        """By scope: its table, places in `slots`, and rows of the table."""
        scopes = self.scope_of[slots]
        for scope in np.unique(scopes).tolist():
            at = np.flatnonzero(scopes == scope)
            yield self._tables[scope], at, self._row[slots[at]].astype(np.int64)

    def _remember(self, slots: I64) -> None:
        """Keep rows as they were at `begin`."""
        slots = slots[~self._touched[slots]]
        if len(slots):
            self._touched[slots] = True
            # Half of most rows is zeros: what lasts until the commit, and is hardly ever asked for, is kept small.
            rests = [
                (table, rows, lz4.block.compress(table.words[rows].tobytes())) for table, _, rows in self._parts(slots)
            ]
            self._undo.append((slots, self.words[slots], rests))

    def add(self, names: Sequence[str], scopes: Sequence[int], rows: Rows) -> I64:
        """Slots for series that are new. There must be room."""
        own = np.array(scopes, np.int64)
        taken = np.zeros(len(names), np.int64)
        for scope in np.unique(own).tolist():
            at = np.flatnonzero(own == scope)
            taken[at] = self._tables[scope].take(len(at))
        slots = np.array([self._next() for _ in names], np.int64)
        for name, slot, scope, row in zip(names, slots.tolist(), scopes, taken.tolist(), strict=True):
            self._name(slot, name, scope, row)
        self._touched[slots] = True  # what was there was kept when it went, if it was anything
        self._write(slots, rows.words)
        return slots

    def make_room(self, wanted: int, keep: I64) -> I64:
        """Let go of the least recently seen, so that there is room for so many, but not of those in `keep`; some more than needed, not a
        few at every bucket. Their slots."""
        over = len(self.slots) + wanted - self.most
        if over <= 0:
            return np.empty(0, np.int64)
        used = np.setdiff1d(np.fromiter(self.slots.values(), np.int64, len(self.slots)), keep)
        gone = used[np.lexsort((used, self.whole[used, SEEN]))[: over + self.most // 20]]
        self._remember(gone)
        for slot in gone.tolist():
            scope, row = int(self.scope_of[slot]), int(self._row[slot])
            self._name(slot, None, scope, row)
            self._tables[scope].release(row)
            self._free.append(slot)
        self._free.sort(reverse=True)  # which slot comes next does not depend on restarts
        return gone

    def _next(self) -> int:
        if self._free:
            return self._free.pop()
        self.names.append(None)
        return len(self.names) - 1

    def _name(self, slot: int, name: str | None, scope: int, row: int) -> None:
        was = self.names[slot]
        self._undo_names.append((slot, was, name, int(self.scope_of[slot]), int(self._row[slot])))
        if was is not None:
            del self.slots[was]
        if name is not None:
            self.slots[name] = slot
        self.names[slot] = name
        self.scope_of[slot], self._row[slot] = scope, row

    # State ----------------------------------------------------------------------------------------------------------

    def load(self, state: StateReader, scopes: Mapping[str, int]) -> None:
        """Rebuild what `save` wrote, of these scopes (their numbers by name) and as far as there is room."""
        lost: set[int] = set()
        for records in self._journal.read(state):
            for slot, layout, words, name in records.rows():
                if slot >= self.most:
                    continue
                self.names += [None] * (slot + 1 - len(self.names))
                scope = scopes.get(name.partition(_BETWEEN)[0])
                lost.discard(slot)
                if self.names[slot] is not None:  # what is stored of a slot later counts
                    self._tables[self.scope_of[slot]].release(int(self._row[slot]))
                    self.names[slot] = None
                if layout is None:
                    continue
                if scope is None:
                    lost.add(slot)
                    continue
                self.names[slot] = name
                table = self._tables[scope]
                (row,) = table.take(1).tolist()
                self.scope_of[slot], self._row[slot] = scope, row
                self.words[slot] = words[:CORE]
                if layout == table.layout:
                    table.words[row] = words[CORE:]
                else:  # other measures are watched now
                    whole = Rows.blank(1).words[0]
                    whole[layout.columns] = words[CORE:]
                    table.words[row] = whole[table.columns]
        self.slots = {name: slot for slot, name in enumerate(self.names) if name is not None}
        self._lost = np.array(sorted(lost), np.int64)
        self._find_free()

    def _find_free(self) -> None:
        while self.names and self.names[-1] is None:
            self.names.pop()
        self._free = [slot for slot in range(len(self.names) - 1, -1, -1) if self.names[slot] is None]

    def rollback(self) -> None:
        """As it was at `begin`."""
        self._journal.rollback()
        for slot, was, now, scope, row in reversed(self._undo_names):
            if now is not None:
                del self.slots[now]
            if was is not None:
                self.slots[was] = slot
            self.names[slot] = was
            self.scope_of[slot], self._row[slot] = scope, row
        for slots, words, rests in self._undo:
            self.words[slots] = words
            for table, rows, rest in rests:
                table.words[rows] = np.frombuffer(lz4.block.decompress(rest), np.float32).reshape(len(rows), -1)
        if self._undo_names:
            self._find_free()
            for scope, table in enumerate(self._tables):
                table.keep(self._row[self._of(scope)].astype(np.int64))
        self._forget()

    def save(self, state: StateWriter) -> None:
        """Write the rows that changed. May run again."""
        self._journal.save(state, np.union1d(np.flatnonzero(self._touched), self._lost), self._records)
        self._saved = True

    def _records(self, slots: I64) -> Records:
        return Records.of(slots, [self._kept(slot) for slot in slots.tolist()])

    def _kept(self, slot: int) -> tuple[Layout, F32, str] | None:
        name = self.names[slot] if slot < len(self.names) else None
        if name is None:
            return None
        table = self._tables[self.scope_of[slot]]
        return table.layout, np.concatenate([self.words[slot], table.words[self._row[slot]]]), name
