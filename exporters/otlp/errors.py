"""The one kind of error that the OTLP exporters have besides the collector's."""

from __future__ import annotations

from collector.errors import DeliveryError


class SetupError(DeliveryError):
    """Refused because of who sends or where to, not because of what is sent."""
