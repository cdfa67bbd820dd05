"""What routing is told: routes, rules, aliases, quality tiers; in the config or in a file of its own.

```yaml
routes:
  - match: {task_type: summarization, input_tokens_lt: 1000}
    route_to: claude-3-haiku
  - match: {task_type: general_chat, user_priority: low}
    route_to: gpt-3.5-turbo
rules:
  - match: {team: marketing}
    allow_models: [gpt-4o-mini, "claude-*-haiku"]
    require_max_tokens: true
```
"""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Annotated, Any

import polars as pl
from pydantic import BeforeValidator, Field, WithJsonSchema, create_model, model_validator

from collector.columns import CALL_COLUMNS, Column
from config.errors import ConfigError
from config.loader import load_part
from config.types import Duration, StrictModel

#: Comparisons with a number, as the end of a key says them.
COMPARISONS = ("lt", "lte", "gt", "gte")
_SIGNS = {"lt": "below", "lte": "at most", "gt": "above", "gte": "at least"}
#: What only one call has, what the ledger or routing itself makes, and what is named otherwise.
_NOT_MATCHED = frozenset({
    "call_id", "trace_id", "span_id", "parent_span_id", "response_id", "attribution_source", "usage_flags", "reports",
    "price_status", "price_assumptions", "price_source", "refused_by", "route", "expected_model", "route_verdict", "service_name",
})  # fmt: skip


def _listed(value: Any) -> Any:
    """One text, or a list of them; a number is the text that it is written as."""
    items = value if isinstance(value, list | tuple) else [value]
    return tuple(str(item) if isinstance(item, int | float) and not isinstance(item, bool) else item for item in items)


_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
Globs = Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1), WithJsonSchema(_SCHEMA)]
TEXT_COLUMNS: tuple[Column, ...] = tuple(
    c for c in CALL_COLUMNS if c.dtype == pl.String() and c.name not in _NOT_MATCHED
)
LIST_COLUMNS: tuple[Column, ...] = tuple(
    c for c in CALL_COLUMNS if c.dtype == pl.List(pl.String()) and c.name not in _NOT_MATCHED
)
COUNT_COLUMNS: tuple[Column, ...] = tuple(c for c in CALL_COLUMNS if c.unit in ("tokens", "limit"))
#: Keys that stand for several columns, of which one must match.
MODEL, SERVICE = "model", "service"
ANY_OF = {MODEL: ("upstream_model", "response_model", "request_model"), SERVICE: ("service_name",)}


def _fields() -> dict[str, Any]:
    docs = {MODEL: "Upstream, served or asked model", SERVICE: "service.name"}
    docs |= {column.name: column.doc for column in (*TEXT_COLUMNS, *LIST_COLUMNS)}
    fields: dict[str, Any] = {name: (Globs | None, Field(None, description=doc)) for name, doc in docs.items()}
    for column in COUNT_COLUMNS:
        for comparison in COMPARISONS:
            doc = f"{column.name} {_SIGNS[comparison]} this"
            fields[f"{column.name}_{comparison}"] = (Annotated[int, Field(ge=0)] | None, Field(None, description=doc))
    return fields


class _Match(StrictModel):
    """Tests on a call; all that are named must hold, so `{}` holds for every call.

    Texts are compared without case, `*` and `?` stand for anything, and of several one must fit; the empty text is a call
    that has none. Every column of a call that is a text may be named; counts end in `_lt`, `_lte`, `_gt` or `_gte`, and
    one that is not known matches nothing.
    """


#: `match` of routes and rules: `_Match` with a field per column.
Match: Any = create_model("Match", __base__=_Match, __doc__=_Match.__doc__, **_fields())


class Route(StrictModel):
    """Which model calls of one sort are to go to."""

    match: Match = Match()
    """Tests on a call; all must hold. Keys are columns (`task_type`, `user_priority`, `team`, `app`, `provider`, `model`,
    `tags` …) and counts (`input_tokens_lt`, `output_tokens_gte` …)."""
    route_to: Globs
    """The model; or several, of which the first is the one that others are compared with in price."""
    name: str | None = None
    """What findings and the column Route call it. Default: its number, from 1."""

    @model_validator(mode="after")
    def _priced(self) -> Route:
        if any(sign in self.route_to[0] for sign in "*?["):
            raise ValueError("route_to: the first model is the one that is priced, so it cannot have a * or ?")
        return self


class Rule(StrictModel):
    """What calls of one sort may do. All rules that match hold."""

    match: Match = Match()
    """As in a route."""
    allow_models: Globs | None = None
    """Models that may serve; all others may not. Names with `*` and `?`; a version's date need not be named."""
    deny_models: tuple[str, ...] = ()
    """Models that may not serve."""
    deny_providers: tuple[str, ...] = ()
    """Providers that may not serve, such as `deepseek`."""
    deny_regions: tuple[str, ...] = ()
    """Regions that may not serve, such as `us-*`, for calls whose region is known."""
    require_max_tokens: bool = False
    """Whether requests must say how much output they allow at most."""


class Tier(StrictModel):
    """Models of one quality."""

    tier: Annotated[int, Field(ge=1, le=9)]
    """1 is the best."""
    models: Globs
    """Names with `*` and `?`."""


class PolicyConfig(StrictModel):
    """Routes and rules: what stands in a policy file, or in the config itself."""

    routes: list[Route] = []
    """The first that matches a call says which model is expected."""
    rules: list[Rule] = []
    """Models, providers and regions that are allowed or not, by team or whatever else."""
    aliases: dict[str, str] = {}
    """Names that the gateway gives to models, and the model that each stands for: what a route to it would cost."""
    tiers: list[Tier] = []
    """Quality tiers of your own models; they come before the ones that are shipped."""

    @model_validator(mode="after")
    def _named_once(self) -> PolicyConfig:
        names = [route_name(route, number) for number, route in enumerate(self.routes)]
        twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
        if twice is not None:
            raise ValueError(f"routes: two are called {twice!r}")
        return self


class RoutingConfig(PolicyConfig):
    """The policy, and how findings about it behave."""

    policy_file: Path | None = None
    """A YAML file with `routes`, `rules`, `aliases` and `tiers`, in place of these here; read again when it changes."""
    quiet: Duration = Field(default=3600.0, ge=60, le=30 * 86400)
    """How long nothing of the kind must have been seen until a finding counts as resolved."""
    fallback_within: Duration = Field(default=120.0, ge=1, le=600)
    """How long after a failed attempt another one counts as its fallback."""

    @model_validator(mode="after")
    def _one(self) -> RoutingConfig:
        if self.policy_file is not None and (self.routes or self.rules or self.aliases or self.tiers):
            raise ValueError(
                "policy_file: the file has the whole policy; take routes, rules, aliases and tiers out here"
            )
        if self.policy_file is not None:  # so that `spanledger validate` finds what is wrong with it
            try:
                load_part(self.policy_file, PolicyConfig)
            except ConfigError as error:
                raise ValueError(str(error)) from None
        return self


def route_name(route: Route, number: int) -> str:
    """The route's name, or else its number from 1."""
    return route.name or str(number + 1)


def pattern_of(globs: tuple[str, ...]) -> str:
    """One regular expression for several patterns; texts are to be lower-cased."""
    return "|".join(fnmatch.translate(glob.lower()) for glob in globs)
