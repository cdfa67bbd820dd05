"""What other collectors count of the same budgets, and which of them tells of a line that all of them have crossed.

What is used is the sum of the shares. Whoever finds a line crossed does not tell of it, but claims it: the claim is published
with the collector's share. Once it has been read back, and has stood there for a while, the oldest claim has the word, by the
clock of whoever made it, then by the collector's id. What has been told is a claim of a time below zero, that of the finding.
Whoever wanted to tell keeps the same finding, silently (`Observation.elsewhere`), and ends it should the other one be gone.
A claim that nobody settles within `alone_ns` is told all the same: twice is better than never.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from collector.component import StateReader, StateWriter
from collector.counting import Share
from collector.findings import Evidence, Observation, Severity
from processors.budgets.counters import Counter, Key, Told, eight, name_of, period_of
from processors.budgets.moves import Values
from processors.budgets.scopes import Scope

logger = logging.getLogger(__name__)

_SHARED = b"o"
#: How long a claim stands before it has the word: two readings, so that claims of the same moment are known.
SETTLE_NS = 4 * 10**9


class Claim(NamedTuple):
    """A line that was crossed, and what is to be said of it; `at_ns`: since when (Unix time) this collector wants to."""

    told: Told
    observation: Observation
    at_ns: int


class Entry(NamedTuple):
    """What is known of one counter besides this collector's own: the others' shares, and its own claims."""

    others: tuple[Share, ...] = ()
    claims: tuple[Claim, ...] = ()


NOTHING = Entry()
#: Versions of shares: a collector's own word stands above what another one says of it.
OWN = 2**62


class Shared:
    """All entries of one processor. What a batch changes is kept apart until its commit, as counters are."""

    def __init__(self, collector: str, alone_ns: int, most: int) -> None:
        self.collector = collector
        self.read_ns = 0  # when shares were asked for the last time that they came
        self._asked_ns = 0  # when they were asked for the last time, and perhaps did not come
        self._known_ns = (0, 0)  # both, of what the batch knows
        self._alone_ns, self._most = alone_ns, most
        self._committed: dict[tuple[bytes, int], dict[Values, Entry]] = {}  # by scope and window
        self._changed: dict[Key, Entry] = {}
        self.reclaimed: set[Key] = set()  # of which the batch changed claims
        self._claimed: set[Key] = set()  # committed entries that have claims
        self._lock = threading.Lock()
        self._heard: dict[tuple[Key, str], Share] = {}  # by counter and collector: not taken into a batch yet
        self._taken: dict[tuple[Key, str], Share] = {}  # by the batch
        self._gone: list[bytes] = []  # names of what is counted no more
        self.published = 0  # the newest version of this collector's shares
        self._said: set[str] = set()  # that was said in the log
        self._echoes: dict[tuple[Key, str], int] = {}  # own claims that were read back, and when

    # From any thread ------------------------------------------------------------------------------------------------

    def hear(self, shares: Sequence[Share] | None, began_ns: int) -> bool:
        """Take what was read, None where it could not be; whether a batch has something to do."""
        news: dict[tuple[Key, str], Share] = {}
        for share in shares or ():
            key = _key(share)
            if share.collector == self.collector:
                self._read_back(key, share, began_ns)
            elif (known := self.standing(key)) is NOTHING and self.count + len(news) >= self._most:
                self._say("other collectors have more counters than max_counters; of further ones their part is not known here")  # fmt: skip
            elif _newer(known, share):
                news[key, share.collector] = share
        with self._lock:
            self._heard |= news
            self._asked_ns = began_ns
            if shares is not None:
                self.read_ns = began_ns
        return bool(news or self._claimed)

    def _read_back(self, key: Key, share: Share, began_ns: int) -> None:
        """This collector's own word, as everybody can read it by now."""
        if key in self._claimed:
            for line in share.said:
                self._echoes.setdefault((key, line), began_ns)
        if 0 < self.published < share.version:
            self._say(f"another collector publishes as {self.collector} too, and neither is added to the other: its data directory must not be a copy")  # fmt: skip

    def _say(self, what: str) -> None:
        if what not in self._said:
            logger.error("budgets: %s", what)
        self._said.add(what)

    def standing(self, key: Key) -> Entry:
        """An entry as it is committed."""
        return self._committed.get((key.scope, key.period), {}).get(key.values, NOTHING)

    def subjects(self, scope: bytes, period: int) -> list[Values]:
        """Of whom others have a share in a window. A copy: the pipeline goes on."""
        return list(self._committed.get((scope, period), {}))

    # While a batch is processed -------------------------------------------------------------------------------------

    def take(self) -> list[Key]:
        """Let what was heard be known from this batch on; of which counters it is."""
        with self._lock:
            self._taken, self._heard = self._heard, {}
            self._known_ns = self._asked_ns, self.read_ns
        return list(dict.fromkeys(key for (key, _), share in self._taken.items() if self.know(share)))

    def know(self, share: Share) -> bool:
        """Take one share of another collector. False where a newer one is known."""
        key = _key(share)
        entry = self.get(key)
        if not _newer(entry, share):
            return False
        others = [one for one in entry.others if one.collector != share.collector]
        self._changed[key] = entry._replace(others=tuple(sorted((*others, share), key=lambda one: one.collector)))
        return True

    @property
    def count(self) -> int:
        """Entries, about. From any thread."""
        return sum(map(len, list(self._committed.values()))) + len(self._changed)

    def get(self, key: Key) -> Entry:
        """An entry as it is within the batch."""
        changed = self._changed.get(key)
        return self.standing(key) if changed is None else changed

    def joint(self, key: Key, own: Counter) -> Counter:
        """A counter together with the others' shares of it."""
        return joint(own, self.get(key).others) if self._committed or self._changed else own

    def claim(self, key: Key, claims: Iterable[Claim]) -> None:
        """More claims of a counter."""
        self.settle(key, (*self.get(key).claims, *claims))

    def claimed(self, scope: bytes) -> list[Key]:
        """Counters of a scope that have claims, in order."""
        return sorted(k for k in {*self._claimed, *self._changed} if k.scope == scope and self.get(k).claims)

    def settle(self, key: Key, claims: Iterable[Claim]) -> None:
        """What is left of a counter's claims."""
        self._changed[key] = self.get(key)._replace(claims=tuple(claims))
        self.reclaimed.add(key)

    def told_at(self, told: Told, near: Iterable[Key]) -> tuple[Key, int] | None:
        """Of which of these counters another collector has told that they crossed a line, and since when it is so."""
        line = line_of(told)
        found = [(-one.said[line], k) for k in near for one in self.get(k).others if one.said.get(line, 1) <= 0]
        return min(found)[::-1] if found else None

    def has_word(self, key: Key, claim: Claim, near: Iterable[Key]) -> bool:
        """Whether it is ours to tell of a line that may also have been crossed at `near` counters, and nobody has told of."""
        asked_ns, read_ns = self._known_ns
        if asked_ns - claim.at_ns >= self._alone_ns:
            return True
        line = line_of(claim.told)
        echo = self._echoes.get((key, line))
        if echo is None or read_ns - echo < SETTLE_NS:
            return False
        rivals = [(one.said[line], one.collector) for at in near for one in self.get(at).others if line in one.said]
        return all((claim.at_ns, self.collector) < rival for rival in rivals)

    def found(self) -> Iterator[Share]:
        """Shares of collectors that do not speak for themselves, as far as is known."""
        committed = {Key(*of, values) for of, window in self._committed.items() for values in window}
        for key in sorted(committed | set(self._changed)):
            yield from (share for share in self.get(key).others if share.version < OWN)

    def periods(self, scope: bytes) -> list[int]:
        """Windows of which something is committed."""
        return [period for of, period in self._committed if of == scope]

    def drop(self, scope: bytes, period: int) -> None:
        """Forget a window."""
        for values in self._committed.get((scope, period), ()):
            self._changed[Key(scope, period, values)] = NOTHING

    # What becomes of it ---------------------------------------------------------------------------------------------

    def load(self, state: StateReader, scopes: Collection[bytes]) -> None:
        """Rebuild what `save` wrote, of these scopes; what is of others goes with the first batch."""
        self._committed, self._claimed, self._gone = {}, set(), []
        self.forget()
        for name, value in state.items(_SHARED):
            key, entry = _read(name, value)
            if key.scope in scopes:
                self._put(key, entry)
            else:
                self._gone.append(name)

    def save(self, state: StateWriter) -> None:
        """Write what the batch changed. May run again for the same batch."""
        for name in self._gone:
            state.delete(name)
        for key, entry in self._changed.items():
            if entry == NOTHING:
                state.delete(name_of(_SHARED, key))
            else:
                state.put(name_of(_SHARED, key), _written(key, entry))

    def enter(self) -> None:
        """The batch is committed."""
        for key, entry in self._changed.items():
            self._put(key, entry)
        self._taken, self._changed, self._gone, self.reclaimed = {}, {}, [], set()
        if self._echoes:
            self._echoes = {of: at for of, at in self._echoes.items() if of[0] in self._claimed}

    def forget(self) -> None:
        """The batch is not committed: what it had heard comes again."""
        with self._lock:
            self._heard = {**self._taken, **self._heard}
        self._taken, self._changed, self.reclaimed = {}, {}, set()

    def _put(self, key: Key, entry: Entry) -> None:
        (self._claimed.add if entry.claims else self._claimed.discard)(key)
        window = self._committed.setdefault((key.scope, key.period), {})
        if entry != NOTHING:
            window[key.values] = entry
        elif window.pop(key.values, None) is not None and not window:
            del self._committed[key.scope, key.period]


def joint(own: Counter, others: Iterable[Share]) -> Counter:
    """What all of them have counted, with what is told of it here."""
    usd, tokens, calls, last_ns = own.usd, own.tokens, own.calls, own.last_ns
    for one in others:
        usd, tokens, calls = usd + one.cost_pico, tokens + one.tokens, calls + one.calls
        last_ns = max(last_ns, one.last_ns)
    return Counter(usd, tokens, calls, last_ns, own.told)


def share_of(
    scope: Scope, key: Key, collector: str, version: int, counter: Counter, claims: Iterable[Claim] = ()
) -> Share:
    """A counter as it is published."""
    said = {line_of(claim.told): claim.at_ns for claim in claims} | {
        line_of(told): -told.at_ns for told in counter.told
    }
    return Share(
        scope.key.hex(), key.period, key.values, collector, version, counter.usd, counter.tokens, counter.calls, counter.last_ns, said, scope.per
    )  # fmt: skip


def line_of(told: Told) -> str:
    """A line as shares name it."""
    return f"{told.budget} {told.kind} {told.percent} {told.at}"


def stored(state: StateReader, key: Key) -> tuple[Share, ...]:
    """The others' shares of a counter, as they lie in a state."""
    name = name_of(_SHARED, key)
    value = state.get(name)
    return () if value is None else _read(name, value)[1].others


def stored_subjects(state: StateReader, scope: bytes, period: int) -> set[Values]:
    """Of whom others have a share in a window."""
    return {_read(name, value)[0].values for name, value in state.items(_SHARED + scope + eight(period))}


def _newer(entry: Entry, share: Share) -> bool:
    return all(share.version > one.version for one in entry.others if one.collector == share.collector)


def _key(share: Share) -> Key:
    return Key(bytes.fromhex(share.scope), share.period, share.values)


def _written(key: Key, entry: Entry) -> bytes:
    others = [[o.collector, o.version, o.cost_pico, o.tokens, o.calls, o.last_ns, dict(o.said)] for o in entry.others]
    claims = [[list(c.told), asdict(c.observation), c.at_ns] for c in entry.claims]
    return json.dumps([key.values, others, claims]).encode()


def _read(name: bytes, value: bytes) -> tuple[Key, Entry]:
    """What `_written` wrote under a name."""
    values, others, claims = json.loads(value)
    key = Key(name[1:9], period_of(name[9:17]), tuple(values))
    shares = tuple(Share(key.scope.hex(), key.period, key.values, *one) for one in others)
    return key, Entry(shares, tuple(Claim(Told(*told), _observation(said), at) for told, said, at in claims))


def _observation(said: dict[str, Any]) -> Observation:
    return Observation(**said | {
        "subject": tuple((name, value) for name, value in said["subject"]),
        "severity": Severity(said["severity"]),
        "evidence": tuple(Evidence(**one) for one in said["evidence"]),
    })  # fmt: skip
