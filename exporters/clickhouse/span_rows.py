"""A batch's spans as rows of `otel_traces`: the Collector's columns from the decoded tables, ours from `batch.spans`."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from collector.batch import SpanBatch
from collector.columns import SPAN_COLUMNS
from collector.otlp import gather
from collector.otlp.tables import I32, Owner, Traces
from exporters.clickhouse import shared
from exporters.clickhouse.arrow import record_batch, short, short_map, timestamps, told
from exporters.clickhouse.ledger_rows import within
from exporters.clickhouse.schema import COLLECTOR_FIELDS, OUR_FIELDS, RECEIVED

KINDS = pa.array(["Unspecified", "Internal", "Server", "Client", "Producer", "Consumer"])
STATUSES = pa.array(["Unset", "Ok", "Error"])


def span_rows(batch: SpanBatch) -> pa.RecordBatch:
    """One row per span, in wire order."""
    traces = batch.otlp
    spans = traces.spans
    seconds = np.full(len(traces), batch.received_ns // 10**9, dtype=np.uint32)
    columns = [
        timestamps(spans.start_ns),
        *map(short, gather.span_ids(spans.ids)),
        shared.texts(traces, spans.trace_state),
        shared.texts(traces, spans.name),
        shared.words(spans.kind, KINDS),
        shared.services(traces, spans.resource),
        shared.maps_of(traces, Owner.RESOURCE, spans.resource),
        shared.texts_of(traces, traces.scopes.name, spans.scope),
        shared.texts_of(traces, traces.scopes.version, spans.scope),
        short_map(gather.attribute_maps(traces, Owner.SPAN)),
        _durations(spans.start_ns, spans.end_ns),
        shared.words(spans.status_code, STATUSES),
        shared.texts(traces, spans.status_message),
        *_events(traces),
        *_links(traces),
    ]
    ours = told(within(batch.spans), [(column.name, f) for column, f in zip(SPAN_COLUMNS, OUR_FIELDS, strict=True)])
    collectors = dict(zip((field.name for field in COLLECTOR_FIELDS), columns, strict=True))
    return record_batch({**collectors, **ours, RECEIVED.name: pa.array(seconds)})


def _durations(start: NDArray[np.uint64], end: NDArray[np.uint64]) -> pa.Array:
    return pa.array(np.where(end > start, end - start, np.uint64(0)))


def _offsets(start: I32, end: I32) -> pa.Array:
    """Ranges that follow one another, as Arrow's list offsets."""
    return pa.array(np.append(start, end[-1:]).astype(np.int32))


def _lists(offsets: pa.Array, *columns: pa.Array) -> list[pa.Array]:
    return [pa.ListArray.from_arrays(offsets, column) for column in columns]


def _events(traces: Traces) -> list[pa.Array]:
    events = traces.events
    return _lists(
        _offsets(traces.spans.event_start, traces.spans.event_end),
        timestamps(events.time_ns),
        shared.texts(traces, events.name),
        short_map(gather.attribute_maps(traces, Owner.EVENT)),
    )


def _links(traces: Traces) -> list[pa.Array]:
    links = traces.links
    return _lists(
        _offsets(traces.spans.link_start, traces.spans.link_end),
        short(gather.hex_ids(traces, links.trace_id)),
        short(gather.hex_ids(traces, links.span_id)),
        short(gather.texts(traces, links.trace_state)),
        short_map(gather.attribute_maps(traces, Owner.LINK)),
    )
