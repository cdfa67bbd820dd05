"""A request that is cut has the same records, in order, each with its resource and scope; every part is as small as asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.errors import Malformed
from collector.otlp.parts import Part, split
from collector.signals import Signal
from tests.fuzz import seeds
from tests.otlp_oracle import items_of, parse_any
from tests.otlp_strategies import requests_of

CHILDREN = {
    Signal.TRACES: ("resource_spans", "scope_spans", "spans"),
    Signal.LOGS: ("resource_logs", "scope_logs", "log_records"),
    Signal.METRICS: ("resource_metrics", "scope_metrics", "metrics"),
}


def records(request: Any, signal: Signal) -> list[bytes]:
    """Every record with what it stands in; also scopes and resources that have none."""
    first, second, third = CHILDREN[signal]
    found = []
    for resource in getattr(request, first):
        head = _without(resource, second)
        scopes = getattr(resource, second)
        if not scopes:
            found.append(head)
        for scope in scopes:
            inner = _without(scope, third)
            found += [head + inner + r.SerializeToString(deterministic=True) for r in getattr(scope, third)] or [
                head + inner
            ]
    return found


def _without(message: Any, field: str) -> bytes:
    copy = type(message)()
    copy.CopyFrom(message)
    copy.ClearField(field)
    return copy.SerializeToString(deterministic=True)


def cut(signal: Signal, request: Any, most: int) -> list[Part]:
    body = np.frombuffer(request.SerializeToString(), np.uint8)
    return split(signal, body, items_of(request, signal), most)


def smallest(signal: Signal, request: Any) -> tuple[int, int]:
    """How many records a part has, and bytes of what is repeated around them."""
    first, second, third = CHILDREN[signal]
    count = repeated = 0
    for resource in getattr(request, first):
        repeated += len(_without(resource, second)) + 6
        count += not getattr(resource, second)
        for scope in getattr(resource, second):
            repeated += len(_without(scope, third)) + 6
            count += max(len(getattr(scope, third)), 1)
    return count, repeated


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_parts_have_the_same_records_and_are_small(data: st.DataObject) -> None:
    """For each signal and any bound: joined they are what was cut, and none is larger than it has to be."""
    signal = data.draw(st.sampled_from(list(Signal)))
    several = data.draw(st.lists(requests_of[signal], max_size=3))
    request = type(several[0])() if several else parse_any(b"", signal)
    for one in several:
        request.MergeFrom(one)
    most = data.draw(st.integers(1, 2 * request.ByteSize() + 2))
    parts = cut(signal, request, most)
    parsed = [parse_any(part.data.tobytes(), signal) for part in parts]
    assert [record for one in parsed for record in records(one, signal)] == records(request, signal)
    assert [part.items for part in parts] == [items_of(one, signal) for one in parsed]
    for part, one in zip(parts, parsed, strict=True):
        count, repeated = smallest(signal, one)
        assert len(part.data) <= most or count == 1 or len(part.data) <= 2 * repeated
    assert sum(len(part.data) for part in parts) <= 2 * request.ByteSize() + sum(
        smallest(signal, one)[1] for one in parsed if smallest(signal, one)[0] == 1
    )


def test_a_scope_that_fits_but_for_its_resource_is_cut() -> None:
    """A part has the resource in front: a scope as large as the bound, less the resource's first bytes, is too large for one."""
    request: Any = parse_any(b"", Signal.TRACES)
    resource = request.resource_spans.add()
    scope = resource.scope_spans.add()
    for name in ("a", "b"):
        scope.spans.add(trace_id=b"t" * 16, span_id=b"s" * 8, name=name * 40)
    scope_size = scope.ByteSize() + 3
    resource.scope_spans.add().spans.add(trace_id=b"t" * 16, span_id=b"u" * 8, name="c" * 40)
    for most in range(scope_size, scope_size + 6):
        parts = cut(Signal.TRACES, request, most)
        assert [part.items for part in parts] == [1, 1, 1] or all(len(part.data) <= most for part in parts)


def test_what_fits_is_the_same_array() -> None:
    body = np.frombuffer(seeds()[0], np.uint8)
    (part,) = split(Signal.TRACES, body, 7, len(body))
    assert part.data is body
    assert part.items == 7


def test_resources_that_fit_are_copied_byte_for_byte() -> None:
    """Also what protobuf would write otherwise: unknown fields, lengths longer than they need."""
    resource = b"\x0a\x85\x00" + b"\x7a\x03abc"  # ResourceSpans, its length in two bytes, an unknown field
    body = np.frombuffer(resource * 5, np.uint8)
    parts = split(Signal.TRACES, body, 0, 2 * len(resource))
    assert b"".join(part.data.tobytes() for part in parts) == body.tobytes()
    assert [len(part.data) for part in parts] == [16, 16, 8]


@pytest.mark.parametrize("body", [b"\x0a\x7f" + b"a" * 20, b"\x0a\x15\x12\x00\x12\x7f" + b"a" * 17, b"\xff" * 30])
def test_what_is_not_well_formed_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed, match="cannot be cut"):
        split(Signal.TRACES, np.frombuffer(body, np.uint8), 1, 4)


def test_a_huge_resource_is_not_repeated_in_front_of_every_span() -> None:
    """A sender must not make us send a thousand times what it sent."""
    request = parse_any(b"", Signal.TRACES)
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="padding").value.string_value = "x" * 60_000
    scope = resource.scope_spans.add()
    for number in range(1000):
        scope.spans.add(trace_id=b"\1" * 16, span_id=number.to_bytes(8, "big"), name="n" * 50)
    parts = cut(Signal.TRACES, request, 64 * 1024)
    assert sum(part.items for part in parts) == 1000
    assert sum(len(part.data) for part in parts) < 3 * request.ByteSize()
