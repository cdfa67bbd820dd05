"""Pseudonyms for whole values, and for the members of documents (JSON, Python reprs) that name somebody."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from processors.redaction.pseudonyms import Pseudonyms

_MOST_KNOWN = 100_000
_ESCAPES = 4  # documents inside documents: how often a text is unescaped


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
        # A quoted key, however often escaped; a colon; a string in quotes as deep, or a number.
        keys = "|".join(re.escape(member) for member in sorted(members, key=len, reverse=True))
        self._member = re.compile(
            rb"(?P<open>\\{0,15}[\"'])(?:" + keys.encode() + rb")(?P=open)\s*:\s*"
            rb"(?:(?P<quote>\\{0,15}[\"'])(?P<text>(?:(?!(?P=quote))(?:\\.|[^\\])){0,1024}?)(?P=quote)|(?P<number>-?[0-9]+)(?![0-9.eE]))",
            re.DOTALL,
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
        for match in self._member.finditer(text):
            if match["number"] is not None:
                piece = self.pseudonyms.token(self._name, match["number"])
                yield Member(*match.span("number"), match["open"] + piece + match["open"])
                continue
            bare = _unescaped(match["text"])
            if not self.is_nobody(bare) and not self.pseudonyms.is_token(bare):
                yield Member(*match.span("text"), self.pseudonyms.token(self._name, bare))


def _unescaped(text: bytes) -> bytes:
    """A string's text as it reads, whatever document it stands in; as it stands where that cannot be told."""
    for _ in range(_ESCAPES):
        if b"\\" not in text:
            break
        try:
            text = json.loads(b'"' + text.replace(b"\\'", b"'") + b'"').encode("utf-8", "replace")
        except ValueError:
            break
    return text
