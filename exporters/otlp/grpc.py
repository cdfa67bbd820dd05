"""OTLP over gRPC: a unary call is one HTTP/2 request, and its status stands in the trailers.

retried     CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS;
            RESOURCE_EXHAUSTED where the server gives a RetryInfo
setup       PERMISSION_DENIED, UNAUTHENTICATED, UNIMPLEMENTED
for ever    everything else
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

from collector.errors import Permanent, Retryable
from collector.grpc_status import Code
from collector.signals import Signal
from exporters.otlp.answers import Partial, Status, partial_success, readable, status_trailer
from exporters.otlp.errors import SetupError
from exporters.otlp.transport import Reply

PATHS = {
    Signal.TRACES: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    Signal.LOGS: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    Signal.METRICS: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}
_PREFIX = 5  # of a message: whether it is compressed, and its length

RETRYABLE = frozenset({Code.CANCELLED, Code.DEADLINE_EXCEEDED, Code.ABORTED, Code.OUT_OF_RANGE, Code.UNAVAILABLE, Code.DATA_LOSS})  # fmt: skip
SETUP = frozenset({Code.PERMISSION_DENIED, Code.UNAUTHENTICATED, Code.UNIMPLEMENTED})
#: What an HTTP status means where something between us and the server answers in its place (gRPC over HTTP/2, appendix).
_OF_HTTP = {400: Code.INTERNAL, 401: Code.UNAUTHENTICATED, 403: Code.PERMISSION_DENIED, 404: Code.UNIMPLEMENTED,
            429: Code.UNAVAILABLE, 502: Code.UNAVAILABLE, 503: Code.UNAVAILABLE, 504: Code.UNAVAILABLE}  # fmt: skip


def framed(message: bytes, compressed: bool) -> bytes:
    """The message as a call's only one."""
    return bytes([compressed]) + len(message).to_bytes(_PREFIX - 1, "big") + message


def headers(sender: Mapping[str, str], encoding: str, timeout: float) -> dict[str, str]:
    """The headers of a call. Names are in lower case, as HTTP/2 has it."""
    own = {"content-type": "application/grpc", "te": "trailers", "grpc-timeout": f"{max(1, int(timeout * 1000))}m"}
    if encoding != "none":
        own["grpc-encoding"] = encoding
    return {name.lower(): value for name, value in sender.items()} | own


def judge(reply: Reply) -> Partial | None:
    """What a call led to: None, or what is left to say about a success. Raises `Retryable`, `Permanent`, `SetupError`."""
    if not reply.http2:
        raise SetupError(f"HTTP status {reply.status} over HTTP/1: this is no gRPC port (OTLP over HTTP is the exporter otlphttp)")  # fmt: skip
    told = reply.headers.get("grpc-status")
    if told is None:
        return _without_status(reply)
    code = Code(int(told)) if told.isascii() and told.isdigit() and int(told) < len(Code) else Code.UNKNOWN
    if code is Code.OK:
        return partial_success(_message(reply.body), is_json=False)
    details = status_trailer(reply.headers.get("grpc-status-details-bin", ""))
    raise _error(code, details, readable(unquote(reply.headers.get("grpc-message", ""))) or details.message)


def _without_status(reply: Reply) -> Partial | None:
    if reply.status == 200:
        cause = "the answer broke off" if reply.whole else "the answer is longer than 4 MiB"
        raise Retryable(f"{cause}: it has no gRPC status")
    if 300 <= reply.status < 400:
        raise SetupError(f"HTTP status {reply.status}, a redirect, which is not followed: correct the endpoint")
    raise _error(_OF_HTTP.get(reply.status, Code.UNKNOWN), Status("", None), f"HTTP status {reply.status}")


def _error(code: Code, details: Status, message: str) -> Exception:
    text = f"{code.name}: {message}" if message else code.name
    if code in RETRYABLE or (code is Code.RESOURCE_EXHAUSTED and details.retry_after is not None):
        return Retryable(text, details.retry_after)
    return SetupError(text) if code in SETUP else Permanent(text)


def _message(body: bytes) -> bytes:
    """The answer's message; nothing for one that is compressed, which we did not ask for, or that is not whole."""
    size = int.from_bytes(body[1:_PREFIX], "big")
    return body[_PREFIX : _PREFIX + size] if body[:1] == b"\0" and len(body) >= _PREFIX + size else b""
