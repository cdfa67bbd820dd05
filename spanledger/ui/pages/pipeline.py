"""The pipeline itself: what comes in, what waits and for how long, what goes out, what went wrong, and the config in force."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import polars as pl

from exporters.clickhouse.schema import DELAYS
from spanledger.ui import units
from spanledger.ui.ask import Value
from spanledger.ui.charts import HALF, lines, meter, stacked
from spanledger.ui.html import Markup, Node, e
from spanledger.ui.page import View, figure, page
from spanledger.ui.sql import COST, ROUTED, step_of
from spanledger.ui.tables import Column, facts, table, tile

#: A wait that somebody should look at, seconds; and a share of a queue's room.
_LATE, _FULL = 60, 0.5
_HOUR = 3600
_ALL = "Of all senders: the filters but the time do not narrow this page."


@page("/pipeline", "Pipeline", "pipeline")
def body(view: View) -> Node:
    if view.source.status is None:
        state: Node = e("p.note.under", "Queues and the config are the running collector's: open its admin port for them. What arrived stands in the store.")  # fmt: skip
    else:
        state = _state(view, view.source.status())
    return [state, e("div.grid", _throughput(view), _delay(view), _senders(view), _books(view))]


def _state(view: View, status: Mapping[str, Any]) -> Node:
    pipelines, exporters, inbox = status["pipelines"], status["exporters"], status["inbox"]
    oldest = max((float(p["oldest_seconds"]) for p in pipelines.values()), default=0.0)
    outgoing = max((float(x["oldest_seconds"]) for x in exporters.values()), default=0.0)
    waiting = sum(int(p["waiting_items"]) for p in pipelines.values())
    room = inbox["bytes"] / inbox["capacity_bytes"] if inbox["capacity_bytes"] else 0.0
    letters = status["dead_letters"]
    problems = [str(problem) for problem in status["problems"]]
    return [
        e(
            "section.tiles",
            tile("State", "Ready" if status["ready"] else "Not ready", f"Spanledger {status['version']}", "" if status["ready"] else "warn"),
            tile("Waits in the inbox", units.count(waiting), f"{size(inbox['bytes'])}, {units.share(room)} of its room", "warn" if room > _FULL or inbox["failed"] else ""),
            tile("Oldest in the inbox", seconds(oldest), "until it is processed", "warn" if oldest > _LATE else ""),
            tile("Oldest in an outbox", seconds(outgoing), "until it is delivered", "warn" if outgoing > _LATE else ""),
            tile("Dead letters", units.count(letters), size(status["dead_letter_bytes"]) if letters else "nothing was given up", "warn" if letters else ""),
            aria_label="State",
        ),
        e("ul.warnings", [e("li", problem if view.admin else "The collector has a problem: its admins see which.") for problem in problems]) if problems else None,
        e("p.note.under", "Dead letters wait for somebody to decide: ", e("code", "spanledger dead-letter list"), ".") if letters else None,
        e("div.grid", _receivers(status), _pipelines(view, pipelines), _exporters(view, exporters), _config(view, status)),
    ]  # fmt: skip


def _card(title: str, *content: Node, note: str = "", wide: bool = False) -> Markup:
    return e("section.card", e("header", e("h2", title)), e("p.note", note) if note else None, e("div.body", content), class_="wide" if wide else None)  # fmt: skip


def _receivers(status: Mapping[str, Any]) -> Markup:
    return _card("Receivers", facts([_endpoint(text) for text in status["receivers"]]), note="Where senders may send.")  # fmt: skip


def _endpoint(text: str) -> tuple[str, Node]:
    """Protocol and address."""
    protocol, _, address = text.rpartition("://")
    return protocol or "listens on", e("code", address)


def _pipelines(view: View, pipelines: Mapping[str, Mapping[str, Any]]) -> Markup:
    frame = pl.DataFrame([{"Name": name, "Items": p["waiting_items"], "Bytes": p["waiting_bytes"], "Oldest": float(p["oldest_seconds"]), "Failed": _told(view, p["failed"])} for name, p in pipelines.items()])  # fmt: skip
    columns = (
        Column("Name", "Pipeline"),
        Column("Items", "Waiting", units.count, number=True),
        Column("Bytes", "Bytes", size, number=True, minor=True),
        Column("Oldest", "Lag", seconds, number=True),
        Column(
            "Failed",
            "State",
            cell=lambda row: e("span.tag.bad", row["Failed"]) if row["Failed"] else e("span.tag.good", "works"),
        ),
    )
    return _card("Pipelines", table(frame, columns, "Pipelines"), note="Accepted, durable, and not processed yet.")


def _exporters(view: View, exporters: Mapping[str, Mapping[str, Any]]) -> Markup:
    rows = [
        {"Name": name, "To": x["to"], "Deliveries": x["waiting_deliveries"], "Bytes": x["waiting_bytes"], "Room": x["capacity_bytes"], "Oldest": float(x["oldest_seconds"]), "Error": _told(view, _error(x))}
        for name, x in exporters.items()
    ]  # fmt: skip
    columns = (
        Column("Name", "Exporter"),
        Column("To", "To", cell=lambda row: e("code", row["To"]) if view.admin else "for admins only", minor=True),
        Column("Deliveries", "Waiting", units.count, number=True),
        Column("Bytes", "of its room", cell=lambda row: e("div.bar", meter(row["Bytes"], row["Room"], "near" if row["Bytes"] > _FULL * (row["Room"] or 1) else "s0"), e("span", size(row["Bytes"]))), number=True, minor=True),
        Column("Oldest", "Lag", seconds, number=True),
        Column("Error", "Last error", cell=lambda row: e("span.tag.bad", row["Error"]) if row["Error"] else e("span.tag.good", "none")),
    )  # fmt: skip
    return _card("Exporters and their outboxes", table(pl.DataFrame(rows), columns, "Exporters"), note="Processed, durable, and not delivered yet.", wide=True)  # fmt: skip


def _told(view: View, error: object) -> str:
    """An error for this reader: it may name machines."""
    return "" if not error else str(error) if view.admin else "failed"


def _error(exporter: Mapping[str, Any]) -> str:
    if exporter["failed"]:
        return str(exporter["failed"])
    error = exporter["last_error"]
    return f"{error['text']} ({seconds(error['seconds_ago'])} ago)" if error else ""


def _config(view: View, status: Mapping[str, Any]) -> Markup:
    if not view.admin:
        return _card("Config in force", e("p.empty", "For admins only."), wide=True)
    return _card("Config in force", e("details", e("summary", "Show"), e("pre.config", e("code", str(status["config"])), tabindex="0")), note="Secrets are hidden.", wide=True)  # fmt: skip


def size(value: float | None) -> str:
    """Bytes."""
    if value is None:
        return units.DASH
    for step, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if value >= step:
            return f"{value / step:.3g} {unit}"
    return f"{value:.0f} B"


def seconds(value: float) -> str:
    return units.took(value * 1e9) if value > 0 else "0 s"


def seconds_short(value: float) -> str:
    """On an axis, which has room for a few characters."""
    return f"{value / 3600:,.3g} h" if value >= 3600 else f"{value / 60:.3g} min" if value >= 60 else f"{value:.3g} s"


def _times(view: View) -> dict[str, Value]:
    return {"since": view.filters.start, "until": view.filters.end}


def _step(view: View) -> int:
    """Minutes for short looks: arrivals are not kept by the hour."""
    length = view.filters.seconds
    return next((step for step in (60, 300, 900) if length / step <= 80), step_of(length))


def _arrived(view: View) -> tuple[str, str]:
    """SQL: when a span came in, and whether that was in the period. Long looks go by whole hours, of which the store keeps counts."""
    if _step(view) < _HOUR:
        return "s.Received", "s.Received >= {since:DateTime64(6, 'UTC')} AND s.Received < {until:DateTime64(6, 'UTC')}"
    hour = "toStartOfHour(s.Received)"
    return hour, f"{hour} >= toStartOfHour({{since:DateTime64(6, 'UTC')}}) AND {hour} < {{until:DateTime64(6, 'UTC')}}"


def _throughput(view: View) -> Markup:
    step = _step(view)
    time, arrived = _arrived(view)
    sql = f"""SELECT toStartOfInterval({time}, INTERVAL {step} SECOND, 'UTC') AS time, if(s.Dialect = '', '(no model call)', s.Dialect) AS series, count() AS value
FROM otel_traces AS s
WHERE {arrived}
GROUP BY time, series
ORDER BY time, series"""

    def chart(frame: pl.DataFrame) -> Node:
        return stacked(frame, view.filters.start, view.filters.end, step, unit=units.count, axis=units.short, width=HALF, height=200, label="Spans that arrived")  # fmt: skip

    return figure(view, "Spans that arrived", sql, chart, parameters=_times(view), note=f"By dialect, when they came in. {_ALL}", empty="No span arrived in this period.")  # fmt: skip


def _delay(view: View) -> Markup:
    step = _step(view)
    time, arrived = _arrived(view)
    sql = f"""SELECT time, series, value FROM (
SELECT toStartOfInterval({time}, INTERVAL {step} SECOND, 'UTC') AS time, {DELAYS} AS delays
FROM otel_traces AS s
WHERE {arrived}
GROUP BY time
)
ARRAY JOIN ['median', 'p95'] AS series, delays AS value
ORDER BY time, series"""

    def chart(frame: pl.DataFrame) -> Node:
        return lines(frame, view.filters.start, view.filters.end, step, unit=seconds, axis=seconds_short, clock=True, height=200, label="Delay of spans")  # fmt: skip

    return figure(view, "Delay", sql, chart, parameters=_times(view), note="From the end of a span to its arrival here.", empty="No span arrived in this period.")  # fmt: skip


def _senders(view: View) -> Markup:
    sql = f"""SELECT s.ServiceName AS Service, if(s.Dialect = '', '(no model call)', s.Dialect) AS Dialect, count() AS Spans, countIf(s.CallId > '') AS Reports,
countIf(s.StatusCode = 'Error') AS Failed, toDateTime64(max(s.Received), 0, 'UTC') AS Last
FROM otel_traces AS s
WHERE {_arrived(view)[1]}
GROUP BY Service, Dialect
ORDER BY Spans DESC, Service, Dialect
LIMIT 50"""
    columns = (
        Column("Service", "Service"),
        Column("Dialect", "Dialect", minor=True),
        Column("Spans", "Spans", units.count, number=True),
        Column("Reports", "Of calls", units.count, number=True, minor=True),
        Column("Failed", "Failed", units.count, number=True, minor=True),
        Column("Last", "Last (UTC)", cell=lambda row: e("span.nowrap", f"{row['Last']:%d %b %H:%M:%S}")),
    )
    return figure(view, "Senders", sql, partial(table, columns=columns, caption="Senders"), parameters=_times(view), wide=True, empty="No span arrived in this period.")  # fmt: skip


def _books(view: View) -> Markup:
    """Which books priced the calls."""
    sql = f"""SELECT if(h.PriceBook = '', concat('none: ', replaceAll(h.PriceStatus, '_', ' ')), h.PriceBook) AS Book, sum(h.Calls) AS Calls, {COST} AS USD, toDateTime64(max(h.Hour), 0, 'UTC') AS Last
FROM {ROUTED}
WHERE h.Hour >= toStartOfHour({{since:DateTime64(6, 'UTC')}}) AND h.Hour < {{until:DateTime64(6, 'UTC')}}
GROUP BY Book
HAVING Calls != 0
ORDER BY Calls DESC, Book
LIMIT 20"""
    columns: Sequence[Column] = (
        Column("Book", "Price book"),
        Column("Calls", "Calls", units.count, number=True),
        Column("USD", "Cost", units.usd, number=True, minor=True),
        Column("Last", "Last hour (UTC)", cell=lambda row: e("span.nowrap", f"{row['Last']:%d %b %H:%M}")),
    )
    return figure(view, "Price books", sql, partial(table, columns=columns, caption="Price books"), parameters=_times(view), wide=True, note=f"What priced the calls. In force here: {_book()}.", empty="No calls in this period.")  # fmt: skip


def _book() -> str:
    from collector.prices import Book

    return Book().version
