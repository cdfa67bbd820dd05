"""The contracts that receivers, processors and exporters are written against.

A processor or exporter is one class in one file with a pydantic `Config`. It is found by entry point
(`spanledger.processors`, `spanledger.exporters`), built once per place in a pipeline, and called by that pipeline's
one thread: no method needs a lock. Only `Exporter.send` runs on another thread, its own.

The order of calls on a processor:  load → (process → save → committed)* → close.
`save` only writes: it is called again, for the same batch, when the disk did not take the commit. Where anything raises
between `process` and the commit, `rollback` follows instead: it must undo what the last `process` changed in memory, also
after a `save` that ran.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from collector.signals import Signal

if TYPE_CHECKING:
    from collector.batch import RequestBatch, SpanBatch
    from collector.columns import Column
    from collector.counting import History, Listener, Shares
    from collector.verdict import Verdicts

ConfigT = TypeVar("ConfigT", bound=BaseModel)


class Stage(Enum):
    """Where in a traces pipeline a processor stands. Reports are merged into calls between the last two.

    Redaction runs after all processors of reports, which alone see raw values, wherever behind them it is written.
    Its config may have `idle`: true where it takes nothing out, and may stand anywhere.
    """

    REPORTS = "reports"  # sees `batch.spans` and `batch.reports`, before merging: attribution
    REDACTION = "redaction"  # takes out what must neither be kept nor leave; what comes after it never sees that
    CALLS = "calls"  # sees `batch.calls` too, one row per call: pricing, budgets …


class StateReader(Protocol):
    """A component's own namespace of the state store, within one transaction. Keys sort bytewise."""

    def get(self, key: bytes) -> bytes | None: ...

    def items(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]: ...


class StateWriter(StateReader, Protocol):
    """As StateReader; writes become visible and durable with the batch's commit, or not at all."""

    def put(self, key: bytes, value: bytes) -> None: ...

    def delete(self, key: bytes) -> None: ...


#: Opens a component's state as it is at that moment, for reading.
Snapshot = Callable[[], AbstractContextManager[StateReader]]


@dataclass(frozen=True, slots=True)
class Context:
    """What a component may know of where it runs."""

    id: str  # `type` or `type/name`, as in the config
    data_dir: Path
    metrics: CollectorRegistry
    signal: Signal = Signal.TRACES  # of the pipeline that it stands in; a receiver stands in several
    #: Column → attributes (`span.NAME`, `resource.NAME`, `scope.NAME`) that some component of the config takes it from.
    sources: Mapping[str, Sequence[str]] = field(default_factory=dict)
    #: Which collector this is: the same after every restart, another one with every other data directory.
    collector: str = ""


class Intake(Protocol):
    """Where receivers put requests: the inbox, for every pipeline that takes from the receiver."""

    @property
    def signals(self) -> frozenset[Signal]:
        """Signals that a pipeline takes from the receiver. Senders of the others are told so; nothing of it is submitted."""
        ...

    def submit(self, signal: Signal, body: bytes, items: int, done: Callable[[Exception | None], None]) -> None:
        """Keep one request of `items` spans, log records or data points, checked and as protobuf. From any thread.

        Raises `Overloaded` at once where there is no room; `done` is not called then. Else `done` is called exactly
        once, from another thread, and must not block: with None after the fsync, or with a `StoreError` when the
        request is not kept.
        """
        ...


class Receiver(ABC, Generic[ConfigT]):
    """Listens, checks what comes, hands it to the intake, and answers the sender when it is durable, never before.

    Runs on threads of its own. Built once per id, whatever the number of pipelines that take from it.
    """

    Config: ClassVar[type[BaseModel]]

    def __init__(self, config: ConfigT, context: Context) -> None:
        self.config = config
        self.context = context

    @abstractmethod
    def start(self, intake: Intake) -> None:
        """Listen. Returns when senders can come. Raises `SpanledgerError` that names the option which does not work."""

    @abstractmethod
    def stop(self, grace_seconds: float) -> None:
        """Take nothing new; answer what was taken, within the grace. After it returns nothing is submitted any more."""

    @property
    @abstractmethod
    def endpoints(self) -> Sequence[str]:
        """Where it listens, one line each, for people and with real port numbers. Empty before `start`."""


@dataclass(frozen=True, slots=True)
class Payload:
    """One delivery: what `Exporter.send` gets back, byte for byte, now, after a restart, and on each retry.

    `body` is opaque to the pipeline. `meta` is small JSON-able data (table, deduplication token, headers).
    `items` counts spans, log records or rows, for metrics and for the dead-letter list.
    """

    body: bytes
    meta: dict[str, str | int] = field(default_factory=dict)
    items: int = 0


class Processor(ABC, Generic[ConfigT]):
    """Reads columns, adds columns. Never drops a span."""

    Config: ClassVar[type[BaseModel]]
    signals: ClassVar[frozenset[Signal]] = frozenset({Signal.TRACES})
    stage: ClassVar[Stage] = Stage.CALLS
    adds: ClassVar[tuple[Column, ...]] = ()

    def __init__(self, config: ConfigT, context: Context) -> None:
        self.config = config
        self.context = context

    def load(self, state: StateReader) -> None:
        """Rebuild memory from what `save` wrote. Called once, before the first batch."""

    @abstractmethod
    def process(self, batch: SpanBatch) -> SpanBatch:
        """Give back the batch with columns added. Raising sends the guilty request to the dead-letter store."""

    def process_requests(self, batch: RequestBatch) -> RequestBatch:
        """As `process`, in a pipeline of logs or metrics. Needed where `signals` names one of them."""
        raise NotImplementedError

    def save(self, state: StateWriter) -> None:
        """Write what the batch changed, inside the transaction that moves the inbox position. May run again for the same
        batch, in another transaction, when this one could not be committed."""

    def committed(self) -> None:
        """What `save` wrote is durable: what others may read of this processor can move on. Must not raise. Not called
        where the process ends right after the commit: `load` or the next `process` comes then."""

    def rollback(self) -> None:
        """Forget what the last `process` did. A processor without state has nothing to do."""

    @property
    def lacks_history(self) -> bool:
        """For a processor that counts: whether there were calls before it that it would have counted."""
        return False

    def recall(self, history: History) -> None:
        """Take over what it lacks: what it would have counted by now. Between two batches, when all that is committed is
        delivered to that store. `save` and `committed` follow, or `rollback`."""

    def called(self, dimension: str, value: str) -> str:  # noqa: ARG002
        """What a value of a dimension is called behind this processor: it may have put a pseudonym in its place. From any
        thread."""
        return value

    @property
    def listener(self) -> Listener | None:
        """For a processor that counts together with other collectors' (`batch.shares`): who is told what these count."""
        return None

    @property
    def verdicts(self) -> Verdicts | None:
        """For a processor that knows who may still spend: what the verdict port asks. From any thread."""
        return None

    @classmethod
    def stored_verdicts(cls, config: ConfigT, snapshot: Snapshot) -> Verdicts | None:  # noqa: ARG003
        """As `verdicts`, for another process: answers from what this processor has committed to the store."""
        return None

    def close(self) -> None:
        """Free what was opened."""


class Exporter(ABC, Generic[ConfigT]):
    """Turns a batch into payloads (in the pipeline, before the commit) and delivers them (from its outbox, after)."""

    Config: ClassVar[type[BaseModel]]
    signals: ClassVar[frozenset[Signal]] = frozenset({Signal.TRACES})
    #: Whether what it takes is there for good: what two pipelines gave it would be there twice.
    keeps: ClassVar[bool] = True
    #: How many payloads `choose` is shown.
    sees: int = 1

    def __init__(self, config: ConfigT, context: Context) -> None:
        self.config = config
        self.context = context

    @abstractmethod
    def encode(self, batch: SpanBatch) -> Iterable[Payload]:
        """What to deliver of this batch. Pure: the same batch gives the same payloads. Must not wait for the network."""

    def encode_requests(self, batch: RequestBatch) -> Iterable[Payload]:
        """As `encode`, in a pipeline of logs or metrics. Needed where `signals` names one of them."""
        raise NotImplementedError

    def start(self) -> None:
        """Connect, create tables. Called on the sending thread before the first `send`; retried while it raises
        `Retryable`."""

    def choose(self, waiting: Sequence[Payload]) -> tuple[Sequence[int], float]:  # noqa: ARG002
        """Which of the oldest payloads that wait make the next delivery, and for how many seconds to wait where none does.

        The oldest one, unless the exporter holds payloads back, as a digest does. What is held stays in the queue on disk.
        """
        return (0,), 0.0

    def join(self, payloads: Sequence[Payload]) -> Payload:
        """Several payloads that were chosen as one. They are delivered, or buried, all or none."""
        raise NotImplementedError

    @abstractmethod
    def send(self, payload: Payload) -> None:
        """Deliver one payload; payloads come in order. Returning means durable over there.

        May be called again with the same payload after a crash: deliver so that twice is once, where the other side allows.
        Raises `Retryable` (called again, with backoff), `Permanent` (payload goes to the dead-letter store), or
        `PartlyRefused` (delivered but for some items: a copy goes there). Any other exception counts as `Retryable`.
        """

    def sql_app(self) -> Callable[..., Any] | None:
        """For a store inside this process: the ASGI application that answers read-only SQL, served by the admin port."""
        return None

    def history(self) -> History | None:
        """For a store of calls: what it knows of those that were delivered. From the pipeline's thread."""
        return None

    def shares(self) -> Shares | None:
        """For a store that several collectors may write to: the shares that they wrote. For a thread of its own."""
        return None

    def __str__(self) -> str:
        """Where it delivers to, for people; never with a secret."""
        return type(self).__name__

    def close(self) -> None:
        """Free what was opened. No `send` is running any more."""
