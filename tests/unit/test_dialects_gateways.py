"""Each gateway's spans as its page tells them, and every trap there as a case."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.dialects_kit import CHAT, CLAUDE, READ, WRITE, facts, report, reports
from tests.spans_kit import event, request, span


class TestLiteLLM:
    V1 = {
        "llm.request.type": "acompletion",
        "gen_ai.system": "openai",
        "litellm.provider.model": "openai/gpt-4o",
        "litellm.model_group": "smart",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": "smart",
        "gen_ai.usage.prompt_tokens": "1000",
        "gen_ai.usage.completion_tokens": 50.0,
        "litellm.call_id": "c-1",
        "gen_ai.response.id": "chatcmpl-1",
        "llm.is_streaming": "True",
        "metadata.user_api_key_hash": "abc",
        "metadata.user_api_key_alias": "",
        "metadata.user_api_key_team_alias": "None",
        "metadata.user_api_key_team_id": "team-7",
        "metadata.usage_object": "{'prompt_tokens': 1000, 'prompt_tokens_details': {'cached_tokens': 600, 'x': None}, "
        "'completion_tokens_details': {'reasoning_tokens': 30}, 'note': \"it's\"}",
        "metadata.requester_metadata": "{'app': 'bot', 'session_id': 's-1', 'tags': ['b', 'a', 'b'], 'ok': True}",
    }

    @pytest.mark.parametrize(
        ("scope", "name"),
        [("litellm", "litellm_request"), ("fastapi", "fastapi.endpoint"), ("litellm", "Received Proxy Server Request")],
    )
    def test_the_calls_attributes_on_whatever_span_is_active(self, scope: str, name: str) -> None:
        found = report(self.V1, scope=scope, name=name, kind="server", resource={"service.name": "proxy"})
        assert found is not None
        assert found["source"] == f"{scope}@proxy"
        assert facts(found, "role", "dialect", "rank", "operation") == ("call", "litellm_v1", 1, "chat")
        assert facts(found, "request_model", "response_model", "upstream_model") == ("smart", "smart", "gpt-4o")
        assert facts(found, "input_tokens", "output_tokens", "cache_read_tokens", "reasoning_tokens") == (
            1000,
            50,
            600,
            30,
        )
        assert facts(found, "response_id", "call_hint", "streaming") == ("chatcmpl-1", "c-1", True)
        assert facts(found, "gateway_team", "gateway_key_alias", "gateway_key_hash") == ("team-7", None, "abc")
        assert facts(found, "claimed_app", "conversation_id", "claimed_tags") == ("bot", "s-1", ["a", "b"])

    def test_the_raw_request_is_a_copy_of_the_call_in_the_providers_own_words(self) -> None:
        openai = {
            "llm.openai.id": "chatcmpl-1", "llm.openai.model": "gpt-4o-2024", "llm.openai.object": "chat.completion", "llm.openai.service_tier": "flex",
            "llm.openai.usage": "{'prompt_tokens': 100, 'completion_tokens': 20, 'total_tokens': 120, 'prompt_tokens_details': {'cached_tokens': 60}}",
            "metadata.user_api_key_team_id": "team-7",
        }  # fmt: skip
        found = report(openai, scope="litellm", name="raw_gen_ai_request", resource={"service.name": "proxy"})
        assert facts(found, "role", "source", "rank", "operation", "provider") == ("copy", "litellm@proxy", 1, "chat", "openai")  # fmt: skip
        assert facts(found, "response_model", "response_id", "service_tier", "gateway_team") == ("gpt-4o-2024", "chatcmpl-1", "flex", "team-7")  # fmt: skip
        assert facts(found, "input_tokens", "output_tokens", "cache_read_tokens", "usage_flags") == (100, 20, 60, None)
        anthropic = {
            "llm.anthropic.id": "msg_1", "llm.anthropic.model": "claude", "llm.anthropic.usage":
            "{'input_tokens': 10, 'cache_read_input_tokens': 90, 'cache_creation_input_tokens': 5, 'output_tokens': 7}",
        }  # fmt: skip
        found = report(anthropic, scope="litellm", name="raw_gen_ai_request")
        assert facts(found, "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens") == (105, 7, 90, 5)  # fmt: skip
        assert facts(found, "provider", "usage_flags") == ("anthropic", ["input_exclusive:raw_response"])
        embeddings = {"llm.openai.model": "text-embedding-3-small", "llm.openai.object": "list"}
        assert facts(report(embeddings, scope="litellm", name="raw_gen_ai_request"), "operation") == ("embeddings",)

    @pytest.mark.parametrize("said", [{"llm.gemini.stringified_raw_response": "…"}, {"llm.openai.usage": "no repr", "llm.openai.id": "x"}, {}])  # fmt: skip
    def test_a_raw_request_that_says_nothing_usable_is_a_copy_without_counts(self, said: dict[str, Any]) -> None:
        found = report({**said, "metadata.user_api_key_team_id": "team-7"}, scope="litellm", name="raw_gen_ai_request")
        assert facts(found, "role", "input_tokens", "output_tokens", "gateway_team") == ("copy", None, None, "team-7")

    @pytest.mark.parametrize(("scope", "name"), [("fastapi", "fastapi.dependencies"), ("litellm", "auth /chat/completions")])  # fmt: skip
    def test_where_the_proxy_authenticates_it_says_who_asked(self, scope: str, name: str) -> None:
        who = {"litellm.team.alias": "Search", "litellm.api_key.hash": "b0", "gen_ai.request.model": "smart"}
        found = report(who, scope=scope, name=name, resource={"service.name": "proxy"})
        assert facts(found, "role", "gateway_team", "gateway_key_hash", "rank") == ("caller", "Search", "b0", 1)
        assert facts(found, "request_model", "operation") == (None, None)
        assert facts(found, "source") == ("litellm@proxy",), "the calls' own, whoever made this span"
        assert report({}, scope=scope, name=name) is None

    def test_an_id_that_is_the_call_id_again_is_none(self) -> None:
        found = report({**self.V1, "gen_ai.response.id": "c-1"}, scope="litellm", name="litellm_request")
        assert facts(found, "response_id", "call_hint") == (None, "c-1")

    def test_a_failed_call_has_attributes_without_usage(self) -> None:
        failed = {key: value for key, value in self.V1.items() if "usage" not in key}
        found = report(
            {**failed, "error.type": "RateLimitError"}, scope="litellm", name="litellm_request", status="error"
        )
        assert facts(found, "role", "status", "error_type", "input_tokens") == ("call", "Error", "RateLimitError", None)

    def test_zero_in_and_zero_out_is_no_usage_and_a_cost_of_zero_is_none(self) -> None:
        attributes = {**CHAT, "litellm.call_type": "acompletion", "litellm.cost.total": 0.0}
        zero = {"gen_ai.usage.input_tokens": 0, "gen_ai.usage.output_tokens": 0}
        found = report({**attributes, **zero}, scope="litellm", kind="client")
        assert facts(found, "role", "input_tokens", "output_tokens", "reported_cost_pico") == ("call", None, None, None)

    def test_the_providers_bill_comes_before_what_the_team_pays(self) -> None:
        costs = {"litellm.cost.original": 0.00020009999999999998, "litellm.cost.total": 0.00025}
        found = report({**CHAT, "litellm.call_type": "acompletion", **costs}, scope="litellm")
        assert facts(found, "dialect", "reported_cost_pico") == ("litellm_v2", 200_100_000)
        v1 = {**self.V1, "gen_ai.cost.original_cost": 0.5, "gen_ai.cost.total_cost": 0.75}
        assert facts(report(v1, scope="litellm"), "reported_cost_pico") == (500_000_000_000,)

    def test_a_server_span_tells_whom_the_proxy_serves(self) -> None:
        who = {"litellm.team.alias": "Search", "litellm.api_key.hash": "b0", "gen_ai.request.model": "smart"}
        found = report(who, scope="fastapi", kind="server")
        assert facts(found, "role", "gateway_team", "gateway_key_hash") == ("context", "Search", "b0")
        assert facts(found, "request_model", "provider") == (None, None)
        assert report(who, scope="litellm", name="route smart") is None

    def test_a_client_that_hung_up(self) -> None:
        http = {"http.route": "/v1/chat/completions", "error.type": "ConnectionError", "http.response.status_code": 200}
        assert facts(report(http, scope="fastapi", kind="server", status="error"), "role") == ("abort",)
        assert report(http, scope="fastapi", kind="client", status="error") is None
        assert (
            report({**http, "error.type": "APIConnectionError"}, scope="fastapi", kind="server", status="error") is None
        )
        identity = {**http, "litellm.team.alias": "Search"}
        assert facts(report(identity, scope="fastapi", kind="server", status="error"), "role") == ("abort",)

    def test_files_batches_and_counting_are_no_calls(self) -> None:
        for type_ in ("acreate_batch", "alist_batches", "acreate_file", "token_counter"):
            assert report({"litellm.call_id": "c", "llm.request.type": type_}, scope="litellm") is None


class TestEnvoy:
    SCOPE = "envoyproxy/ai-gateway"
    OI = {
        "openinference.span.kind": "LLM",
        "llm.system": "openai",
        "llm.model_name": "gpt-4o-2024-08-06",
        "llm.invocation_parameters": '{"model": "gpt-4o"}',
        "llm.token_count.prompt": 100,
        "llm.token_count.completion": 20,
        "llm.token_count.total": 120,
        "llm.token_count.prompt_details.cache_read": 60,
        "llm.token_count.prompt_details.cache_creation": 30,
        "output.value": '{"id": "chatcmpl-9", "model": "gpt-4o-2024-08-06"}',
        "session.id": "s",
    }

    def test_the_provider_is_unknown_since_system_is_the_apis_shape(self) -> None:
        first = event("First Token Stream Event")
        found = report(self.OI, scope=self.SCOPE, name="ChatCompletion", events=[first])
        assert facts(found, "dialect", "role", "rank", "provider") == ("envoy_openinference", "call", 1, None)
        assert facts(found, "request_model", "response_model", "response_id") == (
            "gpt-4o",
            "gpt-4o-2024-08-06",
            "chatcmpl-9",
        )
        # Inclusive in this mode, whatever the shape.
        assert facts(found, "input_tokens", "cache_read_tokens", "cache_write_tokens") == (100, 60, 30)
        assert facts(found, "usage_flags", "conversation_id") == (None, "s")
        # Stamped when the stream ended.
        assert facts(found, "time_to_first_token_ns") == (None,)

    def test_names_tell_operations_and_counting_bills_nothing(self) -> None:
        for name, operation in (
            ("CreateEmbeddings", "embeddings"),
            ("Completion", "text_completion"),
            ("Rerank", "rerank"),
        ):
            assert facts(report(self.OI, scope=self.SCOPE, name=name), "operation") == (operation,)
        counter = {"openinference.span.kind": "TOKEN_COUNTER", "llm.token_count.prompt": 5}
        assert report(counter, scope=self.SCOPE, name="CountTokens") is None
        tokenize = {"gen_ai.operation.name": "tokenize", "gen_ai.usage.input_tokens": 5}
        assert report(tokenize, scope=self.SCOPE, name="tokenize gpt-4o") is None
        assert report({"mcp.method.name": "tools/call"}, scope=self.SCOPE, name="tools/call x") is None

    def test_anthropic_messages_in_the_other_mode_exclude_what_was_cached(self) -> None:
        parts = {READ: 60, WRITE: 30, "gen_ai.usage.input_tokens": 100}
        messages = report({**CLAUDE, **parts, "gen_ai.response.finish_reasons": ["end_turn"]}, scope=self.SCOPE)
        assert facts(messages, "dialect", "input_tokens") == ("envoy_gen_ai", 190)
        assert facts(messages, "usage_flags") == (["input_exclusive:anthropic_messages"],)
        chat = report({**CLAUDE, **parts, "gen_ai.response.finish_reasons": ["stop"]}, scope=self.SCOPE)
        assert facts(chat, "input_tokens", "usage_flags") == (100, None)
        silent = report({**CLAUDE, **parts}, scope=self.SCOPE)
        assert facts(silent, "input_tokens", "usage_flags") == (100, ["input_unclear:messages_or_chat"])
        proven = report({**CLAUDE, **parts, "gen_ai.usage.input_tokens": 10}, scope=self.SCOPE)
        assert facts(proven, "input_tokens", "usage_flags") == (100, ["input_exclusive:cached_exceeds_input"])

    def test_an_error_is_the_status_code(self) -> None:
        found = report({**CHAT, "error.type": "429"}, scope=self.SCOPE, status="error")
        assert facts(found, "error_type", "status") == ("429", "Error")


class TestAgentgateway:
    def at(self, version: str | None, **more: Any) -> dict[str, Any] | None:
        resource = {"service.name": "agentgateway", **({"service.version": version} if version else {})}
        attributes = {**CLAUDE, READ: 60, WRITE: 30, **more}
        return report(attributes, scope="agentgateway", resource=resource, kind="server", name="POST /*")

    @pytest.mark.parametrize(
        ("version", "total", "flags"),
        [
            ("v1.4.1", 190, ["input_exclusive:raw_until_1.4.1"]),
            ("1.3.0", 190, ["input_exclusive:raw_until_1.4.1"]),
            ("1.5.0-alpha", 100, None),
            (None, 100, ["input_unclear:unknown_version"]),
            ("unknown", 100, ["input_unclear:unknown_version"]),
        ],
    )
    def test_what_input_means_is_told_by_the_version(
        self, version: str | None, total: int, flags: list[str] | None
    ) -> None:
        assert facts(self.at(version), "input_tokens", "usage_flags") == (total, flags)

    def test_openai_includes_it_in_any_version(self) -> None:
        openai = {"gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o", READ: 60, WRITE: 0}
        assert facts(self.at("1.4.1", **openai), "input_tokens", "usage_flags") == (100, None)

    def test_cost_is_a_string_and_legacy_names_repeat_the_counts(self) -> None:
        more = {
            "agw.ai.usage.cost.total": "0.0001234567891239",
            "gen_ai.usage.prompt_tokens": 100,
            "llm.token_count.prompt": 100,
            "agw.ai.time_to_first_token": 0.25,
            "gen_ai.usage.reasoning_tokens": 7,
            "jwt.sub": "alice",
            "retry.attempt": "2",
        }
        found = self.at("1.5.0", **more)
        assert facts(found, "reported_cost_pico", "time_to_first_token_ns") == (123_456_789, 250_000_000)
        assert facts(found, "reasoning_tokens", "gateway_user", "rank") == (7, "alice", 1)

    def test_attempts_and_plain_http_are_no_calls(self) -> None:
        attempt = {
            "agentgateway.outbound.kind": "primary",
            "agentgateway.outbound.subtype": "llm",
            "error.type": "timeout",
        }
        assert report(attempt, scope="agentgateway", kind="client") is None
        assert report({"http.status": 200, "route": "x"}, scope="agentgateway", kind="server") is None


def test_kong_tells_a_tool_call_on_the_call_itself() -> None:
    tool = {
        **CHAT,
        "gen_ai.provider.name": "openai",
        "gen_ai.tool.name": "get_weather",
        "gen_ai.response.id": "chatcmpl-1",
    }
    found = report(tool, scope="kong-internal", name="kong.gen_ai", resource={"service.name": "kong"})
    assert facts(found, "dialect", "role", "usage_flags") == ("kong", "call", ["no_cache_counts"])
    for name in ("kong", "kong.balancer", "kong.access.plugin.ai-proxy", "kong.a2a"):
        assert report({"http.method": "POST"}, scope="kong-internal", name=name) is None


def test_portkey_has_its_tokens_under_response() -> None:
    told = {"gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o", "gen_ai.response.input_tokens": "10"}
    found = report({**told, "gen_ai.response.output_tokens": 3, "gen_ai.response.id": "x"})
    assert facts(found, "dialect", "input_tokens", "output_tokens", "response_id") == ("portkey", 10, 3, "x")


class TestBifrost:
    RESOURCE = {"service.name": "llm", "telemetry.sdk.name": "bifrost"}

    def see(self, attributes: dict[str, Any], **how: Any) -> dict[str, Any] | None:
        return report(attributes, scope="llm", resource=self.RESOURCE, **how)

    def test_one_call_per_attempt_retries_included(self) -> None:
        retry = self.see({**CHAT, "gen_ai.provider.name": "openai"}, name="retry.attempt.1", kind="internal")
        assert facts(retry, "dialect", "role", "input_tokens") == ("bifrost", "call", 100)
        first = self.see({**CHAT, "gen_ai.provider.name": "openai"}, name="chat gpt-4o", kind="client")
        assert facts(first, "role") == ("call",)

    def test_the_root_looks_like_a_call_and_is_context(self) -> None:
        root = {
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.provider.name": "openai",
            "gen_ai.response.model": "gpt-4o",
            "bifrost.virtual_key.name": "vk-bot",
            "bifrost.virtual_key.id": "vk-1",
            "bifrost.team.name": "search",
            "bifrost.request.id": "r",
        }
        found = self.see(root, kind="server")
        assert facts(found, "role", "gateway_key_alias", "gateway_team") == ("context", "vk-bot", "search")
        assert facts(found, "provider", "request_model", "response_model") == (None, None, None)
        assert self.see({"plugin.name": "x"}, name="plugin.logging.prehook") is None
        assert self.see({"gen_ai.tool.name": "search"}, name="tools/call", kind="client") is None

    def test_write_split_cost_without_sidecars_and_two_units_of_the_first_token(self) -> None:
        told = {
            **CLAUDE,
            READ: 60,
            WRITE: 30,
            "gen_ai.usage.prompt_token_details.cached_write_tokens_5m": 10,
            "gen_ai.usage.prompt_token_details.cached_write_tokens_1h": 20,
            "gen_ai.usage.completion_token_details.reasoning_tokens": 5,
            "gen_ai.usage.cost": 0.5,
            "bifrost.cost.input": 0.25,
            "bifrost.cost.output": 0.125,
            "bifrost.cost.additional": 0.125,
            "gen_ai.response.time_to_first_token": 250_000_000,
            "request.type": "chat_completion_stream",
            "bifrost.alias": "smart",
        }
        found = self.see(told, kind="client")
        assert facts(found, "input_tokens", "cache_write_1h_tokens", "reasoning_tokens") == (100, 20, 5)
        assert facts(found, "reported_cost_pico", "time_to_first_token_ns") == (375_000_000_000, 250_000_000)
        assert facts(found, "streaming", "request_model", "upstream_model") == (True, "smart", "claude-sonnet-4-5")
        milliseconds = self.see({**told, "gen_ai.response.time_to_first_token": 250}, kind="client")
        assert facts(milliseconds, "time_to_first_token_ns") == (250_000_000,)
        seconds = self.see({**told, "gen_ai.response.time_to_first_chunk": 0.5}, kind="client")
        assert facts(seconds, "time_to_first_token_ns") == (500_000_000,)
        old = {"gen_ai.usage.prompt_tokens": 8, "gen_ai.usage.completion_tokens": 2, "request.type": "embedding"}
        assert facts(self.see(old, name="llm.call"), "operation", "input_tokens") == ("embeddings", 8)

    def test_its_openinference_set_with_its_own_word_for_writes(self) -> None:
        told = {
            "openinference.span.kind": "LLM",
            "llm.provider": "anthropic",
            "llm.model_name": "claude-sonnet-4-5",
            "llm.token_count.prompt": 100,
            "llm.token_count.completion": 20,
            "llm.token_count.prompt_details.cache_write": 30,
            "llm.cost.total": 0.01,
        }
        found = self.see(told, kind="internal")
        assert facts(found, "dialect", "provider", "cache_write_tokens") == ("bifrost", "anthropic", 30)
        assert facts(self.see({"openinference.span.kind": "CHAIN"}, name="retry.attempt.1"), "role") == ("call",)


class TestApisix:
    TOLD = {
        "apisix.route_id": "1",
        "request_llm_model": "smart",
        "llm_model": "gpt-4o",
        "llm_prompt_tokens": "100",
        "llm_completion_tokens": "20",
        "llm_total_tokens": "120",
        "llm_cache_read_input_tokens": "0",
        "llm_cache_creation_input_tokens": "0",
        "llm_reasoning_tokens": "0",
        "llm_time_to_first_token": "250",
        "llm_stream": "true",
        "consumer_name": "jack",
        "llm_end_user_id": "",
    }

    def see(self, **more: str) -> dict[str, Any] | None:
        resource = {"service.name": "APISIX"}
        return report(
            {**self.TOLD, **more}, scope="opentelemetry-lua", resource=resource, kind="server", name="POST /ai"
        )

    def test_every_value_is_a_string_and_zero_is_no_measurement(self) -> None:
        found = self.see()
        assert facts(found, "dialect", "input_tokens", "output_tokens") == ("apisix", 100, 20)
        assert facts(found, "cache_read_tokens", "reasoning_tokens", "claimed_user") == (None, None, None)
        assert facts(found, "streaming", "time_to_first_token_ns", "gateway_key_alias") == (True, 250_000_000, "jack")
        assert facts(found, "request_model", "upstream_model", "provider") == ("smart", "gpt-4o", None)
        assert facts(
            self.see(llm_stream="false", llm_time_to_first_token="0"), "streaming", "time_to_first_token_ns"
        ) == (None, None)

    def test_a_route_without_a_model_is_no_call(self) -> None:
        plain = dict.fromkeys(self.TOLD, "0") | {"llm_model": "", "request_llm_model": "0", "llm_stream": "false"}
        assert self.see(**plain) is None

    def test_writes_are_anthropics_protocol_and_429_is_a_failure(self) -> None:
        found = self.see(llm_cache_creation_input_tokens="30", llm_cache_read_input_tokens="60")
        assert facts(found, "input_tokens", "usage_flags") == (190, ["input_exclusive:anthropic_protocol"])
        assert facts(self.see(**{"http.status_code": "429"}), "status", "error_type") == ("Error", "429")


def test_higress_writes_strings_on_envoys_span() -> None:
    told = {
        "gen_ai.span.kind": "LLM",
        "gen_ai.model_name": "qwen-max",
        "gen_ai.request.model": "qwen-max",
        "gen_ai.usage.input_tokens": "100",
        "gen_ai.usage.output_tokens": "20",
        "gen_ai.usage.total_tokens": "120",
        "reasoning_tokens": "5",
        "llm_first_token_duration": "250",
        "session_id": "s",
    }
    found = report(told, scope="envoy", kind="server")
    assert facts(found, "dialect", "role", "input_tokens", "reasoning_tokens") == ("higress", "call", 100, 5)
    assert facts(found, "time_to_first_token_ns", "conversation_id", "provider") == (250_000_000, "s", None)
    assert facts(found, "usage_flags") == (["no_cache_counts"],)


class TestTensorZero:
    CALL = {
        **CHAT,
        "gen_ai.system": "anthropic",
        "provider_name": "mine",
        "stream": True,
        "tensorzero.cost_usd": "0.0125",
    }

    def test_only_the_provider_span_is_a_call_and_a_rate_limited_one_is_none(self) -> None:
        see = {"scope": "tensorzero", "resource": {"service.name": "tensorzero-gateway"}}
        found = report(self.CALL, name="model_provider_inference", **see)
        assert facts(found, "dialect", "role", "provider", "streaming") == ("tensorzero", "call", "anthropic", True)
        assert facts(found, "reported_cost_pico", "usage_flags") == (12_500_000_000, ["no_cache_counts"])
        refused = {key: value for key, value in self.CALL.items() if "usage" not in key and "cost" not in key}
        assert report(refused, name="model_provider_inference", status="ok", **see) is None
        failed = report(refused, name="model_provider_inference", status="error", **see)
        assert facts(failed, "role", "status") == ("call", "Error")
        limits = {"estimated_usage.tokens": 5, "gen_ai.operation.name": "chat"}
        assert report(limits, name="rate_limiting_consume_tickets", **see) is None
        assert report({"gen_ai.operation.name": "chat"}, name="model_inference", **see) is None

    def test_caller_and_session_stand_on_an_ancestor(self) -> None:
        who = {"function_name": "f", "episode_id": "e-1", "tags.user_id": "alice", "tags.team": "search"}
        root = span("function_inference", who)
        leaf = span("model_provider_inference", self.CALL, parent=root)
        context, call = reports(request(scope="tensorzero", spans=[root, leaf]))
        assert facts(context, "role", "conversation_id", "claimed_user", "claimed_team") == (
            "context",
            "e-1",
            "alice",
            "search",
        )
        assert call["trace_id"] == context["trace_id"]

    def test_the_raw_answer_of_its_openinference_format_tells_more(self) -> None:
        answer = {"id": "msg_1", "model": "claude-x", "usage": {"input_tokens": 10, "cache_read_input_tokens": 60}}
        told = {
            "openinference.span.kind": "LLM",
            "llm.system": "anthropic",
            "llm.model_name": "claude-x",
            "llm.token_count.prompt": 100,
            "llm.token_count.completion": 20,
            "output.value": json.dumps(answer),
        }
        found = report(told, scope="tensorzero", name="model_provider_inference")
        assert facts(found, "response_id", "cache_read_tokens", "input_tokens") == ("msg_1", 60, 100)
        assert facts(found, "usage_flags") == (None,)


def test_plano_bills_the_service_that_is_the_llm() -> None:
    told = {
        "llm.provider": "anthropic",
        "llm.model": "claude-sonnet-4-5",
        "llm.usage.prompt_tokens": 100,
        "llm.usage.completion_tokens": 20,
        "llm.usage.cached_input_tokens": 60,
        "llm.usage.total_cost_usd": 0.001,
        "llm.time_to_first_token": 250,
        "llm.is_streaming": True,
        "plano.session_id": "s",
    }
    found = report(told, resource={"service.name": "plano(llm)"})
    assert facts(found, "dialect", "role", "time_to_first_token_ns", "streaming") == (
        "plano",
        "call",
        250_000_000,
        True,
    )
    assert facts(found, "input_tokens", "usage_flags") == (160, ["input_unclear:api_shape"])
    openai = {**told, "llm.provider": "openai", "llm.model": "gpt-4o"}
    assert facts(report(openai, resource={"service.name": "plano(llm)"}), "input_tokens", "usage_flags") == (100, None)
    total = report({**openai, "llm.usage.total_tokens": 180}, resource={"service.name": "plano(llm)"})
    assert facts(total, "input_tokens", "usage_flags") == (160, ["input_exclusive:total"])
    routing = {"plano.session.total_cost_in_usd": 9.5, "plano.session_id": "s", "llm.model": "x"}
    assert facts(report(routing, resource={"service.name": "plano(routing)"}), "role", "reported_cost_pico") == (
        "context",
        None,
    )


def test_langdb_has_json_in_texts_and_microseconds() -> None:
    told = {
        "provider_name": "openai",
        "model_name": "router/best",
        "inference_model_name": "gpt-4o",
        "usage": '{"input_tokens": 100, "output_tokens": 20, "total_tokens": 120, "prompt_tokens_details": {"cached_tokens": 60}}',
        "cost": '{"cost": 0.001}',
        "ttft": 250_000,
        "thread_id": "t",
        "user": "alice",
        "tags": '{"a": "b"}',
    }
    found = report(told, scope="langdb-ai-gateway", name="model_call")
    assert facts(found, "dialect", "input_tokens", "cache_read_tokens", "output_tokens") == ("langdb", 100, 60, 20)
    assert facts(found, "reported_cost_pico", "time_to_first_token_ns") == (1_000_000_000, 250_000_000)
    assert facts(found, "request_model", "upstream_model", "conversation_id") == ("router/best", "gpt-4o", "t")
    assert facts(
        report({**told, "cost": "0.001"}, scope="langdb-ai-gateway", name="model_call"), "reported_cost_pico"
    ) == (10**9,)
    hit = report({**told, "cache": "HIT"}, scope="langdb-ai-gateway", name="model_call")
    assert facts(hit, "response_cache_hit") == (True,)
    # The provider's span below tells the same usage, api_invoke above the same cost.
    assert report(told, scope="langdb-ai-gateway", name="openai") is None
    assert facts(report(told, scope="langdb-ai-gateway", name="api_invoke"), "role", "reported_cost_pico") == (
        "context",
        None,
    )


def test_openrouter_takes_both_spellings_and_any_name() -> None:
    told = {
        "gen_ai.system": "openai",
        "gen_ai.request.model": "openai/gpt-4",
        "gen_ai.usage.prompt_tokens": 100,
        "gen_ai.usage.completion_tokens": 20,
        "user.id": "u",
        "session.id": "s",
        "trace.metadata.team": "search",
    }
    found = report(told, resource={"service.name": "openrouter"}, name="My generation")
    assert facts(found, "dialect", "role", "operation", "input_tokens") == ("openrouter", "call", "chat", 100)
    assert facts(found, "claimed_user", "conversation_id", "claimed_team") == ("u", "s", "search")
    wrapper = report({"session.id": "s"}, resource={"service.name": "openrouter"}, name="My trace")
    assert facts(wrapper, "role") == ("context",)


def test_cloudflare_has_a_provider_key_of_its_own_and_bare_metadata() -> None:
    answer = {"id": "chatcmpl-7", "model": "gpt-4o-2024", "usage": {"prompt_tokens_details": {"cached_tokens": 60}}}
    told = {
        "gen_ai.model.provider": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cost": 0.001,
        "gen_ai.completion_json": json.dumps(answer),
        "user_id": "u",
        "team": "search",
    }
    found = report(told)
    assert facts(found, "dialect", "provider", "response_id", "cache_read_tokens") == (
        "cloudflare",
        "openai",
        "chatcmpl-7",
        60,
    )
    assert facts(found, "reported_cost_pico", "claimed_user", "claimed_team") == (10**9, "u", "search")
    assert facts(found, "usage_flags") == (None,)
    del told["gen_ai.completion_json"]
    assert facts(report(told), "usage_flags", "response_id") == (["no_cache_counts"], None)


def test_tyk_and_traefik_follow_the_conventions_as_gateways() -> None:
    tyk = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o"}
    found = report(tyk, resource={"service.name": "tyk-ai-studio"}, name="chat gpt-4o")
    assert facts(found, "dialect", "role", "rank", "input_tokens") == ("tyk", "call", 1, None)
    found = report(CHAT, scope="github.com/traefik/traefik", kind="server")
    assert facts(found, "dialect", "role", "rank", "input_tokens") == ("traefik", "call", 1, 100)


def test_truefoundry_tells_all_under_its_own_keys() -> None:
    told = {
        "tfy.span_type": "Model",
        "tfy.request.model_name": "smart",
        "tfy.model.name": "gpt-4o",
        "tfy.model.request_type": "ChatCompletion",
        "tfy.model.streaming": True,
        "tfy.model.metric.input_tokens": 100,
        "tfy.model.metric.output_tokens": 20,
        "tfy.model.metric.cost_in_usd": 0.001,
        "tfy.model.metric.time_to_first_token_in_ms": 250.0,
        "tfy.request.created_by_subject": "alice",
        "tfy.request.created_by_subject_teams": ["search", "ml"],
    }
    found = report(told)
    assert facts(found, "dialect", "role", "input_tokens", "reported_cost_pico") == ("truefoundry", "call", 100, 10**9)
    assert facts(found, "time_to_first_token_ns", "gateway_user", "gateway_team") == (250_000_000, "alice", "search")
    assert facts(found, "operation", "request_model", "upstream_model") == ("chat", "smart", "gpt-4o")
    assert facts(report({**told, "tfy.span_type": "ChatCompletion"}), "role", "input_tokens") == ("context", None)
    assert report({**told, "tfy.span_type": "Guardrail"}) is None


def test_orq_bills_beside_the_conventions() -> None:
    told = {
        **CHAT,
        "orq.span_type": "span.chat_completion",
        "orq.billing.total_cost": 0.001,
        "orq.api_key_id": "k",
        READ: 60,
    }
    found = report(told)
    assert facts(found, "dialect", "role", "reported_cost_pico", "gateway_key_hash") == ("orq", "call", 10**9, "k")
    assert facts(found, "input_tokens", "usage_flags") == (100, None)
    root = {"orq.span_type": "trace", "orq.billing.total_cost": 0.001}
    assert facts(report(root), "role") == ("rollup",)


class TestCodingAgents:
    def test_claude_code_has_bare_keys_and_a_request_id_for_an_answers_id(self) -> None:
        told = {
            "input_tokens": "10",
            "output_tokens": 20,
            "cache_read_tokens": 60,
            "cache_creation_tokens": 30,
            "ttft_ms": 250,
            "success": "true",
            "gen_ai.system": "anthropic",
            "gen_ai.request.model": "claude-sonnet-4-5",
            "gen_ai.response.id": "req_1",
            "session.id": "s",
            "user.email": "a@b.c",
        }
        resource = {"service.name": "claude-code"}
        found = report(told, resource=resource, name="claude_code.llm_request")
        assert facts(found, "dialect", "role", "input_tokens", "usage_flags") == (
            "claude_code",
            "call",
            100,
            ["input_exclusive:claude_code_raw"],
        )
        assert facts(found, "response_id", "time_to_first_token_ns", "claimed_user") == (None, 250_000_000, "a@b.c")
        failed = report({**told, "success": "false"}, resource=resource, name="claude_code.llm_request")
        assert facts(failed, "status") == ("Error",)
        assert report({"tool_name": "Bash"}, resource=resource, name="claude_code.tool") is None

    def test_codex_turns_repeat_the_sum(self) -> None:
        told = {
            **CHAT,
            READ: 60,
            "codex.usage.reasoning_output_tokens": 5,
            "codex.usage.total_tokens": 120,
            "model": "gpt-5",
        }
        found = report(told, resource={"service.name": "codex_exec"}, name="handle_responses")
        assert facts(found, "dialect", "role", "input_tokens", "reasoning_tokens") == ("codex", "call", 100, 5)
        turn = {"codex.turn.token_usage.input_tokens": 500, "model": "gpt-5"}
        assert report(turn, resource={"service.name": "codex_exec"}, name="turn") is None

    def test_copilot_repeats_the_session_and_tells_milliseconds(self) -> None:
        resource = {"service.name": "copilot-chat"}
        told = {
            **CHAT,
            "copilot_chat.time_to_first_token": 250,
            "gen_ai.usage.reasoning_tokens": 5,
            "gen_ai.conversation.id": "c",
        }
        found = report(told, resource=resource, name="chat gpt-4o")
        assert facts(found, "dialect", "role", "time_to_first_token_ns", "reasoning_tokens") == (
            "copilot",
            "call",
            250_000_000,
            5,
        )
        agent = {**CHAT, "gen_ai.operation.name": "invoke_agent"}
        assert facts(report(agent, resource=resource, name="invoke_agent copilot"), "role") == ("rollup",)
        tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.conversation.id": "c"}
        assert report(tool, resource=resource, name="execute_tool x") is None
