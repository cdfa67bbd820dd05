"""Decoding and gathering give what protobuf's own parser reads, for any request."""

from __future__ import annotations

import base64
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from collector.errors import Malformed
from collector.otlp import gather
from collector.otlp.decode import decode
from collector.otlp.tables import Owner, Traces
from tests.fuzz import seeds
from tests.otlp_oracle import expected, found, parse, value_text
from tests.otlp_strategies import keys, requests, values

modest = settings(deadline=None, max_examples=30)


def attributes_of(request: ExportTraceServiceRequest, owner: Owner) -> list[list[KeyValue]]:
    """Protobuf's attributes of each owner, in the order of the tables."""
    rows: list[Iterable[KeyValue]] = []
    for resource_spans in request.resource_spans:
        rows += [resource_spans.resource.attributes] if owner == Owner.RESOURCE else []
        for scope_spans in resource_spans.scope_spans:
            rows += [scope_spans.scope.attributes] if owner == Owner.SCOPE else []
            for span in scope_spans.spans:
                rows += [span.attributes] if owner == Owner.SPAN else []
                rows += [event.attributes for event in span.events] if owner == Owner.EVENT else []
                rows += [link.attributes for link in span.links] if owner == Owner.LINK else []
    return [list(row) for row in rows]


def one_span(*attributes: KeyValue) -> Traces:
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.add(attributes=attributes)
    return decode(request.SerializeToString())


def test_captures() -> None:
    """Real bodies of nine gateways and SDKs, alone and joined."""
    bodies = seeds()
    for body in bodies[::9]:
        assert found(decode(body)) == expected(parse(body))
    joined = b"".join(bodies[::5])
    assert found(decode(joined)) == expected(parse(joined))


def test_nothing() -> None:
    """No bytes, no spans, and every gatherer answers with nothing."""
    traces = decode(b"")
    assert len(traces) == 0
    assert gather.slots(traces, ["a", "b"], Owner.SPAN)[1].tolist() == []
    assert gather.attribute_maps(traces, Owner.SPAN).to_pylist() == []
    assert gather.strings(traces, np.empty(0, np.int32)).to_pylist() == []
    assert gather.codes(traces, np.array([-1, -1], np.int32))[0].tolist() == [-1, -1]
    assert gather.integers(traces, np.array([-1], np.int32))[1].tolist() == [False]
    assert gather.doubles(traces, np.array([-1], np.int32))[1].tolist() == [False]


@modest
@given(st.lists(requests, max_size=3))
def test_joined_requests(several: list[ExportTraceServiceRequest]) -> None:
    """Any number of requests, joined, are one request with the spans of all."""
    body = b"".join(request.SerializeToString() for request in several)
    assert found(decode(body)) == expected(parse(body))


@modest
@given(requests, st.sampled_from(Owner), st.lists(keys, max_size=4))
def test_columns_of_attributes(request: ExportTraceServiceRequest, owner: Owner, wanted: list[str]) -> None:
    """slots finds the last attribute of each key; strings, codes and maps agree with protobuf's values."""
    traces, rows = decode(request.SerializeToString()), attributes_of(request, owner)
    for key, slots in zip(wanted, gather.slots(traces, wanted, owner), strict=True):
        last = [next((a.value for a in reversed(row) if a.key == key), None) for row in rows]
        texts = [None if value is None else value_text(value) for value in last]
        assert gather.strings(traces, slots).to_pylist() == texts
        assert (slots >= 0).tolist() == [value is not None for value in last]
    maps = gather.attribute_maps(traces, owner).to_pylist()
    assert [dict(entries) for entries in maps] == [{a.key: value_text(a.value) or "" for a in row} for row in rows]
    assert all(len(entries) == len(dict(entries)) for entries in maps)


@modest
@given(st.lists(values, max_size=30))
def test_codes(many: list[AnyValue]) -> None:
    """Codes count distinct texts in order of first appearance, whatever the types are."""
    traces = one_span(*(KeyValue(key=str(i), value=value) for i, value in enumerate([*many, *many])))
    rows = np.arange(len(traces.attributes.key), dtype=np.int32)
    codes, distinct = gather.codes(traces, rows)
    texts = [value_text(value) for value in (*many, *many)]
    assert [None if code < 0 else distinct[code].as_py() for code in codes.tolist()] == texts
    assert distinct.to_pylist() == list(dict.fromkeys(text for text in texts if text is not None))


@modest
@given(st.lists(values, max_size=10))
def test_numbers(many: list[AnyValue]) -> None:
    """integers and doubles: from numbers and from texts of numbers, everything else is not valid."""
    traces = one_span(*(KeyValue(key=str(i), value=value) for i, value in enumerate(many)))
    rows = np.array([*range(len(many)), -1], np.int32)
    integers, whole = gather.integers(traces, rows)
    doubles, real = gather.doubles(traces, rows)
    for i, value in enumerate(many):
        kind = value.WhichOneof("value")
        if kind == "int_value":
            assert (integers[i], doubles[i]) == (value.int_value, float(value.int_value))
            assert whole[i]
            assert real[i]
        elif kind == "double_value":
            number = value.double_value
            assert real[i]
            np.testing.assert_equal(doubles[i], number)
            assert whole[i] == (number.is_integer() and -(2.0**63) <= number < 2.0**63)
            assert not whole[i] or integers[i] == int(number)
        elif kind != "string_value":
            assert not whole[i]
            assert not real[i]
    assert not whole[-1]
    assert not real[-1]


@pytest.mark.parametrize(
    ("text", "integer", "double"),
    [
        ("17", 17, 17.0),
        ("-3", -3, -3.0),
        ("007", 7, 7.0),
        ("9223372036854775807", 2**63 - 1, float(2**63)),
        ("-9223372036854775808", -(2**63), -(2.0**63)),
        ("9223372036854775808", None, float(2**63)),
        ("0.00125", None, 0.00125),
        ("1.5e-3", None, 0.0015),
        ("", None, None),
        ("-", None, None),
        (" 1", None, None),
        ("1_000", None, None),
        ("nan", None, None),
        ("٣", None, None),
    ],
)
def test_numbers_in_texts(text: str, integer: int | None, double: float | None) -> None:
    """What counts as a number when a sender made it a text."""
    traces = one_span(KeyValue(key="k", value=AnyValue(string_value=text)))
    row = np.zeros(1, np.int32)
    (whole,), (valid,) = gather.integers(traces, row)
    assert (int(whole) if valid else None) == integer
    (real,), (valid,) = gather.doubles(traces, row)
    assert (float(real) if valid else None) == double


@modest
@given(st.lists(st.binary(max_size=40), max_size=10))
def test_ids_and_hashes(ids: list[bytes]) -> None:
    """hex_ids writes every byte; hash64 is equal for equal bytes and differs for others, and the codes tell the same."""
    request = ExportTraceServiceRequest()
    scope_spans = request.resource_spans.add().scope_spans.add()
    for id_ in ids:
        scope_spans.spans.add(trace_id=id_)
    traces = decode(request.SerializeToString())
    text = traces.spans.trace_id
    assert gather.hex_ids(traces, text).to_pylist() == [id_.hex() for id_ in ids]
    hashes = gather.hash64(traces, text).tolist()
    assert [hashes.index(hash_) for hash_ in hashes] == [ids.index(id_) for id_ in ids]


HEX = st.binary(min_size=8, max_size=16).map(bytes.hex)


@modest
@given(
    st.lists(
        st.one_of(st.none(), HEX, HEX.map(str.upper), st.text("0123456789abcdef/:@G`gfäÿ", max_size=20)), max_size=8
    ),
    st.sampled_from([1, 2]),
)
def test_words_of_ids(texts: list[str | None], width: int) -> None:
    """Those of ids in lower-case hex, of so many words, as their bytes are; of any other text zeros."""

    def words(text: str) -> list[int]:
        right = len(text) == 16 * width and not set(text) - set("0123456789abcdef")
        return np.frombuffer(bytes.fromhex(text) if right else bytes(8 * width), np.int64).tolist()

    found = gather.id_words(pa.array(["padding", *texts], pa.large_string())[1:], width)
    assert found.T.tolist() == [words(text or "") for text in texts]


def test_hash_is_for_keeps() -> None:
    """hash64 may be written to disk: these values must not change."""
    traces = one_span(KeyValue(key="k"), KeyValue(key="response-0123456789"))
    hashes = gather.hash64(traces, traces.attributes.message)
    assert [hex(value) for value in hashes.tolist()] == ["0xff708d28e7afaa78", "0x58c11c8bfb5ecd23"]


@modest
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    """Decoding what nobody checked ends well, or as Malformed."""
    try:
        traces = decode(data)
    except Malformed:
        return
    gather.attribute_maps(traces, Owner.SPAN)


def test_bytes_values() -> None:
    """BYTES are base64, alone and inside JSON, at every length modulo 3."""
    for size in range(7):
        value = bytes(range(250, 250 + min(size, 6))) + b"\0" * max(size - 6, 0)
        traces = one_span(KeyValue(key="k", value=AnyValue(bytes_value=value)))
        assert gather.strings(traces, np.zeros(1, np.int32)).to_pylist() == [base64.b64encode(value).decode()]
