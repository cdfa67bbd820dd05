"""What panels ask: SQL for Grafana's ClickHouse data source, and PromQL; their data sources and filters are variables.

Times come from the data source's macros (`$__fromTime`, `$__timeFilter(column)`, `$__timeInterval(column)`), filters from
`$__conditionalAll`, which drops its condition while a variable stands at All.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from grafana_foundation_sdk.builders import prometheus
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.dashboard import DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from exporters.clickhouse.hourly import MODEL, known_cost
from exporters.clickhouse.schema import HOURLY_TABLE

CLICKHOUSE = DataSourceRef(type_val="grafana-clickhouse-datasource", uid="${datasource}")
PROMETHEUS = DataSourceRef(type_val="prometheus", uid="${prometheus}")
#: What the processor attribution writes where it finds no owner, and what stands here where it did not run.
UNATTRIBUTED = "(unattributed)"
UNKNOWN = "(unknown)"


class Format(IntEnum):
    """How the data source hands rows over, with its own numbers."""

    TIME_SERIES = 0
    TABLE = 1
    TRACE = 3


_QUERY_TYPES = {Format.TIME_SERIES: "timeseries", Format.TABLE: "table", Format.TRACE: "traces"}


@dataclass
class Sql(Dataquery, Builder["Sql"]):
    """A query of the ClickHouse data source, as its SQL editor saves it."""

    sql: str
    format: Format
    ref_id: str = "A"

    def build(self) -> Sql:
        return self

    def to_json(self) -> dict[str, object]:
        return {
            "datasource": CLICKHOUSE,
            "editorType": "sql",
            "format": int(self.format),
            "queryType": _QUERY_TYPES[self.format],
            "rawSql": self.sql.strip(),
            "refId": self.ref_id,
        }


def promql(expression: str, legend: str = "", ref_id: str = "A") -> prometheus.Dataquery:
    """A query of a Prometheus data source over the dashboard's time; `legend` names labels as `{{label}}`."""
    return (
        prometheus.Dataquery()
        .datasource(PROMETHEUS)
        .expr(expression)
        .legend_format(legend)
        .format(PromQueryFormat.TIME_SERIES)
        .range()
        .ref_id(ref_id)
    )


@dataclass(frozen=True)
class Filter:
    """A drop-down. `absent` is the choice that stands for rows without a value."""

    variable: str
    label: str
    column: str
    absent: str

    def named(self, table: str, columns: Mapping[str, str] | None = None) -> str:
        """SQL: the value of a row of `table`, or what stands for none. `columns`: expressions for columns that it lacks."""
        return named((columns or {}).get(self.column, f"{table}.{self.column}"), self.absent)


def named(expression: str, absent: str = UNATTRIBUTED) -> str:
    """SQL: the text, or what stands for an empty one."""
    return f"if({expression} = '', '{absent}', {expression})"


def nobodys(expression: str) -> str:
    """SQL: whether a text is no owner's."""
    return f"{expression} IN ('', '{UNATTRIBUTED}')"


ENVIRONMENT = Filter("environment", "Environment", "Environment", UNATTRIBUTED)
TEAM = Filter("team", "Team", "Team", UNATTRIBUTED)
APP = Filter("app", "App", "App", UNATTRIBUTED)
MODEL_FILTER = Filter("model", "Model", "Model", UNKNOWN)
PROVIDER = Filter("provider", "Provider", "Provider", UNKNOWN)
FILTERS = (ENVIRONMENT, TEAM, APP, MODEL_FILTER, PROVIDER)

#: The model of a row of `llm_calls`, which the hourly sums have as a column.
CALL_MODEL = f"({MODEL})"
#: Movements of the hourly sums: summed by anything they equal the calls, and no sum by all keys has to be made first.
MOVEMENTS = f"{HOURLY_TABLE} AS h"
COST = known_cost("h")
#: Hours of the dashboard's time in them. The first one is whole.
HOURS = "h.Hour >= toStartOfHour($__fromTime, 'UTC') AND h.Hour <= $__toTime"
CALLS_IN_TIME = "$__timeFilter(c.Timestamp)"


def chosen(table: str, filters: tuple[Filter, ...] = FILTERS, columns: Mapping[str, str] | None = None) -> str:
    """SQL: the rows of `table` that the drop-downs let through; `columns` as in `Filter.named`."""
    tests = (f"$__conditionalAll({one.named(table, columns)} IN (${{{one.variable}:singlequote}}), ${one.variable})" for one in filters)  # fmt: skip
    return " AND ".join(tests)


#: `FROM … WHERE …` over sums by hour, and over calls.
FROM_HOURS = f"FROM {MOVEMENTS} WHERE {HOURS} AND {chosen('h')}"
FROM_CALLS = f"FROM llm_calls AS c WHERE {CALLS_IN_TIME} AND {chosen('c', columns={'Model': CALL_MODEL})}"


def series(time: str, values: Mapping[str, str], source: str) -> str:
    """SQL of several sums over time, one series each: `values` are names and expressions."""
    columns = ", ".join(f"{sql} AS v{number}" for number, sql in enumerate(values.values()))
    names = ", ".join(f"'{name}'" for name in values)
    numbers = ", ".join(f"v{number}" for number in range(len(values)))
    return (
        f"SELECT time, series, value FROM (\n  SELECT {time} AS time, {columns}\n  {source}\n  GROUP BY time\n)\n"
        f"ARRAY JOIN [{names}] AS series, [{numbers}] AS value\nORDER BY time, series"
    )


def ten_greatest(key: str, value: str, absent: str = UNATTRIBUTED) -> str:
    """SQL of an hourly sum over time by a text: a series for each of the ten with the most of it, and one for the others."""
    return f"""
WITH {key} AS key,
     (SELECT groupArray(name) FROM (SELECT {key} AS name {FROM_HOURS} GROUP BY name HAVING sum(h.Calls) != 0 ORDER BY {value} DESC NULLS LAST LIMIT 10)) AS top
SELECT $__timeInterval(h.Hour) AS time, multiIf(NOT has(top, key), '(all others)', key = '', '{absent}', key) AS series, {value} AS value
{FROM_HOURS}
GROUP BY time, series
HAVING value > 0
ORDER BY time, series"""


def usd(expression: str) -> str:
    """SQL: money as a number that Grafana draws; the sum before it is exact."""
    return f"toFloat64({expression})"
