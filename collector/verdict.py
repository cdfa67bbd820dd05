"""Whether a call may be made: what a gateway asks before it sends one, and what budgets answer.

The collector sees calls when they are finished, so a limit is overshot by what is under way. What it can do is to answer
"no" from then on, to gateways that ask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Protocol

from collector.columns import PICO_PER_USD
from collector.findings import Subject


def shown(unit: str, amount: int) -> str:
    """An amount as people read it: `12.5`, to the last digit."""
    if unit != "USD":
        return str(amount)
    text = f"{Decimal(amount) / PICO_PER_USD:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


@dataclass(frozen=True, slots=True)
class Use:
    """How much of one budget one subject has used in the window that is on. Amounts in pico-USD, tokens, or calls."""

    budget: str
    subject: Subject
    unit: str  # USD, tokens, calls
    used: int
    limit: int
    denied_at: int | None  # from which use on calls are refused; None: never
    resets_ns: int | None  # when the window ends; None: it rolls
    since_ns: int | None = None  # only calls from then on are counted: there may be more; None: all of the window's are

    @property
    def denies(self) -> bool:
        return self.denied_at is not None and self.used >= self.denied_at

    @property
    def remaining(self) -> int:
        return max((self.limit if self.denied_at is None else self.denied_at) - self.used, 0)

    def shown(self, amount: int) -> str:
        """An amount as people read it."""
        return shown(self.unit, amount)

    def as_json(self) -> dict[str, Any]:
        """As JSON can hold it; amounts are texts with all their digits."""
        return {
            "budget": self.budget,
            "subject": dict(self.subject),
            "unit": self.unit,
            "used": self.shown(self.used),
            "limit": self.shown(self.limit),
            "remaining": self.shown(self.remaining),
            "resets_at": None if self.resets_ns is None else _iso(self.resets_ns),
            "denies": self.denies,
            "counted_since": None if self.since_ns is None else _iso(self.since_ns),
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """What all budgets say of one call. `unasked`: budgets that need a dimension which the question does not have."""

    uses: tuple[Use, ...]
    unasked: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Allow or deny, and why. `known`: whether budgets were asked, or it is what to say when they cannot be."""

    allow: bool
    reason: str
    uses: tuple[Use, ...] = ()
    unasked: tuple[str, ...] = ()
    decisive: Use | None = field(default=None)  # that denies for longest, else the one with the smallest share left
    known: bool = True

    def as_json(self) -> dict[str, Any]:
        return {
            "allow": self.allow,
            "known": self.known,
            "reason": self.reason,
            "budgets": [use.as_json() for use in self.uses],
            "unasked": list(self.unasked),
        }

    def headers(self, now_ns: int) -> dict[str, str]:
        """For the answer to the client: what decided, what remains, and when to come back."""
        found = {"x-spanledger-verdict": "allow" if self.allow else "deny"}
        use = self.decisive
        if use is not None:
            found["x-spanledger-budget"] = use.budget
            found["x-spanledger-remaining"] = f"{use.shown(use.remaining)} {use.unit}"
            if use.resets_ns is not None:
                found["x-spanledger-resets-at"] = _iso(use.resets_ns)
                if not self.allow:
                    found["retry-after"] = str(max(-(-(use.resets_ns - now_ns) // 10**9), 1))
        return found


class Verdicts(Protocol):
    """Somebody who knows how much is used. Both may be asked from any thread, while the pipeline goes on."""

    def ask(self, question: Mapping[str, str], now_ns: int) -> Answer:
        """What applies to a call of these dimensions. Names are those of `collector.sums.COUNTED_BY`."""
        ...

    def report(self, now_ns: int, most: int) -> list[dict[str, Any]]:
        """Each budget, and the subjects that used most of it, as JSON can hold it."""
        ...


@dataclass(frozen=True, slots=True)
class Renamed:
    """Verdicts behind processors that call things otherwise than those who ask."""

    source: Verdicts
    called: Callable[[str, str], str]

    def ask(self, question: Mapping[str, str], now_ns: int) -> Answer:
        return self.source.ask({name: self.called(name, value) for name, value in question.items()}, now_ns)

    def report(self, now_ns: int, most: int) -> list[dict[str, Any]]:
        return self.source.report(now_ns, most)


def decide(answers: Sequence[Answer]) -> Verdict:
    """One no is enough."""
    uses = tuple(use for answer in answers for use in answer.uses)
    unasked = tuple(dict.fromkeys(name for answer in answers for name in answer.unasked))
    if not uses:
        return Verdict(True, "no budget applies", unasked=unasked)
    if denying := [use for use in uses if use.denies]:
        tight = max(denying, key=lambda use: use.resets_ns or 0)  # before that coming back is of no use
        until = "" if tight.resets_ns is None else f" until {_iso(tight.resets_ns)}"
        reason = f"budget {tight.budget}: {_who(tight.subject)} used {tight.shown(tight.used)} of {tight.shown(tight.limit)} {tight.unit}{until}{_known(tight)}"
        return Verdict(False, reason, uses, unasked, tight)
    tight = min(uses, key=lambda use: Decimal(use.remaining) / use.limit)
    short = next((use for use in uses if use.since_ns is not None), None)
    return Verdict(
        True, f"within budget{_known(short)}" if short is not None else "within budget", uses, unasked, tight
    )


def _known(use: Use) -> str:
    """What is not known of a use."""
    return (
        ""
        if use.since_ns is None
        else f" (budget {use.budget} is counted since {_iso(use.since_ns)}: there may be more)"
    )


def _who(subject: Subject) -> str:
    return ", ".join(f"{name} {value or '(none)'}" for name, value in subject) or "everybody together"


def _iso(ns: int) -> str:
    return datetime.fromtimestamp(ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
