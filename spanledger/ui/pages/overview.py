"""What is spent, on what, by whom, and whether the figure is whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from urllib.parse import parse_qsl

import polars as pl

from spanledger.ui import units
from spanledger.ui.ask import AskError, Value
from spanledger.ui.charts import HALF, REST, lines, stacked
from spanledger.ui.filters import DIMENSIONS
from spanledger.ui.html import Markup, Node, e
from spanledger.ui.page import View, figure, page, source
from spanledger.ui.sql import ABSENT, COST, HOURS_NOTE, MOVEMENTS, hourly, step_of, trend
from spanledger.ui.tables import Column, table, tile

#: What the trend may be stacked by.
BY = {"team": "Team", "app": "App", "model": "Model", "provider": "Provider", "environment": "Environment", "user": "User"}  # fmt: skip

_TOTALS = ("USD", "Saved", "Calls", "Failed", "Unpriced", "Priced", "Input", "Cached", "Output")
_MEASURES = f"""{COST} AS USD, sum(h.CacheSavingsUSD) AS Saved, sum(h.Calls) AS Calls, sum(h.FailedCalls) AS Failed, sum(h.UnpricedCalls) AS Unpriced,
sum(h.PricedCalls) AS Priced, sum(h.InputTokens) AS Input, sum(h.CacheReadTokens) AS Cached, sum(h.OutputTokens) AS Output"""


@page("/", "Overview", "overview")
def body(view: View) -> Node:
    """Totals, the trend, who spends it, and single prices."""
    by = view.query.get("by", "team")
    by = by if by in BY else "team"
    where, parameters = hourly(view)
    return [
        _tiles(view, where, parameters),
        _trend(view, by, where, parameters),
        e(
            "div.grid",
            _ranking(view, "Teams", "team", where, parameters),
            _ranking(view, "Applications", "app", where, parameters),
            _ranking(view, "Models", "model", where, parameters),
            _where_it_goes(view, where, parameters),
            _tokens(view, where, parameters),
            _calls(view, where, parameters),
            _per_call(view, where, parameters),
            _per_token(view, where, parameters),
        ),
    ]


def _tiles(view: View, where: str, parameters: dict[str, Value]) -> Node:
    """The figures on top; change and projection have questions of their own."""
    sums = ", ".join(f"sum(t.{name}) AS {name}" for name in _TOTALS)
    sql = f"""SELECT {sums}, sumIf(t.USD, t.Ownerless) AS Nobody, countIf(t.Ownerless) > 0 AS HasNobody
FROM (SELECT h.Team IN ('', '(unattributed)') AS Ownerless, {_MEASURES}
FROM {MOVEMENTS}
WHERE {where}
GROUP BY Ownerless
HAVING Calls != 0) AS t"""
    before_sql, before_parameters = _before(view)
    month_sql, month_parameters = _month(view)
    if view.wanted_csv:
        name = view.slug("Totals")
        if view.wanted_csv == name:
            view.csv = view.ask(sql, parameters)
        return None
    totals, before, month = view.asked(sql, parameters), view.asked(before_sql, before_parameters), view.asked(month_sql, month_parameters)  # fmt: skip

    def drawn() -> Node:
        try:
            now, was, projected = totals.result().row(0, named=True), before.result().row(0, named=True), month.result()
        except AskError as error:
            return e("p.failed", e("b", "The store did not answer: "), str(error))
        spent = None if was["Younger"] else was["Earlier"]
        change = was["USD"] / spent - 1 if spent and was["USD"] is not None else None
        pace = projected["Projected"][0] if projected.height else None
        cached = now["Cached"] / now["Input"] if now["Input"] else None
        return [
            tile("Spend", units.usd(now["USD"]), f"{units.count(now['Calls'])} calls"),
            tile("Change", units.change(change), f"before: {units.usd(spent)}" if spent else "no whole period before", "up" if (change or 0) > 0 else "down" if change else ""),
            tile("Projected month", units.usd(pace), "at the pace of seven days" if pace is not None else "no calls in 7 days"),
            tile("Saved by caching", units.usd(now["Saved"]), f"{units.share(cached)} of input cached"),
            tile("Failed calls", units.share(now["Failed"] / now["Calls"] if now["Calls"] else None), f"{units.count(now['Failed'])} calls"),
            tile("Without a price", units.count(now["Unpriced"]), "missing in every sum" if now["Unpriced"] else "all sums are whole", "warn" if now["Unpriced"] else "", view.link("/calls", status="unpriced") if now["Unpriced"] else ""),
            tile("Without a team", units.usd(now["Nobody"]) if now["HasNobody"] else "$0", "part of the spend" if now["HasNobody"] else "every call has an owner", "warn" if now["Nobody"] else "", view.link("/calls", team="(unattributed)") if now["HasNobody"] else ""),
        ]  # fmt: skip

    name = view.slug("Totals")
    return [
        e("section.tiles", view.later(drawn), aria_label="Totals"),
        e("div.note.under", e("span", HOURS_NOTE), source(view, name, sql, parameters)),
        view.later(lambda: _warnings(totals.result())),
    ]


def _warnings(totals: pl.DataFrame) -> Node:
    """What makes the figures less than they are, and what to do about it."""
    row = totals.row(0, named=True)
    found = []
    if row["Unpriced"]:
        found.append(e("li", e("b", f"{units.count(row['Unpriced'])} calls have no price"), " and count as nothing in every sum. ", "Give their models one with ", e("code", "overrides"), " of the processor ", e("code", "pricing"), "."))  # fmt: skip
    if row["HasNobody"] and row["Nobody"]:
        found.append(e("li", e("b", f"{units.usd(row['Nobody'])} belong to no team."), " Map their keys with ", e("code", "mappings"), " of the processor ", e("code", "attribution"), "."))  # fmt: skip
    return e("ul.warnings", found) if found else None


def _before(view: View) -> tuple[str, dict[str, Value]]:
    """The period and as long a one right before it, both of whole hours; and whether the ledger is younger than that one, so that
    it would compare with a part."""
    filters = view.filters
    end = filters.end.replace(minute=0, second=0, microsecond=0)
    start = filters.start.replace(minute=0, second=0, microsecond=0)
    earlier = start - max(end - start, timedelta(hours=1))
    where, parameters = filters.where("h", period=False)
    return (
        f"SELECT sumIf(Cost, Now) AS USD, sumIf(Cost, NOT Now) AS Earlier, (SELECT min(h.Hour) FROM {MOVEMENTS}) > {{earlier:DateTime('UTC')}} AS Younger\nFROM (SELECT h.Hour >= {{start:DateTime('UTC')}} AS Now, {COST} AS Cost\n"
        f"FROM {MOVEMENTS}\nWHERE h.Hour >= {{earlier:DateTime('UTC')}} AND h.Hour < {{end:DateTime('UTC')}} AND {where}\nGROUP BY Now)",
        parameters | {"start": _whole(start), "earlier": _whole(earlier), "end": _whole(end)},
    )


def _month(view: View) -> tuple[str, dict[str, Value]]:
    """Spend since the first of the month, and the pace of the last seven days for the hours that are left."""
    where, parameters = view.filters.where("h", period=False)
    at = "{now:DateTime('UTC')}"
    return (
        f"""WITH toDateTime(toStartOfMonth({at}, 'UTC'), 'UTC') AS month, addMonths(month, 1) AS next, {at} - INTERVAL 7 DAY AS week,
greatest(1, dateDiff('hour', minIf(At, At >= week), {at})) AS hours
SELECT toFloat64(sumIf(Cost, At >= month)) + toFloat64(sumIf(Cost, At >= week)) / hours * dateDiff('hour', {at}, next) AS Projected
FROM (SELECT h.Hour AS At, sum(h.CostUSD) AS Cost
FROM {MOVEMENTS}
WHERE h.Hour >= least(month, week) AND h.Hour <= {at} AND {where}
GROUP BY At
HAVING sum(h.Calls) != 0)
HAVING countIf(At >= week) > 0""",
        parameters | {"now": _whole(view.filters.end)},
    )


def _whole(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M:%S}"


def _trend(view: View, by: str, where: str, parameters: dict[str, Value]) -> Markup:
    seconds = step_of(view.filters.seconds)
    sql = trend(f"h.{BY[by]}", COST, seconds, where)
    links = (
        (lambda name: None if name == REST else view.link("/", **{by: name})) if by in DIMENSIONS else lambda _: None
    )
    marks = _findings(view)

    def chart(frame: pl.DataFrame) -> Node:
        return stacked(frame, view.filters.start, view.filters.end, seconds, label=f"Spend over time by {by}", links=links, marks=marks())  # fmt: skip

    choice = e(
        "form.inline",
        [e("input", type="hidden", name=n, value=v) for n, v in _pairs(view) if n != "by"],
        e("label", "by ", e("select", [e("option", label, value=name, selected=name == by) for name, label in BY.items()], name="by")),
        e("button.apply", "Show", type="submit"),
        method="get",
    )  # fmt: skip
    return figure(view, "Spend over time", sql, chart, parameters=parameters, wide=True, tools=choice, note="The ten dearest of the period. Flags: findings.")  # fmt: skip


def _pairs(view: View) -> list[tuple[str, str]]:
    return parse_qsl(view.filters.query().lstrip("?"))


def _findings(view: View) -> Callable[[], Sequence[tuple[datetime, str, str]]]:
    """Marks of what was noticed in the period; none where the store has no such table yet."""
    if view.wanted_csv:
        return lambda: ()
    where, parameters = view.filters.where("f", time="FirstSeen", columns={"Environment": ""})
    sql = f"SELECT f.FirstSeen AS at, f.Message AS text, f.FindingId AS id FROM llm_findings AS f WHERE {where} AND f.Severity != 'info' ORDER BY f.CostUSD DESC NULLS LAST, at LIMIT 20"
    asked = view.asked(sql, parameters)

    def marks() -> list[tuple[datetime, str, str]]:
        try:
            rows = asked.result().iter_rows()
        except AskError:
            return []
        return [(at, text, view.link(f"/finding/{id_}")) for at, text, id_ in rows]

    return marks


def _ranking(view: View, title: str, by: str, where: str, parameters: dict[str, Value]) -> Markup:
    name = ABSENT.format(column=f"h.{BY[by]}")
    sql = f"""SELECT {name} AS Name, {COST} AS USD, sum(h.Calls) AS Calls, USD / nullIf(sum(h.PricedCalls), 0) AS PerCall
FROM {MOVEMENTS}
WHERE {where}
GROUP BY Name
HAVING Calls != 0
ORDER BY USD DESC NULLS LAST, Name
LIMIT 12"""
    columns = (
        Column("Name", BY[by], cell=lambda row: e("a", row["Name"], href=view.link("/calls" if view.filters.values(by) == (row["Name"],) else "/", **{by: row["Name"]}))),
        Column("USD", "Spend", units.usd, number=True, bar=True),
        Column("Calls", "Calls", units.count, number=True),
        Column("PerCall", "A call", units.usd_call, number=True, minor=True),
    )  # fmt: skip
    return figure(view, title, sql, partial(table, columns=columns, caption=f"{title} by spend"), parameters=parameters)


def _where_it_goes(view: View, where: str, parameters: dict[str, Value]) -> Markup:
    team, app, model = (ABSENT.format(column=f"h.{name}") for name in ("Team", "App", "Model"))
    sql = f"""SELECT {team} AS Team, {app} AS App, {model} AS Model, {COST} AS USD
FROM {MOVEMENTS}
WHERE {where}
GROUP BY Team, App, Model
HAVING USD > 0
ORDER BY USD DESC, Team, App, Model
LIMIT 12"""
    columns = (
        Column("Team", "Team → app → model", cell=lambda row: e("a", e("b.nowrap", row["Team"]), " → ", e("span.nowrap", row["App"]), " → ", e("span.nowrap", row["Model"]), href=view.link("/calls", team=row["Team"], app=row["App"], model=row["Model"], sort="cost"))),
        Column("USD", "Spend", units.usd, number=True, bar=True),
    )  # fmt: skip
    return figure(view, "Where it goes", sql, partial(table, columns=columns, caption="Spend by team, app and model"), parameters=parameters)  # fmt: skip


def _over(view: View, title: str, values: dict[str, str], where: str, parameters: dict[str, Value], unit: units.Unit, axis: units.Unit, line: bool = False, note: str = "") -> Markup:  # fmt: skip
    seconds = step_of(view.filters.seconds)
    columns = ", ".join(f"{sql} AS v{number}" for number, sql in enumerate(values.values()))
    names = ", ".join(f"'{name}'" for name in values)
    sql = f"""SELECT time, series, value FROM (
SELECT toStartOfInterval(h.Hour, INTERVAL {seconds} SECOND, 'UTC') AS time, {columns}
FROM {MOVEMENTS}
WHERE {where}
GROUP BY time
HAVING sum(h.Calls) != 0
)
ARRAY JOIN [{names}] AS series, [{", ".join(f"toFloat64(v{n})" if not line else f"v{n}" for n in range(len(values)))}] AS value
ORDER BY time, series"""
    draw = lines if line else stacked

    def chart(frame: pl.DataFrame) -> Node:
        start, end = view.filters.start, view.filters.end
        return draw(frame, start, end, seconds, unit=unit, axis=axis, width=HALF, height=190, label=title)

    return figure(view, title, sql, chart, parameters=parameters, note=note)


def _tokens(view: View, where: str, parameters: dict[str, Value]) -> Markup:
    values = {"input, fresh": "sum(h.InputTokens) - sum(h.CacheReadTokens)", "input, cached": "sum(h.CacheReadTokens)", "output": "sum(h.OutputTokens)"}  # fmt: skip
    return _over(view, "Tokens", values, where, parameters, units.count, units.short)


def _calls(view: View, where: str, parameters: dict[str, Value]) -> Markup:
    values = {"answered": "sum(h.Calls) - sum(h.FailedCalls)", "failed": "sum(h.FailedCalls)"}
    return _over(view, "Calls", values, where, parameters, units.count, units.short)


def _per_call(view: View, where: str, parameters: dict[str, Value]) -> Markup:
    values = {"a call": "toFloat64(sum(h.CostUSD)) / nullIf(sum(h.PricedCalls), 0)"}
    return _over(view, "Cost of a call", values, where, parameters, units.usd_call, units.usd_short, True)


def _per_token(view: View, where: str, parameters: dict[str, Value]) -> Markup:
    values = {"1,000 tokens": "1000 * toFloat64(sum(h.CostUSD)) / nullIf(sum(h.InputTokens) + sum(h.OutputTokens), 0)"}
    return _over(view, "Cost of 1,000 tokens", values, where, parameters, units.usd_call, units.usd_short, True, "Input and output together.")  # fmt: skip
