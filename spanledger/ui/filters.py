"""What every page is filtered by, and how it stands in the URL: `?since=7d&team=search&team=ads`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlencode

from spanledger.moments import moment
from spanledger.ui.ask import Value

#: Filters and the columns that they choose by. The hourly sums have `Model` as a column, calls an expression.
DIMENSIONS = {"environment": "Environment", "team": "Team", "app": "App", "model": "Model", "provider": "Provider"}
#: What is offered as time range.
RANGES = {"1h": "Last hour", "6h": "Last 6 hours", "24h": "Last 24 hours", "7d": "Last 7 days", "30d": "Last 30 days", "90d": "Last 90 days"}  # fmt: skip
DEFAULT = "7d"
#: What stands for rows without a value.
NONE = "(none)"
_MOST = 50
_UNATTRIBUTED = "(unattributed)"


class FilterError(ValueError):
    """A URL asks for a time that is none; the message is for the reader."""


@dataclass(frozen=True, slots=True)
class Filters:
    """A choice of calls. `since` and `until` as they were typed; no value of a dimension means all."""

    since: str = DEFAULT
    until: str = ""
    chosen: tuple[tuple[str, tuple[str, ...]], ...] = ()
    now: datetime = datetime(1970, 1, 1, tzinfo=UTC)

    @classmethod
    def from_query(cls, query: str, now: datetime) -> Filters:
        """Read a query string. Raises `FilterError`."""
        pairs = parse_qsl(query, keep_blank_values=False)
        last = dict(pairs)
        chosen = tuple(
            (name, values) for name in DIMENSIONS if (values := tuple(dict.fromkeys(v for n, v in pairs if n == name))[:_MOST])
        )  # fmt: skip
        found = cls(last.get("since", DEFAULT), last.get("until", ""), chosen, now)
        if found.start >= found.end:
            raise FilterError("The period is empty: its start is not before its end.")
        return found

    @property
    def start(self) -> datetime:
        """First moment, UTC."""
        return _moment(self.since, self.now)

    @property
    def end(self) -> datetime:
        """First moment after it, UTC."""
        return _moment(self.until, self.now) if self.until else self.now

    @property
    def seconds(self) -> float:
        return (self.end - self.start).total_seconds()

    def values(self, name: str) -> tuple[str, ...]:
        return dict(self.chosen).get(name, ())

    def where(
        self, table: str, *, time: str = "Timestamp", columns: Mapping[str, str] | None = None, period: bool = True
    ) -> tuple[str, dict[str, Value]]:
        """SQL of a condition over `table` (an alias), and its parameters. `time="Hour"`: hours whole, from the one in
        which the period starts. `columns`: expressions for columns that the table lacks; '' leaves that filter out."""
        tests, parameters = [], dict[str, Value]()
        if period:
            first = "toStartOfHour({since:DateTime64(6, 'UTC')})" if time == "Hour" else "{since:DateTime64(6, 'UTC')}"
            tests += [f"{table}.{time} >= {first}", f"{table}.{time} < {{until:DateTime64(6, 'UTC')}}"]
            parameters |= {"since": self.start, "until": self.end}
        for name, values in self.chosen:
            column = DIMENSIONS[name]
            expression = (columns or {}).get(column, f"{table}.{column}")
            if expression:
                tests.append(f"{expression} IN {{{name}:Array(String)}}")
                absent = [v for value in values for v in (("", _UNATTRIBUTED) if value in (NONE, _UNATTRIBUTED) else (value,))]  # fmt: skip
                parameters[name] = absent
        return " AND ".join(tests) or "1", parameters

    def query(self, **changes: str | tuple[str, ...]) -> str:
        """The query string of this view, with dimensions or times changed ('' or () for all). Begins with `?` or is empty."""
        times = {"since": self.since if self.since != DEFAULT else "", "until": self.until}
        pairs = [(n, str(changes.pop(n, v))) for n, v in times.items()]
        for name in DIMENSIONS:
            given = changes.pop(name, self.values(name))
            pairs += [(name, value) for value in ((given,) if isinstance(given, str) else given)]
        pairs += [(name, value) for name, value in changes.items() if isinstance(value, str)]
        kept = [(name, value) for name, value in pairs if value]
        return f"?{urlencode(kept)}" if kept else ""


def _moment(text: str, now: datetime) -> datetime:
    try:
        return moment(text, now)
    except ValueError:
        raise FilterError("A time is written as 90m, 24h, 7d, 2026-11-24 or 2026-11-24T12:00 (UTC).") from None


def _iso(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%dT%H:%M}"
