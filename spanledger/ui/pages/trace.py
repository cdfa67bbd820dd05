"""One trace: the spans from the app through the gateway to the model as a waterfall, and what each of them says."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import polars as pl

from processors.redaction.content import Content, places
from spanledger.ui import units
from spanledger.ui.charts import ticks
from spanledger.ui.html import Markup, Node, e
from spanledger.ui.page import NotHere, View, page, source
from spanledger.ui.spans import KINDS, Span, classify, times, tree
from spanledger.ui.tables import facts, tile

MOST = 1000
_LONG = 300
#: What each kind is drawn as, on 12 × 12, and its colour.
SHAPES = {
    "app": ("M6 1a5 5 0 100 10A5 5 0 006 1z", "s8"), "gateway": ("M1 1h10v10H1z", "s6"), "call": ("M6 0l6 6-6 6-6-6z", "s0"),
    "report": ("M6 0l6 6-6 6-6-6zM6 3L3 6l3 3 3-3z", "s0 again"), "fallback": ("M0 2h6l6 4-6 4H0l3-4z", "s3"), "retry": ("M6 0l6 6-6 6-6-6zM5 3v6h2V3z", "s7"),
    "failed": ("M2 0l4 4 4-4 2 2-4 4 4 4-2 2-4-4-4 4-2-2 4-4-4-4z", "s4"), "guardrail": ("M6 0l5 2v4c0 3-2 5-5 6-3-1-5-3-5-6V2z", "s2"),
    "cache": ("M1 3h10v2H1zM1 7h10v2H1z", "s1"), "tool": ("M3 1h6l3 5-3 5H3L0 6z", "s5"),
}  # fmt: skip
_SQL = f"""SELECT s.SpanId AS SpanId, s.ParentSpanId AS ParentSpanId, s.SpanName AS SpanName, s.ServiceName AS ServiceName, s.SpanKind AS SpanKind,
toUnixTimestamp64Nano(s.Timestamp) AS Start, s.Duration AS Duration, s.StatusCode AS StatusCode, s.StatusMessage AS StatusMessage,
s.CallId AS CallId, s.PriceStatus AS PriceStatus, s.RequestModel AS RequestModel, s.ResponseModel AS ResponseModel, s.InputTokens AS InputTokens, s.OutputTokens AS OutputTokens,
s.CostUSD AS CostUSD, s.Findings AS Findings, mapKeys(s.Pii) AS PiiKeys, mapValues(s.Pii) AS PiiCounts,
mapKeys(s.SpanAttributes) AS AttributeKeys, mapValues(s.SpanAttributes) AS AttributeValues,
mapKeys(s.ResourceAttributes) AS ResourceKeys, mapValues(s.ResourceAttributes) AS ResourceValues,
arrayMap(t -> toUnixTimestamp64Nano(t), s.`Events.Timestamp`) AS EventTimes, s.`Events.Name` AS EventNames,
arrayMap(m -> mapKeys(m), s.`Events.Attributes`) AS EventKeys, arrayMap(m -> mapValues(m), s.`Events.Attributes`) AS EventValues
FROM otel_traces AS s
WHERE s.TraceId = {{id:String}}
AND s.Timestamp >= (SELECT min(Start) FROM otel_traces_trace_id_ts WHERE TraceId = {{id:String}})
AND s.Timestamp < (SELECT max(End) + 1 FROM otel_traces_trace_id_ts WHERE TraceId = {{id:String}})
ORDER BY s.Timestamp, s.SpanId
LIMIT {MOST}"""
_COST = "SELECT sum(c.CostUSD) AS USD, count() AS Calls, countIf(c.CostUSD IS NULL AND c.StatusCode != 'Error') AS Unpriced FROM llm_calls AS c WHERE c.TraceId = {id:String}"


@page("/trace/{id}", "Trace", filtered=False, live=True)
def body(view: View) -> Node:
    """Figures, legend, waterfall."""
    id_ = view.arguments["id"].lower()
    asked = view.asked(_COST, {"id": id_})
    frame = view.ask(_SQL, {"id": id_})
    if view.wanted_csv:
        rows = frame if view.admin else frame.drop("StatusMessage", "AttributeValues", "ResourceValues", "EventValues")
        view.csv = rows if view.wanted_csv == view.slug("Spans") else None
        return None
    if not frame.height:
        raise NotHere("There are no spans of this trace: it may have passed its retention, or not have come yet.")
    spans = tree(_spans(frame))
    classify(spans)
    first = min(row for row in frame["Start"])
    where = times(spans)
    calls = asked.result().row(0, named=True)
    present = {span.kind for span in spans}
    legend = [e("li", e("span", _shape(kind), KINDS[kind])) for kind in KINDS if kind in present]
    return [
        e("p.note.under", e("span", e("code", id_), f" · {units.when(datetime.fromtimestamp(first / 1e9, UTC))} UTC")),
        e(
            "section.tiles",
            tile("Cost", units.usd_call(calls["USD"]), f"{calls['Calls']} call{'' if calls['Calls'] == 1 else 's'}" + (f", {calls['Unpriced']} without a price" if calls["Unpriced"] else "")),
            tile("Took", units.took(where.whole), f"{len(spans)} spans"),
            tile("In models", units.took(where.models), units.share(where.models / where.whole) if where.models and where.whole else "no calls"),
            tile("In the gateway itself", units.took(where.gateway), "beside its calls" if where.gateway is not None else "it has no span of its own"),
            aria_label="Figures",
        ),
        e(
            "section.card.trace",
            e("header", e("h2", "Spans"), e("div.tools", source(view, view.slug("Spans"), _SQL, {"id": id_}))),
            e("p.note", "A click on a span shows what it says. What redaction took out is not there to show.", "" if view.admin else " Texts of calls are shown to admins only."),
            e("ul.legend", legend),
            e("div.body.fall", _scale(where.whole), (_row(view, span, where.whole) for span in spans)),
            e("p.note", f"Only the first {MOST} spans.") if frame.height == MOST else None,
        ),
    ]  # fmt: skip


def _spans(frame: pl.DataFrame) -> list[Span]:
    first = min(row for row in frame["Start"])
    found = []
    for row in frame.iter_rows(named=True):
        events = [
            (at - first, name, dict(zip(keys, values, strict=True)))
            for at, name, keys, values in zip(row["EventTimes"], row["EventNames"], row["EventKeys"], row["EventValues"], strict=True)
        ]  # fmt: skip
        attributes = dict(zip(row["AttributeKeys"], row["AttributeValues"], strict=True))
        found.append(Span(row["SpanId"], row["ParentSpanId"], row["SpanName"], row["ServiceName"], row["SpanKind"], row["Start"] - first, row["Duration"], row["StatusCode"] == "Error", row["StatusMessage"], row["CallId"], row["PriceStatus"], attributes, events, row))  # fmt: skip
    return found


def _shape(kind: str) -> Markup:
    path, colour = SHAPES[kind]
    return e("svg.kind", e("path", d=path, class_=colour, fill_rule="evenodd"), viewBox="0 0 12 12", role="img", aria_label=KINDS[kind])  # fmt: skip


def _scale(whole: int) -> Markup:
    """The times above the bars."""
    marks = [mark for mark in ticks(float(whole), 4) if mark <= whole] if whole else [0.0]
    texts = [e("text", units.took(mark) if mark else "0", x=f"{100 * mark / whole if whole else 0:.2f}%", y=14, text_anchor="start" if not mark else "middle") for mark in marks]  # fmt: skip
    return e("div.span.scale", e("div.summary", e("span.label", ""), e("svg.run", texts, aria_hidden="true")))


def _row(view: View, span: Span, whole: int) -> Markup:
    left = 100 * span.start / whole if whole else 0
    width = max(100 * span.duration / whole if whole else 0, 0.25)
    colour = SHAPES[span.kind][1]
    cost = units.usd_call(span.row["CostUSD"]) if span.row["CostUSD"] is not None and span.kind != "report" else ""
    marks = [
        e("rect.event", x=f"{100 * at / whole:.2f}%", y=2, width=2, height=16) for at, _, _ in span.events if whole and 0 <= at <= whole
    ]  # fmt: skip
    bar = e("rect", x=f"{left:.2f}%", y=5, width=f"{width:.2f}%", height=10, rx=2, class_=colour)
    edge = e("rect.err", x=f"{left:.2f}%", y=4, width=f"{width:.2f}%", height=12, rx=2) if span.failed else None
    indent = [e("span.way") for _ in range(min(span.depth, 12))]
    return e(
        "details.span",
        e(
            "summary",
            e("span.label", indent, _shape(span.kind), e("span", span.name, title=f"{span.name} · {span.service}")),
            e("svg.run", bar, edge, marks, aria_hidden="true"),
            e("span.took", units.took(span.duration)),
            e("span.took.minor", cost),
            e("span.sr", f"{KINDS[span.kind]}, {span.service}{', failed' if span.failed else ''}"),
        ),
        e("div.inside", _inside(view, span)),
    )  # fmt: skip


def _inside(view: View, span: Span) -> Node:
    row = span.row
    pii = ", ".join(f"{name} × {count}" for name, count in zip(row["PiiKeys"], row["PiiCounts"], strict=True))
    call = e("a", e("code", span.call), href=view.link(f"/call/{span.call}")) if span.call else ""
    status = ("failed" + (f": {span.message}" if span.message and view.admin else "")) if span.failed else "ok"
    top = (
        ("What", KINDS[span.kind]), ("Service", span.service), ("Kind", span.span_kind), ("Took", units.took(span.duration)), ("Status", status), ("Call", call),
        ("Tokens", f"{units.count(row['InputTokens'])} in, {units.count(row['OutputTokens'])} out" if row["InputTokens"] is not None else ""),
        ("Cost", units.usd_call(row["CostUSD"]) if row["CostUSD"] is not None else ""), ("Price", row["PriceStatus"].replace("_", " ")),
        ("Taken out", pii), ("Findings", row["Findings"] or ""),
    )  # fmt: skip
    resource = dict(zip(row["ResourceKeys"], row["ResourceValues"], strict=True))
    return [
        facts([(name, value) for name, value in top if value]),
        [
            [e("h3", f"Event {name} at {units.took(at) if at > 0 else '0'}"), _attributes(view, attributes, name)]
            for at, name, attributes in span.events
        ],
        e("div", e("h3", "Attributes"), _attributes(view, span.attributes)) if span.attributes else None,
        e("div", e("h3", "Resource"), _attributes(view, resource)) if resource else None,
    ]


def _attributes(view: View, attributes: Mapping[str, Any], event: str = "") -> Markup:
    return facts([(key, _value(view, key, str(value), event)) for key, value in sorted(attributes.items())])


def _value(view: View, key: str, value: str, event: str) -> Node:
    if not view.admin and hidden(key, value, event):
        return e("span.tag", "for admins only")
    return e("details", e("summary", f"{value[:120]}…"), e("pre", value)) if len(value) > _LONG else value


def hidden(key: str, value: str, event: str = "") -> bool:
    """Whether a viewer must not see a value: what was said to a model or answered, errors that may quote it, long texts."""
    known = places()
    content = known.content(key) is not Content.NONE or (
        known.event(event) is not Content.NONE and not known.kept_of_events(key)
    )
    return content or key.startswith("exception.") or len(value) > _LONG
