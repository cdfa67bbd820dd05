"""`spanledger dead-letter` over a real store while no collector runs: what is listed, shown, put back and deleted."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.component import Payload
from collector.store import DeadLetter, DeadLetters, Inbox, StateStore
from spanledger.admin.control import FILE, Control, find, publish, withdraw
from tests.cli_kit import Result, run
from tests.pipeline_kit import ID
from tests.spans_kit import calls
from tests.store_kit import SEALER, flip

CONFIG = """
receivers: {{otlp: }}
exporters: {{debug: }}
service:
  data_dir: {data}
  encryption: {{key: "0000000000000000000000000000000000000000000000000000000000000000"}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [debug]}}
"""
REQUEST = calls(["the prompt"])
Command = Callable[..., Result]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A collector's data with three dead letters: a request, a delivery, and a request of a pipeline of before."""
    store = StateStore(tmp_path / "data" / "state", SEALER)
    with store.transaction() as transaction:
        transaction.dead_letter(DeadLetter("request", ID, "processing raised KeyError", 1, REQUEST, time_ns=10**18))
        transaction.outbox_put(f"{ID}/debug", Payload(b"rows", {"table": "llm_calls"}, 1234))
        transaction.outbox_bury(f"{ID}/debug", 1, "wrong table")
        transaction.dead_letter(DeadLetter("request", "traces/old", "bug", 2, REQUEST))
    store.close()
    return tmp_path / "data"


@pytest.fixture
def command(data: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    config = data.parent / "spanledger.yaml"
    config.write_text(CONFIG.format(data=data))
    return lambda *words: run(capsys, "dead-letter", *words, "--config", str(config))


def left(data: Path) -> list[int]:
    store = StateStore(data / "state", SEALER)
    try:
        return [letter.id for letter in DeadLetters(store).list()]
    finally:
        store.close()


def test_the_list_says_when_what_how_much_and_why(command: Command) -> None:
    shown = command("list").ok()
    for text in ("2001-09-09T01:46:40+00:00", "request", "traces/debug", "1,234", "processing raised KeyError", "wrong table"):  # fmt: skip
        assert text in shown
    lines = json.loads(command("list", "--format", "json").ok())
    assert [(line["id"], line["kind"], line["origin"], line["items"], line["bytes"]) for line in lines] == [
        (1, "request", "traces", 1, len(REQUEST)),
        (2, "payload", "traces/debug", 1234, 4),
        (3, "request", "traces/old", 2, len(REQUEST)),
    ]
    assert command("list", "--format", "csv").ok().splitlines()[0] == "id,time,kind,origin,items,bytes,reason"


def test_an_empty_list_says_so(command: Command, data: Path) -> None:
    command("drop", "--all", "--yes").ok()
    assert command("list").ok() == "There are no dead letters.\n"
    assert command("replay", "--all").ok() == "Put back 0.\n"


def test_show_tells_what_is_known_and_nothing_of_what_was_said(command: Command) -> None:
    shown = command("show", "1").ok()
    assert json.loads(shown) == {
        "id": 1, "time": "2001-09-09T01:46:40+00:00", "kind": "request", "origin": "traces", "items": 1,
        "bytes": len(REQUEST), "reason": "processing raised KeyError", "meta": {},
    }  # fmt: skip
    assert json.loads(command("show", "2").ok())["meta"] == {"table": "llm_calls"}


def test_show_reveals_a_request_when_it_is_told_to(command: Command) -> None:
    said = json.loads(command("show", "1", "--reveal").ok())["request"]
    span = said["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    sent = ExportTraceServiceRequest.FromString(REQUEST).resource_spans[0].scope_spans[0].spans[0]
    assert (span["traceId"], span["spanId"]) == (sent.trace_id.hex(), sent.span_id.hex())
    assert {"key": "gen_ai.response.id", "value": {"stringValue": "the prompt"}} in span["attributes"]
    refused = command("show", "2", "--reveal")
    assert refused.code == 1
    assert "in its exporter's own format" in refused.err


def test_a_body_is_denied_without_reveal(command: Command) -> None:
    refused = command("show", "1", "--body")
    assert (refused.code, refused.out) == (1, "")
    assert "before redaction" in refused.err
    assert "--reveal" in refused.err


def test_the_body_goes_to_a_file_as_it_came(command: Command, data: Path) -> None:
    words = ["dead-letter", "show", "1", "--reveal", "--body", "--config", str(data.parent / "spanledger.yaml")]
    assert (
        subprocess.run([sys.executable, "-m", "spanledger", *words], capture_output=True, check=True).stdout == REQUEST
    )


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["show", "9"], 1, "there is no dead letter 9"),
        (["replay", "1", "9"], 1, "there is no dead letter 9"),
        (["drop", "9", "--yes"], 1, "there is no dead letter 9"),
        (["replay"], 2, "say which: ids, or --all"),
        (["drop", "1", "--all"], 2, "say which: ids, or --all"),
        (["replay", "3"], 1, "dead letter 3 is of pipeline traces/old, which the config does not have"),
        (["replay", "--all"], 1, "dead letter 3 is of pipeline traces/old, which the config does not have"),
    ],
)
def test_what_cannot_be_done_changes_nothing_and_says_why(
    command: Command, data: Path, words: list[str], code: int, message: str
) -> None:
    result = command(*words)
    assert result.code == code
    assert message in result.err
    assert left(data) == [1, 2, 3]


def test_replay_puts_back_and_says_when_it_goes_on(command: Command, data: Path) -> None:
    assert command("replay", "1", "2").ok() == "Put back 2. They go on at the next start of the collector.\n"
    assert left(data) == [3]
    inbox = Inbox(data / "inbox", max_bytes=2**30, sealer=SEALER)
    assert [(entry.items, entry.body) for entry in inbox.queue(ID).read(0, 2**30)] == [(1, REQUEST)]
    inbox.close()
    store = StateStore(data / "state", SEALER)
    assert [payload.body for _, payload in store.outbox(f"{ID}/debug").peek(9)] == [b"rows"]
    store.close()


def test_replay_all_passes_over_what_has_no_body_any_more(command: Command, data: Path) -> None:
    store = StateStore(data / "state", SEALER)
    flip(store._letters.records, (3).to_bytes(8) + b"\0")
    store.close()
    assert command("replay", "--all").ok().startswith("Put back 2.")
    assert left(data) == [3]
    refused = command("replay", "3")
    assert refused.code == 1
    assert "dead letter 3 has no body any more" in refused.err


def test_drop_asks_first(command: Command, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
    refused = command("drop", "1")
    assert (refused.code, "nothing was deleted" in refused.err) == (1, True)
    assert left(data) == [1, 2, 3]
    monkeypatch.setattr("typer.confirm", lambda *_, **__: True)
    assert command("drop", "1", "3").ok() == "Deleted 2.\n"
    assert left(data) == [2]


def test_a_directory_without_data_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "spanledger.yaml"
    config.write_text(CONFIG.format(data=tmp_path / "elsewhere"))
    result = run(capsys, "dead-letter", "list", "--config", str(config))
    assert result.code == 1
    assert f"there is no collector's data in {tmp_path / 'elsewhere'}" in " ".join(result.err.split())


# Finding the collector that runs ---------------------------------------------------------------------------------------


def test_the_key_is_for_the_owner_of_the_data_alone(tmp_path: Path) -> None:
    assert find(tmp_path) is None
    publish(tmp_path, Control("127.0.0.1:1", "old"))
    publish(tmp_path, Control("127.0.0.1:2", "new"))
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert find(tmp_path) == Control("127.0.0.1:2", "new")
    withdraw(tmp_path)
    withdraw(tmp_path)
    assert find(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"endpoint": "127.0.0.1:1"}'])
def test_a_file_that_says_nothing_names_no_collector(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    assert find(tmp_path) is None


def test_a_file_that_a_crash_left_behind_does_no_harm(command: Command, data: Path) -> None:
    publish(data, Control("127.0.0.1:1", "nobody listens there"))
    assert command("drop", "3", "--yes").ok() == "Deleted 1.\n"
    assert left(data) == [1, 2]


def test_the_list_is_whole_on_a_narrow_terminal(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that somebody needs to go on is cut: when, of what, and the reason."""
    monkeypatch.setattr("tests.cli_kit.WIDTH", 60)
    shown = command("list").ok().splitlines()
    assert shown[0] == f"1  2001-09-09T01:46:40+00:00  request of traces, 1 items, {len(REQUEST)} bytes"
    assert shown[1] == "   processing raised KeyError"
    assert shown[2].endswith("  payload of traces/debug, 1,234 items, 4 bytes")
