"""`spanledger anomaly backtest` over a real ledger: what it shows is what the processor would have said as calls came."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from exporters.clickhouse.config import ClickHouseConfig
from exporters.clickhouse.engine import Handle
from exporters.clickhouse.exporter import ClickHouse
from spanledger.cli import anomaly
from tests.anomaly_kit import HOUR, START, batch, multiplied, opened, processor, take, traffic
from tests.cli_kit import run
from tests.findings_kit import Memory
from tests.ledger_rows import context

CONFIG = "processors: {anomaly: {warm_up: 24h}}\nexporters: {nop: }\nservice: {pipelines: {traces: {receivers: [otlp], processors: [anomaly], exporters: [nop]}}}\nreceivers: {otlp: {protocols: {grpc: {}}}}\n"  # fmt: skip
NOW = START + 36 * HOUR


@pytest.fixture(scope="module")
def calls() -> pl.DataFrame:
    """A day and a half; then a provider that is slow for an hour."""
    past = [traffic(START + hour * HOUR, START + (hour + 1) * HOUR) for hour in range(36)]
    slow = multiplied(pl.col("provider") == "openai", 4, "duration_ns", "time_to_first_token_ns")(
        traffic(NOW, NOW + HOUR)
    )
    return pl.concat([*past, slow, traffic(NOW + HOUR, NOW + 3 * HOUR)])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, calls: pl.DataFrame) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("ledger") / "clickhouse"
    handle = Handle(folder)
    exporter = ClickHouse(ClickHouseConfig(dsn=f"chdb://{folder}"), context(folder.parent))  # type: ignore[arg-type]
    exporter.start()
    for payload in exporter.encode(batch(calls)):
        exporter.send(payload)
    exporter.close()
    yield folder
    handle.close()


@pytest.fixture
def words(store: Path, tmp_path: Path) -> tuple[str, ...]:
    config = tmp_path / "spanledger.yaml"
    config.write_text(CONFIG)
    return ("anomaly", "backtest", "--dsn", f"chdb://{store}", "--config", str(config))


def test_history_says_what_the_calls_said_as_they_came(
    words: tuple[str, ...], calls: pl.DataFrame, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anomaly, "PAGE", 150)
    made, state = processor(warm_up="24h"), Memory()
    live = opened(take(made, calls, state))
    assert live == [("anomaly.latency", {"provider": "openai"})]
    found = json.loads(run(capsys, *words, "--since", "all", "--format", "json").ok())
    assert [(one["kind"], one["subject"]) for one in found] == live
    (one,) = found
    assert one["state"] == "resolved"
    assert one["measured"] > 2 * one["expected"]
    assert "2026-11-03T12:" in one["raised"]
    assert one["first_seen"] < one["raised"]


def test_it_is_shown_to_people_and_to_spreadsheets(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, *words, "--since", "2026-11-01", "--until", "2027-01-01")
    shown = result.ok()
    assert "anomaly.latency" in shown
    assert "1 finding over" in shown
    assert "Until 2026-11-03 00:00 UTC it mostly learnt" in result.err
    table = run(capsys, *words, "--since", "all", "--format", "csv").ok().splitlines()
    assert len(table) == 2
    assert "provider=openai" in table[1]


def test_options_of_the_config_are_what_is_tried(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert "0 findings" in run(capsys, *words, "--since", "all", "--set", "processors.anomaly.threshold=1000").ok()


def test_where_nothing_is_it_says_so(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, *words, "--since", "2026-11-02", "--until", "2026-11-01")
    assert result.code == 2
    assert "--since is not before --until" in result.err
    result = run(capsys, *words, "--since", "2025-01-01", "--until", "2025-02-01")
    assert result.code != 0
    assert "there are no calls since 2025-01-01" in result.err
