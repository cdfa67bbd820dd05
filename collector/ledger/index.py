"""What the ledger keeps in memory: hashes of the spans it remembers, and where their records lie in the state.

`Reports` finds reports by trace and response id, `Links` a span's parent. Both hold no text and no numbers of a call: about
100 bytes a report and 30 a link.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collector.ledger import kernels
from collector.ledger.kernels import I32, I64, U8, Mask

NO_CHAIN = np.empty(0, dtype=np.int64)
_SMALLEST = 1 << 12


class Table:
    """One hash table over a ring's column `keys`; with a chain, all entries of a hash can be walked.

    Four slots per place of the ring: at most a quarter is in use, and what forgotten entries leave behind is swept seldom.
    """

    def __init__(self, chained: bool) -> None:
        self.slots: I32 = np.zeros(4 * _SMALLEST, dtype=np.int32)
        self.following: I64 = np.empty(_SMALLEST, dtype=np.int64) if chained else NO_CHAIN
        self._used = 0

    def append(self, keys: I64, low: int, first: int, high: int) -> None:
        """Enter the entries first..high, whose keys are in the ring already."""
        if self._used + high - first > len(self.slots) * 6 // 10:
            self.rebuild(keys, low, high)
        else:
            self._used += kernels.append(self.slots, keys, self.following, low, first, high)

    def rebuild(self, keys: I64, low: int, high: int) -> None:
        """Make the table anew of the entries low..high, for a ring of the size of `keys`."""
        self.slots = np.zeros(4 * len(keys), dtype=np.int32)
        if len(self.following):
            self.following = np.empty(len(keys), dtype=np.int64)
        self._used = kernels.append(self.slots, keys, self.following, low, low, high)

    @property
    def nbytes(self) -> int:
        return self.slots.nbytes + self.following.nbytes


class Ring:
    """Columns of int64, addressed by the number of an entry; doubles when it is full."""

    def __init__(self, names: tuple[str, ...], tables: dict[str, bool]) -> None:
        self.low = self.high = 0
        self.columns: dict[str, I64] = {name: np.zeros(_SMALLEST, dtype=np.int64) for name in names}
        self.tables = {name: Table(chained) for name, chained in tables.items()}

    def __len__(self) -> int:
        return self.high - self.low

    @property
    def capacity(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def nbytes(self) -> int:
        return sum(c.nbytes for c in self.columns.values()) + sum(t.nbytes for t in self.tables.values())

    def append(self, columns: dict[str, I64]) -> int:
        """Enter rows; gives the number of the first one."""
        count = len(next(iter(columns.values())))
        self._reserve(len(self) + count)
        first = self.high
        for name, values in columns.items():
            put(self.columns[name], first, values)
        self.high += count
        for name, table in self.tables.items():
            table.append(self.columns[name], self.low, first, self.high)
        return first

    def forget(self, through: int) -> None:
        """Drop the entries below a number."""
        self.low = max(self.low, through)

    def _reserve(self, count: int) -> None:
        size = self.capacity
        if count <= size:
            return
        while size < count:
            size *= 2
        for name, old in self.columns.items():
            self.columns[name] = grown(old, size, self.low, self.high)
        for name, table in self.tables.items():
            table.rebuild(self.columns[name], self.low, self.high)


def put(column: NDArray[Any], first: int, values: NDArray[Any]) -> None:
    """Write the values of the entries from `first` on into a ring's column, which has room for them."""
    at = first & (len(column) - 1)
    head = values[: len(column) - at]
    column[at : at + len(head)] = head
    column[: len(values) - len(head)] = values[len(head) :]


def grown(column: NDArray[Any], size: int, low: int, high: int) -> NDArray[Any]:
    """A larger column for a ring, with the entries low..high of this one."""
    at, count = low & (len(column) - 1), high - low
    larger = np.empty(size, dtype=column.dtype)
    head = column[at : at + count]
    put(larger, low, head)
    put(larger, low + len(head), column[: count - len(head)])
    return larger


@dataclass(frozen=True, slots=True)
class Place:
    """Where a report's record lies: the value of the state, the section of it, the row there."""

    value: int
    section: int  # FRESH, MERGED or CALLERS
    row: int


FRESH, MERGED, CALLERS = range(3)
_ROW_BITS, _SECTION_BITS = 24, 2
_ROWS, _SECTIONS = (1 << _ROW_BITS) - 1, (1 << _SECTION_BITS) - 1


def places(value: int, section: int, count: int) -> I64:
    """The places of rows 0..count of a section, each as one number."""
    return (((value << _SECTION_BITS) + section) << _ROW_BITS) + np.arange(count, dtype=np.int64)


def merged(places: I64) -> Mask:
    """Which of these places are in the section MERGED."""
    found: Mask = (places >> _ROW_BITS) & _SECTIONS == MERGED
    return found


class Entries:
    """What is remembered, entry by entry: from `low` up to `high`."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring

    def __len__(self) -> int:
        return len(self._ring)

    @property
    def nbytes(self) -> int:
        return self._ring.nbytes

    @property
    def low(self) -> int:
        return self._ring.low

    @property
    def high(self) -> int:
        return self._ring.high

    def forget(self, through: int) -> None:
        """Drop the entries below a number."""
        self._ring.forget(through)


class Reports(Entries):
    """The reports that are remembered.

    `up` is the hash of the nearest span above that was known when it was merged, `source` that of a call's source, 0 of
    what is no call.
    """

    NAMES = ("trace", "span", "response", "up", "source", "place", "call")

    def __init__(self) -> None:
        super().__init__(Ring(self.NAMES, {"trace": True, "response": True}))
        self._dead: U8 = np.zeros(self._ring.capacity, dtype=np.uint8)
        self._mixed: U8 = np.zeros(self._ring.capacity, dtype=np.uint8)

    @property
    def nbytes(self) -> int:
        return super().nbytes + self._dead.nbytes + self._mixed.nbytes

    def holds(self, entry: int) -> bool:
        """Whether an entry is in force."""
        return self._ring.low <= entry < self._ring.high and not self._dead[entry & (len(self._dead) - 1)]

    def append(self, columns: dict[str, I64], moved: I64) -> None:
        """Enter reports; the entries `moved` are replaced by some of them and no longer in force."""
        self._dead[moved & (len(self._dead) - 1)] = 1
        first = self._ring.append(columns)
        ring = self._ring
        if len(self._dead) != ring.capacity:
            self._dead, self._mixed = (
                grown(flags, ring.capacity, ring.low, first) for flags in (self._dead, self._mixed)
            )
        put(self._dead, first, np.zeros(ring.high - first, dtype=np.uint8))
        following = ring.tables["trace"].following
        settled = merged(columns["place"])
        kernels.mark_mixed(following, ring.columns["source"], settled, self._mixed, ring.low, first, ring.high)

    def find(self, trace: int, spans: Sequence[int]) -> list[int]:
        """The entries of some spans of a trace, -1 for those that are not known."""
        ring, table = self._ring, self._ring.tables["trace"]
        found: I64 = kernels.find_spans(
            table.slots, ring.columns["trace"], table.following, self._dead, ring.low, ring.high, trace, ring.columns["span"],
            np.array(spans, dtype=np.int64), np.zeros(_scratch(len(spans)), dtype=np.int64),
        )  # fmt: skip
        entries: list[int] = found.tolist()
        return entries

    def find_like(self, column: str, key: int, most: int) -> list[int]:
        """The entries of a trace or of a response id, newest first, at most so many."""
        ring, table = self._ring, self._ring.tables[column]
        found: I64 = kernels.chain(
            table.slots, ring.columns[column], table.following, self._dead, ring.low, ring.high, key, most
        )
        entries: list[int] = found.tolist()
        return entries

    def value(self, column: str, entry: int) -> int:
        return int(self._ring.columns[column][entry & (self._ring.capacity - 1)])

    def place(self, entry: int) -> Place:
        number = self.value("place", entry)
        return Place(number >> (_ROW_BITS + _SECTION_BITS), (number >> _ROW_BITS) & _SECTIONS, number & _ROWS)

    def alone(self, trace: I64, span: I64, response: I64, source: I64, plain: Mask) -> Mask:
        """Which reports of a batch share nothing with what is known, nor with each other."""
        ring, tables, columns = self._ring, self._ring.tables, self._ring.columns
        alone: Mask = kernels.classify(
            trace, span, response, source, plain, np.zeros(3 * _scratch(len(trace)), dtype=np.int32),
            tables["trace"].slots, columns["trace"], tables["response"].slots, columns["response"],
            tables["trace"].following, columns["span"], columns["source"], self._mixed, ring.low, ring.high,
        )  # fmt: skip
        return alone

    def crowded(self, trace: I64, other: Mask) -> Mask:
        """Which other spans stand in a trace where they may link reports, or tell them apart."""
        ring, table = self._ring, self._ring.tables["trace"]
        found: Mask = kernels.crowded(
            trace, other, table.slots, ring.columns["trace"], self._mixed, ring.low, ring.high
        )
        return found


class Links(Entries):
    """Parents of remembered spans, whatever they are."""

    def __init__(self) -> None:
        super().__init__(Ring(("span", "parent"), {"span": False}))

    def append(self, span: I64, parent: I64) -> None:
        self._ring.append({"span": span, "parent": parent})

    def parent(self, span: int) -> int:
        """The hash of a span's parent; 0: the span is not known, or has none."""
        ring = self._ring
        entry = kernels.find(ring.tables["span"].slots, ring.columns["span"], ring.low, ring.high, span)
        return int(ring.columns["parent"][entry & (ring.capacity - 1)]) if entry >= 0 else 0


def contains(keys: I64, wanted: I64) -> Mask:
    """Which keys are among the wanted."""
    found: Mask = kernels.members(keys, wanted, np.zeros(_scratch(len(wanted)), dtype=np.int64))
    return found


def _scratch(count: int) -> int:
    """Slots of a table for so many keys: a power of two above twice as many."""
    return 1 << max(int(2 * count).bit_length(), 4)
