"""Windows of time that things are summed in: calendar ones in a time zone, and rolling ones as rows of equal steps.

Times are Unix nanoseconds. A window is named by its start.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol
from zoneinfo import ZoneInfo

import numpy as np

from collector.otlp.tables import I64

S_NS = 10**9
#: No zone of this century changes its clock elsewhere than at a quarter of an hour.
QUARTER_NS = 900 * S_NS
_REMEMBERED = 4096
#: Into how many steps a rolling window is cut: what it sums is right to one of them.
ROLLING_STEPS = 48
_LEAST_STEP_NS = 60 * S_NS

Kind = Literal["hour", "day", "week", "month"]


class Window(Protocol):
    """How time is cut."""

    @property
    def steps(self) -> int:
        """How many cuts in a row are summed; 1: each stands alone."""
        ...

    def start(self, ns: int) -> int:
        """Start of the cut that a moment lies in."""
        ...

    def end(self, start: int) -> int:
        """Where the cut that begins at `start` ends; the moment itself is in the next one."""
        ...

    def starts(self, ns: I64) -> I64:
        """`start` of many."""
        ...


@dataclass(frozen=True, slots=True)
class Calendar:
    """Hours, days, weeks (from Monday) or months of a time zone, however long its clock changes make them."""

    kind: Kind
    zone: ZoneInfo
    _known: dict[int, int] = field(default_factory=dict, compare=False, repr=False)  # quarter of an hour → start
    _ends: dict[int, int] = field(default_factory=dict, compare=False, repr=False)  # start → end

    @property
    def steps(self) -> int:
        return 1

    def start(self, ns: int) -> int:
        quarter = ns // QUARTER_NS
        found = self._known.get(quarter)
        if found is None:
            found = _remember(self._known, quarter, self._start(quarter * QUARTER_NS))
        return found

    def _start(self, ns: int) -> int:
        local = datetime.fromtimestamp(ns // S_NS, self.zone)
        if self.kind == "hour":
            # Minutes past the hour, not the hour by name: when clocks go back the same hour comes twice.
            return ns - (local.minute * 60 + local.second) * S_NS
        day = local.replace(hour=0, minute=0, second=0, fold=0)
        if self.kind == "week":
            day -= timedelta(days=day.weekday())
        elif self.kind == "month":
            day = day.replace(day=1)
        return _unix_ns(day)

    def end(self, start: int) -> int:
        found = self._ends.get(start)
        return _remember(self._ends, start, self._end(start)) if found is None else found

    def _end(self, start: int) -> int:
        if self.kind == "hour":
            return start + 3600 * S_NS
        # A day that begins with a clock change begins later than midnight: twelve hours on it is the same day anywhere.
        day = datetime.fromtimestamp(start // S_NS, self.zone) + timedelta(hours=12)
        day = day.replace(hour=0, minute=0, second=0, fold=0)
        if self.kind == "month":
            return _unix_ns((day.replace(day=1) + timedelta(days=32)).replace(day=1))
        return _unix_ns(day + timedelta(days=7 if self.kind == "week" else 1))

    def starts(self, ns: I64) -> I64:
        if not len(ns):
            return ns
        first, last = int(ns.min()), int(ns.max())
        start = self.start(first)
        if last < self.end(start):
            return np.full(len(ns), start)
        quarters, inverse = np.unique(ns // QUARTER_NS, return_inverse=True)
        table = np.array([self.start(quarter * QUARTER_NS) for quarter in quarters.tolist()], np.int64)
        found: I64 = table[inverse]
        return found

    def __str__(self) -> str:
        return f"{self.kind} {self.zone.key}"


@dataclass(frozen=True, slots=True)
class Rolling:
    """The last so many nanoseconds, which move on by steps."""

    length_ns: int

    @property
    def step_ns(self) -> int:
        return max(self.length_ns // ROLLING_STEPS, _LEAST_STEP_NS)

    @property
    def steps(self) -> int:
        return -(-self.length_ns // self.step_ns)

    def start(self, ns: int) -> int:
        return ns - ns % self.step_ns

    def end(self, start: int) -> int:
        return start + self.step_ns

    def starts(self, ns: I64) -> I64:
        found: I64 = ns - ns % self.step_ns
        return found

    def __str__(self) -> str:
        return f"rolling {self.length_ns}"


def zone_of(name: str) -> ZoneInfo:
    """A time zone by its name. Raises ValueError that says what is wrong with it."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"no time zone {name!r}; write one such as UTC or Europe/Berlin") from None


def iso(ns: int, zone: Any = UTC) -> str:
    """`2026-11-24T00:00:00+01:00`."""
    return datetime.fromtimestamp(ns // S_NS, zone).isoformat()


def _remember(known: dict[int, int], key: int, value: int) -> int:
    """Calendars are slow to ask; whoever sends calls from all over time must not fill the memory either."""
    if len(known) >= _REMEMBERED:
        known.clear()
    known[key] = value
    return value


def _unix_ns(moment: datetime) -> int:
    return round(moment.timestamp()) * S_NS


__all__ = ["ROLLING_STEPS", "Calendar", "Kind", "Rolling", "Window", "iso", "zone_of"]
