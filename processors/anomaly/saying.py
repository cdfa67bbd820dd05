"""What is said of an incident: observations for the book of findings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from collector.columns import PICO_PER_USD
from collector.findings import Evidence, Observation, Severity, Subject
from processors.anomaly.measures import MEASURES, Measure, Scale, lasts, shown, told

_DAY_NS = 86400 * 10**9
_HOUR_NS = 3600 * 10**9
#: From so many times the usual on it is critical; of a share, from so much on.
_CRITICAL, _CRITICAL_SHARE = 5.0, 0.5
NEW, SINGLE = "anomaly.new", "anomaly.single"


def kind_of(measure: Measure) -> str:
    """The finding's kind."""
    return f"anomaly.{measure.name}"


def about(subject: Subject) -> str:
    """`team search, app chat`."""
    return ", ".join(f"{name} {value}" for name, value in subject)


def unusual(
    subject: Subject, place: int, value: float, usual: float, excess: float, bucket_s: float, at_ns: int, evidence: tuple[Evidence, ...]
) -> Observation:  # fmt: skip
    """One bucket of an incident. `value` and `usual` as they are compared; `excess`: money at stake in USD, NaN for none."""
    measure = MEASURES[place]
    now, before = shown(measure, value), shown(measure, usual)
    if measure.scale is Scale.VOLUME:
        words = f"{measure.words} {told(measure.unit, now)} in {lasts(bucket_s)}, usually {told(measure.unit, before)}"
    else:
        words = f"{measure.words} is {told(measure.unit, now)}, usually {told(measure.unit, before)}"
    if measure.scale is Scale.SHARE:
        critical = measure.sign > 0 and measure.name != "share_gained" and now >= _CRITICAL_SHARE
    else:
        critical = measure.scale is Scale.VOLUME and now >= _CRITICAL * before
    return Observation(
        kind=kind_of(measure),
        subject=subject,
        at_ns=at_ns,
        message=f"{about(subject)}: {words}",
        severity=Severity.CRITICAL if critical else Severity.WARNING,
        measured=now,
        expected=before,
        unit=measure.unit,
        cost_pico=None if np.isnan(excess) else round(excess * PICO_PER_USD),
        evidence=evidence,
        quiet_ns=_DAY_NS,
    )


def over(subject: Subject, place: int, accepted: bool, at_ns: int, said: str) -> Observation:
    """An incident's end. `said`: the newest sentence about it."""
    why = "it has been so for long, and counts as usual now" if accepted else "as usual again"
    return Observation(kind_of(MEASURES[place]), subject, at_ns, f"{said}; {why}", holds=False)


def new(subject: Subject, calls: int, usd: float, at_ns: int, evidence: tuple[Evidence, ...]) -> Observation:
    """A series that was never seen before."""
    return Observation(
        kind=NEW, subject=subject, at_ns=at_ns, severity=Severity.INFO, measured=float(calls), unit="calls",
        message=f"{about(subject)} was never seen before: {calls:,} calls for {told('USD', usd)} so far",
        cost_pico=round(usd * PICO_PER_USD), evidence=evidence, quiet_ns=_HOUR_NS,
    )  # fmt: skip


def single(
    subject: Subject, cost_pico: int, usual_usd: float, at_ns: int, evidence: tuple[Evidence, ...]
) -> Observation:
    """One call that costs many times what others do."""
    usd = cost_pico / PICO_PER_USD
    return Observation(
        kind=SINGLE, subject=subject, at_ns=at_ns, measured=usd, expected=usual_usd, unit="USD", cost_pico=cost_pico,
        message=f"{about(subject)}: one call cost {told('USD', usd)}, {usd / usual_usd:,.0f} times what its calls usually cost",
        evidence=evidence, quiet_ns=_HOUR_NS,
    )  # fmt: skip


__all__: Sequence[str] = ["NEW", "SINGLE", "about", "kind_of", "new", "over", "single", "unusual"]
