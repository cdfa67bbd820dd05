"""The processor: counts calls in windows of event time, and has each window judged once it is over.

A window is over when the newest call started a grace after its end. So what is found does not depend on where batches end, for calls
that come at most a grace behind the newest; what comes later is left out. The windows in between have no calls and say nothing.
"""

from __future__ import annotations

import heapq
import json
import logging
from collections.abc import Iterator

from collector.batch import SpanBatch
from collector.component import Context, Processor, Stage, StateReader, StateWriter
from collector.distinct import integers
from collector.episodes import digest
from collector.findings import Evidence, Observation, Subject
from collector.sums import AHEAD_NS
from processors.behaviour.config import BehaviourConfig
from processors.behaviour.guardrails import Guardrails
from processors.behaviour.latency import Latency
from processors.behaviour.load import Load
from processors.behaviour.tallies import Key, additions
from processors.behaviour.usual import Usual
from processors.behaviour.windows import Said, Tally, add, read, written

logger = logging.getLogger(__name__)

#: Series of which it is kept what is usual; those not seen for longest go.
MOST = 20_000
_WINDOW, _USUAL, _HEAD = b"w", b"u", b"head"


class Behaviour(Processor[BehaviourConfig]):
    """Findings about load among deployments, rate limits, guardrails that became stricter, and answers that became slower, and why."""

    Config = BehaviourConfig
    stage = Stage.CALLS

    def __init__(self, config: BehaviourConfig, context: Context) -> None:
        super().__init__(config, context)
        self._window_ns, self._grace_ns = round(config.window * 1e9), round(config.grace * 1e9)
        self._quiet_ns = round(config.quiet * 1e9)
        self._load, self._guardrails, self._latency = Load(config), Guardrails(config), Latency(config)
        self._windows: dict[int, dict[Key, Tally]] = {}
        self._usual = _Remembering()
        self._open: frozenset[tuple[str, Subject]] = frozenset()
        self._clock = 0
        self._crowded = False
        self._gone: list[bytes] = []  # of windows of another length, deleted with the next batch
        # Of the last batch: what was there before.
        self._windows_before: dict[int, dict[Key, Tally] | None] = {}
        self._head_before: tuple[int, frozenset[tuple[str, Subject]]] = (0, frozenset())

    def load(self, state: StateReader) -> None:
        head = state.get(_HEAD)
        if head is None:
            return
        window_ns, self._clock, opened = json.loads(head)
        self._open = frozenset((kind, tuple((name, value) for name, value in subject)) for kind, subject in opened)
        if window_ns != self._window_ns:
            logger.info("%s: windows have another length; what is usual is learnt anew", self.context.id)
            self._gone = [key for prefix in (_WINDOW, _USUAL) for key, _ in state.items(prefix)]
            return
        for name, value in state.items(_WINDOW):
            self._windows[int.from_bytes(name[len(_WINDOW) :], "big")] = read(value)
        for _, value in state.items(_USUAL):
            key, window, sums = json.loads(value)
            self._usual[tuple(key)] = Usual(window, tuple(sums))
        self._usual.before.clear()

    def process(self, batch: SpanBatch) -> SpanBatch:
        self._windows_before = {}
        self._usual.before.clear()
        self._head_before = (self._clock, self._open)
        if batch.calls.is_empty():
            return batch
        latest = batch.received_ns + AHEAD_NS
        self._count(batch, latest)
        starts = integers(batch.calls["start_ns"])[0]
        self._clock = max(self._clock, int(starts[starts <= latest].max(initial=0)))
        observed = [one for window in sorted(self._windows) if window <= self._over for one in self._judge(window)]
        return batch.with_(observed=(*batch.observed, *observed)) if observed else batch

    @property
    def _over(self) -> int:
        """The last window that is over."""
        return (self._clock - self._grace_ns) // self._window_ns - 1

    def _count(self, batch: SpanBatch, latest: int) -> None:
        for one in additions(batch, self._window_ns, self._over, latest, self._load.by):
            if one.window not in self._windows_before:
                was = self._windows.get(one.window)
                self._windows_before[one.window] = was
                self._windows[one.window] = dict(was or {})
            if not add(self._windows[one.window], one) and not self._crowded:
                self._crowded = True
                logger.warning("%s: too many models, deployments, apps or guardrails; some are not looked at", self.context.id)  # fmt: skip

    def _judge(self, window: int) -> Iterator[Observation]:
        """What a window says: what holds, and what holds no longer. It is forgotten but for what is usual."""
        tallies = self._windows.pop(window)
        self._windows_before.setdefault(window, tallies)
        said = [
            *self._load.judge(tallies),
            *self._guardrails.judge(window, tallies, self._usual),
            *self._latency.judge(window, tallies, self._usual),
        ]
        if len(self._usual) > MOST:
            for key in heapq.nsmallest(
                len(self._usual) - MOST, self._usual, key=lambda key: (self._usual[key].window, key)
            ):
                del self._usual[key]
        opened = set(self._open)
        for one in said:
            about = (one.kind, one.subject)
            if one.holds:
                opened.add(about)
                yield self._observation(one, window)
            elif about in opened:
                opened.remove(about)
                yield self._observation(one, window)
        self._open = frozenset(opened)

    def _observation(self, one: Said, window: int) -> Observation:
        return Observation(
            kind=one.kind,
            subject=one.subject,
            at_ns=(window + 1) * self._window_ns,
            message=one.message,
            severity=one.severity,
            holds=one.holds,
            measured=one.measured,
            expected=one.expected,
            unit=one.unit,
            evidence=tuple(Evidence(call.trace_id, call.span_id) for call in one.shown) if one.holds else (),
            quiet_ns=self._quiet_ns,
        )

    def save(self, state: StateWriter) -> None:
        for name in self._gone:
            state.delete(name)
        for window in self._windows_before:
            name = _WINDOW + window.to_bytes(8, "big")
            if window in self._windows:
                state.put(name, written(self._windows[window]))
            else:
                state.delete(name)
        for key in self._usual.before:
            name = _USUAL + digest(key[0], (), *key[1:])
            if key in self._usual:
                state.put(name, json.dumps([key, *self._usual[key]], separators=(",", ":")).encode())
            else:
                state.delete(name)
        if self._windows_before or (self._clock, self._open) != self._head_before or self._gone:
            state.put(_HEAD, json.dumps([self._window_ns, self._clock, sorted(self._open)], separators=(",", ":")).encode())  # fmt: skip

    def committed(self) -> None:
        self._gone = []

    def rollback(self) -> None:
        for window, tallies in self._windows_before.items():
            if tallies is None:
                self._windows.pop(window, None)
            else:
                self._windows[window] = tallies
        self._usual.restore()
        self._clock, self._open = self._head_before
        self._windows_before = {}


class _Remembering(dict[Key, Usual]):
    """A dictionary that knows what it had before the last batch."""

    def __init__(self) -> None:
        super().__init__()
        self.before: dict[Key, Usual | None] = {}

    def __setitem__(self, key: Key, value: Usual) -> None:
        self.before.setdefault(key, self.get(key))
        super().__setitem__(key, value)

    def __delitem__(self, key: Key) -> None:
        self.before.setdefault(key, self.get(key))
        super().__delitem__(key)

    def restore(self) -> None:
        """As it was."""
        for key, value in self.before.items():
            if value is None:
                self.pop(key, None)
            else:
                super().__setitem__(key, value)
        self.before.clear()


__all__ = ["Behaviour"]
