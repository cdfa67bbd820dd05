"""Findings: what processors noticed about spend and behaviour, open and past."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from spanledger.grafana.overview import TRACE_COLUMN
from spanledger.grafana.page import choice, page
from spanledger.grafana.panels import ALARM, COUNT, SUM, USD, WARN, Column, bars, number, ranking, stacked
from spanledger.grafana.query import UNATTRIBUTED, named, usd

_FILTERS = {"kind": "Kind", "severity": "Severity", "team": "Team"}
_VALUES = {"kind": "f.Kind", "severity": "f.Severity", "team": named("f.Team", UNATTRIBUTED)}
_CHOSEN = " AND ".join(
    f"$__conditionalAll({sql} IN (${{{name}:singlequote}}), ${name})" for name, sql in _VALUES.items()
)
#: Open ones whenever they began; resolved ones that were seen in the period.
_SEEN = f"FROM llm_findings AS f WHERE f.FirstSeen <= $__toTime AND f.LastSeen >= $__fromTime AND {_CHOSEN}"
_OPEN = f"FROM llm_findings AS f WHERE f.State = 'open' AND {_CHOSEN}"
_SOURCE = "From llm_findings."

_COLUMNS = f"""f.Severity AS Severity, f.Kind AS Kind, {named("f.Team", "")} AS Team, f.App AS App, f.Model AS Model, f.Message AS Message,
       {usd("f.CostUSD")} AS USD, f.Observations AS Observations, f.FirstSeen AS FirstSeen, f.LastSeen AS LastSeen"""
_OPEN_LIST = (
    f"SELECT {_COLUMNS}, f.TraceIds[1] AS TraceId\n{_OPEN}\nORDER BY USD DESC NULLS LAST, LastSeen DESC\nLIMIT 200"
)
_PAST_LIST = f"SELECT {_COLUMNS}, f.ResolvedAt AS ResolvedAt, f.Resolution AS Resolution, f.TraceIds[1] AS TraceId\n{_SEEN} AND f.State = 'resolved'\nORDER BY LastSeen DESC\nLIMIT 200"
_NEW = f"""
SELECT $__timeInterval(f.FirstSeen) AS time, f.Kind AS series, count() AS value
FROM llm_findings AS f WHERE $__timeFilter(f.FirstSeen) AND {_CHOSEN}
GROUP BY time, series
ORDER BY time, series"""
_BY_KIND = f"SELECT f.Kind AS Name, {usd('sum(f.CostUSD)')} AS USD\n{_SEEN}\nGROUP BY Name\nHAVING USD > 0\nORDER BY USD DESC\nLIMIT 15"
_FORMS = (Column("USD", USD, SUM, 110), Column("Observations", COUNT, width=110), Column("Message", width=480), TRACE_COLUMN)  # fmt: skip


def build() -> dashboard.Dashboard:
    board = page("findings", "findings", "What Spanledger noticed: budgets, anomalies, routing, privacy; what is wrong now, and what was.")  # fmt: skip
    for name, sql in _VALUES.items():
        board = board.with_variable(choice(name, _FILTERS[name], f"SELECT DISTINCT {sql} FROM llm_findings AS f ORDER BY 1"))  # fmt: skip
    return (
        board.with_panel(number("Open now", f"Findings that are open at this moment, whenever they began. {_SOURCE}", f"SELECT count() AS Findings {_OPEN}", COUNT, width=6, steps=WARN))
        .with_panel(number("Critical now", f"Open findings of severity critical. {_SOURCE}", f"SELECT countIf(f.Severity = 'critical') AS Findings {_OPEN}", COUNT, width=6, steps=ALARM))
        .with_panel(number("At stake now", f"Money at stake in open findings that name any; two findings may be about the same money. {_SOURCE}", f"SELECT {usd('sum(f.CostUSD)')} AS USD {_OPEN}", USD, decimals=SUM, width=6))
        .with_panel(number("Seen in the period", f"Findings that were observed in the period, open or resolved. {_SOURCE}", f"SELECT count() AS Findings {_SEEN}", COUNT, width=6))
        .with_panel(stacked("New findings by kind", f"When they were first observed. {_SOURCE}", _NEW, COUNT))
        .with_panel(bars("Money at stake by kind", f"Of findings that were observed in the period. {_SOURCE}", _BY_KIND, USD, width=12, height=9))
        .with_panel(ranking("Open", f"What is wrong now, the dearest first. TraceId: the first span that shows it. {_SOURCE}", _OPEN_LIST, _FORMS, width=24, height=10))
        .with_panel(ranking("Resolved", f"Of those that were observed in the period, the newest first. recovered: it is so no more; quiet: not observed for long enough. {_SOURCE}", _PAST_LIST, _FORMS, width=24, height=10))
    )  # fmt: skip
