"""What redaction counts, in the service's metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import prometheus_client as prometheus
from prometheus_client import CollectorRegistry

from processors.redaction.actions import What
from processors.redaction.detector import Detector
from processors.redaction.engine import Outcome


@dataclass(frozen=True, slots=True)
class Tally:
    """What a batch came to. Added to the metrics when the batch is committed."""

    hits: Mapping[tuple[str, str], int] = field(default_factory=dict)  # detector, action
    unscanned: Mapping[str, int] = field(default_factory=dict)  # by reason
    scanned_bytes: int = 0

    def plus(self, outcome: Outcome, detectors: Sequence[Detector]) -> Tally:
        """This and what one request came to."""
        pairs, count = np.unique(outcome.found.detector * 16 + outcome.done, return_counts=True)
        hits = Counter(self.hits)
        for pair, number in zip(pairs.tolist(), count.tolist(), strict=True):
            hits[detectors[pair >> 4].id, WORDS[What(pair & 15)]] += number
        unscanned = Counter(self.unscanned)
        unscanned.update({reason: len(rows) for reason, rows in outcome.unscanned.items()})
        return Tally(hits, unscanned, self.scanned_bytes + int(outcome.leaves.size.sum(dtype=np.int64)))


#: What was done, in the metrics' words.
WORDS = {what: what.name.lower() for what in What} | {What.OFF: "none"}


class Metrics:
    """Of all redaction processors of a service."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._hits = prometheus.Counter("spanledger_redaction_hits", "Personal data and secrets found, by detector and by what was done about it (none: it was kept on purpose).", ["detector", "action"], registry=registry)  # fmt: skip
        self._unscanned = prometheus.Counter("spanledger_redaction_unscannable", "Values that could not be searched and were taken out as a whole.", ["reason"], registry=registry)  # fmt: skip
        self._bytes = prometheus.Counter("spanledger_redaction_scanned_bytes", "Bytes of texts searched.", registry=registry)  # fmt: skip
        self.missed = prometheus.Counter("spanledger_redaction_audit_findings", "What the audit found in what was about to leave, and took out; anything but zero is a defect.", ["place", "detector"], registry=registry)  # fmt: skip

    def add(self, tally: Tally) -> None:
        """Count what a batch came to."""
        for (detector, action), number in tally.hits.items():
            self._hits.labels(detector, action).inc(number)
        for reason, number in tally.unscanned.items():
            self._unscanned.labels(reason).inc(number)
        self._bytes.inc(tally.scanned_bytes)
