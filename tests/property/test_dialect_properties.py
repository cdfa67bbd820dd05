"""Whatever stands under the keys that dialects know, normalising gives rows and never raises."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.columns import REPORT_COLUMNS, schema
from collector.dialects import normalise
from collector.dialects.load import dialects, resource_keys, span_keys
from collector.dialects.values import list_of, moment_ns, pico_of, read
from tests.dialects_kit import batch, reports
from tests.spans_kit import KINDS, STATUSES, event, request, span

KEYS = sorted(set().union(*(span_keys(dialect) for dialect in dialects())))
RESOURCE_KEYS = sorted(set().union(*(resource_keys(dialect) for dialect in dialects())) | {"service.name"})
SCOPES = sorted(
    {scope.replace("*", "x") for dialect in dialects() for match in dialect.match for scope in match.scope or ()}
    | {"", "mine"}
)
NAMES = [
    "litellm_request",
    "ai.generateText",
    "chat gpt-4o",
    "kong.gen_ai",
    "model_provider_inference",
    "llm.call",
    "completed",
]
EVENTS = ["exception", "First Token Stream Event", "mlflow.chunk.item.0"]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 200),
    st.floats(),
    st.sampled_from(
        [
            "",
            "None",
            "0",
            "12",
            "LLM",
            '"CHAT_MODEL"',
            "chat",
            "openai",
            "claude-x",
            "true",
            "[]",
            "{}",
            "1.5s",
            "generation",
            "llm",
        ]
    ),
    st.text(max_size=12),
    st.binary(max_size=6),
)
documents = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["id", "model", "usage", "input_tokens", "cached_tokens", "anthropic", "input", "x"]),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=8,
)
values = st.one_of(
    scalars,
    st.lists(scalars, max_size=3),
    st.dictionaries(st.text(max_size=4), scalars, max_size=2),
    documents.map(json.dumps),
    documents.map(repr),
)
attributes = st.dictionaries(st.sampled_from(KEYS), values, max_size=14)


@st.composite
def spans(draw: st.DrawFn) -> Any:
    events = [
        event(name, {"exception.type": draw(values)}) for name in draw(st.lists(st.sampled_from(EVENTS), max_size=2))
    ]
    return span(
        draw(st.sampled_from(NAMES)),
        draw(attributes),
        kind=draw(st.sampled_from(sorted(KINDS))),
        status=draw(st.sampled_from(sorted(STATUSES))),
        start_ns=draw(st.integers(0, 2**64 - 1)),
        duration_ns=0,
        events=events,
    )


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    resource = draw(st.dictionaries(st.sampled_from(RESOURCE_KEYS), values, max_size=3))
    return request(
        resource=resource,
        scope=draw(st.sampled_from(SCOPES)),
        version=draw(st.sampled_from(["", "0.40.0", "main", "9" * 70])),
        schema_url=draw(st.sampled_from(["", "https://opentelemetry.io/schemas/1.37.0"])),
        spans=draw(st.lists(spans(), max_size=3)),
    )


@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(bodies(), min_size=1, max_size=3))
def test_normalise_never_raises_and_every_report_is_whole(parts: list[bytes]) -> None:
    made = normalise(batch(b"".join(parts)))
    frame = made.reports
    assert dict(frame.schema) == schema(REPORT_COLUMNS)
    assert frame["span"].is_unique().all()
    for name in ("trace_id", "span_id", "start_ns", "duration_ns", "status", "role", "dialect", "source", "rank"):
        assert frame[name].null_count() == 0
    assert (frame["duration_ns"] >= 0).all()
    for column in frame.columns:
        if column.endswith(("_tokens", "_pico", "_ns")) and column != "start_ns":
            assert (frame[column].drop_nulls() >= 0).all()
    for row in frame.iter_rows(named=True):
        used = bool(row["input_tokens"] or row["output_tokens"])
        assert used or all(row[name] is None for name in frame.columns if name.endswith("_tokens"))
        cached = (row["cache_read_tokens"] or 0) + (row["cache_write_tokens"] or 0)
        if row["input_tokens"] is not None and cached > row["input_tokens"]:
            assert "impossible:cached_exceeds_input" in row["usage_flags"]
        if row["role"] == "context":
            assert not used
            assert row["provider"] is None


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(bodies(), min_size=2, max_size=4))
def test_a_span_is_read_in_the_same_way_in_any_company(parts: list[bytes]) -> None:
    def told(body: bytes) -> list[dict[str, Any]]:
        return [{key: value for key, value in row.items() if key != "span"} for row in reports(body)]

    assert told(b"".join(parts)) == [row for part in parts for row in told(part)]


@settings(deadline=None, max_examples=300)
@given(st.one_of(st.text(), documents.map(repr), documents.map(json.dumps)))
def test_reading_texts_never_raises(text: str) -> None:
    read(text)
    list_of(text, ",")
    pico_of(text)
    moment_ns(text)


@settings(deadline=None, max_examples=200)
@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.text()),
        lambda inner: st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=6,
    )
)
def test_pythons_reprs_are_read_as_what_they_spell(value: Any) -> None:
    if isinstance(value, dict):
        assert read(repr(value)) == value
