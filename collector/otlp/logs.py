"""Requests of logs to columns, as `decode.py` does it with spans."""

from __future__ import annotations

import numpy as np

from collector.otlp import kernels, levels
from collector.otlp import layout as L
from collector.otlp.tables import U8, Logs, RecordTable


def read(body: U8) -> Logs:
    """The log records of one or more ExportLogsServiceRequest bodies that `check` has passed, in wire order.

    Raises Malformed for what is no well-formed request. Of repeated singular fields the last one counts.
    """
    attributes = levels.Attributes(body)
    groups = levels.groups(body, _RECORD, L.LOG_ATTRIBUTES, attributes, None)
    records, record = groups.items, groups.items.fields
    table, keys = attributes.table()
    trace_id, span_id = record.text(0), record.text(1)
    kernels.known_ids(body, trace_id.off, trace_id.len, 16)
    kernels.known_ids(body, span_id.off, span_id.len, 8)
    return Logs(
        data=body,
        resources=groups.resources,
        scopes=groups.scopes,
        records=RecordTable(
            scope=records.parent,
            resource=groups.resource_of_items,
            message=records.message,
            time_ns=record.numbers(5).view(np.uint64),
            observed_ns=record.numbers(6).view(np.uint64),
            severity_number=record.numbers(7).astype(np.int32),
            severity_text=record.text(2),
            body=levels.values(body, record.text(4)),
            flags=record.numbers(8).astype(np.uint32),
            trace_id=trace_id,
            span_id=span_id,
            event_name=record.text(3),
            attributes=records.attributes,
        ),
        attributes=table,
        keys=keys,
    )


_RECORD = levels.fields(
    L.LOG_TRACE_ID,
    L.LOG_SPAN_ID,
    L.LOG_SEVERITY_TEXT,
    L.LOG_EVENT_NAME,
    L.LOG_BODY,
    L.LOG_TIME,
    L.LOG_OBSERVED_TIME,
    L.LOG_SEVERITY_NUMBER,
    L.LOG_FLAGS,
)
