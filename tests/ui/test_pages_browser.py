"""Models and routing, guardrails, budgets, findings and the pipeline in a real browser, beside a collector that has a policy,
budgets and redaction: figures against SQL, every figure's own SQL, phones, axe."""

from __future__ import annotations

import re
import urllib.request
from html import unescape

import pytest
from playwright.sync_api import Browser, expect

from spanledger.ui import units
from tests.collector_kit import Collector
from tests.ui.test_browser import fit, opened, tile
from tests.ui_kit import sql

pytestmark = pytest.mark.timeout(180)

PATHS = ("/ui/models", "/ui/guardrails", "/ui/budgets", "/ui/findings", "/ui/pipeline")


def test_models_show_what_the_policy_says_and_what_failed_over(browser: Browser, collector: Collector) -> None:
    ((avoidable,),) = sql(collector, "SELECT toFloat64(sum(AvoidableCostUSD)) FROM llm_calls WHERE AvoidableCostUSD > 0 GROUP BY Team, Route, ExpectedModel, if(UpstreamModel != '', UpstreamModel, if(ResponseModel != '', ResponseModel, RequestModel)), RouteVerdict ORDER BY 1 DESC LIMIT 1")  # fmt: skip
    verdicts = {row[0] for row in sql(collector, "SELECT DISTINCT replaceAll(RouteVerdict, '_', ' ') FROM llm_calls WHERE RouteVerdict != ''")}  # fmt: skip
    ((failed,),) = sql(collector, "SELECT count() FROM llm_fallbacks")
    with opened(browser, collector, "/ui/models") as page:
        assert page.locator("#avoidable-cost tbody tr td:last-child .bar span").first.inner_text() == units.usd(float(avoidable))  # fmt: skip
        assert set(page.locator("#verdicts-of-the-policy .legend li").all_inner_texts()) == verdicts
        assert sum(int(text) for text in page.locator("#fallbacks-and-retries tbody td:nth-child(5)").all_inner_texts()) == int(failed)  # fmt: skip
        page.locator("#asked-and-served path.flow").first.hover()
        expect(page.locator(".tip")).to_contain_text("→")


def test_guardrails_show_who_refuses_and_personal_data_by_destination(browser: Browser, collector: Collector) -> None:
    ((app, sent),) = sql(collector, "SELECT App, sum(InRequestHits) AS s FROM llm_pii GROUP BY App, Team, Detector, Provider ORDER BY s DESC, sum(Hits) DESC, App, Detector LIMIT 1")  # fmt: skip
    refused = sql(collector, "SELECT RefusedBy, App, count(), (SELECT count() FROM llm_calls AS a WHERE a.App = c.App) FROM llm_calls AS c WHERE RefusedBy != '' GROUP BY RefusedBy, App")  # fmt: skip
    runs = {row[0]: row[1] for row in sql(collector, "SELECT Guardrail, sum(Runs) FROM llm_guardrail_latency GROUP BY Guardrail")}  # fmt: skip
    assert refused
    assert runs
    with opened(browser, collector, "/ui/guardrails") as page:
        rates = [row.replace("\n", "").split("\t") for row in page.locator("#block-rates tbody tr").all_inner_texts()]
        assert sorted(rates) == sorted([by, app, n, of, units.share(int(n) / int(of))] for by, app, n, of in refused)
        expect(
            page.locator("#refusals .at-wide g[data-tip*='\t'], #refusals .at-wide g rect:not(.hit)").first
        ).to_be_visible()
        took = [row.split("\t") for row in page.locator("#time-that-guardrails-take tbody tr").all_inner_texts()]
        assert {row[0]: row[2] for row in took} == runs
        first = page.locator("#who-sends-what-to-whom tbody tr").first
        expect(first).to_contain_text(app)
        assert first.locator("td").last.inner_text() == units.count(int(sent))


def test_budgets_are_what_the_ledger_has_and_alerts_lead_to_their_traces(
    browser: Browser, collector: Collector
) -> None:
    ((team, used),) = sql(collector, "SELECT Team, toFloat64(sum(CostUSD)) AS c FROM llm_calls GROUP BY Team ORDER BY c DESC LIMIT 1")  # fmt: skip
    with opened(browser, collector, "/ui/budgets") as page:
        first = page.locator(".budget").first
        expect(first).to_contain_text(team)
        expect(first).to_contain_text(f"{units.usd(float(used))} of $0.5000")
        expect(page.locator("#burn-down-of-teams path.line").first).to_be_visible()
        page.locator("#alerts tbody a").first.click()
        assert "/ui/finding/" in page.url
        expect(page.locator("#spend-an-hour .legend")).to_contain_text("measured")
        page.locator("#evidence tbody a").first.click()
        assert "/ui/trace/" in page.url


def test_findings_are_filtered_and_keep_their_filter_in_the_address(browser: Browser, collector: Collector) -> None:
    ((opened_, critical),) = sql(collector, "SELECT countIf(State = 'open'), countIf(State = 'open' AND Severity = 'critical') FROM llm_findings")  # fmt: skip
    with opened(browser, collector, "/ui/findings") as page:
        assert (tile(page, "Open"), tile(page, "Critical")) == (opened_, critical)
        page.locator("select[name=severity]").select_option("critical")
        page.wait_for_url("**severity=critical**")
        assert set(page.locator("#what-was-noticed tbody td:first-child").all_inner_texts()) == {"critical"}


def test_the_pipeline_shows_its_config_without_secrets(browser: Browser, collector: Collector) -> None:
    ((spans,),) = sql(collector, "SELECT count() FROM otel_traces")
    with opened(browser, collector, "/ui/pipeline") as page:
        assert tile(page, "State") == "Ready"
        numbers = page.locator("#senders tbody td:nth-child(3)").all_inner_texts()
        assert sum(int(text.replace(",", "")) for text in numbers) == int(spans)
        page.get_by_text("Show", exact=True).click()
        expect(page.locator("pre.config")).to_contain_text("traces")


def test_the_pages_are_fit_for_phones_and_pass_axe(browser: Browser, collector: Collector) -> None:
    ((finding,),) = sql(collector, "SELECT FindingId FROM llm_findings ORDER BY FindingId LIMIT 1")
    fit(browser, collector, (*PATHS, f"/ui/finding/{finding}"))


def test_every_figure_has_rows_to_download(collector: Collector) -> None:
    for path in PATHS:
        status, body = collector.get(path)
        assert status == 200
        addresses = [unescape(found) for found in re.findall(r'href="([^"]*csv=[^"]*)"', body.decode())]
        assert addresses, path
        for address in addresses:
            with urllib.request.urlopen(f"http://127.0.0.1:{collector.admin}{address}") as answer:
                assert answer.headers["content-type"].startswith("text/csv"), address
                assert answer.readline(), address
