"""The exporter: schema at start, then one insert per payload, each exactly once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

from collector.component import Context, Exporter, Payload
from collector.errors import Permanent
from collector.signals import Signal
from exporters.clickhouse import schema
from exporters.clickhouse.client import MISSING, Connection, code_of, explain
from exporters.clickhouse.config import ClickHouseConfig
from exporters.clickhouse.ddl import Layout
from exporters.clickhouse.migrate import check, fill, migrate, settle

if TYPE_CHECKING:
    from collector.batch import RequestBatch, SpanBatch
    from exporters.clickhouse.gate import Gate
    from exporters.clickhouse.history import CallHistory
    from exporters.clickhouse.share_rows import StoredShares


#: An exporter in several pipelines is there as often, and all of them start at once.
_MIGRATING = threading.Lock()


class ClickHouse(Exporter[ClickHouseConfig]):
    """Spans, calls, hourly sums, findings and log records in ClickHouse, embedded or on a server.

    A payload is one block of one table, inserted under a token: sending it again changes nothing, for as long as the
    table remembers the token (the last 10,000 inserts; on a replicated table also a week at most).
    """

    Config = ClickHouseConfig
    signals = frozenset({Signal.TRACES, Signal.LOGS})

    def __init__(self, config: ClickHouseConfig, context: Context) -> None:
        super().__init__(config, context)
        self.dsn = config.target
        self.layout = Layout.of(config)
        # In this process a block is not sent anywhere, and compressing it would cost more than it saves on disk.
        self.compression: Literal["lz4", "zstd", "none"] = "none" if self.dsn.embedded else config.compression
        self._connection: Connection | None = None
        self._gate: Gate | None = None
        self._whole = True  # the schema: nothing of an older release is left to be made anew
        self._older = False  # calls that an older release committed have come since then

    def encode(self, batch: SpanBatch) -> Iterable[Payload]:
        from exporters.clickhouse.encode import (
            payloads,
        )  # brings the column engine and the kernels: not for reading a config

        return payloads(batch, self.context.id, self.config.traces_table_name, self.compression, self.context.collector)

    def encode_requests(self, batch: RequestBatch) -> Iterable[Payload]:
        from exporters.clickhouse.encode import log_payloads

        return log_payloads(batch, self.context.id, self.config.logs_table_name, self.compression)

    def start(self) -> None:
        self._connected()

    def send(self, payload: Payload) -> None:
        connection = self._connected()
        meta = payload.meta
        try:
            name = str(meta["table"])
            if not self._whole:
                self._settle(connection, name, int(meta.get("schema", 1)))
            connection.insert(self.layout.name(name), payload.body, str(meta["format"]), str(meta["token"]))
        except KeyError as error:
            raise Permanent(f"the payload has no {error.args[0]}: another release wrote it") from None
        except Exception as error:
            if code_of(error) in MISSING:
                self._disconnect()  # the next try looks at the schema again
            raise explain(error, str(self.dsn)) from error

    def sql_app(self) -> Callable[..., Any] | None:
        """The read-only HTTP interface, where the store is inside this process."""
        if self.dsn.path is None:
            return None
        if self._gate is None:
            from exporters.clickhouse.gate import Gate
            from exporters.clickhouse.reader import Reader

            self._gate = Gate(Reader(self.dsn.path, self.config.database_name))
        return self._gate.app

    def history(self) -> CallHistory:
        from exporters.clickhouse.history import CallHistory

        return CallHistory(self.dsn, self.layout, self.config.timeout)

    def shares(self) -> StoredShares | None:
        """None for the embedded engine: nobody else writes to it."""
        from exporters.clickhouse.share_rows import StoredShares

        return None if self.dsn.embedded else StoredShares(self.dsn, self.layout, self.config.timeout)

    def __str__(self) -> str:
        return str(self.dsn)

    def close(self) -> None:
        self._disconnect()
        if self._gate is not None:
            self._gate.close()

    def _connected(self) -> Connection:
        """The connection, with the schema in place. Raises `Retryable`."""
        if self._connection is None:
            try:
                connection = Connection(self.dsn, timeout=self.config.timeout)
                try:
                    self._prepare(connection)
                except BaseException:
                    connection.close()
                    raise
            except Exception as error:
                raise explain(error, str(self.dsn)) from error
            self._connection = connection
        return self._connection

    def _prepare(self, connection: Connection) -> None:
        if self.config.create_schema:
            with _MIGRATING:
                self._whole = migrate(self.layout, connection.command, connection.rows)
        else:
            check(self.layout, self.context.signal, connection.rows)

    def _settle(self, connection: Connection, table: str, version: int) -> None:
        """Before a payload goes out: once the first one of this release's sums comes, all that an older one committed is there."""
        if table == schema.CALLS_TABLE and version < schema.SCHEMA_VERSION:
            self._older = True
        elif table == schema.TRAFFIC_TABLE:
            with _MIGRATING:
                if self._older:
                    fill(self.layout, connection.command, connection.rows)
                settle(self.layout, connection.command)
            self._whole, self._older = True, False

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


__all__ = ["ClickHouse"]
