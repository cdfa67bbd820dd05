"""What a sender is answered: the error tree as gRPC and HTTP codes, and google.rpc.Status in either encoding.

    Unauthenticated     UNAUTHENTICATED       401
    Malformed           INVALID_ARGUMENT      400
    UnsupportedMedia    UNIMPLEMENTED         415
    TooLarge            RESOURCE_EXHAUSTED    413   without RetryInfo: senders must not send it again
    Overloaded          UNAVAILABLE           503   with RetryInfo / Retry-After: they must
    StoreError          UNAVAILABLE           503   likewise
    anything else       UNAVAILABLE           503   likewise: a 500 is never sent again, and the spans would be lost

The messages are small and have few shapes, so they are written by hand: no protobuf object is made for a request.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

from collector.errors import (
    Malformed,
    Overloaded,
    Refused,
    StoreError,
    TooLarge,
    Unauthenticated,
    UnsupportedMedia,
)
from collector.grpc_status import Code
from collector.signals import Signal

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
#: Seconds after which to come back when the disk is the reason.
STORE_RETRY_SECONDS = 5.0
_MAX_MESSAGE = 1024


@dataclass(frozen=True, slots=True)
class Status:
    """An error as both protocols tell it. `retry_after` is in seconds; None forbids to try again."""

    code: Code
    http: int
    message: str
    retry_after: float | None = None

    def protobuf(self) -> bytes:
        """google.rpc.Status{code = 1, message = 2, details = 3: Any of RetryInfo}."""
        text = self.message.encode()[:_MAX_MESSAGE].decode(errors="ignore").encode()
        body = _varint_field(1, self.code) + _bytes_field(2, text)
        if self.retry_after is not None:
            seconds, nanos = divmod(round(self.retry_after * 1e9), 10**9)
            delay = _bytes_field(1, _varint_field(1, seconds) + _varint_field(2, nanos))
            body += _bytes_field(3, _bytes_field(1, _RETRY_INFO.encode()) + _bytes_field(2, delay))
        return body

    def json(self) -> bytes:
        """The same as protobuf's JSON."""
        body: dict[str, object] = {"code": int(self.code), "message": self.message[:_MAX_MESSAGE]}
        if self.retry_after is not None:
            body["details"] = [{"@type": _RETRY_INFO, "retryDelay": f"{self.retry_after:g}s"}]
        return json.dumps(body, ensure_ascii=False).encode()

    def body(self, content_type: str) -> bytes:
        """The body of an HTTP answer of this content type (`PROTOBUF` or `JSON`)."""
        return self.json() if content_type == JSON else self.protobuf()

    @property
    def retry_after_header(self) -> str | None:
        """Whole seconds, at least one."""
        return None if self.retry_after is None else str(max(1, math.ceil(self.retry_after)))


_RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"

_CODES: tuple[tuple[type[Refused], Code, int], ...] = (
    (Unauthenticated, Code.UNAUTHENTICATED, 401),
    (Malformed, Code.INVALID_ARGUMENT, 400),
    (UnsupportedMedia, Code.UNIMPLEMENTED, 415),
    (TooLarge, Code.RESOURCE_EXHAUSTED, 413),
)


def status_of(error: BaseException) -> Status:
    """What the sender is told about an error."""
    if isinstance(error, Overloaded):
        return Status(Code.UNAVAILABLE, 503, str(error), error.retry_after)
    for kind, code, http in _CODES:
        if isinstance(error, kind):
            return Status(code, http, str(error))
    if isinstance(error, StoreError):
        return Status(Code.UNAVAILABLE, 503, "the request could not be written to disk", STORE_RETRY_SECONDS)
    return Status(Code.UNAVAILABLE, 503, "internal error; the collector's log says more", STORE_RETRY_SECONDS)


#: The JSON name of field 1 of a partial success: how many items were left out.
_REJECTED = {
    Signal.TRACES: "rejectedSpans",
    Signal.LOGS: "rejectedLogRecords",
    Signal.METRICS: "rejectedDataPoints",
}


def export_response(rejected: int, reason: str) -> bytes:
    """ExportTraceServiceResponse: empty for full success, else partial_success{rejected_spans, error_message}.

    The responses to logs and metrics have the same fields under other names.
    """
    if not rejected and not reason:
        return b""
    text = reason.encode()[:_MAX_MESSAGE].decode(errors="ignore").encode()
    return _bytes_field(1, _varint_field(1, rejected) + _bytes_field(2, text))


def export_response_json(signal: Signal, rejected: int, reason: str) -> bytes:
    """The same as protobuf's JSON."""
    if not rejected and not reason:
        return b"{}"
    # int64 is a string in protobuf's JSON.
    partial = {_REJECTED[signal]: str(rejected), "errorMessage": reason[:_MAX_MESSAGE]}
    return json.dumps({"partialSuccess": partial}, ensure_ascii=False).encode()


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _varint_field(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value) if value else b""


def _bytes_field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value
