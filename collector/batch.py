"""What flows through a pipeline: of traces one decoded batch, as columns; of logs and metrics the requests themselves."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import polars as pl

from collector.columns import CALL_COLUMNS, REPORT_COLUMNS, SPAN_COLUMNS, nulls, schema
from collector.counting import Share
from collector.findings import Finding, Observation
from collector.otlp.tables import U8, Traces
from collector.signals import Signal

#: Frames without rows, made once: making one costs as much as a thousand spans.
NO_REPORTS = pl.DataFrame(schema=schema(REPORT_COLUMNS))
NO_CALLS = pl.DataFrame(schema=schema(CALL_COLUMNS))


class Quote(Protocol):
    """What calls would cost if another model had served them."""

    def __call__(self, calls: pl.DataFrame, models: pl.Series) -> pl.DataFrame:
        """Per row of `calls` (CALL_COLUMNS), served by the model of the same row of `models`: `cost_pico`, null where that
        is unknown, and `price_source`. Under the rules by which the batch's calls were priced; nothing is remembered."""
        ...


@dataclass(frozen=True, slots=True)
class Position:
    """Which inbox entries a batch is made of: `first`..`last`, both included. Rises, never repeats, survives restarts."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class SpanBatch:
    """Spans as columns, from inbox to exporter. Immutable: a processor gives back `batch.with_(…)`.

    otlp:      the decoded tables over the joined request bytes; every attribute of every span is there
    position:  the inbox entries it came from
    received_ns: when the newest of them arrived (Unix time)
    spans:     one row per span of `otlp`, in its order: the SPAN_COLUMNS, null until a step fills them
    reports:   one row per span that matters to the ledger: REPORT_COLUMNS, then what attribution added
    calls:     CALL_COLUMNS, one row per call that this batch made new or better (or withdrew); empty before merging
    replaced:  CALL_COLUMNS, the versions that were in force before, of those rows of `calls` that had one:
               sums move by `calls` minus `replaced` (a withdrawn row counts as nothing)
    quote:     what calls would cost with other models; None where nothing prices them
    observed:  what the CALLS processors noticed in this batch
    findings:  what became of it: findings that this batch opened, updated or resolved; filled behind the processors
    shares:    of what processors count together with other collectors, this collector's part as far as the batch changed it
    """

    otlp: Traces
    position: Position
    received_ns: int
    spans: pl.DataFrame
    reports: pl.DataFrame = field(default_factory=lambda: NO_REPORTS)
    calls: pl.DataFrame = field(default_factory=lambda: NO_CALLS)
    replaced: pl.DataFrame = field(default_factory=lambda: NO_CALLS)
    quote: Quote | None = None
    observed: tuple[Observation, ...] = ()
    findings: tuple[Finding, ...] = ()
    shares: tuple[Share, ...] = ()

    @classmethod
    def blank(cls, otlp: Traces, position: Position, received_ns: int) -> SpanBatch:
        """A batch of which nothing is known yet but what was decoded."""
        spans = pl.DataFrame(list(nulls(SPAN_COLUMNS, len(otlp)).values()))
        return cls(otlp, position, received_ns, spans)

    def with_(self, **changes: Any) -> SpanBatch:
        """A copy with some fields exchanged."""
        return replace(self, **changes)

    def __len__(self) -> int:
        return len(self.otlp)


@dataclass(frozen=True, slots=True)
class RequestBatch:
    """Requests of logs or of metrics, from inbox to exporter. Immutable, as a SpanBatch is.

    data:     one serialized request, of many joined; checked by the receiver
    items:    log records, or data points
    position, received_ns: as of a SpanBatch
    """

    signal: Signal
    data: U8
    items: int
    position: Position
    received_ns: int

    def with_(self, **changes: Any) -> RequestBatch:
        """A copy with some fields exchanged."""
        return replace(self, **changes)
