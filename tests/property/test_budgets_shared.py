"""Several collectors over any traffic: what each knows is the sum of all, and each line is told of by one of them, once.

Each call is one collector's, with all its versions. They exchange every two seconds; they are killed, give batches up, and
hear late; some of that time the store is away.
"""

from __future__ import annotations

import itertools
from collections import Counter as Tally
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.findings import Observation, State
from processors.budgets import judging
from processors.budgets.counters import Counter, Key
from tests.budgets_kit import Replica, Table, spent
from tests.findings_kit import NOON_NS, Memory
from tests.ledger_rows import batch, call
from tests.property.test_budgets_sums import BUDGETS, LATE, VERSION, recounted

S = 10**9
CALLS = st.lists(VERSION, max_size=5, unique_by=lambda v: v["call_id"])
EVENT = st.one_of(CALLS, st.tuples(st.sampled_from(["restart", "give up", "round"]), st.integers(0, 2)))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The wall clock of those who claim."""
    made = SimpleNamespace(now=NOON_NS)
    monkeypatch.setattr(judging, "time", SimpleNamespace(time_ns=lambda: made.now))
    return made


def rounds(clock: SimpleNamespace, replicas: list[Replica], count: int, away: int = -1) -> None:
    """Everybody exchanges so many times, but for one whom the store does not answer."""
    for _ in range(count):
        for number, replica in enumerate(replicas):
            clock.now += S // 2
            replica.exchange(clock.now, away=number == away)
        clock.now += 2 * S - len(replicas) * S // 2


def joint(replica: Replica) -> dict[Any, tuple[int, int, int]]:
    """All that a replica knows to be used: of everybody's counters, as `recounted` names them."""
    budgets, found = replica.budgets, {}
    for scope in budgets._scopes:
        for period in {*budgets.counters.periods(scope.key), *budgets.shared.periods(scope.key)}:
            for values in {*budgets.counters.subjects(scope.key, period), *budgets.shared.subjects(scope.key, period)}:
                key = Key(scope.key, period, values)
                total: Counter = budgets.shared.joint(key, budgets.counters.get(key))
                if any(total.amounts):
                    found[scope.budgets[0].name, period, values] = total.amounts
    return found


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(EVENT, min_size=1, max_size=12))
def test_sums_are_those_of_all_calls_and_each_line_is_told_of_once(clock: SimpleNamespace, events: list[Any]) -> None:
    table = Table()
    replicas = [Replica(name, table, BUDGETS, grace=LATE) for name in ("one", "two", "three")]
    ledger: dict[str, dict[str, Any]] = {}
    for event in events:
        if isinstance(event, tuple):
            what, of = event[0], replicas[event[1]]
            if what == "restart":
                of.restart()
            elif what == "round":
                rounds(clock, replicas, 1)
            else:
                of.budgets.process(batch(made=[call("x", cost_pico=10**15, team="a")], position=99))
                of.budgets.save(Memory())
                of.budgets.rollback()
            continue
        for number, of in enumerate(replicas):
            made = [call(**{**v, "id_": v["call_id"]}) for v in event if ord(v["call_id"]) % len(replicas) == number]
            of.take(made, [ledger[row["call_id"]] for row in made if row["call_id"] in ledger])
            ledger |= {row["call_id"]: row for row in made}
    rounds(clock, replicas, 8)
    wanted = recounted([row for row in ledger.values() if not row["withdrawn"]])
    for of in replicas:
        assert joint(of) == wanted
        of.restart()
        assert joint(of) == wanted
    _told_once([one for of in replicas for one in of.observed], replicas[0], wanted)


def _told_once(observed: list[Observation], replica: Replica, wanted: dict[Any, tuple[int, int, int]]) -> None:
    """Lines of calendar windows: none twice, and each that is reached in the end."""
    told = Tally((one.subject, one.message.partition(" in the ")[2]) for one in observed if one.holds and " in the " in one.message)  # fmt: skip
    assert not [line for line, times in told.items() if times > 1]
    kinds = {"budget.soft", "budget.hard"}
    lines = Tally((dict(one.subject)["budget"], one.expected) for one in observed if one.holds and one.kind in kinds)
    for scope, budget in ((s, b) for s in replica.budgets._scopes for b in s.budgets if s.window.steps == 1):
        reached = sum(
            used[budget.measure] >= line.at
            for (name, _, _), used in wanted.items() if name == scope.budgets[0].name for line in budget.lines
        )  # fmt: skip
        assert sum(times for (name, _), times in lines.items() if name == budget.name) >= reached


LIMIT: dict[str, Any] = {"all": {"usd": 10, "soft": [], "projected": None}}


def said(replicas: list[Replica]) -> list[str]:
    """Who told of what."""
    return [f"{of.name} {one}" for of in replicas for one in of.transitions]


@pytest.mark.parametrize("order", list(itertools.permutations(range(2))))
def test_the_first_to_claim_tells_and_closes(clock: SimpleNamespace, order: tuple[int, ...]) -> None:
    table = Table()
    replicas = [Replica(name, table, LIMIT) for name in ("one", "two")]
    for number in order:
        replicas[number].take([spent(f"c{number}", 6)])
    rounds(clock, replicas, 1)
    assert said(replicas) == []
    rounds(clock, replicas, 4)
    assert len(said(replicas)) == 1
    assert {of.used()["all"] for of in replicas} == {12 * 10**12}
    assert all(of.budgets.verdicts.ask({}, NOON_NS).uses[0].denies for of in replicas)
    (teller,) = {text.split()[0] for text in said(replicas)}
    other = next(of for of in replicas if of.name != teller)
    other.take([spent("later", 1, 40 * 24 * 3600 * S)])  # the window is over, and the teller has no calls to know it by
    rounds(clock, replicas, 4)
    assert said(replicas) == [f"{teller} opened", f"{teller} resolved"]


def test_who_told_and_is_gone_leaves_a_finding_that_another_one_ends(clock: SimpleNamespace) -> None:
    table = Table()
    replicas = [Replica(name, table, LIMIT) for name in ("one", "two")]
    for number, of in enumerate(replicas):
        of.take([spent(f"c{number}", 6)])
    rounds(clock, replicas, 6)
    (teller,) = (of for of in replicas if of.transitions)
    (other,) = (of for of in replicas if of is not teller)
    ((id_, told),) = teller.findings.items()
    ((same, kept),) = other.findings.items()
    assert (same, kept.state, kept.transitions) == (id_, told.state, ())
    assert kept.version < told.version, "the word of who told stands above it"
    other.restart()
    other.take([spent("later", 1, 40 * 24 * 3600 * S)])
    assert (other.findings[id_].state, other.transitions) == (State.RESOLVED, [])
    assert other.findings[id_].version > told.version
    rounds(clock, replicas, 3)  # and here it comes back
    assert (teller.findings[id_].state, teller.transitions) == (State.RESOLVED, ["opened", "resolved"])
    assert teller.findings[id_].version > other.findings[id_].version


def test_while_the_store_is_away_a_line_is_told_of_all_the_same(clock: SimpleNamespace) -> None:
    """And whoever could ask does not tell once more when the other is back."""
    table = Table()
    one, two = replicas = [Replica(name, table, LIMIT, alone_after="20s") for name in ("one", "two")]
    rounds(clock, replicas, 1)
    one.take([spent("a", 12)])
    rounds(clock, replicas, 9, away=0)
    assert said(replicas) == []
    rounds(clock, replicas, 2, away=0)
    assert said(replicas) == ["one opened"]
    two.take([spent("b", 1)])
    rounds(clock, replicas, 8)
    assert said(replicas) == ["one opened"]
    assert one.used() == two.used() == {"all": 13 * 10**12}


def test_who_claimed_and_is_gone_is_not_waited_for(clock: SimpleNamespace) -> None:
    """Scenario: killed right after its claim was delivered; the other tells; it comes back, and keeps quiet."""
    table = Table()
    one, two = replicas = [Replica(name, table, LIMIT, alone_after="20s") for name in ("one", "two")]
    two.take([spent("b", 6)])
    rounds(clock, replicas, 2)
    one.take([spent("a", 6)])
    one.exchange(clock.now)
    rounds(clock, [two], 5)
    assert said(replicas) == []
    rounds(clock, [two], 10)
    assert said(replicas) == ["two opened"]
    one.restart()
    one.take()
    rounds(clock, replicas, 6)
    assert said(replicas) == ["two opened"]
    assert one.used() == two.used() == {"all": 12 * 10**12}


def test_a_line_that_is_moved_before_it_is_told_of_is_not(clock: SimpleNamespace) -> None:
    table = Table()
    one, two = replicas = [Replica(name, table, LIMIT) for name in ("one", "two")]
    one.take([spent("a", 12)])
    for of in replicas:
        of.limits = {"all": {**LIMIT["all"], "usd": 100}}
        of.restart()
    rounds(clock, replicas, 5)
    two.take([spent("b", 90)])
    rounds(clock, replicas, 5)
    assert len(said(replicas)) == 1
    assert one.used() == two.used() == {"all": 102 * 10**12}


def test_what_was_heard_for_a_batch_that_is_given_up_is_known_with_the_next(clock: SimpleNamespace) -> None:
    table = Table()
    one, two = Replica("one", table, LIMIT), Replica("two", table, LIMIT)
    two.take([spent("b", 6)])
    table.write(two.waiting)
    assert one.budgets.hear(list(table.rows.values()), clock.now)
    one.budgets.process(batch(position=1))
    one.budgets.rollback()
    assert one.used() == {"all": 0}
    one.take()
    assert one.used() == {"all": 6 * 10**12}


def test_others_counters_are_bounded_and_it_is_said(clock: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    limits = {"teams": {"per": ["team"], "usd": 10, "projected": None}}
    table = Table()
    one, two = (Replica(name, table, limits, max_counters=100) for name in ("one", "two"))
    for first in (0, 60):
        two.take([spent(f"c{n}", 1, team=f"t{n}") for n in range(first, first + 60)])
        table.write(two.waiting)
        one.exchange(clock.now)
    assert sum(one.used(team=f"t{n}")["teams"] for n in range(120)) == 100 * 10**12
    assert "more counters than max_counters" in caplog.text
    assert not one.budgets.hear(list(table.rows.values()), clock.now)  # and there is nothing to do about it


def test_two_collectors_of_one_id_are_found_out(clock: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    """Scenario: a data directory was copied. The one that is behind sees shares that it never published."""
    table = Table()
    one, twin = Replica("one", table, LIMIT), Replica("one", table, LIMIT)
    one.take([spent("a", 1)])
    rounds(clock, [one], 2)
    one.restart()
    rounds(clock, [one], 2)
    one.take([spent("b", 1)])
    rounds(clock, [one], 2)
    assert "publishes as one too" not in caplog.text
    twin.take([spent("c", 1)])
    rounds(clock, [twin], 2)
    assert caplog.text.count("publishes as one too") == 1
