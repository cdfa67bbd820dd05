"""deploy/recipes/forget: a person is gone from the store, and every figure of cost is what it was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
#: A process has one embedded store, so each step has a process.
FILL = """
import sys
from decimal import Decimal
from pathlib import Path
from exporters.clickhouse.config import ClickHouseConfig
from exporters.clickhouse.exporter import ClickHouse
from tests.ledger_rows import batch, call, context
from tests.spans_kit import request, span

folder = Path(sys.argv[1])
exporter = ClickHouse(ClickHouseConfig(dsn=f"chdb://{folder / 'clickhouse'}"), context(folder))
exporter.start()
alices, bobs = bytes([1]) * 16, bytes([2]) * 16
spans = [span("a", {"enduser.id": "it's alice"}, trace=alices), span("b", trace=alices), span("c", trace=bobs)]
made = [
    call("1", trace_id=alices.hex(), user="it's alice", end_user="it's alice", cost_pico=5 * 10**12),
    call("2", trace_id=alices.hex(), user="it's alice", end_user="bob", cost_pico=7 * 10**12),
    call("3", trace_id=bobs.hex(), user="bob", cost_pico=11 * 10**12),
]
for payload in exporter.encode(batch(request(spans=spans), made=made)):
    exporter.send(payload)
exporter.close()
"""
ASK = """
SELECT (SELECT sum(CostUSD) FROM llm_calls) AS calls, (SELECT sum(CostUSD) FROM llm_costs_hourly) AS hourly,
       (SELECT arraySort(groupArray((User, EndUser, CostUSD))) FROM llm_calls) AS ledger,
       (SELECT arraySort(groupArray((User, CostUSD))) FROM (SELECT User, sum(CostUSD) AS CostUSD FROM llm_costs_hourly GROUP BY User)) AS users,
       (SELECT arraySort(groupArray(SpanName)) FROM otel_traces) AS spans
"""


def python(*words: str) -> str:
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def ask(store: Path) -> dict[str, Any]:
    (row,) = json.loads(python("-m", "spanledger", "query", ASK, "--dsn", f"chdb://{store}", "--format", "json"))
    return dict(row)


def test_a_person_is_forgotten_and_the_sums_stay(tmp_path: Path) -> None:
    store = tmp_path / "clickhouse"
    python("-c", FILL, str(tmp_path))
    before = ask(store)
    assert before["spans"] == ["a", "b", "c"]
    python("deploy/recipes/forget.py", str(store), "it's alice")
    after = ask(store)
    assert "alice" not in str(after)
    assert after["spans"] == ["c"]
    assert (after["calls"], after["hourly"]) == (before["calls"], before["hourly"]) == (23, 23)
    assert after["ledger"] == [["(forgotten)", "(forgotten)", 5], ["(forgotten)", "bob", 7], ["bob", "", 11]]
    assert after["users"] == [["(forgotten)", 12], ["bob", 11]]


def test_no_store_is_made_where_there_is_none(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "deploy/recipes/forget.py", str(tmp_path / "nowhere"), "alice"], capture_output=True, text=True, cwd=ROOT
    )  # fmt: skip
    assert done.returncode == 1
    assert "there is no embedded ClickHouse" in done.stderr
    assert not (tmp_path / "nowhere").exists()
