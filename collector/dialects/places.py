"""Where a source says that a fact stands, taken apart once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from collector.dialects import values

Owner = Literal["span", "resource", "scope", "name", "scope_name", "scope_version", "event"]


@dataclass(frozen=True, slots=True)
class Place:
    """`key` of what, and the path inside its text (None: the text itself)."""

    owner: Owner
    key: str
    path: tuple[str, ...] | None = None
    event: str = ""


@lru_cache(None)
def place(text: str) -> Place:
    """The parts of `from`. Only the shipped dialects' sources come here, so what is remembered is bounded."""
    if text == "span:name":
        return Place("name", "")
    if text == "scope:name":
        return Place("scope_name", "")
    if text == "scope:version":
        return Place("scope_version", "")
    if text.startswith("event:"):
        event, _, key = text[len("event:") :].partition("/")
        return Place("event", key, event=event)
    owner: Owner = "span"
    if text.startswith("resource:"):
        owner, text = "resource", text[len("resource:") :]
    elif text.startswith("scope:"):
        owner, text = "scope", text[len("scope:") :]
    key, mark, path = text.partition("#")
    return Place(owner, key, values.steps(path) if mark else None)


@lru_cache(None)
def pattern(globs: tuple[str, ...]) -> re.Pattern[str]:
    """One expression for all; `*` stands for anything, case does not matter."""
    parts = [".*".join(re.escape(part) for part in glob.split("*")) for glob in globs]
    return re.compile("|".join(parts), re.IGNORECASE | re.DOTALL)


def matches(text: str, globs: tuple[str, ...]) -> bool:
    """Whether a text is one of these."""
    return pattern(globs).fullmatch(text) is not None


@lru_cache(4096)
def in_range(version: str, wanted: str) -> bool:
    """Whether a version (`1.4.2`, `v1.4.2-rc1`) is in a range such as `>=1.4 <2`; one without numbers is in none."""
    found = re.match(r"v?(\d+(?:\.\d+)*)", version.strip())
    if not found or len(found[1]) > 64:
        return False
    have = _numbers(found[1])
    return all(_holds(have, part) for part in wanted.split())


def _numbers(text: str) -> tuple[int, ...]:
    numbers = [int(part) for part in text.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _holds(have: tuple[int, ...], part: str) -> bool:
    sign = "".join(letter for letter in part if letter in "<>=")
    want = _numbers(part.lstrip("<>="))
    return {"<": have < want, "<=": have <= want, ">": have > want, ">=": have >= want, "==": have == want}[sign]
