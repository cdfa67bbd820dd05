"""What a receiver tells of itself. Counted in plain numbers on the event loop's thread, turned into metrics when asked."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from collector.once import once
from collector.receivers.status import Status
from collector.signals import Signal

logger = logging.getLogger(__name__)

QUIET_SECONDS = 30.0


@dataclass(slots=True)
class Tally:
    """The numbers of one receiver over one transport."""

    receiver: str
    transport: str  # grpc or http
    accepted: Counter[Signal] = field(default_factory=Counter)  # items, by signal
    refused: Counter[Signal] = field(default_factory=Counter)
    rejected_spans: int = 0
    repaired_strings: int = 0
    received_bytes: int = 0
    requests: Counter[str] = field(default_factory=Counter)  # by code
    connections: Callable[[], float] = lambda: 0.0
    _quiet: dict[str, float] = field(default_factory=dict)  # by code: until when nothing is said about it
    evicted_connections: int = 0

    def say(self, code: str, status: Status) -> None:
        """Log that a request was refused: now and then, or whoever sends rubbish would fill the disk with it."""
        now = time.monotonic()
        if status.retry_after is None and now >= self._quiet.get(code, 0.0):
            self._quiet[code] = now + QUIET_SECONDS
            logger.warning(
                "receivers.%s refused a request over %s with %s: %s (further ones are only counted for %d s)",
                self.receiver, self.transport, code, status.message, QUIET_SECONDS,
            )  # fmt: skip


@dataclass(slots=True)
class Room:
    """What one receiver has in flight, over all transports."""

    receiver: str
    requests: Callable[[], float]
    bytes: Callable[[], float]


#: What a signal's items are called in metrics' names, as the OpenTelemetry Collector calls them, and in sentences.
_ITEMS = {
    Signal.TRACES: ("spans", "Spans"),
    Signal.LOGS: ("log_records", "Log records"),
    Signal.METRICS: ("metric_points", "Data points"),
}
_OUTCOMES = (
    ("accepted", "that are durable and were answered OK."),
    ("refused", "that could not be kept: no room, or the disk failed. Their senders were told to come back."),
)
_COUNTERS = (
    ("rejected_spans", "Spans left out because their ids are not valid. Their senders were told so by partial success."),
    ("repaired_strings", "Strings that were not UTF-8: the bytes that are none became U+FFFD."),
    ("received_bytes", "Bytes of requests as they came, before inflating."),
    ("evicted_connections", "Connections closed to make room for others: all were taken, and they waited the longest."),
)  # fmt: skip


class ReceiverMetrics(Collector):
    """All receivers of one registry."""

    def __init__(self) -> None:
        self.tallies: list[Tally] = []
        self.rooms: list[Room] = []

    @classmethod
    def of(cls, registry: CollectorRegistry) -> ReceiverMetrics:
        """The one that is registered there, made at the first time: receivers share their metrics' names."""
        return once(registry, cls._registered)

    @classmethod
    def _registered(cls, registry: CollectorRegistry) -> ReceiverMetrics:
        metrics = cls()
        registry.register(metrics)
        return metrics

    def tally(self, receiver: str, transport: str) -> Tally:
        """Numbers to count in, of one receiver over one transport."""
        self.tallies.append(Tally(receiver, transport))
        return self.tallies[-1]

    def collect(self) -> Iterator[Metric]:
        labels = ["receiver", "transport"]
        for outcome, meaning in _OUTCOMES:
            for signal, (noun, title) in _ITEMS.items():
                counter = CounterMetricFamily(
                    f"spanledger_receiver_{outcome}_{noun}", f"{title} {meaning}", labels=labels
                )
                for tally in self.tallies:
                    counter.add_metric([tally.receiver, tally.transport], getattr(tally, outcome)[signal])
                yield counter
        for name, meaning in _COUNTERS:
            counter = CounterMetricFamily(f"spanledger_receiver_{name}", meaning, labels=labels)
            for tally in self.tallies:
                counter.add_metric([tally.receiver, tally.transport], getattr(tally, name))
            yield counter
        requests = CounterMetricFamily(
            "spanledger_receiver_requests", "Requests answered, by gRPC or HTTP code.", labels=[*labels, "code"]
        )
        connections = GaugeMetricFamily("spanledger_receiver_connections", "Open connections.", labels=labels)
        for tally in self.tallies:
            for code, count in sorted(tally.requests.items()):
                requests.add_metric([tally.receiver, tally.transport, code], count)
            connections.add_metric([tally.receiver, tally.transport], tally.connections())
        yield requests
        yield connections
        in_flight = GaugeMetricFamily(
            "spanledger_receiver_in_flight_requests", "Requests not answered yet.", labels=["receiver"]
        )
        size = GaugeMetricFamily(
            "spanledger_receiver_in_flight_bytes", "Bytes of requests not answered yet.", labels=["receiver"]
        )
        for room in self.rooms:
            in_flight.add_metric([room.receiver], room.requests())
            size.add_metric([room.receiver], room.bytes())
        yield in_flight
        yield size
