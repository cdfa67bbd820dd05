"""What budgets count is what the ledger has, in a real collector: duplicates, kill -9, an edited config, late requests."""

from __future__ import annotations

import time
from decimal import Decimal
from pathlib import Path

from collector.columns import PICO_PER_USD
from collector.store import StateStore, open_sealer
from config import load
from exporters.clickhouse.hourly import MODEL
from processors.budgets.counters import Counters
from tests.cli_kit import serve
from tests.collector_kit import Collector
from tests.pipeline_kit import wait_for
from tests.unit.test_gateway import Proxy
from tests.unit.test_routing import body, chat

CAPTURES = sorted((Path(__file__).parents[1] / "captures").glob("litellm-v*/*-traces.pb"))


def test_sums_of_budgets_are_those_of_the_ledger(tmp_path: Path) -> None:
    collector = Collector(tmp_path)
    text = collector.config.read_text().replace("processors: [attribution, pricing]", "processors: [attribution, pricing, budgets]")  # fmt: skip

    def configure(limit: str) -> None:
        budgets = f"  budgets: {{budgets: {{teams: {{per: [team], usd: {limit}}}}}}}\n"
        collector.config.write_text(text.replace("  pricing:\n", "  pricing:\n" + budgets))

    bodies = [path.read_bytes() for path in CAPTURES]
    configure("0.001")
    try:
        collector.start()
        for body in bodies[1::2]:
            assert collector.post(body)[0] == 200
        collector.kill()
        configure("0.0005")
        collector.start()
        for body in [*bodies[::2], *bodies]:  # what is late, then everything once more
            assert collector.post(body)[0] == 200
        collector.kill()
        collector.start()
        collector.settled()
        rows = collector.sql("SELECT Team, toString(sum(CostUSD)), count() FROM llm_calls FINAL GROUP BY Team")
        assert collector.stop() == 0
    finally:
        collector.close()
    ledger = {team: (int(Decimal(cost or 0) * PICO_PER_USD), int(calls)) for team, cost, calls in rows}
    assert _counted(collector)[("team",)] == {(team,): sums for team, sums in ledger.items()}
    assert sum(usd for usd, _ in ledger.values()) > 0


def test_a_budget_that_is_added_later_counts_what_the_ledger_has_already(tmp_path: Path) -> None:
    """Scenario: no budgets at first; killed with requests and deliveries under way; a budget is added, then another one,
    while everything comes once more."""
    collector = Collector(tmp_path)
    text = collector.config.read_text()

    def configure(budgets: str) -> None:
        edited = text.replace("processors: [attribution, pricing]", "processors: [attribution, pricing, budgets]")
        collector.config.write_text(
            edited.replace("  pricing:\n", f"  pricing:\n  budgets: {{budgets: {{{budgets}}}}}\n")
        )

    bodies = [path.read_bytes() for path in CAPTURES]
    teams = "teams: {per: [team], usd: 0.001}"
    try:
        collector.start()
        for body in bodies[1::2]:
            assert collector.post(body)[0] == 200
        collector.kill()
        configure(teams)
        collector.start()
        for body in bodies[::2]:
            assert collector.post(body)[0] == 200
        collector.kill()
        configure(teams + ", models: {per: [model, app], unless: {team: nobody}, calls: 5, window: week, timezone: Asia/Kolkata}")  # fmt: skip
        collector.start()
        for body in bodies:
            assert collector.post(body)[0] == 200
        collector.settled()
        rows = {
            keys: collector.sql(f"SELECT {keys}, toString(sum(CostUSD)), count() FROM llm_calls GROUP BY {keys}")
            for keys in ("Team", f"App, {MODEL}")
        }
        said = collector.sql("SELECT Kind, mapFromArrays(mapKeys(Subject), mapValues(Subject)), count() FROM llm_findings WHERE startsWith(Kind, 'budget.') GROUP BY ALL")  # fmt: skip
        assert collector.stop() == 0
    finally:
        collector.close()
    counted = _counted(collector)
    for names, found in zip((("team",), ("app", "model")), rows.values(), strict=True):
        ledger = {tuple(row[:-2]): (int(Decimal(row[-2] or 0) * PICO_PER_USD), int(row[-1])) for row in found}
        assert counted[names] == ledger
    assert said
    assert all(int(count) == 1 for _, _, count in said)


def test_who_used_up_a_budget_is_blocked_at_the_gateway_once_and_let_go_when_the_limit_is_raised(
    tmp_path: Path,
) -> None:
    """Scenario: the gateway is away when the budget is used up, the collector is killed, both come back; the limit is raised."""
    proxy = Proxy()
    proxy.down = True
    with serve(proxy) as server:
        made = Collector(tmp_path)
        text = made.config.read_text().replace("[attribution, pricing]", "[attribution, pricing, budgets]")
        text = text.replace("  nop:\n", f"""  nop:
  gateway:
    gateways: {{proxy: {{litellm: "http://{server.address}", key: sk-admin}}}}
    actions: [{{budgets: [teams], block: team, at: [proxy]}}]
    retry_on_failure: {{initial_interval: 100ms, max_interval: 200ms}}
""").replace("exporters: [clickhouse]}", "exporters: [clickhouse, gateway]}", 1)  # fmt: skip

        def configure(limit: int) -> None:
            budgets = f"  budgets: {{budgets: {{teams: {{per: [team], calls: {limit}}}}}}}\n"
            made.config.write_text(text.replace("  pricing:\n", "  pricing:\n" + budgets))

        configure(1)
        try:
            made.start()
            assert made.post(body(chat("one", start_ns=time.time_ns())))[0] == 200
            wait_for(lambda: len(server.requests) > 0, 30)
            made.kill()
            proxy.down = False
            made.start()
            wait_for(lambda: proxy.teams["t-1"][1], 30)
            assert made.post(body(chat("two", start_ns=time.time_ns())))[0] == 200
            made.kill()
            configure(100)
            made.start()
            assert made.post(body(chat("three", start_ns=time.time_ns())))[0] == 200
            wait_for(lambda: not proxy.teams["t-1"][1], 30)
            assert made.stop() == 0
        finally:
            made.close()
    assert proxy.steps == [("/team/block", "t-1"), ("/team/unblock", "t-1")]


def _counted(collector: Collector) -> dict[tuple[str, ...], dict[tuple[str, ...], tuple[int, int]]]:
    """What is counted on disk, over all windows: dimensions → values → (pico-USD, calls). Nothing of it is marked as incomplete."""
    settings = load(collector.config).service
    store = StateStore(settings.data_dir / "state", open_sealer(settings.encryption, settings.data_dir), read_only=True)
    counters = Counters()
    with store.reader() as reader:
        counters.load(reader.component("traces/budgets"))
    store.close()
    assert not counters.since
    counted: dict[tuple[str, ...], dict[tuple[str, ...], tuple[int, int]]] = {}
    for scope, periods in counters.committed.items():
        found = counted.setdefault(counters.names[scope], {})
        for subjects in periods.values():
            for values, counter in subjects.items():
                usd, calls = found.get(values, (0, 0))
                found[values] = (usd + counter.usd, calls + counter.calls)
    return counted
