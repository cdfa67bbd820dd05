"""Budgets in a pipeline with real stores: what they count is what the ledger has, whatever raises, fails or starts again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from collector import pipeline as loop
from collector.component import Stage
from tests.budgets_kit import started
from tests.integration.test_pipeline import failing_commits, guilty, some
from tests.pipeline_kit import TOKENS, Tally, rig, wait_for

BUDGETS: dict[str, Any] = {
    "all": {"tokens": 10 * TOKENS, "projected": None},
    "app": {"per": ["service"], "calls": 1000},
}


@pytest.mark.parametrize("landed", [False, True])
def test_budgets_count_what_is_committed_and_nothing_twice(
    tmp_path: Path, landed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scenario: small batches, of which commits fail and one is given up; restarts; every request once more."""
    monkeypatch.setattr(loop, "RETRY_COMMIT_S", 0.01)
    budgets = started(BUDGETS)
    with rig(tmp_path, budgets, Tally("faulty", guilty(5), Stage.CALLS), max_items=4) as running:
        bodies = some(12)
        running.put(*bodies)
        with failing_commits(2, landed):
            running.start()
            running.settle()
        running.restart()
        running.put(*bodies, *some(6, first=12))
        running.settle()
        running.restart()
        running.put(*some(3, first=18))
        running.settle()
        wait_for(lambda: not running.pipeline.waiting[0])
        running.stop()
        calls = 12 + 6 + 3 - 1
        (used,) = budgets.verdicts.ask({}, time.time_ns()).uses
        assert (used.used, used.denies) == (calls * TOKENS, True)
        assert used.used == running.tokens
        again = started(BUDGETS)
        with running.store.reader() as reader:
            again.load(reader.component(f"traces/{budgets.context.id}"))
        assert again.counters.committed == budgets.counters.committed
        assert again.counters.count == budgets.counters.count
