"""The kinds of panels, and how money, tokens and times look in all of them.

A panel says in its description where its figure comes from. `Figure` is what a stat panel or a column shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import bargauge, common, dashboard, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as model

from spanledger.grafana.query import CLICKHOUSE, PROMETHEUS, Format, Sql

#: Grafana's names of units.
USD, COUNT, SHARE, MILLISECONDS, SECONDS, BYTES, RATE = "currencyUSD", "short", "percentunit", "ms", "s", "bytes", "cps"
TOKENS = "short"
#: Digits of money: of a sum, of a price, of a single call.
SUM, CALL = 2, 6
TRACE_LINK = "/d/spanledger-trace?var-trace=${__data.fields.TraceId}&var-datasource=${datasource}"
#: Series of a chart are named by the one text column that its query has.
SERIES = "${__field.labels.series}"


@dataclass(frozen=True)
class Column:
    """How a table shows a column. `link`: where a click leads; `bar`: drawn as a bar of its share of the greatest."""

    name: str
    unit: str = ""
    decimals: int | None = None
    width: int | None = None
    link: str = ""
    title: str = ""
    bar: bool = False

    def properties(self) -> list[model.DynamicConfigValue]:
        found: dict[str, Any] = {}
        if self.unit:
            found["unit"] = self.unit
        if self.decimals is not None:
            found["decimals"] = self.decimals
        if self.width is not None:
            found["custom.width"] = self.width
        if self.link:
            found["links"] = [{"title": self.title, "url": self.link, "targetBlank": False}]
        if self.bar:
            found["custom.cellOptions"] = {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"}
            found["color"] = {"mode": "continuous-BlPu"}
            found["min"] = 0
        return [model.DynamicConfigValue(id_val=id_, value=value) for id_, value in found.items()]


def thresholds(steps: Mapping[float, str], base: str = "green") -> dashboard.ThresholdsConfig:
    """Colours from a value up."""
    found = [model.Threshold(color=base), *(model.Threshold(value=value, color=color) for value, color in steps.items())]  # fmt: skip
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(found)


#: A figure that should be zero.
WARN = {1.0: "orange"}
ALARM = {1.0: "red"}


def number(
    title: str,
    description: str,
    query: str | Builder[Dataquery],
    unit: str,
    *,
    decimals: int | None = None,
    width: int = 4,
    steps: Mapping[float, str] | None = None,
    base: str = "green",
    none: str = "none",
) -> stat.Panel:
    """One figure. `steps`: the colours of its background, from which value up; `none`: what stands for no value."""
    target = Sql(query, Format.TABLE) if isinstance(query, str) else query
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(CLICKHOUSE if isinstance(query, str) else PROMETHEUS)
        .with_target(target)
        .unit(unit)
        .span(width)
        .height(4)
        .no_value(none)
        .graph_mode(options.BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False))
        .thresholds(thresholds(steps or {}, base if steps else "text"))
        .color_mode(options.BigValueColorMode.BACKGROUND if steps else options.BigValueColorMode.VALUE)
    )
    return panel if decimals is None else panel.decimals(decimals)


def _chart(title: str, description: str, targets: Sequence[Builder[Dataquery]], unit: str, width: int, height: int) -> timeseries.Panel:  # fmt: skip
    sql = isinstance(targets[0], Sql)
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(CLICKHOUSE if sql else PROMETHEUS)
        .targets(list(targets))
        .unit(unit)
        .min(0)
        .span(width)
        .height(height)
        .legend(common.VizLegendOptions().display_mode(options.LegendDisplayMode.LIST).placement(options.LegendPlacement.BOTTOM).show_legend(True).calcs([]))
        .tooltip(common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI).sort(options.SortOrder.DESCENDING))
    )  # fmt: skip
    return panel.max_data_points(120) if sql else panel


def stacked(
    title: str,
    description: str,
    query: str,
    unit: str,
    *,
    decimals: int | None = None,
    interval: str = "1h",
    width: int = 12,
    height: int = 9,
) -> timeseries.Panel:
    """Sums by time as stacked bars. The query gives `time`, `series` and one number."""
    panel = (
        _chart(title, description, [Sql(query, Format.TIME_SERIES)], unit, width, height)
        .display_name(SERIES)
        .interval(interval)
        .draw_style(options.GraphDrawStyle.BARS)
        .fill_opacity(80)
        .line_width(0)
        .stacking(common.StackingConfig().mode(options.StackingMode.NORMAL).group("A"))
    )
    return panel if decimals is None else panel.decimals(decimals)


def lines(
    title: str,
    description: str,
    queries: str | Sequence[Builder[Dataquery]],
    unit: str,
    *,
    decimals: int | None = None,
    interval: str = "1m",
    width: int = 12,
    height: int = 8,
) -> timeseries.Panel:
    """Lines over time. SQL gives `time`, `series` and one number; a moment without a value is a gap."""
    targets = [Sql(queries, Format.TIME_SERIES)] if isinstance(queries, str) else queries
    panel = (
        _chart(title, description, targets, unit, width, height)
        .draw_style(options.GraphDrawStyle.LINE)
        .line_width(2)
        .fill_opacity(5)
        .show_points(options.VisibilityMode.AUTO)
    )
    if isinstance(queries, str):
        panel = panel.interval(interval).display_name(SERIES)
    return panel if decimals is None else panel.decimals(decimals)


def ranking(title: str, description: str, query: str, columns: Sequence[Column], *, width: int = 12, height: int = 9) -> table.Panel:  # fmt: skip
    """A table. `columns` names those that do not show as they are."""
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(CLICKHOUSE)
        .with_target(Sql(query, Format.TABLE))
        .span(width)
        .height(height)
        .filterable(True)
    )
    for column in columns:
        panel = panel.override_by_name(column.name, column.properties())
    return panel


def bars(title: str, description: str, query: str, unit: str, *, width: int = 8, height: int = 8) -> bargauge.Panel:
    """Ranked bars: the query gives a name and a number a row."""
    return (
        bargauge.Panel()
        .title(title)
        .description(description)
        .datasource(CLICKHOUSE)
        .with_target(Sql(query, Format.TABLE))
        .unit(unit)
        .min(0)
        .span(width)
        .height(height)
        .orientation(options.VizOrientation.HORIZONTAL)
        .display_mode(options.BarGaugeDisplayMode.GRADIENT)
        .reduce_options(common.ReduceDataOptions().values(True).calcs([]).fields("").limit(15))
        .color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.CONTINUOUS_BL_PU))
    )


def trace(title: str, description: str, query: str) -> dashboard.Panel:
    """Grafana's waterfall of one trace."""
    return (
        dashboard.Panel()
        .type("traces")
        .title(title)
        .description(description)
        .datasource(CLICKHOUSE)
        .with_target(Sql(query, Format.TRACE))
        .span(24)
        .height(18)
    )
