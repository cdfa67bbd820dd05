"""A batch's ids as keyed 64-bit hashes: what the ledger finds spans by. The key is the data directory's own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import pyarrow as pa

from collector.batch import SpanBatch
from collector.ledger import kernels
from collector.ledger.index import contains
from collector.ledger.kernels import I32, I64
from collector.ledger.rows import equal_to


@dataclass(frozen=True, slots=True)
class Hashes:
    """A batch's ids. `trace`, `span`, `parent` (0: none) per span; `report_span` (row of the span), `response` and
    `source` (0: no call, nor who asked for one) per report."""

    trace: I64
    span: I64
    parent: I64
    report_span: I32
    response: I64
    source: I64

    @classmethod
    def of(cls, batch: SpanBatch, seed: int) -> Hashes:
        trace, span, parent = kernels.hash_spans(batch.otlp.spans.ids, np.uint64(seed))
        reports = batch.reports
        source = hash_column(reports["source"], seed)
        role = reports["role"]
        source[~(equal_to(role, "call") | equal_to(role, "caller"))] = 0
        response = hash_column(reports["response_id"], seed)
        return cls(trace, span, parent, reports["span"].to_numpy(), response, source)


def without_copies(batch: SpanBatch, hashes: Hashes) -> tuple[SpanBatch, Hashes]:
    """Without the copies whose call stands right above them in the batch: they can never tell anything more."""
    role = batch.reports["role"]
    copies = np.flatnonzero(equal_to(role, "copy"))
    if not len(copies):
        return batch, hashes
    calls = hashes.span[hashes.report_span[equal_to(role, "call")]]
    keep = np.ones(len(role), dtype=np.bool_)
    keep[copies] = ~contains(hashes.parent[hashes.report_span[copies]], calls)
    if keep.all():
        return batch, hashes
    found = replace(hashes, report_span=hashes.report_span[keep], response=hashes.response[keep], source=hashes.source[keep])  # fmt: skip
    return batch.with_(reports=batch.reports.filter(pl.Series(keep))), found


def hash_column(texts: pl.Series, seed: int) -> I64:
    """A keyed hash per text; 0 for null and empty."""
    array = texts.to_arrow()
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if array.null_count == len(array):
        return np.zeros(len(array), dtype=np.int64)
    offsets = np.frombuffer(array.buffers()[1], dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    data = np.frombuffer(array.buffers()[2], dtype=np.uint8) if array.buffers()[2] else np.zeros(0, dtype=np.uint8)
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    hashes: I64 = kernels.hash_texts(data, offsets, valid, np.uint64(seed))
    return hashes
