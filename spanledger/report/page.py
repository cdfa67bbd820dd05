"""The report as HTML: one file, no script, nothing to load. Charts are SVG in the text; every figure of theirs also stands in a
table, because many mail programs leave SVG out."""

from __future__ import annotations

from datetime import datetime, timedelta

from spanledger.report.figures import OTHERS, Figures, Rank
from spanledger.ui import units
from spanledger.ui.charts import ticks
from spanledger.ui.html import Markup, Node, e, render

_LIGHT = ("#2f5fd0", "#12a594", "#e5933a", "#8e5bd6", "#d6517d", "#5aa33c", "#3ca7d8", "#b98a2f", "#c2c8d2")
_DARK = ("#6f98ff", "#3ecfbc", "#f0ab5c", "#b18cf0", "#f07ea4", "#86cc69", "#6cc7f0", "#dcb25c", "#4b5362")
_REST = len(_LIGHT) - 1
_DARK_BASE = ":root{color-scheme:dark}body{background:#11141b;color:#e7eaf0}.card{background:#1a1e27;border-color:#2b313d}td,th{border-color:#2b313d}.faint,th,svg text{color:#a0a9ba;fill:#a0a9ba}.grid{stroke:#2b313d}.track{background:#2b313d}.warn{background:#3a2d10;color:#ffd58a}.bad{color:#ff9b93}.good{color:#7fd6a0}"
_STYLE = (
    ":root{color-scheme:light}*{box-sizing:border-box}"
    'body{margin:0;padding:24px 16px;background:#f5f6f8;color:#1b2130;font:14px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",Arial,sans-serif;font-variant-numeric:tabular-nums}'
    "main{max-width:760px;margin:0 auto}h1{font-size:22px;margin:0}h2{font-size:15px;margin:0 0 8px}p{margin:4px 0}"
    ".card{background:#fff;border:1px solid #e2e5ea;border-radius:10px;padding:16px;margin:14px 0;overflow-x:auto}"
    "table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:5px 8px;border-bottom:1px solid #e2e5ea;vertical-align:top;overflow-wrap:anywhere}th{font-weight:500;font-size:12px}"
    ".faint,th,svg text{color:#5b6475;fill:#5b6475}td.n,th.n{text-align:right}td.n,th.n,td.short{white-space:nowrap}.tiles td{border:0;width:25%}.tiles b{display:block;font-size:20px}"
    ".track{background:#eef0f4;border-radius:3px;min-width:60px}.track div{height:8px;border-radius:3px;background:#2f5fd0}.grid{stroke:#e2e5ea}svg{display:block;width:100%;height:auto}svg text{font-size:11px}"
    ".warn{background:#fff6e0;color:#7a4b00;border-radius:8px;padding:8px 12px}.bad{color:#b3261e}.good{color:#1b6e3c}.key{display:inline-block;margin:6px 14px 0 0}.key svg{display:inline;width:10px;height:10px}"
    + "".join(f".s{n}{{fill:{colour}}}" for n, colour in enumerate(_LIGHT))
    + "@media screen and (prefers-color-scheme:dark){" + _DARK_BASE + "".join(f".s{n}{{fill:{colour}}}" for n, colour in enumerate(_DARK)) + "}"
    "@media(max-width:520px){.tiles td{display:inline-block;width:49%}.wide{display:none}}"
    "@media print{body{background:#fff;padding:0}.card{break-inside:avoid;border-color:#ccc}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}@page{margin:15mm}}"
)  # fmt: skip
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 720, 240, 52, 22, 8


def page(figures: Figures, title: str, made: datetime) -> str:
    """The whole document."""
    head = e(
        "head",
        e("meta", charset="utf-8"),
        e("meta", name="viewport", content="width=device-width, initial-scale=1"),
        e("meta", name="color-scheme", content="light dark"),
        e("title", title),
        e("style", Markup(_STYLE)),
    )
    body = e(
        "main",
        e("h1", title),
        e("p.faint", f"{units.when(figures.start)[:16]} to {units.when(figures.end)[:16]} UTC. Each call counts once, however many spans reported it."),
        _tiles(figures),
        _warnings(figures),
        _card("Spend by team", _chart(figures)),
        *(_card(f"{name}s", _ranking(name, ranks, figures)) for name, ranks in figures.ranks.items() if ranks),
        _card("Most expensive calls", _calls(figures)) if figures.calls else None,
        _card("Findings", _findings(figures)),
        e("p.faint", f"Made by Spanledger on {units.when(made)[:16]} UTC. Sums are of whole hours."),
    )  # fmt: skip
    return "<!doctype html>\n" + render(e("html", head, e("body", body), lang="en")) + "\n"


def _card(title: str, *inside: Node) -> Markup:
    return e("section.card", e("h2", title), inside)


def _tiles(figures: Figures) -> Markup:
    totals, before = figures.totals, figures.before_usd
    change = float(totals.usd / before) - 1 if before else None
    days = (figures.end - figures.start) / timedelta(days=1)
    told = [
        ("Spend", units.usd(float(totals.usd)), f"{units.usd(float(totals.usd) / days)} a day" if days >= 1 else ""),
        ("Change", units.change(change), f"before: {units.usd(float(before))}" if before else "no whole period before"),
        ("Calls", units.count(totals.calls), f"{units.share(totals.failed / totals.calls)} failed" if totals.calls else ""),
        ("Saved by caching", units.usd(float(totals.saved_usd)), f"{units.share(totals.cached_tokens / totals.input_tokens)} of input" if totals.input_tokens else ""),
    ]  # fmt: skip
    cells = [e("td", e("span.faint", name), e("b", value), e("span.faint", note)) for name, value, note in told]
    return e("section.card", e("table.tiles", e("tr", cells), role="presentation"))


def _warnings(figures: Figures) -> Node:
    if not figures.totals.unpriced:
        return None
    models = ", ".join(f"{model} ({units.count(calls)})" for model, calls in figures.unpriced)
    return e("p.warn", e("b", f"{units.count(figures.totals.unpriced)} calls have no price"), f" and count as nothing in every sum: {models}.")  # fmt: skip


def _chart(figures: Figures) -> Node:
    """Stacked bars over time, a title on each bar for those who point at it."""
    steps = max((len(values) for values in figures.trend.values()), default=0)
    if not steps:
        return e("p.faint", "No calls with a cost in this period.")
    names = list(figures.trend)
    top = ticks(max(sum(values[n] for values in figures.trend.values()) for n in range(steps)))
    width, tall = (_WIDTH - _LEFT) / steps, _HEIGHT - _BOTTOM - _TOP
    drawn: list[Markup] = []
    for value in top:
        y = _TOP + tall * (1 - value / top[-1])
        drawn += [e("line.grid", x1=_LEFT, x2=_WIDTH, y1=y, y2=y), e("text", units.usd_short(value), x=_LEFT - 6, y=y + 4, text_anchor="end")]  # fmt: skip
    every = max(-(-steps // 7), 1)
    for number in range(steps):
        at, y = figures.start + figures.step * number, float(_HEIGHT - _BOTTOM)
        bars = []
        for index, name in enumerate(names):
            value = figures.trend[name][number]
            if value > 0:
                size = tall * value / top[-1]
                y -= size
                bars.append(e("rect", x=_LEFT + width * number + width * 0.1, y=y, width=width * 0.8, height=size, class_=_colour(index, name)))  # fmt: skip
        sum_ = sum(values[number] for values in figures.trend.values())
        drawn.append(e("g", e("title", f"{units.when(at)[:16]}: {units.usd(sum_)}"), bars))
        if number % every == 0:
            label = units.bucket(at, figures.step.total_seconds())
            drawn.append(e("text", label, x=_LEFT + width * (number + 0.5), y=_HEIGHT - 5, text_anchor="middle"))
    keys = [
        e("span.key", e("svg", e("rect", width=10, height=10, rx=2, class_=_colour(index, name)), viewBox="0 0 10 10"), " ", name)
        for index, name in enumerate(names)
    ]  # fmt: skip
    return [e("svg", drawn, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label="Spend by team over time"), e("div", keys)]  # fmt: skip


def _colour(index: int, name: str) -> str:
    return f"s{_REST if name == OTHERS else index % _REST}"


def _ranking(name: str, ranks: list[Rank], figures: Figures) -> Markup:
    """The dearest first; the bar is a table's cell, which mail programs draw too."""
    greatest = max(float(rank.usd) for rank in ranks) or 1.0
    total = float(figures.totals.usd)
    rows = []
    for rank in ranks:
        change = float(rank.usd / rank.before_usd) - 1 if rank.before_usd else None
        share = float(rank.usd) / total if total else None
        bar = e("div.track", e("div", style=f"width:{100 * float(rank.usd) / greatest:.1f}%"))
        told = units.change(change) if change is not None else "new" if figures.before_usd else units.DASH
        tone = "bad" if (change or 0) > 0.2 else "good" if (change or 0) < -0.2 else "faint"
        rows.append(e("tr", e("td", rank.name), e("td.wide", bar), e("td.n", units.usd(float(rank.usd))), e("td.n", units.share(share)), e("td.n", told, class_=tone), e("td.n.wide", units.count(rank.calls))))  # fmt: skip
    heads = e("tr", e("th", name), e("th.wide"), e("th.n", "USD"), e("th.n", "Share"), e("th.n", "Change"), e("th.n.wide", "Calls"))  # fmt: skip
    return e("table", e("thead", heads), e("tbody", rows))


def _calls(figures: Figures) -> Markup:
    rows = [
        e("tr", e("td.wide.short", call.at), e("td", call.team), e("td.wide", call.app), e("td", call.model), e("td.n.wide", units.count(call.tokens)), e("td.n", units.usd_call(float(call.usd))))
        for call in figures.calls
    ]  # fmt: skip
    heads = e("tr", e("th.wide", "UTC"), e("th", "Team"), e("th.wide", "App"), e("th", "Model"), e("th.n.wide", "Tokens"), e("th.n", "USD"))  # fmt: skip
    return e("table", e("thead", heads), e("tbody", rows))


def _findings(figures: Figures) -> Markup:
    if not figures.findings:
        return e("p.faint", "Nothing was noticed in this period.")
    rows = [
        e("tr", e("td.short", e("span", one.severity if one.open else "resolved", class_="bad" if one.open and one.severity == "critical" else "" if one.open else "good")), e("td.wide.short", one.at), e("td", e("b", one.kind), e("div", one.message)), e("td.n", units.usd(float(one.usd)) if one.usd is not None else ""))
        for one in figures.findings
    ]  # fmt: skip
    heads = e("tr", e("th", "State"), e("th.wide", "First seen, UTC"), e("th", "What"), e("th.n", "USD"))
    return e("table", e("thead", heads), e("tbody", rows))
