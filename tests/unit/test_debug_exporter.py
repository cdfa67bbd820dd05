"""The debug exporter prints what passes, and never what was said to a model."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from collector.batch import Position, RequestBatch
from collector.component import Payload
from collector.signals import Signal
from exporters.debug import MOST_LINES, Debug, DebugConfig
from exporters.nop import Nop, NopConfig
from tests.ledger_rows import batch, call, context
from tests.signals_kit import logs, metrics, record
from tests.spans_kit import request, span

SAID = "my password is hunter2"


def printed(tmp_path: Path, verbosity: str, **parts: object) -> list[str]:
    out = io.StringIO()
    exporter = Debug(DebugConfig.model_validate({"verbosity": verbosity}), context(tmp_path, "debug"), out)
    body = request(spans=[span("chat", {"gen_ai.input.messages": SAID, "n": 1})])
    for payload in exporter.encode(batch(body, **parts)):  # type: ignore[arg-type]
        exporter.send(payload)
    return out.getvalue().splitlines()


def test_basic_is_one_line_a_batch(tmp_path: Path) -> None:
    made = [call("a", cost_pico=1_500_000_000_000), call("b", withdrawn=True)]
    assert printed(tmp_path, "basic", made=made, replaced=[call("b")]) == [
        "debug: requests 1-1, 1 spans, 1 calls, 1.500000000000 USD, 1 replaced, 1 withdrawn"
    ]


def test_normal_adds_a_line_a_call(tmp_path: Path) -> None:
    lines = printed(
        tmp_path, "normal", made=[call("a", input_tokens=5, price_status="unpriced_model", user="jane@example.com")]
    )
    assert lines[1:] == ["  call a: search, gpt-4o, 5 in, ? out, unknown USD, unpriced_model"]


@pytest.mark.parametrize("verbosity", ["basic", "normal", "detailed"])
def test_neither_content_nor_users_are_printed(tmp_path: Path, verbosity: str) -> None:
    text = "\n".join(
        printed(tmp_path, verbosity, made=[call("a", user="jane@example.com", end_user="joe@example.com")])
    )
    assert SAID not in text
    assert "example.com" not in text


def test_detailed_names_the_keys_of_spans(tmp_path: Path) -> None:
    lines = printed(tmp_path, "detailed", made=[call("a", cost_pico=-5)])
    assert '"call_id": "a"' in lines[1]
    assert '"cost_usd": "-0.000000000005"' in lines[1]
    assert lines[2].endswith("'chat' 800.0 ms: gen_ai.input.messages, n")


def requested(tmp_path: Path, verbosity: str, signal: Signal, body: bytes, items: int) -> list[str]:
    out = io.StringIO()
    exporter = Debug(DebugConfig.model_validate({"verbosity": verbosity}), context(tmp_path, "debug"), out)
    requests = RequestBatch(signal, np.frombuffer(body, np.uint8), items, Position(3, 5), 0)
    for payload in exporter.encode_requests(requests):
        assert payload.items == items
        exporter.send(payload)
    return out.getvalue().splitlines()


def test_logs_are_told_without_what_they_say(tmp_path: Path) -> None:
    body = logs(record({"gen_ai.input.messages": SAID}, {"user": SAID}, event_name="gen_ai.event", span_id=b"s" * 8))
    assert requested(tmp_path, "basic", Signal.LOGS, body, 1) == ["debug: requests 3-5, 1 log records"]
    lines = requested(tmp_path, "detailed", Signal.LOGS, body, 1)
    assert lines[1:] == ["  log 7373737373737373 'gen_ai.event' severity 9, 53 bytes of kvlist_value body: user"]


def test_metrics_are_told_by_their_names(tmp_path: Path) -> None:
    body = metrics(3)
    assert requested(tmp_path, "normal", Signal.METRICS, body, 3) == ["debug: requests 3-5, 3 data points"]
    assert requested(tmp_path, "detailed", Signal.METRICS, body, 3)[1:] == [
        "  metric 'gen_ai.client.token.usage' '{token}' sum, 2 points: gen_ai.request.model",
        "  metric 'gateway.cost' 'USD' sum, 1 points: ",
    ]


def test_many_log_records_are_cut(tmp_path: Path) -> None:
    lines = requested(tmp_path, "detailed", Signal.LOGS, logs(*[record("x\x1b[2J")] * (MOST_LINES + 5)), MOST_LINES + 5)
    assert len(lines) == 1 + MOST_LINES + 1
    assert lines[-1] == "  … 5 more log records"


def test_nop_delivers_nothing_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    nop = Nop(NopConfig(), context(tmp_path, "nop"))
    assert nop.signals == set(Signal)
    with caplog.at_level("INFO"):
        nop.start()
    assert "nop delivers nothing" in caplog.text
    requests = RequestBatch(Signal.METRICS, np.frombuffer(metrics(), np.uint8), 1, Position(1, 1), 0)
    assert list(nop.encode_requests(requests)) == list(nop.encode(batch(request()))) == []
    nop.send(Payload(b"left behind"))
    assert str(nop) == "nowhere"


def test_a_senders_text_cannot_move_the_cursor(tmp_path: Path) -> None:
    lines = printed(tmp_path, "normal", made=[call("a", team="x\x1b[2J\nfake line")])
    assert len(lines) == 2
    assert "\\x1b[2J\\x0afake line" in lines[1]


def test_a_large_batch_is_cut_and_says_so(tmp_path: Path) -> None:
    lines = printed(tmp_path, "normal", made=[call(f"c{i}") for i in range(MOST_LINES + 7)])
    assert len(lines) == 1 + MOST_LINES + 1
    assert lines[-1] == "  … 7 more calls"
