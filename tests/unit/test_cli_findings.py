"""`spanledger findings` against a query interface that answers from a script, and against a real store."""

from __future__ import annotations

import itertools
import json
from decimal import Decimal
from pathlib import Path

import pytest

from collector.findings import Severity
from exporters.clickhouse.config import ClickHouseConfig
from exporters.clickhouse.exporter import ClickHouse
from spanledger.cli import findings as command
from tests.cli_kit import ledger, run
from tests.findings_kit import finding
from tests.ledger_rows import batch, context

COLUMNS = list(command._COLUMNS)


def row(id_: str = "a1", state: str = "open", severity: str = "critical", **changes: object) -> list[object]:
    values = {
        "id": id_, "kind": "budget.hard", "state": state, "severity": severity, "first_seen": "2026-11-28T12:00:00Z",
        "last_seen": "2026-11-28T12:01:00Z", "resolved_at": None, "resolution": "", "subject": {"model": "gpt-4o", "team": "search"},
        "measured": 120.5, "expected": 100, "unit": "USD", "cost_usd": "20.500000000001", "message": "Team search spent too much.",
        "observations": "2", "trace_ids": [], "span_ids": [], **changes,
    }  # fmt: skip
    return [values[name] for name in COLUMNS]


def answer(*rows: list[object]) -> dict[str, object]:
    return {"meta": [{"name": name, "type": "String"} for name in COLUMNS], "data": list(rows)}


def test_findings_as_a_table(capsys):
    resolved = row("b2", "resolved", message="It was\x1b[31m so.", resolution="quiet", cost_usd=None)
    with ledger(lambda sql: answer(row(), resolved)) as server:
        shown = run(capsys, "findings", "--admin", server.address).ok()
    for text in ("critical", "11-28 12:00", "budget.hard", "team=search", "20.50", "resolved", "(quiet)"):
        assert text in shown
    assert "2 findings since 24h, 1 open" in shown
    assert "\x1b[31m" not in shown


def test_no_finding_is_no_error(capsys):
    with ledger(lambda sql: answer()) as server:
        assert run(capsys, "findings", "--admin", server.address).ok().strip() == "0 findings since 24h, 0 open"


@pytest.mark.parametrize(
    ("words", "in_sql"),
    [
        (["--kind", "budget.*"], "Kind LIKE 'budget.%'"),
        (["--kind", "a_b.c"], r"Kind LIKE 'a\\_b.c'"),
        (["--severity", "warning"], "Severity IN ('warning', 'critical')"),
        (["--open", "--since", "all"], "WHERE State = 'open' ORDER"),
        (["--since", "2026-11-24"], "(LastSeen >= toDateTime64('2026-11-24 00:00:00.000000', 9, 'UTC') OR ResolvedAt >= "),
        (["--limit", "7"], "LIMIT 7"),
    ],
)  # fmt: skip
def test_what_findings_asks(words, in_sql, capsys):
    asked = []
    with ledger(lambda sql: asked.append(sql) or answer()) as server:
        run(capsys, "findings", "--admin", server.address, *words).ok()
    assert in_sql in asked[0]


def test_a_kind_that_is_none_is_refused_before_anything_is_asked(capsys):
    result = run(capsys, "findings", "--admin", "127.0.0.1:1", "--kind", "x' OR 1")
    assert result.code == 2
    assert "--kind" in result.err


def test_follow_tells_what_opens_gets_worse_and_is_resolved_once(capsys, monkeypatch):
    monkeypatch.setattr(command, "_EVERY_S", 0.0)
    looks = itertools.chain(
        [answer(row("a1", severity="warning")), answer(row("a1", severity="warning", observations="3"))],
        [answer(row("a1")), answer(row("b2"), row("a1", "resolved", resolution="quiet"))],
    )

    def script(sql):
        try:
            return next(looks)
        except StopIteration:
            raise ValueError("the collector stopped") from None

    with ledger(script) as server:
        result = run(capsys, "findings", "--admin", server.address, "--follow", "--format", "json")
    assert "the collector stopped" in result.err
    told = [json.loads(line) for line in result.out.splitlines()]
    assert [(one["id"], one["state"], one["severity"]) for one in told] == [
        ("a1", "open", "warning"), ("a1", "open", "critical"), ("a1", "resolved", "critical"), ("b2", "open", "critical"),
    ]  # fmt: skip


def test_a_real_store_answers(capsys, tmp_path):
    dsn = f"chdb://{tmp_path / 'clickhouse'}"
    exporter = ClickHouse(ClickHouseConfig.model_validate({"dsn": dsn}), context(Path(tmp_path)))
    exporter.start()
    for payload in exporter.encode(batch().with_(findings=(finding(severity=Severity.CRITICAL),))):
        exporter.send(payload)
    exporter.close()
    words = ("findings", "--dsn", dsn, "--since", "all", "--kind", "budget.*", "--severity", "critical", "--open")
    (one,) = json.loads(run(capsys, *words, "--format", "json").ok(), parse_float=Decimal)
    assert (one["cost_usd"], one["subject"], one["first_seen"]) == (
        Decimal("20.5"), {"model": "gpt-4o", "team": "search"}, "2026-11-28T12:00:00Z",
    )  # fmt: skip
    assert "20.50" in run(capsys, *words).ok()
    assert run(capsys, *words, "--follow", "--format", "csv", "--kind", "x'").code == 2
