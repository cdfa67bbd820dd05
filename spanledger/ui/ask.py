"""Asking the ledger for frames: the embedded store in this process, or a ClickHouse server. Reading only, and bounded."""

from __future__ import annotations

import io
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import polars as pl

from collector.errors import SpanledgerError
from exporters.clickhouse.config import DEFAULT_DATABASE, Dsn, parse_dsn

if TYPE_CHECKING:
    from exporters.clickhouse.reader import Reader

Value = str | int | float | datetime | Sequence[str]
#: A page is looked at: what takes longer than this would not be waited for.
SECONDS = 20
ROWS = 100_000
#: Questions of pages at once. Ingest and other readers of the store keep the rest of the machine.
PARALLEL = 3


#: How long an answer stands, and the bytes of all that are kept: who reloads a page, or opens it beside a colleague, asks nothing.
KEPT_SECONDS = 5
#: And how long at most where they are of a long period, in which nobody sees seconds.
_LONGEST_KEPT_S, _OF_PERIOD = 30, 40_000
_KEPT_BYTES = 16 * 2**20


def kept_for(period_s: float) -> float:
    """How long an answer about so long a period stands, seconds: five about a day, fifteen about a week."""
    wanted = period_s / _OF_PERIOD // KEPT_SECONDS * KEPT_SECONDS
    return min(max(wanted, KEPT_SECONDS), _LONGEST_KEPT_S)


class AskError(SpanledgerError):
    """The store did not answer; its message, for the reader."""


class Store(Protocol):
    """Something that answers SQL. Any number of threads may ask."""

    where: str  # for people

    def ask(self, sql: str, parameters: Mapping[str, Value]) -> pl.DataFrame:
        """The rows. `parameters` are those that the SQL names as `{name:Type}`. Raises `AskError`."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


def written(value: Value) -> str:
    """A parameter's value as ClickHouse reads it from text."""
    if isinstance(value, str):
        return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S.%f}"
    if isinstance(value, int | float):
        return str(value)
    return "[" + ",".join(quoted(item) for item in value) + "]"


def quoted(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


class Embedded:
    """The store at `path`, in this process, through the gate that readers from outside pass too."""

    def __init__(self, path: Path, database: str, *, create: bool = True) -> None:
        from exporters.clickhouse.reader import Limits, Reader

        limits = Limits(seconds=SECONDS, rows=ROWS, parallel=PARALLEL, queue_seconds=SECONDS)
        self._reader: Reader = Reader(path, database, limits, create=create)
        self.where = f"chdb://{path}"

    def ask(self, sql: str, parameters: Mapping[str, Value]) -> pl.DataFrame:
        from exporters.clickhouse.engine import EngineError
        from exporters.clickhouse.sql import Denied

        params = {name: written(value) for name, value in parameters.items()}
        try:
            body = self._reader.ask(sql, "ArrowStream", params=params, settings={"output_format_arrow_string_as_string": "1", "output_format_arrow_low_cardinality_as_dictionary": "0"}).result.body  # fmt: skip
        except (Denied, EngineError) as error:
            raise AskError(str(error)) from None
        except RuntimeError as error:
            raise AskError(_short(str(error))) from None
        return _frame(body)

    def close(self) -> None:
        self._reader.close()


class Server:
    """A ClickHouse server, asked in a session that may only read. A connection a thread."""

    def __init__(self, dsn: Dsn, database: str) -> None:
        self._dsn, self._database = dsn, database
        self.where = str(dsn)

    def ask(self, sql: str, parameters: Mapping[str, Value]) -> pl.DataFrame:
        from exporters.clickhouse.client import Connection

        values = {n: v if isinstance(v, str | int | float | datetime) else list(v) for n, v in parameters.items()}
        try:
            connection = Connection(self._dsn, timeout=SECONDS + 5, settings={"readonly": "2", "max_execution_time": SECONDS, "max_result_rows": ROWS})  # fmt: skip
            try:
                connection.use(self._database)
                body = connection.raw(sql, "ArrowStream", {"output_format_arrow_compression_method": "none"}, values)
            finally:
                connection.close()
        except Exception as error:
            raise AskError(_short(str(error))) from None
        return _frame(body)

    def close(self) -> None:
        """Nothing is kept open."""


class Remembering:
    """A store whose answers stand for some seconds. What is asked while the same question is under way waits for its answer."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._clock = store, clock
        self.where = store.where
        self._lock = threading.Lock()
        self._answers: OrderedDict[tuple[object, ...], tuple[float, Future[pl.DataFrame]]] = OrderedDict()

    def standing(self, seconds: float) -> Store:
        """The same store, for who looks at what stands that long."""
        return _Standing(self, seconds)

    def ask(self, sql: str, parameters: Mapping[str, Value], seconds: float = KEPT_SECONDS) -> pl.DataFrame:
        """Raises `AskError`, for all who asked meanwhile; a failure is not kept."""
        key = (sql, *((name, written(value)) for name, value in sorted(parameters.items())))
        with self._lock:
            self._forget()
            known = self._answers.get(key)
            mine: Future[pl.DataFrame] = Future()
            if known is None:
                self._answers[key] = (self._clock() + seconds, mine)
        if known is not None:
            return known[1].result()
        try:
            frame = self._store.ask(sql, parameters)
        except BaseException as error:
            with self._lock:
                self._answers.pop(key, None)
            mine.set_exception(error)
            raise
        mine.set_result(frame)
        return frame

    def _forget(self) -> None:
        """What is too old, and the oldest of what is too much."""
        room = _KEPT_BYTES
        for key, (until, answer) in reversed(list(self._answers.items())):
            if answer.done():
                room -= int(answer.result().estimated_size())
                if until <= self._clock() or room < 0:
                    del self._answers[key]

    def close(self) -> None:
        self._store.close()


class _Standing:
    """A remembering store with another time that answers stand for."""

    def __init__(self, store: Remembering, seconds: float) -> None:
        self._store, self._seconds = store, seconds
        self.where = store.where

    def ask(self, sql: str, parameters: Mapping[str, Value]) -> pl.DataFrame:
        return self._store.ask(sql, parameters, self._seconds)

    def close(self) -> None:
        """The store is another's."""


def open_store(dsn: str, database: str | None = None, *, create: bool = True) -> Store:
    """The store at a DSN. Raises `ValueError` for what is none."""
    target = parse_dsn(dsn)
    database = database or target.database or DEFAULT_DATABASE
    return Embedded(target.path, database, create=create) if target.path is not None else Server(target, database)


def _frame(body: bytes) -> pl.DataFrame:
    if not body:
        return pl.DataFrame()
    frame = pl.read_ipc_stream(io.BytesIO(body))
    decimals = [name for name, type_ in frame.schema.items() if isinstance(type_, pl.Decimal)]
    return frame.with_columns(pl.col(decimals).cast(pl.Float64)) if decimals else frame


def _short(message: str) -> str:
    """ClickHouse's message without what only its developers need."""
    text = " ".join(message.split())
    text = text.split("DB::Exception: ")[-1].split(" (version ")[0]
    return text[:400]
