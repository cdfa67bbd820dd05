"""The embedded ClickHouse: one engine in a process, at one directory, with as many handles as are asked for.

The engine is up while one handle is open. Every handle is a session of its own (settings, current database) and is used by
one thread at a time; handles work side by side. The directory belongs to one process at a time: the engine locks it.
"""

from __future__ import annotations

import atexit
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakSet

from collector.errors import SpanledgerError
from exporters.clickhouse.mending import holding, mend


class EngineError(SpanledgerError):
    """The embedded ClickHouse cannot be opened."""


class EngineBusy(EngineError):
    """Another process has the directory open."""


_opening = threading.Lock()
_open: WeakSet[Handle] = WeakSet()


@atexit.register
def _close_all() -> None:
    """The engine does not survive the interpreter's end with sessions open: it would crash there."""
    for handle in list(_open):
        handle.close()


def module() -> Any:
    """The chdb module. Raises `EngineError` where the extra is not installed."""
    try:
        import chdb
    except ImportError as error:
        raise EngineError(
            f"the embedded ClickHouse is not installed ({error}): pip install 'spanledger[embedded]', or set a server's http:// DSN"
        ) from None
    return chdb


@dataclass(frozen=True, slots=True)
class Result:
    """An answer, and what was read for it."""

    body: bytes
    rows_read: int
    bytes_read: int


class Handle:
    """One session of the engine at `path`. Raises `EngineBusy` or `EngineError`.

    `run` may be called from any thread, one call at a time: a second one waits.
    """

    def __init__(self, path: Path, *, create: bool = True) -> None:
        chdb = module()
        path = path.resolve()
        if not create and not (path / "store").is_dir():
            raise EngineError(f"there is no embedded ClickHouse in {path}: nothing was ever written there")
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = path
        self._lock = threading.Lock()
        with _opening:
            try:
                if not _open:
                    mend(path)
            except OSError as error:
                # As it is it must not be opened: rows would be taken for written that are not there.
                raise EngineError(
                    f"the embedded ClickHouse in {path} was killed, and its books cannot be put right: {error}"
                ) from None
            try:
                self._connection: Any = chdb.connect(str(path))
            except RuntimeError as error:
                raise _explained(path, error) from None
            _open.add(self)

    def run(self, sql: str | bytes, format_: str = "TabSeparated", params: dict[str, str] | None = None) -> Result:
        """Run a statement. Raises `RuntimeError` with ClickHouse's message."""
        with self._lock:
            if self._connection is None:
                raise EngineError(f"the embedded ClickHouse in {self.path} is closed")
            result = self._connection.query(sql, format_, params=params or {})
            return Result(bytes(result.bytes() or b""), result.rows_read(), result.bytes_read())

    def query(self, sql: str) -> str:
        """The answer as tab-separated text."""
        return self.run(sql).body.decode(errors="replace")

    def close(self) -> None:
        """Give the session back; waits for the query that runs. The last one shuts the engine down."""
        with self._lock, _opening:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
                _open.discard(self)


def _explained(path: Path, error: RuntimeError) -> EngineError:
    message = str(error)
    if "different path" in message:
        return EngineError(
            f"this process has an embedded ClickHouse open in another directory, and can have only one: cannot open {path}"
        )
    if _locked(path):
        return EngineBusy(f"the embedded ClickHouse in {path} is in use by another process")
    return EngineError(f"the embedded ClickHouse in {path} does not open: {message}")


def _locked(path: Path) -> bool:
    """Whether a process holds the engine's lock on the directory."""
    with holding(path) as held:
        return held is False
