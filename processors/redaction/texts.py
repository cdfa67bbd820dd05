"""Looks for what must not leave in texts: as they stand, and as they read where they are documents inside documents."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from collector.otlp import gathering, interning
from collector.otlp.compiled import read_only
from collector.otlp.tables import I32, I64, U8, Text
from processors.redaction import hits
from processors.redaction.detector import Detector
from processors.redaction.hits import Found
from processors.redaction.ours import FILLER, Ours
from processors.redaction.policy import MEMBER, Policy
from processors.redaction.scanner import Hits, Scanner
from processors.redaction.views import Views, needs_quotes, views

Mask = NDArray[np.bool_]
TOO_DEEP, ERROR = "too_deep", "error"
#: Texts longer than this stand in no derived column.
_SHORT = 256


class Texts(NamedTuple):
    """The texts data[off : off + size]."""

    data: U8
    off: I64
    size: I32


NO_TEXTS = Texts(read_only(np.empty(0, np.uint8)), np.empty(0, np.int64), np.empty(0, np.int32))


@dataclass(frozen=True, slots=True)
class Searched:
    """What a search came to.

    found:    the hits, by row
    members:  rows with members of documents that may name somebody
    failed:   rows that could not be searched, by reason
    clean:    the distinct texts, of the short ones, that were searched and in which there is nothing
    """

    found: Found
    members: I64
    failed: dict[str, I64]
    clean: Texts = NO_TEXTS


class TextSearch:
    """Searches texts for what the policy's detectors describe. One thread."""

    def __init__(self, policy: Policy, ours: Ours, max_depth: int) -> None:
        """`max_depth`: how often a text may be a document in another one."""
        self.scanner = _scanner(policy.detectors)
        self._ours = ours
        self._max_depth = max_depth
        self._member = next(n for n, detector in enumerate(policy.detectors) if detector.id == MEMBER)

    def search(
        self, data: U8, off: I64, size: I32, clean: Texts = NO_TEXTS, group: I32 = interning.ALONE, groups: int = 1
    ) -> Searched:
        """Search the texts data[off : off + size], each distinct one once. `clean`: distinct texts in which an earlier search
        found nothing, which are not searched again; `group`: see `interning.texts`."""
        codes, first = interning.texts(data, Text(off, size), group, groups)
        if len(clean.off):
            new = np.flatnonzero(~_among(clean, data, off[first], size[first]))
            number = np.full(len(first), len(new), np.int32)
            number[new] = np.arange(len(new), dtype=np.int32)
            codes, first = number[codes], first[new]
        searched = self._distinct(data, off[first], size[first])
        row, hit = hits.spread(searched.found.leaf, codes)
        return Searched(
            replace(searched.found.taken(hit), leaf=row),
            _rows_of(searched.members, codes),
            {reason: _rows_of(failed, codes) for reason, failed in searched.failed.items()},
            _clean(searched, data, off[first], size[first]),
        )

    def _distinct(self, data: U8, off: I64, size: I32) -> Searched:
        searched = self._search(data, off, size)
        # A hit that has something of ours in it may owe itself to that: such texts are searched again without.
        found = searched.found
        mixed = np.array([self._ours.within(text) for text in found.texts], np.bool_)
        if not mixed.any():
            return searched
        rows = np.unique(found.leaf[mixed[found.text]])
        others = found.taken(np.flatnonzero(~np.isin(found.leaf, rows)))
        texts = [data[off[row] : off[row] + size[row]].tobytes() for row in rows.tolist()]
        again = self._search(*joined([self._ours.hidden(text) for text in texts])).found
        keep = np.array([text.strip(FILLER) != b"" for text in again.texts], np.bool_)
        again = again.taken(np.flatnonzero(keep[again.text])) if len(again) else again
        return replace(searched, found=hits.merged([replace(again, leaf=rows[again.leaf]), others]))

    def _search(self, data: U8, off: I64, size: I32) -> Searched:
        """As `search`, for texts that differ."""
        seen = views(data, off, size)
        deep = seen.unreadable.copy()
        deep[seen.row[seen.level > self._max_depth]] = True
        plain = np.flatnonzero(seen.plain)
        found, failed = self.scanner.scan_each(data, off[plain], size[plain])
        row, start, end = plain[found.row], found.start.astype(np.int64), found.end.astype(np.int64)
        parts = [hits.of(row, start, end, found.detector.astype(np.int64), data, off[row] + start, end - start)]
        unread = np.zeros(len(off), np.bool_)
        unread[plain[failed]] = True
        if len(seen.row):
            found, failed = self.scanner.scan(seen.data, seen.off, seen.size)
            unread[seen.row[failed]] = True
            parts.append(_of_views(seen, found))
        all_ = hits.merged(parts)
        member = all_.detector == self._member
        found_ = hits.merged([_quoted(data, off, size, all_.taken(np.flatnonzero(~member)))])
        failed_ = {ERROR: np.flatnonzero(unread & ~deep), TOO_DEEP: np.flatnonzero(deep)}
        return Searched(found_, np.unique(all_.leaf[member]), failed_)


def _rows_of(numbers: I64, codes: I32) -> I64:
    """The rows that have one of these codes."""
    if not len(numbers):
        return np.empty(0, np.int64)
    which = np.zeros(int(codes.max(initial=0)) + 1, np.bool_)
    which[numbers] = True
    return np.flatnonzero(which[codes])


def _clean(searched: Searched, data: U8, off: I64, size: I32) -> Texts:
    """A copy of the short ones among texts that differ in which there is nothing."""
    nothing: Mask = size <= _SHORT
    for rows in (searched.found.leaf, searched.members, *searched.failed.values()):
        nothing[rows] = False
    offsets, texts = gathering.texts(data, off[nothing], size[nothing])
    return Texts(read_only(texts), offsets[:-1], size[nothing])


def _among(known: Texts, data: U8, off: I64, size: I32) -> Mask:
    """Which of some texts that differ are among the known ones, which differ too."""
    short = size <= _SHORT
    offsets, texts = gathering.texts(data, off[short], size[short])
    both = read_only(np.concatenate([known.data, texts]))
    at = np.concatenate([known.off, offsets[:-1] + len(known.data)])
    codes, _ = interning.texts(both, Text(at, np.concatenate([known.size, size[short]])))
    among = np.zeros(len(off), np.bool_)
    among[short] = codes[len(known.off) :] < len(known.off)
    return among


def joined(texts: list[bytes]) -> tuple[U8, I64, I32]:
    """Texts one after the other, where each begins, and its length."""
    size = np.array([len(text) for text in texts], np.int32)
    return np.frombuffer(b"".join(texts), np.uint8), np.cumsum(size, dtype=np.int64) - size, size


@lru_cache(maxsize=8)
def _scanner(detectors: tuple[Detector, ...]) -> Scanner:
    """One for all pipelines that look for the same: compiling takes seconds."""
    return Scanner(detectors)


def _of_views(seen: Views, found: Hits) -> Found:
    """Hits in views as hits in their rows."""
    raw = seen.to_raw(found.row, found.start, found.end)
    row, start, end = (column.astype(np.int64) for column in (raw.row, raw.start, raw.end))
    view, at = found.row[raw.hit], found.start[raw.hit].astype(np.int64)
    detector = found.detector[raw.hit].astype(np.int64)
    return hits.of(row, start, end, detector, seen.data, seen.off[view] + at, found.end[raw.hit] - at)


def _quoted(data: U8, off: I64, size: I32, found: Found) -> Found:
    """The hits, with the quotes that numbers in documents need; of several in one number, the first stands for all."""
    if not len(found):
        return found
    row, start, end = (column.astype(np.int32) for column in (found.leaf, found.start, found.end))
    quotes = needs_quotes(data, off, size, row, start, end)
    bare = quotes.slashes >= 0
    start, end = np.where(bare, quotes.start, start), np.where(bare, quotes.end, end)
    made = replace(
        found, slashes=quotes.slashes.astype(np.int64), start=start.astype(np.int64), end=end.astype(np.int64)
    )
    return made.taken(np.flatnonzero(start < end))
