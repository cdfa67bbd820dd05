"""Prompts that were blocked and then allowed: found whatever batches and restarts, and no prompt is kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from collector.batch import Position, SpanBatch
from collector.component import Context
from collector.dialects import normalise
from collector.findings import Observation
from collector.otlp.decode import decode
from processors.guardrails import Guardrails, GuardrailsConfig
from tests.findings_kit import NOON_NS, Memory
from tests.spans_kit import request, span

MINUTE = 60 * 10**9
SECRET = "How do I get my card 4111 1111 1111 1111 back?"


def said(text: str) -> str:
    return json.dumps([{"role": "user", "parts": [{"type": "text", "content": text}]}])


def spans(prompt: str, at: int, *, blocked: bool = False, **more: Any) -> bytes:
    """LiteLLM's span of one call, allowed or blocked by the guardrail `blocklist`."""
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o", "gen_ai.system": "openai",
        "gen_ai.input.messages": said(prompt),
    }  # fmt: skip
    if blocked:
        attributes |= {"error.type": "HTTPException", "metadata.guardrail": "x"}
    else:
        attributes |= {"gen_ai.response.id": f"r{at}", "gen_ai.usage.input_tokens": 5, "gen_ai.usage.output_tokens": 5}
    return request(
        resource={"service.name": more.pop("app", "rag-bot")}, scope="litellm",
        spans=[span("litellm_request", attributes, kind="client", start_ns=NOON_NS + at * MINUTE, status="error" if blocked else "ok")],
    )  # fmt: skip


def started(state: Memory, **options: Any) -> Guardrails:
    made = Guardrails(GuardrailsConfig.model_validate(options), Context("guardrails", Path(), CollectorRegistry()))
    made.load(state)
    return made


def take(processor: Guardrails, state: Memory, bodies: Sequence[tuple[bytes, bool]]) -> list[Observation]:
    """One batch. Who refused is what the ledger's dialects say of it; here the test says so."""
    traces = decode(b"".join(body for body, _ in bodies))
    batch = normalise(SpanBatch.blank(traces, Position(1, 1), NOON_NS + 10**6 * MINUTE))
    refused = [("blocklist" if blocked else None) for _, blocked in bodies]
    reports = batch.reports
    assert len(reports) == len(bodies)
    frame = reports.with_columns(
        reports["refused_by"].__class__("refused_by", refused, dtype=reports["refused_by"].dtype)
    )
    found = list(processor.process(batch.with_(reports=frame)).observed)
    processor.save(state)
    processor.save(state)
    processor.committed()
    return found


BLOCKED, ALLOWED = (spans(SECRET, 0, blocked=True), True), (spans(SECRET, 5, app="other"), False)
FURTHER, LONGER = (spans(SECRET, 6, app="other"), False), (spans(SECRET + "!", 4), False)
SAME_LENGTH = (spans(SECRET.replace("How", "Why"), 3), False)


@pytest.mark.parametrize("cuts", [(5,), (1, 2, 3, 4, 5), (2, 5), (4, 5)])
def test_a_prompt_that_was_blocked_and_then_allowed_is_found_once(cuts: tuple[int, ...]) -> None:
    state = Memory()
    rows = [LONGER, BLOCKED, SAME_LENGTH, ALLOWED, FURTHER]
    observed: list[Observation] = []
    first = 0
    for cut in cuts:
        processor = started(state)
        processor.process(normalise(SpanBatch.blank(decode(ALLOWED[0]), Position(1, 1), NOON_NS)))
        processor.rollback()
        observed += take(processor, state, rows[first:cut])
        first = cut
    (one,) = observed
    assert (one.kind, dict(one.subject), one.at_ns) == ("guardrail.mistake", {"app": "rag-bot", "guardrail": "blocklist"}, NOON_NS + 5 * MINUTE)  # fmt: skip
    assert len({evidence.span_id for evidence in one.evidence}) == 2
    assert not take(started(state), state, rows)  # all of it once more


def test_what_was_allowed_before_or_long_after_is_not(tmp_path: Path) -> None:
    state = Memory()
    processor = started(state, within="1h")
    assert not take(processor, state, [ALLOWED, BLOCKED])
    assert not take(processor, state, [(spans(SECRET, 61), False)])
    assert not take(processor, state, [(spans("x", 200), False)])
    assert not [name for name in state.values if name.startswith(b"b")]


def test_nothing_is_hashed_while_nothing_was_blocked_and_no_prompt_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    state = Memory()
    processor = started(state)
    asked: list[Any] = []
    prompts = Guardrails._prompts

    def counted(self: Guardrails, *of: Any) -> Any:
        asked.append(of)
        return prompts(self, *of)

    monkeypatch.setattr(Guardrails, "_prompts", counted)
    take(processor, state, [ALLOWED, LONGER])
    assert not asked
    take(processor, state, [BLOCKED])
    assert asked
    kept = b"".join([*state.values.keys(), *state.values.values()])
    assert b"4111" not in kept
    other = Memory()
    take(started(other), other, [BLOCKED])
    hashes = [json.loads(value)[1] for memory in (state, other) for name, value in memory.values.items() if name[:1] == b"b"]  # fmt: skip
    assert len(set(hashes)) == 2  # each installation has a key of its own


def test_no_more_than_so_many_are_remembered() -> None:
    state = Memory()
    processor = started(state, max_prompts=2)
    take(processor, state, [(spans(f"prompt {n}", n, blocked=True), True) for n in range(4)])
    assert [one.at_ns for one in processor._blocked.values()] == [NOON_NS + 2 * MINUTE, NOON_NS + 3 * MINUTE]
    assert len([name for name in state.values if name.startswith(b"b")]) == 2
    assert (
        take(processor, state, [(spans("prompt 3", 9), False), (spans("prompt 0", 9), False)])[0].at_ns
        == NOON_NS + 9 * MINUTE
    )
