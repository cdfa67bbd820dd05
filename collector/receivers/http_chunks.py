"""The chunked transfer encoding, read strictly: what is not exactly a chunk ends the connection."""

from __future__ import annotations

import re

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?")
_MAX_LINE = 1024
_MAX_TRAILERS = 8192


class BadChunk(Exception):
    """The body is not chunked as it says."""


class Chunks:
    """Reads one chunked body. `feed` it until `rest` is not None."""

    def __init__(self) -> None:
        #: What came behind the end of the body; None while it has not ended.
        self.rest: bytes | None = None
        self._waiting = b""
        self._left = 0  # bytes of the chunk that are still to come, its line end included
        self._trailers: int | None = None  # bytes of trailers so far; None before the last chunk

    def feed(self, data: bytes) -> list[bytes]:
        """The pieces of the body in `data`. Raises `BadChunk`."""
        found: list[bytes] = []
        data = self._waiting + data if self._waiting else data
        position = 0
        while True:
            if self._left > 2:
                piece = data[position : position + self._left - 2]
                if piece:
                    found.append(piece)
                position += len(piece)
                self._left -= len(piece)
            if self._left > 2 or (self._left and len(data) - position < self._left):
                break
            if self._left:
                if data[position : position + 2] != b"\r\n":
                    raise BadChunk("a chunk is longer than it says")
                position, self._left = position + 2, 0
            end = data.find(b"\r\n", position)
            if end < 0:
                if len(data) - position > _MAX_LINE:
                    raise BadChunk("a chunk's size line is too long")
                break
            line = data[position:end]
            position = end + 2
            if self._trailers is not None:
                self._trailers += len(line) + 2
                if not line:
                    self.rest = data[position:]
                    return found
                if self._trailers > _MAX_TRAILERS:
                    raise BadChunk("the trailers are too long")
                continue
            match = _SIZE.fullmatch(line)
            if match is None or len(line) > _MAX_LINE:
                raise BadChunk("not a chunk size")
            size = int(match[1], 16)
            if size:
                self._left = size + 2
            else:
                self._trailers = 0
        self._waiting = data[position:]
        return found
