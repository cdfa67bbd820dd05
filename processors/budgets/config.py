"""What budgets are told.

```yaml
processors:
  budgets:
    budgets:
      teams:                       # each team, 500 dollars a month
        per: [team]
        usd: 500
        timezone: Europe/Berlin
      research-opus:               # one team on the dear models
        per: [team]
        match: {team: research, model: "claude-opus-*"}
        usd: 50
        window: day
      chat-users:                  # each user of one app, over the last 24 hours
        per: [user]
        match: {app: chat}
        tokens: 2000000
        rolling: 24h
```
"""

from __future__ import annotations

import re
from decimal import Decimal
from fnmatch import translate
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from collector.columns import PICO_PER_USD
from collector.sums import COUNTED_BY
from collector.windows import Calendar, Kind, Rolling, Window, zone_of
from config.types import Duration, StrictModel


def _one_of(name: str) -> str:
    if name not in COUNTED_BY:
        raise ValueError(f"no dimension {name!r}; there are {', '.join(COUNTED_BY)}")
    return name


def _zone(name: str) -> str:
    zone_of(name)
    return name


def _listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


Dimension = Annotated[str, AfterValidator(_one_of)]
_ONE_OR_MORE = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
Globs = Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1), WithJsonSchema(_ONE_OR_MORE)]
Match = dict[Dimension, Globs]
Percent = Annotated[Decimal, Field(gt=0, le=1000)]


class Budget(StrictModel):
    """A limit for each subject, and when to say that it is near."""

    per: tuple[Dimension, ...] = ()
    """Whose limit it is: each value of a dimension, or each combination of several, has it for itself. None: one for all
    calls together."""
    match: Match = {}
    """Only calls with these values count: texts with `*` and `?`, without regard to case; one, or a list of which one must
    fit. The empty text is a call that has no such value."""
    unless: Match = {}
    """Calls that fit any of these do not count."""
    usd: Annotated[Decimal, Field(gt=0, lt=10**12, decimal_places=12)] | None = None
    """Limit in dollars. Calls whose cost is not known count as nothing."""
    tokens: Annotated[int, Field(gt=0)] | None = None
    """Limit in tokens, input and output together. One of `usd`, `tokens` and `calls`."""
    calls: Annotated[int, Field(gt=0)] | None = None
    """Limit in calls, failed ones included."""
    window: Kind = "month"
    """What the limit is for. Weeks begin on Monday."""
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"
    """Whose midnight ends a day."""
    rolling: Annotated[Duration, Field(ge=600, le=90 * 86400)] | None = None
    """In place of a window: the limit is for the last so much time, whenever one looks. It moves on in steps of a 48th."""
    soft: tuple[Percent, ...] = (Decimal(50), Decimal(80))
    """Per cent of the limit at which to raise `budget.soft`: the highest as a warning, those below as information."""
    hard: Percent | None = Decimal(100)
    """Per cent of the limit at which to raise `budget.hard`, and from which on the verdict is to deny. Null: never."""
    projected: Percent | None = Decimal(110)
    """Raise `budget.projected` when the use so far, going on like this, leads to so many per cent of the limit at the end
    of the window. Looked at from a quarter of the window on. Null: never."""

    @model_validator(mode="after")
    def _whole(self) -> Budget:
        if sum(limit is not None for limit in (self.usd, self.tokens, self.calls)) != 1:
            raise ValueError("a budget needs a limit: usd, tokens or calls, one of the three")
        if self.rolling is not None and {"window", "timezone"} & self.model_fields_set:
            raise ValueError("rolling stands in place of window and timezone; take one of them out")
        if len(set(self.per)) != len(self.per):
            raise ValueError("per: name each dimension once")
        if len(set(self.soft)) != len(self.soft):
            raise ValueError("soft: name each threshold once")
        return self

    @property
    def measure(self) -> Literal["usd", "tokens", "calls"]:
        return "usd" if self.usd is not None else "tokens" if self.tokens is not None else "calls"

    @property
    def limit(self) -> int:
        """In pico-USD, tokens, or calls."""
        return int(self.usd * PICO_PER_USD) if self.usd is not None else (self.tokens or self.calls or 0)

    def cut(self) -> Window:
        """How time is cut."""
        if self.rolling is not None:
            return Rolling(round(self.rolling * 1e9))
        return Calendar(self.window, zone_of(self.timezone))


class BudgetsConfig(StrictModel):
    """Budgets by name, and how much is remembered."""

    budgets: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")], Budget] = {}
    """Budgets by name. The name stands in findings and verdicts."""
    grace: Annotated[Duration, Field(ge=3600, le=31 * 86400)] = 25 * 3600.0
    """How long after its end a window still takes calls that come late. What comes later is not counted (a metric tells)."""
    shared: bool = False
    """Whether several collectors that export to one ClickHouse server count together: limits are those of all their calls,
    and each line is told of by one of them (docs/budgets.md)."""
    alone_after: Annotated[Duration, Field(ge=10, le=86400)] = 60.0
    """With `shared`: how long to wait until collectors agree who tells of a line, before it is told all the same. They cannot
    agree while the server does not answer."""
    max_counters: Annotated[int, Field(ge=100, le=10_000_000)] = 500_000
    """Counters kept at most, one for each subject and window. When there are more, ended windows go first, then those that
    used least (a metric tells). About 600 bytes of memory each."""


def pattern_of(globs: tuple[str, ...]) -> re.Pattern[str]:
    """One expression for several patterns, over lower-cased texts."""
    return re.compile("|".join(translate(glob.lower()) for glob in globs))
