"""OTLP/gRPC: the services of the three signals, health and reflection on the HTTP/2 of `http2.py`.

grpcio's own server was measured and left: it hands over a message only when all of it has come, inflated, so that what
stalled or compressed calls hold in memory cannot be bounded; and it costs more than twice the CPU for a small call.
"""

from __future__ import annotations

import base64
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from urllib.parse import quote

from collector.errors import Malformed, Refused, TooLarge, UnsupportedMedia
from collector.grpc_status import Code
from collector.receivers import health, reflection
from collector.receivers.admission import Admission, Held
from collector.receivers.auth import Auth, Client
from collector.receivers.config import GrpcConfig
from collector.receivers.export_service import Accepted, Call, ExportService
from collector.receivers.grpc_messages import Messages, framed
from collector.receivers.hpack import Field, encode
from collector.receivers.http2 import Http2Connection
from collector.receivers.http2_frames import Error, Stream
from collector.receivers.inflate import ENCODINGS, IDENTITY, known
from collector.receivers.listener import NEVER, Connection, Listener
from collector.receivers.status import Status, export_response, status_of
from collector.receivers.telemetry import Tally
from collector.signals import Signal

_PACKAGE = "opentelemetry.proto.collector"
_SERVICES = {
    Signal.TRACES: f"{_PACKAGE}.trace.v1.TraceService",
    Signal.LOGS: f"{_PACKAGE}.logs.v1.LogsService",
    Signal.METRICS: f"{_PACKAGE}.metrics.v1.MetricsService",
}
_EXPORTS = {f"/{service}/Export".encode(): signal for signal, service in _SERVICES.items()}
_OTHER_SERVICES = (
    "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection",
)  # fmt: skip
#: Messages of health and reflection are names.
_MAX_NAME = 4096
_MAX_REFLECTIONS = 1000
MAX_WATCHERS = 64
_MEDIA_TYPES = (b"application/grpc", b"application/grpc+proto")
_HEAD_FIELDS: tuple[Field, ...] = (
    (b":status", b"200"),
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", b"identity,gzip,deflate,zstd"),
)
_HEAD = encode([*_HEAD_FIELDS])
_OK = encode([(b"grpc-status", b"0")])
_SINGLE = frozenset((b":method", b":path", b":scheme", b":authority", b"authorization", b"content-type", b"grpc-encoding",
                     b"x-api-key"))  # fmt: skip


class GrpcServer:
    """What the connections of one port share."""

    def __init__(
        self, config: GrpcConfig, auth: Auth, service: ExportService, admission: Admission, tally: Tally
    ) -> None:  # fmt: skip
        self.config, self.auth, self.service, self.admission, self.tally = config, auth, service, admission, tally
        self.watchers = 0
        taken = tuple(name for signal, name in _SERVICES.items() if signal in service.signals)
        self.services = (*taken, *_OTHER_SERVICES)

    def __call__(self, listener: Listener) -> Connection:
        return GrpcConnection(listener, self)


class _Call:
    """A call that is open. Unary methods start when the peer has said all, the others with each message."""

    __slots__ = (
        "client",
        "count",
        "encoding",
        "held",
        "message",
        "messages",
        "on_message",
        "signal",
        "unary",
        "watching",
        "working",
    )

    def __init__(self, max_size: int, on_message: Callable[[Stream, _Call, bytes], None], unary: bool = True) -> None:
        self.messages = Messages(max_size)
        self.on_message, self.unary = on_message, unary
        self.message: bytes | None = None
        self.count = 0
        self.signal = Signal.TRACES
        self.client = Client()
        self.encoding = ""
        self.held: Held | None = None
        self.working = self.watching = False


class GrpcConnection(Http2Connection):
    """One connection of a sender."""

    def __init__(self, listener: Listener, server: GrpcServer) -> None:
        config, keepalive = server.config, server.config.keepalive.server_parameters
        super().__init__(
            listener, max_streams=config.max_concurrent_streams, read_timeout=config.read_timeout,
            idle_timeout=keepalive.max_connection_idle, max_age=keepalive.max_connection_age,
            ping_after=keepalive.time, ping_timeout=keepalive.timeout,
        )  # fmt: skip
        self._server = server
        self._calls: dict[int, _Call] = {}
        self._working = 0
        self._fields: list[Field] = []
        self._headers: dict[bytes, bytes] = {}
        self._ambiguous = False

    # ── what http2.py calls ─────────────────────────────────────────────────────────────────────────────────────────

    def at_work(self) -> bool:
        return self._working > 0

    def opened(self, stream: Stream, fields: list[Field]) -> None:
        if fields is not self._fields:  # a sender's calls have the same headers, decoded once
            self._fields, self._headers = fields, dict(fields)
            self._ambiguous = any(count > 1 for count in _counts(fields).values())
        headers = self._headers
        if self._ambiguous:
            self.reset(stream, Error.PROTOCOL_ERROR)
        elif headers.get(b":method") != b"POST" or b":path" not in headers or b":scheme" not in headers:
            self.send(stream, trailers=encode([(b":status", b"405"), (b"allow", b"POST")]))
        elif headers.get(b"content-type", b"").partition(b";")[0].strip().lower() not in _MEDIA_TYPES:
            self.send(stream, trailers=encode([(b":status", b"415")]))
        else:
            try:
                self._calls[stream.id] = self._route(stream, headers)
            except Refused as error:
                self._fail(stream, status_of(error))
                return
            if stream.ended:
                self.received(stream, b"")

    def received(self, stream: Stream, data: bytes | memoryview) -> None:
        call = self._calls.get(stream.id)
        if call is None:
            return
        try:
            if call.held is not None:
                call.held.grow(len(data))
            for message in call.messages.feed(data):
                self._on_message(stream, call, message)
            if stream.ended and stream.id in self._calls:
                self._on_end(stream, call)
        except Refused as error:
            self._fail(stream, status_of(error))

    def dropped(self, stream: Stream) -> None:
        call = self._calls.pop(stream.id, None)
        if call is None:
            return
        if call.working:
            self._working -= 1
            if call.held is not None:  # it counts until it is worked off, whoever waits for that
                call.held.abandoned = True
        elif call.held is not None:
            call.held.give_way = None
            call.held.release()
        if call.watching:
            self._server.watchers -= 1

    def late(self, stream: Stream) -> None:
        if stream.id in self._calls:
            self._fail(stream, Status(Code.DEADLINE_EXCEEDED, 408, "the message took too long"))
        else:
            self.reset(stream, Error.CANCEL)

    def finish(self) -> None:
        for id_, call in list(self._calls.items()):
            if call.watching:
                stream = self.streams[id_]
                self.send(stream, data=framed(health.NOT_SERVING))
                self._fail(stream, Status(Code.UNAVAILABLE, 503, "going down", 1.0))
        super().finish()

    def not_http2(self, data: bytes) -> bytes:
        if data[:1].isalpha():
            said = b"This port speaks OTLP/gRPC. OTLP/HTTP has a port of its own, by default 4318.\n"
            return b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(said), said)  # fmt: skip
        return b""

    # ── the services ────────────────────────────────────────────────────────────────────────────────────────────────

    def _route(self, stream: Stream, headers: dict[bytes, bytes]) -> _Call:
        """The call of a path. Raises `Refused`."""
        path = headers[b":path"]
        if path == health.CHECK:
            return _Call(_MAX_NAME, self._check)
        if path == health.WATCH:
            return _Call(_MAX_NAME, self._watch)
        authorization, api_key = headers.get(b"authorization"), headers.get(b"x-api-key")
        client = self._server.auth.client(
            authorization.decode("latin-1") if authorization is not None else None,
            api_key.decode("latin-1") if api_key is not None else None,
        )
        if path in reflection.METHODS:
            return _Call(_MAX_NAME, self._reflect, unary=False)
        signal = _EXPORTS.get(path)
        if signal is None or signal not in self._server.service.signals:
            raise UnsupportedMedia(f"no {signal} pipeline is configured" if signal else "no such method")
        encoding = headers.get(b"grpc-encoding", b"").decode("latin-1").lower()
        if not known(encoding):
            raise UnsupportedMedia(f"unknown grpc-encoding; understood are {', '.join(ENCODINGS)} and identity")
        call = _Call(self._server.config.max_recv_msg_size, self._export)
        call.signal, call.client, call.encoding = signal, client, encoding
        call.held = self._server.admission.enter(partial(self._give_way, stream))
        return call

    def _on_message(self, stream: Stream, call: _Call, message: bytes) -> None:
        call.count += 1
        if not call.unary:
            call.on_message(stream, call, message)
        elif call.count > 1:
            raise Malformed("more than one message in a unary call")
        else:
            call.message = message

    def _on_end(self, stream: Stream, call: _Call) -> None:
        if call.messages.unfinished:
            raise Malformed("the message is cut short")
        if not call.unary:
            self._finish(stream)
            self.send(stream, b"" if call.count else _HEAD, trailers=_OK)
            return
        if call.message is None:
            raise Malformed("a call without a message")
        message, call.message = call.message, None
        call.on_message(stream, call, message)

    def _export(self, stream: Stream, call: _Call, message: bytes) -> None:
        compressed = call.messages.compressed
        if compressed and call.encoding in IDENTITY:
            raise Malformed("a compressed message without grpc-encoding")
        assert call.held is not None
        call.held.give_way = None
        call.working, stream.deadline = True, NEVER
        self._working += 1
        self._server.service.take(
            Call(
                call.signal, call.client, self._server.tally, call.held, self._server.config.max_recv_msg_size,
                partial(self._answer, stream), call.encoding if compressed else "",
            ),
            message,
        )  # fmt: skip

    def _check(self, stream: Stream, _call: _Call, message: bytes) -> None:
        if health.service(message) not in ("", *self._server.services):
            self._fail(stream, Status(Code.NOT_FOUND, 404, "no such service"))
            return
        self._finish(stream)
        self.send(stream, _HEAD, framed(health.SERVING), _OK)

    def _watch(self, stream: Stream, call: _Call, message: bytes) -> None:
        known_service = health.service(message) in ("", *self._server.services)
        if self._server.watchers >= MAX_WATCHERS:
            self._fail(stream, Status(Code.RESOURCE_EXHAUSTED, 429, "too many watch already; use Check"))
            return
        self._server.watchers += 1
        call.watching, stream.deadline = True, NEVER
        self.send(stream, _HEAD, framed(health.SERVING if known_service else health.SERVICE_UNKNOWN))

    def _reflect(self, stream: Stream, call: _Call, message: bytes) -> None:
        if call.count > _MAX_REFLECTIONS:
            raise TooLarge("too many questions in one call")
        self.send(stream, _HEAD if call.count == 1 else b"", framed(reflection.reflect(message, self._server.services)))

    # ── answering ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _answer(self, stream: Stream, outcome: Accepted | Status) -> None:
        if stream.id not in self._calls:
            return
        if isinstance(outcome, Status):
            self._fail(stream, outcome)
            return
        self._server.tally.requests["OK"] += 1
        self._finish(stream)
        self.send(stream, _HEAD, framed(export_response(outcome.rejected, outcome.reason)), _OK)

    def _give_way(self, stream: Stream, refusal: Refused) -> None:
        self._fail(stream, status_of(refusal))

    def _fail(self, stream: Stream, status: Status) -> None:
        call = self._calls.get(stream.id)
        if call is None or call.held is not None:
            self._server.tally.requests[status.code.name] += 1
            self._server.tally.say(status.code.name, status)
        fields: list[Field] = [] if call is not None and (call.watching or not call.unary) else [*_HEAD_FIELDS]
        fields += [(b"grpc-status", b"%d" % status.code), (b"grpc-message", _percent(status.message))]
        if status.retry_after is not None:
            fields.append((b"grpc-status-details-bin", base64.b64encode(status.protobuf()).rstrip(b"=")))
        self._finish(stream)
        self.send(stream, trailers=encode(fields))

    def _finish(self, stream: Stream) -> None:
        """The call is over; its answer may still wait for the peer's window."""
        self.dropped(stream)
        stream.deadline = time.monotonic() + self._server.config.read_timeout


def _counts(fields: list[Field]) -> dict[bytes, int]:
    return Counter(name for name, _ in fields if name in _SINGLE)


def _percent(message: str) -> bytes:
    return quote(message, safe=" !\"#$&'()*+,/:;<=>?@[\\]^`{|}").encode()
