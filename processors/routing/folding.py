"""Many calls that show the same about the same subject are one observation: a policy that every call breaks costs little more than one
that none does.

The book (`collector.findings_book`) makes of it what it would make of one for each call: so what is folded lies close together in time,
and its first spans are the evidence.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import polars as pl

from collector import distinct
from collector.episodes import first
from collector.findings import Evidence, Shown
from collector.otlp import gather
from collector.otlp.tables import I64, U64

#: Added up apart, so that no sum of whatever calls say leaves 64 bits.
_LOW = np.int64(2**32 - 1)


class Fold(NamedTuple):
    """Calls that are one observation."""

    newest: int  # row of the one that is told of
    first_ns: int
    calls: int
    cost_pico: int
    evidence: tuple[Evidence, ...]
    shown: Shown


def folds(rows: pl.DataFrame, about: I64, cost: I64, quiet_ns: int) -> Iterator[Fold]:
    """What rows are together, in order of time: those of a subject (`about`: its number), none of them later than `quiet_ns` after the
    one before.
    """
    at = distinct.integers(rows["start_ns"])[0]
    order = np.lexsort((at, about))
    if ((np.diff(about[order]) == 0) & (np.diff(at[order]) == 0)).any():
        order = np.lexsort((_numbers(rows["span_id"]), at, about))
    at, about, cost = at[order], about[order], cost[order]
    starts = np.flatnonzero(np.concatenate([[True], (np.diff(about) != 0) | (np.diff(at) > quiet_ns)]))
    ends = np.append(starts[1:], len(rows))
    high, low = np.add.reduceat(cost >> 32, starts), np.add.reduceat(cost & _LOW, starts)
    traces, spans = (_known(rows[name])[order] for name in ("trace_id", "span_id"))
    for start, end, more, less in zip(*(of.tolist() for of in (starts, ends, high, low)), strict=True):
        shown = Shown(traces[start:end], spans[start:end])
        cost_pico = (more << 32) + less
        yield Fold(int(order[end - 1]), int(at[start]), end - start, cost_pico, _evidence(shown), shown)


def _known(ids: pl.Series) -> pl.Series:
    return ids.fill_null("") if ids.null_count() else ids


def _numbers(spans: pl.Series) -> U64:
    """Span ids as numbers that sort as the texts do."""
    (words,) = gather.id_words(spans.to_arrow(compat_level=pl.CompatLevel.oldest()), 1)
    numbers: U64 = words.view(np.uint64).byteswap()
    return numbers


def _evidence(shown: Shown) -> tuple[Evidence, ...]:
    """The first few."""
    known: tuple[Evidence, ...] = ()
    for at in range(0, len(shown.traces), 16):
        part = zip(shown.traces[at : at + 16].to_list(), shown.spans[at : at + 16].to_list(), strict=True)
        more = first(known, (Evidence(trace, span) for trace, span in part))
        if more is known:  # there are as many as are kept
            return known
        known = more
    return known
