"""Scopes: which calls are counted, by whom and in which windows. Budgets that count the same share their counters."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from hashlib import blake2b

from collector.windows import Rolling, Window
from processors.budgets.config import Budget, BudgetsConfig, Match, pattern_of

MEASURES = ("usd", "tokens", "calls")
PROJECTED = "projected"
#: From which part of a window on its end can be guessed.
PROJECTED_FROM = Fraction(1, 4)


@dataclass(frozen=True, slots=True)
class Line:
    """A line that use must not cross unseen. `at`: the first amount that is over it."""

    percent: str
    at: int
    hard: bool = False
    warning: bool = True


@dataclass(frozen=True, slots=True)
class Lines:
    """A budget as it is compared with counters."""

    name: str
    measure: int  # place in MEASURES
    limit: int
    lines: tuple[Line, ...]  # the lowest first
    projected: int | None  # which amount at the window's end is too much

    @property
    def unit(self) -> str:
        return ("USD", "tokens", "calls")[self.measure]

    @property
    def denied_at(self) -> int | None:
        return next((line.at for line in self.lines if line.hard), None)

    @property
    def floor(self) -> int:
        """Below this nothing is to be said."""
        floors = [line.at for line in self.lines]
        if self.projected is not None:
            floors.append(int(self.projected * PROJECTED_FROM))
        return min(floors, default=2**200)

    @classmethod
    def of(cls, name: str, budget: Budget) -> Lines:
        top = max(budget.soft, default=None)
        lines = [Line(_percent(p), _share(budget.limit, p), warning=p == top) for p in budget.soft]
        if budget.hard is not None:
            lines.append(Line(_percent(budget.hard), _share(budget.limit, budget.hard), hard=True))
        projected = None
        if budget.projected is not None and budget.rolling is None:
            projected = _share(budget.limit, budget.projected)
        return cls(
            name,
            MEASURES.index(budget.measure),
            budget.limit,
            tuple(sorted(lines, key=lambda line: line.at)),
            projected,
        )


@dataclass(frozen=True, slots=True)
class Scope:
    """What is counted once for all budgets that count the same.

    key: eight bytes that stay the same while `per`, `match`, `unless` and the window do, whatever else is edited
    floors: per measure, the use below which no budget has anything to say
    """

    key: bytes
    per: tuple[str, ...]
    match: Mapping[str, re.Pattern[str]]
    unless: Mapping[str, re.Pattern[str]]
    window: Window
    budgets: tuple[Lines, ...]
    floors: tuple[int, int, int]

    @property
    def needs(self) -> frozenset[str]:
        """Dimensions that decide which counter a call is counted in."""
        return frozenset((*self.per, *self.match, *self.unless))

    def fits(self, values: Mapping[str, str]) -> bool:
        """Whether a call of these values counts."""
        return all(p.match(values[name].lower()) for name, p in self.match.items()) and not any(
            p.match(values[name].lower()) for name, p in self.unless.items()
        )

    def length_ns(self, start: int) -> int:
        return self.window.length_ns if isinstance(self.window, Rolling) else self.window.end(start) - start


def scopes_of(config: BudgetsConfig) -> list[Scope]:
    """The scopes that budgets need, each once. Those that are shared with other collectors are others than those that are not:
    their counts begin with other calls."""
    found: dict[bytes, list[tuple[str, Budget]]] = {}
    for name, budget in config.budgets.items():
        found.setdefault(_key(budget, config.shared), []).append((name, budget))
    scopes = []
    for key, members in found.items():
        one = members[0][1]
        lines = tuple(Lines.of(name, budget) for name, budget in members)
        floors = [min((b.floor for b in lines if b.measure == m), default=2**200) for m in range(3)]
        per, match, unless = tuple(sorted(one.per)), _patterns(one.match), _patterns(one.unless)
        scopes.append(Scope(key, per, match, unless, one.cut(), lines, (floors[0], floors[1], floors[2])))
    return scopes


def _key(budget: Budget, shared: bool) -> bytes:
    what = [sorted(budget.per), _plain(budget.match), _plain(budget.unless), str(budget.cut()), *(["shared"] * shared)]
    return blake2b(json.dumps(what).encode(), digest_size=8).digest()


def _plain(match: Match) -> list[tuple[str, list[str]]]:
    return sorted((name, sorted({glob.lower() for glob in globs})) for name, globs in match.items())


def _patterns(match: Match) -> dict[str, re.Pattern[str]]:
    return {name: pattern_of(globs) for name, globs in match.items()}


def _percent(percent: Decimal) -> str:
    text = f"{percent:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _share(limit: int, percent: Decimal) -> int:
    """The smallest whole amount that is so many per cent of the limit, or more."""
    exact = Fraction(percent) * limit / 100
    return max(-(-exact.numerator // exact.denominator), 1)
