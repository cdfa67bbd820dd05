"""The collector's log never says what a span says, whatever goes wrong."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator

import pytest

from collector.telemetry import set_up_logs
from config.model import LogsConfig

VALUE = "jane.doe@example.com"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root, names = logging.getLogger(), ("spanledger", "collector", "processors", "exporters", "config")
    before = list(root.handlers), root.level, threading.excepthook, [logging.getLogger(n).level for n in names]
    yield
    root.handlers[:], root.level, threading.excepthook = before[:3]
    for name, level in zip(names, before[3], strict=True):
        logging.getLogger(name).setLevel(level)


def fail() -> None:
    try:
        raise KeyError(VALUE)
    except KeyError as error:
        raise ValueError(f"cannot read {VALUE}") from error


@pytest.mark.parametrize("format_", ["json", "text"])
def test_a_traceback_says_where_and_what_kind_but_quotes_nothing(
    format_: str, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logs(LogsConfig.model_validate({"format": format_}))
    try:
        fail()
    except ValueError:
        logging.getLogger("collector.test").exception("it went wrong")
    shown = capsys.readouterr().err
    assert VALUE not in shown
    text = json.loads(shown)["exception"] if format_ == "json" else shown
    assert "ValueError" in text
    assert "KeyError" in text
    assert "in fail" in text
    assert "it went wrong" in shown


def test_an_error_of_the_system_says_which_file(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logs(LogsConfig(format="text"))
    try:
        open("/nonexistent/file")  # noqa: SIM115
    except OSError:
        logging.getLogger("collector.test").exception("no")
    assert "FileNotFoundError: No such file or directory (/nonexistent/file)" in capsys.readouterr().err


def test_a_thread_that_ends_by_an_error_quotes_nothing_either(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logs(LogsConfig(format="text"))
    thread = threading.Thread(target=fail, name="worker")
    thread.start()
    thread.join()
    shown = capsys.readouterr().err
    assert "the thread 'worker' ended" in shown
    assert "ValueError" in shown
    assert VALUE not in shown
