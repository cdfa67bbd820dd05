"""What newest releases turned out to send, against the bill of a provider that they called (2026-11)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.dialects_kit import CLAUDE, READ, WRITE, facts, report

CUT = {**CLAUDE, "gen_ai.usage.output_tokens": 2, "gen_ai.request.stream": True}
SCHEMA = "https://opentelemetry.io/schemas/1.30.0"
UNFINISHED = ["estimated:unfinished"]


class TestUnfinishedStreams:
    """Anthropic tells two output tokens when a stream starts, Gemini one; who hangs up then has no more to tell."""

    @pytest.mark.parametrize("scope", ["opentelemetry.instrumentation.genai.anthropic", "pydantic-ai", "somebody"])
    def test_usage_without_an_end_is_an_estimate(self, scope: str) -> None:
        assert facts(report(CUT, scope=scope), "output_tokens", "usage_flags") == (2, UNFINISHED)
        told = {**CUT, "gen_ai.response.finish_reasons": ["end_turn"]}
        assert facts(report(told, scope=scope), "usage_flags") == (None,)
        assert facts(report({**CUT, "gen_ai.request.stream": False}, scope=scope), "usage_flags") == (None,)

    def test_a_failure_or_a_first_chunk_tells_of_a_stream_too(self) -> None:
        base = {**CUT, "gen_ai.request.model": "gemini-2.5-flash"}
        del base["gen_ai.request.stream"]
        assert facts(report(base), "usage_flags") == (None,)
        assert facts(report(base, status="error"), "usage_flags") == (UNFINISHED,)
        first = {**base, "gen_ai.client.operation.time_to_first_chunk": 0.1}
        assert facts(report(first), "usage_flags") == (UNFINISHED,)
        openai = {**first, "gen_ai.request.model": "gpt-4.1"}
        assert facts(report(openai), "usage_flags") == (None,), "OpenAI tells usage at the end or not at all"

    def test_the_anthropic_sdk_tells_output_only_at_the_end(self) -> None:
        assert facts(report(CUT, scope="com.anthropic.sdk.python"), "usage_flags") == (None,)

    @pytest.mark.parametrize(
        ("scope", "name"), [("google_genai", "GenerateContentStream"), ("anthropic", "messages.stream")]
    )
    def test_openinference(self, scope: str, name: str) -> None:
        told = {
            "openinference.span.kind": "LLM",
            "llm.model_name": "m",
            "llm.token_count.prompt": 9,
            "llm.token_count.completion": 1,
        }
        how = {"scope": f"openinference.instrumentation.{scope}", "name": name}
        assert facts(report(told, **how), "usage_flags") == (UNFINISHED,)
        assert facts(report({**told, "llm.finish_reason": "STOP"}, **how), "usage_flags") == (None,)

    def test_logfires_record_of_a_stream(self) -> None:
        told = {**CUT, "duration": 0.2, "request_data": '{"model":"claude-x"}'}
        assert facts(report(told, scope="logfire.anthropic"), "usage_flags") == (UNFINISHED,)


class TestBedrock:
    SCOPE = "opentelemetry.instrumentation.botocore.bedrock-runtime"

    @pytest.mark.parametrize("schema", ["", SCHEMA])
    def test_botocore_copies_the_raw_input_whatever_schema_it_names(self, schema: str) -> None:
        told = {**CLAUDE, "gen_ai.system": "aws.bedrock", "rpc.method": "Converse", READ: 60}
        del told["gen_ai.provider.name"]
        found = report(told, scope=self.SCOPE, schema_url=schema)
        assert facts(found, "dialect", "input_tokens", "provider") == ("otel_botocore", 160, "aws.bedrock")

    def test_invoke_model_never_tells_cached_tokens(self) -> None:
        found = report({**CLAUDE, "rpc.method": "InvokeModel"}, scope=self.SCOPE)
        assert facts(found, "usage_flags") == (["no_cache_counts"],)

    def test_traceloop_copies_every_makers_raw_input(self) -> None:
        told = {**CLAUDE, "gen_ai.request.model": "nova-pro-v1:0", "gen_ai.provider.name": "aws.bedrock", READ: 60}
        found = report(told, scope="opentelemetry.instrumentation.bedrock")
        assert facts(found, "input_tokens", "usage_flags") == (160, ["input_exclusive:bedrock_raw"])
        invoked = {**CLAUDE, "gen_ai.response.id": "msg_1"}
        found = report(invoked, scope="opentelemetry.instrumentation.bedrock")
        assert facts(found, "usage_flags") == (["no_cache_counts"],)

    @pytest.mark.parametrize(
        ("version", "prompt", "total"), [("0.1.39", 100, None), ("0.1.50", 100, 180), ("0.1.61", 160, 180)]
    )
    def test_openinference_adds_them_in_newer_releases(self, version: str, prompt: int, total: int | None) -> None:
        told: dict[str, Any] = {
            "openinference.span.kind": "LLM",
            "llm.provider": "aws",
            "llm.model_name": "amazon.nova-pro-v1:0",
            "llm.token_count.prompt": prompt,
            "llm.token_count.completion": 20,
            "llm.token_count.prompt_details.cache_read": 60,
        }
        if total:
            told["llm.token_count.total"] = total
        found = report(told, scope="openinference.instrumentation.bedrock", version=version)
        assert facts(found, "input_tokens") == (160,)


def test_thoughts_that_only_the_total_tells() -> None:
    """Scenario: Traceloop's instrumentation of Gemini tells candidates as output; thoughts are billed as output too."""
    told = {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.request.model": "gemini-2.5-flash",
        "gen_ai.usage.input_tokens": 1114,
        "gen_ai.usage.output_tokens": 80,
        "gen_ai.usage.total_tokens": 1706,
    }
    found = report(told, scope="opentelemetry.instrumentation.google_generativeai")
    assert facts(found, "output_tokens", "reasoning_tokens", "usage_flags") == (592, 512, ["output_exclusive:total"])
    alone = {**told, "gen_ai.usage.total_tokens": 1194}
    found = report(alone, scope="opentelemetry.instrumentation.google_generativeai")
    assert facts(found, "output_tokens", "reasoning_tokens", "usage_flags") == (80, None, None)
    others = report(told, scope="opentelemetry.instrumentation.openai.v1")
    assert facts(others, "output_tokens") == (80,)


class TestLangfuse:
    """The LangChain handler of version 5: metadata is JSON text, and all parts are taken out of their totals."""

    def see(self, usage: str, **more: str) -> dict[str, Any] | None:
        told = {"langfuse.observation.type": "generation", "langfuse.observation.usage_details": usage, **more}
        return report(told, scope="langfuse-sdk")

    def test_provider_user_and_session(self) -> None:
        where = "langfuse.observation.metadata."
        more = {f"{where}ls_provider": '"anthropic"', f"{where}langfuse_user_id": '"u-7"', f"{where}langfuse_session_id": '"s-7"'}  # fmt: skip
        found = self.see('{"input": 3, "output": 1}', **more)
        assert facts(found, "provider", "claimed_user", "conversation_id") == ("anthropic", "u-7", "s-7")
        assert facts(self.see('{"input": 3, "output": 1}', **{f"{where}ls_provider": "openai"}), "provider") == ("openai",)  # fmt: skip

    def test_audio_is_taken_out_too(self) -> None:
        found = self.see(
            '{"input": 854, "output": 108, "input_audio": 408, "input_cache_read": 10, "output_audio": 24}'
        )
        assert facts(found, "input_tokens", "input_audio_tokens") == (1272, 408)
        assert facts(found, "output_tokens", "output_audio_tokens") == (132, 24)

    def test_lifetimes_of_anthropics_writes(self) -> None:
        found = self.see('{"input": 1706, "output": 288, "cache_read_input_tokens": 12, "cache_creation_input_tokens": 998, "cache_creation_ephemeral_1h_input_tokens": 464, "cache_creation_ephemeral_5m_input_tokens": 534}')  # fmt: skip
        assert facts(found, "input_tokens", "cache_write_tokens", "cache_write_1h_tokens") == (2716, 998, 464)
        assert facts(found, "usage_flags") == (["input_exclusive:raw_usage"],)


class TestLogfire:
    def test_a_streams_request_that_does_not_say_so(self) -> None:
        """Scenario: since 5.4 only the model is left of request_data; the record of the answer is the call."""
        asked = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "request_data": '{"model":"m"}'}
        how = {"scope": "logfire.openai", "version": "5.4.0"}
        assert report(asked, **how) is None
        assert facts(report(asked, **how, status="error"), "role") == ("call",)
        assert facts(report({**asked, "gen_ai.response.id": "chatcmpl-1"}, **how), "role") == ("call",)
        assert facts(report({**asked, "duration": 0.1}, **how), "role") == ("call",)

    def test_its_own_arithmetic_is_no_report(self) -> None:
        told = {**CLAUDE, "request_data": "{}", "gen_ai.response.id": "i", "operation.cost": 0.25}
        assert facts(report(told, scope="logfire.anthropic"), "reported_cost_pico") == (None,)


def test_dspy_wraps_what_litellm_calls() -> None:
    told = {"openinference.span.kind": "LLM", "llm.model_name": "gpt-4.1", "llm.provider": "openai"}
    assert facts(report(told, scope="openinference.instrumentation.dspy"), "role") == ("wrapper",)
    counted = {**told, "llm.token_count.prompt": 5}
    assert facts(report(counted, scope="openinference.instrumentation.dspy"), "role") == ("call",)


def test_smolagents_never_tells_cached_tokens() -> None:
    told = {"openinference.span.kind": "LLM", "llm.model_name": "gpt-4.1", "llm.token_count.prompt": 5}
    found = report(told, scope="openinference.instrumentation.smolagents")
    assert facts(found, "usage_flags") == (["no_cache_counts"],)


@pytest.mark.parametrize("write", [0, 5])
def test_no_input_beside_an_output_was_not_counted(write: int) -> None:
    found = report({**CLAUDE, "gen_ai.usage.input_tokens": 0, WRITE: write})
    assert facts(found, "input_tokens", "output_tokens") == (None, 20)
