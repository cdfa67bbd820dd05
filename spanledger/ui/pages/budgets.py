"""Budgets: what is used of each, where that leads, how it came to be, and what was alerted when."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import accumulate
from typing import Any

import polars as pl

from spanledger.ui import units
from spanledger.ui.ask import Value
from spanledger.ui.charts import HALF, lines, meter
from spanledger.ui.filters import DIMENSIONS
from spanledger.ui.html import Markup, Node, e
from spanledger.ui.page import View, figure, page
from spanledger.ui.sql import COST, MOVEMENTS, step_of
from spanledger.ui.tables import Column, Row, table, tile

_MOST = 20
#: Dimensions of a budget that the hourly sums have, and measures by a budget's unit.
_COLUMNS = {**DIMENSIONS, "user": "User"}
_MEASURES = {"USD": COST, "tokens": "sum(h.InputTokens) + sum(h.OutputTokens)", "calls": "sum(h.Calls)"}
#: The ledger's sum is drawn as a budget's where both say the same, but for what is under way.
_SAME = 0.02


@page("/budgets", "Budgets", "budgets")
def body(view: View) -> Node:
    alerts = _alerts(view)
    if view.source.budgets is None:
        return [e("p.note.under", "Counters are the running collector's: open its admin port for bars and projections. Its alerts stand in the store."), alerts]  # fmt: skip
    found = view.source.budgets()
    if not found:
        return [e("section.card", e("p.empty", "The collector has no budgets: add the processor ", e("code", "budgets"), " to a pipeline (docs/budgets.md).")), alerts]  # fmt: skip
    now = view.now
    rows = [(one, projected(one, subject, now)) for one in found for subject in one["subjects"]]
    over = sum(row["percent"] >= 100 for _, row in rows)
    heading = sum(row["percent"] < 100 <= (row["projected"] or 0) for _, row in rows)
    return [
        e(
            "section.tiles",
            tile("Budgets", units.count(len(found)), f"{units.count(sum(one['subjects_count'] for one in found))} subjects"),
            tile("Used up", units.count(over), "of the subjects shown", "warn" if over else ""),
            tile("Heading over", units.count(heading), "before their window ends, at this pace", "warn" if heading else ""),
            tile("Denied", units.count(sum(row["denies"] for _, row in rows)), "by the verdict, now"),
            aria_label="Totals",
        ),
        [_budget(view, one, now) for one in found],
        alerts,
    ]  # fmt: skip


def projected(budget: Mapping[str, Any], subject: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """A subject with its share in per cent, the share that the pace so far leads to at the window's end, and when its
    limit is reached; both None for a rolling window, and when nothing is used."""
    used, limit = float(subject["used"]), float(subject["limit"])
    begins, ends = budget["begins_ns"] / 1e9, budget["ends_ns"] and budget["ends_ns"] / 1e9
    at = now.timestamp()
    percent = 100 * used / limit if limit else 100.0
    end_percent, reached = None, None
    if ends is not None and used > 0:
        passed = max(at - begins, 1)
        end_percent = max(percent * (ends - begins) / passed, percent)
        when = begins + passed * limit / used
        reached = datetime.fromtimestamp(when, UTC) if at < when < ends else None
    return {**subject, "name": ", ".join(value or "(none)" for value in subject["subject"].values()) or "all calls", "used_": used, "limit_": limit, "percent": percent, "projected": end_percent, "reached": reached}  # fmt: skip


def amount(value: float, unit: str) -> str:
    return units.usd(value) if unit == "USD" else f"{units.count(value)} {unit}"


def _budget(view: View, budget: dict[str, Any], now: datetime) -> Node:
    if view.wanted_csv:
        return _burn_down(view, budget, now) if budget["subjects"] else None
    rows = [projected(budget, subject, now) for subject in budget["subjects"][:_MOST]]
    ends = datetime.fromtimestamp(budget["ends_ns"] / 1e9, UTC) if budget["ends_ns"] is not None else None
    what = f"Per {', '.join(budget['per'])}" if budget["per"] else "All calls together"
    note = f"{what}, {budget['window']}" + (f"; the window ends {units.when(ends)[:16]} UTC" if ends else "")
    more, since = budget["subjects_count"] - len(rows), budget.get("counted_since_ns")
    card = e(
        "section.card",
        e("header", e("h2", budget["budget"])),
        e("p.note", f"{note}."),
        e(
            "p.note",
            e("span.tag.warn", "incomplete"),
            f" Counted since {datetime.fromtimestamp(since / 1e9, UTC):%d %b %H:%M} UTC only: there may be more.",
        )
        if since is not None
        else None,
        e("div.body", [_bar(view, budget, row) for row in rows] or e("p.empty", "Nothing used so far in this window.")),
        e("p.note", f"And {more:,} more that used less.") if more > 0 else None,
    )
    return e("div.grid.budget-of", card, _burn_down(view, budget, now) if rows else None)


def _bar(view: View, budget: dict[str, Any], row: dict[str, Any]) -> Markup:
    """One subject: its name, a bar with the projection behind what is used, and figures."""
    soft = min((float(line["percent"]) for line in budget["thresholds"] if not line["hard"]), default=101.0)
    class_ = "full" if row["percent"] >= 100 else "near" if row["percent"] >= soft else "s0"
    filters = {name: row["subject"][name] for name in DIMENSIONS if row["subject"].get(name)}
    tags: list[Node] = []
    if row["denies"]:
        tags.append(e("span.tag.bad", "denied"))
    elif row["percent"] >= 100:
        tags.append(e("span.tag.bad", "used up"))
    elif row["reached"]:
        tags.append(e("span.tag.warn", f"used up {row['reached']:%d %b %H:%M}"))
    leads = f" · leads to {row['projected']:,.0f}%" if row["projected"] is not None and row["percent"] < 100 else ""
    name = e("a", row["name"], href=view.link("/calls", **filters)) if filters else row["name"]
    figures = (
        f"{amount(row['used_'], row['unit'])} of {amount(row['limit_'], row['unit'])} · {row['percent']:.0f}%{leads}"
    )
    return e(
        "div.budget",
        e("div.line-of", e("b", name), tags),
        meter(row["percent"], 100, class_),
        e("span.note", figures),
    )


def _burn_down(view: View, budget: dict[str, Any], now: datetime) -> Node:
    """What was left over time of the subject that used most, from the ledger; nothing where the ledger cannot tell."""
    first = projected(budget, budget["subjects"][0], now)
    if not set(first["subject"]) <= set(_COLUMNS):
        return None
    start = datetime.fromtimestamp(budget["begins_ns"] / 1e9, UTC)
    seconds = step_of((now - start).total_seconds())
    tests = "".join(f" AND h.{_COLUMNS[name]} = {{s_{name}:String}}" for name in first["subject"])
    parameters: dict[str, Value] = {"begins": start, "now": now} | {f"s_{name}": value for name, value in first["subject"].items()}  # fmt: skip
    sql = f"""SELECT toStartOfInterval(h.Hour, INTERVAL {seconds} SECOND, 'UTC') AS time, {_MEASURES[first["unit"]]} AS value
FROM {MOVEMENTS}
WHERE h.Hour >= toStartOfHour({{begins:DateTime64(6, 'UTC')}}) AND h.Hour <= {{now:DateTime64(6, 'UTC')}}{tests}
GROUP BY time
ORDER BY time"""

    def chart(frame: pl.DataFrame) -> Node:
        drawn = left(frame, first["used_"], first["limit_"], start, now, seconds)
        if drawn is None:
            return e("p.empty", "The ledger's sums are not this budget's: it counts only some of these calls.")
        if first["unit"] == "USD":
            return lines(drawn, start, now, seconds, width=HALF, height=180, label="Left of the budget over time")
        return lines(drawn, start, now, seconds, unit=units.count, axis=units.short, width=HALF, height=180, label="Left of the budget over time")  # fmt: skip

    return figure(view, f"Burn-down of {budget['budget']}", sql, chart, parameters=parameters, note=f"What was left of {amount(first['limit_'], first['unit'])} for {first['name']}, which used most.", empty="The ledger has no calls of this window.")  # fmt: skip


def left(frame: pl.DataFrame, used: float, limit: float, start: datetime, now: datetime, seconds: int) -> pl.DataFrame | None:  # fmt: skip
    """What was left at the end of each step, as a series of `time` (seconds since 1970); None where the ledger's sum is
    not what the budget counted."""
    spent = {int(time): float(value or 0) for time, value in frame.select("time", "value").iter_rows()}
    if abs(sum(spent.values()) - used) > _SAME * max(used, 1e-9):
        return None
    first = int(start.timestamp()) // seconds * seconds
    times = range(first, int((now + timedelta(seconds=1)).timestamp()), seconds)
    totals = list(accumulate(spent.get(time, 0.0) for time in times))
    return pl.DataFrame({"time": list(times), "series": ["left"] * len(totals), "value": [max(limit - total, 0.0) for total in totals]})  # fmt: skip


def _alerts(view: View) -> Markup:
    where, parameters = view.filters.where("f", time="FirstSeen", columns={"Environment": ""})
    sql = f"""SELECT f.FirstSeen AS At, f.Severity AS Severity, f.Kind AS Kind, f.Message AS Message, f.State AS State, f.FindingId AS FindingId
FROM llm_findings AS f
WHERE {where} AND startsWith(f.Kind, 'budget.')
ORDER BY At DESC, FindingId
LIMIT 50"""
    columns = (
        Column("At", "When (UTC)", cell=lambda row: e("span.nowrap", f"{row['At']:%d %b %H:%M}")),
        Column("Severity", "Severity", cell=severity),
        Column(
            "Message", "What", cell=lambda row: e("a", row["Message"], href=view.link(f"/finding/{row['FindingId']}"))
        ),
        Column("State", "State", cell=lambda row: e("span.nowrap", row["State"]), minor=True),
    )
    return figure(view, "Alerts", sql, partial(table, columns=columns, caption="Alerts"), parameters=parameters, wide=True, note="What was said about budgets in the period, each line once for each subject and window.", empty="No budget was near its limit in this period.")  # fmt: skip


def severity(row: Row) -> Node:
    """How bad, as a tag."""
    return e("span.tag", row["Severity"], class_={"critical": "bad", "warning": "warn"}.get(row["Severity"]))
