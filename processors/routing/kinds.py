"""What is noticed about calls: each kind's subject and words, and of which calls it holds under a policy."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from collector import distinct
from collector.findings import Severity, Subject
from collector.ledger.rows import equal_to
from processors.routing.config import Rule, pattern_of
from processors.routing.names import bare, undated
from processors.routing.policy import PREMIUM, VERDICTS, Columns, Policy, Test, coded, fitting

Mask = NDArray[np.bool_]
Row = dict[str, Any]
NOBODY = "(unknown)"
#: Operations that answer with text of a length which a request can bound.
_BOUNDED = ("chat", "text_completion", "generate_content")


@dataclass(frozen=True, slots=True)
class Kind:
    """One thing to notice: about whom, in which words, and how much it matters. Texts of a row are never null."""

    name: str
    about: tuple[str, ...]  # dimensions: columns, and `model`, the one that served
    say: Callable[[Row], str]
    severity: Severity = Severity.WARNING
    money: str | None = None  # column of the money at stake

    def subject(self, row: Row) -> Subject:
        """Whom a row is about."""
        return tuple((name, row[name] or NOBODY) for name in self.about)


PREMIUM_INSTEAD = Kind(
    "routing.premium_instead",
    ("team", "app", "route"),
    lambda row: (
        f"{row['model']} answers calls of {row['app']} (team {row['team']}) that route {row['route']} leads to {row['expected_model']}"
    ),
    money="avoidable_cost_pico",
)
NOT_ALLOWED = Kind(
    "routing.model_not_allowed",
    ("team", "model"),
    lambda row: f"team {row['team']} uses {row['model']}, which its rule does not allow",
)
NO_MAX_TOKENS = Kind(
    "routing.no_max_tokens",
    ("team", "app", "model"),
    lambda row: f"{row['app']} (team {row['team']}) calls {row['model']} without max_tokens, which its rule asks for",
)
PROVIDER_BANNED = Kind(
    "routing.provider_banned",
    ("team", "provider"),
    lambda row: f"calls of team {row['team']} go to {row['provider']}, which its rule bans",
    Severity.CRITICAL,
)
REGION_BANNED = Kind(
    "routing.region_banned",
    ("team", "region"),
    lambda row: f"calls of team {row['team']} go to the region {row['region']}, which its rule bans",
    Severity.CRITICAL,
)
BLOCKED = Kind(
    "guardrail.blocked",
    ("guardrail", "app"),
    lambda row: f"the guardrail {row['guardrail']} refuses calls of {row['app']} (team {row['team']})",
    Severity.INFO,
)

MODEL_UNKNOWN = Kind(
    "routing.model_unknown",
    ("team", "app", "model"),
    lambda row: (
        f"{row['app']} (team {row['team']}) asks for {row['model']}, which its gateway or provider does not have"
    ),
)
#: How gateways and SDKs call that error: LiteLLM's ProxyModelNotFoundError, OpenAI's code model_not_found …
_UNKNOWN = re.compile(r"model_?not_?found|unknown_?model|invalid_?model|model_?not_?supported", re.IGNORECASE)


#: Of the calls of a frame, and of the same calls as columns.
Holds = Callable[[pl.DataFrame, Columns], Mask]


def checks(policy: Policy) -> list[tuple[Kind, Holds]]:
    """The kinds that a policy asks for, and those that it need not ask for; each with the calls that it holds of."""
    found: list[tuple[Kind, Holds]] = []
    if policy.tests:
        found.append((PREMIUM_INSTEAD, lambda frame, _: equal_to(frame["route_verdict"], VERDICTS[PREMIUM])))
    found += [(BLOCKED, _by_guardrail), (MODEL_UNKNOWN, _unknown)]
    for kind, of_rule in _OF_RULES:
        rules = [(Test(rule.match), holds) for rule in policy.config.rules if (holds := of_rule(rule)) is not None]
        if rules:
            found.append((kind, _any(rules)))
    return found


def _any(rules: Sequence[tuple[Test, Holds]]) -> Holds:
    """Where one of the rules matches and is broken."""

    def holds(frame: pl.DataFrame, columns: Columns) -> Mask:
        broken = np.zeros(len(frame), dtype=np.bool_)
        for test, one in rules:
            matched = test.holds(columns)
            if matched.any():
                broken |= matched & one(frame, columns)
        return broken

    return holds


def _models(rule: Rule) -> Holds | None:
    allowed = re.compile(pattern_of(rule.allow_models)) if rule.allow_models else None
    denied = re.compile(pattern_of(rule.deny_models)) if rule.deny_models else None
    if allowed is None and denied is None:
        return None

    def wrong(name: str) -> bool:
        spellings = (name.lower(), bare(name), undated(name))
        if denied is not None and any(map(denied.match, spellings)):
            return True
        return allowed is not None and not any(map(allowed.match, spellings))

    return lambda frame, columns: coded(*columns.served, wrong) & ~equal_to(frame["status"], "Error")


def _denied(patterns: tuple[str, ...], column: str) -> Holds | None:
    if not patterns:
        return None
    pattern = re.compile(pattern_of(patterns))
    return lambda frame, _: fitting(frame[column], lambda name: pattern.match(name.lower()) is not None)


def _without_limit(rule: Rule) -> Holds | None:
    if not rule.require_max_tokens:
        return None
    return lambda frame, _: (
        ~distinct.valid(frame["output_limit"])
        & fitting(frame["operation"], lambda name: name in _BOUNDED)
        & ~equal_to(frame["status"], "Error")
    )


_OF_RULES: tuple[tuple[Kind, Callable[[Rule], Holds | None]], ...] = (
    (NOT_ALLOWED, _models),
    (NO_MAX_TOKENS, _without_limit),
    (PROVIDER_BANNED, lambda rule: _denied(rule.deny_providers, "provider")),
    (REGION_BANNED, lambda rule: _denied(rule.deny_regions, "region")),
)


def _by_guardrail(frame: pl.DataFrame, _: Columns) -> Mask:
    """Where a guardrail refused; a model that does is none."""
    return fitting(frame["refused_by"], lambda name: name != "model")


def _unknown(frame: pl.DataFrame, _: Columns) -> Mask:
    """Where a call failed because there is no such model."""
    return fitting(frame["error_type"], lambda name: _UNKNOWN.search(name) is not None)
