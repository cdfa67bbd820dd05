"""Sparklines, and `spanledger top` beside a collector's health."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime

import pytest
from rich.console import Console

from spanledger.cli import top
from spanledger.cli.ledger import Ledger
from spanledger.cli.shell import CommandError
from spanledger.cli.spark import cells, cells_sql, spark
from tests.cli_kit import run, serve


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([], ""),
        ([0, 0], "··"),
        ([1, 2, 4, 8], "▂▃▅█"),
        ([0.0001, 1000], "▁█"),
        ([-1, 2], "·█"),
        ([3, 3, 3], "███"),
    ],
)
def test_spark(values: list[float], shown: str) -> None:
    """Relative to the greatest; something is never shown as nothing."""
    assert spark(values) == shown


def test_cells() -> None:
    assert cells({"0": 1.5, "3": "2"}, 4) == [1.5, 0.0, 0.0, 2.0]
    start, end = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC)
    assert f"{86400 * 10**9 // 12}" in cells_sql("CostUSD", start, end, 12)
    with pytest.raises(IndexError):
        cells({"4": 1}, 4)


def _server(status: object, rows: list[object]):
    def answer(request):
        if request.path == "/status":
            return 200, {}, json.dumps(status).encode()
        if request.path == "/healthz":
            return 200, {}, b"ok"
        data = (
            [["critical", "2"]] if b"llm_findings" in request.body else rows if b"AS name" not in request.body else []
        )
        return 200, {}, json.dumps({"meta": [], "data": data}).encode()

    return serve(answer)


STATUS = {
    "version": "1.2.3", "ready": True, "problems": [], "receivers": ["grpc://x:4317"],
    "inbox": {"bytes": 2048, "capacity_bytes": 4096, "failed": None},
    "pipelines": {"traces": {"position": 1, "waiting_items": 7, "waiting_bytes": 10, "oldest_seconds": 3.0, "failed": None}},
    "exporters": {}, "dead_letters": 0, "dead_letter_bytes": 0, "dead_letter_capacity_bytes": 100, "config": {},
}  # fmt: skip
ROW = [["9", "1", "12.5", {"0": 12.5}, "100", "2", "0.5"]]


def test_top_shows_the_collectors_health(capsys: pytest.CaptureFixture[str]) -> None:
    with _server(STATUS, ROW) as server:
        shown = run(capsys, "top", "--admin", server.address, "--minutes", "5").ok()
    for text in ("12.50 USD in 5 min", "2.50 USD a minute", "(last: 0.5000)", "9 calls", "1 failed", "2 without a price", "2 critical", "Spanledger 1.2.3: takes requests", "pipeline traces", "3.0s"):  # fmt: skip
        assert text in shown


def test_top_does_without_a_status(capsys: pytest.CaptureFixture[str]) -> None:
    """Another release's, or none: the spend is shown all the same."""
    with _server(["what"], ROW) as server:
        shown = run(capsys, "top", "--admin", server.address).ok()
    assert "12.50 USD" in shown
    assert f"from the collector at http://{server.address}" in shown


def test_top_of_nothing_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, "top", "--admin", "127.0.0.1:9")
    assert result.code == 1
    assert "error:" in result.err


def test_top_live_waits_for_a_store_that_went_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame after the other until Ctrl-C: what cannot be asked is said, and asked again."""
    answers = iter([CommandError("the collector went away"), ROW])

    def ask(sql: str) -> bytes:
        if "AS name" in sql or "llm_findings" in sql:
            return b""
        answer = next(answers)
        if isinstance(answer, CommandError):
            raise answer
        return json.dumps({"meta": [], "data": answer}).encode()

    looks = iter([None])

    def sleep(seconds: float) -> None:
        assert seconds == 2.0
        if next(looks, 0) is not None:
            raise KeyboardInterrupt

    monkeypatch.setattr("spanledger.cli.top.time.sleep", sleep)
    screen = io.StringIO()
    monkeypatch.setattr("spanledger.cli.top.out", Console(file=screen, force_terminal=True, width=100, height=40))
    with pytest.raises(KeyboardInterrupt):
        top._live(Ledger("somewhere", ask), None, 5, 2.0)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())
    assert "the collector went away — looking again" in shown
    assert "12.50 USD in 5 min" in shown
