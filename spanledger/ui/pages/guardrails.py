"""Guardrails and privacy: who refuses how often, and which personal data reached whom."""

from __future__ import annotations

from functools import partial

import polars as pl

from spanledger.ui import units
from spanledger.ui.ask import Value
from spanledger.ui.charts import HALF, stacked
from spanledger.ui.flows import flows
from spanledger.ui.html import Markup, Node, e
from spanledger.ui.page import View, figure, page
from spanledger.ui.sql import ABSENT, ROUTED, hourly, last_days, step_of
from spanledger.ui.tables import Column, table

_DAY = 86400
_WHOLE_DAYS = "Whole days, UTC."
_CLEAN = "Redaction found nothing in this period, or does not run (docs/redaction.md)."
_APP, _PROVIDER = ABSENT.format(column="p.App"), ABSENT.format(column="p.Provider")


@page("/guardrails", "Guardrails and privacy", "guardrails")
def body(view: View) -> Node:
    where, parameters = hourly(view)
    # The view counts by day, app, team and provider: other filters cannot narrow it.
    chosen, of_days = view.filters.where("p", period=False, columns={"Environment": "", "Model": ""})
    days = f"p.Day >= toDate({{since:DateTime64(6, 'UTC')}}) AND p.Day <= toDate({{until:DateTime64(6, 'UTC')}}) AND {chosen}"
    times: dict[str, Value] = {"since": view.filters.start, "until": view.filters.end} | of_days
    ignored = [name for name in ("environment", "model") if view.filters.values(name)]
    return [
        e("p.note.under", f"Personal data is counted by day, team, app and provider: the filter {' and '.join(ignored)} does not narrow it.") if ignored else None,
        e("div.grid", _rates(view, where, parameters), _refusals(view, where, parameters), _took(view), _found(view, days, times), _sent(view, days, times), _ways(view, days, times), _list(view, days, times)),
    ]  # fmt: skip


def _rates(view: View, where: str, parameters: dict[str, Value]) -> Markup:
    sql = f"""SELECT Guardrail, App, Refused, Calls, Refused / Calls AS Rate FROM (
SELECT {ABSENT.format(column="h.App")} AS App, h.RefusedBy AS Guardrail, sum(h.Calls) AS Refused, sum(sum(h.Calls)) OVER (PARTITION BY App) AS Calls
FROM {ROUTED}
WHERE {where}
GROUP BY App, Guardrail
)
WHERE Guardrail != '' AND Refused != 0
ORDER BY Rate DESC, Guardrail, App
LIMIT 30"""
    columns = (
        Column("Guardrail", "Refused by"),
        Column(
            "App",
            "App",
            cell=lambda row: e("a", row["App"], href=view.link("/calls", app=row["App"], status="refused")),
        ),
        Column("Refused", "Refused", units.count, number=True),
        Column("Calls", "of", units.count, number=True, minor=True),
        Column("Rate", "Rate", units.share, number=True, bar=True),
    )
    return figure(view, "Block rates", sql, partial(table, columns=columns, caption="Block rates"), parameters=parameters, note="Refused calls of all calls of the app. “model”: the model itself refused.", empty="Nothing was refused in this period.")  # fmt: skip


def _refusals(view: View, where: str, parameters: dict[str, Value]) -> Markup:
    seconds = step_of(view.filters.seconds)
    sql = f"""SELECT toStartOfInterval(h.Hour, INTERVAL {seconds} SECOND, 'UTC') AS time, h.RefusedBy AS series, sum(h.Calls) AS value
FROM {ROUTED}
WHERE {where} AND h.RefusedBy != ''
GROUP BY time, series
HAVING value != 0
ORDER BY time, series"""
    return _over(view, "Refusals", sql, parameters, seconds, "By who refused.", "Nothing was refused in this period.")


def _took(view: View) -> Markup:
    sql = """SELECT g.Guardrail AS Guardrail, g.ServiceName AS Service, sum(g.Runs) AS Runs, sum(g.Failed) AS Failed, max(g.P95Ms) * 1e6 AS P95, sum(g.TotalSeconds) * 1e9 AS Total
FROM llm_guardrail_latency AS g
WHERE g.Day >= toDate({since:DateTime64(6, 'UTC')}) AND g.Day <= toDate({until:DateTime64(6, 'UTC')})
GROUP BY Guardrail, Service
ORDER BY Total DESC, Guardrail
LIMIT 20"""
    columns = (
        Column("Guardrail", "Guardrail"),
        Column("Service", "Service", minor=True),
        Column("Runs", "Runs", units.count, number=True),
        Column("Failed", "Failed", units.count, number=True, minor=True),
        Column("P95", "p95 of the worst day", units.took, number=True),
        Column("Total", "All together", units.took, number=True, minor=True),
    )
    since, of_last = last_days(view, 7)
    return figure(view, "Time that guardrails take", sql, partial(table, columns=columns, caption="Time that guardrails take"), parameters={"since": since, "until": view.filters.end}, wide=True, note=f"Where they have spans of their own; of all teams. {_WHOLE_DAYS}{of_last}", empty="No guardrail reported a span of its own.")  # fmt: skip


def _found(view: View, where: str, parameters: dict[str, Value]) -> Markup:
    return _by_day(
        view, "Personal data found", "p.Detector", "sum(p.Hits)", where, parameters, f"By kind. {_WHOLE_DAYS}"
    )


def _sent(view: View, where: str, parameters: dict[str, Value]) -> Markup:
    return _by_day(view, "Sent to providers", _PROVIDER, "sum(p.InRequestHits)", where, parameters, f"What stood in requests: the provider has seen it before it was taken out here. {_WHOLE_DAYS}")  # fmt: skip


def _by_day(view: View, title: str, series: str, value: str, where: str, parameters: dict[str, Value], note: str) -> Markup:  # fmt: skip
    sql = f"""SELECT toDateTime(p.Day, 'UTC') AS time, {series} AS series, {value} AS value
FROM llm_pii AS p
WHERE {where}
GROUP BY time, series
HAVING value > 0
ORDER BY time, series"""
    return _over(view, title, sql, parameters, _DAY, note, _CLEAN)


def _over(
    view: View, title: str, sql: str, parameters: dict[str, Value], seconds: int, note: str, empty: str
) -> Markup:
    def chart(frame: pl.DataFrame) -> Node:
        return stacked(frame, view.filters.start, view.filters.end, seconds, unit=units.count, axis=units.short, width=HALF, height=200, label=title)  # fmt: skip

    return figure(view, title, sql, chart, parameters=parameters, note=note, empty=empty)


def _ways(view: View, where: str, parameters: dict[str, Value]) -> Markup:
    sql = f"""SELECT p.Detector AS source, {_PROVIDER} AS target, sum(p.InRequestHits) AS value
FROM llm_pii AS p
WHERE {where}
GROUP BY source, target
HAVING value > 0
ORDER BY value DESC, source, target
LIMIT 30"""
    return figure(view, "What reaches whom", sql, partial(flows, label="From kinds of personal data to providers"), parameters=parameters, wide=True, note=f"Personal data in requests, by kind (left) and the provider that received it (right). {_WHOLE_DAYS}", empty="No personal data was found in requests of this period.")  # fmt: skip


def _list(view: View, where: str, parameters: dict[str, Value]) -> Markup:
    sql = f"""SELECT {_APP} AS App, {ABSENT.format(column="p.Team")} AS Team, p.Detector AS Detector, {_PROVIDER} AS Provider, sum(p.Hits) AS Found,
sum(p.InRequestHits) AS Sent, sum(p.InRequestSpans) AS Spans
FROM llm_pii AS p
WHERE {where}
GROUP BY App, Team, Detector, Provider
ORDER BY Sent DESC, Found DESC, App, Detector
LIMIT 50"""
    columns = (
        Column("App", "App"),
        Column("Team", "Team", minor=True),
        Column("Detector", "Kind"),
        Column("Provider", "Provider", minor=True),
        Column("Found", "Found", units.count, number=True),
        Column("Spans", "Spans", units.count, number=True, minor=True),
        Column("Sent", "Sent", units.count, number=True, bar=True),
    )
    return figure(view, "Who sends what to whom", sql, partial(table, columns=columns, caption="Who sends what to whom"), parameters=parameters, wide=True, note=f"Found anywhere; sent: in spans of calls, in what the provider got. {_WHOLE_DAYS}", empty=_CLEAN)  # fmt: skip
