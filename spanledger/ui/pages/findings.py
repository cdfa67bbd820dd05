"""Findings: what is wrong, the dearest first; and one of them, with what was usual behind what was measured."""

from __future__ import annotations

from datetime import UTC, timedelta
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

import polars as pl

from spanledger.ui import units
from spanledger.ui.ask import Value
from spanledger.ui.charts import HALF, WIDE, lines, stacked
from spanledger.ui.filters import DIMENSIONS
from spanledger.ui.flows import against_usual, usual_range
from spanledger.ui.html import Markup, Node, e
from spanledger.ui.measured import about, measured
from spanledger.ui.page import NotHere, View, figure, page
from spanledger.ui.pages.budgets import severity
from spanledger.ui.sql import step_of
from spanledger.ui.tables import Column, facts, table, tile

STATES = {"": "Open and resolved", "open": "Open", "resolved": "Resolved"}
SEVERITIES = {"": "Any severity", "critical": "Critical", "warning": "Warning", "info": "Info"}
_LONGEST = timedelta(days=14)
_RESOLUTIONS = {
    "recovered": "it is so no more",
    "quiet": "not observed for long enough",
    "evicted": "too many were open",
}


def _where(view: View) -> tuple[str, dict[str, Value]]:
    """Findings that were so at any time of the period."""
    where, parameters = view.filters.where("f", period=False, columns={"Environment": ""})
    times = "f.FirstSeen < {until:DateTime64(6, 'UTC')} AND (f.State = 'open' OR f.LastSeen >= {since:DateTime64(6, 'UTC')})"
    return f"{times} AND {where}", parameters | {"since": view.filters.start, "until": view.filters.end}


@page("/findings", "Findings", "findings")
def body(view: View) -> Node:
    where, parameters = _where(view)
    return [
        figure(view, "Now", _NOW.format(where=where), _tiles, parameters=parameters),
        e("div.grid", _new(view), _by_kind(view, where, parameters), _list(view, where, parameters)),
    ]


_NOW = """SELECT countIf(f.State = 'open') AS Open, countIf(f.State = 'open' AND f.Severity = 'critical') AS Critical,
sumIf(f.CostUSD, f.State = 'open') AS AtStake, countIf(f.State = 'resolved') AS Resolved
FROM llm_findings AS f
WHERE {where}"""


def _tiles(frame: pl.DataFrame) -> Node:
    row = frame.row(0, named=True)
    return e(
        "div.tiles.inside-card",
        tile("Open", units.count(row["Open"]), "at this moment", "warn" if row["Open"] else ""),
        tile("Critical", units.count(row["Critical"]), "of those open", "warn" if row["Critical"] else ""),
        tile("At stake", units.usd(row["AtStake"]), "two may be about the same money"),
        tile("Resolved", units.count(row["Resolved"]), "seen in the period"),
    )


def _new(view: View) -> Markup:
    where, parameters = view.filters.where("f", time="FirstSeen", columns={"Environment": ""})
    seconds = step_of(view.filters.seconds)
    sql = f"""SELECT toStartOfInterval(toDateTime(f.FirstSeen, 'UTC'), INTERVAL {seconds} SECOND, 'UTC') AS time, f.Kind AS series, count() AS value
FROM llm_findings AS f
WHERE {where}
GROUP BY time, series
ORDER BY time, series"""

    def chart(frame: pl.DataFrame) -> Node:
        return stacked(frame, view.filters.start, view.filters.end, seconds, unit=units.count, axis=units.short, width=HALF, height=190, label="New findings over time")  # fmt: skip

    return figure(view, "New findings", sql, chart, parameters=parameters, note="When they were first observed.", empty="Nothing new in this period.")  # fmt: skip


def _by_kind(view: View, where: str, parameters: dict[str, Value]) -> Markup:
    sql = f"""SELECT f.Kind AS Kind, count() AS Findings, countIf(f.State = 'open') AS Open, sum(f.CostUSD) AS USD
FROM llm_findings AS f
WHERE {where}
GROUP BY Kind
ORDER BY USD DESC NULLS LAST, Findings DESC, Kind
LIMIT 15"""
    columns = (
        Column("Kind", "Kind", cell=lambda row: e("a", row["Kind"], href=view.here(kind=row["Kind"]))),
        Column("Open", "Open", units.count, number=True),
        Column("Findings", "Findings", units.count, number=True),
        Column("USD", "At stake", units.usd, number=True),
    )
    return figure(view, "By kind", sql, partial(table, columns=columns, caption="By kind"), parameters=parameters, empty="Nothing was noticed in this period.")  # fmt: skip


def _list(view: View, where: str, parameters: dict[str, Value]) -> Markup:
    state, level, kind = (view.query.get(name, "") for name in ("state", "severity", "kind"))
    tests, values = "", dict(parameters)
    for name, column, value in (("state", "State", state if state in STATES else ""), ("severity", "Severity", level if level in SEVERITIES else ""), ("kind", "Kind", kind)):  # fmt: skip
        if value:
            tests += f" AND f.{column} = {{{name}:String}}"
            values[name] = value
    sql = f"""SELECT f.Severity AS Severity, f.Kind AS Kind, f.Message AS Message, f.State AS State, f.CostUSD AS USD, f.Observations AS Times,
f.FirstSeen AS First, f.LastSeen AS Last, f.FindingId AS FindingId
FROM llm_findings AS f
WHERE {where}{tests}
ORDER BY f.State = 'open' DESC, USD DESC NULLS LAST, Last DESC, FindingId
LIMIT 50"""
    columns = (
        Column("Severity", "Severity", cell=severity),
        Column("Message", "What", cell=lambda row: [e("a", row["Message"], href=view.link(f"/finding/{row['FindingId']}")), e("span.note.kind-of", f" {row['Kind']}")]),
        Column("State", "State", cell=lambda row: e("span.nowrap", row["State"]), minor=True),
        Column("Times", "Observed", units.count, number=True, minor=True),
        Column("Last", "Last (UTC)", cell=lambda row: e("span.nowrap", f"{row['Last']:%d %b %H:%M}"), minor=True),
        Column("USD", "At stake", units.usd, number=True),
    )  # fmt: skip
    kept = parse_qsl(view.filters.query().lstrip("?"))
    tools = e(
        "form.inline",
        [e("input", type="hidden", name=name, value=value) for name, value in kept],
        e("input", type="hidden", name="kind", value=kind) if kind else None,
        e("select", [e("option", text, value=name, selected=name == state) for name, text in STATES.items()], name="state", aria_label="State"),
        " ",
        e("select", [e("option", text, value=name, selected=name == level) for name, text in SEVERITIES.items()], name="severity", aria_label="Severity"),
        e("button.apply", "Show", type="submit"),
        method="get",
    )  # fmt: skip
    note = (
        ["Only ", kind, ". ", e("a", "All kinds", href=view.here(kind=""))]
        if kind
        else "The dearest first. A click shows the evidence."
    )
    return figure(view, "What was noticed", sql, partial(table, columns=columns, caption="Findings"), parameters=values, wide=True, tools=tools, note=note, empty="Nothing of this sort was noticed in this period.")  # fmt: skip


@page("/finding/{id}", "Finding", filtered=False)
def detail(view: View) -> Node:
    """One finding, explained, with the traces that show it."""
    sql = "SELECT *, mapKeys(Subject) AS SubjectNames, mapValues(Subject) AS SubjectValues FROM llm_findings WHERE FindingId = {id:String} LIMIT 1"
    frame = view.ask(sql.replace("SELECT *", "SELECT * EXCEPT (Subject)"), {"id": view.arguments["id"]})
    if not frame.height:
        raise NotHere("There is no such finding: it may have passed its retention.")
    row = frame.row(0, named=True)
    subject = dict(zip(row["SubjectNames"], row["SubjectValues"], strict=True))
    unit = row["Unit"] or ""
    chosen = {name: subject[name] for name in DIMENSIONS if subject.get(name)}
    state = "open" if row["State"] == "open" else f"resolved: {_RESOLUTIONS.get(row['Resolution'], row['Resolution'])}"
    figures = (
        ("Kind", e("code", row["Kind"])), ("State", state), ("First seen", f"{units.when(row['FirstSeen'])} UTC"), ("Last seen", f"{units.when(row['LastSeen'])} UTC"),
        ("Resolved at", f"{units.when(row['ResolvedAt'])} UTC" if row["ResolvedAt"] else ""),
        *((name.replace("_", " ").capitalize(), value or "(none)") for name, value in subject.items()),
        ("Its calls", e("a", "Show", href=view.link("/calls", **_around(row), **chosen)) if chosen else ""),
    )  # fmt: skip
    return [
        e("p.note.under.lead", severity(row), " ", row["Message"]),
        e(
            "section.tiles",
            tile("Measured", shown(row["Measured"], unit), "last"),
            tile("Expected", shown(row["Expected"], unit), "measured against"),
            tile("At stake", units.usd(row["CostUSD"])),
            tile("Observed", units.count(row["Observations"]), "times"),
            aria_label="Figures",
        ),
        _series(view, row, subject),
        e("div.grid", e("section.card", e("header", e("h2", "What it is about")), e("div.body", facts([(n, v) for n, v in figures if v]))), _evidence(view, row)),
    ]  # fmt: skip


def shown(value: float | None, unit: str) -> str:
    """A measured value with its unit."""
    if value is None:
        return units.DASH
    if unit == "USD":
        return units.usd(value)
    if unit == "share":
        return units.share(value)
    if unit == "s":
        return units.took(value * 1e9)
    if unit in ("%", "percent"):
        return f"{value:,.1f}%"
    return f"{units.count(value) if value == round(value) else f'{value:,.4g}'} {unit}".strip()


def _around(row: dict[str, Any]) -> dict[str, str]:
    """The finding's time, an hour more on both sides, for a link."""
    return {"since": f"{row['FirstSeen'] - timedelta(hours=1):%Y-%m-%dT%H:%M}", "until": f"{row['LastSeen'] + timedelta(hours=1):%Y-%m-%dT%H:%M}"}  # fmt: skip


def _series(view: View, row: dict[str, Any], subject: dict[str, str]) -> Node:
    """The hours of the finding's measure around it, and what was usual before it; nothing where it cannot be drawn."""
    subject = about(subject)
    found = measured(row["Kind"], row["Unit"] or "", subject)
    if found is None:
        return None
    first, last = (row[name].replace(tzinfo=UTC) if row[name].tzinfo is None else row[name] for name in ("FirstSeen", "LastSeen"))  # fmt: skip
    start, end = first - timedelta(days=2), min(last + timedelta(hours=12), view.now)
    start = max(start, end - (_LONGEST if found.of_hours else timedelta(days=found.days)))
    sql, values = found.question(subject)
    parameters: dict[str, Value] = {"before": min(first, start) - timedelta(days=found.days), "end": end, **values}
    of = ", ".join(f"{name.replace('_', ' ')} {value or '(none)'}" for name, value in subject.items()) or "all calls"
    absent = 0.0 if found.sums else None

    def chart(frame: pl.DataFrame) -> Node:
        drawn, usual = against_usual(frame, first, start, end, absent), usual_range(frame, first, start, end, absent)
        return lines(drawn, start, end, _HOUR, unit=found.unit, axis=found.axis, width=WIDE, height=230, usual=usual, during=(first, last), label=f"{found.title} an hour of {of}, measured and usual")  # fmt: skip

    return figure(view, f"{found.title} an hour" if found.sums else found.title, sql, chart, parameters=parameters, wide=True, note=f"Of {of}, by the hour. Usual: the median of the same hour of the day in up to {found.days} days before it was first seen, {units.when(first)[:16]} UTC; the grey band holds eight in ten of them. Red: from then to when it was last seen.", empty="The ledger has no calls of this subject around that time.")  # fmt: skip


_HOUR = 3600


def _evidence(view: View, row: dict[str, Any]) -> Markup:
    sql = """SELECT c.TraceId AS TraceId, min(c.Timestamp) AS At, count() AS Calls, any(c.App) AS App, sum(c.CostUSD) AS USD
FROM llm_calls AS c
WHERE c.TraceId IN {traces:Array(String)} AND c.Day >= toDate({from:DateTime64(6, 'UTC')}) AND c.Day <= toDate({to:DateTime64(6, 'UTC')})
GROUP BY TraceId
ORDER BY At, TraceId
LIMIT 50"""
    columns = (
        Column(
            "At",
            "Trace",
            cell=lambda found: e(
                "a.nowrap", f"{found['At']:%d %b %H:%M:%S}", href=view.link(f"/trace/{found['TraceId']}")
            ),
        ),
        Column("App", "App"),
        Column("Calls", "Calls", units.count, number=True),
        Column("USD", "Cost", units.usd_call, number=True),
    )
    parameters: dict[str, Value] = {"traces": list(row["TraceIds"]), "from": row["FirstSeen"] - timedelta(days=1), "to": row["LastSeen"] + timedelta(days=1)}  # fmt: skip
    return figure(view, "Evidence", sql, partial(table, columns=columns, caption="Traces that show it"), parameters=parameters, note="The first few traces that show it.", empty="No call of its traces is in the ledger.")  # fmt: skip
