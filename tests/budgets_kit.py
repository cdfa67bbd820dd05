"""Budgets as a pipeline runs them, over calls as the ledger hands them on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from collector.columns import PICO_PER_USD
from collector.component import Context
from collector.counting import History, Share, Summed
from collector.findings import Finding, Observation
from collector.windows import Window
from processors.budgets import Budgets, BudgetsConfig
from tests.findings_kit import NOON_NS, Memory, new_book
from tests.ledger_rows import batch, call

USD = PICO_PER_USD
MINUTE = 60 * 10**9
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class NothingBefore:
    """A ledger without calls (`collector.history.History`)."""

    def newest_ns(self) -> int:
        return 0

    def kept_since_ns(self, now_ns: int) -> int:
        return 0

    def sums(self, dimensions: Sequence[str], window: Window, since_ns: int) -> list[Summed]:
        return []


def started(
    budgets: Mapping[str, Any],
    state: Memory | None = None,
    history: History | None = NothingBefore(),
    collector: str = "",
    **options: Any,
) -> Budgets:
    """A processor as it starts over a state. `history`: what was before it; None: nobody knows."""
    config = BudgetsConfig.model_validate({"budgets": budgets, **options})
    made = Budgets(config, Context("budgets", Path(), CollectorRegistry(), collector=collector))
    made.load(state := state or Memory())
    if history is not None and made.lacks_history:
        made.recall(history)
        made.save(state)
        made.committed()
    return made


def spent(id_: str, usd: float, at: int = 0, **columns: Any) -> dict[str, Any]:
    """A call `at` ns after noon of 2026-11-28 (UTC, a Saturday)."""
    values = {
        "start_ns": NOON_NS + at,
        "cost_pico": round(usd * USD),
        "input_tokens": 100,
        "output_tokens": 10,
        **columns,
    }
    return call(id_, **values)


def take(
    budgets: Budgets,
    state: Memory,
    made: Sequence[Mapping[str, Any]],
    replaced: Sequence[Mapping[str, Any]] = (),
    times: int = 1,
) -> list[Observation]:
    """One batch, committed; what was observed. `times`: how often the disk had to be asked."""
    received = max((row["start_ns"] for row in made), default=NOON_NS)
    done = budgets.process(batch(made=made, replaced=replaced).with_(received_ns=received))
    for _ in range(times):
        budgets.save(state)
    budgets.committed()
    return list(done.observed)


class Table:
    """Where collectors publish their shares."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int, tuple[str, ...], str], Share] = {}

    def write(self, shares: Iterable[Share]) -> None:
        for share in shares:
            key = (share.scope, share.period, share.values, share.collector)
            if key not in self.rows or share.version >= self.rows[key].version:
                self.rows[key] = share


class Replica:
    """One of several collectors: its budgets, what it keeps on disk, and what waits for the table."""

    def __init__(
        self,
        name: str,
        table: Table,
        budgets: Mapping[str, Any],
        history: History | None = NothingBefore(),
        **options: Any,
    ) -> None:
        self.name, self.table = name, table
        self.config: dict[str, Any] = {"shared": True, **options}
        self.limits = budgets
        self.state, self.noted, self.waiting, self.observed = Memory(), Memory(), list[Share](), list[Observation]()
        self.findings: dict[str, Finding] = {}  # the newest version of each that was delivered
        self.transitions: list[str] = []
        self.position = 0
        self.history = history
        self.restart()

    def restart(self) -> None:
        """As after a kill: what was committed is there, and nothing else."""
        self.budgets = started(self.limits, self.state, self.history, collector=self.name, **self.config)
        self.book = new_book(self.noted)

    def take(self, made: Sequence[Mapping[str, Any]] = (), replaced: Sequence[Mapping[str, Any]] = ()) -> None:
        """One batch, committed."""
        self.position += 1
        received = max((row["start_ns"] for row in made), default=2 * NOON_NS)
        given = batch(made=made, replaced=replaced, position=self.position)
        done = self.budgets.process(given.with_(received_ns=received))
        self.budgets.save(self.state)
        self.budgets.committed()
        findings = self.book.observe(done).findings
        self.book.save(self.noted)
        self.waiting += done.shares
        self.observed += [one for one in done.observed if not one.elsewhere]
        self.findings |= {finding.id: finding for finding in findings}
        self.transitions += [one.value for finding in findings for one in finding.transitions]

    def exchange(self, now_ns: int, away: bool = False) -> None:
        """Deliver what waits, and read; or fail to do either."""
        if not away:
            self.table.write(self.waiting)
            self.waiting.clear()
        if self.budgets.hear(None if away else list(self.table.rows.values()), now_ns):
            self.take()

    def used(self, **asked: str) -> dict[str, int]:
        """Per budget, what is used now."""
        return {use.budget: use.used for use in self.budgets.verdicts.ask(asked, NOON_NS).uses}


def said(observed: Sequence[Observation]) -> list[tuple[str, str, bool]]:
    """Kind, whom it is about, and whether it holds."""
    return [(one.kind, " ".join(f"{n}={v}" for n, v in one.subject if n != "budget"), one.holds) for one in observed]
