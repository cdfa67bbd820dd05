"""A pipeline over its real stores, in this process: what goes in, what an exporter gets of it, and faults on request.

```python
with rig(tmp_path) as running:
    running.put(calls(["a", "b"]))
    running.start()
    running.settle()
assert running.other_side.calls["a"] == 1
```

Everything that builds a pipeline stands in `Rig.open`.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from collector.batch import SpanBatch
from collector.component import Context, Exporter, Payload, Processor, Stage, StateReader, StateWriter
from collector.delivery import Delivery, Outlet
from collector.errors import Permanent, Retryable
from collector.findings_book import FindingsBook
from collector.ledger import Ledger
from collector.ledger.index import Reports
from collector.pipeline import Pipeline
from collector.store import DeadLetter, DeadLetters, Inbox, StateStore
from collector.telemetry import ExporterMetrics, PipelineMetrics
from collector.work import TracesWork
from config.delivery import ExporterConfig, RetryConfig
from config.model import BatchConfig, LedgerConfig
from config.types import StrictModel
from tests.store_kit import SEALER, append

ID = "traces"
OUTBOX = f"{ID}/other_side"
#: Calls as `spans_kit.calls` makes them: input and output.
TOKENS = 1100

Fault = Callable[[set[str]], None]


def ids_of(batch: SpanBatch) -> set[str]:
    """The response ids of a batch's reports."""
    return set(batch.reports["response_id"].drop_nulls())


class OtherSide(Exporter[ExporterConfig]):
    """Where everything goes: counts what it got. It outlives the pipelines of a test, as a database would."""

    Config = ExporterConfig

    def __init__(self) -> None:
        super().__init__(ExporterConfig(), Context("other_side", Path(), CollectorRegistry()))
        self.away = self.refuses = False
        self.spans: Counter[str] = Counter()  # by span id
        self.calls: Counter[str] = Counter()  # by response id: versions of its row
        self.batches: list[int] = []  # requests of each

    def encode(self, batch: SpanBatch) -> Iterable[Payload]:
        ids = batch.otlp.spans.span_id
        spans = [batch.otlp.data[at : at + 8].tobytes().hex() for at in ids.off.tolist()]
        calls = batch.calls["response_id"].to_list()
        requests = batch.position.last - batch.position.first + 1
        yield Payload(json.dumps([spans, calls, requests]).encode(), {}, len(batch))

    def send(self, payload: Payload) -> None:
        if self.away:
            raise Retryable("away")
        if self.refuses:
            raise Permanent("wrong table")
        spans, calls, requests = json.loads(payload.body)
        self.spans.update(spans)
        self.calls.update(calls)
        self.batches.append(requests)


class Tally(Processor[StrictModel]):
    """Sums tokens in memory and in its state, as a budget does: of calls, or in the other stage of reports.

    Raises what its faults raise, which are given the batch's response ids: `fault` at the end of `process`, when the sum
    has changed already; `save_fault` after `save` has written.
    """

    Config = StrictModel

    def __init__(self, id_: str = "tally", fault: Fault | None = None, stage: Stage = Stage.CALLS) -> None:
        super().__init__(StrictModel(), Context(id_, Path(), CollectorRegistry()))
        self.stage = stage  # type: ignore[misc]  # a class of its own would differ in nothing else
        self.fault = fault
        self.save_fault: Fault | None = None
        self.total = self._before = 0
        self._ids: set[str] = set()

    def load(self, state: StateReader) -> None:
        self.total = int(state.get(b"total") or 0)

    def process(self, batch: SpanBatch) -> SpanBatch:
        self._before, self._ids = self.total, ids_of(batch)
        if self.stage is Stage.REPORTS:
            self.total += _tokens(batch.reports)
        else:
            self.total += _tokens(batch.calls) - _tokens(batch.replaced)
        if self.fault is not None:
            self.fault(self._ids)
        return batch

    def save(self, state: StateWriter) -> None:
        state.put(b"total", str(self.total).encode())
        if self.save_fault is not None:
            self.save_fault(self._ids)

    def rollback(self) -> None:
        self.total = self._before


def _tokens(calls: Any) -> int:
    return int(calls["input_tokens"].sum() or 0) + int(calls["output_tokens"].sum() or 0)


class Rig:
    """Stores, a pipeline with tallies around the given processors, and its delivery. `open` and `close` may be called again and again on the same folder."""

    def __init__(
        self,
        folder: Path,
        *processors: Processor[Any],
        max_items: int = 32_000,
        outbox_bytes: int = 2**30,
        inbox_bytes: int = 2**26,
        letter_bytes: int = 2**30,
    ) -> None:
        self.other_side = OtherSide()
        self.processors = (Tally("first", stage=Stage.REPORTS), Tally("early"), *processors, Tally("late"))
        self._folder = folder
        self._batching = BatchConfig(timeout=0, max_items=max_items)
        self._outbox_bytes, self._inbox_bytes, self._letter_bytes = outbox_bytes, inbox_bytes, letter_bytes
        self.open()

    def open(self) -> None:
        """What a process does that starts, up to the threads."""
        registry = CollectorRegistry()
        self.registry = registry
        self.store = StateStore(self._folder / "state", SEALER, dead_letter_bytes=self._letter_bytes)
        self.inbox = Inbox(self._folder / "inbox", max_bytes=self._inbox_bytes, sealer=SEALER)
        outlet = Outlet(OUTBOX, self.other_side, self.store.outbox(OUTBOX), self._outbox_bytes)
        retry = RetryConfig(initial_interval=0.01, max_interval=0.02)
        self.delivery = Delivery(outlet, retry, ExporterMetrics(registry))
        with self.store.reader() as reader:
            self.queue = self.inbox.queue(ID, after=reader.position(ID))
        self.ledger = Ledger(LedgerConfig(), registry)
        work = TracesWork(ID, self.processors, [outlet], self.ledger, FindingsBook(registry), self.store)
        self.pipeline = Pipeline(ID, self.queue, self.store, work, self._batching, PipelineMetrics(registry))
        self.pipeline.load()

    def put(self, *bodies: bytes, items: int = 1) -> None:
        """Take in requests, as a receiver does; returns when they are durable."""
        append(self.inbox, *bodies, queues=(ID,), items=items)

    def start(self) -> None:
        self.pipeline.start()
        self.delivery.start()

    def stop(self, seconds: float = 20) -> None:
        """Stop what runs, in the service's order."""
        self.pipeline.stop(time.monotonic() + seconds)
        self.delivery.stop(time.monotonic() + seconds)

    def close(self) -> None:
        """Stop at once and close the stores."""
        self.stop(0)
        self.inbox.close()
        self.store.close()

    def restart(self) -> None:
        """A new process over the same data."""
        self.close()
        self.open()
        self.start()

    def settle(self, timeout: float = 30) -> None:
        """Wait until everything that was put in is delivered, or a dead letter, and nothing of it is left on disk."""
        wait_for(lambda: self.pipeline.position >= self.queue.last, timeout)
        wait_for(lambda: not self.delivery.outlet.outbox.peek(), timeout)
        wait_for(lambda: not self.queue.bytes, timeout)

    def check_memory(self) -> None:
        """What ledger and processors remember is what a new process would read."""
        assert remembered(self.ledger) == remembered(loaded(self.store))
        for processor in self.processors:
            if isinstance(processor, Tally):
                again = Tally()
                with self.store.reader() as reader:
                    again.load(reader.component(f"{ID}/{processor.context.id}"))
                assert (processor.context.id, processor.total) == (processor.context.id, again.total)

    @property
    def tokens(self) -> int:
        """Tokens of all calls, as a processor counts them."""
        tally = self.processors[-1]
        assert isinstance(tally, Tally)
        return tally.total

    def replay(self) -> None:
        """Send all dead letters back to where they came from."""
        letters = DeadLetters(self.store)
        letters.replay([letter.id for letter in letters.list()], self.inbox, {ID, OUTBOX})

    @property
    def letters(self) -> list[DeadLetter]:
        return DeadLetters(self.store).list()

    def metric(self, name: str) -> float:
        return self.registry.get_sample_value(name, {"pipeline": ID}) or 0


@contextmanager
def rig(folder: Path, *processors: Processor[Any], **options: Any) -> Iterator[Rig]:
    """A rig for the length of a block, not started."""
    made = Rig(folder, *processors, **options)
    try:
        yield made
    finally:
        made.close()


def wait_for(condition: Callable[[], bool], timeout: float = 10) -> None:
    """Wait until something is so."""
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until, f"did not happen within {timeout:g} s"
        time.sleep(0.005)


def remembered(ledger: Ledger) -> tuple[Any, ...]:
    """All that a ledger has in memory of what was committed: reports in force, links, and the values that they lie in."""
    ledger._enter()
    memory = ledger._memory
    reports = memory.reports
    entries = [
        tuple(reports.value(name, entry) for name in Reports.NAMES)
        for entry in range(reports.low, reports.high)
        if reports.holds(entry)
    ]
    links = memory.links._ring
    where = [entry & (links.capacity - 1) for entry in range(links.low, links.high)]
    pairs = [(int(links.columns["span"][at]), int(links.columns["parent"][at])) for at in where]
    values = [value.number for value in memory._values]
    assert memory._next > max([0, *values]), "the next batch would write over a value that is in force"
    return memory.seed, sorted(entries), sorted(pairs), values


def loaded(store: StateStore) -> Ledger:
    """A ledger that has just read the state."""
    ledger = Ledger(LedgerConfig(), CollectorRegistry())
    with store.reader() as reader:
        ledger.load(reader.component(f"{ID}/ledger"))
    return ledger
