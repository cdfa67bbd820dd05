"""From an outbox to the other side: one thread an exporter, retried with backoff, never out of order."""

from __future__ import annotations

import logging
import random
import threading
import time
from dataclasses import dataclass
from typing import Any

from collector.component import Exporter, Payload
from collector.errors import PartlyRefused, Permanent, Retryable, StoreError, StoreFull
from collector.store import Outbox
from collector.telemetry import ExporterMetrics
from config.delivery import RetryConfig

logger = logging.getLogger(__name__)

#: How often a thread that waits looks whether it shall stop.
TICK_S = 0.2
#: How often an exporter that holds payloads back is asked again: what came meanwhile may be urgent.
HOLD_S = 1.0

Waiting = list[tuple[int, Payload]]


@dataclass(frozen=True, slots=True)
class Outlet:
    """An exporter at the end of a pipeline, and the queue on disk that leads to it."""

    name: str
    exporter: Exporter[Any]
    outbox: Outbox
    max_bytes: int

    @property
    def full(self) -> bool:
        return self.outbox.bytes >= self.max_bytes


class Delivery:
    """Sends what waits in one outbox, oldest first. A delivery that fails is tried again, unless it never can succeed."""

    def __init__(self, outlet: Outlet, retry: RetryConfig, metrics: ExporterMetrics) -> None:
        self.outlet = outlet
        self.failed: str | None = None  # what the last attempt failed with; None while things work
        self.attempts = 0  # that failed, of what is sent next
        self.next_attempt: float | None = None  # Unix time; None: under way, or nothing to send
        self.last_error: tuple[float, str] | None = None  # Unix time, and what it said; stays when things work again
        self.began = threading.Event()  # the exporter has started, or could not at once
        self._retry = retry
        self._metrics = metrics
        self._stop = threading.Event()
        self._drain_until = float("inf")
        self._thread = threading.Thread(target=self._run, name=f"exporter {outlet.name}", daemon=True)

    def start(self) -> None:
        """Begin with what is left from before."""
        self._thread.start()

    def stop(self, deadline: float) -> None:
        """Send what waits until `deadline` (monotonic seconds), then end. What is left waits on disk.

        A `send` that hangs is given up on: its payload is sent again after the next start.
        """
        self._drain_until = deadline
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(max(deadline - time.monotonic(), 0) + 2)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def lag(self) -> float:
        """For how many seconds the oldest payload has waited; 0 where none waits."""
        try:
            oldest = self.outlet.outbox.oldest_ns
        except StoreError:  # the disk's trouble is told elsewhere
            return 0.0
        return max(time.time() - oldest / 1e9, 0.0) if oldest is not None else 0.0

    @property
    def wait(self) -> float | None:
        """Seconds until the next attempt; None where none is waited for."""
        moment = self.next_attempt
        return None if moment is None else max(moment - time.time(), 0.0)

    def _run(self) -> None:
        exporter = self.outlet.exporter
        if not self._attempt(self._begin, None):
            return
        while not self._over():
            try:
                waiting = self.outlet.outbox.peek(exporter.sees)
            except StoreError as error:
                self._note(error)
                self._pause(1.0)
                continue
            if not waiting:
                if self._stop.is_set():
                    return
                self.outlet.outbox.wait(TICK_S)
                continue
            numbers, hold = exporter.choose([payload for _, payload in waiting])
            if not numbers:
                if self._stop.is_set():
                    return  # what is held back waits on disk
                self._stop.wait(min(max(hold, TICK_S), HOLD_S))
                continue
            what = [waiting[number] for number in numbers]
            payload = what[0][1] if len(what) == 1 else exporter.join([payload for _, payload in what])
            if self._attempt(lambda payload=payload: exporter.send(payload), what):
                self._remove(what)

    def _begin(self) -> None:
        try:
            self.outlet.exporter.start()
        finally:
            self.began.set()

    def _attempt(self, action: object, what: Waiting | None) -> bool:
        """Run until it succeeds (True); False: the payload was buried, or the stop's time is over."""
        assert callable(action)
        first, pause = time.monotonic(), self._retry.initial_interval
        while True:
            try:
                action()
                self._works()
                return True
            except PartlyRefused as error:
                self._works()
                assert what is not None
                self._keep_copy(what, error)
                return False
            except Permanent as error:
                if what is not None:
                    self._bury(what, str(error))
                    return False
                # Not able to start: nothing can be sent, nothing is lost. Somebody has to mend the other side.
                wanted = None
                self._note(error)
            except Exception as error:
                wanted = error.retry_after if isinstance(error, Retryable) else None
                self._note(error)
                elapsed = time.monotonic() - first
                if what is not None and 0 < self._retry.max_elapsed_time <= elapsed:
                    self._bury(what, f"given up after {elapsed:.0f} s: {error}")
                    return False
            if what is not None:
                self._metrics.failed_attempts.labels(self.outlet.name).inc()
            self.attempts += 1
            # The other side's wish stands above the backoff; but one of no seconds must not make us call without a pause.
            least = min(pause, self._retry.initial_interval)
            seconds = max(wanted, least) if wanted is not None else pause * random.uniform(0.5, 1.0)
            self.next_attempt = time.time() + seconds
            if not self._pause(seconds):
                return False
            self.next_attempt = None
            pause = min(pause * self._retry.multiplier, self._retry.max_interval)

    def _works(self) -> None:
        if self.failed:
            logger.info("exporter %s: works again", self.outlet.name)
        self.failed, self.attempts = None, 0

    def _remove(self, what: Waiting) -> None:
        self._metrics.sent.labels(self.outlet.name).inc(_items(what))
        while True:
            try:
                self.outlet.outbox.done(*(seq for seq, _ in what))
                return
            except StoreError as error:
                # It arrived; until that is on disk it may be sent once more, and the other side knows it by its token.
                self._note(error)
                if not self._pause(1.0):
                    return

    def _keep_copy(self, what: Waiting, error: PartlyRefused) -> None:
        """Of what was taken in part a dead letter tells, with all of it: which items were refused is not known. Where the
        letters are full it waits, but is not sent again: the other side has it."""
        name, items = self.outlet.name, _items(what)
        refused = min(error.rejected, items)
        self._metrics.sent.labels(name).inc(items - refused)
        self._metrics.rejected.labels(name).inc(refused)
        self.last_error = (time.time(), str(error))
        logger.error("exporter %s: %s; a copy of all %d is kept as a dead letter", name, error, items)
        for seq, _ in what:
            while True:
                try:
                    self.outlet.outbox.bury(seq, f"taken in part: {error}")
                    self._metrics.dead_letters.labels(name).inc()
                    self.failed = None
                    break
                except StoreError as refusal:
                    self._note(refusal)
                    if not self._pause(1.0):
                        return

    def _bury(self, what: Waiting, reason: str) -> None:
        """Make a dead letter of a payload. Where these are full it stays in the outbox, and is sent again after a pause:
        by then there may be room, or the other side may have been mended."""
        self.last_error, self.attempts = (time.time(), reason), 0
        for seq, payload in what:
            while True:
                try:
                    self.outlet.outbox.bury(seq, reason)
                except StoreFull as error:
                    self._note(error, f"{payload.items} items can never be delivered ({reason}), and {error}")
                    self._pause(self._retry.max_interval)
                    return
                except StoreError as error:
                    self._note(error)
                    if not self._pause(1.0):
                        return
                    continue
                logger.error("exporter %s: %d items can never be delivered: %s; they are kept as a dead letter", self.outlet.name, payload.items, reason)  # fmt: skip
                self._metrics.dead_letters.labels(self.outlet.name).inc()
                break

    def _note(self, error: Exception, text: str = "") -> None:
        text = text or str(error) or type(error).__name__
        if text != self.failed:
            logger.warning("exporter %s: %s; trying again", self.outlet.name, text)
        self.failed = text
        self.last_error = (time.time(), text)

    def _pause(self, seconds: float) -> bool:
        """Wait; False once the stop's time is over."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._over():
            if self._stop.is_set():
                time.sleep(min(left, TICK_S))
            else:
                self._stop.wait(left)
        return not self._over()

    def _over(self) -> bool:
        return self._stop.is_set() and time.monotonic() >= self._drain_until


def _items(what: Waiting) -> int:
    return sum(payload.items for _, payload in what)
