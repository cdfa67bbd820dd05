"""Budgets over any traffic: sums equal a plain recount of the ledger's final rows, and each line is said once.

Calls come twice, late, in better versions, are withdrawn; the processor is restarted, batches are given up, the config is
edited. Whatever happens, what is counted is what stands.
"""

from __future__ import annotations

from collections import Counter as Tally
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.findings import Observation
from collector.sums import LAST_TOKENS
from processors.budgets import Budgets
from tests.budgets_kit import HOUR, USD, started, take
from tests.findings_kit import NOON_NS, Memory
from tests.ledger_rows import batch, call, calls

COUNT = st.none() | st.integers(0, 1000) | st.sampled_from([-1, LAST_TOKENS, LAST_TOKENS + 1, 2**62])
NAME = st.none() | st.sampled_from(["", "a", "b", "b-2"])
VERSION = st.fixed_dictionaries(
    {
        "call_id": st.sampled_from("abcdefgh"), "start_ns": st.integers(-40, 40).map(lambda hours: NOON_NS + hours * HOUR),
        "team": NAME, "app": NAME, "upstream_model": NAME, "request_model": NAME, "input_tokens": COUNT, "output_tokens": COUNT,
        "cost_pico": st.none() | st.integers(0, 40 * USD) | st.integers(-USD, 10**18 - 1), "withdrawn": st.booleans(),
    }
)  # fmt: skip
EVENT = st.one_of(
    st.lists(VERSION, max_size=5, unique_by=lambda v: v["call_id"]),
    st.sampled_from(["restart", "edit", "give up"]),
)
BUDGETS: dict[str, Any] = {
    "team": {"per": ["team"], "usd": 60, "window": "day", "timezone": "America/New_York"},
    "pair": {"per": ["team", "model"], "tokens": 1500, "window": "hour"},
    "some": {"match": {"app": "b*"}, "unless": {"team": ""}, "calls": 3, "window": "week"},
    "roll": {"per": ["app"], "usd": 50, "rolling": "96h"},
}  # fmt: skip
EDITED = {
    **BUDGETS,
    "team": {**BUDGETS["team"], "usd": 90, "soft": [70]},
    "tokens": {**BUDGETS["team"], "tokens": 700} | {"usd": None},
}
LATE = "600h"


@settings(deadline=None, max_examples=60)
@given(events=st.lists(EVENT, min_size=1, max_size=9))
def test_sums_are_those_of_the_final_rows_and_each_line_is_said_once(events: list[Any]) -> None:
    state, config = Memory(), BUDGETS
    budgets = started(config, state, grace=LATE)
    ledger: dict[str, dict[str, Any]] = {}
    observed: list[Observation] = []
    for event in events:
        if event == "edit":
            config = EDITED if config is BUDGETS else BUDGETS
        if event in ("edit", "restart"):
            budgets = started(config, state, grace=LATE)
        elif event == "give up":
            budgets.process(batch(made=[call("x", cost_pico=10**15, team="a")]))
            budgets.save(Memory())
            budgets.rollback()
        else:
            made = [call(**{**version, "id_": version["call_id"]}) for version in event]
            replaced = [ledger[row["call_id"]] for row in made if row["call_id"] in ledger]
            observed += take(budgets, state, made, replaced)
            ledger |= {row["call_id"]: row for row in made}
    rows = [row for row in ledger.values() if not row["withdrawn"]]
    _sums_are_right(budgets, rows)
    _sums_are_right(started(config, state, grace=LATE), rows)
    _said_once(observed)


def _sums_are_right(budgets: Budgets, rows: list[dict[str, Any]]) -> None:
    """Every counter of a day, an hour, a week and a step, against a recount in plain Python."""
    found = {
        (budget.name, period, values): counter.amounts
        for scope in budgets._scopes for budget in scope.budgets[:1]
        for period, subjects in budgets.counters.committed[scope.key].items() for values, counter in subjects.items() if any(counter.amounts)
    }  # fmt: skip
    assert found == recounted(rows)


def recounted(rows: list[dict[str, Any]]) -> dict[Any, tuple[int, int, int]]:
    """What calls add up to: budget, window and values → pico-USD, tokens, calls."""
    wanted: dict[Any, tuple[int, int, int]] = {}
    for row in rows:
        model = row["upstream_model"] or (
            row["request_model"] if row["upstream_model"] is None or not row["upstream_model"] else ""
        )
        team, app, start = row["team"] or "", row["app"] or "", row["start_ns"]
        cost = row["cost_pico"] or 0
        tokens = sum(n for n in (row["input_tokens"], row["output_tokens"]) if n is not None and 0 <= n <= LAST_TOKENS)
        amounts = (cost, tokens, 1)
        keys = [
            ("team", _local(start, "America/New_York", "day"), (team,)), ("pair", start - start % HOUR, (model or "", team)),
            ("roll", start - start % (2 * HOUR), (app,)),
        ]  # fmt: skip
        if app.startswith("b") and team:
            keys.append(("some", _local(start, "UTC", "week"), ()))
        for key in keys:
            wanted[key] = tuple(a + b for a, b in zip(wanted.get(key, (0, 0, 0)), amounts, strict=True))
    return {key: amounts for key, amounts in wanted.items() if any(amounts)}


def _local(ns: int, zone: str, window: str) -> int:
    day = pl.Series([datetime.fromtimestamp(ns // 10**9, ZoneInfo(zone))]).dt.convert_time_zone(zone)
    start = day.dt.truncate("1d" if window == "day" else "1w")[0]
    return int(start.astimezone(UTC).timestamp()) * 10**9


def _said_once(observed: list[Observation]) -> None:
    """A line of a window is said once; the edit to another limit makes it another line."""
    said = Tally(
        (one.kind, one.subject, one.expected, one.message.partition(" in the ")[2])
        for one in observed if one.holds and dict(one.subject)["budget"] != "roll"
    )  # fmt: skip
    assert not [key for key, times in said.items() if times > 1 and key[3]]


ROW = st.tuples(st.integers(0, 30), st.integers(1, 30), st.sampled_from("ab"))


@settings(deadline=None, max_examples=40)
@given(rows=st.lists(ROW, min_size=1, max_size=30), cuts=st.lists(st.integers(0, 30), max_size=6))
def test_what_is_said_does_not_depend_on_where_batches_end(rows: list[tuple[int, int, str]], cuts: list[int]) -> None:
    """In the order in which they come, over a clock that only goes on."""
    hours = sorted(at for at, _, _ in rows)
    made = [call(str(n), start_ns=NOON_NS + at * HOUR, cost_pico=usd * USD, team=team) for n, (at, (_, usd, team)) in enumerate(zip(hours, rows, strict=True))]  # fmt: skip
    config = {"d": {"per": ["team"], "usd": 100, "window": "day"}, "all": {"usd": 300, "window": "week"}}
    whole = take(started(config), Memory(), made)
    state = Memory()
    parts: list[Observation] = []
    for first, last in zip([0, *sorted(cuts)], [*sorted(cuts), len(made)], strict=True):
        parts += take(started(config, state), state, made[first:last])
    order = lambda one: (one.at_ns, one.holds, one.kind, one.subject)
    assert sorted(whole, key=order) == sorted(parts, key=order)
    assert calls(made)["cost_pico"].sum() == sum(row["cost_pico"] for row in made)
