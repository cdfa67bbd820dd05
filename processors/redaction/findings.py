"""What was found on each span, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from collector.columns import PII, PII_IN_REQUEST
from processors.redaction.detector import Detector
from processors.redaction.engine import Outcome


def counts(outcome: Outcome, detectors: Sequence[Detector], spans: int) -> list[pl.Series]:
    """The columns `pii` and `pii_in_request`; none where nothing was found on any span."""
    on_span = outcome.items >= 0
    if not on_span.any():
        return []
    return [
        _column(PII.name, outcome, on_span, detectors, spans),
        _column(PII_IN_REQUEST.name, outcome, on_span & outcome.in_request, detectors, spans),
    ]


def _column(name: str, outcome: Outcome, rows: Any, detectors: Sequence[Detector], spans: int) -> pl.Series:
    """Per span how many hits of which detector, null for none."""
    pairs, found = np.unique(
        outcome.items[rows].astype(np.int64) * len(detectors) + outcome.found.detector[rows], return_counts=True
    )
    span, detector = np.divmod(pairs, len(detectors))
    ids = pa.array([one.id for one in detectors], pa.large_string())
    per_span = np.bincount(span, minlength=spans)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(per_span)])
    entries = pa.StructArray.from_arrays([ids.take(pa.array(detector)), pa.array(found.astype(np.uint32))], ["name", "count"])  # fmt: skip
    lists = pa.LargeListArray.from_arrays(pa.array(offsets), entries, mask=pa.array(per_span == 0))
    return pl.Series(name, lists)
