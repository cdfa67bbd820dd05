"""Outboxes: what each exporter has yet to deliver, in order, on disk.

A pipeline puts payloads in within its transaction (`state.Transaction.outbox_put`); the exporter's sender peeks,
delivers, and says `done` or `bury`. A payload is two records: its head (meta, items, size) and its body.
"""

from __future__ import annotations

import json
import logging
import struct
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from typing import Protocol

from collector.component import Payload
from collector.store.crypto import Damaged, Sealer
from collector.store.environment import Environment, Txn
from collector.store.records import Records

HEAD, BODY = b"\0", b"\1"  # the last byte of a key: a head sorts before its body
_COUNTERS = struct.Struct(">QQQQ")

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Counters:
    """What an outbox (or the dead-letter store) holds, as of one transaction."""

    next: int = 1
    count: int = 0
    items: int = 0
    size: int = 0  # bytes of the bodies

    def add(self, items: int, size: int) -> None:
        """One more, behind all others."""
        self.next += 1
        self.count += 1
        self.items += items
        self.size += size

    def remove(self, items: int, size: int) -> None:
        """One less; of one that could not be read, nothing is known but that."""
        self.count -= 1
        self.items = self.items - items if self.count else 0
        self.size = self.size - size if self.count else 0

    def pack(self) -> bytes:
        return _COUNTERS.pack(self.next, self.count, self.items, self.size)

    @classmethod
    def unpack(cls, packed: bytes) -> Counters:
        return cls(*_COUNTERS.unpack(packed))


class OutboxTable:
    """The records of all outboxes. Every method works within the caller's transaction."""

    def __init__(self, env: Environment, sealer: Sealer) -> None:
        self.env = env
        self.records = Records(env, "outbox", sealer)
        self.counters = Records(env, "outbox_counters", sealer)

    def load(self, txn: Txn, name: str) -> Counters:
        """Counters are kept in the environment; damaged ones are counted again."""
        try:
            packed = self.counters.get(txn, name.encode())
            return Counters() if packed is None else Counters.unpack(packed)
        except (Damaged, struct.error) as damage:
            log.error("outbox %s: its counters are lost (%s); counting again", name, damage)
        counters = Counters()
        for key, record in self.records.records(txn, prefix=_prefix(name)):
            seq = int.from_bytes(key[-9:-1])
            counters.next = seq + 1
            if key.endswith(HEAD):
                counters.count += 1
                try:
                    head = json.loads(self.records.open(txn, key, record))
                    counters.items += head["items"]
                    counters.size += head["size"]
                except Damaged:
                    pass  # `peek` comes to it and says so
        return counters

    def store(self, txn: Txn, name: str, counters: Counters) -> None:
        self.counters.put(txn, name.encode(), counters.pack())

    def put(self, txn: Txn, name: str, payload: Payload) -> Counters:
        """Add a payload; the counters after it."""
        counters = self.load(txn, name)
        key = _key(name, counters.next)
        head = {"items": payload.items, "size": len(payload.body), "meta": payload.meta, "time_ns": now_ns()}
        self.records.put(txn, key + HEAD, json.dumps(head, separators=(",", ":")).encode())
        self.records.put(txn, key + BODY, payload.body)
        counters.add(payload.items, len(payload.body))
        self.store(txn, name, counters)
        return counters

    def get(self, txn: Txn, name: str, seq: int) -> Payload:
        """Raises `Damaged`; `KeyError` where there is no such payload."""
        key = _key(name, seq)
        packed = self.records.get(txn, key + HEAD)
        if packed is None:
            raise KeyError(seq)
        head = json.loads(packed)
        body = self.records.get(txn, key + BODY)
        if body is None:
            raise Damaged("the body is missing")
        return Payload(body, head["meta"], head["items"])

    def time_ns(self, txn: Txn, name: str, seq: int) -> int | None:
        """When a payload was put in (Unix time); None where that is not known."""
        try:
            packed = self.records.get(txn, _key(name, seq) + HEAD)
        except Damaged:
            return None
        found: int | None = json.loads(packed).get("time_ns") if packed is not None else None
        return found

    def delete(self, txn: Txn, name: str, seq: int) -> Counters:
        """Remove a payload, also a damaged one; the counters after it."""
        counters = self.load(txn, name)
        key = _key(name, seq)
        head = {"items": 0, "size": 0}
        with suppress(Damaged):
            packed = self.records.get(txn, key + HEAD)
            head = head if packed is None else json.loads(packed)
        self.records.delete(txn, key + BODY)
        if self.records.delete(txn, key + HEAD):
            counters.remove(head["items"], head["size"])
            self.store(txn, name, counters)
        return counters

    def seqs(self, txn: Txn, name: str, n: int) -> list[int]:
        """The sequence numbers of the oldest `n` payloads."""
        found: list[int] = []
        for key, _ in self.records.records(txn, prefix=_prefix(name)):
            if key.endswith(HEAD):
                found.append(int.from_bytes(key[-9:-1]))
                if len(found) == n:
                    break
        return found

    def names(self, txn: Txn) -> list[str]:
        return [key.decode() for key, _ in self.counters.records(txn)]


class Leaving(Protocol):
    """A transaction of the store, as far as payloads leave an outbox by it (`state.Transaction`)."""

    def outbox_done(self, name: str, seq: int) -> None: ...

    def outbox_bury(self, name: str, seq: int, reason: str) -> None: ...


class Outbox:
    """One exporter's outbox. `peek`, `done` and `bury` are for its sender's thread."""

    def __init__(
        self,
        table: OutboxTable,
        name: str,
        counters: Counters,
        transaction: Callable[[], AbstractContextManager[Leaving]],
    ) -> None:
        self.name = name
        self._table = table
        self._transaction = transaction
        self._counters = counters
        self._closed = False
        self._changed = threading.Condition()

    @property
    def count(self) -> int:
        """Payloads that are not done yet."""
        return self._counters.count

    @property
    def items(self) -> int:
        """Spans, rows or records in them."""
        return self._counters.items

    @property
    def bytes(self) -> int:
        """Bytes of their bodies."""
        return self._counters.size

    @property
    def oldest_ns(self) -> int | None:
        """When the oldest payload that waits was put in (Unix time); None where nothing waits. Raises `StoreError`."""
        with self._table.env.read() as txn:
            for seq in self._table.seqs(txn, self.name, 1):
                return self._table.time_ns(txn, self.name, seq)
        return None

    def peek(self, n: int = 1) -> list[tuple[int, Payload]]:
        """The oldest `n` payloads with their sequence numbers, oldest first.

        One that cannot be read back goes to the dead letters, without its body, so that the rest is delivered.
        Raises `StoreError`.
        """
        while True:
            found: list[tuple[int, Payload]] = []
            with self._table.env.read() as txn:
                for seq in self._table.seqs(txn, self.name, n):
                    try:
                        found.append((seq, self._table.get(txn, self.name, seq)))
                    except Damaged as error:
                        damage = str(error)
                        break
                else:
                    return found
            log.error("outbox %s: payload %d is lost: %s", self.name, seq, damage)
            self.bury(seq, f"damaged on disk: {damage}")

    def wait(self, timeout: float) -> bool:
        """Wait until there is something to deliver, at most `timeout` seconds. True if there is."""
        with self._changed:
            self._changed.wait_for(lambda: self.count > 0 or self._closed, timeout)
        return self.count > 0

    def done(self, *seqs: int) -> None:
        """The payloads are delivered: forget them, all at once. Durable on return. Raises `StoreError`."""
        with self._transaction() as transaction:
            for seq in seqs:
                transaction.outbox_done(self.name, seq)

    def bury(self, seq: int, reason: str) -> None:
        """The payload will never be taken: move it to the dead letters. Durable on return. Raises `StoreError`."""
        with self._transaction() as transaction:
            transaction.outbox_bury(self.name, seq, reason)

    def _commit(self, counters: Counters) -> None:
        with self._changed:
            self._counters = replace(counters)
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing comes any more: wakes whoever waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def now_ns() -> int:
    return time.time_ns()


def _prefix(name: str) -> bytes:
    return name.encode() + b"\0"


def _key(name: str, seq: int) -> bytes:
    return _prefix(name) + seq.to_bytes(8)
