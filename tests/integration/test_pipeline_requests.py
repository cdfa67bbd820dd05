"""Logs and metrics through the same loop as traces: joined, rewritten, delivered once, and halved when one is guilty.

Scenario: real stores, a processor that remembers, an exporter that tells what it got.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from collector import pipeline as loop
from collector.batch import RequestBatch, SpanBatch
from collector.component import Context, Exporter, Payload, Processor, StateReader, StateWriter
from collector.delivery import Delivery, Outlet
from collector.otlp.requests import REQUESTS
from collector.pipeline import Pipeline
from collector.signals import Signal
from collector.store import DeadLetter, DeadLetters, Inbox, StateStore
from collector.telemetry import ExporterMetrics, PipelineMetrics
from collector.work import RequestsWork
from config.delivery import ExporterConfig, RetryConfig
from config.model import BatchConfig
from config.types import StrictModel
from tests.pipeline_kit import wait_for
from tests.signals_kit import logs, metrics, record
from tests.store_kit import SEALER, append

ALL = frozenset({Signal.LOGS, Signal.METRICS})
GUILTY = b"the guilty one"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "RETRY_COMMIT_S", 0.01)
    monkeypatch.setattr(loop, "TICK_S", 0.02)


class Shout(Processor[StrictModel]):
    """Makes `said` `SAID`, counts items in its state, and cannot stand GUILTY: after it has counted."""

    Config = StrictModel
    signals = ALL

    def __init__(self) -> None:
        super().__init__(StrictModel(), Context("shout", Path(), CollectorRegistry()))
        self.seen = self._before = 0

    def load(self, state: StateReader) -> None:
        self.seen = int(state.get(b"seen") or 0)

    def process(self, batch: SpanBatch) -> SpanBatch:
        raise AssertionError("no spans come here")

    def process_requests(self, batch: RequestBatch) -> RequestBatch:
        self._before = self.seen
        self.seen += batch.items
        data = batch.data.tobytes()
        if GUILTY in data:
            raise ValueError(GUILTY.decode())
        return batch.with_(data=np.frombuffer(data.replace(b"said", b"SAID"), np.uint8))

    def save(self, state: StateWriter) -> None:
        state.put(b"seen", str(self.seen).encode())

    def rollback(self) -> None:
        self.seen = self._before


class OtherSide(Exporter[ExporterConfig]):
    """Keeps the requests that it is sent."""

    Config = ExporterConfig
    signals = ALL

    def __init__(self) -> None:
        super().__init__(ExporterConfig(), Context("other_side", Path(), CollectorRegistry()))
        self.bodies: list[bytes] = []
        self.items = 0

    def encode(self, batch: SpanBatch) -> Iterable[Payload]:
        raise AssertionError("no spans come here")

    def encode_requests(self, batch: RequestBatch) -> Iterable[Payload]:
        yield Payload(batch.data.tobytes(), {"last": batch.position.last}, batch.items)

    def send(self, payload: Payload) -> None:
        self.bodies.append(payload.body)
        self.items += payload.items


class Rig:
    """Stores, one pipeline of a signal, one exporter. `other_side` outlives it."""

    def __init__(self, folder: Path, signal: Signal, other_side: OtherSide) -> None:
        self.id, self.registry, self.shout = f"{signal}/test", CollectorRegistry(), Shout()
        self.store = StateStore(folder / "state", SEALER)
        self.inbox = Inbox(folder / "inbox", max_bytes=2**26, sealer=SEALER)
        outlet = Outlet(f"{self.id}/other_side", other_side, self.store.outbox(f"{self.id}/other_side"), 2**26)
        self.delivery = Delivery(outlet, RetryConfig(), ExporterMetrics(self.registry))
        self.queue = self.inbox.queue(self.id)
        work = RequestsWork(signal, self.id, [self.shout], [outlet])
        self.pipeline = Pipeline(
            self.id, self.queue, self.store, work, BatchConfig(timeout=0), PipelineMetrics(self.registry)
        )
        self.pipeline.load()

    def settle(self) -> None:
        """Start, and wait until nothing waits any more."""
        self.pipeline.start()
        self.delivery.start()
        wait_for(lambda: self.pipeline.position >= self.queue.last and not self.delivery.outlet.outbox.peek())
        wait_for(lambda: not self.queue.bytes)

    @property
    def letter(self) -> DeadLetter:
        """The only dead letter that there is."""
        letters = DeadLetters(self.store)
        (head,) = letters.list()
        letter = letters.get(head.id)
        assert letter is not None
        return letter

    def close(self) -> None:
        self.pipeline.stop(time.monotonic())
        self.delivery.stop(time.monotonic())
        self.inbox.close()
        self.store.close()


@contextmanager
def rig(folder: Path, signal: Signal, other_side: OtherSide) -> Iterator[Rig]:
    made = Rig(folder, signal, other_side)
    try:
        yield made
    finally:
        made.close()


def test_requests_are_joined_rewritten_and_delivered(tmp_path: Path) -> None:
    """What the exporter gets is one request with the records of all, as the processor left them."""
    other_side = OtherSide()
    with rig(tmp_path, Signal.LOGS, other_side) as running:
        append(running.inbox, *(logs(record("said"), record(f"{n}")) for n in range(5)), queues=(running.id,), items=2)
        running.settle()
        assert running.shout.seen == 10
        assert running.registry.get_sample_value("spanledger_pipeline_items_total", {"pipeline": running.id}) == 10
    request = REQUESTS[Signal.LOGS].message.FromString(b"".join(other_side.bodies))
    said = [r.body.string_value for g in request.resource_logs for s in g.scope_logs for r in s.log_records]  # type: ignore[attr-defined]
    assert said == [text for n in range(5) for text in ("SAID", f"{n}")]
    assert other_side.items == 10


def test_a_guilty_request_ends_up_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The rest is delivered, what the processor remembers is what was committed, and nothing is quoted."""
    other_side = OtherSide()
    bodies = [metrics(2, name=f"metric.{n}") for n in range(9)]
    bodies[4] = metrics(2, name=GUILTY.decode())
    with rig(tmp_path, Signal.METRICS, other_side) as running:
        append(running.inbox, *bodies, queues=(running.id,), items=2)
        running.settle()
        letter = running.letter
        assert (letter.kind, letter.origin, letter.body) == ("request", running.id, bodies[4])
        assert running.shout.seen == 16
        assert GUILTY.decode() not in caplog.text
        with running.store.reader() as reader:
            assert reader.component(f"{running.id}/shout").get(b"seen") == b"16"
    request = REQUESTS[Signal.METRICS].message.FromString(b"".join(other_side.bodies))
    names = [m.name for g in request.resource_metrics for s in g.scope_metrics for m in s.metrics]  # type: ignore[attr-defined]
    assert names == [name for n in range(9) if n != 4 for name in (f"metric.{n}", "gateway.cost")]


def test_a_restart_goes_on_where_the_last_commit_was(tmp_path: Path) -> None:
    """Processor state and position are loaded; nothing is delivered twice."""
    other_side = OtherSide()
    for number in range(3):
        with rig(tmp_path, Signal.LOGS, other_side) as running:
            append(running.inbox, logs(record(f"{number}")), queues=(running.id,))
            running.settle()
            assert running.shout.seen == number + 1
    assert other_side.items == 3
