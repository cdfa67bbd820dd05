"""`spanledger budgets`: bars and rates from what the admin port says, against a collector's own report."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from tests.budgets_kit import DAY, Replica, Table, spent, started, take
from tests.cli_kit import Answer, Request, run, serve
from tests.findings_kit import NOON_NS, Memory


def reported(most: int) -> list[dict[str, Any]]:
    """What a collector reports; windows are of today, whenever the test runs."""
    state = Memory()
    config = {"teams": {"per": ["team"], "usd": 10, "rolling": "48h"}, "all": {"tokens": 1000, "window": "month"}}
    budgets = started(config, state)
    take(budgets, state, [spent("a", 12.5, team="broke"), spent("b", 8.25, team="near"), spent("c", 1, team="")])
    found = [{"pipeline": "traces", **one} for one in budgets.verdicts.report(NOON_NS, most)]
    for one in found:  # half of the window has passed
        one["begins_ns"] = time.time_ns() - DAY
        one["ends_ns"] = one["ends_ns"] and time.time_ns() + 10 * DAY
    return found


def answering(found: Any = None) -> Any:
    def answer(request: Request) -> Answer:
        path, _, query = request.path.partition("?")
        assert path == "/budgets"
        body = found if found is not None else reported(int(query.removeprefix("most=")))
        return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()

    return serve(answer)


def test_bars_rates_and_what_is_denied(capsys: pytest.CaptureFixture[str]) -> None:
    with answering() as there:
        result = run(capsys, "budgets", "--admin", there.address)
    assert result.code == 0
    lines = [" ".join(line.split()) for line in result.out.splitlines()]
    assert lines[0].startswith("teams per team, rolling 2d")
    assert any(line.startswith("broke █") and line.endswith("125.0% 12.50 10.00 12.50 denied") for line in lines)
    assert any(line.startswith("near █") and "82.5% 8.25 10.00 8.25" in line for line in lines)
    assert any(line.startswith("(none) ██░") for line in lines)
    assert any(line.startswith("all all calls together, month UTC, ends in 10 days") for line in lines)
    assert any("33.0% 330 1,000 330 in 2 days" in line for line in lines)


def test_json_is_exact_and_one_object_a_subject(capsys: pytest.CaptureFixture[str]) -> None:
    with answering() as there:
        result = run(capsys, "budgets", "--admin", there.address, "-f", "json", "--limit", "2", "--budget", "teams")
    broke, near = json.loads(result.out)
    assert (broke["subject"], broke["used"], broke["denies"], broke["resets_at"]) == (
        {"team": "broke"},
        12.5,
        True,
        None,
    )
    assert (near["used"], near["remaining"], near["used_percent"], near["denies"]) == (8.25, 1.75, 82.5, False)


def test_of_shared_budgets_it_says_who_counted_what_and_how_old_that_is(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table()
    one, two = (Replica(name, table, {"teams": {"per": ["team"], "usd": 10}}) for name in ("pod-0", "pod-1"))
    one.take([spent("a", 2.5, team="x")])
    two.take([spent("b", 5, team="x")])
    table.write(two.waiting)
    one.exchange(time.time_ns() - 4 * 10**9)
    found = [{"pipeline": "traces", **report} for report in one.budgets.verdicts.report(NOON_NS, 10)]
    with answering(found) as there:
        shown = run(capsys, "budgets", "--admin", there.address)
        (row,) = json.loads(run(capsys, "budgets", "--admin", there.address, "-f", "json").out)
    lines = [" ".join(line.split()) for line in shown.out.splitlines()]
    assert re.search(r"shared, others read \d+ s ago", lines[0])
    assert any(
        line.startswith("x ██") and "7.50 10.00" in line and line.endswith("pod-0 2.50, pod-1 5.00") for line in lines
    )
    assert (row["used"], row["shares"]) == (7.5, {"pod-0": "2.5", "pod-1": "5"})


def test_more_subjects_than_are_shown_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    with answering() as there:
        result = run(capsys, "budgets", "--admin", there.address, "--limit", "1")
    assert "and 2 more that used less" in result.out


def test_a_budget_that_is_not_there_and_a_collector_without_any(capsys: pytest.CaptureFixture[str]) -> None:
    with answering() as there:
        result = run(capsys, "budgets", "--admin", there.address, "--budget", "tems")
    assert (result.code, "There are teams, all." in result.err) == (1, True)
    with answering([]) as there:
        assert "no budgets" in run(capsys, "budgets", "--admin", there.address).out
