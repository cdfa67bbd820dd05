"""What the other side says in its answers: partial success, google.rpc.Status, RetryInfo, Retry-After.

Answers come from outside: whatever cannot be read says nothing, and nothing here raises. Messages are cut short and made
printable before anybody sees them.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import time
from collections.abc import Iterator
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

#: The longest wait that is granted: a clock that is wrong by years must not stop a delivery for as long.
LONGEST_WAIT_S = 3600.0
_MESSAGE_LENGTH = 300
_RETRY_INFO = b"/google.rpc.RetryInfo"
_REJECTED = ("rejectedSpans", "rejectedLogRecords", "rejectedDataPoints")


class Partial(NamedTuple):
    """ExportTracePartialSuccess and its like: how many items were refused, and why; or 0 and a warning."""

    rejected: int
    message: str


class Status(NamedTuple):
    """google.rpc.Status: its message, and after how many seconds to come back (None: it does not say)."""

    message: str
    retry_after: float | None


def partial_success(body: bytes, is_json: bool) -> Partial | None:
    """The partial success in an Export…ServiceResponse of any signal; None for full success."""
    if is_json:
        partial = _object(_parsed(body).get("partialSuccess"))
        rejected = next((_whole(partial[key]) for key in _REJECTED if key in partial), 0)
        message = partial.get("errorMessage")
        found = Partial(rejected, readable(message if isinstance(message, str) else ""))
    else:
        inner = b"".join(value for number, value in fields(body) if number == 1 and isinstance(value, bytes))
        rejected, text = 0, b""
        for number, value in fields(inner):
            if number == 1 and isinstance(value, int):
                rejected = value if value < 2**63 else 0
            elif number == 2 and isinstance(value, bytes):
                text = value
        found = Partial(rejected, readable(text.decode(errors="replace")))
    return found if found.rejected > 0 or found.message else None


def http_message(body: bytes, content_type: str) -> str:
    """What the body of an HTTP error says: a google.rpc.Status, or text."""
    if "json" in content_type:
        message = _parsed(body).get("message")
        return readable(message if isinstance(message, str) else "")
    if "protobuf" in content_type:
        return status(body).message
    if not content_type.startswith("text/plain"):  # pages of HTML say nothing in a line of a log
        return ""
    return readable(body[: 4 * _MESSAGE_LENGTH].decode(errors="replace"))


def status(body: bytes) -> Status:
    """google.rpc.Status{code = 1, message = 2, details = 3: Any} as protobuf."""
    message, retry_after = b"", None
    for number, value in fields(body):
        if number == 2 and isinstance(value, bytes):
            message = value
        elif number == 3 and isinstance(value, bytes):
            any_ = dict(fields(value))
            type_url, inner = any_.get(1), any_.get(2, b"")
            if isinstance(type_url, bytes) and type_url.endswith(_RETRY_INFO) and isinstance(inner, bytes):
                retry_after = _duration(dict(fields(inner)).get(1, b""))
    return Status(readable(message.decode(errors="replace")), retry_after)


def status_trailer(text: str) -> Status:
    """The status in gRPC's `grpc-status-details-bin`: base64, often without its padding."""
    try:
        return status(base64.b64decode(text + "=" * (-len(text) % 4), validate=True))
    except (binascii.Error, ValueError):
        return Status("", None)


def retry_after(text: str | None) -> float | None:
    """`Retry-After` in seconds from now: a number of them, or an HTTP date. None where it says nothing."""
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), LONGEST_WAIT_S)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(moment.timestamp() - time.time(), 0.0), LONGEST_WAIT_S)


def readable(text: str) -> str:
    """A message of the other side, short, on one line, without control characters."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * _MESSAGE_LENGTH]).split())
    return text if len(text) <= _MESSAGE_LENGTH else f"{text[:_MESSAGE_LENGTH]}…"


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each protobuf field; ends where the data is not well-formed."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            number, at = _varint(data, at)
            if at < 0:
                return
            yield tag >> 3, number
            continue
        size = {1: 8, 5: 4}.get(kind, -1)
        if kind == 2:
            size, at = _varint(data, at)
        if at < 0 or size < 0 or size > len(data) - at:
            return
        if kind == 2:
            yield tag >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A varint and the position behind it, -1 for none."""
    value = shift = 0
    while 0 <= at < len(data) and shift < 70:
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
        shift += 7
    return 0, -1


def _duration(data: int | bytes) -> float | None:
    """google.protobuf.Duration{seconds = 1, nanos = 2}; negative ones are none."""
    if not isinstance(data, bytes):
        return None
    found = dict(fields(data))
    seconds, nanos = found.get(1, 0), found.get(2, 0)
    if not isinstance(seconds, int) or not isinstance(nanos, int) or seconds >= 2**63 or nanos >= 10**9:
        return None
    return min(seconds + nanos / 1e9, LONGEST_WAIT_S)


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        return _object(json.loads(body))
    except (ValueError, RecursionError):
        return {}


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _whole(value: Any) -> int:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return 0
    return int(number) if math.isfinite(number) and number > 0 else 0
