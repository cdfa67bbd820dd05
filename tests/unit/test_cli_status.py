"""`spanledger status`: what waits and what is stuck, as the admin port tells it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli_kit import Answer, Request, run, serve

STATUS: dict[str, Any] = {
    "version": "1.2.3",
    "ready": True,
    "problems": [],
    "receivers": ["OTLP/gRPC 127.0.0.1:4317", "OTLP/HTTP http://127.0.0.1:4318"],
    "inbox": {"bytes": 3 * 2**20, "capacity_bytes": 2**31, "failed": None},
    "pipelines": {
        "traces": {"position": 9, "waiting_items": 1234, "waiting_bytes": 3 * 2**20, "oldest_seconds": 1.25, "failed": None}
    },
    "exporters": {
        "traces/clickhouse": {
            "to": "chdb://data/clickhouse", "waiting_deliveries": 0, "waiting_items": 0, "waiting_bytes": 0, "capacity_bytes": 2**31,
            "oldest_seconds": 0.0, "failed": None, "attempts": 0, "next_attempt_seconds": None, "last_error": None,
        },
        "traces/otlphttp/vendor": {
            "to": "https://otlp.vendor.example", "waiting_deliveries": 700, "waiting_items": 2_345_678, "waiting_bytes": 2**30,
            "capacity_bytes": 2**31, "oldest_seconds": 7500.0, "failed": "https://otlp.vendor.example: 503 Service Unavailable",
            "attempts": 12, "next_attempt_seconds": 21.5,
            "last_error": {"text": "https://otlp.vendor.example: 503 Service Unavailable", "seconds_ago": 8.5},
        },
    },
    "dead_letters": 2,
    "dead_letter_bytes": 2048,
    "dead_letter_capacity_bytes": 2**30,
    "config": "",
}  # fmt: skip


def answering(found: dict[str, Any], token: str = "") -> Any:
    def answer(request: Request) -> Answer:
        assert request.path == "/status"
        if token and request.headers.get("authorization") != f"Bearer {token}":
            return 401, {}, b"a token is needed"
        return 200, {"Content-Type": "application/json"}, json.dumps(found).encode()

    return serve(answer)


def test_all_that_an_operator_wants_to_know(capsys: pytest.CaptureFixture[str]) -> None:
    """Sizes, shares, ages, the error, the number of attempts and when the next one is; where it goes, never a key."""
    with answering(STATUS) as there:
        result = run(capsys, "status", "--admin", there.address)
    assert result.code == 0
    lines = [" ".join(line.split()) for line in result.out.splitlines()]
    assert lines[0] == "Spanledger 1.2.3: takes requests"
    assert "inbox 3.0 MiB 0% ok" in lines
    assert "pipeline traces 1,234 3.0 MiB 1.2s ok" in lines
    assert "exporter traces/clickhouse 0 0% ok" in lines
    assert "exporter traces/otlphttp/vendor 2,345,678 1.0 GiB 50% 2h05m failing" in lines
    assert "dead letters 2 2.0 KiB 0% look" in lines
    assert (
        "exporter traces/otlphttp/vendor → https://otlp.vendor.example: 503 Service Unavailable "
        "(12 failed attempts, next in 21.5s)"
    ) in " ".join(lines)
    assert "exporter traces/clickhouse → chdb://data/clickhouse" in lines
    assert "dead letters: `spanledger dead-letter list` shows them" in lines


def test_what_is_wrong_with_the_inbox_and_a_pipeline(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(json.dumps(STATUS)) | {"ready": False, "dead_letters": 0}
    found["inbox"]["failed"] = "no space left on device"
    found["pipelines"]["traces"]["failed"] = "a sending queue is full: traces/clickhouse"
    with answering(found) as there:
        shown = run(capsys, "status", "--admin", there.address).ok()
    assert "starting or stopping" in shown
    assert "inbox: no space left on device" in shown
    assert "pipeline traces: a sending queue is full: traces/clickhouse" in shown
    assert "dead-letter list" not in shown


def test_an_error_that_is_over_is_still_told(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(json.dumps(STATUS))
    exporter = found["exporters"]["traces/otlphttp/vendor"]
    exporter |= {"failed": None, "attempts": 0, "next_attempt_seconds": None}
    exporter["last_error"] = {"text": "429 Too Many Requests", "seconds_ago": 200_000.0}
    with answering(found) as there:
        result = run(capsys, "status", "--admin", there.address)
    assert "vendor.example; 2d07h ago: 429 Too Many Requests" in result.ok()


def test_json_and_the_exit_code_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    with answering({**STATUS, "problems": ["exporter x: away"]}) as there:
        result = run(capsys, "status", "--admin", there.address, "--format", "json")
    assert result.code == 1
    assert json.loads(result.out)["problems"] == ["exporter x: away"]


def test_the_token(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(STATUS, "s3cret") as there:
        assert "asks for a token" in run(capsys, "status", "--admin", there.address).err
        assert run(capsys, "status", "--admin", there.address, "--token", "s3cret").code == 0
        monkeypatch.setenv("SPANLEDGER_ADMIN_TOKEN", "s3cret")
        assert run(capsys, "status", "--admin", there.address).code == 0


@pytest.mark.parametrize("body", [b"hello", b"{}"])
def test_what_is_no_status(capsys: pytest.CaptureFixture[str], body: bytes) -> None:
    with serve(lambda request: (200, {}, body)) as there:
        result = run(capsys, "status", "--admin", there.address)
    assert result.code == 1
    assert "/status is not" in result.err


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, "status", "--admin", "127.0.0.1:1")
    assert result.code == 1
    assert "no collector answers at http://127.0.0.1:1" in result.err


def test_watch_looks_again_and_waits_for_a_collector_that_went_away(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it is interrupted: then it exits as an interrupted command does."""
    answers = [STATUS, None, {**STATUS, "version": "1.2.4"}]

    def answer(request: Request) -> Answer:
        found = answers.pop(0)
        return (200, {}, json.dumps(found).encode()) if found else (503, {}, b"")

    def sleep(seconds: float) -> None:
        assert seconds == 0.5
        if not answers:
            raise KeyboardInterrupt

    monkeypatch.setattr("spanledger.cli.status.time.sleep", sleep)
    with serve(answer) as there:
        result = run(capsys, "status", "--watch", "--interval", "0.5", "--admin", there.address)
    assert result.code == 130
    assert "1.2.4" in result.out
    assert not answers
