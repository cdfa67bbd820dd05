"""What holds for all dialects: counts, words, choice, identity, and how strictly their files are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from collector.dialects import describe, vocabulary
from collector.dialects.choose import Chooser
from collector.dialects.load import FOLDER, dialects, read_folder
from collector.dialects.places import in_range, matches
from collector.dialects.values import list_of, pico_of, read
from collector.errors import ConfigError
from tests.dialects_kit import report, reports
from tests.spans_kit import request, span

CHAT = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o"}
IN, OUT = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"
READ, WRITE = "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_write.input_tokens"
SDK = "com.anthropic.sdk.python"


def facts(found: dict[str, Any] | None, *names: str) -> tuple[Any, ...]:
    assert found is not None
    return tuple(found.get(name) for name in names)


class TestCounts:
    def see(self, **counts: Any) -> dict[str, Any] | None:
        """Through a dialect that is sure that input includes everything."""
        return report({**CHAT, **counts}, scope=SDK)

    def test_zero_in_and_out_is_no_usage_whatever_else_is_told(self) -> None:
        found = self.see(**{IN: 0, OUT: 0, READ: 0, WRITE: 0})
        assert facts(found, "role", "input_tokens", "output_tokens", "cache_read_tokens") == ("call", None, None, None)
        assert facts(self.see(**{IN: 0}), "input_tokens") == (None,)
        assert facts(self.see(**{IN: 0, OUT: 3}), "input_tokens", "output_tokens") == (None, 3), (
            "nothing answers nothing"
        )

    @pytest.mark.parametrize(
        ("counts", "flag"),
        [
            ({IN: 50, OUT: 1, READ: 60}, "impossible:cached_exceeds_input"),
            ({IN: 50, OUT: 1, READ: 30, WRITE: 30}, "impossible:cached_exceeds_input"),
            ({IN: 50, OUT: 1, "gen_ai.usage.reasoning.output_tokens": 2}, "impossible:reasoning_exceeds_output"),
            (
                {IN: 50, OUT: 1, WRITE: 5, "anthropic.usage.cache_creation.ephemeral_1h_input_tokens": 6},
                "impossible:cache_write_1h_exceeds_cache_write",
            ),
            ({IN: 50, OUT: 1, "gen_ai.usage.audio.input_tokens": 51}, "impossible:input_audio_exceeds_input"),
            ({IN: 50, OUT: 1, "gen_ai.usage.audio.output_tokens": 2}, "impossible:output_audio_exceeds_output"),
            ({IN: 50, OUT: 1, READ: -3}, "impossible:negative_cache_read"),
            ({IN: 50, OUT: 2**50}, "impossible:too_large_output"),
            ({IN: -50, OUT: 1}, "impossible:negative_input"),
        ],
    )
    def test_what_cannot_be_is_flagged_and_never_clamped(self, counts: dict[str, int], flag: str) -> None:
        found = self.see(**counts)
        assert found is not None
        assert found["usage_flags"] == [flag]
        if counts[IN] > 0:
            assert found["input_tokens"] == counts[IN]

    def test_writes_are_the_sum_of_their_lifetimes(self) -> None:
        five, hour = (f"anthropic.usage.cache_creation.ephemeral_{life}_input_tokens" for life in ("5m", "1h"))
        found = self.see(**{IN: 100, OUT: 1, five: 10, hour: 20})
        assert facts(found, "cache_write_tokens", "cache_write_1h_tokens") == (30, 20)
        found = self.see(**{IN: 100, OUT: 1, WRITE: 30, five: 10})
        assert facts(found, "cache_write_1h_tokens") == (20,)
        assert facts(self.see(**{IN: 100, OUT: 1, WRITE: 30}), "cache_write_1h_tokens") == (None,)

    @pytest.mark.parametrize("value", ["", "None", "null", "abc", "1.5", "1e3", True, [1], {"a": 1}, 1.5, None])
    def test_what_is_no_count_is_absent(self, value: Any) -> None:
        assert facts(self.see(**{IN: value, OUT: 3}), "input_tokens", "output_tokens") == (None, 3)


class TestMoney:
    @pytest.mark.parametrize(
        ("value", "pico"),
        [
            (0.00020009999999999998, 200_100_000),
            (9.600000000000001e-07, 960_000),
            ("0.0001234567891235", 123_456_789),
            ("12345.678901234567", 12_345_678_901_234_567),
            (3, 3 * 10**12),
            ("$0.25", 250 * 10**9),
            (0.0, None),
            ("0", None),
            (-1.0, None),
            ("nan", None),
            (float("inf"), None),
            ("free", None),
            (1e-13, None),
        ],
    )
    def test_a_reported_cost_is_exact_to_twelve_decimals(self, value: Any, pico: int | None) -> None:
        assert facts(report({**CHAT, "gen_ai.usage.cost": value}), "reported_cost_pico") == (pico,)
        assert pico_of(value) == pico


def test_absent_texts() -> None:
    for text in ("", "None", "null", "undefined", "__REDACTED__", "[Scrubbed due to 'session']"):
        found = report({**CHAT, "gen_ai.response.id": text, "gen_ai.conversation.id": text, "session.id": "s"})
        assert facts(found, "response_id", "conversation_id") == (None, "s")


def test_a_report_tells_where_it_stands() -> None:
    one = span("chat gpt-4o", CHAT, kind="client", status="ok", start_ns=10**18, duration_ns=5)
    (found,) = reports(request(resource={"service.name": "bot"}, scope="mine", spans=[span("other"), one]))
    assert facts(found, "span", "trace_id", "span_id") == (1, one.trace_id.hex(), one.span_id.hex())
    assert facts(found, "start_ns", "duration_ns", "service_name", "status") == (10**18, 5, "bot", "Ok")
    assert facts(found, "source", "rank") == ("mine@bot", 2)


def test_spans_of_many_dialects_in_one_batch_keep_their_order() -> None:
    bodies, expected = [], []
    for number in range(20):
        scope, resource, told = [
            ("litellm", {"service.name": "proxy"}, {**CHAT, "litellm.call_type": "acompletion"}),
            ("ai", {"service.name": "web"}, {"ai.operationId": "ai.generateText.doGenerate", "ai.model.id": "m"}),
            ("mine", {}, {}),
            (SDK, {"service.name": "bot"}, CHAT),
        ][number % 4]
        told = {**told, IN: number, OUT: 1} if told else {"http.route": "/"}
        bodies.append(request(resource=resource, scope=scope, spans=[span("x", told)]))
        if scope != "mine":
            expected.append((number, scope))
    found = reports(b"".join(bodies))
    assert [(one["span"], one["source"].split("@")[0]) for one in found] == expected
    calls = [one for one in found if "input_tokens" in one]
    assert all(one["input_tokens"] == one["span"] for one in calls)


def test_an_empty_batch_and_one_without_reports() -> None:
    assert reports(b"") == []
    assert reports(request(scope="mine", spans=[span("x", {"a": 1})])) == []


class TestChoice:
    def name(self, attributes: dict[str, Any], **how: Any) -> str:
        found = report({**CHAT, IN: 5, **attributes}, **how)
        assert found is not None
        dialect: str = found["dialect"]
        return dialect

    def test_the_scope_decides_before_the_resource_and_the_keys(self) -> None:
        """An instrumented app inside a service that is called like a gateway keeps its own dialect."""
        for service in ("kong", "agentgateway", "bifrost", "openrouter", "portkey"):
            resource = {"service.name": service}
            assert self.name({}, scope=SDK, resource=resource) == "anthropic_sdk"
            assert (
                self.name(
                    {"openinference.span.kind": "LLM"}, scope="openinference.instrumentation.openai", resource=resource
                )
                == "openinference"
            )

    def test_keys_of_others_on_a_known_scope_do_not_mislead(self) -> None:
        assert self.name({"traceloop.association.properties.user_id": "u"}, scope=SDK) == "anthropic_sdk"
        assert self.name({"openinference.span.kind": "LLM"}, scope="envoyproxy/ai-gateway") == "envoy_openinference"
        assert self.name({}, scope="envoyproxy/ai-gateway") == "envoy_gen_ai"

    def test_contrib_and_traceloop_share_a_scopes_prefix(self) -> None:
        schema = "https://opentelemetry.io/schemas/1.30.0"
        assert self.name({}, scope="opentelemetry.instrumentation.openai", schema_url=schema) == "otel_contrib"
        assert self.name({}, scope="opentelemetry.instrumentation.openai") == "traceloop"
        assert self.name({}, scope="opentelemetry.instrumentation.openai_v2", schema_url=schema) == "otel_openai_v2"

    def test_keys_decide_in_an_unknown_scope(self) -> None:
        assert self.name({}, scope="mine") == "otel_genai"
        assert self.name({"mlflow.spanType": '"LLM"'}, scope="mine") == "mlflow"
        assert (
            self.name({"metadata.user_api_key_hash": "h", "llm.request.type": "acompletion"}, scope="fastapi")
            == "litellm_v1"
        )

    def test_the_order_does_not_depend_on_that_of_the_files(self) -> None:
        forward, backward = Chooser(dialects()), Chooser(dialects()[::-1])
        names = [[chooser.dialects[place].name for place, _ in chooser._order] for chooser in (forward, backward)]
        assert names[0] == names[1]


class TestVocabulary:
    @pytest.mark.parametrize(
        ("text", "word"),
        [
            ("openai.responses", "openai"),
            ("anthropic.messages", "anthropic"),
            ("google.vertex.chat", "gcp.vertex_ai"),
            ("vertex.anthropic.messages", "gcp.vertex_ai"),
            ("google.generative-ai", "gcp.gemini"),
            ("azure-openai.chat", "azure.ai.openai"),
            ("amazon-bedrock", "aws.bedrock"),
            ("aws.anthropic", "aws.bedrock"),
            ("bedrock_converse", "aws.bedrock"),
            ("AWS", "aws.bedrock"),
            ("xai.chat", "x_ai"),
            ("mistralai", "mistral_ai"),
            ("hosted_vllm", "vllm"),
            ("strands-agents", None),
            ("langchain", None),
            ("acme", "acme"),
            ("acme.chat", "acme.chat"),
        ],
    )
    def test_providers(self, text: str, word: str | None) -> None:
        assert vocabulary.provider(text) == word

    def test_operations_and_their_classes(self) -> None:
        for text, word, kind in (
            ("acompletion", "chat", "call"),
            ("aresponses", "chat", "call"),
            ("anthropic_messages", "chat", "call"),
            ("aembedding", "embeddings", "call"),
            ("atext_completion", "text_completion", "call"),
            ("invoke_agent", "invoke_agent", "agent"),
            ("execute_tool", "execute_tool", "other"),
            ("tokenize", "count_tokens", "other"),
            ("dream", "dream", "unknown"),
        ):
            found = vocabulary.operation(text)
            assert found == word
            assert vocabulary.operation_class(word) == kind

    def test_finish_reasons_and_tiers(self) -> None:
        assert [vocabulary.finish_reason(text) for text in ("end_turn", "MAX_TOKENS", "tool-calls", "odd")] == [
            "stop",
            "length",
            "tool_call",
            "odd",
        ]
        assert [vocabulary.tier(text) for text in ("Default", "on_demand", "FLEX", "scale")] == [
            "default",
            "default",
            "flex",
            "scale",
        ]

    def test_one_text_has_one_meaning(self, tmp_path: Path) -> None:
        data = yaml.safe_load(vocabulary.PATH.read_text())
        data["providers"]["anthropic"].append("OpenAI")
        path = tmp_path / "vocabulary.yaml"
        path.write_text(yaml.safe_dump(data))
        with pytest.raises(ConfigError, match="'openai' means both 'anthropic' and 'openai'"):
            vocabulary.read(path)


def test_texts_that_spell_values() -> None:
    assert read("{'a': None, 'b': 'None', 'c': [True, 1.5], 'd': 'x: True, y'}") == {
        "a": None,
        "b": "None",
        "c": [True, 1.5],
        "d": "x: True, y",
    }
    assert read('{"a": "it\'s"}') == {"a": "it's"}
    assert read("{'a': \"it's\"}") == {"a": "it's"}
    assert read("{'a': __import__('os')}") is None
    assert read('"text"') == "text"
    assert read("text") == "text"
    assert read("[" * 100_000) is None
    assert list_of("['b', 'a', 'b', 1]", None) == ["1", "a", "b"]
    assert list_of("b; a", ";") == ["a", "b"]
    assert list_of('{"b": 1, "a": "x"}', None) == ["a:x", "b:1"]
    assert list_of("", None) is None


def test_versions_and_globs() -> None:
    assert in_range("v1.4.1", "<=1.4.1")
    assert in_range("1.4.0", "<1.4.1 >=1")
    assert not in_range("1.10", "<1.9")
    assert in_range("1.2.0", "==1.2")
    assert not in_range("main", ">=0")
    assert matches("plano(llm)", ("plano(*)",))
    assert matches("A.B", ("a.*",))
    assert not matches("xa.b", ("a.*",))


class TestFiles:
    GOOD: dict[str, Any] = {
        "name": "acme",
        "about": "Acme's gateway, for a test",
        "source": "acme 1.0",
        "match": [{"scope": "acme"}],
        "rank": "gateway",
        "spans": [{"role": "call"}],
        "facts": {"input_tokens": "tokens.in"},
    }

    def read(self, folder: Path, **changes: Any) -> None:
        (folder / "acme.yaml").write_text(yaml.safe_dump({**self.GOOD, **changes}))
        read_folder(folder)

    def test_one_file_is_a_dialect(self, tmp_path: Path) -> None:
        self.read(tmp_path)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"name": "other"}, "name: expected acme, as the file is called, got other"),
            ({"rank": "boss"}, "rank"),
            ({"colour": "red"}, "colour: Extra inputs are not permitted"),
            ({"match": []}, "match"),
            ({"match": [{}]}, "a match needs a scope, a resource or keys"),
            ({"match": [{"scope": "acme", "version": "new"}]}, "version"),
            ({"spans": [{"role": "boss"}]}, "role"),
            ({"spans": [{"role": "call", "when": {"nmae": "x"}}]}, "nmae: Extra inputs are not permitted"),
            ({"facts": {"input_tokns": "x"}}, "no fact is called input_tokns"),
            ({"facts": {"time_to_first_token": "x"}}, "say in which unit x is"),
            (
                {"facts": {"input_tokens": {"from": "x", "unit": "s"}}},
                "only time_to_first_token and gateway_overhead have a unit",
            ),
            ({"facts": {"input_tokens": {"from": "x", "value": "y"}}}, "exactly one of from, value and sum"),
            ({"facts": {"provider": {"from": "x", "pattern": "("}}}, "not a regular expression"),
            ({"facts": {"provider": {"from": "x", "pattern": "a"}}}, "expected one group, got 0"),
            ({"facts": {"input_tokens": {"from": "x", "pattern": "(a)"}}}, "pattern is for texts and times"),
            ({"facts": {"input_tokens": {"from": "x", "map": {"a": "1"}}}}, "map and strip_provider are for texts"),
            (
                {"facts": {"provider": {"from": "x", "when": {"provider": "y"}}}},
                "facts.provider: a source's test reads provider itself",
            ),
            ({"input": [{"part": "outside"}]}, "part: outside needs because"),
            ({"flags": [{"flag": "odd"}]}, "flag"),
            ({"extends": "nobody"}, "no other dialect file is called nobody"),
            ({"extends": "acme"}, "no other dialect file is called acme"),
        ],
    )
    def test_a_mistake_is_told_with_its_place(self, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError) as caught:
            self.read(tmp_path, **changes)
        assert str(caught.value).startswith(f"{tmp_path}/acme.yaml")
        assert message in str(caught.value)

    @pytest.mark.parametrize(
        ("text", "place"), [("name: [", ":1"), ("name: acme\nname: acme\n", ":1"), ("- a\n", ":1"), ("a: b: c\n", ":1")]
    )
    def test_what_is_no_mapping_is_told_with_its_line(self, tmp_path: Path, text: str, place: str) -> None:
        (tmp_path / "acme.yaml").write_text(text)
        with pytest.raises(ConfigError, match=f"acme.yaml{place}"):
            read_folder(tmp_path)

    def test_a_child_takes_over_facts_and_drops_those_that_it_empties(self, tmp_path: Path) -> None:
        (tmp_path / "acme.yaml").write_text(yaml.safe_dump({**self.GOOD, "facts": {"user": "p", "input_tokens": "i"}}))
        child = {
            "name": "child",
            "about": "A child of Acme's",
            "source": "acme 2",
            "extends": "acme",
            "match": [{"scope": "child"}],
        }
        (tmp_path / "child.yaml").write_text(
            yaml.safe_dump({**child, "facts": {"provider": None, "output_tokens": "o"}})
        )
        with pytest.raises(ConfigError, match="no fact is called user"):
            read_folder(tmp_path)
        (tmp_path / "acme.yaml").write_text(
            yaml.safe_dump({**self.GOOD, "facts": {"provider": "p", "input_tokens": "i"}})
        )
        _, found = read_folder(tmp_path)
        assert set(found.facts) == {"input_tokens", "output_tokens"}
        assert found.rank[0].rank == "gateway"


def test_every_dialect_is_described_in_one_line() -> None:
    described = dict(describe())
    assert len(described) == len(list(FOLDER.glob("*.yaml"))) - 1
    assert all("\n" not in line for line in described.values())
