"""The verdict ports in a process of their own: no answer waits for the collector's interpreter.

The counters need no copy: the child looks them up in the state store, a memory-mapped file of which every reader sees the last
commit. What the store does not tell, whether the counters can be trusted, the collector says over a pipe, over and over.
A child that hears nothing trusts nothing; one whose pipe is closed ends; one that ended is started again on the same ports.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from prometheus_client import CollectorRegistry

from collector.component import Context, Processor, StateReader
from collector.errors import SpanledgerError
from collector.store import StateStore, open_sealer
from collector.verdict import Renamed, Verdicts
from config.model import LoadedConfig, VerdictConfig
from spanledger.verdict.judge import Judge
from spanledger.verdict.ports import Ports
from spanledger.verdict.priority import give_way, go_first

logger = logging.getLogger(__name__)

#: How often the collector says how it is, and for how long that is believed.
BEAT_S, BELIEVED_S = 0.25, 3.0
_START_S, _RESTART_S, _END_S = 60.0, 1.0, 5.0


@dataclass(frozen=True, slots=True)
class Listening:
    """Where the child listens."""

    http: str
    grpc: str | None
    local: bool


class Child:
    """The process, from `start` to `stop`. `trouble` says why the counters cannot be trusted."""

    def __init__(self, loaded: LoadedConfig, config: VerdictConfig, trouble: Callable[[], str | None]) -> None:
        self._loaded, self._config, self._trouble = loaded, config, trouble
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name="verdict", daemon=True)
        self._process: Any = None
        self._pipe: Any = None
        self.listening = Listening("", None, True)

    @property
    def pid(self) -> int | None:
        """Of the process that answers now."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Listen. Raises `SpanledgerError` where the child cannot."""
        self._spawn()
        self._thread.start()

    def goes_first(self) -> None:
        """Have all that this process does give way to the child."""
        give_way(but=self._thread)

    def stop(self) -> None:
        """End the process."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(_END_S)
        self._reap()

    def _spawn(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_main, args=(self._loaded, self._config, theirs), name="spanledger verdict", daemon=True
        )
        self._process.start()
        theirs.close()
        try:
            said = self._pipe.recv() if self._pipe.poll(_START_S) else "it did not start in time"
        except (EOFError, OSError):
            said = "it ended while it started"
        if not isinstance(said, Listening):
            self._reap()
            raise SpanledgerError(said if said.startswith("service.") else f"service.verdict.own_process: {said}")
        # A port that was free for the first one is the port: gateways have been told.
        self._config = self._config.model_copy(update={"endpoint": said.http, "grpc_endpoint": said.grpc})
        self.listening = said

    def _supervise(self) -> None:
        wait = BEAT_S
        while not self._ended.wait(wait):
            wait = BEAT_S
            try:
                self._pipe.send(self._trouble())
            except OSError:
                logger.error("the verdict process ended; it is started again")
                self._reap()
                try:
                    self._spawn()
                except SpanledgerError as error:
                    logger.error("%s", error)
                    wait = _RESTART_S

    def _reap(self) -> None:
        if self._process is None:
            return
        self._pipe.close()
        self._process.join(_END_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


class Heard:
    """What the collector said last."""

    def __init__(self) -> None:
        self._said: str | None = "the collector is starting or stopping"
        self._at = time.monotonic()

    def hear(self, said: str | None) -> None:
        self._said, self._at = said, time.monotonic()

    def trouble(self) -> str | None:
        """Why the counters cannot be trusted."""
        return "the collector says nothing" if time.monotonic() - self._at > BELIEVED_S else self._said


def stored(loaded: LoadedConfig, store: StateStore) -> list[Verdicts]:
    """What is committed of every pipeline's budgets, asked for by the names that they have before redaction."""
    found: list[Verdicts] = []
    for id_, pipeline in loaded.pipelines("traces").items():
        specs = [loaded.processors[name] for name in pipeline.processors]
        renaming: list[Processor[Any]] = [
            spec.cls(spec.config, Context(spec.id, loaded.service.data_dir, CollectorRegistry(), sources=loaded.sources))
            for spec in specs if spec.cls.called is not Processor.called
        ]  # fmt: skip
        for spec in specs:
            verdicts = spec.cls.stored_verdicts(spec.config, partial(_snapshot, store, f"{id_}/{spec.id}"))
            if verdicts is not None:
                found.append(Renamed(verdicts, partial(_called, renaming)))
    return found


@contextlib.contextmanager
def _snapshot(store: StateStore, namespace: str) -> Iterator[StateReader]:
    with store.reader() as reader:
        yield reader.component(namespace)


def _called(processors: list[Processor[Any]], dimension: str, value: str) -> str:
    for processor in processors:
        value = processor.called(dimension, value)
    return value


def _main(loaded: LoadedConfig, config: VerdictConfig, pipe: Connection) -> None:
    """The child's whole life: says where it listens, or why it cannot; ends with the pipe."""
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group; the collector decides when it is over
        signal.signal(number, signal.SIG_IGN)
    go_first()
    settings, heard = loaded.service, Heard()
    try:
        sealer = open_sealer(settings.encryption, settings.data_dir)
        store = StateStore(settings.data_dir / "state", sealer, read_only=True)
        ports = Ports(config, Judge(config, stored(loaded, store), heard.trouble))
        ports.start()
    except SpanledgerError as error:
        pipe.send(str(error))
        return
    gc.collect()
    gc.freeze()  # what is there by now stays: the collector of garbage need not look at it while a gateway waits
    pipe.send(Listening(ports.http.endpoint, ports.grpc.endpoint if ports.grpc else None, ports.http.local))
    with contextlib.suppress(EOFError, OSError):
        while True:
            heard.hear(pipe.recv())
    ports.stop()
    store.close()
