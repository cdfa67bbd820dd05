"""A detector over history: what it would have raised, had it been there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from prometheus_client import CollectorRegistry

from collector.batch import Position, SpanBatch
from collector.columns import CALL_COLUMNS, START, Column
from collector.component import Context
from collector.findings import Finding, Transition
from collector.findings_book import FindingsBook
from collector.otlp.decode import decode
from collector.sums import COUNTED_BY
from processors.anomaly.config import AnomalyConfig
from processors.anomaly.processor import Anomaly

_BY_NAME = {column.name: column for column in CALL_COLUMNS}
#: What the processor reads of a call beside what it groups by.
_READ = (
    "duration_ns", "cost_pico", "input_tokens", "output_tokens", "cache_read_tokens", "time_to_first_token_ns", "status", "refused_by",
    "response_cache_hit", "call_id", "trace_id", "span_id", "report_count",
)  # fmt: skip
_MODELS = ("upstream_model", "response_model", "request_model")


@dataclass(frozen=True, slots=True)
class Raised:
    """A finding as it was last, and when it was given out: the newest start of a call that was known by then (Unix ns)."""

    finding: Finding
    at_ns: int


class Backtest:
    """Takes calls in the order of their starts. `raised`: findings by id."""

    def __init__(self, config: AnomalyConfig) -> None:
        self._anomaly = Anomaly(config, Context("anomaly", Path(), CollectorRegistry()))
        self._book = FindingsBook(CollectorRegistry())
        self._dimensions = {name for scope in config.scopes.values() for name in scope.per}
        self._nothing = decode(b"")
        self._batches = 0
        self.raised: dict[str, Raised] = {}

    @property
    def columns(self) -> list[Column]:
        """What it needs of each call, START first."""
        names = {*_READ, *_MODELS, *(COUNTED_BY[name] or START.name for name in self._dimensions)} - {START.name}
        return [START, *(_BY_NAME[name] for name in sorted(names))]

    def add(self, calls: pl.DataFrame) -> None:
        """Take calls (CALL_COLUMNS), each in the version that is in force."""
        for batch in self._batches_of(calls):
            observed = self._book.observe(self._anomaly.process(batch))
            for finding in observed.findings:
                before = self.raised.get(finding.id)
                opened = before is None or Transition.OPENED in finding.transitions
                self.raised[finding.id] = Raised(
                    finding, batch.received_ns if opened or before is None else before.at_ns
                )

    def _batches_of(self, calls: pl.DataFrame) -> Iterator[SpanBatch]:
        """As they would have come in: so that it is known when a finding was given out."""
        calls = calls.with_columns(pl.lit(False).alias("withdrawn"))
        step = (pl.col(START.name) // _STEP_NS).alias("step")
        for _, part in calls.with_columns(step).group_by("step", maintain_order=True):
            self._batches += 1
            newest = int(part[START.name].max() or 0)  # type: ignore[arg-type]
            yield SpanBatch.blank(self._nothing, Position(self._batches, self._batches), newest).with_(
                calls=part.drop("step")
            )


#: A minute of history is a batch.
_STEP_NS = 60 * 10**9
