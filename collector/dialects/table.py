"""A batch as dialects look at it: values by key, for some of the spans, each text read once.

Codes are how texts travel: per row a number, -1 for none, into an Arrow array of distinct texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from collector.added import ADDED, Added
from collector.dialects import values, vocabulary
from collector.otlp import gather
from collector.otlp.many import codes_of
from collector.otlp.tables import I32, I64, Owner, Text, Traces, ValueType

Mask = NDArray[np.bool_]
_FEW = 200  # spans that are read key by key
_DENSE = 1 << 20  # above it, numbers are sorted instead of looked up
NO_TEXTS = pa.array([], pa.large_string())
_ABSENT = frozenset(word for word in vocabulary.words().absent if not word.endswith("*"))
_ABSENT_SHAPES = sorted({(len(word.encode()), ord(word[0])) for word in _ABSENT})
_ABSENT_PREFIXES = tuple(word[:-1] for word in vocabulary.words().absent if word.endswith("*"))


class Coded(NamedTuple):
    """Texts (or lists of texts) of some rows: `values[codes[row]]`, none where the code is -1."""

    codes: I32
    values: pa.Array

    def mapped(self, change: Callable[[str], str | None]) -> Coded:
        """Each distinct text changed; None drops it."""
        if not len(self.values):
            return self
        texts = [change(text) for text in self.values.to_pylist()]
        return Coded(self.codes, pa.array(texts, pa.large_string())).without_nulls()

    def without_nulls(self) -> Coded:
        """No row refers to a null among the values."""
        if self.values.null_count == 0 or not len(self.values):
            return self
        missing = self.values.is_null().to_numpy(zero_copy_only=False)
        values_ = self.values.fill_null("") if pa.types.is_large_string(self.values.type) else self.values
        return Coded(np.where(missing[self.codes], np.int32(-1), self.codes).astype(np.int32), values_)

    def texts(self) -> pa.Array:
        """As `taken`, in Arrow."""
        return self.values.take(pa.array(self.codes, mask=self.codes < 0))

    def taken(self) -> pl.Series:
        """The texts themselves, null for none. Polars copies views, where Arrow would copy the texts."""
        values = pl.Series(values=self.values if len(self.values) else pa.nulls(1, self.values.type))
        missing = self.codes < 0
        if not missing.any():
            return values[self.codes.astype(np.uint32)]
        places = self.codes.astype(np.uint32)  # what -1 becomes is masked
        return values[pl.Series(values=pa.array(places, mask=missing))]

    def lookup(self, test: Callable[[str], bool]) -> Mask:
        """Per row whether its text passes; false for none."""
        if not len(self.values):
            return np.zeros(len(self.codes), dtype=np.bool_)
        passed = np.array([test(text) for text in self.values.to_pylist()] + [False], dtype=np.bool_)
        found: Mask = passed[self.codes]  # -1 is the last place: false
        return found


def nothing(rows: int) -> Coded:
    return Coded(np.full(rows, -1, dtype=np.int32), NO_TEXTS)


def present(coded: Coded) -> Coded:
    """Without the texts that say that there is no value. Only those are read that have such a text's length and first letter."""
    if not len(coded.values):
        return coded
    offsets, data = _buffers(coded.values)
    lengths = np.diff(offsets)
    bad: Mask = lengths == 0
    if len(data):
        first = data[np.minimum(offsets[:-1], len(data) - 1)]
        maybe: Mask = np.zeros(len(lengths), dtype=np.bool_)
        for length, letter in _ABSENT_SHAPES:
            maybe |= (lengths == length) & (first == letter)
        for prefix in _ABSENT_PREFIXES:
            maybe |= (lengths >= len(prefix)) & (first == ord(prefix[0]))
        if maybe.any():
            at = np.flatnonzero(maybe)
            bad[at] = [
                text in _ABSENT or text.startswith(_ABSENT_PREFIXES)
                for text in coded.values.take(pa.array(at)).to_pylist()
            ]
    if not bad.any():
        return coded
    return Coded(np.where(bad[coded.codes], np.int32(-1), coded.codes).astype(np.int32), coded.values)


def _buffers(texts: pa.Array) -> tuple[I64, NDArray[np.uint8]]:
    """Offsets and bytes of a large_string array."""
    _, offsets, data = texts.buffers()
    count = len(texts) + 1
    start = np.frombuffer(offsets, dtype=np.int64, count=count + texts.offset)[texts.offset :]
    return start, np.frombuffer(data, dtype=np.uint8) if data is not None else np.zeros(0, dtype=np.uint8)


def first_of(first: Coded, second: Coded) -> Coded:
    """Row by row the first that has a text."""
    if not len(first.values):
        return second
    if not len(second.values):
        return first
    offset = np.int32(len(first.values))
    moved = np.where(second.codes < 0, np.int32(-1), second.codes + offset)
    codes = np.where(first.codes < 0, moved, first.codes).astype(np.int32)
    return Coded(codes, pa.concat_arrays([first.values, second.values]))


class Table:
    """The batch: where the known keys' attributes of each span are, found in one pass."""

    def __init__(self, traces: Traces, keys: Sequence[str], resource_keys: Sequence[str]) -> None:
        self.traces = traces
        self.size = len(traces)
        known = [key for key in keys if key in traces.key_ids]
        self.slots: dict[str, I32] = dict(zip(known, gather.slots(traces, known, Owner.SPAN), strict=True))
        if ADDED in traces.key_ids:
            added = Added(traces)
            for key in added.keys & self.slots.keys():  # the sender never said it
                self.slots[key] = np.where(added.has(key), np.int32(-1), self.slots[key])
        wanted = [key for key in resource_keys if key in traces.key_ids]
        self.resource_slots = dict(zip(wanted, gather.slots(traces, wanted, Owner.RESOURCE), strict=True))
        self._resource_texts: dict[str, Coded] = {}
        self._event_slots: dict[str, I32] = {}

    def resource(self, key: str) -> Coded:
        """Per resource row."""
        if key not in self._resource_texts:
            slots = self.resource_slots.get(key)
            found = nothing(len(self.traces.resources.attributes.start)) if slots is None else self.texts_at(slots)
            self._resource_texts[key] = found
        return self._resource_texts[key]

    def texts_at(self, slots: I32) -> Coded:
        """Texts of attribute rows, absent ones left out."""
        return present(Coded(*gather.codes(self.traces, slots)))

    @cached_property
    def scope_name(self) -> Coded:
        return Coded(*gather.text_codes(self.traces, self.traces.scopes.name))

    @cached_property
    def scope_version(self) -> Coded:
        return Coded(*gather.text_codes(self.traces, self.traces.scopes.version))

    @cached_property
    def schema_url(self) -> Coded:
        return Coded(*gather.text_codes(self.traces, self.traces.scopes.schema_url))

    @cached_property
    def _event_name(self) -> Coded:
        return Coded(*gather.text_codes(self.traces, self.traces.events.name))

    def first_event(self, name: str) -> I32:
        """Per span the row of its first event of that name, -1 for none."""
        if name not in self._event_slots:
            rows = np.flatnonzero(self._event_name.lookup(lambda text: text == name))[::-1]
            first = np.full(self.size, -1, dtype=np.int32)
            first[self.traces.events.span[rows]] = rows
            self._event_slots[name] = first
        return self._event_slots[name]


class Rows:
    """Some spans of the batch, ascending."""

    def __init__(self, table: Table, rows: I64) -> None:
        self.table, self.rows = table, rows
        self.size = len(rows)
        self._every = self.size == table.size
        self._texts: dict[str, Coded] = {}
        self._parsed: dict[str, tuple[I32, list[str], list[Any]]] = {}

    def slots(self, key: str) -> I32 | None:
        """Attribute rows of a key; None where no span of the batch has it."""
        slots = self.table.slots.get(key)
        return slots if slots is None or self._every else slots[self.rows]

    def has(self, key: str) -> Mask:
        """Whether the key is there with a value that is not empty."""
        slots = self.slots(key)
        if slots is None:
            return np.zeros(self.size, dtype=np.bool_)
        attributes = self.table.traces.attributes
        type_ = attributes.type[slots]
        empty = (type_ == ValueType.EMPTY) | ((type_ == ValueType.STRING) & (attributes.value.len[slots] == 0))
        found: Mask = (slots >= 0) & ~empty
        return found

    def text(self, key: str) -> Coded:
        """Texts of an attribute."""
        if key not in self._texts:
            slots = self.slots(key)
            self._texts[key] = self.nothing if slots is None else self.table.texts_at(slots)
        return self._texts[key]

    def prepare(self, keys: Sequence[str]) -> None:
        """Read these texts together; which few spans do not pay for."""
        wanted = [key for key in keys if key in self.table.slots and key not in self._texts]
        if self.size < _FEW or len(wanted) < 2:
            return
        columns = [self.table.slots[key] if self._every else self.table.slots[key][self.rows] for key in wanted]
        for key, (codes, values_) in zip(wanted, codes_of(self.table.traces, columns), strict=True):
            self._texts[key] = present(Coded(codes, values_))

    def separate_text(self, key: str) -> Coded:
        """Texts of an attribute that are nearly all different: not compared with one another."""
        slots = self.slots(key)
        if slots is None:
            return self.nothing
        texts = gather.strings(self.table.traces, slots)
        return present(Coded(np.arange(self.size, dtype=np.int32), texts.fill_null("") if texts.null_count else texts))

    def parsed(self, key: str, needed: Mask) -> tuple[I32, list[Any]]:
        """Codes of an attribute's texts, and what each text spells as JSON or Python; only what `needed` needs is read."""
        if key not in self._parsed:
            coded = self.text(key)
            texts = coded.values.to_pylist()
            self._parsed[key] = (coded.codes, texts, [values.UNREAD] * len(texts))
        codes, texts, documents = self._parsed[key]
        for code in np.unique(codes[needed & (codes >= 0)]).tolist():
            if documents[code] is values.UNREAD:
                documents[code] = values.read(texts[code])
        return codes, documents

    def scope(self, coded: Coded) -> Coded:
        """Per-scope texts, per row."""
        return Coded(coded.codes[self.table.traces.spans.scope[self.rows]], coded.values)

    @cached_property
    def nothing(self) -> Coded:
        """No text on any row."""
        return nothing(self.size)

    @cached_property
    def no_numbers(self) -> tuple[I64, Mask]:
        """No number on any row; shared, so read only."""
        return np.zeros(self.size, dtype=np.int64), np.zeros(self.size, dtype=np.bool_)

    def resource(self, key: str) -> Coded:
        """Texts of a resource attribute."""
        coded = self.table.resource(key)
        return Coded(coded.codes[self.table.traces.spans.resource[self.rows]], coded.values)

    def scope_attribute(self, key: str) -> Coded:
        """Texts of a scope attribute."""
        if key not in self.table.traces.key_ids:
            return nothing(self.size)
        (slots,) = gather.slots(self.table.traces, [key], Owner.SCOPE)
        return self.scope(self.table.texts_at(slots))

    @cached_property
    def name(self) -> Coded:
        spans = self.table.traces.spans
        return Coded(*gather.text_codes(self.table.traces, Text(spans.name.off[self.rows], spans.name.len[self.rows])))

    @cached_property
    def kind(self) -> I32:
        return self.table.traces.spans.kind[self.rows]

    @cached_property
    def status(self) -> I32:
        return self.table.traces.spans.status_code[self.rows]

    @cached_property
    def start_ns(self) -> I64:
        return as_int64(self.table.traces.spans.start_ns[self.rows])

    def event_time_ns(self, name: str) -> tuple[I64, Mask]:
        """When the first event of that name was."""
        events = self.table.first_event(name)[self.rows]
        found = events >= 0
        times = self.table.traces.events.time_ns
        if not len(times):
            return np.zeros(self.size, dtype=np.int64), found
        return as_int64(times[events]), found

    def event_text(self, name: str, key: str) -> Coded:
        """Texts of an attribute of the first event of that name."""
        events = self.table.first_event(name)[self.rows]
        if key not in self.table.traces.key_ids or not (events >= 0).any():
            return nothing(self.size)
        (slots,) = gather.slots(self.table.traces, [key], Owner.EVENT)
        return self.table.texts_at(np.where(events >= 0, slots[events], -1).astype(np.int32))


def distinct(numbers: I64, size: int) -> tuple[I64, I64]:
    """The distinct ones of numbers below `size`, ascending, and for each number its place among them."""
    if size > _DENSE:
        found, places = np.unique(numbers, return_inverse=True)
        return found, places.astype(np.int64)
    used = np.zeros(size, dtype=np.bool_)
    used[numbers] = True
    return np.flatnonzero(used), (np.cumsum(used) - 1)[numbers]


def as_int64(moments: NDArray[np.uint64]) -> I64:
    """Nanoseconds that fit; a moment after the year 2262 stays there."""
    return np.minimum(moments, np.uint64(np.iinfo(np.int64).max)).astype(np.int64)
