"""What redaction wrote itself, here or in a Spanledger before this one: pseudonyms under our keys, and markers.

They are not found again: what was redacted twice is what was redacted once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from processors.redaction.actions import marker
from processors.redaction.policy import Policy
from processors.redaction.pseudonyms import TOKEN, Pseudonyms

UNSCANNABLE, CONTENT, ATTRIBUTE = "unscannable", "content", "attribute"
#: Stands in the place of what we wrote while the text around it is searched: a sign that hardly anything is made of.
FILLER = b"<"


class Ours:
    """Knows markers by their reasons and pseudonyms by their proof."""

    def __init__(self, policy: Policy, pseudonyms: Pseudonyms) -> None:
        self._pseudonyms = pseudonyms
        reasons = [*(detector.id for detector in policy.detectors), UNSCANNABLE, CONTENT, ATTRIBUTE]
        self._markers = frozenset(map(marker, reasons))
        self._marker = re.compile(b"|".join(re.escape(text) for text in sorted(self._markers)))

    def __contains__(self, text: bytes) -> bool:
        """Whether a text is all ours."""
        return text in self._markers or self._pseudonyms.is_token(text)

    def within(self, text: bytes) -> bool:
        """Whether something of ours is in a text."""
        return next(self._places(text), None) is not None

    def hidden(self, text: bytes) -> bytes:
        """The text, as long as it was, without what is ours."""
        for start, end in self._places(text):
            text = text[:start] + FILLER * (end - start) + text[end:]
        return text

    def _places(self, text: bytes) -> Iterator[tuple[int, int]]:
        if b"[REDACTED:" in text:
            yield from (match.span() for match in self._marker.finditer(text))
        if any(sign in text for sign in self._pseudonyms.signs):
            yield from (m.span() for m in TOKEN.finditer(text) if self._pseudonyms.is_token(m[0]))
