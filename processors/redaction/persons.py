"""Pseudonyms for whole values, and for the members of documents (JSON, Python reprs) that name somebody."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from processors.redaction.pseudonyms import Pseudonyms

_MOST_KNOWN = 100_000
_LONGEST = 2048  # bytes of a name, with all its escapes
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


class Member(NamedTuple):
    """A member's value: bytes start : end of the text are replaced by `piece`."""

    start: int
    end: int
    piece: bytes


class Persons:
    """Gives values that name somebody their pseudonyms. `nobody` are texts that name nobody, in lower case."""

    def __init__(
        self, pseudonyms: Pseudonyms, nobody: frozenset[str], members: Sequence[str], name: str = "user"
    ) -> None:
        self.pseudonyms = pseudonyms
        self._nobody = nobody
        self._known: dict[tuple[str, bytes], bytes] = {}
        self._name = name
        # A quoted key, however often escaped; a colon; the quote of a string, escaped as it may be; or a number.
        keys = "|".join(re.escape(member) for member in sorted(members, key=len, reverse=True))
        self._member = re.compile(
            rb"(?P<open>\\{0,15}[\"'])(?:" + keys.encode() + rb")(?P=open)\s*:\s*"
            rb"(?:(?P<quote>\\{0,15}[\"'])|(?P<number>-?[0-9]+)(?![0-9.eE]))"
        )

    def token(self, name: str, text: bytes) -> bytes:
        """What takes the place of a value: its pseudonym; the same text where it is nobody's, or one already. JSON's quotes
        around it stay."""
        known = self._known.get((name, text))
        if known is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            known = self._known[name, text] = self._token(name, text)
        return known

    def _token(self, name: str, text: bytes) -> bytes:
        quoted = len(text) > 2 and text[:1] == text[-1:] == b'"'
        bare = _unescaped(text[1:-1]) if quoted else text
        if self.is_nobody(bare) or self.pseudonyms.is_token(bare):
            return text
        made = self.pseudonyms.token(name, bare)
        return b'"' + made + b'"' if quoted else made

    def is_nobody(self, text: bytes) -> bool:
        """Whether a value says that there is nobody."""
        return not text.strip() or text.strip().lower().decode("utf-8", "replace") in self._nobody

    def members(self, text: bytes) -> Iterator[Member]:
        """The members of a document that name somebody and have no pseudonym yet."""
        behind = 0
        for match in self._member.finditer(text):
            if match.start() < behind:  # a text inside of another member's
                continue
            if match["number"] is not None:
                piece = self.pseudonyms.token(self._name, match["number"])
                yield Member(*match.span("number"), match["open"] + piece + match["open"])
                continue
            end = _end_of_string(text, match.end(), match["quote"])
            if end is None:
                continue
            behind = end
            # One backslash before a quote is a document in a document, three are one more.
            bare = _unescaped(text[match.end() : end], len(match["quote"]).bit_length())
            if not self.is_nobody(bare) and not self.pseudonyms.is_token(bare):
                yield Member(match.end(), end, self.pseudonyms.token(self._name, bare))


def _end_of_string(text: bytes, start: int, quote: bytes) -> int | None:
    """Where the string that begins at `start` ends: before a quote like the one that opened it, which has `slashes` backslashes
    before it, and is not escaped itself in its own document."""
    slashes, sign = len(quote) - 1, quote[-1:]
    at = text.find(sign, start, start + _LONGEST)
    while at >= 0:
        run = at - len(text[start:at].rstrip(b"\\")) - start
        if run % (2 * (slashes + 1)) == slashes:
            return at - slashes
        at = text.find(sign, at + 1, start + _LONGEST)
    return None


def _unescaped(text: bytes, levels: int = 1) -> bytes:
    """What a string says that stands in JSON or in a Python literal, or in a document in a document."""
    shown = text.decode("utf-8", "replace")
    for _ in range(levels if b"\\" in text else 0):
        shown = _ESCAPE.sub(_letter, shown).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return shown.encode()


def _letter(match: re.Match[str]) -> str:
    code = match[1] or match[2] or match[3]
    if code:
        return chr(min(int(code, 16), 0x10FFFF))
    return _LETTERS.get(match[4], match[4])
