"""The ledgers' metrics. Several pipelines have a ledger each and share a registry: their numbers add up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol
from weakref import WeakSet

from prometheus_client import CollectorRegistry, Counter, Gauge


class Remembers(Protocol):
    """What has a number of spans, and a size in memory."""

    def __len__(self) -> int: ...

    @property
    def nbytes(self) -> int: ...


class LedgerMetrics:
    """Of all ledgers of a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._memories: WeakSet[Remembers] = WeakSet()
        self.calls = Counter("spanledger_ledger_calls", "Calls by what a batch made of them.", ["outcome"], registry=registry)  # fmt: skip
        self.evicted = Counter("spanledger_ledger_evicted_spans", "Spans forgotten before their time, because `max_spans` were remembered.", registry=registry)  # fmt: skip
        spans = Gauge("spanledger_ledger_remembered_spans", "Reports and links that are remembered.", registry=registry)
        spans.set_function(self._sum(len))
        size = Gauge("spanledger_ledger_memory_bytes", "Memory of the tables that find them.", registry=registry)
        size.set_function(self._sum(lambda memory: memory.nbytes))

    def watch(self, memory: Remembers) -> None:
        """Count a ledger's memory in, as long as it is there."""
        self._memories.add(memory)

    def _sum(self, number: Callable[[Remembers], int]) -> Callable[[], float]:
        return lambda: sum(number(memory) for memory in list(self._memories))
