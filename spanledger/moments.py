"""Points in time as people type them: `24h`, `7d`, `2026-11-24`, `2026-11-24T12:00`. In the terminal and in an address alike."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from config.types import parse_duration


def moment(text: str, now: datetime) -> datetime:
    """The moment that a text means, in UTC: so long before `now`, or a date, or a date and time. Raises ValueError."""
    try:
        return now - timedelta(seconds=parse_duration(text))
    except (ValueError, OverflowError):
        pass
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
