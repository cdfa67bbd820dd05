"""When a store is asked for the calls of before: not before it has everything, not for ever, and never so that a pipeline ends."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from collector import history as recalling
from collector.errors import Retryable
from collector.history import Recall


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An outlet whose store does not answer until `answers`; `asked` counts the attempts that came through."""
    monkeypatch.setattr(recalling, "WAIT_S", 0.3)
    monkeypatch.setattr(recalling, "AGAIN_S", 0.0)
    monkeypatch.setattr(recalling, "TICK_S", 0.01)
    found = SimpleNamespace(answers=False, lacking=True, letters=[], asked=0, waited=[])

    def recall(_: Any) -> None:
        found.asked += 1
        if not found.answers:
            raise Retryable("it does not answer")
        found.lacking = False

    found.outbox = SimpleNamespace(count=0)
    outlet: Any = SimpleNamespace(
        name="traces/clickhouse", outbox=found.outbox, exporter=SimpleNamespace(history=object)
    )
    letters: Any = SimpleNamespace(list=lambda: found.letters)
    found.recall = Recall(letters, outlet, lambda: found.lacking, recall)
    found.wait = lambda why: found.waited.append(why) or True
    return found


def test_a_store_that_does_not_answer_is_told_of_and_asked_again(scene: Any, caplog: pytest.LogCaptureFixture) -> None:
    scene.recall.first(scene.wait)
    assert scene.waited[-1] is None
    assert "it does not answer" in scene.waited[0]
    assert [r.levelno for r in caplog.records] == [logging.ERROR]
    assert "marked" in caplog.text
    scene.recall.again()
    scene.answers = True
    scene.recall.again()
    asked = scene.asked
    scene.recall.again()
    assert (scene.lacking, scene.asked) == (False, asked)


def test_it_is_asked_only_when_it_has_everything(scene: Any) -> None:
    scene.answers = True
    scene.outbox.count = 1
    scene.recall.first(scene.wait)
    scene.recall.again()
    assert scene.asked == 0
    scene.outbox.count = 0
    scene.letters = [SimpleNamespace(kind="payload", origin="traces/clickhouse")]
    scene.recall.again()
    assert scene.asked == 0
    scene.letters = [SimpleNamespace(kind="request", origin="traces")]
    scene.recall.again()
    assert not scene.lacking


def test_a_stop_does_not_wait(scene: Any) -> None:
    scene.recall.first(lambda why: False)
    assert scene.asked == 1


def test_what_it_raises_ends_no_pipeline(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene.recall, "_recall", lambda _: 1 / 0)
    scene.recall.first(scene.wait)
    assert "ZeroDivisionError" in scene.waited[0]
