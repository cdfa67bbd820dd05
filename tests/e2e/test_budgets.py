"""What budgets count is what the ledger has, in a real collector: duplicates, kill -9, an edited config, late requests."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from collector.columns import PICO_PER_USD
from collector.store import StateStore, open_sealer
from config import load
from exporters.clickhouse.schema import MODEL
from processors.budgets.counters import Counters
from tests.collector_kit import Collector

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
