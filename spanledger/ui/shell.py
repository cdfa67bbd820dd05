"""What stands around every page: head, menu, filter bar. In the order in which a keyboard goes through it."""

from __future__ import annotations

from importlib.metadata import version

from spanledger.ui.ask import AskError, Value
from spanledger.ui.filters import DIMENSIONS, NONE, RANGES, Filters
from spanledger.ui.html import Markup, Node, e
from spanledger.ui.page import PAGES, ROOT, View
from spanledger.ui.sql import COST, MOVEMENTS

#: 16 × 16, strokes.
ICONS = {
    "overview": "M2 13V8M6 13V3M10 13V6M14 13V9",
    "calls": "M2 4h12M2 8h12M2 12h8",
    "models": "M8 2l5 3v6l-5 3-5-3V5zM3 5l5 3 5-3M8 8v6",
    "guardrails": "M8 2l5 2v4c0 3-2 5-5 6-3-1-5-3-5-6V4z",
    "budgets": "M2 8a6 6 0 1012 0A6 6 0 102 8M8 8V4M8 8l3 2",
    "findings": "M8 2l6 11H2zM8 6v3M8 11v.5",
    "pipeline": "M2 8h3M11 8h3M5 5h6v6H5z",
}
ORDER = ("/", "/calls", "/models", "/guardrails", "/budgets", "/findings", "/pipeline")


def document(title: str, *content: Node, theme: str = "auto") -> Markup:
    """A whole page."""
    html = e(
        "html",
        e(
            "head",
            e("meta", charset="utf-8"),
            e("meta", name="viewport", content="width=device-width, initial-scale=1"),
            e("title", f"{title} · Spanledger"),
            e("link", rel="icon", href=f"{ROOT}/static/icon.svg", type="image/svg+xml"),
            e("link", rel="stylesheet", href=f"{ROOT}/static/ui.css?{version('spanledger')}"),
            e("script", src=f"{ROOT}/static/ui.js?{version('spanledger')}", defer=True),
        ),
        e("body", content),
        lang="en",
        data_theme=theme if theme in ("light", "dark") else None,
    )
    return Markup(f"<!doctype html>\n{html}")


def framed(view: View, content: Node) -> Markup:
    """A page's content in the frame."""
    return document(
        view.page.title,
        e("a.skip", "To the content", href="#content"),
        _side(view),
        e(
            "div.main",
            e("header.top", e("h1", view.page.title), _bar(view) if view.page.filtered else None),
            e("main", content, id="content", tabindex="-1"),
        ),
        theme=view.theme,
    )


def icon(name: str) -> Markup:
    return e("svg.icon", e("path", d=ICONS[name]), viewBox="0 0 16 16", aria_hidden="true")


def _side(view: View) -> Markup:
    found = [PAGES[path] for path in ORDER if path in PAGES]
    found += [page for path, page in PAGES.items() if page.icon and path not in ORDER]
    links = [
        e("a", icon(page.icon if page.icon in ICONS else "pipeline"), e("span", page.title), href=view.link(page.path), aria_current="page" if page is view.page else None)
        for page in found
    ]  # fmt: skip
    visitor = view.visitor
    return e(
        "div.side",
        e("a.brand", e("svg", e("path", d="M3 17V9M8 17V4M13 17v-6M18 17V7"), viewBox="0 0 21 21", aria_hidden="true"), "Spanledger", href=view.link("/")),
        e("nav", links, aria_label="Pages"),
        e(
            "div.foot",
            e("button.theme", "Light or dark", type="button", data_theme_switch=True),
            e("form", e("button.plain", "Sign out"), method="post", action=f"{ROOT}/sign-out") if visitor.session else None,
            e("span.who", f"{visitor.name}{'' if visitor.admin else ' · viewer'}"),
        ),
    )  # fmt: skip


def _bar(view: View) -> Markup:
    filters = view.filters
    ranges = [e("option", label, value=text, selected=text == filters.since and not filters.until) for text, label in RANGES.items()]  # fmt: skip
    custom = filters.since not in RANGES or bool(filters.until)
    if custom:
        until = filters.until or "now"
        ranges.insert(0, e("option", f"{filters.since.replace('T', ' ')} to {until.replace('T', ' ')}", value=filters.since, selected=True))  # fmt: skip
    own = {
        name: value for name, value in view.query.items() if name not in ("since", "until", "csv", "after", *DIMENSIONS)
    }
    asked = view.asked(*_choices(filters)) if not view.wanted_csv else None

    def choices() -> Node:
        try:
            frame = asked.result() if asked is not None else None
            row = frame.row(0, named=True) if frame is not None and frame.height else {}
        except AskError:
            row = {}
        return [_choice(name, filters, [str(v) for v in row.get(name) or ()]) for name in DIMENSIONS]

    return e(
        "form.filters",
        e("label.range", e("span.sr", "Time range"), e("select", ranges, name="since")),
        e("input", type="hidden", name="until", value=filters.until) if filters.until else None,
        [e("input", type="hidden", name=name, value=value) for name, value in own.items()],
        view.later(choices),
        e("button.apply", "Apply", type="submit"),
        e("a.button.plain", "Reset", href=f"{ROOT}{view.path}") if filters.chosen or custom else None,
        method="get",
        action=f"{ROOT}{view.path}",
    )


def _choices(filters: Filters) -> tuple[str, dict[str, Value]]:
    """The values that there are in the period, the dearest first."""
    period, parameters = Filters(filters.since, filters.until, (), filters.now).where("h", time="Hour")
    lists = ", ".join(
        f"(SELECT groupArray(n) FROM (SELECT h.{column} AS n FROM {MOVEMENTS} WHERE {period} GROUP BY n HAVING sum(h.Calls) != 0 ORDER BY {COST} DESC NULLS LAST, n LIMIT 200)) AS {name}"
        for name, column in DIMENSIONS.items()
    )  # fmt: skip
    return f"SELECT {lists}", parameters


def _choice(name: str, filters: Filters, values: list[str]) -> Markup:
    chosen = filters.values(name)
    shown = list(dict.fromkeys([*chosen, *(value or NONE for value in values)]))
    label = name.capitalize()
    text = "all" if not chosen else chosen[0] if len(chosen) == 1 else f"{len(chosen)} chosen"
    boxes = [e("label", e("input", type="checkbox", name=name, value=value, checked=value in chosen), e("span", value)) for value in shown]  # fmt: skip
    return e(
        "details.filter",
        e("summary", e("span.key", label), e("span.value", text)),
        e("div.pop", boxes or e("p.empty", "Nothing to choose from."), e("button", "Apply", type="submit")),
        class_="on" if chosen else None,
    )
