"""What the store's tests share: appending with an answer, flipping bits, commits that fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from collector.store import Inbox, Sealer
from collector.store.environment import Environment
from collector.store.records import Records

SEALER = Sealer([bytes(32)])


class Answer:
    """A `done` that can be waited for."""

    def __init__(self) -> None:
        self._given = threading.Event()
        self._error: Exception | None = None

    def __call__(self, error: Exception | None) -> None:
        assert not self._given.is_set(), "answered twice"
        self._error = error
        self._given.set()

    @property
    def given(self) -> bool:
        return self._given.is_set()

    def wait(self) -> Exception | None:
        assert self._given.wait(20), "no answer"
        return self._error


def append(inbox: Inbox, *bodies: bytes, queues: tuple[str, ...] = ("traces",), items: int = 1) -> None:
    """Append and wait until all is committed."""
    answers = [Answer() for _ in bodies]
    for body, answer in zip(bodies, answers, strict=True):
        inbox.append(queues, body, items, answer)
    assert [answer.wait() for answer in answers] == [None] * len(bodies)


def flip(records: Records, key: bytes, bit: int = -1, *, chunk: int | None = None) -> None:
    """Damage a record, or one of its chunks, on disk."""
    database = records.name if chunk is None else f"{records.name}.chunks"
    key = key if chunk is None else key + chunk.to_bytes(4)
    with records.env.write() as txn:
        record = bytearray(txn.get(key, db=records.env.database(database)))
        record[bit // 8] ^= 1 << bit % 8
        txn.put(key, bytes(record), db=records.env.database(database))


Commit = Callable[[Environment, Any], None]


@contextmanager
def commits(commit: Commit) -> Iterator[Commit]:
    """Put `commit(env, txn)` in the place of every environment's commit; yields the real one."""
    with pytest.MonkeyPatch.context() as patch:
        real = Environment._commit
        patch.setattr(Environment, "_commit", commit)
        yield real
