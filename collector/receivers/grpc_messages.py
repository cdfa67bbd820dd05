"""gRPC's messages within a stream: a flag, a length, and so many octets."""

from __future__ import annotations

from collector.errors import Malformed, TooLarge
from collector.receivers.body import Body
from config.types import show_size

_PREFIX = 5


class Messages:
    """The gRPC messages of one call, put together from what comes."""

    __slots__ = ("_body", "_left", "_max", "_prefix", "compressed")

    def __init__(self, max_size: int) -> None:
        self._max = max_size
        self._prefix = b""
        self._left: int | None = None  # octets of the message that are still to come; None before its prefix is there
        self._body = Body()
        self.compressed = False

    def feed(self, data: bytes | memoryview) -> list[bytes]:
        """The messages that are complete with `data`. Raises `Refused`."""
        found: list[bytes] = []
        position = 0
        while True:
            if self._left is None:
                missing = _PREFIX - len(self._prefix)
                self._prefix += data[position : position + missing]
                position += missing
                if len(self._prefix) < _PREFIX:
                    return found
                flag, self._left = self._prefix[0], int.from_bytes(self._prefix[1:], "big")
                self._prefix = b""
                if flag > 1:
                    raise Malformed("not a gRPC message")
                if self._left > self._max:
                    raise TooLarge(f"the message is larger than {show_size(self._max)}")
                self.compressed = bool(flag)
            piece = data[position : position + self._left]
            position += len(piece)
            self._left -= len(piece)
            self._body.add(piece)
            if self._left:
                return found
            self._left = None
            found.append(self._body.take())

    @property
    def unfinished(self) -> bool:
        """Whether a message is cut short where it stands."""
        return self._left is not None or bool(self._prefix)


def framed(message: bytes) -> bytes:
    """One message, not compressed."""
    return b"\0" + len(message).to_bytes(4, "big") + message
