"""What newest releases turned out to send, against the bill of a provider that they called (2026-11)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.dialects_kit import CHAT, CLAUDE, READ, WRITE, facts, report

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

    def test_the_wrapper_for_javascript_takes_all_parts_out(self) -> None:
        found = self.see('{"input":700,"output":84,"total":1294,"input_cached_tokens":82,"input_audio_tokens":406,"output_reasoning_tokens":9,"output_audio_tokens":10,"output_accepted_prediction_tokens":1,"output_rejected_prediction_tokens":2}')  # fmt: skip
        assert facts(found, "input_tokens", "cache_read_tokens", "input_audio_tokens") == (1188, 82, 406)
        assert facts(found, "output_tokens", "reasoning_tokens", "output_audio_tokens") == (106, 9, 10)

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


class TestGoogleAdk:
    SCOPE = "gcp.vertex.agent"
    ANSWER = '{"finish_reason":"STOP","usage_metadata":{"candidates_token_count":80,"cached_content_token_count":288,"prompt_token_count":1114,"thoughts_token_count":512,"total_token_count":1706}}'  # fmt: skip

    def test_version_1_tells_parts_inside_the_answer(self) -> None:
        told = {"gen_ai.request.model": "gemini-2.5-flash", "gen_ai.usage.input_tokens": 1114, "gen_ai.usage.output_tokens": 80, "gcp.vertex.agent.session_id": "s"}  # fmt: skip
        found = report({**told, "gcp.vertex.agent.llm_response": self.ANSWER}, scope=self.SCOPE, name="call_llm")
        assert facts(found, "input_tokens", "cache_read_tokens", "output_tokens", "reasoning_tokens") == (1114, 288, 592, 512)  # fmt: skip
        assert facts(found, "conversation_id", "operation") == ("s", "generate_content")
        hidden = report({**told, "gcp.vertex.agent.llm_response": "{}"}, scope=self.SCOPE, name="call_llm")
        assert facts(hidden, "usage_flags") == (["no_cache_counts"],)

    def test_version_2_follows_the_conventions(self) -> None:
        told = {**CLAUDE, "gen_ai.operation.name": "generate_content", "gen_ai.usage.reasoning.output_tokens": 12}
        found = report(told, scope=self.SCOPE, version="2.13.0")
        assert facts(found, "dialect", "role", "output_tokens", "usage_flags") == ("google_adk", "call", 20, None)

    def test_openinference_writes_call_over_call_on_the_agents_span(self) -> None:
        told = {**CLAUDE, "gen_ai.operation.name": "invoke_agent", "openinference.span.kind": "LLM", READ: 60}
        found = report(told, scope=self.SCOPE)
        assert facts(found, "role", "operation", "cache_read_tokens") == ("call", "chat", 60)
        assert facts(found, "usage_flags") == (["estimated:overwritten"],)
        agent = {**CLAUDE, "gen_ai.operation.name": "invoke_agent"}
        assert facts(report(agent, scope=self.SCOPE), "role") == ("rollup",)


class TestLiteLLM:
    def test_callbacks_that_write_openinference(self) -> None:
        """Scenario: arize_phoenix and langfuse_otel: OpenInference's attributes in LiteLLM's scope, its own object inside."""
        metadata = '{"user_api_key_alias": "k", "user_api_key_team_alias": "red", "user_api_key_hash": "h", "usage_object": {"prompt_tokens": 6564, "prompt_tokens_details": {"cached_tokens": 4544, "audio_tokens": 3, "cache_creation_token_details": {"ephemeral_5m_input_tokens": 330, "ephemeral_1h_input_tokens": 428}}, "completion_tokens_details": {"reasoning_tokens": 7}}}'  # fmt: skip
        told = {
            "openinference.span.kind": "LLM",
            "langfuse.observation.type": "generation",
            "llm.request.type": "completion",
            "llm.is_streaming": "False",
            "llm.provider": "anthropic",
            "llm.model_name": "claude-sonnet-4-5",
            "llm.response.model": "claude-sonnet-4-5-20250929",
            "llm.response.id": "chatcmpl-1",
            "llm.token_count.prompt": 6564,
            "llm.token_count.completion": 132,
            "llm.token_count.prompt_details.cache_read": 4544,
            "llm.token_count.prompt_details.cache_write": 758,
            "llm.cost.total": 0.0109347,
            "session.id": "s-1",
            "user.id": "u-1",
            "metadata": metadata,
        }
        found = report(told, scope="litellm", name="litellm_request")
        assert facts(found, "dialect", "role", "rank", "provider", "upstream_model", "response_model") == ("litellm_openinference", "call", 1, "anthropic", "claude-sonnet-4-5", "claude-sonnet-4-5-20250929")  # fmt: skip
        assert facts(found, "input_tokens", "output_tokens", "cache_read_tokens") == (6564, 132, 4544)
        assert facts(found, "cache_write_tokens", "cache_write_1h_tokens", "reasoning_tokens") == (758, 428, 7)
        assert facts(found, "response_id", "reported_cost_pico", "usage_flags") == ("chatcmpl-1", 10_934_700_000, None)
        assert facts(found, "gateway_key_alias", "gateway_team", "claimed_user", "conversation_id") == ("k", "red", "u-1", "s-1")  # fmt: skip

    def test_the_proxys_span_around_a_call_repeats_it(self) -> None:
        told = {"openinference.span.kind": "LLM", "llm.request.type": "acompletion", "llm.model_name": "m"}
        how = {"scope": "litellm", "name": "litellm_proxy_request", "kind": "server"}
        assert facts(report(told, **how), "role") == ("wrapper",)
        assert facts(report({**told, "llm.token_count.prompt": 9}, **how), "role") == ("rollup",)

    @pytest.mark.parametrize(
        "told",
        [
            {**CLAUDE, "llm.request.type": "completion"},
            {**CLAUDE, "litellm.call_type": "acompletion"},
            {"openinference.span.kind": "LLM", "llm.model_name": "m", "llm.token_count.prompt": 9},
        ],
    )
    def test_usage_of_a_failure_is_its_own_count(self, told: dict[str, Any]) -> None:
        assert facts(report(told, scope="litellm", status="error"), "usage_flags") == (["estimated:litellm"],)
        assert facts(report(told, scope="litellm"), "usage_flags") == (None,)

    @pytest.mark.parametrize(("details", "flags"), [("None", ["estimated:litellm"]), ("{'cached_tokens': 0}", None)])
    def test_a_stream_that_the_sdk_counts_by_itself(self, details: str, flags: list[str] | None) -> None:
        told = {**CLAUDE, "gen_ai.system": "openai", "gen_ai.provider.name": "openai", "llm.request.type": "completion", "llm.is_streaming": "True", "metadata.usage_object": f"{{'prompt_tokens': 12, 'prompt_tokens_details': {details}}}"}  # fmt: skip
        assert facts(report(told, scope="litellm"), "usage_flags") == (flags,)
        proxy = report({**told, "metadata.user_api_key_hash": "h"}, scope="litellm")
        assert facts(proxy, "usage_flags") == (None,), "the proxy asks for usage itself"


class TestOpenLit:
    def test_anthropics_input_is_raw_and_its_zero_cost_is_none(self) -> None:
        found = report({**CLAUDE, READ: 60, "gen_ai.usage.cost": 0}, scope="openlit.instrumentation.anthropic")
        assert facts(found, "dialect", "input_tokens", "reported_cost_pico") == ("openlit", 160, None)

    def test_a_stream_that_it_counts_by_itself(self) -> None:
        told = {**CLAUDE, "gen_ai.request.stream": True, "gen_ai.response.finish_reasons": ["stop"]}
        how = {"scope": "openlit.instrumentation.openai"}
        assert facts(report(told, **how), "usage_flags") == (["estimated:openlit"],)
        assert facts(report({**told, READ: 0}, **how), "usage_flags") == (None,)

    def test_the_tier_of_a_stream_of_responses_is_not_known(self) -> None:
        told = {**CLAUDE, "openai.api.type": "responses", "openai.response.service_tier": "default"}
        how = {"scope": "openlit.instrumentation.openai"}
        assert facts(report(told, **how), "service_tier") == ("default",)
        assert facts(report({**told, "gen_ai.request.stream": True}, **how), "service_tier") == (None,)

    def test_langchains_anthropic_is_no_model(self) -> None:
        told = {**CLAUDE, "gen_ai.request.model": "anthropic", "gen_ai.request.stream": False, READ: 0}
        found = report(told, scope="openlit.instrumentation.langchain")
        assert facts(found, "request_model", "usage_flags") == (None, ["estimated:openlit"])


class TestStrands:
    @pytest.mark.parametrize(
        ("key", "model", "total"),
        [
            (READ, "us.anthropic.claude-sonnet-4-5", 100),
            ("gen_ai.usage.cache_read_input_tokens", "us.anthropic.claude-sonnet-4-5", 160),
        ],
    )
    def test_what_input_holds_since_it_follows_the_conventions(self, key: str, model: str, total: int) -> None:
        told = {**CLAUDE, "gen_ai.request.model": model, key: 60}
        del told["gen_ai.provider.name"]
        found = report({**told, "gen_ai.system": "strands-agents"}, scope="strands.telemetry.tracer", name="chat")
        assert facts(found, "input_tokens", "provider") == (total, "aws.bedrock")


def test_mlflow_traces_a_framework_and_the_client_below_it_in_one_scope() -> None:
    told = {"mlflow.spanType": '"CHAT_MODEL"', "mlflow.message.format": '"langchain"', "mlflow.llm.model": '"gpt-4.1"'}
    assert facts(report(told, scope="mlflow.tracing.provider"), "role") == ("wrapper",)
    counted = {**told, "mlflow.chat.tokenUsage": '{"input_tokens": 5, "output_tokens": 2}'}
    assert facts(report(counted, scope="mlflow.tracing.provider"), "role") == ("rollup",)
    client = {**counted, "mlflow.message.format": '"openai"'}
    assert facts(report(client, scope="mlflow.tracing.provider"), "role") == ("call",)


def test_llama_index_marks_a_step_before_the_call_as_one() -> None:
    told = {"openinference.span.kind": "LLM", "llm.model_name": "gpt-4.1"}
    how = {"scope": "openinference.instrumentation.llama_index"}
    assert report(told, **how, name="OpenAI._prepare_chat_with_tools") is None
    assert facts(report(told, **how, name="OpenAI.astream_chat"), "role") == ("call",)


def test_generate_text_of_vercels_ai_sdk_5_tells_no_cached_tokens() -> None:
    told = {"ai.operationId": "ai.generateText.doGenerate", "ai.model.provider": "openai.responses", "ai.model.id": "gpt-4.1", "ai.usage.promptTokens": 1471, "ai.usage.completionTokens": 93}  # fmt: skip
    assert facts(report(told, scope="ai"), "dialect", "usage_flags") == ("vercel_ai", ["no_cache_counts"])
    known = {**told, "ai.response.providerMetadata": '{"openai":{"cachedPromptTokens":320}}'}
    assert facts(report(known, scope="ai"), "cache_read_tokens", "usage_flags") == (320, None)
    newer = {**told, "ai.usage.inputTokens": 1471}
    assert facts(report(newer, scope="ai"), "usage_flags") == (None,)


class TestOpenAIAgents:
    """The OpenAI Agents SDK hands its instrumentations less of Chat Completions than of Responses."""

    ANSWER = '[{"id":"__fake_id__","output":[{"id":"__fake_id__","provider_data":{"response_id":"chatcmpl-1"}}],"usage":{"input_tokens_details":{"cached_tokens":64,"cache_write_tokens":8},"output_tokens_details":{"reasoning_tokens":5}}}]'  # fmt: skip
    PARTS = ("response_id", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")

    def test_openinference_tells_parts_of_streams_inside_the_answer_and_none_of_others(self) -> None:
        told = {
            "openinference.span.kind": "LLM",
            "llm.model_name": "gpt-4.1",
            "llm.system": "openai",
            "llm.token_count.prompt": 100,
            "llm.token_count.completion": 20,
        }
        how = {"scope": "openinference.instrumentation.openai_agents"}
        assert facts(report(told, **how), "usage_flags", "provider") == (["no_cache_counts"], "openai")
        stream = report({**told, "output.value": self.ANSWER}, **how)
        assert facts(stream, *self.PARTS, "usage_flags") == ("chatcmpl-1", 64, 8, 5, None)
        other = {**told, "llm.model_name": "anthropic/claude-sonnet-4-5", "llm.invocation_parameters": '{"model_impl": "litellm"}'}  # fmt: skip
        assert facts(report(other, **how), "provider") == ("anthropic",)
        elsewhere = report({**told, "output.value": self.ANSWER}, scope="openinference.instrumentation.openai")
        assert facts(elsewhere, *self.PARTS) == (None, None, None, None)

    def test_logfire_has_the_sdks_own_sum(self) -> None:
        usage = '{"input_tokens_details":{"cached_tokens":64,"cache_write_tokens":8},"output_tokens_details":{"reasoning_tokens":5}}'
        told = {
            "gen_ai.request.model": "anthropic/claude-sonnet-4-5",
            "gen_ai.system": "openai",
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.output_tokens": 20,
            "model_config": '{"model_impl":"litellm"}',
            "usage": usage,
            "output": self.ANSWER,
        }
        found = report(told, scope="logfire.openai_agents")
        assert facts(found, *self.PARTS, "provider") == ("chatcmpl-1", 64, 8, 5, "anthropic")


class TestOpenInferenceClients:
    @pytest.mark.parametrize("client", ["mistralai", "together", "portkey", "ollama", "vertexai", "ag2"])
    def test_a_client_without_a_word_for_cached_tokens(self, client: str) -> None:
        told = {"openinference.span.kind": "LLM", "llm.model_name": "m", "llm.token_count.prompt": 5}
        found = report(told, scope=f"openinference.instrumentation.{client}")
        assert facts(found, "usage_flags") == (["no_cache_counts"],)

    def test_cohere_bills_other_counts_than_its_tokens(self) -> None:
        told = {
            "openinference.span.kind": "LLM",
            "llm.model_name": "command-a-03-2025",
            "llm.token_count.prompt": 1537,
            "llm.token_count.completion": 56,
        }
        how = {"scope": "openinference.instrumentation.cohere"}
        counts = ("response_id", "input_tokens", "output_tokens", "usage_flags")
        answer = '{"id":"c-1","usage":{"billed_units":{"input_tokens":1040.0,"output_tokens":54.0},"tokens":{"input_tokens":1537.0}}}'
        assert facts(report({**told, "output.value": answer}, **how), *counts) == ("c-1", 1040, 54, None)
        assert facts(report(told, **how), *counts) == (None, 1537, 56, ["estimated:cohere_tokens"])
        vectors = {"openinference.span.kind": "EMBEDDING", "embedding.model_name": "embed-v4.0", "output.value": '{"id":"e-1","meta":{"billed_units":{"input_tokens":7.0}}}'}  # fmt: skip
        assert facts(report(vectors, **how), *counts) == (None, 7, None, None)

    def test_instructor_wraps_the_calls_of_its_client(self) -> None:
        told = {"openinference.span.kind": "CHAIN", "llm.model_name": "gpt-4.1"}
        assert facts(report(told, scope="openinference.instrumentation.instructor"), "role") == ("wrapper",)


class TestMistralSdk:
    SCOPE = "mistralai_sdk_tracer"

    def test_version_1_names_operations_of_the_api(self) -> None:
        told = {
            "gen_ai.request.model": "mistral-embed",
            "gen_ai.usage.prompt_tokens": 9,
            "gen_ai.usage.output_tokens": 0,
        }
        found = report(told, scope=self.SCOPE, name="embeddings_v1_embeddings_post")
        assert facts(found, "dialect", "operation", "provider", "input_tokens") == ("mistral_sdk", "embeddings", "mistral_ai", 9)  # fmt: skip
        chat = report({**told, "gen_ai.usage.output_tokens": 2}, scope=self.SCOPE, name="chat_completion_v1_post")
        assert facts(chat, "role", "operation", "usage_flags") == ("call", "chat", ["maybe_twice", "no_cache_counts"])

    def test_version_1_tells_no_usage_of_a_stream_which_is_a_call_all_the_same(self) -> None:
        found = report({"gen_ai.request.model": "mistral-small-latest"}, scope=self.SCOPE, name="stream_chat")
        assert facts(found, "role", "streaming", "input_tokens") == ("call", True, None)
        assert report({"http.url": "/v1/models"}, scope=self.SCOPE, name="list_models_v1_models_get") is None

    def test_newer_versions_follow_the_conventions(self) -> None:
        told = {**CLAUDE, "gen_ai.request.model": "mistral-small-latest", READ: 8}
        assert facts(report(told, scope=self.SCOPE), "cache_read_tokens", "input_tokens", "usage_flags") == (
            8,
            100,
            None,
        )


class TestOpenTelemetrysOwn:
    """The instrumentations that share util-genai do not share what their input means."""

    SCOPE = "opentelemetry.instrumentation.genai."
    CACHED = {**CLAUDE, READ: 30}

    def test_bedrocks_numbers_are_copied(self) -> None:
        found = report({**self.CACHED, "gen_ai.provider.name": "aws.bedrock"}, scope=self.SCOPE + "bedrock")
        assert facts(found, "input_tokens", "usage_flags") == (130, ["input_exclusive:bedrock_raw"])
        assert facts(report(self.CACHED, scope=self.SCOPE + "anthropic"), "input_tokens", "usage_flags") == (100, None)

    def test_dspys_has_no_word_for_cache_writes(self) -> None:
        assert facts(report(self.CACHED, scope=self.SCOPE + "dspy"), "usage_flags") == (
            ["input_unclear:writes_not_told"],
        )
        assert facts(report(CLAUDE, scope=self.SCOPE + "dspy"), "usage_flags") == (["no_cache_counts"],)
        assert facts(
            report({**CLAUDE, "gen_ai.request.model": "gpt-4o"}, scope=self.SCOPE + "dspy"), "usage_flags"
        ) == (None,)


class TestAg2:
    SCOPE = "opentelemetry.instrumentation.ag2"

    def test_the_account_of_a_call_is_no_second_one(self) -> None:
        account = {"ag2.usage.kind": "model_call", "gen_ai.response.model": "m", "gen_ai.usage.input_tokens": 9}
        assert report(account, scope=self.SCOPE) is None
        assert facts(report({**account, "ag2.usage.kind": "compaction"}, scope=self.SCOPE), "role") == ("call",)
        worker = report({**account, "ag2.usage.kind": "subtask"}, scope=self.SCOPE)
        assert facts(worker, "role", "usage_flags") == ("call", ["estimated:subtask"])

    def test_numbers_are_the_providers_own(self) -> None:
        counts = ("input_tokens", "output_tokens", "usage_flags")
        claude = {**CLAUDE, "gen_ai.usage.cache_read_input_tokens": 30}
        assert facts(report(claude, scope=self.SCOPE), *counts) == (130, 20, ["input_exclusive:ag2_raw"])
        gemini = {**CLAUDE, "gen_ai.provider.name": "google", "gen_ai.request.model": "gemini-2.5-flash", "gen_ai.usage.thinking_tokens": 7}  # fmt: skip
        assert facts(report(gemini, scope=self.SCOPE), *counts) == (100, 27, ["output_exclusive:ag2_raw"])
        openai = {**gemini, "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5"}
        assert facts(report(openai, scope=self.SCOPE), *counts) == (100, 20, None)


def test_crewais_sum_stands_for_calls_that_nobody_reports() -> None:
    told = {"traceloop.span.kind": "workflow", "crewai.crew.usage_metrics": "{'prompt_tokens': 1365, 'cached_prompt_tokens': 288, 'completion_tokens': 67, 'reasoning_tokens': 5}"}  # fmt: skip
    found = report(told, scope="opentelemetry.instrumentation.crewai.instrumentation")
    assert facts(found, "role", "input_tokens", "cache_read_tokens", "output_tokens") == ("rollup", 1365, 288, 67)
    assert facts(found, "reasoning_tokens", "usage_flags") == (5, ["estimated:run_sum"])


def test_openllmetrys_sum_of_an_agents_run_is_no_call() -> None:
    told = {**CHAT, "traceloop.span.kind": "agent", "gen_ai.system": "agno", "llm.usage.total_tokens": 120}
    del told["gen_ai.operation.name"]
    found = report(told, scope="opentelemetry.instrumentation.agno")
    assert facts(found, "role", "usage_flags") == ("rollup", ["estimated:run_sum"])


class TestJavaScript:
    """Instrumentations for Node.js have names of their own for what Python's have, and drop other things."""

    def test_openai_without_a_word_for_cached_tokens(self) -> None:
        told = {**CHAT, "gen_ai.provider.name": "openai"}
        for scope in ("@opentelemetry/instrumentation-openai", "@elastic/opentelemetry-instrumentation-openai", "@traceloop/instrumentation-openai"):  # fmt: skip
            assert facts(report(told, scope=scope), "usage_flags") == (["no_cache_counts"],), scope
        old = {**CHAT, "gen_ai.system": "openai"}
        assert facts(report(old, scope="somebody"), "usage_flags") == (["no_cache_counts"],), "conventions up to 1.36"
        assert facts(report({**old, READ: 0}, scope="somebody"), "usage_flags") == (None,)
        assert facts(report(told, scope="somebody"), "usage_flags") == (None,)

    def test_traceloop_copies_anthropics_numbers(self) -> None:
        told = {**CLAUDE, READ: 30}
        found = report(told, scope="@traceloop/instrumentation-anthropic")
        assert facts(found, "dialect", "input_tokens") == ("traceloop", 130)

    def test_langchains_answer_knows_more_than_its_span(self) -> None:
        answer = (
            '{"generations":[[{"message":{"id":["langchain_core","messages","%s"],"kwargs":{"id":"msg_1","usage_metadata":{"input_token_details":{"cache_creation":30}},'
            '"response_metadata":{"usage":{"input_tokens":50,"cache_creation":{"ephemeral_5m_input_tokens":10,"ephemeral_1h_input_tokens":20},"service_tier":"standard"}}}}}]]}'
        )
        told = {
            "openinference.span.kind": "LLM",
            "llm.model_name": "claude-sonnet-4-5",
            "llm.token_count.prompt": 100,
            "llm.token_count.prompt_details.cache_read": 20,
            "output.value": answer % "AIMessage",
        }
        how = {"scope": "@arizeai/openinference-instrumentation-langchain"}
        names = (
            "response_id",
            "input_tokens",
            "cache_write_tokens",
            "cache_write_1h_tokens",
            "service_tier",
            "usage_flags",
        )
        assert facts(report(told, **how), *names) == ("msg_1", 100, 30, 20, "standard", None)
        stream = {**told, "output.value": answer % "AIMessageChunk"}
        assert facts(report(stream, **how), "usage_flags") == (["estimated:langchain_js"],)
        own = {**told, "output.value": (answer % "AIMessage").replace("msg_1", "lc_run--1")}
        assert facts(report(own, **how), "response_id") == (None,)


class TestMaybeTwice:
    """Streams whose client works in another trace, and of which nothing tells an id in common."""

    def test_langchain_in_python(self) -> None:
        chunk = '{"generations":[[{"message":{"id":["langchain","schema","messages","%s"],"kwargs":{"id":"lc_run--1","response_metadata":{%s}}}}]]}'
        told = {"openinference.span.kind": "LLM", "llm.model_name": "gpt-4.1", "llm.token_count.prompt": 5}
        how = {"scope": "openinference.instrumentation.langchain"}
        stream = {**told, "output.value": chunk % ("AIMessageChunk", "")}
        assert facts(report(stream, **how), "usage_flags") == (["maybe_twice"],)
        named = {**told, "output.value": chunk % ("AIMessageChunk", '"id":"resp_1"')}
        assert facts(report(named, **how), "response_id", "usage_flags") == ("resp_1", None)
        whole = {**told, "output.value": chunk % ("AIMessage", "")}
        assert facts(report(whole, **how), "usage_flags") == (None,)
        other = {**CLAUDE, "gen_ai.response.finish_reasons": ["stop"]}
        assert facts(report(other, scope="opentelemetry.instrumentation.langchain"), "usage_flags") == (
            ["maybe_twice"],
        )
        other |= {"gen_ai.response.id": "msg_1"}
        assert facts(report(other, scope="opentelemetry.instrumentation.langchain"), "usage_flags") == (None,)

    def test_anthropic_in_javascript(self) -> None:
        told = {"openinference.span.kind": "LLM", "llm.model_name": "claude-x", "llm.token_count.prompt": 5, "llm.invocation_parameters": '{"stream":true}'}  # fmt: skip
        how = {"scope": "@arizeai/openinference-instrumentation-anthropic"}
        assert facts(report(told, **how), "usage_flags") == (["maybe_twice"],)
        assert facts(report({**told, "llm.invocation_parameters": "{}"}, **how), "usage_flags") == (None,)


class TestGenkit:
    def told(self, name: str, usage: str, raw: str = "{}") -> dict[str, Any]:
        output = f'{{"finishReason":"stop","usage":{usage},"raw":{raw}}}'
        return {
            "genkit:type": "action",
            "genkit:metadata:subtype": "model",
            "genkit:name": name,
            "genkit:output": output,
        }

    def test_openai(self) -> None:
        raw = '{"id":"chatcmpl-1","model":"gpt-4.1-2025-04-14","service_tier":"flex","usage":{"prompt_tokens_details":{"cached_tokens":64}}}'
        found = report(self.told("openai/gpt-4.1", '{"inputTokens":100,"outputTokens":20}', raw), scope="genkit-tracer")
        assert facts(found, "role", "provider", "request_model", "response_model") == ("call", "openai", "gpt-4.1", "gpt-4.1-2025-04-14")  # fmt: skip
        assert facts(found, "response_id", "service_tier", "input_tokens", "cache_read_tokens", "usage_flags") == ("chatcmpl-1", "flex", 100, 64, None)  # fmt: skip
        bare = report(self.told("openai/gpt-4.1", '{"inputTokens":100,"outputTokens":20}'), scope="genkit-tracer")
        assert facts(bare, "usage_flags") == (["no_cache_counts"],)

    def test_anthropic_and_google_leave_parts_outside(self) -> None:
        raw = '{"usage":{"cache_creation":{"ephemeral_5m_input_tokens":3,"ephemeral_1h_input_tokens":4}}}'
        claude = '{"inputTokens":100.0,"outputTokens":20.0,"custom":{"cache_creation_input_tokens":7,"cache_read_input_tokens":30}}'
        found = report(self.told("anthropic/claude-sonnet-4-5", claude, raw), scope="genkit-tracer")
        assert facts(found, "input_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens") == (137, 30, 7, 4)  # fmt: skip
        gemini = '{"inputTokens":100,"outputTokens":20,"thoughtsTokens":5,"cachedContentTokens":10,"totalTokens":125}'
        found = report(self.told("googleai/gemini-2.5-flash", gemini), scope="genkit-tracer")
        assert facts(found, "provider", "input_tokens", "output_tokens", "cache_read_tokens") == (
            "gcp.gemini",
            100,
            25,
            10,
        )

    def test_what_stands_around_the_model_is_no_call(self) -> None:
        around = {**self.told("generate", '{"inputTokens":100}'), "genkit:metadata:subtype": "flow"}
        assert report(around, scope="genkit-tracer") is None
        del around["genkit:metadata:subtype"]
        assert report(around, scope="genkit-tracer") is None


def test_mastra_tells_how_long_cache_writes_live() -> None:
    told = {**CLAUDE, WRITE: 30, "gen_ai.usage.cache_creation.5m_input_tokens": 10, "gen_ai.usage.cache_creation.1h_input_tokens": 20}  # fmt: skip
    found = report(told, scope="@mastra/otel-exporter")
    assert facts(found, "cache_write_tokens", "cache_write_1h_tokens") == (30, 20)


def test_openlit_counts_langchains_streams_by_itself_where_no_usage_came() -> None:
    told = {**CHAT, "gen_ai.request.stream": True, READ: 0}
    assert facts(report(told, scope="openlit.instrumentation.langchain"), "usage_flags") == (["estimated:openlit"],)
    assert facts(report({**told, READ: 8}, scope="openlit.instrumentation.langchain"), "usage_flags") == (None,)
