"""What a dialect file may say. Read once, checked strictly, never changed.

A dialect says which spans it is about (`match`), what each of them is (`spans`), where each fact stands (`facts`), and what
the emitter means by its counts (`input`, `output`, `flags`). All of it is data; `normalise.py` gives it effect.
"""

from __future__ import annotations

import re
from functools import cache, cached_property
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from collector import columns
from collector.dialects.places import place


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def _listed(value: Any) -> Any:
    """One item may stand for a list of one."""
    return value if isinstance(value, (list, tuple)) else [value]


Texts = Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)]
Role = Literal["call", "copy", "wrapper", "rollup", "context", "caller", "abort", "none"]
Rank = Literal["sdk", "gateway", "instrumentor", "framework", "server"]
RANKS: dict[str, int] = {rank: number for number, rank in enumerate(get_args(Rank))}
Kind = Literal["unspecified", "internal", "server", "client", "producer", "consumer"]
KINDS: tuple[str, ...] = get_args(Kind)
Status = Literal["unset", "ok", "error"]
STATUSES: tuple[str, ...] = get_args(Status)
OperationClass = Literal["call", "agent", "other", "unknown", "absent"]
Unit = Literal["s", "ms", "us", "ns", "ns_or_ms", "instant", "debug"]

#: Facts by the kind of value they have. The helpers, not columns themselves, feed the arithmetic.
NUMBERS = frozenset(column.name for column in columns.FACTS if column.unit == "tokens")
HELPERS = frozenset({"total_tokens", "cache_write_5m_tokens", "uncached_input_tokens"})
FLAGS = frozenset({"streaming", "response_cache_hit"})
TIME, MONEY, LIST = "time_to_first_token", "reported_cost", "claimed_tags"
OVERHEAD, LIMIT = "gateway_overhead", "output_limit"
#: Facts that are numbers and no counts of usage; of these, the times.
OTHER_NUMBERS = (MONEY, TIME, OVERHEAD, LIMIT)
TIMES = (TIME, OVERHEAD)
TEXTS = frozenset(
    column.name
    for column in (columns.CALL_HINT, *columns.FACTS, *columns.IDENTITY)
    if column.dtype == columns.TEAM.dtype
)  # all String columns
#: Nearly all different: where nothing is done with them, comparing them costs more than it saves.
IDS = frozenset({"response_id", "call_hint", "conversation_id", "claimed_user", "gateway_user", "gateway_end_user"})
FACTS = NUMBERS | HELPERS | FLAGS | TEXTS | {LIST, *OTHER_NUMBERS}

_VERSION_RANGE = r"^(<=|>=|<|>|==)\d+(\.\d+)*( (<=|>=|<|>|==)\d+(\.\d+)*)*$"
VersionRange = Annotated[str, Field(pattern=_VERSION_RANGE)]


class When(Model):
    """Tests on a span; all that are named must hold. Texts are compared without case, `*` stands for anything."""

    name: Texts | None = None
    """The span's name."""
    kind: Annotated[tuple[Kind, ...], BeforeValidator(_listed)] | None = None
    status: Annotated[tuple[Status, ...], BeforeValidator(_listed)] | None = None
    root: bool | None = None
    """Whether the span has no parent."""
    scope: Texts | None = None
    version: VersionRange | None = None
    """The scope's version, such as `<1.4.2` or `>=3 <4`; a version that is not a number is in no range."""
    resource: dict[str, Texts] = {}
    """Attributes of the resource."""
    resource_version: VersionRange | None = None
    """`service.version` of the resource."""
    has: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    """Attributes that must all be there, and not be empty."""
    any: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    """Attributes of which one must be there."""
    lacks: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    """Attributes of which none may be there."""
    is_: Annotated[dict[str, Texts], Field(alias="is")] = {}
    """Sources, written as in `facts`, and the texts of which theirs must be one."""
    is_not: dict[str, Texts] = {}
    """Sources and texts of which theirs must be none; an absent one passes."""
    operation: Texts | None = None
    """The normalised operation, or its class in the vocabulary: call, agent, other, unknown, absent."""
    provider: Texts | None = None
    """The normalised provider."""
    model: Texts | None = None
    """The request model, or else the response model."""
    usage: bool | None = None
    """Whether the span has any count but zero."""
    not_: Annotated[When | None, Field(alias="not")] = None


class Source(Model):
    """One place where a fact may stand.

    `from` is an attribute of the span, or one of
      KEY#a.b         a path in the JSON or Python repr that the attribute's text is; `*` any key, `#` alone the value
      resource:KEY, scope:KEY    an attribute of the resource, of the scope
      span:name, scope:name, scope:version
      event:NAME, event:NAME/KEY    when the first event of that name was; an attribute of it
    """

    from_: Annotated[str | None, Field(alias="from", min_length=1)] = None
    value: str | None = None
    """A constant."""
    sum: tuple[str, ...] | None = None
    """Sources of counts or of money that are added; absent ones count nothing, all absent: absent."""
    pattern: str | None = None
    """Regular expression whose first group is the text; no match: absent."""
    map: dict[str, str] = {}
    """Texts (without case) and what they mean; an empty meaning: absent. What is not listed stays."""
    unit: Unit | None = None
    """Of a time. `instant`: a moment, from which the span's start is taken; `debug`: `1.23s`, `45.6ms`."""
    split: str | None = None
    """What separates the members of a list that is one text."""
    strip_provider: bool = False
    """`openai/gpt-4o` of provider openai is `gpt-4o`."""
    when: Annotated[tuple[When, ...], BeforeValidator(_listed)] = ()

    @property
    def untouched(self) -> bool:
        """Whether the text is taken as it is, from every span."""
        return not (self.pattern or self.map or self.split or self.strip_provider or self.when)

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                groups = re.compile(pattern).groups
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}") from None
            if groups != 1:
                raise ValueError(f"expected one group, got {groups}: {pattern}")
        return pattern

    @model_validator(mode="after")
    def _one(self) -> Source:
        if sum(part is not None for part in (self.from_, self.value, self.sum)) != 1:
            raise ValueError("a source needs exactly one of from, value and sum")
        return self


@cache
def source_at(text: str) -> Source:
    """The plain source that stands at `text`; only dialect files' texts come here."""
    return Source(from_=text)


def _source(value: Any) -> Any:
    return {"from": value} if isinstance(value, str) else value


Sources = Annotated[
    tuple[Annotated[Source, BeforeValidator(_source)], ...], BeforeValidator(_listed), Field(min_length=1)
]


class Match(Model):
    """Which spans a dialect is about. What is named must all hold; scope and resource decide before keys do."""

    scope: Texts | None = None
    version: VersionRange | None = None
    schema_url: Texts | None = None
    resource: dict[str, Texts] = {}
    keys: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    """Attribute keys that must all be on the span."""
    any: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    """Attribute keys of which one must be on the span."""
    lacks: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()

    @model_validator(mode="after")
    def _something(self) -> Match:
        if not (self.scope or self.resource or self.keys or self.any):
            raise ValueError("a match needs a scope, a resource or keys")
        return self

    @property
    def strength(self) -> tuple[int, int, int]:
        """What makes a match stronger than another, the most telling first: a scope (by name more than by pattern: it is
        the code that made the span), a resource (only the process that it ran in), then the number of keys."""
        exact = bool(self.scope) and not any("*" in scope for scope in self.scope or ())
        keys = 2 * len(self.keys) + bool(self.any) + bool(self.lacks) + bool(self.version) + bool(self.schema_url)
        return (bool(self.scope) + exact, bool(self.resource), keys)


class Rule(Model):
    """What a span is. The first rule that holds decides; a span that no rule fits is no report."""

    role: Role
    when: Annotated[tuple[When, ...], BeforeValidator(_listed)] = ()


class Convention(Model):
    """Whether a part (cached tokens, reasoning) is inside the count that it belongs to."""

    part: Literal["inside", "outside", "unclear", "left_out"]
    """`left_out`, of output: reasoning is on top and has no attribute of its own; where a total is told, it is the rest of it."""
    because: Annotated[str | None, Field(pattern=r"^[a-z0-9_.]+$")] = None
    """How that is known, as the flag `input_exclusive:<because>` or `input_unclear:<because>` shall say it."""
    assume: Literal["inside", "outside"] = "inside"
    """What is taken where it is unclear and arithmetic does not tell."""
    flagged: bool = True
    """Whether what stays unclear is flagged; not where every API that the rule is for counts in the same way."""
    when: Annotated[tuple[When, ...], BeforeValidator(_listed)] = ()

    @model_validator(mode="after")
    def _reason(self) -> Convention:
        if self.part != "inside" and self.because is None:
            raise ValueError(f"part: {self.part} needs because")
        return self


class Flag(Model):
    """A flag that usage of this dialect carries. `maybe_twice`: the same call may be reported once more, in another trace and
    without an id in common, so that nothing can tell."""

    flag: Annotated[str, Field(pattern=r"^(no_cache_counts|maybe_twice|estimated:[a-z0-9_.-]+)$")]
    when: Annotated[tuple[When, ...], BeforeValidator(_listed)] = ()


class RankRule(Model):
    rank: Rank
    when: Annotated[tuple[When, ...], BeforeValidator(_listed)] = ()


class Dialect(Model):
    """One file."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    about: Annotated[str, Field(min_length=10, max_length=160)]
    """One line: whose spans these are."""
    source: Annotated[str, Field(min_length=3)]
    """Product, versions, and what the facts were read from."""
    extends: str | None = None
    """Another dialect whose facts, roles and conventions hold where this file says nothing of its own."""
    priority: int = 0
    """Higher is tried first, before any comparison of matches. Only for what strength cannot order."""
    match: Annotated[tuple[Match, ...], Field(min_length=1)]
    rank: Annotated[
        tuple[RankRule, ...], BeforeValidator(lambda v: [{"rank": v}] if isinstance(v, str) else v), Field(min_length=1)
    ]
    spans: Annotated[tuple[Rule, ...], Field(min_length=1)]
    facts: dict[str, Sources] = {}
    default_operation: str = "chat"
    """The operation of a call that names none."""
    input: tuple[Convention, ...] = ()
    """Whether input counts include what was read from and written to a cache; the first that holds. None: unclear."""
    output: tuple[Convention, ...] = (Convention(part="inside"),)
    """Whether output counts include reasoning."""
    flags: tuple[Flag, ...] = ()
    zero_is_unknown: bool = False
    """Whether counts and times of zero only mean that nothing was measured."""
    response_id_unless: tuple[str, ...] = ()
    """Attributes to which an equal response id is none."""
    failed: Annotated[tuple[When, ...], BeforeValidator(_listed)] = ()
    """Spans that failed although their status does not say so."""
    replayed: Annotated[tuple[When, ...], BeforeValidator(_listed)] = ()
    """Spans that the gateway answered from its own response cache."""

    @property
    def scope(self) -> str | None:
        """The scope of the emitter's own spans, where a match names it."""
        return next((s for match in self.match for s in match.scope or () if "*" not in s), None)

    @cached_property
    def text_keys(self) -> tuple[str, ...]:
        """Attributes of spans that facts are the texts of, themselves or in other words."""
        names = TEXTS | FLAGS | {LIST}
        sources = [(name, source) for name in names for source in self.facts.get(name, ())]
        return _plain([source.from_ for name, source in sources if not (name in IDS and source.untouched)])

    @cached_property
    def role_keys(self) -> tuple[str, ...]:
        """Attributes of spans whose texts say what a span is."""
        tests = [text for rule in self.spans for when in rule.when for text in (*when.is_, *when.is_not)]
        return _plain([*tests, *(source.from_ for source in self.facts.get("operation", ()))])

    @field_validator("facts")
    @classmethod
    def _known(cls, facts: dict[str, Sources]) -> dict[str, Sources]:
        for name, sources in facts.items():
            if name not in FACTS:
                raise ValueError(f"no fact is called {name}; known: {', '.join(sorted(FACTS))}")
            for source in sources:
                _suits(name, source)
        return facts


def _plain(texts: list[str | None]) -> tuple[str, ...]:
    places = [place(text) for text in texts if text]
    return tuple(dict.fromkeys(where.key for where in places if where.owner == "span" and where.path is None))


def _suits(name: str, source: Source) -> None:
    if source.unit is not None and name not in TIMES:
        raise ValueError(f"{name}: only {' and '.join(TIMES)} have a unit")
    if name in TIMES and source.unit is None and not (source.from_ or "").startswith("event:"):
        raise ValueError(f"{name}: say in which unit {source.from_ or source.value} is")
    if source.sum is not None and name not in NUMBERS | HELPERS | {MONEY}:
        raise ValueError(f"{name}: only counts and money are added")
    if source.pattern and name not in TEXTS | FLAGS | {LIST, *TIMES}:
        raise ValueError(f"{name}: pattern is for texts and times")
    if (source.map or source.strip_provider) and name not in TEXTS | FLAGS | {LIST}:
        raise ValueError(f"{name}: map and strip_provider are for texts")
