"""OTLP over HTTP: what a status means.

taken       200 to 299
retried     429, 502, 503, 504; Retry-After in seconds or as a date
setup       300 to 399, 401, 403, 404, 405, 407
for ever    everything else; also 500, as the specification has it
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from collector.errors import Permanent, Retryable
from exporters.otlp.answers import Partial, http_message, partial_success, retry_after
from exporters.otlp.errors import SetupError
from exporters.otlp.transport import Reply

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
RETRYABLE = frozenset({429, 502, 503, 504})
SETUP = frozenset({401, 403, 404, 405, 407})


def headers(sender: Mapping[str, str], content_type: str, encoding: str) -> dict[str, str]:
    """The headers of a request."""
    own = {"Content-Type": content_type}
    if encoding != "none":
        own["Content-Encoding"] = encoding
    return {**sender, **own}


def judge(reply: Reply) -> Partial | None:
    """What a request led to: None, or what is left to say about a success. Raises `Retryable`, `Permanent`, `SetupError`."""
    content_type = reply.headers.get("content-type", "").lower()
    if 200 <= reply.status < 300:
        return partial_success(reply.body, is_json="json" in content_type) if reply.whole else None
    if 300 <= reply.status < 400:
        raise SetupError(f"{_named(reply.status)}, a redirect, which is not followed: correct the endpoint")
    message = http_message(reply.body, content_type)
    text = f"{_named(reply.status)}: {message}" if message else _named(reply.status)
    if reply.status in RETRYABLE:
        raise Retryable(text, retry_after(reply.headers.get("retry-after")))
    raise SetupError(text) if reply.status in SETUP else Permanent(text)


def _named(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
