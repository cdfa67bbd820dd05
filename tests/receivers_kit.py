"""A receiver to send to, in this process or in one of its own, and senders that misbehave as well as those that do not.

`python -m tests.receivers_kit CONFIG_JSON` serves until its standard input ends, and prints its addresses first.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import http.client
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client import CollectorRegistry

from collector.component import Context
from collector.otlp.check import Limits, check_traces, stamp
from collector.receivers import OtlpConfig, OtlpReceiver
from collector.signals import Signal

PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json"}
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


# ── a receiver ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class FakeIntake:
    """Keeps requests in memory and says so from another thread. `fail` is raised, `lose` given to `done`."""

    signals: frozenset[Signal] = frozenset({Signal.TRACES})
    bodies: list[bytes] = field(default_factory=list)
    taken: list[Signal] = field(default_factory=list)  # of each of them
    spans: int = 0
    fail: Exception | None = None
    lose: Exception | None = None
    keep: bool = True
    hold: threading.Event | None = None

    def submit(self, signal: Signal, body: bytes, spans: int, done: Callable[[Exception | None], None]) -> None:
        if self.fail is not None:
            raise self.fail
        if self.lose is None:
            self.spans += spans
            if self.keep:
                self.bodies.append(body)
                self.taken.append(signal)
        threading.Thread(target=self._done, args=(done, self.lose)).start()

    def _done(self, done: Callable[[Exception | None], None], error: Exception | None) -> None:
        if self.hold is not None:
            self.hold.wait(10)
        done(error)

    @property
    def requests(self) -> list[ExportTraceServiceRequest]:
        """What was kept, parsed."""
        return [ExportTraceServiceRequest.FromString(body) for body in self.bodies]


@dataclass
class Running:
    """A receiver that listens. `grpc` and `http` are host:port."""

    receiver: OtlpReceiver
    intake: FakeIntake
    metrics: CollectorRegistry

    @property
    def grpc(self) -> str:
        return self._address("grpc")

    @property
    def http(self) -> str:
        return self._address("http")

    def _address(self, protocol: str) -> str:
        """That of the first endpoint with or without TLS."""
        named = (endpoint.split("://") for endpoint in self.receiver.endpoints)
        return next(address for name, address in named if name.removesuffix("s") == protocol)

    def metric(self, name: str, **labels: str) -> float:
        """One sample's value, 0 where there is none."""
        return self.metrics.get_sample_value(f"spanledger_receiver_{name}", {"receiver": "otlp", **labels}) or 0.0


def config(grpc: dict[str, Any] | None = None, http: dict[str, Any] | None = None, **rest: Any) -> OtlpConfig:
    """Both protocols on free ports."""
    ports = {"grpc": {"endpoint": "127.0.0.1:0", **(grpc or {})}, "http": {"endpoint": "127.0.0.1:0", **(http or {})}}
    return OtlpConfig.model_validate({"protocols": ports, **rest})


@functools.cache
def _compile() -> None:
    """Before anybody sends: what the first request would wait for otherwise."""
    checked = check_traces(body(), Limits())
    stamp(checked.body, {"team": "x"})


@contextlib.contextmanager
def running(made: OtlpConfig | None = None, intake: FakeIntake | None = None) -> Iterator[Running]:
    """A receiver in this process."""
    _compile()
    metrics, kept = CollectorRegistry(), intake or FakeIntake()
    receiver = OtlpReceiver(made or config(), Context("otlp", Path("."), metrics))
    receiver.start(kept)
    try:
        yield Running(receiver, kept, metrics)
    finally:
        receiver.stop(2.0)


@dataclass
class Served:
    """A receiver in a process of its own, to see what abuse does to its memory."""

    pid: int
    grpc: str
    http: str

    def _memory(self, key: str) -> float:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1]) / 1024
        raise AssertionError(f"no {key}")

    @property
    def memory(self) -> float:
        """MiB resident now."""
        return self._memory("VmRSS")

    @property
    def peak(self) -> float:
        """MiB resident at most since `forget_peak`."""
        return self._memory("VmHWM")

    def forget_peak(self) -> None:
        """Begin to measure the peak."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")


@contextlib.contextmanager
def served(options: dict[str, Any]) -> Iterator[Served]:
    """A receiver in a process of its own, with `OtlpConfig` options."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.receivers_kit", json.dumps(options)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Served(process.pid, **json.loads(process.stdout.readline()))
    finally:
        process.stdin.close()
        process.stdout.close()
        assert process.wait(20) == 0


def _serve(options: str) -> None:
    with running(OtlpConfig.model_validate(json.loads(options)), FakeIntake(frozenset(Signal), keep=False)) as found:
        print(json.dumps({"grpc": found.grpc, "http": found.http}), flush=True)
        sys.stdin.read()


# ── ordinary senders ────────────────────────────────────────────────────────────────────────────────────────────────


def request(spans: int = 1, *, attributes: int = 1, name: str = "chat", ids: bool = True) -> ExportTraceServiceRequest:
    """A request of so many spans. Without `ids` they have none that are valid."""
    made = ExportTraceServiceRequest()
    resource = made.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "test"
    scope = resource.scope_spans.add()
    for _ in range(spans):
        span = scope.spans.add(trace_id=os.urandom(16) if ids else b"", span_id=os.urandom(8), name=name)
        for number in range(attributes):
            span.attributes.add(key=f"key.{number}").value.int_value = number
    return made


def body(spans: int = 1, **rest: Any) -> bytes:
    """`request`, serialized."""
    return request(spans, **rest).SerializeToString()


def json_body(spans: int = 1, **rest: Any) -> bytes:
    """`request` as OTLP/JSON: ids are hexadecimal there, not base64."""
    made = json_format.MessageToDict(request(spans, **rest))
    for resource in made["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for key in ("traceId", "spanId"):
                    span[key] = base64.b64decode(span[key]).hex()
    return json.dumps(made).encode()


@dataclass(frozen=True)
class Reply:
    """An HTTP answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def post(
    address: str, content: bytes | None, headers: dict[str, str] | None = None, path: str = "/v1/traces",
    method: str = "POST", timeout: float = 20.0,
) -> Reply:  # fmt: skip
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection(address, timeout=timeout)
    try:
        connection.request(method, path, content, PROTOBUF if headers is None else headers)
        answer = connection.getresponse()
        return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


# ── raw senders ─────────────────────────────────────────────────────────────────────────────────────────────────────


def connect(address: str, timeout: float = 10.0) -> socket.socket:
    """A plain connection."""
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout)


def read_all(connection: socket.socket, until: float = 10.0, quiet: float = 0.15) -> bytes:
    """What comes until the other side closes, until so many seconds have passed, or it has been quiet after something."""
    found, end = b"", time.monotonic() + until
    while time.monotonic() < end:
        left = max(0.01, end - time.monotonic())
        connection.settimeout(min(quiet, left) if found else left)
        try:
            piece = connection.recv(65536)
        except TimeoutError:
            break
        except ConnectionError:
            break
        if not piece:
            break
        found += piece
    return found


def raw(address: str, content: bytes, until: float = 5.0, quiet: float = 0.15) -> bytes:
    """Send these bytes, give back what is answered, as `read_all` reads it."""
    with connect(address) as connection:
        with contextlib.suppress(ConnectionError, TimeoutError):
            connection.sendall(content)
        return read_all(connection, until, quiet)


# ── raw HTTP/2 ──────────────────────────────────────────────────────────────────────────────────────────────────────

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS = 1, 4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A header field that enters no table."""
    return b"\x00" + _string(name) + _string(value)


def _string(text: bytes) -> bytes:
    if len(text) < 127:
        return bytes((len(text),)) + text
    length, out = len(text) - 127, b"\x7f"
    while length > 127:
        out, length = out + bytes((length & 127 | 128,)), length >> 7
    return out + bytes((length,)) + text


def call_headers(path: str = EXPORT, *more: tuple[bytes, bytes]) -> bytes:
    """The header block of a gRPC call."""
    fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path.encode()), (b":authority", b"x"),
              (b"te", b"trailers"), (b"content-type", b"application/grpc"), *more]  # fmt: skip
    return b"".join(literal(name, value) for name, value in fields)


def message(content: bytes, compressed: bool = False) -> bytes:
    """A gRPC message."""
    return struct.pack(">BI", compressed, len(content)) + content


class Http2:
    """A client that sends what it is told to, whatever the rules say."""

    def __init__(self, address: str, greet: bool = True) -> None:
        self.socket = connect(address)
        self._buffer = b""
        if greet:
            self.send(PREFACE + frame(SETTINGS, 0, 0))

    def __enter__(self) -> Http2:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, content: bytes) -> None:
        """Raw bytes."""
        self.socket.sendall(content)

    def open(self, stream: int, path: str = EXPORT, *more: tuple[bytes, bytes], end: bool = False) -> None:
        """Headers of a call."""
        self.send(frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, call_headers(path, *more)))

    def frames(self, seconds: float = 5.0) -> Iterator[tuple[int, int, int, bytes]]:
        """Frames as they come: type, flags, stream, payload; ends when the connection does or the time is over."""
        end = time.monotonic() + seconds
        while True:
            while len(self._buffer) >= 9:
                length = int.from_bytes(self._buffer[:3], "big")
                if len(self._buffer) < 9 + length:
                    break
                kind, flags, stream = struct.unpack(">BBI", self._buffer[3:9])
                payload, self._buffer = self._buffer[9 : 9 + length], self._buffer[9 + length :]
                yield kind, flags, stream, payload
            if time.monotonic() >= end:
                return
            self.socket.settimeout(max(0.01, end - time.monotonic()))
            try:
                piece = self.socket.recv(65536)
            except (TimeoutError, ConnectionError):
                return
            if not piece:
                return
            self._buffer += piece

    def trailers(self, stream: int, seconds: float = 5.0) -> bytes:
        """The header block that ends a stream; empty where none comes."""
        for kind, flags, id_, payload in self.frames(seconds):
            if id_ == stream and kind == HEADERS and flags & END_STREAM:
                return payload
        return b""

    def goodbye(self, seconds: float = 5.0) -> int | None:
        """The error code of the GOAWAY that comes; None where none does."""
        for kind, _, _, payload in self.frames(seconds):
            if kind == GOAWAY:
                return int.from_bytes(payload[4:8], "big")
        return None


if __name__ == "__main__":
    _serve(sys.argv[1])
