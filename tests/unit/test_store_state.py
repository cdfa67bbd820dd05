"""State, outboxes and dead letters: all or nothing, in order, counted, and nothing lost to damage."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest

from collector.component import Payload
from collector.errors import StoreError, StoreFull
from collector.store import DeadLetter, DeadLetters, Inbox, StateStore
from collector.store.environment import Environment
from collector.store.letters import LETTER_COST
from tests.store_kit import SEALER, append, commits, flip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StateStore]:
    store = StateStore(tmp_path / "state", SEALER)
    yield store
    store.close()


def reopened(store: StateStore) -> StateStore:
    store.close()
    return StateStore(store.path, SEALER)


def put(store: StateStore, *bodies: bytes, name: str = "clickhouse") -> None:
    with store.transaction() as transaction:
        for body in bodies:
            transaction.outbox_put(name, Payload(body, {"table": "llm_calls", "token": len(body)}, items=3))


def items(store: StateStore, namespace: str = "ledger", prefix: bytes = b"") -> list[tuple[bytes, bytes]]:
    with store.reader() as reader:
        return list(reader.component(namespace).items(prefix))


# state and positions


def test_everything_in_a_transaction_lasts(store: StateStore) -> None:
    with store.transaction() as transaction:
        transaction.set_position("traces", 41)
        transaction.component("ledger").put(b"key", b"value")
        transaction.outbox_put("clickhouse", Payload(b"body", {"table": "t", "rows": 2}, 2))
        assert transaction.dead_letter(DeadLetter("request", "traces", "would not decode", 3, b"bytes")) == 1
    again = reopened(store)
    with again.reader() as reader:
        assert reader.position("traces") == 41
        assert reader.position("logs") == 0
        assert reader.component("ledger").get(b"key") == b"value"
    assert again.outbox("clickhouse").peek() == [(1, Payload(b"body", {"table": "t", "rows": 2}, 2))]
    assert [letter.reason for letter in DeadLetters(again).list()] == ["would not decode"]
    again.close()


def test_nothing_of_a_transaction_that_raises_lasts(store: StateStore) -> None:
    with pytest.raises(ZeroDivisionError), store.transaction() as transaction:  # noqa: PT012
        transaction.set_position("traces", 41)
        transaction.component("ledger").put(b"key", os.urandom(10**6))
        transaction.outbox_put("clickhouse", Payload(b"body"))
        transaction.dead_letter(DeadLetter("request", "traces", "", 1, b""))
        1 / 0  # noqa: B018
    assert store.outbox("clickhouse").count == DeadLetters(store).count == 0
    for _ in range(2):
        with store.reader() as reader:
            assert reader.position("traces") == 0
        assert items(store) == []
        assert store.outbox("clickhouse").peek() == []
        assert DeadLetters(store).list() == []
        store = reopened(store)
    store.close()


def test_a_transaction_sees_what_it_wrote_and_a_reader_what_was_committed(store: StateStore) -> None:
    with store.transaction() as transaction:
        ledger = transaction.component("ledger")
        ledger.put(b"a", b"1")
        ledger.put(b"b", b"2")
        ledger.put(b"a", b"3")
        ledger.delete(b"b")
        ledger.delete(b"never there")
        assert list(ledger.items()) == [(b"a", b"3")]
        assert ledger.get(b"b") is None
        with store.reader() as reader:
            assert reader.component("ledger").get(b"a") is None
    assert items(store) == [(b"a", b"3")]


def test_components_do_not_see_one_another(store: StateStore) -> None:
    with store.transaction() as transaction:
        for namespace in ("traces", "traces/a", "traces/ab"):
            transaction.component(namespace).put(b"key", namespace.encode())
    assert items(store, "traces/a") == [(b"key", b"traces/a")]
    assert items(store, "traces") == [(b"key", b"traces")]


def test_keys_sort_bytewise_and_are_found_by_prefix(store: StateStore) -> None:
    keys = [b"", b"a", b"a\0", b"ab", b"b", b"\xff", b"\xff\xff"]
    with store.transaction() as transaction:
        for key in reversed(keys):
            transaction.component("ledger").put(key, b"v" + key)
    assert items(store) == [(key, b"v" + key) for key in keys]
    assert [key for key, _ in items(store, prefix=b"a")] == [b"a", b"a\0", b"ab"]
    assert [key for key, _ in items(store, prefix=b"\xff")] == [b"\xff", b"\xff\xff"]
    with store.reader() as reader:
        assert reader.component("ledger").keys(b"a") == [b"a", b"a\0", b"ab"]


def test_a_key_that_is_too_long_is_a_mistake_of_the_component(store: StateStore) -> None:
    with pytest.raises(ValueError, match="at most 493 bytes"), store.transaction() as transaction:
        transaction.component("ledger").put(bytes(494), b"")
    with store.transaction() as transaction:
        transaction.component("ledger").put(bytes(493), b"x")
    assert items(store) == [(bytes(493), b"x")]


def test_large_values_are_replaced_and_removed_whole(store: StateStore) -> None:
    large, larger = os.urandom(3 * 10**6), os.urandom(5 * 10**6)
    for value in (large, larger, b"small", large):
        with store.transaction() as transaction:
            transaction.component("ledger").put(b"key", value)
        assert items(store) == [(b"key", value)]
    with store.transaction() as transaction:
        transaction.component("ledger").delete(b"key")
    with store._env.read() as txn:
        assert txn.stat(db=store._env.database("state.chunks"))["entries"] == 0


def test_a_window_of_batches_moves_on_without_growing_the_file(store: StateStore) -> None:
    used = []
    for batch in range(60):
        with store.transaction() as transaction:
            ledger = transaction.component("ledger")
            ledger.put(batch.to_bytes(8), bytes(100_000 + 40_000 * (batch % 7)))
            if batch >= 10:
                ledger.delete((batch - 10).to_bytes(8))
        used.append(store._env.used_bytes)
    assert used[-1] < 2 * used[15]


def test_a_damaged_value_is_not_a_missing_one(store: StateStore) -> None:
    with store.transaction() as transaction:
        transaction.component("ledger").put(b"key", b"value")
        transaction.set_position("traces", 5)
    flip(store._state, b"ledger\0key")
    flip(store._positions, b"traces")
    with store.reader() as reader:
        with pytest.raises(StoreError, match="does not match its seal"):
            reader.component("ledger").get(b"key")
        with pytest.raises(StoreError, match="does not match its seal"):
            reader.position("traces")


def test_values_cannot_be_moved_to_another_key(store: StateStore) -> None:
    with store.transaction() as transaction:
        transaction.component("ledger").put(b"cheap", b"1")
    with store._env.write() as txn:
        database = store._env.database("state")
        txn.put(b"ledger\0dear", bytes(txn.get(b"ledger\0cheap", db=database)), db=database)
    with store.reader() as reader, pytest.raises(StoreError):
        reader.component("ledger").get(b"dear")


def test_nothing_readable_lies_on_disk(store: StateStore) -> None:
    secret = b"the customer's prompt"
    with store.transaction() as transaction:
        transaction.component("ledger").put(b"key", secret * 3)
        transaction.outbox_put("clickhouse", Payload(secret, {"header": secret.decode()}))
        transaction.dead_letter(DeadLetter("request", "traces", secret.decode(), 1, secret * 10**5))
    with store.transaction() as transaction:
        transaction.component("ledger").delete(b"key")
    assert secret not in (store.path / "data.mdb").read_bytes()


@pytest.mark.parametrize(
    "error", [lmdb.DiskError("No space left on device"), lmdb.Error("Input/output error"), lmdb.MapFullError("full")]
)
def test_a_failed_commit_leaves_everything_as_it_was(store: StateStore, error: Exception) -> None:
    put(store, b"before")

    def failing(env: Environment, txn: Any) -> None:
        raise error

    with commits(failing), pytest.raises(StoreError), store.transaction() as transaction:  # noqa: PT012
        transaction.set_position("traces", 9)
        transaction.outbox_put("clickhouse", Payload(b"lost"))
    assert store.outbox("clickhouse").count == 1
    with store.transaction() as transaction:
        assert transaction.position("traces") == 0
        transaction.set_position("traces", 9)
        transaction.outbox_put("clickhouse", Payload(b"after"))
    assert [payload.body for _, payload in store.outbox("clickhouse").peek(9)] == [b"before", b"after"]


def test_one_transaction_at_a_time(store: StateStore) -> None:
    inside, order = threading.Event(), []

    def second() -> None:
        inside.wait(20)
        with store.transaction() as transaction:
            order.append(transaction.position("traces"))

    thread = threading.Thread(target=second)
    thread.start()
    with store.transaction() as transaction:
        inside.set()
        time.sleep(0.05)
        order.append(-1)
        transaction.set_position("traces", 1)
        with pytest.raises(RuntimeError, match="within"), store.transaction():
            pass
    thread.join(20)
    assert order == [-1, 1]


# outboxes


def test_payloads_come_in_order_and_only_from_their_own_outbox(store: StateStore) -> None:
    large = os.urandom(10**6)
    put(store, b"1", large, b"")
    put(store, b"other", name="clickhouse/other")
    outbox = store.outbox("clickhouse")
    assert [(seq, payload.body) for seq, payload in outbox.peek(9)] == [(1, b"1"), (2, large), (3, b"")]
    assert outbox.peek()[0][1] == Payload(b"1", {"table": "llm_calls", "token": 1}, 3)
    assert (outbox.count, outbox.items, outbox.bytes) == (3, 9, 1 + 10**6)
    outbox.done(1)
    outbox.done(1)  # again, as after a crash
    outbox.done(77)
    assert [seq for seq, _ in outbox.peek(9)] == [2, 3]
    assert (outbox.count, outbox.items, outbox.bytes) == (2, 6, 10**6)
    assert store.outbox("clickhouse/other").count == 1


def test_how_long_the_oldest_payload_has_waited_is_known(store: StateStore) -> None:
    """Also after a restart; of one that is damaged it is not."""
    box = store.outbox("a")
    assert box.oldest_ns is None
    before = time.time_ns()
    with store.transaction() as transaction:
        transaction.outbox_put("a", Payload(b"one"))
    between = time.time_ns()
    with store.transaction() as transaction:
        transaction.outbox_put("a", Payload(b"two"))
    assert before <= (box.oldest_ns or 0) <= between
    flip(store._outboxes.records, b"a\0" + (1).to_bytes(8) + b"\0")
    assert box.oldest_ns is None
    box.done(1)
    assert (box.oldest_ns or 0) >= between


def test_counts_and_numbers_survive_a_restart_also_of_an_empty_outbox(store: StateStore) -> None:
    put(store, b"1", b"22")
    store.outbox("clickhouse").done(1)
    store = reopened(store)
    outbox = store.outbox("clickhouse")
    assert (outbox.count, outbox.items, outbox.bytes) == (1, 3, 2)
    assert store.outboxes == ("clickhouse",)
    outbox.done(2)
    store = reopened(store)
    put(store, b"3")
    assert [seq for seq, _ in store.outbox("clickhouse").peek(9)] == [3]
    store.close()


def test_a_sender_waits_for_payloads(store: StateStore) -> None:
    outbox = store.outbox("clickhouse")
    assert not outbox.wait(0.01)
    threading.Timer(0.05, lambda: put(store, bytes(100))).start()
    assert outbox.wait(20)


def test_closing_wakes_who_waits(store: StateStore) -> None:
    outbox, waited = store.outbox("clickhouse"), []
    thread = threading.Thread(target=lambda: waited.append(outbox.wait(20)))
    thread.start()
    store.close()
    store.close()
    thread.join(10)
    assert waited == [False]
    with pytest.raises(StoreError, match="closed"):
        outbox.peek()


def test_a_buried_payload_is_a_dead_letter_and_the_next_one_is_first(store: StateStore) -> None:
    put(store, b"bad", b"good")
    outbox = store.outbox("clickhouse")
    outbox.bury(1, "unknown table")
    outbox.bury(1, "again")
    assert [payload.body for _, payload in outbox.peek(9)] == [b"good"]
    (letter,) = DeadLetters(store).list()
    assert (letter.kind, letter.origin, letter.reason, letter.items) == ("payload", "clickhouse", "unknown table", 3)
    assert (letter.body, letter.size) == (b"", 3)
    assert abs(letter.time_ns - time.time_ns()) < 60e9
    full = DeadLetters(store).get(letter.id)
    assert full is not None
    assert (full.body, full.meta) == (b"bad", {"table": "llm_calls", "token": 3})


@pytest.mark.parametrize("part", [b"\0", b"\1"], ids=["head", "body"])
def test_a_damaged_payload_is_buried_and_the_next_one_is_delivered(store: StateStore, part: bytes) -> None:
    put(store, b"1", b"2")
    outbox = store.outbox("clickhouse")
    flip(store._outboxes.records, b"clickhouse\0" + (1).to_bytes(8) + part)
    assert [(seq, payload.body) for seq, payload in outbox.peek(9)] == [(2, b"2")]
    assert outbox.count == 1
    (letter,) = DeadLetters(store).list()
    assert "damaged on disk" in letter.reason
    outbox.done(2)
    assert (outbox.count, outbox.items, outbox.bytes) == (0, 0, 0)


def test_damaged_outbox_counters_are_counted_again(store: StateStore) -> None:
    put(store, b"1", b"22")
    flip(store._outboxes.counters, b"clickhouse")
    store = reopened(store)
    outbox = store.outbox("clickhouse")
    assert (outbox.count, outbox.items, outbox.bytes) == (2, 6, 3)
    put(store, b"333")
    assert [seq for seq, _ in outbox.peek(9)] == [1, 2, 3]
    store.close()


# dead letters


def test_dead_letters_are_kept_until_they_are_dropped(store: StateStore) -> None:
    with store.transaction() as transaction:
        for number in range(3):
            letter = DeadLetter("request", "traces", "why", number, bytes(number), {"first": number}, time_ns=5)
            assert transaction.dead_letter(letter) == number + 1
    store = reopened(store)
    letters = DeadLetters(store)
    assert [(letter.id, letter.size, letter.meta, letter.time_ns) for letter in letters.list()] == [
        (1, 0, {"first": 0}, 5),
        (2, 1, {"first": 1}, 5),
        (3, 2, {"first": 2}, 5),
    ]
    assert (letters.count, letters.bytes) == (3, 3 + 3 * LETTER_COST)
    assert letters.drop([1, 3, 3, 99]) == 2
    assert letters.get(3) is None
    assert (letters.count, letters.bytes) == (1, 1 + LETTER_COST)
    with store.transaction() as transaction:
        assert transaction.dead_letter(DeadLetter("request", "traces", "", 0, b"")) == 4
    store.close()


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    inbox = Inbox(tmp_path / "inbox", max_bytes=4 * 10**6, sealer=SEALER)
    yield inbox
    inbox.close()


def test_a_replayed_payload_is_back_in_its_outbox_and_no_letter_any_more(store: StateStore, inbox: Inbox) -> None:
    put(store, b"bad", b"good")
    outbox = store.outbox("clickhouse")
    outbox.bury(1, "table was missing")
    assert DeadLetters(store).replay([1, 99], inbox, {"clickhouse"}) == 1
    assert [(seq, payload) for seq, payload in outbox.peek(9)] == [
        (2, Payload(b"good", {"table": "llm_calls", "token": 4}, 3)),
        (3, Payload(b"bad", {"table": "llm_calls", "token": 3}, 3)),
    ]
    assert DeadLetters(store).count == 0


def bury(store: StateStore, *bodies: bytes, origin: str = "traces", lost: bool = False) -> None:
    for body in bodies:
        with store.transaction() as transaction:
            transaction.dead_letter(DeadLetter("request", origin, "bug", 12, body, lost=lost))


def test_a_replayed_request_is_back_in_its_queue(store: StateStore, inbox: Inbox) -> None:
    body = os.urandom(10**6)
    bury(store, body)
    append(inbox, b"x")
    assert DeadLetters(store).replay([1], inbox, {"traces"}) == 1
    assert [(entry.seq, entry.items, entry.body) for entry in inbox.queue("traces").read(1, 10**7)] == [(2, 12, body)]
    assert DeadLetters(store).list() == []


def test_a_request_that_cannot_be_replayed_now_stays_a_dead_letter(store: StateStore, inbox: Inbox) -> None:
    bury(store, bytes(5 * 10**6))
    with pytest.raises(StoreFull):
        DeadLetters(store).replay([1], inbox, {"traces"})
    assert DeadLetters(store).count == 1


def test_what_would_go_nowhere_is_not_replayed_nor_anything_with_it(store: StateStore, inbox: Inbox) -> None:
    """Scenario: among the letters are one of a pipeline that the config lost, and one whose body was damaged."""
    bury(store, b"fine")
    bury(store, b"", lost=True)
    bury(store, b"old", origin="traces/old")
    letters = DeadLetters(store)
    with pytest.raises(StoreError, match="dead letter 2 has no body any more"):
        letters.replay([1, 2], inbox, {"traces"})
    with pytest.raises(StoreError, match="dead letter 3 is of pipeline traces/old, which the config does not have"):
        letters.replay([1, 3], inbox, {"traces"})
    assert letters.count == 3
    assert inbox.items == 0


def test_a_full_dead_letter_store_takes_nothing_more_and_gives_nothing_up(tmp_path: Path) -> None:
    """Scenario: the bound is reached; what wanted in stays where it was until there is room."""
    store = StateStore(tmp_path / "state", SEALER, dead_letter_bytes=1000)
    letters = DeadLetters(store)
    bury(store, bytes(400), bytes(400))
    assert letters.bytes >= letters.max_bytes == 1000, "the last one may go past the bound: a large one must fit"
    put(store, b"unwanted")
    with pytest.raises(StoreFull, match=r"the dead-letter store is full \(2 letters, .* of 1000 bytes: service.dead_letters.max_size\)"):  # fmt: skip
        bury(store, b"")
    with pytest.raises(StoreFull):
        store.outbox("clickhouse").bury(1, "refused")
    assert [letter.id for letter in letters.list()] == [1, 2]
    assert store.outbox("clickhouse").count == 1
    letters.drop([1])
    store.outbox("clickhouse").bury(1, "refused")
    assert [letter.id for letter in letters.list()] == [2, 3]
    store.close()


def test_a_damaged_letter_is_listed_as_one_and_can_be_dropped(store: StateStore) -> None:
    with store.transaction() as transaction:
        transaction.dead_letter(DeadLetter("request", "traces", "one", 1, b"1"))
        transaction.dead_letter(DeadLetter("request", "traces", "two", 1, b"2"))
    letters = DeadLetters(store)
    flip(store._letters.records, (1).to_bytes(8) + b"\0")
    assert [letter.reason[:15] for letter in letters.list()] == ["damaged on disk", "two"]
    with pytest.raises(StoreError):
        letters.get(1)
    assert letters.drop([1]) == 1
    assert [letter.id for letter in letters.list()] == [2]
