"""A real LiteLLM proxy in front, a real collector behind: every call that the proxy answered is one row, priced and owned.

Install LiteLLM into an environment of its own, then run:

    python3 -m venv .venv-litellm && .venv-litellm/bin/pip install 'litellm[proxy]' opentelemetry-exporter-otlp
    .venv/bin/python -m pytest -m optin tests/optin

`SPANLEDGER_LITELLM` names another `litellm` program. The answers are mocked inside the proxy; nothing leaves the machine.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from genai_prices import Usage, calc_price

from tests.collector_kit import Collector, running
from tests.optin.litellm_kit import INSTALL, PROGRAM, Answer, proxy

pytestmark = [
    pytest.mark.optin,
    pytest.mark.skipif(not PROGRAM.exists(), reason=f"no {PROGRAM}: {INSTALL}, or set SPANLEDGER_LITELLM"),
]

VERSIONS = {
    # Without it LiteLLM writes a call on whatever span is active, and loses it where FastAPI has ended that span already.
    "v1": {"USE_OTEL_LITELLM_REQUEST_SPAN": "true"},
    # Of a caller's metadata the new instrumentation puts on spans what is listed here, and nothing else.
    "v2": {
        "LITELLM_OTEL_V2": "true",
        "LITELLM_OTEL_BAGGAGE_METADATA_KEYS": "user_api_key_alias,user_api_key_user_id,user_api_key_end_user_id,requester_metadata.app",
    },
}
MODES = [f"{version}-{transport}" for version in VERSIONS for transport in ("grpc", "http")]
CONCURRENT = 6
COLUMNS = (
    "ResponseId", "Dialect", "StatusCode", "PriceStatus", "RequestModel", "UpstreamModel", "Provider", "Team", "User", "ApiKey",
    "EndUser", "App", "Streaming", "InputTokens", "OutputTokens", "toString(CostUSD) AS Cost", "ErrorType", "TraceId",
)  # fmt: skip


@dataclass(frozen=True)
class Call:
    """A call that the proxy answered with 200: who asked, and what for."""

    answer: Answer
    model: str
    team: str
    streamed: bool = False


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with running(tmp_path_factory.mktemp("collector")) as started:
        yield started


def otel(collector: Collector, mode: str) -> dict[str, str]:
    """What README.md tells a LiteLLM user to set."""
    version, transport = mode.split("-")
    port = collector.grpc if transport == "grpc" else collector.http
    return {
        "OTEL_EXPORTER": f"otlp_{transport}",
        "OTEL_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_SERVICE_NAME": f"litellm-{mode}",
        **VERSIONS[version],
    }


def rows(collector: Collector, service: str, count: int) -> list[dict[str, Any]]:
    """The ledger's rows of a service, once there are `count`; what there is after half a minute."""
    until = time.monotonic() + 30
    names = [column.split(" AS ")[-1] for column in COLUMNS]
    while True:
        collector.settled()
        found = collector.sql(f"SELECT {', '.join(COLUMNS)} FROM llm_calls WHERE ServiceName = '{service}'")
        if len(found) >= count or time.monotonic() > until:
            return [dict(zip(names, row, strict=True)) for row in found]
        time.sleep(0.5)


def cost(model: str, usage: dict[str, Any]) -> Decimal:
    """As genai-prices has it."""
    provider = "anthropic" if model.startswith("claude") else "openai"
    tokens = Usage(input_tokens=usage["prompt_tokens"], output_tokens=usage["completion_tokens"])
    return calc_price(tokens, model, provider_id=provider, genai_request_timestamp=datetime.now(UTC)).total_price


@pytest.mark.parametrize("mode", MODES)
def test_every_answered_call_is_one_priced_row_of_its_owner(collector: Collector, tmp_path: Path, mode: str) -> None:
    with proxy(tmp_path, otel(collector, mode)) as litellm:
        mini, sonnet = "gpt-4o-mini", "claude-sonnet-4-5"
        claim = {"metadata": {"team": "somebody-else", "app": "support-bot"}, "user": "user-17"}
        calls = [
            Call(litellm.chat("sk-payments", "mini", **claim), mini, "payments"),
            Call(litellm.chat("sk-payments", "mini", stream=True), mini, "payments", streamed=True),
            Call(litellm.chat("sk-research", "claude"), sonnet, "research"),
            Call(litellm.chat("sk-research", "claude", stream=True), sonnet, "research", streamed=True),
            Call(litellm.chat("sk-research", "premium"), sonnet, "research"),  # fails over
        ]
        refused = litellm.chat("sk-payments", "broken")
        with ThreadPoolExecutor(CONCURRENT) as pool:  # equal calls at once are as many rows
            same = list(pool.map(lambda _: litellm.chat("sk-payments", "mini"), range(CONCURRENT)))
        calls += [Call(answer, mini, "payments") for answer in same]
        found = rows(collector, f"litellm-{mode}", len(calls) + 2)
    assert [call.answer.status for call in calls] == [200] * len(calls)
    assert refused.status == 500
    served = {row["ResponseId"]: row for row in found if row["StatusCode"] != "Error"}
    failed = [row for row in found if row["StatusCode"] == "Error"]
    assert served.keys() == {call.answer.id for call in calls}
    assert len(found) == len(calls) + len(failed), "no call has a second row"
    for call in calls:
        row, usage = served[call.answer.id], call.answer.usage
        assert usage is not None
        assert (row["InputTokens"], row["OutputTokens"]) == (usage["prompt_tokens"], usage["completion_tokens"])
        assert Decimal(row["Cost"]) == cost(call.model, usage)
        assert row["Team"] == call.team, "what the gateway authenticated, whatever the caller claims"
        assert row["ApiKey"] == f"{call.team}-bot"
        assert row["User"] == {"payments": "jane", "research": "joe"}[call.team]
        assert bool(row["Streaming"]) is call.streamed
        assert row["Dialect"] == f"litellm_{mode[:2]}"
    first = served[calls[0].answer.id]
    assert (first["App"], first["EndUser"]) == ("support-bot", "user-17")
    # The refused call, and the first attempt of the one that failed over: no cost, and not a cost of zero.
    assert Counter((row["PriceStatus"], row["Cost"]) for row in failed) == {("failed", None): 2}
    assert sorted(row["Team"] for row in failed) == ["payments", "research"]
