"""OTLP/JSON becomes the protobuf request that it stands for, and what it does not stand for is refused with its place."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.errors import Malformed
from collector.otlp.check import Limits, check_traces
from collector.otlp.otlp_json import to_protobuf
from collector.signals import Signal
from tests.otlp_oracle import parse, parse_any
from tests.otlp_strategies import requests, requests_of

modest = settings(deadline=None, max_examples=30)
TRACE, SPAN = "5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174"


def request_with(**span: Any) -> dict[str, Any]:
    return {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": TRACE, "spanId": SPAN} | span]}]}]}


def read(data: Any) -> ExportTraceServiceRequest:
    return parse(to_protobuf(json.dumps(data).encode()))


def span_of(data: Any) -> Span:
    (span,) = read(data).resource_spans[0].scope_spans[0].spans
    return span


def value_of(value: Any) -> Any:
    (attribute,) = span_of(request_with(attributes=[{"key": "k", "value": value}])).attributes
    return attribute.value


def sayable(request: Any) -> Any:
    """The request as far as JSON can say it: there is one NaN, where doubles have many."""
    return ParseDict(MessageToDict(request), type(request)())


def as_otlp(data: Any) -> Any:
    """What OTLP changes in protobuf's JSON: ids are hexadecimal."""
    if isinstance(data, list):
        return [as_otlp(item) for item in data]
    if not isinstance(data, dict):
        return data
    ids = {"traceId", "spanId", "parentSpanId"}
    return {key: base64.b64decode(value).hex() if key in ids else as_otlp(value) for key, value in data.items()}


@modest
@given(requests, st.booleans(), st.booleans(), st.booleans())
def test_round_trip(request: ExportTraceServiceRequest, names: bool, snake: bool, ascii_only: bool) -> None:
    """Whatever protobuf's own JSON writer writes for a request, with ids in hex, is that request."""
    data = MessageToDict(request, preserving_proto_field_name=False, use_integers_for_enums=not names)
    data = as_otlp(data)
    if snake:
        data = json.loads(
            json.dumps(data).replace('"stringValue"', '"string_value"').replace('"scopeSpans"', '"scope_spans"')
        )
    converted = parse(to_protobuf(json.dumps(data, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")))
    assert converted.SerializeToString(deterministic=True) == sayable(request).SerializeToString(deterministic=True)


@pytest.mark.parametrize("signal", [Signal.LOGS, Signal.METRICS])
@settings(deadline=None, max_examples=20)
@given(data=st.data(), names=st.booleans())
def test_round_trip_of_logs_and_metrics(signal: Signal, data: st.DataObject, names: bool) -> None:
    """The same for log records and for points of every kind: numbers as text, NaN, ids in hex, numbers of enums."""
    request = data.draw(requests_of[signal])
    written = as_otlp(MessageToDict(request, use_integers_for_enums=not names))
    converted = parse_any(to_protobuf(json.dumps(written).encode(), signal), signal)
    assert converted.SerializeToString(deterministic=True) == sayable(request).SerializeToString(deterministic=True)


@pytest.mark.parametrize(
    ("signal", "body", "place"),
    [
        (Signal.LOGS, {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": 7}]}]}]}, "logRecords[0].body"),
        (Signal.LOGS, {"resourceLogs": {}}, "resourceLogs"),
        (
            Signal.METRICS,
            {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"sum": {"dataPoints": [{"asInt": "x"}]}}]}]}]},
            "metrics[0].sum.dataPoints[0].asInt",
        ),
        (
            Signal.METRICS,
            {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"histogram": {"dataPoints": [{"bucketCounts": [1, -1]}]}}]}]}]},
            "dataPoints[0].bucketCounts[1]",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_logs_and_metrics(signal: Signal, body: Any, place: str) -> None:
    """The place is named as in spans."""
    with pytest.raises(Malformed) as error:
        to_protobuf(json.dumps(body).encode(), signal)
    assert str(error.value).partition(": expected ")[0].endswith(place)


def test_the_specifications_example() -> None:
    """A span as the OTLP examples have it."""
    span = span_of(
        request_with(
            parentSpanId=SPAN.upper(),
            name="I'm a server span",
            startTimeUnixNano="1544712660000000000",
            endTimeUnixNano=1544712661000000000,
            kind=2,
            attributes=[{"key": "my.span.attr", "value": {"stringValue": "some value"}}],
            status={"code": 1},
        )
    )
    assert (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN, SPAN)
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (1544712660 * 10**9, 1544712661 * 10**9)
    assert (span.kind, span.status.code) == (2, 1)
    assert check_traces(to_protobuf(json.dumps(request_with()).encode()), Limits()).items == 1


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ({"doubleValue": "NaN"}, "double_value", math.nan),
        ({"doubleValue": "-Infinity"}, "double_value", -math.inf),
        ({"doubleValue": 1}, "double_value", 1.0),
        ({"doubleValue": "2.5e-3"}, "double_value", 0.0025),
        ({"intValue": "-9223372036854775808"}, "int_value", -(2**63)),
        ({"intValue": 12}, "int_value", 12),
        ({"intValue": 1e3}, "int_value", 1000),
        ({"boolValue": False}, "bool_value", False),
        ({"bytesValue": "+/8="}, "bytes_value", b"\xfb\xff"),
        ({"bytesValue": "-_8"}, "bytes_value", b"\xfb\xff"),
        ({"stringValue": "\ud83d"}, "string_value", "\ufffd"),
        ({"stringValue": "\ud83d\ude00"}, "string_value", "😀"),
        ({"stringValue": None}, None, None),
        ({}, None, None),
        (None, None, None),
        ({"newValue": {"a": [1]}, "intValue": 1}, "int_value", 1),
    ],
)
def test_values(value: Any, kind: str | None, expected: Any) -> None:
    """The ways in which senders write numbers, bytes, texts and nothing."""
    found = value_of(value)
    assert found.WhichOneof("value") == kind
    if kind is not None:
        actual = getattr(found, kind)
        assert actual == expected or (math.isnan(expected) and math.isnan(actual))


def test_members() -> None:
    """Arrays and maps, empty ones too; a null member keeps its place."""
    array = value_of({"arrayValue": {"values": [{"intValue": 1}, None, {"kvlistValue": {"values": [{"key": "a"}]}}]}})
    assert [member.WhichOneof("value") for member in array.array_value.values] == ["int_value", None, "kvlist_value"]
    assert value_of({"arrayValue": {}}).WhichOneof("value") == "array_value"
    assert value_of({"kvlistValue": {"values": None}}).WhichOneof("value") == "kvlist_value"


@pytest.mark.parametrize(
    "body", [b"{}", b" {} ", b'{"resourceSpans":null}', b'{"resourceSpans":[]}', b'{"x":1}', b"\xef\xbb\xbf{}"]
)
def test_empty(body: bytes) -> None:
    """Requests without spans are requests."""
    assert to_protobuf(body) == b""


def test_broken_utf8_is_repaired() -> None:
    """A JSON body with a text cut in the middle of a character."""
    body = json.dumps(request_with(name="NAME")).encode().replace(b"NAME", b"caf\xc3")
    assert parse(to_protobuf(body)).resource_spans[0].scope_spans[0].spans[0].name == "caf\ufffd"


@pytest.mark.parametrize(
    ("span", "place", "expected"),
    [
        ({"traceId": "xyz"}, "resourceSpans[0].scopeSpans[0].spans[0].traceId", "hexadecimal"),
        ({"traceId": "ab c"}, "traceId", "hexadecimal"),
        ({"traceId": 7}, "traceId", "hexadecimal"),
        ({"name": 7}, "spans[0].name", "text"),
        ({"kind": "CLIENT"}, "kind", "whole number"),
        ({"kind": True}, "kind", "whole number"),
        ({"startTimeUnixNano": "yesterday"}, "startTimeUnixNano", "from 0 to 18446744073709551615"),
        ({"startTimeUnixNano": -1}, "startTimeUnixNano", "from 0 to"),
        ({"startTimeUnixNano": 1.5}, "startTimeUnixNano", "whole number"),
        ({"attributes": {}}, "attributes", "an array"),
        ({"attributes": [None]}, "attributes[0]", "an object"),
        ({"attributes": [{"value": {"intValue": "٣"}}]}, "attributes[0].value.intValue", "whole number"),
        ({"attributes": [{"value": {"boolValue": "true"}}]}, "boolValue", "true or false"),
        ({"attributes": [{"value": {"doubleValue": "1e999"}}]}, "doubleValue", "a double can hold"),
        ({"attributes": [{"value": {"bytesValue": "*"}}]}, "bytesValue", "base64"),
        ({"status": []}, "status", "an object"),
    ],
)
def test_what_is_wrong_and_where(span: dict[str, Any], place: str, expected: str) -> None:
    """The error names the place and what was expected, and quotes nothing."""
    with pytest.raises(Malformed) as error:
        to_protobuf(json.dumps(request_with(**span)).encode())
    where, _, what = str(error.value).partition(": expected ")
    assert where.endswith(place)
    assert expected in what


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"1", b'"x"', b"{", b'{"resourceSpans":', b"[" * 100_000, b'{"a":' * 100_000, b"9" * 10_000],
)
def test_not_a_request(body: bytes) -> None:
    """No JSON, other JSON, and JSON made to hurt."""
    with pytest.raises(Malformed):
        to_protobuf(body)


def test_depth() -> None:
    """What nests deeper than protobuf can say is refused here; the rest is for check to judge."""
    value: dict[str, Any] = {"stringValue": "x"}
    for _ in range(46):
        value = {"arrayValue": {"values": [value]}}
    body = to_protobuf(json.dumps(request_with(attributes=[{"key": "k", "value": value}])).encode())
    assert check_traces(body, Limits()).items == 1
    for _ in range(10):
        value = {"arrayValue": {"values": [value]}}
    with pytest.raises(Malformed, match="100 messages"):
        to_protobuf(json.dumps(request_with(attributes=[{"key": "k", "value": value}])).encode())


@modest
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda s: (
            st.lists(s, max_size=3)
            | st.dictionaries(
                st.sampled_from(("resourceSpans", "scopeSpans", "spans", "attributes", "value", "x")), s, max_size=3
            )
        ),
    )
)
def test_any_json(data: Any) -> None:
    """JSON of any shape is a request or Malformed."""
    try:
        body = to_protobuf(json.dumps(data).encode())
    except Malformed:
        return
    check_traces(body, Limits())
