"""The environment: one collector per directory, onlookers, growing, coming back after errors."""

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import lmdb
import pytest

from collector.component import Payload
from collector.errors import StoreError
from collector.store import DeadLetter, Inbox, StateStore
from collector.store.environment import Environment, MapFull
from tests.store_kit import SEALER, append, commits

LOOK = """
import sys
from pathlib import Path
from collector.store import DeadLetters, StateStore, Sealer
store = StateStore(Path(sys.argv[1]), Sealer([bytes(32)]), read_only=True)
print(len(DeadLetters(store).list()), store.outbox("clickhouse").count, flush=True)
if len(sys.argv) > 2:
    with store.reader() as reader:
        print("reading", flush=True)
        sys.stdin.read()
"""


def environment(path: Path, map_bytes: int = 2**30) -> Environment:
    return Environment(path, ("db",), map_bytes=map_bytes)


def look(path: Path) -> str:
    return subprocess.run([sys.executable, "-c", LOOK, path], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("open_", [lambda p: StateStore(p, SEALER), lambda p: Inbox(p, max_bytes=2**20, sealer=SEALER)])
def test_a_second_collector_is_refused_and_told_who_is_there(tmp_path: Path, open_: Any) -> None:
    first = open_(tmp_path)
    with pytest.raises(StoreError, match=f"in use by process {os.getpid()}.*one collector at a time"):
        open_(tmp_path)
    append(first, b"x") if isinstance(first, Inbox) else None
    first.close()
    open_(tmp_path).close()


def test_the_lock_goes_with_its_process_however_it_ends(tmp_path: Path) -> None:
    code = "import sys, time; from pathlib import Path; from collector.store import *;"
    code += "store = StateStore(Path(sys.argv[1]), Sealer([bytes(32)])); print(1, flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(StoreError, match=f"in use by process {process.pid}"):
        StateStore(tmp_path, SEALER)
    process.kill()
    process.wait()
    process.stdout.close()
    StateStore(tmp_path, SEALER).close()


def test_an_onlooker_reads_while_the_collector_runs_and_writes_nothing(tmp_path: Path) -> None:
    store = StateStore(tmp_path, SEALER)
    with store.transaction() as transaction:
        transaction.dead_letter(DeadLetter("request", "traces", "", 1, b""))
        transaction.outbox_put("clickhouse", Payload(b"x"))
    assert look(tmp_path) == "1 1\n"
    store.outbox("clickhouse").done(1)
    assert look(tmp_path) == "1 0\n"
    store.close()
    onlooker = StateStore(tmp_path, SEALER, read_only=True)
    with pytest.raises(StoreError), onlooker.transaction():
        pass
    onlooker.close()


def test_an_onlooker_of_nothing_says_so_and_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store here"):
        StateStore(tmp_path / "none", SEALER, read_only=True)
    assert not (tmp_path / "none").exists()


def test_an_onlooker_that_died_does_not_hold_back_free_pages(tmp_path: Path) -> None:
    store = StateStore(tmp_path, SEALER)
    process = subprocess.Popen(
        [sys.executable, "-c", LOOK, tmp_path, "stay"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdin is not None
    process.stdout.readline()
    assert process.stdout.readline() == b"reading\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    process.stdin.close()
    store._env._checked -= 3600  # the next look for dead readers is due
    for i in range(30):
        with store.transaction() as transaction:
            transaction.component("ledger").put(b"key", bytes(10**6))
        if i == 10:
            used = store._env.used_bytes
    assert store._env.used_bytes == used
    store.close()


def test_the_map_grows_by_itself(tmp_path: Path) -> None:
    env = environment(tmp_path, map_bytes=2**20)
    for i in range(100):
        with env.write() as txn:
            txn.put(i.to_bytes(8), bytes(100_000), db=env.database("db"))
    with env.read() as txn:
        assert txn.stat(db=env.database("db"))["entries"] == 100
    env.close()


def test_a_transaction_larger_than_the_map_fails_and_fits_after_a_few_tries(tmp_path: Path) -> None:
    env = environment(tmp_path, map_bytes=2**20)

    def fill() -> None:
        with env.write() as txn:
            for i in range(50):
                txn.put(i.to_bytes(8), bytes(100_000), db=env.database("db"))

    failures = 0
    while True:
        try:
            fill()
            break
        except MapFull:
            failures += 1
    assert 1 <= failures <= 4
    env.close()


def test_growing_waits_for_readers_and_is_put_off_where_they_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collector.store.environment._GROWTH_WAIT", 0.05)
    env = environment(tmp_path, map_bytes=2**21)
    inside, leave = threading.Event(), threading.Event()

    def reading() -> None:
        with env.read():
            inside.set()
            leave.wait(20)

    thread = threading.Thread(target=reading)
    thread.start()
    inside.wait(20)
    for i in range(8):  # past a quarter of the map
        with env.write() as txn:
            txn.put(i.to_bytes(8), bytes(100_000), db=env.database("db"))
    assert env._map_bytes == 2**21
    leave.set()
    thread.join()
    with env.write() as txn:
        txn.put(b"more", bytes(100_000), db=env.database("db"))
    assert env._map_bytes == 2**22
    env.close()


def mapped_bytes() -> int:
    """Resident memory of this process that belongs to files."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssFile:"))


def test_a_backlog_that_was_read_does_not_stay_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.store.environment._FORGET_BYTES", 8 * 2**20)
    inbox = Inbox(tmp_path, max_bytes=2**30, sealer=SEALER)
    append(inbox, *[bytes(2**20)] * 40)
    before, queue = mapped_bytes(), inbox.queue("traces")
    for seq in range(0, 40, 4):
        assert len(queue.read(seq, 4 * 2**20)) == 4
        queue.trim(seq + 4)
        inbox.flush()
    assert mapped_bytes() - before < 24 * 2**20
    inbox.close()


def test_little_address_space_is_lived_with(tmp_path: Path) -> None:
    code = "import resource, sys; from pathlib import Path; from collector.store import *;"
    code += "used = int(open('/proc/self/statm').read().split()[0]) * 4096;"
    code += "resource.setrlimit(resource.RLIMIT_AS, (used + 2**32, used + 2**32));"
    code += "store = StateStore(Path(sys.argv[1]), Sealer([bytes(32)])); print(store._env._map_bytes)"
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert 2**28 <= int(done.stdout) <= 2**32


def test_an_environment_that_lmdb_gave_up_is_opened_again(tmp_path: Path) -> None:
    """A commit whose last write fails leaves LMDB refusing everything until it is opened again."""
    env = environment(tmp_path)
    with env.write() as txn:
        txn.put(b"1", b"1", db=env.database("db"))
    handle = env.database("db")
    calls = []

    class Panicking:
        """An environment after MDB_FATAL_ERROR; py-lmdb's own cannot be brought there without a failing device."""

        def __init__(self, real: Any) -> None:
            self.real = real

        def begin(self, **options: Any) -> Any:
            calls.append(options)
            raise lmdb.PanicError("mdb_txn_begin: MDB_PANIC")

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

    env._env = Panicking(env._env)
    with env.write() as txn:
        txn.put(b"2", b"2", db=env.database("db"))
    assert len(calls) == 1
    assert env.database("db") is not handle
    env._env = Panicking(env._env)
    with env.read() as txn:
        assert txn.stat(db=env.database("db"))["entries"] == 2
    env.close()


def test_errors_of_the_disk_at_opening_name_the_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(StoreError, match=r"file.*(File exists|Not a directory)"):
        environment(tmp_path / "file" / "state")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "data.mdb").write_bytes(b"something else" * 1000)
    with pytest.raises(StoreError, match=r"other: .*MDB_INVALID"):
        environment(tmp_path / "other")
    (tmp_path / "other" / "data.mdb").unlink()
    environment(tmp_path / "other").close()  # the lock was given back


def test_a_store_that_is_read_is_not_closed_under_the_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.store.environment._GROWTH_WAIT", 0.05)
    env = environment(tmp_path)
    with env.write() as txn:
        txn.put(b"key", b"value", db=env.database("db"))
    with env.read() as txn:
        value = txn.get(b"key", db=env.database("db"))
        env.close()
        assert bytes(value) == b"value"  # its page is still mapped
    with pytest.raises(StoreError, match="closed"), env.read():
        pass


def test_nothing_is_committed_where_fsync_fails(tmp_path: Path) -> None:
    env = environment(tmp_path)

    def failing(env: Environment, txn: Any) -> None:
        raise lmdb.Error("mdb_txn_commit: Input/output error", errno.EIO)

    with commits(failing), pytest.raises(StoreError, match="Input/output"), env.write() as txn:
        txn.put(b"key", b"value", db=env.database("db"))
    with env.read() as txn:
        assert txn.get(b"key", db=env.database("db")) is None
    env.close()


def test_a_file_size_limit_fails_the_write_and_no_other(tmp_path: Path) -> None:
    env = environment(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
    try:
        for i in range(3):
            with pytest.raises(StoreError, match=r"File too large|Input/output error"), env.write() as txn:
                txn.put(b"large%d" % i, bytes(2**21), db=env.database("db"))
        with env.write() as txn:
            txn.put(b"small", b"fits", db=env.database("db"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with env.write() as txn:
        txn.put(b"large", bytes(2**21), db=env.database("db"))
        assert txn.stat(db=env.database("db"))["entries"] == 2
    env.close()
