"""Models and routing: what was asked for and what served, what fails over, what the policy says of it, how load is shared."""

from __future__ import annotations

from functools import partial

import polars as pl

from exporters.clickhouse.hourly import TRAFFIC
from spanledger.ui import units
from spanledger.ui.ask import Value
from spanledger.ui.charts import HALF, lines, stacked
from spanledger.ui.flows import flows
from spanledger.ui.html import Markup, Node, e
from spanledger.ui.page import View, figure, page
from spanledger.ui.sql import ABSENT, COST, ROUTED, calls, hourly, last_days, step_of
from spanledger.ui.tables import Column, Row, table
from spanledger.ui.weights import configured

_SERVED = ABSENT.format(column="h.Model")
_ASKED = ABSENT.format(column="h.RequestModel")
_LINES = 20
_MOST_ROWS = 60
#: Attempts that failed over are told of a whole period up to a week; of a longer one, of its last days.
_LAST_DAYS = 3
#: How far a share may be off what is configured, as the processor behaviour has it by default.
_OFF = 0.05
_NO_POLICY = "No routing policy judged calls of this period: the processor routing does (docs/routing.md)."


@page("/models", "Models and routing", "models")
def body(view: View) -> Node:
    where, parameters = hourly(view)
    return e(
        "div.grid",
        _flow(view, where, parameters),
        _fallback_flow(view),
        _fallbacks(view),
        _premium(view, where, parameters),
        _verdicts(view, where, parameters),
        _avoidable(view, where, parameters),
        _load(view),
    )


def _flow(view: View, where: str, parameters: dict[str, Value]) -> Markup:
    sql = f"""SELECT {_ASKED} AS source, {_SERVED} AS target, sum(h.Calls) AS value
FROM {ROUTED}
WHERE {where}
GROUP BY source, target
HAVING value != 0
ORDER BY value DESC, source, target
LIMIT 30"""
    return figure(view, "Asked and served", sql, partial(flows, label="From the models asked for to those that served"), parameters=parameters, wide=True, note="Calls, from the model or alias that was asked for (left) to the model that served (right). The thirty widest.")  # fmt: skip


def _failovers(view: View) -> tuple[str, dict[str, Value]]:
    """The question of both figures about attempts that failed over: the store is asked once. Who answered an attempt is found
    trace by trace, so of a longer period its last days must do."""
    where, parameters = view.filters.where("f", columns={"Environment": "", "Model": "f.ServedModel", "Provider": "f.ServedProvider"})  # fmt: skip
    parameters["since"], _ = last_days(view, _LAST_DAYS)
    sql = f"""SELECT f.Kind AS Kind, {ABSENT.format(column="f.FailedModel")} AS Failed, {ABSENT.format(column="f.ServedModel")} AS Served, f.ErrorType AS Error, f.TierChange AS Quality, count() AS Times,
sum(f.CostUSD) AS USD, avg(f.LostTime) AS Lost, argMax(f.TraceId, f.Timestamp) AS TraceId
FROM llm_fallbacks AS f
WHERE f.Day >= toDate({{since:DateTime64(6, 'UTC')}}) AND {where}
GROUP BY Kind, Failed, Served, Error, Quality
ORDER BY Times DESC, Failed, Served, Kind, Error, Quality
LIMIT 5000"""
    return sql, parameters


def _fallback_flow(view: View) -> Markup:
    sql, parameters = _failovers(view)

    def chart(frame: pl.DataFrame) -> Node:
        again = pl.when(pl.col("Kind") == "retry").then(pl.col("Served") + " (again)").otherwise("Served")
        widest = frame.group_by(pl.col("Failed").alias("source"), again.alias("target")).agg(
            pl.col("Times").sum().alias("value")
        )
        drawn = widest.sort("value", "source", "target", descending=[True, False, False]).head(30)
        return flows(drawn, label="From the models that failed to those that answered")

    return figure(view, "Fallback flows", sql, chart, parameters=parameters, wide=True, note=f"Attempts that failed (left), and who answered instead (right); “again” is a retry.{last_days(view, _LAST_DAYS)[1]}", empty="No attempt of this period failed and was answered by another.")  # fmt: skip


def _fallbacks(view: View) -> Markup:
    sql, parameters = _failovers(view)
    columns = (
        Column("Kind", "Kind"),
        Column("Failed", "Failed → answered", cell=lambda row: f"{row['Failed']} → {row['Served']}"),
        Column("Error", "Why", minor=True),
        Column("Quality", "Quality", cell=_quality),
        Column("Times", "Times", units.count, number=True),
        Column("Lost", "Lost each", units.took, number=True, minor=True),
        Column("USD", "Cost", units.usd, number=True, minor=True),
        Column("TraceId", "Newest", cell=lambda row: e("a", "trace", href=view.link(f"/trace/{row['TraceId']}"))),
    )

    def chart(frame: pl.DataFrame) -> Node:
        return table(frame.head(_LINES), columns, caption="Fallbacks and retries")

    return figure(view, "Fallbacks and retries", sql, chart, parameters=parameters, wide=True, note=last_days(view, _LAST_DAYS)[1].strip(), empty="No attempt of this period failed and was answered by another.")  # fmt: skip


def _quality(row: Row) -> Node:
    return e("span.tag", row["Quality"], class_="warn" if row["Quality"] == "drop" else None)


def _premium(view: View, where: str, parameters: dict[str, Value]) -> Markup:
    seconds = step_of(view.filters.seconds)
    sql = f"""SELECT time, series, value FROM (
SELECT toStartOfInterval(h.Hour, INTERVAL {seconds} SECOND, 'UTC') AS time,
sumIf(h.Calls, h.ModelTier = 1) / sum(h.Calls) AS v0, toFloat64(sumIf(h.CostUSD, h.ModelTier = 1)) / nullIf(toFloat64(sum(h.CostUSD)), 0) AS v1
FROM {ROUTED}
WHERE {where} AND h.ModelTier != 0
GROUP BY time
HAVING sum(h.Calls) != 0
)
ARRAY JOIN ['of calls', 'of spend'] AS series, [v0, v1] AS value
ORDER BY time, series"""

    def chart(frame: pl.DataFrame) -> Node:
        return lines(frame, view.filters.start, view.filters.end, seconds, unit=units.share, axis=lambda v: f"{v * 100:.0f}%", label="Premium share over time")  # fmt: skip

    return figure(view, "Premium share", sql, chart, parameters=parameters, note="Of what models of a known quality tier served: the part of tier 1, the makers' best.", empty=_NO_POLICY)  # fmt: skip


def _verdicts(view: View, where: str, parameters: dict[str, Value]) -> Markup:
    seconds = step_of(view.filters.seconds)
    sql = f"""SELECT toStartOfInterval(h.Hour, INTERVAL {seconds} SECOND, 'UTC') AS time, replaceAll(h.RouteVerdict, '_', ' ') AS series, sum(h.Calls) AS value
FROM {ROUTED}
WHERE {where} AND h.RouteVerdict != ''
GROUP BY time, series
HAVING value != 0
ORDER BY time, series"""

    def chart(frame: pl.DataFrame) -> Node:
        return stacked(frame, view.filters.start, view.filters.end, seconds, unit=units.count, axis=units.short, width=HALF, height=200, label="Verdicts over time")  # fmt: skip

    return figure(view, "Verdicts of the policy", sql, chart, parameters=parameters, note="Whether the model that the policy expects served.", empty=_NO_POLICY)  # fmt: skip


def _avoidable(view: View, where: str, parameters: dict[str, Value]) -> Markup:
    sql = f"""SELECT {ABSENT.format(column="h.Team")} AS Team, h.Route AS Route, h.ExpectedModel AS Expected, {_SERVED} AS Served, h.RouteVerdict AS Verdict,
sum(h.Calls) AS Calls, {COST} AS USD, sum(h.AvoidableCostUSD) AS Avoidable
FROM {ROUTED}
WHERE {where} AND h.RouteVerdict != ''
GROUP BY Team, Route, Expected, Served, Verdict
HAVING Avoidable > 0
ORDER BY Avoidable DESC, Calls DESC, Team, Served
LIMIT 20"""
    columns = (
        Column(
            "Team",
            "Team",
            cell=lambda row: e("a", row["Team"], href=view.link("/calls", team=row["Team"], status="rerouted")),
        ),
        Column("Route", "Route", minor=True),
        Column("Expected", "Expected → served", cell=lambda row: f"{row['Expected']} → {row['Served']}"),
        Column("Verdict", "Verdict", cell=lambda row: row["Verdict"].replace("_", " "), minor=True),
        Column("Calls", "Calls", units.count, number=True, minor=True),
        Column("USD", "Cost", units.usd, number=True, minor=True),
        Column("Avoidable", "Avoidable", units.usd, number=True, bar=True),
    )
    return figure(view, "Avoidable cost", sql, partial(table, columns=columns, caption="Avoidable cost"), parameters=parameters, wide=True, note="What the calls cost more than the expected model would have for the same tokens.", empty="No call of this period cost more than its route's model would have, or no policy judged any.")  # fmt: skip


def _load(view: View) -> Markup:
    groups = view.source.weights
    if any(group.by == "api_key" for group in groups):  # the sums have no keys
        where, parameters = calls(view)
        source, alias, key = "llm_calls AS c", "c", "c.ApiKey"
        measures = {m.name: m.of_calls for m in TRAFFIC.measures}
    else:
        where, parameters = hourly(view)
        source, alias, key = ROUTED, "h", "''"
        measures = {m.name: f"sum(h.{m.name})" for m in TRAFFIC.measures}
    asked, provider = (ABSENT.format(column=f"{alias}.{name}") for name in ("RequestModel", "Provider"))
    sql = f"""SELECT Asked, Provider, Deployment, Region, ApiKey, Calls, Calls / sum(Calls) OVER (PARTITION BY Asked) AS Share, 1 / count() OVER (PARTITION BY Asked) AS Even,
Failures / Calls AS Failed, Limited, Answered / nullIf(Calls - Failures, 0) AS Took
FROM (SELECT {asked} AS Asked, {provider} AS Provider, {alias}.Deployment AS Deployment, {alias}.Region AS Region, {key} AS ApiKey,
{measures["Calls"]} AS Calls, {measures["FailedCalls"]} AS Failures, {measures["LimitedCalls"]} AS Limited, {measures["AnsweredTime"]} AS Answered
FROM {source}
WHERE {where}
GROUP BY Asked, Provider, Deployment, Region, ApiKey
HAVING Calls != 0)
ORDER BY sum(Calls) OVER (PARTITION BY Asked) DESC, Asked, Calls DESC, Provider, Deployment, Region, ApiKey
LIMIT 1000"""
    wanted = Column("Configured", "Configured", cell=_wanted, number=True) if groups else Column("Even", "Even share", units.share, number=True)  # fmt: skip
    columns = (
        Column("Asked", "Model asked for"),
        Column("Deployment", "Deployment", cell=lambda row: " · ".join(filter(None, (row[name] for name in ("Provider", "Deployment", "Region", "ApiKey"))))),
        Column("Calls", "Calls", units.count, number=True, minor=True),
        Column("Share", "Share", units.share, number=True, bar=True),
        wanted,
        Column("Failed", "Failed", units.share, number=True, minor=True),
        Column("Limited", "Rate limits", units.count, number=True, minor=True),
        Column("Took", "A call takes", units.took, number=True, minor=True),
    )  # fmt: skip

    def chart(frame: pl.DataFrame) -> Node:
        return table(configured(frame, groups).head(_MOST_ROWS), columns, caption="Load per deployment")

    note = "Configured: what `groups` of the processor behaviour say; what is more than five points off is marked." if groups else "Even: what each would have if all had the same. The processor behaviour can be told what they should have (`groups`)."  # fmt: skip
    return figure(view, "Load per deployment", sql, chart, parameters=parameters, wide=True, note=f"How the calls of a model name are shared. {note}")  # fmt: skip


def _wanted(row: Row) -> Node:
    """The configured share; where a member has several rows, with what they have together."""
    if row["Configured"] is None:
        return units.DASH
    off = abs(row["Has"] - row["Configured"]) > _OFF
    together = (
        f" ({row['By'].replace('_', ' ')}: {units.share(row['Has'])})" if abs(row["Has"] - row["Share"]) > 1e-9 else ""
    )
    shown = f"{units.share(row['Configured'])}{together}"
    return e("span.tag.warn", shown) if off else shown
