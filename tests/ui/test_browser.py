"""The pages as a user goes through them in a real browser: figures against SQL, links that keep the view, both themes, a
phone, no console error, no serious violation of accessibility. Screenshots go to SPANLEDGER_SHOTS, where it is set."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from spanledger.ui import units
from tests.collector_kit import Collector
from tests.ui_kit import sql

pytestmark = pytest.mark.timeout(180)


@contextmanager
def opened(browser: Browser, collector: Collector, path: str) -> Iterator[Page]:
    """A page in light on a desk. Whatever the browser complains about fails the test, and so does a page wider than the window."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)  # fmt: skip
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"http://127.0.0.1:{collector.admin}{path}")
    try:
        yield page
        not_sideways(page)
        assert page.locator(".failed").all_inner_texts() == []
        assert complaints == []
    finally:
        context.close()


def not_sideways(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"


def shot(page: Page, what: str) -> None:
    if folder := os.environ.get("SPANLEDGER_SHOTS"):
        name = re.sub(r"[^a-z]+", "-", page.locator("h1").inner_text().lower())
        page.screenshot(path=Path(folder) / f"{name}-{what}.png", full_page=True)


def tile(page: Page, name: str) -> str:
    return page.locator(".tile", has_text=name).locator("strong").first.inner_text()


def violations(page: Page, *, themed: bool = False, charts: bool = True) -> list[tuple[str, str]]:
    """What axe says of a page that is serious: rule, element. `themed`: by the rules that theme and width matter to. `charts`: also
    of what is inside of charts, thousands of elements that are drawn by the same code everywhere."""
    rules = {"runOnly": ["color-contrast", "scrollable-region-focusable", "target-size", "link-in-text-block"]}
    options = {"resultTypes": ["violations"]} | (rules if themed else {})
    context = None if charts and not themed else {"exclude": [[".chart"]]}
    found = Axe().run(page, context=context, options=options).response["violations"]
    return [(one["id"], one["nodes"][0]["html"][:200]) for one in found if one["impact"] in ("serious", "critical")]


def test_from_the_overview_to_a_trace_with_every_figure_as_sql_has_it(browser: Browser, collector: Collector) -> None:
    """Overview → a team → its most expensive call → its trace; the address in hand is the view."""
    ((cost, calls),) = sql(collector, "SELECT toFloat64(sum(CostUSD)), count() FROM llm_calls")
    ((team, team_cost, team_calls),) = sql(collector, "SELECT Team, toFloat64(sum(CostUSD)) AS c, count() FROM llm_calls GROUP BY Team ORDER BY c DESC LIMIT 1")  # fmt: skip
    ((call, dearest, trace),) = sql(collector, f"SELECT CallId, toFloat64(CostUSD), TraceId FROM llm_calls WHERE Team = '{team}' ORDER BY CostUSD DESC LIMIT 1")  # fmt: skip
    ((spans, trace_cost),) = sql(collector, f"SELECT count(), (SELECT toFloat64(sum(CostUSD)) FROM llm_calls WHERE TraceId = '{trace}') FROM otel_traces WHERE TraceId = '{trace}'")  # fmt: skip
    with opened(browser, collector, "/") as page:
        assert tile(page, "Spend") == units.usd(float(cost))
        expect(page.locator(".tile", has_text="Spend").first).to_contain_text(f"{int(calls):,} calls")
        page.locator("#teams").get_by_role("link", name=team).click()
        assert f"team={team}" in page.url
        assert tile(page, "Spend") == units.usd(float(team_cost))
        page.get_by_role("navigation").get_by_role("link", name="Calls").click()
        assert f"team={team}" in page.url
        page.get_by_role("link", name="Cost").click()
        first = page.locator("tbody tr").first
        expect(first).to_contain_text(units.usd_call(float(dearest)))
        shared = page.url
        first.get_by_role("link").click()
        assert call in page.url
        assert tile(page, "Cost") == units.usd_call(float(dearest))
        page.locator(".tile", has_text="Trace").click()
        assert trace in page.url
        assert tile(page, "Cost") == units.usd_call(float(trace_cost))
        assert page.locator("details.span").count() == int(spans)
        page.locator("details.span summary").first.click()
        expect(page.locator("details.span .inside").first).to_be_visible()
    with opened(browser, collector, shared.partition(str(collector.admin))[2]) as again:
        expect(again.locator("tbody tr").first).to_contain_text(units.usd_call(float(dearest)))
        assert again.locator("tbody tr").count() == min(int(team_calls), 100)


def test_filters_and_the_dimension_of_the_trend_are_chosen_with_the_keyboard_too(browser: Browser, collector: Collector) -> None:  # fmt: skip
    with opened(browser, collector, "/ui/") as page:
        page.keyboard.press("/")
        page.keyboard.press("End")  # the last choice: 90 days
        page.wait_for_url("**since=90d**")
        page.locator("details.filter", has_text="Model").locator("summary").press("Enter")
        page.locator("details.filter[open] input").first.press("Space")
        chosen = page.locator("details.filter[open] input").first.input_value()
        page.keyboard.press("Enter")
        page.wait_for_url("**model=**")
        ((cost,),) = sql(collector, f"SELECT toFloat64(sum(CostUSD)) FROM llm_costs_hourly WHERE Model = '{chosen}'")
        assert tile(page, "Spend") == units.usd(float(cost))
        page.locator("select[name=by]").select_option("model")
        page.wait_for_url("**by=model**")
        assert page.locator("#spend-over-time .legend li").all_inner_texts() == [chosen]


def test_a_figure_gives_its_sql_and_its_rows(browser: Browser, collector: Collector) -> None:
    with opened(browser, collector, "/ui/?since=30d") as page:
        card = page.locator("#models")
        card.locator("summary").click()
        statement = card.locator("code").inner_text()
        with page.expect_download() as download:
            card.get_by_role("link", name="CSV").click()
        rows = Path(download.value.path()).read_text().splitlines()
        assert rows[0] == "Name,USD,Calls,PerCall"
        assert [row.split(",")[0] for row in rows[1:]] == [row[0] for row in sql(collector, statement)]
        page.keyboard.press("Escape")
        expect(card.locator(".pop")).not_to_be_visible()
        page.locator("#spend-over-time .at-wide g[data-tip*='$'] .hit").last.hover()
        expect(page.locator(".tip")).to_contain_text("$")


def paths(collector: Collector) -> list[str]:
    ((call, trace),) = sql(collector, "SELECT CallId, TraceId FROM llm_calls WHERE CostUSD > 0 ORDER BY CallId LIMIT 1")
    return ["/ui/", "/ui/calls?status=failed", f"/ui/call/{call}", f"/ui/trace/{trace}"]


#: Between them these, and the page of a finding, have charts of every sort: columns, lines, flows, a band.
WITH_CHARTS = ("/ui/", "/ui/models", "/ui/budgets")


def fit(browser: Browser, collector: Collector, paths: Sequence[str]) -> None:
    """Each page at a desk in light and, without being loaded again, on a phone in dark: no serious violation, no sideways scroll."""
    for path in paths:
        with opened(browser, collector, path) as page:
            assert violations(page, charts=path in WITH_CHARTS or "/finding/" in path) == [], path
            not_sideways(page)
            shot(page, "1280-light")
            page.emulate_media(color_scheme="dark")
            page.set_viewport_size({"width": 390, "height": 900})
            assert violations(page, themed=True) == [], path
            shot(page, "390-dark")


def test_every_page_is_fit_for_phones_and_passes_axe(browser: Browser, collector: Collector) -> None:
    fit(browser, collector, paths(collector))


def test_the_theme_is_kept(browser: Browser, collector: Collector) -> None:
    with opened(browser, collector, "/ui/calls") as page:
        light = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.get_by_role("button", name="Light or dark").click()
        page.reload()
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
