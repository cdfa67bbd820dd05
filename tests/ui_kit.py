"""A browser and a collector with demo calls, for tests of the pages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from spanledger.ui.ask import AskError, Value
from tests.collector_kit import Collector

CALLS = 500


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
    """A running collector that the demo's gateway reported a few hundred calls of the last five days to."""
    collector = Collector(folder, service=service)
    collector.start()
    try:
        command = [sys.executable, "-m", "spanledger", "demo", "--calls", str(CALLS), "--rate", "0", "--spread", "5d", "--seed", "7", "--endpoint", f"http://127.0.0.1:{collector.http}"]  # fmt: skip
        sent = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
        assert sent.returncode == 0, sent.stderr
        collector.settled()
        yield collector
    finally:
        collector.close()


def sql(collector: Collector, statement: str) -> list[list[str]]:
    """Rows of a query, as texts."""
    status, body = collector.get("/clickhouse/", statement.encode())
    assert status == 200, body.decode()
    return [line.split("\t") for line in body.decode().splitlines()]
