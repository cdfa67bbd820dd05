"""Findings about personal data that reaches a provider: of what redaction found in requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from collector.batch import SpanBatch
from collector.component import Context
from collector.findings import Observation, Severity
from processors.privacy import KIND, Privacy, PrivacyConfig
from tests import redaction_kit
from tests.findings_kit import Memory, S
from tests.spans_kit import NOON_NS, request, span

CARD = "4111 1111 1111 1111"
HOUR = 3600 * S
REDACTION = redaction_kit.redaction()


def processor(state: Memory | None = None, **options: Any) -> Privacy:
    made = Privacy(PrivacyConfig.model_validate(options), Context("privacy", Path(), CollectorRegistry()))
    made.load(state or Memory())
    return made


def call(
    text: str, *, answer: str = "Fine.", app: str = "checkout", at_ns: int = NOON_NS, provider: str = "openai"
) -> bytes:
    def messages(role: str, said: str) -> str:
        return json.dumps([{"role": role, "parts": [{"type": "text", "content": said}]}])

    one = span(
        "chat gpt-4o",
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.usage.input_tokens": 10,
            "gen_ai.usage.output_tokens": 2,
            "gen_ai.input.messages": messages("user", text),
            "gen_ai.output.messages": messages("assistant", answer),
        },
        kind="client",
        start_ns=at_ns,
    )
    return request(resource={"service.name": app}, spans=[one])


def redacted(*bodies: bytes) -> SpanBatch:
    return REDACTION.process(redaction_kit.batch(b"".join(bodies)).with_(received_ns=NOON_NS + 100 * HOUR))


def seen(privacy: Privacy, *bodies: bytes) -> tuple[Observation, ...]:
    return privacy.process(redacted(*bodies)).observed


def test_a_card_in_a_prompt_is_said_to_reach_the_provider_and_is_not_quoted() -> None:
    batch = redacted(call(f"Charge {CARD}."))
    (one,) = processor().process(batch).observed
    assert one.kind == KIND
    assert one.subject == (("app", "checkout"), ("detector", "card"), ("provider", "openai"))
    assert one.message == "Payment card numbers reach openai, from app checkout."
    assert (one.severity, one.at_ns, one.quiet_ns) == (Severity.CRITICAL, NOON_NS, 24 * HOUR)
    assert one.evidence[0].span_id == batch.reports["span_id"][0]
    assert "4111" not in repr(one)


def test_what_only_the_answer_holds_did_not_reach_anybody() -> None:
    assert seen(processor(), call("What is the test card?", answer=f"It is {CARD}.")) == ()


def test_a_batch_without_hits_is_left_alone() -> None:
    batch = redacted(call("Hello."))
    assert processor().process(batch) is batch


def test_one_observation_an_hour_of_each_subject_wherever_batches_end() -> None:
    bodies = [
        call(f"Charge {CARD}.", at_ns=NOON_NS), call(f"Charge {CARD}.", at_ns=NOON_NS + 5 * S),
        call(f"Charge {CARD}.", app="shop"), call(f"Charge {CARD}.", at_ns=NOON_NS + HOUR),
        call("Write to jane@example.com.", at_ns=NOON_NS + HOUR), call(f"Charge {CARD}.", at_ns=NOON_NS + 2 * S),
    ]  # fmt: skip
    whole = seen(processor(), *bodies)
    state = Memory()
    parts: list[Observation] = []
    for body in bodies:
        privacy = processor(state)
        again = seen(privacy, body)
        privacy.rollback()
        parts += seen(privacy, body)
        privacy.save(state)
        assert again == tuple(parts[len(parts) - len(again) :])
    assert [(dict(o.subject)["app"], dict(o.subject)["detector"], o.at_ns) for o in whole] == [
        ("checkout", "card", NOON_NS), ("shop", "card", NOON_NS), ("checkout", "card", NOON_NS + HOUR), ("checkout", "email", NOON_NS + HOUR),
    ]  # fmt: skip
    assert tuple(parts) == whole


def test_what_the_options_leave_out_makes_no_finding() -> None:
    body = call(f"Charge {CARD}, write to jane@example.com.")
    (one,) = seen(processor(ignore=["card"], severities={"email": "info"}), body)
    assert (dict(one.subject)["detector"], one.severity) == ("email", Severity.INFO)
    assert seen(processor(allowed_providers=["openai"]), body) == ()


def test_a_clock_that_is_years_ahead_says_nothing() -> None:
    assert seen(processor(), call(f"Charge {CARD}.", at_ns=NOON_NS + 10**18)) == ()


def test_what_has_no_name_of_its_own_is_told_by_its_detector() -> None:
    """A sentence, not an identifier where its subject should be."""
    (named,) = seen(processor(), call("Born on 1984-02-13, date of birth 13.02.1984."))
    assert named.message == "Dates of birth reach openai, from app checkout."
    (other,) = seen(processor(), call("Mein Konto: user id tax IdNr 86 095 742 719."))
    assert other.message == "Values that de_idnr finds reach openai, from app checkout."
