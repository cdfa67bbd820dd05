"""Anomalies: the same calls give the same observations, wherever batches end, whatever is given up and done again, and whenever the process ends."""

from __future__ import annotations

from functools import cache
from unittest.mock import patch

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.findings import Observation
from processors.anomaly import buckets
from tests.anomaly_kit import HOUR, MINUTE, START, batch, multiplied, processor, traffic
from tests.findings_kit import Memory

#: Small buckets, so that an hour and a half is a past and a future.
OPTIONS = {
    "bucket": "1m", "lateness": "30s", "warm_up": "1h", "min_usd": 0.01, "single_factor": 30.0,
    "scopes": {"users": {"per": ["end_user"], "measures": ["cost"], "new": True}},
}  # fmt: skip
#: So few that there is no room for all users: series come and go.
FEW, ENOUGH = 100, 1000
Batch = tuple[pl.DataFrame, pl.DataFrame | None]


@cache
def stream() -> list[Batch]:
    """Two hours of calls as the ledger hands them on: late ones among them, some replaced by a better version, some withdrawn."""
    calls = traffic(START, START + 2 * HOUR)
    draw = np.random.default_rng(7)
    calls = calls.with_columns(pl.Series("end_user", [f"user-{n}" for n in draw.integers(0, 150, len(calls)).tolist()]))
    guest = (pl.col("start_ns") > START + 90 * MINUTE) & (pl.col("app") == "bids")
    calls = calls.with_columns(pl.when(guest).then(pl.lit("guest")).otherwise("end_user").alias("end_user"))
    slow = pl.col("start_ns").is_between(START + 75 * MINUTE, START + 95 * MINUTE) & (pl.col("provider") == "openai")
    calls = multiplied(slow, 6, "duration_ns", "time_to_first_token_ns", "cost_pico")(calls)
    # Some come up to two minutes later than they started.
    came = calls["start_ns"].to_numpy() + draw.choice([0, 0, 0, 20, 120], len(calls)) * 10**9
    calls = calls[np.argsort(came, kind="stable")]
    made: list[Batch] = []
    for number, row in enumerate(calls.iter_slices(7)):
        made.append((row, None))
        if number % 5 == 0:  # the next report of two of them comes: a better version, and one that is another call's
            before = row[:2]
            after = before.with_columns(
                pl.col("cost_pico") * 3, version=pl.lit(2, pl.Int64()), withdrawn=pl.Series([False, True])
            )
            made.append((after, before))
    return made


def run(cuts: list[str], most: int) -> list[Observation]:
    """As `_run`, with room for few of the combinations of past buckets where there is room for few series."""
    with patch.object(buckets, "MOST_KEPT", 150 if most == FEW else 50_000):
        return _run(cuts, most)


def _run(cuts: list[str], most: int) -> list[Observation]:
    """Batches end where a cut says so; then they may be given up and done again, or the process ends, with or without a commit."""
    state = Memory()
    made = processor(state, **OPTIONS, max_series=most)
    observed: list[Observation] = []
    waiting: list[Batch] = []
    pieces = stream()
    for number, piece in enumerate(pieces):
        waiting.append(piece)
        cut = cuts[number] if number < len(pieces) - 1 else "end"
        # A version that came in the same batch is not handed on: the ledger merges both first.
        if not cut or (number + 1 < len(pieces) and pieces[number + 1][1] is not None):
            continue
        whole, parts = joined(waiting), [waiting] if cut != "split" else [[one] for one in waiting]
        if cut in ("again", "kill"):
            first = list(made.process(batch(*whole)).observed)
            made.save(Memory())
            if cut == "kill":
                made = processor(state, **OPTIONS, max_series=most)
            else:
                made.rollback()
        for part in parts:
            calls, replaced = joined(part)
            done = list(made.process(batch(calls, replaced)).observed)
            made.save(state)
            made.save(state)
            made.committed()
            observed += done
        if cut in ("again", "kill"):
            assert first == done
        if cut == "restart":
            made = processor(state, **OPTIONS, max_series=most)
        waiting = []
    return observed


def joined(pieces: list[Batch]) -> Batch:
    """Pieces as one batch."""
    replaced = [one for _, one in pieces if one is not None]
    return pl.concat([calls for calls, _ in pieces]), pl.concat(replaced) if replaced else None


@cache
def whole(most: int) -> list[Observation]:
    return run(["end" if number % 40 == 39 else "" for number in range(len(stream()))], most)


def test_the_stream_has_something_to_say() -> None:
    for most, kinds in ((FEW, {"latency", "cost_per_call"}), (ENOUGH, {"latency", "cost_per_call", "new"})):
        assert {f"anomaly.{kind}" for kind in kinds} <= {one.kind for one in whole(most)}
        assert any(not one.holds for one in whole(most))


@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.sampled_from([*[""] * 8, "end", "split", "again", "kill", "restart"]), min_size=20, max_size=60),
    st.sampled_from([FEW, ENOUGH]),
)
def test_batches_restarts_and_crashes_change_no_observation(cuts: list[str], most: int) -> None:
    repeated = (cuts * (len(stream()) // len(cuts) + 1))[: len(stream())]
    assert run(repeated, most) == whole(most)
