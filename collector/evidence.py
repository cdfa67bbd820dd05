"""The spans that show a finding say so: the column `findings`, as far as they are in the batch that it was noticed in."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

import numpy as np
import polars as pl

from collector.batch import SpanBatch
from collector.columns import FINDINGS
from collector.findings import Observation
from collector.otlp.tables import I64

_WORDS = Struct("<qqq")  # a trace id and a span id, as `SpanTable.ids` has them
_NAMES = ["trace", "of", "span"]
#: Kinds that can be told apart by the bits of one number.
_MOST = 63


def marked(batch: SpanBatch) -> SpanBatch:
    """The batch with the kinds of findings that each span is evidence of. As it is where nothing was observed."""
    if not len(batch):
        return batch
    ids, kinds = batch.otlp.spans.ids, sorted({one.kind for one in batch.observed if one.holds})[:_MOST]
    bits = np.zeros(len(batch), np.int64)  # by row, of the kinds that it shows
    for number, kind in enumerate(kinds):
        words = _words([one for one in batch.observed if one.holds and one.kind == kind])
        rows = np.flatnonzero(np.isin(ids[2], words[:, 2]))
        if len(rows):
            own = pl.DataFrame(ids[:3, rows].T, schema=_NAMES).with_columns(pl.Series("row", rows))
            told = own.join(pl.DataFrame(words, schema=_NAMES), on=_NAMES, how="semi")["row"].to_numpy()
            bits[told] |= np.int64(1) << np.int64(number)
    if not bits.any():
        return batch
    found, codes = np.unique(bits, return_inverse=True)
    texts = [",".join(kind for number, kind in enumerate(kinds) if one >> number & 1) or None for one in found.tolist()]
    column = pl.Series(FINDINGS.name, texts, dtype=FINDINGS.dtype)[codes]
    return batch.with_(spans=batch.spans.with_columns(column))


def _words(observations: Sequence[Observation]) -> I64:
    """[spans, 3], the ids of the spans that show them."""
    single = [
        _WORDS.unpack(bytes.fromhex(one.trace_id + one.span_id))
        for observation in observations if observation.shown is None
        for one in observation.evidence if len(one.trace_id) == 32 and len(one.span_id) == 16
    ]  # fmt: skip
    parts = [np.array(single, np.int64).reshape(-1, 3)]
    for shown in (one.shown for one in observations if one.shown is not None):
        whole = (shown.traces.str.len_bytes() == 32) & (shown.spans.str.len_bytes() == 16)
        texts = (shown.traces + shown.spans).filter(whole).str.decode("hex")
        parts.append(np.frombuffer(b"".join(texts.to_list()), "<i8").reshape(-1, 3).astype(np.int64))
    return np.concatenate(parts)
