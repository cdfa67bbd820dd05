"""Pages and figures: how they are declared, how their questions run side by side, and how they become a stream of HTML.

    @page("/models", "Models", "cube")
    def body(view: View) -> Node:
        where, parameters = view.filters.where("h", time="Hour")
        return figure(view, "Spend by model", f"SELECT … FROM {MOVEMENTS} WHERE {where}", bars, parameters=parameters)

A figure's question is put when `figure` is called and awaited when its place in the stream comes: the page's head and the
first figures are on the screen while later ones are still computed.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote

import polars as pl

from spanledger.ui.ask import AskError, Store, Value, quoted
from spanledger.ui.auth import Visitor
from spanledger.ui.filters import Filters
from spanledger.ui.html import Markup, Node, e, render
from spanledger.ui.weights import Weighted

logger = logging.getLogger(__name__)

ROOT = "/ui"
Chart = Callable[[pl.DataFrame], Node]
Body = Callable[["View"], Node]
_PLACE = re.compile("\0(\\d+)\0")


class NotHere(Exception):
    """What a page is about does not exist; the message is for the reader."""


@dataclass(frozen=True, slots=True)
class Page:
    """A registered page. `path` may hold `{id}`; a page without `icon` is not in the menu. `live`: it shows the last few seconds
    whatever its period is."""

    path: str
    title: str
    icon: str
    body: Body
    filtered: bool
    live: bool = False


PAGES: dict[str, Page] = {}


def page(path: str, title: str, icon: str = "", *, filtered: bool = True, live: bool = False) -> Callable[[Body], Body]:  # fmt: skip
    """Register a page below `/ui`. `filtered`: it has the filter bar."""

    def register(body: Body) -> Body:
        PAGES[path] = Page(path, title, icon, body, filtered, live)
        return body

    return register


@dataclass(frozen=True, slots=True)
class Source:
    """What pages are made from. `status` and `budgets` are None where no collector runs in this process, and `weights` are not
    known there."""

    store: Store
    threads: ThreadPoolExecutor
    status: Callable[[], dict[str, Any]] | None = None
    budgets: Callable[[], list[dict[str, Any]]] | None = None
    weights: Sequence[Weighted] = ()


@dataclass
class View:
    """One look at a page: by whom, at what, and the questions that were put for it."""

    source: Source
    page: Page
    visitor: Visitor
    filters: Filters
    arguments: Mapping[str, str]  # of the path
    query: Mapping[str, str]  # of the URL, last value of each
    theme: str = "auto"
    wanted_csv: str = ""
    _later: list[Callable[[], Node]] = field(default_factory=list)
    _names: dict[str, int] = field(default_factory=dict)
    csv: pl.DataFrame | None = None

    @property
    def admin(self) -> bool:
        """Whether content may be shown."""
        return self.visitor.admin

    @property
    def now(self) -> datetime:
        return self.filters.now

    def ask(self, sql: str, parameters: Mapping[str, Value] | None = None) -> pl.DataFrame:
        """Rows, at once. For what decides how a page looks; figures ask by themselves. Raises `AskError`."""
        return self.source.store.ask(sql, parameters or {})

    def link(self, path: str, **changes: str | tuple[str, ...]) -> str:
        """The address of a page with this view's filters, some of them changed."""
        return f"{ROOT}{path}{self.filters.query(**changes)}"

    def here(self, **changes: str) -> str:
        """This page's address with other parameters of its own."""
        own = {n: v for n, v in self.query.items() if n not in ("since", "until", "csv", *_dimensions())} | changes
        return f"{ROOT}{self.path}{self.filters.query(**own)}"

    @property
    def path(self) -> str:
        """Of this very page, its arguments filled in."""
        return self.page.path.format(**{name: quote(value, safe="") for name, value in self.arguments.items()})

    def later(self, make: Callable[[], Node]) -> Markup:
        """A place in the page for what is ready later. `make` is called when the stream gets there."""
        self._later.append(make)
        return Markup(f"\0{len(self._later) - 1}\0")

    def asked(self, sql: str, parameters: Mapping[str, Value]) -> Future[pl.DataFrame]:
        """The rows, some time."""
        return self.source.threads.submit(self.source.store.ask, sql, parameters)

    def slug(self, title: str) -> str:
        """A name for a figure in URLs, its own on this page."""
        name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "figure"
        self._names[name] = self._names.get(name, 0) + 1
        return name if self._names[name] == 1 else f"{name}-{self._names[name]}"

    def stream(self, text: str) -> Iterator[str]:
        """The page's text with what was left for later in its place. Nobody's failure hides the rest."""
        at = 0
        for match in _PLACE.finditer(text):
            yield text[at : match.start()]
            at = match.end()
            try:
                yield from self.stream(render(self._later[int(match[1])]()))
            except Exception:
                logger.exception("a figure of %s could not be drawn", self.page.path)
                yield e("p.failed", "This could not be drawn; the collector's log says why.")
        yield text[at:]


def figure(
    view: View,
    title: str,
    sql: str,
    chart: Chart,
    *,
    parameters: Mapping[str, Value] | None = None,
    note: Node = "",
    wide: bool = False,
    empty: Node = "No calls in this period.",
    tools: Node = "",
) -> Markup:
    """A card: what a query gives, drawn, with its SQL to copy and its rows as CSV. No rows: `empty` stands there."""
    name, values = view.slug(title), parameters or {}
    if view.wanted_csv:
        if view.wanted_csv == name:
            view.csv = view.ask(sql, values)
        return Markup()
    asked = view.asked(sql, values)

    def drawn() -> Node:
        try:
            frame = asked.result()
        except AskError as error:
            return e("p.failed", e("b", "The store did not answer: "), str(error))
        return chart(frame) if frame.height else e("p.empty", empty)

    return e(
        "section.card",
        e("header", e("h2", title), e("div.tools", tools, source(view, name, sql, values))),
        e("p.note", note) if note else None,
        e("div.body", view.later(drawn)),
        class_="wide" if wide else None,
        id=name,
    )


def source(view: View, name: str, sql: str, parameters: Mapping[str, Value]) -> Markup:
    """Where a figure comes from: its SQL, as it can be run anywhere, and its rows."""
    text = runnable(sql, parameters)
    return e(
        "details.source",
        e("summary", "Data", aria_label="Where this comes from"),
        e(
            "div.pop",
            e("div.row", e("button", "Copy SQL", type="button", data_copy=True), e("a.button", "CSV", href=view.here(csv=name), download=True)),
            e("pre", e("code", text), tabindex="0"),
        ),
    )  # fmt: skip


def runnable(sql: str, parameters: Mapping[str, Value]) -> str:
    """SQL with its parameters' values in it."""

    def literal(match: re.Match[str]) -> str:
        value = parameters[match[1]]
        if isinstance(value, datetime):
            return f"toDateTime64('{value:%Y-%m-%d %H:%M:%S}', 6, 'UTC')"
        if isinstance(value, int | float):
            return str(value)
        return quoted(value) if isinstance(value, str) else "[" + ", ".join(map(quoted, value)) + "]"

    lines = [line.strip() for line in re.sub(r"\{(\w+):[^{}]*\}", literal, sql).strip().splitlines()]
    return "\n".join(line for line in lines if line)


def as_csv(frame: pl.DataFrame) -> bytes:
    """Rows for a spreadsheet; lists as one text, lists of lists left out. A text that one would take for a formula gets an apostrophe."""
    flat = frame.with_columns(
        pl.col(name).list.eval(pl.element().cast(pl.String)).list.join(";")
        for name, type_ in frame.schema.items()
        if isinstance(type_, pl.List) and not isinstance(type_.inner, pl.List | pl.Struct)
    )
    flat = flat.select(name for name, type_ in flat.schema.items() if not isinstance(type_, pl.List | pl.Struct))
    texts = [name for name, type_ in flat.schema.items() if type_ in (pl.String, pl.Categorical)]
    safe = flat.with_columns(pl.col(texts).cast(pl.String).str.replace(r"^([=+\-@\t\r])", "'${1}")) if texts else flat
    buffer = io.BytesIO()
    safe.write_csv(buffer)
    return buffer.getvalue()


def _dimensions() -> tuple[str, ...]:
    from spanledger.ui.filters import DIMENSIONS

    return tuple(DIMENSIONS)
