"""The stores against plain dictionaries: whatever is done to them, in any order, with restarts in between."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from collector.component import Payload
from collector.errors import StoreFull
from collector.store import DeadLetter, DeadLetters, Inbox, StateStore
from collector.store.letters import LETTER_COST
from collector.store.queue import ENTRY_COST
from tests.store_kit import SEALER, append

QUEUES = ("traces", "traces/raw")
OUTBOXES = ("clickhouse", "clickhouse/other")
NO_INBOX: Any = None  # only payloads are replayed here
MAX_BYTES = 4 * 2**20

# Around the places where values are cut: none, tiny, just below and above a chunk, several chunks.
sizes = st.sampled_from([0, 1, 100, 262_000, 262_083, 262_084, 300_000, 800_000])
keys = st.sampled_from([b"", b"a", b"a\0", b"a\0\0\0\0", b"ab", b"b", b"\xff"])


def body(size: int, salt: int) -> bytes:
    return (salt.to_bytes(4) * (size // 4 + 1))[:size]


class InboxMachine(RuleBasedStateMachine):
    """Appending, reading, trimming, restarting."""

    @initialize()
    def start(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.salt = 0
        self.kept: dict[str, dict[int, tuple[int, bytes]]] = {name: {} for name in QUEUES}
        self.last = dict.fromkeys(QUEUES, 0)
        self.open()

    def open(self) -> None:
        self.inbox = Inbox(Path(self.directory.name), max_bytes=MAX_BYTES, sealer=SEALER)

    @property
    def bytes(self) -> int:
        return sum(len(body) + ENTRY_COST for kept in self.kept.values() for _, body in kept.values())

    @rule(queues=st.sampled_from([QUEUES[:1], QUEUES[1:], QUEUES]), size=sizes, count=st.integers(1, 3))
    def append(self, queues: tuple[str, ...], size: int, count: int) -> None:
        for _ in range(count):
            self.salt += 1
            new = body(size, self.salt)
            fits = self.bytes + (len(new) + ENTRY_COST) * len(queues) <= MAX_BYTES
            with suppress(StoreFull):
                append(self.inbox, new, queues=queues, items=self.salt)
                assert fits
                for name in queues:
                    self.last[name] += 1
                    self.kept[name][self.last[name]] = (self.salt, new)
                continue
            assert not fits

    @rule(name=st.sampled_from(QUEUES), share=st.floats(0, 1.2))
    def trim(self, name: str, share: float) -> None:
        through = int(self.last[name] * share)
        self.inbox.queue(name).trim(through)
        assert self.inbox.flush(20)
        self.kept[name] = {seq: entry for seq, entry in self.kept[name].items() if seq > through}

    @rule(name=st.sampled_from(QUEUES), share=st.floats(0, 1), max_bytes=sizes)
    def read(self, name: str, share: float, max_bytes: int) -> None:
        after = int(self.last[name] * share)
        expected, size = [], 0
        for seq, (items, kept) in sorted(self.kept[name].items()):
            if seq > after:
                size += len(kept)
                if expected and size > max_bytes:
                    break
                expected.append((seq, items, kept, ""))
        found = self.inbox.queue(name).read(after, max_bytes)
        assert [(entry.seq, entry.items, entry.body, entry.damage) for entry in found] == expected

    @rule(name=st.sampled_from(QUEUES), above=st.integers(0, 3))
    def position_from_elsewhere(self, name: str, above: int) -> None:
        self.inbox.queue(name, after=self.last[name] + above)
        self.last[name] += above

    @rule()
    def restart(self) -> None:
        self.inbox.close()
        self.open()

    @invariant()
    def counts(self) -> None:
        for name, kept in self.kept.items():
            queue = self.inbox.queue(name)
            assert queue.last == self.last[name]
            assert queue.first == min(kept, default=queue.last + 1)
            assert queue.count == len(kept)
            assert queue.items == sum(items for items, _ in kept.values())
        assert self.inbox.bytes == self.bytes

    def teardown(self) -> None:
        if hasattr(self, "inbox"):
            self.inbox.close()
            self.directory.cleanup()


class Abandon(Exception):
    """Leaves a transaction without a commit."""


class StateMachine(RuleBasedStateMachine):
    """Transactions that end well or not, deliveries, burials, replays, restarts."""

    @initialize()
    def start(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.salt = 0
        self.values: dict[tuple[str, bytes], bytes] = {}
        self.positions: dict[str, int] = {}
        self.boxes: dict[str, dict[int, Payload]] = {name: {} for name in OUTBOXES}
        self.last = dict.fromkeys(OUTBOXES, 0)
        self.letters: dict[int, tuple[str, str, Payload]] = {}
        self.last_letter = 0
        self.open()

    def open(self) -> None:
        self.store = StateStore(Path(self.directory.name), SEALER)

    def payload(self, size: int) -> Payload:
        self.salt += 1
        return Payload(body(size, self.salt), {"table": "t", "n": self.salt}, self.salt)

    @rule(
        puts=st.lists(st.tuples(st.sampled_from(["ledger", "ledger/x"]), keys, st.none() | sizes), max_size=4),
        sends=st.lists(st.tuples(st.sampled_from(OUTBOXES), sizes), max_size=2),
        bury=st.none() | sizes,
        commit=st.booleans() | st.just(True),
    )
    def transaction(
        self,
        puts: list[tuple[str, bytes, int | None]],
        sends: list[tuple[str, int]],
        bury: int | None,
        commit: bool,
    ) -> None:
        values, boxes, last = dict(self.values), {k: dict(v) for k, v in self.boxes.items()}, dict(self.last)
        letters, last_letter = dict(self.letters), self.last_letter
        position = self.salt + 1
        with suppress(Abandon), self.store.transaction() as transaction:
            for namespace, key, size in puts:
                if size is None:
                    transaction.component(namespace).delete(key)
                    values.pop((namespace, key), None)
                else:
                    values[namespace, key] = self.payload(size).body
                    transaction.component(namespace).put(key, values[namespace, key])
                assert transaction.component(namespace).get(key) == values.get((namespace, key))
            for name, size in sends:
                last[name] += 1
                boxes[name][last[name]] = self.payload(size)
                transaction.outbox_put(name, boxes[name][last[name]])
            if bury is not None:
                last_letter += 1
                new = self.payload(bury)
                letters[last_letter] = ("request", "traces", new)
                letter = DeadLetter("request", "traces", "", new.items, new.body, new.meta)
                assert transaction.dead_letter(letter) == last_letter
            transaction.set_position("traces", position)
            if not commit:
                raise Abandon
            self.values, self.boxes, self.last, self.positions = values, boxes, last, {"traces": position}
            self.letters, self.last_letter = letters, last_letter

    @rule(name=st.sampled_from(OUTBOXES), nth=st.integers(0, 3))
    def done(self, name: str, nth: int) -> None:
        seq = (sorted(self.boxes[name]) + [10**6] * 4)[nth]
        self.store.outbox(name).done(seq)
        self.boxes[name].pop(seq, None)

    @rule(name=st.sampled_from(OUTBOXES))
    def bury(self, name: str) -> None:
        if self.boxes[name]:
            seq = min(self.boxes[name])
            self.store.outbox(name).bury(seq, "refused")
            self.last_letter += 1
            self.letters[self.last_letter] = ("payload", name, self.boxes[name].pop(seq))

    @rule(nth=st.integers(0, 3), replay=st.booleans())
    def drop_or_replay(self, nth: int, replay: bool) -> None:
        ids = sorted(id_ for id_, (kind, _, _) in self.letters.items() if kind == "payload" or not replay)
        id_ = (ids + [10**6] * 4)[nth]
        kind, origin, payload = self.letters.pop(id_, ("", "", Payload(b"")))
        if replay:
            assert DeadLetters(self.store).replay([id_], NO_INBOX, OUTBOXES) == bool(kind)
            if kind:
                self.last[origin] += 1
                self.boxes[origin][self.last[origin]] = payload
        else:
            assert DeadLetters(self.store).drop([id_]) == bool(kind)

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.open()

    @invariant()
    def same(self) -> None:
        with self.store.reader() as reader:
            assert reader.position("traces") == self.positions.get("traces", 0)
            for namespace in ("ledger", "ledger/x"):
                expected = sorted((key, value) for (ns, key), value in self.values.items() if ns == namespace)
                assert list(reader.component(namespace).items()) == expected
                part = [pair for pair in expected if pair[0].startswith(b"a\0")]
                assert list(reader.component(namespace).items(b"a\0")) == part
        for name, kept in self.boxes.items():
            outbox = self.store.outbox(name)
            assert outbox.peek(100) == sorted(kept.items())
            assert outbox.count == len(kept)
            assert outbox.bytes == sum(len(payload.body) for payload in kept.values())
            assert outbox.items == sum(payload.items for payload in kept.values())
        letters = DeadLetters(self.store)
        assert [letter.id for letter in letters.list()] == sorted(self.letters)
        assert (letters.count, letters.bytes) == (
            len(self.letters),
            sum(len(p.body) + LETTER_COST for *_, p in self.letters.values()),
        )
        for id_, (kind, origin, payload) in self.letters.items():
            letter = letters.get(id_)
            assert letter is not None
            assert (letter.kind, letter.origin) == (kind, origin)
            assert Payload(letter.body, letter.meta, letter.items) == payload

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.directory.cleanup()


InboxMachine.TestCase.settings = StateMachine.TestCase.settings = settings(
    max_examples=12, stateful_step_count=20, deadline=None
)
TestInbox = InboxMachine.TestCase
TestState = StateMachine.TestCase
