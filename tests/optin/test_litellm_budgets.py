"""A real LiteLLM proxy with the recipe's hook refuses a team that is over its hard quota, and no other.

How to install LiteLLM: tests/optin/test_litellm_proxy.py.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.collector_kit import Collector, free_ports
from tests.optin.litellm_kit import INSTALL, PROGRAM, REPOSITORY, proxy

pytestmark = [
    pytest.mark.optin,
    pytest.mark.skipif(not PROGRAM.exists(), reason=f"no {PROGRAM}: {INSTALL}, or set SPANLEDGER_LITELLM"),
]
HOOK = REPOSITORY / "deploy" / "recipes" / "litellm_budgets.py"


def test_a_team_over_its_quota_is_refused_before_the_model_is_asked(tmp_path: Path) -> None:
    [port] = free_ports(1)
    service = f'  verdict: {{endpoint: "127.0.0.1:{port}", own_process: true, auth: {{token: t0p}}}}'
    collector = Collector(tmp_path, service=service)
    text = collector.config.read_text()
    text = text.replace("  pricing:\n", "  pricing:\n  budgets: {budgets: {teams: {per: [team], calls: 2}}}\n")
    collector.config.write_text(text.replace("processors: [attribution, pricing]", "processors: [attribution, pricing, budgets]"))  # fmt: skip
    env = {
        "OTEL_EXPORTER": "otlp_http",
        "OTEL_ENDPOINT": f"http://127.0.0.1:{collector.http}",
        "OTEL_SERVICE_NAME": "litellm",
        "USE_OTEL_LITELLM_REQUEST_SPAN": "true",
        "SPANLEDGER_VERDICT_URL": f"http://127.0.0.1:{port}",
        "SPANLEDGER_VERDICT_TOKEN": "t0p",
        "SPANLEDGER_ON_ERROR": "deny",
    }
    try:
        collector.start()
        with proxy(tmp_path / "proxy", env, HOOK) as litellm:
            assert [litellm.chat("sk-payments", "mini").status for _ in range(2)] == [200, 200]
            until = time.monotonic() + 30
            while (status := litellm.chat("sk-payments", "mini").status) == 200 and time.monotonic() < until:
                time.sleep(0.5)
            assert status == 429
            assert litellm.chat("sk-research", "claude").status == 200
            until = time.monotonic() + 30  # LiteLLM sends its spans every few seconds
            while (teams := _served(collector)) != ["payments", "research"] and time.monotonic() < until:
                time.sleep(0.5)
        assert teams == ["payments", "research"]
    finally:
        collector.close()


def _served(collector: Collector) -> list[str]:
    """Teams that had an answer."""
    rows = collector.sql("SELECT Team FROM llm_calls WHERE StatusCode != 'Error' GROUP BY Team ORDER BY Team")
    return [team for (team,) in rows]
