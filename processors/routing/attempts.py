"""Attempts of one request: one that failed, and the next that another model answered.

Attempts share the span above them. A failed call and a later one that did not fail are a fallback where another model, or
another provider, served it; a retry otherwise, which is none of ours. Whichever of the two comes first waits for the other, so
that neither batches nor their order matter; both wait as long as a fallback may take, in event time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from collector import distinct
from collector.component import StateReader, StateWriter
from collector.ledger.rows import equal_to
from collector.sums import served_model

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Mask = NDArray[np.bool_]
#: Answers that are remembered at most; the oldest go first.
MOST = 2_000_000
#: Failed attempts that are remembered at most.
MOST_FAILED = 50_000
_NAMES = ("request_model", "upstream_model", "provider", "model_tier")
_FAILED, _ANSWERS, _HEAD = b"f", b"a", b"head"


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt that failed. `key` is of its trace and the span above it; times in Unix ns; `told`: its answer was found."""

    key: int
    trace_id: str
    span_id: str
    start_ns: int
    end_ns: int
    team: str | None
    requested: str | None
    upstream: str | None
    model: str | None
    provider: str | None
    tier: int | None
    error: str | None
    told: bool = False

    def differs(self, requested: str | None, upstream: str | None, provider: str | None) -> bool:
        """Whether what answered is another model, or another provider's: known to be, that is."""
        pairs = ((self.requested, requested), (self.upstream, upstream), (self.provider, provider))
        return any(one and other and one != other for one, other in pairs)


@dataclass(frozen=True, slots=True)
class Answer:
    """What failed, and who answered instead; `fallback`: another model or provider, else it is a retry."""

    failed: Failed
    model: str | None
    tier: int | None
    start_ns: int
    fallback: bool


@dataclass(frozen=True, slots=True)
class _Answers:
    """The calls of a batch that did not fail, sorted by key. `names` by code: model, then `_NAMES`.

    `until`: when the call ended, of those that somebody beside the gateway reported too, 0 of others. The report of an app
    spans all attempts that the gateway made for it, and is one call with the one that answered.
    """

    key: U64
    start: I64
    until: I64
    code: I64
    names: list[list[Any]]

    @property
    def newest(self) -> int:
        return int(self.start.max())

    def of(self, failed: Failed, within_ns: int) -> Answer | None:
        """The first answer to a request whose attempt failed."""
        low, high = (int(np.searchsorted(self.key, np.uint64(failed.key), side)) for side in ("left", "right"))
        for row in sorted(range(low, high), key=lambda row: int(self.start[row])):
            model, requested, upstream, provider, tier = self.names[self.code[row]]
            start = int(self.start[row])
            after = failed.start_ns <= start <= failed.end_ns + within_ns
            around = start <= failed.start_ns and failed.end_ns <= int(self.until[row])
            if after or around:
                return Answer(failed, model, tier, start, failed.differs(requested, upstream, provider))
        return None


class Attempts:
    """Finds fallbacks, batch by batch. load → (take → save)*, `rollback` where the batch is given up."""

    def __init__(self, within_ns: int) -> None:
        self._within_ns = within_ns
        self._failed: dict[str, Failed] = {}  # by call id, in the order in which they came
        self._answers: dict[int, _Answers] = {}  # by number of the batch, which rises
        self._number = self._clock = 0
        # Of the last batch: what was there before.
        self._failed_before: dict[str, Failed | None] = {}
        self._answers_before: dict[int, _Answers | None] = {}
        self._head_before = (0, 0)

    def load(self, state: StateReader) -> None:
        """Rebuild what `save` wrote."""
        head = state.get(_HEAD)
        self._number, self._clock = json.loads(head) if head else (0, 0)
        found = [(key[len(_FAILED) :].decode(), Failed(**json.loads(value))) for key, value in state.items(_FAILED)]
        self._failed = dict(sorted(found, key=lambda one: one[1].end_ns))
        for key, value in state.items(_ANSWERS):
            self._answers[int.from_bytes(key[len(_ANSWERS) :], "big")] = _read(value)

    def take(self, calls: pl.DataFrame) -> list[Answer]:
        """The fallbacks that a batch's calls (with `model_tier`) complete."""
        self._failed_before, self._answers_before = {}, {}
        self._head_before = (self._number, self._clock)
        if calls.is_empty():
            return []
        key, usable = _keys(calls)
        wrong = equal_to(calls["status"], "Error")
        waiting = list(self._failed.items())
        fresh = self._note(calls, key, usable & wrong)
        answers = self._remember(calls, key, usable & ~wrong)
        found: list[Answer] = []
        if answers is not None and waiting:
            keys = np.array([failed.key for _, failed in waiting], np.uint64)
            answered = np.isin(keys, answers.key)
            found += self._matched([waiting[row][0] for row in np.flatnonzero(answered)], [answers])
        found += self._matched(fresh, list(self._answers.values()))
        self._forget()
        return found

    def _matched(self, ids: Iterable[str], answers: Sequence[_Answers]) -> list[Answer]:
        found = []
        for id_ in ids:
            failed = self._failed[id_]
            candidates = [] if failed.told else [one for chunk in answers if (one := chunk.of(failed, self._within_ns))]
            if candidates:
                first = min(candidates, key=lambda one: one.start_ns)
                found += [first] if first.fallback else []
                self._put(id_, replace(failed, told=True))
        return found

    def _put(self, id_: str, failed: Failed) -> None:
        self._failed_before.setdefault(id_, self._failed.get(id_))
        self._failed[id_] = failed

    def _note(self, calls: pl.DataFrame, key: U64, rows: Mask) -> list[str]:
        """Remember what failed; the ids of those that were not known."""
        at = np.flatnonzero(rows)
        if not len(at):
            return []
        names = ("call_id", "trace_id", "span_id", "start_ns", "duration_ns", "team", "error_type", *_NAMES)
        part = calls.select(*names, served_model(calls).alias("model"))[at]
        fresh = []
        for number, row in zip(at.tolist(), part.to_dicts(), strict=True):
            if row["call_id"] in self._failed:
                continue
            failed = Failed(
                key=int(key[number]), trace_id=row["trace_id"], span_id=row["span_id"], start_ns=row["start_ns"],
                end_ns=row["start_ns"] + (row["duration_ns"] or 0), team=row["team"], requested=row["request_model"],
                upstream=row["upstream_model"], model=row["model"], provider=row["provider"], tier=row["model_tier"],
                error=row["error_type"],
            )  # fmt: skip
            self._put(row["call_id"], failed)
            fresh.append(row["call_id"])
        return fresh

    def _remember(self, calls: pl.DataFrame, key: U64, rows: Mask) -> _Answers | None:
        """Keep the batch's answers."""
        at = np.flatnonzero(rows)
        if not len(at):
            return None
        at = at[np.argsort(key[at], kind="stable")]
        part = calls.select(served_model(calls).alias("model"), *_NAMES)[at]
        code, first = distinct.combinations(part, part.columns)
        starts = distinct.integers(calls["start_ns"])[0][at]
        ends = starts + distinct.integers(calls["duration_ns"])[0][at]
        until = np.where(distinct.integers(calls["report_count"])[0][at] > 1, ends, 0)
        answers = _Answers(key[at], starts, until, code, [list(row) for row in part[first].rows()])
        self._number += 1
        self._answers_before[self._number] = None
        self._answers[self._number] = answers
        self._clock = max(self._clock, int(np.median(starts)))
        return answers

    def _forget(self) -> None:
        """Let go of what nothing can come to any more. The clock is the newest median start: no single call turns it on."""
        oldest = self._clock - 2 * self._within_ns
        count = sum(len(one.key) for one in self._answers.values())
        for number, one in list(self._answers.items()):
            if one.newest < oldest or count > MOST:
                self._answers_before.setdefault(number, self._answers.pop(number))
                count -= len(one.key)
        gone: list[str] = []
        for id_, failed in self._failed.items():  # roughly in order of time
            if failed.end_ns >= oldest and len(self._failed) - len(gone) <= MOST_FAILED:
                break
            gone.append(id_)
        for id_ in gone:
            self._failed_before.setdefault(id_, self._failed.pop(id_))

    def save(self, state: StateWriter) -> None:
        """Write what the last batch changed."""
        for id_ in self._failed_before:
            failed = self._failed.get(id_)
            if failed is None:
                state.delete(_FAILED + id_.encode())
            else:
                state.put(_FAILED + id_.encode(), json.dumps(asdict(failed), separators=(",", ":")).encode())
        for number in self._answers_before:
            key = _ANSWERS + number.to_bytes(8, "big")
            if number in self._answers:
                state.put(key, _written(self._answers[number]))
            else:
                state.delete(key)
        if self._answers_before:
            state.put(_HEAD, json.dumps([self._number, self._clock]).encode())

    def rollback(self) -> None:
        """Forget the last batch."""
        _restore(self._failed, self._failed_before)
        _restore(self._answers, self._answers_before)
        self._number, self._clock = self._head_before
        self._failed_before, self._answers_before = {}, {}


def _restore(now: dict[Any, Any], before: dict[Any, Any]) -> None:
    for key, value in before.items():
        if value is None:
            now.pop(key, None)
        else:
            now[key] = value


def _keys(calls: pl.DataFrame) -> tuple[U64, Mask]:
    """What the attempts of one request have in common, and which calls have it: a trace and a span above."""
    parents = calls["parent_span_id"]
    told = (parents.str.len_bytes() == 16).fill_null(False)
    usable = told & ~calls["withdrawn"]
    trace = calls["trace_id"].str.slice(16, 16).str.to_integer(base=16, dtype=pl.UInt64, strict=False).fill_null(0)
    span = parents.str.to_integer(base=16, dtype=pl.UInt64, strict=False).fill_null(0)
    key: U64 = trace.to_numpy() * np.uint64(0x9E3779B97F4A7C15) ^ span.to_numpy()
    return key, usable.to_numpy()


def _written(answers: _Answers) -> bytes:
    """Length of the names, the names as JSON, then the columns as little-endian 64-bit numbers."""
    names = json.dumps(answers.names, separators=(",", ":")).encode()
    columns = (
        answers.key.astype("<u8"),
        *(column.astype("<i8") for column in (answers.start, answers.until, answers.code)),
    )
    return len(names).to_bytes(8, "little") + names + b"".join(column.tobytes() for column in columns)


def _read(value: bytes) -> _Answers:
    size = int.from_bytes(value[:8], "little")
    names = json.loads(value[8 : 8 + size])
    key, start, until, code = np.frombuffer(value[8 + size :], "<i8").astype(np.int64).reshape(4, -1)
    return _Answers(key.view(np.uint64), start, until, code, names)
