"""How many calls are to be expected when: days, weeks, days off, growth, launches and bursts.

None of this is an incident. Everything is relative to the start of the month, and drawn by the world's seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from spanledger.demo.company import Rhythm, Workload, World

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
S_NS = 10**9
SLOT_S = 300
SLOTS = 86400 // SLOT_S  # of a day
DAY_NS = 86400 * S_NS
HOUR_NS = 3600 * S_NS

_HOURS = np.arange(25)
#: Calls by local hour, at whole hours; in between they are interpolated.
_OFFICE = np.array([2, 1, 1, 1, 1, 2, 5, 18, 55, 90, 100, 95, 65, 75, 98, 96, 85, 60, 30, 16, 10, 7, 4, 3, 2], float)
_CONSUMER = np.array([35, 22, 14, 10, 9, 12, 22, 38, 52, 60, 64, 68, 72, 70, 68, 70, 74, 82, 92, 99, 100, 92, 72, 50, 35], float)  # fmt: skip
_STEADY = np.array([88, 86, 85, 84, 84, 85, 88, 92, 97, 100, 101, 102, 101, 102, 103, 103, 102, 100, 98, 96, 94, 92, 90, 89, 88], float)  # fmt: skip
_PROFILES = {Rhythm.OFFICE: _OFFICE, Rhythm.CONSUMER: _CONSUMER, Rhythm.STEADY: _STEADY}
#: What is left of a working day on Saturday and Sunday; a day off is like a Sunday.
_WEEKEND = {Rhythm.OFFICE: (0.15, 0.12), Rhythm.CONSUMER: (1.12, 1.08), Rhythm.STEADY: (0.95, 0.93), Rhythm.BATCH: (1.0, 1.0)}  # fmt: skip
_LAUNCHING = 0.15  # share of apps that launch something in a month
_BURSTS = 0.12  # a day, of apps that people use


@dataclass(frozen=True, slots=True)
class Launch:
    """A product launch: more calls from a day on, slowly."""

    day: int
    days: float  # until all of it is there
    factor: float

    def at(self, days: F64) -> F64:
        """Factor at moments, in days since the start."""
        return 1 + (self.factor - 1) * np.clip((days - self.day) / self.days, 0, 1)


class Calendar:
    """What is known of a month beforehand: who launches what, and which days are off, by time zone."""

    def __init__(self, world: World, start_ns: int) -> None:
        draw = np.random.default_rng([world.seed, 1])
        self._workloads = world.workloads
        self._start_ns = start_ns
        self.launches: dict[str, Launch] = {}
        for one in world.workloads:
            launched, day, days, factor = draw.random(), int(draw.integers(4, 25)), draw.uniform(2, 6), draw.uniform(1.25, 1.7)  # fmt: skip
            if launched < _LAUNCHING and one.rhythm is not Rhythm.BATCH:
                self.launches[one.app] = Launch(day, days, factor)
        zones = sorted({one.zone for one in world.workloads})
        self.days_off = {zone: frozenset(draw.choice(np.arange(5, 29), 1 + int(draw.random() < 0.4), replace=False).tolist()) for zone in zones}  # fmt: skip

    def rates(self, day: int, draw: np.random.Generator) -> F64:
        """Calls to be expected in each slot of a day (from 0), by workload: [workload, slot]."""
        at_s = self._start_ns // S_NS + day * 86400 + SLOT_S * np.arange(SLOTS) + SLOT_S // 2
        clocks = {zone: _local(zone, at_s) for zone in self.days_off}
        elapsed = day + (np.arange(SLOTS) + 0.5) / SLOTS
        return np.stack([self._rate(one, clocks[one.zone], elapsed, draw) for one in self._workloads])

    def _rate(self, one: Workload, local_s: I64, elapsed: F64, draw: np.random.Generator) -> F64:
        hours, days = local_s % 86400 / 3600, local_s // 86400
        off = np.isin(days - self._start_ns // DAY_NS, list(self.days_off[one.zone]))
        weekday = np.where(off, 6, (days + 3) % 7)  # the first of January 1970 was a Thursday; Monday is 0
        saturday, sunday = _WEEKEND[one.rhythm]
        shape = _shape(one, hours) * np.select([weekday == 5, weekday == 6], [saturday, sunday], 1.0)
        rate = shape * one.calls_a_day * (1 + one.growth) ** (elapsed / 30)
        launch = self.launches.get(one.app)
        if launch is not None:
            rate = rate * launch.at(elapsed)
        # Days differ, and so do five minutes beyond what chance does with calls that know nothing of one another.
        rate = rate * draw.lognormal(0, 0.08) * draw.gamma(25, 1 / 25, SLOTS)
        for _ in range(int(draw.poisson(_BURSTS))):
            first, slots, factor = int(draw.integers(SLOTS)), int(draw.integers(2, 9)), draw.uniform(1.5, 3.0)
            if one.rhythm in (Rhythm.OFFICE, Rhythm.CONSUMER):
                rate[first : first + slots] *= factor
        found: F64 = rate
        return found


def _local(zone: str, at_s: I64) -> I64:
    """Unix seconds as the clocks of a zone show them. These change at a full hour of UTC, where anybody changes them."""
    tz = ZoneInfo(zone)
    hours, place = np.unique(at_s // 3600, return_inverse=True)
    offsets = [datetime.fromtimestamp(hour * 3600, tz).utcoffset() or timedelta() for hour in hours.tolist()]
    found: I64 = at_s + np.array([round(offset.total_seconds()) for offset in offsets], np.int64)[place]
    return found


def _shape(one: Workload, hours: F64) -> F64:
    """Share of a day's calls in a slot at each time of day."""
    if one.rhythm is Rhythm.BATCH:
        since = (hours - one.job_hour) % 24
        working = np.where(since < one.job_hours, 1.0, 0.0)
        found: F64 = working * SLOT_S / 3600 / one.job_hours
        return found
    profile = _PROFILES[one.rhythm]
    shape: F64 = np.interp(hours, _HOURS, profile) / profile[:-1].sum() * (SLOT_S / 3600)
    return shape


__all__ = ["DAY_NS", "HOUR_NS", "SLOTS", "SLOT_S", "S_NS", "Calendar", "Launch"]
