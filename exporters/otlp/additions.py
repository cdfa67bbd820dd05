"""What Spanledger knows of spans, as attributes of theirs.

`spanledger.*` is its own: what stands there is replaced, and taken away where nothing is known, so that no cost is counted that
an earlier Spanledger, or anybody else, wrote there. Any other attribute (`gen_ai.*`) is added where the span lacks it and never
replaced, but for what an earlier Spanledger had added. `spanledger.added` lists what was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from collector.added import ADDED, Added
from collector.batch import SpanBatch
from collector.columns import COUNTS, PICO_PER_USD, SPAN_COLUMNS
from collector.otlp import gather
from collector.otlp.encode import encode
from collector.otlp.tables import U8, Owner, Traces

OWN = "spanledger."
Mask = NDArray[np.bool_]


def added_to(batch: SpanBatch, attributes: bool, also_as: Mapping[str, str]) -> U8:
    """The batch as one request, with the attributes; the very bytes that came where there is nothing to change."""
    traces = batch.otlp
    known = _known(batch)
    changes = _Changes(traces, [*(key for key in known if not key.startswith(OWN)), *also_as])
    if attributes:
        for key, values in known.items():
            if key.startswith(OWN):
                changes.own(key, values)
            else:
                changes.add(key, values)
        for key, values in _counts(batch).items():
            changes.own(key, values)
    for key, source in also_as.items():
        changes.add(key, known[source])
    return changes.applied()


def _known(batch: SpanBatch) -> dict[str, pl.Series]:
    """Per attribute a value, or null, for each span."""
    found = {}
    for column in SPAN_COLUMNS:
        if column.attribute and column.dtype != COUNTS:
            values = batch.spans[column.name]
            found[column.attribute] = values.cast(pl.Float64) / PICO_PER_USD if column.unit == "pico-USD" else values
    return found


def _counts(batch: SpanBatch) -> dict[str, pl.Series]:
    """Counts by name, an attribute for each name that there is."""
    found: dict[str, pl.Series] = {}
    for column in SPAN_COLUMNS:
        values = batch.spans[column.name] if column.dtype == COUNTS and column.attribute else None
        if values is None or values.null_count() == len(values):
            continue
        rows = pl.DataFrame({"row": np.arange(len(values)), "counts": values}).drop_nulls().explode("counts")
        rows = rows.drop_nulls().unnest("counts")
        for (name,), part in rows.group_by("name", maintain_order=True):
            counts: NDArray[np.int64] = np.zeros(len(values), np.int64)
            counts[part["row"].to_numpy()] = part["count"].to_numpy()
            found[f"{column.attribute}.{name}"] = pl.Series(values=pa.array(counts, mask=counts == 0))
    return found


@dataclass
class _Changes:
    """What `collector.otlp.encode` is to do, column by column."""

    traces: Traces
    others: Sequence[str]  # the keys that others write too
    values: dict[str, pl.Series] = field(default_factory=dict)
    removed: dict[str, Mask] = field(default_factory=dict)
    _added: dict[str, Mask] = field(default_factory=dict)  # of the attributes that are not ours, where they are added

    def __post_init__(self) -> None:
        self._before = Added(self.traces)
        self._slots = dict(zip(self.others, gather.slots(self.traces, self.others, Owner.SPAN), strict=True))

    def own(self, key: str, values: pl.Series) -> None:
        """An attribute that is ours alone."""
        if values.null_count() < len(values):
            self.values[key] = values
        if key in self.traces.key_ids:
            self.removed[key] = np.ones(len(values), np.bool_)

    def add(self, key: str, values: pl.Series) -> None:
        """One of `others`: only where the span has none, or one that an earlier Spanledger added."""
        told: Mask = values.is_not_null().to_numpy()
        if key in self.traces.key_ids:
            ours = self._before.has(key)
            told = told & ((self._slots[key] < 0) | ours)
            if ours.any():
                self.removed[key] = ours
        self._added[key] = told
        if told.any():
            self.values[key] = _where(values, told)

    def applied(self) -> U8:
        """The request with all changes."""
        if self._added:
            self.own(ADDED, self._note())
        if not self.values and not self.removed:
            return self.traces.data
        return encode(self.traces, self.values, self.removed)

    def _note(self) -> pl.Series:
        """Per span the names of what was added to it, by this Spanledger or an earlier one."""
        keys = list(self._added)
        code = self._before.codes.astype(np.int64)
        for key in keys:
            code = code * 2 + self._added[key]
        found, place = np.unique(code, return_inverse=True)
        texts = []
        for number in found.tolist():
            earlier = self._before.lists[number >> len(keys)] - set(keys)
            now = [key for bit, key in enumerate(reversed(keys)) if number >> bit & 1]
            texts.append(",".join(sorted([*earlier, *now])) or None)
        return pl.Series(texts, dtype=pl.String())[place.astype(np.uint32)]


def _where(values: pl.Series, told: Mask) -> pl.Series:
    """The values, null where they are not told."""
    return pl.select(pl.when(pl.Series(values=told)).then(values)).to_series()
