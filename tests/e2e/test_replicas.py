"""Two collectors behind a load balancer that write to one ClickHouse: what they limit, say and answer is of all calls together."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.cli_kit import Request, serve
from tests.clickhouse_kit import ClickHouseServer, clickhouse_server
from tests.collector_kit import Collector, free_ports
from tests.pipeline_kit import wait_for
from tests.unit.test_routing import body, chat

LIMIT = 10


class Replica(Collector):
    """One of them, with a verdict port."""

    def __init__(self, folder: Path, store: ClickHouseServer, hook: str) -> None:
        folder.mkdir()
        self.sent: dict[str, bytes] = {}
        (self.verdict,) = free_ports(1)
        super().__init__(
            folder, dsn=store.dsn, exporter=", retry_on_failure: {initial_interval: 100ms, max_interval: 300ms}",
            service=f'  verdict: {{endpoint: "127.0.0.1:{self.verdict}", own_process: true}}\n',
        )  # fmt: skip
        budgets = f"  budgets: {{shared: true, alone_after: 10m, budgets: {{teams: {{per: [team], calls: {LIMIT}, soft: [50], projected: null}}}}}}\n"
        hook = f'  notify: {{targets: {{hook: {{webhook: "http://{hook}/hook"}}}}, routes: [{{kinds: ["budget.*"], min_severity: info, to: [hook]}}]}}\n'
        text = self.config.read_text().replace("[attribution, pricing]", "[attribution, pricing, budgets]")
        text = text.replace("  pricing:\n", "  pricing:\n" + budgets).replace("  nop:\n", "  nop:\n" + hook)
        self.config.write_text(text.replace("exporters: [clickhouse]}", "exporters: [clickhouse, notify]}", 1))

    def take(self, *ids: str) -> None:
        """Calls of team search, one a request; those of one id are the same bytes."""
        for id_ in ids:
            assert self.post(self.sent.setdefault(id_, body(chat(id_, start_ns=time.time_ns()))))[0] == 200

    def use(self) -> tuple[dict[str, int], int]:
        """What it knows of team search: each collector's part, and the sum."""
        (budget,) = json.loads(self.get("/budgets?most=5")[1])
        (subject,) = budget["subjects"] or [{"shares": {}, "used": "0"}]
        return {name: int(used) for name, used in subject["shares"].items()}, int(subject["used"])

    def denies(self) -> bool:
        """Whether a gateway would be told not to."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.verdict}/v1/verdict?team=search", timeout=10):
                return False
        except urllib.error.HTTPError as error:
            return error.code == 429


@contextlib.contextmanager
def replicas(folder: Path) -> Iterator[tuple[Replica, Replica, ClickHouseServer, list[Request]]]:
    """Two of them, not started, one store, and what somebody was told of."""
    with (
        serve(lambda _: (200, {}, b"")) as hook,
        clickhouse_server(folder) as store,
        contextlib.ExitStack() as stack,
    ):
        made = [Replica(folder / name, store, hook.address) for name in ("one", "two")]
        for one in made:
            stack.callback(one.close)
        yield made[0], made[1], store, hook.requests


def said(requests: list[Request]) -> Counter[tuple[str, str]]:
    """What was told, by kind and transition."""
    events: list[Any] = [json.loads(request.body) for request in requests]
    return Counter((event["subject"], event["type"].rpartition(".")[2]) for event in events)


def test_two_replicas_keep_one_limit_and_say_so_once(tmp_path: Path) -> None:
    """Scenario: no line is crossed by one's own calls; one is killed and comes back, the store refuses everything
    meanwhile, much is sent twice."""
    with replicas(tmp_path) as (one, two, store, told):
        with ThreadPoolExecutor() as pool:
            list(pool.map(Replica.start, (one, two)))
        one.take("a1", "a2", "a3")
        two.take("b1", "b2", "b3")
        wait_for(lambda: said(told) == {("budget.soft", "opened"): 1}, 90)
        wait_for(lambda: one.use()[1] == two.use()[1] == 6, 60)
        one.kill()
        store.fault("error")
        two.take("b3", "b4", "b5")
        one.start()
        one.take("a3", "a1", "a4", "a5")
        wait_for(lambda: one.use()[1] == two.use()[1] == 8, 60)  # own calls, and what was known of the others' last
        store.fault("ok")
        wait_for(lambda: said(told)["budget.hard", "opened"] > 0, 90)
        wait_for(lambda: one.denies() and two.denies(), 60)
        assert one.use() == two.use()
        parts, used = one.use()
        assert (sorted(parts.values()), used) == ([5, 5], LIMIT)
        claimed = (
            "SELECT count() FROM spanledger.llm_budget_shares FINAL WHERE arrayExists(at -> at > 0, mapValues(Said))"
        )
        wait_for(lambda: store.sql(claimed) == [[0]], 60)  # nobody wants to tell of anything any more
        assert said(told) == {("budget.soft", "opened"): 1, ("budget.hard", "opened"): 1}
        assert store.sql("SELECT sum(Calls), toString(sum(CostUSD)) FROM spanledger.llm_budget_shares FINAL") == (
            store.sql("SELECT count(), toString(sum(CostUSD)) FROM spanledger.llm_calls")
        )
        assert sorted(store.sql("SELECT Kind, State, count() FROM spanledger.llm_findings GROUP BY ALL")) == [
            ["budget.hard", "open", 1], ["budget.soft", "open", 1],
        ]  # fmt: skip
        assert (one.stop(), two.stop()) == (0, 0)
