"""Looking at what is committed, from memory or from the store: this collector's counters, and the others' shares."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from collector.component import Snapshot, StateReader
from collector.counting import Share
from processors.budgets import shared
from processors.budgets.counters import COUNTER, SCOPE, SINCE, ZERO, Counter, Counters, Key, Since, eight, name_of, read
from processors.budgets.moves import Values
from processors.budgets.shared import Shared, joint


class Look(NamedTuple):
    """What is committed at one moment. `began`: from when on a scope's calls are counted; 0: all of them are."""

    counter: Callable[[Key], Counter]
    others: Callable[[Key], tuple[Share, ...]]
    began: Callable[[bytes], int]

    def joint(self, key: Key) -> Counter:
        """What all collectors together have counted."""
        return joint(self.counter(key), self.others(key))


class Present:
    """The counters of this process. From any thread."""

    def __init__(self, counters: Counters, others: Shared) -> None:
        self._counters, self._others = counters, others

    @contextmanager
    def looking(self) -> Iterator[Look]:
        """Looks up what is committed."""
        counters, since = self._counters.committed, self._counters.since
        yield Look(
            lambda key: counters.get(key.scope, {}).get(key.period, {}).get(key.values, ZERO),
            lambda key: self._others.standing(key).others,
            lambda scope: found.ns if (found := since.get(scope)) is not None else 0,
        )

    def subjects(self, scope: bytes, period: int) -> set[Values]:
        """Who has a counter of a window."""
        return {*self._counters.subjects(scope, period), *self._others.subjects(scope, period)}


class Stored:
    """The committed counters of another process's processor, each read from the store when it is asked for.

    snapshot: opens the processor's state as it is at that moment
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    @contextmanager
    def looking(self) -> Iterator[Look]:
        """Looks up counters of one moment. From any thread. Raises `StoreError` where the disk cannot be read."""
        with self._snapshot() as state:

            def look(key: Key) -> Counter:
                value = state.get(name_of(COUNTER, key))
                return ZERO if value is None else read(value)[1]

            yield Look(look, partial(shared.stored, state), partial(_began, state))

    def subjects(self, scope: bytes, period: int) -> set[Values]:
        """Who has a counter of a window."""
        with self._snapshot() as state:
            own = {read(value)[0] for _, value in state.items(COUNTER + scope + eight(period))}
            return own | shared.stored_subjects(state, scope, period)


def _began(state: StateReader, scope: bytes) -> int:
    value = state.get(SINCE + scope)
    if value is None:  # never committed: nothing is counted yet
        return 0 if state.get(SCOPE + scope) is not None else 2**63 - 1
    return Since(*json.loads(value)).ns
