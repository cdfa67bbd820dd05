"""The demo's company hands out each call once, in order, when it is over, wherever one begins."""

from __future__ import annotations

import polars as pl
import pytest

from spanledger.cli.demo_history import HOUR_NS, _Company
from spanledger.demo.company import World
from spanledger.demo.traffic import month

START_NS = 1_793_577_600 * 10**9
WORLD = World.seeded(1, calls_a_day=600)
S = 10**9


pytestmark = pytest.mark.usefixtures("without_warnings")


def test_each_call_is_handed_out_once_when_it_is_over() -> None:
    company, now = _Company(WORLD, START_NS, START_NS - 100 * 24 * HOUR_NS), START_NS + 5 * HOUR_NS + 1234 * S
    frames = [frame for _, frame in company.hours(now // HOUR_NS * HOUR_NS)]
    early = pl.concat(frames)
    assert early["start_ns"].max() < START_NS + 5 * HOUR_NS  # type: ignore[operator]
    late = []
    for step in range(60):
        at = now + step * 120 * S
        part = company.over(at)
        assert ((part["start_ns"] + part["duration_ns"]) <= at).all()
        late.append(part)
    handed = pl.concat([early, *late])
    assert handed["call_id"].n_unique() == len(handed)
    every = pl.concat(month(WORLD, START_NS, 1))
    due = every.filter((pl.col("start_ns") + pl.col("duration_ns")) <= now + 59 * 120 * S)
    assert set(due["call_id"]) <= set(handed["call_id"])


@pytest.mark.parametrize("minute", [0, 17, 59.99])
def test_going_on_from_a_moment_leaves_out_what_was_before(minute: float) -> None:
    now = START_NS + 30 * HOUR_NS + round(minute * 60 * S)
    company = _Company(WORLD, START_NS, START_NS - 100 * 24 * HOUR_NS)
    company.skip(now)
    found = pl.concat([company.over(now + step * 600 * S) for step in range(10)])
    assert found["start_ns"].min() >= now  # type: ignore[operator]
    assert len(found) > 5
