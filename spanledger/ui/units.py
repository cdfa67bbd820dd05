"""How figures read: money, counts, times, shares. Empty stands for unknown as a dash, never as zero."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime

DASH = "–"
Unit = Callable[[float], str]


def usd(value: float | None) -> str:
    """Money of a sum: cents, more digits below a dollar."""
    if value is None:
        return DASH
    if value == 0:
        return "$0"
    size = abs(value)
    digits = 2 if size >= 1 else 4 if size >= 0.01 else 6
    return f"{'-' if value < 0 else ''}${size:,.{digits}f}"


def usd_short(value: float) -> str:
    """Money on an axis."""
    return ("-$" if value < 0 else "$") + short(abs(value)) if value else "$0"


def usd_call(value: float | None) -> str:
    """Money of one call: always six digits, so that a column lines up."""
    return DASH if value is None else f"{'-' if value < 0 else ''}${abs(value):,.6f}"


def count(value: float | None) -> str:
    return DASH if value is None else f"{round(value):,}"


def short(value: float) -> str:
    """A number in few characters: 950, 1.2k, 35M."""
    for step, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= step:
            return f"{value / step:.3g}{letter}"
    if value and abs(value) < 1:
        return f"{value:.2g}" if abs(value) >= 1e-4 else f"{value:.0e}"
    return f"{value:.3g}"


def share(value: float | None) -> str:
    return DASH if value is None or math.isnan(value) else f"{value * 100:.1f}%"


def change(value: float | None) -> str:
    """A relative difference with its sign."""
    return DASH if value is None or math.isnan(value) else f"{value * 100:+.1f}%"


def took(nanoseconds: float | None) -> str:
    """A length of time."""
    if nanoseconds is None:
        return DASH
    if nanoseconds >= 60e9:
        minutes, seconds = divmod(round(nanoseconds / 1e9), 60)
        return f"{minutes} min {seconds:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
    for size, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if nanoseconds >= size:
            value = nanoseconds / size
            return f"{value:.0f} {unit}" if value >= 100 or unit == "µs" else f"{value:.3g} {unit}"
    return f"{nanoseconds:.0f} ns"


def when(value: datetime | None) -> str:
    return DASH if value is None else f"{value:%Y-%m-%d %H:%M:%S}"


def bucket(value: datetime, seconds: float) -> str:
    """A moment on an axis whose steps are `seconds` long."""
    return f"{value:%d %b}" if seconds >= 86400 else f"{value:%d %b %H:%M}"
