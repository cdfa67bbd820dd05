"""What the collector says about itself: metrics, named as the OpenTelemetry Collector's, and its log.

Metrics are kept in a registry of the service's own and served at the admin port. Sizes are read when they are asked for.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
import traceback
from importlib.metadata import version
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from collector.store import DeadLetters, Outbox
from config.model import LogsConfig

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def new_registry() -> CollectorRegistry:
    """A registry that already tells the process's CPU, memory and start, and the version."""
    registry = CollectorRegistry()
    ProcessCollector(namespace="spanledger", registry=registry)
    build = Gauge("spanledger_build", "The version that runs; always 1.", ["version"], registry=registry)
    build.labels(version("spanledger")).set(1)
    return registry


class Backlog(Protocol):
    """A pipeline, as far as metrics tell of it."""

    @property
    def id(self) -> str: ...

    @property
    def waiting(self) -> tuple[int, int]:
        """Items and bytes."""

    @property
    def lag(self) -> float:
        """Seconds that the oldest has waited."""


class Attempts(Protocol):
    """An exporter's deliveries, as far as metrics tell of them."""

    @property
    def lag(self) -> float:
        """Seconds that the oldest has waited."""

    @property
    def attempts(self) -> int: ...

    @property
    def wait(self) -> float | None:
        """Seconds until the next attempt."""


class PipelineMetrics:
    """Of all pipelines; the label is the pipeline's id."""

    def __init__(self, registry: CollectorRegistry) -> None:
        label = ["pipeline"]
        self._requests = Counter("spanledger_pipeline_requests", "Requests processed and committed.", label, registry=registry)  # fmt: skip
        self._processed = Counter("spanledger_pipeline_items", "Spans, log records or data points processed and committed.", label, registry=registry)  # fmt: skip
        self._calls = Counter("spanledger_pipeline_call_versions", "Calls that became new or better.", label, registry=registry)  # fmt: skip
        self._batches = Histogram("spanledger_pipeline_batch_items", "Spans, log records or data points per batch.", label, registry=registry, buckets=(1, 10, 100, 1000, 5000, 10_000, 20_000, 50_000, 100_000))  # fmt: skip
        self._process = Histogram("spanledger_pipeline_process_seconds", "Time to process a batch.", label, registry=registry, buckets=SECONDS)  # fmt: skip
        self._commit = Histogram("spanledger_pipeline_commit_seconds", "Time to make a batch durable.", label, registry=registry, buckets=SECONDS)  # fmt: skip
        self.dead_letters = Counter("spanledger_pipeline_dead_letters", "Requests that could not be processed.", label, registry=registry)  # fmt: skip
        self._items = Gauge(
            "spanledger_pipeline_queue_items", "Items that wait in the inbox.", label, registry=registry
        )
        self._waiting = Gauge("spanledger_pipeline_queue_bytes", "Bytes that wait in the inbox.", label, registry=registry)  # fmt: skip
        self._lag = Gauge("spanledger_pipeline_queue_oldest_seconds", "How long the oldest request has waited in the inbox.", label, registry=registry)  # fmt: skip

    def watch(self, pipeline: Backlog) -> None:
        """Tell a pipeline's backlog whenever somebody asks."""
        self._items.labels(pipeline.id).set_function(lambda: pipeline.waiting[0])
        self._waiting.labels(pipeline.id).set_function(lambda: pipeline.waiting[1])
        self._lag.labels(pipeline.id).set_function(lambda: pipeline.lag)
        self.dead_letters.labels(pipeline.id)

    def done(self, pipeline: str, requests: int, items: int, calls: int, process_s: float, commit_s: float) -> None:
        """Count one committed batch."""
        self._requests.labels(pipeline).inc(requests)
        self._processed.labels(pipeline).inc(items)
        self._calls.labels(pipeline).inc(calls)
        self._batches.labels(pipeline).observe(items)
        self._process.labels(pipeline).observe(process_s)
        self._commit.labels(pipeline).observe(commit_s)


class ExporterMetrics:
    """Of all exporters; the label is `pipeline/exporter`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        label = ["exporter"]
        self.sent = Counter("spanledger_exporter_sent_items", "Rows and spans delivered.", label, registry=registry)
        self.failed_attempts = Counter("spanledger_exporter_failed_attempts", "Deliveries that failed and are tried again.", label, registry=registry)  # fmt: skip
        self.rejected = Counter("spanledger_exporter_rejected_items", "Items refused in deliveries that were taken otherwise.", label, registry=registry)  # fmt: skip
        self.dead_letters = Counter("spanledger_exporter_dead_letters", "Deliveries kept as dead letters: they can never succeed, or did in part.", label, registry=registry)  # fmt: skip
        self._size = Gauge("spanledger_exporter_queue_size", "Bytes that wait for the exporter.", label, registry=registry)  # fmt: skip
        self._count = Gauge("spanledger_exporter_queue_batches", "Deliveries that wait for the exporter.", label, registry=registry)  # fmt: skip
        self._capacity = Gauge("spanledger_exporter_queue_capacity", "Bytes that may wait for the exporter.", label, registry=registry)  # fmt: skip
        self._lag = Gauge("spanledger_exporter_queue_oldest_seconds", "How long the oldest delivery has waited.", label, registry=registry)  # fmt: skip
        self._attempts = Gauge("spanledger_exporter_attempts", "Failed attempts at the delivery that is next.", label, registry=registry)  # fmt: skip
        self._next = Gauge("spanledger_exporter_next_attempt_seconds", "Time until the next attempt; 0: none is waited for.", label, registry=registry)  # fmt: skip

    def watch(self, name: str, outbox: Outbox, max_bytes: int, delivery: Attempts) -> None:
        """Tell an exporter's backlog, and how its attempts go, whenever somebody asks."""
        self._size.labels(name).set_function(lambda: outbox.bytes)
        self._count.labels(name).set_function(lambda: outbox.count)
        self._capacity.labels(name).set(max_bytes)
        self._lag.labels(name).set_function(lambda: delivery.lag)
        self._attempts.labels(name).set_function(lambda: delivery.attempts)
        self._next.labels(name).set_function(lambda: delivery.wait or 0.0)
        for counter in (self.sent, self.failed_attempts, self.rejected, self.dead_letters):
            counter.labels(name)


def watch_dead_letters(registry: CollectorRegistry, letters: DeadLetters) -> None:
    """Tell what waits for a person's decision whenever somebody asks."""
    for name, text, read in (
        ("spanledger_dead_letters", "Requests and deliveries that wait for a decision.", lambda: letters.count),
        ("spanledger_dead_letters_bytes", "Bytes that they take.", lambda: letters.bytes),
        ("spanledger_dead_letters_capacity_bytes", "Bytes that they may take.", lambda: letters.max_bytes),
    ):
        Gauge(name, text, registry=registry).set_function(read)


class _Discreet(logging.Formatter):
    """Shows where an error was raised and what kind it is. What it says stays out of the log: it may quote a span's value."""

    def formatException(self, ei: Any) -> str:
        shown, error = [], ei[1]
        while error is not None:
            name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
            # An error of the system says which file it is about, and is not about data.
            told = f": {error.strerror} ({error.filename})" if isinstance(error, OSError) and error.filename else ""
            shown.append("".join(traceback.format_tb(error.__traceback__)) + name + told)
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "\nraised by\n".join(shown)


class _JsonLines(_Discreet):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class _Text(_Discreet):
    """For people: time, level where it is not the usual one, message; in colour on a terminal."""

    COLOURS = {logging.WARNING: "\x1b[33m", logging.ERROR: "\x1b[31m", logging.CRITICAL: "\x1b[31m"}

    def __init__(self, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        text = f"{clock} {level}{record.getMessage()}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        colour = self.COLOURS.get(record.levelno, "") if self._colour else ""
        return f"{colour}{text}\x1b[0m" if colour else text


def _thread_ended(what: threading.ExceptHookArgs) -> None:
    if what.exc_value is not None:
        error = (what.exc_type, what.exc_value, what.exc_traceback)
        name = what.thread.name if what.thread else "?"
        logging.getLogger(__name__).critical("the thread %r ended", name, exc_info=error)


def set_up_logs(config: LogsConfig) -> None:
    """Send the collector's log to standard error, as configured. Other libraries' logs only from warnings up."""
    stream = sys.stderr
    terminal = stream.isatty()
    as_text = config.format == "text" or (config.format == "auto" and terminal)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Text(terminal) if as_text else _JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    threading.excepthook = _thread_ended
    root.setLevel(logging.WARNING)
    for name in ("spanledger", "collector", "processors", "exporters", "config"):
        logging.getLogger(name).setLevel(config.level.upper())
