"""The spans that show a finding say so: the column `findings`, as far as they are in the batch that it was noticed in."""

from __future__ import annotations

from collections import defaultdict
from struct import Struct

import numpy as np
import polars as pl

from collector.batch import SpanBatch
from collector.columns import FINDINGS

_WORDS = Struct("<qqq")  # a trace id and a span id, as `SpanTable.ids` has them


def marked(batch: SpanBatch) -> SpanBatch:
    """The batch with the kinds of findings that each span is evidence of. As it is where nothing was observed."""
    kinds: dict[tuple[int, ...], set[str]] = defaultdict(set)
    for observation in batch.observed:
        if observation.holds:
            for evidence in observation.evidence:
                if len(evidence.trace_id) == 32 and len(evidence.span_id) == 16:
                    kinds[_WORDS.unpack(bytes.fromhex(evidence.trace_id + evidence.span_id))].add(observation.kind)
    if not kinds or not len(batch):
        return batch
    ids = batch.otlp.spans.ids
    rows = np.flatnonzero(np.isin(ids[2], np.array([span for _, _, span in kinds], np.int64)))
    texts: list[str | None] = [None] * len(batch)
    found = False
    for row, *words in np.vstack([rows, ids[:3, rows]]).T.tolist():
        told = kinds.get(tuple(words))
        if told:
            texts[row], found = ",".join(sorted(told)), True
    if not found:
        return batch
    return batch.with_(spans=batch.spans.with_columns(pl.Series(FINDINGS.name, texts, dtype=FINDINGS.dtype)))
