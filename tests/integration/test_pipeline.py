"""What the pipeline promises, with real stores: whatever raises or fails, nothing is lost, nothing goes out twice, and what
is remembered is what was committed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb
import pytest

from collector import delivery
from collector import pipeline as loop
from collector.component import Stage
from collector.errors import StoreError
from collector.store import DeadLetter, DeadLetters, InboxQueue
from collector.store.crypto import Damaged
from collector.store.environment import Environment
from collector.store.queue import entry_key
from tests.pipeline_kit import ID, TOKENS, Tally, rig, wait_for
from tests.spans_kit import calls, request, span
from tests.store_kit import commits, flip


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other at once."""
    monkeypatch.setattr(loop, "RETRY_COMMIT_S", 0.01)
    monkeypatch.setattr(loop, "TRIM_EVERY_S", 0.01)
    monkeypatch.setattr(loop, "TICK_S", 0.02)
    monkeypatch.setattr(delivery, "TICK_S", 0.02)


def some(count: int, first: int = 0) -> list[bytes]:
    """Requests of one call each: c0, c1 …"""
    return [calls([f"c{number}"]) for number in range(first, first + count)]


def names(*numbers: int) -> dict[str, int]:
    return {f"c{number}": 1 for number in numbers}


def guilty(*numbers: int) -> Callable[[set[str]], None]:
    """A processor that cannot stand these calls."""
    found = set(names(*numbers))

    def fault(ids: set[str]) -> None:
        if ids & found:
            raise ValueError(str(sorted(ids)))

    return fault


@contextmanager
def failing_commits(count: float, landed: bool = False) -> Iterator[list[str]]:
    """The next commits of the state raise as a disk does; where `landed`, after they are on disk all the same."""
    failed: list[str] = []

    def commit(env: Environment, txn: Any) -> None:
        if env.path.name != "state" or len(failed) >= count:
            real(env, txn)
            return
        failed.append("state")
        if landed:
            real(env, txn)
        raise lmdb.DiskError("no space left on device")

    with commits(commit) as real:
        yield failed


# What cannot be processed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", list(Stage), ids=lambda stage: stage.value)
@pytest.mark.parametrize("bad", [(0,), (11,), (3, 4, 9)], ids=["first", "last", "three"])
def test_a_guilty_request_ends_up_alone_among_the_dead_letters_and_the_rest_is_delivered_once(
    tmp_path: Path, stage: Stage, bad: tuple[int, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """Scenario: twelve requests in one batch, some of which a processor cannot stand, before or after merging."""
    bodies = some(12)
    with rig(tmp_path, Tally("faulty", guilty(*bad), stage)) as running:
        running.put(*bodies)
        running.start()
        running.settle()
        good = [number for number in range(12) if number not in bad]
        assert running.other_side.calls == names(*good)
        assert set(running.other_side.spans.values()) == {1}
        assert len(running.other_side.spans) == len(good)
        letters = [DeadLetters(running.store).get(letter.id) for letter in running.letters]
        assert [(letter.kind, letter.origin, letter.items, letter.body) for letter in letters if letter] == [
            ("request", ID, 1, bodies[number]) for number in bad
        ]
        assert {letter.reason for letter in running.letters} == {"processing raised ValueError"}
        assert running.metric("spanledger_pipeline_dead_letters_total") == len(bad)
        assert running.metric("spanledger_pipeline_items_total") == len(good)
        running.check_memory()
        running.stop()
    assert "halving it" in caplog.text
    assert "in fault" in caplog.text, "where it raised"
    assert "['c" not in caplog.text, "what it said may quote a span"


def test_a_request_that_cannot_be_decoded_is_buried_alone(tmp_path: Path) -> None:
    """Scenario: bytes that no receiver would have taken stand in the inbox, between good requests."""
    with rig(tmp_path) as running:
        good = some(2)
        running.put(good[0], b"\xff\xff\xff\xff", good[1])
        running.start()
        running.settle()
        assert running.other_side.calls == names(0, 1)
        (letter,) = running.letters
        assert letter.size == 4


def test_a_processor_that_raises_now_and_then_loses_nothing(tmp_path: Path) -> None:
    """Scenario: a processor raises on every third of its batches, whatever is in them; what it buried is sent again until
    all is through. The ledger's memory, and the processor's, stay what is on disk."""
    dice = random.Random(7)

    def fault(ids: set[str]) -> None:
        if dice.random() < 1 / 3:
            raise RuntimeError("now and then")

    moody = Tally("moody", fault, Stage.REPORTS), Tally("moodier", fault)
    with rig(tmp_path, *moody, max_items=8) as running:
        for start in range(0, 60, 10):
            running.put(*some(10, start))
        running.start()
        running.settle()
        buried = len(running.letters)
        assert buried, "the dice must have hit a request that was alone"
        assert sum(running.other_side.calls.values()) + buried == 60
        running.check_memory()
        for _ in range(50):
            if not running.letters:
                break
            running.replay()
            running.settle()
        assert running.other_side.calls == names(*range(60))
        assert set(running.other_side.spans.values()) == {1}
        running.check_memory()
        assert running.tokens == 60 * TOKENS


def test_what_a_failed_batch_did_to_known_calls_is_undone(tmp_path: Path) -> None:
    """Scenario: later reports of calls that are committed already come together with a guilty request: the same calls are
    made better once, by the half that is innocent, and no call is withdrawn or doubled."""
    spans = [span("POST /chat", {}, kind="server") for _ in range(6)]
    facts = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o-mini",
             "gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 100}  # fmt: skip
    first = [
        request(scope="opentelemetry.instrumentation.openai_v2",
                spans=[parent, span("chat", {**facts, "gen_ai.response.id": f"c{n}"}, parent=parent, kind="client")])
        for n, parent in enumerate(spans)
    ]  # fmt: skip
    later = [
        request(scope="litellm", resource={"service.name": "gateway"},
                spans=[span("litellm_request", {**facts, "gen_ai.response.id": f"c{n}", "metadata.user_api_key_team_alias": "x"}, parent=parent)])
        for n, parent in enumerate(spans)
    ]  # fmt: skip
    bad = Tally("faulty")
    with rig(tmp_path, bad) as running:
        running.put(*first)
        running.start()
        running.settle()
        assert sum(running.other_side.calls.values()) == 6
        bad.fault = guilty(2)
        running.stop()
        running.close()
        running.open()
        running.put(*later)
        running.start()
        running.settle()
        assert len(running.letters) == 1
        running.check_memory()
        bad.fault = None
        running.replay()
        running.settle()
        running.check_memory()
        assert running.tokens == 6 * TOKENS
        assert set(running.other_side.spans.values()) == {1}
        assert max(running.other_side.calls.values()) == 2, "each call was made better once"


@pytest.mark.parametrize(
    ("error", "name"), [(ValueError, "ValueError"), (Damaged, "collector.store.crypto.Damaged")], ids=["bug", "damage"]
)
def test_a_save_that_raises_is_undone_and_its_request_buried(tmp_path: Path, error: type[Exception], name: str) -> None:
    """Scenario: a processor raises when the batch is being written: after the ledger and others have written theirs."""

    def fault(ids: set[str]) -> None:
        if "c1" in ids:
            raise error("on purpose")

    faulty = Tally("faulty")
    faulty.save_fault = fault
    with rig(tmp_path, faulty) as running:
        running.put(*some(4))
        running.start()
        running.settle()
        assert running.other_side.calls == names(0, 2, 3)
        assert [letter.reason for letter in running.letters] == [f"processing raised {name}"]
        running.check_memory()
        assert running.tokens == 3 * TOKENS


# A disk that says no ---------------------------------------------------------------------------------------------------


def test_a_commit_that_fails_is_tried_until_the_disk_takes_it(tmp_path: Path) -> None:
    """Scenario: the disk refuses five commits, then takes them. No request is suspected, nothing goes out twice."""
    with rig(tmp_path) as running, failing_commits(5) as failed:
        running.put(*some(4))
        running.start()
        wait_for(lambda: len(failed) == 5)
        running.settle()
        assert running.other_side.calls == names(0, 1, 2, 3)
        assert set(running.other_side.spans.values()) == {1}
        assert running.letters == []
        assert running.pipeline.failed is None
        running.check_memory()
        running.put(*some(2, 4))
        running.settle()
        assert running.other_side.calls == names(*range(6))
        running.check_memory()


def test_while_the_disk_refuses_it_is_said_and_nothing_moves(tmp_path: Path) -> None:
    with rig(tmp_path) as running:
        with failing_commits(float("inf")):
            running.put(*some(2))
            running.start()
            wait_for(lambda: running.pipeline.failed is not None)
            assert "the state cannot be written" in (running.pipeline.failed or "")
            assert running.pipeline.position == 0
            assert not running.other_side.spans
        running.settle()
        assert running.other_side.calls == names(0, 1)


def test_a_commit_that_raised_but_landed_is_not_done_again(tmp_path: Path) -> None:
    """Scenario: the very last step of a commit raises, yet all of it is on disk: the position tells."""
    with rig(tmp_path) as running, failing_commits(1, landed=True) as failed:
        running.put(*some(3))
        running.start()
        running.settle()
        assert failed
        assert running.other_side.calls == names(0, 1, 2)
        assert set(running.other_side.spans.values()) == {1}
        running.check_memory()
        assert running.tokens == 3 * TOKENS
        running.put(*some(3, 3))
        running.settle()
        assert running.other_side.calls == names(*range(6))
        running.check_memory()


def test_a_burial_that_raised_but_landed_buries_once(tmp_path: Path) -> None:
    with rig(tmp_path, Tally("faulty", guilty(0))) as running, failing_commits(1, landed=True):
        running.put(*some(1))
        running.start()
        running.settle()
        assert len(running.letters) == 1
        assert DeadLetters(running.store).count == 1


def test_a_state_that_cannot_be_read_for_a_moment_costs_no_request_and_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scenario: the disk fails while the ledger looks for what it knows: nobody's fault, so nothing is buried, and what the
    batch before brought is still known."""
    bodies = some(3)
    with rig(tmp_path) as running:
        running.put(*bodies)
        running.start()
        running.settle()
        real, left = running.store.reader, [3]

        def reader() -> Any:
            if left[0]:
                left[0] -= 1
                raise StoreError("state: Input/output error")
            return real()

        monkeypatch.setattr(running.store, "reader", reader)
        running.put(*some(3, 3))
        wait_for(lambda: not left[0])
        running.settle()
        running.put(*bodies)
        running.settle()
        assert running.letters == []
        assert running.other_side.calls == names(*range(6)), "the calls of before were still known"
        running.check_memory()


def test_a_half_that_could_not_be_done_is_never_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenario: a batch is halved because of a guilty request in its second half; the first half meets a disk that fails
    just then. The second half must not move the position past it."""
    with rig(tmp_path, Tally("faulty", guilty(3))) as running:
        real, reads = running.store.reader, [0]

        def reader() -> Any:
            reads[0] += 1
            if reads[0] == 2:
                raise StoreError("state: Input/output error")
            return real()

        monkeypatch.setattr(running.store, "reader", reader)
        running.put(*some(4))
        running.start()
        running.settle()
        assert running.other_side.calls == names(0, 1, 2)
        assert len(running.letters) == 1
        running.check_memory()


def test_an_inbox_that_cannot_be_read_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, left = InboxQueue.read, [3]

    def read(queue: InboxQueue, *bounds: int) -> Any:
        if left[0]:
            left[0] -= 1
            raise StoreError("inbox: Input/output error")
        return real(queue, *bounds)

    monkeypatch.setattr(InboxQueue, "read", read)
    with rig(tmp_path) as running:
        running.put(*some(3))
        running.start()
        running.settle()
        assert not left[0]
        assert running.pipeline.alive
        assert running.pipeline.failed is None
        assert running.other_side.calls == names(0, 1, 2)


def test_a_damaged_request_is_buried_with_its_reason_and_the_rest_goes_on(tmp_path: Path) -> None:
    """Scenario: a bit of one stored request flipped while the collector was down."""
    with rig(tmp_path) as running:
        running.put(*some(5))
        flip(running.queue._records, entry_key(3))
        running.close()
        running.open()
        running.start()
        running.settle()
        assert running.other_side.calls == names(0, 1, 3, 4)
        (letter,) = running.letters
        assert (letter.kind, letter.origin, letter.items, letter.size) == ("request", ID, 1, 0)
        assert letter.reason.startswith("the stored request is damaged: record does not match its seal")


def test_a_damaged_value_of_the_state_is_no_endless_retry(tmp_path: Path) -> None:
    """Scenario: a bit of the ledger's state flipped: requests that need the value are buried, those that do not flow on."""
    bodies = some(2)
    with rig(tmp_path) as running:
        running.put(*bodies)
        running.start()
        running.settle()
        running.stop()
        with running.store._env.read() as txn:
            (key,) = [key for key, _ in running.store._state.records(txn) if b"/ledger\0f" in key]
        flip(running.store._state, key)
        running.close()
        running.open()
        late = request(scope="openai", spans=[span("chat", {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o-mini", "gen_ai.response.id": "c0"})])  # fmt: skip
        running.put(late, *some(2, 2))
        running.start()
        running.settle()
        assert len(running.letters) == 1
        assert "Damaged" in running.letters[0].reason
        assert running.other_side.calls == names(0, 1, 2, 3)


# Waiting and stopping --------------------------------------------------------------------------------------------------


def test_a_full_outbox_stops_the_pipeline_and_it_goes_on_when_there_is_room(tmp_path: Path) -> None:
    with rig(tmp_path, max_items=1, outbox_bytes=200) as running:
        running.other_side.away = True
        running.put(*some(30))
        running.start()
        wait_for(lambda: running.pipeline.failed is not None)
        assert running.pipeline.failed == "a sending queue is full: traces/other_side"
        position = running.pipeline.position
        time.sleep(0.3)
        assert running.pipeline.position == position < 30
        assert running.store.outbox("traces/other_side").bytes < 200 + 200, "at most a batch more than the bound"
        running.other_side.away = False
        running.settle()
        assert running.pipeline.failed is None
        assert running.other_side.calls == names(*range(30))
        assert set(running.other_side.spans.values()) == {1}


def test_full_dead_letters_stop_the_pipeline_and_it_goes_on_when_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Scenario: more requests cannot be processed than the dead letters may hold. None is given up: the pipeline stands
    still and says so, once, until a person drops one; then the good request behind goes on."""
    with rig(tmp_path, Tally("faulty", guilty(0, 1, 2)), letter_bytes=1000) as running:
        running.put(*some(5))
        running.start()
        wait_for(lambda: "the dead-letter store is full" in (running.pipeline.failed or ""))
        held = len(running.letters)
        assert 0 < held < 3
        position = running.pipeline.position
        time.sleep(0.2)
        assert running.pipeline.position == position
        assert caplog.text.count("trying again") == 1
        for letter in running.letters:
            DeadLetters(running.store).drop([letter.id])
        running.settle()
        assert running.other_side.calls == names(3, 4)
        assert len(running.letters) == 3 - held
        running.check_memory()


def test_full_dead_letters_keep_a_refused_delivery_in_the_outbox(tmp_path: Path) -> None:
    """Scenario: the other side refuses for good, and there is no room for a dead letter: it is sent again, and arrives
    once somebody has mended the other side."""
    with rig(tmp_path, letter_bytes=1) as running:
        with running.store.transaction() as transaction:
            transaction.dead_letter(DeadLetter("request", ID, "before", 1, b"body"))
        running.other_side.refuses = True
        running.put(*some(1))
        running.start()
        wait_for(lambda: "the dead-letter store is full" in (running.delivery.failed or ""))
        assert "wrong table" in (running.delivery.failed or "")
        running.other_side.refuses = False
        running.settle()
        assert running.other_side.calls == names(0)
        assert len(running.letters) == 1
        assert running.delivery.failed is None


def test_a_stop_works_off_what_is_there(tmp_path: Path) -> None:
    with rig(tmp_path, max_items=2) as running:
        running.put(*some(40))
        running.start()
        running.stop(20)
        assert not running.pipeline.alive
        assert running.other_side.calls == names(*range(40))


@pytest.mark.parametrize("trouble", ["commits", "burials", "inbox", "outbox"])
def test_a_stop_in_the_midst_of_attempts_ends_in_time_and_leaves_everything_on_disk(
    tmp_path: Path, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scenario: whatever it is that fails goes on failing during the stop; the next start delivers everything once."""

    def unreadable(queue: InboxQueue, *bounds: int) -> Any:
        raise StoreError("inbox: Input/output error")

    fault = Tally("faulty", guilty(0) if trouble == "burials" else None)
    with rig(tmp_path, fault, max_items=1, outbox_bytes=1) as running:
        running.other_side.away = trouble == "outbox"
        with monkeypatch.context() as patch, failing_commits(float("inf") if trouble in ("commits", "burials") else 0):
            if trouble == "inbox":
                patch.setattr(InboxQueue, "read", unreadable)
            running.put(*some(3))
            running.start()
            time.sleep(0.2)
            started = time.monotonic()
            running.stop(0.3)
            assert time.monotonic() - started < 3
            assert not running.pipeline.alive
            assert not running.other_side.spans
            assert running.letters == []
        running.other_side.away = False
        running.restart()
        running.settle()
        assert running.other_side.calls == names(0, 1, 2) if trouble != "burials" else names(1, 2)
        assert set(running.other_side.spans.values()) == {1}
        running.check_memory()


# Crashes ---------------------------------------------------------------------------------------------------------------


def test_a_crash_between_commit_and_trim_delivers_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scenario: the process ends after the commit; what it had finished with is still in the inbox at the next start."""
    with rig(tmp_path) as running:
        with monkeypatch.context() as patch:
            patch.setattr(InboxQueue, "trim", lambda queue, through: None)
            running.put(*some(5))
            running.start()
            wait_for(lambda: running.pipeline.position == 5)
            running.stop()
        assert running.queue.count == 5, "what this test is about: nothing was trimmed"
        running.restart()
        assert running.pipeline.waiting == (0, 0) or running.queue.count == 5
        running.put(*some(2, 5))
        running.settle()
        assert running.other_side.calls == names(*range(7))
        assert set(running.other_side.spans.values()) == {1}
        assert running.queue.count == 0
        running.check_memory()


def test_a_request_that_its_sender_sends_again_counts_once(tmp_path: Path) -> None:
    """Scenario: the answer got lost, so the sender sends the same bytes again, before and after a restart."""
    bodies = some(4)
    with rig(tmp_path) as running:
        running.put(*bodies, bodies[0])
        running.start()
        running.settle()
        running.put(*bodies)
        running.settle()
        running.restart()
        running.put(*bodies)
        running.settle()
        assert running.other_side.calls == names(0, 1, 2, 3)
        assert running.tokens == 4 * TOKENS
        running.check_memory()
