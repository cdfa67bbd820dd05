"""One row per call, whoever reports it: each scenario in order, in reverse, and shuffled with restarts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from itertools import permutations
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from collector.ledger import Ledger
from config.model import LedgerConfig
from tests.ledger_kit import GATEWAY, MS, SDK, SECOND, START, Books, Span, by, call, facts, split

DAY = 86_400 * SECOND


def rows(spans: Sequence[Span]) -> list[dict[str, Any]]:
    """The rows of these spans, the same in whatever order they come; sorted by start."""
    orders = [*permutations(spans)] if len(spans) < 4 else [tuple(spans), tuple(reversed(spans))]
    ledgers = []
    for order in orders:
        books = Books()
        for span in order:
            books.take([span])
        ledgers.append(books)
    for seed in range(3):
        books = Books()
        for batch in split(spans, 3, seed):
            books.take(batch)
            books.restart()
        ledgers.append(books)
    for books in ledgers:
        assert facts(books.calls) == facts(ledgers[0].calls)
        assert books.cost() == ledgers[0].cost()
        assert books.take(spans).calls.is_empty(), "all of it again changes nothing"
    return sorted(ledgers[0].calls, key=lambda row: row["start_ns"])


# Joining -------------------------------------------------------------------------------------------------------------


def test_same_response_id_in_two_traces_is_one_call() -> None:
    """Scenario: the provider's SDK makes a root span of its own beside the instrumentor's. Each field comes from who knows."""
    (row,) = rows([
        call(1, 1, i=60, o=171, id="msg_1", cache_write_tokens=40, tags=["a"]),
        call(2, 2, at=5, took=90, i=60, o=169, id="msg_1", cache_write_tokens=40, cache_write_1h_tokens=30, **SDK),
    ])  # fmt: skip
    assert (row["output_tokens"], row["cache_write_1h_tokens"], row["report_count"]) == (169, 30, 2)
    assert row["reports"] == ["anthropic_sdk", "otel"]
    assert (row["span_id"], row["start_ns"]) == (f"{1:016x}", START)


def test_gateway_knows_provider_model_and_cost_and_app_knows_who_asked() -> None:
    """Scenario: an app's span and the gateway's, equal ids. Team by the gateway's key, service and conversation by the app."""
    gateway = {
        **GATEWAY, **by("team", "search", 1, "gateway"), "provider": "anthropic", "upstream_model": "claude-sonnet-4-5",
        "reported_cost_pico": 77, "api_key": "key-1", "api_key_rank": 0, "api_key_rule": "gateway",
    }  # fmt: skip
    app = {"provider": "openai", "conversation_id": "c-1", **by("team", "(unattributed)", 4, "default"), **by("app", "bot", 3, "service")}  # fmt: skip
    (row,) = rows([call(1, 1, i=9, o=9, id="x", **app), call(1, 2, at=10, took=50, i=9, o=9, id="x", **gateway)])
    assert (row["provider"], row["upstream_model"], row["reported_cost_pico"]) == ("anthropic", "claude-sonnet-4-5", 77)
    assert (row["team"], row["app"], row["api_key"], row["conversation_id"]) == ("search", "bot", "key-1", "c-1")
    assert row["service_name"] == "app"
    assert row["attribution_source"] == "team=gateway;app=service;api_key=gateway"


def test_ancestor_and_descendant_with_equal_numbers_are_one_call_through_spans_that_are_no_reports() -> None:
    """Scenario: embeddings have no id. Between app and gateway stand an HTTP client's span and the gateway's SERVER span."""
    spans = [
        call(1, 1, i=45, o=None, model="text-embedding-3-small"),
        Span(1, 2, 1),
        Span(1, 3, 2),
        call(1, 4, 3, at=500, took=10, i=45, o=0, model="openai/Text-Embedding-3-small", **GATEWAY),
    ]
    (row,) = rows(spans)
    assert row["report_count"] == 2
    assert len(rows([spans[0], spans[3]])) == 2, "without the links between, nothing says that they are one"


@pytest.mark.parametrize("between", ["a call", "no report"])
def test_what_stands_between_two_with_one_id_may_come_last(between: str) -> None:
    """Scenario: an instrumentor reports a call twice, nested. That they are nested is known only with the span between them:
    until then they look like an answer and its replay."""
    outer, inner = call(1, 6, took=90, i=10, o=5, id="x"), call(1, 2, 1, at=5, took=50, i=10, o=5, id="x")
    middle = call(1, 1, 6, at=2, took=70, i=None, o=None) if between == "a call" else Span(1, 1, 6)
    found = [row for row in rows([outer, middle, inner]) if row["response_id"]]
    assert [(row["report_count"], row["price_status"]) for row in found] == [(2, "priced")]


def test_what_wraps_a_copy_below_its_call_is_no_call() -> None:
    """Scenario: a gateway's call, an inner span of it that wraps the request, and the provider's raw answer below that. Whichever
    comes last, there was one call."""
    found = rows(
        [call(1, 1, i=10, o=5), call(1, 6, 1, at=1, role="wrapper"), call(1, 3, 6, at=2, i=10, o=5, role="copy")]
    )
    assert [(row["span_id"][-1], row["input_tokens"]) for row in found] == [("1", 10)]


def test_side_by_side_needs_trace_model_numbers_and_time() -> None:
    """Scenario: siblings. They are one call if all four agree; any difference makes two."""
    one = call(1, 1, 9, i=5, o=6)
    assert len(rows([one, call(1, 2, 9, at=20, i=5, o=6, **GATEWAY)])) == 1
    assert len(rows([one, call(2, 2, 9, at=20, i=5, o=6, **GATEWAY)])) == 2
    assert len(rows([one, call(1, 2, 9, at=20, i=5, o=7, **GATEWAY)])) == 2
    assert len(rows([one, call(1, 2, 9, at=20, i=5, o=6, model="claude", **GATEWAY)])) == 2
    assert len(rows([one, call(1, 2, 9, at=101, i=5, o=6, **GATEWAY)])) == 2
    assert len(rows([one, call(1, 2, 9, at=20, i=5, o=6)])) == 2, "one source reports each call once"
    assert len(rows([call(1, 1, 9, i=5, o=6, id="a"), call(1, 2, 9, i=5, o=6, id="b", **GATEWAY)])) == 2


def test_what_was_asked_for_by_name_is_served_with_a_date() -> None:
    """Scenario: the framework tells what was served, the client below it only what it asked for. Two dates are two models."""
    served, asked = "gpt-4.1-2025-04-14", "gpt-4.1"
    assert (
        len(rows([call(1, 1, i=5, o=6, model=served), call(1, 2, 1, at=5, took=50, i=5, o=6, model=asked, **SDK)])) == 1
    )
    assert len(rows([call(1, 1, i=5, o=6, model=served), call(1, 2, 1, at=5, took=50, model=asked, i=None, o=None, **SDK)])) == 1  # fmt: skip
    other = call(1, 2, 1, at=5, took=50, i=5, o=6, model="gpt-4.1-2025-09-01", **SDK)
    assert len(rows([call(1, 1, i=5, o=6, model=served), other])) == 2


def test_what_may_be_reported_twice_is_no_doubt_once_it_was() -> None:
    """Scenario: LangChain's span of a stream, and its client's below it or in a trace of its own."""
    framework = call(1, 1, i=5, o=6, usage_flags=["maybe_twice"])
    assert [row["usage_flags"] for row in rows([framework])] == [["maybe_twice"]]
    assert [row["usage_flags"] for row in rows([framework, call(1, 2, 1, at=5, took=50, i=5, o=6, **SDK)])] == [None]
    apart = rows([framework, call(2, 2, at=5, took=50, i=5, o=6, **SDK)])
    assert sorted(row["usage_flags"] or [] for row in apart) == [[], ["maybe_twice"]]


def test_a_failure_without_a_model_is_that_of_the_call_below_it() -> None:
    """Scenario: a stream was hung up. The framework's span tells neither model nor numbers, its client's only the model."""
    above = call(1, 1, i=None, o=None, model=None, status="Error")
    assert len(rows([above, call(1, 2, 1, at=5, took=50, i=None, o=None, **SDK)])) == 1
    assert len(rows([above, call(1, 2, 1, at=5, took=50, i=5, o=6, **SDK)])) == 2, (
        "a failure with numbers is another story"
    )
    assert len(rows([above, call(1, 2, at=5, took=50, i=None, o=None, **SDK)])) == 2, "nothing says that it is below"


@pytest.mark.parametrize("workers", [2, 7, 40])
def test_concurrent_equal_calls_stay_as_many(workers: int) -> None:
    """Scenario: n workers send the same prompt at the same time, no ids, seen by the app and by the gateway: n rows."""
    spans = []
    for n in range(workers):
        spans.append(call(1, 2 * n + 1, 999, at=n, took=100, i=7, o=7))
        spans.append(call(1, 2 * n + 2, 998, at=n + 1, took=98, i=7, o=7, **GATEWAY))
    found = rows(spans)
    assert [row["report_count"] for row in found] == [2] * workers


def test_failed_reports_join_and_attempts_do_not() -> None:
    """Scenario: the gateway tries twice under one call id; the app's span has the answer of the second."""
    found = rows([
        call(1, 1, 9, i=518, o=116, id="x", request_model="premium", response_model="claude-haiku"),
        call(1, 2, 9, at=5, took=20, status="Error", error_type="500", request_model="premium", call_hint="h", **GATEWAY),
        call(1, 3, 9, at=30, took=60, i=518, o=116, id="x", request_model="claude-haiku", call_hint="h", **GATEWAY),
    ])  # fmt: skip
    assert [(row["report_count"], row["input_tokens"], row["status"]) for row in found] == [(2, 518, "Unset"), (1, None, "Error")]  # fmt: skip
    (row,) = rows([call(1, 1, 9, status="Error"), call(1, 2, 9, at=5, took=20, i=0, o=0, status="Error", **GATEWAY)])
    assert (row["report_count"], row["input_tokens"], row["output_tokens"]) == (2, None, None)


@pytest.mark.parametrize("mute_above", [True, False])
def test_one_that_tells_no_numbers_is_the_call_above_or_below_it(mute_above: bool) -> None:
    """Scenario: a framework's span of a stream has no usage, the client's has; or the other way round. In any order."""
    numbers = {"i": 25, "o": 7}
    above = call(1, 1, **({} if mute_above else numbers))
    below = call(1, 3, 2, at=5, took=90, **(numbers if mute_above else {}), **GATEWAY)
    (row,) = rows([above, Span(1, 2, 1), below])
    assert (row["report_count"], row["input_tokens"], row["output_tokens"]) == (2, 25, 7)
    failed = {"status": "Error"}
    if mute_above:
        assert len(rows([call(1, 1, **failed), Span(1, 2, 1), below])) == 2, "what failed is an attempt of its own"
    else:
        assert len(rows([above, Span(1, 2, 1), call(1, 3, 2, at=5, took=90, **failed, **GATEWAY)])) == 2
    other = call(1, 3, 2, at=5, took=90, model="claude", **(numbers if mute_above else {}), **GATEWAY)
    assert len(rows([above, Span(1, 2, 1), other])) == 2, "another model is another call"
    beside = call(1, 3, 9, at=5, took=90, **(numbers if mute_above else {}), **GATEWAY)
    assert len(rows([above, Span(1, 2, 1), beside])) == 2, "side by side nothing says that they are one"


def test_one_that_tells_no_numbers_makes_no_two_calls_one() -> None:
    """Scenario: below it stand two calls of different numbers, of one source or of two: it is the nearest one's, alone."""
    mute = call(1, 1, took=100)
    near, far = call(1, 2, 1, at=1, took=98, i=5, o=6, **GATEWAY), call(1, 3, 1, at=50, took=9, i=8, o=9, **SDK)
    assert [(row["report_count"], row["input_tokens"]) for row in rows([mute, near, far])] == [(2, 5), (1, 8)]
    again = call(1, 3, 1, at=50, took=9, i=8, o=9, **GATEWAY)
    assert [(row["report_count"], row["input_tokens"]) for row in rows([mute, near, again])] == [(2, 5), (1, 8)]
    same = call(1, 3, 2, at=2, took=90, i=5, o=6, **SDK)
    assert [(row["report_count"], row["input_tokens"]) for row in rows([mute, near, same])] == [(3, 5)]


def test_failed_call_that_was_billed_keeps_its_usage() -> None:
    """Scenario: the app timed out, the gateway got the whole answer: an error, and it cost."""
    (row,) = rows(
        [call(1, 1, status="Error", error_type="timeout", id="x"), call(1, 2, 1, i=8, o=9, id="x", **GATEWAY)]
    )
    assert (row["status"], row["error_type"], row["input_tokens"], row["output_tokens"]) == ("Error", "timeout", 8, 9)


def test_one_call_through_two_gateways() -> None:
    """Scenario: a gateway behind a gateway gives an id of its own. Who serves is known best inside, whose key outside."""
    outer = {**GATEWAY, "provider": "gw2", **by("team", "search", 1, "gateway"), "upstream_model": "gpt-4o-mini"}
    inner = {"source": "envoy edge", "rank": 1, "provider": "openai", **by("team", "platform", 1, "gateway"), "upstream_model": "gpt-4o-mini-2024-07-18"}  # fmt: skip
    (row,) = rows(
        [call(1, 1, i=5, o=5, id="made-up", **outer), call(1, 2, 1, at=10, took=50, i=5, o=5, id="chatcmpl-1", **inner)]
    )
    assert (row["provider"], row["upstream_model"], row["team"]) == ("openai", "gpt-4o-mini-2024-07-18", "search")


# One id, several answers --------------------------------------------------------------------------------------------


def test_cache_hit_is_a_row_that_costs_nothing() -> None:
    """Scenario: the gateway answers again from its cache, with and without saying so: one billed row, the rest replays."""
    first = call(1, 1, i=5, o=5, id="x", **GATEWAY)
    found = rows([first, call(2, 2, at=500, i=5, o=5, id="x", response_cache_hit=True, **GATEWAY)])
    assert [row["cost_pico"] for row in found] == [40, 0]
    found = rows(
        [first, call(2, 2, at=500, i=5, o=5, id="x", **GATEWAY), call(3, 3, at=900, i=5, o=5, id="x", **GATEWAY)]
    )
    assert [(row["cost_pico"], row["response_cache_hit"]) for row in found] == [(40, None), (0, True), (0, True)]


def test_mock_with_one_id_for_all_is_as_many_calls() -> None:
    """Scenario: a server gives every answer the same id; the numbers differ, so the id is nobody's."""
    found = rows([call(n, n, at=n, i=n, o=1, id="chatcmpl-mock") for n in range(1, 6)])
    assert [row["cost_pico"] for row in found] == [3 * n + 5 for n in range(1, 6)]


def test_strangers_with_one_id_are_two_calls() -> None:
    """Scenario: two servers that count from 1 give two answers of different models the same id, in two traces."""
    assert len(rows([call(1, 1, i=5, o=5, id="1"), call(2, 2, i=9, o=9, id="1", model="claude", **SDK)])) == 2


# Wrappers, rollups, contexts ------------------------------------------------------------------------------------------


def test_wrapper_stands_for_one_unknown_call_until_its_call_comes() -> None:
    """Scenario: a hung-up stream has only a wrapper: one row of unknown cost. The call comes later: the row is withdrawn."""
    wrapper = call(1, 1, role="wrapper")
    (row,) = rows([wrapper])
    assert (row["cost_pico"], row["price_status"]) == (None, "missing_usage")
    books = Books()
    books.take([wrapper])
    batch = books.take([Span(1, 2, 1), call(1, 3, 2, at=5, i=5, o=5)])
    assert sorted(batch.calls["withdrawn"]) == [False, True]
    assert [row["cost_pico"] for row in books.calls] == [40]
    assert len(rows([wrapper, Span(1, 2, 1), call(1, 3, 2, at=5, i=5, o=5)])) == 1


def test_wrapper_with_usage_is_an_estimate() -> None:
    """Scenario: only a wrapper's sums arrive: they count, and say that they are no call's own numbers."""
    (row,) = rows([call(1, 1, role="wrapper", i=5, o=5)])
    assert row["usage_flags"] == ["estimated:wrapper"]


def test_rollup_counts_only_without_usage_below() -> None:
    """Scenario: an agent's sums, alone, above calls, and above an agent of its own."""
    agent = call(1, 1, role="rollup", took=900, i=50, o=50)
    assert [row["input_tokens"] for row in rows([agent])] == [50]
    assert [row["input_tokens"] for row in rows([agent, call(1, 2, 1, at=5, i=20, o=20)])] == [20]
    inner = call(1, 2, 1, at=3, role="rollup", i=30, o=30)
    assert [row["input_tokens"] for row in rows([agent, inner])] == [30]
    assert [row["input_tokens"] for row in rows([agent, call(1, 2, 1, at=5, status="Error")])] == [50, None]
    assert rows([call(1, 1, role="rollup")]) == []


def test_identity_above_reaches_the_calls_below_also_late() -> None:
    """Scenario: team and conversation stand on the request's span, which comes last. The call gets a better version."""
    context = call(1, 1, took=900, role="context", conversation_id="c-1", **by("team", "search", 1, "gateway"), **by("app", "web", 1, "claimed"))  # fmt: skip
    own = call(1, 3, 2, at=5, i=5, o=5, **by("team", "(unattributed)", 4, "default"), **by("app", "bot", 1, "claimed"))
    (row,) = rows([context, Span(1, 2, 1), own])
    assert (row["team"], row["app"], row["conversation_id"], row["report_count"]) == ("search", "bot", "c-1", 1)
    books = Books()
    first = books.take([own]).calls.to_dicts()[0]
    books.take([Span(1, 2, 1)])
    second = books.take([context]).calls.to_dicts()[0]
    assert second["call_id"] == first["call_id"]
    assert second["version"] > first["version"]


def caller(trace: int, id_: int, parent: int = 0, at: int = 0, team: str = "search") -> Span:
    """Where a gateway authenticated a request."""
    return call(trace, id_, parent, at=at, took=2, role="caller", model=None, operation=None, **GATEWAY, **by("team", team, 1, "gateway"))  # fmt: skip


NOBODYS: dict[str, Any] = {"status": "Error", **by("team", "(unattributed)", 4, "default")}


@pytest.mark.parametrize(
    "spans",
    [
        [caller(1, 2, 9, at=3), call(1, 3, 9, **NOBODYS)],
        [call(1, 3, 9, **NOBODYS), Span(1, 4, 3), caller(1, 2, 4, at=500)],
        [caller(1, 2, 9, at=500), Span(1, 4, 2), call(1, 3, 4, **NOBODYS)],
        [caller(1, 5, 8, at=40, team="far"), caller(1, 2, 9, at=3), call(1, 3, 9, **NOBODYS)],
        [caller(1, 5, 8, at=1, team="beside"), call(1, 3, 9, **NOBODYS), caller(1, 2, 3, at=50)],
    ],
    ids=["beside", "below", "above", "the nearest", "below before beside"],
)
def test_a_call_that_a_gateway_refused_is_whose_it_authenticated(spans: list[Span]) -> None:
    (row,) = rows(spans)
    assert (row["team"], row["attribution_source"], row["report_count"]) == ("search", "team=gateway", 1)


@pytest.mark.parametrize(
    "spans",
    [
        [caller(1, 2, 9, at=3), call(1, 4, 2, at=3, took=1, i=1, o=1, **GATEWAY), call(1, 3, 9, model="other", **NOBODYS)],
        [caller(2, 2, 9, at=3), call(1, 3, 9, **NOBODYS)],
        [caller(1, 2, 9, at=300), call(1, 3, 9, **NOBODYS)],
        [caller(1, 2, 9, at=3), call(1, 3, 9, **GATEWAY, **NOBODYS)],
    ],
    ids=["its request was made", "another trace", "another time", "the gateway reports the call"],
)  # fmt: skip
def test_who_asked_for_something_else_says_nothing_of_a_call(spans: list[Span]) -> None:
    found = {row["span_id"]: row["team"] for row in rows(spans)}
    assert found[f"{3:016x}"] == "(unattributed)"


def test_who_asked_is_no_call_and_in_a_gateways_own_traces_no_work() -> None:
    """Scenario: nearly all requests: the gateway authenticates, then reports its call. None is settled one by one, in
    whatever order the two come; what was kept of who asked is found when it is needed."""
    assert rows([caller(1, 1)]) == []
    asked = [caller(n, 2, 1) for n in range(1, 50)]
    made = [call(n, 3, 2, at=5, i=n, o=1, id=f"id-{n}", **GATEWAY) for n in range(1, 50)]
    for order in ([asked, made], [made, asked], [[*asked, *made]]):
        books = Books()
        for batch in order:
            books.process(batch)
            assert books.ledger._pending is not None
            assert books.ledger._pending.components == []
            books.ledger.rollback()
            books.take(batch)
        assert len(books.calls) == 49
    books = Books()
    books.take([*asked, *made, caller(99, 2, 1)])
    books.restart()
    books.take([call(99, 3, 1, **NOBODYS)])
    assert books.table[f"{99:032x}-{3:016x}"]["team"] == "search"


def test_a_copy_of_a_call_stands_for_it_until_it_comes() -> None:
    """Scenario: a gateway repeats the provider's answer on a span below the call's: it counts where the call's is missing."""
    own = call(1, 1, i=16, o=4, id="x", **GATEWAY, **by("team", "search", 1, "gateway"))
    copy = call(1, 2, 1, at=1, took=1, i=16, o=4, id="y", role="copy", **GATEWAY)
    (row,) = rows([own, copy])
    assert (row["response_id"], row["report_count"], row["team"]) == ("x", 1, "search")
    (row,) = rows([copy])
    assert (row["response_id"], row["input_tokens"], row["report_count"]) == ("y", 16, 1)
    books = Books()
    first = books.take([copy]).calls.to_dicts()[0]
    batch = books.take([own])
    assert batch.replaced["call_id"].to_list() == [first["call_id"]]
    assert [row["response_id"] for row in books.calls] == ["x"]
    books = Books()
    books.process([own, copy])
    assert books.ledger._pending is not None
    assert books.ledger._pending.components == [], "a copy that comes with its call costs nothing"
    (row,) = rows([copy, call(1, 3, 9, at=1, took=3, i=16, o=4, id="y", **SDK)])
    assert (row["report_count"], row["reports"]) == (2, ["anthropic_sdk", "litellm"]), "a call like any other"


def test_abort_above_a_gateways_call_makes_its_usage_an_estimate() -> None:
    """Scenario: the client hung up. The gateway's own count is marked, whichever comes first; a better count is not."""
    abort, between = call(1, 1, role="abort", **GATEWAY), Span(1, 2, 1)
    gateway = call(1, 3, 2, at=5, took=20, i=16, o=4, id="x", **GATEWAY)
    (row,) = rows([abort, between, gateway])
    assert (row["input_tokens"], row["usage_flags"]) == (16, ["estimated:gateway"])
    (row,) = rows([abort, between, gateway, call(2, 4, at=1, i=816, o=165, id="x", **SDK)])
    assert (row["input_tokens"], row["usage_flags"]) == (816, None)


# Versions -------------------------------------------------------------------------------------------------------------


def test_better_report_after_a_worse_one_was_counted() -> None:
    """Scenario: a call without usage was exported; its gateway's report comes: the same id, a newer version, the difference."""
    books = Books()
    first = books.take([call(1, 1, id="x")]).calls.to_dicts()[0]
    assert (first["cost_pico"], books.cost()) == (None, 0)
    batch = books.take([call(1, 2, 1, i=5, o=5, id="x", **GATEWAY)])
    assert batch.calls["call_id"].to_list() == batch.replaced["call_id"].to_list() == [first["call_id"]]
    assert books.cost() == 40


def test_day_stays_whatever_the_start_becomes() -> None:
    """Scenario: the gateway's report is of Thursday, the app's, which comes later, began on Wednesday."""
    midnight = START - START % DAY + DAY
    late = call(1, 2, i=5, o=5, id="x", start_ns=midnight + MS, **GATEWAY)
    books = Books()
    books.take([late])
    books.take([call(1, 1, i=5, o=5, id="x", start_ns=midnight - MS)])
    (row,) = books.calls
    assert row["start_ns"] == midnight - MS
    assert row["day"] == date.fromordinal(date(1970, 1, 1).toordinal() + midnight // DAY)


def test_two_rows_that_turn_out_to_be_one_call() -> None:
    """Scenario: two calls without an id; then a report comes that joins them. One row stays, the other is withdrawn."""
    books = Books()
    books.take([call(1, 1, i=5, o=5), call(2, 2, at=1, i=5, o=5, id="x", **SDK)])
    assert books.cost() == 80
    books.take([call(1, 3, 1, at=2, took=50, i=5, o=5, id="x", **GATEWAY)])
    assert books.cost() == 40
    assert [row["withdrawn"] for row in books.table.values()].count(True) == 1


def test_garbage_times_and_circles_do_no_harm() -> None:
    """Scenario: a span is its own parent, two are each other's, starts are absurd."""
    found = rows([
        call(1, 1, 1, i=5, o=5), call(1, 2, 3, i=6, o=5, role="wrapper"), call(1, 3, 2, i=7, o=5, role="wrapper"),
        call(2, 4, i=5, o=5, start_ns=-5), call(2, 5, i=5, o=6, start_ns=2**63 - 1),
    ])  # fmt: skip
    assert {row["day"].year for row in found} == {1970, 2026, 2149}


# Spans ----------------------------------------------------------------------------------------------------------------


def test_what_the_spans_say() -> None:
    """Scenario: one batch with a call, its second report, a rollup, a context and a span that is nothing."""
    books = Books()
    batch = books.take([
        Span(1, 9), call(1, 1, 9, role="rollup", i=5, o=5), call(1, 2, 1, at=1, i=5, o=5, id="x", **by("team", "ads", 1, "gateway")),
        call(1, 3, 2, at=2, i=5, o=5, id="x", **SDK), call(1, 4, 9, role="context"), call(2, 5, i=1, o=1),
    ])  # fmt: skip
    spans = batch.spans
    assert spans["price_status"].to_list() == ["not_a_call", "rollup", "priced", "duplicate", "not_a_call", "priced"]
    assert spans["cost_pico"].to_list() == [None, None, 40, None, None, 8]
    assert spans["team"].to_list() == [None, None, "ads", "ads", None, None]
    assert spans["call_id"].null_count() == 3
    late = books.take([call(3, 6, at=3, i=5, o=5, id="x", **GATEWAY)])
    assert late.spans["price_status"].to_list() == ["duplicate"]
    assert late.spans["team"].to_list() == ["ads"]
    assert late.spans["cost_pico"].to_list() == [None]


# Memory ---------------------------------------------------------------------------------------------------------------


def test_reports_are_forgotten_after_the_window_and_links_after_theirs() -> None:
    """Scenario: a report comes again a day later: a call of its own. The state holds nothing that is over."""
    books = Books(window="1h", trace_window="10m")
    books.take([Span(1, 9, 8), call(1, 1, i=5, o=5, id="x")])
    books.now += 1800 * SECOND
    assert books.take([call(1, 1, i=5, o=5, id="x")]).calls.is_empty()
    assert not list(books.state.items(b"l")), "links are over"
    books.now += 3600 * SECOND
    books.take([call(5, 5, i=1, o=1)])
    assert len(list(books.state.items(b"i"))) == 1
    books.now += SECOND
    assert len(books.take([call(2, 2, i=5, o=5, id="x")]).calls) == 1


def test_the_oldest_go_first_when_there_are_too_many() -> None:
    """Scenario: more spans than `max_spans`. The newest are known, the oldest are not, and a metric counts them."""
    registry = CollectorRegistry()
    books = Books(max_spans=1000)
    books.ledger = Ledger(LedgerConfig(max_spans=1000), registry)
    for number in range(12):
        books.take([call(100 * number + n, 1, i=1, o=1) for n in range(1, 101)])
    assert books.take([call(1150, 1, i=1, o=1)]).calls.is_empty()
    assert registry.get_sample_value("spanledger_ledger_evicted_spans_total") == 200
    assert registry.get_sample_value("spanledger_ledger_remembered_spans") == 1000
    assert len(books.process([call(50, 1, i=1, o=1)]).calls) == 1
    books.ledger.rollback()
    books.restart()
    assert books.take([call(1150, 1, i=1, o=1)]).calls.is_empty()


def test_two_pipelines_share_a_registry() -> None:
    """Scenario: each pipeline has its ledger; their metrics add up."""
    registry = CollectorRegistry()
    ledgers = [Ledger(LedgerConfig(), registry) for _ in range(2)]
    assert registry.get_sample_value("spanledger_ledger_remembered_spans") == 0
    assert len(ledgers) == 2


def test_merge_comes_first() -> None:
    """Scenario: a bug in a pipeline calls save without merge: it is told."""
    books = Books()
    batch = books.take([call(1, 1)])
    books.ledger.rollback()
    with pytest.raises(RuntimeError, match="merge comes before"):
        books.ledger.save(books.state, batch)


def test_a_trace_of_thousands_of_calls_stays_exact() -> None:
    """Scenario: an agent that never ends its trace: more reports than can still change. Each counts once, also sent again."""
    books = Books()
    spans = [call(1, n, 9999, at=20 * n, took=10, i=n, o=1, id=f"id-{n}") for n in range(1, 2501)]
    for first in range(0, 2500, 500):
        books.take(spans[first : first + 500])
    assert len(books.calls) == 2500
    assert books.take(spans[:50] + spans[-50:]).calls.is_empty()
    batch = books.take([call(1, 5000, 9999, at=25, took=5, i=1, o=1, id="id-1", **GATEWAY)])
    assert batch.calls["report_count"].to_list() == [2]
    assert len(books.calls) == 2500
