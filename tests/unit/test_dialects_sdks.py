"""Each SDK's, framework's and model server's spans as its page tells them, and every trap there as a case."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests import dialects_kit as kit
from tests.dialects_kit import CLAUDE, READ, WRITE, facts, report, reports
from tests.spans_kit import NOON_NS, event, request, span

CHAT = {**kit.CHAT, "gen_ai.provider.name": "openai"}
SCHEMA = "https://opentelemetry.io/schemas/1.37.0"


class TestOpenTelemetry:
    @pytest.mark.parametrize(
        "spelling",
        [
            {"gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 20, READ: 60, WRITE: 30},
            {
                "gen_ai.usage.prompt_tokens": 100,
                "gen_ai.usage.completion_tokens": 20,
                READ: 60,
                "gen_ai.usage.cache_write.input_tokens": 30,
            },
            {
                "gen_ai.usage.input_tokens": "100",
                "gen_ai.usage.output_tokens": 20.0,
                "gen_ai.usage.cache_read_input_tokens": 60,
                "gen_ai.usage.cache_creation_input_tokens": 30,
            },
            {
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 20,
                "gen_ai.usage.details.cache_read_tokens": 60,
                "gen_ai.usage.details.cache_write_tokens": 30,
            },
        ],
    )
    def test_all_spellings_of_the_counts(self, spelling: dict[str, Any]) -> None:
        found = report({"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", **spelling}, scope="somebody")
        assert facts(found, "dialect", "input_tokens", "output_tokens") == ("otel_genai", 100, 20)
        assert facts(found, "cache_read_tokens", "cache_write_tokens") == (60, 30)

    @pytest.mark.parametrize(
        ("told", "provider"),
        [
            ({"gen_ai.system": "xai"}, "x_ai"),
            ({"gen_ai.system": "vertex_ai"}, "gcp.vertex_ai"),
            ({"gen_ai.system": "gemini"}, "gcp.gemini"),
            ({"gen_ai.system": "az.ai.openai"}, "azure.ai.openai"),
            ({"gen_ai.system": "az.ai.inference"}, "azure.ai.inference"),
            ({"gen_ai.provider.name": "aws.bedrock", "gen_ai.system": "other"}, "aws.bedrock"),
            ({"gen_ai.provider.name": "acme.internal"}, "acme.internal"),
            ({"gen_ai.provider.name": "None"}, None),
        ],
    )
    def test_providers_of_before_and_now(self, told: dict[str, str], provider: str | None) -> None:
        attributes = {key: value for key, value in CHAT.items() if key != "gen_ai.provider.name"}
        assert facts(report({**attributes, **told}), "provider") == (provider,)

    def test_agents_sum_and_tools_are_nothing(self) -> None:
        for operation in ("invoke_agent", "invoke_workflow"):
            assert facts(report({**CHAT, "gen_ai.operation.name": operation}), "role", "input_tokens") == (
                "rollup",
                100,
            )
        silent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.conversation.id": "c", "gen_ai.request.model": "m"}
        assert facts(report(silent), "role", "conversation_id", "request_model") == ("context", "c", None)
        assert report({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a"}) is None
        for operation in ("execute_tool", "retrieval", "fetch_response", "search_memory", "plan"):
            assert report({**CHAT, "gen_ai.operation.name": operation}) is None

    def test_a_call_without_usage_stays_and_operations_may_be_missing_or_strange(self) -> None:
        bare = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
        assert facts(report(bare), "role", "input_tokens") == ("call", None)
        older = {key: value for key, value in CHAT.items() if key != "gen_ai.operation.name"}
        assert facts(report(older), "role", "operation") == ("call", "chat")
        assert facts(report({**CHAT, "gen_ai.operation.name": "dream"}), "role", "operation") == ("call", "dream")
        assert report({"gen_ai.operation.name": "dream", "gen_ai.request.model": "m"}) is None
        failed = {"gen_ai.system": "openai", "gen_ai.request.model": "m"}
        assert facts(report(failed, status="error"), "role", "status") == ("call", "Error")

    def test_what_else_a_call_tells(self) -> None:
        told = {
            **CHAT,
            "gen_ai.response.id": "chatcmpl-1",
            "gen_ai.response.model": "gpt-4o-2024-08-06",
            "gen_ai.response.finish_reasons": ["stop", "length"],
            "gen_ai.request.stream": True,
            "gen_ai.response.time_to_first_chunk": 0.25,
            "openai.response.service_tier": "Flex",
            "openai.request.service_tier": "auto",
            "gen_ai.usage.reasoning.output_tokens": 5,
            "gen_ai.usage.audio.input_tokens": 4,
            "gen_ai.usage.audio.cache_read.input_tokens": 2,
            READ: 60,
            "gen_ai.usage.audio.output_tokens": 3,
            "gen_ai.usage.cost": 0.1,
            "enduser.id": "u",
        }
        found = report(told)
        assert facts(found, "response_id", "response_model", "finish_reason") == (
            "chatcmpl-1",
            "gpt-4o-2024-08-06",
            "stop,length",
        )
        assert facts(found, "streaming", "time_to_first_token_ns", "service_tier") == (True, 250_000_000, "flex")
        assert facts(found, "requested_tier", "reasoning_tokens", "reported_cost_pico") == ("auto", 5, 10**11)
        assert facts(found, "input_audio_tokens", "cache_audio_read_tokens", "output_audio_tokens") == (4, 2, 3)
        assert facts(found, "claimed_user", "usage_flags") == ("u", None)

    def test_an_unknown_emitter_is_judged_by_its_numbers(self) -> None:
        unclear = report({**CLAUDE, READ: 60})
        assert facts(unclear, "input_tokens", "usage_flags") == (100, ["input_unclear:unknown_emitter"])
        larger = report({**CLAUDE, READ: 60, WRITE: 90})
        assert facts(larger, "input_tokens", "usage_flags") == (250, ["input_exclusive:cached_exceeds_input"])
        total = report({**CLAUDE, READ: 60, "gen_ai.usage.total_tokens": 180})
        assert facts(total, "input_tokens", "usage_flags") == (160, ["input_exclusive:total"])
        assert facts(report({**CHAT, READ: 60}), "input_tokens", "usage_flags") == (100, None)
        thought = report({**CHAT, "gen_ai.usage.reasoning_tokens": 50})
        assert facts(thought, "output_tokens", "usage_flags") == (70, ["output_exclusive:reasoning_exceeds_output"])

    def test_the_contrib_instrumentations(self) -> None:
        scope = "opentelemetry.instrumentation.genai.anthropic"
        found = report({**CLAUDE, READ: 60}, scope=scope, schema_url=SCHEMA)
        assert facts(found, "dialect", "input_tokens", "usage_flags") == ("otel_contrib", 100, None)
        handler = report(CHAT, scope="opentelemetry.util.genai.handler", schema_url=SCHEMA)
        assert facts(handler, "dialect") == ("otel_contrib",)
        blocked = report(
            {**CHAT, "error.type": "BLOCKED_SAFETY"}, scope="opentelemetry.instrumentation.google_genai", status="error"
        )
        assert facts(blocked, "dialect", "error_type") == ("otel_contrib", "BLOCKED_SAFETY")

    def test_bedrock_through_botocore_is_raw_and_partly_a_guess(self) -> None:
        scope = "opentelemetry.instrumentation.botocore.bedrock-runtime"
        bedrock = {**CLAUDE, "gen_ai.provider.name": "aws.bedrock", READ: 60}
        found = report(bedrock, scope=scope)
        assert facts(found, "dialect", "input_tokens", "usage_flags") == (
            "otel_botocore",
            160,
            ["input_exclusive:bedrock_raw"],
        )
        guess = report(
            {**CHAT, "gen_ai.system": "aws.bedrock", "gen_ai.request.model": "cohere.command-r-v1:0"}, scope=scope
        )
        assert facts(guess, "usage_flags") == (["estimated:botocore"],)

    def test_openai_agents_drop_cached_tokens(self) -> None:
        found = report(
            {**CHAT, "gen_ai.system": "openai"}, scope="opentelemetry.instrumentation.openai_agents", schema_url=SCHEMA
        )
        assert facts(found, "dialect", "rank", "usage_flags") == ("otel_openai_agents", 3, ["no_cache_counts"])
        agent = {**CHAT, "gen_ai.operation.name": "invoke_agent"}
        assert facts(report(agent, scope="opentelemetry.instrumentation.openai_agents"), "role") == ("rollup",)


class TestOpenInference:
    TOLD = {
        "openinference.span.kind": "LLM",
        "llm.provider": "anthropic",
        "llm.system": "anthropic",
        "llm.model_name": "claude-x",
        "llm.token_count.prompt": 100,
        "llm.token_count.completion": 20,
        "llm.token_count.prompt_details.cache_read": 60,
    }

    def see(self, library: str, **more: Any) -> dict[str, Any] | None:
        return report({**self.TOLD, **more}, scope=f"openinference.instrumentation.{library}")

    @pytest.mark.parametrize(
        ("library", "total", "flags"),
        [
            ("anthropic", 100, None),
            ("litellm", 100, None),
            ("agno", 160, ["input_exclusive:agno_raw"]),
            ("langchain", 100, ["input_unclear:langchain_guess"]),
            ("smolagents", 100, ["input_unclear:unknown_emitter"]),
        ],
    )
    def test_what_prompt_means_is_said_by_the_library(self, library: str, total: int, flags: list[str] | None) -> None:
        assert facts(self.see(library), "input_tokens", "usage_flags") == (total, flags)

    def test_the_claude_agent_sdks_wrapper_is_the_only_record(self) -> None:
        more = {"openinference.span.kind": "AGENT", "llm.cost.total": 0.25, "llm.token_count.total": 120}
        scope = "openinference.instrumentation.claude_agent_sdk"
        found = report({**self.TOLD, **more}, scope=scope, version="0.1.12")
        assert facts(found, "role", "rank", "input_tokens") == ("rollup", 3, 160)
        assert facts(found, "reported_cost_pico", "usage_flags") == (
            250 * 10**9,
            ["input_exclusive:claude_agent_sdk_raw"],
        )
        added = report({**self.TOLD, **more}, scope=scope, version="0.1.22")
        assert facts(added, "input_tokens", "usage_flags") == (100, None)
        del more["llm.cost.total"]
        started = report({**self.TOLD, **more}, scope=scope, version="0.1.22")
        assert facts(started, "usage_flags") == (["estimated:claude_agent_sdk"],)

    def test_wrappers_and_others(self) -> None:
        assert facts(self.see("smolagents", **{"openinference.span.kind": "AGENT"}), "role") == ("rollup",)
        crew = {"openinference.span.kind": "CHAIN", "llm.token_count.total": 500, "session.id": "s"}
        assert facts(report(crew, scope="openinference.instrumentation.crewai"), "role", "conversation_id") == (
            "context",
            "s",
        )
        for kind in ("TOOL", "RETRIEVER", "GUARDRAIL", "EVALUATOR", "PROMPT"):
            assert (
                report({"openinference.span.kind": kind, "session.id": "s"}, scope="openinference.instrumentation.x")
                is None
            )

    def test_an_id_is_taken_from_an_answer_and_not_from_what_the_model_wrote(self) -> None:
        written = {"output.value": '{"id": "ticket-1", "answer": 42}'}
        assert facts(self.see("openai", **written), "response_id") == (None,)
        langchain = {
            "output.value": json.dumps(
                {"generations": [[{"message": {"kwargs": {"id": "run-1", "response_metadata": {"id": "chatcmpl-5"}}}}]]}
            )
        }
        assert facts(self.see("langchain", **langchain), "response_id") == ("chatcmpl-5",)
        broken = {"output.value": '{"id": "chatcmpl-5", "model": "gpt'}
        assert facts(self.see("openai", **broken), "response_id") == (None,)
        responses = {"output.value": '{"id": "resp_1", "model": "gpt-5", "object": "response", "service_tier": "flex"}'}
        assert facts(self.see("openai", **responses), "response_id", "service_tier") == ("resp_1", "flex")

    def test_embeddings_use_another_key_and_errors_are_events(self) -> None:
        told = {"openinference.span.kind": "EMBEDDING", "embedding.model_name": "e", "llm.token_count.prompt": 5}
        found = report(told, scope="openinference.instrumentation.openai")
        assert facts(found, "operation", "request_model", "input_tokens") == ("embeddings", "e", 5)
        exception = event("exception", {"exception.type": "openai.RateLimitError"})
        failed = report(
            {"openinference.span.kind": "LLM", "llm.model_name": "gpt-4o"},
            scope="openinference.instrumentation.openai",
            status="error",
            events=[exception],
        )
        assert facts(failed, "error_type", "request_model", "response_model") == (
            "openai.RateLimitError",
            "gpt-4o",
            None,
        )

    def test_the_first_token_is_an_event_and_google_has_two_hosts(self) -> None:
        first = event("First Token Stream Event", at_ns=NOON_NS + 250_000_000)
        found = report(
            self.TOLD, scope="openinference.instrumentation.openai", events=[first, event("First Token Stream Event")]
        )
        assert facts(found, "time_to_first_token_ns") == (250_000_000,)
        vertex = {"llm.provider": "google", "llm.system": "vertexai", "llm.model_name": "gemini-2.5-flash"}
        assert facts(self.see("vertexai", **vertex), "provider") == ("gcp.vertex_ai",)
        assert facts(self.see("google_genai", **{**vertex, "llm.system": "google"}), "provider") == ("gcp.gen_ai",)


class TestTraceloop:
    SCOPE = "opentelemetry.instrumentation.openai"

    def test_old_spellings(self) -> None:
        told = {
            "llm.request.type": "chat",
            "gen_ai.system": "OpenAI",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.usage.prompt_tokens": 100,
            "gen_ai.usage.completion_tokens": 20,
            "gen_ai.usage.cache_read_input_tokens": 60,
            "llm.usage.total_tokens": 120,
            "llm.usage.reasoning_tokens": 5,
            "llm.is_streaming": True,
            "llm.user": "u",
            "llm.headers": "{'authorization': 'Bearer secret'}",
            "llm.response.finish_reason": "tool_calls",
        }
        found = report(told, scope=self.SCOPE, version="0.40.0")
        assert facts(found, "dialect", "provider", "input_tokens", "cache_read_tokens") == (
            "traceloop",
            "openai",
            100,
            60,
        )
        assert facts(found, "reasoning_tokens", "streaming", "claimed_user", "finish_reason") == (
            5,
            True,
            "u",
            "tool_call",
        )
        assert facts(found, "usage_flags") == (["estimated:tiktoken"],)
        assert facts(report(told, scope=self.SCOPE, version="0.47.5"), "usage_flags") == (None,)
        assert "secret" not in str(found)

    def test_workflows_and_what_is_set_on_them_last_are_nothing(self) -> None:
        told = {"traceloop.span.kind": "workflow", "traceloop.association.properties.user_id": "u"}
        assert report(told, scope="traceloop.tracer", name="joke.workflow") is None
        task = {"traceloop.span.kind": "task", "gen_ai.operation.name": "task"}
        assert report(task, scope="traceloop.tracer") is None

    def test_anthropic_is_summed_and_invoke_model_is_raw(self) -> None:
        anthropic = report({**CLAUDE, READ: 60}, scope="opentelemetry.instrumentation.anthropic", version="0.62.4")
        assert facts(anthropic, "dialect", "input_tokens", "usage_flags") == ("traceloop", 100, None)
        bedrock = {**CLAUDE, "gen_ai.provider.name": "AWS", READ: 60}
        found = report(bedrock, scope="opentelemetry.instrumentation.bedrock", version="0.62.4")
        assert facts(found, "provider", "input_tokens", "usage_flags") == (
            "aws.bedrock",
            160,
            ["input_exclusive:bedrock_raw"],
        )

    def test_capitals_and_frameworks(self) -> None:
        for system, provider in (
            ("Azure", "azure.ai.openai"),
            ("AWS", "aws.bedrock"),
            ("Google", "gcp.gen_ai"),
            ("OpenRouter", "openrouter"),
        ):
            found = report({**CHAT, "gen_ai.provider.name": system, "gen_ai.usage.total_tokens": 120}, scope=self.SCOPE)
            assert facts(found, "provider") == (provider,)
        chain = report(
            {**CHAT, "llm.usage.total_tokens": 120},
            scope="opentelemetry.instrumentation.langchain",
            name="ChatOpenAI.chat",
        )
        assert facts(chain, "dialect", "rank") == ("traceloop", 3)


class TestVercel:
    def see(self, operation: str, more: dict[str, Any], **how: Any) -> dict[str, Any] | None:
        return report({"ai.operationId": operation, "ai.model.id": "m", **more}, scope="ai", name=operation, **how)

    def test_names_of_the_counts_by_version(self) -> None:
        v4 = {"ai.model.provider": "openai.chat", "ai.usage.promptTokens": 100, "ai.usage.completionTokens": 20}
        found = self.see("ai.generateText.doGenerate", v4)
        assert facts(found, "dialect", "role", "provider", "input_tokens") == ("vercel_ai", "call", "openai", 100)
        nan = self.see(
            "ai.streamText.doStream", {"ai.usage.promptTokens": float("nan"), "ai.usage.completionTokens": float("nan")}
        )
        assert facts(nan, "role", "input_tokens", "streaming") == ("call", None, True)
        embed = self.see("ai.embed.doEmbed", {"ai.model.provider": "openai.embedding", "ai.usage.tokens": 7})
        assert facts(embed, "operation", "input_tokens") == ("embeddings", 7)

    def test_functions_are_wrappers_and_tools_nothing(self) -> None:
        for name in ("ai.generateText", "ai.streamText", "ai.generateObject", "ai.embedMany", "ai.rerank"):
            assert facts(self.see(name, {}), "role") == ("wrapper",)
        assert self.see("ai.toolCall", {}) is None

    @pytest.mark.parametrize(
        ("more", "total", "flags"),
        [
            # AI SDK 5 with @ai-sdk/anthropic 2.x: the raw number.
            ({"ai.usage.cachedInputTokens": 60}, 160, ["input_unclear:package_version"]),
            # AI SDK 6 with 3.x: everything.
            (
                {"ai.usage.cachedInputTokens": 60, "ai.usage.inputTokenDetails.noCacheTokens": 40},
                100,
                ["input_unclear:package_version"],
            ),
            # Anthropic's own number beside it settles it, both ways.
            (
                {
                    "ai.response.providerMetadata": '{"anthropic": {"usage": {"input_tokens": 40, "cache_read_input_tokens": 60}}}'
                },
                100,
                None,
            ),
            (
                {
                    "ai.response.providerMetadata": '{"anthropic": {"usage": {"input_tokens": 100, "cache_read_input_tokens": 60}}}'
                },
                160,
                ["input_exclusive:uncached_equals_input"],
            ),
        ],
    )
    def test_anthropics_input_depends_on_a_package_that_is_not_told(
        self, more: dict[str, Any], total: int, flags: list[str] | None
    ) -> None:
        told = {
            "ai.model.provider": "anthropic.messages",
            "ai.usage.inputTokens": 100,
            "ai.usage.outputTokens": 20,
            **more,
        }
        assert facts(self.see("ai.generateText.doGenerate", told), "input_tokens", "usage_flags") == (total, flags)

    def test_bedrock_and_google(self) -> None:
        bedrock = {
            "ai.model.provider": "amazon-bedrock",
            "ai.usage.inputTokens": 100,
            "ai.usage.outputTokens": 20,
            "ai.usage.cachedInputTokens": 60,
            "ai.usage.inputTokenDetails.noCacheTokens": 40,
        }
        found = self.see("ai.generateText.doGenerate", bedrock)
        assert facts(found, "provider", "input_tokens", "usage_flags") == (
            "aws.bedrock",
            160,
            ["input_unclear:package_version"],
        )
        total = self.see("ai.generateText.doGenerate", {**bedrock, "ai.usage.totalTokens": 180})
        assert facts(total, "usage_flags") == (["input_exclusive:total"],)
        seven = self.see("ai.generateText.doGenerate", {**bedrock, "ai.request.headers.user-agent": "ai/7.0.77"})
        assert facts(seven, "input_tokens", "usage_flags") == (100, None)
        google = {"ai.model.provider": "google.generative-ai", "ai.usage.inputTokens": 100, "ai.usage.outputTokens": 20}
        thought = self.see("ai.generateText.doGenerate", {**google, "ai.usage.reasoningTokens": 5})
        assert facts(thought, "provider", "output_tokens", "usage_flags") == (
            "gcp.gemini",
            25,
            ["output_unclear:package_version"],
        )
        three = {**google, "ai.usage.reasoningTokens": 5, "ai.usage.inputTokenDetails.noCacheTokens": 100}
        assert facts(self.see("ai.generateText.doGenerate", three), "output_tokens") == (20,)

    def test_ids_that_the_sdk_makes_up_the_gateways_cost_and_milliseconds(self) -> None:
        metadata = {
            "gateway": {"cost": "0.00125", "routing": {"finalProvider": "anthropic"}},
            "openai": {"serviceTier": "flex"},
        }
        told = {
            "ai.model.provider": "gateway",
            "ai.response.id": "aitxt-abc",
            "ai.response.msToFirstChunk": 12.5,
            "ai.response.providerMetadata": json.dumps(metadata),
            "ai.telemetry.metadata.userId": "u",
            "ai.telemetry.metadata.tags": ["b", "a"],
        }
        found = self.see("ai.streamText.doStream", told)
        assert facts(found, "response_id", "provider", "reported_cost_pico") == (None, "anthropic", 1_250_000_000)
        assert facts(found, "time_to_first_token_ns", "service_tier", "claimed_tags") == (
            12_500_000,
            "flex",
            ["a", "b"],
        )

    def test_version_7_nests_embeddings_in_a_span_of_the_same_name(self) -> None:
        outer = {"gen_ai.operation.name": "embeddings", "gen_ai.request.model": "e", "gen_ai.provider.name": "openai"}
        assert facts(report(outer, scope="gen_ai", kind="client"), "dialect", "role") == ("vercel_ai_v7", "wrapper")
        inner = {**outer, "gen_ai.usage.input_tokens": 7}
        assert facts(report(inner, scope="gen_ai", kind="client"), "role", "input_tokens") == ("call", 7)
        agent = {**CHAT, "gen_ai.operation.name": "invoke_agent"}
        assert facts(report(agent, scope="gen_ai"), "role") == ("rollup",)
        assert report({**CHAT, "gen_ai.operation.name": "agent_step"}, scope="gen_ai") is None
        timed = {**CHAT, "gen_ai.client.operation.time_to_first_chunk": 0.25, READ: 60}
        assert facts(report(timed, scope="gen_ai"), "time_to_first_token_ns", "usage_flags") == (250_000_000, None)


class TestPydantic:
    def test_runs_sum_under_new_names_and_old(self) -> None:
        new = {"gen_ai.operation.name": "invoke_agent", "gen_ai.aggregated_usage.input_tokens": 100}
        assert facts(report(new, scope="pydantic-ai"), "role", "input_tokens") == ("rollup", 100)
        old = {"agent_name": "a", "gen_ai.usage.input_tokens": 100, "model_name": "m"}
        assert facts(report(old, scope="pydantic-ai", name="agent run"), "role", "input_tokens") == ("rollup", 100)
        assert (
            report({"gen_ai.tool.name": "t", "gen_ai.conversation.id": ""}, scope="pydantic-ai", name="running tool")
            is None
        )

    def test_parts_told_twice_are_not_added(self) -> None:
        told = {
            **CLAUDE,
            "gen_ai.provider.name": "google-gla",
            READ: 60,
            "gen_ai.usage.details.cache_read_tokens": 60,
            "gen_ai.usage.details.cache_read_input_tokens": 60,
            "gen_ai.usage.details.thoughts_tokens": 5,
            "gen_ai.conversation.id": "",
            "operation.cost": 0.001,
            "gen_ai.client.operation.time_to_first_chunk": 0.25,
        }
        found = report(told, scope="pydantic-ai")
        assert facts(found, "provider", "input_tokens", "cache_read_tokens", "reasoning_tokens") == (
            "gcp.gemini",
            100,
            60,
            5,
        )
        assert facts(found, "conversation_id", "reported_cost_pico", "time_to_first_token_ns") == (
            None,
            10**9,
            250_000_000,
        )

    def test_logfires_streams_are_told_by_a_second_record(self) -> None:
        data = '{"model": "gpt-4o", "stream": true, "service_tier": "flex"}'
        asked = {"request_data": data, "gen_ai.request.model": "gpt-4o", "logfire.span_type": "span"}
        assert report(asked, scope="logfire.openai", kind="client") is None
        failed = report(asked, scope="logfire.openai", status="error")
        assert facts(failed, "role", "requested_tier", "provider") == ("call", "flex", "openai")
        log = {**asked, "logfire.span_type": "log", "duration": 1.5, "gen_ai.usage.input_tokens": 100}
        assert facts(report(log, scope="logfire.openai"), "dialect", "role", "input_tokens") == ("logfire", "call", 100)
        assert report({**log, "logfire.span_type": "pending_span"}, scope="logfire.openai") is None

    def test_logfires_raw_usage_shows_what_input_means(self) -> None:
        raw = '{"input_tokens": 40, "cache_read_input_tokens": 60, "cache_creation": {"ephemeral_1h_input_tokens": 0}}'
        told = {**CLAUDE, "request_data": "{}", "gen_ai.usage.raw": raw}
        assert facts(report(told, scope="logfire.anthropic"), "input_tokens", "usage_flags") == (100, None)
        exclusive = report({**told, "gen_ai.usage.input_tokens": 40}, scope="logfire.anthropic")
        assert facts(exclusive, "input_tokens", "usage_flags") == (100, ["input_exclusive:cached_exceeds_input"])

    def test_logfires_openai_agents_name_no_operation(self) -> None:
        raw = '{"input_tokens": 100, "input_tokens_details": {"cached_tokens": 60}, "output_tokens": 20}'
        told = {
            "gen_ai.system": "openai",
            "gen_ai.request.model": "gpt-5",
            "gen_ai.usage.raw": raw,
            "response_id": "resp_1",
        }
        told |= {"gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 20}
        found = report(told, scope="logfire.openai_agents", name="Responses API with 'gpt-5'")
        assert facts(found, "role", "rank", "operation", "response_id") == ("call", 3, "chat", "resp_1")
        assert facts(found, "input_tokens", "cache_read_tokens", "usage_flags") == (100, 60, None)

    def test_logfires_claude_agent_has_the_truth_on_the_wrapper(self) -> None:
        agent = {**CLAUDE, "gen_ai.operation.name": "invoke_agent", "operation.cost": 0.25}
        root = span("invoke_agent", agent)
        child = span("chat", {**CHAT, "gen_ai.usage.partial.input_tokens": 3}, parent=root)
        found = reports(request(scope="logfire.claude_agent_sdk", spans=[root, child]))
        assert [(one["role"], one["reported_cost_pico"]) for one in found] == [("rollup", 250 * 10**9)]


class TestMlflow:
    def see(self, outputs: Any = None, **more: Any) -> dict[str, Any] | None:
        told = {
            "mlflow.spanType": '"CHAT_MODEL"',
            "mlflow.llm.model": '"claude-sonnet-4-5"',
            "mlflow.llm.provider": '"anthropic"',
            "mlflow.chat.tokenUsage": '{"input_tokens": 100, "output_tokens": 20, "total_tokens": 120, "cache_read_input_tokens": 60}',
            "mlflow.llm.cost": '{"input_cost": 0.0005, "output_cost": 0.0005, "total_cost": 0.001}',
            "session.id": '"s"',
            "user.id": "u",
            **({"mlflow.spanOutputs": json.dumps(outputs)} if outputs else {}),
            **more,
        }
        return report(told, name="Messages.create")

    def test_every_value_is_json_text(self) -> None:
        found = self.see()
        assert facts(found, "dialect", "role", "operation", "provider") == ("mlflow", "call", "chat", "anthropic")
        assert facts(found, "request_model", "reported_cost_pico") == ("claude-sonnet-4-5", 10**9)
        assert facts(found, "conversation_id", "claimed_user") == ("s", "u")
        assert facts(found, "input_tokens", "usage_flags") == (160, ["input_unclear:mlflow_version"])

    def test_the_answer_settles_what_input_means_and_has_the_id(self) -> None:
        usage = {"input_tokens": 100, "cache_read_input_tokens": 60, "service_tier": "standard"}
        found = self.see({"id": "msg_1", "model": "claude-sonnet-4-5-20250929", "usage": usage})
        assert facts(found, "response_id", "response_model", "service_tier") == (
            "msg_1",
            "claude-sonnet-4-5-20250929",
            "standard",
        )
        assert facts(found, "input_tokens", "usage_flags") == (160, ["input_exclusive:uncached_equals_input"])
        newer = self.see({"id": "msg_1", "model": "c", "usage": {**usage, "input_tokens": 40}})
        assert facts(newer, "input_tokens", "usage_flags") == (100, None)

    def test_since_it_tells_the_one_hour_part_input_holds_everything(self) -> None:
        usage = {"input_tokens": 190, "output_tokens": 20, "total_tokens": 210, "cache_read_input_tokens": 60}
        usage |= {"cache_creation_input_tokens": 30, "cache_creation_input_tokens_above_1hr": 10}
        found = self.see(**{"mlflow.chat.tokenUsage": json.dumps(usage)})
        assert facts(found, "input_tokens", "cache_write_1h_tokens", "usage_flags") == (190, 10, None)

    def test_agents_wrap_and_the_gateway_ranks_above_the_client(self) -> None:
        assert facts(self.see(**{"mlflow.spanType": '"AGENT"'}), "role", "response_id") == ("rollup", None)
        assert report({"mlflow.spanType": '"TOOL"'}) is None
        assert facts(report({"mlflow.spanType": '"CHAIN"', "session.id": "s"}), "role", "conversation_id") == (
            "context",
            "s",
        )
        assert facts(self.see(), "rank") == (2,)
        assert facts(self.see(**{"mlflow.gateway.linkedTraceId": '"t"'}), "rank") == (1,)

    def test_rewritten_to_the_conventions_it_loses_what_was_cached(self) -> None:
        told = {
            "gen_ai.operation.name": "generate_content",
            "gen_ai.request.model": "m",
            "gen_ai.usage.input_tokens": 100,
        }
        found = report(told, scope="mlflow.tracing.provider")
        assert facts(found, "dialect", "role", "usage_flags") == ("mlflow_semconv", "call", ["no_cache_counts"])
        retriever = {"gen_ai.operation.name": "execute_tool", "gen_ai.usage.input_tokens": 100}
        assert report(retriever, scope="mlflow.tracing.provider") is None

    def test_a_chunk_is_the_first_token(self) -> None:
        chunk = event("mlflow.chunk.item.0", at_ns=NOON_NS + 250_000_000)
        assert facts(report({"mlflow.spanType": '"LLM"'}, events=[chunk]), "time_to_first_token_ns") == (250_000_000,)


class TestLangfuse:
    def see(self, usage: dict[str, Any], **more: Any) -> dict[str, Any] | None:
        told = {
            "langfuse.observation.type": "generation",
            "langfuse.observation.model.name": "claude-sonnet-4-5",
            "langfuse.observation.usage_details": json.dumps(usage),
            **more,
        }
        return report(told, scope="langfuse-sdk")

    def test_one_attribute_two_meanings(self) -> None:
        openai = {"prompt_tokens": 100, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 60}}
        assert facts(self.see(openai), "input_tokens", "cache_read_tokens", "usage_flags") == (100, 60, None)
        langchain = {"input": 40, "output": 15, "total": 120, "input_cache_read": 60, "output_reasoning": 5}
        found = self.see(langchain)
        assert facts(found, "input_tokens", "output_tokens", "cache_read_tokens") == (100, 20, 60)
        assert facts(found, "usage_flags") == (
            ["input_exclusive:langchain_subtracts", "output_exclusive:langchain_subtracts"],
        )
        raw = {"input_tokens": 40, "output_tokens": 20, "cache_read_input_tokens": 30}
        assert facts(self.see(raw), "input_tokens", "usage_flags") == (70, ["input_unclear:raw_usage"])

    def test_level_cost_instant_and_identity(self) -> None:
        more = {
            "langfuse.observation.level": "ERROR",
            "langfuse.observation.cost_details": '{"input": 0.0005, "output": 0.0005}',
            "langfuse.observation.completion_start_time": '"2026-11-24T12:00:00.250000Z"',
            "langfuse.user.id": "u",
            "session.id": "s",
            "langfuse.trace.tags": ["b", "a"],
        }
        found = self.see({"input": 1, "output": 1}, **more)
        assert facts(found, "status", "reported_cost_pico", "time_to_first_token_ns") == ("Error", 10**9, 250_000_000)
        assert facts(found, "streaming", "claimed_user", "conversation_id", "claimed_tags") == (
            True,
            "u",
            "s",
            ["a", "b"],
        )

    def test_other_observations(self) -> None:
        for type_ in ("tool", "retriever", "event", "guardrail", "evaluator"):
            assert report({"langfuse.observation.type": type_}, scope="langfuse-sdk") is None
        agent = self.see({"input": 5, "output": 1}, **{"langfuse.observation.type": "agent"})
        assert facts(agent, "role") == ("rollup",)
        embedding = self.see({"input": 5}, **{"langfuse.observation.type": "embedding"})
        assert facts(embedding, "role", "operation") == ("call", "embeddings")


class TestLangsmith:
    TOLD = {
        "langsmith.span.kind": "llm",
        "gen_ai.operation.name": "chat",
        "gen_ai.system": "langchain",
        "langsmith.metadata.ls_provider": "anthropic",
        "gen_ai.request.model": "claude-sonnet-4-5",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.total_tokens": 120,
        "gen_ai.usage.input_token_details": "{'cache_read': 60, 'ephemeral_1h_input_tokens': 0}",
        "gen_ai.usage.output_token_details": "{'reasoning': 5}",
        "langsmith.metadata.thread_id": "t",
        "langsmith.span.tags": "b, a",
        "gen_ai.completion": '{"generations": [[{"message": {"kwargs": {"response_metadata": {"id": "msg_1"}}}}]]}',
    }

    def test_reprs_joined_tags_and_the_provider_that_is_none(self) -> None:
        found = report(self.TOLD, scope="langsmith")
        assert facts(found, "dialect", "provider", "cache_read_tokens", "reasoning_tokens") == (
            "langsmith",
            "anthropic",
            60,
            5,
        )
        assert facts(found, "claimed_tags", "conversation_id", "response_id") == (["a", "b"], "t", "msg_1")
        assert facts(found, "input_tokens", "usage_flags") == (100, ["input_unclear:usage_metadata"])
        nobody = {**self.TOLD, "langsmith.metadata.ls_provider": ""}
        assert facts(report(nobody, scope="langsmith"), "provider") == (None,)

    def test_langchains_details_are_inside_its_message(self) -> None:
        message = {
            "id": "run--1",
            "usage_metadata": {"input_token_details": {"cache_read": 60, "cache_creation": 30}},
            "response_metadata": {"id": "msg_2"},
        }
        told = {key: value for key, value in self.TOLD.items() if not key.endswith("_details")}
        told["gen_ai.completion"] = json.dumps({"generations": [[{"message": {"kwargs": message}}]]})
        found = report({**told, "gen_ai.response.id": "run--1"}, scope="langsmith")
        assert facts(found, "cache_read_tokens", "cache_write_tokens", "response_id") == (60, 30, "msg_2")

    def test_the_operation_lies(self) -> None:
        for kind in ("prompt", "retriever", "tool"):
            assert report({**self.TOLD, "langsmith.span.kind": kind}, scope="langsmith") is None
        chain = report({**self.TOLD, "langsmith.span.kind": "chain"}, scope="langsmith")
        assert facts(chain, "role", "response_id") == ("rollup", None)
        embedding = report({**self.TOLD, "langsmith.span.kind": "embedding"}, scope="langsmith")
        assert facts(embedding, "operation") == ("embeddings",)


class TestStrands:
    def see(self, model: str, **more: Any) -> dict[str, Any] | None:
        told = {
            "gen_ai.operation.name": "chat",
            "gen_ai.system": "strands-agents",
            "gen_ai.request.model": model,
            "gen_ai.usage.prompt_tokens": 100,
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.completion_tokens": 20,
            "gen_ai.usage.output_tokens": 20,
            "gen_ai.usage.cache_read_input_tokens": 60,
            "gen_ai.usage.cache_write_input_tokens": 0,
            "gen_ai.server.time_to_first_token": 250,
            **more,
        }
        return report(told, scope="strands.telemetry.tracer", name="chat")

    def test_the_provider_is_nobody_and_the_first_token_in_milliseconds(self) -> None:
        found = self.see("gpt-4o")
        assert facts(found, "dialect", "provider", "time_to_first_token_ns") == ("strands", None, 250_000_000)
        assert facts(found, "input_tokens", "usage_flags") == (100, None)

    @pytest.mark.parametrize(
        ("model", "total", "flags"),
        [
            ("us.anthropic.claude-sonnet-4-5-v1:0", 160, ["input_exclusive:strands_bedrock"]),
            ("claude-sonnet-4-5", 160, ["input_unclear:strands_model"]),
            ("anthropic/claude-sonnet-4-5", 100, None),
            ("mystery", 100, ["input_unclear:strands_model"]),
        ],
    )
    def test_what_input_means_is_said_by_the_model(self, model: str, total: int, flags: list[str] | None) -> None:
        assert facts(self.see(model), "input_tokens", "usage_flags") == (total, flags)

    def test_why_it_stopped_is_in_an_event(self) -> None:
        choice = event("gen_ai.choice", {"finish_reason": "end_turn"})
        told = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
        found = report(told, scope="strands.telemetry.tracer", name="chat", events=[choice])
        assert facts(found, "finish_reason") == ("stop",)

    def test_an_agents_lifelong_sum(self) -> None:
        agent = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.usage.input_tokens": 9000,
            "gen_ai.usage.output_tokens": 1,
        }
        assert facts(report(agent, scope="strands.telemetry.tracer", name="invoke_agent x"), "role") == ("rollup",)
        assert (
            report({"event_loop.cycle_id": "1"}, scope="strands.telemetry.tracer", name="execute_event_loop_cycle")
            is None
        )


def test_semantic_kernels_reprs_and_singular_finish_reason() -> None:
    told = {
        **CHAT,
        "gen_ai.provider.name": "googleai",
        "gen_ai.operation.name": "text_completions",
        "gen_ai.response.finish_reason": "Stop, Length",
        "error.type": "<class 'openai.RateLimitError'>",
    }
    found = report(told, scope="semantic_kernel.utils.telemetry.model_diagnostics.decorators", status="error")
    assert facts(found, "dialect", "operation", "provider") == ("semantic_kernel", "text_completion", "gcp.gemini")
    assert facts(found, "finish_reason", "error_type") == ("stop,length", "openai.RateLimitError")
    assert facts(found, "usage_flags") == (["no_cache_counts"],)
    dotnet = report(CHAT, scope="Microsoft.SemanticKernel.Diagnostics", kind="client")
    assert facts(dotnet, "dialect", "role") == ("semantic_kernel", "call")


class TestModelServers:
    def test_vllm_names_neither_model_nor_operation(self) -> None:
        told = {
            "gen_ai.usage.prompt_tokens": 100,
            "gen_ai.usage.completion_tokens": 20,
            "gen_ai.request.id": "chatcmpl-abc",
            "gen_ai.latency.e2e": 1.5,
            "gen_ai.latency.time_to_first_token": 0.25,
            "gen_ai.response.finish_reasons": '["stop"]',
        }
        found = report(told, scope="vllm.llm_engine", name="llm_request", kind="server")
        assert facts(found, "dialect", "role", "rank", "provider") == ("vllm", "call", 4, "vllm")
        assert facts(found, "input_tokens", "response_id", "time_to_first_token_ns") == (
            100,
            "chatcmpl-abc",
            250_000_000,
        )
        assert facts(found, "finish_reason") == ("stop",)
        loading = report({"code.function": "load"}, resource={"vllm.process_id": 7}, name="load_model")
        assert loading is None

    def test_sglang_tells_cached_tokens_and_its_stages_nothing(self) -> None:
        told = {
            "gen_ai.usage.prompt_tokens": 100,
            "gen_ai.usage.completion_tokens": 20,
            "gen_ai.usage.cached_tokens": 60,
        }
        found = report({**told, "gen_ai.response.model": "m"}, scope="sglang server", name=" Req 12345678")
        assert facts(found, "dialect", "input_tokens", "cache_read_tokens") == ("sglang", 100, 60)
        assert report({"module": "scheduler"}, scope="sglang server", name="prefill") is None

    def test_tgi_has_no_counts_at_all(self) -> None:
        told = {"total_time": "1.23s", "inference_time": "1.1s", "time_per_token": "45.6ms", "seed": "Some(1)"}
        found = report(told, resource={"service.name": "text-generation-inference.router"}, name="chat_completions")
        assert facts(found, "dialect", "role", "operation", "input_tokens") == ("tgi", "call", "chat", None)


def test_usage_of_a_stranger_under_a_known_name() -> None:
    found = report({"llm.usage.prompt_tokens": "100", "llm.model": "m"}, scope="mine")
    assert facts(found, "dialect", "role", "input_tokens", "request_model") == ("unknown_usage", "call", 100, "m")
    assert report({"llm.usage.prompt_tokens": 0}, scope="mine") is None
    assert report({"http.route": "/", "db.system": "x"}, scope="mine") is None
