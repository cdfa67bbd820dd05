"""Quiet hours: how long they still last."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from exporters.notify.config import QuietHours


def left(hours: QuietHours, now: float) -> float:
    """For how many seconds from `now` (Unix time) it is still quiet; 0 where it is not."""
    zone = ZoneInfo(hours.time_zone)
    start, end = hours.bounds
    here = datetime.fromtimestamp(now, zone)
    clock = here.time()
    over_midnight = start > end
    quiet = (clock >= start or clock < end) if over_midnight else start <= clock < end
    if not quiet:
        return 0.0
    day = here.date() + timedelta(days=1) if over_midnight and clock >= start else here.date()
    # By timestamp, so that a clock that is changed meanwhile does not matter.
    return max(datetime.combine(day, end, zone).timestamp() - now, 0.0)
