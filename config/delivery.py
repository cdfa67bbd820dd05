"""The options that every exporter has: how much may wait for it, and how often a delivery is tried again."""

from __future__ import annotations

from collections.abc import Hashable

from pydantic import Field

from config.types import ByteSize, Duration, StrictModel


class QueueConfig(StrictModel):
    """The exporter's queue on disk, between the pipeline and the network."""

    max_size: ByteSize = Field(default=2 * 2**30, ge=2**20)
    """Bytes that may wait. When it is full the pipeline stops, then the inbox fills, then senders are told to come back."""


class RetryConfig(StrictModel):
    """What happens after a delivery that failed and may succeed later."""

    initial_interval: Duration = Field(default=1.0, gt=0, le=3600)
    """Pause before the second attempt; it grows from there, with jitter."""
    multiplier: float = Field(default=1.5, ge=1, le=10)
    """How much longer each further pause is."""
    max_interval: Duration = Field(default=30.0, gt=0, le=3600)
    """Longest pause. A `Retry-After` of the other side stands above it."""
    max_elapsed_time: Duration = Field(default=0.0, ge=0)
    """When to give up and put the delivery into the dead-letter store. 0: never."""


class ExporterConfig(StrictModel):
    """Base of an exporter's options."""

    sending_queue: QueueConfig = Field(default_factory=QueueConfig)
    """The exporter's queue on disk."""
    retry_on_failure: RetryConfig = Field(default_factory=RetryConfig)
    """Further attempts."""

    def destination(self, signal: str) -> Hashable:  # noqa: ARG002
        """Where items of a signal end up: exporters of one type for which it is equal put them in the same place, and must not
        both be given the same ones. None: nobody else puts anything there. Never shown."""
        return None
