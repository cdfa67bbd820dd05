"""Deliveries from an outbox: in order, retried, buried only when they never can succeed, drained at a stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import pytest
from prometheus_client import CollectorRegistry

from collector.component import Context, Exporter, Payload
from collector.delivery import Delivery, Outlet
from collector.errors import PartlyRefused, Permanent, Retryable, StoreError, StoreFull
from collector.telemetry import ExporterMetrics
from config.delivery import ExporterConfig, RetryConfig


class Memory:
    """An outbox in memory."""

    def __init__(self, *bodies: bytes) -> None:
        self.waiting = dict(enumerate((Payload(body, items=1) for body in bodies), start=1))
        self.buried: list[tuple[int, str]] = []
        self.refuse_done = 0

    def peek(self, n: int = 1) -> list[tuple[int, Payload]]:
        return sorted(self.waiting.items())[:n]

    def wait(self, timeout: float) -> bool:
        time.sleep(min(timeout, 0.005))
        return bool(self.waiting)

    def done(self, *seqs: int) -> None:
        if self.refuse_done:
            self.refuse_done -= 1
            raise StoreError("no space left on device")
        for seq in seqs:
            del self.waiting[seq]

    def bury(self, seq: int, reason: str) -> None:
        self.buried.append((seq, reason))
        del self.waiting[seq]

    @property
    def bytes(self) -> int:
        return sum(len(p.body) for p in self.waiting.values())

    @property
    def count(self) -> int:
        return len(self.waiting)


class Scripted(Exporter[ExporterConfig]):
    """Raises what the script says, then takes everything."""

    Config = ExporterConfig

    def __init__(self, *script: Exception, start: tuple[Exception, ...] = ()) -> None:
        super().__init__(ExporterConfig(), Context("scripted", data_dir=None, metrics=CollectorRegistry()))  # type: ignore[arg-type]
        self.script, self.start_script = list(script), list(start)
        self.got: list[bytes] = []

    def encode(self, batch: object) -> list[Payload]:
        return []

    def start(self) -> None:
        if self.start_script:
            raise self.start_script.pop(0)

    def send(self, payload: Payload) -> None:
        if self.script:
            raise self.script.pop(0)
        self.got.append(payload.body)


FAST = RetryConfig(initial_interval=0.01, max_interval=0.02)


def delivery(exporter: Scripted, outbox: Memory, retry: RetryConfig = FAST) -> Delivery:
    outlet = Outlet("traces/scripted", exporter, outbox, 1 << 20)  # type: ignore[arg-type]
    return Delivery(outlet, retry, ExporterMetrics(exporter.context.metrics))


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < until, "did not happen within 5 s"
        time.sleep(0.005)


def sample(exporter: Scripted, name: str) -> float | None:
    return exporter.context.metrics.get_sample_value(name, {"exporter": "traces/scripted"})


def test_payloads_arrive_in_order_and_leave_the_outbox() -> None:
    exporter, outbox = Scripted(), Memory(b"one", b"two", b"three")
    running = delivery(exporter, outbox)
    running.start()
    wait_for(lambda: not outbox.waiting)
    running.stop(time.monotonic() + 1)
    assert exporter.got == [b"one", b"two", b"three"]
    assert sample(exporter, "spanledger_exporter_sent_items_total") == 3
    assert not running.alive


@pytest.mark.parametrize("error", [Retryable("away"), OSError("reset"), RuntimeError("a bug in an exporter")])
def test_what_may_succeed_later_is_tried_again_and_never_overtaken(error: Exception) -> None:
    exporter, outbox = Scripted(error, error, error), Memory(b"one", b"two")
    running = delivery(exporter, outbox)
    running.start()
    wait_for(lambda: not outbox.waiting)
    running.stop(time.monotonic() + 1)
    assert exporter.got == [b"one", b"two"]
    assert outbox.buried == []
    assert sample(exporter, "spanledger_exporter_failed_attempts_total") == 3
    assert running.failed is None


def test_what_never_can_succeed_is_buried_and_the_rest_goes_on() -> None:
    exporter, outbox = Scripted(Permanent("a type mismatch")), Memory(b"bad", b"good")
    running = delivery(exporter, outbox)
    running.start()
    wait_for(lambda: not outbox.waiting)
    running.stop(time.monotonic() + 1)
    assert exporter.got == [b"good"]
    assert outbox.buried == [(1, "a type mismatch")]


def test_by_default_nobody_gives_up_and_with_a_limit_the_payload_is_kept_as_a_dead_letter() -> None:
    exporter, outbox = Scripted(*[Retryable("away")] * 1000), Memory(b"one")
    running = delivery(exporter, outbox, RetryConfig(initial_interval=0.01, max_interval=0.01, max_elapsed_time=0.1))
    running.start()
    wait_for(lambda: bool(outbox.buried))
    running.stop(time.monotonic() + 1)
    assert outbox.buried[0][1].startswith("given up after")
    assert RetryConfig().max_elapsed_time == 0


def test_an_exporter_that_cannot_start_is_tried_until_it_can() -> None:
    exporter = Scripted(start=(Retryable("no server"), Permanent("wrong schema"), OSError("refused")))
    outbox = Memory(b"one")
    running = delivery(exporter, outbox)
    running.start()
    wait_for(lambda: not outbox.waiting)
    running.stop(time.monotonic() + 1)
    assert exporter.got == [b"one"]
    assert outbox.buried == []


def test_the_other_sides_wish_to_wait_stands_above_the_backoff() -> None:
    exporter, outbox = Scripted(Retryable("busy", retry_after=0.3)), Memory(b"one")
    running = delivery(exporter, outbox)
    started = time.monotonic()
    running.start()
    wait_for(lambda: not outbox.waiting)
    assert time.monotonic() - started >= 0.3
    running.stop(time.monotonic() + 1)


def test_a_delivered_payload_stays_until_the_disk_takes_its_removal() -> None:
    exporter, outbox = Scripted(), Memory(b"one")
    outbox.refuse_done = 1
    running = delivery(exporter, outbox)
    running.start()
    wait_for(lambda: not outbox.waiting)
    running.stop(time.monotonic() + 1)
    assert exporter.got == [b"one"]


def test_a_stop_drains_what_waits_and_ends_in_time_when_the_other_side_is_away() -> None:
    exporter, outbox = Scripted(), Memory(*[b"x"] * 50)
    running = delivery(exporter, outbox)
    running.start()
    running.stop(time.monotonic() + 5)
    assert len(exporter.got) == 50

    away, kept = Scripted(*[Retryable("away")] * 10_000), Memory(b"kept")
    running = delivery(away, kept, RetryConfig())
    running.start()
    time.sleep(0.05)
    started = time.monotonic()
    running.stop(time.monotonic() + 0.3)
    assert time.monotonic() - started < 2
    assert not running.alive
    assert kept.count == 1


def test_a_send_that_hangs_does_not_hold_up_a_stop() -> None:
    release = threading.Event()

    class Hangs(Scripted):
        def send(self, payload: Payload) -> None:
            release.wait(10)

    exporter, outbox = Hangs(), Memory(b"one")
    running = delivery(exporter, outbox)
    running.start()
    time.sleep(0.05)
    started = time.monotonic()
    running.stop(time.monotonic() + 0.1)
    assert time.monotonic() - started < 3
    assert running.alive
    assert outbox.count == 1
    release.set()


def test_what_is_taken_in_part_is_kept_as_a_copy_and_never_sent_again() -> None:
    """The spans that the other side refused are not known one by one: all of them stay, and are counted."""
    exporter, outbox = Scripted(PartlyRefused("refused 1 of 1 items: too old", 1)), Memory(b"part", b"whole")
    running = delivery(exporter, outbox)
    running.start()
    wait_for(lambda: not outbox.waiting)
    running.stop(time.monotonic() + 1)
    assert exporter.got == [b"whole"]
    assert outbox.buried == [(1, "taken in part: refused 1 of 1 items: too old")]
    assert sample(exporter, "spanledger_exporter_rejected_items_total") == 1
    assert sample(exporter, "spanledger_exporter_dead_letters_total") == 1
    assert sample(exporter, "spanledger_exporter_sent_items_total") == 1
    assert running.failed is None
    assert running.last_error is not None
    assert "too old" in running.last_error[1]


def test_a_copy_waits_for_room_without_being_sent_again() -> None:
    class Full(Memory):
        refuse = 1

        def bury(self, seq: int, reason: str) -> None:
            if self.refuse:
                self.refuse -= 1
                raise StoreFull("the dead-letter store is full")
            super().bury(seq, reason)

    exporter, outbox = Scripted(PartlyRefused("refused 1 of 1 items", 1)), Full(b"part")
    running = delivery(exporter, outbox)
    running.start()
    wait_for(lambda: running.failed == "the dead-letter store is full")
    wait_for(lambda: not outbox.waiting)
    running.stop(time.monotonic() + 1)
    assert exporter.got == []
    assert len(outbox.buried) == 1


def test_what_is_going_on_can_be_told_while_it_fails() -> None:
    """Attempts, the last error, when the next attempt is; all of it goes with a success, but for the last error."""
    exporter, outbox = Scripted(*[Retryable("503", retry_after=0.3)] * 2), Memory(b"one")
    running = delivery(exporter, outbox)
    running.start()
    wait_for(lambda: running.attempts == 2)
    wait_for(lambda: running.wait is not None)
    assert 0 < (running.wait or 0) <= 0.3
    assert running.failed == "503"
    wait_for(lambda: not outbox.waiting)
    running.stop(time.monotonic() + 1)
    assert (running.attempts, running.wait, running.failed) == (0, None, None)
    assert running.last_error is not None
    assert running.last_error[1] == "503"
    assert abs(time.time() - running.last_error[0]) < 5


def test_a_wish_to_be_called_at_once_is_no_reason_not_to_pause() -> None:
    """Retry-After: 0 must not become a loop without a pause."""
    exporter, outbox = Scripted(*[Retryable("again", retry_after=0.0)] * 5), Memory(b"one")
    running = delivery(exporter, outbox, RetryConfig(initial_interval=0.05, max_interval=0.05))
    started = time.monotonic()
    running.start()
    wait_for(lambda: not outbox.waiting)
    running.stop(time.monotonic() + 1)
    assert time.monotonic() - started >= 5 * 0.05


class Digest(Scripted):
    """Holds everything but what is urgent back until it is told to go on, and sends that as one."""

    sees = 10

    def __init__(self, *script: Exception) -> None:
        super().__init__(*script)
        self.go = False

    def choose(self, waiting: Sequence[Payload]) -> tuple[Sequence[int], float]:
        for number, payload in enumerate(waiting):
            if payload.body == b"urgent":
                return (number,), 0.0
        return (range(len(waiting)), 0.0) if self.go else ((), 60.0)

    def join(self, payloads: Sequence[Payload]) -> Payload:
        return Payload(b"+".join(payload.body for payload in payloads), {}, len(payloads))


def test_what_an_exporter_holds_back_waits_in_the_outbox_and_what_is_urgent_passes_it() -> None:
    exporter, outbox = Digest(), Memory(b"one", b"urgent", b"two")
    running = delivery(exporter, outbox)
    running.start()
    wait_for(lambda: exporter.got == [b"urgent"])
    assert sorted(outbox.waiting) == [1, 3]
    started = time.monotonic()
    running.stop(time.monotonic() + 30)
    assert time.monotonic() - started < 5, "what is held back does not hold up a stop"
    assert sorted(outbox.waiting) == [1, 3]
    assert running.failed is None


def test_what_was_joined_is_delivered_or_buried_as_a_whole() -> None:
    exporter, outbox = Digest(Retryable("away")), Memory(b"one", b"two")
    exporter.go = True
    running = delivery(exporter, outbox)
    running.start()
    wait_for(lambda: not outbox.waiting)
    running.stop(time.monotonic() + 1)
    assert exporter.got == [b"one+two"]
    assert sample(exporter, "spanledger_exporter_sent_items_total") == 2
    exporter, outbox = Digest(Permanent("no")), Memory(b"one", b"two")
    exporter.go = True
    running = delivery(exporter, outbox)
    running.start()
    wait_for(lambda: not outbox.waiting)
    running.stop(time.monotonic() + 1)
    assert outbox.buried == [(1, "no"), (2, "no")]
