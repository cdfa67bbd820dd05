"""Which known reports a batch touches: everything that shares a trace or a response id with it, and so on from there."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import polars as pl

from collector.component import StateReader
from collector.ledger.archive import Record
from collector.ledger.changes import Component, Known, Spot
from collector.ledger.components import Key
from collector.ledger.hashes import Hashes
from collector.ledger.index import contains
from collector.ledger.kernels import Mask
from collector.ledger.memory import Memory

#: Reports of one trace or one id that can still change; older ones stay as they were settled.
LIVE = 1_000
#: Reports that are settled together at most.
MOST = 4_000


class Touched:
    """The reports of a batch that do not stand alone, and what they are with."""

    def __init__(self, hashes: Hashes, alone: Mask, memory: Memory, state: StateReader) -> None:
        self._hashes, self._memory, self._state = hashes, memory, state
        self._rows = np.flatnonzero(~alone)
        other = np.ones(len(hashes.trace), dtype=np.bool_)
        other[hashes.report_span] = False
        linked = memory.reports.crowded(hashes.trace, other & (hashes.parent != 0))
        self._linked: list[int] = np.unique(hashes.trace[linked]).tolist()
        self._parents: dict[int, int] = {}

    def parent(self, span: int) -> int:
        """The hash of a span's parent, as the batch or the memory knows it; 0: none."""
        return self._parents.get(span) or self._memory.parent(span)

    def components(self, reports: pl.DataFrame) -> list[Component]:
        """The touched reports of batch and state, in disjoint sets. `reports`: the columns that are kept, all rows."""
        if not len(self._rows) and not self._linked:
            return []
        sets = self._sets()
        self._link(sets)
        wanted = [row for _, rows in sets for row in rows]
        records = dict(zip(wanted, reports[wanted].to_dicts(), strict=True)) if wanted else {}
        known = self._memory.read(self._state, [entry for entries, _ in sets for entry in entries])
        return [
            self._component([known[e] for e in entries], [(row, records[row]) for row in rows])
            for entries, rows in sets
        ]

    def _component(self, known: list[Known], fresh: list[tuple[int, Record]]) -> Component:
        spans: defaultdict[Key, list[int]] = defaultdict(list)
        for row, record in fresh:
            spans[record["trace_id"], record["span_id"]].append(int(self._hashes.report_span[row]))
        return Component(known, [self._fresh(row, record) for row, record in fresh], dict(spans))

    def _fresh(self, row: int, record: Record) -> tuple[Record, Spot]:
        hashes, span = self._hashes, self._hashes.report_span[row]
        return record, Spot(int(hashes.trace[span]), int(hashes.span[span]), int(hashes.response[row]), int(hashes.parent[span]), int(hashes.source[row]))  # fmt: skip

    def _sets(self) -> list[tuple[list[int], list[int]]]:
        """Entries of the index and rows of the batch, set by set."""
        hashes, index = self._hashes, self._memory.reports
        trace_of = dict(zip(self._rows.tolist(), hashes.trace[hashes.report_span[self._rows]].tolist(), strict=True))
        response_of = dict(zip(self._rows.tolist(), hashes.response[self._rows].tolist(), strict=True))
        span_of = dict(zip(self._rows.tolist(), hashes.span[hashes.report_span[self._rows]].tolist(), strict=True))
        in_trace: defaultdict[int, list[int]] = defaultdict(list)
        in_response: defaultdict[int, list[int]] = defaultdict(list)
        for row, trace in trace_of.items():
            in_trace[trace].append(row)
            if response_of[row]:
                in_response[response_of[row]].append(row)
        done: set[tuple[str, int]] = set()
        taken: set[int] = set()
        found = []
        for seed in [*dict.fromkeys(trace_of.values()), *self._linked]:
            if ("trace", seed) in done:
                continue
            queue = [("trace", seed)]
            done.add(queue[0])
            entries: dict[int, None] = {}
            rows: list[int] = []
            while queue:
                kind, key = queue.pop()
                mine = (in_trace if kind == "trace" else in_response).get(key, [])
                reached = index.find_like(kind, key, LIVE) if len(entries) < MOST else []
                if kind == "trace":
                    rows += mine
                    reached += [e for e in index.find(key, [span_of[row] for row in mine]) if e >= 0] if mine else []
                new = [e for first in reached if first not in entries for e in self._memory.unit(first)]
                for entry in new:
                    if entry not in entries and entry not in taken:
                        entries[entry] = None
                        keys = [("trace", index.value("trace", entry)), ("response", index.value("response", entry))]
                        queue += [k for k in keys if k[1] and k not in done]
                        done.update(k for k in keys if k[1])
                for row in mine:
                    keys = [("trace", trace_of[row]), ("response", response_of[row])]
                    queue += [k for k in keys if k[1] and k not in done]
                    done.update(k for k in keys if k[1])
            taken.update(entries)
            found.append((list(entries), rows))
        return found

    def _link(self, sets: list[tuple[list[int], list[int]]]) -> None:
        """The parents of the batch's spans in the traces that are touched."""
        index, hashes = self._memory.reports, self._hashes
        traces = {index.value("trace", entry) for entries, _ in sets for entry in entries}
        traces.update(hashes.trace[hashes.report_span[self._rows]].tolist())
        inside = contains(hashes.trace, np.array(sorted(traces), dtype=np.int64)) & (hashes.parent != 0)
        self._parents = dict(zip(hashes.span[inside].tolist(), hashes.parent[inside].tolist(), strict=True))
