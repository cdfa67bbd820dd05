"""What a detector is, and the ones that ship: one entry each in `detectors/*.yaml`, nowhere else.

A pattern is in RE2's syntax. What it matches is a hit; if it has a group named `value`, only that group is. A pattern is
only the shape: `check` names a function of `checks.py` that looks at the hit more closely, `context` the words one of which
must stand near it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal, NamedTuple, Self

import re2
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from processors.redaction.checks import named
from processors.redaction.patterns import Expression, Zone, composed, defects, least, words

#: Taken out of examples when they are loaded: it keeps them from being taken for leaked secrets where they are written.
BREAK = "¦"
#: Characters that a user's pattern must match without a keyword: what is shorter is everywhere.
LEAST_OF_USER = 3


class Certainty(IntEnum):
    """How sure a hit is. Where hits overlap, the surest one names the result."""

    GENERIC = 0  # a word before it, and it looks random
    SHAPE = 1  # a shape that other things may have too
    EXACT = 2  # check digits, or a shape that nothing else has


class Example(NamedTuple):
    """A text, and what must be found in it. Written `text «value» text`; without the marks the value is all of the text."""

    text: str
    value: str


def _example(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.replace(BREAK, "")
    before, mark, rest = text.partition("«")
    found, end, after = rest.partition("»")
    if not mark:
        return Example(text, text)
    if not end or "«" in after + found or "»" in after + before:
        raise ValueError("an example marks what is found once, with « and »")
    return Example(before + found + after, found)


def _plain(value: Any) -> Any:
    return value.replace(BREAK, "") if isinstance(value, str) else value


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Boundary = Literal["none", "word", "number", "alone"]
Words = tuple[Annotated[str, Field(min_length=1)], ...]
_GAP = r"[^\n]{0,24}?"


class Pattern(Strict):
    """A pattern, in RE2's syntax. Groups may be named `value`, the hit, and `unless`: where that takes part there is none.

    boundary: other than that of its detector
    trigger:  something that every match has in it and that is quicker to find: it is looked for first
    """

    pattern: Annotated[str, Field(min_length=1)]
    boundary: Boundary | None = None
    trigger: str | None = None


Patterns = tuple[str | Pattern, ...]


class Context(Strict):
    """Patterns that count only where a word stands before what they find.

    words:   RE2, in any case; a word may be part of a key (`user_ssn`), a space in it may be `_`, `-`, or missing
    unless:  words that must not stand directly before it
    link:    what may stand between the word and the hit; by default anything but the end of a line, up to 24 characters
    after:   whether the word may also stand behind the hit
    trigger: as of a pattern; by default the words
    """

    words: Annotated[Words, Field(min_length=1)]
    patterns: Annotated[Patterns, Field(min_length=1)]
    unless: Words = ()
    link: str = _GAP
    after: bool = False
    trigger: str | None = None


class Detector(Strict):
    """One kind of thing that is looked for, by its patterns alone, or by those of its context.

    boundary:  what may not stand beside a hit: nothing is said (`none`); a word character (`word`); what makes it part of
               a longer number (`number`), or of a row of numbers (`alone`)
    digits:    a hit always has seven digits with three bytes or less between two, all of these spaces or of `.()/-`; it is
               looked for only around such: words up to 96 bytes away, shapes where they begin up to 16 bytes away
    min_length: of a hit, in characters
    entities:  of Presidio, see names.py: they are looked for instead of patterns
    default:   whether it is on without being named
    """

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
    title: Annotated[str, Field(min_length=1, max_length=80)]
    kind: Literal["pii", "secret"]
    patterns: Patterns = ()
    boundary: Boundary = "none"
    certainty: Certainty = Certainty.SHAPE
    digits: bool = False
    check: str | None = None
    context: Context | None = None
    min_length: Annotated[int, Field(ge=1)] = 1
    entities: tuple[str, ...] = ()
    default: bool = True
    examples: tuple[Annotated[Example, BeforeValidator(_example)], ...] = ()
    counter_examples: tuple[Annotated[str, BeforeValidator(_plain)], ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _certainty(cls, data: Any) -> Any:
        """Certainty is written by name."""
        if isinstance(data, dict) and isinstance(name := data.get("certainty"), str):
            if name.upper() not in Certainty.__members__:
                raise ValueError(f"certainty is one of {', '.join(Certainty.__members__).lower()}; got {name!r}")
            data = {**data, "certainty": Certainty[name.upper()]}
        return data

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.check is not None:
            named(self.check)
        if bool(self.expressions) == bool(self.entities):
            raise ValueError(f"detector {self.id!r} must have patterns or entities, and not both")
        for expression in self.expressions:
            if found := defects(expression.pattern):
                raise ValueError(f"detector {self.id!r}: {found}")
        return self

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """Complete patterns, with boundaries and context; what is found is the group `value`."""
        zone = Zone.NUMBERS if self.digits else Zone.TEXT
        found = [Expression.of(*self._complete(pattern), zone) for pattern in self.patterns]
        if context := self.context:
            zone = Zone.AROUND_NUMBERS if self.digits else Zone.TEXT
            word = words(context.words, context.unless)
            trigger = context.trigger or words(context.words, bounded=not context.unless)
            if context.trigger is None and context.link != _GAP and not context.after:
                trigger += context.link
            beside = [self._complete(pattern)[0] for pattern in context.patterns]
            found += [Expression.of(word + context.link + value, trigger, zone) for value in beside]
            if context.after:
                found += [Expression.of(value + context.link + word, trigger, zone) for value in beside]
        return tuple(found)

    def _complete(self, pattern: str | Pattern) -> tuple[str, str | None]:
        one = Pattern(pattern=pattern) if isinstance(pattern, str) else pattern
        return composed(one.pattern, one.boundary or self.boundary), one.trigger

    def judge(self) -> Callable[[str], bool]:
        """Says whether what a pattern found is a hit after all."""
        shortest, check = self.min_length, named(self.check) if self.check else None
        if check is None:
            return lambda value: len(value) >= shortest
        return check if shortest == 1 else lambda value: len(value) >= shortest and check(value)


@cache
def load_detectors() -> tuple[Detector, ...]:
    """Every detector that ships, in the order of the files and within them; also those that are off by default."""
    folder = files("processors.redaction") / "detectors"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    detectors = [
        Detector.model_validate(entry) for name in names for entry in yaml.safe_load((folder / name).read_text("utf-8"))
    ]
    twice = sorted({one.id for one in detectors if sum(other.id == one.id for other in detectors) > 1})
    if twice:
        raise ValueError(f"detectors with one id: {', '.join(twice)}")
    return tuple(detectors)


def user_detector(
    id: str,
    pattern: str,
    *,
    title: str = "",
    kind: Literal["pii", "secret"] = "pii",
    keywords: Sequence[str] = (),
    check: str | None = None,
    min_length: int = 1,
) -> Detector:
    """A detector from a user's config. Raises ValueError that says in one sentence what is wrong with which option.

    `pattern` is in RE2's syntax; `keywords` are plain words, in any case, one of which must stand within 24 characters before
    or after a hit; `check` is the name of one of `checks.py`; `min_length` is in characters.
    """
    if reason := defects(pattern):
        raise ValueError(f"pattern: {reason}")
    if not keywords and least(pattern) < LEAST_OF_USER:
        raise ValueError(
            f"pattern: it matches texts of {least(pattern)} characters, which are everywhere; let it match at least "
            f"{LEAST_OF_USER} (`{{{LEAST_OF_USER},}}` in place of `+`), or name keywords that stand beside it"
        )
    if short := [word for word in keywords if len(word.strip()) < 2]:
        raise ValueError(f"keywords: {short[0]!r} is too short, a keyword has two characters or more")
    escaped = tuple(re2.escape(word) for word in keywords)
    try:
        return Detector(
            id=id,
            title=title or id,
            kind=kind,
            patterns=() if keywords else (pattern,),
            context=Context(words=escaped, patterns=(pattern,), after=True) if keywords else None,
            check=check,
            min_length=min_length,
        )
    except ValidationError as error:
        told = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}".removeprefix(": ") for one in error.errors())
        raise ValueError("; ".join(told)) from None
