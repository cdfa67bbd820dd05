"""The spans that show a finding say so: the column `findings`, as far as they are in the batch that it was noticed in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from collector import distinct
from collector.batch import SpanBatch
from collector.columns import FINDINGS
from collector.findings import Observation
from collector.otlp import gather
from collector.otlp.tables import I64

#: Kinds that can be told apart by the bits of one number.
_MOST = 63


def marked(batch: SpanBatch) -> SpanBatch:
    """The batch with the kinds of findings that each span is evidence of. As it is where nothing was observed."""
    observed: dict[str, list[Observation]] = {}
    for one in batch.observed:
        if one.holds:
            observed.setdefault(one.kind, []).append(one)
    if not observed or not len(batch):
        return batch
    kinds = sorted(observed)[:_MOST]
    ids = [batch.otlp.spans.ids[:3], *(_ids(observed[kind]) for kind in kinds)]
    spans, _ = distinct.rows(np.concatenate(ids, axis=1).T)
    bits = np.zeros(len(spans), np.int64)  # by number of a span, of the kinds that it shows
    begin = len(batch)
    for number, shown in enumerate(ids[1:]):
        bits[spans[begin : begin + shown.shape[1]]] |= np.int64(1) << np.int64(number)
        begin += shown.shape[1]
    told = bits[spans[: len(batch)]]
    if not told.any():
        return batch
    codes, first = distinct.rows(told[:, None])
    texts = [
        ",".join(kind for number, kind in enumerate(kinds) if one >> number & 1) or None for one in told[first].tolist()
    ]
    column = pl.Series(FINDINGS.name, texts, dtype=FINDINGS.dtype)[codes]
    return batch.with_(spans=batch.spans.with_columns(column))


def _ids(observations: Sequence[Observation]) -> I64:
    """Those of the spans that show them, each once or more often, as `SpanTable.ids` has them [3, spans]."""
    single = [one for observation in observations if observation.shown is None for one in observation.evidence]
    many = [one.shown for one in observations if one.shown is not None]
    traces = pl.concat([pl.Series([one.trace_id for one in single], dtype=pl.String()), *(one.traces for one in many)])
    spans = pl.concat([pl.Series([one.span_id for one in single], dtype=pl.String()), *(one.spans for one in many)])
    words = [
        gather.id_words(of.to_arrow(compat_level=pl.CompatLevel.oldest()), width)
        for of, width in ((traces, 2), (spans, 1))
    ]
    ids: I64 = np.concatenate(words)
    return ids[:, ids[:2].any(axis=0) & (ids[2] != 0)]
