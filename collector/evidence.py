"""The spans that show a finding say so: the column `findings`, as far as they are in the batch that it was noticed in."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import polars as pl

from collector.batch import SpanBatch
from collector.columns import FINDINGS
from collector.findings import Evidence
from collector.otlp.tables import Traces

_ID = np.arange(8)


def marked(batch: SpanBatch) -> SpanBatch:
    """The batch with the kinds of findings that each span is evidence of. As it is where nothing was observed."""
    kinds: dict[Evidence, set[str]] = defaultdict(set)
    for observation in batch.observed:
        if observation.holds:
            for evidence in observation.evidence:
                kinds[evidence].add(observation.kind)
    if not kinds or not len(batch):
        return batch
    texts: list[str | None] = [None] * len(batch)
    found = False
    for row in _rows(batch.otlp, [evidence.span_id for evidence in kinds]):
        told = kinds.get(_named(batch.otlp, row))
        if told:
            texts[row], found = ",".join(sorted(told)), True
    if not found:
        return batch
    return batch.with_(spans=batch.spans.with_columns(pl.Series(FINDINGS.name, texts, dtype=FINDINGS.dtype)))


def _rows(traces: Traces, span_ids: list[str]) -> list[int]:
    """The spans that have one of these ids, in whichever trace."""
    wanted = [int.from_bytes(bytes.fromhex(id_), "little") for id_ in span_ids if len(id_) == 16]
    ids = traces.spans.span_id
    whole = np.flatnonzero(ids.len == 8)
    numbers = traces.data[ids.off[whole][:, None] + _ID].view("<u8")[:, 0]
    rows: list[int] = whole[np.isin(numbers, np.array(wanted, "<u8"))].tolist()
    return rows


def _named(traces: Traces, row: int) -> Evidence:
    """A span's ids in hex."""
    ids = (traces.spans.trace_id, traces.spans.span_id)
    trace_id, span_id = (traces.data[i.off[row] : i.off[row] + i.len[row]].tobytes().hex() for i in ids)
    return Evidence(trace_id, span_id)
