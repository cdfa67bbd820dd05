"""A batch's log records as rows of `otel_logs`, with the values that the OpenTelemetry Collector's exporter writes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from collector.batch import RequestBatch
from collector.otlp import gather, logs
from collector.otlp.tables import Owner, RecordTable
from exporters.clickhouse import shared
from exporters.clickhouse.arrow import short, short_map, timestamps
from exporters.clickhouse.schema import LOG_FIELDS, RECEIVED

_NAMES = [field.name for field in (*LOG_FIELDS, RECEIVED)]


def log_rows(batch: RequestBatch) -> pa.RecordBatch:
    """One row per log record, in wire order."""
    decoded = logs.read(batch.data)
    records, resources, scopes = decoded.records, decoded.resources, decoded.scopes
    columns = [
        timestamps(_times(records, batch.received_ns)),
        short(gather.hex_ids(decoded, records.trace_id)),
        short(gather.hex_ids(decoded, records.span_id)),
        pa.array(records.flags.astype(np.uint8)),  # the trace flags are the low 8 bits
        shared.texts(decoded, records.severity_text),
        pa.array(_known(records.severity_number)),
        shared.services(decoded, records.resource),
        short(gather.value_texts(decoded, records.body)),
        shared.texts_of(decoded, resources.schema_url, records.resource),
        shared.maps_of(decoded, Owner.RESOURCE, records.resource),
        shared.texts_of(decoded, scopes.schema_url, records.scope),
        shared.texts_of(decoded, scopes.name, records.scope),
        shared.texts_of(decoded, scopes.version, records.scope),
        shared.maps_of(decoded, Owner.SCOPE, records.scope),
        short_map(gather.attribute_maps(decoded, Owner.RECORD)),
        shared.texts(decoded, records.event_name),
        pa.array(np.full(len(decoded), batch.received_ns // 10**9, dtype=np.uint32)),
    ]
    return pa.RecordBatch.from_arrays(columns, names=_NAMES)


def _times(records: RecordTable, received_ns: int) -> NDArray[np.uint64]:
    """When it happened; where that is not said, when it was observed: by the sender, else by us."""
    observed = np.where(records.observed_ns == 0, np.uint64(received_ns), records.observed_ns)
    return np.where(records.time_ns == 0, observed, records.time_ns)


def _known(severities: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Severity numbers; 0, which is unspecified, for what is none."""
    inside: NDArray[np.uint8] = np.where((severities < 0) | (severities > 24), 0, severities).astype(np.uint8)
    return inside
