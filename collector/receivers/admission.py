"""How much may be in flight: requests and bytes over both protocols, and what gives way when it is too much.

A request counts with the bytes that have really come, not with those that it announces: to announce costs nothing. When
there is no more room for bytes, the largest request that is still being received gives way; when there are too many
requests, the oldest of those. An ordinary request comes whole within moments, so it is answered whatever others hold back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from collector.errors import Overloaded, Refused
from collector.receivers.config import LimitsConfig

RETRY_SECONDS = 1.0


class Held:
    """The room that one request takes, from its first byte to its answer. Leave with `release`, once or more often."""

    __slots__ = ("_admission", "abandoned", "give_way", "size")

    def __init__(self, admission: Admission, give_way: Callable[[Refused], None]) -> None:
        self._admission = admission
        self.size = 0
        #: Whether its sender is gone.
        self.abandoned = False
        #: Called to refuse the request while it is still being received; None when it is complete.
        self.give_way: Callable[[Refused], None] | None = give_way

    def grow(self, size: int) -> None:
        """`size` more bytes came. On the loop's thread. Raises `Overloaded`, or makes another request give way."""
        self._admission._grow(self, size)

    def become(self, size: int) -> None:
        """It is complete, and now `size` bytes (inflated, converted). From any thread. Raises `Overloaded`."""
        self._admission._become(self, size)

    def release(self) -> None:
        """It is answered, or gone. From any thread."""
        self._admission._release(self)


class Admission:
    """The room of one receiver."""

    def __init__(self, limits: LimitsConfig) -> None:
        self._max_bytes, self._max_requests = limits.max_in_flight_size, limits.max_in_flight_requests
        self._held: dict[Held, None] = {}  # oldest first
        self._lock = threading.Lock()
        self.bytes = 0

    @property
    def requests(self) -> int:
        """Requests in flight."""
        return len(self._held)

    def enter(self, give_way: Callable[[Refused], None]) -> Held:
        """Room for a request whose first byte came. On the loop's thread. Raises `Overloaded`."""
        refusal = Overloaded("too many requests are in flight", RETRY_SECONDS)
        if len(self._held) >= self._max_requests:
            with self._lock:
                oldest = next((h for h in self._held if h.give_way is not None), None)
            if oldest is None or oldest.give_way is None:
                raise refusal
            oldest.give_way(refusal)
            oldest.release()
        held = Held(self, give_way)
        with self._lock:
            self._held[held] = None
        return held

    def _grow(self, held: Held, size: int) -> None:
        with self._lock:
            held.size += size
            self.bytes += size
            if self.bytes <= self._max_bytes:
                return
            receiving = [h for h in self._held if h.give_way is not None]
        largest = max(receiving, key=lambda h: h.size, default=held)
        refusal = Overloaded("too many bytes are in flight", RETRY_SECONDS)
        if largest is held or largest.give_way is None:
            raise refusal
        largest.give_way(refusal)
        largest.release()

    def _become(self, held: Held, size: int) -> None:
        with self._lock:
            held.give_way = None
            if held not in self._held:
                return
            more = size - held.size
            if more > 0 and self.bytes + more > self._max_bytes:
                raise Overloaded("too many bytes are in flight", RETRY_SECONDS)
            held.size = size
            self.bytes += more

    def _release(self, held: Held) -> None:
        with self._lock:
            if held in self._held:
                del self._held[held]
                self.bytes -= held.size
