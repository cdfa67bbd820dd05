"""`spanledger demo --history`: a collector of its own with a past, traces that can be opened, and calls that go on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.cli_kit import run

ENDPOINTS = (
    "receivers.otlp.protocols.grpc.endpoint",
    "receivers.otlp.protocols.http.endpoint",
    "service.admin.endpoint",
)
DEMO = [sys.executable, "-m", "spanledger", "demo", "--history"]


def begin(data: Path, log: Path, *more: str, history: str = "6h") -> subprocess.Popen[bytes]:
    ports = [word for name in ENDPOINTS for word in ("--set", f"{name}=127.0.0.1:0")]
    with log.open("wb") as file:
        return subprocess.Popen([*DEMO, history, "--data-dir", str(data), *ports, *more], stderr=file, stdout=file)


def told(log: Path, pattern: str, process: subprocess.Popen[bytes], timeout: float = 200) -> str:
    """Wait until it says so; what the pattern's group is."""
    until = time.monotonic() + timeout
    while (match := re.search(pattern, log.read_text())) is None:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.1)
    return match[1]


def test_a_past_its_last_hours_with_spans_and_a_future(tmp_path: Path) -> None:
    data, log = tmp_path / "demo", tmp_path / "log"
    process = begin(data, log)
    try:
        written = int(told(log, r"([0-9,]+) calls of the past", process).replace(",", ""))
        url = told(log, r"Look at it: (http://\S+)", process)
        sent = int(told(log, r"([0-9,]+) calls since then", process).replace(",", ""))
        sql = re.sub(r"/ui/?$", "", url).rstrip("/") + "/clickhouse/"

        def ask(statement: str) -> list[str]:
            with urllib.request.urlopen(sql, statement.encode(), timeout=30) as answer:
                return answer.read().decode().split()

        until = time.monotonic() + 60
        while int(ask("SELECT count() FROM llm_calls")[0]) < written + sent * 0.98 or not int(ask("SELECT countIf(Timestamp > now() - INTERVAL 10 MINUTE) FROM llm_calls")[0]):  # fmt: skip
            assert time.monotonic() < until
            time.sleep(0.5)
        calls, cost = ask("SELECT count(), sum(CostUSD) FROM llm_calls")
        again = ask("SELECT sum(Calls), sum(CostUSD) FROM llm_costs_hourly")
        while again[0] != calls:  # calls that came between the two questions
            calls, cost = ask("SELECT count(), sum(CostUSD) FROM llm_calls")
            again = ask("SELECT sum(Calls), sum(CostUSD) FROM llm_costs_hourly")
        assert again[1] == cost
        assert written > 300
        assert int(ask("SELECT uniq(Team) FROM llm_calls")[0]) > 10
        # Spans of half of the time; each call of that half has a trace that can be opened.
        assert int(ask("SELECT dateDiff('minute', min(Timestamp), now()) FROM otel_traces")[0]) in range(175, 245)
        assert ask("SELECT count() FROM llm_calls WHERE Timestamp > now() - INTERVAL 2 HOUR AND TraceId NOT IN (SELECT TraceId FROM otel_traces)") == ["0"]  # fmt: skip
        assert ask("SELECT countIf(match(User, '_k[0-9a-f]{4}_')) = count() FROM llm_calls WHERE User != ''") == ["1"]  # fmt: skip
        assert b"Spanledger" in urllib.request.urlopen(url, timeout=30).read()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
    mark = json.loads((data / "demo.json").read_text())
    assert mark["complete"]
    assert time.time_ns() - mark["start_ns"] < 8 * 3600 * 10**9

    process = begin(data, log, "--duration", "3s", history="30d")  # what is there already counts
    try:
        assert process.wait(200) == 0
    finally:
        process.kill()
    assert "has a demo's history already" in log.read_text()
    assert "calls of the past" not in log.read_text()


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("inbox.mdb", "", "holds other data, which a demo must not be mixed with"),
        ("demo.json", "[]", "holds other data"),
        ("demo.json", '{"seed": 1, "start_ns": 0, "complete": false}', "a demo whose history was not finished"),
    ],
)
def test_a_directory_with_other_data_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, file: str, content: str, says: str
) -> None:
    (tmp_path / file).write_text(content)
    before = sorted(os.listdir(tmp_path))
    result = run(capsys, "demo", "--history", "2h", "--data-dir", str(tmp_path))
    assert result.code == 1
    assert says in result.err
    assert "--data-dir" in result.err
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--history", "10m"], "from an hour to 120 days"),
        (["--history", "a while"], "duration"),
        (["--history", "2h", "--calls", "5"], "calls of its own"),
        (["--history", "2h", "--endpoint", "http://localhost:4318"], "calls of its own"),
        (["--set", "a=b"], "--set is for the collector that --history starts"),
    ],
)
def test_what_does_not_go_together(
    capsys: pytest.CaptureFixture[str], words: list[str], says: str, tmp_path: Path
) -> None:
    result = run(capsys, "demo", *words, "--data-dir", str(tmp_path / "new"))
    assert result.code == 2
    assert says in result.err
    assert not (tmp_path / "new").exists()
