"""Points in time as people type them: `24h`, `7d`, `2026-11-24`, `2026-11-24T12:00`, `all`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from spanledger.cli.shell import usage


def moment(text: str, option: str, now: datetime) -> datetime | None:
    """The moment that a text means, in UTC: so long before `now`, or a date, or a date and time. `all`: None."""
    from config.types import parse_duration

    if text == "all":
        return None
    try:
        return now - timedelta(seconds=parse_duration(text))
    except (ValueError, OverflowError):
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        usage(
            f"{option}: not a time: {text!r}",
            "Write how long ago (90m, 24h, 7d), a day (2026-11-24), a time in UTC (2026-11-24T12:00), or all.",
        )
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def literal(when: datetime) -> str:
    """The moment as ClickHouse SQL."""
    return f"toDateTime64('{when.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}', 9, 'UTC')"
