"""The inbox: order, bounds, answers, trimming, damage, and disks that say no."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest

from collector.errors import StoreError, StoreFull
from collector.store import Inbox, joined
from collector.store.environment import Environment
from collector.store.queue import ENTRY_COST
from tests.store_kit import SEALER, Answer, append, commits, flip

MIB = 2**20


def open_inbox(path: Path, max_bytes: int = 100 * MIB) -> Inbox:
    return Inbox(path, max_bytes=max_bytes, sealer=SEALER)


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    inbox = open_inbox(tmp_path)
    yield inbox
    inbox.close()


def bodies(inbox: Inbox, queue: str = "traces", after: int = 0) -> list[bytes]:
    return [bytes(entry.body) for entry in inbox.queue(queue).read(after, 2**40)]


def test_entries_come_back_in_order_with_what_is_known_of_them(inbox: Inbox) -> None:
    before = time.time_ns()
    append(inbox, b"one", b"", b"three", items=7)
    entries = inbox.queue("traces").read(0, MIB)
    assert [(entry.seq, entry.items, entry.body, entry.damage) for entry in entries] == [
        (1, 7, b"one", ""),
        (2, 7, b"", ""),
        (3, 7, b"three", ""),
    ]
    assert all(before <= entry.received_ns <= time.time_ns() for entry in entries)


def test_a_batch_is_bounded_in_bytes_but_never_empty(inbox: Inbox) -> None:
    append(inbox, bytes(600), bytes(400), bytes(1), bytes(5000), bytes(1))
    queue = inbox.queue("traces")
    assert [entry.seq for entry in queue.read(0, 1000)] == [1, 2]
    assert [entry.seq for entry in queue.read(2, 1000)] == [3]
    assert [entry.seq for entry in queue.read(3, 1000)] == [4]  # larger than a batch: a batch of its own
    assert [entry.seq for entry in queue.read(4, 0)] == [5]
    assert queue.read(5, 1000) == []


@pytest.mark.parametrize("size", [262_000, 262_128, 300_000, 5 * MIB, 5 * MIB + 1])
def test_large_bodies_come_back_byte_for_byte_and_leave_nothing_behind(inbox: Inbox, size: int) -> None:
    body = os.urandom(size)
    append(inbox, b"before", body, b"after")
    assert bodies(inbox) == [b"before", body, b"after"]
    queue = inbox.queue("traces")
    queue.trim(3)
    inbox.flush()
    with inbox._env.read() as txn:
        for database in ("queue/traces", "queue/traces.chunks"):
            assert txn.stat(db=inbox._env.database(database))["entries"] == 0


def test_one_append_goes_to_every_queue_and_each_goes_its_own_way(inbox: Inbox) -> None:
    append(inbox, b"both", queues=("traces", "traces/raw"))
    append(inbox, b"raw", queues=("traces/raw",))
    assert bodies(inbox, "traces") == [b"both"]
    assert bodies(inbox, "traces/raw") == [b"both", b"raw"]
    inbox.queue("traces/raw").trim(2)
    inbox.flush()
    assert bodies(inbox, "traces") == [b"both"]
    assert bodies(inbox, "traces/raw") == []


def test_what_is_in_it_is_known_without_reading_and_after_a_restart(tmp_path: Path) -> None:
    inbox = open_inbox(tmp_path)
    append(inbox, bytes(100), bytes(50), items=3, queues=("a",))
    append(inbox, bytes(10), items=2, queues=("a", "b"))
    inbox.queue("a").trim(1)
    inbox.flush()
    for _ in range(2):
        a, b = inbox.queue("a"), inbox.queue("b")
        assert (a.first, a.last, a.count, a.items, a.bytes) == (2, 3, 2, 5, 60 + 2 * ENTRY_COST)
        assert (b.first, b.last, b.count, b.items, b.bytes) == (1, 1, 1, 2, 10 + ENTRY_COST)
        assert inbox.bytes == a.bytes + b.bytes
        assert inbox.items == 7
        assert set(inbox.queues) == {"a", "b"}
        inbox.close()
        inbox = open_inbox(tmp_path)
    inbox.close()


def test_sequence_numbers_go_on_after_a_restart_of_an_empty_inbox(tmp_path: Path) -> None:
    inbox = open_inbox(tmp_path)
    append(inbox, b"1", b"2")
    inbox.queue("traces").trim(2)
    inbox.close()
    inbox = open_inbox(tmp_path)
    queue = inbox.queue("traces")
    assert (queue.first, queue.last) == (3, 2)
    append(inbox, b"3")
    assert [entry.seq for entry in queue.read(0, MIB)] == [3]
    inbox.close()


def test_new_entries_come_above_a_position_that_the_state_remembers(tmp_path: Path) -> None:
    """The inbox was deleted, the state was not: without care the pipeline would skip the first 500 new requests."""
    inbox = open_inbox(tmp_path)
    assert inbox.queue("traces", after=500).last == 500
    append(inbox, b"new")
    inbox.close()
    inbox = open_inbox(tmp_path)
    queue = inbox.queue("traces", after=500)
    assert [entry.seq for entry in queue.read(500, MIB)] == [501]
    assert inbox.queue("traces", after=3) is queue
    assert queue.last == 501
    inbox.close()


def test_trimmed_entries_are_gone_at_once_for_readers_and_a_commit_later_for_the_bound(inbox: Inbox) -> None:
    append(inbox, b"1", b"2", b"3")
    queue = inbox.queue("traces")
    queue.trim(2)
    assert [entry.seq for entry in queue.read(0, MIB)] == [3]
    assert queue.first == 3
    assert inbox.flush(20)
    assert inbox.bytes == 1 + ENTRY_COST
    queue.trim(1)  # again, as after a crash
    queue.trim(99)  # more than there is
    inbox.flush()
    append(inbox, b"4")
    assert [entry.seq for entry in queue.read(0, MIB)] == [4]


def test_how_long_the_oldest_entry_has_waited_is_known(inbox: Inbox) -> None:
    queue = inbox.queue("traces")
    assert queue.oldest_ns(0) is None
    append(inbox, b"one")
    append(inbox, b"two")
    one, two = queue.read(0, 100)
    assert queue.oldest_ns(0) == one.received_ns
    assert queue.oldest_ns(one.seq) == two.received_ns
    assert queue.oldest_ns(two.seq) is None


def test_a_long_backlog_is_trimmed_in_several_transactions(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.store.inbox._TRIM_ENTRIES", 10)
    append(inbox, *[b"x"] * 101)
    inbox.queue("traces").trim(100)
    assert inbox.flush(20)
    assert inbox.queue("traces").count == 1
    assert [entry.seq for entry in inbox.queue("traces").read(0, MIB)] == [101]


def test_a_reader_waits_for_what_comes(inbox: Inbox) -> None:
    queue = inbox.queue("traces")
    assert not queue.wait(0, 0.01)
    threading.Timer(0.05, lambda: append(inbox, b"x")).start()
    assert queue.wait(0, 20)
    assert queue.wait(0, 0)
    assert not queue.wait(1, 0)


def test_closing_wakes_who_waits_and_commits_what_was_appended(tmp_path: Path) -> None:
    inbox = open_inbox(tmp_path)
    queue = inbox.queue("traces")
    waited: list[bool] = []
    thread = threading.Thread(target=lambda: waited.append(queue.wait(10, 20)))
    thread.start()
    answers = [Answer() for _ in range(3)]
    for answer in answers:
        inbox.append(("traces",), b"x", 1, answer)
    inbox.close()
    inbox.close()
    thread.join(20)
    assert waited == [False]
    assert [answer.wait() for answer in answers] == [None] * 3
    with pytest.raises(StoreError, match="closed"):
        inbox.append(("traces",), b"x", 1, Answer())
    with pytest.raises(StoreError, match="closed"):
        queue.read(0, MIB)
    inbox = open_inbox(tmp_path)
    assert inbox.queue("traces").last == 3
    inbox.close()


def test_a_full_inbox_says_so_at_once_and_takes_more_after_trimming(tmp_path: Path) -> None:
    inbox = open_inbox(tmp_path, MIB)
    body = bytes(MIB // 4)
    append(inbox, body, body, body)
    answer = Answer()
    with pytest.raises(StoreFull, match=r"service\.inbox\.max_size"):
        inbox.append(("traces",), body, 1, answer)
    assert not answer.given
    append(inbox, b"a small one still fits")
    inbox.queue("traces").trim(1)
    inbox.flush()
    append(inbox, body)
    inbox.close()


def test_what_waits_for_a_commit_counts_and_so_does_each_queue(tmp_path: Path) -> None:
    inbox = open_inbox(tmp_path, MIB)
    gate = threading.Event()

    def slow(env: Environment, txn: Any) -> None:
        gate.wait(20)
        real(env, txn)

    inbox.queue("a"), inbox.queue("b")
    with commits(slow) as real:
        answer = Answer()
        inbox.append(("a", "b"), bytes(MIB // 3), 1, answer)
        with pytest.raises(StoreFull):
            inbox.append(("a", "b"), bytes(MIB // 3), 1, Answer())
        gate.set()
        assert answer.wait() is None
    inbox.close()


def test_a_request_larger_than_the_inbox_is_refused_even_by_an_empty_one(tmp_path: Path) -> None:
    inbox = open_inbox(tmp_path, MIB)
    with pytest.raises(StoreFull):
        inbox.append(("traces",), bytes(MIB), 1, Answer())
    assert inbox.bytes == 0
    inbox.close()


def test_requests_in_flight_share_a_commit(inbox: Inbox) -> None:
    gate, count = threading.Event(), [0]

    def counting(env: Environment, txn: Any) -> None:
        gate.wait(20)
        count[0] += 1
        real(env, txn)

    inbox.queue("traces")
    with commits(counting) as real:
        answers = [Answer() for _ in range(100)]
        for answer in answers:
            inbox.append(("traces",), b"x", 1, answer)
        gate.set()
        assert [answer.wait() for answer in answers] == [None] * 100
        assert count[0] <= 2  # the first may have gone alone


def test_nobody_is_answered_before_the_commit(inbox: Inbox) -> None:
    answer, seen = Answer(), []

    def looking(env: Environment, txn: Any) -> None:
        seen.append(answer.given)
        real(env, txn)
        seen.append(answer.given)

    inbox.queue("traces")
    with commits(looking) as real:
        inbox.append(("traces",), b"x", 1, answer)
        assert answer.wait() is None
    assert seen == [False, False]


@pytest.mark.parametrize(
    "error",
    [
        lmdb.DiskError("mdb_txn_commit: No space left on device"),
        lmdb.Error("mdb_txn_commit: Input/output error"),
        lmdb.MapFullError("mdb_put: MDB_MAP_FULL"),
        OSError(5, "Input/output error"),
    ],
    ids=["ENOSPC", "EIO", "map full", "other"],
)
def test_a_failed_commit_is_everybodys_error_and_the_inbox_works_again_after_it(inbox: Inbox, error: Exception) -> None:
    append(inbox, b"before")

    def failing(env: Environment, txn: Any) -> None:
        raise error

    answers = [Answer(), Answer()]
    with commits(failing):
        for answer in answers:
            inbox.append(("traces",), bytes(1000), 1, answer)
        for answer in answers:
            assert isinstance(answer.wait(), StoreError)
        inbox.flush()
    assert isinstance(inbox.failed, StoreError)
    assert inbox.bytes == len(b"before") + ENTRY_COST  # the room is given back
    append(inbox, b"after")
    assert inbox.failed is None
    assert [(entry.seq, entry.body) for entry in inbox.queue("traces").read(0, MIB)] == [(1, b"before"), (2, b"after")]


def test_a_commit_that_failed_after_all_was_written_repeats_no_number(inbox: Inbox) -> None:
    """LMDB's last step, the meta page, may fail and be on disk all the same. The sender comes again: at least once."""
    append(inbox, b"before")

    def half(env: Environment, txn: Any) -> None:
        real(env, txn)
        raise lmdb.Error("mdb_txn_commit: Input/output error")

    answer = Answer()
    with commits(half) as real:
        inbox.append(("traces",), b"again", 1, answer)
        assert isinstance(answer.wait(), StoreError)
        inbox.flush()
    append(inbox, b"again")
    entries = [(entry.seq, entry.body) for entry in inbox.queue("traces").read(0, MIB)]
    assert entries == [(1, b"before"), (2, b"again"), (3, b"again")]
    assert inbox.queue("traces").count == 3


def test_trimming_that_failed_is_tried_again_when_nothing_is_appended(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full inbox takes nothing, so nothing would wake it."""
    monkeypatch.setattr("collector.store.inbox._RETRY_SECONDS", 0.01)
    append(inbox, b"x")

    def failing(env: Environment, txn: Any) -> None:
        raise lmdb.DiskError("mdb_txn_commit: No space left on device")

    with commits(failing):
        inbox.queue("traces").trim(1)
        inbox.flush()
        assert inbox.failed is not None
    deadline = time.monotonic() + 20
    while inbox.bytes and time.monotonic() < deadline:
        time.sleep(0.01)
    assert inbox.bytes == 0
    assert inbox.failed is None


def test_a_receiver_that_raises_does_not_stop_the_others(inbox: Inbox, caplog: pytest.LogCaptureFixture) -> None:
    def broken(error: Exception | None) -> None:
        raise RuntimeError("the connection is gone")

    answer = Answer()
    inbox.append(("traces",), b"x", 1, broken)
    inbox.append(("traces",), b"y", 1, answer)
    assert answer.wait() is None
    assert "the connection is gone" in caplog.text


@pytest.mark.parametrize("size", [10, 10**6])
def test_a_damaged_entry_is_said_to_be_one_and_the_rest_flows_on(
    inbox: Inbox, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    append(inbox, bytes(size), bytes(size), bytes(size), items=5)
    queue = inbox.queue("traces")
    assert len(queue.read(0, 10**9)) == 3  # from memory; what is read again comes from the disk
    flip(queue._records, (2).to_bytes(8), chunk=1 if size > 10**5 else None)
    first, second, third = queue.read(0, 10**9)
    assert (first.body, third.body) == (bytes(size), bytes(size))
    assert (second.seq, second.items, second.body) == (2, 5, b"")
    assert "does not match its seal" in second.damage
    assert "entry 2 (5 items) is lost" in caplog.text
    queue.trim(3)
    inbox.flush()
    assert inbox.bytes == 0


def test_entries_that_were_exchanged_are_both_damaged(inbox: Inbox) -> None:
    append(inbox, b"first", b"other")
    assert [entry.body for entry in inbox.queue("traces").read(0, MIB)] == [b"first", b"other"]
    records = inbox.queue("traces")._records
    one, two = (1).to_bytes(8), (2).to_bytes(8)
    with inbox._env.write() as txn:
        database = inbox._env.database(records.name)
        first, second = bytes(txn.get(one, db=database)), bytes(txn.get(two, db=database))
        txn.put(one, second, db=database)
        txn.put(two, first, db=database)
    assert [bool(entry.damage) for entry in inbox.queue("traces").read(0, MIB)] == [True, True]


def test_damaged_counters_are_counted_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    inbox = open_inbox(tmp_path)
    append(inbox, bytes(10), bytes(20), items=2)
    flip(inbox._counters, b"traces")
    inbox.close()
    inbox = open_inbox(tmp_path)
    queue = inbox.queue("traces")
    assert (queue.last, queue.count, queue.items, queue.bytes) == (2, 2, 4, 30 + 2 * ENTRY_COST)
    assert "counting again" in caplog.text
    append(inbox, b"x")
    assert [entry.seq for entry in queue.read(2, MIB)] == [3]
    inbox.close()


def test_bodies_of_one_read_stand_behind_one_another(inbox: Inbox) -> None:
    bodies = [b"ab", b"", bytes(3 * MIB), b"cde"]
    append(inbox, *bodies)
    entries = inbox.queue("traces").read(0, 8 * MIB)
    assert joined(entries).tobytes() == b"".join(bodies)
    assert joined(entries[1:3]).tobytes() == bodies[2]  # a half of them, as where one cannot be processed
    assert joined(entries[3:]).tobytes() == b"cde"


def test_what_waits_is_what_lies_above_the_position(inbox: Inbox) -> None:
    queue = inbox.queue("traces")
    append(inbox, bytes(10), bytes(20), bytes(30), items=2)
    assert queue.waiting(0) == (6, 60 + 3 * ENTRY_COST)
    assert [entry.seq for entry in queue.read(0, 30)] == [1, 2]
    assert queue.waiting(0) == (6, 60 + 3 * ENTRY_COST)  # read, not finished with
    assert queue.waiting(2) == (2, 30 + ENTRY_COST)  # finished with, still on disk
    assert (queue.items, queue.bytes) == (6, 60 + 3 * ENTRY_COST)
    queue.read(0, 30)  # a batch that failed is read once more, and counts once
    assert queue.waiting(2) == (2, 30 + ENTRY_COST)
    queue.trim(2)
    inbox.flush()
    assert queue.waiting(2) == (2, 30 + ENTRY_COST)
    assert (queue.items, queue.bytes) == (2, 30 + ENTRY_COST)


def test_the_file_does_not_grow_with_what_passed_through(inbox: Inbox) -> None:
    queue = inbox.queue("traces")
    sizes = []
    for _ in range(3):
        for size in (1000, 30_000, 400_000, 1_500_000) * 4:
            append(inbox, bytes(size))
            queue.trim(queue.last - 4)
        inbox.flush()
        sizes.append(inbox._env.used_bytes)
    assert sizes[2] < sizes[0] * 1.5


def test_many_threads_append_while_one_reads_and_trims(inbox: Inbox) -> None:
    queue = inbox.queue("traces")

    def work(number: int) -> None:
        for i in range(50):
            append(inbox, f"{number}/{i}".encode())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    seqs, found = [], []
    while len(found) < 400 and queue.wait(seqs[-1] if seqs else 0, 20):
        for entry in queue.read(seqs[-1] if seqs else 0, 200):
            seqs.append(entry.seq)
            found.append(bytes(entry.body).decode())
        queue.trim(seqs[-1])
    for thread in threads:
        thread.join()
    assert seqs == list(range(1, 401))
    for number in range(8):
        assert [body for body in found if body.startswith(f"{number}/")] == [f"{number}/{i}" for i in range(50)]
