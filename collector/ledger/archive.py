"""How reports and calls lie in the state: Arrow files, texts as dictionaries, what is null everywhere left out.

A value of the ledger's is written once and read only when a later report touches it, so writing must be cheap: texts that
repeat become one byte each without their bytes being looked at, because equal texts of a column mostly share their memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from collector.columns import CALL_COLUMNS
from collector.ledger.fields import day_of
from collector.ledger.kernels import I64
from collector.ledger.rows import arrow, by_name, unpack_rules
from collector.memory import large_buffer
from collector.repeats import coded

#: How the name of a call's column begins where a report's column stands beside it in one table.
CALL = "call."
#: Columns of a call that stood alone which follow from its report.
FOLLOWING = ("call_id", "reports", "report_count", "withdrawn", "day")
_OF_CALL = tuple(column.name for column in CALL_COLUMNS)
#: Rows from which looking for repeated texts pays.
_WORTH_CODES = 64
#: Bytes for what Arrow's file says of a column or a dictionary besides its values: more than it takes.
_ROOM = 2048
#: Less than half the bytes to seal and to write, which costs more than compressing them.
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)

Record = dict[str, Any]


def write(columns: Sequence[tuple[str, pa.Array]], rows: int) -> bytes:
    """An Arrow file of these columns, and of an empty one that says how many rows there are."""
    arrays = [*(_packed(array) for _, array in columns), pa.nulls(rows)]
    batch = pa.RecordBatch.from_arrays(arrays, [*(name for name, _ in columns), ""])
    dictionaries = [array.dictionary for array in arrays if pa.types.is_dictionary(array.type)]
    size = pa.ipc.get_record_batch_size(batch) + sum(d.nbytes + _ROOM for d in dictionaries)
    room = size + size // 100 + _ROOM * len(arrays)
    buffer = large_buffer(room)
    sink = pa.FixedSizeBufferWriter(pa.py_buffer(buffer))
    with pa.ipc.new_file(sink, batch.schema, options=_OPTIONS) as writer:
        writer.write_batch(batch)
    return buffer[: sink.tell()].tobytes()


def same_memory(one: pa.Array, other: pa.Array) -> bool:
    """Whether two columns are the same rows of the same memory: neither was changed since they were one."""
    if one is other:
        return True
    if one.type != other.type or len(one) != len(other) or one.offset != other.offset:
        return False
    buffers = zip(one.buffers()[:2], other.buffers()[:2], strict=True)
    return all((a is None and b is None) or (a is not None and b is not None and a.address == b.address) for a, b in buffers)  # fmt: skip


def _packed(array: pa.Array) -> pa.Array:
    if pa.types.is_string_view(array.type):
        dictionary = coded(array) if len(array) >= _WORTH_CODES else None
        return array.cast(pa.large_string()) if dictionary is None else dictionary
    if pa.types.is_large_list(array.type):
        texts = array.values
        return array if not pa.types.is_string_view(texts.type) else pa.LargeListArray.from_arrays(
            pa.array(np.frombuffer(array.buffers()[1], dtype=np.int64)[array.offset : array.offset + len(array) + 1]),
            texts.cast(pa.large_string()),
            mask=array.is_null() if array.null_count else None,
        )  # fmt: skip
    return array


class Stored:
    """A value that was read: whole in memory, decoded by row."""

    def __init__(self, value: bytes) -> None:
        with pa.ipc.open_file(pa.py_buffer(value)) as reader:
            self._table: pa.Table = reader.read_all()

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def rows(self, rows: Sequence[int]) -> list[Record]:
        """These rows as dicts; columns that were left out are missing."""
        taken = self._table.take(pa.array(rows, type=pa.int64()))
        found: list[Record] = taken.drop_columns([""]).to_pylist()
        return found


def write_fresh(reports: pl.DataFrame, made: pl.DataFrame, calls: pl.DataFrame) -> bytes:
    """Reports that stood alone, each with its call's columns where they are not the report's.

    made: the calls as merging made them. Of these, columns that nobody changed and that follow from the report are left
    out, and so is what is null everywhere.
    """
    rows = len(reports)
    columns = {s.name: arrow(s) for s in reports.get_columns() if s.null_count() < rows}
    as_made = by_name(made)
    for series in calls.get_columns():
        name = series.name
        base = columns.get(name)
        if base is None and name in FOLLOWING:
            base = arrow(as_made[name])
        if base is None and series.null_count() == rows:
            continue
        column = arrow(series)
        if base is None or not same_memory(base, column):
            columns[CALL + name] = column
    return write(list(columns.items()), rows)


def write_reports(reports: pl.DataFrame) -> bytes:
    """Reports as they are."""
    rows = len(reports)
    return write([(s.name, arrow(s)) for s in reports.get_columns() if s.null_count() < rows], rows)


def write_records(records: Sequence[Record]) -> bytes:
    """Rows with any columns."""
    return write_reports(pl.DataFrame(records, infer_schema_length=None))


def split(record: Record) -> tuple[Record, Record]:
    """A row that `write_fresh` wrote: the report, and its call."""
    report = {name: value for name, value in record.items() if not name.startswith(CALL)}
    unpack_rules(report)
    own = {name[len(CALL) :]: value for name, value in record.items() if name.startswith(CALL)}
    following = {
        "call_id": f"{report['trace_id']}-{report['span_id']}",
        "reports": [report["dialect"]] if report.get("dialect") is not None else [],
        "report_count": 1,
        "withdrawn": False,
        "day": day_of(report.get("start_ns") or 0),
    }
    return report, {**{name: report.get(name) for name in _OF_CALL}, **following, **own}


def array_bytes(arrays: Iterable[I64], *numbers: int) -> bytes:
    """Numbers, then columns of equal length, as little-endian int64."""
    return np.concatenate([np.array(numbers, dtype="<i8"), *arrays]).tobytes()


def arrays_of(value: bytes, numbers: int, columns: int) -> tuple[list[int], list[I64]]:
    """What `array_bytes` wrote."""
    data = np.frombuffer(value, dtype="<i8")
    head, body = data[:numbers].tolist(), data[numbers:]
    return head, [column.astype(np.int64) for column in body.reshape(columns, -1)]
