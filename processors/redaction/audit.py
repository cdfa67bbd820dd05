"""The audit: what leaves is searched once more, and what is found then is taken out, counted, and logged as a defect.

Redaction done twice does what it does once. So whatever the second time changes was missed, or spoilt, the first time.
"""

from __future__ import annotations

import logging
from collections import Counter

import numpy as np
import polars as pl

from collector.otlp.strings import Place
from collector.otlp.tables import U8, Traces
from collector.signals import Signal
from processors.redaction.engine import Outcome
from processors.redaction.metrics import Metrics
from processors.redaction.parts import Parts

logger = logging.getLogger(__name__)


class Audit:
    """Searches what was redacted."""

    def __init__(self, parts: Parts, metrics: Metrics, id_: str) -> None:
        self._parts = parts
        self._metrics = metrics
        self._id = id_

    def request(self, signal: Signal, data: U8, traces: Traces | None = None) -> U8:
        """The request, without what was missed. `traces`: the same bytes, decoded (of traces only)."""
        outcome = self._parts.engine.redact(signal, data, traces)
        if outcome.data is data:
            return data
        self._tell(self._missed(outcome))
        return outcome.data

    def frame(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame, without what was missed."""
        (again,) = self._parts.columns.redact([frame])
        changed = [name for name in frame.columns if again is not frame and not again[name].equals(frame[name])]
        self._tell(Counter((f"column {name}", "any") for name in changed))
        return again

    def _missed(self, outcome: Outcome) -> Counter[tuple[str, str]]:
        """How much was missed, by place and detector."""
        leaves, changes = outcome.leaves, outcome.changes
        touched = np.unique(np.concatenate([changes.replaced, changes.dropped, changes.removed]))
        found: Counter[tuple[str, str]] = Counter()
        named = np.zeros(len(leaves), np.bool_)
        for leaf, detector in zip(outcome.found.leaf.tolist(), outcome.found.detector.tolist(), strict=True):
            named[leaf] = True
            found[_place(leaves.place[leaf]), self._parts.policy.detectors[detector].id] += 1
        for leaf in touched[~named[touched]].tolist():
            found[_place(leaves.place[leaf]), "any"] += 1
        return found

    def _tell(self, missed: Counter[tuple[str, str]]) -> None:
        for (place, detector), count in missed.items():
            self._metrics.missed.labels(place, detector).inc(count)
            logger.error("%s: the audit found %d times what should be gone (%s, detector %s) and took it out; please report this", self._id, count, place, detector)  # fmt: skip


def _place(place: int) -> str:
    return Place(place).name.lower().replace("_", " ")
