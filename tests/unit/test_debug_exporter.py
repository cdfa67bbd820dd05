"""The debug exporter prints what passes, and never what was said to a model."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from exporters.debug import MOST_LINES, Debug, DebugConfig
from tests.ledger_rows import batch, call, context
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


def test_a_senders_text_cannot_move_the_cursor(tmp_path: Path) -> None:
    lines = printed(tmp_path, "normal", made=[call("a", team="x\x1b[2J\nfake line")])
    assert len(lines) == 2
    assert "\\x1b[2J\\x0afake line" in lines[1]


def test_a_large_batch_is_cut_and_says_so(tmp_path: Path) -> None:
    lines = printed(tmp_path, "normal", made=[call(f"c{i}") for i in range(MOST_LINES + 7)])
    assert len(lines) == 1 + MOST_LINES + 1
    assert lines[-1] == "  … 7 more calls"
