"""The dead-letter store: requests that no pipeline can process, payloads that no receiver takes. Kept until dropped.

Nothing is thrown away by itself: each letter holds what a sender was told is kept. So the store is bounded by refusing a
new letter (`StoreFull`), not by giving up an old one: who wanted to bury something waits, and says so, until a person has
made room. `replay` sends a letter back to where it came from, after the cause was mended.
"""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Container, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from collector.component import Payload
from collector.errors import StoreError, StoreFull
from collector.store.crypto import Damaged, Sealer
from collector.store.environment import Environment, Txn
from collector.store.inbox import Inbox
from collector.store.outbox import BODY, HEAD, Counters
from collector.store.records import Records

if TYPE_CHECKING:
    from collector.store.state import StateStore

_COUNTERS_KEY = b"dead_letters"
LETTER_COST = 256  # bytes that a letter counts besides its body
_APPEND_TIMEOUT = 60.0  # seconds for a replayed request to be committed


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
                counters.next = letter.id + 1
                counters.count += 1
                counters.items += letter.items
                counters.size += letter.size
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
        counters.next += 1
        counters.count += 1
        counters.items += letter.items
        counters.size += len(letter.body)
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
        counters.count -= 1
        counters.items -= letter.items
        counters.size -= letter.size
        if not counters.count:
            counters.items = counters.size = 0
        self.counters.put(txn, _COUNTERS_KEY, counters.pack())
        return counters


class DeadLetters:
    """What a person does with dead letters. `list` and `get` also work on a store that was opened `read_only`."""

    def __init__(self, store: StateStore) -> None:
        self._store = store

    @property
    def count(self) -> int:
        return self._store._letter_counters.count

    @property
    def bytes(self) -> int:
        """Bytes that count against `max_bytes`: their bodies, and a little for each."""
        return used(self._store._letter_counters)

    @property
    def max_bytes(self) -> int:
        return self._store._letters.max_bytes

    def list(self) -> list[DeadLetter]:
        """All letters, oldest first, without bodies."""
        with self._store._env.read() as txn:
            return self._store._letters.heads(txn)

    def get(self, letter_id: int) -> DeadLetter | None:
        """One letter with its body, None where there is none of this id. Raises `StoreError` for a damaged one."""
        with self._store._env.read() as txn:
            return self._store._letters.get(txn, letter_id)

    def drop(self, ids: Iterable[int]) -> int:
        """Delete letters for good; how many there were."""
        with self._store.transaction() as transaction:
            return sum(transaction.drop_letter(letter_id) for letter_id in ids)

    def replay(self, ids: Iterable[int], inbox: Inbox, origins: Container[str]) -> int:
        """Send letters back: payloads into their outbox, requests into their pipeline's queue; how many there were.

        `origins`: the pipelines (`traces`) and outboxes (`traces/clickhouse`) that there are. A letter from elsewhere, or
        without a body, would go nowhere: then nothing is replayed, and `StoreError` says which it is.
        A payload moves in one transaction. A request is appended first and dropped then: a crash in between leaves
        both, which is harmless, because the ledger recognises what it has seen. Raises `StoreError`, `StoreFull`; the
        letters before that one have been replayed.
        """
        wanted = set(ids)
        chosen = [head for head in self.list() if head.id in wanted]
        for head in chosen:
            if head.lost:
                raise StoreError(f"dead letter {head.id} has no body any more ({head.reason}): it can only be dropped")
            if head.origin not in origins:
                kind = "pipeline" if head.kind == "request" else "exporter"
                raise StoreError(f"dead letter {head.id} is of {kind} {head.origin}, which the config does not have")
        replayed = 0
        for head in chosen:
            letter = self.get(head.id)
            if letter is None:
                continue
            if letter.kind == "request":
                _append(inbox, letter)
            with self._store.transaction() as transaction:
                if transaction.drop_letter(letter.id) and letter.kind == "payload":
                    transaction.outbox_put(letter.origin, Payload(letter.body, letter.meta, letter.items))
            replayed += 1
        return replayed


def _append(inbox: Inbox, letter: DeadLetter) -> None:
    """Put a request back into its queue; returns once it is durable."""
    answered = threading.Event()
    answer: list[Exception | None] = []

    def done(error: Exception | None) -> None:
        answer.append(error)
        answered.set()

    inbox.append((letter.origin,), letter.body, letter.items, done)
    if not answered.wait(_APPEND_TIMEOUT):
        raise StoreError(f"{inbox.path}: no commit within {_APPEND_TIMEOUT:g} seconds")
    if answer[0] is not None:
        raise answer[0]


def used(counters: Counters) -> int:
    """Bytes that count against the bound."""
    return counters.size + counters.count * LETTER_COST


def stamped(letter: DeadLetter, now_ns: int) -> DeadLetter:
    """The letter with a time."""
    return letter if letter.time_ns else replace(letter, time_ns=now_ns)
