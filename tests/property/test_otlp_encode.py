"""Encoding gives back what was decoded, field by field, and changes just what it is told to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.otlp.check import Limits, check_traces
from collector.otlp.decode import decode
from collector.otlp.encode import encode as encoded
from tests.fuzz import seeds
from tests.otlp_oracle import expected, found, parse
from tests.otlp_strategies import doubles, int64s, keys, requests, texts

modest = settings(deadline=None, max_examples=30)
KINDS: dict[str, tuple[Any, pl.DataType]] = {
    "string_value": (texts, pl.String()),
    "int_value": (int64s, pl.Int64()),
    "double_value": (doubles, pl.Float64()),
    "bool_value": (st.booleans(), pl.Boolean()),
}


def encode(*arguments: Any, **named: Any) -> bytes:
    return encoded(*arguments, **named).tobytes()


def spans_of(request: ExportTraceServiceRequest) -> list[Span]:
    return [span for r in request.resource_spans for s in r.scope_spans for span in s.spans]


def serialized(request: ExportTraceServiceRequest) -> bytes:
    return request.SerializeToString(deterministic=True)


@modest
@given(st.lists(requests, max_size=3))
def test_nothing_changed(several: list[ExportTraceServiceRequest]) -> None:
    """The very bytes that came in, with everything that no table shows: dropped counts, entities, unknown fields."""
    body = b"".join(request.SerializeToString() for request in several)
    assert encode(decode(body)) == body
    assert encode(decode(body), {}, {}) == body


def test_captures() -> None:
    """A new attribute on every span of real bodies, and away again."""
    for body in seeds()[::11]:
        traces = decode(body)
        tagged = encode(traces, {"spanledger.test": pl.Series(["x"] * len(traces))})
        assert len(tagged) > len(body)
        back = encode(decode(tagged), removed={"spanledger.test": np.ones(len(traces), np.bool_)})
        assert found(decode(back)) == expected(parse(body))


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_changes(data: st.DataObject) -> None:
    """Attributes added, replaced and removed by column, on any spans; all else is what it was."""
    request = data.draw(requests)
    spans, body = spans_of(request), request.SerializeToString()
    changes: dict[str, pl.Series] = {}
    kinds: dict[str, str] = {}
    removed: dict[str, np.ndarray] = {}
    for key in data.draw(st.lists(keys, max_size=3, unique=True)):
        kinds[key] = data.draw(st.sampled_from(sorted(KINDS)))
        values, dtype = KINDS[kinds[key]]
        column = data.draw(st.lists(st.none() | values, min_size=len(spans), max_size=len(spans)))
        changes[key] = pl.Series(column, dtype=dtype)
    for key in data.draw(st.lists(keys, max_size=2, unique=True)):
        flags = data.draw(st.lists(st.booleans(), min_size=len(spans), max_size=len(spans)))
        removed[key] = np.array(flags, np.bool_)
    for row, span in enumerate(spans):
        new = {key: column[row] for key, column in changes.items() if column[row] is not None}
        gone = new.keys() | {key for key, mask in removed.items() if mask[row]}
        kept = [attribute for attribute in span.attributes if attribute.key not in gone]
        del span.attributes[:]
        span.attributes.extend(kept)
        for key, value in new.items():
            setattr(span.attributes.add(key=key).value, kinds[key], value)
    made = encode(decode(body), changes, removed)
    assert serialized(parse(made)) == serialized(request)
    assert check_traces(made, Limits()).body is made, "as short as protobuf writes it"


@pytest.mark.parametrize(
    ("column", "kind", "value"),
    [
        (pl.Series(["a"], dtype=pl.Categorical), "string_value", "a"),
        (pl.Series(["a"], dtype=pl.Enum(["a", "b"])), "string_value", "a"),
        (pa.array(["a"]), "string_value", "a"),
        (pa.array(["b", "a"]).slice(1), "string_value", "a"),
        (pa.chunked_array([["a"]]), "string_value", "a"),
        (pa.array(["a"]).dictionary_encode(), "string_value", "a"),
        (pl.Series([7], dtype=pl.UInt8), "int_value", 7),
        (pl.Series([-1], dtype=pl.Int16), "int_value", -1),
        (pl.Series([0.5], dtype=pl.Float32), "double_value", 0.5),
        (pa.array([True]), "bool_value", True),
        (pl.Series([math.inf]), "double_value", math.inf),
    ],
)
def test_kinds_of_columns(column: Any, kind: str, value: Any) -> None:
    """Polars and Arrow, whichever way they keep texts and numbers."""
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.add(name="s")
    (span,) = spans_of(parse(encode(decode(request.SerializeToString()), {"k": column})))
    (attribute,) = span.attributes
    assert attribute.value.WhichOneof("value") == kind
    assert getattr(attribute.value, kind) == value


def test_columns_that_do_not_fit() -> None:
    """Too few values, and values that no attribute can be."""
    with pytest.raises(ValueError, match="k: 1 values for 0 spans"):
        encode(decode(b""), {"k": pl.Series(["x"])})
    with pytest.raises(TypeError, match="cannot be"):
        encode(decode(b""), {"k": pl.Series([], dtype=pl.Date)})
    assert encode(decode(b""), {"k": pl.Series([], dtype=pl.Null)}) == b""


def test_unchecked_lengths_are_refused() -> None:
    """A length in more bytes than it needs, which check would have shortened, is no place to guess at."""
    body = b"\x0a\x86\x00\x12\x04\x12\x02\x2a\x00"
    traces = decode(body)
    assert encode(traces) == body
    with pytest.raises(ValueError, match="was not checked"):
        encode(traces, {"k": pl.Series(["v"])})
    checked = check_traces(body, Limits())
    assert checked.items == 0
