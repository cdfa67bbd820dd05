"""A batch as payloads: for each table and partition one Arrow stream and the token that it is inserted under.

Arrow, because the batch is made of Arrow buffers already: a map of attributes is offsets, key codes and values as they
stand, and no value is touched on the way into the stream. The server reads columns, not rows.

One payload is one block is one part in one partition, so that the server can tell by the token that it has it already.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Literal

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from collector.batch import RequestBatch, SpanBatch
from collector.component import Payload
from collector.memory import large_buffer
from exporters.clickhouse import schema
from exporters.clickhouse.arrow import batch_of
from exporters.clickhouse.declare import Table
from exporters.clickhouse.finding_rows import finding_rows
from exporters.clickhouse.hourly import COSTS, TRAFFIC, Sums
from exporters.clickhouse.ledger_rows import call_rows, within
from exporters.clickhouse.log_rows import log_rows
from exporters.clickhouse.share_rows import share_rows
from exporters.clickhouse.span_rows import span_rows
from exporters.clickhouse.sum_rows import Moves, moved

Compression = Literal["lz4", "zstd", "none"]
FORMAT = "ArrowStream"
_FRAMING_BYTES = 4096  # of a column in the stream: schema, paddings, and its dictionary's message
_MORE_COMPRESSED = 200  # what does not compress grows by less than one part in so many


def log_payloads(batch: RequestBatch, exporter: str, table: str, compression: Compression) -> Iterator[Payload]:
    """What to insert of a batch of logs: its records."""
    rows = log_rows(batch)
    if rows.num_rows:
        # Records have no ids: when they happened is as good, to the nanosecond.
        yield _payload(rows, table, _position(batch, exporter), "", rows.column("Timestamp"), compression)


def payloads(
    batch: SpanBatch, exporter: str, traces_table: str, compression: Compression, collector: str = ""
) -> Iterator[Payload]:
    """What to insert of a batch: its spans, its findings, the new versions of its calls, how they move the hourly sums, and
    last what has been counted with them."""
    position = _position(batch, exporter)
    if len(batch):
        rows = span_rows(batch)
        # Spans go by their day of arrival, so they are one partition.
        yield _payload(rows, traces_table, position, "", rows.column("SpanId"), compression)
    for month, rows in finding_rows(batch.findings):
        ids = rows.column("FindingId")
        yield _payload(rows, schema.FINDINGS_TABLE, position, month, ids, compression)
    if not (batch.calls.is_empty() and batch.replaced.is_empty()):
        yield from _ledger(batch, position, compression, collector)
    for month, rows in share_rows(batch.shares):
        yield _payload(rows, schema.SHARES_TABLE, position, month, rows.column("CostUSD"), compression)


def _ledger(batch: SpanBatch, position: str, compression: Compression, collector: str) -> Iterator[Payload]:
    calls, replaced = within(batch.calls), within(batch.replaced)
    moves = [Moves.of(frame, sign) for frame, sign in ((calls, 1), (replaced, -1)) if not frame.is_empty()]
    # These come before the calls: where a server has yet to make them of an older release's calls, none may be among those.
    yield from _sums(TRAFFIC, schema.TRAFFIC_OF, moves, position, compression)
    for month, part in _by_month(calls, calls["day"].to_numpy().astype("datetime64[M]")):
        rows = call_rows(part, collector)
        payload = _payload(rows, schema.CALLS_TABLE, position, month, rows.column("CallId"), compression)
        yield replace(payload, meta={**payload.meta, "schema": schema.SCHEMA_VERSION})
    yield from _sums(COSTS, schema.HOURLY_OF, moves, position, compression)


def _sums(of: Sums, table: Table, moves: list[Moves], position: str, compression: Compression) -> Iterator[Payload]:  # fmt: skip
    rows = moved(of, moves)
    hours = rows["Hour"].to_numpy().astype("datetime64[s]")
    for month, part in _by_month(rows, hours.astype("datetime64[M]")):
        block = batch_of(part, table)
        yield _payload(block, of.name, position, month, block.column("CostUSD"), compression)


def _position(batch: SpanBatch | RequestBatch, exporter: str) -> str:
    return f"{exporter}\n{batch.position.first}\n{batch.position.last}\n{batch.received_ns}"


def _by_month(rows: pl.DataFrame, months: NDArray[np.datetime64]) -> Iterable[tuple[str, pl.DataFrame]]:
    """The rows of each month that there is (such as `202611`), in order."""
    found = np.unique(months)
    named = [(str(month).replace("-", ""), month) for month in found]
    return [(name, rows if len(found) == 1 else rows.filter(pl.Series(months == month))) for name, month in named]


def _payload(
    rows: pa.RecordBatch, table: str, position: str, partition: str, ids: pa.Array, compression: Compression
) -> Payload:
    meta: dict[str, str | int] = {"table": table, "token": _token(rows, table, position, partition, ids)}
    return Payload(write(rows, compression), {**meta, "format": FORMAT}, rows.num_rows)


def write(rows: pa.RecordBatch, compression: Compression) -> bytes:
    """Rows as an Arrow stream of one block."""
    # Handing columns of this size to other threads costs as much again as compressing them.
    options = pa.ipc.IpcWriteOptions(compression=None if compression == "none" else compression, use_threads=False)
    # A stream that grows would be copied each time.
    room = large_buffer(rows.nbytes + rows.nbytes // _MORE_COMPRESSED + _FRAMING_BYTES * (rows.num_columns + 1))
    sink = pa.FixedSizeBufferWriter(pa.py_buffer(room))
    with pa.ipc.new_stream(sink, rows.schema, options=options) as writer:
        writer.write_batch(rows)
    return room[: sink.tell()].tobytes()


def _token(rows: pa.RecordBatch, table: str, position: str, partition: str, ids: pa.Array) -> str:
    """The same for the same rows, now and after a restart, and for no others.

    Positions alone would not do: two collectors may write to one server, and a data directory that was wiped counts
    from one again. So the time of arrival and the ids of the rows are in it too.
    """
    digest = hashlib.sha256(
        f"{position}\n{table}\n{partition}\n{rows.num_rows}".encode()
    )  # processors have it built in
    values = ids.buffers()[-1]
    if values is not None:
        digest.update(values)
    return digest.hexdigest()[:40]


__all__ = ["FORMAT", "Compression", "log_payloads", "payloads", "write"]
