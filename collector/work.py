"""What a pipeline does with a batch: the part that depends on the signal.

    traces          join, decode ─▶ normalise ─▶ REPORTS, REDACTION ─▶ merge ─▶ CALLS ─▶ annotate, findings ─▶ encode
    logs, metrics   join ─▶ processors ─▶ encode

The loop around it (`pipeline.py`) is the same for all. The order of calls is that of a processor:
load → (process → save)*, and `rollback` where anything raised between `process` and the commit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from collector.batch import Position, RequestBatch, SpanBatch
from collector.component import Payload, Processor, Stage
from collector.counting import History
from collector.delivery import Outlet
from collector.dialects import normalise
from collector.evidence import marked
from collector.findings_book import FindingsBook
from collector.ledger import Ledger
from collector.otlp.decode import read
from collector.signals import Signal
from collector.store import Entry, Reader, StateStore, Transaction, joined

BatchT = TypeVar("BatchT", SpanBatch, RequestBatch)
Deliveries = list[tuple[Outlet, list[Payload]]]


@dataclass(frozen=True, slots=True)
class Outcome(Generic[BatchT]):
    """What a batch led to, before it is committed. `items`: spans, log records or data points. `calls`: rows of calls."""

    batch: BatchT
    items: int
    calls: int
    deliveries: Deliveries


class Work(ABC, Generic[BatchT]):
    """One pipeline's processors and exporters, and what its signal needs besides. For the pipeline's thread."""

    def __init__(self, pipeline: str, processors: Sequence[Processor[Any]], outlets: Sequence[Outlet]) -> None:
        self.outlets = outlets
        self._pipeline = pipeline
        self._processors = processors
        self._touched: list[Processor[Any] | Ledger | FindingsBook] = []  # by the last `process`, in order

    def load(self, state: Reader) -> None:
        """Rebuild what was remembered. Called once, before the first batch."""
        for processor in self._processors:
            processor.load(state.component(self._namespace(processor.context.id)))

    def process(self, entries: Sequence[Entry]) -> Outcome[BatchT]:
        """From requests to deliveries. Raises whatever a component raises."""
        self._touched.clear()
        return self._process(entries)

    @abstractmethod
    def _process(self, entries: Sequence[Entry]) -> Outcome[BatchT]: ...

    def save(self, state: Transaction, outcome: Outcome[BatchT]) -> None:
        """Write what the batch changed, and its deliveries. Again, in another transaction, if this one did not commit."""
        for processor in self._processors:
            processor.save(state.component(self._namespace(processor.context.id)))
        for outlet, payloads in outcome.deliveries:
            for payload in payloads:
                state.outbox_put(outlet.name, payload)

    def committed(self) -> None:
        """What `save` wrote is durable."""
        for processor in self._processors:
            processor.committed()

    def rollback(self) -> None:
        """Undo what the last `process` changed in memory, as far as it came."""
        for component in self._touched:
            component.rollback()

    @property
    def lacks_history(self) -> bool:
        """Whether some processor lacks what was before it."""
        return any(processor.lacks_history for processor in self._processors)

    def recall(self, store: StateStore, history: History) -> None:
        """Have them take it over, in one transaction. Raises `DeliveryError`, `StoreError`."""
        lacking = [processor for processor in self._processors if processor.lacks_history]
        try:
            for processor in lacking:
                processor.recall(history)
            with store.transaction() as transaction:
                for processor in lacking:
                    processor.save(transaction.component(self._namespace(processor.context.id)))
        except BaseException:
            for processor in lacking:
                processor.rollback()
            raise
        for processor in lacking:
            processor.committed()

    def _touch(self, processor: Processor[Any]) -> Processor[Any]:
        """The processor, which is to be rolled back from now on."""
        self._touched.append(processor)
        return processor

    def _namespace(self, component: str) -> str:
        return f"{self._pipeline}/{component}"


class TracesWork(Work[SpanBatch]):
    """Spans become reports, reports calls, calls are priced and kept, and what is noticed about them becomes findings."""

    def __init__(
        self,
        pipeline: str,
        processors: Sequence[Processor[Any]],
        outlets: Sequence[Outlet],
        ledger: Ledger,
        book: FindingsBook,
        store: StateStore,
    ) -> None:
        super().__init__(pipeline, processors, outlets)
        self._reports = [p for stage in (Stage.REPORTS, Stage.REDACTION) for p in processors if p.stage is stage]
        self._calls = [p for p in processors if p.stage is Stage.CALLS]
        self._ledger = ledger
        self._book = book
        self._store = store

    def load(self, state: Reader) -> None:
        self._ledger.load(state.component(self._namespace("ledger")))
        self._book.load(state.component(self._namespace("findings")))
        super().load(state)

    def _process(self, entries: Sequence[Entry]) -> Outcome[SpanBatch]:
        traces = read(joined(entries), sum(entry.items for entry in entries))
        batch = normalise(SpanBatch.blank(traces, _position(entries), _received_ns(entries)))
        for processor in self._reports:
            batch = self._touch(processor).process(batch)
        with self._store.reader() as reader:
            self._touched.append(self._ledger)  # not before: what the last batch left there is committed
            batch = self._ledger.merge(batch, reader.component(self._namespace("ledger")))
        for processor in self._calls:
            batch = self._touch(processor).process(batch)
        batch = marked(self._ledger.annotate(batch))
        self._touched.append(self._book)
        batch = self._book.observe(batch)
        deliveries = [(outlet, list(outlet.exporter.encode(batch))) for outlet in self.outlets]
        return Outcome(batch, len(batch), len(batch.calls), deliveries)

    def save(self, state: Transaction, outcome: Outcome[SpanBatch]) -> None:
        self._ledger.save(state.component(self._namespace("ledger")), outcome.batch)
        self._book.save(state.component(self._namespace("findings")))
        super().save(state, outcome)


class RequestsWork(Work[RequestBatch]):
    """Logs and metrics stay requests: processors rewrite them, exporters forward them or make rows of them."""

    def __init__(
        self, signal: Signal, pipeline: str, processors: Sequence[Processor[Any]], outlets: Sequence[Outlet]
    ) -> None:
        super().__init__(pipeline, processors, outlets)
        self._signal = signal

    def _process(self, entries: Sequence[Entry]) -> Outcome[RequestBatch]:
        data, items = joined(entries), sum(entry.items for entry in entries)
        batch = RequestBatch(self._signal, data, items, _position(entries), _received_ns(entries))
        for processor in self._processors:
            batch = self._touch(processor).process_requests(batch)
        deliveries = [(outlet, list(outlet.exporter.encode_requests(batch))) for outlet in self.outlets]
        return Outcome(batch, batch.items, 0, deliveries)


def _position(entries: Sequence[Entry]) -> Position:
    return Position(entries[0].seq, entries[-1].seq)


def _received_ns(entries: Sequence[Entry]) -> int:
    return max(entry.received_ns for entry in entries)
