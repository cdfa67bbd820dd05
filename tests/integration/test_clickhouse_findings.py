"""Findings in ClickHouse: one row each, the newest version, with exact money; asked as anybody asks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from collector.findings import Evidence, Finding, Resolution, State
from exporters.clickhouse.config import ClickHouseConfig
from exporters.clickhouse.exporter import ClickHouse
from exporters.clickhouse.reader import Reader
from tests.findings_kit import NOON_NS, finding
from tests.ledger_rows import batch, context

DAY_NS = 86400 * 10**9


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ClickHouse, Reader]]:
    folder = tmp_path_factory.mktemp("findings")
    options = {"dsn": f"chdb://{folder / 'clickhouse'}", "findings_ttl": "30000d"}
    exporter = ClickHouse(ClickHouseConfig.model_validate(options), context(Path(folder)))
    exporter.start()
    reader = Reader(folder / "clickhouse", "spanledger")
    yield exporter, reader
    reader.close()
    exporter.close()


def insert(exporter: ClickHouse, *findings: Finding, position: int = 1) -> None:
    made = list(exporter.encode(batch(b"", position=position).with_(findings=findings)))
    for payload in (*made, *made):  # each of them twice
        exporter.send(payload)


def asked(reader: Reader, what: str, id_: str) -> list[str]:
    sql = f"SELECT {what} FROM llm_findings WHERE FindingId = '{id_}' FORMAT TSV"
    return reader.ask(sql).result.body.decode().splitlines()


def test_a_finding_is_one_row_the_newest(store: tuple[ClickHouse, Reader]) -> None:
    exporter, reader = store
    one = finding(id="a1", cost_pico=123_456_789_012_345_678_901)
    insert(exporter, one)
    insert(exporter, replace(one, version=6, observations=3, last_seen_ns=NOON_NS + 99 * 10**9), position=2)
    insert(exporter, replace(one, version=5, message="late"), position=3)
    row = "State, Severity, Kind, Team, Model, User, Measured, Expected, Unit, CostUSD, Message, Observations"
    assert asked(reader, row, "a1") == [
        "open\twarning\tbudget.hard\tsearch\tgpt-4o\t\t120.5\t100\tUSD\t123456789.012345678901\tTeam search spent 120.50 USD of 100.\t3"
    ]
    assert asked(reader, "Subject, TraceIds, SpanIds, ResolvedAt, toUnixTimestamp64Nano(LastSeen)", "a1") == [
        "{'model':'gpt-4o','team':'search'}\t['" + "0a" * 16 + "']\t['" + "0b" * 8 + f"']\t\\N\t{NOON_NS + 99 * 10**9}"
    ]
    insert(exporter, replace(one, version=7, state=State.RESOLVED, resolution=Resolution.QUIET, resolved_ns=NOON_NS), position=4)  # fmt: skip
    assert asked(reader, "State, Resolution, toUnixTimestamp64Nano(ResolvedAt)", "a1") == [
        f"resolved\tquiet\t{NOON_NS}"
    ]


def test_what_is_not_known_is_null_and_findings_of_several_months_fit_one_batch(
    store: tuple[ClickHouse, Reader],
) -> None:
    exporter, reader = store
    bare = finding(id="b1", measured=None, expected=None, cost_pico=None, evidence=(), subject=(), unit="")
    other = replace(bare, id="b2", first_seen_ns=NOON_NS - 60 * DAY_NS, evidence=(Evidence("1" * 32, "2" * 16),))
    wild = replace(bare, id="b3", first_seen_ns=2**63 - 1, last_seen_ns=2**63 - 1, cost_pico=10**40)
    insert(exporter, bare, other, wild, position=9)
    assert asked(reader, "Measured, Expected, CostUSD, Subject, TraceIds, Day", "b1") == [
        "\\N\t\\N\t\\N\t{}\t[]\t2026-11-28"
    ]
    assert asked(reader, "Day", "b2") == ["2026-09-29"]
    assert asked(reader, "Day, CostUSD > 0", "b3") == ["2105-12-31\t1"]


def test_rows_are_kept_as_long_as_the_option_says(store: tuple[ClickHouse, Reader]) -> None:
    _, reader = store
    ddl = reader.ask("SHOW CREATE TABLE llm_findings_versions").result.body.decode()
    assert "TTL Day + toIntervalDay(30000)" in ddl
