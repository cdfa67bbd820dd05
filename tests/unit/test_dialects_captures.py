"""What every report of a captured call says, against what the provider billed."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

import pytest

from collector.columns import REPORT_COLUMNS, SPAN_COLUMNS, schema
from collector.dialects import normalise
from tests.dialects_kit import CAPTURES, batch, capture, reports, truth

BILLED = sorted(path.parent.name for path in CAPTURES.glob("*/truth.json"))
#: Who says something else than the bill, and why: Traceloop adds two output tokens to Anthropic's streams; nobody but the gateway
#: knows the tokens of a stream that was hung up, and it guesses.
KNOWN_WRONG = {
    ("traceloop", "claude_stream_read", "output_tokens"),
    ("litellm_v1", "stream_abort", "input_tokens"),
    ("litellm_v1", "stream_abort", "output_tokens"),
}


def billed_calls(folder: str) -> dict[str, dict[str, Any]]:
    return {call["response_id"]: call for call in truth(folder)["calls"] if call["response_id"]}


@pytest.mark.parametrize("folder", BILLED)
def test_tokens_of_a_call_whose_id_is_on_the_span_are_the_bill(folder: str) -> None:
    calls = billed_calls(folder)
    compared = 0
    for report in reports(capture(folder)):
        call = calls.get(report.get("response_id", ""))
        if report["role"] != "call" or call is None or "input_tokens" not in report:
            continue
        usage = call["usage"]
        writes = usage["cache_write_5m"] + usage["cache_write_1h"]
        bill = {
            "input_tokens": usage["input_uncached"] + usage["cache_read"] + writes,
            "output_tokens": usage["output"],
            "cache_read_tokens": usage["cache_read"],
            "cache_write_tokens": writes,
            "cache_write_1h_tokens": usage["cache_write_1h"],
        }
        for name, value in bill.items():
            if (report["dialect"], call["case"], name) in KNOWN_WRONG:
                assert report[name] != value
            else:
                assert report.get(name, value) == value, (call["case"], name, report)
        if call.get("reasoning_reported", True) and call["case"] != "claude_thinking":
            assert report.get("reasoning_tokens", usage["reasoning"]) == usage["reasoning"], (call["case"], report)
        if writes:
            assert "cache_write_tokens" in report, (call["case"], report)
        compared += 1
    assert compared > 5


@pytest.mark.parametrize("folder", BILLED)
def test_every_call_with_a_span_is_reported_by_its_id(folder: str) -> None:
    """Only calls that no span at all tells, and those whose gateway makes up an id of its own, may be missing."""
    found = {report.get("response_id") for report in reports(capture(folder)) if report["role"] == "call"}
    missing = Counter(call["case"] for id_, call in billed_calls(folder).items() if id_ not in found)
    silent = {case for case, why in truth(folder)["not_in_spans"].items() if why == "no span at all"}
    made_up = {"litellm-v1-upstream", "chain-app-litellm"}
    if folder in made_up:
        assert all(case.startswith("claude") or case in ("responses", "fallback") for case in missing)
    elif folder == "vercel-ai":
        assert set(missing) <= {"stream_abort"}
    else:
        assert set(missing) <= silent


@pytest.mark.parametrize("folder", BILLED)
def test_a_reported_cost_is_the_bill(folder: str) -> None:
    calls = billed_calls(folder)
    for report in reports(capture(folder)):
        call = calls.get(report.get("response_id", ""))
        if call is not None and "reported_cost_pico" in report and call["case"] != "stream_abort":
            assert report["reported_cost_pico"] == int(Decimal(call["cost_usd"]).scaleb(12))


def roles(folder: str) -> Counter[tuple[str, str]]:
    return Counter((report["dialect"], report["role"]) for report in reports(capture(folder)))


def test_what_each_span_of_a_capture_is() -> None:
    """Wrappers, copies and raw requests are no calls; failed calls are."""
    assert roles("litellm-v1") == {("litellm_v1", "call"): 31, ("litellm_v1", "copy"): 24}
    assert roles("litellm-v2") == {("litellm_v2", "call"): 28, ("litellm_v2", "caller"): 27}
    assert roles("litellm-v1-upstream") == {
        ("litellm_v1", "call"): 23,
        ("litellm_v1_raw", "copy"): 14,
        ("litellm_v1", "copy"): 5,
        ("http_server", "abort"): 1,
    }
    assert roles("openai-v2") == {("otel_openai_v2", "call"): 16}
    assert roles("openinference") == {("openinference", "call"): 27, ("anthropic_sdk", "call"): 9}
    assert roles("traceloop") == {("traceloop", "call"): 27, ("anthropic_sdk", "call"): 9}
    assert roles("vercel-ai") == {("vercel_ai", "call"): 22, ("vercel_ai", "wrapper"): 20}
    assert roles("pydantic-ai") == {
        ("pydantic_ai", "call"): 21,
        ("pydantic_ai", "rollup"): 15,
        ("pydantic_ai", "context"): 3,
        ("anthropic_sdk", "call"): 7,
    }
    assert roles("chain-app-litellm") == {
        ("litellm_v2", "call"): 14,
        ("litellm_v2", "caller"): 13,
        ("otel_contrib", "call"): 13,
        ("anthropic_sdk", "call"): 2,
        ("app_context", "context"): 13,
    }


def test_openai_v2_says_that_it_never_tells_cached_tokens() -> None:
    told = [report for report in reports(capture("openai-v2")) if "input_tokens" in report]
    assert all(
        report.get("usage_flags") == ["no_cache_counts"] for report in told if report["operation"] != "embeddings"
    )
    assert [report for report in told if report["operation"] == "embeddings" and "usage_flags" in report] == []


def test_no_other_capture_has_flags_on_its_calls() -> None:
    for folder in {path.name for path in CAPTURES.iterdir()} - {"openai-v2"}:
        flags = [report for report in reports(capture(folder)) if report["role"] == "call" and "usage_flags" in report]
        assert flags == []


def test_identity_of_the_gateway_and_of_the_caller() -> None:
    first = next(
        report for report in reports(capture("litellm-v1")) if report.get("gateway_key_alias") == "rag-bot-key"
    )
    assert (first["gateway_team"], first["gateway_user"], first["gateway_org"]) == ("Search", "alice", "org-1")
    assert first["gateway_key_hash"].startswith("b095adcc")
    upstream = reports(capture("litellm-v1-upstream"))[0]
    # Nobody: what LiteLLM says of its master key; the empty alias is none.
    assert "gateway_user" not in upstream
    assert "gateway_key_alias" not in upstream
    assert (upstream["claimed_team"], upstream["claimed_app"]) == ("payments", "support-bot")
    assert upstream["claimed_tags"] == ["app:support-bot", "team:payments"]
    assert upstream["conversation_id"] == "s-1001"
    context = next(report for report in reports(capture("chain-app-litellm")) if report["role"] == "context")
    assert (context["claimed_user"], context["conversation_id"]) == ("user-17", "s-1001")
    assert "input_tokens" not in context
    # Logfire scrubs the session: that text is nobody's session.
    assert all("Scrubbed" not in report.get("conversation_id", "") for report in reports(capture("pydantic-ai")))


def test_tiers_finish_reasons_and_streams() -> None:
    flex = [report for report in reports(capture("openinference")) if report.get("service_tier") == "flex"]
    assert [(report["requested_tier"], report["input_tokens"]) for report in flex] == [("flex", 2444)]
    tools = [report for report in reports(capture("traceloop")) if report.get("finish_reason") == "tool_call"]
    assert {report["dialect"] for report in tools} == {"traceloop", "anthropic_sdk"}
    streams = [report for report in reports(capture("vercel-ai")) if report.get("time_to_first_token_ns")]
    assert {report["streaming"] for report in streams} == {True}
    assert all(10**6 < report["time_to_first_token_ns"] < 10**10 for report in streams)


@pytest.mark.parametrize("folder", sorted(path.name for path in CAPTURES.iterdir()))
def test_the_frames_have_the_declared_columns(folder: str) -> None:
    made = normalise(batch(capture(folder)))
    assert dict(made.reports.schema) == schema(REPORT_COLUMNS)
    assert dict(made.spans.schema) == schema(SPAN_COLUMNS)
    assert made.reports["span"].is_sorted()
    assert made.reports["span"].is_unique().all()
    named = made.spans["dialect"].is_not_null()
    assert named.arg_true().to_list() == made.reports["span"].to_list()
    assert made.spans.filter(named)["input_tokens"].to_list() == made.reports["input_tokens"].to_list()
    assert made.spans.filter(named)["response_model"].to_list() == made.reports["response_model"].to_list()
