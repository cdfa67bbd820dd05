"""One call: what was used, what it cost and why, whom it is charged to and why, what redaction and routing say."""

from __future__ import annotations

import re
from datetime import UTC, date
from functools import cache
from typing import TYPE_CHECKING, Any

from spanledger.rates import columns, each_call, rows
from spanledger.ui import units
from spanledger.ui.ask import Value
from spanledger.ui.html import Markup, Node, e
from spanledger.ui.page import NotHere, View, page, source
from spanledger.ui.tables import facts, tile

if TYPE_CHECKING:
    from collector.prices import Book

_PRICE = {
    "priced": "Priced from the usage with the price book.",
    "reported": "The gateway's own figure: the price book has none for this model.",
    "unpriced_model": "No price is known for this model. Give it one with overrides of the processor pricing.",
    "missing_usage": "The report says no usage, so nothing can be priced.",
    "failed": "The call failed: nothing was billed.",
    "cached_replay": "The gateway answered from its own cache: nothing was billed.",
    "impossible_usage": "The counts contradict each other, so they are not priced.",
}
_VERDICTS = {
    "ok": "The route's model served it.",
    "premium_instead": "A dearer model than the route's served it.",
    "cheaper_instead": "A cheaper model than the route's served it.",
    "other_model": "Another model than the route's served it.",
    "unknown_route": "No route of the policy matches it.",
}
#: The keys by which attribution says which rule decided, in words.
_SOURCES = {"gateway": "the gateway's own report", "service": "service.name", "app": "the app's own report"}


@page("/call/{id}", "Call", filtered=False, live=True)
def body(view: View) -> Node:
    """The whole row, explained."""
    parameters: dict[str, Value] = {"id": view.arguments["id"]}
    day = view.query.get("day", "")
    narrowed = re.fullmatch(r"\d{4}-\d\d-\d\d", day) is not None and _is_day(day)
    if narrowed:
        parameters["day"] = day
    sql = f"SELECT * FROM llm_calls AS c WHERE {'c.Day = {day:Date} AND ' if narrowed else ''}c.CallId = {{id:String}} LIMIT 1"
    frame = view.ask(sql, parameters)
    if view.wanted_csv:
        view.csv = frame if view.wanted_csv == view.slug("Call") else None
        return None
    if not frame.height:
        raise NotHere("There is no such call: it may have been withdrawn, or have passed its retention.")
    row = frame.row(0, named=True)
    model = row["UpstreamModel"] or row["ResponseModel"] or row["RequestModel"] or "unknown model"
    return [
        e("p.note.under", e("span", e("b", f"{row['Operation'] or 'call'} · {model}"), f" · {units.when(row['Timestamp'])} UTC")),
        e(
            "section.tiles",
            tile("Cost", units.usd_call(row["CostUSD"]), (row["PriceStatus"] or "").replace("_", " "), "warn" if row["CostUSD"] is None and row["StatusCode"] != "Error" else ""),
            tile("Input", units.count(row["InputTokens"]), f"{units.count(row['CacheReadTokens'])} cached"),
            tile("Output", units.count(row["OutputTokens"]), f"{units.count(row['ReasoningTokens'])} reasoning"),
            tile("Took", units.took(row["Duration"]), f"first token: {units.took(row['TimeToFirstToken'])}"),
            tile("Status", row["ErrorType"] or "failed" if row["StatusCode"] == "Error" else "ok", row["FinishReason"] or "", "warn" if row["StatusCode"] == "Error" else ""),
            tile("Trace", "Open", "what happened around it", href=view.link(f"/trace/{row['TraceId']}")) if row["TraceId"] else None,
            aria_label="Figures",
        ),
        e("div.grid", _price(row), _usage(row), _owner(row), _routing(row), _identity(view, row), _redaction(view, row)),
        e("div.note.under", e("span", "From llm_calls."), source(view, view.slug("Call"), sql, parameters)),
    ]  # fmt: skip


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _card(title: str, *content: Node) -> Markup:
    return e("section.card", e("header", e("h2", title)), e("div.body", content))


def _price(row: dict[str, Any]) -> Markup:
    source_ = row["PriceSource"] or ""
    return _card(
        "Price",
        e("p", _PRICE.get(row["PriceStatus"], "")),
        facts((
            ("Cost", units.usd_call(row["CostUSD"])),
            ("At list price", units.usd_call(row["ListCostUSD"])),
            ("Reported by the gateway", units.usd_call(row["ReportedCostUSD"])),
            ("Saved by the cache", units.usd_call(row["CacheSavingsUSD"])),
            ("Rule and price book", e("code", source_) if source_ else ""),
            ("Rates of", f"{row['Timestamp']:%Y-%m-%d}" if source_ else ""),
            ("A 1,000 tokens", _per_thousand(row)),
            ("Rests on", ", ".join(row["PriceAssumptions"]) or "nothing assumed: exact"),
            ("Tier", " → ".join(dict.fromkeys(filter(None, (row["RequestedTier"], row["ServiceTier"]))))),
        )),
        _rates(row) if source_ else None,
    )  # fmt: skip


@cache
def _book() -> Book:
    from collector.prices import Book

    return Book()


def _rates(row: dict[str, Any]) -> Node:
    """What the tokens cost by the rule that priced the call, where the book of this process is the one that did."""
    from collector.prices import Wanted

    models = tuple(row[name] or None for name in ("UpstreamModel", "ResponseModel", "RequestModel"))
    at = row["Timestamp"].replace(tzinfo=UTC) if row["Timestamp"].tzinfo is None else row["Timestamp"]
    found, _ = _book().find(Wanted(models, row["Provider"] or None, (row["ServiceTier"] or "").lower() or None, at))
    if found is None or found.source != row["PriceSource"]:
        return e("p.note", "Its rates are of an override or of another version of the book: ", e("code", f"spanledger prices lookup {next(filter(None, models), '')}"), " shows those of a config.")  # fmt: skip
    heads = ["Tokens", *(above or "USD per million" for above in columns(found.rates))]
    lines = rows(found.rates) + ([("each call", [f"{each_call(found.rates):f}"])] if found.rates.per_call else [])
    return e(
        "div.rates",
        e("h3.of-card", "Rates"),
        e("table", e("caption.sr", "Rates"), e("thead", e("tr", [e("th", head, scope="col", class_="n" if number else None) for number, head in enumerate(heads)])),
          e("tbody", [e("tr", e("td", kind), [e("td.n", cell) for cell in cells]) for kind, cells in lines])),
    )  # fmt: skip


def _per_thousand(row: dict[str, Any]) -> str:
    tokens = (row["InputTokens"] or 0) + (row["OutputTokens"] or 0)
    return units.usd_call(row["CostUSD"] / tokens * 1000) if tokens and row["CostUSD"] is not None else ""


def _usage(row: dict[str, Any]) -> Markup:
    names = {
        "InputTokens": "Input", "CacheReadTokens": "of it read from a cache", "CacheWriteTokens": "of it written to a cache", "InputAudioTokens": "of it audio",
        "OutputTokens": "Output", "ReasoningTokens": "of it reasoning", "OutputAudioTokens": "of it audio", "OutputLimit": "Output at most",
    }  # fmt: skip
    return _card("Usage", facts([(label, units.count(row[name])) for name, label in names.items()] + [("About the counts", ", ".join(row["UsageFlags"]))]))  # fmt: skip


def _owner(row: dict[str, Any]) -> Markup:
    """Whom it is charged to, each with the rule that said so."""
    why = dict(part.partition("=")[::2] for part in (row["AttributionSource"] or "").split(";") if part)
    names = {"team": "Team", "app": "App", "user": "User", "end_user": "EndUser", "api_key": "ApiKey", "environment": "Environment", "cost_centre": "CostCentre"}  # fmt: skip
    rows = []
    for key, column in names.items():
        reason = why.get(key, "")
        shown = [
            row[column] or units.DASH,
            " ",
            e("span.note", f"by {_SOURCES.get(reason, reason)}") if reason else None,
        ]
        rows.append((key.replace("_", " ").capitalize(), e("span", shown)))
    return _card("Charged to", facts([*rows, ("Tags", ", ".join(row["Tags"]))]))


def _routing(row: dict[str, Any]) -> Markup:
    served = " → ".join(dict.fromkeys(filter(None, (row["RequestModel"], row["UpstreamModel"], row["ResponseModel"]))))
    return _card(
        "Routing",
        e("p", _VERDICTS.get(row["RouteVerdict"], "No routing policy judged this call.")),
        facts((
            ("Asked → served", served),
            ("Provider", row["Provider"]),
            ("Deployment", " · ".join(filter(None, (row["Deployment"], row["Region"])))),
            ("Route", row["Route"]),
            ("Expected model", row["ExpectedModel"]),
            ("Avoidable cost", units.usd_call(row["AvoidableCostUSD"])),
            ("Refused by", row["RefusedBy"]),
            ("Gateway overhead", units.took(row["GatewayOverhead"])),
        )),
    )  # fmt: skip


def _identity(view: View, row: dict[str, Any]) -> Markup:
    trace = e("a", e("code", row["TraceId"]), href=view.link(f"/trace/{row['TraceId']}")) if row["TraceId"] else ""
    return _card(
        "Reports",
        facts((
            ("Reports", f"{row['ReportCount']}: {', '.join(row['Reports'])}"),
            ("Named by", row["Dialect"]),
            ("Service", row["ServiceName"]),
            ("Call", e("code", row["CallId"])),
            ("Trace", trace),
            ("Response", e("code", row["ResponseId"]) if row["ResponseId"] else ""),
            ("Conversation", row["ConversationId"]),
        )),
    )  # fmt: skip


def _redaction(view: View, row: dict[str, Any]) -> Markup:
    """What redaction found in the call's spans, by detector."""
    sql = """SELECT d AS Detector, sum(s.Pii[d]) AS Found, sum(s.PiiInRequest[d]) AS Sent
FROM otel_traces AS s ARRAY JOIN mapKeys(s.Pii) AS d
WHERE s.TraceId = {trace:String} AND s.CallId = {call:String}
GROUP BY Detector ORDER BY Found DESC, Detector LIMIT 50"""
    asked = view.asked(sql, {"trace": row["TraceId"], "call": row["CallId"]})

    def drawn() -> Node:
        found = asked.result()
        if not found.height:
            return e("p.empty", "Redaction found nothing in this call's spans.")
        return facts([(name, f"{count} taken out" + (f", {sent} of them in what the provider was sent" if sent else "")) for name, count, sent in found.iter_rows()])  # fmt: skip

    return e("section.card", e("header", e("h2", "Redaction")), e("div.body", view.later(drawn)))
