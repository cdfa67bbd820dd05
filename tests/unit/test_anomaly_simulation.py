"""Twelve days of the simulation, with one incident of each kind: the shipped thresholds find them, and cry wolf next to never.

`python -m tests.simulation` is the whole of it: thirty days and sixty incidents.
"""

from __future__ import annotations

import logging

import pytest

from processors.anomaly import Anomaly, AnomalyConfig
from spanledger.demo.company import World
from tests.ledger_rows import context
from tests.simulation.__main__ import START_NS
from tests.simulation.incidents import plan
from tests.simulation.labels import Label, measured
from tests.simulation.scoring import Found, Machine, Score, score, steps

DAYS = 12


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Score:
    logging.disable(logging.WARNING)  # one model has no price, and it says so
    try:
        world = World.seeded(11, calls_a_day=30_000)
        labels = [Label(one) for one in plan(world, START_NS, 11, DAYS, per_kind=1)]
        machine = Machine([Anomaly(AnomalyConfig(), context(tmp_path_factory.mktemp("anomaly"), "anomaly"))])
        found: list[Found] = [
            one
            for day in measured(world, START_NS, labels, DAYS)
            for calls in steps(day.calls)
            for one in machine.take(calls)
        ]
    finally:
        logging.disable(logging.NOTSET)
    return score(found, labels, DAYS)


def test_incidents_are_found(result: Score) -> None:
    missed = [row.label.incident for row in result.rows if not row.found]
    assert len(result.rows) == 15
    assert len(missed) <= 1, missed


def test_false_alarms_are_rare(result: Score) -> None:
    assert len(result.false) <= 2, [
        (one.finding.kind, one.finding.subject, one.finding.message) for one in result.false
    ]


def test_what_is_dear_is_found_within_a_quarter_of_an_hour(result: Score) -> None:
    assert result.median_delay_s is not None
    assert result.median_delay_s < 15 * 60


def test_an_incident_is_told_once_or_by_each_app_that_it_touches(result: Score) -> None:
    assert result.true <= 2 * len(result.rows)
