"""Every error that Spanledger raises on purpose, as one tree.

SpanledgerError
├── ConfigError            the config is wrong; carries findings with file, line and column
├── Refused                a request is not taken; carries the OTLP status the sender is answered with
│   ├── Unauthenticated    no or wrong token                     UNAUTHENTICATED / 401
│   ├── Malformed          not an OTLP request                   INVALID_ARGUMENT / 400
│   ├── UnsupportedMedia   content type or encoding not known    UNIMPLEMENTED / 415
│   ├── TooLarge           over a limit, also after inflating    RESOURCE_EXHAUSTED, not retryable / 413
│   └── Overloaded         no room now, come back                UNAVAILABLE + RetryInfo / 503 + Retry-After
├── StoreError             the disk said no (full, failing, damaged)
│   └── StoreFull          a bounded store has no room
└── DeliveryError          an exporter could not deliver
    ├── Retryable          try the same payload again, later
    ├── PartlyRefused      taken, but for some items: a copy goes to the dead-letter store
    └── Permanent          the payload will never be taken: dead-letter store
"""

from __future__ import annotations

from config.errors import ConfigError, SpanledgerError

__all__ = [
    "ConfigError",
    "DeliveryError",
    "Malformed",
    "Overloaded",
    "PartlyRefused",
    "Permanent",
    "Refused",
    "Retryable",
    "SpanledgerError",
    "StoreError",
    "StoreFull",
    "TooLarge",
    "Unauthenticated",
    "UnsupportedMedia",
]


class Refused(SpanledgerError):
    """A request is not taken. The message is sent to the client: it never quotes the request's content."""


class Unauthenticated(Refused): ...


class Malformed(Refused): ...


class UnsupportedMedia(Refused): ...


class TooLarge(Refused): ...


class Overloaded(Refused):
    """No room now. `retry_after` is in seconds."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StoreError(SpanledgerError): ...


class StoreFull(StoreError): ...


class DeliveryError(SpanledgerError): ...


class Retryable(DeliveryError):
    """The same payload may be taken later. `retry_after` (seconds) is the receiver's wish, None leaves it to the backoff."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class PartlyRefused(DeliveryError):
    """The payload was taken and must not be sent again, but `rejected` of its items were refused; which ones is not told."""

    def __init__(self, message: str, rejected: int) -> None:
        super().__init__(message)
        self.rejected = rejected


class Permanent(DeliveryError):
    """The payload will never be taken as it is."""
