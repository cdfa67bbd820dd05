"""Sending OTLP bodies as a well-behaved client does: keep-alive, retries on overload, Retry-After honoured."""

from __future__ import annotations

import gzip
import http.client
import io
import json
import random
import socket
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from spanledger.cli.shell import CommandError, err, usage

MAX_BODY = 256 * 2**20
_PORTS = {"http": 4318, "grpc": 4317}
_SERVICES = {
    "traces": "opentelemetry.proto.collector.trace.v1.TraceService",
    "logs": "opentelemetry.proto.collector.logs.v1.LogsService",
    "metrics": "opentelemetry.proto.collector.metrics.v1.MetricsService",
}


@dataclass(frozen=True, slots=True)
class Body:
    """One OTLP request. `data` is as it goes over the wire, `gzipped` says whether it is compressed."""

    name: str
    signal: str  # traces, logs, metrics
    data: bytes
    content_type: str = "application/x-protobuf"
    gzipped: bool = False


class SendError(Exception):
    """A body was not taken. `fatal`: no other will be either (nobody listens, the token is wrong)."""

    def __init__(self, message: str, *, fatal: bool = False, hint: str = "") -> None:
        super().__init__(message)
        self.fatal, self.hint = fatal, hint


class _Later(Exception):
    """Try again; `after` is the receiver's wish in seconds."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


@dataclass
class Sender(ABC):
    """Sends one body after another to one endpoint. Not for several threads."""

    endpoint: str
    headers: Mapping[str, str] = field(default_factory=dict)
    retries: int = 8
    timeout: float = 30.0
    sleep: Callable[[float], None] = time.sleep
    retried: int = 0
    rejected: int = 0  # items that a partial success refused

    def send(self, body: Body) -> None:
        """Deliver; on overload or a lost connection again, up to `retries` times. Raises `SendError`."""
        for attempt in range(self.retries + 1):
            try:
                self._send(body)
                return
            except _Later as later:
                if attempt == self.retries:
                    raise SendError(f"gave up after {attempt + 1} attempts: {later}") from None
                self.retried += 1
                backoff = min(0.25 * 2**attempt, 8.0) * random.uniform(0.75, 1.25)
                self.sleep(backoff if later.after is None else min(later.after, 60.0))

    @abstractmethod
    def _send(self, body: Body) -> None: ...

    @abstractmethod
    def close(self) -> None: ...


@dataclass
class HttpSender(Sender):
    """OTLP/HTTP. `/v1/traces` and its like are added to an endpoint without a path, as SDKs do."""

    _connection: http.client.HTTPConnection | None = None
    _used: bool = False

    def __post_init__(self) -> None:
        parts = urlsplit(self.endpoint if "//" in self.endpoint else f"http://{self.endpoint}")
        try:
            port = parts.port
        except ValueError:
            port = None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            usage(f"not an OTLP/HTTP endpoint: {self.endpoint!r}", "Write a URL, such as http://127.0.0.1:4318.")
        self._host, self._port = parts.hostname, port or (443 if parts.scheme == "https" else 4318)
        self._tls, self._path = parts.scheme == "https", parts.path.rstrip("/")

    def _open(self) -> http.client.HTTPConnection:
        if self._connection is None:
            self._used = False
            if self._tls:
                context = ssl.create_default_context()
                self._connection = http.client.HTTPSConnection(
                    self._host, self._port, timeout=self.timeout, context=context
                )
            else:
                self._connection = http.client.HTTPConnection(self._host, self._port, timeout=self.timeout)
        return self._connection

    def _send(self, body: Body) -> None:
        path = self._path if self._path.endswith(f"/{body.signal}") else f"{self._path}/v1/{body.signal}"
        headers = {"Content-Type": body.content_type, **self.headers}
        if body.gzipped:
            headers["Content-Encoding"] = "gzip"
        connection, fresh = self._open(), not self._used
        try:
            connection.request("POST", path, body.data, headers)
            answer = connection.getresponse()
            content = answer.read(2**20)
            self._used = True
        except ConnectionRefusedError:
            self.close()
            raise SendError(
                f"nobody listens at {self.endpoint}",
                fatal=True,
                hint="Start the collector with `spanledger run`; where that was a moment ago, try again.",
            ) from None
        except ssl.SSLError as error:
            self.close()
            raise SendError(f"TLS to {self.endpoint} failed: {error.reason or error}", fatal=True) from None
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if fresh and isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError):
                raise SendError(f"cannot reach {self.endpoint}: {error}", fatal=True) from None
            raise _Later(f"the connection broke: {type(error).__name__}") from None
        if answer.will_close or len(content) == 2**20:
            self.close()
        self._judge(answer, content)

    def _judge(self, answer: http.client.HTTPResponse, content: bytes) -> None:
        said = _message(answer.getheader("Content-Type") or "", content)
        match answer.status:
            case 200:
                self.rejected += _rejected(answer.getheader("Content-Type") or "", content)
            case 401 | 403:
                raise SendError(
                    f"{answer.status}: {said or 'not allowed'}", fatal=True, hint="Give the token with --token."
                )
            case 429 | 502 | 503 | 504:
                raise _Later(f"{answer.status}: {said or answer.reason}", _retry_after(answer.getheader("Retry-After")))
            case 404 | 405:
                raise SendError(
                    f"{answer.status}: {said or answer.reason}",
                    fatal=not said,  # whoever takes OTLP says more
                    hint=f"Nobody takes OTLP/HTTP at {self.endpoint}: is it the right port (4318 by default)?",
                )
            case status:
                raise SendError(f"{status}: {said or answer.reason}")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@dataclass
class GrpcSender(Sender):
    """OTLP/gRPC, without TLS unless the endpoint begins with https://."""

    def __post_init__(self) -> None:
        import grpc

        scheme, _, rest = self.endpoint.rpartition("://")
        if scheme not in ("", "http", "https") or not rest.strip("/"):
            usage(f"not an OTLP/gRPC endpoint: {self.endpoint!r}", "Write host and port, such as 127.0.0.1:4317.")
        options = [("grpc.max_receive_message_length", 2**20)]
        target = rest.rstrip("/")
        if scheme == "https":
            self._channel: Any = grpc.secure_channel(target, grpc.ssl_channel_credentials(), options)
        else:
            self._channel = grpc.insecure_channel(target, options)
        self._calls = {s: self._channel.unary_unary(f"/{name}/Export") for s, name in _SERVICES.items()}

    def _send(self, body: Body) -> None:
        import grpc

        if body.content_type != "application/x-protobuf":
            raise SendError("gRPC takes protobuf; send JSON with --protocol http")
        data = inflate(body.data) if body.gzipped else body.data
        metadata = [(name.lower(), value) for name, value in self.headers.items()]
        try:
            answer = self._calls[body.signal](data, timeout=self.timeout, metadata=metadata)
        except grpc.RpcError as error:
            code, said = error.code(), error.details()
            if code is grpc.StatusCode.UNAVAILABLE and "refused" in str(said).lower():
                hint = "Start the collector with `spanledger run`; where that was a moment ago, try again."
                raise SendError(f"nobody listens at {self.endpoint}", fatal=True, hint=hint) from None
            if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
                raise SendError(f"{code.name}: {said}", fatal=True, hint="Give the token with --token.") from None
            if "http1.x" in str(said):
                hint = "OTLP/HTTP is sent with --protocol http; OTLP/gRPC has a port of its own (4317 by default)."
                raise SendError(f"{self.endpoint} does not speak gRPC", fatal=True, hint=hint) from None
            delay = _retry_info(error)
            retryable = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.ABORTED)
            if code in retryable or (code is grpc.StatusCode.RESOURCE_EXHAUSTED and delay is not None):
                raise _Later(f"{code.name}: {said}", delay) from None
            raise SendError(f"{code.name}: {said}") from None
        self.rejected += _rejected("application/x-protobuf", answer)

    def close(self) -> None:
        self._channel.close()


def inflate(data: bytes) -> bytes:
    """Gunzip, up to `MAX_BODY`. Raises `CommandError`."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            found = stream.read(MAX_BODY + 1)
    except (OSError, EOFError, ValueError) as error:
        raise CommandError(f"not a gzip file: {error}") from None
    if len(found) > MAX_BODY:
        raise CommandError(f"larger than {MAX_BODY // 2**20} MiB when inflated")
    return found


def _retry_after(text: str | None) -> float | None:
    """Retry-After as seconds: a number or an HTTP date."""
    if text is None:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _retry_info(error: Any) -> float | None:
    """The delay of a google.rpc.RetryInfo in the trailers, in seconds."""
    from google.protobuf.duration_pb2 import Duration

    for key, value in error.trailing_metadata() or ():
        if key != "grpc-status-details-bin":
            continue
        marker = b"type.googleapis.com/google.rpc.RetryInfo"
        at = value.find(marker)
        if at < 0 or len(value) < at + len(marker) + 4:
            continue
        inside = value[at + len(marker) :]  # 0x12 LEN of the Any, then 0x0a LEN of the Duration
        duration = Duration()
        try:
            duration.ParseFromString(inside[4 : 4 + inside[3]])
        except Exception:  # noqa: S112  a wish that cannot be read is no wish
            continue
        return duration.seconds + duration.nanos / 1e9
    return None


def _message(content_type: str, content: bytes) -> str:
    """What an error body says: the `message` of a google.rpc.Status, as JSON or protobuf, or short plain text."""
    try:
        if "json" in content_type:
            return str(json.loads(content).get("message", ""))[:500]
        if "protobuf" in content_type:
            at, end = 0, len(content)
            while at < end:  # Status: 1 code, 2 message
                tag = content[at]
                if tag == 0x12 and at + 1 < end:
                    length, at = _varint(content, at + 1)
                    return content[at : at + length].decode(errors="replace")[:500]
                _, at = _varint(content, at + 1)
            return ""
    except (ValueError, AttributeError, IndexError):
        return ""
    return content[:200].decode(errors="replace").strip() if "text/plain" in content_type else ""


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80 or shift > 63:
            return value, at


def _rejected(content_type: str, content: bytes) -> int:
    """How many items a partial success refused; the field is number 1 of the message in all three signals."""
    try:
        if "json" in content_type:
            partial = json.loads(content or b"{}").get("partialSuccess") or {}
            return sum(int(partial.get(k, 0)) for k in ("rejectedSpans", "rejectedLogRecords", "rejectedDataPoints"))
        if content[:1] == b"\x0a" and content[2:3] == b"\x08":
            return _varint(content, 3)[0]
    except (ValueError, AttributeError, IndexError):
        pass
    return 0


def await_start(protocol: str, endpoint: str | None) -> None:
    """Wait for this machine's collector while it starts: its receivers do not listen yet. Nothing to do for another `endpoint`."""
    if endpoint is not None or _listens(protocol):
        return
    from config import load

    data_dir = load().service.data_dir
    if _has_process(data_dir):
        err.print("The collector is starting; this goes on as soon as it takes requests.")
        while not _listens(protocol) and _has_process(data_dir):
            time.sleep(0.2)


def _listens(protocol: str) -> bool:
    """Whether anybody is at the protocol's usual port of this machine."""
    try:
        socket.create_connection(("127.0.0.1", _PORTS[protocol]), 1.0).close()
    except OSError:
        return False
    return True


def _has_process(data_dir: Path) -> bool:
    """Whether the collector that last had this directory still runs."""
    try:
        pid = int((data_dir / "state" / "writer.pid").read_text())
        return b"spanledger" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return False


def open_sender(
    protocol: str, endpoint: str | None, token: str | None, headers: Mapping[str, str], retries: int
) -> Sender:
    """The sender for `http` or `grpc`, at the usual port of this machine where no endpoint is given."""
    headers = {**headers, **({"Authorization": f"Bearer {token}"} if token else {})}
    if protocol == "grpc":
        return GrpcSender(endpoint or "127.0.0.1:4317", headers, retries)
    return HttpSender(endpoint or "http://127.0.0.1:4318", headers, retries)
