"""What the dialects' own data makes of redaction: who is somebody, what is content, what counts and must never be touched."""

from __future__ import annotations

import pytest

from collector.dialects.load import dialects, fact_places
from collector.dialects.model import FACTS, HELPERS, MONEY, NUMBERS, TIME
from processors.redaction.config import RedactionConfig
from processors.redaction.content import FACTS_OF, Content, places
from processors.redaction.policy import Mode, Policy

POLICY, STRICT = Policy(RedactionConfig()), Policy(RedactionConfig(profile="strict"))
IDENTITIES = {fact for facts in FACTS_OF.values() for fact in facts}


def keys(*facts: str) -> set[str]:
    """The attributes that facts are the whole text of, in any dialect."""
    return {place.key for place in fact_places(facts) if not place.path and place.owner in ("span", "resource", "event")} - {""}  # fmt: skip


@pytest.mark.parametrize("key", sorted(keys(*FACTS_OF["user"], *FACTS_OF["end_user"])))
def test_whoever_a_dialect_names_gets_a_pseudonym(key: str) -> None:
    assert POLICY.rule(key).mode is Mode.WHOLE


@pytest.mark.parametrize("key", sorted(keys(*FACTS_OF["api_key"], *FACTS_OF["conversation_id"])))
def test_keys_and_conversations_are_readable_unless_strict(key: str) -> None:
    assert POLICY.rule(key).mode is Mode.SCAN
    assert STRICT.rule(key).mode is Mode.WHOLE


@pytest.mark.parametrize("key", sorted(keys(*NUMBERS, *HELPERS, MONEY, TIME)))
def test_counts_costs_and_times_are_no_cards(key: str) -> None:
    rule = STRICT.rule(key)
    assert (rule.mode, rule.measure) == (Mode.SCAN, True)


@pytest.mark.parametrize("key", sorted(keys(*(FACTS - IDENTITIES)) - keys(*IDENTITIES)))
def test_strict_drops_no_fact(key: str) -> None:
    """Models, providers, ids, teams: what the ledger is made of, here and in the next Spanledger."""
    assert STRICT.rule(key).mode is Mode.SCAN


#: As their emitters spell them (docs of each; 2026).
CONTENT = {
    "conventions": "gen_ai.input.messages gen_ai.output.messages gen_ai.system_instructions gen_ai.tool.definitions gen_ai.tool.call.arguments "
    "gen_ai.tool.call.result gen_ai.retrieval.documents gen_ai.retrieval.query.text gen_ai.evaluation.explanation gen_ai.prompt gen_ai.completion",
    "openinference": "input.value output.value llm.input_messages.0.message.content llm.output_messages.1.message.tool_calls.0.tool_call.function.arguments "
    "llm.prompts.0.prompt.text llm.choices.0.completion.text llm.prompt_template.variables llm.tools.0.tool.json_schema llm.function_call "
    "retrieval.documents.3.document.content embedding.embeddings.0.embedding.text tool.parameters",
    "openllmetry": "gen_ai.prompt.0.content gen_ai.completion.0.tool_calls.0.arguments llm.request.functions.0.parameters traceloop.entity.input traceloop.entity.output",
    "vercel": "ai.prompt ai.prompt.messages ai.prompt.tools ai.response.text ai.response.object ai.response.toolCalls ai.response.reasoning ai.result.text "
    "ai.value ai.values ai.embedding ai.embeddings ai.documents ai.schema ai.toolCall.args ai.toolCall.result",
    "pydantic-ai": "pydantic_ai.all_messages all_messages_events model_request_parameters final_result tool_arguments tool_response request_data response_data",
    "litellm": "llm.openai.messages llm.anthropic.system llm.gemini.candidates llm.None.input llm.openai.choices message.content",
    "bifrost": "gen_ai.input.text gen_ai.request.tools gen_ai.request.instructions bifrost.raw_request bifrost.raw_response gen_ai.responses.reasoning",
    "mlflow, langfuse": "mlflow.spanInputs mlflow.spanOutputs langfuse.observation.input langfuse.observation.output langfuse.trace.input",
    "google adk, traceloop": "gcp.vertex.agent.llm_request gcp.vertex.agent.llm_response gcp.vertex.agent.tool_call_args gen_ai.task.input gen_ai.task.output",
    "others": "gen_ai.prompt_json gen_ai.completion_json request output question answer llm.user_message_preview gen_ai.raw_response llm.prompt llm.completion.0.content",
}  # fmt: skip


@pytest.mark.parametrize("dialect", CONTENT)
def test_content_is_known_wherever_a_dialect_puts_it(dialect: str) -> None:
    for key in CONTENT[dialect].split():
        assert places().content(key) is not Content.NONE, key
        assert STRICT.rule(key).mode is Mode.CONTENT, key


def test_what_is_no_content_is_not_taken_for_it() -> None:
    for key in ("gen_ai.prompt.name", "gen_ai.prompt.version", "gen_ai.output.type", "ai.response.id", "ai.response.model", "llm.system", "llm.provider",
                "input.mime_type", "llm.openai.model", "llm.openai.usage", "metadata", "exception.message", "http.url", "service.name"):  # fmt: skip
        assert places().content(key) is Content.NONE, key


def test_headers_that_may_hold_credentials_go() -> None:
    for key in ("gen_ai.headers", "llm.headers", "ai.request.headers.x-api-key", "langsmith.request.headers", "http.request.header.authorization",
                "HTTP.request.header.Cookie", "http.request.header.x-api-key", "rpc.request.header.auth-token"):  # fmt: skip
        assert POLICY.rule(key).mode is Mode.DROP, key
    assert POLICY.rule("http.request.header.accept").mode is Mode.SCAN


def test_keys_that_senders_make_up_do_not_fill_the_memory() -> None:
    policy = Policy(RedactionConfig())
    for number in range(25_000):
        policy.rule(f"key-{number}")
    assert len(policy._keys) <= 20_000


def test_every_dialect_was_asked() -> None:
    assert len(dialects()) > 30
