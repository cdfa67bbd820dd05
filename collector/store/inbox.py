"""The inbox: requests as they came, on disk before anybody is told that they were taken.

`append` only queues. One thread takes everything that waits, writes it in one transaction, and after the commit (fsync)
calls every `done`: the more requests are in flight, the less of a commit each one costs. The same thread trims,
along with the next appends, so that no sender waits for a pipeline.

Delivery from here on is at least once: after a crash, or after an error in the very last step of a commit, a
request may be there whose sender was told to come back.
"""

from __future__ import annotations

import builtins
import logging
import os
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple

from collector.errors import StoreError, StoreFull
from collector.store.crypto import Damaged, Sealer
from collector.store.environment import Environment, MapFull, Txn
from collector.store.queue import ENTRY_COST, PREFIX, InboxQueue, QueueCounters, entry_key
from collector.store.records import Records, check_keys

Done = Callable[[Exception | None], None]

_COUNTERS = struct.Struct(">QQQQ")  # next sequence number, entries, items, bytes
_MAX_QUEUES = 100
_GROUP_ENTRIES = 10_000  # what one transaction takes at most
_GROUP_BYTES = 16 * 2**20
_TRIM_ENTRIES = 20_000
_RETRY_SECONDS = 1.0
_RESERVE_BYTES = 2**26  # of disk space, or a twentieth of the disk if that is less

log = logging.getLogger(__name__)


class _Append(NamedTuple):
    queues: tuple[str, ...]
    body: bytes
    items: int
    received_ns: int
    done: Done


class Inbox:
    """All queues of a data directory, bounded together. Closing it commits what waits."""

    def __init__(self, path: Path, *, max_bytes: int, sealer: Sealer) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.failed: StoreError | None = None  # the last disk error; None again after the next commit
        self._sealer = sealer
        self._lock = threading.Lock()
        self._closed = False
        self._pending = 0  # bytes that wait for a commit
        self._uncertain = False  # whether the last commit, which failed, is on disk all the same
        self._waiting: SimpleQueue[_Append | threading.Event | None] = SimpleQueue()
        self._env = Environment(
            path, ("keys", "counters"), map_bytes=max(4 * max_bytes, 2**34), max_databases=4 + 2 * _MAX_QUEUES
        )
        try:
            self._counters = Records(self._env, "counters", sealer)
            with self._env.read() as txn:
                names = [key.decode() for key, _ in self._counters.records(txn)]
            self._queues = {name: self._made(name) for name in names}
            check_keys(self._env, sealer, [self._counters, *(queue._records for queue in self._queues.values())])
            with self._env.read() as txn:
                for queue in self._queues.values():
                    queue._counters = self._load_counters(txn, queue)
        except BaseException:
            self._env.close()
            raise
        self._stored = sum(queue.bytes for queue in self._queues.values())
        self._thread = threading.Thread(target=self._run, name="inbox", daemon=True)
        self._thread.start()

    @property
    def bytes(self) -> int:
        """Bytes that count against `max_bytes`: on disk and waiting for a commit."""
        return self._stored + self._pending

    @property
    def items(self) -> int:
        """Items on disk, counted once for each queue that they are in."""
        return sum(queue.items for queue in list(self._queues.values()))

    @property
    def queues(self) -> tuple[str, ...]:
        """Names of all queues, those included that only an earlier config knew."""
        return tuple(self._queues)

    def append(self, queues: tuple[str, ...], body: builtins.bytes, items: int, done: Done) -> None:
        """Keep a request for these pipelines. `done(None)` once it is durable for all of them, `done(StoreError)` if not.

        `done` runs on the inbox's thread: it must be quick. Raises `StoreFull` at once where there is no room, also for
        a request that would not even fit into an empty inbox. Raises `StoreError` after `close`.
        """
        cost = (len(body) + ENTRY_COST) * len(queues)
        with self._lock:
            if self._closed:
                raise StoreError(f"{self.path}: the inbox is closed")
            if self._stored + self._pending + cost > self.max_bytes:
                raise StoreFull(f"the inbox is full: {self.bytes} of {self.max_bytes} bytes (service.inbox.max_size)")
            self._pending += cost
            # Under the lock, so that nothing can come in behind the end mark of `close`.
            self._waiting.put(_Append(queues, body, items, time.time_ns(), done))

    def queue(self, name: str, after: int = 0) -> InboxQueue:
        """The queue of a pipeline, made if need be.

        `after`: the position that the pipeline has committed. New entries come above it, even where the inbox was deleted
        and the state was not; otherwise the pipeline would take them for known ones. Raises `StoreError`.
        """
        queue = self._queues.get(name)
        if queue is not None and queue.last >= after:
            return queue
        if queue is None:
            if len(self._queues) >= _MAX_QUEUES:
                raise StoreError(f"{self.path}: more than {_MAX_QUEUES} queues")
            queue = self._made(name)
        counters = QueueCounters()

        def committed() -> None:
            if name not in self._queues:
                self._queues = {**self._queues, name: queue}  # another thread may be iterating over the old one
            self._queues[name]._commit(counters, {})

        with self._env.write(committed) as txn:
            counters = replace(self._queues.get(name, queue)._counters)
            counters.next = max(counters.next, after + 1)
            self._store_counters(txn, name, counters)
        return self._queues[name]

    def _made(self, name: str) -> InboxQueue:
        return InboxQueue(self._env, self._sealer, name, self._wake)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything that was appended or trimmed before is committed, or has failed. False on timeout."""
        reached = threading.Event()
        with self._lock:
            if self._closed:
                return True
            self._waiting.put(reached)
        return reached.wait(timeout)

    def close(self) -> None:
        """Commit what waits, then close. May be called twice."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._waiting.put(None)
        self._thread.join()
        self._env.close()
        for queue in self._queues.values():
            queue._close()

    # the committing thread

    def _wake(self) -> None:
        self._waiting.put(threading.Event())

    def _run(self) -> None:
        reached: list[threading.Event] = []
        running = True
        while running:
            group, events, running = self._take()
            error = self._commit(group)
            for entry in group:
                try:
                    entry.done(error and StoreError(str(error)))
                except Exception:
                    log.exception("inbox: telling a receiver of its commit failed")
            reached += events
            if running and error is None and self._trimming:
                self._wake()
                continue
            for event in reached:
                event.set()
            reached.clear()

    @property
    def _trimming(self) -> bool:
        """Something is finished with and not deleted yet."""
        return any(queue._trimmed > queue._released for queue in self._queues.values())

    def _take(self) -> tuple[list[_Append], list[threading.Event], bool]:
        """Everything that waits, as far as it fits into one transaction; waits for the first thing. False: the end."""
        group: list[_Append] = []
        events: list[threading.Event] = []
        size = 0
        try:
            # Where trimming failed, it is tried again even if nothing comes: nothing may come because there is no room.
            thing = self._waiting.get(timeout=_RETRY_SECONDS if self._trimming else None)
            while thing is not None:
                if isinstance(thing, _Append):
                    group.append(thing)
                    size += len(thing.body)
                else:
                    events.append(thing)
                if len(group) >= _GROUP_ENTRIES or size >= _GROUP_BYTES:
                    return group, events, True
                thing = self._waiting.get_nowait()
        except Empty:
            return group, events, True
        return group, events, False

    def _commit(self, group: list[_Append]) -> StoreError | None:
        """Write a group; the error if it is not durable. Room is given back for what failed."""
        cost = sum((len(entry.body) + ENTRY_COST) * len(entry.queues) for entry in group)
        try:
            if self.failed is not None:
                self._write([])  # on a full disk trimming may succeed alone, and make room for the rest
            self._check_disk(cost)
            try:
                self._write(group)
            except MapFull:
                self._write(group)  # the environment has grown
            if self.failed is not None:
                log.warning("inbox: the disk takes requests again")
            self.failed = None
            self._uncertain = False
        except Exception as error:
            if self.failed is None:
                log.error("inbox: %s", error, exc_info=not isinstance(error, StoreError))
            self.failed = error if isinstance(error, StoreError) else StoreError(f"{self.path}: {error!r}")
            self._uncertain = True
        with self._lock:
            self._pending -= cost
            self._stored = sum(queue.bytes for queue in self._queues.values())
        return self.failed

    def _check_disk(self, cost: int) -> None:
        """Leave some of the disk to those who work the inbox off: a state that cannot commit would never let it trim."""
        disk = os.statvfs(self.path)
        left = disk.f_bavail * disk.f_frsize
        reserve = min(_RESERVE_BYTES, disk.f_blocks * disk.f_frsize // 20)
        need = reserve + 2 * cost  # twice: pages are not filled to the last byte
        # The file never shrinks, but what is free in it is used again.
        if left < need and self._env.free_bytes < need:
            raise StoreFull(
                f"{self.path}: the disk is full: {left} bytes left, of which {reserve} are kept for the state"
            )

    def _write(self, group: list[_Append]) -> None:
        for name in {name for entry in group for name in entry.queues if name not in self._queues}:
            self.queue(name)
        changed: dict[InboxQueue, QueueCounters] = {}
        released: dict[InboxQueue, int] = {}
        written: dict[InboxQueue, dict[int, builtins.bytes]] = {}

        def committed() -> None:
            for queue, through in released.items():
                queue._released = through
            for queue, counters in changed.items():
                queue._commit(counters, written.get(queue, {}))

        with self._env.write(committed) as txn:
            if self._uncertain:
                for queue in self._queues.values():
                    queue._counters = self._load_counters(txn, queue)
            for queue in self._queues.values():
                if queue._trimmed > queue._released:
                    counters = changed[queue] = replace(queue._counters)
                    released[queue] = self._trim(txn, queue, counters)
            for entry in group:
                for name in entry.queues:
                    queue = self._queues[name]
                    counters = changed.get(queue) or changed.setdefault(queue, replace(queue._counters))
                    prefix = PREFIX.pack(entry.received_ns, entry.items, len(entry.body))
                    queue._records.put(txn, entry_key(counters.next), entry.body, prefix, new=True)
                    written.setdefault(queue, {})[counters.next] = entry.body
                    counters.next += 1
                    counters.entries += 1
                    counters.items += entry.items
                    counters.bytes += len(entry.body) + ENTRY_COST
            for queue, counters in changed.items():
                self._store_counters(txn, queue.name, counters)

    def _trim(self, txn: Txn, queue: InboxQueue, counters: QueueCounters) -> int:
        """Delete what the pipeline has finished with; up to where. A long backlog takes several transactions."""
        finished: list[bytes] = []
        through = queue._trimmed
        for key, record in queue._records.records(txn):
            if int.from_bytes(key) > through:
                break
            if len(finished) == _TRIM_ENTRIES:
                through = int.from_bytes(finished[-1])
                break
            _, items, length = PREFIX.unpack_from(record)
            counters.entries -= 1
            counters.items -= items
            counters.bytes -= length + ENTRY_COST
            finished.append(key)
        for key in finished:
            queue._records.delete(txn, key)
        return through

    # counters: what a queue holds is known without reading it

    def _store_counters(self, txn: Txn, name: str, counters: QueueCounters) -> None:
        packed = _COUNTERS.pack(counters.next, counters.entries, counters.items, counters.bytes)
        self._counters.put(txn, name.encode(), packed)

    def _load_counters(self, txn: Txn, queue: InboxQueue) -> QueueCounters:
        try:
            return QueueCounters(*_COUNTERS.unpack(self._counters.get(txn, queue.name.encode()) or b""))
        except (Damaged, struct.error) as damage:
            log.error("inbox queue %s: its counters are lost (%s); counting again", queue.name, damage)
        counters = QueueCounters()
        for key, record in queue._records.records(txn):
            _, items, length = PREFIX.unpack_from(record)
            counters.next = int.from_bytes(key) + 1
            counters.entries += 1
            counters.items += items
            counters.bytes += length + ENTRY_COST
        return counters
