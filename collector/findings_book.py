"""The book of findings: observations become findings, of which one per kind and subject is open.

An *episode* is what happens to one kind and subject from the observation that opens it until it recovers, or until nothing
more was observed for as long as the observation says (`quiet_ns`). Which episodes there are depends on the observations of
that kind and subject alone, in the order in which they come: an observation belongs to the last episode unless its time lies
behind that one's end. The clock, the newest event time that was seen, only tells which episodes are over. So the findings
are the same wherever batches begin and end and whatever restarts, and evidence that comes late updates its finding,
also one that is resolved. That holds for what comes at most a day behind the clock, and while the book is not full.

Of what another collector tells (`Observation.elsewhere`) the finding is the same, without transitions and one version lower: its
own word stands above that, and where it has none any more, because it is gone, the finding is still resolved.

An episode keeps its place in memory for a day after it was resolved, for such late evidence. Where there are more than
`most` of them, those seen least recently go, resolved ones first; an open one that goes is resolved as `evicted`.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import prometheus_client as prometheus
from prometheus_client import CollectorRegistry

from collector.batch import SpanBatch
from collector.component import StateReader, StateWriter
from collector.episodes import Episode, digest, first, read, written
from collector.findings import Finding, Observation, Resolution, Severity, State, Subject, Transition
from collector.once import once
from collector.sums import AHEAD_NS

MOST = 10_000
_EPISODE = b"e"
_CLOCK = b"clock"
_RANK = {severity: rank for rank, severity in enumerate(Severity)}


class FindingsBook:
    """Turns `batch.observed` into `batch.findings`. Stands in a pipeline as a processor does, and behind all of them.

    The order of calls is a processor's: load → (observe → save)*, `rollback` where the batch is given up.
    """

    def __init__(self, registry: CollectorRegistry, most: int = MOST) -> None:
        self._most = most
        self._metrics = once(registry, _Metrics)
        self._episodes: dict[bytes, Episode] = {}
        self._clock = 0
        self._queue: list[tuple[int, bytes]] = []  # a heap of when to look at an episode, at the latest when it is due
        self._queued: dict[bytes, int] = {}  # the earliest time in the queue of each
        self._keys: dict[tuple[str, Subject], bytes] = {}  # made of them before; emptied when it has many
        # Of the last batch:
        self._before: dict[bytes, Episode | None] = {}
        self._clock_before = 0
        self._out: dict[str, Finding] = {}
        self._counted = True  # whether the metrics have it

    # In the pipeline ------------------------------------------------------------------------------------------------

    def load(self, state: StateReader) -> None:
        """Rebuild what `save` wrote."""
        self._clock = int(state.get(_CLOCK) or 0)
        for name, value in state.items(_EPISODE):
            key = name[len(_EPISODE) :]
            self._episodes[key] = read(value)
            self._schedule(key)
        self._metrics.open(self)

    def observe(self, batch: SpanBatch) -> SpanBatch:
        """The batch with the findings that it opened, updated or resolved."""
        findings = self.take(batch.observed, _newest(batch), batch.received_ns + AHEAD_NS)
        return batch.with_(findings=findings) if findings else batch

    def take(self, observed: Iterable[Observation], clock_ns: int, latest_ns: int | None = None) -> tuple[Finding, ...]:
        """What becomes of observations, in their order, once it is `clock_ns`. No event happened after `latest_ns`."""
        self._before.clear()
        self._out.clear()
        self._clock_before, self._counted = self._clock, False
        self._clock = max(self._clock, clock_ns)
        about: dict[bytes, list[Observation]] = {}  # nothing about one subject changes anything about another
        for observation in observed:
            one = observation
            if latest_ns is not None and one.at_ns > latest_ns:
                one = replace(one, at_ns=latest_ns, since_ns=min(one.first_ns, latest_ns))
            self._clock = max(self._clock, one.at_ns)
            about.setdefault(self._key(one), []).append(one)
        for key, observations in about.items():
            self._apply(key, observations)
        self._close()
        if len(self._episodes) > self._most:
            self._evict()
        if len(self._keys) > 2 * self._most:
            self._keys.clear()
        return tuple(self._out.values())

    def save(self, state: StateWriter) -> None:
        """Write what the batch changed. May run again for the same batch."""
        for key in self._before:
            episode = self._episodes.get(key)
            if episode is None:
                state.delete(_EPISODE + key)
            else:
                state.put(_EPISODE + key, written(episode))
        if self._clock != self._clock_before:
            state.put(_CLOCK, str(self._clock).encode())
        if not self._counted:
            self._metrics.add(self._out.values())
            self._counted = True

    def rollback(self) -> None:
        """Forget what the last batch did."""
        for key, episode in self._before.items():
            if episode is None:
                self._episodes.pop(key, None)
            else:
                self._episodes[key] = episode
            self._schedule(key)
        self._clock = self._clock_before
        self._before.clear()
        self._out.clear()

    @property
    def open(self) -> int:
        """How many findings are open."""
        return sum(episode.finding.state is State.OPEN for episode in list(self._episodes.values()))

    # Observations of one kind and subject ----------------------------------------------------------------------------

    def _key(self, one: Observation) -> bytes:
        known = self._keys.get((one.kind, one.subject))
        return known or self._keys.setdefault((one.kind, one.subject), digest(one.kind, one.subject))

    def _apply(self, key: bytes, observations: Sequence[Observation]) -> None:
        done = 0
        while done < len(observations):
            one, episode = observations[done], self._episodes.get(key)
            belongs = episode is not None and (episode.until is None or one.first_ns <= episode.until)
            if episode is not None and belongs and one.holds:
                done += self._update(key, episode, observations, done)
                continue
            done += 1
            if episode is not None and belongs:
                recovered = episode.finding.resolution is Resolution.RECOVERED
                if not recovered and one.at_ns >= episode.finding.last_seen_ns:
                    self._recover(key, episode, one)
            elif one.holds:
                if episode is not None:
                    self._resolve_quiet(key, episode)
                self._open(key, one)

    def _open(self, key: bytes, one: Observation) -> None:
        subject = tuple(sorted(one.subject))
        finding = Finding(
            id=digest(one.kind, subject, str(one.first_ns)).hex(), kind=one.kind, subject=subject, state=State.OPEN, severity=one.severity,
            first_seen_ns=one.first_ns, last_seen_ns=one.at_ns, observations=one.count, measured=one.measured, expected=one.expected, unit=one.unit,
            cost_pico=one.cost_pico, message=one.message, evidence=first((), one.evidence), version=2 * one.count,
            ends_ns=one.ends_ns,
        )  # fmt: skip
        self._put(key, Episode(finding, one.count, one.quiet_ns, one.elsewhere), Transition.OPENED)

    def _update(self, key: bytes, episode: Episode, observations: Sequence[Observation], start: int) -> int:
        """More of the same, from `start` on as many as belong to the episode, all at once: a policy that every second call breaks
        is observed as often. How many these are. One that is not newer than what is known adds to the sums and says nothing else.
        """
        was = episode.finding
        recovered = was.resolution is Resolution.RECOVERED
        until, last, quiet, cost = episode.until, was.last_seen_ns, episode.quiet_ns, was.cost_pico
        says: Finding | Observation = was
        severity, evidence, end, count = was.severity, was.evidence, start, 0
        for one in itertools.islice(observations, start, None):
            if not one.holds or (until is not None and one.first_ns > until):
                break
            end += 1
            count += one.count
            if one.at_ns >= last and not recovered:
                says, quiet = one, one.quiet_ns
                until = None if quiet is None else one.at_ns + quiet
            last = max(last, one.at_ns)
            severity = max(severity, one.severity, key=_RANK.__getitem__)
            if one.cost_pico is not None:
                cost = (cost or 0) + one.cost_pico
            evidence = first(evidence, one.evidence)
        changes = episode.changes + count
        finding = replace(
            was,
            # What was quiet is open again, until the clock is found to be past its new end.
            state=was.state if recovered else State.OPEN,
            resolution=was.resolution if recovered else None,
            resolved_ns=was.resolved_ns if recovered else None,
            severity=severity,
            last_seen_ns=last,
            observations=was.observations + count,
            measured=says.measured,
            expected=says.expected,
            unit=says.unit,
            ends_ns=says.ends_ns,
            cost_pico=cost,
            message=says.message,
            evidence=evidence,
            version=2 * changes + recovered,
        )
        raised = severity is not was.severity and not recovered
        changed = replace(episode, finding=finding, changes=changes, quiet_ns=quiet)
        self._put(key, changed, Transition.RAISED if raised else None)
        return end - start

    def _recover(self, key: bytes, episode: Episode, one: Observation) -> None:
        finding = replace(episode.finding, message=one.message)
        if one.measured is not None:
            finding = replace(finding, measured=one.measured, expected=one.expected, unit=one.unit)
        episode = replace(episode, finding=finding, changes=episode.changes + 1)
        self._resolve(key, episode, Resolution.RECOVERED, one.at_ns)

    def _resolve_quiet(self, key: bytes, episode: Episode) -> None:
        """Resolve an episode that is over, unless it is resolved already."""
        if episode.finding.state is State.OPEN and episode.until is not None:
            self._resolve(key, episode, Resolution.QUIET, episode.until)

    def _resolve(self, key: bytes, episode: Episode, why: Resolution, at_ns: int) -> None:
        finding = replace(
            episode.finding, state=State.RESOLVED, resolution=why, resolved_ns=at_ns, version=2 * episode.changes + 1
        )
        told = None if episode.told else Transition.RESOLVED
        self._put(key, replace(episode, finding=finding, told=True), told)

    def _put(self, key: bytes, episode: Episode, transition: Transition | None) -> None:
        """Keep an episode and give out its finding, once per batch, with all that happened to it in the batch."""
        self._before.setdefault(key, self._episodes.get(key))
        self._episodes[key] = episode
        self._schedule(key)
        finding = episode.finding
        if episode.elsewhere:
            finding, transition = replace(finding, version=finding.version - 1), None
        before = self._out.get(finding.id)
        made = before.transitions if before is not None else ()
        # Nobody was told of the lower severity of one that opened, or was raised, a moment ago.
        if transition is not None and not (transition is Transition.RAISED and made):
            made = (*made, transition)
        self._out[finding.id] = replace(finding, transitions=made) if made else finding

    # What the clock does ------------------------------------------------------------------------------------------------

    def _schedule(self, key: bytes) -> None:
        """Look at an episode at the latest when it is due."""
        episode = self._episodes.get(key)
        due = episode.due if episode is not None else None
        if due is not None and due < self._queued.get(key, due + 1):
            self._queued[key] = due
            heapq.heappush(self._queue, (due, key))

    def _close(self) -> None:
        """Resolve what was quiet for long enough, forget what nothing can come to any more."""
        while self._queue and self._queue[0][0] < self._clock:
            at_ns, key = heapq.heappop(self._queue)
            if self._queued.get(key) != at_ns:
                continue  # it is looked at at another time
            del self._queued[key]
            episode = self._episodes.get(key)
            if episode is None or episode.due is None:
                continue
            if episode.due >= self._clock:
                self._schedule(key)  # something came meanwhile
            elif episode.finding.state is State.OPEN:
                self._resolve_quiet(key, episode)
            else:
                self._forget(key)

    def _forget(self, key: bytes) -> None:
        self._before.setdefault(key, self._episodes.get(key))
        del self._episodes[key]

    def _evict(self) -> None:
        """Let go of what is too much: resolved episodes first, then those seen least recently."""

        def order(key: bytes) -> tuple[bool, int, bytes]:
            finding = self._episodes[key].finding
            return finding.state is State.OPEN, finding.last_seen_ns, key

        for key in heapq.nsmallest(len(self._episodes) - self._most, self._episodes, key=order):
            episode = self._episodes[key]
            if episode.finding.state is State.OPEN:
                self._resolve(key, episode, Resolution.EVICTED, episode.finding.last_seen_ns)
            self._forget(key)


def _newest(batch: SpanBatch) -> int:
    """The newest start of the batch's calls, of those that are not ahead of their arrival; 0 for none."""
    starts = batch.calls["start_ns"]
    newest = starts.max()
    latest = batch.received_ns + AHEAD_NS
    if isinstance(newest, int) and newest > latest:
        newest = starts.filter(starts <= latest).max()
    return newest if isinstance(newest, int) else 0


# Metrics ----------------------------------------------------------------------------------------------------------------


class _Metrics:
    """Of all books of a service. Kinds are the processors' own words: there are few."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._books: list[FindingsBook] = []
        self._transitions = prometheus.Counter("spanledger_findings", "Findings that opened, became more severe, or were resolved.", ["kind", "transition"], registry=registry)  # fmt: skip
        self._evicted = prometheus.Counter("spanledger_findings_evicted", "Open findings that had to go because there were too many.", registry=registry)  # fmt: skip
        open_ = prometheus.Gauge("spanledger_findings_open", "Findings that are open.", registry=registry)
        open_.set_function(lambda: sum(book.open for book in self._books))

    def open(self, book: FindingsBook) -> None:
        """Count the book's open findings from now on."""
        self._books.append(book)

    def add(self, findings: Iterable[Finding]) -> None:
        """Count what a batch came to."""
        made = Counter((finding.kind, transition) for finding in findings for transition in finding.transitions)
        for (kind, transition), number in made.items():
            self._transitions.labels(kind, transition.value).inc(number)
        self._evicted.inc(sum(finding.resolution is Resolution.EVICTED for finding in findings))


__all__ = ["FindingsBook"]
