"""Bytes of a body as they come, kept without a copy where they come in large pieces."""

from __future__ import annotations

_LARGE = 4096


class Body:
    """A body that is being received. Small pieces are put together, so that many tiny ones cost no more than their bytes."""

    __slots__ = ("_parts", "_tail", "size")

    def __init__(self) -> None:
        self._parts: list[bytes | memoryview] = []
        self._tail = bytearray()
        self.size = 0

    def add(self, piece: bytes | memoryview) -> None:
        """Some more bytes."""
        self.size += len(piece)
        if len(piece) < _LARGE:
            self._tail += piece
            return
        if self._tail:
            self._parts.append(bytes(self._tail))
            self._tail.clear()
        self._parts.append(piece)

    def take(self) -> bytes:
        """All of it; nothing is left behind."""
        if self._tail:
            self._parts.append(bytes(self._tail))
        whole = bytes(self._parts[0]) if len(self._parts) == 1 else b"".join(self._parts)
        self._parts, self._tail, self.size = [], bytearray(), 0
        return whole
