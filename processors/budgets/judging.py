"""Which lines use has reached, who tells of it, and when it is over.

What is judged is the sum of all collectors' shares; where nothing is shared, that is the own counter. Alone a line is told of
at once; together it is claimed, and told of by whoever has the word (`shared.py`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from collector.findings import Observation
from collector.otlp.tables import I64
from processors.budgets import alerts
from processors.budgets.counters import Counter, Counters, Key, Told
from processors.budgets.moves import Change, Changes, Moves
from processors.budgets.scopes import Scope
from processors.budgets.shared import Claim, Shared

_NO_ROWS: I64 = np.zeros(0, np.int64)


class Judging:
    """Compares counters with lines, in the middle of a batch.

    clock: the start of the newest call
    edited_ns: where lines are new with this batch, the clock before it; what held by the old ones was so until then
    """

    def __init__(self, counters: Counters, shared: Shared, together: bool) -> None:
        """together: whether other collectors may want to tell of the same lines"""
        self._counters, self._shared, self._together = counters, shared, together
        self.clock = self.edited_ns = 0

    def judge(self, scope: Scope, key: Key, moves: Moves, rows: I64, last_ns: int) -> Iterator[Observation]:
        """Say what has been crossed in a window that stands alone; what is over already is closed at once."""
        counter = self._shared.joint(key, self._counters.get(key))
        said = [*counter.told, *(claim.told for claim in self._shared.get(key).claims)]
        found: list[tuple[Told, Observation]] = []
        for budget in scope.budgets:
            used = counter.amounts[budget.measure]
            found += alerts.crossed(scope, budget, said, used, key.values, key.period, moves, rows, self.clock)
            guess = alerts.projected(scope, budget, said, used, last_ns, key.values, key.period, moves, rows)
            found += [guess] if guess else []
        yield from self._say(scope, key, found)
        if found and scope.window.end(key.period) <= self.clock:
            yield from self.close(scope, key, self._counters.get(key))

    def _say(self, scope: Scope, key: Key, found: list[tuple[Told, Observation]]) -> Iterator[Observation]:
        """Lines that are crossed: tell of them, or, where others may want to as well, say that we do."""
        if not found:
            return
        # Behind the end of what was about the same subject: by the lines of before, in the window of before. Before its own.
        first = max(self.edited_ns, 0 if scope.window.steps > 1 else key.period) + 1
        last = 2**63 if scope.window.steps > 1 else scope.window.end(key.period) - 1
        made = [(told, replace(one, at_ns=min(max(one.at_ns, first), last))) for told, one in found]
        if self._together:
            now = time.time_ns()
            self._shared.claim(key, [Claim(told, one, now) for told, one in made])
            return
        self._note(key, *(told for told, _ in made))
        for _, one in made:
            yield one

    def close(self, scope: Scope, key: Key, counter: Counter) -> Iterator[Observation]:
        """The window is over, and with it what was said of it."""
        end = scope.window.end(key.period)
        for one in counter.told:
            if one.open:
                yield alerts.over(scope.per, one, key.values, end, "the window has ended.")
        self._counters.set(key, counter._replace(told=tuple(one._replace(open=False) for one in counter.told)))

    def compare(self, scope: Scope, moves: Moves) -> Iterator[Observation]:
        """The lines are new: what was said and holds no longer, and what counters are over already."""
        force = alerts.in_force(scope)
        now = scope.window.start(self.clock)
        for period in self._counters.periods(scope.key):
            for values in list(self._counters.committed[scope.key][period]):
                key = Key(scope.key, period, values)
                counter = self._counters.get(key)
                stale = [one for one in counter.told if one.open and one.line not in force]
                if stale:
                    told = tuple(one._replace(open=one.open and one.line in force) for one in counter.told)
                    counter = counter._replace(told=told)
                    self._counters.set(key, counter)
                    for one in stale:
                        yield alerts.over(scope.per, one, values, self.edited_ns, "the budget was changed.")
                if scope.window.steps > 1:
                    yield from self._step(scope, key._replace(period=now), moves, _NO_ROWS)
                elif scope.window.end(period) > self.clock:
                    last_ns = self._shared.joint(key, counter).last_ns
                    yield from self.judge(scope, key, moves, _NO_ROWS, last_ns)

    def heard(self, scope: Scope, keys: list[Key], moves: Moves) -> Iterator[Observation]:
        """Others used more: what it comes to with what is counted here. Where nothing is, it is theirs to say."""
        for key in keys:
            if scope.window.steps > 1:
                for period in self._after(scope, key.period):
                    step = key._replace(period=period)
                    if self._counters.get(step).calls:
                        yield from self._step(scope, step, moves, _NO_ROWS)
            elif (own := self._counters.get(key)).calls:
                yield from self.judge(scope, key, moves, _NO_ROWS, self._shared.joint(key, own).last_ns)

    def settle(self, scope: Scope) -> Iterator[Observation]:
        """Tell of lines that are ours to tell of; leave alone those that somebody else told of."""
        force = alerts.in_force(scope)
        for key in self._shared.claimed(scope.key):
            claims, left = self._shared.get(key).claims, []
            near = self._near(scope, key)
            for claim in claims:
                if claim.told.line not in force:
                    continue
                elsewhere = self._shared.told_at(claim.told, near)
                if elsewhere is not None:
                    at, told_ns = elsewhere
                    self._note(at, claim.told._replace(at_ns=told_ns))
                    yield replace(claim.observation, at_ns=told_ns, elsewhere=True)
                elif self._shared.has_word(key, claim, near):
                    self._note(key, claim.told._replace(at_ns=claim.observation.at_ns))
                    yield claim.observation
                else:
                    left.append(claim)
            if len(left) == len(claims):
                continue
            self._shared.settle(key, left)
            counter = self._counters.get(key)
            if scope.window.steps > 1:
                yield from self.fallen(scope, key, counter)
            elif scope.window.end(key.period) <= self.clock:
                yield from self.close(scope, key, counter)

    def _note(self, key: Key, *told: Told) -> None:
        """Lines of a counter that are told of."""
        counter = self._counters.get(key)
        self._counters.set(key, counter._replace(told=(*counter.told, *told)))

    def _near(self, scope: Scope, key: Key) -> list[Key]:
        """Counters of which one line is said once."""
        if scope.window.steps == 1:
            return [key]
        periods = {*self._within(scope, key.period), *self._after(scope, key.period)}
        return [key._replace(period=period) for period in sorted(periods)]

    # Rolling windows ------------------------------------------------------------------------------------------------

    def rolled(self, scope: Scope, changes: Changes, over: list[tuple[Key, Change]]) -> Iterator[Observation]:
        """Say what has been crossed at the changed steps, and at later ones whose sum they are part of."""
        rows: dict[tuple[str, ...], list[Change]] = {}
        for key, change in over:
            rows.setdefault(key.values, []).append(change)
        for values, own in rows.items():
            steps = {period for change in own for period in self._after(scope, change.period)}
            for period in sorted(steps):
                key = Key(scope.key, period, values)
                if not self._counters.get(key).calls and period not in {change.period for change in own}:
                    continue
                within = set(self._within(scope, period))
                codes = [change.code for change in own if change.period in within]
                yield from self._step(scope, key, changes.moves, changes, codes)

    def _step(
        self, scope: Scope, key: Key, moves: Moves, changes: Changes | I64, codes: list[int] | None = None
    ) -> Iterator[Observation]:
        """Say which lines the sum that ends with this step has crossed; one that was crossed less than a window away is not
        said again."""
        total = self._sum(scope, key)
        if all(total[budget.measure] < budget.floor for budget in scope.budgets):
            return
        near = self._near(scope, key)
        said = [one for at in near for one in self._counters.get(at).told]
        said += [claim.told for at in near for claim in self._shared.get(at).claims]
        rows = changes.calls(codes or []) if isinstance(changes, Changes) else changes
        for budget in scope.budgets:
            used = total[budget.measure]
            crossed = alerts.crossed(scope, budget, said, used, key.values, key.period, moves, rows, self.clock)
            yield from self._say(scope, key, list(crossed))
        yield from self.fallen(scope, key, self._counters.get(key))

    def fallen(self, scope: Scope, key: Key, counter: Counter) -> Iterator[Observation]:
        """What was said at this step and is so no more at a later one, up to the clock."""
        measure = {budget.name: budget.measure for budget in scope.budgets}
        told = []
        for one in counter.told:
            end = self._falls(scope, key, one.at, measure[one.budget]) if one.open and one.budget in measure else None
            told.append(one if end is None else one._replace(open=False))
            if end is not None:
                yield alerts.over(scope.per, one, key.values, end, "it is below the threshold again.")
        if tuple(told) != counter.told:
            self._counters.set(key, counter._replace(told=tuple(told)))

    def _falls(self, scope: Scope, key: Key, at: int, measure: int) -> int | None:
        """Start of the first step behind this one, and not behind the clock, whose sum is below a line."""
        period, now = scope.window.end(key.period), scope.window.start(self.clock)
        while period <= now:
            if self._sum(scope, key._replace(period=period))[measure] < at:
                return period
            period = scope.window.end(period)
        return None

    def _sum(self, scope: Scope, key: Key) -> tuple[int, int, int]:
        """What a subject used in the window that ends with a step."""
        steps = [key._replace(period=period) for period in self._within(scope, key.period)]
        counters = [self._shared.joint(step, self._counters.get(step)) for step in steps]
        return sum(c.usd for c in counters), sum(c.tokens for c in counters), sum(c.calls for c in counters)

    def _within(self, scope: Scope, period: int) -> range:
        """Steps of the window that ends with this one."""
        step = scope.window.end(period) - period
        return range(period, period - scope.window.steps * step, -step)

    def _after(self, scope: Scope, period: int) -> range:
        """This step and those whose window it is part of."""
        step = scope.window.end(period) - period
        return range(period, period + scope.window.steps * step, step)
