"""Killed at any moment, or with no space left: what was acknowledged is there, in order, once; nothing else was promised."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from collector.component import Payload
from collector.errors import StoreError
from collector.store import Inbox, StateStore
from tests.store_kit import SEALER, Answer

KILLS = 4
MIB = 2**20

# Appends numbers without end, some small and some large, 32 in flight; says "n" when n is durable.
APPENDING = """
import os, random, sys, threading
from pathlib import Path
from collector.store import Inbox, Sealer
inbox = Inbox(Path(sys.argv[1]), max_bytes=2**30, sealer=Sealer([bytes(32)]))
queue = inbox.queue("traces")
rnd = random.Random(int(sys.argv[2]))
flight = threading.Semaphore(32)
def done(n):
    def told(error):
        assert error is None
        os.write(1, b"%d\\n" % n)
        flight.release()
    return told
n = int(sys.argv[2])
while True:
    flight.acquire()
    inbox.append(("traces",), n.to_bytes(8) * rnd.choice([1, 20, 200, 50_000]), 1, done(n))
    n += 1
    if n % 50 == 0:
        queue.trim(queue.last - 400)
"""

# Counts up, everything in one transaction; another thread delivers. Says "n" when n is durable, "-n" when delivered.
COUNTING = """
import os, sys, threading
from pathlib import Path
from collector.component import Payload
from collector.store import Sealer, StateStore
store = StateStore(Path(sys.argv[1]), Sealer([bytes(32)]))
outbox = store.outbox("clickhouse")
def deliver():
    while True:
        if outbox.wait(1) and outbox.count > 5:
            seq, payload = outbox.peek()[0]
            outbox.done(seq)
            os.write(1, b"-%d\\n" % payload.items)
threading.Thread(target=deliver, daemon=True).start()
with store.reader() as reader:
    n = reader.position("traces")
while True:
    n += 1
    with store.transaction() as transaction:
        transaction.component("ledger").put(b"count", b"%d" % n)
        transaction.component("ledger").put(n.to_bytes(8), n.to_bytes(8) * (1 if n % 3 else 60_000))
        if n > 10:
            transaction.component("ledger").delete((n - 10).to_bytes(8))
        transaction.outbox_put("clickhouse", Payload(n.to_bytes(8) * 5000, {"n": n}, n))
        transaction.set_position("traces", n)
    os.write(1, b"%d\\n" % n)
"""


def run_and_kill(code: str, *arguments: object, lines: int, after: float) -> list[int]:
    """Run until so many lines have come and some more seconds have passed, kill; what it said."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
    assert process.stdout is not None
    assert process.stderr is not None
    said = b""
    while said.count(b"\n") < lines:
        more = process.stdout.read(65536)
        assert more, process.stderr.read().decode()
        said += more
    deadline = time.monotonic() + after
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(left, 0.001))
    process.send_signal(signal.SIGKILL)
    while more := process.stdout.read(65536):
        said += more
    process.wait()
    process.stdout.close()
    process.stderr.close()
    return [int(line) for line in said.split()]


def test_no_acknowledged_request_is_lost_whenever_the_collector_is_killed(tmp_path: Path) -> None:
    rnd = random.Random(os.urandom(8))
    seen: dict[int, int] = {}  # sequence number → number, over all lives
    for life in range(KILLS):
        start = (life + 1) * 10**6
        told = run_and_kill(APPENDING, tmp_path, start, lines=rnd.randrange(1, 300), after=rnd.random() * 0.05)
        inbox = Inbox(tmp_path, max_bytes=2**30, sealer=SEALER)
        queue = inbox.queue("traces")
        entries = queue.read(0, 2**40)
        numbers = [int.from_bytes(entry.body[:8]) for entry in entries]
        assert not [entry for entry in entries if entry.damage]
        assert all(
            entry.body == number.to_bytes(8) * (len(entry.body) // 8)
            for entry, number in zip(entries, numbers, strict=True)
        )
        seqs = [entry.seq for entry in entries]
        assert seqs == list(range(queue.first, queue.last + 1))
        assert numbers == sorted(set(numbers))
        assert told == sorted(told)
        # The oldest may have been trimmed, on purpose; of the rest none is missing.
        assert {n for n in told if n >= numbers[0]} <= set(numbers)
        assert queue.last >= max(seen, default=0) + len(told)
        assert all(seen.setdefault(seq, number) == number for seq, number in zip(seqs, numbers, strict=True))
        assert (queue.count, queue.items) == (len(entries), len(entries))
        inbox.close()


def test_position_state_and_outbox_agree_whenever_the_collector_is_killed(tmp_path: Path) -> None:
    rnd = random.Random(os.urandom(8))
    delivered = 0
    for _ in range(KILLS):
        told = run_and_kill(COUNTING, tmp_path, lines=rnd.randrange(1, 60), after=rnd.random() * 0.05)
        committed = max((n for n in told if n > 0), default=0)
        delivered = max([delivered, *(-n for n in told if n < 0)])
        store = StateStore(tmp_path, SEALER)
        with store.reader() as reader:
            position = reader.position("traces")
            values = dict(reader.component("ledger").items())
        assert position >= committed
        assert int(values.pop(b"count")) == position
        assert sorted(values) == [n.to_bytes(8) for n in range(max(1, position - 9), position + 1)]
        assert all(value == key * (1 if int.from_bytes(key) % 3 else 60_000) for key, value in values.items())
        waiting = [payload for _, payload in store.outbox("clickhouse").peek(10**6)]
        assert waiting
        assert [payload.items for payload in waiting] == list(range(waiting[0].items, position + 1))
        # Either the delivery that was told last is the last one, or one more was done and could not be told.
        assert waiting[0].items in (delivered + 1, delivered + 2)
        assert all(
            payload == Payload(payload.items.to_bytes(8) * 5000, {"n": payload.items}, payload.items)
            for payload in waiting
        )
        assert store.outbox("clickhouse").count == len(waiting)
        delivered = waiting[0].items - 1
        store.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def appended(inbox: Inbox, body: bytes) -> Exception | None:
    answer = Answer()
    inbox.append(("traces",), body, 1, answer)
    return answer.wait()


def until_it_fails(write: Callable[[int], Exception | None]) -> int:
    """How many writes succeeded before the first that did not."""
    for number in range(1000):
        if error := write(number):
            assert isinstance(error, StoreError)
            assert "the disk is full" in str(error)
            return number
    raise AssertionError("the disk was never full")


@pytest.mark.parametrize("size", [3000, 100_000, 700_000])
def test_an_inbox_on_a_full_disk_acknowledges_nothing_and_works_again(small_disk: Path, size: int) -> None:
    inbox = Inbox(small_disk / "inbox", max_bytes=2**30, sealer=SEALER)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(5 * MIB))
    queue = inbox.queue("traces")
    kept = until_it_fails(lambda n: appended(inbox, n.to_bytes(8) + bytes(size)))
    assert kept > 0
    for _ in range(3):
        assert isinstance(appended(inbox, bytes(10 * MIB)), StoreError)
    assert isinstance(inbox.failed, StoreError)
    assert [entry.body[:8] for entry in queue.read(0, 2**30)] == [n.to_bytes(8) for n in range(kept)]

    # The pipeline works off what there is: that alone makes room, though the disk stays full.
    queue.trim(kept)
    inbox.flush(20)
    assert appended(inbox, b"small") is None
    assert inbox.failed is None

    ballast.unlink()
    assert appended(inbox, bytes(MIB)) is None
    assert [entry.seq for entry in queue.read(0, 2**30)] == [kept + 1, kept + 2]
    inbox.close()
    inbox = Inbox(small_disk / "inbox", max_bytes=2**30, sealer=SEALER)
    assert [len(entry.body) for entry in inbox.queue("traces").read(0, 2**30)] == [5, MIB]
    inbox.close()


def test_a_state_on_a_full_disk_keeps_what_it_had_and_works_again(small_disk: Path) -> None:
    store = StateStore(small_disk / "state", SEALER)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(4 * MIB))

    def write(number: int) -> StoreError | None:
        try:
            with store.transaction() as transaction:
                transaction.component("ledger").put(number.to_bytes(8), bytes(200_000))
                transaction.outbox_put("clickhouse", Payload(bytes(100_000), {"n": number}, 1))
                transaction.set_position("traces", number + 1)
        except StoreError as error:
            return error
        return None

    kept = until_it_fails(write)
    outbox = store.outbox("clickhouse")
    with store.reader() as reader:
        assert reader.position("traces") == kept == outbox.count == len(reader.component("ledger").keys())

    outbox.done(outbox.peek()[0][0])  # a delivery makes room for another batch
    ballast.unlink()
    assert write(kept) is None
    store.close()
    store = StateStore(small_disk / "state", SEALER)
    assert [payload.meta["n"] for _, payload in store.outbox("clickhouse").peek(1000)] == list(range(1, kept + 1))
    store.close()
