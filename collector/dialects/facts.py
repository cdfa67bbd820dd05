"""The facts of some spans of one dialect: for each the first of its sources that has a value."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from collector.dialects import values, vocabulary
from collector.dialects.conditions import holds
from collector.dialects.model import HELPERS, IDS, MONEY, NUMBERS, OVERHEAD, TIME, Dialect, Source, When, source_at
from collector.dialects.places import Place, place
from collector.dialects.table import Coded, Mask, Rows, distinct, first_of, present
from collector.otlp import gather
from collector.otlp.tables import I32, I64, ValueType

Numbers = tuple[I64, Mask]
_UNIT_NS = {"s": 1e9, "ms": 1e6, "us": 1e3, "ns": 1.0, "ns_or_ms": 1.0}
#: Below this, a time said to be in ns or ms is in ms: nothing answers within a millisecond, nobody waits for twenty minutes.
_LEAST_NS = 1e6
_LONGEST_NS = 1e15
_WORDS: dict[str, Callable[[str], str | None]] = {
    "operation": vocabulary.operation,
    "provider": vocabulary.provider,
    "service_tier": vocabulary.tier,
    "requested_tier": vocabulary.tier,
}


class Facts:
    """Reads what is asked for, once."""

    def __init__(self, rows: Rows, dialect: Dialect) -> None:
        self.rows, self.dialect = rows, dialect
        self._texts: dict[str, Coded] = {}
        self._numbers: dict[str, Numbers] = {}

    def holds(self, whens: Sequence[When]) -> Mask:
        """Per row whether any of the tests holds."""
        return holds(self, whens)

    def sources(self, name: str) -> list[Source]:
        """Those of a fact's sources that may have a value in this batch."""
        return [source for source in self.dialect.facts.get(name, ()) if self._may_have(source)]

    def _may_have(self, source: Source) -> bool:
        if source.value is not None:
            return True
        places = map(place, source.sum or (source.from_ or "",))
        return any(where.owner != "span" or where.key in self.rows.table.slots for where in places)

    # Texts -----------------------------------------------------------------------------------------------------------
    def text(self, name: str) -> Coded:
        """A fact that is a text, in the vocabulary's words."""
        if name not in self._texts:
            found = self.rows.nothing
            for source in self.sources(name):
                needed = found.codes < 0
                if not needed.any():
                    break
                found = first_of(found, self._separate(name, source) or self.read(source, needed))
            if name == "finish_reason":
                found = found.mapped(_finish_reasons)
            elif name in _WORDS:
                found = found.mapped(_WORDS[name])
            self._texts[name] = found
        return self._texts[name]

    def read(self, source: Source, needed: Mask) -> Coded:
        """The texts of one source, at least of the rows that are needed."""
        if source.when:
            needed = needed & self.holds(source.when)
            if not needed.any():
                return self.rows.nothing
        if source.value is not None:
            codes = np.where(needed, np.int32(0), np.int32(-1)).astype(np.int32)
            return Coded(codes, pa.array([source.value], pa.large_string()))
        coded = self._at(place(source.from_ or ""), needed)
        if source.when:
            coded = Coded(np.where(needed, coded.codes, np.int32(-1)).astype(np.int32), coded.values)
        if source.pattern is not None:
            found = re.compile(source.pattern)
            coded = coded.mapped(lambda text: _first_group(found, text))
        if source.map:
            meanings = {text.lower(): meaning or None for text, meaning in source.map.items()}
            coded = coded.mapped(lambda text: meanings.get(text.lower(), text))
        return self._without_provider(coded) if source.strip_provider else coded

    def _separate(self, name: str, source: Source) -> Coded | None:
        """Texts that are not compared with one another."""
        where = place(source.from_ or "")
        plain = where.owner == "span" and where.path is None and source.from_ is not None
        if name not in IDS or not plain or not source.untouched:
            return None
        return self.rows.separate_text(where.key)

    def _at(self, where: Place, needed: Mask) -> Coded:
        rows = self.rows
        if where.owner == "span":
            if where.path is None:
                return rows.text(where.key)
            if rows.slots(where.key) is None:
                return rows.nothing
            return present(self._inside(*rows.parsed(where.key, needed), where.path))
        if where.owner == "event":
            return present(rows.event_text(where.event, where.key))
        if where.owner == "name":
            return rows.name
        if where.owner == "scope_name":
            return rows.scope(rows.table.scope_name)
        if where.owner == "scope_version":
            return rows.scope(rows.table.scope_version)
        coded = rows.resource(where.key) if where.owner == "resource" else rows.scope_attribute(where.key)
        if where.path is None:
            return coded
        return present(self._inside(coded.codes, [values.read(text) for text in coded.values.to_pylist()], where.path))

    def _inside(self, codes: I32, documents: list[Any], path: tuple[str, ...]) -> Coded:
        texts = [None if one is values.UNREAD else values.text_of(values.descend(one, path)) for one in documents]
        if not texts:
            return self.rows.nothing
        return Coded(codes, pa.array(texts, pa.large_string())).without_nulls()

    def _without_provider(self, coded: Coded) -> Coded:
        """`openai/gpt-4o` without what names the provider of that row: only then is it a prefix and not the maker's part
        of the model's own name."""
        provider = self.text("provider")
        names = [*provider.values.to_pylist(), None]
        models = [*coded.values.to_pylist(), None]
        pairs = (coded.codes % len(models)) * np.int64(len(names)) + provider.codes % len(names)
        found, codes = distinct(pairs, len(models) * len(names))
        texts = [_stripped(models[pair // len(names)], names[pair % len(names)]) for pair in found.tolist()]
        return Coded(codes.astype(np.int32), pa.array(texts, pa.large_string())).without_nulls()

    @cached_property
    def model(self) -> Coded:
        """The request model, or else the response model."""
        return first_of(self.text("request_model"), self.text("response_model"))

    def lists(self, name: str) -> Coded:
        """A fact that is a list of texts."""
        found = Coded(np.full(self.rows.size, -1, dtype=np.int32), pa.array([], pa.list_(pa.large_string())))
        for source in self.sources(name):
            needed = found.codes < 0
            if not needed.any():
                break
            coded = self.read(source, needed)
            members = [values.list_of(text, source.split) for text in coded.values.to_pylist()]
            lists = Coded(coded.codes, pa.array(members, pa.list_(pa.large_string()))).without_nulls()
            found = first_of(found, lists)
        return found

    def flag(self, name: str) -> tuple[Mask, Mask]:
        """A fact that is yes or no: which, and whether it is told."""
        found, told = np.zeros(self.rows.size, dtype=np.bool_), np.zeros(self.rows.size, dtype=np.bool_)
        for source in self.sources(name):
            if told.all():
                break
            coded = self.read(source, ~told)
            yes = coded.lookup(lambda text: values.flag_of(text) is True)
            no = coded.lookup(lambda text: values.flag_of(text) is False)
            found |= yes & ~told
            told |= yes | no
        return found, told

    # Numbers ---------------------------------------------------------------------------------------------------------
    def number(self, name: str) -> Numbers:
        """A count, pico-dollars or nanoseconds; 0 where the mask is false."""
        if name not in self._numbers:
            reads = {MONEY: self._money, TIME: self._time, OVERHEAD: self._time}.get(name, self._count)
            found, told = self.rows.no_numbers
            for place_, source in enumerate(self.sources(name)):
                needed = ~told
                if not needed.any():
                    break
                if source.when:
                    needed = needed & self.holds(source.when)
                    if not needed.any():
                        continue
                numbers, there = reads(source, needed)
                if place_ == 0 and not source.when:
                    found, told = numbers, there
                    continue
                there = there & needed
                found = np.where(there, numbers, found)
                told = told | there
            if self.dialect.zero_is_unknown:
                told = told & (found != 0)
            self._numbers[name] = found, told
        return self._numbers[name]

    @cached_property
    def any_usage(self) -> Mask:
        """Whether a span has any count but zero."""
        some = np.zeros(self.rows.size, dtype=np.bool_)
        for name in (NUMBERS | HELPERS) & self.dialect.facts.keys():
            numbers, told = self.number(name)
            some |= told & (numbers != 0)
        return some

    def _slots(self, key: str, needed: Mask) -> I32 | None:
        slots = self.rows.slots(key)
        if slots is None or needed.all():
            return slots
        return np.where(needed, slots, -1).astype(np.int32)

    def _count(self, source: Source, needed: Mask) -> Numbers:
        if source.sum is not None:
            return self._sum(source.sum, needed, self._count)
        where = place(source.from_ or "")
        if where.owner == "span" and where.path is None and source.value is None:
            slots = self._slots(where.key, needed)
            return self.rows.no_numbers if slots is None else gather.integers(self.rows.table.traces, slots)
        return self._each(source, needed, values.count_of)

    def _sum(self, parts: Sequence[str], needed: Mask, read: Callable[[Source, Mask], Numbers]) -> Numbers:
        total, some = self.rows.no_numbers
        for part in parts:
            numbers, told = read(source_at(part), needed)
            total, some = total + np.where(told, numbers, 0), some | told
        return total, some

    def _money(self, source: Source, needed: Mask) -> Numbers:
        if source.sum is not None:
            return self._sum(source.sum, needed, self._money)
        where = place(source.from_ or "")
        if where.owner != "span" or where.path is not None:
            return self._each(source, needed, values.pico_of)
        slots = self._slots(where.key, needed)
        if slots is None:
            return self.rows.no_numbers
        numbers, told, as_text = self._doubles(slots)
        with np.errstate(over="ignore", invalid="ignore"):
            pico = np.rint(numbers * 1e12)
        told = told & (pico > 0) & (pico < 1e18)
        if as_text is not None:
            exact, there = self._each(source, as_text & needed, values.pico_of)
            told, pico = np.where(as_text, there, told), np.where(as_text, 0, pico)
            return np.where(as_text, exact, np.where(told, pico, 0).astype(np.int64)), told
        return np.where(told, pico, 0).astype(np.int64), told

    def _time(self, source: Source, needed: Mask) -> Numbers:
        where = place(source.from_ or "")
        if where.owner == "event" and not where.key:
            moments, told = self.rows.event_time_ns(where.event)
            return _sensible(moments - self.rows.start_ns, told)
        if source.unit == "instant":
            moments, told = self._each(source, needed, lambda value: values.moment_ns(str(value)))
            return _sensible(moments - self.rows.start_ns, told)
        if source.unit == "debug":
            return _sensible(*self._each(source, needed, lambda value: values.debug_ns(str(value))))
        unit = _UNIT_NS[source.unit or "ns"]
        plain = where.owner == "span" and where.path is None and source.pattern is None
        slots = self._slots(where.key, needed) if plain else None
        if slots is None:
            return _sensible(*self._each(source, needed, lambda value: _scaled(values.number_of(value), unit)))
        numbers, told = gather.doubles(self.rows.table.traces, slots)
        with np.errstate(over="ignore", invalid="ignore"):
            times = np.where(told, numbers, 0.0) * unit
            if source.unit == "ns_or_ms":
                times = np.where(times < _LEAST_NS, times * 1e6, times)
            told = told & (times >= 0) & (times < _LONGEST_NS)
        return np.where(told, np.rint(np.where(told, times, 0.0)), 0).astype(np.int64), told

    def _doubles(self, slots: I32) -> tuple[Any, Mask, Mask | None]:
        """Numbers of attribute rows, and which rows hold a text instead (None: no row does)."""
        traces = self.rows.table.traces
        numbers, told = gather.doubles(traces, slots)
        is_text = (traces.attributes.type[slots] == ValueType.STRING) & (slots >= 0)
        told = told & ~is_text
        return np.where(told, numbers, 0.0), told, is_text if is_text.any() else None

    def _each(self, source: Source, needed: Mask, read: Callable[[Any], int | None]) -> Numbers:
        """Numbers read from texts, or from what stands inside them, each distinct one once."""
        if source.value is not None:
            number = read(source.value)
            return np.full(self.rows.size, number or 0, dtype=np.int64), needed & (number is not None)
        where = place(source.from_ or "")
        if where.owner == "span" and where.path is not None:
            if self.rows.slots(where.key) is None:
                return self.rows.no_numbers
            codes, documents = self.rows.parsed(where.key, needed)
            found = [None if one is values.UNREAD else read(values.descend(one, where.path)) for one in documents]
        else:
            coded = self._at(where, needed) if source.pattern is None else self.read(source, needed)
            codes, found = coded.codes, [read(text) for text in coded.values.to_pylist()]
        numbers = np.array([*(number or 0 for number in found), 0], dtype=np.int64)
        told = np.array([*(number is not None for number in found), False], dtype=np.bool_)
        return numbers[codes], told[codes]


def _first_group(pattern: re.Pattern[str], text: str) -> str | None:
    found = pattern.search(text)
    return (found[1] or None) if found else None


def _finish_reasons(text: str) -> str | None:
    members = values.read(text) if text[:1] == "[" else text.split(",")
    words = (
        [vocabulary.finish_reason(member) for member in members if isinstance(member, str) and member.strip()]
        if isinstance(members, list)
        else []
    )
    return ",".join(word for word in words if word) or None


def _stripped(model: str | None, provider: str | None) -> str | None:
    if model is None:
        return None
    head, slash, rest = model.partition("/")
    return rest if slash and rest and provider and vocabulary.provider(head) == provider else model


def _scaled(number: float | None, unit: float) -> int | None:
    if number is None or not 0 <= number * unit < _LONGEST_NS:
        return None
    return round(number * unit)


def _sensible(times: I64, told: Mask) -> Numbers:
    told = told & (times >= 0) & (times < int(_LONGEST_NS))
    return np.where(told, times, 0), told
