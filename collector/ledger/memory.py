"""The ledger's state: what a batch writes, what leaves with the window, and the tables in memory that follow it.

Keys, `n` being a number that rises with every batch that writes:
    seed      the key of the hashes
    i<n>      per remembered report of the batch: hashes of trace, span, response id, span above and source, place, call
    l<n>      hashes of spans and their parents
    f<n>      Arrow: reports that stood alone, each with its call's columns where these differ
    s<n>      Arrow: who asked a gateway, in traces where nothing else is known but calls that it reports itself
    m<n>      Arrow: reports that were settled in components
    c<n>      Arrow: the calls of these
What is touched later is written again under a later number; the newest holds.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, field

import numpy as np
import polars as pl

from collector.batch import SpanBatch
from collector.component import StateReader, StateWriter
from collector.ledger import archive
from collector.ledger.archive import Record, Stored
from collector.ledger.changes import Component, Known, Spot, Unit
from collector.ledger.hashes import Hashes
from collector.ledger.index import CALLERS, FRESH, MERGED, Links, Reports, merged, places
from collector.ledger.kernels import I64, Mask
from config.model import LedgerConfig

_NS = 10**9
_CACHED = 16
_INDEX = Reports.NAMES
SHOWN = "shown"  # column of the calls: whether a span went out with the call's cost


@dataclass(frozen=True, slots=True)
class Value:
    """Reports or links that one batch wrote: its number, when it was received, and the entry that they end before."""

    number: int
    received_ns: int
    end: int


NOTHING: I64 = np.zeros(0, dtype=np.int64)


@dataclass(slots=True)
class Coming:
    """What a batch wrote, and what is over with it; memory follows when it is committed.

    parts:  columns of new entries (`Reports.NAMES`), section by section
    moved:  entries that some of these replace
    dropped, unlinked: numbers of the values whose reports, or links, are over; all entries below the lows are
    """

    number: int
    received_ns: int
    parts: list[tuple[I64, ...]] = field(default_factory=list)
    links: tuple[I64, I64] = (NOTHING, NOTHING)
    moved: list[int] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    unlinked: list[int] = field(default_factory=list)
    reports_low: int = 0
    links_low: int = 0
    evicted: int = 0

    @property
    def count(self) -> int:
        return sum(len(part[0]) for part in self.parts)

    def columns(self) -> tuple[I64, ...]:
        return self.parts[0] if len(self.parts) == 1 else tuple(map(np.concatenate, zip(*self.parts, strict=True)))


class Memory:
    """Tables over the state."""

    def __init__(self, config: LedgerConfig) -> None:
        self.reports = Reports()
        self.links = Links()
        self.seed = secrets.randbits(63)
        self._config = config
        self._values: deque[Value] = deque()
        self._linked: deque[Value] = deque()
        self._next = 1
        self._seeded = False
        self._read: OrderedDict[bytes, Stored] = OrderedDict()
        self._coming: Coming | None = None

    def __len__(self) -> int:
        return len(self.reports) + len(self.links)

    @property
    def nbytes(self) -> int:
        return self.reports.nbytes + self.links.nbytes

    # Finding -------------------------------------------------------------------------------------------------------

    def parent(self, span: int) -> int:
        """The hash of the parent of a span that is no report; 0: none."""
        return self.links.parent(span)

    def unit(self, entry: int) -> Iterator[int]:
        """The entries of all reports that were stored with this one's call: they stand side by side."""
        place, call = self.reports.place(entry), self.reports.value("call", entry)
        yield entry
        if place.section == FRESH or call < 0:
            return
        for step in (-1, 1):
            other = entry + step
            while self.reports.holds(other):
                there = self.reports.place(other)
                if (there.value, there.section, self.reports.value("call", other)) != (place.value, MERGED, call):
                    break
                yield other
                other += step

    def read(self, state: StateReader, entries: Iterable[int]) -> dict[int, Known]:
        """The reports of these entries, with their calls."""
        wanted: dict[tuple[int, int], list[int]] = {}
        for entry in entries:
            place = self.reports.place(entry)
            wanted.setdefault((place.value, place.section), []).append(entry)
        known: dict[int, Known] = {}
        for (value, section), group in wanted.items():
            rows = [self.reports.place(entry).row for entry in group]
            if section == FRESH:
                pairs = [archive.split(record) for record in self._stored(state, b"f", value).rows(rows)]
                shown = [call.get("cost_pico") is not None for _, call in pairs]
                found: list[tuple[Record, Record | None, bool]] = [(r, c, s) for (r, c), s in zip(pairs, shown, strict=True)]  # fmt: skip
            elif section == CALLERS:
                found = [(report, None, False) for report in self._stored(state, b"s", value).rows(rows)]
            else:
                reports = self._stored(state, b"m", value).rows(rows)
                numbers = [self.reports.value("call", entry) for entry in group]
                distinct = sorted({n for n in numbers if n >= 0})
                calls = self._stored(state, b"c", value).rows(distinct) if distinct else []
                by_number = {n: (call, bool(call.pop(SHOWN, False))) for n, call in zip(distinct, calls, strict=True)}
                found = [(r, *by_number.get(n, (None, False))) for r, n in zip(reports, numbers, strict=True)]
            for entry, (report, call, was_shown) in zip(group, found, strict=True):
                spot = Spot(
                    *(self.reports.value(name, entry) for name in ("trace", "span", "response", "up", "source"))
                )
                known[entry] = Known(entry, report, spot, call, was_shown)
        return known

    def _stored(self, state: StateReader, kind: bytes, value: int) -> Stored:
        key = _key(kind, value)
        stored = self._read.get(key)
        if stored is None:
            raw = state.get(key)
            if raw is None:
                raise LookupError(f"ledger: the state lacks {kind.decode()}{value}, which the index points to")
            stored = self._read[key] = Stored(raw)
            if len(self._read) > _CACHED:
                self._read.popitem(last=False)
        else:
            self._read.move_to_end(key)
        return stored

    # Writing -------------------------------------------------------------------------------------------------------

    def write(
        self,
        state: StateWriter,
        batch: SpanBatch,
        hashes: Hashes,
        fresh: I64,
        reports: pl.DataFrame,
        made: pl.DataFrame,
        callers: I64,
        callers_reports: pl.DataFrame,
        components: Sequence[Component],
        rows: dict[int, Record],
        shown: Mask,
    ) -> None:
        """Write what a batch brings and delete what is over. `rows`: the final rows of the units that have one.

        Memory does not change before `enter`.
        """
        coming = Coming(self._next, batch.received_ns)
        if not self._seeded:
            state.put(b"seed", self.seed.to_bytes(8, "big"))
        if len(fresh):
            state.put(_key(b"f", coming.number), archive.write_fresh(reports, made, batch.calls.head(len(fresh))))
            coming.parts.append(_entries(hashes, fresh, places(coming.number, FRESH, len(fresh)), np.arange(len(fresh))))  # fmt: skip
        if len(callers):
            state.put(_key(b"s", coming.number), archive.write_reports(callers_reports))
            none = np.full(len(callers), -1, dtype=np.int64)
            coming.parts.append(_entries(hashes, callers, places(coming.number, CALLERS, len(callers)), none))
        units = [(component, unit) for component in components for unit in component.units if unit.stored]
        if units:
            self._write_units(state, coming, units, rows, shown)
        if coming.parts:
            state.put(_key(b"i", coming.number), archive.array_bytes(coming.columns(), coming.received_ns))
        linked = hashes.parent != 0
        linked[hashes.report_span] = False
        if linked.any():
            coming.links = (hashes.span[linked], hashes.parent[linked])
            state.put(_key(b"l", coming.number), archive.array_bytes(coming.links, coming.received_ns))
        self._coming = coming
        self._plan(coming)
        for value in coming.dropped:
            for kind in (b"i", b"f", b"s", b"m", b"c"):
                state.delete(_key(kind, value))
        for value in coming.unlinked:
            state.delete(_key(b"l", value))

    def _write_units(
        self,
        state: StateWriter,
        coming: Coming,
        units: Sequence[tuple[Component, Unit]],
        rows: dict[int, Record],
        shown: Mask,
    ) -> None:
        reports: list[Record] = []
        calls: list[Record] = []
        spots: list[tuple[int, ...]] = []
        numbers: list[int] = []
        for component, unit in units:
            number = -1
            call = rows.get(unit.number) if unit.row is not None else unit.committed
            if call is not None:
                number = len(calls)
                calls.append({**call, SHOWN: unit.shown or (unit.row is not None and bool(shown[unit.number]))})
            for report in unit.reports:
                spots.append(astuple(component.spots[report]))
                numbers.append(number)
                reports.append(report.row)
                if report.key in component.entries:
                    coming.moved.append(component.entries[report.key])
        state.put(_key(b"m", coming.number), archive.write_records(reports))
        if calls:
            state.put(_key(b"c", coming.number), archive.write_records(calls))
        found = np.array(spots, dtype=np.int64).T
        coming.parts.append((*found, places(coming.number, MERGED, len(spots)), np.array(numbers, dtype=np.int64)))

    def _plan(self, coming: Coming) -> None:
        """What is over once the batch is in: by the windows, and by the number of spans."""
        now = max([coming.received_ns, *(value.received_ns for value in list(self._values)[-1:])])
        until = now - int(self._config.window * _NS)
        links_until = now - int(self._config.trace_window * _NS)
        reports_low, links_low = self.reports.low, self.links.low
        total = len(self) + coming.count + len(coming.links[0])
        values, linked = deque(self._values), deque(self._linked)
        while linked and linked[0].received_ns < links_until:
            value = linked.popleft()
            coming.unlinked.append(value.number)
            total -= value.end - links_low
            links_low = value.end
        while values and values[0].received_ns < until:
            value = values.popleft()
            coming.dropped.append(value.number)
            total -= value.end - reports_low
            reports_low = value.end
        while total > self._config.max_spans and (values or linked):
            if linked and (not values or linked[0].number <= values[0].number):
                value = linked.popleft()
                coming.unlinked.append(value.number)
                gone = value.end - links_low
                links_low = value.end
            else:
                value = values.popleft()
                coming.dropped.append(value.number)
                gone = value.end - reports_low
                reports_low = value.end
            total -= gone
            coming.evicted += gone
        coming.reports_low, coming.links_low = reports_low, links_low

    def enter(self) -> int:
        """The batch that was written is committed: follow it. Gives how many spans were forgotten before their time."""
        coming, self._coming = self._coming, None
        if coming is None:
            return 0
        self._seeded = True
        self._next = coming.number + 1
        self._follow(coming)
        for _ in coming.dropped:
            self._values.popleft()
        for _ in coming.unlinked:
            self._linked.popleft()
        self.reports.forget(coming.reports_low)
        self.links.forget(coming.links_low)
        return coming.evicted

    def drop(self) -> None:
        """The batch that was written, if any, was not committed."""
        self._coming = None

    def _follow(self, coming: Coming) -> None:
        if coming.parts:
            columns = dict(zip(_INDEX, coming.columns(), strict=True))
            self.reports.append(columns, np.array(coming.moved, dtype=np.int64))
            self._values.append(Value(coming.number, coming.received_ns, self.reports.high))
        if len(coming.links[0]):
            self.links.append(*coming.links)
            self._linked.append(Value(coming.number, coming.received_ns, self.links.high))

    def _known(self, traces: I64, spans: I64) -> list[int]:
        by_trace: defaultdict[int, list[int]] = defaultdict(list)
        for trace, span in zip(traces.tolist(), spans.tolist(), strict=True):
            by_trace[trace].append(span)
        return [entry for trace, mine in by_trace.items() for entry in self.reports.find(trace, mine) if entry >= 0]

    def load(self, state: StateReader) -> None:
        """Read seed, reports and links; in the order in which they were written."""
        seed = state.get(b"seed")
        if seed is not None:
            self.seed, self._seeded = int.from_bytes(seed, "big"), True
        for key, raw in state.items(b"i"):
            (received_ns,), columns = archive.arrays_of(raw, 1, len(_INDEX))
            coming = Coming(_number(key), received_ns)
            coming.parts = [tuple(columns)]
            again = merged(columns[_INDEX.index("place")])
            coming.moved = self._known(columns[0][again], columns[1][again])
            self._follow(coming)
            self._next = coming.number + 1
        for key, raw in state.items(b"l"):
            (received_ns,), links = archive.arrays_of(raw, 1, 2)
            coming = Coming(_number(key), received_ns)
            coming.links = (links[0], links[1])
            self._follow(coming)
            self._next = max(self._next, coming.number + 1)


def _entries(hashes: Hashes, rows: I64, where: I64, call: I64) -> tuple[I64, ...]:
    """The index's columns of some of a batch's reports."""
    spans = hashes.report_span[rows]
    return (hashes.trace[spans], hashes.span[spans], hashes.response[rows], hashes.parent[spans], hashes.source[rows], where, call)  # fmt: skip


def _key(kind: bytes, number: int) -> bytes:
    return kind + number.to_bytes(8, "big")


def _number(key: bytes) -> int:
    return int.from_bytes(key[1:], "big")
