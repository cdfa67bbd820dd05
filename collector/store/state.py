"""The state store: positions, what components remember, outboxes and dead letters. One transaction moves all of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from collector.component import Payload
from collector.errors import StoreError
from collector.store.crypto import Damaged, Sealer
from collector.store.environment import Environment, Txn
from collector.store.letters import DeadLetter, LetterTable, stamped
from collector.store.outbox import Counters, Outbox, OutboxTable
from collector.store.records import MAX_KEY_BYTES, Records, check_keys

_MAP_BYTES = 2**36  # address space, not disk
_DEAD_LETTER_BYTES = 2**30


class ComponentReader:
    """A component's own keys, as of one transaction (`collector.component.StateReader`)."""

    def __init__(self, records: Records, txn: Txn, namespace: str) -> None:
        self._records = records
        self._txn = txn
        self._namespace = namespace.encode() + b"\0"

    def _key(self, key: bytes) -> bytes:
        full = self._namespace + key
        if len(full) > MAX_KEY_BYTES:
            raise ValueError(f"a state key has at most {MAX_KEY_BYTES - len(self._namespace)} bytes, not {len(key)}")
        return full

    def get(self, key: bytes) -> bytes | None:
        """The value, None where there is none. Raises `StoreError` for a damaged one: it is not missing."""
        return self._records.get(self._txn, self._key(key))

    def items(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Keys that begin with `prefix` and their values, in order. Do not write while iterating."""
        for key, record in self._records.records(self._txn, prefix=self._namespace + prefix):
            yield key[len(self._namespace) :], self._records.open(self._txn, key, record)

    def keys(self, prefix: bytes = b"") -> list[bytes]:
        """Keys that begin with `prefix`, in order. Opens no value."""
        found = self._records.records(self._txn, prefix=self._namespace + prefix)
        return [key[len(self._namespace) :] for key, _ in found]


class ComponentWriter(ComponentReader):
    """As ComponentReader, and writes that last with the transaction (`collector.component.StateWriter`)."""

    def put(self, key: bytes, value: bytes) -> None:
        self._records.put(self._txn, self._key(key), value)

    def delete(self, key: bytes) -> None:
        """Remove a key. One that is not there is fine."""
        self._records.delete(self._txn, self._key(key))


class Reader:
    """A snapshot of positions and component state."""

    def __init__(self, store: StateStore, txn: Txn) -> None:
        self._store = store
        self._txn = txn

    def component(self, namespace: str) -> ComponentReader:
        return ComponentReader(self._store._state, self._txn, namespace)

    def position(self, pipeline: str) -> int:
        """Sequence number of the last inbox entry that the pipeline has finished with; 0 before the first."""
        packed = self._store._positions.get(self._txn, pipeline.encode())
        return 0 if packed is None else int.from_bytes(packed)


class Transaction(Reader):
    """Writes that become durable together, or not at all. For the thread that opened it, within its block."""

    def __init__(self, store: StateStore, txn: Txn) -> None:
        super().__init__(store, txn)
        self.outboxes: dict[str, Counters] = {}  # of those that changed
        self.letters: Counters | None = None

    def recount(self) -> None:
        """Read what is there of outboxes and dead letters, to be told once this is committed."""
        self.outboxes = {name: self._store._outboxes.load(self._txn, name) for name in self._store._outboxes.names(self._txn)}  # fmt: skip
        self.letters = self._store._letters.load(self._txn)

    def component(self, namespace: str) -> ComponentWriter:
        return ComponentWriter(self._store._state, self._txn, namespace)

    def set_position(self, pipeline: str, seq: int) -> None:
        self._store._positions.put(self._txn, pipeline.encode(), seq.to_bytes(8))

    def outbox_put(self, name: str, payload: Payload) -> None:
        """Add a payload to the end of an exporter's outbox."""
        self.outboxes[name] = self._store._outboxes.put(self._txn, name, payload)

    def outbox_done(self, name: str, seq: int) -> None:
        """Remove a payload. One that is not there is fine."""
        self.outboxes[name] = self._store._outboxes.delete(self._txn, name, seq)

    def outbox_bury(self, name: str, seq: int, reason: str) -> None:
        """Move a payload to the dead letters. One that is not there is fine. Raises `StoreFull` where these are full."""
        lost = False
        try:
            payload = self._store._outboxes.get(self._txn, name, seq)
        except KeyError:
            return
        except Damaged:
            payload, lost = Payload(b""), True
        self.dead_letter(DeadLetter("payload", name, reason, payload.items, payload.body, payload.meta, lost=lost))
        self.outbox_done(name, seq)

    def dead_letter(self, letter: DeadLetter) -> int:
        """Add a dead letter; its id. Raises `StoreFull` where there is no room for one more."""
        self.letters = self._store._letters.put(self._txn, stamped(letter, time.time_ns()))
        return self.letters.next - 1

    def drop_letter(self, letter_id: int) -> bool:
        """Remove a dead letter; False where there is none of this id."""
        counters = self._store._letters.delete(self._txn, letter_id)
        self.letters = counters or self.letters
        return counters is not None


class StateStore:
    """The state of a data directory. `read_only` may look on while a collector runs."""

    def __init__(
        self,
        path: Path,
        sealer: Sealer,
        *,
        read_only: bool = False,
        map_bytes: int = _MAP_BYTES,
        dead_letter_bytes: int = _DEAD_LETTER_BYTES,
    ) -> None:
        self.path = path
        self._uncertain = False  # whether the last transaction, which raised, is on disk all the same
        self._env = Environment(path, ("keys",), map_bytes=map_bytes, read_only=read_only)
        try:
            self._positions = Records(self._env, "positions", sealer)
            self._state = Records(self._env, "state", sealer)
            self._outboxes = OutboxTable(self._env, sealer)
            self._letters = LetterTable(self._env, sealer, dead_letter_bytes)
            tables = [self._positions, self._state, self._outboxes.records, self._outboxes.counters]
            check_keys(self._env, sealer, [*tables, self._letters.records, self._letters.counters], reseal=True)
            with self._env.read() as txn:
                self._boxes = {
                    name: self._box(name, self._outboxes.load(txn, name)) for name in self._outboxes.names(txn)
                }
                self._letter_counters = self._letters.load(txn)
        except BaseException:
            self._env.close()
            raise

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Everything written in the block is durable when it has been left, or nothing of it where anything raised.

        One at a time: others wait. Raises `StoreError` where the disk does not take it.
        """
        transaction: Transaction | None = None

        def committed() -> None:
            if transaction is not None:
                self._publish(transaction)
            self._uncertain = False

        with self._env.write(committed) as txn:
            transaction = Transaction(self, txn)
            if self._uncertain:
                transaction.recount()
            self._uncertain = True
            yield transaction

    def _publish(self, transaction: Transaction) -> None:
        for name, counters in transaction.outboxes.items():
            self.outbox(name)._commit(counters)
        if transaction.letters is not None:
            self._letter_counters = transaction.letters

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """A snapshot. Keep it short: as long as it is open, no page that was freed since can be used again."""
        with self._env.read() as txn:
            yield Reader(self, txn)

    def outbox(self, name: str) -> Outbox:
        """The outbox of an exporter, empty at first."""
        return self._boxes.get(name) or self._boxes.setdefault(name, self._box(name, Counters()))

    def _box(self, name: str, counters: Counters) -> Outbox:
        return Outbox(self._outboxes, name, counters, self.transaction)

    @property
    def outboxes(self) -> tuple[str, ...]:
        """Names of all outboxes, those included that only an earlier config knew."""
        return tuple(self._boxes)

    def close(self) -> None:
        """May be called twice. Wakes whoever waits for an outbox."""
        self._env.close()
        for box in list(self._boxes.values()):
            box.close()


__all__ = ["Reader", "StateStore", "StoreError", "Transaction"]
