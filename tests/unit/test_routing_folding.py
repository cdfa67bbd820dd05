"""What many calls show together is what they show one by one: the same findings, to the last digit and in every version."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random

import numpy as np
import polars as pl
import pytest

from collector.batch import Position, SpanBatch
from collector.columns import FINDINGS
from collector.evidence import marked
from collector.findings import Evidence, Finding, Observation, Shown
from collector.findings_book import FindingsBook
from collector.otlp.decode import decode
from processors.routing.folding import folds
from tests.findings_kit import NOON_NS, S, new_book
from tests.spans_kit import request, span

QUIET = 600 * S


def calls(draw: Random, count: int, late: bool) -> pl.DataFrame:
    """So many of a few teams; among them pauses in which a finding is over, equal times, and the same span again."""
    at, rows = NOON_NS, []
    for number in range(count):
        at += draw.choice([0, S, S, 20 * S, 400 * S, 601 * S if draw.random() < 0.3 else S])
        start = at - draw.choice([0, 0, 300 * S, 5000 * S]) if late else at
        span_id = f"{draw.choice([number, number, 7]):016x}"
        rows.append((draw.choice("abc"), start, f"{number:032x}", span_id, draw.choice([-3, 1, 2**62, 10**18])))
    return pl.DataFrame(rows, ["team", "start_ns", "trace_id", "span_id", "cost"], orient="row")


def together(rows: pl.DataFrame) -> list[Observation]:
    """A batch's calls, folded."""
    about = rows["team"].replace_strict({"a": 0, "b": 1, "c": 2}, return_dtype=pl.Int64()).to_numpy()
    made = []
    for one in folds(rows, about, rows["cost"].to_numpy(), QUIET):
        row = rows.row(one.newest, named=True)
        made.append(replace(seen(row), cost_pico=one.cost_pico, evidence=one.evidence, count=one.calls, since_ns=one.first_ns, shown=one.shown))  # fmt: skip
    return made


def seen(row: dict[str, object]) -> Observation:
    """One call."""
    at, cost = row["start_ns"], row["cost"]
    assert isinstance(at, int)
    assert isinstance(cost, int)
    evidence = (Evidence(str(row["trace_id"]), str(row["span_id"])),)
    return Observation("test.kind", (("team", str(row["team"])),), at, f"at {at}", measured=float(cost), cost_pico=cost, evidence=evidence, quiet_ns=QUIET)  # fmt: skip


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_together_or_one_by_one_findings_are_the_same(seed: int, late: bool) -> None:
    draw = Random(seed)
    frame = calls(draw, 120, late)
    cuts = sorted({0, len(frame), *draw.sample(range(len(frame)), 6)})
    one_by_one, folded = new_book(), new_book()
    observations = 0
    for first, last in pairwise(cuts):
        part = frame[first:last]
        singly = [seen(row) for row in part.sort("team", "start_ns", "span_id", maintain_order=True).to_dicts()]
        now = together(part)
        observations += len(now)
        clock = max((one.at_ns for one in singly), default=0) - 100 * S
        latest = clock if draw.random() < 0.3 else None  # clocks that are ahead
        assert by_id(folded, now, clock, latest) == by_id(one_by_one, singly, clock, latest)
    assert observations < len(frame)


def by_id(book: FindingsBook, observed: list[Observation], clock: int, latest: int | None) -> dict[str, Finding]:
    return {one.id: one for one in book.take(observed, clock, latest)}


def test_all_spans_say_what_they_show_not_only_the_evidence() -> None:
    spans = [span(f"s{number}", start_ns=NOON_NS + number) for number in range(9)]
    otlp = decode(request(spans=spans))
    batch = SpanBatch.blank(otlp, Position(1, 1), NOON_NS)
    ids = [(bytes(one.trace_id).hex(), bytes(one.span_id).hex()) for one in spans]
    shown = Shown(pl.Series([t for t, _ in ids[:7]] + [""]), pl.Series([s for _, s in ids[:7]] + ["ab"]))
    many = Observation(
        "b.many", (), NOON_NS, "", evidence=tuple(Evidence(*one) for one in ids[:2]), shown=shown, count=8
    )
    few = Observation("a.few", (), NOON_NS, "", evidence=(Evidence(*ids[6]), Evidence(*ids[8])))
    over = Observation("c.over", (), NOON_NS, "", holds=False, evidence=(Evidence(*ids[0]),))
    told = marked(batch.with_(observed=(many, few, over))).spans[FINDINGS.name].to_list()
    assert told == ["b.many"] * 6 + ["a.few,b.many", None, "a.few"]
    assert marked(batch.with_(observed=(over,))) is not None
    assert marked(batch.with_(observed=(over,))).spans[FINDINGS.name].null_count() == 9


def test_sums_of_whatever_calls_say_stay_whole() -> None:
    rows = calls(Random(1), 30, late=False).with_columns(team=pl.lit("a"))
    most = np.full(len(rows), 2**63 - 1)
    found = folds(rows, np.zeros(30, np.int64), most, 10**18)
    assert [one.cost_pico for one in found] == [30 * (2**63 - 1)]
