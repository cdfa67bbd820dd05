"""How rows of series lie on disk: each batch appends those that it touched, some thousands to a value.

A row by itself would be a page of the store for every few bytes that change, and a million of them hundreds of megabytes in one
transaction. What newer rows stand for is dead; as soon as more is dead than alive, the values with most of it are written anew.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

import lz4.frame
import numpy as np

from collector.component import StateReader, StateWriter
from collector.otlp.tables import I64
from processors.anomaly.rows import CHUNK, CORE, F32, I32, Layout

#: Dead rows that may always be there.
_FEW = 2000
_PREFIX = b"r"
_GONE = -1
_COUNTS = struct.Struct("<II")


class Records(NamedTuple):
    """Rows as they are stored.

    slots:  whose they are
    codes:  of their layouts; -1: there is no series in this slot any more
    words:  what is kept of each, one behind the other
    names:  of the series
    """

    slots: I64
    codes: I32
    words: F32
    names: list[str]

    def rows(self) -> Iterator[tuple[int, Layout | None, F32, str]]:
        """One by one."""
        layouts = {code: None if code == _GONE else Layout.of(code) for code in np.unique(self.codes).tolist()}
        widths = {code: CORE + len(layout.columns) if layout else 0 for code, layout in layouts.items()}
        at = 0
        for slot, code, name in zip(self.slots.tolist(), self.codes.tolist(), self.names, strict=True):
            end = at + widths[code]
            yield slot, layouts[code], self.words[at:end], name
            at = end

    @classmethod
    def of(cls, slots: I64, kept: list[tuple[Layout, F32, str] | None]) -> Records:
        """Layout, words and name of each; None: there is no series."""
        codes = np.array([_GONE if one is None else one[0].code for one in kept], np.int32)
        words = [one[1] for one in kept if one is not None]
        return cls(slots, codes, np.concatenate([np.zeros(0, np.float32), *words]), [one[2] if one else "" for one in kept])  # fmt: skip

    def written(self) -> bytes:
        """For the store."""
        names = json.dumps(self.names, separators=(",", ":")).encode()
        head = _COUNTS.pack(len(self.slots), len(self.words))
        plain = (head, self.slots.astype("<u4").tobytes(), self.codes.tobytes(), self.words.tobytes(), names)
        packed: bytes = lz4.frame.compress(b"".join(plain))
        return packed

    @classmethod
    def read(cls, value: bytes) -> Records:
        """What `written` made."""
        plain = lz4.frame.decompress(value)
        count, words = _COUNTS.unpack_from(plain)
        at = _COUNTS.size
        slots, codes = np.frombuffer(plain, "<u4", count, at), np.frombuffer(plain, np.int32, count, at + 4 * count)
        at += 8 * count
        kept = np.frombuffer(plain, np.float32, words, at)
        return cls(slots.astype(np.int64), codes, kept, json.loads(plain[at + 4 * words :]))


class Journal:
    """Which value has the newest row of each slot. What `save` does counts from the next `begin` on."""

    def __init__(self, most: int) -> None:
        self._value_of: I32 = np.zeros(most, np.int32)  # by slot; 0: none
        self._sizes: dict[int, int] = {}  # rows of each value, dead ones with them
        self._forget()

    def _forget(self) -> None:
        self._written: dict[int, I64] = {}
        self._dropped: list[int] = []

    def read(self, state: StateReader) -> Iterator[Records]:
        """All there is, oldest first: of a slot the last one counts."""
        for key, value in state.items(_PREFIX):
            records, number = Records.read(value), int.from_bytes(key[1:], "big")
            self._sizes[number] = len(records.slots)
            self._value_of[records.slots[records.slots < len(self._value_of)]] = number
            yield records

    def begin(self) -> None:
        """What was saved is committed."""
        for number in self._dropped:
            del self._sizes[number]
        for number, slots in self._written.items():
            self._sizes[number] = len(slots)
            self._value_of[slots] = number
        self._forget()

    def rollback(self) -> None:
        """It is not."""
        self._forget()

    def save(self, state: StateWriter, touched: I64, records: Callable[[I64], Records]) -> None:
        """Append the rows of some slots. May run again."""
        self._forget()
        if not len(touched):
            return
        self._dropped, slots = self._worn(touched)
        first = max(self._sizes, default=0) + 1
        for number in self._dropped:
            state.delete(_key(number))
        for number, at in enumerate(range(0, len(slots), CHUNK), first):
            part = self._written[number] = slots[at : at + CHUNK]
            state.put(_key(number), records(part).written())

    def _worn(self, touched: I64) -> tuple[list[int], I64]:
        """The values to be written anew, those with most dead rows first; and the slots to write, `touched` and their living ones."""
        value_of = self._value_of.copy()
        value_of[touched] = 0
        living = np.bincount(value_of, minlength=1)
        dead = {
            number: size - int(living[number]) if number < len(living) else size for number, size in self._sizes.items()
        }
        alive = int(np.count_nonzero(value_of)) + len(touched)
        over = sum(dead.values()) - alive - _FEW
        worn = []
        for number in sorted(dead, key=lambda number: (-dead[number] / self._sizes[number], number)):
            if not dead[number] or (over <= 0 and dead[number] < self._sizes[number]):
                break
            worn.append(number)
            over -= dead[number]
        return worn, np.union1d(touched, np.flatnonzero(np.isin(value_of, worn))) if worn else touched


def _key(number: int) -> bytes:
    return _PREFIX + number.to_bytes(8, "big")
