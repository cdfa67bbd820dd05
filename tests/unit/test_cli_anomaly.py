"""`spanledger anomaly backtest`: what it says beside its table."""

from __future__ import annotations

from datetime import UTC, datetime

from spanledger.cli.anomaly import learnt

FIRST = datetime(2026, 11, 20, 12, tzinfo=UTC)


def test_the_time_that_was_learnt_from_is_told():
    """Until when; where that is all there is, what to do about it."""
    assert learnt(FIRST, datetime(2026, 12, 1, tzinfo=UTC), 7 * 86400) == "Until 2026-11-27 12:00 UTC it mostly learnt what is usual."  # fmt: skip
    early = learnt(FIRST, datetime(2026, 11, 25, tzinfo=UTC), 7 * 86400)
    assert early.startswith("All this time it mostly learnt what is usual, which takes 7 days")
    assert "--since" in early
