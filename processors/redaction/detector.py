"""What a detector is, and the ones that ship: one entry each in `detectors/*.yaml`, nowhere else.

A pattern is in RE2's syntax. What it matches is a hit; if it has a group named `value`, only that group is. A pattern is
only the shape: `check` names a function of `checks.py` that looks at the hit more closely, `context` the words one of which
must stand near it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal, NamedTuple, Self

import re2
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from processors.redaction.checks import CHECKS
from processors.redaction.patterns import composed, defects

#: Taken out of examples when they are loaded: it keeps them from being taken for leaked secrets where they are written.
BREAK = "¦"


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


class Context(Strict):
    """Words (RE2, in any case) one of which must stand before a hit, or `after` it too, in the same line."""

    words: Annotated[tuple[str, ...], Field(min_length=1)]
    gap: Annotated[int, Field(ge=1, le=100)] = 24  # characters between the word and the hit, at most
    after: bool = False


class Detector(Strict):
    """One kind of thing that is looked for.

    boundary:  what may not stand beside a hit: nothing is said (`none`), a word character (`word`), a part of a longer
               number (`number`)
    digits:    a hit always has seven digits of which no two are further apart than three bytes, none of these a letter or
               digit: it is only looked for where there are such
    default:   whether it is on without being named
    """

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
    title: Annotated[str, Field(min_length=1, max_length=80)]
    kind: Literal["pii", "secret"]
    patterns: Annotated[tuple[str, ...], Field(min_length=1)]
    boundary: Literal["none", "word", "number"] = "none"
    certainty: Certainty = Certainty.SHAPE
    digits: bool = False
    check: str | None = None
    context: Context | None = None
    min_length: Annotated[int, Field(ge=1)] = 1  # of a hit, in characters
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
        if self.check is not None and self.check not in CHECKS:
            raise ValueError(f"no check is named {self.check!r}; there are {', '.join(sorted(CHECKS))}")
        for pattern in self.expressions:
            if found := defects(pattern):
                raise ValueError(f"detector {self.id!r}: {found}")
        return self

    @property
    def expressions(self) -> tuple[str, ...]:
        """Complete patterns, with boundaries and context; what is found is the group `value`."""
        words = self.context.words if self.context else ()
        gap, after = (self.context.gap, self.context.after) if self.context else (0, False)
        return tuple(
            source for pattern in self.patterns for source in composed(pattern, self.boundary, words, gap, after)
        )

    def accepts(self, value: str) -> bool:
        """Whether what a pattern found is a hit after all."""
        return len(value) >= self.min_length and (self.check is None or CHECKS[self.check](value))


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
    """A detector from a user's config. Raises ValueError (pydantic's is one) that says what is wrong with which option.

    `keywords` are plain words, in any case, one of which must stand within 24 characters before or after a hit;
    `min_length` is in characters.
    """
    words = tuple(re2.escape(word) for word in keywords if word.strip())
    if len(words) != len(keywords):
        raise ValueError("a keyword is empty")
    return Detector(
        id=id,
        title=title or id,
        kind=kind,
        patterns=(pattern,),
        check=check,
        context=Context(words=words, after=True) if words else None,
        min_length=min_length,
    )
