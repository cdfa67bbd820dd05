"""What a text says, whatever documents it stands in: JSON in JSON in a Python repr.

A gateway's attributes are full of them. Searching the bytes as they stand would miss `alice\\u0040example.com`, would find
`nalice@example.com` behind a line break (`\\nalice@example.com`), and replacing that would spoil the document. So rows with
escapes are searched as *views*: the row with one level of escapes read, and with two, until none is left; hits come back as
bytes of the row, whole escapes only.

Read are the escapes of JSON, of Python's repr, of URLs (`%40`) and of HTML (by number, and the few names that matter). Not
read are base64, hexadecimal text, quoted-printable and UTF-16.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from collector.otlp.tables import I32, I64, U8
from processors.redaction import quoting, unescaping

Mask = NDArray[np.bool_]


class Quotes(NamedTuple):
    """Of hits: how many backslashes stand before the quotes that their replacement needs around it (-1: it needs none), and
    the range to replace, which is all of the number that the hit is part of; empty where that is replaced already."""

    slashes: I32
    start: I32
    end: I32


class Ranges(NamedTuple):
    """Bytes of rows, sorted by row and start; no two of a row overlap. `hit`: the number of the hit that names each."""

    row: I32
    start: I32
    end: I32
    hit: I64


class _Segments(NamedTuple):
    """See `unescaping`: of each view the first one and the one behind its last; of each segment where it begins."""

    first: I64
    behind: I64
    in_view: I32
    in_row: I32
    marks: U8


@dataclass(frozen=True, slots=True)
class Views:
    """The texts to search in the place of rows: views data[off : off + size], sorted by row, then by level.

    row, level: whose view each is, and how many levels of escapes were read (0: the row as it stands, if its escapes may be
                none)
    plain:      true for rows without escapes: they have no views, search them as they are
    unreadable: true for rows whose escapes are nested too deep: drop their values
    """

    data: U8
    off: I64
    size: I32
    row: I32
    level: I32
    plain: Mask
    unreadable: Mask
    _rows: tuple[U8, I64]
    _segments: _Segments

    def to_raw(self, view: I32, start: I32, end: I32) -> Ranges:
        """Hits in views (bytes start : end of the text of view number `view`, none empty) as bytes of rows.

        Hits that overlap, as those in several views of a row do, become one range, named by the hit in the deepest view, the
        longest of these. A range covers whole escapes; so a row in which it is replaced by plain characters stays the
        document that it is.
        """
        row = self.row[view]
        low, high = unescaping.to_rows(
            self._rows[0],
            self._rows[1],
            self.row,
            self._segments.first,
            self._segments.behind,
            self._segments.in_view,
            self._segments.in_row,
            self._segments.marks,
            view,
            start,
            end,
        )
        order = np.lexsort((high - low, self.level[view], low, row)).astype(np.int64)
        return Ranges(*unescaping.united(row, low, high, self.level[view], order))


def views(data: U8, off: I64, size: I32) -> Views:
    """The views of the rows data[off : off + size]."""
    found = unescaping.unescape(data, off, size)
    became, buffer, place, length, row, level, first, behind, in_view, in_row, marks = found
    buffer.flags.writeable = False
    return Views(
        data=buffer,
        off=place,
        size=length,
        row=row,
        level=level,
        plain=became == unescaping.PLAIN,
        unreadable=became == unescaping.TOO_DEEP,
        _rows=(data, off),
        _segments=_Segments(first, behind, in_view, in_row, marks),
    )


def needs_quotes(data: U8, off: I64, size: I32, row: I32, start: I32, end: I32) -> Quotes:
    """Which hits (bytes start : end of the row data[off : off + size], sorted by row and start, none overlapping) are numbers
    or names of their own in a document: `{"card": 4111111111111111}`, also where the document is a text in another one.

    With a replacement of n backslashes, `"`, its text, n backslashes, `"`, the row still is the document, in JSON and in
    Python. Any text that is not in a document needs no quotes: "my card is 4111111111111111".
    """
    return Quotes(*quoting.quotes(data, off, size, row, start, end))
