"""Windows in any zone, at any moment of a clock change: each moment lies in one, and the next begins where it ends."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from collector.windows import Calendar, Kind

#: Clocks that change at midnight, by half an hour, or over a whole day; offsets of half and quarter hours; both halves of the globe.
ZONES = ("Europe/Berlin", "America/New_York", "America/Havana", "America/Asuncion", "Africa/Cairo", "Asia/Beirut", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia")  # fmt: skip
S = 10**9
MOMENTS = st.datetimes(datetime(2005, 1, 1), datetime(2037, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))


def first_day(day: date, kind: Kind) -> date:
    if kind == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if kind == "month" else day


@settings(deadline=None, max_examples=300)
@given(
    zone=st.sampled_from(ZONES),
    kind=st.sampled_from(["day", "week", "month"]),
    at=MOMENTS,
    minutes=st.integers(0, 24 * 60),
)
@example(zone="Pacific/Apia", kind="day", at=datetime(2011, 12, 29, 22, tzinfo=UTC), minutes=900)  # there was no 30th
@example(zone="America/Havana", kind="day", at=datetime(2024, 11, 3, 4, tzinfo=UTC), minutes=90)  # midnight came twice
@example(
    zone="Africa/Cairo", kind="month", at=datetime(2024, 4, 25, 21, tzinfo=UTC), minutes=60
)  # and here it did not come
def test_a_moment_lies_in_the_window_of_its_local_date(zone: str, kind: Kind, at: datetime, minutes: int) -> None:
    place = ZoneInfo(zone)
    window = Calendar(kind, place)
    moments = [int(at.timestamp()) * S, int(at.timestamp() + minutes * 60) * S + 1]
    starts = window.starts(np.array(moments)).tolist()
    for ns, start in zip(moments, starts, strict=True):
        assert start == window.start(ns)
        end = window.end(start)
        assert start <= ns < end
        assert (window.start(start), window.start(end - 1), window.start(end)) == (start, start, end)
        assert datetime.fromtimestamp(start // S, place).date() == first_day(datetime.fromtimestamp(ns // S, place).date(), kind)  # fmt: skip


@settings(deadline=None, max_examples=100)
@given(zone=st.sampled_from(ZONES), at=MOMENTS)
@example(zone="Australia/Lord_Howe", at=datetime(2024, 4, 6, 15, 15, tzinfo=UTC))  # half an hour comes twice
@example(zone="Europe/Berlin", at=datetime(2024, 10, 27, 0, 30, tzinfo=UTC))
def test_an_hour_that_comes_twice_is_two_hours(zone: str, at: datetime) -> None:
    window, ns = Calendar("hour", ZoneInfo(zone)), int(at.timestamp()) * S
    start = window.start(ns)
    assert start <= ns < window.end(start)
    assert datetime.fromtimestamp(start // S, UTC).minute in (0, 15, 30)
    if zone == "Europe/Berlin":
        assert start == ns - ns % (3600 * S)
