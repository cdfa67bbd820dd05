"""One pipeline's view of the inbox: reading what came, waiting for more, and saying what is finished with."""

from __future__ import annotations

import builtins
import logging
import struct
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from collector.memory import large_buffer
from collector.otlp.compiled import read_only
from collector.otlp.tables import U8
from collector.store.crypto import Damaged, Sealer
from collector.store.environment import Environment, Txn
from collector.store.records import Records

ENTRY_COST = 64  # bytes that an entry counts besides its body
RECENT_BYTES = 32 * 2**20  # of bodies that are kept in memory until they are read, besides lying on disk
_LONGEST = 2**31  # bytes of a body
PREFIX = struct.Struct(">QII")  # of an entry's record: received_ns, items, bytes of the body

log = logging.getLogger(__name__)


class Entry(NamedTuple):
    """One request. Where `damage` is set, the body could not be read back and is empty: say so, then go on.

    The bodies of one `read` stand behind one another in one `buffer`, each from `at` on: see `joined`.
    """

    seq: int
    received_ns: int  # Unix time
    items: int
    body: memoryview
    damage: str
    buffer: U8
    at: int


def joined(entries: Sequence[Entry]) -> U8:
    """The bodies of entries that one `read` gave, in their order and none left out, as one. Nothing is copied."""
    first, last = entries[0], entries[-1]
    return read_only(first.buffer[first.at : last.at + len(last.body)])


@dataclass(slots=True)
class QueueCounters:
    """What a queue holds, as of one transaction."""

    next: int = 1
    entries: int = 0
    items: int = 0
    bytes: int = 0


class InboxQueue:
    """One pipeline's view of the inbox. `read`, `wait` and `trim` are for that pipeline's thread.

    What begins with an underscore is for the inbox, which writes; `wake` has it delete what was finished with.
    """

    def __init__(self, env: Environment, sealer: Sealer, name: str, wake: Callable[[], None]) -> None:
        self.name = name
        self._env = env
        self._records = Records(env, f"queue/{name}", sealer, PREFIX.size)
        self._wake = wake
        self._closed = False
        self._counters = QueueCounters()
        self._trimmed = 0  # entries up to here are finished with,
        self._released = 0  # and up to here deleted
        # Of each `read` that may still be on disk: last, items, bytes.
        self._reads: deque[tuple[int, int, int]] = deque()
        self._recent: dict[int, bytes] = {}
        self._recent_bytes = 0
        self._changed = threading.Condition()

    @property
    def first(self) -> int:
        """Sequence number of the oldest entry that is kept; `last + 1` where there is none."""
        with self._env.read() as txn:
            for key, _ in self._records.records(txn, entry_key(self._trimmed + 1)):
                return int.from_bytes(key)
        return self.last + 1

    @property
    def last(self) -> int:
        """Sequence number of the newest entry ever committed; 0 where there never was one."""
        return self._counters.next - 1

    @property
    def count(self) -> int:
        """Requests on disk, those included that are about to be trimmed."""
        return self._counters.entries

    @property
    def items(self) -> int:
        """Items on disk, likewise."""
        return self._counters.items

    @property
    def bytes(self) -> int:
        """Bytes of bodies on disk, likewise, and `ENTRY_COST` for each."""
        return self._counters.bytes

    def waiting(self, after: int) -> tuple[int, int]:
        """Items, and bytes as in `bytes`, that came in above `after`, which the pipeline has read and finished with.

        What is finished with stays on disk until it is trimmed, a second or so; it is not work any more.
        """
        with self._changed:
            done = [read for read in self._reads if read[0] <= after]
            counters = self._counters
        return counters.items - sum(r[1] for r in done), counters.bytes - sum(r[2] for r in done)

    def oldest_ns(self, after: int) -> int | None:
        """When the oldest request above `after` came in (Unix time); None where none waits. Raises `StoreError`."""
        if self.last <= after:
            return None
        with self._env.read() as txn:
            for _, record in self._records.records(txn, entry_key(max(after, self._trimmed) + 1)):
                received_ns: int = PREFIX.unpack_from(record)[0]
                return received_ns
        return None

    def read(self, after: int, max_bytes: int, max_items: int = 2**62) -> list[Entry]:
        """Entries with sequence numbers above `after`, in order: as many as both bounds allow, one at least.

        A damaged entry comes with `damage` and without a body. Raises `StoreError`.
        """
        entries: list[Entry] = []
        with self._env.read() as txn:
            found = self._within(txn, after, max_bytes, max_items)
            buffer, at = large_buffer(sum(length for _, _, _, _, length in found)), 0
            room = memoryview(buffer)  # type: ignore[arg-type]
            for key, record, received_ns, items, length in found:
                seq, size, damage = int.from_bytes(key), length, ""
                try:
                    body = self._take(seq)
                    if body is None:
                        body = self._records.open(txn, key, record)
                    room[at : at + length] = body
                except (Damaged, ValueError) as error:  # or not of the length that its record says
                    size, damage = 0, str(error)
                    log.error("inbox queue %s: entry %d (%d items) is lost: %s", self.name, seq, items, damage)
                entries.append(Entry(seq, received_ns, items, room[at : at + size], damage, buffer, at))
                at += length
        if found:
            read = (entries[-1].seq, sum(entry.items for entry in entries), at + len(entries) * ENTRY_COST)
            with self._changed:
                while self._reads and self._reads[-1][0] > after:  # read before, and not finished with
                    self._reads.pop()
                self._reads.append(read)
        return entries

    def _within(
        self, txn: Txn, after: int, max_bytes: int, max_items: int
    ) -> list[tuple[builtins.bytes, memoryview, int, int, int]]:
        """Key, record, time of arrival, items and length of the entries that `read` gives."""
        found: list[tuple[builtins.bytes, memoryview, int, int, int]] = []
        size = total = 0
        for key, record in self._records.records(txn, entry_key(max(after, self._trimmed) + 1)):
            received_ns, items, length = PREFIX.unpack_from(record)
            size, total = size + length, total + items
            if found and (size > max_bytes or total > max_items):
                break
            # The length is not proven yet: no request is as large as one that only a damaged record can claim.
            found.append((key, record, received_ns, items, min(length, _LONGEST)))
        return found

    def wait(self, after: int, timeout: float) -> bool:
        """Wait until there is something above `after`, at most `timeout` seconds. True if there is."""
        with self._changed:
            self._changed.wait_for(lambda: self.last > after or self._closed, timeout)
        return self.last > after

    def trim(self, through: int) -> None:
        """Entries up to and with this one are finished with. Returns at once; the room is free a commit later."""
        if through > self._trimmed:
            self._trimmed = min(through, self.last)
            for seq in [seq for seq in list(self._recent) if seq <= through]:
                self._take(seq)
            self._wake()

    def _take(self, seq: int) -> builtins.bytes | None:
        """The body, where it is still in memory: a pipeline that keeps up need not decrypt what has just been sealed."""
        with self._changed:
            body = self._recent.pop(seq, None)
            self._recent_bytes -= len(body or b"")
        return body

    def _commit(self, counters: QueueCounters, bodies: Mapping[int, builtins.bytes]) -> None:
        """Publish what a transaction made of the queue; `bodies` are those that it wrote, by sequence number."""
        grown = counters.next != self._counters.next
        with self._changed:
            self._counters = counters
            while self._reads and self._reads[0][0] <= self._released:
                self._reads.popleft()
            for seq, body in bodies.items():
                if self._recent_bytes + len(body) > RECENT_BYTES:
                    break
                self._recent[seq] = body
                self._recent_bytes += len(body)
            if grown:
                self._changed.notify_all()

    def _close(self) -> None:
        """Nothing comes any more: wakes who waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def entry_key(seq: int) -> bytes:
    """The key of an entry's record: keys sort as the numbers do."""
    return seq.to_bytes(8)
