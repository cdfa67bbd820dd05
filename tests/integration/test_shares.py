"""What collectors count together, through the store's own table; and budgets that begin when several of them have written."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from collector.component import Context
from collector.counting import Share
from collector.errors import SpanledgerError
from collector.replicas import collector_id
from collector.store import Sealer, StateStore
from config import load
from exporters.clickhouse.config import ClickHouseConfig
from exporters.clickhouse.exporter import ClickHouse
from exporters.clickhouse.share_rows import StoredShares
from spanledger.service import Service
from tests.budgets_kit import DAY, USD, Replica, Table, spent
from tests.findings_kit import NOON_NS
from tests.ledger_rows import batch


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ClickHouse]]:
    """One store, as each of three collectors writes to it."""
    folder = tmp_path_factory.mktemp("shares")
    config = ClickHouseConfig.model_validate({"dsn": f"chdb://{folder / 'clickhouse'}"})
    made = {name: ClickHouse(config, Context("clickhouse", Path(folder), CollectorRegistry(), collector=name)) for name in ("one", "two", "gone")}  # fmt: skip
    for one in made.values():
        one.start()
    yield made
    for one in made.values():
        one.close()


def read(store: ClickHouse, since: dict[str, int], written_ns: int = 0) -> list[Share]:
    asked = StoredShares(store.dsn, store.layout, 30)
    found = asked.read(since, written_ns)[0]
    asked.close()
    return found


def share(values: tuple[str, ...], version: int, **changes: Any) -> Share:
    kept = {
        "scope": "0a" * 8, "period": NOON_NS, "collector": "one", "cost_pico": 12_345 * version, "tokens": 7, "calls": 3, "last_ns": NOON_NS + 1,
        "said": {"teams budget.hard 100 5": 17}, "dimensions": ("team", "app"), "values": values, "version": version,
    }  # fmt: skip
    return Share(**{**kept, **changes})


def test_shares_come_back_as_they_were_the_newest_version_of_each(stores: dict[str, ClickHouse]) -> None:
    store = stores["one"]
    written = [
        share(("search", ""), 2),
        share(("it's \\ ünusual\n", "b"), 2**62 + 5, cost_pico=10**25 + 1, tokens=-4, said={}),
        share(("search", ""), 1),
        share(("search", ""), 1, collector="two"),
        share(("search", ""), 3, period=NOON_NS + 40 * DAY),
        share(("search", ""), 3, scope="0b" * 8),
    ]
    for number, one in enumerate(written):
        for payload in store.encode(batch(position=number).with_(shares=(one,))):
            store.send(payload)
            store.send(payload)
    found = read(store, {"0a" * 8: NOON_NS})
    assert sorted(found, key=repr) == sorted([written[0], written[1], written[3], written[4]], key=repr)
    assert read(store, {"0a" * 8: NOON_NS + 1, "0b" * 8: 0}) in ([written[4], written[5]], [written[5], written[4]])
    newest = StoredShares(store.dsn, store.layout, 30).read({"0a" * 8: 0}, 0)[1]
    assert abs(newest - time.time_ns()) < DAY, "the store's clock"
    assert read(store, {"0a" * 8: 0}, newest + 10**9) == []
    assert read(store, {}) == []


def test_a_budget_that_is_new_to_several_collectors_begins_with_each_ones_own_calls(
    stores: dict[str, ClickHouse],
) -> None:
    """Scenario: three have written, one of them is there no more; both others get the budget, one of them later."""
    ledger = {"one": [spent("a", 12, team="x"), spent("b", 3, team="y")], "two": [spent("c", 4, team="x")], "gone": [spent("d", 1, team="x")]}  # fmt: skip
    for name, rows in ledger.items():
        for payload in stores[name].encode(batch(made=rows, position=100)):
            stores[name].send(payload)
    history, table = stores["one"].history(), Table()
    limits = {"teams": {"per": ["team"], "usd": 100, "projected": None}}
    one = Replica("one", table, limits, history)
    assert one.used(team="x") == {"teams": 17 * USD}
    one.take([spent("e", 1, team="x")])
    two = Replica("two", table, limits, history)
    assert two.used(team="x") == {"teams": 17 * USD}
    for payload in stores["one"].encode(batch(made=[spent("e", 1, team="x")], position=101)):
        stores["one"].send(payload)
    for now in range(3):
        one.exchange(NOON_NS + now)
        two.exchange(NOON_NS + now)
    for of in (one, two):
        assert of.used(team="x") == {"teams": 18 * USD}
        assert of.used(team="y") == {"teams": 3 * USD}
    report = one.budgets.verdicts.report(NOON_NS, 1)[0]
    assert report["subjects"][0]["shares"] == {"one": "13", "gone": "1", "two": "4"}
    assert {row.collector for row in table.rows.values()} == {"one", "two", "gone"}


def test_a_collector_is_the_same_after_a_restart_and_another_one_without_its_state(tmp_path: Path) -> None:
    found = []
    for folder in ("state", "state", "other"):
        store = StateStore(tmp_path / folder, Sealer([bytes(32)]))
        found.append(collector_id(store))
        store.close()
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    ("processors", "dsn", "message"),
    [
        ("budgets", "chdb://{data}/clickhouse", "no exporter of the pipeline has a store to share it in"),
        ("budgets, budgets/more", "http://127.0.0.1:1", "in one pipeline only, by one processor"),
    ],
)
def test_budgets_that_cannot_be_shared_are_refused(tmp_path: Path, processors: str, dsn: str, message: str) -> None:
    path = tmp_path / "spanledger.yaml"
    path.write_text(f"""
receivers: {{otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:0"}}}}}}}}
processors:
  budgets: {{shared: true}}
  budgets/more: {{shared: true}}
exporters: {{clickhouse: {{dsn: "{dsn.format(data=tmp_path)}"}}}}
service:
  data_dir: {tmp_path}
  admin: {{endpoint: "127.0.0.1:0"}}
  pipelines: {{traces: {{receivers: [otlp], processors: [{processors}], exporters: [clickhouse]}}}}
""")
    with pytest.raises(SpanledgerError, match=message):
        Service(load(path))
