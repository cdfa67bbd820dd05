"""Compile what is compiled: once per machine, ahead of the first request."""

from __future__ import annotations

import numpy as np
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.otlp.check import Limits, check_traces, stamp
from collector.otlp.decode import decode
from collector.otlp.encode import encode
from collector.otlp.gather import (
    attribute_maps,
    codes,
    doubles,
    hash64,
    hex_ids,
    id_words,
    integers,
    slots,
    span_ids,
    strings,
    text_codes,
    texts,
    value_texts,
)
from collector.otlp.json_writer import to_json
from collector.otlp.logs import read as read_logs
from collector.otlp.many import codes_of
from collector.otlp.parts import split
from collector.otlp.strings import planned
from collector.otlp.strings import strings as leaves_of
from collector.otlp.tables import Owner
from collector.signals import Signal


def warm() -> None:
    """Run every kernel of this package on one span, which compiles it or loads it from Numba's cache."""
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add(trace_id=b"\1" * 16, span_id=b"\1" * 8)
    span.attributes.add(key="key").value.array_value.values.add().double_value = 0.1
    span.events.add(name="event")
    # A span without ids, so that there is something to take out.
    request.resource_spans[0].scope_spans[0].spans.add()
    body = stamp(check_traces(request.SerializeToString(), Limits()).body, {"key": "value"})
    traces = decode(body)
    (rows,) = slots(traces, ["key"], Owner.SPAN)
    for gather in (strings, codes, integers, doubles):
        gather(traces, rows)
    codes_of(traces, [rows, rows])
    id_words(span_ids(traces.spans.ids)[1], 1)
    for read in (texts, text_codes, hex_ids, hash64):
        read(traces, traces.spans.trace_id)
    attribute_maps(traces, Owner.SPAN)
    encode(traces, removed={"key": np.ones(1, np.bool_)})
    split(Signal.TRACES, traces.data, 1, 1)
    to_json(Signal.TRACES, traces.data)
    leaves, row = leaves_of(Signal.TRACES, traces.data), np.zeros(1, np.int32)
    splice = planned(traces.data, leaves, replaced=row, blob=traces.data, at=leaves.off[row], size=leaves.size[row])
    if splice is not None:
        splice.applied(traces.data)
    logs = ExportLogsServiceRequest()
    logs.resource_logs.add().scope_logs.add().log_records.add().body.string_value = "said"
    decoded = read_logs(np.frombuffer(logs.SerializeToString(), np.uint8))
    value_texts(decoded, decoded.records.body)
