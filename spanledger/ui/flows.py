"""Who asked for what and who answered, as bands between two columns of names; and what is usual, from what was before."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from spanledger.ui import units
from spanledger.ui.charts import COLOURS, both
from spanledger.ui.html import Markup, Node, e

_GAP, _NODE, _LEAST = 10, 10, 14


def flows(frame: pl.DataFrame, *, unit: units.Unit = units.count, label: str = "") -> Node:
    """A Sankey diagram of `source`, `target`, `value`. Names stand inside of the drawing, so that it fits a phone."""
    frame = frame.select(pl.col("source").cast(pl.String), pl.col("target").cast(pl.String), pl.col("value").cast(pl.Float64)).filter(pl.col("value") > 0)  # fmt: skip
    if not frame.height:
        return e("p.empty", "Nothing flows.")
    left, right = _sums(frame, "source"), _sums(frame, "target")
    total = sum(left.values())

    def draw(width: int) -> Markup:
        most = max(len(left), len(right))
        height = max(160, most * (_LEAST + _GAP) * 1.4)
        scale = (height - most * (_GAP + _LEAST)) / total
        starts, ends = _places(left, scale, height), _places(right, scale, height)
        used_left, used_right = dict.fromkeys(left, 0.0), dict.fromkeys(right, 0.0)
        x1, x2 = _NODE, width - _NODE
        middle = (x1 + x2) / 2
        bands = []
        order = list(left)
        at = {name: number for number, name in enumerate(right)}
        for source, target, value in sorted(frame.iter_rows(), key=lambda row: (order.index(row[0]), at[row[1]])):
            a, size_a = starts[source][0] + used_left[source], starts[source][1] * value / left[source]
            b, size_b = ends[target][0] + used_right[target], ends[target][1] * value / right[target]
            used_left[source] += size_a
            used_right[target] += size_b
            path = f"M{x1} {a:.1f}C{middle} {a:.1f} {middle} {b:.1f} {x2} {b:.1f}V{b + size_b:.1f}C{middle} {b + size_b:.1f} {middle} {a + size_a:.1f} {x1} {a + size_a:.1f}Z"
            bands.append(e("path.flow", d=path, class_=f"s{order.index(source) % COLOURS}", data_tip=f"{source} → {target}\n{unit(value)}\t{units.share(value / total)}"))  # fmt: skip
        nodes = []
        for places, sums, x, anchor, text_x in ((starts, left, 0, "start", _NODE + 5), (ends, right, x2, "end", x2 - 5)):  # fmt: skip
            for name, (y, size) in places.items():
                nodes.append(e("rect.knot", x=x, y=y, width=_NODE, height=size, rx=2))
                nodes.append(e("text.name", _cut(name, width), x=text_x, y=y + size / 2 + 4, text_anchor=anchor, data_tip=f"{name}\n{unit(sums[name])}"))  # fmt: skip
        return e("svg", bands, nodes, viewBox=f"0 0 {width} {height:.0f}", role="img", aria_label=label or "Flows")

    return both(draw)


def _sums(frame: pl.DataFrame, column: str) -> dict[str, float]:
    """Names with their sums, the greatest first."""
    sums = frame.group_by(column).agg(pl.col("value").sum()).sort("value", column, descending=[True, False])
    return dict(sums.iter_rows())


def _places(sums: dict[str, float], scale: float, height: float) -> dict[str, tuple[float, float]]:
    """Top and height of each name's box, spread over the height."""
    sizes = {name: _LEAST + value * scale for name, value in sums.items()}
    gap = (height - sum(sizes.values())) / max(len(sizes), 1)
    found, y = {}, gap / 2
    for name, size in sizes.items():
        found[name] = (y, size)
        y += size + gap
    return found


def _cut(name: str, width: int) -> str:
    most = 40 if width > 600 else 19
    return name if len(name) <= most else name[: most - 1] + "…"


def usual_range(
    frame: pl.DataFrame, first: datetime, start: datetime, end: datetime, absent: float | None = 0.0
) -> dict[int, tuple[float, float]]:
    """From and to where eight in ten of the same hours of the day lay before `first`, for each hour of a period; hours
    by seconds since 1970. Empty where fewer than three days are known. `absent`: the value of an hour without a row, None
    where it has none."""
    hour, day = 3600, 86400
    begin, until, stop = (int(m.timestamp()) // hour * hour for m in (start, first, end))
    rows = _rows(frame, absent)
    oldest = min((time for time in rows if time < until), default=until)
    if until - oldest < 3 * day:
        return {}
    found = {}
    for of_day in range(24):
        values = _same_hours(rows, oldest, until, of_day, absent)
        if len(values):
            found[of_day] = float(values.quantile(0.1, "linear") or 0), float(values.quantile(0.9, "linear") or 0)
    return {t: found[t // hour % 24] for t in range(begin, stop + 1, hour) if t // hour % 24 in found}


def _rows(frame: pl.DataFrame, absent: float | None) -> dict[int, float]:
    """Values by seconds since 1970."""
    rows = frame.select("time", "value").iter_rows()
    return {int(time): float(value or 0) for time, value in rows if absent is not None or value is not None}


def _same_hours(rows: dict[int, float], oldest: int, until: int, of_day: int, absent: float | None) -> pl.Series:
    """What the hours had that are the nth of their day."""
    times = (t for t in range(oldest, until, 3600) if t // 3600 % 24 == of_day)
    return pl.Series([v for t in times if (v := rows.get(t, absent)) is not None], dtype=pl.Float64)


def against_usual(
    frame: pl.DataFrame, first: datetime, start: datetime, end: datetime, absent: float | None = 0.0
) -> pl.DataFrame:
    """Hourly `time` (seconds since 1970), `value` as two series: measured, and usual: the median of the same hour of the
    day in the days before `first`, as far as there are rows. `absent`: the value of an hour without a row, None where it has none."""
    hour = 3600
    begin, until, stop = (int(m.timestamp()) // hour * hour for m in (start, first, end))
    rows = _rows(frame, absent)
    known = [time for time in rows if time < until]
    measured = [
        {"time": t, "series": "measured", "value": value}
        for t in range(begin, stop + 1, hour)
        if (value := rows.get(t, absent)) is not None
    ]
    if not known:
        return pl.DataFrame(measured)
    oldest, usual = min(known), {}
    for of_day in range(24):
        values = _same_hours(rows, oldest, until, of_day, absent)
        if len(values):
            usual[of_day] = float(values.median())  # type: ignore[arg-type]
    expected = [{"time": t, "series": "usual", "value": usual[t // hour % 24]} for t in range(begin, stop + 1, hour) if t // hour % 24 in usual]  # fmt: skip
    return pl.DataFrame([*measured, *expected])
