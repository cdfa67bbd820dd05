"""From alarms to findings: what several series and measures say of the same calls is one incident, and told once.

An alarm is of an incident where most of what is too much about it is calls of the incident's series, and its measure moves with
the incident's. Told is the measure nearest to the cause (a cache that is hit no more, not the cost per call that follows from
it), and of the series that say so the narrowest that has most of the excess: an app where all of its team is over because of
it, and the provider where many apps are slow because of one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collector.otlp.tables import I64
from processors.anomaly.measures import MEASURES, MILLI, PLACES, Scale, Sum

F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]
#: Part of a sign's excess that another series must have to be of the same incident.
_SAME = 0.5
#: Part of the largest excess that the series told of must have.
_EXPLAINS = 0.6
#: A series is seen as part of a wider one that has so many calls beside it, and there so much of its excess per call.
_BESIDE, _LIKE = 0.1, 0.5
#: By places: whether a measure makes another one move.
CAUSES = np.zeros((len(MEASURES), len(MEASURES)), np.bool_)
for _place, _measure in enumerate(MEASURES):
    for _name in _measure.follows:
        CAUSES[_place, PLACES[_name]] = True
#: Measures that much is a cause of: where one of these was told, a cause that shows later adds nothing.
_EFFECTS = np.array([measure.rank >= 4 for measure in MEASURES])
#: By place of what was told and of a sign: whether the sign says no more than what was told.
EXPLAINS = np.eye(len(MEASURES), dtype=np.bool_) | CAUSES | (CAUSES.T & _EFFECTS[:, None])


@dataclass(slots=True)
class Sign:
    """An alarm of one series and measure that begins, or nearly does (hot)."""

    name: str  # of the series
    slot: int
    scope: int
    place: int  # of the measure
    size: float  # its excess since the evidence began, in units of the measure
    level: float  # what is usual
    hot: bool = False


@dataclass(slots=True)
class Incident:
    """One that was told. Open until its own alarm ends."""

    name: str
    place: int
    began: int  # bucket
    last: int  # bucket in which it was open
    open: bool = True
    said: str = ""  # the newest sentence about it

    def written(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class Traffic:
    """Which calls of late are of which series.

    sums:     [groups, SUMS]
    slots:    [groups, scopes], the slot of each scope's series that a group belongs to, -1 for none
    expected: [groups, COUNT], what the sum of a measure usually comes to for such calls; NaN where it is not known
    kin:      a number that series have in common which share the calls of one group, by slot
    """

    def __init__(self, sums: I64, slots: I64, expected: F64, kin: Mapping[int, int]) -> None:
        self._sums, self._slots, self._expected, self._kin = sums, slots, expected, kin

    def mask(self, scope: int, slot: int) -> Mask:
        """The groups of a series."""
        found: Mask = self._slots[:, scope] == slot
        return found

    def touched(self, scope: int, slot: int, place: int) -> Mask:
        """The groups that an incident of a series may show in: where shares move, those of the series beside it too."""
        kin = self._kin.get(slot)
        if kin is None or MEASURES[place].of is not Sum.GROUP:
            return self.mask(scope, slot)
        found: Mask = np.isin(self._slots[:, scope], [other for other, number in self._kin.items() if number == kin])
        return found

    def calls(self, mask: Mask) -> int:
        """How many calls these groups have."""
        return int(self._sums[mask, Sum.CALLS].sum())

    def _came(self, sign: Sign) -> tuple[F64, F64, F64]:
        """By group: the sum of the measure, what it usually comes to, and of how much."""
        measure = MEASURES[sign.place]
        total, of = self._sums[:, measure.total].astype(np.float64), self._sums[:, measure.of].astype(np.float64)
        if measure.scale is Scale.LOG:
            total /= MILLI
        if not measure.alike:
            return total, sign.level * of, of
        usual = self._expected[:, sign.place]
        return total, np.where(np.isnan(usual), sign.level * of, usual), of

    def excess(self, sign: Sign) -> F64:
        """Where what is too much is, by group: 0 outside the sign's series."""
        measure = MEASURES[sign.place]
        total, usual, _ = self._came(sign)
        found = total if measure.scale is Scale.VOLUME or measure.of is Sum.GROUP else (total - usual) * measure.sign
        return np.where(self.mask(sign.scope, sign.slot), np.maximum(found, 0.0), 0.0)

    def alike_beside(self, wider: Sign, sign: Sign) -> bool:
        """Whether a wider series has a like excess beside that of a narrower one: then it is about the wider one."""
        measure = MEASURES[wider.place]
        if measure.scale is Scale.VOLUME or measure.of is Sum.GROUP:
            return False
        total, usual, of = self._came(wider)
        inside, mask = self.mask(sign.scope, sign.slot), self.mask(wider.scope, wider.slot)
        within, beside = inside & mask, mask & ~inside
        if of[within].sum() < 0.9 * of[inside].sum() or of[beside].sum() < _BESIDE * of[within].sum():
            return False
        excess = (total - usual) * measure.sign
        there, here = (
            float(excess[beside].sum() / of[beside].sum()),
            float(excess[within].sum() / max(of[within].sum(), 1.0)),
        )
        return there >= _LIKE * here > 0

    def measured(self, sign: Sign) -> tuple[float, float]:
        """The measure over all of it, and what is usual. Of rates: what no bucket's sums say of a series without calls."""
        total, usual, of = (values[self.mask(sign.scope, sign.slot)].sum() for values in self._came(sign))
        return float(total / max(of, 1.0)), float(usual / max(of, 1.0))


class Incidents:
    """Those that are open, or were a moment ago.

    cool_down: for so many buckets an incident that ended still explains what begins
    follows:   for so many an open one explains, after it began, what is no consequence of its measure
    """

    def __init__(self, cool_down: int, follows: int) -> None:
        self._cool_down, self._follows = cool_down, follows
        self.known: list[Incident] = []

    def tell(
        self, signs: Sequence[Sign], traffic: Traffic, where: Mapping[str, tuple[int, int]], bucket: int
    ) -> list[Sign]:
        """Of the signs of a bucket those to be told. `where`: scope and slot of a series."""
        self.known = [one for one in self.known if one.open or bucket - one.last <= self._cool_down]
        told: list[Sign] = []
        for sign in sorted((s for s in signs if not s.hot), key=lambda s: (MEASURES[s.place].rank, -s.size, s.name)):
            if not self.explains(sign, traffic, where, bucket):
                lead = _lead(sign, signs, traffic)
                if not any(one.open and (one.name, one.place) == (lead.name, lead.place) for one in self.known):
                    told.append(lead)
                    self.known.append(Incident(lead.name, lead.place, bucket, bucket))
        return told

    def explains(self, sign: Sign, traffic: Traffic, where: Mapping[str, tuple[int, int]], bucket: int) -> bool:
        """Whether a sign is one more of an incident that is known."""
        excess = traffic.excess(sign)
        for one in self.known:
            if not EXPLAINS[one.place, sign.place] or (one.open and self._old(one, sign.place, bucket)):
                continue
            if sign.name == one.name:
                return True
            scope, slot = where.get(one.name, (0, -2))
            if slot >= 0 and _part(excess, traffic.touched(scope, slot, one.place)) >= _SAME:
                return True
        return False

    def _old(self, incident: Incident, place: int, bucket: int) -> bool:
        """Whether an open incident began too long ago to explain a measure that is no consequence of its own."""
        return not CAUSES[incident.place, place] and bucket - incident.began > self._follows

    def covers(
        self, sign: Sign, place: int, traffic: Traffic, where: Mapping[str, tuple[int, int]], bucket: int
    ) -> bool:
        """Whether most calls of a series are those of an incident that has to do with a measure."""
        one = replace(sign, place=PLACES["calls"])
        excess = traffic.excess(one)
        for incident in self.known:
            scope, slot = where.get(incident.name, (0, -2))
            if (
                slot < 0
                or not EXPLAINS[incident.place, place]
                or (incident.open and self._old(incident, place, bucket))
            ):
                continue
            if _part(excess, traffic.mask(scope, slot)) >= _SAME:
                return True
        return False


def _lead(sign: Sign, signs: Sequence[Sign], traffic: Traffic) -> Sign:
    """What is told for a sign: the cause that shows in the same calls, by the narrowest series that has most of the excess."""
    excess, own = traffic.excess(sign), traffic.mask(sign.scope, sign.slot)
    alike = [sign]
    for other in signs:
        if other is sign or (other.place != sign.place and not CAUSES[other.place, sign.place]):
            continue
        if _part(excess, traffic.mask(other.scope, other.slot)) >= _SAME or _part(traffic.excess(other), own) >= _SAME:
            alike.append(other)
    rank = min(MEASURES[one.place].rank for one in alike)
    place = min(one.place for one in alike if MEASURES[one.place].rank == rank)
    alike = [one for one in alike if one.place == place]
    most = max(one.size for one in alike)
    enough = [one for one in alike if one.size >= _EXPLAINS * most]
    enough.sort(key=lambda one: (traffic.calls(traffic.mask(one.scope, one.slot)), -one.name.count("\x1f"), one.name))
    lead = enough[0]
    for wider in enough[1:]:
        if traffic.alike_beside(wider, lead):
            lead = wider
    return lead


def _part(excess: F64, mask: Mask) -> float:
    total = float(excess.sum())
    return float(excess[mask].sum()) / total if total > 0 else 0.0
