"""A budget that begins when the ledger has calls already counts what it would have counted from the first call on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from exporters.clickhouse.config import ClickHouseConfig
from exporters.clickhouse.exporter import ClickHouse
from processors.budgets import Budgets
from tests.budgets_kit import DAY, USD, said, spent, started, take
from tests.findings_kit import NOON_NS, Memory
from tests.ledger_rows import batch, call, context
from tests.property.test_budgets_sums import BUDGETS, LATE, VERSION, _sums_are_right

BATCHES = st.lists(st.lists(VERSION, max_size=5, unique_by=lambda v: v["call_id"]), min_size=1, max_size=5)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    folder = tmp_path_factory.mktemp("history")
    config = ClickHouseConfig.model_validate({"dsn": f"chdb://{folder / 'clickhouse'}"})
    made = ClickHouse(config, context(Path(folder)))
    made.start()
    yield made
    made.close()


class Ledger:
    """Calls as they stand, here and in the store."""

    def __init__(self, store: ClickHouse) -> None:
        assert store._connection is not None
        store._connection.command("TRUNCATE TABLE spanledger.llm_calls_versions")
        self.store = store
        self.rows: dict[str, dict[str, Any]] = {}
        self._position = 0

    def commit(self, rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Versions of calls, delivered; what a processor gets of them: calls and replaced."""
        self._position += 1
        made = [
            {**row, "version": self.rows.get(row["call_id"], {"version": 0})["version"] + 1}
            for row in (call(**{**row, "id_": row["call_id"]}) for row in rows)
        ]
        replaced = [self.rows[row["call_id"]] for row in made if row["call_id"] in self.rows]
        for payload in self.store.encode(batch(made=made, replaced=replaced, position=self._position)):
            self.store.send(payload)
        self.rows |= {row["call_id"]: row for row in made}
        return made, replaced

    @property
    def standing(self) -> list[dict[str, Any]]:
        return [row for row in self.rows.values() if not row["withdrawn"]]


@settings(deadline=None, max_examples=12, phases=[Phase.explicit, Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(batches=BATCHES, begins=st.integers(0, 5), recalls=st.integers(0, 5))
def test_sums_are_those_of_the_ledger_whenever_a_budget_begins_and_the_store_is_asked(
    store: ClickHouse, batches: list[list[dict[str, Any]]], begins: int, recalls: int
) -> None:
    """The budget begins before batch `begins`; the store answers before batch `recalls`, or only at the end."""
    ledger, state = Ledger(store), Memory()
    budgets: Budgets | None = None
    for number, rows in enumerate([*batches, []]):
        last = number == len(batches)
        if budgets is None and (number >= begins or last):
            budgets = started(BUDGETS, state, history=None, grace=LATE)
        if budgets is not None and budgets.lacks_history and (number >= recalls or last):
            budgets.recall(store.history())
            budgets.save(state)
            budgets.committed()
        made, replaced = ledger.commit(rows)
        if budgets is not None and rows:
            take(budgets, state, made, replaced)
    assert budgets is not None
    assert not budgets.lacks_history
    _sums_are_right(budgets, ledger.standing)
    _sums_are_right(started(BUDGETS, state, history=None, grace=LATE), ledger.standing)


def test_a_line_that_was_crossed_before_is_said_once_and_what_is_not_known_is_marked(store: ClickHouse) -> None:
    ledger, state = Ledger(store), Memory()
    ledger.commit([{**spent("a", 12, team="x"), "call_id": "a"}, {**spent("b", 3, team="y"), "call_id": "b"}])
    limits = {"teams": {"per": ["team"], "usd": 10, "projected": None}}
    budgets = started(limits, state, history=None)
    asked = budgets.verdicts.ask({"team": "x"}, time.time_ns())
    assert asked.uses[0].since_ns is not None  # nothing is known of the month so far
    budgets.recall(store.history())
    budgets.rollback()
    assert budgets.lacks_history
    budgets.recall(store.history())
    budgets.save(state)
    budgets.committed()
    (use,) = budgets.verdicts.ask({"team": "x"}, NOON_NS).uses
    assert (use.used, use.denies, use.since_ns) == (12 * USD, True, None)
    made, replaced = ledger.commit([{**spent("c", 1, 60, team="y"), "call_id": "c"}])
    first = said(take(budgets, state, made, replaced))
    assert sorted(first) == [
        ("budget.hard", "team=x threshold=100%", True), ("budget.soft", "team=x threshold=50%", True),
        ("budget.soft", "team=x threshold=80%", True),
    ]  # fmt: skip
    made, replaced = ledger.commit([{**spent("d", 1, 90, team="y"), "call_id": "d"}])
    assert said(take(started(limits, state), state, made, replaced)) == [("budget.soft", "team=y threshold=50%", True)]


def test_a_ledger_that_has_less_than_is_counted_takes_nothing_away(store: ClickHouse) -> None:
    """Scenario: the store is new, the budget is older."""
    ledger, state = Ledger(store), Memory()
    budgets = started({"teams": {"per": ["team"], "usd": 10}}, state, history=None)
    take(budgets, state, [spent("a", 2, team="x")])
    ledger.commit([])
    budgets.recall(store.history())
    budgets.save(state)
    budgets.committed()
    (use,) = budgets.verdicts.ask({"team": "x"}, NOON_NS + DAY).uses
    assert (use.used, use.since_ns is not None, budgets.lacks_history) == (2 * USD, True, False)
