"""Prompts that a guardrail blocked and that another call was allowed to send: candidates for blocked by mistake.

```yaml
processors:
  guardrails: {within: 24h}
```

It stands before redaction, which takes prompts out, and remembers of a blocked prompt its length and a hash under a key that never
leaves the state on disk: no prompt can be told, or tried, from it. Of the calls that were allowed, only prompts as long as a
blocked one are hashed; while nothing was blocked, none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from collector.batch import SpanBatch
from collector.component import Context, Processor, Stage, StateReader, StateWriter
from collector.findings import Evidence, Observation, Severity
from collector.ledger.rows import equal_to
from collector.otlp import gather
from collector.otlp.tables import I32, I64, Owner, Traces, ValueType
from collector.sums import AHEAD_NS
from config.types import Duration, StrictModel

KIND = "guardrail.mistake"
#: Attributes that hold all that was sent to a model, in the words of the dialects; the first that a span has.
PROMPTS = ("gen_ai.input.messages", "input.value", "gen_ai.prompt", "gen_ai.request.messages")
_KEY, _CLOCK, _BLOCKED = b"key", b"clock", b"b"
_NOBODY = "(unknown)"
_READ = ("span", "trace_id", "span_id", "start_ns", "status", "refused_by", "finish_reason")


class GuardrailsConfig(StrictModel):
    """Which guardrails may have blocked by mistake."""

    within: Duration = Field(default=86400.0, ge=60, le=30 * 86400)
    """For how long after a prompt was blocked it is looked for among the calls that were allowed."""
    max_prompts: int = Field(default=10_000, ge=1, le=1_000_000)
    """Blocked prompts remembered at most; the oldest go first. About 500 bytes of memory each."""


class Blocked(NamedTuple):
    """A prompt that a guardrail blocked. `told`: an allowed one was found."""

    size: int
    prompt: str  # its hash, in hex
    guardrail: str
    app: str
    at_ns: int
    trace_id: str
    span_id: str
    told: bool = False

    @property
    def name(self) -> bytes:
        """Whom it is told about, and which prompt: once each."""
        text = json.dumps([self.prompt, self.guardrail, self.app])
        return _BLOCKED + blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class Guardrails(Processor[GuardrailsConfig]):
    """Prompts that a guardrail blocked and another call was allowed to send, by keyed hashes: what may have been blocked by mistake."""

    Config = GuardrailsConfig
    stage = Stage.REPORTS

    def __init__(self, config: GuardrailsConfig, context: Context) -> None:
        super().__init__(config, context)
        self._within_ns = round(config.within * 1e9)
        self._key = os.urandom(32)
        self._key_is_new = True
        self._clock = self._clock_next = 0
        self._blocked: dict[bytes, Blocked] = {}  # oldest first
        self._changed: dict[bytes, Blocked | None] = {}  # by the batch; None: forgotten
        self._saved = False

    def load(self, state: StateReader) -> None:
        key = state.get(_KEY)
        self._key, self._key_is_new = key or self._key, key is None
        self._clock = self._clock_next = int(state.get(_CLOCK) or 0)
        found = [Blocked(*json.loads(value)) for _, value in state.items(_BLOCKED)]
        self._blocked = {one.name: one for one in sorted(found, key=lambda one: (one.at_ns, one.name))}

    def process(self, batch: SpanBatch) -> SpanBatch:
        self.committed()
        self.rollback()
        reports = batch.reports
        if reports.is_empty():
            return batch
        # The clock goes on from row to row, so that it does not matter where batches end.
        starts = np.minimum(reports["start_ns"].fill_null(0).to_numpy(), batch.received_ns + AHEAD_NS)
        clocks = np.maximum(np.maximum.accumulate(starts), self._clock)
        self._changed = {name: None for name, one in self._blocked.items() if one.at_ns + self._within_ns < self._clock}
        self._clock_next = int(clocks[-1])
        observed = list(self._look(batch.otlp, reports, clocks))
        return batch.with_(observed=(*batch.observed, *observed)) if observed else batch

    def save(self, state: StateWriter) -> None:
        if self._key_is_new:
            state.put(_KEY, self._key)
        if self._clock_next != self._clock:
            state.put(_CLOCK, str(self._clock_next).encode())
        for name, one in self._changed.items():
            if one is None:
                state.delete(name)
            else:
                state.put(name, json.dumps(one).encode())
        self._saved = True

    def committed(self) -> None:
        if self._saved:
            for name, one in self._changed.items():
                if one is None:
                    self._blocked.pop(name, None)
                else:
                    self._blocked[name] = one
            self._clock, self._key_is_new, self._saved = self._clock_next, False, False
            self._changed = {}

    def rollback(self) -> None:
        self._changed, self._clock_next, self._saved = {}, self._clock, False

    # One batch ------------------------------------------------------------------------------------------------------

    def _look(self, otlp: Traces, reports: pl.DataFrame, clocks: I64) -> Iterator[Observation]:
        known = self._known()
        refused = reports["refused_by"]
        mask = (refused.is_not_null() & (refused != "") & (refused != "model")).fill_null(False).to_numpy()
        sizes = {one.size for one in known.values()}
        if not mask.any() and not sizes:
            return
        attributes = self._prompts(otlp, reports)
        length = np.where(attributes < 0, 0, otlp.attributes.value.len[attributes])
        sizes.update(length[mask].tolist())
        rows = np.flatnonzero(equal_to(reports["role"], "call") & (attributes >= 0) & np.isin(length, list(sizes)))
        app = "app" if "app" in reports.columns else "service_name"
        value, names = otlp.attributes.value, _by_prompt(known)
        for place, row in zip(rows.tolist(), reports[rows].select(*_READ, app).to_dicts(), strict=True):
            at, size, clock = int(value.off[attributes[place]]), int(length[place]), int(clocks[place])
            prompt = blake2b(otlp.data[at : at + size].tobytes(), key=self._key, digest_size=16).hexdigest()
            if mask[place]:
                ids = (row["start_ns"], row["trace_id"], row["span_id"])
                one = Blocked(size, prompt, row["refused_by"], row[app] or _NOBODY, *ids)
                if one.name not in known and one.at_ns + self._within_ns >= clock:
                    known[one.name] = self._changed[one.name] = one
                    names.setdefault(prompt, []).append(one.name)
                    self._bound(known)
            elif row["status"] != "Error" and not row["refused_by"] and row["finish_reason"] != "content_filter":
                for name in names.get(prompt, ()):
                    found = known.get(name)
                    if found is None or found.told or found.trace_id == row["trace_id"]:
                        continue
                    if found.at_ns + self._within_ns >= clock:
                        known[name] = self._changed[name] = found._replace(told=True)
                        yield self._said(found, row)

    def _prompts(self, otlp: Traces, reports: pl.DataFrame) -> I32:
        """The attribute that holds the prompt, by row of `reports`; -1 where none does."""
        spans = reports["span"].to_numpy()
        found: NDArray[np.int32] = np.full(len(spans), -1, np.int32)
        for rows in gather.slots(otlp, PROMPTS, Owner.SPAN):
            own = rows[spans]
            text = (own >= 0) & (otlp.attributes.type[own] == ValueType.STRING)
            found = np.where((found < 0) & text, own, found)
        return found

    def _known(self) -> dict[bytes, Blocked]:
        """What is remembered, without what is over."""
        return {name: one for name, one in self._blocked.items() if name not in self._changed}

    def _bound(self, known: dict[bytes, Blocked]) -> None:
        """Forget the oldest where there are too many."""
        if len(known) > self.config.max_prompts:
            oldest = min(known, key=lambda name: (known[name].at_ns, name))
            del known[oldest]
            self._changed[oldest] = None

    def _said(self, one: Blocked, row: dict[str, Any]) -> Observation:
        return Observation(
            KIND,
            (("app", one.app), ("guardrail", one.guardrail)),
            max(one.at_ns, row["start_ns"]),
            f"the guardrail {one.guardrail} blocked a prompt of {one.app} that another call was allowed to send",
            Severity.INFO,
            evidence=(Evidence(one.trace_id, one.span_id), Evidence(row["trace_id"], row["span_id"])),
            quiet_ns=self._within_ns,
        )


def _by_prompt(known: dict[bytes, Blocked]) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for name, one in known.items():
        found.setdefault(one.prompt, []).append(name)
    return found
