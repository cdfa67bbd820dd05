"""kill -9 at random moments under load: every span that was answered OK is in the ledger, once; none counts twice."""

from __future__ import annotations

import random
import threading
import time
import urllib.error
from decimal import Decimal
from pathlib import Path

import pytest

from tests.collector_kit import Collector
from tests.spans_kit import calls

KILLS = 20
SPANS = 25


class Load:
    """Senders that note which response ids were answered OK, and send again what was not answered."""

    def __init__(self, collector: Collector, senders: int = 4) -> None:
        self._collector = collector
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._next = 0
        self.answered: set[str] = set()
        self.sent: set[str] = set()
        self._threads = [threading.Thread(target=self._send) for _ in range(senders)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                self._next += 1
                number = self._next
            ids = [f"resp-{number}-{place}" for place in range(SPANS)]
            body = calls(ids)
            with self._lock:
                self.sent.update(ids)
            while not self._stop.is_set():
                try:
                    status, _ = self._collector.post(body)
                except (OSError, urllib.error.URLError):
                    time.sleep(0.05)  # killed: the same request goes again, as a real exporter does
                    continue
                if status == 200:
                    with self._lock:
                        self.answered.update(ids)
                    break
                assert status in (429, 502, 503), status
                time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_is_lost_and_nothing_counts_twice(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    collector = Collector(tmp_path)
    load = Load(collector)
    try:
        collector.start()
        load.start()
        for _ in range(KILLS):
            time.sleep(dice.uniform(0.05, 1.0))
            collector.kill()
            collector.start()
        time.sleep(0.5)
        load.stop()
        collector.settled()
        ids = collector.sql("SELECT ResponseId, count() FROM llm_calls GROUP BY ResponseId")
        found = {id_ for id_, _ in ids}
        assert not load.answered - found, f"seed {seed}: {len(load.answered - found)} answered calls are missing"
        assert not found - load.sent
        assert all(int(count) == 1 for _, count in ids), f"seed {seed}: some calls count twice"
        spans = collector.sql("SELECT count(), uniqExact(TraceId, SpanId) FROM otel_traces")
        assert int(spans[0][1]) >= len(load.answered)
        # The hourly sums moved by exact deltas through all of it.
        price = Decimal("0.00015") + Decimal("0.00006")
        total = Decimal(str(collector.sql("SELECT toString(sum(CostUSD)) FROM llm_calls")[0][0]))
        assert total == price * len(found)
        for sums in ("llm_costs_hourly", "llm_traffic_hourly"):
            hourly = collector.sql(f"SELECT toString(sum(CostUSD)), sum(Calls) FROM {sums}")
            assert (Decimal(str(hourly[0][0])), int(hourly[0][1])) == (total, len(found)), sums
        assert len(load.answered) > KILLS * SPANS, "too little load to say anything"
    finally:
        load.stop()
        collector.close()
