"""Models and routing, guardrails, budgets, findings and the pipeline in a real browser, beside a collector that has a policy,
budgets and redaction: figures against SQL, every figure's own SQL, phones, axe."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from spanledger.ui import units
from tests import collector_kit
from tests.collector_kit import Collector
from tests.ui.test_browser import opened, tile
from tests.ui_kit import sql

pytestmark = pytest.mark.timeout(180)

PROCESSORS = """  pricing:
  redaction:
  privacy:
  routing:
    routes: [{{name: search, match: {{team: search}}, route_to: gpt-4o-mini}}, {{name: rest, match: {{operation: chat}}, route_to: gpt-4o}}]
  budgets:
    budgets:
      teams: {{per: [team], usd: 0.5, rolling: 30d}}
"""
PATHS = ("/ui/models", "/ui/guardrails", "/ui/budgets", "/ui/findings", "/ui/pipeline")


@pytest.fixture(scope="module")
def gateway(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """A collector with everything that the pages show, and five days of the demo's calls."""
    with pytest.MonkeyPatch.context() as patch:
        config = collector_kit.CONFIG.replace("  pricing:\n", PROCESSORS).replace("[attribution, pricing]", "[attribution, pricing, redaction, privacy, routing, budgets]")  # fmt: skip
        patch.setattr(collector_kit, "CONFIG", config)
        collector = Collector(tmp_path_factory.mktemp("pages"))
    collector.start()
    try:
        command = [sys.executable, "-m", "spanledger", "demo", "--calls", "500", "--rate", "0", "--spread", "5d", "--seed", "7", "--endpoint", f"http://127.0.0.1:{collector.http}"]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        collector.settled()
        yield collector
    finally:
        collector.kill()


def test_models_show_what_the_policy_says_and_what_failed_over(browser: Browser, gateway: Collector) -> None:
    ((avoidable,),) = sql(gateway, "SELECT toFloat64(sum(AvoidableCostUSD)) FROM llm_calls WHERE AvoidableCostUSD > 0 GROUP BY Team, Route, ExpectedModel, if(UpstreamModel != '', UpstreamModel, if(ResponseModel != '', ResponseModel, RequestModel)), RouteVerdict ORDER BY 1 DESC LIMIT 1")  # fmt: skip
    verdicts = {row[0] for row in sql(gateway, "SELECT DISTINCT replaceAll(RouteVerdict, '_', ' ') FROM llm_calls WHERE RouteVerdict != ''")}  # fmt: skip
    ((failed,),) = sql(gateway, "SELECT count() FROM llm_fallbacks")
    with opened(browser, gateway, "/ui/models") as page:
        assert page.locator("#avoidable-cost tbody tr td:last-child .bar span").first.inner_text() == units.usd(float(avoidable))  # fmt: skip
        assert set(page.locator("#verdicts-of-the-policy .legend li").all_inner_texts()) == verdicts
        assert sum(int(text) for text in page.locator("#fallbacks-and-retries tbody td:nth-child(5)").all_inner_texts()) == int(failed)  # fmt: skip
        page.locator("#asked-and-served path.flow").first.hover()
        expect(page.locator(".tip")).to_contain_text("→")


def test_guardrails_show_personal_data_by_destination(browser: Browser, gateway: Collector) -> None:
    ((app, sent),) = sql(gateway, "SELECT App, sum(InRequestHits) AS s FROM llm_pii GROUP BY App, Team, Detector, Provider ORDER BY s DESC, sum(Hits) DESC, App, Detector LIMIT 1")  # fmt: skip
    with opened(browser, gateway, "/ui/guardrails") as page:
        first = page.locator("#who-sends-what-to-whom tbody tr").first
        expect(first).to_contain_text(app)
        assert first.locator("td").last.inner_text() == units.count(int(sent))


def test_budgets_are_what_the_ledger_has_and_alerts_lead_to_their_traces(browser: Browser, gateway: Collector) -> None:
    ((team, used),) = sql(gateway, "SELECT Team, toFloat64(sum(CostUSD)) AS c FROM llm_calls GROUP BY Team ORDER BY c DESC LIMIT 1")  # fmt: skip
    with opened(browser, gateway, "/ui/budgets") as page:
        first = page.locator(".budget").first
        expect(first).to_contain_text(team)
        expect(first).to_contain_text(f"{units.usd(float(used))} of $0.5000")
        expect(page.locator("#burn-down-of-teams path.line").first).to_be_visible()
        page.locator("#alerts tbody a").first.click()
        assert "/ui/finding/" in page.url
        expect(page.locator("#spend-an-hour .legend")).to_contain_text("measured")
        page.locator("#evidence tbody a").first.click()
        assert "/ui/trace/" in page.url


def test_findings_are_filtered_and_keep_their_filter_in_the_address(browser: Browser, gateway: Collector) -> None:
    ((opened_, critical),) = sql(gateway, "SELECT countIf(State = 'open'), countIf(State = 'open' AND Severity = 'critical') FROM llm_findings")  # fmt: skip
    with opened(browser, gateway, "/ui/findings") as page:
        assert (tile(page, "Open"), tile(page, "Critical")) == (opened_, critical)
        page.locator("select[name=severity]").select_option("critical")
        page.wait_for_url("**severity=critical**")
        assert set(page.locator("#what-was-noticed tbody td:first-child").all_inner_texts()) == {"critical"}


def test_the_pipeline_shows_its_config_without_secrets(browser: Browser, gateway: Collector) -> None:
    ((spans,),) = sql(gateway, "SELECT count() FROM otel_traces")
    with opened(browser, gateway, "/ui/pipeline") as page:
        assert tile(page, "State") == "Ready"
        numbers = page.locator("#senders tbody td:nth-child(3)").all_inner_texts()
        assert sum(int(text.replace(",", "")) for text in numbers) == int(spans)
        page.get_by_text("Show", exact=True).click()
        expect(page.locator("pre.config")).to_contain_text("traces")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_pages_are_fit_for_phones_and_pass_axe(browser: Browser, gateway: Collector, width: int, scheme: str) -> None:  # fmt: skip
    ((finding,),) = sql(gateway, "SELECT FindingId FROM llm_findings ORDER BY FindingId LIMIT 1")
    for path in (*PATHS, f"/ui/finding/{finding}"):
        with opened(browser, gateway, path, width=width, scheme=scheme) as page:
            found = [(v["id"], v["nodes"][0]["html"][:200]) for v in Axe().run(page).response["violations"] if v["impact"] in ("serious", "critical")]  # fmt: skip
            assert found == [], path


def test_every_figure_has_rows_to_download(browser: Browser, gateway: Collector) -> None:
    for path in PATHS:
        with opened(browser, gateway, path) as page:
            for address in page.locator("a[download]").evaluate_all("links => links.map(link => link.href)"):
                answer = page.request.get(address)
                assert answer.status == 200, address
                assert answer.headers["content-type"].startswith("text/csv"), address
