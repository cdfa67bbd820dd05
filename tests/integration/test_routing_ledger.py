"""Routing over a real ledger: the views over captures of LiteLLM, and history priced under another policy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from collector.component import Context
from exporters.clickhouse.config import ClickHouseConfig
from exporters.clickhouse.engine import Handle
from exporters.clickhouse.exporter import ClickHouse
from exporters.clickhouse.reader import Reader
from processors.routing import Routing, RoutingConfig
from spanledger.cli import routes
from tests.bill import CAPTURES, pipeline, requests
from tests.cli_kit import run
from tests.ledger_rows import batch, call, context
from tests.spans_kit import NOON_NS

POLICY = {"routes": [{"match": {"team": "Support"}, "route_to": "gpt-4o-mini"}]}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A ledger of the captures litellm-v1 and litellm-v2, and of calls of the team `tries` that pages of two have to cut."""
    folder = tmp_path_factory.mktemp("ledger") / "clickhouse"
    handle = Handle(folder)
    exporter = ClickHouse(ClickHouseConfig(dsn=f"chdb://{folder}"), context(folder.parent))  # type: ignore[arg-type]
    exporter.start()
    routing = Routing(RoutingConfig.model_validate(POLICY), Context("routing", Path(), CollectorRegistry()))
    with pipeline(more=lambda: [routing]) as running:
        for body in [*requests(CAPTURES / "litellm-v1"), *requests(CAPTURES / "litellm-v2")]:
            for payload in exporter.encode(running.take([body])):
                exporter.send(payload)
    tries = [
        call(
            f"t{n}", team="tries", request_model="gpt-4", input_tokens=1000, output_tokens=0, cost_pico=cost, status=status, app="it's",
            deployment=f"d{n % 2}", error_type="RateLimitError" if status == "Error" else None, duration_ns=10**9 * (n + 1),
            gateway_overhead_ns=10**6, user_priority="low", start_ns=NOON_NS + n,
        )
        for n, (cost, status) in enumerate([(30_000_000_000, "Ok")] * 3 + [(None, "Ok"), (None, "Error")])
    ]  # fmt: skip
    for payload in exporter.encode(batch(made=tries, position=1000)):
        exporter.send(payload)
    exporter.close()
    yield folder
    handle.close()


def ask(store: Path, sql: str) -> list[dict[str, Any]]:
    reader = Reader(store, "spanledger")
    try:
        found: list[dict[str, Any]] = json.loads(reader.ask(f"{sql} FORMAT JSON").result.body)["data"]
    finally:
        reader.close()
    return found


def test_fallbacks_of_the_capture(store: Path) -> None:
    rows = ask(store, "SELECT * FROM llm_fallbacks ORDER BY Timestamp")
    assert len(rows) == 8
    assert {(r["Kind"], r["RequestModel"], r["ServedRequestModel"], r["ServedModel"], r["ErrorType"], r["TierChange"]) for r in rows} == {
        ("fallback", "premium-broken", "fast", "gpt-4o-mini", "InternalServerError", "drop")
    }  # fmt: skip
    assert all(Decimal(row["CostUSD"]) > 0 for row in rows)
    rates = ask(store, "SELECT Team, Attempts, ShareOfCalls FROM llm_fallback_rates ORDER BY Team")
    assert [(row["Team"], int(row["Attempts"]), row["ShareOfCalls"]) for row in rates] == [("Search", 2, 1), ("Support", 6, 1)]  # fmt: skip


def test_the_guardrail_of_the_capture(store: Path) -> None:
    (row,) = ask(store, "SELECT * FROM llm_guardrails")
    assert (row["RefusedBy"], row["Team"], row["App"], int(row["Refusals"])) == ("blocklist", "Search", "rag-bot", 1)
    assert 0 < row["ShareOfCalls"] < 1
    assert ask(store, "SELECT * FROM llm_guardrail_latency") == []


def test_what_the_gateway_refused_without_a_call(store: Path) -> None:
    """LiteLLM's newer spans: the guardrail's block and the wrong model are two 400s with the model that was asked for."""
    rows = ask(
        store, "SELECT RequestModel, Team, HttpStatus, ErrorType FROM llm_refused_requests ORDER BY RequestModel"
    )
    error = "litellm.proxy._types.ProxyException"
    assert [(r["RequestModel"], r["Team"], int(r["HttpStatus"]), r["ErrorType"]) for r in rows] == [
        ("gpt-4o", "Search", 400, error), ("nope", "Search", 400, error),
    ]  # fmt: skip


def test_the_gateways_own_time(store: Path) -> None:
    (row,) = ask(
        store, "SELECT *, toInt32(Requests) AS n FROM llm_gateway_time WHERE ServiceName LIKE 'litellm%' LIMIT 1"
    )
    assert row["n"] > 20
    assert row["WholeP50Ms"] > row["CallsP50Ms"] > 0
    assert row["GatewayP50Ms"] > 0


def test_load_and_latency(store: Path) -> None:
    rows = ask(store, "SELECT Deployment, Calls, Share, RateLimitedCalls FROM llm_load WHERE RequestModel = 'gpt-4' AND Day = '2026-11-24' ORDER BY Deployment")  # fmt: skip
    assert [(r["Deployment"], int(r["Calls"]), r["Share"], int(r["RateLimitedCalls"])) for r in rows] == [("d0", 3, 0.6, 1), ("d1", 2, 0.4, 0)]  # fmt: skip
    (row,) = ask(store, "SELECT * FROM llm_latency WHERE Team = 'tries'")
    assert (row["P50Ms"], row["GatewayP50Ms"], int(row["Calls"])) == (2500, 1, 4)


def test_verdicts_by_team(store: Path) -> None:
    rows = ask(store, "SELECT DISTINCT Team, RouteVerdict FROM llm_routing WHERE Team IN ('Support', 'Search')")
    assert {"Team": "Search", "RouteVerdict": "unknown_route"} in rows
    assert {row["RouteVerdict"] for row in rows if row["Team"] == "Support"} >= {"ok", "premium_instead"}


def test_history_under_another_policy(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three calls at 0.03 USD would have cost 0.0005 each; one has no cost; a failed one is not missed. Pages add up."""
    monkeypatch.setattr(routes, "PAGE", 2)
    policy = tmp_path / "new.yaml"
    policy.write_text("routes:\n  - {name: cheap, match: {team: tries, user_priority: low}, route_to: gpt-3.5-turbo}\n")
    words = ("routes", "simulate", "--policy", str(policy), "--since", "all", "--dsn", f"chdb://{store}")
    found = json.loads(run(capsys, *words, "--format", "json").ok(), parse_float=Decimal)
    lines = {(line["team"], line["route"]): line for line in found}
    line = lines["tries", "cheap"]
    assert (line["model"], line["calls"], line["changed"], line["unpriced"]) == ("gpt-3.5-turbo", 5, 3, 1)
    assert (line["cost_usd"], line["expected_usd"], line["saved_usd"]) == (Decimal("0.09"), Decimal("0.0015"), Decimal("0.0885"))  # fmt: skip
    assert sum(one["calls"] for one in lines.values()) == int(ask(store, "SELECT count() AS n FROM llm_calls")[0]["n"])
    assert all(one["saved_usd"] == 0 for (team, _), one in lines.items() if team != "tries")
    shown = run(capsys, *words).ok()
    assert "would have saved 0.0885 USD" in shown
    assert "Not counted: 1 calls" in shown
    assert "cheap" in run(capsys, *words, "--format", "csv").ok()
