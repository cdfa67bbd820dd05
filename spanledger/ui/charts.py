"""Frames as SVG. Every chart is drawn twice, for wide and for narrow screens, and the stylesheet shows one: texts keep
their size. Colours are classes (`s0` … `s9`, `rest`); what the pointer is told stands in `data-tip`, and in a `<title>`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import polars as pl

from spanledger.ui import units
from spanledger.ui.html import Markup, Node, e

WIDE, HALF, NARROW = 1040, 510, 330
COLOURS = 10
_LEFT, _BOTTOM, _TOP = 52, 22, 8
_DAY = 86400
_STEPS = (60, 300, 900, 1800, 3600, 10800, 21600, 43200, *(_DAY * days for days in (1, 2, 7, 14, 28, 91)))
REST = "(all others)"
USUAL = "usual"


def both(draw: Callable[[int], Markup], width: int = WIDE) -> Markup:
    """A drawing for wide and for narrow screens."""
    return e("div.chart", e("div.at-wide", draw(width)), e("div.at-narrow", draw(NARROW)))


def colour(number: int, name: str) -> str:
    return "rest" if name == REST else "usual" if name == USUAL else f"s{number % COLOURS}"


def ticks(greatest: float, most: int = 4, *, clock: bool = False) -> list[float]:
    """Round values from 0 to at least `greatest`; of seconds (`clock`) whole minutes, hours and days, where they are more than a minute."""
    if greatest <= 0:
        return [0.0, 1.0]
    raw = greatest / most
    step = next((s for s in _STEPS if s >= raw * 0.9999), 0) if clock and greatest > _STEPS[0] else 0
    if not step:
        size = 10 ** math.floor(math.log10(raw))
        step = next(size * m for m in (1, 2, 2.5, 5, 10) if size * m >= raw * 0.9999)
    return [step * n for n in range(math.ceil(greatest / step - 1e-9) + 1)]


def moments(start: datetime, end: datetime, seconds: int) -> list[datetime]:
    """The beginnings of all steps of a period, whole in UTC."""
    first = datetime.fromtimestamp(start.timestamp() // seconds * seconds, UTC)
    number = math.ceil((end - first).total_seconds() / seconds)
    return [first + timedelta(seconds=seconds * n) for n in range(max(number, 1))]


def _series(frame: pl.DataFrame) -> list[str]:
    """The names, the greatest sum first, the rest last."""
    sums = frame.group_by("series").agg(pl.col("value").sum()).sort("value", "series", descending=[True, False])
    names = [str(name) for name in sums["series"]]
    return sorted(names, key=lambda name: name in (REST, USUAL))


def _axes(width: int, height: int, marks: Sequence[float], unit: units.Unit, times: Sequence[datetime], seconds: int) -> list[Markup]:  # fmt: skip
    inner, tall = width - _LEFT, height - _BOTTOM - _TOP
    found = []
    for value in marks:
        y = _TOP + tall * (1 - value / marks[-1])
        found += [e("line.grid", x1=_LEFT, x2=width, y1=y, y2=y), e("text.axis", unit(value), x=_LEFT - 6, y=y + 4, text_anchor="end")]  # fmt: skip
    every = _every(len(times) * seconds, max(inner // 80, 4), seconds)
    midnight = next((time for time in times if not (time.hour or time.minute)), times[0])
    origin = midnight.timestamp() if every > _DAY else 0.0
    for number, time in enumerate(times):
        # Steps of a day and more are named in their middle, shorter ones where they begin.
        x = _LEFT + inner * (number + (0.5 if seconds >= _DAY else 0)) / len(times)
        if (time.timestamp() - origin) % every == 0 and _LEFT + 14 <= x < width - 24:
            found += [e("line.tick", x1=x, x2=x, y1=height - _BOTTOM, y2=height - _BOTTOM + 4), e("text.axis", f"{time:%H:%M}" if time.hour or time.minute else f"{time:%d %b}", x=x, y=height - 5, text_anchor="middle")]  # fmt: skip
    return found


def _every(whole: float, most: float, seconds: int) -> int:
    """How far apart the times on an axis stand, in seconds: whole hours, then days, at most so many of them."""
    return next((step for step in _STEPS if step >= seconds and whole / step <= most), 364 * _DAY)


def legend(names: Sequence[str], links: Callable[[str], str | None] = lambda _: None) -> Markup:
    items = []
    for number, name in enumerate(names):
        dot = e("svg.dot", e("rect", width=10, height=10, rx=2, class_=colour(number, name)), viewBox="0 0 10 10", aria_hidden="true")  # fmt: skip
        href = links(name)
        items.append(e("li", e("a", dot, name, href=href) if href else e("span", dot, name)))
    return e("ul.legend", items)


def stacked(
    frame: pl.DataFrame,
    start: datetime,
    end: datetime,
    seconds: int,
    *,
    unit: units.Unit = units.usd,
    axis: units.Unit = units.usd_short,
    width: int = WIDE,
    height: int = 240,
    label: str = "",
    links: Callable[[str], str | None] = lambda _: None,
    marks: Sequence[tuple[datetime, str, str]] = (),
) -> Node:
    """Sums over time as stacked bars: `time` (datetime), `series`, `value`. `marks`: time, text, address of what happened."""
    names = _series(frame)
    times = moments(start, end, seconds)
    place = {time.timestamp(): number for number, time in enumerate(times)}
    grid = [[0.0] * len(names) for _ in times]
    at = {name: number for number, name in enumerate(names)}
    for time, series, value in frame.select("time", "series", "value").iter_rows():
        number = place.get(_stamp(time))
        if number is not None and value:
            grid[number][at[str(series)]] += value
    top = ticks(max((sum(column) for column in grid), default=0))
    texts = [_tip(units.when(time)[:16], names, column, unit) for time, column in zip(times, grid, strict=True)]

    def draw(wide: int) -> Markup:
        inner, tall = wide - _LEFT, height - _BOTTOM - _TOP
        step = inner / len(times)
        bar = max(step - (2 if step > 6 else 0.5), 0.5)
        columns = []
        for number, column in enumerate(grid):
            x, y = _LEFT + step * number + (step - bar) / 2, float(height - _BOTTOM)
            boxes = []
            for index, value in enumerate(column):
                if value > 0:
                    size = tall * value / top[-1]
                    y -= size
                    boxes.append(e("rect", x=x, y=y, width=bar, height=max(size, 0.3), class_=colour(index, names[index])))  # fmt: skip
            boxes.append(e("rect.hit", x=_LEFT + step * number, y=_TOP, width=step, height=tall))
            columns.append(e("g", boxes, data_tip=texts[number]))
        flags = [_flag(mark, times, seconds, step) for mark in marks if times[0] <= mark[0] <= end]
        return e("svg", _axes(wide, height, top, axis, times, seconds), columns, flags, viewBox=f"0 0 {wide} {height}", role="group" if flags else "img", aria_label=label or "Chart")  # fmt: skip

    return [both(draw, width), legend(names, links) if len(names) > 1 or names[:1] != [""] else None]


def _flag(mark: tuple[datetime, str, str], times: Sequence[datetime], seconds: int, step: float) -> Markup:
    when, text, href = mark
    x = _LEFT + step * min((when - times[0]).total_seconds() / seconds, len(times))
    shape = e("path.flag", d=f"M{x - 5:.1f} 1h10l-5 8z", data_tip=f"{text}\n{units.when(when)}")
    return e("a", shape, href=href, aria_label=text)


def lines(
    frame: pl.DataFrame,
    start: datetime,
    end: datetime,
    seconds: int,
    *,
    unit: units.Unit = units.usd,
    axis: units.Unit = units.usd_short,
    clock: bool = False,
    width: int = HALF,
    height: int = 200,
    label: str = "",
    usual: Mapping[int, tuple[float, float]] | None = None,
    during: tuple[datetime, datetime] | None = None,
) -> Node:
    """Values over time as lines: `time`, `series`, `value`; a moment without a value is a gap. They are seconds (`clock`) or
    not. Behind them a band from and to what is `usual`, by seconds since 1970, and the time `during` which something was so."""
    names = _series(frame)
    times = moments(start, end, seconds)
    values: dict[str, dict[float, float]] = {name: {} for name in names}
    for time, series, value in frame.select("time", "series", "value").iter_rows():
        if value is not None and math.isfinite(value):
            values[str(series)][_stamp(time)] = float(value)
    highest = max((high for _, high in (usual or {}).values()), default=0)
    top = ticks(
        max(highest, max((max(points.values(), default=0) for points in values.values()), default=0)), clock=clock
    )
    stamps = [time.timestamp() for time in times]

    def draw(wide: int) -> Markup:
        inner, tall = wide - _LEFT, height - _BOTTOM - _TOP
        step = inner / len(times)

        def point(number: int, value: float) -> str:
            return f"{_LEFT + step * (number + 0.5):.1f} {_TOP + tall * (1 - value / top[-1]):.1f}"

        drawn: list[Markup] = []
        if during is not None:
            left, right = (min(max((m - times[0]).total_seconds() / seconds, 0), len(times)) for m in during)
            drawn.append(e("rect.during", x=_LEFT + step * left, y=_TOP, width=max(step * (right - left), 3), height=tall, data_tip=f"Seen\n{units.when(during[0])}\n{units.when(during[1])}"))  # fmt: skip
        known = [(number, usual[int(stamp)]) for number, stamp in enumerate(stamps) if usual and int(stamp) in usual]
        if known:
            edge = [point(number, high) for number, (_, high) in known] + [point(number, low) for number, (low, _) in reversed(known)]  # fmt: skip
            drawn.append(e("path.range", d="M" + "L".join(edge) + "Z"))
        for index, name in enumerate(names):
            path, before = [], False
            for number, stamp in enumerate(stamps):
                value = values[name].get(stamp)
                if value is not None:
                    alone = not before and (number + 1 == len(stamps) or stamps[number + 1] not in values[name])
                    path.append(f"{'L' if before else 'M'}{point(number, value)}" + ("m-2 0h4" if alone else ""))
                before = value is not None
            drawn.append(e("path.line", d="".join(path), class_=colour(index, name)))
        hits = [
            e("rect.hit", x=_LEFT + step * number, y=_TOP, width=step, height=tall, data_tip=_tip(units.when(time)[:16], names, [values[name].get(stamp) for name in names], unit))
            for number, (time, stamp) in enumerate(zip(times, stamps, strict=True))
        ]  # fmt: skip
        return e("svg", _axes(wide, height, top, axis, times, seconds), drawn, hits, viewBox=f"0 0 {wide} {height}", role="img", aria_label=label or "Chart")  # fmt: skip

    return [both(draw, width), legend(names) if len(names) > 1 else None]


def _tip(head: str, names: Sequence[str], column: Sequence[float | None], unit: units.Unit) -> str:
    found = [(name, value) for name, value in zip(names, column, strict=True) if value]
    total = sum(value for _, value in found)
    rows = [f"{name or 'value'}\t{unit(value)}" for name, value in found]
    return "\n".join([head + (f"\t{unit(total)}" if len(found) > 1 else ""), *rows] if rows else [head, "nothing"])


def meter(value: float, greatest: float, class_: str = "s0") -> Markup:
    """A bar of a share, for a table's cell."""
    width = 100 * min(max(value / greatest, 0), 1) if greatest > 0 else 0
    return e("svg.meter", e("rect.track", width=100, height=6), e("rect", width=float(width), height=6, class_=class_), viewBox="0 0 100 6", preserveAspectRatio="none", aria_hidden="true")  # fmt: skip


def _stamp(time: datetime | int) -> float:
    """Seconds since 1970. ClickHouse's DateTime comes as a number of them in Arrow, DateTime64 as a time."""
    if isinstance(time, int):
        return float(time)
    return (time.replace(tzinfo=UTC) if time.tzinfo is None else time).timestamp()
