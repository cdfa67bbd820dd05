"""The exchange of shares: what is asked for, who is told, when the pipeline is woken, and what happens while the store is away."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import pytest
from prometheus_client import CollectorRegistry

from collector.counting import Share
from collector.errors import Retryable
from collector.replicas import OVERLAP_NS, Exchange
from tests.pipeline_kit import wait_for

SHARE = Share("0a", 0, ("x",), "two", 1, 10, 1, 1, 1, {})
WRITTEN = 10**18


class Store:
    """Answers, or fails as it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[Mapping[str, int], int]] = []
        self.error: Exception | None = None
        self.closed = False

    def read(self, since: Mapping[str, int], written_ns: int) -> tuple[list[Share], int]:
        self.asked.append((since, written_ns))
        if self.error is not None:
            raise self.error
        return [SHARE], WRITTEN

    def close(self) -> None:
        self.closed = True


class Listener:
    def __init__(self, scope: str, needs: bool = False) -> None:
        self.scope, self.needs = scope, needs
        self.heard: list[Sequence[Share] | None] = []

    def wanted(self) -> Mapping[str, int]:
        return {self.scope: 5}

    def hear(self, shares: Sequence[Share] | None, began_ns: int) -> bool:
        assert abs(began_ns - time.time_ns()) < 60 * 10**9
        self.heard.append(shares)
        return self.needs


def exchange(store: Store, *listeners: Listener) -> tuple[Exchange, list[None], CollectorRegistry]:
    woken: list[None] = []
    registry = CollectorRegistry()
    return Exchange("ch", store, listeners, lambda: woken.append(None), registry), woken, registry


def test_everybody_is_told_and_the_pipeline_is_woken_where_one_of_them_has_something_to_do() -> None:
    store, one, two = Store(), Listener("0a"), Listener("0b", needs=True)
    made, woken, _ = exchange(store, one, two)
    made.exchange()
    assert store.asked == [({"0a": 5, "0b": 5}, 0)]
    assert one.heard == two.heard == [[SHARE]]
    assert len(woken) == 1
    two.needs = False
    made.exchange()
    assert len(woken) == 1


def test_what_is_new_is_asked_for_and_all_of_it_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    made, _, _ = exchange(store, Listener("0a"))
    made.exchange()
    made.exchange()
    with monkeypatch.context() as passed:
        passed.setattr("collector.replicas.ALL_EVERY_S", 0)
        made.exchange()
    made.exchange()
    assert [written for _, written in store.asked] == [0, WRITTEN - OVERLAP_NS, 0, WRITTEN - OVERLAP_NS]


@pytest.mark.parametrize("error", [Retryable("ch does not answer"), ValueError("a secret")])
def test_while_the_store_is_away_listeners_are_told_so_and_it_is_said_once(error: Exception, caplog: pytest.LogCaptureFixture) -> None:  # fmt: skip
    caplog.set_level("INFO")
    store, one = Store(), Listener("0a", needs=True)
    made, woken, registry = exchange(store, one)
    made.exchange()
    store.error = error
    for _ in range(6):
        made.exchange()
    assert one.heard == [[SHARE], *[None] * 6]
    assert len(woken) == 7, "what waits for an answer may have waited long enough"
    assert caplog.text.count("cannot be read") == 1
    assert "a secret" not in caplog.text
    age = registry.get_sample_value("spanledger_shares_age_seconds")
    assert age is not None
    assert age >= 0
    store.error = None
    made.exchange()
    assert "can be read again" in caplog.text


def test_it_runs_until_it_is_stopped_whatever_a_listener_raises_and_gives_the_connection_back(monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr("collector.replicas.EVERY_S", 0.01)
    store, one = Store(), Listener("0a", needs=True)
    monkeypatch.setattr(one, "wanted", iter([{}, {"0a": 5}, {}]).__next__)  # then it raises, round by round
    made, woken, _ = exchange(store, one)
    made.start()
    wait_for(lambda: len(woken) == 3)
    monkeypatch.undo()
    seen = len(woken)
    wait_for(lambda: len(woken) > seen)
    made.stop()
    assert store.closed
