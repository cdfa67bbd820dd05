"""The counters: how much each subject used in each window.

What a batch changes is kept apart until its commit. So whoever reads the counters from another thread sees what is
committed, each counter whole, and forgetting a batch is to forget what it changed.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from json.encoder import encode_basestring_ascii
from typing import NamedTuple

from collector.component import StateReader, StateWriter
from processors.budgets.moves import Values

COUNTER, SCOPE, SINCE = b"n", b"s", b"h"


class Since(NamedTuple):
    """From when on (Unix ns) a scope's calls are counted: of windows that began earlier there may be more. `lacks`: whether
    a store may still be asked for what was before."""

    ns: int
    lacks: bool


class Told(NamedTuple):
    """A line whose crossing was said, and whether the finding is still open. A line that moves is another line.

    at_ns: where several collectors may tell of it: when the finding opened (event time); 0: not known
    """

    budget: str
    kind: str
    percent: str
    at: int
    open: bool
    at_ns: int = 0

    @property
    def line(self) -> tuple[str, str, str, int]:
        return self[:4]


class Counter(NamedTuple):
    """What was used, exactly: pico-USD, tokens, calls. `last_ns`: start of the newest call."""

    usd: int = 0
    tokens: int = 0
    calls: int = 0
    last_ns: int = 0
    told: tuple[Told, ...] = ()

    @property
    def amounts(self) -> tuple[int, int, int]:
        """By place in MEASURES."""
        return self.usd, self.tokens, self.calls


class Key(NamedTuple):
    """Whose counter it is: of a scope, of the window that begins at `period`, of these values of the scope's dimensions."""

    scope: bytes
    period: int
    values: Values


ZERO = Counter()
Periods = dict[int, dict[Values, Counter]]


class Counters:
    """All counters of one processor."""

    def __init__(self) -> None:
        self.committed: dict[bytes, Periods] = {}
        self.open: dict[bytes, set[Key]] = {}  # counters of which a finding is open
        self.names: dict[bytes, tuple[str, ...]] = {}  # dimensions of the scopes that are kept
        self.since: dict[bytes, Since] = {}  # of scopes that do not have all calls
        self._since_new: dict[bytes, Since | None] = {}
        self.count = 0
        self._changed: dict[Key, Counter] = {}
        self._dropped: set[tuple[bytes, int]] = set()
        self._evicted: set[Key] = set()
        self._scopes_gone: set[bytes] = set()
        self._scopes_new: set[bytes] = set()

    def load(self, state: StateReader) -> None:
        """Rebuild what `save` wrote."""
        self.count, self.open = 0, {}
        self.forget()
        self.names = {name[1:]: tuple(json.loads(value)) for name, value in state.items(SCOPE)}
        self.since = {name[1:]: Since(*json.loads(value)) for name, value in state.items(SINCE)}
        self.committed = {scope: {} for scope in self.names}
        for name, value in state.items(COUNTER):
            values, counter = read(value)
            self._put(Key(name[1:9], period_of(name[9:17]), values), counter)

    # For those who ask ----------------------------------------------------------------------------------------------

    def subjects(self, scope: bytes, period: int) -> list[Values]:
        """Who has a counter of a window. A copy: the pipeline goes on."""
        return list(self.committed.get(scope, {}).get(period, {}))

    # While a batch is processed ------------------------------------------------------------------------------------

    def keep(self, scopes: Iterable[tuple[bytes, tuple[str, ...]]], now_ns: int) -> None:
        """These scopes are counted from now on, and no others: what others had would have gaps."""
        wanted = dict(scopes)
        self._scopes_gone = set(self.names) - set(wanted)
        self._scopes_new = set(wanted) - set(self.names)
        self.names |= {scope: wanted[scope] for scope in self._scopes_new}
        for scope in self._scopes_new:
            self.committed.setdefault(scope, {})
            self.since[scope] = Since(now_ns, True)

    def know(self, scope: bytes, since: Since | None) -> None:
        """From when on a scope's calls are counted from now on. None: all are."""
        self._since_new[scope] = since

    def get(self, key: Key) -> Counter:
        """A counter as it is within the batch."""
        changed = self._changed.get(key)
        if changed is not None:
            return changed
        return self.committed.get(key.scope, {}).get(key.period, {}).get(key.values, ZERO)

    def set(self, key: Key, counter: Counter) -> None:
        self._changed[key] = counter

    @property
    def changed(self) -> list[Key]:
        """Counters that the batch changed so far."""
        return list(self._changed)

    def periods(self, scope: bytes) -> list[int]:
        """Windows of which something is committed."""
        return list(self.committed.get(scope, {}))

    def drop(self, scope: bytes, period: int) -> None:
        """Forget a whole window."""
        self._dropped.add((scope, period))

    def crowded(self, most: int) -> int:
        """How many counters there are too many, with the batch's."""
        new = sum(key.values not in self.committed.get(key.scope, {}).get(key.period, {}) for key in self._changed)
        gone = sum(len(self.committed.get(scope, {}).get(period, {})) for scope, period in self._dropped)
        return self.count + new - gone - most

    def evict(self, count: int, rank: dict[bytes, tuple[float, float, float]]) -> int:
        """Forget so many counters that used least, by share of a limit; how many went. `rank`: one over limit, per measure."""

        def share(key: Key) -> tuple[bool, float, bytes, int, Values]:
            counter, weights = self.get(key), rank.get(key.scope, (0.0, 0.0, 0.0))
            used = max(counter.usd * weights[0], counter.tokens * weights[1], counter.calls * weights[2])
            return (any(one.open for one in counter.told), used, *key)

        candidates = {key for key in self.all() if (key.scope, key.period) not in self._dropped} | set(self._changed)
        self._evicted.update(heapq.nsmallest(count, candidates, key=share))
        return len(self._evicted)

    def all(self) -> Iterator[Key]:
        """Whose counters are committed."""
        for scope, periods in self.committed.items():
            for period, subjects in periods.items():
                for values in subjects:
                    yield Key(scope, period, values)

    # What becomes of it --------------------------------------------------------------------------------------------

    def save(self, state: StateWriter) -> None:
        """Write what the batch changed. May run again for the same batch."""
        for scope in self._scopes_new:
            state.put(SCOPE + scope, json.dumps(self.names[scope]).encode())
            state.put(SINCE + scope, json.dumps(self.since[scope]).encode())
        for scope, since in self._since_new.items():
            if since is None:
                state.delete(SINCE + scope)
            else:
                state.put(SINCE + scope, json.dumps(since).encode())
        for key, counter in self._changed.items():
            if key not in self._evicted and (key.scope, key.period) not in self._dropped:
                state.put(name_of(COUNTER, key), _written(key.values, counter))
        for key in self._evicted:
            state.delete(name_of(COUNTER, key))
        prefixes = [COUNTER + scope + eight(period) for scope, period in self._dropped]
        prefixes += [COUNTER + scope for scope in self._scopes_gone]
        for prefix in prefixes:
            for name in [name for name, _ in state.items(prefix)]:
                state.delete(name)
        for scope in self._scopes_gone:
            state.delete(SCOPE + scope)
            state.delete(SINCE + scope)

    def enter(self) -> None:
        """The batch is committed."""
        for key, counter in self._changed.items():
            self._put(key, counter)
        for key in self._evicted:
            self._take(key)
        for scope, period in self._dropped:
            gone = self.committed.get(scope, {}).pop(period, {})
            self.count -= len(gone)
            for values in gone:
                self.open.get(scope, set()).discard(Key(scope, period, values))
        for scope in self._scopes_gone:
            self.count -= sum(map(len, self.committed.pop(scope, {}).values()))
            self.open.pop(scope, None)
            self.names.pop(scope, None)
            self.since.pop(scope, None)
        for scope, since in self._since_new.items():
            if since is None:
                self.since.pop(scope, None)
            else:
                self.since[scope] = since
        self._scopes_gone, self._scopes_new = set(), set()
        self.forget()

    def forget(self) -> None:
        """The batch is not committed."""
        self._since_new = {}
        self._changed = {}
        self._dropped = set()
        self._evicted = set()

    def _put(self, key: Key, counter: Counter) -> None:
        subjects = self.committed.setdefault(key.scope, {}).setdefault(key.period, {})
        self.count += key.values not in subjects
        subjects[key.values] = counter
        if counter.told:
            if any(one.open for one in counter.told):
                self.open.setdefault(key.scope, set()).add(key)
            else:
                self.open.get(key.scope, set()).discard(key)

    def _take(self, key: Key) -> None:
        subjects = self.committed.get(key.scope, {}).get(key.period, {})
        self.count -= subjects.pop(key.values, None) is not None
        self.open.get(key.scope, set()).discard(key)


def read(value: bytes) -> tuple[Values, Counter]:
    """What was written of a counter."""
    values, usd, tokens, calls, last_ns, told = json.loads(value)
    return tuple(values), Counter(usd, tokens, calls, last_ns, tuple(Told(*one) for one in told))


def name_of(kind: bytes, key: Key) -> bytes:
    """Where something of a counter is stored. Values may be longer than a key can be."""
    text = "".join([f"{len(value)}:{value}" for value in key.values])
    digest = blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()
    return kind + key.scope + eight(key.period) + digest


def _written(values: Values, counter: Counter) -> bytes:
    """JSON, put together here: an encoder takes as long to set up as all the rest of a counter."""
    usd, tokens, calls, last_ns, told = counter
    said = json.dumps(told) if told else "[]"
    return f"[[{','.join(map(encode_basestring_ascii, values))}],{usd},{tokens},{calls},{last_ns},{said}]".encode()


def eight(period: int) -> bytes:
    """A window in a name: names sort as windows do."""
    return (period + 2**63).to_bytes(8, "big")


def period_of(name: bytes) -> int:
    """The window that stands in a name."""
    return int.from_bytes(name, "big") - 2**63
