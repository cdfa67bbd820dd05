"""Redaction of requests: where it looks, what it leaves, and what becomes of what it finds."""

from __future__ import annotations

import ast
import json
import logging
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client import CollectorRegistry

from collector.batch import Position, RequestBatch
from collector.signals import Signal
from config.loader import loads
from processors.redaction.assembling import assemble
from processors.redaction.processor import Redaction
from tests.redaction_kit import attributes, batch, message, outcome, redacted, redaction, texts
from tests.signals_kit import logs, record
from tests.spans_kit import event, request, span

EMAIL, CARD, SSN = "jane.doe@example.com", "4111 1111 1111 1111", "078-05-1120"
PROMPT = f"Mail {EMAIL}, charge {CARD}, SSN {SSN}."
GONE = "Mail [REDACTED:email], charge [REDACTED:card], SSN [REDACTED:us_ssn]."
CALL = {
    "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o-mini", "gen_ai.response.id": "chatcmpl-1",
    "gen_ai.usage.input_tokens": 4111111111111111, "gen_ai.usage.output_tokens": 7,
}  # fmt: skip


def one(attrs: dict[str, Any], **options: Any) -> dict[str, Any]:
    """The attributes of one span after redaction."""
    return attributes(redacted(request(spans=[span("s", attrs)]), **options))


def test_every_place_of_a_span_is_searched() -> None:
    made = span(
        f"call {EMAIL}", {"a": PROMPT, "list": [PROMPT, {"deep": [PROMPT]}], EMAIL: 1, "bytes": PROMPT.encode(), "card": 4111111111111111},
        events=[event(f"of {EMAIL}", {"message": PROMPT})], status="error", message=PROMPT,
    )  # fmt: skip
    made.trace_state = f"vendor={EMAIL}"
    made.links.append(Span.Link(trace_id=b"x" * 16, span_id=b"y" * 8, trace_state=f"v={EMAIL}"))
    made.links[0].attributes.add(key="l").value.string_value = PROMPT
    body = request(
        resource={"owner": PROMPT}, scope=f"scope {EMAIL}", version=EMAIL, schema_url=f"https://x/{EMAIL}",
        scope_attributes={"s": PROMPT}, spans=[made],
    )  # fmt: skip
    left = "\n".join(texts(message(redacted(body))))
    assert not [value for value in (EMAIL, CARD, SSN, CARD.replace(" ", "")) if value in left]
    got = message(redacted(body)).resource_spans[0]
    after = got.scope_spans[0].spans[0]
    assert got.resource.attributes[0].value.string_value == GONE
    assert after.name == "call [REDACTED:email]"
    assert after.status.message == after.events[0].attributes[0].value.string_value == GONE
    assert after.attributes[1].value.array_value.values[0].string_value == GONE
    assert after.attributes[3].value.string_value == GONE
    assert after.attributes[4].value.string_value == "[REDACTED:card]"
    assert (after.trace_id, after.span_id) == (made.trace_id, made.span_id)


def test_what_has_nothing_to_hide_leaves_byte_for_byte() -> None:
    body = request(resource={"service.name": "shop"}, scope="app", spans=[span("s", {"n": 1, "order": "88-1204", "b": b"\x00\xff" * 0, "t": True})])  # fmt: skip
    made = batch(body)
    assert redaction().process(made).otlp is made.otlp


def test_models_counts_costs_times_and_ids_are_never_touched() -> None:
    """Even where a count has the digits of a card."""
    attrs = {
        **CALL,
        "gen_ai.usage.cost": 4111111111111111.0,
        "duration_ms": 4111111111111111,
        "trace_id": 4111111111111111,
    }
    assert one(attrs) == attrs


def test_numbers_that_are_cards_or_ids_by_their_key_become_texts() -> None:
    assert one({"pan": 4111111111111111, "as_double": 4111111111111111.0}) == {"pan": "[REDACTED:card]", "as_double": "[REDACTED:card]"}  # fmt: skip
    assert one({"user.ssn": 78051120, "customer_ssn": 123456789, "n": 123456789})["customer_ssn"] == "[REDACTED:us_ssn]"
    assert one({"n": 123456789}) == {"n": 123456789}


def test_a_value_whose_key_says_what_it_is() -> None:
    assert one({"patient.ssn": "123456789", "dateOfBirth": "1987-03-04", "day": "1987-03-04"}) == {
        "patient.ssn": "[REDACTED:us_ssn]", "dateOfBirth": "[REDACTED:date_of_birth]", "day": "1987-03-04",
    }  # fmt: skip


def test_keys_stay_apart() -> None:
    """Two keys that must go do not become one."""
    got = one({"jane@example.com": 1, "john@example.com": 2, "n": {"ann@example.com": 3, "bob@example.com": 4}})
    keys = [*list(got)[:2], *got["n"]]
    assert len(set(keys)) == 4
    assert all(key.startswith("email_k") for key in keys)


@pytest.mark.parametrize("said", [(EMAIL, "k"), ("k", EMAIL), ("a", EMAIL, "k")], ids=["first", "last", "between"])
def test_a_key_that_does_not_count_leaves_redacted_too(said: tuple[str, ...]) -> None:
    """Of keys that one attribute has several times readers see the last. The others are in the bytes."""
    pair = b"".join(b"\x0a" + bytes([len(key)]) + key.encode() for key in said) + b"\x12\x03\x0a\x01v"
    bare = span("s", {})
    grown = Span.FromString(bare.SerializeToString() + b"\x4a" + bytes([len(pair)]) + pair)
    assert len(grown.attributes) == 1
    raw = bare.SerializeToString() + b"\x4a" + bytes([len(pair)]) + pair
    body = b"\x12" + bytes([len(raw)]) + raw
    body = b"\x12" + bytes([len(body)]) + body
    out = redacted(b"\x0a" + bytes([len(body)]) + body)
    assert EMAIL.encode() not in out
    assert b"email_k" in out


def test_what_keys_decide_holds_whatever_came_before() -> None:
    """Keys are listed one by one only where that can matter: a request must not depend on whether the last one needed it."""
    drop = [{"match": "internal.*", "action": "drop"}]
    bodies = [
        request(spans=[span("s", attrs)])
        for attrs in (
            {"a": PROMPT},
            {EMAIL: True},
            {"internal.flag": True, "a": "x"},
            {"internal.empty": None},
            {"a": "y"},
        )
    ]
    alone = [redacted(body, attributes=drop) for body in bodies]
    assert [attributes(body) for body in alone[2:]] == [{"a": "x"}, {}, {"a": "y"}]
    for order in (range(5), range(4, -1, -1), (0, 2, 0, 1, 4, 3, 0)):
        processor = redaction(attributes=drop)
        assert [processor.process(batch(bodies[n])).otlp.data.tobytes() for n in order] == [alone[n] for n in order]


def test_bytes_that_are_no_text_go() -> None:
    got = one({"utf8": b"plain", "binary": b"\x80\x81", "utf16": EMAIL.encode("utf-16-le")})
    assert got == {"utf8": b"plain", "binary": "[REDACTED:unscannable]", "utf16": "[REDACTED:unscannable]"}


def test_a_value_too_large_to_search_goes() -> None:
    body = request(spans=[span("s", {"large": "x" * 2000, "small": "x" * 900})])
    found = outcome(redaction(max_value_size=1024), body)
    assert {reason: len(rows) for reason, rows in found.unscanned.items()} == {"too_large": 1}
    assert attributes(found.data.tobytes()) == {"large": "[REDACTED:unscannable]", "small": "x" * 900}


def test_a_detector_that_errs_costs_the_value_not_the_guarantee(monkeypatch: pytest.MonkeyPatch) -> None:
    processor = redaction()
    scan = processor.parts.engine._search._texts_in.scanner._decide

    def fails(folded: Any, row: int, *rest: Any) -> Any:
        if b"boom" in folded.buffer[folded.start[row] : folded.start[row + 1]].tobytes():
            raise ValueError("secret detail")
        return scan(folded, row, *rest)

    monkeypatch.setattr(processor.parts.engine._search._texts_in.scanner, "_decide", fails)
    body = request(spans=[span("s", {"bad": f"boom {EMAIL}", "good": PROMPT})])
    found = outcome(processor, body)
    assert attributes(found.data.tobytes()) == {"bad": "[REDACTED:unscannable]", "good": GONE}
    assert list(found.unscanned) == ["error"]


# Content ------------------------------------------------------------------------------------------------------------------

CONTENT = {**CALL, "gen_ai.input.messages": PROMPT, "gen_ai.output.messages": PROMPT, "llm.openai.messages": PROMPT}


def test_content_is_dropped_redacted_or_kept() -> None:
    assert one(CONTENT, content="drop") == CALL
    assert one(CONTENT) == {
        **CALL,
        "gen_ai.input.messages": GONE,
        "gen_ai.output.messages": GONE,
        "llm.openai.messages": GONE,
    }
    secret = {**CALL, "gen_ai.input.messages": f"{PROMPT} {AWS}", "other": PROMPT}
    assert one(secret, content="keep") == {
        **CALL,
        "gen_ai.input.messages": f"{PROMPT} [REDACTED:aws_access_key]",
        "other": GONE,
    }


AWS = "AKIA" + "Z7QW3RTY5UIOP2AS"


def test_strict_drops_content_and_counts_what_was_in_it() -> None:
    attrs = {**CONTENT, "gen_ai.usage.input_tokens": 12}
    made = redaction(profile="strict").process(batch(request(scope="litellm", spans=[span("chat", attrs)])))
    assert {entry["name"]: entry["count"] for entry in made.spans["pii"][0]} == {"email": 3, "card": 3, "us_ssn": 3}
    assert {entry["name"]: entry["count"] for entry in made.spans["pii_in_request"][0]} == {
        "email": 2,
        "card": 2,
        "us_ssn": 2,
    }
    assert made.reports["input_tokens"].to_list() == [12]


def test_events_that_are_content_obey_the_content_policy() -> None:
    events = [
        event(
            "gen_ai.user.message", {"content": "hello", "role": "user", "gen_ai.system": "openai", "anything": "hello"}
        ),
        event("exception", {"exception.message": "hello"}),
    ]
    body = request(spans=[span("s", events=events)])
    kept = message(redacted(body, content="drop")).resource_spans[0].scope_spans[0].spans[0].events
    assert [pair.key for pair in kept[0].attributes] == ["role", "gen_ai.system"]
    assert [pair.key for pair in kept[1].attributes] == ["exception.message"]


def test_log_records_that_are_content_obey_the_content_policy() -> None:
    body = logs(
        record({"role": "user", "content": "hello", "parts": [{"text": "hello", "n": 5}]}, {"event.name": "gen_ai.user.message", "gen_ai.prompt": "hello"}),
        record("hello", event_name="claude_code.user_prompt"),
        record("hello", {"event.name": "shop.order"}),
    )  # fmt: skip
    out = redacted(body, Signal.LOGS, content="drop")
    first, second, third = message(out, Signal.LOGS).resource_logs[0].scope_logs[0].log_records
    said = {pair.key: pair.value for pair in first.body.kvlist_value.values}
    assert said["role"].string_value == "user"
    assert said["content"].string_value == "[REDACTED:content]"
    assert "hello" not in str(first)
    assert [pair.key for pair in first.attributes] == ["event.name"]
    assert second.body.string_value == "[REDACTED:content]"
    assert third.body.string_value == "hello"
    assert redacted(out, Signal.LOGS, content="drop") == out


# Identities ---------------------------------------------------------------------------------------------------------------


def test_users_are_pseudonyms_in_attributes_columns_and_documents_alike() -> None:
    attrs = {
        **CALL, "metadata.user_api_key_user_id": "alice", "metadata.user_api_key_hash": "h", "llm.user": "alice", "enduser.id": "alice",
        "metadata.requester_metadata": "{'user_id': 'alice', 'n': 1}", "input.value": json.dumps({"user": "alice", "q": "hi"}),
    }  # fmt: skip
    made = redaction().process(batch(request(scope="litellm", spans=[span("litellm_request", attrs)])))
    got = attributes(made.otlp.data.tobytes())
    token = got["metadata.user_api_key_user_id"]
    assert token.startswith("user_k")
    assert got["llm.user"] == got["enduser.id"] == token
    assert got["metadata.requester_metadata"] == f"{{'user_id': '{token}', 'n': 1}}"
    assert json.loads(got["input.value"]) == {"user": token, "q": "hi"}
    assert made.reports["user"].to_list() == made.reports["gateway_user"].to_list() == [token]
    assert made.reports["claimed_user"].to_list() == [token]
    assert "alice" not in str(made.reports.to_dicts())


def test_identities_can_be_kept_by_name_and_secrets_leave_them_all_the_same() -> None:
    attrs = {"enduser.id": EMAIL, "llm.user": f"bot {AWS}", "metadata.user_api_key_end_user_id": "e"}
    got = one(attrs, identities={"keep": ["user"]})
    assert got["enduser.id"] == EMAIL
    assert got["llm.user"] == "bot [REDACTED:aws_access_key]"
    assert got["metadata.user_api_key_end_user_id"].startswith("user_k")
    assert one(attrs, identities="keep")["metadata.user_api_key_end_user_id"] == "e"


def test_more_identities_by_profile_or_by_name() -> None:
    attrs = {"session.id": "s1", "metadata.user_api_key_alias": "key-1"}
    assert one(attrs) == attrs
    assert one(attrs, profile="strict")["session.id"].startswith("conversation_k")
    assert one(attrs, identities={"pseudonymise": ["api_key"]})["metadata.user_api_key_alias"].startswith("key_k")


def test_attributes_that_attribution_takes_users_from_get_pseudonyms_in_every_signal() -> None:
    """As the config says it: an attribute, or a member of the document that it is. One that only holds the name stays."""
    config = """
        receivers: {otlp: }
        exporters: {debug: }
        processors:
          attribution:
            user: {from: [span.employee, resource.account.owner, {source: span.url.path, pattern: "/users/([^/]+)"}]}
            end_user: [span.customer]
          redaction:
        service: {pipelines: {traces: {receivers: [otlp], processors: [attribution, redaction], exporters: [debug]}}}
    """
    sources = loads(config, "test.yaml").sources
    assert sources == {"user": ["span.employee", "resource.account.owner"], "end_user": ["span.customer"]}
    attrs = {
        "employee": "E7",
        "account.owner": "E7",
        "account": '{"owner": "E7"}',
        "url.path": "/users/E7",
        "customer": "C1",
    }
    got = one(attrs, sources=sources)
    token = got["employee"]
    assert token.startswith("user_k")
    assert got["account.owner"] == token
    assert json.loads(got["account"]) == {"owner": token}
    assert got["customer"].startswith("user_k")
    assert got["url.path"] == "/users/E7"
    said = logs(record("x", {"employee": "E7"}))
    assert token.encode() in redacted(said, Signal.LOGS, sources=sources)
    assert one(attrs, sources=sources, identities={"keep": ["user"]})["employee"] == "E7"
    assert one(attrs) == attrs


def test_nobody_stays_nobody() -> None:
    attrs = {**CALL, "metadata.user_api_key_user_id": "default_user_id", "enduser.id": "None", "llm.user": ""}
    body = request(scope="litellm", spans=[span("litellm_request", attrs)])
    made = redaction().process(batch(body))
    assert attributes(made.otlp.data.tobytes()) == attrs
    assert made.reports["user"].to_list() == ["(unattributed)"]


def test_a_pseudonym_is_not_made_into_another_and_a_look_alike_is() -> None:
    once = request(spans=[span("s", {"user.id": "alice", "note": "by alice@example.com"})])
    twice = redacted(once, detectors={"email": "pseudonymise"})
    assert redacted(twice, detectors={"email": "pseudonymise"}) == twice
    fake = "user_k0000_" + "0" * 32
    assert one({"user.id": fake})["user.id"] != fake


def test_what_the_ledger_knows_calls_by_stays_apart() -> None:
    """Two response ids that look like what a detector finds are two afterwards, in the column as in the attribute."""
    spans = [span("chat", {**CALL, "gen_ai.response.id": f"{name}@example.com"}) for name in ("ann", "bob")]
    made = redaction().process(batch(request(scope="litellm", spans=spans)))
    ids = made.reports["response_id"].to_list()
    assert len(set(ids)) == 2
    assert all(id_.startswith("email_k") for id_ in ids)
    assert all(id_.encode() in made.otlp.data.tobytes() for id_ in ids)


def test_columns_keep_no_copy_of_what_was_found() -> None:
    attrs = {**CALL, "gen_ai.request.model": f"ft:{EMAIL}", "error.type": EMAIL, "litellm.team.alias": f"team of {EMAIL}", "litellm.metadata.tags": [EMAIL, "prod"]}  # fmt: skip
    made = redaction().process(batch(request(resource={"service.name": EMAIL}, scope="litellm", spans=[span("chat", attrs)])))  # fmt: skip
    assert EMAIL not in str(made.reports.to_dicts()) + str(made.spans.to_dicts())
    assert made.reports["tags"].to_list() == [["[REDACTED:email]", "prod"]]
    assert made.spans["request_model"].to_list() == ["ft:[REDACTED:email]"]


# Actions and rules --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("replace", "card [REDACTED:card]!"),
        ("mask", "card **** **** **** ****!"),
        ({"mask": {"keep_last": 4}}, "card **** **** **** 1111!"),
        ("drop_value", "[REDACTED:card]"),
        ("drop_attribute", None),
        ("off", f"card {CARD}!"),
    ],
)
def test_what_happens_to_a_hit(action: Any, expected: str | None) -> None:
    assert one({"a": f"card {CARD}!", "b": "x"}, detectors={"card": action}).get("a") == expected


def test_a_pseudonym_is_the_same_for_the_same_text() -> None:
    got = one({"a": f"x {EMAIL}", "b": f"{EMAIL} y"}, detectors={"email": "pseudonymise"})
    assert got["a"][2:] == got["b"][:-2]
    assert got["a"].startswith("x email_k")


def test_rules_by_key_come_first_and_the_first_that_matches_holds() -> None:
    attrs = {
        "http.request.header.x": ["a"], "keep.me": EMAIL, "hide.a": "x", "hide.b": "secret", "user.id": "alice", "gen_ai.headers": "{}", "pan": CARD,
        "llm.headers": f"by {EMAIL}",
    }  # fmt: skip
    rules = [
        {"match": "HTTP.request.header.*", "action": "drop"},
        {"match": ["keep.*", "user.id"], "action": "keep"},
        {"match": "hide.a", "action": "drop_value"},
        {"match": "hide.*", "action": "pseudonymise"},
        {"match": "pan", "action": {"mask": {"keep_last": 4}}},
        {"match": "llm.headers", "action": "scan"},
    ]
    got = one(attrs, attributes=rules)
    assert got.pop("hide.b").startswith("attribute_k")
    assert got == {
        "keep.me": EMAIL, "hide.a": "[REDACTED:attribute]", "user.id": "alice", "pan": "**** **** **** 1111", "llm.headers": "by [REDACTED:email]",
    }  # fmt: skip


def test_an_allow_list_of_texts_and_patterns() -> None:
    attrs = {"a": "support@acme.example", "b": "x.support@acme.example", "c": EMAIL}
    allow = ["support@acme.example", {"pattern": r"[a-z.]+@acme\.example"}]
    assert one(attrs, allow=allow) == {**attrs, "c": "[REDACTED:email]"}
    assert one(attrs, allow=allow[:1])["b"] == "[REDACTED:email]"


def test_patterns_of_ones_own() -> None:
    patterns = [{"id": "ticket", "pattern": "TCK-[0-9]{6}", "action": "pseudonymise"}, {"id": "room", "pattern": "[0-9]{3}", "keywords": ["room"]}]  # fmt: skip
    got = one({"a": "see TCK-123456", "b": "room 101", "c": "chapter 101"}, patterns=patterns)
    assert got["a"].startswith("see ticket_k")
    assert (got["b"], got["c"]) == ("room [REDACTED:room]", "chapter 101")


def test_a_kind_of_detectors_together() -> None:
    attrs = {"a": PROMPT, "b": AWS}
    assert one(attrs, detectors={"pii": "off"}) == {"a": PROMPT, "b": "[REDACTED:aws_access_key]"}
    got = one(attrs, detectors={"pii": "off", "email": "replace"})
    assert got["a"] == PROMPT.replace(EMAIL, "[REDACTED:email]")


# Metrics ------------------------------------------------------------------------------------------------------------------


def test_series_stay_apart_and_measured_values_stay() -> None:
    """A constant in place of a label would make one series of two."""
    sent = ExportMetricsServiceRequest()
    metric = sent.resource_metrics.add().scope_metrics.add().metrics.add(name="tokens", description=f"asked by {EMAIL}")
    for name in ("ann", "bob"):
        point = metric.sum.data_points.add(as_int=4111111111111111)
        point.attributes.add(key="who").value.string_value = f"{name}@example.com"
        point.attributes.add(key="metadata.user_api_key_user_email").value.string_value = f"{name}@example.com"
        point.exemplars.add().filtered_attributes.add(key="prompt").value.string_value = PROMPT
    after = message(redacted(sent.SerializeToString(), Signal.METRICS), Signal.METRICS)
    metric = after.resource_metrics[0].scope_metrics[0].metrics[0]
    labels = [[pair.value.string_value for pair in point.attributes] for point in metric.sum.data_points]
    assert len({who for who, _ in labels}) == len({user for _, user in labels}) == 2
    assert [point.as_int for point in metric.sum.data_points] == [4111111111111111] * 2
    assert metric.description == "asked by [REDACTED:email]"
    assert not [text for text in texts(after) if "example.com" in text or CARD in text]


# The processor --------------------------------------------------------------------------------------------------------------


def test_off_passes_everything_and_says_so_loudly(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    processor = redaction(profile="off")
    assert "redaction is OFF" in caplog.text
    made = batch(request(spans=[span("s", {"a": PROMPT})]))
    assert processor.process(made) is made
    requests = RequestBatch(Signal.LOGS, batch(b"").otlp.data, 0, Position(1, 1), 0)
    assert processor.process_requests(requests) is requests


def metric(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"spanledger_redaction_{name}", labels)


def test_metrics_count_when_the_batch_is_committed_and_only_then() -> None:
    registry = CollectorRegistry()
    processor = redaction(registry=registry, detectors={"card": "mask"}, content="keep")
    body = request(spans=[span("s", {"a": PROMPT, "gen_ai.prompt": EMAIL, "b": b"\xff"})])
    processor.process(batch(body))
    processor.rollback()
    processor.committed()
    assert metric(registry, "hits_total", detector="email", action="replace") is None
    processor.process(batch(body))
    processor.committed()
    processor.committed()
    assert metric(registry, "hits_total", detector="email", action="replace") == 1
    assert metric(registry, "hits_total", detector="email", action="none") == 1
    assert metric(registry, "hits_total", detector="card", action="mask") == 1
    assert metric(registry, "unscannable_total", reason="encoding") == 1
    assert (metric(registry, "scanned_bytes_total") or 0) > len(PROMPT)


def test_two_pipelines_count_into_one_set_of_metrics() -> None:
    registry = CollectorRegistry()
    for _ in range(2):
        processor = redaction(registry=registry)
        processor.process(batch(request(spans=[span("s", {"a": EMAIL})])))
        processor.committed()
    assert metric(registry, "hits_total", detector="email", action="replace") == 2


def test_the_audit_finds_and_removes_what_was_missed(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect, made up here: a rewriting that forgets a value, and columns that are left as they are."""
    registry = CollectorRegistry()
    processor = redaction(registry=registry, audit=True)
    body = request(scope="litellm", spans=[span("chat", {**CALL, "a": PROMPT, "error.type": EMAIL})])
    right = redaction().process(batch(body))
    assert processor.process(batch(body)).otlp.data.tobytes() == right.otlp.data.tobytes()
    assert metric(registry, "audit_findings_total", place="span attribute", detector="email") is None
    forget_once(processor, monkeypatch)
    made = processor.process(batch(body))
    assert made.otlp.data.tobytes() == right.otlp.data.tobytes()
    assert made.reports.equals(right.reports)
    assert metric(registry, "audit_findings_total", place="span attribute", detector="email") == 2
    assert metric(registry, "audit_findings_total", place="column error_type", detector="any") == 1
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert any("span attribute, detector card" in line for line in errors)
    assert not [line for line in errors if EMAIL in line or CARD in line]


def forget_once(processor: Redaction, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the processor's first pass over a request, and over its reports, do nothing."""
    engine, columns = processor.parts.engine, processor.parts.columns
    redact, frame = engine.redact, columns.redact
    calls = {"engine": 0, "columns": 0}

    def lazy_engine(signal: Any, data: Any, traces: Any = None) -> Any:
        calls["engine"] += 1
        done = redact(signal, data, traces)
        if calls["engine"] > 1:
            return done
        from dataclasses import replace

        return replace(done, data=data)

    def lazy_columns(given: Any, *clean: Any) -> Any:
        calls["columns"] += 1
        return given if calls["columns"] == 1 else frame(given, *clean)

    monkeypatch.setattr(engine, "redact", lazy_engine)
    monkeypatch.setattr(columns, "redact", lazy_columns)


def test_a_request_without_spans_is_sent_on_and_so_is_searched() -> None:
    left = redacted(request(resource={"owner": PROMPT, "user.id": EMAIL}, scope=EMAIL, spans=[]))
    assert [value for value in (EMAIL, CARD, SSN) if value.encode() in left] == []
    assert GONE.encode() in left


def test_an_empty_batch() -> None:
    made = batch(b"")
    assert len(redaction().process(made)) == 0
    requests = RequestBatch(Signal.METRICS, made.otlp.data, 0, Position(1, 1), 0)
    assert len(redaction().process_requests(requests).data) == 0


# Documents inside texts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (json.dumps({"a": PROMPT, "n": 4111111111111111, "deep": json.dumps({"a": PROMPT, "n": [4111111111111111]})}), json.loads),
        (json.dumps({"a": f"ä\n{EMAIL}\t{CARD}"}).replace("@", "\\u0040"), json.loads),
        (repr({"a": f"it's {EMAIL}", "n": 4111111111111111, "b": "x\n" + CARD}), ast.literal_eval),
        (repr({"a": json.dumps({"b": f"x\n{EMAIL}"})}).replace("@", "\\x40"), ast.literal_eval),
    ],
)  # fmt: skip
def test_documents_stay_documents_without_what_was_found(text: str, read: Any) -> None:
    got = one({"document": text})["document"]
    shown = str(read(got)).replace("\\", "")
    assert set(read(got)) == set(read(text)), "the same members"
    assert "example.com" not in got
    assert "4111" not in got
    assert "[REDACTED:" in shown
    assert one({"document": got})["document"] == got


def test_a_document_too_deep_to_read_goes() -> None:
    text = EMAIL
    for _ in range(4):
        text = json.dumps([f'"{text}"'])
    assert one({"d": text}, max_depth=2)["d"] == "[REDACTED:unscannable]"
    assert "example.com" not in one({"d": text})["d"]


def test_nothing_is_compiled_in_the_first_batch() -> None:
    """Loading has run all that is compiled: requests of every signal bring no signature that is new."""
    from numba.core.registry import CPUDispatcher

    processor = redaction()
    processor.load(None)  # type: ignore[arg-type]
    modules = [
        module for name, module in sys.modules.items() if name.startswith(("processors.redaction", "collector."))
    ]
    kernels = {k for module in modules for k in vars(module).values() if isinstance(k, CPUDispatcher)}
    before = {kernel: len(kernel.signatures) for kernel in kernels}
    processor.process(batch(request(scope="litellm", spans=[span("chat", {**CONTENT, "n": 4111111111111111, EMAIL: json.dumps(PROMPT)})])))  # fmt: skip
    sent = logs(record({"a": PROMPT}, {"event.name": "gen_ai.user.message", "b": PROMPT.encode()}))
    processor.process_requests(RequestBatch(Signal.LOGS, np.frombuffer(sent, np.uint8), 1, Position(1, 1), 0))
    compiled = [k.py_func.__qualname__ for k in kernels if len(k.signatures) > before[k] and "redaction" in k.py_func.__module__]  # fmt: skip
    assert not compiled


@given(
    texts=st.lists(st.binary(max_size=30), max_size=6), cuts=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 30), st.integers(0, 30), st.integers(0, 2)), max_size=12)
)  # fmt: skip
def test_parts_of_texts_are_exchanged_as_python_would(
    texts: list[bytes], cuts: list[tuple[int, int, int, int]]
) -> None:
    """Against slicing; parts that overlap or reach beyond their text are refused."""
    pieces = [b"", b"x", b"longer piece"]
    cuts = sorted(cut for cut in cuts if cut[0] < len(texts))
    size = np.array([len(text) for text in texts], np.int64)
    first = np.array([sum(cut[0] < row for cut in cuts) for row in range(len(texts) + 1)], np.int64)
    columns = [np.array([cut[column] for cut in cuts], np.int64) for column in (1, 2, 3)]
    length = np.array([len(piece) for piece in pieces], np.int64)
    arguments = (
        np.frombuffer(b"".join(texts), np.uint8), np.cumsum(size) - size, size, first, *columns,
        np.frombuffer(b"".join(pieces), np.uint8), np.cumsum(length) - length, length,
    )  # fmt: skip
    expected = []
    for row, text in enumerate(texts):
        made, at = b"", 0
        for _, start, end, piece in (cut for cut in cuts if cut[0] == row):
            if not at <= start <= end <= len(text):
                with pytest.raises(ValueError, match="overlap"):
                    assemble(*arguments)
                return
            made, at = made + text[at:start] + pieces[piece], end
        expected.append(made + text[at:])
    blob, begin = assemble(*arguments)
    assert [blob[begin[row] : begin[row + 1]].tobytes() for row in range(len(texts))] == expected
