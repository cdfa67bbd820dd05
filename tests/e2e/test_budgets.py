"""What budgets count is what the ledger has, in a real collector: duplicates, kill -9, an edited config, late requests."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from collector.columns import PICO_PER_USD
from collector.store import StateStore, open_sealer
from config import load
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
    settings = load(collector.config).service
    store = StateStore(settings.data_dir / "state", open_sealer(settings.encryption, settings.data_dir), read_only=True)
    counters = Counters()
    with store.reader() as reader:
        counters.load(reader.component("traces/budgets"))
    store.close()
    counted: dict[str, tuple[int, int]] = {}
    for periods in counters.committed.values():
        for subjects in periods.values():
            for (team,), counter in subjects.items():
                usd, calls = counted.get(team, (0, 0))
                counted[team] = (usd + counter.usd, calls + counter.calls)
    assert counted == ledger
    assert sum(usd for usd, _ in ledger.values()) > 0
