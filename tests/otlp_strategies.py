"""Hypothesis strategies for OTLP requests: all kinds of values, odd texts, fields that are not set."""

from __future__ import annotations

from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import (
    AnyValue,
    ArrayValue,
    EntityRef,
    InstrumentationScope,
    KeyValue,
    KeyValueList,
)
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    Exemplar,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
    Summary,
    SummaryDataPoint,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from collector.signals import Signal

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
_names = st.lists(texts, max_size=2)
entities = st.builds(EntityRef, schema_url=texts, type=texts, id_keys=_names, description_keys=_names)
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


log_records = st.builds(
    LogRecord,
    time_unix_nano=uint64s | st.just(0),
    observed_time_unix_nano=uint64s | st.just(0),
    severity_number=st.integers(0, 24) | st.integers(-(2**31), 2**31 - 1),
    severity_text=texts,
    body=st.none() | values,
    attributes=attributes,
    dropped_attributes_count=uint32s,
    flags=uint32s,
    trace_id=trace_ids | no_ids,
    span_id=span_ids | no_ids,
    event_name=texts,
)
_scope_logs = st.builds(
    ScopeLogs, scope=st.none() | scopes, log_records=st.lists(log_records, max_size=3), schema_url=texts
)
_resource_logs = st.builds(
    ResourceLogs, resource=st.none() | resources, scope_logs=st.lists(_scope_logs, max_size=2), schema_url=texts
)
log_requests = st.builds(ExportLogsServiceRequest, resource_logs=st.lists(_resource_logs, max_size=2))

_numbers = st.fixed_dictionaries({"as_int": int64s}) | st.fixed_dictionaries({"as_double": doubles}) | st.just({})
exemplars = st.builds(
    lambda number, **rest: Exemplar(**number, **rest),
    _numbers,
    filtered_attributes=attributes,
    time_unix_nano=uint64s,
    span_id=span_ids | no_ids,
    trace_id=trace_ids | no_ids,
)
_times = {"start_time_unix_nano": uint64s, "time_unix_nano": uint64s, "flags": uint32s, "attributes": attributes}
_exemplars = st.lists(exemplars, max_size=2)
number_points = st.builds(
    lambda number, **rest: NumberDataPoint(**number, **rest), _numbers, exemplars=_exemplars, **_times
)
_extremes = {"sum": st.none() | doubles, "min": st.none() | doubles, "max": st.none() | doubles}
histogram_points = st.builds(
    HistogramDataPoint,
    count=uint64s,
    bucket_counts=st.lists(uint64s, max_size=3),
    explicit_bounds=st.lists(doubles, max_size=3),
    exemplars=_exemplars,
    **_extremes,
    **_times,
)
_buckets = st.builds(
    ExponentialHistogramDataPoint.Buckets,
    offset=st.integers(-(2**31), 2**31 - 1),
    bucket_counts=st.lists(uint64s, max_size=3),
)
exponential_points = st.builds(
    ExponentialHistogramDataPoint,
    count=uint64s,
    scale=st.integers(-10, 20),
    zero_count=uint64s,
    positive=st.none() | _buckets,
    negative=st.none() | _buckets,
    exemplars=_exemplars,
    zero_threshold=doubles,
    **_extremes,
    **_times,
)
_quantiles = st.builds(SummaryDataPoint.ValueAtQuantile, quantile=doubles, value=doubles)
summary_points = st.builds(
    SummaryDataPoint, count=uint64s, sum=doubles, quantile_values=st.lists(_quantiles, max_size=2), **_times
)


def _points(points: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(points, max_size=2)


_temporality = st.integers(0, 2)
_data = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"gauge": st.builds(Gauge, data_points=_points(number_points))}),
    st.fixed_dictionaries(
        {
            "sum": st.builds(
                Sum,
                data_points=_points(number_points),
                aggregation_temporality=_temporality,
                is_monotonic=st.booleans(),
            )
        }
    ),
    st.fixed_dictionaries(
        {"histogram": st.builds(Histogram, data_points=_points(histogram_points), aggregation_temporality=_temporality)}
    ),
    st.fixed_dictionaries(
        {
            "exponential_histogram": st.builds(
                ExponentialHistogram, data_points=_points(exponential_points), aggregation_temporality=_temporality
            )
        }
    ),
    st.fixed_dictionaries({"summary": st.builds(Summary, data_points=_points(summary_points))}),
)
metrics = st.builds(
    lambda data, **rest: Metric(**data, **rest),
    _data,
    name=texts,
    description=texts,
    unit=texts,
    metadata=attributes,
)
_scope_metrics = st.builds(
    ScopeMetrics, scope=st.none() | scopes, metrics=st.lists(metrics, max_size=3), schema_url=texts
)
_resource_metrics = st.builds(
    ResourceMetrics,
    resource=st.none() | resources,
    scope_metrics=st.lists(_scope_metrics, max_size=2),
    schema_url=texts,
)
metric_requests = st.builds(ExportMetricsServiceRequest, resource_metrics=st.lists(_resource_metrics, max_size=2))

requests_of = {
    Signal.TRACES: requests_with_rejects,
    Signal.LOGS: log_requests,
    Signal.METRICS: metric_requests,
}
