"""Patterns in RE2's syntax: put together, shortened for the first look, and judged.

RE2 decides what a hit is, whatever engine looks first: linear in the text, no look-around, no backreference. `^` and `$`
are the ends of a text (and of a line after `(?m)`); `\\w`, `\\d`, `\\s` and `\\b` know ASCII only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import re2

VALUE = "value"
_GROUP = f"(?P<{VALUE}>"

#: Before and after a value. What stands beside a number must not make it a longer one: a letter, a digit, or a dot or
#: dash with one of these behind it.
_BOUNDARIES = {
    "none": ("", ""),
    "word": (r"\b", r"\b"),
    "number": (r"(?:^|[^\w.-]|(?:^|[^\w.-])[.-])", r"(?:$|[^\w.-]|[.-](?:$|\W))"),
}
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


def composed(pattern: str, boundary: str, words: Sequence[str], gap: int, after: bool) -> Iterator[str]:
    """The complete patterns for one pattern of a detector: with boundaries, and once per place of its context's words.

    A word may be part of a key: `user_ssn`, `ssn-hash`.
    """
    left, right = _BOUNDARIES[boundary]
    value = pattern if _GROUP in pattern else f"{_GROUP}{pattern})"
    value = left + value + right
    if not words:
        yield value
        return
    word = rf"(?:\b|_)(?i:{'|'.join(words)})(?:\b|_)"
    yield rf"{word}[^\n]{{0,{gap}}}?{value}"
    if after:
        yield rf"{value}[^\n]{{0,{gap}}}?{word}"


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
        count = _QUANTIFIER.fullmatch(quantifier)
        least = 1 if count is None or count[1] == "+" else int(count[2] or 0)
        if least == 0:
            if len(atoms) == 0:  # nothing is left that a match must have: keep all of it
                return text + quantifier
            continue
        opening = _OPENING.match(text)
        if opening and least == 1:
            text = opening[0] + shortened(text[opening.end() : -1]) + ")"
        atoms.append(_Atom(text, "" if least == 1 else f"{{{least}}}"))
        break
    return "".join(atom.text + atom.quantifier for atom in atoms)


def width(pattern: str) -> int | None:
    """How many bytes of UTF-8 a match has at most, None for any number. It may be told too large."""
    widths = [_width(branch) for branch in _branches(pattern)]
    return None if None in widths else max(one for one in widths if one is not None)


def _width(atoms: list[_Atom]) -> int | None:
    total = 0
    for text, quantifier in atoms:
        opening = _OPENING.match(text)
        if opening:
            one = width(text[opening.end() : -1])
        elif text in _NO_WIDTH or text.startswith("(?"):
            one = 0
        else:
            one = 1 if _ASCII_ONLY.fullmatch(text) else 4
        most = re.fullmatch(r"\{(\d+)(,?)(\d*)\}\??", quantifier)
        if one == 0 or quantifier in {"", "?", "??"}:
            count = 1
        elif most and (most[3] or not most[2]):
            count = int(most[3] or most[1])
        else:
            return None
        if one is None:
            return None
        total += one * count
    return total
