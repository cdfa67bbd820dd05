"""Findings: what processors notice about spend and behaviour. One thing, whoever notices it.

A processor says what it observes (`Observation`), as often as it sees it. The book keeps one open `Finding` per kind and
subject: the first observation opens it, further ones update it, one that no longer holds resolves it. Exporters get the
findings that a batch opened, updated or resolved.

All times are event time (Unix, ns): the same input gives the same findings, whenever it is processed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import polars as pl


class Severity(StrEnum):
    """How soon somebody should look."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class State(StrEnum):
    """Whether it still is so."""

    OPEN = "open"
    RESOLVED = "resolved"


class Resolution(StrEnum):
    """Why it is so no more."""

    RECOVERED = "recovered"  # a processor saw that it holds no longer
    QUIET = "quiet"  # nothing of it was observed for as long as its kind says
    EVICTED = "evicted"  # too many were open at once, and it was the one seen least recently


class Transition(StrEnum):
    """What somebody wants to be told. Of one finding each happens once; `raised` once per severity."""

    OPENED = "opened"
    RAISED = "raised"  # more severe than it was
    RESOLVED = "resolved"


#: Whom a finding is about: (dimension, value) pairs, by name of the dimension, such as (("model", "gpt-4o"), ("team", "search")).
Subject = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Evidence:
    """A span that shows it. Ids in lower-case hex."""

    trace_id: str
    span_id: str


class Shown(NamedTuple):
    """Spans by their ids, in lower-case hex."""

    traces: pl.Series
    spans: pl.Series


@dataclass(frozen=True, slots=True)
class Observation:
    """What a processor saw at one moment. `kind` is `processor.what`, such as `budget.hard` or `routing.premium_instead`.

    Or many times: then it is about the newest of them, which were `count`, the first at `since_ns`, none later than `quiet_ns` after
    the one before. Only of a kind that is never said to hold no more.
    """

    kind: str
    subject: Subject
    at_ns: int
    message: str  # a sentence a person understands; never a prompt or an answer
    severity: Severity = Severity.WARNING
    holds: bool = True  # False: it is so no more, which resolves the open finding, if there is one
    measured: float | None = None
    expected: float | None = None
    unit: str = ""
    cost_pico: int | None = None  # money at stake that this observation adds to the finding's
    evidence: tuple[Evidence, ...] = ()
    ends_ns: int | None = None  # when it is over whatever comes: the end of the window that it is about
    quiet_ns: int | None = None  # resolve when nothing was observed for so long; None: only an observation resolves
    elsewhere: bool = False  # another collector tells of it, whose word stands above this one's: no transitions here
    count: int = 1
    since_ns: int | None = None  # None: at_ns
    shown: Shown | None = field(
        default=None, compare=False
    )  # all spans that show it, where these are more than the evidence

    @property
    def first_ns(self) -> int:
        """When it was seen first."""
        return self.at_ns if self.since_ns is None else self.since_ns


@dataclass(frozen=True, slots=True)
class Finding:
    """The book's entry: what is known of one kind and subject since it opened."""

    id: str  # of kind, subject and first_seen_ns: the same in every run over the same input
    kind: str
    subject: Subject
    state: State
    severity: Severity  # the highest observed
    first_seen_ns: int
    last_seen_ns: int
    observations: int
    measured: float | None
    expected: float | None
    unit: str
    cost_pico: int | None
    message: str  # the newest
    evidence: tuple[Evidence, ...]  # the first few
    version: int  # rises with every change
    resolution: Resolution | None = None  # of a resolved one
    resolved_ns: int | None = None  # when it was so no more
    ends_ns: int | None = None  # when it is over whatever comes, as observed last
    transitions: tuple[Transition, ...] = ()  # that it made in this batch, in this order; empty: an update
