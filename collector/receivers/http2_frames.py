"""The vocabulary of HTTP/2 (RFC 9113): frames, flags, errors, and what is known of a stream."""

from __future__ import annotations

import struct
from collections import deque
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME = struct.Struct(">HBBBL")  # length (upper 16 bits, lower 8), type, flags, stream
SETTING = struct.Struct(">HL")
WORD = struct.Struct(">L")

MAX_WINDOW = 2**31 - 1
#: What a peer may send on one stream before it is told to go on.
STREAM_WINDOW = 2**20


class Type(IntEnum):
    """Frame types."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Flag(IntEnum):
    """Frame flags."""

    END_STREAM = 0x1
    ACK = 0x1
    END_HEADERS = 0x4
    PADDED = 0x8
    PRIORITY = 0x20


class Error(IntEnum):
    """Error codes of RST_STREAM and GOAWAY."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class Http2Error(Exception):
    """The connection cannot go on."""

    def __init__(self, code: Error, message: str) -> None:
        super().__init__(message)
        self.code = code


class Stream:
    """One stream that the peer has opened."""

    __slots__ = ("deadline", "ended", "id", "pending", "receive_window", "send_window")

    def __init__(self, id_: int, send_window: int, deadline: float) -> None:
        self.id = id_
        self.send_window = send_window
        self.receive_window = STREAM_WINDOW
        #: Whether the peer has said all.
        self.ended = False
        #: When the peer must have said all, or read all; on the monotonic clock.
        self.deadline = deadline
        #: DATA (payload) and last HEADERS that the peer's window holds back.
        self.pending: deque[tuple[Type, bytes, bool]] = deque()


def unpad(payload: bytes) -> bytes:
    """A padded frame's payload. Raises `Http2Error`."""
    if not payload or payload[0] >= len(payload):
        raise Http2Error(Error.PROTOCOL_ERROR, "more padding than payload")
    return payload[1 : len(payload) - payload[0]]
