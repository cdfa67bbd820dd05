"""Finds what detectors describe, in many texts at once.

1. Equal texts are scanned once (`collector/otlp/interning.py`).
2. They are gathered into one buffer, in ASCII where they mean ASCII (`folding.py`).
3. An engine looks over the buffer: which pattern may match in which text (`engines.py`). Patterns that are all digits are
   left out there, and looked for only around long numbers.
4. In these few texts RE2 decides, then the detector's check. So the engine changes the speed, never the result.
5. Hits that overlap become one, named by the surest and longest; what any of them covers is covered.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from collector.otlp import interning
from collector.otlp.tables import I32, I64, U8, Text
from processors.redaction import digits, folding
from processors.redaction.detector import Detector
from processors.redaction.engines import Look, Spots, installed, repeated, united
from processors.redaction.folding import Folded
from processors.redaction.names import Names
from processors.redaction.patterns import UNLESS, VALUE, Expression, Zone, compiled, width

logger = logging.getLogger(__name__)

I16 = NDArray[np.int16]
Mask = NDArray[np.bool_]

#: Bytes of texts in one buffer: more than one only if a text is larger.
CHUNK_BYTES = 16 << 20
#: A text with more matches is given up: its time and memory would be theirs, not the text's.
MOST_MATCHES = 50_000
#: A number is worth a look from so many digits on, with so many bytes between two of them; see Detector.digits.
LEAST_DIGITS, GAP = 7, 3
#: Bytes around a number: shapes begin and end near it, words stand further away.
SHAPES, WORDS = 16, 96
_WARM = np.frombuffer(b"1234567", np.uint8)


class Hits(NamedTuple):
    """One entry per hit, sorted by row and start; no two overlap. Offsets are in bytes of the row's text."""

    row: I32
    start: I32
    end: I32
    detector: I16  # place in Scanner.detectors


class _Expression(NamedTuple):
    detector: int
    accepts: Callable[[str], bool]
    regexp: Any
    value: int  # number of the group that is the hit
    unless: int  # of the group whose part in a match makes it none; 0: there is no such group
    reach: int | None  # see Expression
    width: int | None  # bytes of a match, at most; None: any number


class _Hit(NamedTuple):
    start: int
    end: int
    detector: int


class TooManyMatches(Exception):
    """In one text."""


class Unsearchable(Exception):
    """A text in which names could not be looked for."""


class Scanner:
    """Compiles the detectors once. Threads may share it. Raises SpanledgerError where a detector needs what is not installed.

    `engine` and `names` are for tests and for measuring. By default the engine is Hyperscan where that is installed, RE2
    elsewhere: the hits are the same.
    """

    def __init__(
        self,
        detectors: Sequence[Detector],
        engine: Literal["hyperscan", "re2"] | None = None,
        names: Names | None = None,
    ) -> None:
        self.detectors = tuple(detectors)
        self.engine = engine or ("hyperscan" if installed() else "re2")
        expressions = [(number, one) for number, detector in enumerate(self.detectors) for one in detector.expressions]
        accepts = [detector.judge() for detector in self.detectors]
        self._expressions = [_compiled(number, accepts[number], one) for number, one in expressions]
        self._looks = {
            zone: Look(self.engine, {at: one.trigger for at, (_, one) in enumerate(expressions) if one.zone is zone})
            for zone in Zone
        }
        self._entities = {name: number for number, one in enumerate(self.detectors) for name in one.entities}
        self._names = (names or Names(list(self._entities))) if self._entities else None
        for data in (
            _WARM,
            _WARM.copy(),
        ):  # what is compiled is compiled now, not with the first batch; copies are writable
            self._look(folding.fold(data, np.zeros(1, np.int64), np.full(1, len(data), np.int32)))

    def scan(self, data: U8, off: I64, size: I32) -> tuple[Hits, Mask]:
        """The hits in the texts data[off:off + size], and which texts could not be scanned: of these there are no hits.

        Texts are UTF-8 (what is not, is scanned all the same); they may overlap, repeat, and stand in any order. Never
        raises for what is in a text.
        """
        codes, first = interning.texts(data, Text(off, size))
        found, failed = self.scan_each(data, off[first], size[first])
        return _spread(found, codes, len(first)), failed[codes]

    def scan_each(self, data: U8, off: I64, size: I32) -> tuple[Hits, Mask]:
        """As `scan`, for texts that differ: those that repeat are scanned again."""
        failed = np.zeros(len(off), np.bool_)
        parts = [self._scan(data, off[at], size[at], at, failed) for at in _chunks(size)]
        found = Hits(*(np.concatenate(columns) for columns in zip(*parts, strict=True))) if parts else _hits([], [])
        return found, failed

    def _scan(self, data: U8, off: I64, size: I32, numbers: slice, failed: Mask) -> Hits:
        """As `scan_each`, for some of the texts: `numbers` are their places in `failed`."""
        folded = folding.fold(data, off, size)
        try:
            spots = self._look(folded)
        except Exception as error:
            logger.error("redaction: the %s engine failed (%s); nothing of this batch is let through", self.engine, type(error).__name__)  # fmt: skip
            failed[numbers] = True
            return _hits([], [])
        bounds = np.flatnonzero(np.diff(spots.row, prepend=-1, append=-1))
        looked_at = {int(spots.row[low]): (low, high) for low, high in pairwise(bounds.tolist())}
        named = self._named(folded)
        rows: list[int] = []
        hits: list[_Hit] = []
        reasons: Counter[str] = Counter()
        for row in sorted({*looked_at, *named}):
            try:
                found = self._decide(folded, row, spots, *looked_at.get(row, (0, 0)))
                by_name = named.get(row, [])
                if by_name is None:
                    raise Unsearchable
                found = self._without_overlaps(found + by_name)
            except Exception as error:
                failed[numbers.start + row] = True
                reasons[type(error).__name__] += 1
                continue
            rows.extend([row] * len(found))
            hits.extend(found)
        if reasons:
            told = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
            logger.warning("redaction: %d texts could not be scanned (%s)", reasons.total(), told)
        result = _hits(rows, hits)
        begin = folded.start[result.row]
        at = result.row.astype(np.int64)
        start, end = folded.offsets(at, begin + result.start), folded.offsets(at, begin + result.end)
        return Hits(
            (at + numbers.start).astype(np.int32), start.astype(np.int32), end.astype(np.int32), result.detector
        )

    def _look(self, folded: Folded) -> Spots:
        """What to look at, in the rows of a buffer."""
        spots = self._looks[Zone.TEXT](folded.buffer, folded.start)
        in_numbers, in_words = self._looks[Zone.NUMBERS], self._looks[Zone.AROUND_NUMBERS]
        if not in_numbers and not in_words:
            return spots
        runs = digits.numbers(folded, LEAST_DIGITS, GAP)
        for look, near, margin in ((in_numbers, runs.shapely(), SHAPES), (in_words, runs, WORDS)):
            pieces, row, moved = digits.around(folded, near, margin)
            found = look(pieces.buffer, pieces.start)
            at, move = row[found.row].astype(np.int64), moved[found.row]
            spots = united(spots, Spots(at, found.expression, found.first + move, found.last + move))
        return spots

    def _decide(self, folded: Folded, row: int, spots: Spots, low: int, high: int) -> list[_Hit]:
        """The hits in a row, by offset in the row of the buffer. Raises for a text that cannot be judged."""
        begin, text = int(folded.start[row]), folded.text(row)
        hits: list[_Hit] = []
        left = MOST_MATCHES
        for at in range(low, high):
            expression = self._expressions[spots.expression[at]]
            first, last = int(spots.first[at]) - begin, int(spots.last[at]) - begin
            place = 0 if expression.reach is None else max(0, first - expression.reach)
            stop = len(text) if expression.width is None else min(len(text), last + expression.width)
            while place < last and (match := expression.regexp.search(text, place, stop)):
                left -= 1
                if left < 0:
                    raise TooManyMatches
                start, place = match.span(expression.value)
                if start < 0 or start == place:  # a group that took no part, or nothing
                    place = max(match.end(), match.start() + 1)
                elif expression.unless and match.start(expression.unless) >= 0:
                    continue
                elif expression.accepts(text[start:place].decode()):
                    hits.append(_Hit(start, place, expression.detector))
        return hits

    def _named(self, folded: Folded) -> dict[int, list[_Hit] | None]:
        """By row, the hits of detectors that have entities, None where they could not be looked for."""
        if self._names is None:
            return {}
        texts = [folded.text(row).decode() for row in range(len(folded.start) - 1)]
        rows = [row for row, text in enumerate(texts) if any(map(str.isalpha, text))]
        hits: dict[int, list[_Hit] | None] = {}
        for row, names in zip(rows, self._names.find([texts[row] for row in rows]), strict=True):
            if names is None:
                hits[row] = None
            elif names:
                at = [[len(texts[row][:place].encode()) for place in name[:2]] for name in names]
                hits[row] = [
                    _Hit(start, end, self._entities[name.entity]) for (start, end), name in zip(at, names, strict=True)
                ]
        return hits

    def _without_overlaps(self, hits: list[_Hit]) -> list[_Hit]:
        """Hits that overlap as one, from the first byte to the last; the surest names it, then the longest, then the order
        of detectors."""
        result: list[_Hit] = []
        best = (0, 0, 0)
        for start, end, detector in sorted(hits):
            rank = (self.detectors[detector].certainty, end - start, -detector)
            if not result or start >= result[-1].end:
                result.append(_Hit(start, end, detector))
                best = rank
                continue
            best = max(best, rank)
            result[-1] = _Hit(result[-1].start, max(end, result[-1].end), -best[2])
        return result


def _compiled(detector: int, accepts: Callable[[str], bool], expression: Expression) -> _Expression:
    regexp = compiled(expression.pattern)
    value, unless = regexp.groupindex[VALUE], regexp.groupindex.get(UNLESS, 0)
    return _Expression(detector, accepts, regexp, value, unless, expression.reach, width(expression.pattern))


def _chunks(size: I32) -> Iterator[slice]:
    """Rows in a row, of about CHUNK_BYTES together."""
    ends = np.cumsum(size, dtype=np.int64)
    at = 0
    while at < len(size):
        before = int(ends[at - 1]) if at else 0
        stop = max(at + 1, int(np.searchsorted(ends, before + CHUNK_BYTES, "right")))
        yield slice(at, stop)
        at = stop


def _hits(rows: Sequence[int], hits: Sequence[_Hit]) -> Hits:
    start, end, detector = zip(*hits, strict=True) if hits else ((), (), ())
    return Hits(
        np.array(rows, np.int32), np.array(start, np.int32), np.array(end, np.int32), np.array(detector, np.int16)
    )


def _spread(found: Hits, codes: I32, texts: int) -> Hits:
    """Hits by distinct text as hits by row, where `codes` says which text a row has."""
    count = np.bincount(found.row, minlength=texts)
    before = np.cumsum(count) - count
    row = np.flatnonzero(count[codes]) if len(found.row) else np.empty(0, np.int64)
    which, at = repeated(before[codes[row]], count[codes[row]])
    return Hits(row[which].astype(np.int32), found.start[at], found.end[at], found.detector[at])
