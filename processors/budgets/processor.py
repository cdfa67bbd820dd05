"""The processor: sums per budget, subject and window, exact as the ledger's; what is to be said when a line is crossed.

A call counts in the window that it started in, whenever it comes. A better version of it moves the sums by the difference.
Counters belong to what is counted (dimensions, match, window), not to a budget's name: whatever else is edited, they stay.

Where several collectors count together (`shared`), what is judged is the sum of their shares; see `shared.py`.

All decisions are in event time. The clock is the start of the newest call, of any collector, and never goes back; it tells which windows are
over, so that late calls find theirs and the findings of a window end with it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client import Counter as Metric

from collector.batch import SpanBatch
from collector.component import Context, Processor, Snapshot, Stage, StateReader, StateWriter
from collector.counting import History, Listener, Share
from collector.distinct import integers
from collector.findings import Observation
from collector.once import once
from collector.sums import AHEAD_NS
from collector.verdict import Verdicts
from processors.budgets import alerts
from processors.budgets.answers import Answers
from processors.budgets.config import BudgetsConfig
from processors.budgets.counters import ZERO, Counter, Counters, Key, Since
from processors.budgets.judging import Judging
from processors.budgets.looks import Present, Stored
from processors.budgets.moves import Change, Moves
from processors.budgets.scopes import Scope, scopes_of
from processors.budgets.shared import OWN, Shared, share_of

logger = logging.getLogger(__name__)

_CLOCK, _LINES, _UNSAID = b"clock", b"lines", b"unsaid"
#: When there are too many counters, this part of them goes besides: not at every batch again.
_EVICTED_BESIDES = 10


class Budgets(Processor[BudgetsConfig]):
    """Limits in dollars, tokens or calls per team, user, model or any combination; soft, hard and projected; what a gateway may ask before it sends a call."""

    Config = BudgetsConfig
    stage = Stage.CALLS

    def __init__(self, config: BudgetsConfig, context: Context) -> None:
        super().__init__(config, context)
        self.counters = Counters()
        self.shared = Shared(context.collector, round(config.alone_after * 1e9), config.max_counters)
        self._scopes = scopes_of(config)
        self._judging = Judging(self.counters, self.shared, config.shared)
        self._answers = Answers(
            self._scopes, Present(self.counters, self.shared), self.shared if config.shared else None
        )
        self._grace_ns = round(config.grace * 1e9)
        self._metrics = once(context.metrics, _Metrics)
        self._clock = self._clock_before = 0
        self._checked: dict[bytes, int] = {}  # per scope the window of the clock when its findings were looked at last
        self._checked_before: dict[bytes, int] = {}
        self._edited: list[Observation] = []  # what an edited config has to say, with the first batch
        self._all_lines = True  # whether counters are to be compared with lines that they have not met
        self._compared = False  # whether the last batch did
        self._all_shares = False  # whether all counters are to be published, not only those that a batch changes
        self._published = False  # whether the last batch did
        self._saved = False

    @property
    def listener(self) -> Listener | None:
        return self if self.config.shared else None

    @property
    def verdicts(self) -> Verdicts:
        return self._answers

    @classmethod
    def stored_verdicts(cls, config: BudgetsConfig, snapshot: Snapshot) -> Verdicts:
        return Answers(scopes_of(config), Stored(snapshot))

    # In the pipeline ------------------------------------------------------------------------------------------------

    def load(self, state: StateReader) -> None:
        self.counters.load(state)
        self.shared.load(state, {scope.key for scope in self._scopes})
        self._all_shares = state.get(_UNSAID) is not None
        self._clock = self._clock_before = int(state.get(_CLOCK) or 0)
        self._all_lines = state.get(_LINES) != self._lines()
        gone = set(self.counters.names) - {scope.key for scope in self._scopes}
        for key in sorted(key for scope in gone for key in self.counters.open.get(scope, ())):
            names, counter = self.counters.names[key.scope], self.counters.get(key)
            self._edited += [
                alerts.over(names, one, key.values, self._clock, "the budget was changed.")
                for one in counter.told
                if one.open
            ]
        self.counters.keep(((scope.key, scope.per) for scope in self._scopes), time.time_ns())

    def _lines(self) -> bytes:
        return repr([(scope.key, scope.budgets) for scope in self._scopes]).encode()

    def process(self, batch: SpanBatch) -> SpanBatch:
        self._begin()
        heard = self.shared.take()
        if batch.calls.is_empty() and batch.replaced.is_empty() and not self.config.shared:
            return batch
        moves = Moves(batch.calls, batch.replaced)
        newest = int(integers(batch.calls["start_ns"])[0].max(initial=0))
        newest = max(newest, max((share.last_ns for key in heard for share in self.shared.get(key).others), default=0))
        self._clock = max(self._clock, min(newest, batch.received_ns + AHEAD_NS))
        self._judging.clock, self._judging.edited_ns = self._clock, self._clock_before if self._all_lines else -1
        observed = list(self._edited)
        for scope in self._scopes:
            if len(moves):
                observed += self._count(scope, moves)
            if self._all_lines:
                observed += self._judging.compare(scope, moves)
            if self.config.shared:
                observed += self._judging.heard(scope, [key for key in heard if key.scope == scope.key], moves)
                observed += self._judging.settle(scope)
            observed += self._ended(scope)
        self._make_room()
        self._compared = True
        if self.config.shared:
            batch = batch.with_(shares=(*batch.shares, *self._shares(batch.position.last)))
            self._published = True
        if not observed:
            return batch
        observed.sort(key=lambda one: (one.at_ns, one.holds, one.kind, one.subject))
        return batch.with_(observed=(*batch.observed, *observed))

    def _begin(self) -> None:
        """What is left of the last batch is committed, or forgotten."""
        self.committed()
        self.counters.forget()
        self.shared.forget()
        self._clock_before, self._checked_before = self._clock, dict(self._checked)
        self._compared = self._published = False

    def save(self, state: StateWriter) -> None:
        self.counters.save(state)
        self.shared.save(state)
        if self._all_shares and self._published:
            state.delete(_UNSAID)
        elif self._all_shares:
            state.put(_UNSAID, b"")
        if self._clock != self._clock_before:
            state.put(_CLOCK, str(self._clock).encode())
        if self._all_lines and self._compared:
            state.put(_LINES, self._lines())
        elif self._all_lines:
            state.delete(
                _LINES
            )  # counters that were recalled have not met them, also when it is another start that compares
        self._saved = True

    def committed(self) -> None:
        if self._saved:
            self.counters.enter()
            self.shared.enter()
            self._saved = False
            self._all_shares &= not self._published
            if self._compared:
                self._all_lines, self._edited = False, []

    def rollback(self) -> None:
        self.counters.forget()
        self.shared.forget()
        self._saved = False
        self._clock, self._checked = self._clock_before, self._checked_before

    # What was before ------------------------------------------------------------------------------------------------

    @property
    def lacks_history(self) -> bool:
        return any(since.lacks for since in self.counters.since.values())

    def recall(self, history: History) -> None:
        self._begin()
        now = time.time_ns()
        self._clock = max(self._clock, min(history.newest_ns(), now + AHEAD_NS))
        kept = history.kept_since_ns(now)
        for scope in self._scopes:
            since = self.counters.since.get(scope.key)
            if since is None or not since.lacks:
                continue
            if self._recalled(scope, history):
                self.counters.know(scope.key, Since(kept, False) if kept else None)
                self._all_lines = True  # lines that were crossed before are said with the next batch
                self._all_shares = self.config.shared
            else:
                names = ", ".join(budget.name for budget in scope.budgets)
                logger.warning("budgets %s: the ledger has fewer calls than are counted; what was before stays unknown", names)  # fmt: skip
                self.counters.know(scope.key, since._replace(lacks=False))
        self._make_room()

    def _recalled(self, scope: Scope, history: History) -> bool:
        """Set a scope's counters to what the ledger's calls add up to; False where it does not have all that is counted."""
        dimensions = sorted(scope.needs)
        found: dict[str, dict[Key, Counter]] = {}  # by who has counted it; alone it is all ours
        for part in history.sums(dimensions, scope.window, self._oldest(scope)):
            named = dict(zip(dimensions, part.values, strict=True))
            if self._kept_until(scope, part.period) <= self._clock or not scope.fits(named):
                continue
            key = Key(scope.key, part.period, tuple(named[name] for name in scope.per))
            by = found.setdefault(part.collector if self.config.shared else self.shared.collector, {})
            was = by.get(key, ZERO)
            by[key] = Counter(
                was.usd + part.cost_pico, was.tokens + part.tokens, was.calls + part.calls, max(was.last_ns, part.last_ns)
            )  # fmt: skip
        totals = found.pop(self.shared.collector, {})
        counted = {
            Key(scope.key, period, values): counter
            for period, subjects in self.counters.committed.get(scope.key, {}).items()
            for values, counter in subjects.items()
        }
        if any(counter.calls > totals.get(key, ZERO).calls for key, counter in counted.items()):
            return False
        for key in counted.keys() | totals.keys():
            self.counters.set(key, totals.get(key, ZERO)._replace(told=self.counters.get(key).told))
        version = time.time_ns()
        for collector, sums in found.items():
            for key, counter in sums.items():
                self.shared.know(share_of(scope, key, collector, version, counter))
        return True

    # What others count ----------------------------------------------------------------------------------------------

    def wanted(self) -> dict[str, int]:
        return {scope.key.hex(): self._oldest(scope) for scope in self._scopes}

    def hear(self, shares: Sequence[Share] | None, began_ns: int) -> bool:
        return self.shared.hear(shares, began_ns) or self._all_shares

    def _oldest(self, scope: Scope) -> int:
        """The first window that calls may still come to."""
        back = self._grace_ns if scope.window.steps == 1 else 2 * scope.length_ns(0) + scope.window.end(0)
        return scope.window.start(max((self._clock or time.time_ns()) - back, 0))

    def _shares(self, position: int) -> Iterator[Share]:
        """What this batch changed of this collector's share, or all of it, with what the ledger says of others."""
        self.shared.published = OWN + position
        scopes = {scope.key: scope for scope in self._scopes}
        changed = {*self.counters.changed, *self.shared.reclaimed}
        if self._all_shares:
            changed |= set(self.counters.all())
            yield from self.shared.found()
        for key in sorted(changed):
            if key.scope in scopes and self._kept_until(scopes[key.scope], key.period) > self._clock:
                counter, claims = self.counters.get(key), self.shared.get(key).claims
                yield share_of(scopes[key.scope], key, self.shared.collector, OWN + position, counter, claims)

    # One scope ------------------------------------------------------------------------------------------------------

    def _count(self, scope: Scope, moves: Moves) -> Iterator[Observation]:
        changes = moves.of(scope)
        usd, tokens, calls = scope.floors
        over: list[tuple[Key, Change]] = []
        past = {p for p in {change.period for change in changes} if self._kept_until(scope, p) <= self._clock}
        for change in changes:
            key = Key(scope.key, change.period, change.values)
            if change.period in past:
                self._metrics.late.inc(change.late)
                continue
            was = self.counters.get(key)
            now = Counter(
                was.usd + change.usd,
                was.tokens + change.tokens,
                was.calls + change.calls,
                max(was.last_ns, change.last_ns),
                was.told,
            )
            if now == was:
                continue
            self.counters.set(key, now)
            used = self.shared.joint(key, now)
            if scope.window.steps > 1 or used.usd >= usd or used.tokens >= tokens or used.calls >= calls:
                over.append((key, change))
        if scope.window.steps > 1:
            yield from self._judging.rolled(scope, changes, over)
            return
        codes: dict[Key, list[int]] = {}
        for key, change in over:
            codes.setdefault(key, []).append(change.code)
        force = alerts.in_force(scope)
        for key, own in codes.items():
            if not force.issubset(one.line for one in self.counters.get(key).told):
                yield from self._judging.judge(scope, key, moves, changes.calls(own), self._before(key))

    def _before(self, key: Key) -> int:
        """Start of the newest call that was counted before this batch."""
        committed = self.counters.committed.get(key.scope, {}).get(key.period, {}).get(key.values, ZERO)
        return self.shared.joint(key, committed).last_ns

    def _ended(self, scope: Scope) -> Iterator[Observation]:
        """What was said of windows that are over by now; windows that nothing can come to any more are forgotten."""
        waiting = {key.period for key in self.shared.claimed(scope.key)}
        for period in {*self.counters.periods(scope.key), *self.shared.periods(scope.key)} - waiting:
            if self._kept_until(scope, period) <= self._clock:
                self.counters.drop(scope.key, period)
                self.shared.drop(scope.key, period)
        now = scope.window.start(self._clock)
        if self._checked.get(scope.key) == now:
            return
        self._checked[scope.key] = now
        changed = [key for key in self.counters.changed if key.scope == scope.key]
        for key in sorted({*self.counters.open.get(scope.key, ()), *changed}):
            counter = self.counters.get(key)
            if not any(one.open for one in counter.told):
                continue
            if scope.window.steps > 1:
                yield from self._judging.fallen(scope, key, counter)
            elif scope.window.end(key.period) <= self._clock:
                yield from self._judging.close(scope, key, counter)

    def _kept_until(self, scope: Scope, period: int) -> int:
        """Until when a window takes calls. A step of a rolling one as long as it may be part of a sum, and once more."""
        end = scope.window.end(period)
        return end + (self._grace_ns if scope.window.steps == 1 else 2 * scope.length_ns(period))

    # Bounds ---------------------------------------------------------------------------------------------------------

    def _make_room(self) -> None:
        """Let ended windows go, then the counters that used least, where there are too many."""
        most = self.config.max_counters
        excess = self.counters.crowded(most)
        if excess <= 0:
            return
        excess += most // _EVICTED_BESIDES
        ended = sorted(
            (scope.window.end(period), scope.key, period, len(self.counters.committed[scope.key][period]))
            for scope in self._scopes for period in self.counters.periods(scope.key)
            if scope.window.steps == 1 and scope.window.end(period) <= self._clock
        )  # fmt: skip
        for _, key, period, count in ended:
            if excess <= 0:
                break
            self.counters.drop(key, period)
            self._metrics.evicted.inc(count)
            excess -= count
        if excess > 0:
            self._metrics.evicted.inc(
                self.counters.evict(excess, {scope.key: _weights(scope) for scope in self._scopes})
            )


def _weights(scope: Scope) -> tuple[float, float, float]:
    """Per measure one over the lowest limit; 0 where none is limited."""
    limits = [min((b.limit for b in scope.budgets if b.measure == m), default=0) for m in range(3)]
    return tuple(1 / limit if limit else 0.0 for limit in limits)  # type: ignore[return-value]


class _Metrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.late = Metric(
            "spanledger_budgets_late_calls",
            "Calls that came after the grace of their window: no budget counts them.",
            registry=registry,
        )
        self.evicted = Metric(
            "spanledger_budgets_evicted_counters", "Counters that went because there were too many.", registry=registry
        )
