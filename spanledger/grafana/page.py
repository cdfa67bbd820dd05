"""What all dashboards have: data sources to choose from, drop-downs, links to each other."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as model

from spanledger.grafana.query import CLICKHOUSE, HOURS, MOVEMENTS, PROMETHEUS, Filter

TAG = "spanledger"


def page(name: str, title: str, description: str, *, since: str = "now-7d", refresh: str = "5m") -> dashboard.Dashboard:
    """An empty dashboard with its ClickHouse data source to choose, in UTC as the ledger counts its days."""
    return (
        dashboard.Dashboard(f"Spanledger: {title}")
        .uid(f"spanledger-{name}")
        .description(description)
        .tags([TAG])
        .time(since, "now")
        .timezone("utc")
        .refresh(refresh)
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .with_variable(source("datasource", "ClickHouse", "grafana-clickhouse-datasource"))
        .link(
            dashboard.DashboardLink("Spanledger")
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
    )


def source(name: str, label: str, kind: str) -> dashboard.DatasourceVariable:
    """A data source to choose."""
    return dashboard.DatasourceVariable(name).label(label).type(kind)


def with_filters(board: dashboard.Dashboard, filters: Sequence[Filter]) -> dashboard.Dashboard:
    """Drop-downs of what the ledger has in the dashboard's time."""
    for one in filters:
        sql = f"SELECT {one.named('h')} AS name FROM {MOVEMENTS} WHERE {HOURS} GROUP BY name HAVING sum(h.Calls) != 0 ORDER BY name"
        board = board.with_variable(choice(one.variable, one.label, sql))
    return board


def choice(name: str, label: str, sql: str) -> dashboard.QueryVariable:
    """A drop-down of several values, all at first; asked again when the time changes."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(CLICKHOUSE)
        .query({"rawSql": sql, "editorType": "sql", "format": 1, "queryType": "table", "refId": name})
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .current(model.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def one_of(name: str, label: str, values: Sequence[str]) -> dashboard.CustomVariable:
    """A drop-down of fixed values, the first at first."""
    found = dashboard.CustomVariable(name).label(label).values(",".join(values))
    return found.current(model.VariableOption(selected=True, text=values[0], value=values[0]))


def instances() -> dashboard.QueryVariable:
    """A drop-down of the collectors that Prometheus scrapes."""
    return (
        dashboard.QueryVariable("instance")
        .label("Collector")
        .datasource(PROMETHEUS)
        .query({"query": "label_values(spanledger_build, instance)", "refId": "instance"})
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(model.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )
