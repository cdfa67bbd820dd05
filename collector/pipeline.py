"""The loop of a pipeline: read, process, commit. What is done with a batch depends on the signal: `work.py`.

    queue ─▶ read ─▶ work.process ─▶ commit ─▶ trim
                        │ raises
                        └─▶ halve … bury

What a batch leads to (deliveries, ledger and processor state, the position in the queue) becomes durable in one
transaction, or not at all. A batch that raises is halved until the guilty request is alone; that one goes to the
dead-letter store, the rest flows on. A disk that says no is nobody's fault: the same batch is tried again until it fits.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Sequence
from typing import Any

from collector.delivery import TICK_S
from collector.errors import StoreError, StoreFull
from collector.history import Recall
from collector.store import DeadLetter, Entry, InboxQueue, StateStore
from collector.store.crypto import Damaged
from collector.telemetry import PipelineMetrics
from collector.work import Outcome, Work
from config.model import BatchConfig

logger = logging.getLogger(__name__)

RETRY_COMMIT_S = 1.0
#: Trimming costs a commit of the inbox's own: not after every batch.
TRIM_EVERY_S = 1.0


class Pipeline:
    """One pipeline, on a thread of its own."""

    def __init__(
        self,
        id_: str,
        queue: InboxQueue,
        store: StateStore,
        work: Work[Any],
        batching: BatchConfig,
        metrics: PipelineMetrics,
        recall: Recall | None = None,
    ) -> None:
        self.id = id_
        self.queue = queue
        self.position = 0
        self.failed: str | None = None  # why nothing moves at the moment, for health and people
        self._store = store
        self._work = work
        self._batching = batching
        self._metrics = metrics
        self._recall = recall
        self._stop = threading.Event()
        self._drain_until = float("inf")
        self._trimmed_at, self._trimmed_to = 0.0, -1
        self._thread = threading.Thread(target=self._run, name=f"pipeline {id_}", daemon=True)

    def load(self) -> None:
        """Read the position and rebuild what is remembered. Before `start`."""
        with self._store.reader() as reader:
            self.position = reader.position(self.id)
            self._work.load(reader)

    def start(self) -> None:
        """Begin. What was in the queue before is taken first."""
        self._thread.start()

    def stop(self, deadline: float) -> None:
        """Empty the queue until `deadline` (monotonic seconds), then end. What is left waits on disk."""
        self._drain_until = deadline
        self._stop.set()
        if self._thread.is_alive():
            # A batch that has begun is finished: a second or two past the deadline at most.
            self._thread.join(max(deadline - time.monotonic(), 0) + 10)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def waiting(self) -> tuple[int, int]:
        """Items and bytes in the inbox that this pipeline has still to do."""
        return self.queue.waiting(self.position)

    @property
    def lag(self) -> float:
        """For how many seconds the oldest request that waits has been in the inbox; 0 where none waits."""
        try:
            oldest = self.queue.oldest_ns(self.position)
        except StoreError:  # the disk's trouble is told elsewhere
            return 0.0
        return max(time.time() - oldest / 1e9, 0.0) if oldest is not None else 0.0

    # The loop ------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        if self._recall is not None:
            self._recall.first(self._waits)
        while not self._stopped():
            if self._recall is not None:
                self._recall.again()
            if full := [outlet.name for outlet in self._work.outlets if outlet.full]:
                self.failed = f"a sending queue is full: {', '.join(full)}"
                time.sleep(TICK_S)
                continue
            if not self.queue.wait(self.position, TICK_S):
                self.failed = None
                if self._stop.is_set():
                    break
                self._trim(force=True)
                continue
            self._gather()
            try:
                entries = self.queue.read(self.position, self._batching.max_size, self._batching.max_items)
            except StoreError as error:
                self._failing(f"the inbox cannot be read: {error}")
                self._pause(RETRY_COMMIT_S)
                continue
            if entries:
                self._handle(entries)
                self._trim()
            del entries  # and with them the buffer of their bodies: the next batch can have it
        self._trim(force=True)

    def _stopped(self) -> bool:
        return self._stop.is_set() and time.monotonic() >= self._drain_until

    def _waits(self, why: str | None) -> bool:
        """Note why the first batch has to wait, None for no more; whether it may."""
        self.failed = why
        return not self._stop.is_set()

    def _failing(self, why: str) -> None:
        """Note what keeps the pipeline from going on; say it once, not at every attempt."""
        if why != self.failed:
            logger.error("pipeline %s: %s; trying again", self.id, why)
        self.failed = why

    def _pause(self, seconds: float) -> None:
        """Wait before another attempt; shorter, but still, while a stop works off what is there."""
        if self._stop.wait(seconds):
            time.sleep(TICK_S)

    def _gather(self) -> None:
        """Wait a moment for more, so that batches are worth their fixed cost; not when there is enough."""
        most = self._batching
        until = time.monotonic() + most.timeout
        while not self._stop.is_set():
            items, size = self.waiting
            left = until - time.monotonic()
            if size >= most.max_size or items >= most.max_items or left <= 0:
                return
            self._stop.wait(min(left, 0.02))

    def _trim(self, force: bool = False) -> None:
        now = time.monotonic()
        if self.position == self._trimmed_to:
            return
        if not force and now - self._trimmed_at < TRIM_EVERY_S and self.queue.bytes < 4 * self._batching.max_size:
            return
        self._trimmed_at = now
        try:
            self.queue.trim(self.position)
            self._trimmed_to = self.position
        except StoreError as error:
            logger.warning("inbox: finished requests cannot be removed now: %s", error)

    # One batch -----------------------------------------------------------------------------------------------------

    def _handle(self, entries: Sequence[Entry]) -> None:
        """Process and commit these entries; what cannot be processed is isolated."""
        if any(entry.damage for entry in entries):
            if len(entries) > 1:
                self._halve(entries)
            else:
                logger.error("pipeline %s: a stored request of %d items is lost: %s", self.id, entries[0].items, entries[0].damage)  # fmt: skip
                self._bury(entries[0], f"the stored request is damaged: {entries[0].damage}")
            return
        started = time.perf_counter()
        try:
            outcome = self._work.process(entries)
            processed = time.perf_counter()
            committed = self._commit(entries, outcome)
        except Exception as error:
            self._work.rollback()
            if isinstance(error, StoreError) and not isinstance(error, Damaged):
                # Nobody's fault; the position has not moved, so the loop comes to these entries again.
                self._failing(f"the state cannot be read: {error}")
                self._pause(RETRY_COMMIT_S)
            elif len(entries) > 1:
                logger.warning("pipeline %s: a batch of %d requests failed (%s); halving it", self.id, len(entries), _name(error))  # fmt: skip
                self._halve(entries)
            else:
                logger.error("pipeline %s: a request cannot be processed: %s; it is kept as a dead letter. It was raised by\n%s", self.id, _name(error), _frames(error))  # fmt: skip
                self._bury(entries[0], f"processing raised {_name(error)}")
            return
        if committed:
            self._work.committed()
            self._metrics.done(self.id, len(entries), outcome.items, outcome.calls, processed - started, time.perf_counter() - processed)  # fmt: skip

    def _halve(self, entries: Sequence[Entry]) -> None:
        middle = len(entries) // 2
        self._handle(entries[:middle])
        if self.position >= entries[middle - 1].seq:  # else the first half could not be committed before a stop
            self._handle(entries[middle:])

    def _commit(self, entries: Sequence[Entry], outcome: Outcome[Any]) -> bool:
        """Make durable what the batch leads to. Tries until the disk takes it, or until the end of a stop (False)."""
        while True:
            try:
                with self._store.transaction() as transaction:
                    if transaction.position(self.id) >= entries[-1].seq:
                        # The commit before raised, yet it is on disk: what it moved must not move twice.
                        self.position = entries[-1].seq
                        return True
                    self._work.save(transaction, outcome)
                    transaction.set_position(self.id, entries[-1].seq)
            except Damaged:
                raise  # a value in the state is broken: trying again would not mend it
            except StoreError as error:
                self._failing(f"the state cannot be written: {error}")
                self._pause(RETRY_COMMIT_S)
                if self._stopped():
                    return False
                continue
            self.failed = None
            self.position = entries[-1].seq
            return True

    def _bury(self, entry: Entry, reason: str) -> None:
        """Move one request to the dead-letter store."""
        letter = DeadLetter("request", self.id, reason, entry.items, bytes(entry.body), lost=bool(entry.damage))
        while True:
            try:
                with self._store.transaction() as transaction:
                    if transaction.position(self.id) < entry.seq:
                        transaction.dead_letter(letter)
                        transaction.set_position(self.id, entry.seq)
            except StoreError as error:
                # The dead letters may be full: a person has to decide, and this request waits for it.
                self._failing(str(error) if isinstance(error, StoreFull) else f"the state cannot be written: {error}")
                self._pause(RETRY_COMMIT_S)
                if self._stopped():
                    return
                continue
            self.failed = None
            self.position = entry.seq
            self._metrics.dead_letters.labels(self.id).inc()
            return


def _frames(error: Exception) -> str:
    """Where an error was raised, without its message."""
    return "".join(traceback.format_tb(error.__traceback__)).rstrip()


def _name(error: Exception) -> str:
    """The kind of an error without its message, which might quote a value."""
    return f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
