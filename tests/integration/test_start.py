"""What is true as soon as a collector says that it is ready."""

from __future__ import annotations

import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from config.loader import loads
from exporters.clickhouse import exporter
from spanledger import service

CONFIG = """
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:0"}}, http: {{endpoint: "127.0.0.1:0"}}}}}}}}
exporters: {{clickhouse: {{dsn: "chdb://{folder}/clickhouse"}}}}
service:
  data_dir: {folder}/data
  admin: {{endpoint: "127.0.0.1:0", ui: {{enabled: false}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [clickhouse]}}}}
"""


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A collector whose store takes its time to make tables; it is given by a function that starts it."""
    real = exporter.migrate

    def slow(*args: Any) -> Any:
        time.sleep(1.0)
        return real(*args)

    monkeypatch.setattr(exporter, "migrate", slow)
    made = service.Service(loads(CONFIG.format(folder=tmp_path), "start.yaml"))
    yield made
    made.stop(1)


def test_the_tables_of_the_embedded_store_are_there(started: service.Service) -> None:
    started.start()
    question = urllib.request.Request(f"http://{started.admin.endpoint}/clickhouse/", b"SELECT count() FROM llm_calls")
    with urllib.request.urlopen(question, timeout=30) as answer:
        assert answer.read() == b"0\n"


def test_a_store_that_takes_too_long_keeps_nobody_waiting(
    started: service.Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "STORE_S", 0.01)
    started.start()
    assert started.parts.ready
    assert not started.parts.deliveries[0].began.is_set()
    assert started.parts.deliveries[0].began.wait(30), "it goes on meanwhile"
