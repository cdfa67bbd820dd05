"""How much a window proves: shares and their limits, given how few calls they were counted over."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist


@dataclass(frozen=True, slots=True)
class Share:
    """A share that was counted, and within which limits it lies with the confidence asked for (Wilson's score interval)."""

    counted: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{percent(self.counted)} ({percent(self.low)} to {percent(self.high)})"


def share_of(part: float, whole: float, z: float) -> Share:
    """`part` of `whole` (above 0) calls; `z` as `deviations` gives it."""
    counted, square = part / whole, z * z
    centre = (counted + square / (2 * whole)) / (1 + square / whole)
    half = z * sqrt(counted * (1 - counted) / whole + square / (4 * whole * whole)) / (1 + square / whole)
    # The limits of all and of nothing are those themselves, whatever rounding makes of them.
    return Share(counted, max(centre - half, 0.0) if part else 0.0, min(centre + half, 1.0) if part < whole else 1.0)


def deviations(confidence: float) -> float:
    """How many standard deviations to both sides hold so much of what chance does."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


def percent(share: float) -> str:
    """`12.3%`; small ones with a digit more."""
    return f"{100 * share:.1f}%" if share >= 0.01 or not share else f"{100 * share:.2f}%"
