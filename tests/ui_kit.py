"""A browser and a collector with demo calls, for tests of the pages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanledger.ui.ask import AskError, Value
from tests import collector_kit
from tests.collector_kit import Collector
from tests.spans_kit import request, span

CALLS = 350
CAPTURE = Path(__file__).with_name("captures") / "litellm-v1"
PROCESSORS = """  pricing:
  redaction:
  privacy:
  routing:
    routes: [{{name: search, match: {{team: search}}, route_to: gpt-4o-mini}}, {{name: rest, match: {{operation: chat}}, route_to: gpt-4o}}]
  budgets:
    budgets:
      teams: {{per: [team], usd: 0.5, rolling: 30d}}
"""


class FrameStore:
    """A store that answers with frames by a part of the SQL; what nothing is said about has no rows."""

    where = "frames"

    def __init__(self, answers: Mapping[str, pl.DataFrame] | None = None, fails: str = "") -> None:
        self._answers, self._fails = answers or {}, fails
        self.asked: list[tuple[str, Mapping[str, Value]]] = []

    def ask(self, sql: str, parameters: Mapping[str, Value]) -> pl.DataFrame:
        self.asked.append((sql, parameters))
        if self._fails:
            raise AskError(self._fails)
        return next((frame for part, frame in self._answers.items() if part in sql), pl.DataFrame())

    def close(self) -> None: ...


def chromium() -> str:
    """Path of the browser. Skips the test where there is none."""
    found = os.environ.get("SPANLEDGER_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium, or set SPANLEDGER_CHROMIUM")
    return found


@contextmanager
def collector_with_calls(folder: Path, service: str = "") -> Iterator[Collector]:
    """A running collector with everything that the pages show: a policy, budgets, redaction; and a few hundred calls of
    the last five days, by the demo's gateway and by a LiteLLM whose guardrail blocks some (a capture);
    three runs of a guardrail that has spans of its own."""
    with pytest.MonkeyPatch.context() as patch:
        config = collector_kit.CONFIG.replace("  pricing:\n", PROCESSORS).replace("[attribution, pricing]", "[attribution, pricing, redaction, privacy, routing, budgets]")  # fmt: skip
        patch.setattr(collector_kit, "CONFIG", config)
        collector = Collector(folder, service=service)
    try:
        collector.start()
        command = [sys.executable, "-m", "spanledger", "demo", "--calls", str(CALLS), "--rate", "0", "--spread", "5d", "--seed", "7", "--endpoint", f"http://127.0.0.1:{collector.http}"]  # fmt: skip
        sent = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
        assert sent.returncode == 0, sent.stderr
        checks = [span("guardrail", {"guardrail_name": "secrets"}, start_ns=time.time_ns() - 3600 * 10**9, status=status) for status in ("ok", "ok", "error")]  # fmt: skip
        for body in (*of_late(CAPTURE), request(resource={"service.name": "gateway"}, spans=checks)):
            assert collector.post(body)[0] == 200
        collector.settled()
        yield collector
    finally:
        collector.close()


def of_late(folder: Path) -> Iterator[bytes]:
    """A capture's requests for traces, moved in time so that its last span began an hour ago."""
    messages = [ExportTraceServiceRequest.FromString(path.read_bytes()) for path in sorted(folder.glob("*-traces.pb"))]
    spans = [s for message in messages for r in message.resource_spans for c in r.scope_spans for s in c.spans]
    later = time.time_ns() - 3600 * 10**9 - max(one.start_time_unix_nano for one in spans)
    for one in spans:
        one.start_time_unix_nano += later
        one.end_time_unix_nano += later
        for event in one.events:
            event.time_unix_nano += later
    return (message.SerializeToString() for message in messages)


def sql(collector: Collector, statement: str) -> list[list[str]]:
    """Rows of a query, as texts."""
    status, body = collector.get("/clickhouse/", statement.encode())
    assert status == 200, body.decode()
    return [line.split("\t") for line in body.decode().splitlines()]
