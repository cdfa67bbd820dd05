"""The processor: sums of open buckets, and what closed ones say.

State is the sums of buckets, a row for each series, and the incidents that are open. All decisions follow from closed buckets, and
which calls a bucket has follows from the order of the calls alone. So what is found depends neither on where batches end nor on
restarts.
"""

from __future__ import annotations

import json
import logging

from prometheus_client import CollectorRegistry, Counter, Gauge

from collector.batch import SpanBatch
from collector.component import Context, Processor, Stage, StateReader, StateWriter
from collector.findings import Observation
from collector.once import once
from processors.anomaly.buckets import Buckets
from processors.anomaly.closing import Closing
from processors.anomaly.config import AnomalyConfig
from processors.anomaly.gathering import gathered
from processors.anomaly.layouts import layouts
from processors.anomaly.series import Series
from processors.anomaly.warmup import warm
from processors.anomaly.watching import Watching

logger = logging.getLogger(__name__)

_HEAD = b"head"
#: Closed buckets are kept for so long: what calls of an incident are is seen over them.
_KEEP_NS = 3600 * 10**9


class Anomaly(Processor[AnomalyConfig]):
    """What is unusual in spend and behaviour, by what has been usual for the same series at the same time; one finding per incident."""

    Config = AnomalyConfig
    stage = Stage.CALLS

    def __init__(self, config: AnomalyConfig, context: Context) -> None:
        super().__init__(config, context)
        self._bucket_ns, self._late_ns = round(config.bucket * 1e9), round(config.lateness * 1e9)
        self._metrics = once(context.metrics, _Metrics)
        self._series = Series(config.max_series, layouts(config.scopes, config.alike))
        self._watching = Watching(config, self._series)
        self._buckets = Buckets(_KEEP_NS)
        self._closing = Closing(config, self._series, self._watching)
        self._clock = 0
        self._before = self._head()
        warm()

    def load(self, state: StateReader) -> None:
        head = state.get(_HEAD)
        if head is None:
            return
        made = json.loads(head)["made"]
        usable = made == self._watching.made
        if not usable:
            logger.info("%s: buckets or scopes are others than before; what changed is learnt anew", self.context.id)
        self._take(head)
        self._buckets.load(state, usable, self._over)
        self._series.load(state, self._watching.known(made))
        self._watching.start()
        self._watching.attend()
        self._before = self._head()

    def process(self, batch: SpanBatch) -> SpanBatch:
        self._series.begin()
        self._buckets.begin()
        self._before = self._head()
        if batch.calls.is_empty():
            return batch
        found = gathered(batch, self._watching.dimensions, self._clock, self._bucket_ns, self._late_ns)
        self._clock = found.clock
        crowded = self._buckets.add(found)
        self._metrics.late.inc(found.late)
        evicted, without = self._closing.evicted, self._closing.without
        observed: list[Observation] = []
        for start, bucket in self._buckets.close(self._over):
            observed += self._closing.close(start // self._bucket_ns, bucket, self._buckets.until(start))
        self._metrics.evicted.inc(self._closing.evicted - evicted)
        self._metrics.crowded.inc(crowded + self._closing.without - without)
        self._metrics.series.set(len(self._series))
        return batch.with_(observed=(*batch.observed, *observed)) if observed else batch

    @property
    def _over(self) -> int:
        """Start of the last bucket that takes no more calls."""
        return self._clock - self._late_ns - self._bucket_ns

    def save(self, state: StateWriter) -> None:
        self._buckets.save(state)
        self._series.save(state)
        head = self._head()
        if head != self._before:
            state.put(_HEAD, head)

    def rollback(self) -> None:
        self._buckets.rollback()
        self._series.rollback()
        self._watching.start()
        self._take(self._before)

    def _head(self) -> bytes:
        """What is small."""
        head = {"clock": self._clock, "made": self._watching.made, **self._closing.head}
        return json.dumps(head, separators=(",", ":")).encode()

    def _take(self, head: bytes) -> None:
        values = json.loads(head)
        self._clock = values["clock"]
        self._closing.take(values)


class _Metrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.late = Counter(
            "spanledger_anomaly_late_calls", "Calls that came after their bucket was judged.", registry=registry
        )
        self.crowded = Counter(
            "spanledger_anomaly_crowded", "Combinations and series that found no room.", registry=registry
        )
        self.evicted = Counter(
            "spanledger_anomaly_evicted_series", "Series that had to go because there were too many.", registry=registry
        )
        self.series = Gauge("spanledger_anomaly_series", "Series that are watched.", registry=registry)


__all__ = ["Anomaly"]
