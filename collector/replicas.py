"""Several collectors that count together: each publishes its exact share, and reads the others'.

    batch ─▶ a processor's counters ─▶ `batch.shares` ─▶ exporter, with the batch's calls ─▶ store
                     ▲                                                                         │
                     └── an empty request wakes the pipeline ◀── `Exchange`, every two seconds ┘

A share is an amount, not a movement: the newest version of it is all there is to know, and reading it again changes nothing.
It is delivered behind the calls that it counts. So once everything is delivered, the shares of all collectors add up
to what the store's calls do.
"""

from __future__ import annotations

import logging
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Gauge

from collector.counting import Listener, Share, Shares
from collector.errors import DeliveryError
from collector.once import once
from collector.store import StateStore

logger = logging.getLogger(__name__)

#: How often the others' shares are read.
EVERY_S = 2.0
#: How often all of them are, not only those that are new.
ALL_EVERY_S = 300.0
#: What was written so long before the newest that was read may have become visible only now.
OVERLAP_NS = 60 * 10**9
#: Rounds that fail before it is said: the tables may be about to be made.
_SAID_AFTER = 3
_NAMESPACE, _ID = "collector", b"id"


class Exchange:
    """Reads shares for the processors of one pipeline, on a thread of its own."""

    def __init__(
        self,
        name: str,
        shares: Shares,
        listeners: Sequence[Listener],
        wake: Callable[[], None],
        registry: CollectorRegistry,
    ) -> None:
        """name: of the exporter; wake: have the pipeline make a batch, if only an empty one"""
        self._name, self._shares, self._listeners, self._wake = name, shares, listeners, wake
        self._newest = 0
        self._all_at = 0.0
        self._failed = 0  # rounds in a row
        self._read_at = time.time()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"shares {name}", daemon=True)
        once(registry, _Metrics).watch(lambda: max(time.time() - self._read_at, 0.0))

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End. A read that hangs is left alone: its thread ends with the process."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2 * EVERY_S)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.exchange()
            except Exception as error:  # whatever it is, the next round may do better
                logger.error("exporter %s: exchanging shares raised %s", self._name, type(error).__name__)
            self._stop.wait(EVERY_S)
        self._shares.close()

    def exchange(self) -> None:
        """One round: read, hand on, wake the pipeline where something is to be done."""
        began, now = time.time_ns(), time.monotonic()
        since = {scope: period for listener in self._listeners for scope, period in listener.wanted().items()}
        everything = not self._all_at or now - self._all_at >= ALL_EVERY_S
        found: list[Share] | None = None
        try:
            found, newest = self._shares.read(since, 0 if everything else self._newest - OVERLAP_NS)
        except Exception as error:  # whatever it is, the next round may do better
            self._note(str(error) if isinstance(error, DeliveryError) else f"reading raised {type(error).__name__}")
        else:
            self._newest, self._read_at = max(self._newest, newest), began / 1e9
            self._all_at = now if everything else self._all_at
            if self._failed >= _SAID_AFTER:
                logger.info("exporter %s: what other collectors count can be read again", self._name)
            self._failed = 0
        needed = [listener.hear(found, began) for listener in self._listeners]
        if any(needed):
            self._wake()

    def _note(self, why: str) -> None:
        self._failed += 1
        if self._failed == _SAID_AFTER:
            logger.warning("exporter %s: what other collectors count cannot be read: %s; what was known of them last is used, and findings of budgets are told without asking them", self._name, why)  # fmt: skip


class _Metrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._ages: list[Callable[[], float]] = []
        gauge = Gauge(
            "spanledger_shares_age_seconds",
            "How long ago it was read what other collectors count; 0 where nothing is shared.",
            registry=registry,
        )
        gauge.set_function(lambda: max((age() for age in self._ages), default=0.0))

    def watch(self, age: Callable[[], float]) -> None:
        self._ages.append(age)


def collector_id(store: StateStore) -> str:
    """Which collector this is: the machine's name and eight digits, made once and kept with the state: who loses the one is
    another collector, whose versions begin anew. Raises `StoreError`."""
    with store.reader() as reader:
        kept = reader.component(_NAMESPACE).get(_ID)
    if kept is not None:
        return kept.decode()
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname()).strip("-.")[:64] or "collector"
    made = f"{host}-{secrets.token_hex(4)}"
    with store.transaction() as transaction:
        transaction.component(_NAMESPACE).put(_ID, made.encode())
    return made


__all__ = ["Exchange", "collector_id"]
