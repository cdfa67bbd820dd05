"""The verdict ports in a process of their own: the same answers, through commits, its end, and silence."""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from collector.errors import SpanledgerError
from collector.store import StateStore, open_sealer
from config.loader import load
from spanledger.verdict import VerdictServer
from tests.budgets_kit import spent, started, take
from tests.findings_kit import NOON_NS
from tests.pipeline_kit import wait_for

CONFIG = """
receivers: {otlp: {}}
processors:
  budgets: {budgets: {teams: {per: [team], usd: 10}, day: {per: [team], calls: 1000, rolling: 24h}}}
exporters: {nop: {}}
service:
  data_dir: DATA
  verdict: {endpoint: "127.0.0.1:0", own_process: true, on_error: deny, deny_status: 403}
  pipelines: {traces: {receivers: [otlp], processors: [budgets], exporters: [nop]}}
"""


@contextmanager
def serving(folder: Path) -> Iterator[Any]:
    """A verdict server over a store in which team `a` has used 2 of 10 dollars; `spend` commits more."""
    file = folder / "spanledger.yaml"
    file.write_text(CONFIG.replace("DATA", str(folder / "data")))
    loaded = load(file)
    settings = loaded.service
    settings.data_dir.mkdir(mode=0o700)
    store = StateStore(settings.data_dir / "state", open_sealer(settings.encryption, settings.data_dir))
    budgets = started({name: one.model_dump(exclude_defaults=True) for name, one in loaded.processors["budgets"].config.budgets.items()}, history=None)  # type: ignore[attr-defined]  # fmt: skip

    def spend(usd: float) -> None:
        with store.transaction() as writing:
            take(budgets, writing.component("traces/budgets"), [spent(str(usd), usd, time.time_ns() - NOON_NS, team="a")])  # type: ignore[arg-type]  # fmt: skip

    spend(2)
    pipeline = SimpleNamespace(id="traces", failed=None, alive=True, lag=0.0)
    service: Any = SimpleNamespace(ready=True, verdicts=[(pipeline, budgets.verdicts)], config=loaded)
    server = VerdictServer(settings.verdict, service)  # type: ignore[arg-type]
    server.start()
    try:
        yield SimpleNamespace(server=server, spend=spend, pipeline=pipeline, service=service, budgets=budgets)
    finally:
        server.stop()
        store.close()


def ask(running: Any) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(running.server.listening.http, timeout=5)
    try:
        connection.request("GET", "/v1/verdict?team=a")
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    except OSError:
        return 0, {"known": False}
    finally:
        connection.close()


def until(running: Any, fits: Callable[[int, dict[str, Any]], bool]) -> dict[str, Any]:
    """The first answer that fits."""
    found: list[dict[str, Any]] = []

    def asked() -> bool:
        status, body = ask(running)
        found.append(body)
        return fits(status, body)

    wait_for(asked)
    return found[-1]


def test_another_process_answers_what_is_committed_and_nothing_it_cannot_know(tmp_path: Path) -> None:
    with serving(tmp_path) as running:
        body = until(running, lambda status, body: status == 200 and body["known"])
        assert [one["used"] for one in body["budgets"]] == ["2", "1"]
        here = running.budgets.verdicts.ask({"team": "a"}, time.time_ns())
        assert [use.as_json() for use in here.uses] == body["budgets"]
        running.spend(9)
        assert (
            "team a used 11 of 10 USD" in until(running, lambda status, body: status == 403 and body["known"])["reason"]
        )
        # It is killed: another one takes the port and answers the same.
        child, port = running.server.child, running.server.listening.http
        first = child.pid
        os.kill(first, signal.SIGKILL)
        until(running, lambda status, body: status == 403 and body["known"] and child.pid != first)
        assert running.server.listening.http == port
        running.pipeline.failed = "disk full"
        assert "stands still" in until(running, lambda _, body: not body["known"] and "reason" in body)["reason"]
        # Its collector hangs: what was said last is not believed for ever.
        running.pipeline.failed = None
        until(running, lambda _, body: body["known"])
        child._ended.set()
        assert "says nothing" in until(running, lambda _, body: not body["known"])["reason"]
    assert ask(running)[0] == 0


def test_a_port_that_is_taken_is_an_error_and_leaves_no_process(tmp_path: Path) -> None:
    with serving(tmp_path) as running:
        config = running.service.config.service.verdict.model_copy(update={"endpoint": running.server.listening.http})
        second = VerdictServer(config, running.service)
        with pytest.raises(SpanledgerError, match=r"service.verdict.endpoint: cannot listen"):
            second.start()
        second.stop()
        assert second.child is not None
        assert not second.child._process.is_alive()
