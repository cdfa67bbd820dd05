"""OTLP/HTTP on an asyncio protocol of its own.

A connection is at one of these points; what comes meanwhile waits in `_waiting`, and reading stops when that is enough:

    HEAD ──▶ BODY ──▶ BUSY ──▶ HEAD …          one request at a time, answers in order
      └────────┴───────┴─────▶ DRAIN ──▶ gone   answered with `Connection: close`; what still comes is thrown away for a
                                               moment, because closing at once would take the answer from the sender
"""

from __future__ import annotations

import asyncio
import math
import time
from email.utils import formatdate
from enum import Enum, auto
from http import HTTPStatus

from collector.errors import Refused, TooLarge, Unauthenticated, UnsupportedMedia
from collector.grpc_status import Code
from collector.receivers.admission import Admission, Held
from collector.receivers.auth import Auth, Client
from collector.receivers.body import Body
from collector.receivers.config import HttpConfig
from collector.receivers.cors import Cors
from collector.receivers.export_service import Accepted, Call, ExportService
from collector.receivers.http_chunks import BadChunk, Chunks
from collector.receivers.http_head import BadHead, Head, HeadReader
from collector.receivers.inflate import ENCODINGS, known
from collector.receivers.listener import NEVER, Connection, Listener
from collector.receivers.routes import routes
from collector.receivers.status import JSON, PROTOBUF, Status, export_response, export_response_json, status_of
from collector.receivers.telemetry import Tally
from collector.signals import Signal
from config.types import show_size

_END = b"\r\n\r\n"
_DRAIN_SECONDS = 2.0
_DRAIN_BYTES = 2**20
_DIFFERENT_HEADS = 256
_PROTOBUF_TYPES = ("application/x-protobuf", "application/protobuf")
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class At(Enum):
    """Where a connection is."""

    HEAD = auto()
    BODY = auto()
    BUSY = auto()
    DRAIN = auto()


class HttpServer:
    """What the connections of one port share."""

    def __init__(
        self, config: HttpConfig, auth: Auth, service: ExportService, admission: Admission, tally: Tally
    ) -> None:  # fmt: skip
        self.config, self.auth, self.service, self.admission, self.tally = config, auth, service, admission, tally
        self.routes = routes(config.paths)
        self.cors = Cors(config.cors) if config.cors else None
        self._heads: dict[tuple[int, tuple[tuple[str, str], ...]], bytes] = {}
        self._heads_until = 0.0

    def __call__(self, listener: Listener) -> Connection:
        return HttpConnection(listener, self)

    def head(self, status: int, headers: tuple[tuple[str, str], ...]) -> bytes:
        """Status line and headers of an answer. Few are different within the second that its date is good for."""
        now = time.time()
        if now >= self._heads_until or len(self._heads) > _DIFFERENT_HEADS:
            self._heads.clear()
            self._heads_until = math.floor(now) + 1
        found = self._heads.get((status, headers))
        if found is None:
            lines = [f"HTTP/1.1 {status} {_REASONS[status]}", f"Date: {formatdate(now, usegmt=True)}"]
            lines += [f"{name}: {value}" for name, value in headers]
            found = self._heads[status, headers] = "\r\n".join([*lines, "", ""]).encode("latin-1")
        return found


class HttpConnection(Connection):
    """One connection of a sender."""

    def __init__(self, listener: Listener, server: HttpServer) -> None:
        super().__init__(listener)
        self._server = server
        self._config = server.config
        self._at = At.HEAD
        self._waiting = b""
        self._head = Head()
        self._reader = HeadReader()
        self._first = True
        self._closing = False  # no further request is taken
        self._ended = False  # the sender says nothing more
        self._blocked = False  # the sender does not read its answers
        self._body = Body()
        self._chunks: Chunks | None = None
        self._held: Held | None = None
        self._signal = Signal.TRACES
        self._client = Client()
        self._type = JSON  # of the answer
        self._encoding = ""
        self._drained = 0
        self._waiting_since: float | None = None

    # ── what asyncio calls ──────────────────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._await_head(self._config.read_header_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._at is not At.BUSY:
            self._release()
        elif self._held is not None:  # it counts until it is worked off, whoever waits for that
            self._held.abandoned = True
        self._waiting = b""

    def data_received(self, data: bytes) -> None:
        if self._at is At.DRAIN:
            self._drained += len(data)
            if self._drained > _DRAIN_BYTES:
                self.transport.abort()
        elif self._at is At.BODY:
            self._read_body(data)
        else:
            self._waiting += data
            if self._at is At.HEAD and not self._blocked:
                self._read_head()
            if len(self._waiting) > self._config.max_header_size:  # it holds a whole head: enough for now
                self.transport.pause_reading()

    def eof_received(self) -> bool:
        # A sender that has closed its side still gets the answers to what it has sent.
        self._ended = True
        return self._at is At.BUSY or bool(self._waiting)

    def pause_writing(self) -> None:
        self._blocked = True
        self.deadline = time.monotonic() + self._config.write_timeout
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self._blocked = False
        self.deadline = NEVER
        self.transport.resume_reading()
        if self._at is At.HEAD:
            self._await_head(self._config.idle_timeout)
            self._next()

    # ── what the listener calls ─────────────────────────────────────────────────────────────────────────────────────

    def expire(self) -> None:
        if self._blocked:
            self.transport.abort()
        elif self._at is At.HEAD and (self._waiting or self._first):
            self._refuse(408, "the headers took too long")
        elif self._at is At.BODY:
            self._refuse(408, "the body took too long")
        else:
            self.transport.abort() if self._at is At.DRAIN else self.transport.close()

    def finish(self) -> None:
        self._closing = True
        if self._at is At.HEAD:
            self.transport.close()

    def waits_since(self) -> float | None:
        return self._waiting_since

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _await_head(self, seconds: float) -> None:
        self._at = At.HEAD
        self._waiting_since = time.monotonic()
        self.deadline = self._waiting_since + seconds

    def _read_head(self) -> None:
        data = self._waiting = self._waiting.lstrip(b"\r\n") if self._waiting[:1] in b"\r\n" else self._waiting
        if not data:
            return
        end = data.find(_END)
        limit = self._config.max_header_size
        if end < 0 or end > limit:
            if len(data) > limit:
                self._refuse(431, f"the headers are larger than {show_size(limit)}")
            elif not self._first:  # the idle time is over, the header's begins
                self._first = True
                self.deadline = time.monotonic() + self._config.read_header_timeout
            return
        self._first, self._waiting = False, data[end + 4 :]
        try:
            head = self._head = self._reader.read(data[: end + 4])
        except BadHead as error:
            self._refuse(error.status, error.message)
            return
        if not head.keep_alive:
            self._closing = True
        if self._judge(head):
            self._begin_body(head)

    def _judge(self, head: Head) -> bool:
        """Whether the body is wanted. Answers itself if not."""
        media, charset = _media_type(head.text(b"content-type"))
        self._type = media if media in _PROTOBUF_TYPES else JSON
        signal = self._server.routes.get(head.path)
        if signal is None:
            known_paths = ", ".join(f"{signal} go to {path}" for signal, path in self._config.paths.items())
            self._answer_early(404, f"no such path; {known_paths}", Code.NOT_FOUND)
        elif head.method == b"OPTIONS":
            cors = self._server.cors.preflight(head) if self._server.cors else {}
            self._skip_body(head)
            self._send(204, b"", {"Allow": "POST, OPTIONS", **cors})
        elif head.method != b"POST":
            self._answer_early(405, "send it by POST", Code.UNIMPLEMENTED, {"Allow": "POST, OPTIONS"})
        elif signal not in self._server.service.signals:
            self._answer_early(404, f"no {signal} pipeline is configured", Code.UNIMPLEMENTED)
        else:
            self._signal = signal
            return self._admit(head, media, charset)
        return False

    def _admit(self, head: Head, media: str, charset: str) -> bool:
        try:
            self._client = self._server.auth.client(head.text(b"authorization"), head.text(b"x-api-key"))
            self._encoding = (head.text(b"content-encoding") or "").strip().lower()
            if not known(self._encoding):
                raise UnsupportedMedia(f"unknown Content-Encoding; understood are {', '.join(ENCODINGS)} and identity")
            empty = not media and not head.length and not head.chunked
            if media not in (*_PROTOBUF_TYPES, JSON) and not empty:
                raise UnsupportedMedia(
                    "unknown Content-Type; understood are application/x-protobuf and application/json"
                )
            if charset not in ("", "utf-8", "utf8"):
                raise UnsupportedMedia("unknown charset; understood is utf-8")
            if head.length > self._config.max_request_body_size:
                raise _body_too_large(self._config)
            self._held = self._server.admission.enter(self._give_way)
        except Refused as error:
            self._answer_error(error)
            return False
        expected = head.text(b"expect")
        if expected is not None and expected.lower() != "100-continue":
            self._answer_early(417, "unknown expectation", Code.INVALID_ARGUMENT)
            return False
        if expected is not None and head.version == "1.1" and not self._waiting:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def _begin_body(self, head: Head) -> None:
        self._at = At.BODY
        self.deadline = time.monotonic() + self._config.read_timeout
        self._body = Body()
        self._chunks = Chunks() if head.chunked else None
        data, self._waiting = self._waiting, b""
        self._read_body(data)

    def _read_body(self, data: bytes) -> None:
        body = self._body
        try:
            if self._chunks is not None:
                pieces = self._chunks.feed(data)
                rest = self._chunks.rest
            else:
                missing = self._head.length - body.size
                rest = data[missing:] if len(data) >= missing else None
                pieces = [data[:missing] if rest else data]
            before = body.size
            for piece in pieces:
                body.add(piece)
            if body.size > self._config.max_request_body_size:
                raise _body_too_large(self._config)
            if self._held is not None:
                self._held.grow(body.size - before)
        except BadChunk as error:
            self._refuse(400, str(error))
            return
        except Refused as error:
            self._closing = True
            self._answer_error(error)
            return
        if rest is not None:
            self._waiting = rest
            self._work()

    def _work(self) -> None:
        held = self._held
        assert held is not None
        self._at, self._waiting_since, self.deadline = At.BUSY, None, NEVER
        held.give_way = None
        self._server.service.take(
            Call(
                self._signal, self._client, self._server.tally, held, self._config.max_request_body_size, self._answer,
                self._encoding, self._type == JSON and bool(self._body.size),
            ),
            self._body.take(),
        )  # fmt: skip

    def _give_way(self, refusal: Refused) -> None:
        """Others need the room that this request takes."""
        self._closing = True
        self._answer_error(refusal)

    # ── answering ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _answer(self, outcome: Accepted | Status) -> None:
        if self._at is not At.BUSY or self.transport.is_closing():
            return
        if isinstance(outcome, Accepted):
            rejected, reason = outcome.rejected, outcome.reason
            as_json = self._type == JSON
            self._send(
                200,
                export_response_json(self._signal, rejected, reason) if as_json else export_response(rejected, reason),
            )
        else:
            self._send_status(outcome)

    def _answer_error(self, error: Refused) -> None:
        status = status_of(error)
        extra = {"WWW-Authenticate": "Bearer"} if isinstance(error, Unauthenticated) else {}
        self._skip_body(self._head)
        self._send_status(status, extra)

    def _answer_early(self, http: int, message: str, code: Code, extra: dict[str, str] | None = None) -> None:
        self._skip_body(self._head)
        self._send_status(Status(code, http, message), extra or {})

    def _refuse(self, http: int, message: str) -> None:
        """Answer and close: where the next request would begin is not known."""
        self._closing = True
        self._send_status(Status(Code.INVALID_ARGUMENT, http, message))

    def _skip_body(self, head: Head) -> None:
        """Go on behind a body that is not wanted, if it is here already; else close after the answer."""
        if head.chunked or head.length - self._body.size > len(self._waiting):
            self._closing = True
        else:
            self._waiting = self._waiting[head.length :]

    def _send_status(self, status: Status, extra: dict[str, str] | None = None) -> None:
        self._server.tally.say(str(status.http), status)
        headers = extra or {}
        if status.retry_after_header is not None:
            headers = {**headers, "Retry-After": status.retry_after_header}
        self._send(status.http, status.body(JSON if self._type == JSON else PROTOBUF), headers)

    def _send(self, http: int, body: bytes, extra: dict[str, str] | None = None) -> None:
        server, close = self._server, self._closing or (self._ended and not self._waiting)
        server.tally.requests[str(http)] += 1
        headers = {"Content-Type": self._type, "Content-Length": str(len(body))} if http != 204 else {}
        if server.cors is not None:
            headers |= server.cors.answer(self._head)
        if close:
            headers["Connection"] = "close"
        elif self._head.version == "1.0":
            headers["Connection"] = "keep-alive"
        head = server.head(http, tuple((headers | (extra or {})).items()))
        self._release()
        self._body = Body()
        self._at = At.DRAIN if close else At.HEAD
        self.transport.write(head if self._head.method == b"HEAD" else head + body)
        self._type = JSON
        if close:
            self._drain()
        elif self._blocked:  # the sender reads no answers: it gets no further ones
            self._at, self._waiting_since = At.HEAD, time.monotonic()
        else:
            self._await_head(self._config.idle_timeout)
            if self._waiting:
                # Not from within: a pile of small requests would be a pile of stack frames.
                asyncio.get_running_loop().call_soon(self._next)
            else:
                self.transport.resume_reading()

    def _next(self) -> None:
        if self._at is not At.HEAD or self._blocked or self.transport.is_closing():
            return
        self._read_head()
        if len(self._waiting) <= self._config.max_header_size:
            self.transport.resume_reading()

    def _drain(self) -> None:
        self._waiting = b""
        self._waiting_since = time.monotonic()
        self.deadline = self._waiting_since + _DRAIN_SECONDS
        try:
            if not self.transport.can_write_eof():  # with TLS
                self.transport.close()
            elif not self.transport.is_closing():
                self.transport.write_eof()
        except OSError:  # the sender is gone
            self.transport.abort()
        self.transport.resume_reading()

    def _release(self) -> None:
        if self._held is not None:
            self._held.give_way = None
            self._held.release()
            self._held = None


def _body_too_large(config: HttpConfig) -> TooLarge:
    return TooLarge(f"the body is larger than {show_size(config.max_request_body_size)}")


def _media_type(text: str | None) -> tuple[str, str]:
    """Media type and charset, lower case, "" where absent. Other parameters have no meaning for us."""
    media, *parameters = (text or "").split(";")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return media.strip().lower(), value.strip().strip('"').lower()
    return media.strip().lower(), ""
