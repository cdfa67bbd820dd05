"""The ledger: one row per call, whatever number of spans report it, in whatever order they come.

    merge      reports that stand alone become calls by column selection; what touches something known, or something else
               in the batch, is settled in plain Python, component by component
    annotate   says on the spans which call they report, and puts the cost on one of them
    save       writes reports, links and the priced rows of the calls, with the batch's commit

Memory holds hashes only, and follows the state: what a batch brings is entered when the next one begins, so that a
commit that fails, or is tried again, needs nothing undone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from prometheus_client import CollectorRegistry

from collector.batch import SpanBatch
from collector.columns import CALL_COLUMNS, schema
from collector.component import StateReader, StateWriter
from collector.ledger import kernels
from collector.ledger.annotations import annotated
from collector.ledger.archive import Record
from collector.ledger.changes import Component, settle
from collector.ledger.closure import Touched
from collector.ledger.hashes import Hashes, without_copies
from collector.ledger.memory import Memory
from collector.ledger.metrics import LedgerMetrics
from collector.ledger.rows import equal_to, fresh_calls, kept, plain, taken
from collector.once import once
from config.model import LedgerConfig


@dataclass(slots=True)
class Pending:
    """What the last merge found, until it is saved or forgotten.

    fresh:      rows of `batch.reports` that stand alone; their calls are the first rows of `batch.calls`, in this order
    reports:    these rows' columns that are kept
    made:       their calls as merged
    callers:    rows of `batch.reports` that say who asked, and of which nothing came so far
    callers_reports: these rows' columns that are kept
    components: what was settled one by one
    shown:      per row of `batch.calls`, whether a span shows its cost
    """

    hashes: Hashes
    fresh: kernels.I64
    reports: pl.DataFrame
    made: pl.DataFrame
    callers: kernels.I64
    callers_reports: pl.DataFrame
    components: list[Component]
    shown: kernels.Mask = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    saved: bool = False


class Ledger:
    """Merges the reports of each call. See the module."""

    def __init__(self, config: LedgerConfig, metrics: CollectorRegistry) -> None:
        self.config = config
        self._memory = Memory(config)
        self._pending: Pending | None = None
        self._metrics = once(metrics, LedgerMetrics)
        self._metrics.watch(self._memory)

    def load(self, state: StateReader) -> None:
        """Rebuild the tables from what `save` wrote."""
        self._pending = None
        self._memory = Memory(self.config)
        self._metrics.watch(self._memory)
        self._memory.load(state)

    def merge(self, batch: SpanBatch, state: StateReader) -> SpanBatch:
        """Fill `calls` and `replaced`. Rows for what is new, better or withdrawn; none for what stays as it was."""
        self._enter()
        version = batch.position.last
        hashes = Hashes.of(batch, self._memory.seed)
        batch, hashes = without_copies(batch, hashes)
        alone = self._memory.reports.alone(
            hashes.trace[hashes.report_span],
            hashes.span[hashes.report_span],
            hashes.response,
            hashes.source,
            plain(batch.reports),
        )
        reports = kept(batch.reports)
        asked = alone & equal_to(batch.reports["role"], "caller")
        callers, fresh = np.flatnonzero(asked), np.flatnonzero(alone & ~asked)
        every = len(fresh) == len(alone)
        stored, made = fresh_calls(reports if every else taken(reports, fresh), version)
        calls = made
        touched = Touched(hashes, alone, self._memory, state)
        components = touched.components(reports)
        for component in components:
            settle(component, self._memory.parent, touched.parent, version)
        changed = _number(components, len(calls))
        if changed:
            calls = pl.concat([calls, pl.DataFrame(changed, schema=schema(CALL_COLUMNS), strict=False)], rechunk=False)
        replaced = [row for component in components for row in component.replaced]
        self._pending = Pending(hashes, fresh, stored, made, callers, taken(reports, callers), components)
        return batch.with_(calls=calls, replaced=_frame(replaced) if replaced else batch.replaced)

    def annotate(self, batch: SpanBatch) -> SpanBatch:
        """Fill in what `batch.spans` say of their calls."""
        pending = self._expect()
        spans, pending.shown = annotated(batch, pending.hashes.report_span, pending.fresh, pending.components)
        return batch.with_(spans=spans)

    def save(self, state: StateWriter, batch: SpanBatch) -> None:
        """Write what the batch brings. May be called again with another transaction if the commit failed."""
        pending = self._expect()
        rows = [unit.number for component in pending.components for unit in component.units if unit.row is not None]
        final: Sequence[Record] = batch.calls[rows].to_dicts() if rows else []
        by_number = dict(zip(rows, final, strict=True))
        self._memory.write(
            state, batch, pending.hashes, pending.fresh, pending.reports, pending.made, pending.callers, pending.callers_reports,
            pending.components, by_number, pending.shown,
        )  # fmt: skip
        pending.saved = True

    def rollback(self) -> None:
        """Forget the last merge."""
        self._pending = None
        self._memory.drop()

    def _enter(self) -> None:
        """What was saved is committed by now, else `rollback` or `load` would have come between."""
        pending, self._pending = self._pending, None
        if pending is None or not pending.saved:
            self._memory.drop()
            return
        self._metrics.evicted.inc(self._memory.enter())
        new = len(pending.fresh)
        better = 0
        for component in pending.components:
            new += sum(1 for unit in component.units if unit.row is not None and unit.committed is None)
            better += sum(1 for unit in component.units if unit.row is not None and unit.committed is not None)
            self._metrics.calls.labels("withdrawn").inc(len(component.withdrawn))
        self._metrics.calls.labels("new").inc(new)
        self._metrics.calls.labels("better").inc(better)

    def _expect(self) -> Pending:
        if self._pending is None:
            raise RuntimeError("merge comes before annotate and save")
        return self._pending


def _number(components: Sequence[Component], first: int) -> list[Record]:
    """The rows that the components write, and each unit's place among the batch's calls."""
    rows: list[Record] = []
    for component in components:
        for unit in component.units:
            if unit.row is not None:
                unit.number = first + len(rows)
                rows.append(unit.row)
        rows += component.withdrawn
    return rows


def _frame(rows: Sequence[Record]) -> pl.DataFrame:
    """Rows as they were saved: the calls' columns, then what processors had added."""
    names = schema(CALL_COLUMNS)
    added = dict.fromkeys(name for row in rows for name in row if name not in names)
    known = pl.DataFrame([{name: row.get(name) for name in names} for row in rows], schema=names)
    if not added:
        return known
    more = pl.DataFrame([{name: row.get(name) for name in added} for row in rows], infer_schema_length=None)
    return known.hstack(more)
