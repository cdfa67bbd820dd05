"""What went wrong in captures of a real gateway, as findings of a real collector: each told apart, each line of a budget one row."""

from __future__ import annotations

import time
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from tests.collector_kit import Collector
from tests.unit.test_routing import body, chat

CAPTURES = Path(__file__).parents[1] / "captures"
BUDGETS = """
  redaction:
  guardrails:
  routing:
  budgets:
    budgets:
      teams: {per: [team], usd: 0.0001, window: day, projected: null}
      all: {calls: 20, soft: [25, 50], window: day, projected: null}
"""


def test_the_captures_troubles_are_told_apart_and_each_budget_line_is_one_row(tmp_path: Path) -> None:
    """Scenario: the requests of litellm-v1, of which the second half comes after a kill, and all of them again; then
    litellm-v2; then a call days later, which ends all windows."""
    made = Collector(tmp_path)
    text = made.config.read_text().replace("  pricing:\n", "  pricing:" + BUDGETS)
    made.config.write_text(
        text.replace("[attribution, pricing]", "[attribution, guardrails, redaction, pricing, routing, budgets]")
    )
    first = [path.read_bytes() for path in sorted((CAPTURES / "litellm-v1").glob("*-traces.pb"))]
    second = [path.read_bytes() for path in sorted((CAPTURES / "litellm-v2").glob("*-traces.pb"))]
    try:
        made.start()
        for one in first[: len(first) // 2]:
            assert made.post(one)[0] == 200
        made.kill()
        made.start()
        for one in [*first[len(first) // 2 :], *first]:
            assert made.post(one)[0] == 200
        made.settled()
        troubles = made.sql(
            "SELECT Kind, Subject['guardrail'], Subject['app'], Subject['model'], Subject['served'], Team, toUInt32(Observations), State "
            "FROM llm_findings WHERE NOT startsWith(Kind, 'budget.') ORDER BY Kind, Team"
        )
        assert troubles == [
            ["guardrail.blocked", "blocklist", "rag-bot", "", "", "", 1, "open"],
            ["routing.fallback", "", "", "premium-broken", "gpt-4o-mini", "Search", 1, "open"],
            ["routing.fallback", "", "", "premium-broken", "gpt-4o-mini", "Support", 3, "open"],
            ["routing.model_unknown", "", "rag-bot", "nope", "", "Search", 1, "open"],
        ]
        # Their evidence are the spans that show them, and of each another one.
        evidence = made.sql(
            "SELECT f.Kind, c.RequestModel, c.ErrorType, count() FROM llm_findings AS f ARRAY JOIN f.SpanIds AS SpanId "
            "INNER JOIN llm_calls AS c ON c.SpanId = SpanId WHERE NOT startsWith(f.Kind, 'budget.') GROUP BY ALL ORDER BY f.Kind"
        )
        assert [(kind, model, error, int(count)) for kind, model, error, count in evidence] == [
            ("guardrail.blocked", "gpt-4o", "HTTPException", 1),
            ("routing.fallback", "premium-broken", "InternalServerError", 4),
            ("routing.model_unknown", "nope", "ProxyModelNotFoundError", 1),
        ]
        said = _budget_rows(made)
        assert said
        assert set(said.values()) == {(1, "open")}
        # The prompt that was blocked, sent by another call, which was allowed: whatever redaction made of it.
        assert made.post(_allowed(first))[0] == 200
        made.settled()
        mistakes = made.sql("SELECT Subject['guardrail'], Subject['app'], length(SpanIds), toUInt32(Observations) FROM llm_findings WHERE Kind = 'guardrail.mistake'")  # fmt: skip
        assert mistakes == [["blocklist", "rag-bot", 2, 1]]
        for one in second:
            assert made.post(one)[0] == 200
        made.settled()
        assert _budget_rows(made).keys() >= said.keys()
        assert set(_budget_rows(made).values()) == {(1, "open")}
        assert made.post(body(chat("later", start_ns=time.time_ns())))[0] == 200
        made.settled()
        assert {key: _budget_rows(made)[key] for key in said} == dict.fromkeys(said, (1, "resolved"))
        assert made.stop() == 0
    finally:
        made.close()


def _allowed(bodies: list[bytes]) -> bytes:
    """The call that the guardrail blocked, as it would look if it had not."""
    for one in map(ExportTraceServiceRequest.FromString, bodies):
        for resource in one.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    said = {attribute.key: attribute.value.string_value for attribute in span.attributes}
                    if span.name == "litellm_request" and said.get("error.type") == "HTTPException":
                        kept = [a for a in span.attributes if not a.key.startswith(("error", "gen_ai.response.id"))]
                        del span.attributes[:], span.events[:]
                        span.attributes.extend(kept)
                        span.attributes.add(key="gen_ai.response.id").value.string_value = "allowed"
                        span.trace_id, span.span_id, span.parent_span_id = b"m" * 16, b"m" * 8, b""
                        span.status.code, span.status.message = Status.STATUS_CODE_OK, ""
                        alone = ExportTraceServiceRequest()
                        added = alone.resource_spans.add(resource=resource.resource)
                        added.scope_spans.add(scope=scope.scope).spans.add().CopyFrom(span)
                        return alone.SerializeToString()
    raise AssertionError("the capture has no blocked call")


def _budget_rows(made: Collector) -> dict[tuple[str, str, str, str], tuple[int, str]]:
    """Kind, budget, team and threshold → how many rows say so, and what they say."""
    rows = made.sql(
        "SELECT Kind, Subject['budget'], Team, Subject['threshold'], count(), arrayStringConcat(groupUniqArray(State)) "
        "FROM llm_findings WHERE startsWith(Kind, 'budget.') GROUP BY ALL"
    )
    return {tuple(row[:4]): (int(row[4]), row[5]) for row in rows}
