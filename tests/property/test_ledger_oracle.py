"""The incremental ledger against the oracle: any reports, in any order, in any batches, again, with restarts between."""

from __future__ import annotations

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from tests import ledger_oracle
from tests.ledger_kit import GATEWAY, SDK, Books, Span, by, call, facts, split

#: More of them: `LEDGER_EXAMPLES=1000 pytest tests/property/test_ledger.py`.
EXAMPLES = int(os.environ.get("LEDGER_EXAMPLES", "25"))
SOURCES = [{}, GATEWAY, SDK, {"source": "envoy edge", "rank": 1, "dialect": "envoy", "service_name": "edge"},
           {"source": "vllm", "rank": 4, "dialect": "vllm", "service_name": "vllm"}]  # fmt: skip
OPTIONAL = st.fixed_dictionaries(
    {},
    optional={
        "cache_read_tokens": st.sampled_from([0, 3]),
        "cache_write_tokens": st.sampled_from([0, 4]),
        "cache_write_1h_tokens": st.sampled_from([0, 2]),
        "reasoning_tokens": st.just(1),
        "response_model": st.sampled_from(["gpt-4o-mini-2024-07-18", "claude"]),
        "upstream_model": st.sampled_from(["openai/gpt-4o-mini", "claude"]),
        "provider": st.sampled_from(["openai", "anthropic"]),
        "reported_cost_pico": st.just(7),
        "response_cache_hit": st.booleans(),
        "status": st.sampled_from(["Ok", "Error"]),
        "error_type": st.just("timeout"),
        "service_tier": st.sampled_from(["flex", "default"]),
        "conversation_id": st.sampled_from(["c1", "c2"]),
        "usage_flags": st.sampled_from([["no_cache_counts"], ["input_exclusive:guess"]]),
        "tags": st.sampled_from([["a"], ["b", "c"]]),
        "streaming": st.booleans(),
        "finish_reason": st.just("stop"),
    },
)
TEAM = st.sampled_from([{}, by("team", "search", 1, "gateway"), by("team", "(unattributed)", 4, "default"), by("team", "ads", 3, "claimed")])  # fmt: skip
APP = st.sampled_from(
    [{}, by("app", "bot", 1, "claimed"), by("app", "api", 3, "service"), by("user", "u1", 2, "claimed")]
)


@st.composite
def spans(draw: st.DrawFn) -> list[Span]:
    """Few traces, models and numbers, so that much collides; parents may be missing, late, or no reports."""
    found = []
    count = draw(st.integers(1, 9))
    sources = draw(st.sampled_from([SOURCES, SOURCES, SOURCES[:1]]))
    for id_ in range(1, count + 1):
        trace = draw(st.sampled_from([1, 1, 1, 2]))
        parent = draw(st.integers(0, count))
        if draw(st.integers(0, 5)) == 0:
            found.append(Span(trace, id_, parent))
            continue
        columns = {
            **draw(st.sampled_from(sources)),
            **draw(OPTIONAL),
            **draw(TEAM),
            **draw(APP),
            "role": draw(st.sampled_from(["call"] * 6 + ["wrapper", "rollup", "context", "abort", "copy", "caller"])),
            "response_id": draw(st.sampled_from([None, None, "x", "y"])),
            "request_model": draw(
                st.sampled_from(["gpt-4o-mini", "gpt-4o-mini", "openai/GPT-4o-mini", "claude", None])
            ),
        }
        if columns["role"] == "caller":  # a gateway's, and nothing but who it was
            gateway = draw(st.sampled_from([source for source in SOURCES if source.get("rank") == 1]))
            who = {**draw(TEAM), **draw(APP), "conversation_id": draw(st.sampled_from([None, "c3"]))}
            found.append(call(trace, id_, parent, draw(st.sampled_from([0, 50])), 60, **gateway, **who, role="caller", operation=None, model=None))  # fmt: skip
            continue
        tokens = draw(st.sampled_from([(None, None), (0, 0), (10, 5), (10, 5), (10, 7), (9, None)]))
        at, took = draw(st.sampled_from([0, 0, 50, 90, 300])), draw(st.sampled_from([10, 100, 400]))
        found.append(call(trace, id_, parent, at, took, i=tokens[0], o=tokens[1], **columns))
        if draw(st.integers(0, 7)) == 0:  # the span was exported before it had everything
            late = ("input_tokens", "output_tokens", "response_id")
            report = {name: value for name, value in (found[-1].report or {}).items() if name not in late}
            found.append(Span(trace, id_, parent, report))
    return found


@settings(max_examples=EXAMPLES, deadline=None)
@given(spans(), st.integers(0, 5), st.integers(0, 10**6), st.data())
def test_order_batches_restarts_and_redelivery_do_not_matter(
    given_spans: list[Span], cuts: int, seed: int, data: st.DataObject
) -> None:
    """Scenario: the spans come in random order and batches, some twice, the process restarts or a batch fails in between.
    The calls are those that the oracle finds in all of them at once, and counters agree with the table."""
    books = Books()
    expected = facts(ledger_oracle.calls(given_spans))
    for batch in split(given_spans, cuts, seed):
        for step in data.draw(st.lists(st.sampled_from(["restart", "fail", "retry"]), max_size=2)):
            if step == "restart":
                books.restart()
            else:
                failed = books.process(batch)
                if step == "retry":
                    books.ledger.save(books.state.copy(), failed)
                books.ledger.rollback()
        books.take(batch)
        if data.draw(st.booleans()):
            assert books.take(batch).calls.is_empty(), "the same spans again change nothing"
    assert facts(books.calls) == expected
    cost = books.cost()
    assert books.take(given_spans).calls.is_empty()
    books.restart()
    assert books.take(given_spans).calls.is_empty()
    assert books.cost() == cost


@settings(max_examples=EXAMPLES, deadline=None)
@given(spans())
def test_cost_on_spans_is_shown_once(given_spans: list[Span]) -> None:
    """Scenario: all spans in one batch. The sum of the spans' cost is at most the ledger's, each call's shown once, on its own span."""
    books = Books()
    batch = books.take(given_spans)
    shown = [row for row in batch.spans.to_dicts() if row["cost_pico"] is not None]
    assert len({row["call_id"] for row in shown}) == len(shown)
    costs = {row["call_id"]: row["cost_pico"] for row in books.calls}
    assert all(costs[row["call_id"]] == row["cost_pico"] for row in shown)
    assert sum(row["cost_pico"] for row in shown) == books.cost()
    again = books.take(given_spans)
    assert again.spans["cost_pico"].null_count() == len(given_spans)
