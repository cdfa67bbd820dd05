"""Budgets: what counts for whom and in which window, when what is said, and that it is said once."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from collector.counting import Summed
from collector.findings import Severity, Transition
from collector.verdict import decide
from collector.windows import Window
from config.loader import load_part
from processors.budgets import BudgetsConfig
from tests.budgets_kit import DAY, HOUR, MINUTE, USD, NothingBefore, said, spent, started, take
from tests.findings_kit import NOON_NS, Memory, new_book
from tests.ledger_rows import batch

TEAMS: dict[str, Any] = {"teams": {"per": ["team"], "usd": 10, "window": "day", "projected": None}}


def used(budgets: Any, now: int = NOON_NS, **question: str) -> list[int]:
    return [use.used for use in budgets.verdicts.ask(question, now).uses]


def test_each_threshold_is_said_once_at_the_call_that_reached_it() -> None:
    state = Memory()
    budgets = started(TEAMS, state)
    assert take(budgets, state, [spent("a", 4)]) == []
    observed = take(
        budgets, state, [spent("b", 1, MINUTE, trace_id="c" * 32), spent("c", 3, 2 * MINUTE), spent("d", 1, 3 * MINUTE)]
    )
    assert said(observed) == [
        ("budget.soft", "team=search threshold=50%", True),
        ("budget.soft", "team=search threshold=80%", True),
    ]
    half, most = observed
    assert (half.at_ns, half.measured, half.expected, half.unit) == (NOON_NS + MINUTE, 5.0, 10.0, "USD")
    assert half.evidence[0].trace_id == "c" * 32
    assert (half.severity, most.severity) == (Severity.INFO, Severity.WARNING)
    assert most.message == "Budget teams: team search used 8 of 10 USD in the day from 2026-11-28, 80% or more."
    (hard,) = take(budgets, state, [spent("e", 1, 4 * MINUTE)])
    assert (hard.kind, hard.severity, hard.measured) == ("budget.hard", Severity.CRITICAL, 10.0)
    assert take(budgets, state, [spent("f", 100, 5 * MINUTE)]) == []
    assert take(started(TEAMS, state), state, [spent("g", 100, 6 * MINUTE)]) == [], "a restart says nothing again"


@pytest.mark.parametrize(
    ("window", "time_zone", "told"),
    [
        ("month", "UTC", "used 20.12 of 10 USD in the month from 2026-11-01, 100% or more."),
        ("week", "Europe/Berlin", "used 20.12 of 10 USD in the week from 2026-11-23 (Europe/Berlin), 100% or more."),
        ("hour", "Asia/Kolkata", "used 20.12 of 10 USD in the hour from 2026-11-28 17:00+05:30, 100% or more."),
    ],
)
def test_a_message_says_which_window_and_how_much_as_people_do(window: str, time_zone: str, told: str) -> None:
    state = Memory()
    limit = {"per": ["team"], "usd": 10, "window": window, "timezone": time_zone, "soft": [], "projected": None}
    observed = take(started({"teams": limit}, state), state, [spent("a", 0, cost_pico=20_129_999_999_999)])
    assert [one.message for one in observed] == [f"Budget teams: team search {told}"]
    assert observed[0].measured == 20.129999999999


def test_the_window_ends_and_with_it_its_findings() -> None:
    state = Memory()
    budgets = started(TEAMS, state)
    take(budgets, state, [spent("a", 20)])
    budgets = started(TEAMS, state)
    observed = take(budgets, state, [spent("b", 9, 13 * HOUR)])
    assert [one[0::2] for one in said(observed)] == [("budget.hard", False), ("budget.soft", False), ("budget.soft", False), ("budget.soft", True), ("budget.soft", True)]  # fmt: skip
    assert {one.at_ns for one in observed if not one.holds} == {NOON_NS + 12 * HOUR}
    assert {one.message for one in observed if not one.holds} >= {
        "Budget teams: team search used 80% or more; the window has ended."
    }
    assert used(budgets, NOON_NS + 13 * HOUR, team="search") == [9 * USD]


def test_late_calls_count_in_their_own_window_as_long_as_the_grace_lasts() -> None:
    state = Memory()
    budgets = started(TEAMS, state, grace="1h")
    take(budgets, state, [spent("a", 1), spent("b", 1, 12 * HOUR + MINUTE)])
    observed = take(budgets, state, [spent("late", 9)])
    assert [one.holds for one in observed] == [True] * 3 + [False] * 3
    assert used(budgets, team="search") == [10 * USD]
    take(budgets, state, [spent("c", 1, 13 * HOUR)])
    assert used(budgets, team="search") == [0], "the window is forgotten"
    assert take(budgets, state, [spent("too late", 90)]) == []
    assert budgets.context.metrics.get_sample_value("spanledger_budgets_late_calls_total") == 1
    assert sum(name.startswith(b"n") for name in state.values) == 1


def test_better_versions_and_withdrawn_rows_move_the_sums_by_the_difference() -> None:
    state = Memory()
    budgets = started({"all": {"tokens": 10_000}, "usd": {"per": ["team"], "usd": 10}}, state)
    first = [spent("a", 1), spent("b", 2)]
    take(budgets, state, first)
    better = [spent("a", 4, team="sales", output_tokens=20, version=2), spent("b", 2, withdrawn=True, version=2)]
    take(budgets, state, better, first)
    assert used(budgets, team="search") == [120, 0]
    assert used(budgets, team="sales") == [120, 4 * USD]
    take(budgets, state, [spent("a", 4, withdrawn=True)], better[:1])
    assert used(budgets, team="sales") == [0, 0]


def test_what_is_committed_is_what_is_asked_and_a_given_up_batch_leaves_nothing() -> None:
    state = Memory()
    budgets = started(TEAMS, state)
    take(budgets, state, [spent("a", 4)])
    budgets.process(batch(made=[spent("b", 100)]))
    assert used(budgets, team="search") == [4 * USD]
    budgets.save(Memory())
    budgets.rollback()
    assert used(budgets, team="search") == [4 * USD]
    observed = take(budgets, state, [spent("b", 1)], times=2)
    assert said(observed) == [("budget.soft", "team=search threshold=50%", True)]
    assert used(budgets, team="search") == [5 * USD] == used(started(TEAMS, state), team="search")


def test_only_calls_that_match_count() -> None:
    wanted = {
        "opus": {
            "per": ["team", "model"],
            "match": {"app": ["chat", "Agent*"], "environment": ""},
            "unless": {"user": "ci"},
            "calls": 10,
        }
    }
    state = Memory()
    budgets = started(wanted, state)
    counts = {"app": "chat", "upstream_model": "claude-opus-4", "user": "me"}
    rows = [
        counts,
        {**counts, "app": "agent-7"},
        {**counts, "app": "other"},
        {**counts, "user": "CI"},
        {**counts, "environment": "prod"},
    ]
    take(budgets, state, [spent(str(n), 1, **row) for n, row in enumerate(rows)])
    question = {"team": "search", "model": "claude-opus-4", "app": "CHAT", "environment": "", "user": "you"}
    assert used(budgets, **question) == [2]
    assert used(budgets, **{**question, "user": "ci"}) == []
    assert budgets.verdicts.ask({"team": "search"}, NOON_NS).unasked == ("opus",)


def test_an_edited_limit_keeps_the_counters_and_says_what_is_new() -> None:
    state = Memory()
    take(started(TEAMS, state), state, [spent("a", 9)])
    raised = {"renamed": {**TEAMS["teams"], "usd": 100}}
    budgets = started(raised, state)
    assert used(budgets, team="search") == [9 * USD]
    observed = take(budgets, state, [spent("b", 1, MINUTE)])
    assert said(observed) == [
        ("budget.soft", "team=search threshold=50%", False),
        ("budget.soft", "team=search threshold=80%", False),
    ]
    budgets = started({"renamed": {**TEAMS["teams"], "usd": 8}}, state)
    observed = take(budgets, state, [spent("c", 1, 2 * MINUTE, team="other")])
    assert [one[0] for one in said(observed)] == ["budget.hard", "budget.soft", "budget.soft"]
    assert observed[0].measured == 10.0


def test_a_removed_budget_takes_its_findings_along() -> None:
    state = Memory()
    take(started(TEAMS, state), state, [spent("a", 9)])
    budgets = started({"all": {"usd": 1000, "projected": None}}, state)
    assert budgets.process(batch()).observed == ()
    budgets.save(state)
    budgets.committed()
    observed = take(budgets, state, [spent("b", 1)])
    assert [(one.holds, dict(one.subject)["team"]) for one in observed] == [(False, "search")] * 2
    assert used(started({**TEAMS}, state), team="search") == [0]


def test_a_day_is_the_time_zones_own() -> None:
    state = Memory()
    budgets = started({"b": {"usd": 10, "window": "day", "timezone": "Asia/Kolkata"}}, state)
    take(budgets, state, [spent("a", 1, 6 * HOUR + 29 * MINUTE), spent("b", 2, 6 * HOUR + 30 * MINUTE)])
    assert used(budgets, NOON_NS) == [USD]
    assert used(budgets, NOON_NS + 7 * HOUR) == [2 * USD]


def test_a_rolling_window_falls_below_and_may_be_said_again() -> None:
    rolling = {"r": {"per": ["user"], "usd": 10, "rolling": "24h", "soft": []}}
    state = Memory()
    budgets = started(rolling, state)
    take(budgets, state, [spent("a", 6, user="u")])
    (hard,) = take(budgets, state, [spent("b", 5, 20 * HOUR, user="u")])
    assert (hard.kind, hard.at_ns) == ("budget.hard", NOON_NS + 20 * HOUR)
    assert take(budgets, state, [spent("c", 1, 21 * HOUR, user="u")]) == []
    assert used(budgets, NOON_NS + 21 * HOUR, user="u") == [12 * USD]
    budgets = started(rolling, state)
    (fell,) = take(budgets, state, [spent("d", 1, 30 * HOUR, user="other")])
    assert (fell.holds, fell.at_ns) == (False, NOON_NS + 24 * HOUR)
    assert take(budgets, state, [spent("e", 4, 43 * HOUR, user="u")]) == [], "less than a window away"
    (again,) = take(budgets, state, [spent("f", 6, 45 * HOUR, user="u")])
    assert (again.holds, again.measured) == (True, 10.0)
    late = take(budgets, state, [spent("g", 30, 42 * HOUR, user="other")])
    assert said(late) == [("budget.hard", "threshold=100% user=other", True)]


def test_use_that_leads_beyond_the_limit_is_projected_from_a_quarter_of_the_window_on() -> None:
    state = Memory()
    budgets = started({"t": {"per": ["team"], "usd": 100, "window": "day", "soft": []}}, state)
    early = -12 * HOUR
    assert take(budgets, state, [spent("a", 26, early + 5 * HOUR)]) == []
    (one,) = take(budgets, state, [spent("b", 14, early + 8 * HOUR)])
    assert (one.kind, one.measured, one.at_ns, one.cost_pico) == (
        "budget.projected",
        120.0,
        NOON_NS + early + 8 * HOUR,
        20 * USD,
    )
    assert take(budgets, state, [spent("c", 20, early + 9 * HOUR)]) == []


def test_too_many_counters_those_that_used_least_go() -> None:
    state = Memory()
    budgets = started({"u": {"per": ["user"], "usd": 100, "projected": None}}, state, max_counters=100)
    take(budgets, state, [spent(str(n), 1 + n % 50, user=f"u{n}") for n in range(100)])
    take(budgets, state, [spent("x", 90, user="x")])
    assert budgets.counters.count == 90 == sum(name.startswith(b"n") for name in state.values)
    assert used(budgets, user="x") == [90 * USD]
    assert used(budgets, user="u0") == [0]
    assert used(budgets, user="u49") == [50 * USD]
    assert budgets.context.metrics.get_sample_value("spanledger_budgets_evicted_counters_total") == 11
    again = started({"u": {"per": ["user"], "usd": 100, "projected": None}}, state, max_counters=100)
    assert again.counters.count == 90


def test_sums_beyond_64_bits_and_amounts_beyond_a_column() -> None:
    state = Memory()
    budgets = started({"c": {"usd": 10**11}, "t": {"tokens": 10**30}}, state)
    rows = [spent(str(n), 999_999, input_tokens=10**12, output_tokens=10**12) for n in range(20)]
    take(budgets, state, [*rows, spent("x", 1_000_000, input_tokens=-5, output_tokens=10**12 + 1)])
    assert used(budgets) == [20 * 999_999 * USD, 40 * 10**12]
    assert used(started({"c": {"usd": 10**11}, "t": {"tokens": 10**30}}, state)) == used(budgets)


def test_the_verdict_names_what_decided() -> None:
    state = Memory()
    budgets = started({**TEAMS, "all": {"calls": 3, "hard": None}}, state)
    take(budgets, state, [spent("a", 9.5)])
    verdict = decide([budgets.verdicts.ask({"team": "search"}, NOON_NS)])
    assert (verdict.allow, verdict.reason) == (True, "within budget")
    assert verdict.headers(NOON_NS) == {
        "x-spanledger-verdict": "allow", "x-spanledger-budget": "teams", "x-spanledger-remaining": "0.5 USD",
        "x-spanledger-resets-at": "2026-11-29T00:00:00Z",
    }  # fmt: skip
    take(budgets, state, [spent(id_, 0.25) for id_ in "bcd"])
    verdict = decide([budgets.verdicts.ask({"team": "search"}, NOON_NS)])
    assert (verdict.allow, verdict.reason) == (
        False,
        "budget teams: team search used 10.25 of 10 USD until 2026-11-29T00:00:00Z",
    )
    assert verdict.headers(NOON_NS)["retry-after"] == "43200"
    assert decide([budgets.verdicts.ask({}, NOON_NS)]).allow, "a budget without a hard line never denies"
    assert decide([budgets.verdicts.ask({"team": "x"}, NOON_NS + DAY)]).as_json()["budgets"][0]["remaining"] == "10"


def test_the_report_shows_who_used_most_first() -> None:
    state = Memory()
    budgets = started(TEAMS, state)
    take(budgets, state, [spent(str(n), n, team=f"t{n}") for n in range(4)])
    (teams,) = budgets.verdicts.report(NOON_NS, 2)
    assert [one["used"] for one in teams["subjects"]] == ["3", "2"]
    assert (teams["subjects_count"], teams["ends_ns"] - teams["begins_ns"]) == (4, DAY)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"per": ["tema"], "usd": 1}, "no dimension 'tema'; there are team"),
        ({"match": {"tema": "x"}, "usd": 1}, "no dimension 'tema'"),
        ({}, "one of the three"),
        ({"usd": 1, "calls": 1}, "one of the three"),
        ({"usd": 0}, "greater than 0"),
        ({"usd": 1, "timezone": "Mars/Olympus"}, "no time zone 'Mars/Olympus'"),
        ({"usd": 1, "rolling": 3600.0, "window": "day"}, "rolling stands in place of window"),
        ({"usd": 1, "rolling": 1.0}, "greater than or equal to 600"),
        ({"usd": 1, "per": ["team", "team"]}, "each dimension once"),
        ({"usd": 1, "soft": [50, 50]}, "each threshold once"),
        ({"usd": Decimal("0.0000000000001")}, "decimal"),
    ],
)
def test_mistakes_in_a_budget_are_named(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        BudgetsConfig.model_validate({"budgets": {"b": options}})


def test_a_list_of_values_is_read_from_a_file(tmp_path: Path) -> None:
    """YAML has lists, where the model has tuples."""
    file = tmp_path / "budgets.yaml"
    file.write_text("budgets:\n  two: {per: [team], match: {team: [a, b]}, unless: {app: [c, d]}, usd: 1}\n")
    budget = load_part(file, BudgetsConfig).budgets["two"]
    assert (budget.match, budget.unless) == ({"team": ("a", "b")}, {"app": ("c", "d")})


@pytest.mark.parametrize("limit", [9, 12, 15.5])
def test_an_edit_that_leaves_use_over_the_line_ends_one_finding_and_opens_another(limit: float) -> None:
    """Raised or lowered: whoever was told that it is over is told that it is still."""
    state, book = Memory(), new_book()
    made: list[tuple[str, Transition]] = []

    def feed(limit: float, at: int, usd: float) -> None:
        budgets = started({"all": {"usd": limit, "soft": [], "projected": None}}, state)
        rows = [spent(f"call {at}", usd, at)]
        done = budgets.process(batch(made=rows).with_(received_ns=rows[0]["start_ns"]))
        budgets.save(state)
        budgets.committed()
        findings = book.observe(done).findings
        made.extend((finding.id, one) for finding in findings for one in finding.transitions)

    feed(10, 0, 15)
    feed(limit, 60, 1)
    feed(limit, 120, 1)
    first, second = made[0][0], made[-1][0]
    assert made == [(first, Transition.OPENED), (first, Transition.RESOLVED), (second, Transition.OPENED)]
    assert first != second


def test_the_first_call_of_a_window_at_its_very_start_can_use_it_up() -> None:
    """Its finding is another one than that of the window before, which ends at the same moment."""
    state, book = Memory(), new_book()
    budgets = started({"all": {"usd": 10, "window": "day", "soft": [], "projected": None}}, state)
    found = []
    for at in (0, 12 * HOUR):
        row = spent(f"call {at}", 15, at)
        done = budgets.process(batch(made=[row]).with_(received_ns=row["start_ns"]))
        budgets.save(state)
        budgets.committed()
        found += [one for finding in book.observe(done).findings for one in finding.transitions]
    assert found == [Transition.OPENED, Transition.RESOLVED, Transition.OPENED]


def test_a_line_that_the_calls_of_before_had_crossed_is_said_also_when_it_is_another_start_that_says_it() -> None:
    """Scenario: sums are recalled and committed; killed before the first batch; then a call of somebody else comes."""

    class Before(NothingBefore):
        def sums(self, dimensions: Sequence[str], window: Window, since_ns: int) -> list[Summed]:
            return [
                Summed(window.start(NOON_NS), (team,), usd * USD, 0, 1, NOON_NS) for team, usd in (("x", 12), ("y", 1))
            ]

    state = Memory()
    started(TEAMS, state)
    limits = {"teams": {**TEAMS["teams"], "window": "week"}}
    budgets = started(limits, state, history=None)
    take(budgets, state, [spent("a", 1, team="y")])
    started(limits, state, Before())
    budgets = started(limits, state, history=None)
    assert ("budget.hard", "team=x threshold=100%", True) in said(take(budgets, state, [spent("b", 1, 60, team="y")]))
