"""The article's policy in a real collector: waste is flagged, priced, told; a fallback is found across a kill."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from pathlib import Path

from tests.collector_kit import Collector
from tests.spans_kit import span
from tests.unit.test_routing import ARTICLE, body, chat


def test_the_articles_policy_end_to_end(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(ARTICLE)
    made = Collector(tmp_path)
    text = made.config.read_text().replace("  pricing:\n", f"  pricing:\n  routing: {{policy_file: {policy}}}\n")
    made.config.write_text(text.replace("[attribution, pricing]", "[attribution, pricing, routing]"))
    now = time.time_ns() - 60 * 10**9
    above = span("request", kind="server")
    low = {"task_type": "general_chat", "user_priority": "low"}
    waste = chat("waste", start_ns=now, **low)
    right = chat("right", "gpt-3.5-turbo", start_ns=now, **low)
    failed = chat(
        "", "gpt-4", (0, 0), parent=above, status="error", error__type="timeout", start_ns=now, duration_ns=10**9
    )
    answered = chat("instead", "gpt-4o-mini", parent=above, start_ns=now + 2 * 10**9)
    try:
        made.start()
        assert made.post(body(waste, right, failed))[0] == 200
        made.settled()
        made.kill()
        made.start()
        assert made.post(body(answered))[0] == 200
        made.settled()
        assert made.sql(
            "SELECT ResponseId, Route, ExpectedModel, RouteVerdict, toString(CostUSD), toString(AvoidableCostUSD) FROM llm_calls "
            "WHERE RouteVerdict IN ('ok', 'premium_instead') AND ResponseId != '' ORDER BY ResponseId"
        ) == [
            ["right", "2", "gpt-3.5-turbo", "ok", "0.00065", "0"],
            ["waste", "2", "gpt-3.5-turbo", "premium_instead", "0.036", "0.03535"],
        ]  # fmt: skip
        assert made.sql("SELECT SpanId FROM otel_traces WHERE AvoidableCostUSD > 0") == [[waste.span_id.hex()]]
        assert made.sql("SELECT Kind, Subject['team'], toString(CostUSD) FROM llm_findings ORDER BY Kind") == [
            ["routing.fallback", "search", None],
            ["routing.premium_instead", "search", "0.03535"],
        ]
        assert made.sql("SELECT Kind, ServedModel, TierChange FROM llm_fallbacks") == [
            ["fallback", "gpt-4o-mini", "drop"]
        ]
        shown = made.cli("routes", "simulate", "--policy", str(policy), "--format", "json")
        lines = {line["route"]: line for line in json.loads(shown.stdout, parse_float=Decimal)}
        assert (lines["2"]["calls"], lines["2"]["changed"], lines["2"]["saved_usd"]) == (2, 1, Decimal("0.03535"))
        assert made.stop() == 0
    finally:
        made.close()
