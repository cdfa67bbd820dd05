"""What takes the place of a text that must not leave."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from processors.redaction.pseudonyms import Pseudonyms


class What(IntEnum):
    """What is done about a hit. Where several hits of one value disagree, the higher one is done."""

    OFF = 0
    MASK = 1
    REPLACE = 2
    PSEUDONYMISE = 3
    DROP_VALUE = 4
    DROP_ATTRIBUTE = 5


class Action(NamedTuple):
    """`keep_last`: letters and digits that a mask leaves readable, never more than half of them."""

    what: What
    keep_last: int = 0


def marker(reason: str) -> bytes:
    """What stands where a text was: `[REDACTED:email]`."""
    return f"[REDACTED:{reason}]".encode()


def replacement(action: Action, name: str, text: bytes, pseudonyms: Pseudonyms) -> bytes:
    """What takes the place of a hit of the detector `name`. Printable ASCII, or letters of the text itself, without a quote or
    a backslash: it may stand inside JSON."""
    if action.what is What.MASK:
        return mask(text, action.keep_last)
    if action.what is What.PSEUDONYMISE:
        return pseudonyms.token(name, text)
    return marker(name)


def mask(text: bytes, keep_last: int) -> bytes:
    """Stars for letters and digits, but for the last few; what stands between them stays: `**** **** **** 1111`."""
    letters = text.decode("utf-8", "replace")
    count = sum(letter.isalnum() or letter == "*" for letter in letters)  # a mask of a mask is the same
    keep = min(keep_last, count // 2)
    masked: list[str] = []
    for letter in reversed(letters):
        if not letter.isalnum() and letter != "*":
            masked.append(letter if letter in _PLAIN else ".")
        elif keep and letter.isascii():
            masked.append(letter)
            keep -= 1
        else:
            masked.append("*")
            keep = 0
    return "".join(reversed(masked)).encode()


#: Signs that stay in a mask: none that a document around it could take for its own. The others become dots.
_PLAIN = frozenset(" -.+@/:_()#")
