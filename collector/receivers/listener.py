"""A listening port on the event loop: accepts, does TLS, bounds the connections, and cuts those whose time is up.

No timer is made for a connection or request: each has a `deadline`, and one look at all of them a few times a second
finds those that are over.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import time
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import cast

from collector.errors import SpanledgerError
from collector.receivers.telemetry import Tally
from collector.receivers.tls import Tls
from config.types import parse_endpoint

logger = logging.getLogger(__name__)

#: Seconds between two looks at the deadlines.
TICK_SECONDS = 0.25
NEVER = float("inf")
_BACKLOG = 1024
_ACCEPTS_AT_ONCE = 64
_HANDSHAKES = 128
_HANDSHAKE_SECONDS = 10.0
_FULL_SECONDS = 0.05
#: What Linux answers to accept for a connection that is already gone again.
_GONE = (errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH)


class Connection(asyncio.Protocol):
    """One connection. Everything runs on the event loop's thread."""

    transport: asyncio.Transport
    #: When it is over, on the monotonic clock.
    deadline: float = NEVER

    def __init__(self, listener: Listener) -> None:
        self.listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.listener.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        self.listener.connections.discard(self)

    @abstractmethod
    def expire(self) -> None:
        """The deadline has passed."""

    @abstractmethod
    def finish(self) -> None:
        """Close as soon as what was taken is answered; take nothing new."""

    @abstractmethod
    def waits_since(self) -> float | None:
        """Since when it waits for its peer; None while the collector is at work for it."""

    def evict(self) -> None:
        """Make room for another connection."""
        self.transport.abort()


class Listener:
    """A port. `factory` makes a connection's protocol."""

    def __init__(
        self, endpoint: str, option: str, factory: Callable[[Listener], Connection], tally: Tally, max_connections: int,
        tls: Tls | None,
    ) -> None:  # fmt: skip
        self.endpoint, self._option = endpoint, option
        self._factory, self._tally, self._max, self._tls = factory, tally, max_connections, tls
        self._sockets: list[socket.socket] = []
        self._handshakes: dict[asyncio.Task[None], None] = {}  # oldest first
        self.connections: set[Connection] = set()
        tally.connections = lambda: len(self.connections)

    def bind(self) -> None:
        """Take the port. Raises `SpanledgerError` that names the option."""
        host, port = parse_endpoint(self.endpoint)
        try:
            found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except OSError as error:
            raise SpanledgerError(f"{self._option}: cannot resolve {host!r}: {error.strerror}") from None
        for family, _, _, _, wanted in dict.fromkeys(found):
            try:
                listening = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            except OSError:  # no IPv6 on this machine
                continue
            self._sockets.append(listening)
            try:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                # With port 0 the second address family gets the port that the first one was given.
                listening.bind((wanted[0], self.port if len(self._sockets) > 1 else port, *wanted[2:]))
                listening.listen(_BACKLOG)
                listening.setblocking(False)
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL and len(found) > 1:  # `localhost` is ::1 too, IPv6 may be off
                    self._sockets.pop().close()
                    continue
                self.release()
                hint = (
                    "; is another collector running? Port 0 takes a free one" if error.errno == errno.EADDRINUSE else ""
                )
                raise SpanledgerError(
                    f"{self._option}: cannot listen on {self.endpoint}: {(error.strerror or str(error)).lower()}{hint}"
                ) from None
        if not self._sockets:
            raise SpanledgerError(f"{self._option}: cannot listen on {self.endpoint}: no such address here")

    @property
    def port(self) -> int:
        """The real port."""
        return int(self._sockets[0].getsockname()[1])

    @property
    def address(self) -> str:
        """host:port as a sender on this machine would write it."""
        host = parse_endpoint(self.endpoint)[0] or "0.0.0.0"  # noqa: S104
        return f"{f'[{host}]' if ':' in host else host}:{self.port}"

    def listen(self) -> None:
        """Accept connections, on the running event loop."""
        loop = asyncio.get_running_loop()
        for listening in self._sockets:
            loop.add_reader(listening, self._accept, loop, listening)

    def release(self) -> None:
        """Close the port. Connections stay."""
        for listening in self._sockets:
            try:
                asyncio.get_running_loop().remove_reader(listening)
            except RuntimeError:  # not listening yet: there is no loop
                pass
            listening.close()

    def tick(self, now: float) -> None:
        """Cut what is over its time."""
        for connection in [c for c in self.connections if c.deadline <= now]:
            connection.deadline = NEVER
            try:
                connection.expire()
            except Exception:  # the others' deadlines count too
                logger.exception("%s: a connection could not be ended in order", self._option)
                connection.transport.abort()

    def _accept(self, loop: asyncio.AbstractEventLoop, listening: socket.socket) -> None:
        for _ in range(_ACCEPTS_AT_ONCE):
            make_room = self._room()
            if make_room is None:  # all are at work: who comes waits in the kernel's queue
                self._pause(loop, listening, _FULL_SECONDS)
                return
            try:
                accepted, _ = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _GONE:
                    continue
                # No file descriptors or memory left: try again when some may have been freed.
                logger.warning("%s: cannot accept connections: %s", self._option, error.strerror)
                self._pause(loop, listening, 1.0)
                return
            make_room()
            accepted.setblocking(False)
            task = loop.create_task(self._begin(loop, accepted))
            self._handshakes[task] = None
            task.add_done_callback(self._handshakes.pop)

    def _pause(self, loop: asyncio.AbstractEventLoop, listening: socket.socket, seconds: float) -> None:
        loop.remove_reader(listening)
        loop.call_later(seconds, self._resume, loop, listening)

    def _resume(self, loop: asyncio.AbstractEventLoop, listening: socket.socket) -> None:
        if listening.fileno() >= 0:
            loop.add_reader(listening, self._accept, loop, listening)

    def _room(self) -> Callable[[], None] | None:
        """What makes room for one more connection; None where nothing does."""
        if len(self._handshakes) >= min(_HANDSHAKES, self._max):
            return partial(self._evict, next(iter(self._handshakes)).cancel)
        if len(self.connections) + len(self._handshakes) < self._max:
            return _nothing
        open_ = [connection for connection in self.connections if not connection.transport.is_closing()]
        if len(open_) + len(self._handshakes) < self._max:
            return _nothing
        waiting = [(since, number) for number, c in enumerate(open_) if (since := c.waits_since()) is not None]
        return partial(self._evict, open_[min(waiting)[1]].evict) if waiting else None

    def _evict(self, end: Callable[[], object]) -> None:
        self._tally.evicted_connections += 1
        end()

    async def _begin(self, loop: asyncio.AbstractEventLoop, accepted: socket.socket) -> None:
        try:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is None:
                await loop.connect_accepted_socket(lambda: self._factory(self), accepted)
            else:
                await loop.connect_accepted_socket(
                    lambda: self._factory(self), accepted, ssl=self._tls.context,
                    ssl_handshake_timeout=_HANDSHAKE_SECONDS, ssl_shutdown_timeout=2.0,
                )  # fmt: skip
        except OSError as error:  # TLS garbage, no certificate, gone
            logger.debug("%s: a connection came to nothing: %s", self._option, error)
            accepted.close()

    async def close(self, grace_seconds: float) -> None:
        """Close the port, let what was taken be answered, then cut what is left."""
        self.release()
        for task in list(self._handshakes):
            task.cancel()
        until = time.monotonic() + grace_seconds
        for connection in list(self.connections):
            connection.finish()
        while self.connections and time.monotonic() < until:
            await asyncio.sleep(0.02)
        for connection in list(self.connections):
            connection.transport.abort()
        await asyncio.sleep(0)


def _nothing() -> None:
    """There is room already."""
