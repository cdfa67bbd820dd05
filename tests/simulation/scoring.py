"""What processors find in the month, held against what was done to it.

**When a finding matches an incident.** All three must hold:

1. *Time.* It opened after the first call that the incident changed or made, and at most `GRACE_NS` behind its end. A finding that
   was open before says nothing of the incident.
2. *Subject.* In the incident's time, at least `LEAST_PART` of the calls of the finding's subject, or of their cost, are calls that
   the incident is about. So a whole team may be named for its one large app, not for a small one, and a subject that the incident
   does not touch never matches.
3. *What it says.* It is about something that such an incident moves (`MOVES`): a provider that became slow explains no finding
   about money.

A finding that matches no incident is a false alarm, whatever its severity, in the first week too. An incident is found if a
finding matches it; the delay is event time from the first call that it changed until the processors gave the finding out.

**What is scored.** Findings that say something is unusual: `anomaly.*`, `load.*`, `latency.*`, `guardrail.stricter`. Findings that
tell of single events (`routing.fallback`, `guardrail.blocked`) happen on every day of such a month and are no alarms.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import polars as pl
from prometheus_client import CollectorRegistry

from collector.batch import Position, SpanBatch
from collector.component import Context, Processor
from collector.findings import Finding, Transition
from collector.findings_book import FindingsBook
from collector.otlp import decode
from processors.anomaly import Anomaly, AnomalyConfig
from processors.behaviour import Behaviour, BehaviourConfig
from spanledger.demo.company import World
from spanledger.demo.incidents import Kind
from tests.findings_kit import Memory
from tests.simulation.labels import Label

GRACE_NS = 2 * 3600 * 10**9
LEAST_PART = 0.25
#: Batches of so long go through the processors, as they would come in: a finding's delay is right to this.
STEP_NS = 300 * 10**9
SCORED = ("anomaly.", "load.", "latency.", "guardrail.stricter")

_MONEY, _MIX = {"cost", "cost_per_call"}, {"share", "share_gained", "share_lost"}
_TIMES = {"latency", "time_to_first_token", "tokens_per_second"}
#: What each kind of incident moves, itself or through what it leads to.
MOVES: dict[Kind, set[str]] = {
    Kind.RUNAWAY_LOOP: {*_MONEY, "calls", "input_tokens", "latency", "time_to_first_token", "cache_hit_rate"},
    Kind.KEY_LEAKED: {*_MONEY, *_TIMES, *_MIX, "calls", "input_tokens", "output_tokens", "cache_hit_rate", "new"},
    Kind.SINGLE_CALL: {*_MONEY, "single"},
    Kind.PREMIUM_DRIFT: {*_MONEY, *_TIMES, *_MIX, "calls", "new", "cache_hit_rate"},
    Kind.NEW_MODEL: {*_MONEY, *_TIMES, *_MIX, "calls", "new", "cache_hit_rate"},
    Kind.SILENT_FALLBACK: {*_MONEY, *_TIMES, *_MIX, "calls", "new", "cache_hit_rate"},
    Kind.CAP_REMOVED: {*_MONEY, "output_tokens", "latency"},
    Kind.PROMPT_BLOAT: {*_MONEY, "input_tokens", "cache_hit_rate"},
    Kind.CACHE_BROKEN: {*_MONEY, "cache_hit_rate"},
    Kind.PRICE_CHANGE: _MONEY,
    Kind.PROVIDER_SLOW: _TIMES,
    Kind.ERROR_BURST: {*_MIX, "error_rate"},
    Kind.RATE_LIMITED: {*_MIX, "error_rate"},
    Kind.GUARDRAIL_STRICT: {"refusal_rate", "error_rate"},
    Kind.DEPLOYMENT_STARVED: _MIX,
}
_SAYS = {"load.skewed": "share", "load.idle": "share", "load.rate_limited": "error_rate", "load.overloaded": "error_rate", "guardrail.stricter": "refusal_rate"}  # fmt: skip


def measure(kind: str) -> str:
    """What a finding of this kind is about."""
    sort, _, what = kind.partition(".")
    return _SAYS.get(kind) or ("latency" if sort == "latency" else what)


@dataclass(frozen=True, slots=True)
class Found:
    """A finding as it was when it opened, and when the processors gave it out: the newest call that they had seen by then."""

    finding: Finding
    at_ns: int


# Making findings --------------------------------------------------------------------------------------------------------


class Machine:
    """Processors of calls, and the book behind them, as a pipeline drives them."""

    def __init__(self, processors: Sequence[Processor[Any]]) -> None:
        self._processors = processors
        self._state = [Memory() for _ in processors]
        self._book, self._position = FindingsBook(CollectorRegistry()), 0
        for processor, state in zip(processors, self._state, strict=True):
            processor.load(state)
        self._book.load(Memory())
        self._nothing = decode.decode(b"")

    def take(self, calls: pl.DataFrame) -> Iterator[Found]:
        """One batch of calls; findings that opened."""
        self._position += 1
        newest = int(calls["start_ns"].max())  # type: ignore[arg-type]
        batch = SpanBatch.blank(self._nothing, Position(self._position, self._position), newest).with_(calls=calls)
        for processor in self._processors:
            batch = processor.process(batch)
        batch = self._book.observe(batch)
        for processor, state in zip(self._processors, self._state, strict=True):
            processor.save(state)
            processor.committed()
        for finding in batch.findings:
            if Transition.OPENED in finding.transitions and finding.kind.startswith(SCORED):
                yield Found(finding, newest)


def steps(calls: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Calls sorted by start, in batches of `STEP_NS`."""
    number = calls["start_ns"].to_numpy() // STEP_NS
    ends = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(calls)]
    yield from (calls[first:last] for first, last in pairwise(ends) if last > first)


def shipped(world: World) -> list[Processor[Any]]:
    """What a user of this company would switch on, with the thresholds that ship. The weights of deployments are the gateway's own."""
    groups = [
        {"model": offer.alias, "weights": {one.name: one.weight for one in offer.deployments}}
        for offer in world.offers
        if len(offer.deployments) > 1
    ]
    behaviour = BehaviourConfig.model_validate({"groups": groups})
    return [Behaviour(behaviour, _context("behaviour")), Anomaly(AnomalyConfig(), _context("anomaly"))]


def _context(id_: str) -> Context:
    return Context(id_, Path(), CollectorRegistry())


# Holding them against the labels ----------------------------------------------------------------------------------------


def matches(found: Found, label: Label) -> bool:
    """Whether a finding is about an incident: see above."""
    incident, finding = label.incident, found.finding
    if not label.first_ns or not label.first_ns <= finding.first_seen_ns <= incident.end_ns + GRACE_NS:
        return False
    return measure(finding.kind) in MOVES[incident.kind] and label.part_of(dict(finding.subject)) >= LEAST_PART


@dataclass(slots=True)
class Row:
    """An incident, and the findings that match it."""

    label: Label
    found: list[Found] = field(default_factory=list)

    @property
    def delay_s(self) -> float | None:
        """Seconds of event time until the first of them was given out; None: it was not found."""
        return min(one.at_ns - self.label.first_ns for one in self.found) / 1e9 if self.found else None


@dataclass(slots=True)
class Score:
    """How it went."""

    rows: list[Row]
    false: list[Found]
    true: int  # findings that match an incident
    days: int

    @property
    def precision(self) -> float:
        told = self.true + len(self.false)
        return self.true / told if told else 1.0

    @property
    def recall(self) -> float:
        return sum(bool(row.found) for row in self.rows) / len(self.rows) if self.rows else 1.0

    @property
    def false_a_day(self) -> float:
        return len(self.false) / self.days

    @property
    def median_delay_s(self) -> float | None:
        """Of the incidents that cost more than 5% of the daily spend. One that was not found counts as endless."""
        delays = [float("inf") if row.delay_s is None else row.delay_s for row in self.rows if row.label.dear]
        return median(delays) if delays else None


def score(found: Iterable[Found], labels: Iterable[Label], days: int) -> Score:
    """Hold findings against incidents. An incident that changed no call is none."""
    rows = [Row(label) for label in labels if label.first_ns]
    false: list[Found] = []
    true = 0
    for one in found:
        matching = [row for row in rows if matches(one, row.label)]
        for row in matching:
            row.found.append(one)
        if matching:
            true += 1
        else:
            false.append(one)
    return Score(rows, false, true, days)


__all__ = ["Found", "Machine", "Row", "Score", "matches", "measure", "score", "shipped", "steps"]
