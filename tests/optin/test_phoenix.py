"""Spanledger in front of a real Arize Phoenix: the spans are there, with what they cost.

python -m benchmarks.accuracy --install    # Phoenix, in an environment of its own
python -m pytest -m optin tests/optin/test_phoenix.py
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.peers import Phoenix, missing
from tests.collector_kit import Collector

pytestmark = pytest.mark.optin

CAPTURES = Path(__file__).parents[1] / "captures"
EXPORTER = """  otlphttp/phoenix:
    endpoint: "{url}"
    headers: {{x-project-name: spanledger}}
    also_as: {{llm.cost.total: spanledger.cost_usd}}
"""
ATTRIBUTES = """query ($id: ID!, $after: String) { node(id: $id) { ... on Project { spans(first: 500, after: $after) {
    pageInfo { hasNextPage endCursor } edges { node { spanId attributes } } } } } }"""


def spans_of(phoenix: Phoenix) -> dict[str, dict[str, Any]]:
    """Every span that Phoenix shows in the project, with its attributes. It answers before it stores."""
    project = next((p for p in phoenix._projects("id name") if p["name"] == "spanledger"), None)
    if project is None:
        return {}
    found: dict[str, dict[str, Any]] = {}
    page: dict[str, Any] = {"hasNextPage": True, "endCursor": None}
    while page["hasNextPage"]:
        spans = phoenix._graphql(ATTRIBUTES, {"id": project["id"], "after": page["endCursor"]})["node"]["spans"]
        page = spans["pageInfo"]
        found |= {edge["node"]["spanId"]: json.loads(edge["node"]["attributes"]) for edge in spans["edges"]}
    return found


def test_phoenix_shows_the_spans_with_their_costs(tmp_path: Path) -> None:
    """Every span that was sent, and on the calls' spans what the ledger says that they cost, as ours and as OpenInference has it."""
    if missing(["phoenix"]):
        pytest.skip("Phoenix is not installed: `python -m benchmarks.accuracy --install`")
    with Phoenix(tmp_path) as phoenix:
        made = Collector(tmp_path)
        text = made.config.read_text().replace("exporters: [clickhouse]", "exporters: [clickhouse, otlphttp/phoenix]")
        exporter = EXPORTER.format(url=phoenix.url(""))
        made.config.write_text(text.replace("service:\n", f"{exporter}service:\n", 1))
        try:
            made.start()
            for folder in ("openinference", "vercel-ai", "chain-app-litellm"):
                for path in sorted((CAPTURES / folder).glob("*-traces.pb")):
                    assert made.post(path.read_bytes())[0] == 200
            made.settled()
            count, cost = made.sql("SELECT count(), toFloat64(sum(CostUSD)) FROM otel_traces")[0]
            until = time.monotonic() + 120
            while len(found := spans_of(phoenix)) < int(count):
                assert time.monotonic() < until, f"Phoenix has {len(found)} of {count} spans"
                time.sleep(1)
        finally:
            made.close()
    assert len(found) == int(count)
    costs = [ours["cost_usd"] for a in found.values() if "cost_usd" in (ours := a.get("spanledger", {}))]
    assert sum(costs) == pytest.approx(cost)
    assert cost > 0
    as_openinference = [a["llm"]["cost"]["total"] for a in found.values() if "cost" in a.get("llm", {})]
    assert sum(as_openinference) == pytest.approx(cost)
