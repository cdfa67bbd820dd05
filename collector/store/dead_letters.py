"""What a person does with dead letters: look, send back to where they came from after the cause was mended, or drop."""

from __future__ import annotations

import threading
from collections.abc import Container, Iterable

from collector.component import Payload
from collector.errors import StoreError
from collector.store.inbox import Inbox
from collector.store.letters import DeadLetter, used
from collector.store.state import StateStore

_APPEND_TIMEOUT = 60.0  # seconds for a replayed request to be committed


class DeadLetters:
    """Those of a store. `list` and `get` also work on one that was opened `read_only`."""

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
