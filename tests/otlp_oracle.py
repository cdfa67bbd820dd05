"""What protobuf's own parser reads from a request, and what our tables say, in one comparable form of plain Python."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from collector.errors import Malformed
from collector.otlp import gather, logs
from collector.otlp.check import Limits, check
from collector.otlp.decode import decode
from collector.otlp.requests import REQUESTS
from collector.otlp.tables import Decoded, Logs, Owner, Text, Traces, ValueType
from collector.signals import Signal

KINDS = {
    "string_value": ValueType.STRING,
    "bool_value": ValueType.BOOL,
    "int_value": ValueType.INT,
    "double_value": ValueType.DOUBLE,
    "array_value": ValueType.ARRAY,
    "kvlist_value": ValueType.KVLIST,
    "bytes_value": ValueType.BYTES,
}


def parse(body: bytes) -> ExportTraceServiceRequest:
    """Spans, by protobuf's parser; raises its DecodeError."""
    request = ExportTraceServiceRequest()
    request.ParseFromString(body)
    return request


def parse_any(body: bytes, signal: Signal) -> Any:
    """As `parse`, a request of any signal."""
    request = REQUESTS[signal].message()
    request.ParseFromString(body)
    return request


# How an attribute value becomes text, in Python


def double_text(value: float) -> str:
    """JSON's notation: the shortest digits, a point from 1e-6 to 1e21, an exponent outside."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    sign = "-" if math.copysign(1, value) < 0 else ""
    digits, exponent = repr(abs(value)).partition("e")[::2]
    whole, _, fraction = digits.partition(".")
    point = len(whole) + int(exponent or 0)
    digits = whole + ("" if fraction == "0" else fraction)
    stripped = digits.lstrip("0")
    point -= len(digits) - len(stripped)
    digits = stripped.rstrip("0")
    if not digits:
        return sign + "0"
    if point < -5 or point > 21:
        rest = "." + digits[1:] if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{rest}e{'+' if point > 0 else ''}{point - 1}"
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    if len(digits) <= point:
        return sign + digits + "0" * (point - len(digits))
    return f"{sign}{digits[:point]}.{digits[point:]}"


def value_text(value: AnyValue) -> str | None:
    """What `gather.strings` gives for the value; None for one that is not set."""
    kind = value.WhichOneof("value")
    if kind is None or kind == "string_value_strindex":
        return None
    if kind == "string_value":
        return value.string_value
    if kind == "bool_value":
        return "true" if value.bool_value else "false"
    if kind == "int_value":
        return str(value.int_value)
    if kind == "double_value":
        return double_text(value.double_value)
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    return _json(value)


def _json(value: AnyValue) -> str:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return "[" + ",".join(_json(member) for member in value.array_value.values) + "]"
    if kind == "kvlist_value":
        members = (f"{_json_text(member.key)}:{_json(member.value)}" for member in value.kvlist_value.values)
        return "{" + ",".join(members) + "}"
    text = value_text(value)
    if text is None:
        return "null"
    if kind in {"string_value", "bytes_value"} or (kind == "double_value" and not math.isfinite(value.double_value)):
        return _json_text(text)
    return text


def _json_text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


# Both sides as plain Python


def _number(value: AnyValue) -> int:
    kind = value.WhichOneof("value")
    if kind == "int_value":
        return value.int_value
    if kind == "bool_value":
        return int(value.bool_value)
    if kind == "double_value":
        return int(np.float64(value.double_value).view(np.int64))
    return 0


def _attribute(attribute: KeyValue) -> tuple[Any, ...]:
    value = attribute.value
    kind = KINDS.get(value.WhichOneof("value") or "", ValueType.EMPTY)
    return attribute.key, kind, _number(value), value_text(value)


def expected(request: ExportTraceServiceRequest) -> list[Any]:
    """The request: resources, scopes, spans, events, links."""
    resources, scopes, spans, events, links = [], [], [], [], []
    for resource_spans in request.resource_spans:
        attributes = [_attribute(attribute) for attribute in resource_spans.resource.attributes]
        resources.append((resource_spans.schema_url, attributes))
        for scope_spans in resource_spans.scope_spans:
            scope = scope_spans.scope
            attributes = [_attribute(attribute) for attribute in scope.attributes]
            scopes.append((len(resources) - 1, scope.name, scope.version, scope_spans.schema_url, attributes))
            for span in scope_spans.spans:
                row = len(spans)
                parent = span.parent_span_id if len(span.parent_span_id) == 8 and any(span.parent_span_id) else b""
                spans.append(
                    (
                        len(scopes) - 1,
                        len(resources) - 1,
                        span.trace_id,
                        span.span_id,
                        parent,
                        span.trace_state,
                        span.name,
                        int(span.kind),
                        span.start_time_unix_nano,
                        span.end_time_unix_nano,
                        int(span.status.code),
                        span.status.message,
                        span.flags,
                        [_attribute(attribute) for attribute in span.attributes],
                    )
                )
                for event in span.events:
                    attributes = [_attribute(attribute) for attribute in event.attributes]
                    events.append((row, event.time_unix_nano, event.name, attributes))
                for link in span.links:
                    attributes = [_attribute(attribute) for attribute in link.attributes]
                    links.append((row, link.trace_id, link.span_id, link.trace_state, attributes))
    return [resources, scopes, spans, events, links]


def _bytes(traces: Decoded, text: Text) -> list[bytes]:
    data = traces.data.tobytes()
    return [data[at : at + size] for at, size in zip(text.off.tolist(), text.len.tolist(), strict=True)]


def _texts(traces: Decoded, text: Text) -> list[str]:
    texts: list[str] = gather.texts(traces, text).to_pylist()
    codes, distinct = gather.text_codes(traces, text)
    assert [distinct[code].as_py() for code in codes.tolist()] == texts
    return texts


def _attributes(traces: Decoded, owner: Owner) -> list[list[tuple[Any, ...]]]:
    table, ranges = traces.attributes, traces.ranges(owner)
    texts = gather.strings(traces, np.arange(len(table.key), dtype=np.int32)).to_pylist()
    rows: list[list[tuple[Any, ...]]] = []
    for i, (start, end) in enumerate(zip(ranges.start.tolist(), ranges.end.tolist(), strict=True)):
        assert set(table.owner[start:end].tolist()) <= {i}
        assert set(table.owner_kind[start:end].tolist()) <= {owner}
        rows.append(
            [
                (traces.keys[table.key[row]], ValueType(table.type[row]), int(table.number[row]), texts[row])
                for row in range(start, end)
            ]
        )
    return rows


def _rows(*columns: Iterable[Any] | Sequence[Any]) -> list[tuple[Any, ...]]:
    lists = [column.tolist() if isinstance(column, np.ndarray) else list(column) for column in columns]
    return list(zip(*lists, strict=True))


def found(traces: Traces) -> list[Any]:
    """The tables, in the form of `expected`; texts and values go through `gather`."""
    resources, scopes, spans, events, links = (
        traces.resources,
        traces.scopes,
        traces.spans,
        traces.events,
        traces.links,
    )
    _check_ranges(spans.event_start, spans.event_end, events.span)
    _check_ranges(spans.link_start, spans.link_end, links.span)
    return [
        _rows(_texts(traces, resources.schema_url), _attributes(traces, Owner.RESOURCE)),
        _rows(
            scopes.resource,
            _texts(traces, scopes.name),
            _texts(traces, scopes.version),
            _texts(traces, scopes.schema_url),
            _attributes(traces, Owner.SCOPE),
        ),
        _rows(
            spans.scope,
            spans.resource,
            _bytes(traces, spans.trace_id),
            _bytes(traces, spans.span_id),
            _bytes(traces, spans.parent_span_id),
            _texts(traces, spans.trace_state),
            _texts(traces, spans.name),
            spans.kind,
            spans.start_ns,
            spans.end_ns,
            spans.status_code,
            _texts(traces, spans.status_message),
            spans.flags,
            _attributes(traces, Owner.SPAN),
        ),
        _rows(events.span, events.time_ns, _texts(traces, events.name), _attributes(traces, Owner.EVENT)),
        _rows(
            links.span,
            _bytes(traces, links.trace_id),
            _bytes(traces, links.span_id),
            _texts(traces, links.trace_state),
            _attributes(traces, Owner.LINK),
        ),
    ]


def expected_logs(request: ExportLogsServiceRequest) -> list[Any]:
    """The request: resources, scopes, log records."""
    resources, scopes, records = [], [], []
    for group in request.resource_logs:
        resources.append((group.schema_url, [_attribute(attribute) for attribute in group.resource.attributes]))
        for scope_logs in group.scope_logs:
            scope = scope_logs.scope
            attributes = [_attribute(attribute) for attribute in scope.attributes]
            scopes.append((len(resources) - 1, scope.name, scope.version, scope_logs.schema_url, attributes))
            place = (len(scopes) - 1, len(resources) - 1)
            records += [(*place, *_record(record)) for record in scope_logs.log_records]
    return [resources, scopes, records]


def _record(record: LogRecord) -> tuple[Any, ...]:
    return (
        record.time_unix_nano,
        record.observed_time_unix_nano,
        int(record.severity_number),
        record.severity_text,
        KINDS.get(record.body.WhichOneof("value") or "", ValueType.EMPTY),
        _number(record.body),
        value_text(record.body) or "",
        record.flags,
        known_id(record.trace_id, 16),
        known_id(record.span_id, 8),
        record.event_name,
        [_attribute(attribute) for attribute in record.attributes],
    )


def known_id(id_: bytes, size: int) -> bytes:
    """An id, or nothing where it is none."""
    return id_ if len(id_) == size and any(id_) else b""


def found_logs(decoded: Logs) -> list[Any]:
    """The tables, in the form of `expected_logs`."""
    resources, scopes, records = decoded.resources, decoded.scopes, decoded.records
    return [
        _rows(_texts(decoded, resources.schema_url), _attributes(decoded, Owner.RESOURCE)),
        _rows(
            scopes.resource,
            _texts(decoded, scopes.name),
            _texts(decoded, scopes.version),
            _texts(decoded, scopes.schema_url),
            _attributes(decoded, Owner.SCOPE),
        ),
        _rows(
            records.scope,
            records.resource,
            records.time_ns,
            records.observed_ns,
            records.severity_number,
            _texts(decoded, records.severity_text),
            [ValueType(kind) for kind in records.body.type.tolist()],
            records.body.number,
            gather.value_texts(decoded, records.body).to_pylist(),
            records.flags,
            _bytes(decoded, records.trace_id),
            _bytes(decoded, records.span_id),
            _texts(decoded, records.event_name),
            _attributes(decoded, Owner.RECORD),
        ),
    ]


def _check_ranges(start: Any, end: Any, owner: Any) -> None:
    for row, (first, behind) in enumerate(zip(start.tolist(), end.tolist(), strict=True)):
        assert owner[first:behind].tolist() == [row] * (behind - first)
    assert (end - start).sum() == len(owner)


# Protobuf's judgement on everything but UTF-8


_FILES = (
    common_pb2,
    resource_pb2,
    trace_pb2,
    trace_service_pb2,
    logs_pb2,
    logs_service_pb2,
    metrics_pb2,
    metrics_service_pb2,
)


def _lenient_requests() -> dict[Signal, type[Message]]:
    """The requests with bytes in the place of strings: the parser takes them whatever is in them."""
    pool = descriptor_pool.DescriptorPool()
    for module in _FILES:
        file = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        waiting = list(file.message_type)
        while waiting:
            message = waiting.pop()
            waiting += message.nested_type
            for field in message.field:
                if field.type == field.TYPE_STRING:
                    field.type = field.TYPE_BYTES
        pool.Add(file)
    return {
        signal: message_factory.GetMessageClass(pool.FindMessageTypeByName(request.message.DESCRIPTOR.full_name))
        for signal, request in REQUESTS.items()
    }


LENIENT = _lenient_requests()


def judge(body: bytes, signal: Signal = Signal.TRACES) -> Any:
    """The request that is to be kept of a body, None if it is not well-formed: as protobuf's parser reads it, U+FFFD for
    what is not UTF-8 in a string, without spans that have no valid ids."""
    lenient: Any = LENIENT[signal]()
    try:
        lenient.ParseFromString(body)
    except DecodeError:
        return None
    for resource_spans in lenient.resource_spans if signal is Signal.TRACES else ():
        for scope_spans in resource_spans.scope_spans:
            kept = [span for span in scope_spans.spans if _has_ids(span)]
            if len(kept) < len(scope_spans.spans):
                copies = [span.SerializeToString() for span in kept]
                del scope_spans.spans[:]
                for copied in copies:
                    scope_spans.spans.add().ParseFromString(copied)
    _repair(lenient)
    return parse_any(lenient.SerializeToString(), signal)


def _has_ids(span: Any) -> bool:
    return len(span.trace_id) == 16 and any(span.trace_id) and len(span.span_id) == 8 and any(span.span_id)


def _repair(message: Any) -> None:
    strings = {
        field.name
        for field in DESCRIPTORS[message.DESCRIPTOR.full_name].fields
        if field.type == FieldDescriptor.TYPE_STRING
    }
    for field, value in message.ListFields():
        if field.message_type is not None:
            for member in value if field.is_repeated else [value]:
                _repair(member)
        elif field.name in strings and field.is_repeated:
            value[:] = [member.decode("utf-8", "replace").encode() for member in value]
        elif field.name in strings:
            setattr(message, field.name, value.decode("utf-8", "replace").encode())


def _descriptors() -> dict[str, Descriptor]:
    found, waiting = {}, [request.message.DESCRIPTOR for request in REQUESTS.values()]
    while waiting:
        here = waiting.pop()
        if here.full_name not in found:
            found[here.full_name] = here
            waiting += [field.message_type for field in here.fields if field.message_type is not None]
    return found


DESCRIPTORS = _descriptors()


def items_of(request: Any, signal: Signal) -> int:
    """How many spans, log records or data points a parsed request holds."""
    if signal is Signal.TRACES:
        return sum(len(s.spans) for r in request.resource_spans for s in r.scope_spans)
    if signal is Signal.LOGS:
        return sum(len(s.log_records) for r in request.resource_logs for s in r.scope_logs)
    metrics = (m for r in request.resource_metrics for s in r.scope_metrics for m in s.metrics)
    return sum(len(getattr(m, m.WhichOneof("data")).data_points) for m in metrics if m.WhichOneof("data"))


def agree(body: bytes, signal: Signal = Signal.TRACES) -> bool:
    """Assert that checking and decoding do with a body what protobuf's parser says; whether it was taken."""
    wanted = judge(body, signal)
    try:
        checked = check(signal, body, Limits())
    except Malformed:
        assert wanted is None, "protobuf takes it, we refuse it"
        return False
    assert wanted is not None, "we take it, protobuf refuses it"
    kept = parse_any(checked.body, signal)
    assert kept.SerializeToString(deterministic=True) == wanted.SerializeToString(deterministic=True)
    assert checked.items == items_of(wanted, signal)
    if signal is Signal.TRACES:
        assert expected(kept) == expected(wanted)
        traces = decode(checked.body)
        assert found(traces) == expected(wanted)
        assert len(traces) == checked.items
    if signal is Signal.LOGS:
        decoded = logs.read(np.frombuffer(checked.body, np.uint8))
        assert found_logs(decoded) == expected_logs(wanted)
        assert len(decoded) == checked.items
    if not checked.rejected and not checked.repaired:
        parse_any(body, signal)
    again = check(signal, checked.body, Limits())
    assert again.body is checked.body, "what was checked once passes unchanged"
    return True
