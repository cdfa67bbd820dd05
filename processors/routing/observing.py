"""What is noticed about calls, as observations: one per call that shows it, so that batches do not matter.

A call that comes again, in a better version, is noticed once: of its money only the difference counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import polars as pl

from collector import distinct
from collector.batch import SpanBatch
from collector.columns import PICO_PER_USD
from collector.findings import Evidence, Observation, Severity
from collector.otlp.tables import I64
from collector.sums import served_model
from processors.routing.attempts import Answer
from processors.routing.folding import Fold, folds
from processors.routing.kinds import NOBODY, Kind, Row, checks
from processors.routing.policy import Columns, Policy

_NAMED = ("team", "app", "provider", "region", "route", "model", "guardrail")
_READ = (
    "call_id", "trace_id", "span_id", "start_ns", "team", "app", "provider", "region", "route", "expected_model", "cost_pico",
    "expected_cost_pico", "avoidable_cost_pico", "refused_by",
)  # fmt: skip


def observed(
    batch: SpanBatch, policy: Policy, columns: Columns, fallbacks: Iterable[Answer], quiet_ns: int
) -> list[Observation]:
    """Everything noticed in a batch whose calls were judged, in order of time. `columns` are of these calls."""
    old = Columns(batch.replaced)
    in_force = ~batch.calls["withdrawn"].to_numpy() if batch.calls["withdrawn"].any() else True
    found = [_fallback(one, quiet_ns) for one in fallbacks]
    after, before = _Calls(batch.calls), _Calls(batch.replaced)
    for kind, holds in checks(policy):
        now = np.flatnonzero(holds(batch.calls, columns) & in_force)
        was = np.flatnonzero(holds(batch.replaced, old)) if len(old) else np.empty(0, np.int64)
        if len(was):
            found += _moved(kind, after.rows(now), before.rows(was), quiet_ns)
        elif len(now):
            found += _told(kind, after, now, after.money(kind)[now], quiet_ns)
    return sorted(found, key=lambda one: (one.first_ns, one.kind, one.evidence[0].span_id))


class _Calls:
    """Calls as far as observations need them."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame = frame
        self._read: pl.DataFrame | None = None

    @property
    def read(self) -> pl.DataFrame:
        """The columns, and `model` and `guardrail`."""
        if self._read is None:
            more = (served_model(self.frame).alias("model"), self.frame["refused_by"].alias("guardrail"))
            self._read = self.frame.select(_READ).with_columns(*more)
        return self._read

    def rows(self, at: I64) -> _Calls:
        """Some of them, or all, in their order."""
        return self if len(at) == len(self.frame) else _Calls(self.frame[at])

    def row(self, at: int) -> Row:
        """One of them; what is not known has a word for it."""
        row = self.read.row(at, named=True)
        return row | {name: row[name] or NOBODY for name in _NAMED}

    def money(self, kind: Kind) -> I64:
        """The money at stake of each, in pico-USD."""
        if kind.money is None or not len(self.frame):
            return np.zeros(len(self.frame), np.int64)
        return distinct.integers(self.frame[kind.money])[0]

    def about(self, kind: Kind) -> I64:
        """The number of each one's subject."""
        read = self.read
        codes, first = distinct.combinations(read, kind.about)
        numbers: dict[tuple[str, ...], int] = {}
        subjects = read[first].select(kind.about).rows() if len(first) else []
        of = [numbers.setdefault(tuple([name or NOBODY for name in one]), len(numbers)) for one in subjects]
        return np.array(of, np.int64)[codes] if of else codes


def _moved(kind: Kind, now: _Calls, before: _Calls, quiet_ns: int) -> Iterator[Observation]:
    """What the calls show that the versions before did not. Money moves by the difference, down too."""
    both = _Calls(pl.concat([now.frame, before.frame])) if len(now.frame) else before
    about, money = both.about(kind), both.money(kind)
    keys = pl.DataFrame([both.frame["call_id"], pl.Series("about", about), pl.Series("money", money)])
    keys = keys.with_row_index("row")
    new, old = keys[: len(now.frame)], keys[len(now.frame) :].unique("call_id", keep="last", maintain_order=True)
    same = ["call_id", "about"]
    was = new.join(old, on=same, how="left", maintain_order="left")["money_right"]
    cost = new["money"].to_numpy() - was.fill_null(0).to_numpy()
    told = was.is_null().to_numpy() | (cost != 0)
    gone = old.join(new, on=same, how="anti", maintain_order="left").filter(pl.col("money") != 0)
    at = np.concatenate([new["row"].to_numpy()[told], gone["row"].to_numpy()]).astype(np.int64)
    if len(at):
        yield from _told(kind, both, at, np.concatenate([cost[told], -gone["money"].to_numpy()]), quiet_ns)


def _told(kind: Kind, calls: _Calls, at: I64, cost: I64, quiet_ns: int) -> Iterator[Observation]:
    """What some of the calls show, each with its money."""
    part = calls.rows(at)
    for one in folds(part.frame, part.about(kind), cost, quiet_ns):
        yield _observation(kind, part.row(one.newest), one, quiet_ns)


def _observation(kind: Kind, row: Row, fold: Fold, quiet_ns: int) -> Observation:
    priced = kind.money is not None
    return Observation(
        kind=kind.name,
        subject=kind.subject(row),
        at_ns=row["start_ns"],
        message=kind.say(row),
        severity=kind.severity,
        measured=_usd(row["cost_pico"]) if priced else None,
        expected=_usd(row["expected_cost_pico"]) if priced else None,
        unit="USD" if priced else "",
        cost_pico=fold.cost_pico if priced else None,
        evidence=fold.evidence,
        quiet_ns=quiet_ns,
        count=fold.calls,
        since_ns=fold.first_ns,
        shown=fold.shown if fold.calls > len(fold.evidence) else None,
    )


def _usd(pico: int | None) -> float | None:
    return None if pico is None else pico / PICO_PER_USD


def _fallback(one: Answer, quiet_ns: int) -> Observation:
    """An attempt that failed, and another model that answered: a change of quality nobody asked for."""
    failed = one.failed
    requested, served = failed.requested or failed.model or NOBODY, one.model or NOBODY
    wanted, got = failed.tier, one.tier
    drop = wanted is not None and got is not None and got != wanted
    change = "" if not drop else f", of tier {got} instead of {wanted}"
    return Observation(
        kind="routing.fallback",
        subject=(("model", requested), ("served", served), ("team", failed.team or NOBODY)),
        at_ns=failed.start_ns,
        message=f"{requested} fails for team {failed.team or NOBODY} ({failed.error or 'no error type'}); {served} answers instead{change}",
        severity=Severity.WARNING if drop else Severity.INFO,
        measured=None if got is None else float(got),
        expected=None if wanted is None else float(wanted),
        unit="tier" if drop else "",
        evidence=(Evidence(failed.trace_id, failed.span_id),),
        quiet_ns=quiet_ns,
    )
