"""Checking takes and refuses what protobuf's own parser takes and refuses, and repairs what can be repaired."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.errors import Malformed, TooLarge
from collector.otlp import messages as M
from collector.otlp.check import Limits, check, check_traces, stamp
from collector.signals import Signal
from tests.fuzz import bodies, seeds
from tests.otlp_mutations import NOT_UTF8, Field, field_bytes, mutate, varint
from tests.otlp_oracle import DESCRIPTORS, agree, expected, parse, parse_any
from tests.otlp_strategies import requests, requests_of, requests_with_rejects, texts

modest = settings(deadline=None, max_examples=30)


def request_of(item: bytes) -> bytes:
    """A request with one span, log record or metric, given as its message."""
    return field_bytes(Field(1, 2, field_bytes(Field(2, 2, field_bytes(Field(2, 2, item))))))


IDS = field_bytes(Field(1, 2, b"t" * 16)) + field_bytes(Field(2, 2, b"s" * 8))


TYPES = {
    "collector.trace.v1.ExportTraceServiceRequest": M.TRACES,
    "trace.v1.ResourceSpans": M.RESOURCE_SPANS,
    "trace.v1.ScopeSpans": M.SCOPE_SPANS,
    "trace.v1.Span": M.SPAN,
    "trace.v1.Span.Event": M.EVENT,
    "trace.v1.Span.Link": M.LINK,
    "trace.v1.Status": M.STATUS,
    "collector.logs.v1.ExportLogsServiceRequest": M.LOGS,
    "logs.v1.ResourceLogs": M.RESOURCE_LOGS,
    "logs.v1.ScopeLogs": M.SCOPE_LOGS,
    "logs.v1.LogRecord": M.LOG_RECORD,
    "collector.metrics.v1.ExportMetricsServiceRequest": M.METRICS,
    "metrics.v1.ResourceMetrics": M.RESOURCE_METRICS,
    "metrics.v1.ScopeMetrics": M.SCOPE_METRICS,
    "metrics.v1.Metric": M.METRIC,
    "metrics.v1.Gauge": M.GAUGE,
    "metrics.v1.Sum": M.SUM,
    "metrics.v1.Histogram": M.HISTOGRAM,
    "metrics.v1.ExponentialHistogram": M.EXPONENTIAL_HISTOGRAM,
    "metrics.v1.Summary": M.SUMMARY,
    "metrics.v1.NumberDataPoint": M.NUMBER_POINT,
    "metrics.v1.HistogramDataPoint": M.HISTOGRAM_POINT,
    "metrics.v1.ExponentialHistogramDataPoint": M.EXPONENTIAL_POINT,
    "metrics.v1.ExponentialHistogramDataPoint.Buckets": M.BUCKETS,
    "metrics.v1.SummaryDataPoint": M.SUMMARY_POINT,
    "metrics.v1.SummaryDataPoint.ValueAtQuantile": M.QUANTILE,
    "metrics.v1.Exemplar": M.EXEMPLAR,
    "resource.v1.Resource": M.RESOURCE,
    "common.v1.InstrumentationScope": M.SCOPE,
    "common.v1.KeyValue": M.KEY_VALUE,
    "common.v1.AnyValue": M.ANY_VALUE,
    "common.v1.ArrayValue": M.ARRAY_VALUE,
    "common.v1.KeyValueList": M.KEY_VALUE_LIST,
    "common.v1.EntityRef": M.ENTITY_REF,
}
NUMBERS = {f"opentelemetry.proto.{name}": number for name, number in TYPES.items()}
WIRE = {1: 1, 6: 1, 16: 1, 7: 5, 9: 2, 11: 2, 12: 2}  # by protobuf's type of a field; 0 for the rest


def test_the_schema_has_every_message() -> None:
    """A release of OTLP with a message that we do not know fails here."""
    assert set(DESCRIPTORS) == set(NUMBERS)
    assert sorted([*NUMBERS.values(), M.ID_KEY]) == list(range(M.TYPES))


@pytest.mark.parametrize("name", NUMBERS)
def test_schema_is_protobufs(name: str) -> None:
    """The kernel's schema has every message, string and packed field of OTLP, with protobuf's types, and no other."""
    known = {field.number: field for field in DESCRIPTORS[name].fields}
    for number in range(1, max(M.FIELDS, *known) + 1):
        rule = int(M.SCHEMA[NUMBERS[name], number]) if number < M.FIELDS else 0
        if number not in known:
            assert rule == 0, number
            continue
        field = known[number]
        oneof = field.containing_oneof is not None and not field.containing_oneof.name.startswith("_")
        assert bool(rule & M.MESSAGE) == (field.message_type is not None), field.full_name
        assert bool(rule & M.STRING) == (field.type == field.TYPE_STRING), field.full_name
        assert bool(rule & M.ONEOF) == oneof, field.full_name
        fixed = field.is_packed and field.type in (field.TYPE_FIXED64, field.TYPE_DOUBLE)
        assert bool(rule & M.PACKED_FIXED64) == fixed, field.full_name
        assert bool(rule & M.PACKED_VARINT) == (field.is_packed and not fixed), field.full_name
        if field.message_type is not None:
            assert rule & M.TYPE == NUMBERS[field.message_type.full_name], field.full_name
            assert bool(rule & M.SINGLE) == (not field.is_repeated and not oneof), field.full_name
        if rule:
            assert rule >> M.WIRE == (2 if field.is_packed else WIRE.get(field.type, 0)), field.full_name


@modest
@given(requests)
def test_nothing_to_do(request: ExportTraceServiceRequest) -> None:
    """A proper request passes as the same object."""
    body = request.SerializeToString()
    checked = check_traces(body, Limits())
    assert checked.body is body
    assert (checked.rejected, checked.repaired, checked.reason) == (0, 0, "")
    assert checked.items == sum(len(s.spans) for r in request.resource_spans for s in r.scope_spans)


@modest
@given(requests_with_rejects)
def test_spans_without_ids(request: ExportTraceServiceRequest) -> None:
    """Spans without valid ids are left out and counted, all else stays."""
    assert agree(request.SerializeToString())
    total = sum(len(s.spans) for r in request.resource_spans for s in r.scope_spans)
    checked = check_traces(request.SerializeToString(), Limits())
    assert checked.items + checked.rejected == total
    assert bool(checked.reason) == bool(checked.rejected)


@settings(deadline=None, max_examples=60)
@given(requests_with_rejects, st.integers(0, 2**32))
def test_changed_requests(request: ExportTraceServiceRequest, seed: int) -> None:
    """Requests whose fields are doubled, moved, dropped, wrapped in groups, with long varints or broken text."""
    agree(mutate(Random(seed), request.SerializeToString()))


@pytest.mark.parametrize("signal", Signal)
def test_changed_captures(signal: Signal) -> None:
    """A short run of what `python -m tests.fuzz` does for minutes."""
    taken = 0
    for number, body in enumerate(bodies(Random(20261124), signal)):
        taken += agree(body, signal)
        if number == 250:
            break
    assert 50 < taken < 200


@pytest.mark.parametrize("signal", [Signal.LOGS, Signal.METRICS])
@settings(deadline=None, max_examples=30)
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_logs_and_metrics(signal: Signal, data: st.DataObject, seed: int) -> None:
    """A proper request passes as the same object; changed ones are judged as protobuf judges them."""
    body = data.draw(requests_of[signal]).SerializeToString()
    assert check(signal, body, Limits()).body is body
    assert agree(body, signal)
    agree(mutate(Random(seed), body, signal), signal)


@modest
@given(st.binary(max_size=60))
def test_any_bytes(data: bytes) -> None:
    """Random bytes, alone and as a span's fields."""
    agree(data)
    agree(request_of(IDS + data))


@modest
@given(st.binary(max_size=40))
def test_any_text(data: bytes) -> None:
    """UTF-8 is what Python says it is, and so is the repair."""
    body = request_of(IDS + field_bytes(Field(5, 2, data)))
    checked = check_traces(body, Limits())
    assert parse(checked.body).resource_spans[0].scope_spans[0].spans[0].name == data.decode("utf-8", "replace")
    assert checked.repaired == (data.decode("utf-8", "replace").encode() != data)


@pytest.mark.parametrize("wrong", NOT_UTF8)
@pytest.mark.parametrize(
    "around", [b"", b"x", b"seven..", b"eight...", b"a rather long text, with more than two words " * 4]
)
def test_broken_text_everywhere(wrong: bytes, around: bytes) -> None:
    """Texts cut in the middle of a character, in every place of a span that has text, so that lengths around change."""
    text = around + wrong + around
    value = Field(2, 2, [Field(5, 2, [Field(1, 2, [Field(1, 2, text)])])])
    attribute = Field(9, 2, [Field(1, 2, text), value])
    event = Field(11, 2, [Field(2, 2, text), Field(3, 2, [Field(1, 2, text)])])
    link = Field(13, 2, [Field(3, 2, text), Field(4, 2, [Field(2, 2, [Field(1, 2, text)])])])
    fields = (attribute, event, link, Field(15, 2, [Field(2, 2, text)]), Field(3, 2, text), Field(5, 2, text))
    body = request_of(IDS + b"".join(map(field_bytes, fields)))
    assert check_traces(body, Limits()).repaired == 9
    assert agree(body + body)


@pytest.mark.parametrize(
    "span",
    [varint(6 << 3, pad) + varint(2**32 + 3) for pad in range(6)]
    + [varint(6 << 3) + b"\x80" * size + b"\1" for size in (8, 9, 10)]
    + [varint(5 << 3 | 2) + varint(2, pad) + b"ok" for pad in range(6)]
    + [b"\x2b\x2c", b"\x2b\x34", b"\x2c", b"\x2b", b"\x00\x01", b"\x2e\x00", b"\x2f\x00", b"\x9b\x06\x00\x01\x9c\x06"]
    + [field_bytes(Field(9, 2, [Field(2, 2, b"", size_pad=pad)])) for pad in range(6)],
)
def test_corners_of_the_wire_format(span: bytes) -> None:
    """Long varints, numbers wider than their type, groups, field number 0, wire types that do not exist."""
    agree(request_of(IDS + span))


@pytest.mark.parametrize(
    "members", [[b"\x18\1", b"\x0a\1a"], [b"\x2a\4\x0a\2\x18\1", b"\x2a\4\x0a\2\x18\2"], [b"\x2a\0", b"\x40\1"]]
)
def test_a_value_set_twice(members: list[bytes]) -> None:
    """The last one counts, arrays are joined, however the two are spread over fields."""
    key = Field(1, 2, b"k")
    together = Field(9, 2, [key, Field(2, 2, b"".join(members))])
    apart = Field(9, 2, [key, *(Field(2, 2, member) for member in members)])
    assert agree(request_of(IDS + field_bytes(together) + field_bytes(apart)))


def test_messages_that_stand_twice() -> None:
    """Two resources of one ResourceSpans, two scopes, two statuses are merged, as protobuf says."""
    attribute = Field(1, 2, [Field(1, 2, b"a")])
    scope = Field(2, 2, [Field(1, 2, [Field(1, 2, b"n")]), Field(1, 2, [Field(2, 2, b"v")]), Field(2, 2, IDS)])
    body = field_bytes(Field(1, 2, [Field(1, 2, [attribute]), scope, Field(1, 2, [attribute])]))
    assert agree(body)
    checked = parse(check_traces(body, Limits()).body)
    assert len(checked.resource_spans[0].resource.attributes) == 2
    assert checked.resource_spans[0].scope_spans[0].scope.version == "v"


def nested(levels: int, *, array: bool) -> bytes:
    value = [Field(1, 2, b"x")]
    for _ in range(levels):
        values = Field(1, 2, value if array else [Field(2, 2, value)])
        value = [Field(5 if array else 6, 2, [values])]
    return request_of(IDS + field_bytes(Field(9, 2, [Field(1, 2, b"k"), Field(2, 2, value)])))


@pytest.mark.parametrize("array", [True, False])
def test_depth(array: bool) -> None:
    """As deep as protobuf goes, and not one level deeper; less deep by option."""
    deepest = max(levels for levels in range(60) if agree(nested(levels, array=array)))
    assert 30 < deepest < 50
    body = nested(10, array=array)
    assert check_traces(body, Limits(nesting=11)).items == 1
    with pytest.raises(TooLarge, match="nested more than 10 deep"):
        check_traces(body, Limits(nesting=10))


@pytest.mark.parametrize(
    ("field", "limits"),
    [
        (Field(9, 2, [Field(1, 2, b"k")]), Limits(attributes=9)),
        (Field(9, 2, b""), Limits(attributes=9)),
        (Field(11, 2, b""), Limits(attributes=9)),
        (Field(13, 2, b""), Limits(attributes=9)),
    ],
)
def test_limits_of_a_span(field: Field, limits: Limits) -> None:
    """Ten attributes, events or links where nine are allowed."""
    body = request_of(IDS + field_bytes(field) * 10)
    with pytest.raises(TooLarge, match="more than 9 attributes, events or links"):
        check_traces(body, limits)
    assert check_traces(body, Limits(attributes=10)).items == 1


def test_limits_of_members() -> None:
    """Members of arrays and maps count like attributes."""
    value = field_bytes(Field(2, 2, [Field(5, 2, field_bytes(Field(1, 2, b"")) * 10)]))
    body = request_of(IDS + field_bytes(Field(9, 2, value)))
    with pytest.raises(TooLarge, match="attributes"):
        check_traces(body, Limits(attributes=10))
    assert check_traces(body, Limits(attributes=11)).items == 1


@pytest.mark.parametrize("level", [1, 2, 3])
def test_limits_of_spans(level: int) -> None:
    """Four empty spans, scopes or resources where three are allowed: each costs a sender two bytes."""
    body = b"\x12\0" * 4 if level > 1 else b"\x0a\0" * 4
    for _ in range(level - 1):
        body = field_bytes(Field(1 if _ == level - 2 else 2, 2, body))
    with pytest.raises(TooLarge, match="more than 3 spans"):
        check_traces(body, Limits(items=3))
    check_traces(body, Limits(items=4))


def test_errors_say_nothing_of_the_content() -> None:
    """The text goes to the sender and to logs."""
    with pytest.raises(Malformed) as error:
        check_traces(request_of(IDS + field_bytes(Field(5, 2, b"secret")))[:-1], Limits())
    assert "secret" not in str(error.value)


@modest
@given(requests, st.dictionaries(st.sampled_from(("user.id", "tenant", "")) | texts, texts, max_size=3))
def test_stamp(request: ExportTraceServiceRequest, attributes: dict[str, str]) -> None:
    """Every resource gets the attributes, and loses what it had under their keys; all else stays."""
    stamped = parse(stamp(request.SerializeToString(), attributes))
    for resource_spans in request.resource_spans:
        if attributes:
            resource = resource_spans.resource
            kept = [attribute for attribute in resource.attributes if attribute.key not in attributes]
            del resource.attributes[:]
            resource.attributes.extend(kept)
            for key, value in attributes.items():
                resource.attributes.add(key=key).value.string_value = value
    assert stamped.SerializeToString(deterministic=True) == request.SerializeToString(deterministic=True)
    check_traces(stamp(request.SerializeToString(), attributes), Limits())


def test_log_records_need_no_ids() -> None:
    """Ids of a log record may be absent, or no ids at all; the record stays as it is."""
    for ids in (b"", field_bytes(Field(9, 2, b"odd")), field_bytes(Field(10, 2, b"\0" * 8))):
        body = request_of(field_bytes(Field(3, 2, b"INFO")) + ids)
        checked = check(Signal.LOGS, body, Limits())
        assert checked.body is body
        assert (checked.items, checked.rejected) == (1, 0)


@pytest.mark.parametrize("wrong", NOT_UTF8)
def test_broken_text_in_logs_and_metrics(wrong: bytes) -> None:
    """Repaired and counted, in bodies, attributes, names, units, metadata and exemplars."""
    key = Field(1, 2, wrong)
    text = Field(1, 2, wrong)
    record = [Field(3, 2, wrong), Field(5, 2, [text]), Field(6, 2, [key, Field(2, 2, [text])]), Field(12, 2, wrong)]
    body = request_of(b"".join(map(field_bytes, record)))
    assert check(Signal.LOGS, body, Limits()).repaired == 5
    assert agree(body + body, Signal.LOGS)
    exemplar = Field(5, 2, [Field(7, 2, [key])])
    point = Field(1, 2, [exemplar, Field(7, 2, [key])])
    metric = [Field(1, 2, wrong), Field(2, 2, wrong), Field(3, 2, wrong), Field(12, 2, [key]), Field(7, 2, [point])]
    body = request_of(b"".join(map(field_bytes, metric)))
    assert check(Signal.METRICS, body, Limits()).repaired == 6
    assert agree(body + body, Signal.METRICS)


@pytest.mark.parametrize(
    ("field", "taken"),
    [
        (Field(9, 2, [Field(1, 2, [Field(6, 2, b"x" * 16), Field(7, 2, b"y" * 8)])]), True),
        (Field(9, 2, [Field(1, 2, [Field(6, 2, b"x" * 15)])]), False),
        (Field(9, 2, [Field(1, 2, [Field(7, 2, b"x" * 9)])]), False),
        (Field(9, 2, [Field(1, 2, [Field(6, 1, 7), Field(6, 1, 8)])]), True),  # one by one, which old encoders do
        (Field(10, 2, [Field(1, 2, [Field(8, 2, [Field(2, 2, b"\x01\x80\x01\x7f")])])]), True),
        (Field(10, 2, [Field(1, 2, [Field(8, 2, [Field(2, 2, b"\x01\x80")])])]), False),
        (Field(10, 2, [Field(1, 2, [Field(9, 2, [Field(2, 2, b"\xff" * 10 + b"\1")])])]), False),
        (Field(10, 2, [Field(1, 2, [Field(9, 2, [Field(2, 0, 5)])])]), True),
    ],
)
def test_packed_numbers(field: Field, taken: bool) -> None:
    """Bounds and counts of buckets lie side by side without tags: what is no whole number of them is not well-formed."""
    assert agree(request_of(field_bytes(field)), Signal.METRICS) == taken


def test_a_metric_of_two_kinds() -> None:
    """The kind that stands last counts, two of one kind are one: and only points that are kept are counted."""
    one, two = Field(5, 2, [Field(1, 2, b"")]), Field(7, 2, [Field(1, 2, b""), Field(1, 2, b"")])
    for fields, points in (((one, two), 2), ((two, one), 1), ((two, two), 4), ((one, two, one), 1)):
        body = request_of(b"".join(map(field_bytes, fields)))
        assert agree(body, Signal.METRICS)
        assert check(Signal.METRICS, body, Limits()).items == points


def test_limits_of_logs_and_metrics() -> None:
    """Records and points count as spans do; points of all kinds together."""
    records = field_bytes(Field(1, 2, field_bytes(Field(2, 2, b"\x12\0" * 4))))
    with pytest.raises(TooLarge, match="more than 3 log records"):
        check(Signal.LOGS, records, Limits(items=3))
    assert check(Signal.LOGS, records, Limits(items=4)).items == 4
    points = field_bytes(Field(5, 2, [Field(1, 2, b"")] * 2))
    summary = field_bytes(Field(11, 2, [Field(1, 2, b"")] * 2))
    metrics = field_bytes(Field(2, 2, points)) + field_bytes(Field(2, 2, summary))
    body = field_bytes(Field(1, 2, field_bytes(Field(2, 2, metrics))))
    with pytest.raises(TooLarge, match="more than 3 data points"):
        check(Signal.METRICS, body, Limits(items=3))
    assert check(Signal.METRICS, body, Limits(items=4)).items == 4
    exemplars = request_of(field_bytes(Field(5, 2, [Field(1, 2, [Field(5, 2, b"")] * 4)])))
    with pytest.raises(TooLarge, match="more than 3 attributes, exemplars or quantiles"):
        check(Signal.METRICS, exemplars, Limits(attributes=3))
    value = Field(5, 2, [Field(1, 2, b"x")])
    for _ in range(4):
        value = Field(5, 2, [Field(5, 2, [replace(value, number=1)])])
    assert check(Signal.LOGS, request_of(field_bytes(value)), Limits(nesting=5)).items == 1
    with pytest.raises(TooLarge, match="nested more than 4 deep"):
        check(Signal.LOGS, request_of(field_bytes(value)), Limits(nesting=4))


@pytest.mark.parametrize("signal", [Signal.LOGS, Signal.METRICS])
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_stamp_of_logs_and_metrics(signal: Signal, data: st.DataObject) -> None:
    """A sender's trusted attributes stand on every resource, whatever the signal."""
    request = data.draw(requests_of[signal])
    stamped = parse_any(stamp(request.SerializeToString(), {"team": "search"}), signal)
    for group in getattr(stamped, f"resource_{signal}"):
        assert [a.value.string_value for a in group.resource.attributes if a.key == "team"] == ["search"]
    for group in (*getattr(stamped, f"resource_{signal}"), *getattr(request, f"resource_{signal}")):
        kept = [attribute for attribute in group.resource.attributes if attribute.key != "team"]
        group.resource.SetInParent()
        del group.resource.attributes[:]
        group.resource.attributes.extend(kept)
    assert stamped.SerializeToString(deterministic=True) == request.SerializeToString(deterministic=True)


def test_an_invalid_span_forgets_its_repairs() -> None:
    """Broken text in a span that is left out counts as nothing, and the text before and after it is still repaired."""
    broken = field_bytes(Field(5, 2, b"\xff"))
    out = field_bytes(Field(2, 2, broken))
    good = field_bytes(Field(2, 2, IDS + broken))
    body = field_bytes(Field(1, 2, field_bytes(Field(2, 2, out + good + out + out + good + out))))
    checked = check_traces(body, Limits())
    assert (checked.items, checked.rejected, checked.repaired) == (2, 4, 2)
    assert agree(body)
    assert len(expected(parse(checked.body))[2]) == 2


def test_captures_pass() -> None:
    """Nothing in real bodies needs a repair."""
    for signal in Signal:
        for body in seeds(signal):
            assert check(signal, body, Limits()).body is body
