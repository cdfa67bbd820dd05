"""The calls of a choice, one a row: newest first, or the dearest, the slowest, the largest."""

from __future__ import annotations

from urllib.parse import parse_qsl

import polars as pl

from spanledger.ui import units
from spanledger.ui.html import Markup, Node, e
from spanledger.ui.page import View, figure, page
from spanledger.ui.sql import ABSENT, CALL_MODEL, MOVEMENTS, calls, hourly
from spanledger.ui.tables import Column, Row, table

SORTS = {
    "time": ("Newest first", "c.Timestamp DESC, c.CallId"),
    "cost": ("Most expensive first", "c.CostUSD DESC NULLS LAST, c.CallId"),
    "latency": ("Slowest first", "c.Duration DESC, c.CallId"),
    "tokens": ("Most tokens first", "ifNull(c.InputTokens, 0) + ifNull(c.OutputTokens, 0) DESC, c.CallId"),
}
STATES = {
    "": ("Any status", "1"),
    "failed": ("Failed", "c.StatusCode = 'Error'"),
    "refused": ("Refused by a guardrail or model", "c.RefusedBy != ''"),
    "unpriced": ("Without a price", "c.CostUSD IS NULL AND c.StatusCode != 'Error'"),
    "priced": ("With a price", "c.CostUSD IS NOT NULL"),
    "cached": ("With cached input", "c.CacheReadTokens > 0"),
    "rerouted": ("Another model than the route's", "c.RouteVerdict NOT IN ('', 'ok', 'unknown_route')"),
}
#: Which hourly sum counts the calls of a status.
_COUNTED = {"": "Calls", "failed": "FailedCalls", "unpriced": "UnpricedCalls", "priced": "PricedCalls"}
ROWS = 100
_MOST_PAGES = 100


@page("/calls", "Calls", "calls", live=True)
def body(view: View) -> Node:
    """One table; who asks for more pages on."""
    sort = view.query.get("sort", "time")
    sort = sort if sort in SORTS else "time"
    state = view.query.get("status", "")
    state = state if state in STATES else ""
    user = view.query.get("user", "")
    number = view.query.get("page", "1")
    number_ = min(max(int(number), 1), _MOST_PAGES) if number.isdecimal() else 1
    where, parameters = calls(view)
    if user:
        where, parameters = f"{where} AND c.User = {{user:String}}", parameters | {"user": user}
    if sort == "time" and state in _COUNTED:
        where = f"{where} AND c.Timestamp >= {_newest(view, _COUNTED[state], number_ * ROWS, bool(user))}"
    team, app, model = (ABSENT.format(column=column) for column in ("c.Team", "c.App", CALL_MODEL))
    sql = f"""SELECT c.Timestamp AS Time, {team} AS Team, {app} AS App, c.User AS User, {model} AS Model, c.RequestModel AS Requested,
c.InputTokens AS Input, c.OutputTokens AS Output, c.CostUSD AS USD, c.Duration AS Took, c.StatusCode AS Status, c.ErrorType AS Error,
c.PriceStatus AS Price, c.RefusedBy AS RefusedBy, c.RouteVerdict AS Verdict, ifNull(c.CacheReadTokens, 0) > 0 AS Cached, c.CallId AS CallId, c.TraceId AS TraceId, toString(c.Day) AS Day
FROM llm_calls AS c
WHERE {where} AND {STATES[state][1]}
ORDER BY {SORTS[sort][1]}
LIMIT {ROWS} OFFSET {(number_ - 1) * ROWS}"""
    columns = (
        Column("Time", "Time (UTC)", cell=lambda row: e("a.nowrap", f"{row['Time']:%d %b %H:%M:%S}", href=_address(view, row)), sort=_by(view, "time"), sorted=sort == "time"),
        Column("Team", "Team"),
        Column("App", "App", minor=True),
        Column("User", "User", cell=lambda row: e("span", _cut(row["User"]), title=row["User"]) if row["User"] else units.DASH, minor=True),
        Column("Model", "Model"),
        Column("Input", "Tokens in", units.count, number=True, minor=True),
        Column("Output", "out", units.count, number=True, minor=True, sort=_by(view, "tokens"), sorted=sort == "tokens"),
        Column("Took", "Took", units.took, number=True, minor=True, sort=_by(view, "latency"), sorted=sort == "latency"),
        Column("USD", "Cost", units.usd_call, number=True, sort=_by(view, "cost"), sorted=sort == "cost"),
        Column("Status", "Status", cell=flags),
    )  # fmt: skip
    more = [
        e("a.button", "Newer" if sort == "time" else "Before", href=view.here(page=str(number_ - 1)), rel="prev") if number_ > 1 else None,
        " ",
        e("a.button", f"More, from {number_ * ROWS + 1:,}", href=view.here(page=str(number_ + 1)), rel="next") if number_ < _MOST_PAGES else None,
    ]  # fmt: skip

    def chart(frame: pl.DataFrame) -> Node:
        return [table(frame, columns, "Calls"), e("p.more", more if frame.height == ROWS else more[:1])]

    return figure(view, SORTS[sort][0], sql, chart, parameters=parameters, tools=_tools(view, sort, state, user), wide=True, empty="No such calls in this period.")  # fmt: skip


def _newest(view: View, counted: str, rows: int, of_user: bool) -> str:
    """SQL: a time after which the period has that many of the chosen calls at least, by the sums of its whole hours; its start where it
    has fewer. So the newest calls are found without reading all others."""
    where, _ = hourly(view)
    if of_user:
        where += " AND h.User = {user:String}"
    return f"""(SELECT if(sum(Counted) >= {rows}, minIf(Hour, Newer - Counted < {rows}), toDateTime({{since:DateTime64(6, 'UTC')}}, 'UTC')) FROM (
SELECT h.Hour AS Hour, sum(h.{counted}) AS Counted, sum(Counted) OVER (ORDER BY Hour DESC) AS Newer
FROM {MOVEMENTS}
WHERE {where} AND h.Hour + INTERVAL 1 HOUR <= {{until:DateTime64(6, 'UTC')}}
GROUP BY Hour))"""


def flags(row: Row) -> Node:
    """What is special about a call, as tags."""
    found = []
    if row["Status"] == "Error":
        found.append(e("span.tag.bad", row["Error"] or "failed", title="The call failed"))
    if row["RefusedBy"]:
        found.append(e("span.tag.warn", f"refused: {row['RefusedBy']}"))
    if row["USD"] is None and row["Status"] != "Error":
        found.append(e("span.tag.warn", row["Price"].replace("_", " ") or "no price"))
    if row["Verdict"] not in ("", "ok", "unknown_route"):
        found.append(e("span.tag.warn", row["Verdict"].replace("_", " ")))
    if row["Cached"]:
        found.append(e("span.tag", "cached", title="Part of the input came from the provider's cache"))
    return [[tag, " "] for tag in found] or e("span.tag.good", "ok")


def _tools(view: View, sort: str, state: str, user: str) -> Markup:

    kept = parse_qsl(view.filters.query().lstrip("?"))
    return e(
        "form.inline",
        [e("input", type="hidden", name=name, value=value) for name, value in kept],
        e("input", type="hidden", name="user", value=user) if user else None,
        e("select", [e("option", label, value=name, selected=name == state) for name, (label, _) in STATES.items()], name="status", aria_label="Status"),
        " ",
        e("select", [e("option", label, value=name, selected=name == sort) for name, (label, _) in SORTS.items()], name="sort", aria_label="Order"),
        e("button.apply", "Show", type="submit"),
        method="get",
    )  # fmt: skip


def _by(view: View, sort: str) -> str:
    return view.here(sort=sort, page="1")


def _address(view: View, row: Row) -> str:
    return view.link(f"/call/{row['CallId']}", day=row["Day"])


def _cut(text: str) -> str:
    return text if len(text) <= 16 else f"{text[:15]}…"
