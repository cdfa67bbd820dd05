"""From a batch's calls to sums per bucket and combination of values: the only work that every call costs.

A call belongs to the bucket in which it ended: then its money is spent, and then it is reported. A bucket takes calls until
one has come that started `lateness` after its end. That depends on the order of the calls, and not on where batches end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from collector.batch import SpanBatch
from collector.distinct import Mask, combinations, integers, valid
from collector.ledger.rows import equal_to
from collector.otlp.compiled import kernel
from collector.otlp.tables import I32, I64
from collector.sums import AHEAD_NS, COUNTED_BY, LAST_NS, LAST_PICO, served_model
from processors.anomaly.measures import MILLI, SUMS, Sum

#: Longer than this is a connection that nobody closed.
LONGEST_NS = 3600 * 10**9
#: More than that counts as that much: sums of whatever calls say must stay whole numbers of 64 bits.
DEAREST_PICO, MOST_TOKENS = 10**16, 2**32
#: Costs are counted in octaves of pico-dollars, from 2^FIRST_OCTAVE (0.07 micro-dollars) on: a quantile sketch of relative accuracy.
OCTAVES, FIRST_OCTAVE = 32, 16

_CALLS, _COST, _PRICED, _LOG_COST, _LOG_INPUT, _ASKED = map(int, (Sum.CALLS, Sum.COST, Sum.PRICED, Sum.LOG_COST, Sum.LOG_INPUT, Sum.ASKED))  # fmt: skip
_LOG_OUTPUT, _ANSWERED, _LOG_DURATION, _TIMED, _LOG_TTFT = map(int, (Sum.LOG_OUTPUT, Sum.ANSWERED, Sum.LOG_DURATION, Sum.TIMED, Sum.LOG_TTFT))  # fmt: skip
_STREAMED, _LOG_SPEED, _SPED, _ERRORS, _REFUSALS = map(int, (Sum.STREAMED, Sum.LOG_SPEED, Sum.SPED, Sum.ERRORS, Sum.REFUSALS))  # fmt: skip
_CACHEABLE, _CACHE_READ, _SERVED = int(Sum.CACHEABLE), int(Sum.CACHE_READ), int(Sum.SERVED)

Values = tuple[str | None, ...]
_ID = np.dtype("S48")
Ids = NDArray[np.bytes_]


class Examples(NamedTuple):
    """Calls that show what groups count, one each; the one of the highest rank is kept.

    ranks: -1 where there is none
    ids:   of trace and span, 48 digits
    """

    ranks: I64
    ids: Ids

    @classmethod
    def none(cls, count: int) -> Examples:
        """Room for so many."""
        return cls(np.full(count, -1, np.int64), np.zeros(count, _ID))

    def more(self, count: int) -> Examples:
        """With room for so many more."""
        new = Examples.none(count)
        return Examples(np.concatenate([self.ranks, new.ranks]), np.concatenate([self.ids, new.ids]))

    def at(self, rows: I64 | slice) -> Examples:
        """Those of some groups."""
        return Examples(self.ranks[rows], self.ids[rows])

    def put(self, rows: I64 | slice, others: Examples) -> None:
        """Others in the places of some."""
        self.ranks[rows], self.ids[rows] = others

    def better(self, rows: I64, others: Examples) -> None:
        """Others in the places of some, where these have a lower rank. Rows are distinct."""
        more = others.ranks > self.ranks[rows]
        self.put(rows[more], others.at(np.flatnonzero(more)))


@dataclass(frozen=True, slots=True)
class Gathered:
    """What a batch adds, group by group.

    keys:    bucket (Unix ns of its start) and values of the dimensions
    sums:    [groups, SUMS]
    costs:   [groups, OCTAVES], calls by octave of their cost
    dear, bad: per group its dearest call, and one that failed, was refused, or took longest
    clock:   the newest start that was seen
    late:    calls that came after their bucket was closed
    """

    keys: list[tuple[int, Values]]
    sums: I64
    costs: I32
    dear: Examples
    bad: Examples
    clock: int
    late: int


def gathered(batch: SpanBatch, dimensions: Sequence[str], clock: int, bucket_ns: int, late_ns: int) -> Gathered:
    """The sums of a batch that has calls. A better version of a call takes back what the one before added, where the new one comes in."""
    calls, before = batch.calls, batch.replaced
    start = np.clip(integers(calls["start_ns"])[0], 0, LAST_NS)
    # A sender whose clock is ahead must not close the buckets of all others.
    sane = start <= batch.received_ns + late_ns // 2
    clocks = np.maximum(np.maximum.accumulate(np.where(sane, start, 0)), clock)
    newest = int(clocks[-1])
    # Calls of several reports stand behind all others of a batch, whenever they came: in one of many minutes they would all be late.
    merged = integers(calls["report_count"])[0] > 1
    clocks = np.where(merged, np.maximum(np.minimum(start, clocks), clock), clocks)
    parts, signs = [calls], [np.where(calls["withdrawn"].to_numpy(), 0, 1)]
    if len(before):
        clocks = np.concatenate([clocks, clocks[_places(before["call_id"], calls["call_id"])]])
        parts, signs = [calls, before], [signs[0], np.where(before["withdrawn"].to_numpy(), 0, -1)]
    frame = _Columns(parts)
    sign = np.concatenate(signs)
    ended = np.clip(frame.integers("start_ns")[0], 0, LAST_NS) + np.clip(frame.integers("duration_ns")[0], 0, LONGEST_NS)  # fmt: skip
    bucket = ended - ended % bucket_ns
    open_ = bucket + bucket_ns + late_ns > clocks
    late = int(np.count_nonzero(~open_ & (sign > 0)))
    keep = open_ & (sign != 0) & (ended <= batch.received_ns + AHEAD_NS)
    codes, first = combinations(frame.dimensions(dimensions), dimensions, [bucket])
    sums, costs, dear, bad = frame.sums(codes, np.where(keep, sign, 0), len(first))
    names = frame.dimensions(dimensions)[first]
    keys = list(zip(bucket[first].tolist(), names.rows(), strict=True))
    found = np.flatnonzero((sums != 0).any(axis=1) | (dear >= 0) | (bad >= 0))
    if len(found) < len(keys):
        keys, sums, costs, dear, bad = [keys[row] for row in found.tolist()], sums[found], costs[found], dear[found], bad[found]  # fmt: skip
    return Gathered(
        keys,
        sums,
        costs.astype(np.int32),
        frame.examples(dear, frame.cost),
        frame.examples(bad, frame.badness),
        newest,
        late,
    )


class _Columns:
    """Columns of a batch's calls, and of what they replace below them."""

    def __init__(self, parts: Sequence[pl.DataFrame]) -> None:
        self._parts = parts
        self._dimensions: pl.DataFrame | None = None
        cost, priced = self.integers("cost_pico")
        self.cost = np.where(priced & (cost > 0) & (cost <= LAST_PICO), np.minimum(cost, DEAREST_PICO), 0)
        self.refused: Mask = np.concatenate([valid(part["refused_by"]) for part in parts])
        self.failed: Mask = np.concatenate([equal_to(part["status"], "Error") for part in parts]) & ~self.refused
        self.duration = np.clip(self.integers("duration_ns")[0], 0, LONGEST_NS)
        self.badness: I64 = self.duration + (self.failed | self.refused) * np.int64(2 * LONGEST_NS)

    def integers(self, name: str) -> tuple[I64, Mask]:
        """Values and which of them are known."""
        values, masks = zip(*(integers(part[name]) for part in self._parts), strict=True)
        return np.concatenate(values), np.concatenate(masks)

    def dimensions(self, names: Sequence[str]) -> pl.DataFrame:
        """The values that calls are grouped by."""
        if self._dimensions is None:
            columns = []
            for name in names:
                column = COUNTED_BY[name]
                texts = [part[column] if column else served_model(part) for part in self._parts if len(part)]
                texts = texts or [pl.Series([], dtype=pl.String())]
                columns.append((texts[0] if len(texts) == 1 else pl.concat(texts)).alias(name))
            self._dimensions = pl.DataFrame(columns)
        return self._dimensions

    def sums(self, codes: I64, sign: I64, count: int) -> tuple[I64, I64, I64, I64]:
        """Per code the sums, the costs by octave, and the rows of its examples, -1 where there is none."""
        replayed = np.concatenate([_true(part["response_cache_hit"]) for part in self._parts])
        asked, answered = (
            np.minimum(self.integers(name)[0], MOST_TOKENS) for name in ("input_tokens", "output_tokens")
        )
        read, told = self.integers("cache_read_tokens")
        return _summed(
            codes, sign, count, self.cost, asked, answered, read, np.ascontiguousarray(told), self.duration,
            self.integers("time_to_first_token_ns")[0], np.ascontiguousarray(self.failed), np.ascontiguousarray(self.refused),
            np.ascontiguousarray(replayed), self.badness,
        )  # fmt: skip

    def examples(self, rows: I64, rank: I64) -> Examples:
        """The calls of these rows; -1: none."""
        made = Examples.none(len(rows))
        at = np.flatnonzero(rows >= 0)  # of the calls alone: what is replaced shows nothing
        here = rows[at]
        traces, spans = self._parts[0]["trace_id"][here].to_list(), self._parts[0]["span_id"][here].to_list()
        whole = [len(trace or "") == 32 and len(span or "") == 16 for trace, span in zip(traces, spans, strict=True)]
        made.ranks[at] = np.where(whole, rank[here], -1)
        made.ids[at] = [trace + span if ok else "" for trace, span, ok in zip(traces, spans, whole, strict=True)]
        return made


def _places(ids: pl.Series, among: pl.Series) -> I64:
    """Where each id stands among others; the last place where it does not."""
    known = pl.DataFrame({"id": among}).with_row_index("place").unique("id", keep="last")
    found = pl.DataFrame({"id": ids}).join(known, on="id", how="left", maintain_order="left")["place"]
    places: I64 = found.fill_null(len(among) - 1).to_numpy().astype(np.int64)
    return places


def _true(column: pl.Series) -> Mask:
    """Where a Boolean column is true."""
    if column.null_count() == len(column):
        return np.zeros(len(column), np.bool_)
    mask: Mask = column.fill_null(False).to_numpy()
    return mask


@kernel
def _summed(
    codes: I64, sign: I64, count: int, cost: I64, asked: I64, answered: I64, read: I64, told: Mask, duration: I64, ttft: I64, failed: Mask,
    refused: Mask, replayed: Mask, badness: I64,
) -> tuple[I64, I64, I64, I64]:  # fmt: skip
    """One pass over the calls. Failures are fast, or wait for a timeout: they have a measure of their own and no latency."""
    sums = np.zeros((count, SUMS), np.int64)
    costs = np.zeros((count, OCTAVES), np.int64)
    dear = np.full(count, -1, np.int64)
    bad = np.full(count, -1, np.int64)
    for row in range(len(codes)):
        one = sign[row]
        if one == 0:
            continue
        code = codes[row]
        own = sums[code]
        own[_CALLS] += one
        if cost[row] > 0:
            log = np.log(cost[row])
            own[_COST] += one * cost[row]
            own[_PRICED] += one
            own[_LOG_COST] += one * round(log * MILLI)
            costs[code, min(max(int(log / np.log(2.0)) - FIRST_OCTAVE, 0), OCTAVES - 1)] += one
        if asked[row] > 0:
            own[_LOG_INPUT] += one * round(np.log(asked[row]) * MILLI)
            own[_ASKED] += one
            if told[row]:
                own[_CACHEABLE] += one * asked[row]
                own[_CACHE_READ] += one * min(max(read[row], 0), asked[row])
        if answered[row] > 0:
            own[_LOG_OUTPUT] += one * round(np.log(answered[row]) * MILLI)
            own[_ANSWERED] += one
        if refused[row]:
            own[_REFUSALS] += one
        elif failed[row]:
            own[_ERRORS] += one
        else:
            own[_SERVED] += one
        if duration[row] > 0 and not (refused[row] or failed[row] or replayed[row]):
            log = np.log(duration[row])
            own[_LOG_DURATION] += one * round(log * MILLI)
            own[_TIMED] += one
            if answered[row] > 0:
                own[_LOG_SPEED] += one * round((np.log(answered[row]) - log) * MILLI)
                own[_SPED] += one
            if ttft[row] > 0:
                own[_LOG_TTFT] += one * round(np.log(ttft[row]) * MILLI)
                own[_STREAMED] += one
        if one > 0:
            if cost[row] > 0 and (dear[code] < 0 or cost[row] > cost[dear[code]]):
                dear[code] = row
            if bad[code] < 0 or badness[row] > badness[bad[code]]:
                bad[code] = row
    return sums, costs, dear, bad
