"""One client for both stores, embedded and server, and what their errors mean for a delivery."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

from collector.errors import DeliveryError, Permanent, Retryable
from exporters.clickhouse.config import Dsn
from exporters.clickhouse.engine import EngineError, Handle, module

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

#: It logs what it also raises.
logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)

#: Errors that say the rows themselves are wrong: the same payload will never be taken.
_WRONG_DATA = frozenset({
    6,  # CANNOT_PARSE_TEXT
    26,  # CANNOT_PARSE_QUOTED_STRING
    27,  # CANNOT_PARSE_INPUT_ASSERTION_FAILED
    38,  # CANNOT_PARSE_DATE
    41,  # CANNOT_PARSE_DATETIME
    53,  # TYPE_MISMATCH
    69,  # ARGUMENT_OUT_OF_BOUND
    70,  # CANNOT_CONVERT_TYPE
    72,  # CANNOT_PARSE_NUMBER
    117,  # INCORRECT_DATA
    190,  # SIZES_OF_ARRAYS_DONT_MATCH
    321,  # VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
    349,  # CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
    407,  # DECIMAL_OVERFLOW
    469,  # VIOLATED_CONSTRAINT
    636,  # CANNOT_EXTRACT_TABLE_STRUCTURE
})  # fmt: skip
#: Errors that somebody has to do something about, after which the same payload is taken.
_ADVICE = {
    60: "the table is missing",
    81: "the database is missing",
    164: "the user may only read",
    192: "the user is unknown: correct the DSN",
    193: "the password is wrong: correct the DSN",
    194: "the server asks for a password: put it into the DSN",
    241: "the server is out of memory",
    243: "the server's disk is full",
    252: "the server has too many parts: it merges slower than we insert",
    497: "the user lacks a grant",
    516: "the user name or password is wrong: correct the DSN",
}
MISSING = frozenset({60, 81})
#: Why a server does not answer, as the operating system says it.
_ERRNO = re.compile(r"\[Errno -?\d+\] ([A-Za-z ]+)")
#: What an error says of the rows: values, which belong in no log. One may be cut off.
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*(?:'|$)|"(?:[^"\\]|\\.)*(?:"|$)""")
_INSERT_SETTINGS = {
    "async_insert": 0,  # a token is one block of ours, not what the server makes of several
    "insert_deduplicate": 1,
    "deduplicate_blocks_in_dependent_materialized_views": 1,  # before 26.2 a repeated block still went into views
    "max_partitions_per_insert_block": 0,  # a foreign table may be partitioned by the spans' own days
    "input_format_null_as_default": 1,
    "input_format_arrow_allow_missing_columns": 1,  # what is not known of any row is left out
    "distributed_foreground_insert": 1,  # done means done on the shard, not noted for later
}


class Connection:
    """A session with the store. Used by one thread at a time."""

    def __init__(self, dsn: Dsn, *, timeout: float, settings: dict[str, Any] | None = None) -> None:
        """Raises what `explain` understands."""
        import clickhouse_connect

        self.dsn = dsn
        if dsn.path is not None:
            module()
            dsn.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            # The handle finds out whether the directory is free, and says so better than the client does.
            handle = Handle(dsn.path)
            try:
                self._client: Client = clickhouse_connect.get_client(
                    interface="chdb", path=str(handle.path), settings=settings or {}
                )
            finally:
                handle.close()
            return
        self._client = clickhouse_connect.get_client(
            host=dsn.host,
            port=dsn.port,
            username=dsn.user,
            password=dsn.password,
            secure=dsn.secure,
            interface="https" if dsn.secure else "http",
            connect_timeout=min(10, max(1, int(timeout))),
            send_receive_timeout=max(1, int(timeout)),
            autogenerate_session_id=False,
            query_retries=0,
            compress=False,
            client_name="spanledger",
            settings=settings or {},
            **_options(dsn),
        )

    def use(self, database: str) -> None:
        """Names without a database are of this one from now on."""
        self._client.database = database

    def command(self, statement: str) -> None:
        """Run a statement that gives nothing back."""
        self._client.command(statement, use_database=False)

    def rows(self, select: str) -> list[tuple[str, ...]]:
        """The rows of a SELECT, as texts."""
        return [tuple(str(value) for value in row) for row in self._client.query(select).result_rows]

    def values(self, select: str) -> list[tuple[Any, ...]]:
        """As `rows`, as Python's values."""
        return [tuple(row) for row in self._client.query(select).result_rows]

    def raw(
        self,
        select: str,
        format_: str,
        settings: dict[str, Any] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> bytes:
        """The answer's bytes. `parameters`: values of `{name:Type}` in the statement."""
        found: bytes = self._client.raw_query(select, parameters, fmt=format_, settings=settings)
        return found

    def insert(self, table: str, body: bytes, format_: str, token: str) -> None:
        """Insert a block of rows under its token: once, however often it is called. `table` is quoted already."""
        settings = {name: v for name, v in _INSERT_SETTINGS.items() if name in self._client.server_settings}
        # As a view of memory, the client sends the block as it is, with the statement in the URL.
        self._client.raw_insert(
            table, None, memoryview(body), settings={**settings, "insert_deduplication_token": token}, fmt=format_  # type: ignore[arg-type]
        )  # fmt: skip

    def close(self) -> None:
        """Give everything back."""
        self._client.close()


def _options(dsn: Dsn) -> dict[str, Any]:
    """The DSN's options as the client takes them."""
    flags = {"true": True, "1": True, "false": False, "0": False}
    return {name: flags.get(value.lower(), value) if name == "verify" else value for name, value in dsn.options}


def code_of(error: BaseException) -> int | None:
    """ClickHouse's error code, where there is one."""
    code = getattr(error, "code", None)
    return code if isinstance(code, int) else None


def explain(error: Exception, where: str) -> DeliveryError:
    """What an error means for the payload: try again, or never. Unknown errors mean: try again."""
    from clickhouse_connect.driver.exceptions import DataError, OperationalError

    if isinstance(error, DeliveryError):
        return error
    message = " ".join(str(error).split())[:500]
    code = code_of(error)
    if isinstance(error, EngineError):
        return Retryable(message)
    if code in _WRONG_DATA or isinstance(error, DataError):
        return Permanent(f"{where} refuses the rows: {_QUOTED.sub('…', message)}")
    if code in _ADVICE:
        return Retryable(f"{where}: {_ADVICE[code]} ({message})")
    if code is None and isinstance(error, OperationalError | OSError):
        told = _ERRNO.findall(message)  # urllib3 wraps the reason in how often it tried what, and query ids
        return Retryable(f"{where} does not answer: {told[-1].strip() if told else message}")
    return Retryable(f"{where}: {message}")
