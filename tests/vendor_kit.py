"""The other side of an OTLP exporter: vendors over HTTP and gRPC that answer, and misbehave, as a test says."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import zstandard
from isal import igzip
from prometheus_client import CollectorRegistry

from collector.batch import Position, RequestBatch, SpanBatch
from collector.component import Context, Payload
from collector.otlp.decode import decode
from collector.signals import Signal
from exporters.otlp import Otlp, OtlpHttp

_INFLATE: Mapping[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "gzip": igzip.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().decompress(data),
}


@dataclass
class Got:
    """A request as it came. `body` is inflated, `raw` what was on the wire (of gRPC: without its prefix)."""

    path: str
    headers: dict[str, str]
    raw: bytes
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What to say. `misdeed` stands in its place: hang, reset, close, trickle."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    misdeed: str = ""


OK = Answer(headers={"Content-Type": "application/x-protobuf"})


@dataclass
class Vendor:
    """A vendor over HTTP. `answers` are given one after the other, the last one for ever."""

    answers: list[Answer] = field(default_factory=lambda: [OK])
    got: list[Got] = field(default_factory=list)
    taken: list[Got] = field(default_factory=list)  # those of them that were answered with a success
    connections: int = 0
    address: str = ""
    stopping: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, request: Got) -> Answer:
        with self._lock:
            self.got.append(request)
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextlib.contextmanager
def vendor(*answers: Answer, tls: ssl.SSLContext | None = None) -> Iterator[Vendor]:
    """One, on a free port of this machine."""
    made = Vendor(list(answers) or [OK])

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            made.connections += 1

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Got(self.path, headers, raw, _INFLATE[headers.get("content-encoding", "")](raw))
            answer = made.take(request)
            if answer.misdeed:
                self._misbehave(answer.misdeed)
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            with contextlib.suppress(OSError):  # a sender may have had enough
                self.wfile.write(answer.body)
                if 200 <= answer.status < 300:
                    made.taken.append(request)

        def _misbehave(self, misdeed: str) -> None:
            self.close_connection = True
            if misdeed == "hang":
                made.stopping.wait(30)
            elif misdeed == "trickle":
                with contextlib.suppress(OSError):
                    self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                    while not made.stopping.wait(0.05):
                        self.wfile.write(b"x-more: 1\r\n")
            elif misdeed == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()

        def log_message(self, format: str, *args: Any) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None: ...

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    made.address = f"{'https' if tls else 'http'}://localhost:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Told:
    """A gRPC answer: status, its text, trailers, or the message of a success."""

    code: grpc.StatusCode = grpc.StatusCode.OK
    details: str = ""
    trailers: Sequence[tuple[str, str | bytes]] = ()
    message: bytes = b""
    delay: float = 0.0


@dataclass
class GrpcVendor:
    answers: list[Told] = field(default_factory=lambda: [Told()])
    got: list[Got] = field(default_factory=list)
    address: str = ""


@contextlib.contextmanager
def grpc_vendor(
    *answers: Told, credentials: grpc.ServerCredentials | None = None, port: int = 0
) -> Iterator[GrpcVendor]:
    """A vendor over gRPC: grpcio's server, whatever method is called."""
    made = GrpcVendor(list(answers) or [Told()])

    def answer(body: bytes, context: grpc.ServicerContext) -> bytes:
        headers = {key: str(value) for key, value in context.invocation_metadata()}
        made.got.append(Got(method.name, headers, body, body))
        told = made.answers.pop(0) if len(made.answers) > 1 else made.answers[0]
        time.sleep(told.delay)
        context.set_trailing_metadata(tuple(told.trailers))
        if told.code is not grpc.StatusCode.OK:
            context.abort(told.code, told.details)
        return told.message

    method = threading.local()

    class Handler(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> Any:
            def handle(body: bytes, context: grpc.ServicerContext) -> bytes:
                method.name = details.method
                return answer(body, context)

            return grpc.unary_unary_rpc_method_handler(handle)

    server = grpc.server(
        ThreadPoolExecutor(4), handlers=[Handler()], options=[("grpc.max_receive_message_length", 2**26)]
    )
    bound = f"127.0.0.1:{port}"
    port = server.add_secure_port(bound, credentials) if credentials else server.add_insecure_port(bound)
    made.address = f"localhost:{port}"
    server.start()
    try:
        yield made
    finally:
        server.stop(0).wait()


def context(id_: str = "otlp") -> Context:
    return Context(id_, Path("."), CollectorRegistry())


def grpc_exporter(endpoint: str, **options: Any) -> Otlp:
    config = {"endpoint": endpoint, "tls": {"insecure": True}, "timeout": 5.0, **options}
    return Otlp(Otlp.Config.model_validate(config), context("otlp"))


def http_exporter(endpoint: str, **options: Any) -> OtlpHttp:
    config = {"endpoint": endpoint, "timeout": 5.0, **options}
    return OtlpHttp(OtlpHttp.Config.model_validate(config), context("otlphttp"))


def span_batch(body: bytes) -> SpanBatch:
    """A batch of which nothing is known but its spans."""
    return SpanBatch.blank(decode(body), Position(1, 1), 1)


def request_batch(signal: Signal, body: bytes, items: int = 1) -> RequestBatch:
    import numpy as np

    return RequestBatch(signal, np.frombuffer(body, np.uint8), items, Position(1, 1), 1)


def payloads(exporter: Otlp | OtlpHttp, body: bytes) -> list[Payload]:
    return list(exporter.encode(span_batch(body)))
