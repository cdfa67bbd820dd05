"""`spanledger top`, `report`, and the sparklines of `costs` and `findings`, over a month of calls in a real store: their figures
against SQL, and what they look like on a narrow terminal."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import pytest

from benchmarks.calls import fill
from exporters.clickhouse.client import Connection
from exporters.clickhouse.config import parse_dsn
from exporters.clickhouse.ddl import Layout
from exporters.clickhouse.migrate import migrate
from spanledger.moments import moment
from spanledger.ui import units
from tests.cli_kit import run

CALLS = 20_000
BARS = "[▁▂▃▄▅▆▇█·]"


@pytest.fixture(scope="module")
def dsn(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with 30 days of calls up to now, and a finding every hour."""
    folder = tmp_path_factory.mktemp("terminal") / "clickhouse"
    found = f"chdb://{folder}"
    connection = Connection(parse_dsn(found), timeout=60)
    migrate(Layout("spanledger"), connection.command, connection.rows)
    fill(connection.command, Layout("spanledger"), CALLS, time.time_ns())
    connection.command(
        "INSERT INTO spanledger.llm_costs_hourly_sums (Hour, Team, App, User, Environment, Provider, Model, Calls, PricedCalls, CostUSD) "
        "SELECT toStartOfHour(now()) - 7200, '<b>ops</b>', '', '', '', '', 'm', 1, 1, 5000"
    )
    connection.close()
    return found


def sql(dsn: str, statement: str) -> list[tuple[str, ...]]:
    connection = Connection(parse_dsn(dsn), timeout=60)
    try:
        connection.use("spanledger")
        return connection.rows(statement)
    finally:
        connection.close()


class Elements(HTMLParser):
    """The names of all elements, and all attributes' values."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


def test_the_generated_calls_are_whole(dsn: str) -> None:
    """Each call once although some have an older version, and the sums by hour are those of the calls."""
    ((calls, cost),) = sql(dsn, "SELECT toString(count()), toString(sum(CostUSD)) FROM llm_calls")
    ((summed, spent),) = sql(dsn, "SELECT toString(sum(Calls)), toString(sum(CostUSD)) FROM llm_costs_hourly WHERE Team != '<b>ops</b>'")  # fmt: skip
    assert (calls, cost) == (str(CALLS), spent)
    assert summed == calls
    assert sql(dsn, "SELECT toString(count() > 20000) FROM llm_calls_versions") == [("1",)]


def test_a_report_is_one_file_with_the_ledgers_figures(dsn: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:  # fmt: skip
    target = tmp_path / "report.html"
    result = run(capsys, "report", "--dsn", dsn, "--since", "7d", "--title", "Spend & more", "-o", str(target))
    assert result.ok() == ""
    text = target.read_text(encoding="utf-8")
    page = Elements()
    page.feed(text)
    assert {"svg", "table", "style"} <= page.names
    assert not {"script", "link", "img", "iframe", "b>ops"} & page.names
    assert not [value for name, value in page.attributes if name in ("href", "src") or name.startswith("on")]
    assert "<title>Spend &amp; more</title>" in text
    assert "&lt;b&gt;ops&lt;/b&gt;" in text
    assert "url(" not in text
    assert "prefers-color-scheme:dark" in text
    assert "@media print" in text
    since = "Hour >= toStartOfHour(now() - 7 * 86400)"
    ((calls, cost),) = sql(dsn, f"SELECT toString(sum(Calls)), toString(sum(CostUSD)) FROM llm_costs_hourly WHERE {since}")  # fmt: skip
    assert units.usd(float(cost)) in text
    assert units.count(int(calls)) in text
    for (model,) in sql(dsn, f"SELECT Model FROM llm_costs_hourly WHERE {since} GROUP BY Model ORDER BY sum(CostUSD) DESC LIMIT 3"):  # fmt: skip
        assert f"<td>{model}</td>" in text


@pytest.mark.parametrize(("since", "whole"), [("7d", True), ("20d", False)])
def test_a_report_compares_with_a_period_that_the_ledger_has_whole(since: str, whole: bool, dsn: str, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    """Calls are of the last month."""
    text = run(capsys, "report", "--dsn", dsn, "--since", since, "-o", "-").ok()
    assert ("no whole period before" in text) != whole


@pytest.mark.parametrize(("since", "until"), [("6h", None), ("24h", None), ("30d", "2d"), ("2020-01-01", "2020-01-03")])
def test_a_report_of_any_period(since: str, until: str | None, dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Hours, days, a month, nothing at all."""
    words = ["report", "--dsn", dsn, "--since", since, "-o", "-", *(["--until", until] if until else [])]
    text = run(capsys, *words).ok()
    assert text.startswith("<!doctype html>")
    assert ("No calls with a cost" in text) == since.startswith("2020")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--since", "all"], "a report needs a period"),
        (["--since", "1d", "--until", "2d"], "--since is not before --until"),
        (["--since", "soon"], "not a time"),
        (["-o", "/nowhere/at/all.html"], "cannot be written"),
    ],
)
def test_a_report_that_cannot_be(words: list[str], said: str, dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, "report", "--dsn", dsn, *words)
    assert result.code
    assert said in result.err


@pytest.mark.parametrize("width", [80, 140])
def test_top_prints_one_frame_when_piped(width: int, dsn: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr("tests.cli_kit.WIDTH", width)
    shown = run(capsys, "top", "--dsn", dsn, "--minutes", "1440").ok()
    assert all(len(line) <= width for line in shown.splitlines())
    assert "USD a minute" in shown
    ((critical,),) = sql(
        dsn, "SELECT toString(count()) FROM llm_findings WHERE State = 'open' AND Severity = 'critical'"
    )
    assert f"findings open: {critical} critical" in shown
    assert re.search(rf"^{BARS}{{60}}  \d\d:\d\d:\d\d UTC", shown, re.MULTILINE)
    ((team, cost),) = sql(dsn, "SELECT Team, toString(sum(CostUSD)) FROM llm_calls WHERE Timestamp >= now() - 86400 GROUP BY Team ORDER BY sum(CostUSD) DESC LIMIT 1")  # fmt: skip
    line = next(line for line in shown.splitlines() if line.startswith(f"{team} "))
    assert (
        abs(float(line.split()[1].replace(",", "")) - float(cost)) < 0.05
    )  # a call may have left the period meanwhile
    assert re.search(rf"{BARS}{{16}}$", line)


class Later(datetime):
    """A clock that is a year ahead."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + timedelta(days=365)


def test_top_without_calls_says_so(dsn: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr("spanledger.cli.top.datetime", Later)
    shown = run(capsys, "top", "--dsn", dsn, "--minutes", "30", "--once").ok()
    assert "no calls in 30 min" in shown
    assert "Model" not in shown


def test_costs_have_sparklines(dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One for each line and one for the total; none where lines are times themselves, or for all time."""
    shown = run(capsys, "costs", "--dsn", dsn, "--since", "7d", "--limit", "3").ok()
    assert len(re.findall(rf"{BARS}{{12}}", shown)) == 4
    for words in (["--by", "day", "--since", "7d"], ["--since", "all"]):
        assert not re.search(rf"{BARS}{{12}}", run(capsys, "costs", "--dsn", dsn, *words).ok())


@pytest.mark.parametrize(
    ("by", "since", "until"),
    [
        ("team,model", "30h", None),
        ("user", "2d", "50m"),
        ("provider,environment", "all", "36h"),
        ("day", "5d", "1d"),
        ("hour,app", "100m", None),
        ("app", "40m", "10m"),
        ("team,key", "30h", "2h"),  # the sums have no keys
    ],
)
def test_costs_of_whole_hours_and_what_is_left_at_both_ends_are_the_calls(
    by: str,
    since: str,
    until: str | None,
    dsn: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To the last digit of every figure of every line, as if all of it were asked of the calls."""
    # The time that a command takes must not move the ends of the period.
    fixed = datetime.now(tz=UTC)
    words = ["costs", "--dsn", dsn, "--by", by, "--limit", "10000", "--format", "json"]
    for option, value in (("--since", since), ("--until", until)):
        at = moment(value, fixed) if value not in (None, "all") else value
        words += [] if at is None else [option, at if isinstance(at, str) else f"{at:%Y-%m-%dT%H:%M:%S}"]
    summed = json.loads(run(capsys, *words).ok(), parse_float=Decimal)
    monkeypatch.setattr("spanledger.cli.cost_source.OF_HOURS", frozenset())
    of_calls = json.loads(run(capsys, *words).ok(), parse_float=Decimal)
    assert [line for line in summed if line["cost_usd"] != 5000] == of_calls != []  # of the movement that has no call


@pytest.mark.parametrize("width", [50, 80, 140])
def test_findings_read_well_on_narrow_terminals(width: int, dsn: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """No word is cut or folded inside; kinds have sparklines of when they came."""
    monkeypatch.setattr("tests.cli_kit.WIDTH", width)
    shown = run(capsys, "findings", "--dsn", dsn, "--since", "3d", "--limit", "6").ok()
    lines = shown.splitlines()
    assert all(len(line) <= width for line in lines)
    assert sum("What was noticed" in line for line in lines) == 6
    assert sum("privacy.pii_sent" in line for line in lines) == 3
    assert len(re.findall(rf"{BARS}{{24}}", shown)) == 3
