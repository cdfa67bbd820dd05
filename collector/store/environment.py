"""An LMDB environment that looks after itself: opening, locking, growing, and coming back after a disk error.

One process writes, any number may read. Every error of LMDB or the disk comes out as `StoreError`.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb

from collector.errors import StoreError
from collector.store.keys import make_private

# lmdb's transactions and database handles, as far as this package needs them
Txn = Any
Database = Any

_MIN_MAP_BYTES = 2**28
_FULL_BYTES = 2**26
_GROWTH_WAIT = 5.0  # seconds to wait for readers before growing is put off
_FORGET_BYTES = 2**26  # read from the map before it is mapped anew
_READER_CHECK = 60.0  # seconds between looks for readers whose process died

log = logging.getLogger(__name__)


class MapFull(StoreError):
    """A transaction did not fit into the map. It grows before the next one."""


class Environment:
    """Named databases in one directory. `read` and `write` are the only ways in; both are thread-safe.

    The map is an address range, not memory or disk: it starts large and doubles long before it is full.
    """

    def __init__(
        self,
        path: Path,
        databases: tuple[str, ...],
        *,
        map_bytes: int,
        max_databases: int = 16,
        read_only: bool = False,
    ) -> None:
        self.path = path
        self.read_only = read_only
        self._names = list(databases)
        self._map_bytes = map_bytes
        self._max_databases = max_databases
        self._writer = threading.RLock()
        self._writing = False
        self._gate = threading.Condition(threading.Lock())
        self._readers = 0
        self._exclusive = False
        self._map_full = False
        self.bytes_read = 0  # since the file was mapped; counted by who reads
        self._checked = time.monotonic()
        self._closed = False
        self._lock_file = -1
        try:
            if not read_only:
                make_private(path)
                self._lock_file = _lock(path / "writer.pid")
            self._open()
        except OSError as error:
            self._unlock()
            raise StoreError(f"{error.filename or path}: {error.strerror}") from error
        except lmdb.Error as error:
            self._unlock()
            raise StoreError(f"{path}: {error}") from error
        except StoreError:
            self._unlock()
            raise

    # opening and closing

    def _open(self) -> None:
        if self.read_only and not (self.path / "data.mdb").exists():
            raise StoreError(f"{self.path}: there is no store here")
        while True:
            try:
                self._env = lmdb.open(
                    str(self.path),
                    map_size=self._map_bytes,
                    max_dbs=self._max_databases,
                    max_readers=254,
                    max_spare_txns=4,
                    readonly=self.read_only,
                    mode=0o600,
                    # Pages are read in the order of the keys soon after they were written; reading ahead only evicts.
                    readahead=False,
                )
                break
            except lmdb.Error as error:
                # A limit on address space (ulimit -v): live with less.
                if getattr(error, "code", 0) != errno.ENOMEM or self._map_bytes <= _MIN_MAP_BYTES:
                    raise
                self._map_bytes //= 2
        self._env.reader_check()
        self._databases = {name: self._env.open_db(name.encode(), create=not self.read_only) for name in self._names}

    def _reopen(self) -> None:
        """After an error in the middle of a commit LMDB refuses everything until the environment is opened again."""
        if not self._exclude():
            raise StoreError(f"{self.path}: needs reopening after a disk error, but is being read")
        try:
            self._env.close()
            self._open()
            log.warning("%s: opened again after a disk error", self.path)
        finally:
            self._include()

    def close(self) -> None:
        """May be called twice. Waits for readers; if one does not finish, everything stays as it is until the process ends:
        its values would point to nowhere."""
        with self._writer:
            if self._closed:
                return
            self._closed = True
            if not self._exclude():
                log.warning("%s: is still being read; it closes with the process", self.path)
                return
            self._env.close()
            self._include()
            self._unlock()

    def _unlock(self) -> None:
        if self._lock_file >= 0:
            os.close(self._lock_file)
            self._lock_file = -1

    # databases

    def database(self, name: str) -> Database:
        """The handle of a database. Good for the current transaction: reopening replaces it."""
        return self._databases[name]

    def add_database(self, name: str) -> None:
        """Make or open one more. Not from within a transaction."""
        with self._writer:
            if name in self._databases:
                return
            self._check_open()
            try:
                try:
                    self._databases[name] = self._env.open_db(name.encode(), create=not self.read_only)
                except lmdb.PanicError:
                    self._reopen()
                    self._databases[name] = self._env.open_db(name.encode(), create=not self.read_only)
            except lmdb.Error as error:
                raise StoreError(f"{self.path}: {error}") from error
            self._names.append(name)

    # transactions

    @contextmanager
    def read(self) -> Iterator[Txn]:
        """A snapshot. Values are memoryviews, good until the end of the block. Keep it short: it holds back free pages."""
        try:
            try:
                txn = self._enter()
            except lmdb.PanicError:
                with self._writer:
                    self._reopen()
                txn = self._enter()
            try:
                yield txn
            finally:
                txn.abort()
                self._leave()
        except lmdb.Error as error:
            raise StoreError(f"{self.path}: {error}") from error

    def _enter(self) -> Txn:
        with self._gate:
            while self._exclusive:
                self._gate.wait()
            self._check_open()
            self._readers += 1
        try:
            try:
                return self._env.begin(buffers=True)
            except lmdb.MapResizedError:  # the writing process has grown the map
                self._env.set_mapsize(0)
                return self._env.begin(buffers=True)
        except BaseException:
            self._leave()
            raise

    def _leave(self) -> None:
        with self._gate:
            self._readers -= 1
            if not self._readers:
                self._gate.notify_all()

    @contextmanager
    def write(self, committed: Callable[[], None] | None = None) -> Iterator[Txn]:
        """One transaction: durable when the block has been left, or none of it where anything raised.

        `committed` runs after the commit and before any other writer. One at a time; others wait.
        """
        with self._writer:
            if self._writing:
                raise RuntimeError("a write transaction within a write transaction")
            self._check_open()
            self._writing = True
            txn = None
            try:
                self._make_room()
                txn = self._begin_write()
                yield txn
                self._commit(txn)
            except lmdb.Error as error:
                if isinstance(error, lmdb.MapFullError):
                    self._map_full = True
                    raise MapFull(f"{self.path}: {error}") from error
                raise StoreError(f"{self.path}: {error}{_space_left(self.path)}") from error
            finally:
                if txn is not None:
                    txn.abort()  # does nothing after a commit
                self._writing = False
            if committed is not None:
                committed()

    def _begin_write(self) -> Txn:
        try:
            return self._env.begin(write=True, buffers=True)
        except lmdb.PanicError:
            self._reopen()
            return self._env.begin(write=True, buffers=True)

    def _commit(self, txn: Txn) -> None:
        txn.commit()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"{self.path}: the store is closed")

    # growing

    @property
    def used_bytes(self) -> int:
        """Bytes of the file that hold, or once held, pages."""
        return int((self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"])

    @property
    def free_bytes(self) -> int:
        """Bytes of the file that hold nothing now and are used again before it grows."""
        with self.read() as txn:
            stats = [txn.stat(db=database) for database in self._databases.values()]
        live = sum(stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"] for stat in stats)
        return max(0, self.used_bytes - int(live * stats[0]["psize"]))

    def _make_room(self) -> None:
        """Keep three quarters of the map free, so that no transaction can fill it. Only between transactions."""
        now = time.monotonic()
        if now - self._checked > _READER_CHECK:
            self._checked = now
            if dead := self._env.reader_check():
                log.warning("%s: cleared %d readers of processes that died", self.path, dead)
        if self._map_full or self.used_bytes * 4 >= self._map_bytes:
            if not self._exclude():
                log.warning("%s: cannot grow while it is being read; trying again at the next write", self.path)
                return
            self._map(self._map_bytes * 2)
        elif self.bytes_read > _FORGET_BYTES and self._exclude(0):
            # Pages that were read count as the process's memory for as long as the file is mapped, however little they
            # matter: a backlog that was worked off would look like a leak.
            self._map(self._map_bytes)

    def _map(self, size: int) -> None:
        """Map the file anew, with nobody in it."""
        try:
            self._env.set_mapsize(size)
            self._map_bytes = size
            self._map_full = False
            self.bytes_read = 0
        except lmdb.Error as error:
            if self._map_full:
                raise
            log.warning("%s: cannot map %d bytes: %s", self.path, size, error)
        finally:
            self._include()

    def _exclude(self, timeout: float | None = None) -> bool:
        """Wait until nobody reads, and let nobody in. False where readers do not finish in time."""
        with self._gate:
            self._exclusive = True
            if self._gate.wait_for(lambda: self._readers == 0, _GROWTH_WAIT if timeout is None else timeout):
                return True
        self._include()
        return False

    def _include(self) -> None:
        with self._gate:
            self._exclusive = False
            self._gate.notify_all()


def _space_left(path: Path) -> str:
    """LMDB calls the write that only half fitted an I/O error; say what it was."""
    try:
        disk = os.statvfs(path)
    except OSError:
        return ""
    left = disk.f_bavail * disk.f_frsize
    return f" (the disk is full: {left} bytes left)" if left < _FULL_BYTES else ""


def _lock(path: Path) -> int:
    """Hold the lock file for as long as the process (or the descriptor) lives. Raises `StoreError` naming the holder."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        if error.errno not in {errno.EAGAIN, errno.EACCES}:
            raise
        raise StoreError(
            f"{path.parent}: in use by process {holder}: a data directory belongs to one collector at a time; "
            "stop that one, or set another service.data_dir"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor
