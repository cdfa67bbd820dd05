"""Points in time as people type them: `24h`, `7d`, `2026-11-24`, `2026-11-24T12:00`, `all`."""

from __future__ import annotations

from datetime import UTC, datetime

from spanledger.cli.shell import usage


def moment(text: str, option: str, now: datetime) -> datetime | None:
    """The moment that a text means, in UTC: so long before `now`, or a date, or a date and time. `all`: None."""
    from spanledger.moments import moment as typed

    if text == "all":
        return None
    try:
        return typed(text, now)
    except ValueError:
        usage(
            f"{option}: not a time: {text!r}",
            "Write how long ago (90m, 24h, 7d), a day (2026-11-24), a time in UTC (2026-11-24T12:00), or all.",
        )


def literal(when: datetime) -> str:
    """The moment as ClickHouse SQL."""
    return f"toDateTime64('{when.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}', 9, 'UTC')"
