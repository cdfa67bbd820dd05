"""A kill between the note of an insert and its part: what the log of the embedded store says and the disk does not have."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporters.clickhouse.config import ClickHouseConfig
from exporters.clickhouse.engine import EngineError, Handle
from exporters.clickhouse.exporter import ClickHouse
from exporters.clickhouse.mending import mend
from tests.ledger_rows import batch, call, context
from tests.spans_kit import request, span

TABLES = ("otel_traces", "llm_calls_versions", "llm_costs_hourly_sums", "llm_traffic_hourly_sums")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    return tmp_path / "clickhouse"


def started(folder: Path) -> ClickHouse:
    exporter = ClickHouse(ClickHouseConfig.model_validate({"dsn": f"chdb://{folder}"}), context(folder.parent))
    exporter.start()
    return exporter


def counts(exporter: ClickHouse) -> dict[str, int]:
    connection = exporter._connection
    assert connection is not None
    return {table: int(connection.rows(f"SELECT count() FROM spanledger.{table}")[0][0]) for table in TABLES}


def newest_part(folder: Path, table: str) -> Path:
    """The directory of the part of a table that was written last."""
    home = (folder / "data" / "spanledger" / table).resolve()
    parts = [path for path in home.iterdir() if path.name.split("_")[0].isdigit()]
    return max(parts, key=lambda path: int(path.name.split("_")[1]))


def killed(folder: Path, part: Path) -> None:
    """A store that was closed, as a kill would have left it right before the part was put in place."""
    shutil.rmtree(part)
    (folder / "status").touch()


@pytest.mark.parametrize("table", TABLES)
def test_rows_whose_insert_was_noted_and_not_put_in_place_are_written_by_the_repetition(folder: Path, table: str) -> None:  # fmt: skip
    """What stands before, and the other tables of the same delivery, do not count twice."""
    exporter = started(folder)
    first, second = (
        batch(request(spans=[span(name)]), made=[call(name, cost_pico=5)], position=place)
        for place, name in enumerate("ab", 1)
    )
    for payload in exporter.encode(first):
        exporter.send(payload)
    payloads = list(exporter.encode(second))
    for payload in payloads:
        exporter.send(payload)
    wanted = counts(exporter)
    exporter.close()
    killed(folder, newest_part(folder, table))

    again = started(folder)
    try:
        for _ in range(2):
            for payload in payloads:
                again.send(payload)
            assert counts(again) == wanted
    finally:
        again.close()


def test_a_store_that_was_closed_or_is_open_is_left_alone(folder: Path) -> None:
    exporter = started(folder)
    for payload in exporter.encode(batch(request(spans=[span("a")]), made=[call("a")])):
        exporter.send(payload)
    exporter.close()
    assert not (folder / "status").exists()
    logs = {path: path.read_bytes() for path in folder.glob("store/*/*/deduplication_logs/*")}
    assert mend(folder) == []
    assert {path: path.read_bytes() for path in logs} == logs
    killed(folder, newest_part(folder, "otel_traces"))
    with (folder / "status").open("rb") as status:
        fcntl.flock(status, fcntl.LOCK_EX)  # as the engine of another process has it
        assert mend(folder) == []
    assert len(mend(folder)) == 1
    assert mend(folder) == []


def test_a_store_whose_books_cannot_be_put_right_is_not_opened(folder: Path) -> None:
    (folder / "store" / "abc" / "table" / "deduplication_logs" / "deduplication_log_1.txt").mkdir(parents=True)
    (folder / "status").touch()
    with pytest.raises(EngineError, match=r"books cannot be put right: .*deduplication_log_1\.txt"):
        Handle(folder)


def test_a_store_that_is_not_there_yet_has_nothing_to_mend(tmp_path: Path) -> None:
    assert mend(tmp_path / "none") == []


def test_parts_that_were_merged_stand_for_what_they_were_made_of(tmp_path: Path) -> None:
    table = tmp_path / "store" / "abc" / "table"
    (table / "deduplication_logs").mkdir(parents=True)
    (tmp_path / "status").touch()
    for name in ("202611_1_7_2", "202611_9_9_0_11", "202612_1_1_0", "detached"):
        (table / name).mkdir()
    said = [
        "202611_3_3_0",
        "202611_7_7_1",
        "202611_8_8_0",
        "202611_9_9_0",
        "202612_2_2_0",
        "202612_1_1_0",
        "202610_1_1_0",
    ]
    log = table / "deduplication_logs" / "deduplication_log_2.txt"
    log.write_text("".join(f"1\t{name}\ttoken-{name}\n" for name in said) + "2\t202611_8_8_0\ttoken\n1\tbroken")
    (table / "deduplication_logs" / "deduplication_log_3.txt").touch()
    assert mend(tmp_path) == ["202611_8_8_0", "202612_2_2_0", "202610_1_1_0"]
    left = [name for name in said if name not in ("202611_8_8_0", "202612_2_2_0", "202610_1_1_0")]
    assert (
        log.read_text() == "".join(f"1\t{name}\ttoken-{name}\n" for name in left) + "2\t202611_8_8_0\ttoken\n1\tbroken"
    )
