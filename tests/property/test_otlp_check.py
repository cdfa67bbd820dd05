"""Checking takes and refuses what protobuf's own parser takes and refuses, and repairs what can be repaired."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.errors import Malformed, TooLarge
from collector.otlp import checking
from collector.otlp.check import Limits, check_traces, stamp
from tests.fuzz import bodies, seeds
from tests.otlp_mutations import NOT_UTF8, Field, field_bytes, mutate, varint
from tests.otlp_oracle import DESCRIPTORS, agree, expected, parse
from tests.otlp_strategies import requests, requests_with_rejects, texts

modest = settings(deadline=None, max_examples=30)


def request_of(span: bytes) -> bytes:
    """A request with one span, given as its message."""
    return field_bytes(Field(1, 2, field_bytes(Field(2, 2, field_bytes(Field(2, 2, span))))))


IDS = field_bytes(Field(1, 2, b"t" * 16)) + field_bytes(Field(2, 2, b"s" * 8))


def test_schema_is_protobufs() -> None:
    """The kernel's schema has every message and string field of OTLP, with protobuf's types."""
    types = {
        checking.REQUEST: "collector.trace.v1.ExportTraceServiceRequest",
        checking.RESOURCE_SPANS: "trace.v1.ResourceSpans",
        checking.RESOURCE: "resource.v1.Resource",
        checking.SCOPE_SPANS: "trace.v1.ScopeSpans",
        checking.SCOPE: "common.v1.InstrumentationScope",
        checking.SPAN: "trace.v1.Span",
        checking.EVENT: "trace.v1.Span.Event",
        checking.LINK: "trace.v1.Span.Link",
        checking.STATUS: "trace.v1.Status",
        checking.KEY_VALUE: "common.v1.KeyValue",
        checking.ANY_VALUE: "common.v1.AnyValue",
        checking.ARRAY_VALUE: "common.v1.ArrayValue",
        checking.KEY_VALUE_LIST: "common.v1.KeyValueList",
        checking.ENTITY_REF: "common.v1.EntityRef",
    }
    numbers = {f"opentelemetry.proto.{name}": number for number, name in types.items()}
    assert set(DESCRIPTORS) == set(numbers)
    for name, descriptor in DESCRIPTORS.items():
        for field in descriptor.fields:
            rule = int(checking.SCHEMA[numbers[name], field.number]) if field.number < checking.FIELDS else 0
            assert bool(rule & checking.MESSAGE) == (field.message_type is not None), field.full_name
            assert bool(rule & checking.STRING) == (field.type == field.TYPE_STRING), field.full_name
            assert bool(rule & checking.ONEOF) == (field.containing_oneof is not None), field.full_name
            if field.message_type is not None:
                assert rule & 15 == numbers[field.message_type.full_name], field.full_name
                single = not field.is_repeated and field.containing_oneof is None
                assert bool(rule & checking.SINGLE) == single, field.full_name


@modest
@given(requests)
def test_nothing_to_do(request: ExportTraceServiceRequest) -> None:
    """A proper request passes as the same object."""
    body = request.SerializeToString()
    checked = check_traces(body, Limits())
    assert checked.body is body
    assert (checked.rejected, checked.repaired, checked.reason) == (0, 0, "")
    assert checked.spans == sum(len(s.spans) for r in request.resource_spans for s in r.scope_spans)


@modest
@given(requests_with_rejects)
def test_spans_without_ids(request: ExportTraceServiceRequest) -> None:
    """Spans without valid ids are left out and counted, all else stays."""
    assert agree(request.SerializeToString())
    total = sum(len(s.spans) for r in request.resource_spans for s in r.scope_spans)
    checked = check_traces(request.SerializeToString(), Limits())
    assert checked.spans + checked.rejected == total
    assert bool(checked.reason) == bool(checked.rejected)


@settings(deadline=None, max_examples=60)
@given(requests_with_rejects, st.integers(0, 2**32))
def test_changed_requests(request: ExportTraceServiceRequest, seed: int) -> None:
    """Requests whose fields are doubled, moved, dropped, wrapped in groups, with long varints or broken text."""
    agree(mutate(Random(seed), request.SerializeToString()))


def test_changed_captures() -> None:
    """A short run of what `python -m tests.fuzz` does for minutes."""
    taken = 0
    for number, body in enumerate(bodies(Random(20261124))):
        taken += agree(body)
        if number == 250:
            break
    assert 50 < taken < 200


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
    assert check_traces(body, Limits(nesting=11)).spans == 1
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
    assert check_traces(body, Limits(attributes=10)).spans == 1


def test_limits_of_members() -> None:
    """Members of arrays and maps count like attributes."""
    value = field_bytes(Field(2, 2, [Field(5, 2, field_bytes(Field(1, 2, b"")) * 10)]))
    body = request_of(IDS + field_bytes(Field(9, 2, value)))
    with pytest.raises(TooLarge, match="attributes"):
        check_traces(body, Limits(attributes=10))
    assert check_traces(body, Limits(attributes=11)).spans == 1


@pytest.mark.parametrize("level", [1, 2, 3])
def test_limits_of_spans(level: int) -> None:
    """Four empty spans, scopes or resources where three are allowed: each costs a sender two bytes."""
    body = b"\x12\0" * 4 if level > 1 else b"\x0a\0" * 4
    for _ in range(level - 1):
        body = field_bytes(Field(1 if _ == level - 2 else 2, 2, body))
    with pytest.raises(TooLarge, match="more than 3 spans"):
        check_traces(body, Limits(spans=3))
    check_traces(body, Limits(spans=4))


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


def test_an_invalid_span_forgets_its_repairs() -> None:
    """Broken text in a span that is left out counts as nothing, and the text before and after it is still repaired."""
    broken = field_bytes(Field(5, 2, b"\xff"))
    out = field_bytes(Field(2, 2, broken))
    good = field_bytes(Field(2, 2, IDS + broken))
    body = field_bytes(Field(1, 2, field_bytes(Field(2, 2, out + good + out + out + good + out))))
    checked = check_traces(body, Limits())
    assert (checked.spans, checked.rejected, checked.repaired) == (2, 4, 2)
    assert agree(body)
    assert len(expected(parse(checked.body))[2]) == 2


def test_captures_pass() -> None:
    """Nothing in real bodies needs a repair."""
    for body in seeds():
        assert check_traces(body, Limits()).body is body
