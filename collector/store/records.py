"""Sealed values under keys of one database, long ones cut into chunks.

LMDB keeps a value in one run of pages. Runs of many megabytes are slow to find among freed pages and leave holes, so
a long record lies as chunks in a second database, and its head says how many. Measured on a queue of mixed sizes:
256 KiB a chunk costs least and keeps the file smallest.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator, Sequence

from collector.errors import StoreError
from collector.store.crypto import KEY_ID_BYTES, Buffer, Damaged, Sealer, key_of
from collector.store.environment import Environment, Txn

log = logging.getLogger(__name__)

CHUNK_BYTES = 256 * 1024 - 16  # with LMDB's page header a whole number of pages
_SMALL = 4096
_RESEAL_BYTES = 32 * 2**20  # in one transaction
MAX_KEY_BYTES = 500  # LMDB's 511, less the number of a chunk
_CHUNKED = 255  # no version of a sealed record
_HEAD = struct.Struct(">BIQ")  # _CHUNKED, number of chunks, bytes of the record


class Records:
    """One database of an environment. Every method works within the caller's transaction.

    Each value may have a prefix of `prefix_bytes` bytes: stored in the clear, authenticated, readable without opening.
    """

    def __init__(self, env: Environment, name: str, sealer: Sealer, prefix_bytes: int = 0) -> None:
        self.env = env
        self.name = name
        self.sealer = sealer
        self._prefix = prefix_bytes
        self._chunks = f"{name}.chunks"
        self._context = name.encode() + b"\0"
        env.add_database(name)
        env.add_database(self._chunks)

    def put(self, txn: Txn, key: bytes, plain: Buffer, prefix: bytes = b"", *, new: bool = False) -> None:
        """Write a value. `new`: the key is above all others (which saves looking for what it replaces)."""
        sealed = self.sealer.seal(plain, self._context + prefix + key, prefix)
        if not new:
            self.delete(txn, key)
        if len(sealed) > CHUNK_BYTES:
            view = memoryview(sealed)[self._prefix :]
            chunks = self.env.database(self._chunks)
            count = 0
            for start in range(0, len(view), CHUNK_BYTES):
                txn.put(key + count.to_bytes(4), view[start : start + CHUNK_BYTES], db=chunks)
                count += 1
            sealed = prefix + _HEAD.pack(_CHUNKED, count, len(view))
        if not txn.put(key, sealed, db=self.env.database(self.name), append=new):
            raise StoreError(f"{self.env.path}: key {key.hex()} of {self.name} is out of order")

    def get(self, txn: Txn, key: bytes) -> bytes | None:
        """The value under a key. Raises `Damaged`."""
        record = txn.get(key, db=self.env.database(self.name))
        return None if record is None else self.open(txn, key, record)

    def open(self, txn: Txn, key: bytes, record: Buffer) -> bytes:
        """The value of a record that a cursor stands on. Raises `Damaged`."""
        self.env.bytes_read += len(record)
        if len(record) <= _SMALL:
            record = bytes(record)  # slices of bytes are cheaper than views of views
        prefix, sealed = bytes(record[: self._prefix]), record[self._prefix :]
        if len(sealed) == _HEAD.size and sealed[0] == _CHUNKED:
            sealed = self._join(txn, key, sealed)
        return self.sealer.open(sealed, self._context + prefix + key)

    def _join(self, txn: Txn, key: bytes, head: Buffer) -> memoryview:
        _, count, size = _HEAD.unpack(head)
        chunks = self.env.database(self._chunks)
        found = []
        for number in range(count):
            chunk = txn.get(key + number.to_bytes(4), db=chunks)
            if chunk is None:
                raise Damaged(f"chunk {number} of {count} is missing")
            found.append(chunk)
        joined = b"".join(found)
        self.env.bytes_read += len(joined)
        if len(joined) != size:
            raise Damaged(f"chunks of {len(joined)} bytes where {size} were written")
        return memoryview(joined)

    def delete(self, txn: Txn, key: bytes) -> bool:
        """Remove a value; False where there was none."""
        database = self.env.database(self.name)
        record = txn.get(key, db=database)
        if record is None:
            return False
        self.drop_chunks(txn, key, record)
        return bool(txn.delete(key, db=database))

    def drop_chunks(self, txn: Txn, key: bytes, record: Buffer) -> None:
        """Remove what a record has besides its head."""
        sealed = memoryview(record)[self._prefix :]
        if len(sealed) == _HEAD.size and sealed[0] == _CHUNKED:
            chunks = self.env.database(self._chunks)
            for number in range(_HEAD.unpack(sealed)[1]):
                txn.delete(key + number.to_bytes(4), db=chunks)

    def records(self, txn: Txn, start: bytes = b"", prefix: bytes = b"") -> Iterator[tuple[bytes, memoryview]]:
        """Keys from `start` on that begin with `prefix`, in order, with their records, unopened."""
        with txn.cursor(db=self.env.database(self.name)) as cursor:
            if not cursor.set_range(max(start, prefix)):
                return
            for key, record in cursor:
                name = bytes(key)
                if not name.startswith(prefix):
                    return
                yield name, record

    def key_ids(self, txn: Txn) -> Iterator[tuple[bytes, bytes | None]]:
        """Each key with the id of the key that its record is sealed with (None: plain). Reads the beginnings only."""
        for key, record in self.records(txn):
            sealed: Buffer = record[self._prefix :]
            if len(sealed) == _HEAD.size and sealed[0] == _CHUNKED:
                sealed = txn.get(key + bytes(4), db=self.env.database(self._chunks)) or b""
            yield key, key_of(sealed)

    def reseal(self) -> None:
        """Seal again, with the current key, what is sealed with another or not at all. Damaged records stay as they are.

        In transactions of its own. For databases whose records have no prefix.
        """
        with self.env.read() as txn:
            old = [key for key, key_id in self.key_ids(txn) if key_id != self.sealer.current]
        while old:
            size = 0
            with self.env.write() as txn:
                while old and size < _RESEAL_BYTES:
                    key = old.pop()
                    try:
                        plain = self.get(txn, key) or b""
                    except Damaged as damage:
                        log.error("%s: %s record %s: %s", self.env.path, self.name, key.hex(), damage)
                        continue
                    self.put(txn, key, plain)
                    size += len(plain)


def check_keys(env: Environment, sealer: Sealer, tables: Sequence[Records], *, reseal: bool = False) -> None:
    """Make sure that the store can be opened with the keys at hand, and note the current one. Raises `StoreError`.

    The store notes each key it was ever written with. So a lost key is an error at the start, which a person can act on,
    and an unknown key id later on can only be damage. With `reseal` everything gets the current key, and the old ones
    are not needed any more; without, they are until the records have gone.
    """
    with env.read() as txn:
        packed = bytes(txn.get(b"keys", b"", db=env.database("keys")))
    noted = {packed[i : i + KEY_ID_BYTES] for i in range(0, len(packed), KEY_ID_BYTES)}
    if lost := noted - sealer.known:
        with env.read() as txn:
            lost &= {key_id for table in tables for _, key_id in table.key_ids(txn)}
        if lost:
            names = ", ".join(sorted(key.hex() for key in lost))
            raise StoreError(
                f"{env.path}: holds records sealed with a key that is not here (id {names}). Put that key into "
                "service.encryption.key_file, on a line below the current one"
            )
    if env.read_only:
        return
    current = set() if sealer.current is None else {sealer.current}
    wanted = (noted & sealer.known) | current
    _note_keys(env, noted, wanted)  # before anything is sealed with it
    if reseal and current and (wanted != current or noted != current):
        for table in tables:
            table.reseal()
        _note_keys(env, wanted, current)


def _note_keys(env: Environment, noted: set[bytes], wanted: set[bytes]) -> None:
    if wanted != noted:
        with env.write() as txn:
            txn.put(b"keys", b"".join(sorted(wanted)), db=env.database("keys"))
