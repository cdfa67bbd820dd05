"""What hits come to: a text in their place, the value gone, the attribute gone, or nothing. Once per distinct text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from collector.otlp.tables import I64, U8
from processors.redaction.actions import What, replacement
from processors.redaction.hits import PERSON, Found
from processors.redaction.ours import Ours
from processors.redaction.policy import Policy
from processors.redaction.pseudonyms import Pseudonyms

Mask = NDArray[np.bool_]
#: What a hit comes to, besides the number of the piece that takes its place.
STAYS, VALUE_GOES, ATTRIBUTE_GOES = -1, -2, -3
_DISTINCT, _SPARED = 1, 2
_MOST_SLASHES = 1 << 10  # and more, which are eight levels of quotes inside quotes


class Pieces:
    """Texts that take the place of others, each once, one after the other."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}

    def add(self, text: bytes) -> int:
        """The number of a text."""
        return self._numbers.setdefault(text, len(self._numbers))

    @property
    def blob(self) -> U8:
        """All of them."""
        return np.frombuffer(b"".join(self._numbers), np.uint8)

    @property
    def places(self) -> tuple[I64, I64]:
        """Where each begins in the blob, and its length."""
        size = np.array([len(text) for text in self._numbers], np.int64)
        return np.cumsum(size) - size, size


class Decisions:
    """Applies the policy's actions to hits. One thread."""

    def __init__(self, policy: Policy, pseudonyms: Pseudonyms, ours: Ours) -> None:
        self._policy = policy
        self._pseudonyms = pseudonyms
        self._ours = ours

    def decide(self, found: Found, distinct: Mask, spared: Mask, pieces: Pieces) -> tuple[I64, Mask]:
        """Per hit the number of the piece that takes its place, or STAYS …; and whether it counts as found.

        distinct:  where a constant would make things one that are not: a pseudonym takes the place of what would be masked
                   or replaced
        spared:    where only secrets go
        """
        if not len(found):
            return np.empty(0, np.int64), np.empty(0, np.bool_)
        spared = spared & ~self._policy.secret[found.detector]
        variant = distinct * _DISTINCT + spared * _SPARED
        detectors = len(self._policy.detectors) + 1
        code = ((found.text * detectors + found.detector - PERSON) * _MOST_SLASHES + found.slashes + 1) * 4 + variant
        _, first, which = np.unique(code, return_index=True, return_inverse=True)
        texts, columns = found.texts, (found.text, found.detector, found.slashes, variant)
        decided = [
            self._decide(texts[text], detector, slashes, kind, pieces)
            for text, detector, slashes, kind in zip(*(column[first].tolist() for column in columns), strict=True)
        ]
        return (
            np.array([piece for piece, _ in decided], np.int64)[which],
            np.array([counts for _, counts in decided], np.bool_)[which],
        )

    def _decide(self, text: bytes, detector: int, slashes: int, variant: int, pieces: Pieces) -> tuple[int, bool]:
        if detector == PERSON:
            return pieces.add(text), False
        if text in self._ours or self._policy.allowed(text):
            return STAYS, False
        if variant & _SPARED:
            return STAYS, True
        action = self._policy.actions[detector]
        if action.what is What.DROP_ATTRIBUTE:
            return ATTRIBUTE_GOES, True
        if action.what is What.DROP_VALUE:
            return VALUE_GOES, True
        if variant & _DISTINCT:
            action = action._replace(what=What.PSEUDONYMISE)
        piece = replacement(action, self._policy.detectors[detector].id, text, self._pseudonyms)
        quote = b"\\" * slashes + b'"' if slashes >= 0 else b""
        return pieces.add(quote + piece + quote), True
