"""The columns that were derived before redaction, without what must not leave: nothing computed earlier keeps a copy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from collector import distinct
from collector.columns import (
    CALL_HINT,
    DIALECT,
    PARENT,
    RESPONSE_ID,
    ROLE,
    SOURCE,
    SPAN_ID,
    STATUS,
    TRACE_ID,
    USAGE_FLAGS,
)
from collector.otlp.tables import I32, I64, U8
from collector.repeats import coded
from processors.redaction.actions import marker
from processors.redaction.assembling import assemble
from processors.redaction.content import FACTS_OF, NAME_OF, IdentityName
from processors.redaction.decisions import ATTRIBUTE_GOES, VALUE_GOES, Decisions, Pieces
from processors.redaction.ours import UNSCANNABLE
from processors.redaction.persons import Persons
from processors.redaction.policy import Policy
from processors.redaction.texts import NO_TEXTS, Texts, TextSearch, joined

Mask = NDArray[np.bool_]
#: Our own words, and ids that are digits.
_OURS = frozenset(column.name for column in (TRACE_ID, SPAN_ID, PARENT, STATUS, ROLE, DIALECT, USAGE_FLAGS))
#: What the ledger knows calls by: two that differ must stay two.
_DISTINCT = frozenset(column.name for column in (RESPONSE_ID, CALL_HINT, SOURCE))
IDENTITY_OF: dict[str, IdentityName] = {column: name for name, facts in FACTS_OF.items() for column in (name, *facts)}
_MOST_CLEAN = 100_000
_NO_OWNER = "(unattributed)"  # what attribution writes, unless it is told otherwise
_TEXT, _LIST = pl.String(), pl.List(pl.String())


class Columns:
    """Redacts frames by the policy. One thread."""

    def __init__(self, policy: Policy, texts: TextSearch, decisions: Decisions, persons: Persons) -> None:
        self._policy = policy
        self._texts = texts
        self._decisions = decisions
        self._persons = persons
        self._clean: set[str] = set()  # texts that repeat, and in which there is nothing

    def redact(self, frames: Sequence[pl.DataFrame], clean: Texts = NO_TEXTS) -> list[pl.DataFrame]:
        """The frames, every column of texts redacted: identities are exchanged, in others what detectors find. `clean`: texts
        in which there is nothing, as the search of what the columns were made of found."""
        changed: list[list[pl.Series]] = [[] for _ in frames]
        searched: list[tuple[int, _Texts]] = []
        for number, frame in enumerate(frames):
            for series in frame.get_columns():
                ours = series.name in _OURS or series.name.endswith("_rule")
                if series.dtype not in (_TEXT, _LIST) or ours or series.null_count() == len(series):
                    continue
                identity = IDENTITY_OF.get(series.name)
                if identity in self._policy.pseudonymised:
                    changed[number].append(self._pseudonymised(series, identity, frame))
                else:
                    searched.append((number, _Texts(series)))
        for place, series in self._searched([texts for _, texts in searched], clean):
            changed[searched[place][0]].append(series)
        return [frame.with_columns(new) if new else frame for frame, new in zip(frames, changed, strict=True)]

    def called(self, column: str, value: str) -> str:
        """What stands in a column where this value was. From any thread: what is remembered is only ever added or cleared."""
        identity = IDENTITY_OF.get(column)
        if identity not in self._policy.pseudonymised or value == _NO_OWNER:
            return value
        return self._persons.token(NAME_OF[identity], value.encode(errors="replace")).decode()

    def _pseudonymised(self, series: pl.Series, identity: IdentityName, frame: pl.DataFrame) -> pl.Series:
        """An identity as pseudonyms; what attribution writes where it knows nobody stays."""
        made = _exchanged(series, lambda text: self._persons.token(NAME_OF[identity], text.encode()).decode())
        rule = f"{series.name}_rule"
        return made if rule not in frame.columns else series.zip_with(frame[rule].eq_missing("default"), made)

    def _searched(self, columns: Sequence[_Texts], clean: Texts) -> list[tuple[int, pl.Series]]:
        """The columns, by number, in whose texts something was found, without it."""
        if not columns:
            return []
        parts = [column.unless(self._clean) for column in columns]
        count = np.array([len(size) for _, _, size in parts])
        begin = np.cumsum([0, *(len(data) for data, _, _ in parts)])
        data = np.concatenate([data for data, _, _ in parts])
        off = np.concatenate([off + start for (_, off, _), start in zip(parts, begin.tolist(), strict=False)])
        size = np.concatenate([size for _, _, size in parts])
        of = np.repeat(np.arange(len(columns), dtype=np.int32), count)
        apart = np.array([column.name in _DISTINCT for column in columns])
        kept = np.array([IDENTITY_OF.get(column.name) in self._policy.kept for column in columns])
        new: dict[int, dict[str, str]] = {}
        for row, text in self._new(data, off, size, of, apart, kept, clean).items():
            new.setdefault(int(of[row]), {})[_decoded(data, off, size, row)] = text
        if len(self._clean) > _MOST_CLEAN:
            self._clean.clear()
        for number, column in enumerate(columns):
            self._clean.update(column.repeating - new.get(number, {}).keys())
        return [(number, _exchanged(columns[number].series, _or_itself(texts))) for number, texts in new.items()]

    def _new(self, data: U8, off: I64, size: I32, of: I32, apart_: Mask, kept_: Mask, clean: Texts) -> dict[int, str]:
        """Of the texts data[off : off + size] those that change, by number. `of`: the column of each; `apart_`, `kept_`: by column."""
        searched = self._texts.search(data, off, size, clean, of, len(apart_))
        found = searched.found
        apart, kept = apart_[of], kept_[of]
        pieces = Pieces()
        comes_to, _ = self._decisions.decide(found, apart[found.leaf], kept[found.leaf], pieces)
        inline = np.flatnonzero(comes_to >= 0)
        part = found.taken(inline)
        rows, first = np.unique(part.leaf, return_index=True)
        first = np.append(first, len(part)).astype(np.int64)
        made, begin = assemble(data, off[rows], size[rows].astype(np.int64), first, part.start, part.end, comes_to[inline], pieces.blob, *pieces.places)  # fmt: skip
        new = {row: _decoded(made, begin, np.diff(begin), number) for number, row in enumerate(rows.tolist())}
        gone = np.flatnonzero((comes_to == VALUE_GOES) | (comes_to == ATTRIBUTE_GOES))
        why = [(row, self._policy.detectors[d].id) for row, d in zip(found.leaf[gone].tolist(), found.detector[gone].tolist(), strict=True)]  # fmt: skip
        why += [(row, UNSCANNABLE) for rows_ in searched.failed.values() for row in rows_.tolist()]
        for row, name in why:
            text = _decoded(data, off, size, row).encode()
            new[row] = (self._persons.pseudonyms.token(name, text) if apart[row] else marker(name)).decode()
        return new


class _Texts:
    """The texts of a column: the distinct ones where they repeat, else row by row."""

    def __init__(self, series: pl.Series) -> None:
        self.series = series
        self.name = series.name
        self.repeating: set[str] = set()
        if series.dtype == _LIST:
            self.repeating = {text for texts in distinct.lists(series)[1] for text in texts}
            return
        views = series.to_arrow(compat_level=pl.CompatLevel.newest())
        found = coded(views.combine_chunks() if isinstance(views, pa.ChunkedArray) else views)
        if found is not None:
            self.repeating = set(found.dictionary.to_pylist())

    def unless(self, clean: set[str]) -> tuple[U8, I64, I32]:
        """The texts that are to be searched, as data[off : off + size]."""
        if self.repeating:
            return joined([text.encode() for text in self.repeating - clean])
        array = self.series.to_arrow(compat_level=pl.CompatLevel.oldest())
        _, offsets, data = array.buffers()
        bounds = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
        return np.frombuffer(data, np.uint8), bounds[:-1].copy(), np.diff(bounds).astype(np.int32)


def _exchanged(series: pl.Series, new: Callable[[str], str]) -> pl.Series:
    """A column with other texts in the place of its own."""
    values: list[Any]
    if series.dtype == _TEXT:
        codes, found = distinct.texts(series)
        values = [new(text) for text in found.to_list()]
    else:
        codes, lists = distinct.lists(series)
        values = [[new(text) for text in texts] for texts in lists]
    if len(values) == 1 and not series.null_count():
        return pl.Series(series.name, values, dtype=series.dtype).new_from_index(0, len(series))
    rows = np.where(codes < 0, len(values), codes).astype(np.uint32)
    return pl.Series(series.name, [*values, None], dtype=series.dtype)[rows]


def _or_itself(new: Mapping[str, str]) -> Callable[[str], str]:
    return lambda text: new.get(text, text)


def _decoded(data: U8, off: I64, size: NDArray[np.integer[Any]], row: int) -> str:
    return data[off[row] : off[row] + size[row]].tobytes().decode("utf-8", "replace")
