"""Compressed bodies, inflated piece by piece with a bound on what comes out.

gzip (all members), deflate (zlib's format, and the raw one that some clients send under that name) and zstd. A bomb
costs no more memory than the bound: inflating stops one piece after it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import zstandard

from collector.errors import Malformed, TooLarge, UnsupportedMedia
from config.types import show_size

#: Content-Encoding and grpc-encoding values that are understood, besides none at all.
ENCODINGS = ("gzip", "deflate", "zstd")
IDENTITY = ("", "identity")
_PIECE = 2**18
_INPUT = 2**16
#: gzip members, or zstd frames and blocks, in one body: each costs time of its own.
_MAX_PARTS = 20_000
_ZSTD_SKIPPABLE = 0x184D2A50
_ZSTD_RUN = 1  # the kind of block that is one byte, repeated
#: The largest window that a zstd frame may ask for: what the format's RFC says every decoder should accept.
_ZSTD_WINDOW = 2**23


def known(encoding: str) -> bool:
    """Whether bodies of this encoding (lower case) can be read."""
    return encoding in ENCODINGS or encoding in IDENTITY or encoding == "x-gzip"


def inflate(encoding: str, body: bytes, limit: int) -> bytes:
    """The body as it was before compressing, at most `limit` bytes.

    Raises `TooLarge` above the limit, `Malformed` for garbage, a truncated stream or bytes behind its end, and
    `UnsupportedMedia` for an encoding that is not understood.
    """
    if not body and known(encoding):
        return b""  # clients that compress leave an empty body as it is
    if encoding in IDENTITY:
        pieces: Iterator[bytes] = iter((body,))
    elif encoding in ("gzip", "x-gzip"):
        pieces = _members(body, zlib.MAX_WBITS | 16)
    elif encoding == "deflate":
        pieces = _members(body, zlib.MAX_WBITS if _looks_like_zlib(body) else -zlib.MAX_WBITS, many=False)
    elif encoding == "zstd":
        pieces = _zstd(body)
    else:
        raise UnsupportedMedia(f"unknown compression; understood are {', '.join(ENCODINGS)} and none")
    found: list[bytes] = []
    size = 0
    try:
        for piece in pieces:
            size += len(piece)
            if size > limit:
                raise TooLarge(f"the request is larger than {show_size(limit)} after inflating")
            found.append(piece)
    except (zlib.error, zstandard.ZstdError):
        raise Malformed(f"the body is not valid {encoding}") from None
    return found[0] if len(found) == 1 else b"".join(found)


def _looks_like_zlib(body: bytes) -> bool:
    return len(body) >= 2 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0


def _members(body: bytes, wbits: int, many: bool = True) -> Iterator[bytes]:
    """gzip members, or the one deflate stream, in pieces."""
    view, position = memoryview(body), 0
    for _ in range(_MAX_PARTS):
        stream = zlib.decompressobj(wbits)
        waiting: bytes | memoryview = b""
        while not stream.eof:
            if not waiting:
                # Small pieces: zlib copies what it leaves of one, for each piece that comes out.
                waiting = view[position : position + _INPUT]
                position += len(waiting)
            ended = not waiting
            piece = stream.decompress(waiting, _PIECE)
            waiting = stream.unconsumed_tail
            if piece:
                yield piece
            elif ended and not stream.eof:
                raise Malformed("the compressed body is cut short")
        position -= len(stream.unused_data)
        if position == len(view):
            return
        if not many:
            raise Malformed("there are bytes behind the end of the compressed body")
    raise TooLarge(f"the compressed body has more than {_MAX_PARTS} parts")


def _zstd(body: bytes) -> Iterator[bytes]:
    """zstd frames, one after another, in pieces."""
    for start, end in _frames(memoryview(body)):
        frame = memoryview(body)[start:end]
        window = zstandard.get_frame_parameters(frame).window_size
        if window > _ZSTD_WINDOW:
            raise TooLarge(f"the zstd frame wants a window above {show_size(_ZSTD_WINDOW)}")
        with zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).stream_reader(frame) as reader:
            while piece := reader.read(_PIECE):
                yield piece


def _frames(data: memoryview) -> Iterator[tuple[int, int]]:
    """Where each zstd frame starts and ends, by the lengths that it gives. zstandard itself takes a frame that is
    cut short for a frame that ended."""
    position = parts = 0
    while position < len(data):
        start = position
        magic = int.from_bytes(data[start : start + 4], "little")
        if magic & ~0xF == _ZSTD_SKIPPABLE:
            position = start + 8 + int.from_bytes(data[start + 4 : start + 8], "little")
        else:
            position = start + zstandard.frame_header_size(data[start : start + 18])
            checksum = bool(data[start + 4] & 0x04)
            last = False
            while not last:
                header = int.from_bytes(data[position : position + 3], "little")
                last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
                position += 3 + (1 if kind == _ZSTD_RUN else size)
                parts += 1
                if position > len(data):
                    raise Malformed("the compressed body is cut short")
                if parts > _MAX_PARTS:
                    raise TooLarge(f"the compressed body has more than {_MAX_PARTS} parts")
            position += 4 * checksum
            if position <= len(data):
                yield start, position
        if position > len(data):
            raise Malformed("the compressed body is cut short")
        parts += 1
        if parts > _MAX_PARTS:
            raise TooLarge(f"the compressed body has more than {_MAX_PARTS} parts")
