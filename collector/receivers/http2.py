"""HTTP/2 (RFC 9113) as far as a gRPC server needs it, with bounds on everything that a peer may make it keep or do.

Frames come in, streams go up: a subclass is told of `opened`, `received` and `dropped` streams and answers with `send`.
Nothing of a body is kept here; the flow-control windows only set the pace, room in memory is the subclass's business.

Bounds: streams at once, octets of a header block and of the table behind it, frames that do nothing (pings, settings,
resets, empty ones: more than a sender can mean in ten seconds ends the connection), octets not yet written (reading stops
until the peer has read), and the time for each of it.
"""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod

from collector.receivers.hpack import Decoder, Field, HpackError
from collector.receivers.http2_frames import (
    FRAME,
    MAX_WINDOW,
    PREFACE,
    SETTING,
    STREAM_WINDOW,
    WORD,
    Error,
    Flag,
    Http2Error,
    Stream,
    Type,
    unpad,
)
from collector.receivers.listener import Connection, Listener

_MAX_FRAME = 2**18
_MAX_CONTROL = 2**14
_MAX_BLOCK = 2**15
_CONNECTION_WINDOW = 2**22
_DEFAULT_WINDOW = 2**16 - 1
_MAX_IDLE_FRAMES = 10_000
_IDLE_FRAMES_SECONDS = 10.0
_LOOK_SECONDS = 1.0


class Http2Connection(Connection):
    """One connection."""

    def __init__(
        self, listener: Listener, *, max_streams: int, read_timeout: float, idle_timeout: float, max_age: float,
        ping_after: float, ping_timeout: float,
    ) -> None:  # fmt: skip
        super().__init__(listener)
        self._max_streams, self._read_timeout, self._idle_timeout = max_streams, read_timeout, idle_timeout
        self._ping_after, self._ping_timeout = ping_after, ping_timeout
        self.streams: dict[int, Stream] = {}
        self._decoder = Decoder()
        self._buffer = b""
        self._greeted = self._set_up = False
        self._last_stream = 0
        self._leaving = False  # GOAWAY is sent: no new streams
        self._block: tuple[int, int, bytearray] | None = None  # stream, flags and octets of unfinished headers
        self._data: tuple[Stream | None, int, bool] | None = None  # the DATA frame within: stream, octets left, last
        self._send_window = self._initial_window = _DEFAULT_WINDOW
        self._receive_window = _CONNECTION_WINDOW
        self._peer_frame = 2**14
        self._idle_frames, self._idle_since = 0, 0.0
        self._out: list[bytes] = []
        self._flushing = False
        now = time.monotonic()
        self._heard = now
        self._die_at = now + max_age
        self._pinged: float | None = None
        self._blocked: float | None = None

    # ── for the subclass ────────────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def opened(self, stream: Stream, fields: list[Field]) -> None:
        """A request's headers are there; the stream is in `streams`."""

    @abstractmethod
    def received(self, stream: Stream, data: bytes | memoryview) -> None:
        """Some of the body; `stream.ended` says whether it is the last of it (`data` may be empty then)."""

    @abstractmethod
    def dropped(self, stream: Stream) -> None:
        """The peer does not want an answer any more, or the connection is gone."""

    @abstractmethod
    def late(self, stream: Stream) -> None:
        """The stream's deadline has passed."""

    @abstractmethod
    def at_work(self) -> bool:
        """Whether the collector is at work for one of the streams."""

    @abstractmethod
    def not_http2(self, data: bytes) -> bytes:
        """What to tell a peer that speaks something else, before closing."""

    def send(self, stream: Stream, head: bytes = b"", data: bytes = b"", trailers: bytes = b"") -> None:
        """Header block, body, and the last header block, each if not empty. `trailers` end the stream; a peer that has
        not said all by then is told that nobody listens any more."""
        if stream.id not in self.streams:
            return
        if head:
            self._frame(Type.HEADERS, Flag.END_HEADERS, stream.id, head)
        for start in range(0, len(data), self._peer_frame):
            stream.pending.append((Type.DATA, data[start : start + self._peer_frame], False))
        if trailers:
            stream.pending.append((Type.HEADERS, trailers, True))
        self._pump(stream)

    def reset(self, stream: Stream, code: Error) -> None:
        """End a stream without an answer."""
        self._frame(Type.RST_STREAM, 0, stream.id, WORD.pack(code))
        self.streams.pop(stream.id, None)

    # ── what asyncio and the listener call ──────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.deadline = time.monotonic() + _LOOK_SECONDS

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for stream in list(self.streams.values()):
            self.dropped(stream)
        self.streams.clear()
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._heard, self._pinged = time.monotonic(), None
        try:
            self._parse(self._buffer + data if self._buffer else data)
        except Http2Error as error:
            self._go_away(error.code, str(error))
            self._flush()
            self.transport.close()

    def pause_writing(self) -> None:
        self._blocked = time.monotonic()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self._blocked = None
        self.transport.resume_reading()

    def waits_since(self) -> float | None:
        return None if self.at_work() else self._heard

    def finish(self) -> None:
        self._go_away(Error.NO_ERROR, "going down")
        if not self.streams:
            self._flush()
            self.transport.close()

    def expire(self) -> None:
        """The regular look at what has taken too long."""
        now = time.monotonic()
        self.deadline = now + _LOOK_SECONDS
        for stream in [s for s in self.streams.values() if s.deadline <= now]:
            self.late(stream)
        quiet = now - self._heard
        if (not self._greeted and quiet > self._read_timeout) or (
            self._blocked is not None and now - self._blocked > self._read_timeout
        ):
            self.transport.abort()
        elif self._leaving:
            if not self.streams:
                self.transport.close()
            elif quiet > self._idle_timeout and not self.at_work():
                self.transport.abort()
        elif now > self._die_at or (not self.streams and quiet > self._idle_timeout):
            self.finish()
        elif self._pinged is not None and now - self._pinged > self._ping_timeout:
            self.transport.abort()
        elif self._pinged is None and quiet > self._ping_after:
            self._pinged = now
            self._frame(Type.PING, 0, 0, b"spanledg")

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _parse(self, data: bytes) -> None:
        position = 0
        if not self._greeted:
            if data[: len(PREFACE)] != PREFACE[: len(data)]:
                self.transport.write(self.not_http2(data))
                self.transport.close()
                return
            if len(data) < len(PREFACE):
                self._buffer = data
                return
            position = len(PREFACE)
            self._greet()
        end = len(data)
        while not self.transport.is_closing():
            if self._data is not None:
                position = self._read_data(data, position)
                if self._data is not None:
                    break
            if end - position < FRAME.size:
                break
            high, low, kind, flags, stream = FRAME.unpack_from(data, position)
            length = high << 8 | low
            if length > (_MAX_FRAME if kind == Type.DATA else _MAX_CONTROL):
                raise Http2Error(Error.FRAME_SIZE_ERROR, "the frame is too large")
            if not self._set_up and kind != Type.SETTINGS:
                raise Http2Error(Error.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            if self._block is not None and (kind != Type.CONTINUATION or stream != self._block[0]):
                raise Http2Error(Error.PROTOCOL_ERROR, "headers are not continued")
            if kind == Type.DATA and not flags & Flag.PADDED:
                position += FRAME.size
                self._begin_data(stream & MAX_WINDOW, length, length, bool(flags & Flag.END_STREAM))
                continue
            if end - position < FRAME.size + length:
                break
            start = position + FRAME.size
            position = start + length
            self._on_frame(kind, flags, stream & MAX_WINDOW, data[start:position])
        self._buffer = data[position:] if position < end else b""

    def _greet(self) -> None:
        self._greeted = True
        settings = ((0x3, self._max_streams), (0x4, STREAM_WINDOW), (0x5, _MAX_FRAME), (0x6, _MAX_BLOCK))
        self._frame(Type.SETTINGS, 0, 0, b"".join(SETTING.pack(*setting) for setting in settings))
        self._frame(Type.WINDOW_UPDATE, 0, 0, WORD.pack(_CONNECTION_WINDOW - _DEFAULT_WINDOW))

    def _on_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        match kind:
            case Type.HEADERS:
                self._on_headers(stream, flags, payload)
            case Type.CONTINUATION:
                self._on_continuation(flags, payload)
            case Type.DATA:  # padded
                inner = unpad(payload)
                self._begin_data(stream, len(payload), len(inner), bool(flags & Flag.END_STREAM))
                self._read_data(inner, 0)
            case Type.RST_STREAM:
                self._idle_frame()
                if len(payload) != 4 or not stream or stream > self._last_stream:
                    raise Http2Error(Error.PROTOCOL_ERROR, "not a RST_STREAM frame")
                found = self.streams.pop(stream, None)
                if found is not None:
                    self.dropped(found)
            case Type.SETTINGS:
                self._on_settings(stream, flags, payload)
            case Type.PING:
                self._idle_frame()
                if len(payload) != 8 or stream:
                    raise Http2Error(Error.PROTOCOL_ERROR, "not a PING frame")
                if not flags & Flag.ACK:
                    self._frame(Type.PING, Flag.ACK, 0, payload)
            case Type.WINDOW_UPDATE:
                self._on_window(stream, payload)
            case Type.PUSH_PROMISE:
                raise Http2Error(Error.PROTOCOL_ERROR, "clients do not push")
            case _:  # PRIORITY, GOAWAY, and what later versions may bring
                self._idle_frame()

    def _on_headers(self, stream: int, flags: int, payload: bytes) -> None:
        if flags & Flag.PADDED:
            payload = unpad(payload)
        if flags & Flag.PRIORITY:
            if len(payload) < 5:
                raise Http2Error(Error.FRAME_SIZE_ERROR, "cut short")
            payload = payload[5:]
        if stream % 2 == 0 or (stream <= self._last_stream and stream not in self.streams):
            raise Http2Error(Error.STREAM_CLOSED, "headers on a stream that is none")
        if flags & Flag.END_HEADERS:
            self._on_block(stream, flags, payload)
        else:
            self._block = (stream, flags, bytearray(payload))

    def _on_continuation(self, flags: int, payload: bytes) -> None:
        if self._block is None:
            raise Http2Error(Error.PROTOCOL_ERROR, "nothing to continue")
        stream, first_flags, block = self._block
        self._idle_frame()
        block += payload
        if len(block) > _MAX_BLOCK:
            raise Http2Error(Error.ENHANCE_YOUR_CALM, "the headers are too large")
        if flags & Flag.END_HEADERS:
            self._block = None
            self._on_block(stream, first_flags, bytes(block))

    def _on_block(self, id_: int, flags: int, block: bytes) -> None:
        try:
            fields = self._decoder.decode(block)  # always: the table depends on every block
        except HpackError as error:
            raise Http2Error(Error.COMPRESSION_ERROR, str(error)) from None
        known = self.streams.get(id_)
        if known is not None:  # trailers
            if not flags & Flag.END_STREAM or known.ended:
                raise Http2Error(Error.PROTOCOL_ERROR, "headers in the middle of a stream")
            known.ended = True
            self.received(known, b"")
            return
        self._last_stream = id_
        stream = Stream(id_, self._initial_window, self._heard + self._read_timeout)
        if self._leaving or len(self.streams) >= self._max_streams:
            self._idle_frame()
            self.reset(stream, Error.REFUSED_STREAM)
            return
        stream.ended = bool(flags & Flag.END_STREAM)
        self.streams[id_] = stream
        self.opened(stream, fields)

    def _begin_data(self, id_: int, length: int, inner: int, last: bool) -> None:
        """A DATA frame begins: `length` octets count for flow control, `inner` are the body's."""
        stream = self.streams.get(id_)
        if not id_ or id_ > self._last_stream or (stream is not None and stream.ended):
            raise Http2Error(Error.STREAM_CLOSED, "data on a stream that is not open")
        if not inner and not last:
            self._idle_frame()
        self._receive_window -= length
        if self._receive_window < 0:
            raise Http2Error(Error.FLOW_CONTROL_ERROR, "more data than the window allows")
        if self._receive_window < _CONNECTION_WINDOW // 2:
            self._frame(Type.WINDOW_UPDATE, 0, 0, WORD.pack(_CONNECTION_WINDOW - self._receive_window))
            self._receive_window = _CONNECTION_WINDOW
        if stream is not None:
            stream.receive_window -= length
            if stream.receive_window < 0:
                raise Http2Error(Error.FLOW_CONTROL_ERROR, "more data than the window allows")
            if stream.receive_window < STREAM_WINDOW // 2 and not last:
                self._frame(Type.WINDOW_UPDATE, 0, id_, WORD.pack(STREAM_WINDOW - stream.receive_window))
                stream.receive_window = STREAM_WINDOW
        self._data = (stream, inner, last)

    def _read_data(self, data: bytes, position: int) -> int:
        assert self._data is not None
        stream, left, last = self._data
        end = min(position + left, len(data))
        left -= end - position
        self._data = (stream, left, last) if left else None
        # A stream that was answered early is forgotten: what is still on its way to it goes nowhere.
        if stream is not None and stream.id in self.streams:
            stream.ended = last and not left
            if end > position or stream.ended:
                # Most of what was read at once need not be copied; of little, a view would hold on to all the rest.
                large = 2 * (end - position) >= len(data)
                self.received(stream, memoryview(data)[position:end] if large else data[position:end])
        return end

    def _on_settings(self, stream: int, flags: int, payload: bytes) -> None:
        self._idle_frame()
        if stream or len(payload) % SETTING.size or (flags & Flag.ACK and payload):
            raise Http2Error(Error.FRAME_SIZE_ERROR, "not a SETTINGS frame")
        self._set_up = True
        if flags & Flag.ACK:
            return
        for key, value in SETTING.iter_unpack(payload):
            if key == 0x4:
                if value > MAX_WINDOW:
                    raise Http2Error(Error.FLOW_CONTROL_ERROR, "the window is too large")
                for open_ in self.streams.values():
                    open_.send_window += value - self._initial_window
                self._initial_window = value
            elif key == 0x5:
                if not 2**14 <= value < 2**24:
                    raise Http2Error(Error.PROTOCOL_ERROR, "no such frame size")
                self._peer_frame = min(value, _MAX_FRAME)
        self._frame(Type.SETTINGS, Flag.ACK, 0, b"")
        self._pump_all()

    def _on_window(self, id_: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Http2Error(Error.FRAME_SIZE_ERROR, "not a WINDOW_UPDATE frame")
        more = WORD.unpack(payload)[0] & MAX_WINDOW
        if id_ == 0:
            self._send_window += more
            if not more or self._send_window > MAX_WINDOW:
                raise Http2Error(Error.FLOW_CONTROL_ERROR, "the window is too large")
            self._pump_all()
        elif id_ > self._last_stream:
            raise Http2Error(Error.PROTOCOL_ERROR, "a window for a stream that is none")
        elif (stream := self.streams.get(id_)) is not None:
            stream.send_window += more
            if not more or stream.send_window > MAX_WINDOW:
                raise Http2Error(Error.FLOW_CONTROL_ERROR, "the window is too large")
            self._pump(stream)
        else:
            self._idle_frame()

    def _idle_frame(self) -> None:
        """Count a frame that brings no request on."""
        if self._heard - self._idle_since > _IDLE_FRAMES_SECONDS:
            self._idle_frames, self._idle_since = 0, self._heard
        self._idle_frames += 1
        if self._idle_frames > _MAX_IDLE_FRAMES:
            raise Http2Error(Error.ENHANCE_YOUR_CALM, "too many frames that do nothing")

    # ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _pump_all(self) -> None:
        for stream in [s for s in self.streams.values() if s.pending]:
            self._pump(stream)

    def _pump(self, stream: Stream) -> None:
        while stream.pending:
            kind, payload, last = stream.pending.popleft()
            if kind is Type.DATA:
                room = min(self._send_window, stream.send_window)
                if len(payload) > room:
                    stream.pending.appendleft((kind, payload[max(room, 0) :], last))
                    if room <= 0:
                        return
                    payload = payload[:room]
                self._send_window -= len(payload)
                stream.send_window -= len(payload)
            flags = (Flag.END_HEADERS if kind is Type.HEADERS else 0) | (Flag.END_STREAM if last else 0)
            self._frame(kind, flags, stream.id, payload)
            if last:
                if stream.ended:
                    self.streams.pop(stream.id, None)
                else:
                    self.reset(stream, Error.NO_ERROR)
                if self._leaving and not self.streams:
                    self._flush()
                    self.transport.close()

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        length = len(payload)
        self._out.append(FRAME.pack(length >> 8, length & 0xFF, kind, flags, stream))
        if payload:
            self._out.append(payload)
        if not self._flushing:
            # One write for all that is said in this turn of the loop: a group commit answers many streams at once.
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._out and not self.transport.is_closing():
            self.transport.write(b"".join(self._out))
        self._out.clear()

    def _go_away(self, code: Error, message: str) -> None:
        if not self._leaving:
            self._leaving = True
            self._frame(Type.GOAWAY, 0, 0, WORD.pack(self._last_stream) + WORD.pack(code) + message.encode())
