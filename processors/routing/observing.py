"""What is noticed about calls, as observations: one per call that shows it, so that batches do not matter.

A call that comes again, in a better version, is noticed once: of its money only the difference counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from collector import distinct
from collector.batch import SpanBatch
from collector.columns import PICO_PER_USD
from collector.findings import Evidence, Observation, Severity, Subject
from collector.ledger.rows import equal_to
from collector.otlp.tables import I64
from collector.sums import served_model
from processors.routing.attempts import Answer
from processors.routing.config import Rule, pattern_of
from processors.routing.folding import Fold, folds
from processors.routing.names import bare, undated
from processors.routing.policy import PREMIUM, VERDICTS, Columns, Policy, Test, coded, fitting

Mask = NDArray[np.bool_]
Row = dict[str, Any]
NOBODY = "(unknown)"
NOTHING = pl.DataFrame()
#: Operations that answer with text of a length which a request can bound.
_BOUNDED = ("chat", "text_completion", "generate_content")
_READ = (
    "call_id", "trace_id", "span_id", "start_ns", "team", "app", "provider", "region", "route", "expected_model", "cost_pico",
    "expected_cost_pico", "avoidable_cost_pico", "refused_by",
)  # fmt: skip


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


def observed(
    batch: SpanBatch, policy: Policy, columns: Columns, fallbacks: Iterable[Answer], quiet_ns: int
) -> list[Observation]:
    """Everything noticed in a batch whose calls were judged, in order of time. `columns` are of these calls."""
    old = Columns(batch.replaced)
    in_force = ~batch.calls["withdrawn"].to_numpy() if batch.calls["withdrawn"].any() else True
    found = [_fallback(one, quiet_ns) for one in fallbacks]
    for kind, holds in _checks(policy):
        now = _rows(batch.calls, holds(batch.calls, columns) & in_force)
        before = _rows(batch.replaced, holds(batch.replaced, old)) if len(old) else NOTHING
        if now is not NOTHING or before is not NOTHING:
            found += _moved(kind, now, before, quiet_ns)
    return sorted(found, key=lambda one: (one.first_ns, one.kind, one.evidence[0].span_id))


#: Of the calls of a frame, and of the same calls as columns.
Holds = Callable[[pl.DataFrame, Columns], Mask]


def _checks(policy: Policy) -> list[tuple[Kind, Holds]]:
    checks: list[tuple[Kind, Holds]] = []
    if policy.tests:
        checks.append((PREMIUM_INSTEAD, lambda frame, _: equal_to(frame["route_verdict"], VERDICTS[PREMIUM])))
    checks += [(BLOCKED, _by_guardrail), (MODEL_UNKNOWN, _unknown)]
    for kind, of_rule in _OF_RULES:
        rules = [(Test(rule.match), holds) for rule in policy.config.rules if (holds := of_rule(rule)) is not None]
        if rules:
            checks.append((kind, _any(rules)))
    return checks


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


def _rows(frame: pl.DataFrame, mask: Mask) -> pl.DataFrame:
    """The rows, as far as observations need them; what is not known has a word for it."""
    if not mask.any():
        return NOTHING
    part = frame.filter(pl.Series(mask))
    part = part.select(*_READ, served_model(part).alias("model"), pl.col("refused_by").alias("guardrail"))
    named = pl.col("team", "app", "provider", "region", "route", "model", "guardrail").fill_null("")
    return part.with_columns(pl.when(named == "").then(pl.lit(NOBODY)).otherwise(named).name.keep())


def _moved(kind: Kind, now: pl.DataFrame, before: pl.DataFrame, quiet_ns: int) -> Iterator[Observation]:
    """What the calls show that the versions before did not. Money moves by the difference, down too."""
    cost = _money(kind, now)
    if len(before):
        keys = ["call_id", *kind.about]
        was = before.select(*keys, pl.Series("was", _money(kind, before))).unique("call_id", keep="last", maintain_order=True)  # fmt: skip
        moved = now.select(*keys).join(was, on=keys, how="left", maintain_order="left")["was"] if len(now) else was["was"][:0]  # fmt: skip
        cost = cost - moved.fill_null(0).to_numpy()
        kept = moved.is_null().to_numpy() | (cost != 0)
        gone = was.join(now.select(*keys), on=keys, how="anti") if len(now) else was
        back = before.filter(pl.col("call_id").is_in(gone.filter(pl.col("was") != 0)["call_id"].implode()))
        now = pl.concat([now.filter(pl.Series(kept)), back]) if len(now) else back
        cost = np.concatenate([cost[kept], -_money(kind, back)])
    if not len(now):
        return
    rows, found = folds(now, kind.about, cost, quiet_ns)
    for one in found:
        yield _observation(kind, rows.row(one.newest, named=True), one, quiet_ns)


def _money(kind: Kind, rows: pl.DataFrame) -> I64:
    """The money at stake of each, in pico-USD."""
    return distinct.integers(rows[kind.money])[0] if kind.money and len(rows) else np.zeros(len(rows), np.int64)


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
