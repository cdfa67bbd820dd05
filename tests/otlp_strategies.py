"""Hypothesis strategies for OTLP requests: all kinds of values, odd texts, fields that are not set."""

from __future__ import annotations

from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import (
    AnyValue,
    ArrayValue,
    EntityRef,
    InstrumentationScope,
    KeyValue,
    KeyValueList,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

ODD = ("", "\0", '"\\\b\f\n\r\t\x01\x7f', "é€😀", "\u2028<&>", "x" * 300, "0", "-17", "1e3", "true", "9" * 30)
texts = st.text(max_size=12) | st.sampled_from(ODD)
keys = st.sampled_from(("gen_ai.request.model", "gen_ai.usage.input_tokens", "user.id", "", "ключ", "a" * 40)) | texts
int64s = st.integers(-(2**63), 2**63 - 1) | st.sampled_from((0, 1, -1, 2**63 - 1, -(2**63)))
doubles = st.floats() | st.integers(-(10**17), 10**17).map(float) | st.decimals(-100, 100, places=4).map(float)
_scalars = st.one_of(
    st.just(AnyValue()),
    st.builds(AnyValue, string_value=texts),
    st.builds(AnyValue, bool_value=st.booleans()),
    st.builds(AnyValue, int_value=int64s),
    st.builds(AnyValue, double_value=doubles),
    st.builds(AnyValue, bytes_value=st.binary(max_size=9)),
)


def _nested(values: st.SearchStrategy[AnyValue]) -> st.SearchStrategy[AnyValue]:
    members = st.builds(KeyValue, key=keys, value=values) | st.builds(KeyValue, key=keys)
    return st.one_of(
        st.builds(AnyValue, array_value=st.builds(ArrayValue, values=st.lists(values, max_size=3))),
        st.builds(AnyValue, kvlist_value=st.builds(KeyValueList, values=st.lists(members, max_size=3))),
    )


values = st.recursive(_scalars, _nested, max_leaves=6)
attributes = st.lists(st.builds(KeyValue, key=keys, value=values) | st.builds(KeyValue, key=keys), max_size=5)
uint32s, uint64s = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
trace_ids = st.binary(min_size=16, max_size=16).filter(any)
span_ids = st.binary(min_size=8, max_size=8).filter(any)
no_ids = st.sampled_from((b"", b"\0" * 8, b"\0" * 16, b"short", b"x" * 17))
events = st.builds(
    Span.Event, time_unix_nano=uint64s, name=texts, attributes=attributes, dropped_attributes_count=uint32s
)
links = st.builds(
    Span.Link,
    trace_id=trace_ids | no_ids,
    span_id=span_ids | no_ids,
    trace_state=texts,
    attributes=attributes,
    flags=uint32s,
)
statuses = st.builds(Status, message=texts, code=st.integers(0, 2))
spans = st.builds(
    Span,
    trace_id=trace_ids,
    span_id=span_ids,
    parent_span_id=span_ids | no_ids,
    trace_state=texts,
    flags=uint32s,
    name=texts,
    kind=st.integers(0, 5) | st.integers(-(2**31), 2**31 - 1),
    start_time_unix_nano=uint64s,
    end_time_unix_nano=uint64s,
    attributes=attributes,
    dropped_attributes_count=uint32s,
    events=st.lists(events, max_size=2),
    links=st.lists(links, max_size=2),
    status=st.none() | statuses,
)
spans_without_ids = st.builds(Span, trace_id=trace_ids | no_ids, span_id=span_ids | no_ids, name=texts)
scopes = st.builds(InstrumentationScope, name=texts, version=texts, attributes=attributes)
entities = st.builds(EntityRef, schema_url=texts, type=texts, id_keys=st.lists(texts, max_size=2))
resources = st.builds(Resource, attributes=attributes, entity_refs=st.lists(entities, max_size=1))


def _requests(span: st.SearchStrategy[Span]) -> st.SearchStrategy[ExportTraceServiceRequest]:
    scope_spans = st.builds(ScopeSpans, scope=st.none() | scopes, spans=st.lists(span, max_size=3), schema_url=texts)
    resource_spans = st.builds(
        ResourceSpans,
        resource=st.none() | resources,
        scope_spans=st.lists(scope_spans, max_size=2),
        schema_url=texts,
    )
    return st.builds(ExportTraceServiceRequest, resource_spans=st.lists(resource_spans, max_size=2))


requests = _requests(spans)
requests_with_rejects = _requests(spans | spans_without_ids)
