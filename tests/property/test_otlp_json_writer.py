"""OTLP/JSON as it is written reads back to the same request, by our own reader and by protobuf's."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.errors import Malformed
from collector.otlp.json_writer import to_json
from collector.otlp.otlp_json import to_protobuf
from collector.signals import Signal
from tests.fuzz import seeds
from tests.otlp_oracle import parse_any
from tests.otlp_strategies import requests_of


def written(body: bytes, signal: Signal) -> bytes:
    return to_json(signal, np.frombuffer(body, np.uint8)).tobytes()


def by_protobuf(text: bytes, signal: Signal) -> Any:
    """What protobuf's own JSON parser makes of it, ids told in its way."""

    def ids(match: re.Match[str]) -> str:
        return f'"{match[1]}":"{base64.b64encode(bytes.fromhex(match[2])).decode()}"'

    plain = re.sub(r'"(traceId|spanId|parentSpanId)":"([0-9a-f]*)"(?=[,}])', ids, text.decode())
    return json_format.Parse(plain, parse_any(b"", signal))


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_requests_of_every_signal(data: st.DataObject) -> None:
    """Every kind of field, every value of it. JSON has one NaN: compared are the messages as text, which has one, too."""
    signal = data.draw(st.sampled_from(list(Signal)))
    request = data.draw(requests_of[signal])
    text = written(request.SerializeToString(), signal)
    json.loads(text)
    read = parse_any(to_protobuf(text, signal), signal)
    assert str(read) == str(request)


@pytest.mark.parametrize("number", [-0.0, 0.0, 5e-324, -1.5, 1e300, float("inf")])
def test_doubles_keep_their_bits(number: float) -> None:
    request = parse_any(b"", Signal.METRICS)
    request.resource_metrics.add().scope_metrics.add().metrics.add().metadata.add(key="k").value.double_value = number
    body: bytes = request.SerializeToString()
    assert to_protobuf(written(body, Signal.METRICS), Signal.METRICS) == body


def test_captures_also_by_protobufs_parser() -> None:
    for body in seeds()[::7]:
        text = written(body, Signal.TRACES)
        wanted = parse_any(body, Signal.TRACES).SerializeToString(deterministic=True)
        assert by_protobuf(text, Signal.TRACES).SerializeToString(deterministic=True) == wanted
        assert parse_any(to_protobuf(text), Signal.TRACES).SerializeToString(deterministic=True) == wanted


def test_the_form_that_the_specification_asks_for() -> None:
    """Keys, ids, 64-bit numbers and enums, as its examples spell them."""
    request = parse_any(b"", Signal.TRACES)
    span = request.resource_spans.add().scope_spans.add().spans.add(
        trace_id=bytes.fromhex("5b8efff798038103d269b633813fc60c"), span_id=bytes.fromhex("eee19b7ec3c1b174"),
        name='a "name"', kind=2, start_time_unix_nano=2**64 - 1, flags=256,
    )  # fmt: skip
    span.attributes.add(key="n").value.int_value = -(2**63)
    span.attributes.add(key="d").value.double_value = float("-inf")
    span.attributes.add(key="b").value.bytes_value = b"\xff\x00"
    assert json.loads(written(request.SerializeToString(), Signal.TRACES)) == {
        "resourceSpans": [{"scopeSpans": [{"spans": [{
            "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "name": 'a "name"', "kind": 2,
            "startTimeUnixNano": "18446744073709551615", "flags": 256,
            "attributes": [
                {"key": "n", "value": {"intValue": "-9223372036854775808"}},
                {"key": "d", "value": {"doubleValue": "-Infinity"}},
                {"key": "b", "value": {"bytesValue": "/wA="}},
            ],
        }]}]}]
    }  # fmt: skip


def test_fields_of_one_kind_that_lie_apart_are_one_array_and_unknown_ones_are_left_out() -> None:
    one = parse_any(b"", Signal.TRACES)
    one.resource_spans.add(schema_url="a")
    body = one.SerializeToString() + b"\x7a\x01x" + one.SerializeToString()
    assert written(body, Signal.TRACES) == b'{"resourceSpans":[{"schemaUrl":"a"},{"schemaUrl":"a"}]}'


def test_of_a_value_that_is_set_twice_the_last_one_counts() -> None:
    value = b"\x0a\x01a" + b"\x18\x05"  # AnyValue: string_value, then int_value
    attribute = b"\x0a\x01k\x12" + bytes([len(value)]) + value
    resource = b"\x0a" + bytes([len(attribute)]) + attribute
    body = b"\x0a" + bytes([len(resource) + 2]) + b"\x0a" + bytes([len(resource)]) + resource
    assert json.loads(written(body, Signal.TRACES)) == {
        "resourceSpans": [{"resource": {"attributes": [{"key": "k", "value": {"intValue": "5"}}]}}]
    }


def test_control_characters_take_more_room_than_they_came_with() -> None:
    request = parse_any(b"", Signal.TRACES)
    request.resource_spans.add(schema_url="\x01" * 50_000)
    text = written(request.SerializeToString(), Signal.TRACES)
    assert json.loads(text) == {"resourceSpans": [{"schemaUrl": "\x01" * 50_000}]}


@pytest.mark.parametrize("body", [b"\x0a\x7f", b"\x0a\x02\x0a\x7f", b"\x0a\x03\x1a\xff\xff", b"\x00"])
def test_what_is_not_well_formed_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed):
        written(body, Signal.TRACES)
