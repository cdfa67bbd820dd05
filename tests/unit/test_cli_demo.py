"""`spanledger demo`: the same seed draws the same calls, their spans are what gateways send, and their bill is right."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices import Usage, calc_price
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from spanledger.demo import world
from spanledger.demo.calls import Call, Gateway, Outcome
from spanledger.demo.spans import requests
from tests.cli_kit import run, serve

NOON = 1_795_521_600 * 10**9


def drawn(seed: int, count: int = 600) -> list[Call]:
    gateway = Gateway(seed)
    return [gateway.call(NOON + i * 10**9) for i in range(count)]


CALLS = drawn(7, 3000)


def spans_of(calls: list[Call]) -> list[tuple[str, str, Span]]:
    """Service, scope and span of everything that is sent."""
    found = []
    for body, count in requests(calls, Gateway(1).random):
        request = ExportTraceServiceRequest.FromString(body)
        spans = [
            (next(a.value.string_value for a in resource.resource.attributes if a.key == "service.name"), scope.scope.name, span)
            for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans
        ]  # fmt: skip
        assert len(spans) == count
        found += spans
    return found


SPANS = spans_of(CALLS)


def attributes(span: Span) -> dict[str, object]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


def test_the_same_seed_draws_the_same_calls():
    """Down to ids, tokens and cost; another seed draws others."""
    assert drawn(3) == drawn(3)
    assert drawn(3) != drawn(4)
    assert [b for b, _ in requests(drawn(3), Gateway(9).random)] == [
        b for b, _ in requests(drawn(3), Gateway(9).random)
    ]


def test_it_is_lifelike():
    """Every team, app and model; streams, cache reads and writes, reasoning, failures, fallbacks, blocks, replays, nobody's key."""
    assert {call.app.key for call in CALLS} == {app.key for app in world.APPS}
    assert {call.model for call in CALLS} == {model for model in vars(world).values() if isinstance(model, world.Model)}
    assert {call.outcome for call in CALLS} == set(Outcome)
    share = Counter(call.outcome for call in CALLS)
    assert share[Outcome.OK] > 0.85 * len(CALLS)
    for field in ("first_chunk_ns", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "end_user"):
        assert any(getattr(call, field) for call in CALLS), field
    assert any(not call.app.key for call in CALLS)
    assert any(call.cost is None for call in CALLS if call.billed)
    prompts = " ".join(call.prompt for call in CALLS)
    for personal in (
        "jane.doe@example.com",
        "4111 1111 1111 1111",
        "078-05-1120",
        "DE89 3704 0044 0532 0130 00",
        "+1 415 555 0132",
    ):
        assert personal in prompts


def test_counts_are_possible():
    """Parts are no more than their wholes, and a call that failed has none."""
    for call in CALLS:
        assert call.cache_read_tokens + call.cache_write_tokens <= call.input_tokens
        assert call.reasoning_tokens <= call.output_tokens
        if not call.billed and call.outcome is not Outcome.REPLAYED:
            assert call.input_tokens == call.output_tokens == 0
            assert call.cost == 0


def test_each_call_carries_its_own_bill():
    """By genai-prices, at the call's time; an unpriced model has none, a replay costs nothing."""
    for call in CALLS[:400]:
        if not call.billed:
            assert call.cost == 0
        elif call.model.book is None:
            assert call.cost is None
        else:
            usage = Usage(
                input_tokens=call.input_tokens, output_tokens=call.output_tokens,
                cache_read_tokens=call.cache_read_tokens, cache_write_tokens=call.cache_write_tokens,
            )  # fmt: skip
            provider, model = call.model.book
            at = datetime.fromtimestamp((call.start_ns + call.duration_ns) / 1e9, UTC)
            assert call.cost == calc_price(usage, model, provider_id=provider, genai_request_timestamp=at).total_price


def test_the_spans_are_valid():
    """Ids of the right length, unique; parents in the same trace, beginning before their children; ends after starts."""
    ids = [(span.trace_id, span.span_id) for _, _, span in SPANS]
    assert len(set(ids)) == len(ids)
    known = set(ids)
    for _, _, span in SPANS:
        assert (len(span.trace_id), len(span.span_id)) == (16, 8)
        assert any(span.trace_id)
        assert any(span.span_id)
        assert span.end_time_unix_nano >= span.start_time_unix_nano > 0
        assert not span.parent_span_id or (span.trace_id, span.parent_span_id) in known
        assert span.name


def test_gateway_and_app_report_one_call():
    """Most calls are told twice, by the gateway and by the app's SDK, with the same response id and the same counts."""
    reports: dict[str, list[tuple[str, dict[str, object]]]] = {}
    for _, scope, span in SPANS:
        facts = attributes(span)
        if "gen_ai.response.id" in facts:
            reports.setdefault(str(facts["gen_ai.response.id"]), []).append((scope, facts))
    twice = 0
    for found in reports.values():
        counts = {(facts["gen_ai.usage.input_tokens"], facts["gen_ai.usage.output_tokens"]) for _, facts in found}
        assert len(counts) == 1
        scopes = {scope for scope, _ in found}
        twice += len(scopes) == 2
        assert scopes <= {
            "litellm",
            "opentelemetry.instrumentation.genai.openai",
            "opentelemetry.instrumentation.genai.anthropic",
        }
    assert twice > len(reports) / 2


def test_failures_look_like_failures():
    """An error status, an error type, an exception event, no response id."""
    failed = [span for _, scope, span in SPANS if scope == "litellm" and span.status.code == Status.STATUS_CODE_ERROR]
    assert failed
    for span in failed:
        facts = attributes(span)
        assert facts["error.type"]
        assert "gen_ai.response.id" not in facts
        assert [event.name for event in span.events] == ["exception"]


@pytest.mark.parametrize("protocol", ["http"])
def test_the_command_sends_and_sums_up(protocol, capsys):
    """--calls of them, their bill by team, and what to look at next."""
    with serve(lambda request: (200, {}, b"")) as server:
        shown = run(capsys, "demo", "--calls", "120", "--rate", "0", "--seed", "5", "--endpoint", server.address).ok()
    spans = sum(
        len(scope.spans)
        for request in server.requests
        for resource in ExportTraceServiceRequest.FromString(request.body).resource_spans
        for scope in resource.scope_spans
    )
    assert shown.startswith(f"Sent 120 calls as {spans:,} spans to {server.address}")
    lines = [
        line.split() for line in shown.splitlines() if line.startswith("  ") and not line.startswith("  spanledger")
    ]
    total = Decimal(shown.split("The providers bill ")[1].split(" USD")[0].replace(",", ""))
    assert sum(Decimal(cost.replace(",", "")) for _, cost in lines) == total
    assert "spanledger costs --by team,model" in shown


def test_it_keeps_its_rate_and_its_duration(capsys):
    """--rate and --duration: as many calls as that makes, no faster."""
    with serve(lambda request: (200, {}, b"")) as server:
        began = datetime.now(UTC)
        shown = run(
            capsys, "demo", "--rate", "40", "--duration", "500ms", "--seed", "5", "--endpoint", server.address
        ).ok()
    assert shown.startswith("Sent 20 calls")
    assert 0.4 < (datetime.now(UTC) - began).total_seconds() < 10
    assert len(server.requests) > 3
