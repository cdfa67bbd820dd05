"""Patterns in RE2's syntax: put together, shortened for the first look, and judged.

RE2 decides what a hit is, whatever engine looks first: linear in the text, no look-around, no backreference. `^` and `$`
are the ends of a text (and of a line after `(?m)`); `\\w`, `\\d`, `\\s` and `\\b` know ASCII only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum, auto
from functools import lru_cache
from typing import Any, NamedTuple

import re2

#: Names of groups: what is found, and what must not be part of a match; as RE2 tells them.
VALUE, UNLESS = b"value", b"unless"
_GROUP = "(?P<value>"

#: Before and after a value.
_BOUNDARIES = {
    "none": ("", ""),
    "word": (r"\b", r"\b"),
    # No part of a longer number: no letter or digit, and no dot or dash with one of these behind it.
    "number": (r"(?:^|[^\w.-]|(?:^|[^\w.-])[.-])", r"(?:$|[^\w.-]|[.-](?:$|\W))"),
    # Nor of a row of numbers.
    "alone": (r"(?:^|[^\w.-]|(?:^|[^\w.-])[.-]|(?P<unless>\d[ ./-]{1,2}))", r"(?:$|[^\w.-]|[.-](?:$|\W))"),
}
_ENOUGH = 12  # of one character, for a first look
_LARGEST_PROGRAM = 20_000  # of RE2's instructions
_PROBES = ("", "a", "0", " ", "\n", "a b", "ü", "-.")

_ATOM = re.compile(
    r"""\\(?:[pPx]\{[^}]*\}|[pP]\w|x[0-9a-fA-F]{2}|[0-7]{1,3}|.)  # an escape
      | \[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]    # a class
      | .""",
    re.VERBOSE | re.DOTALL,
)
_OPENING = re.compile(r"\((?:\?(?:P?<\w+>|[a-zA-Z-]*:)|(?!\?))")
_NO_WIDTH = {"^", "$", r"\b", r"\B"}
_ASCII_ONLY = re.compile(
    r"[!-\[\]-~ \t\n]|\\[wdsafnrtv!-/:-@\[-`{-~]|\[(?!\^)(?:[!-Z^-~ ]|\[:(?!\^)|\\[wds!-/:-@\[-`{-~])*\]", re.ASCII
)
_QUANTIFIER = re.compile(r"(?:([*+?])|\{(\d+)(?:,\d*)?\})\??")


class Zone(Enum):
    """Where a trigger is looked for."""

    TEXT = auto()  # everywhere
    NUMBERS = auto()  # where a number stands that is not dull, see digits.py
    AROUND_NUMBERS = auto()  # within reach of any number: it is a word


class Expression(NamedTuple):
    """A complete pattern, and what an engine looks for in its stead: its trigger, which every match has in it.

    reach: bytes between the beginning of a match and the end of the first trigger in it, at most; None: any number
    """

    pattern: str
    trigger: str
    reach: int | None
    zone: Zone

    @classmethod
    def of(cls, pattern: str, trigger: str | None, zone: Zone) -> Expression:
        """With a trigger somewhere in it; without one it is what every match begins with."""
        if trigger is not None:
            return cls(pattern, trigger, width(pattern), zone)
        trigger = shortened(pattern)
        return cls(pattern, trigger, width(trigger), zone)


def composed(pattern: str, boundary: str) -> str:
    """The pattern between boundaries; what is found is its group `value`, all of it where it has none of that name."""
    left, right = _BOUNDARIES[boundary]
    return f"{left}(?:{pattern}){right}" if _GROUP in pattern else f"{left}{_GROUP}{pattern}){right}"


def words(choice: Sequence[str], unless: Sequence[str] = (), bounded: bool = True) -> str:
    """One of the words, in any case, which may be part of a key: `user_ssn`, `ssn-hash`. A space in it may be any of the
    separators of keys, or missing: `dateOfBirth`. Behind one of `unless` it is none, see UNLESS."""
    if unless:
        not_behind = rf"(?:\b|_)(?P<unless>(?i:{'|'.join(map(_spaced, unless))}))[ _.-]?"
        return rf"(?:{not_behind}|\b|_)(?i:{'|'.join(map(_spaced, choice))})(?:\b|_)"
    if not bounded:
        return f"(?i:{'|'.join(map(_spaced, choice))})"
    return f"(?:{'|'.join(_bounded(one) for one in choice)})"


def _bounded(one: str) -> str:
    """\\b knows ASCII only, and letters: beside another character there is none."""
    last = one.rstrip("?)*+")[-1:]
    left = r"(?:\b|_)" if one[0].isascii() else ""
    right = r"(?:\b|_)" if last.isascii() and one[-1] != "#" else ""
    return f"{left}(?i:{_spaced(one)}){right}"


def _spaced(one: str) -> str:
    return "".join("[ _-]{0,2}" if atom == " " else atom for atom in _ATOM.findall(one))


@lru_cache(maxsize=2048)
def compiled(pattern: str) -> Any:
    """The pattern as RE2 compiles it, for bytes. Raises ValueError."""
    options = re2.Options()
    options.log_errors = False  # it would write the pattern to stderr
    try:
        return re2.compile(pattern.encode(), options)
    except re2.error as error:
        reason = error.args[0]
        reason = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else reason
        raise ValueError(f"not a pattern in RE2's syntax: {reason}") from None


def defects(pattern: str) -> str | None:
    """What makes a pattern unfit, None for nothing. It may be any text."""
    try:
        regexp = compiled(pattern)
    except ValueError as error:
        return str(error)
    if regexp.programsize > _LARGEST_PROGRAM:
        return (
            f"too large: {regexp.programsize:,} instructions, at most {_LARGEST_PROGRAM:,}; lower the counts in {{…}}"
        )
    for atom in _ATOM.findall(pattern):
        if atom in {r"\A", r"\z", r"\C", r"\Q"}:
            return (
                f"{atom} is not supported here; ^ and $ are the ends of a text, and special characters take a backslash"
            )
    if re.search(r"\(\?[a-zA-Z]*-[a-zA-Z]*m", pattern):
        return "(?-m) is not supported here; ^ and $ are the ends of a text without it"
    if any(match.start() == match.end() for probe in _PROBES for match in regexp.finditer(probe.encode())):
        return "it matches the empty text, which is everywhere; something in it must not be optional"
    return None


class _Atom(NamedTuple):
    text: str
    quantifier: str


def shortened(pattern: str) -> str:
    """A pattern that matches at the beginning of whatever `pattern` matches, without what may be missing at its end.

    `sk-[a-z]{20,}` becomes `sk-[a-z]{20}`: an engine that tells every place where a match can end has less to tell.
    """
    return "|".join(_without_tail(branch) for branch in _branches(pattern))


def _branches(pattern: str) -> list[list[_Atom]]:
    """Alternatives at the top level, each as atoms; a group is one atom."""
    branches: list[list[_Atom]] = [[]]
    at = 0
    while at < len(pattern):
        start, depth = at, 0
        while True:
            atom = _ATOM.match(pattern, at)
            assert atom  # `.` takes any character
            at = atom.end()
            depth += {"(": 1, ")": -1}.get(atom[0], 0)
            if depth == 0 or at == len(pattern):
                break
        text = pattern[start:at]
        if text == "|":
            branches.append([])
            continue
        quantifier = _QUANTIFIER.match(pattern, at)
        branches[-1].append(_Atom(text, quantifier[0] if quantifier else ""))
        at += len(quantifier[0]) if quantifier else 0
    return branches


def _without_tail(atoms: list[_Atom]) -> str:
    atoms = list(atoms)
    while atoms:
        text, quantifier = atoms.pop()
        fewest, _ = _counts(quantifier)
        if fewest == 0:
            if len(atoms) == 0:  # nothing is left that a match must have: keep all of it
                return text + quantifier
            continue
        opening = _OPENING.match(text)
        if opening and fewest == 1:
            text = opening[0] + shortened(text[opening.end() : -1]) + ")"
        atoms.append(_Atom(text, "" if fewest == 1 else f"{{{min(fewest, _ENOUGH)}}}"))
        break
    return "".join(atom.text + atom.quantifier for atom in atoms)


def width(pattern: str) -> int | None:
    """How many bytes of UTF-8 a match has at most, None for any number. It may be told too large."""
    return _extent(pattern)[1]


def least(pattern: str) -> int:
    """How many characters a match has at least. It may be told too small."""
    return _extent(pattern)[0]


def _extent(pattern: str) -> tuple[int, int | None]:
    """Characters at least, bytes at most."""
    low, high = zip(*(_of_branch(branch) for branch in _branches(pattern)), strict=True)
    return min(low), None if None in high else max(high)


def _of_branch(atoms: list[_Atom]) -> tuple[int, int | None]:
    low, high = 0, 0
    bounded = True
    for text, quantifier in atoms:
        opening = _OPENING.match(text)
        if opening:
            least_of_one, most_of_one = _extent(text[opening.end() : -1])
        elif text in _NO_WIDTH or text.startswith("(?"):
            least_of_one, most_of_one = 0, 0
        else:
            least_of_one, most_of_one = 1, 1 if _ASCII_ONLY.fullmatch(text) else 4
        fewest, most = _counts(quantifier)
        low += least_of_one * fewest
        if most_of_one is None or (most is None and most_of_one):
            bounded = False
        else:
            high += most_of_one * (most or 0)
    return low, high if bounded else None


def _counts(quantifier: str) -> tuple[int, int | None]:
    """How often at least and at most."""
    counts = re.match(r"\{(\d+)(,?)(\d*)\}", quantifier)
    if counts:
        return int(counts[1]), int(counts[3] or counts[1]) if counts[3] or not counts[2] else None
    return {"": (1, 1), "?": (0, 1), "*": (0, None), "+": (1, None)}[quantifier[:1]]
