"""What a batch adds to windows: whole numbers per key, so that any split of the calls into batches adds up to the same.

A key is a sort and names:  ("load", model asked for, by, member)  ("time", model that served, provider)  ("app", app)
("refused", guardrail, app).  What is added to it, by place:

load:    calls, refused for a rate limit
time:    calls that were answered; sum of log2(ns) in thousandths, and of its squares; sums of ns in the gateway, until the
         first token, and of the rest; output tokens
app:     calls
refused: calls
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from collector import distinct
from collector.batch import SpanBatch
from collector.ledger.rows import equal_to
from collector.otlp.tables import I64
from collector.sums import served_model

Key = tuple[str, ...]
Mask = NDArray[np.bool_]
LOAD, TIME, APP, REFUSED = "load", "time", "app", "refused"
UNKNOWN = "(unknown)"
MODEL = "model"  # `refused_by` where no guardrail did
#: log2 of a duration is kept in steps of this part: 0.07%.
LOG_STEPS = 1000
#: Longer than this is a connection that nobody closed; it would hide all others in a mean.
LONGEST_NS = 600 * 10**9
_LIMITED = re.compile(r"^429$|rate.?limit|throttl|too.?many.?requests|resource.?exhausted", re.IGNORECASE)
_COLUMNS = (
    "start_ns", "duration_ns", "time_to_first_token_ns", "gateway_overhead_ns", "output_tokens", "status", "error_type", "response_cache_hit",
    "withdrawn", "trace_id", "span_id", "request_model", "provider", "deployment", "region", "api_key", "app", "refused_by",
)  # fmt: skip
_MEMBERS = ("deployment", "provider", "region", "api_key")


class Shown(NamedTuple):
    """A call that shows what its key counts; the least are kept. `rank`: the slowest comes first where time counts."""

    rank: int
    start_ns: int
    trace_id: str
    span_id: str


class Addition(NamedTuple):
    """What a batch adds to one key of one window. `shown`: a call of it, and whether it counts or is taken back."""

    window: int
    key: Key
    values: tuple[int, ...]
    shown: tuple[Shown, bool] | None = None


def additions(
    batch: SpanBatch, window_ns: int, after: int, until_ns: int, by: Callable[[str], str]
) -> Iterator[Addition]:
    """Everything that a batch adds. A better version of a call takes back what the one before added.

    after:    number of the last window that was judged: what belongs to it or before came too late
    until_ns: what claims to have started later has a wrong clock, and is left out
    by:       among what the calls of a model are shared, a column
    """
    for calls, sign in ((batch.calls, 1), (batch.replaced, -1)):
        if calls.is_empty():
            continue
        starts = calls["start_ns"].to_numpy()
        window = starts // window_ns
        fits = (window > after) & (starts >= 0) & (starts <= until_ns)
        if calls["withdrawn"].any():
            fits &= ~calls["withdrawn"].to_numpy()
        part = pl.DataFrame([*(calls[name] for name in _COLUMNS), served_model(calls).alias("served")])
        if not fits.all():
            part, window = part.filter(pl.Series(fits)), window[fits]
        if len(part):
            yield from _models(part, window, sign, by)
            yield from _apps(part, window, sign)


def _models(calls: pl.DataFrame, window: I64, sign: int, by: Callable[[str], str]) -> Iterator[Addition]:
    wrong = equal_to(calls["status"], "Error")
    limited = np.zeros(len(calls), np.bool_)
    if wrong.any():
        codes, errors = distinct.texts(calls["error_type"])
        limited = wrong & np.array([*(_LIMITED.search(text) is not None for text in errors), False])[codes]
    answered = ~wrong
    if calls["response_cache_hit"].any():
        answered &= ~calls["response_cache_hit"].fill_null(False).to_numpy()
    names = ("request_model", "served", *_MEMBERS)
    code, first = distinct.combinations(calls, names, [window])
    whole = np.where(answered, np.clip(distinct.integers(calls["duration_ns"])[0], 1, LONGEST_NS), 0)
    counted = [np.ones(len(calls), np.int64), limited, answered, *_times(calls, answered, whole)]
    slowest = _slowest(calls, code, whole, len(first))
    loads: list[Key] = []
    windows = window[first].tolist()
    for place, (texts, numbers) in enumerate(
        zip(
            zip(*(calls[name][first].to_list() for name in names), strict=True),
            _sums(code, len(first), counted),
            strict=True,
        )
    ):
        model, served, *members = (text or UNKNOWN for text in texts)
        among = by(model)
        if among == "deployment" and members[0] == UNKNOWN:  # a gateway that names no deployment still chose a provider
            among = "provider"
        loads.append((LOAD, model, among, members[_MEMBERS.index(among)]))
        calls_, limits, answers, *times = numbers
        yield Addition(windows[place], loads[-1], (sign * calls_, sign * limits))
        if (
            among == "deployment"
        ):  # of a call that failed, a gateway may name the provider alone: it is counted among all
            whole_provider = (LOAD, model, "provider", members[_MEMBERS.index("provider")])
            yield Addition(windows[place], whole_provider, (sign * calls_, sign * limits))
        if answers:
            key = (TIME, served, members[_MEMBERS.index("provider")])
            values = tuple(sign * value for value in (answers, *times))
            yield Addition(windows[place], key, values, (slowest[place], sign > 0))
    rows = np.flatnonzero(limited)
    for row, shown in zip(rows.tolist(), _shown(calls, rows), strict=True):
        yield Addition(int(window[row]), loads[code[row]], (0, 0), (shown, sign > 0))


def _times(calls: pl.DataFrame, answered: Mask, whole: I64) -> list[I64]:
    """Of calls that were answered: log2 of the duration, its square, its three parts, tokens; 0 of the others."""
    gateway = np.clip(distinct.integers(calls["gateway_overhead_ns"])[0], 0, whole)
    first = np.clip(distinct.integers(calls["time_to_first_token_ns"])[0], gateway, whole) - gateway
    log = np.rint(np.log2(np.maximum(whole, 1)) * LOG_STEPS).astype(np.int64)
    tokens = np.where(answered, distinct.integers(calls["output_tokens"])[0], 0)
    return [log, log * log, gateway, first, whole - gateway - first, tokens]  # all 0 where the whole is


def _apps(calls: pl.DataFrame, window: I64, sign: int) -> Iterator[Addition]:
    """Calls of each app, and those that a guardrail refused."""
    code, texts = distinct.texts(calls["app"])
    apps = [*(app or UNKNOWN for app in texts.to_list()), UNKNOWN]  # the last of those that have none
    first = int(window[0])
    windows, place = ([first], 0) if (window == first).all() else np.unique(window, return_inverse=True)
    counts = np.bincount(place * len(apps) + np.where(code < 0, len(texts), code), minlength=len(windows) * len(apps))
    for cell in np.flatnonzero(counts).tolist():
        at, app = divmod(cell, len(apps))
        yield Addition(int(windows[at]), (APP, apps[app]), (sign * int(counts[cell]),))
    refused = calls["refused_by"]
    if refused.null_count() == len(refused):
        return
    rows = np.flatnonzero(distinct.valid(refused))
    for row, guardrail, shown in zip(rows.tolist(), refused[rows].to_list(), _shown(calls, rows), strict=True):
        if guardrail and guardrail != MODEL:
            key = (REFUSED, guardrail, apps[code[row]])
            yield Addition(int(window[row]), key, (sign,), (shown, sign > 0))


def _shown(calls: pl.DataFrame, rows: I64, rank: I64 | None = None) -> list[Shown]:
    """Rows as evidence, by rank (0 for all where there is none)."""
    ranks = [0] * len(rows) if rank is None else rank.tolist()
    starts, traces, spans = (calls[name][rows].to_list() for name in ("start_ns", "trace_id", "span_id"))
    return [
        Shown(rank_, start, trace or "", span or "")
        for rank_, start, trace, span in zip(ranks, starts, traces, spans, strict=True)
    ]


def _slowest(calls: pl.DataFrame, code: I64, whole: I64, count: int) -> dict[int, Shown]:
    """Per code its slowest call that was answered; of several the first in time."""
    most = np.zeros(count, np.int64)
    np.maximum.at(most, code, whole)
    rows = np.flatnonzero((whole == most[code]) & (whole > 0))
    starts = distinct.integers(calls["start_ns"])[0][rows]
    first = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(first, code[rows], starts)
    rows = rows[starts == first[code[rows]]]  # those that are left differ by their ids alone
    found: dict[int, Shown] = {}
    for place, one in zip(code[rows].tolist(), _shown(calls, rows, -whole[rows]), strict=True):
        best = found.get(place)
        if best is None or one < best:
            found[place] = one
    return found


def _sums(code: I64, count: int, columns: Sequence[NDArray[Any]]) -> list[list[int]]:
    """Per code the sums of the columns, exact."""
    sums = np.zeros((len(columns), count), np.int64)
    for place, column in enumerate(columns):
        np.add.at(sums[place], code, column.astype(np.int64))
    rows: list[list[int]] = sums.T.tolist()
    return rows
