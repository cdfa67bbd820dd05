"""The records of the dead letters: requests that no pipeline can process, payloads that no receiver takes.

Nothing is thrown away by itself: each letter holds what a sender was told is kept. So the store is bounded by refusing a
new letter (`StoreFull`), not by giving up an old one: who wanted to bury something waits, and says so, until a person has
made room.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field, replace
from typing import Literal

from collector.errors import StoreFull
from collector.store.crypto import Damaged, Sealer
from collector.store.environment import Environment, Txn
from collector.store.outbox import BODY, HEAD, Counters
from collector.store.records import Records

_COUNTERS_KEY = b"dead_letters"
LETTER_COST = 256  # bytes that a letter counts besides its body


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One thing that could not go on. `id` and `size` are the store's to set."""

    kind: Literal["request", "payload"]
    origin: str  # id of the pipeline (request) or of the exporter (payload)
    reason: str
    items: int
    body: bytes  # the request or the payload; empty in lists
    meta: dict[str, str | int] = field(default_factory=dict)
    time_ns: int = 0  # when it was buried; 0: now
    id: int = 0  # rises, never repeats
    size: int = 0  # bytes of the body
    lost: bool = False  # the body was damaged on disk: there is nothing to replay


class LetterTable:
    """The records of the dead letters. Every method works within the caller's transaction."""

    def __init__(self, env: Environment, sealer: Sealer, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.records = Records(env, "dead_letters", sealer)
        self.counters = Records(env, "dead_letter_counters", sealer)

    def load(self, txn: Txn) -> Counters:
        try:
            packed = self.counters.get(txn, _COUNTERS_KEY)
            return Counters() if packed is None else Counters.unpack(packed)
        except (Damaged, struct.error):
            counters = Counters()
            for letter in self.heads(txn):
                counters.next = letter.id
                counters.add(letter.items, letter.size)
            return counters

    def put(self, txn: Txn, letter: DeadLetter) -> Counters:
        """Add a letter; the counters after it. Raises `StoreFull` where the bound is reached: one letter may go past it."""
        counters = self.load(txn)
        if used(counters) >= self.max_bytes:
            raise StoreFull(
                f"the dead-letter store is full ({counters.count} letters, {used(counters)} of {self.max_bytes} bytes: "
                "service.dead_letters.max_size); mend the cause and replay them, or drop them: spanledger dead-letter list"
            )
        key = counters.next.to_bytes(8)
        head = {
            "kind": letter.kind,
            "origin": letter.origin,
            "reason": letter.reason,
            "time_ns": letter.time_ns,
            "items": letter.items,
            "meta": letter.meta,
            "size": len(letter.body),
            "lost": letter.lost,
        }
        self.records.put(txn, key + HEAD, json.dumps(head, separators=(",", ":")).encode())
        self.records.put(txn, key + BODY, letter.body)
        counters.add(letter.items, len(letter.body))
        self.counters.put(txn, _COUNTERS_KEY, counters.pack())
        return counters

    def heads(self, txn: Txn) -> list[DeadLetter]:
        """All letters, oldest first, without bodies. A damaged head is listed as what it is."""
        return [self._head(txn, key, record) for key, record in self.records.records(txn) if key.endswith(HEAD)]

    def _head(self, txn: Txn, key: bytes, record: memoryview) -> DeadLetter:
        letter_id = int.from_bytes(key[:8])
        try:
            return DeadLetter(body=b"", id=letter_id, **json.loads(self.records.open(txn, key, record)))
        except Damaged as damage:
            return DeadLetter("request", "", f"damaged on disk: {damage}", 0, b"", id=letter_id, lost=True)

    def get(self, txn: Txn, letter_id: int) -> DeadLetter | None:
        """One letter with its body. Raises `Damaged`."""
        key = letter_id.to_bytes(8)
        head = self.records.get(txn, key + HEAD)
        if head is None:
            return None
        return DeadLetter(body=self.records.get(txn, key + BODY) or b"", id=letter_id, **json.loads(head))

    def delete(self, txn: Txn, letter_id: int) -> Counters | None:
        """Remove a letter, also a damaged one; the counters after it, None where there was no such letter."""
        counters = self.load(txn)
        key = letter_id.to_bytes(8)
        record = txn.get(key + HEAD, db=self.records.env.database(self.records.name))
        if record is None:
            return None
        letter = self._head(txn, key + HEAD, record)
        self.records.delete(txn, key + HEAD)
        self.records.delete(txn, key + BODY)
        counters.remove(letter.items, letter.size)
        self.counters.put(txn, _COUNTERS_KEY, counters.pack())
        return counters


def used(counters: Counters) -> int:
    """Bytes that count against the bound."""
    return counters.size + counters.count * LETTER_COST


def stamped(letter: DeadLetter, now_ns: int) -> DeadLetter:
    """The letter with a time."""
    return letter if letter.time_ns else replace(letter, time_ns=now_ns)
