"""When use crosses a line: at which call, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from collector.columns import PICO_PER_USD
from collector.findings import Evidence, Observation, Severity, Subject
from collector.otlp.tables import I64
from collector.verdict import Use
from collector.windows import Calendar, Rolling, iso
from processors.budgets.counters import Told
from processors.budgets.moves import Moves, Values
from processors.budgets.scopes import PROJECTED, PROJECTED_FROM, Line, Lines, Scope

SOFT, HARD, PROJECTION = "budget.soft", "budget.hard", "budget.projected"
NOBODY = "(none)"


def crossed(
    scope: Scope,
    budget: Lines,
    told: Iterable[Told],
    used: int,
    values: Values,
    period: int,
    moves: Moves,
    rows: I64,
    at_ns: int,
) -> Iterator[tuple[Told, Observation]]:
    """Lines of a budget that `used` has reached and of which nothing was said.

    rows: the batch's calls that are part of it, in the order in which they came; the one that reached the line is named
    at_ns: when to say it where none of them did (a limit was lowered)
    """
    said = {one.line for one in told}
    for line in budget.lines:
        if used < line.at or (budget.name, _kind(line), line.percent, line.at) in said:
            continue
        amounts = moves.amounts(rows, budget.measure)
        run = accumulate(amounts, initial=used - sum(amounts))
        place = next((n for n, total in enumerate(run) if total >= line.at), 0) - 1
        now, when = used, at_ns
        evidence: tuple[Evidence, ...] = ()
        if place >= 0:
            now = used - sum(amounts[place + 1 :])
            when, evidence = int(moves.start[rows[place]]), (Evidence(*moves.ids(int(rows[place]))),)
        yield (
            Told(budget.name, _kind(line), line.percent, line.at, True),
            _reached(scope, budget, line, values, period, now, when, evidence),
        )


def projected(
    scope: Scope,
    budget: Lines,
    told: Iterable[Told],
    used: int,
    last_ns: int,
    values: Values,
    period: int,
    moves: Moves,
    rows: I64,
) -> tuple[Told, Observation] | None:
    """Whether the use so far leads beyond the limit at the window's end; and since which of the batch's calls.

    last_ns: start of the newest call before the batch
    """
    at = budget.projected
    if at is None or used < at * PROJECTED_FROM:
        return None
    if any(one.line == (budget.name, PROJECTION, PROJECTED, at) for one in told):
        return None
    hard = budget.denied_at or budget.limit
    length = scope.length_ns(period)
    # Nearly always no call can have led there: the most that was used, at the earliest that any of them came.
    latest = max(last_ns, int(moves.start[rows].max(initial=0))) - period
    earliest = max(last_ns, int(moves.start[rows[0]]) if len(rows) else 0, period) - period
    if latest < length * PROJECTED_FROM or (not moves.before and used * length < at * earliest):
        return None
    amounts = moves.amounts(rows, budget.measure)
    total, newest = used - sum(amounts), last_ns
    if (total + sum(amount for amount in amounts if amount > 0)) * length < at * earliest:
        return None
    for row, amount in zip(rows.tolist(), amounts, strict=True):
        total, newest = total + amount, max(newest, int(moves.start[row]))
        passed = newest - period
        if total >= hard or passed < length * PROJECTED_FROM or total * length < at * passed:
            continue
        end = total * length // passed
        use = Use(budget.name, (), budget.unit, total, budget.limit, None, None)
        message = (
            f"Budget {budget.name}: {_who(scope.per, values)} will use {use.shown(_round(end, budget))} {budget.unit} of "
            f"{use.shown(budget.limit)} {_in(scope, period)} if it goes on like this; {use.shown(_round(total, budget))} so far."
        )
        observation = Observation(
            PROJECTION, _subject(scope.per, budget.name, values, PROJECTED), int(moves.start[row]), message, Severity.WARNING,
            measured=_float(end, budget), expected=_float(budget.limit, budget), unit=budget.unit,
            cost_pico=max(end - budget.limit, 0) if budget.measure == 0 else None, evidence=(Evidence(*moves.ids(row)),),
        )  # fmt: skip
        return Told(budget.name, PROJECTION, PROJECTED, at, True), observation
    return None


def over(names: Sequence[str], told: Told, values: Values, at_ns: int, why: str) -> Observation:
    """It holds no longer: what was said, since this stands in its place, and why not."""
    said = "was heading over the limit" if told.percent == PROJECTED else f"used {told.percent}% or more"
    message = f"Budget {told.budget}: {_who(names, values)} {said}; {why}"
    return Observation(
        told.kind, _subject(names, told.budget, values, told.percent), at_ns, message, Severity.INFO, holds=False
    )


def in_force(scope: Scope) -> set[tuple[str, str, str, int]]:
    """What may be said of a scope, as `Told.line`."""
    found = {(b.name, _kind(line), line.percent, line.at) for b in scope.budgets for line in b.lines}
    return found | {(b.name, PROJECTION, PROJECTED, b.projected) for b in scope.budgets if b.projected is not None}


def _subject(names: Sequence[str], budget: str, values: Values, percent: str) -> Subject:
    """Whom it is about. Each line has a finding of its own: it is opened once, and said once."""
    pairs = [("budget", budget), *_pairs(names, values)]
    if percent != PROJECTED:
        pairs.append(("threshold", f"{percent}%"))
    return tuple(sorted(pairs))


def _kind(line: Line) -> str:
    return HARD if line.hard else SOFT


def _pairs(names: Sequence[str], values: Values) -> list[tuple[str, str]]:
    return [(name, value or NOBODY) for name, value in zip(names, values, strict=True)]


def _reached(
    scope: Scope,
    budget: Lines,
    line: Line,
    values: Values,
    period: int,
    used: int,
    at_ns: int,
    evidence: tuple[Evidence, ...],
) -> Observation:
    use = Use(budget.name, (), budget.unit, used, budget.limit, None, None)
    message = (
        f"Budget {budget.name}: {_who(scope.per, values)} used {use.shown(_round(used, budget))} of {use.shown(budget.limit)} {budget.unit} "
        f"{_in(scope, period)}, {line.percent}% or more."
    )
    rolling = isinstance(scope.window, Rolling)
    ends = at_ns + scope.length_ns(period) if rolling else scope.window.end(period)
    severity = Severity.CRITICAL if line.hard else Severity.WARNING if line.warning else Severity.INFO
    return Observation(
        _kind(line), _subject(scope.per, budget.name, values, line.percent), at_ns, message, severity,
        measured=_float(used, budget), expected=_float(budget.limit, budget), unit=budget.unit, evidence=evidence, ends_ns=ends,
    )  # fmt: skip


def _who(names: Sequence[str], values: Values) -> str:
    return ", ".join(f"{name} {value}" for name, value in _pairs(names, values)) or "all calls together"


def _in(scope: Scope, period: int) -> str:
    if isinstance(scope.window, Rolling):
        return f"within {scope.window.length_ns / 3.6e12:g} hours"
    if not isinstance(scope.window, Calendar):
        return f"in the window from {iso(period, None)}"
    day, _, clock = iso(period, scope.window.zone).partition("T")
    if not clock.startswith("00:00"):
        return f"in the {scope.window.kind} from {day} {clock[:5]}{clock[8:]}"
    zone = str(scope.window.zone)
    return f"in the {scope.window.kind} from {day}{'' if zone == 'UTC' else f' ({zone})'}"


def _float(amount: int, budget: Lines) -> float:
    return amount / PICO_PER_USD if budget.measure == 0 else float(amount)


def _round(amount: int, budget: Lines) -> int:
    """As people read it: of dollars two digits behind the point, no more than were used; the finding has them all."""
    return amount - amount % 10**10 if budget.measure == 0 and amount >= PICO_PER_USD else amount
