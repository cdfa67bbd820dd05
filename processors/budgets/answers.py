"""What the counters say to those who ask: a verdict about a call to come, and an overview for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from collector.verdict import Answer, Use, shown
from collector.windows import Rolling
from config.types import show_duration
from processors.budgets.counters import Key
from processors.budgets.looks import Look, Present, Stored
from processors.budgets.moves import Values
from processors.budgets.scopes import Lines, Scope
from processors.budgets.shared import Shared


class Answers:
    """Reads what is committed, from memory or from the store. From any thread: counters are never changed, but exchanged."""

    def __init__(self, scopes: Sequence[Scope], counters: Present | Stored, shared: Shared | None = None) -> None:
        """shared: what is known of others, where budgets are shared"""
        self._scopes = scopes
        self._counters = counters
        self._shared = shared

    def ask(self, question: Mapping[str, str], now_ns: int) -> Answer:
        uses: list[Use] = []
        unasked: list[str] = []
        with self._counters.looking() as look:
            for scope in self._scopes:
                if not scope.needs <= question.keys():
                    unasked += [budget.name for budget in scope.budgets]
                elif scope.fits(question):
                    values = tuple(question[name] for name in scope.per)
                    used = _used(look, scope, values, now_ns)
                    since = _since(look, scope, now_ns)
                    uses += [
                        _use(scope, budget, values, used[budget.measure], now_ns, since) for budget in scope.budgets
                    ]
        return Answer(tuple(uses), tuple(unasked))

    def report(self, now_ns: int, most: int) -> list[dict[str, Any]]:
        """Per budget, in the order of the config: what it is, and the subjects that used most, the most first."""
        found = []
        for scope in self._scopes:
            subjects = {
                values for period in _periods(scope, now_ns) for values in self._counters.subjects(scope.key, period)
            }
            with self._counters.looking() as look:
                used = {values: _used(look, scope, values, now_ns) for values in subjects}
                since = _since(look, scope, now_ns)
            for budget in scope.budgets:
                order = sorted(used, key=lambda values: (-used[values][budget.measure], values))
                one = self._budget(scope, budget, order, used, now_ns, most, since)
                if self._shared is not None:
                    one["shared"] = {"collector": self._shared.collector, "read_ns": self._shared.read_ns}
                    for values, subject in zip(order, one["subjects"], strict=False):
                        subject["shares"] = self._shares(self._shared, scope, budget, values, now_ns)
                found.append(one)
        return found

    def _shares(self, shared: Shared, scope: Scope, budget: Lines, values: Values, now_ns: int) -> dict[str, str]:
        """What each collector has counted of a subject, this one first."""
        parts = {shared.collector: 0}
        with self._counters.looking() as look:
            for period in _periods(scope, now_ns):
                key = Key(scope.key, period, values)
                parts[shared.collector] += look.counter(key).amounts[budget.measure]
                for one in look.others(key):
                    parts[one.collector] = parts.get(one.collector, 0) + one.amounts[budget.measure]
        return {name: shown(budget.unit, amount) for name, amount in parts.items()}

    def _budget(
        self,
        scope: Scope,
        budget: Lines,
        order: list[Values],
        used: Mapping[Values, tuple[int, int, int]],
        now_ns: int,
        most: int,
        since: int | None,
    ) -> dict[str, Any]:
        start = scope.window.start(now_ns)
        rolling = isinstance(scope.window, Rolling)
        begins = now_ns - scope.length_ns(start) if rolling else start
        return {
            "budget": budget.name,
            "per": list(scope.per),
            "window": str(scope.window) if not rolling else f"rolling {show_duration(scope.length_ns(start) / 1e9)}",
            "unit": budget.unit,
            "begins_ns": begins,
            "ends_ns": None if rolling else scope.window.end(start),
            "thresholds": [{"percent": line.percent, "hard": line.hard} for line in budget.lines],
            "counted_since_ns": since,
            "subjects_count": len(order),
            "subjects": [
                _use(scope, budget, v, used[v][budget.measure], now_ns, since).as_json() for v in order[:most]
            ],
        }


def _used(look: Look, scope: Scope, values: Values, now_ns: int) -> tuple[int, int, int]:
    counters = [look.joint(Key(scope.key, period, values)) for period in _periods(scope, now_ns)]
    return sum(c.usd for c in counters), sum(c.tokens for c in counters), sum(c.calls for c in counters)


def _periods(scope: Scope, now_ns: int) -> list[int]:
    """Starts of the cuts that are summed now."""
    last = scope.window.start(now_ns)
    if scope.window.steps == 1:
        return [last]
    step = scope.window.end(last) - last
    return [last - n * step for n in range(scope.window.steps)]


def _since(look: Look, scope: Scope, now_ns: int) -> int | None:
    """From when on the window that is on is counted; None: all of it is."""
    began = look.began(scope.key)
    return min(began, now_ns) if began > min(_periods(scope, now_ns)) else None


def _use(scope: Scope, budget: Lines, values: Values, used: int, now_ns: int, since: int | None) -> Use:
    resets = None if scope.window.steps > 1 else scope.window.end(scope.window.start(now_ns))
    subject = tuple(zip(scope.per, values, strict=True))
    return Use(budget.name, subject, budget.unit, used, budget.limit, budget.denied_at, resets, since)
