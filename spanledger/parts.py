"""What a config asks for, built and connected, and what these parts say of themselves.

receivers ─▶ inbox ─▶ one pipeline a thread ─▶ outboxes ─▶ one exporter a thread
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from collector.component import Context, Exporter, Processor, Receiver, Stage
from collector.delivery import Delivery, Outlet
from collector.errors import Overloaded, SpanledgerError, StoreError, StoreFull
from collector.findings_book import FindingsBook
from collector.history import Recall
from collector.ledger import Ledger
from collector.pipeline import Pipeline
from collector.replicas import Exchange, collector_id
from collector.signals import Signal, signal_of
from collector.store import DeadLetters, Inbox, StateStore, open_sealer
from collector.telemetry import ExporterMetrics, PipelineMetrics, new_registry, watch_dead_letters
from collector.verdict import Renamed, Verdicts
from collector.work import RequestsWork, TracesWork, Work
from config.delivery import ExporterConfig
from config.model import ComponentSpec, LoadedConfig, PipelineConfig

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 5.0


def _called(processors: Sequence[Processor[Any]], dimension: str, value: str) -> str:
    """What a value of a dimension is called behind all of them."""
    for processor in processors:
        value = processor.called(dimension, value)
    return value


@dataclass(frozen=True, slots=True)
class _Intake:
    """Where a receiver puts requests: the queues of the pipelines that it feeds, all in one commit."""

    inbox: Inbox
    queues: Mapping[Signal, tuple[str, ...]]

    @property
    def signals(self) -> frozenset[Signal]:
        return frozenset(self.queues)

    def submit(self, signal: Signal, body: bytes, items: int, done: Callable[[Exception | None], None]) -> None:
        try:
            self.inbox.append(self.queues[signal], body, items, done)
        except StoreFull:
            raise Overloaded("the inbox is full; come back later", retry_after=RETRY_AFTER_S) from None


class Parts:
    """Everything between the senders and the other side, built from the end of the way to its beginning. Nothing runs yet.

    Raises `SpanledgerError` where the config asks for what cannot be; then nothing is left open.
    """

    def __init__(self, config: LoadedConfig) -> None:
        settings = config.service
        self.config = config
        self.metrics = new_registry()
        self.ready = False  # whether all of them run
        self._replaying = threading.Lock()  # a request that two replay at once would go back twice
        with contextlib.ExitStack() as undo:
            try:
                settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise SpanledgerError(f"service.data_dir: cannot make the directory {settings.data_dir}: {error.strerror}") from None  # fmt: skip
            if not os.access(settings.data_dir, os.W_OK | os.X_OK):
                raise SpanledgerError(f"service.data_dir: {settings.data_dir} cannot be written by the user who runs this (uid {os.getuid()}); change its owner, or name another directory")  # fmt: skip
            sealer = open_sealer(settings.encryption, settings.data_dir)
            self.store = StateStore(settings.data_dir / "state", sealer, dead_letter_bytes=settings.dead_letters.max_size)  # fmt: skip
            undo.callback(self.store.close)
            self.collector = collector_id(self.store)
            self.inbox = Inbox(settings.data_dir / "inbox", max_bytes=settings.inbox.max_size, sealer=sealer)
            undo.callback(self.inbox.close)
            self.letters = DeadLetters(self.store)
            watch_dead_letters(self.metrics, self.letters)
            self._pipeline_metrics, self._exporter_metrics = PipelineMetrics(self.metrics), ExporterMetrics(self.metrics)  # fmt: skip
            self.deliveries: list[Delivery] = []
            self.exchanges: list[Exchange] = []  # with other collectors
            self.verdicts: list[tuple[Pipeline, Verdicts]] = []  # who knows what is used of budgets, by pipeline
            self.pipelines = [self._pipeline(id_, wanted, undo) for id_, wanted in settings.pipelines.items()]
            self.receivers = self._receivers(settings.pipelines)
            self._warn_of_leftovers()
            self._undo = undo.pop_all()

    def close(self) -> None:
        """Free what was opened. Nothing may run any more."""
        self._undo.close()

    def _context(self, spec: ComponentSpec, signal: Signal = Signal.TRACES) -> Context:
        return Context(spec.id, self.config.service.data_dir, self.metrics, signal, self.config.sources, self.collector)

    def _pipeline(self, id_: str, wanted: PipelineConfig, undo: contextlib.ExitStack) -> Pipeline:
        signal = signal_of(id_)
        processors: list[Processor[Any]] = []
        for name in wanted.processors:
            spec = self.config.processors[name]
            processors.append(spec.cls(spec.config, self._context(spec, signal)))
            undo.callback(processors[-1].close)
        if not any(processor.stage is Stage.REDACTION for processor in processors):
            logger.warning("pipeline %s has no redaction: personal data, prompts and secrets are kept and sent on as they come", id_)  # fmt: skip
        outlets = []
        for name in wanted.exporters:
            spec = self.config.exporters[name]
            exporter: Exporter[Any] = spec.cls(spec.config, self._context(spec, signal))
            undo.callback(exporter.close)
            options = spec.config if isinstance(spec.config, ExporterConfig) else ExporterConfig()
            outlet = Outlet(f"{id_}/{name}", exporter, self.store.outbox(f"{id_}/{name}"), options.sending_queue.max_size)  # fmt: skip
            outlets.append(outlet)
            self.deliveries.append(Delivery(outlet, options.retry_on_failure, self._exporter_metrics))
            self._exporter_metrics.watch(outlet.name, outlet.outbox, outlet.max_bytes, self.deliveries[-1])
        with self.store.reader() as reader:
            queue = self.inbox.queue(id_, after=reader.position(id_))
        work = self._work(id_, signal, processors, outlets)
        outlet_of_calls = next((o for o in outlets if type(o.exporter).history is not Exporter.history), None)
        recall = None
        if outlet_of_calls is not None and signal is Signal.TRACES:
            recall = Recall(self.letters, outlet_of_calls, lambda: work.lacks_history, partial(work.recall, self.store))
        pipeline = Pipeline(id_, queue, self.store, work, self.config.service.batch, self._pipeline_metrics, recall)
        self._pipeline_metrics.watch(pipeline)
        self._share(pipeline, processors, outlets)
        called = partial(_called, processors)
        self.verdicts += [(pipeline, Renamed(one.verdicts, called)) for one in processors if one.verdicts is not None]
        return pipeline

    def _work(self, id_: str, signal: Signal, processors: list[Processor[Any]], outlets: list[Outlet]) -> Work[Any]:
        """What the pipeline does with its batches."""
        if signal is not Signal.TRACES:
            return RequestsWork(signal, id_, processors, outlets)
        ledger, book = Ledger(self.config.service.ledger, self.metrics), FindingsBook(self.metrics)
        return TracesWork(id_, processors, outlets, ledger, book, self.store)

    def _share(self, pipeline: Pipeline, processors: Sequence[Processor[Any]], outlets: Sequence[Outlet]) -> None:
        """Have processors that count together with other collectors hear of these."""
        together = [(one, one.listener) for one in processors if one.listener is not None]
        if not together:
            return
        if len(together) > 1 or self.exchanges:
            raise SpanledgerError("budgets can be shared in one pipeline only, by one processor: what it counts has one number per collector")  # fmt: skip
        shares, name = next(((s, o.name) for o in outlets if (s := o.exporter.shares()) is not None), (None, ""))
        if shares is None:
            raise SpanledgerError(
                f"pipeline {pipeline.id}: {together[0][0].context.id} is shared, and no exporter of the pipeline has a store to share it in: "
                "that is clickhouse with the DSN of a server"
            )

        def wake() -> None:
            if pipeline.queue.last <= pipeline.position:  # else there will be a batch
                with contextlib.suppress(StoreError):  # the inbox is full, or closed
                    self.inbox.append((pipeline.id,), b"", 0, lambda _: None)

        self.exchanges.append(Exchange(name, shares, [listener for _, listener in together], wake, self.metrics))

    def _receivers(self, pipelines: Mapping[str, PipelineConfig]) -> list[tuple[Receiver[Any], _Intake]]:
        fed: dict[str, dict[Signal, tuple[str, ...]]] = {}
        for id_, wanted in pipelines.items():
            for name in wanted.receivers:
                queues, signal = fed.setdefault(name, {}), signal_of(id_)
                queues[signal] = (*queues.get(signal, ()), id_)
        built = []
        for name, queues in fed.items():
            spec = self.config.receivers[name]
            built.append((spec.cls(spec.config, self._context(spec)), _Intake(self.inbox, queues)))
        return built

    def _warn_of_leftovers(self) -> None:
        """Say what waits on disk for a pipeline or an exporter that the config no longer has."""
        pipelines, outlets = {p.id for p in self.pipelines}, {d.outlet.name for d in self.deliveries}
        for name in self.inbox.queues:
            if name not in pipelines and (waiting := self.inbox.queue(name).items):
                logger.warning("%d items wait for pipeline %s, which the config does not have; they stay until it does", waiting, name)  # fmt: skip
        for name in self.store.outboxes:
            if name not in outlets and (waiting := self.store.outbox(name).items):
                logger.warning("%d items wait for exporter %s, which the config does not have; they stay until it does", waiting, name)  # fmt: skip

    # What they say of themselves ------------------------------------------------------------------------------------

    @property
    def workers(self) -> list[Pipeline | Delivery]:
        """What runs on threads of its own."""
        return [*self.pipelines, *self.deliveries]

    def problems(self) -> list[str]:
        """What keeps things from moving at the moment, for people. Empty: all is well."""
        found = [f"pipeline {p.id}: {p.failed}" for p in self.pipelines if p.failed]
        found += [f"pipeline {p.id}: its thread ended" for p in self.pipelines if self.ready and not p.alive]
        found += [f"exporter {d.outlet.name}: {d.failed}" for d in self.deliveries if d.failed]
        found += [f"exporter {d.outlet.name}: its thread ended" for d in self.deliveries if self.ready and not d.alive]
        if self.inbox.failed:
            found.append(f"inbox: {self.inbox.failed}")
        return found

    def budgets(self, now_ns: int, most: int) -> list[dict[str, Any]]:
        """What is used of each pipeline's budgets; of each the subjects that used most. From any thread."""
        return [
            {"pipeline": pipeline.id, **budget}
            for pipeline, source in self.verdicts
            for budget in source.report(now_ns, most)
        ]

    def replay_letters(self, ids: Iterable[int]) -> int:
        """Send dead letters back to where they came from; how many there were. Raises `StoreError`. From any thread."""
        origins = {p.id for p in self.pipelines} | {d.outlet.name for d in self.deliveries}
        with self._replaying:
            done = self.letters.replay(ids, self.inbox, origins)
        logger.info("replayed %d dead letters", done)
        return done

    def drop_letters(self, ids: Iterable[int]) -> int:
        """Delete dead letters for good; how many there were. Raises `StoreError`. From any thread."""
        done = self.letters.drop(ids)
        logger.info("dropped %d dead letters", done)
        return done

    @property
    def endpoints(self) -> list[str]:
        """Where senders may send, for people."""
        return [endpoint for receiver, _ in self.receivers for endpoint in receiver.endpoints]
