"""Privacy: personal data and secrets that redaction found, and which of them a provider has seen."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from spanledger.grafana.page import choice, page, with_filters
from spanledger.grafana.panels import ALARM, COUNT, Column, bars, number, ranking, stacked
from spanledger.grafana.query import APP, PROVIDER, TEAM, UNATTRIBUTED, UNKNOWN, chosen, named

_DAYS = "p.Day >= toDate($__fromTime, 'UTC') AND p.Day <= toDate($__toTime, 'UTC')"
_FROM = (
    f"FROM llm_pii AS p WHERE {_DAYS} AND {chosen('p', (TEAM, APP, PROVIDER))} "
    "AND $__conditionalAll(p.Detector IN (${detector:singlequote}), $detector)"
)
_DETECTORS = f"SELECT DISTINCT p.Detector FROM llm_pii AS p WHERE {_DAYS} ORDER BY 1"
_SOURCE = "Whole days, UTC. From llm_pii, which counts what the processor redaction found on spans."


def _over_time(series: str, value: str) -> str:
    return f"SELECT toDateTime(p.Day, 'UTC') AS time, {series} AS series, {value} AS value\n{_FROM}\nGROUP BY time, series\nHAVING value > 0\nORDER BY time, series"


def _ranked(name: str, value: str) -> str:
    return (
        f"SELECT {name} AS Name, {value} AS Hits\n{_FROM}\nGROUP BY Name\nHAVING Hits > 0\nORDER BY Hits DESC\nLIMIT 15"
    )


_FLOWS = f"""
SELECT {named("p.App", UNATTRIBUTED)} AS App, {named("p.Team", UNATTRIBUTED)} AS Team, p.Detector AS Detector, {named("p.Provider", UNKNOWN)} AS Provider,
       sum(p.Hits) AS Found, sum(p.InRequestHits) AS Sent, sum(p.InRequestSpans) AS Spans, max(p.Day) AS LastDay
{_FROM}
GROUP BY App, Team, Detector, Provider
ORDER BY Sent DESC, Found DESC
LIMIT 200"""


def build() -> dashboard.Dashboard:
    board = page("privacy", "privacy", "Personal data and secrets in prompts and answers: what was found, where, and which provider has seen it.", since="now-30d")  # fmt: skip
    return (
        with_filters(board, (TEAM, APP, PROVIDER))
        .with_variable(choice("detector", "Detector", _DETECTORS))
        .with_panel(number("Found", f"Personal data and secrets on spans, each counted where it stood. {_SOURCE}", f"SELECT sum(p.Hits) AS Hits {_FROM}", COUNT, width=6))
        .with_panel(number("Sent to a provider", f"Those that stood in what a model was sent: its provider has seen them before they were taken out here. {_SOURCE}", f"SELECT sum(p.InRequestHits) AS Hits {_FROM}", COUNT, width=6, steps=ALARM))
        .with_panel(number("Spans that sent some", f"Spans of calls whose request had at least one, counted once a day and detector. {_SOURCE}", f"SELECT sum(p.InRequestSpans) AS Spans {_FROM}", COUNT, width=6))
        .with_panel(number("Kinds", f"How many detectors found something. {_SOURCE}", f"SELECT uniqExact(p.Detector) AS Detectors {_FROM}", COUNT, width=6))
        .with_panel(stacked("Found by detector", f"{_SOURCE}", _over_time("p.Detector", "sum(p.Hits)"), COUNT, interval="1d"))
        .with_panel(stacked("Sent by provider", f"What stood in requests, by who received it. {_SOURCE}", _over_time(named("p.Provider", UNKNOWN), "sum(p.InRequestHits)"), COUNT, interval="1d"))
        .with_panel(bars("Found, by detector", f"{_SOURCE}", _ranked("p.Detector", "sum(p.Hits)"), COUNT))
        .with_panel(bars("Sent, by app", f"What stood in requests. {_SOURCE}", _ranked(named("p.App"), "sum(p.InRequestHits)"), COUNT))
        .with_panel(bars("Sent, by provider", f"What stood in requests. {_SOURCE}", _ranked(named("p.Provider", UNKNOWN), "sum(p.InRequestHits)"), COUNT))
        .with_panel(ranking("Who sends what to whom", f"Sent is part of Found. {_SOURCE}", _FLOWS, tuple(Column(name, COUNT, width=100) for name in ("Found", "Sent", "Spans")), width=24, height=10))
    )  # fmt: skip
