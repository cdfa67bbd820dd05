"""The ClickHouse exporter's matrix over the embedded store, and what only the embedded store has."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from collector.errors import Retryable
from exporters.clickhouse.config import ClickHouseConfig
from exporters.clickhouse.engine import EngineBusy, EngineError, Handle
from exporters.clickhouse.exporter import ClickHouse
from exporters.clickhouse.reader import Reader
from tests.integration.clickhouse_matrix import *  # noqa: F403
from tests.integration.clickhouse_matrix import Make, deliver
from tests.ledger_rows import batch, call, context
from tests.spans_kit import request, span


@pytest.fixture(scope="module")
def dsn(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"chdb://{tmp_path_factory.mktemp('engine') / 'clickhouse'}"


@pytest.fixture(scope="module", autouse=True)
def engine(dsn: str) -> object:
    """Keeps the engine up between tests: it starts once."""
    handle = Handle(Path(dsn.removeprefix("chdb://")))
    yield handle
    handle.close()


def test_queries_and_inserts_run_side_by_side(make: Make, database: str, dsn: str) -> None:
    """Readers ask while batches come in; each answer is a whole number of batches, and none fails."""
    exporter = make()
    reader = Reader(Path(dsn.removeprefix("chdb://")), database)
    counts: list[int] = []
    failed: list[Exception] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                counts.append(int(reader.ask("SELECT count() FROM llm_calls").result.body))
            except Exception as error:
                failed.append(error)
                return

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(15):
        deliver(exporter, batch(made=[call(f"{number}-{i}") for i in range(10)], position=number))
    done.set()
    for thread in threads:
        thread.join()
    reader.close()
    assert not failed
    assert counts
    assert all(count % 10 == 0 for count in counts)


def test_another_process_is_told_that_the_directory_is_in_use(make: Make, dsn: str) -> None:
    make()
    code = (
        "from pathlib import Path; from exporters.clickhouse.engine import Handle, EngineBusy\n"
        f"try: Handle(Path({dsn.removeprefix('chdb://')!r}))\n"
        "except EngineBusy as error: print('busy:', error)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout
    assert said.startswith("busy:")
    assert "in use by another process" in said


def test_one_process_has_one_directory(make: Make, tmp_path: Path) -> None:
    make()
    other = ClickHouse(ClickHouseConfig(dsn=f"chdb://{tmp_path / 'other'}"), context(tmp_path))  # type: ignore[arg-type]
    with pytest.raises(Retryable, match="can have only one"):
        other.start()


def test_reading_makes_no_store_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="nothing was ever written there"):
        Handle(tmp_path / "none", create=False)
    assert not (tmp_path / "none").exists()
    assert issubclass(EngineBusy, EngineError)


def test_nothing_is_compressed_for_a_store_in_this_process(make: Make) -> None:
    embedded = make(start=False)
    server = ClickHouse(ClickHouseConfig(dsn="http://ch/"), embedded.context)  # type: ignore[arg-type]
    one = batch(request(spans=[span(attributes={"k": "v" * 100}) for _ in range(200)]))
    (plain,), (packed,) = embedded.encode(one), server.encode(one)
    assert len(packed.body) < len(plain.body) / 3
    assert packed.meta == plain.meta
