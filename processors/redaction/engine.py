"""A request without what must not leave: list its texts, search them, decide, rewrite.

    strings ─▶ rules by key ─▶ search: texts, texts in texts, numbers, keys, persons in documents ─▶ decisions ─▶ rewrite

Everything but the hits is arrays over leaves. What a hit becomes is decided once per distinct text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collector.otlp import interning
from collector.otlp.decode import read
from collector.otlp.moving import moved
from collector.otlp.splicing import Splice
from collector.otlp.strings import Kind, Place, Strings, first_of_each, planned, strings
from collector.otlp.tables import I32, I64, U8, Text, Traces
from collector.signals import Signal
from processors.redaction.actions import What, marker, replacement
from processors.redaction.assembling import assemble
from processors.redaction.content import Content
from processors.redaction.decisions import (
    ATTRIBUTE_GOES,
    STAYS,
    VALUE_GOES,
    Decisions,
    Pieces,
)
from processors.redaction.events import content_of_events
from processors.redaction.hits import Found
from processors.redaction.ours import CONTENT, UNSCANNABLE, Ours
from processors.redaction.persons import Persons
from processors.redaction.policy import KeyTable, Mode, Policy
from processors.redaction.search import Search, distinct_numbers, payload, sources, value_of
from processors.redaction.texts import Texts

Mask = NDArray[np.bool_]
#: A constant in their place would make things one that are not.
_DISTINCT_PLACES = (Place.METRIC_NAME, Place.METRIC_UNIT, Place.POINT_ATTRIBUTE, Place.ENTITY_KEY, Place.ENTITY_TYPE)


@dataclass(frozen=True, slots=True)
class Changes:
    """What is done to the leaves: as `collector.otlp.strings.planned` takes it."""

    replaced: I32
    blob: U8
    at: I64
    size: I64
    dropped: I32
    removed: I32

    def planned(self, data: U8, leaves: Strings) -> Splice | None:
        """What makes them; None where there are none."""
        return planned(
            data, leaves, replaced=self.replaced, blob=self.blob, at=self.at, size=self.size,
            dropped=self.dropped, removed=self.removed,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    """A request that was redacted.

    data:        what leaves; the very bytes that came where nothing was to be done
    splice:      what made it of what came, by the `changes` to its `leaves`
    found:       the hits that count, also those that stay or go with their attribute
    done:        what each comes to: actions.What
    in_request:  per hit, whether it stood in what was sent to a model
    unscanned:   leaves that could not be searched, by reason
    clean:       texts that stood in it and in which there is nothing
    """

    data: U8
    leaves: Strings
    changes: Changes
    splice: Splice | None
    found: Found
    done: U8
    in_request: Mask
    unscanned: dict[str, I64]
    clean: Texts

    def decoded(self, traces: Traces) -> Traces:
        """What leaves as tables. `traces`: what came."""
        if self.splice is None:
            return traces
        rows, goes = self.changes.replaced, len(self.changes.dropped) or len(self.changes.removed)
        if goes or (self.leaves.kind[rows] != Kind.TEXT).any() or (self.leaves.size[rows] == 0).any():
            return read(self.data, len(traces))
        return moved(traces, self.splice, self.data)

    @property
    def items(self) -> I32:
        """Per hit the row of its span, log record or metric, -1 for none."""
        items: I32 = self.leaves.item[self.found.leaf]
        return items


class Engine:
    """Redacts requests by a policy. One thread."""

    def __init__(self, policy: Policy, search: Search, decisions: Decisions, persons: Persons, ours: Ours) -> None:
        self._policy = policy
        self._ours = ours
        self._search = search
        self._decisions = decisions
        self._persons = persons
        self._with_keys = False  # whether the last request needed its attributes' keys listed: the next one will, too

    def redact(self, signal: Signal, data: U8, traces: Traces | None = None) -> Outcome:
        """The request without what the policy takes out. `traces`: the same bytes, decoded (of traces only)."""
        work = _Work(self, signal, data, traces, keys=self._with_keys)
        self._with_keys = work.needs_keys or bool(work.leaves.repeated or self._search.dirty(work.leaves.keys))
        if self._with_keys and not work.leaves.has_keys:
            work = _Work(self, signal, data, traces, keys=True)
        found, unscanned, clean = self._search.leaves(data, work.leaves, work.table, work.mode)
        comes_to, counts = self._decisions.decide(found, *work.variants(found), work.pieces)
        changes = work.changes(found, comes_to, unscanned)
        rows = np.flatnonzero(counts)
        done = work.done(found, comes_to)[rows]
        found = found.taken(rows)
        in_request = work.in_request(found.leaf)
        splice = changes.planned(data, work.leaves)
        redacted = data if splice is None else splice.applied(data)
        return Outcome(redacted, work.leaves, changes, splice, found, done, in_request, unscanned, clean)


class _Work:
    """One request: what its leaves are, and what is done to them."""

    def __init__(self, engine: Engine, signal: Signal, data: U8, traces: Traces | None, *, keys: bool) -> None:
        """`keys`: whether the keys of attributes are listed, which half of the leaves are."""
        self._policy, self._persons, self._ours = engine._policy, engine._persons, engine._ours
        self._data = data
        self.leaves = strings(signal, data, keys=keys, decoded=traces)
        self.table: KeyTable = self._policy.table(self.leaves.keys)
        self.pieces = Pieces()
        self.mode: U8 = self.table.mode[self.leaves.key]
        self._of_event = content_of_events(self.leaves, data, traces, self._policy.places)
        if self._of_event is not None:
            inside = (self._of_event != Content.NONE) & ~self.table.kept_of_event[self.leaves.key]
            self.mode = np.where(inside & (self.mode == Mode.SCAN), np.uint8(self._policy.content), self.mode)
        self._modes = frozenset(self.table.mode.tolist())
        if self._of_event is not None:
            self._modes |= {self._policy.content}

    @property
    def needs_keys(self) -> bool:
        """Whether attributes may go as a whole: also those without a value that is a leaf."""
        return bool(self._modes & {Mode.DROP, Mode.CONTENT})

    def in_request(self, rows: I64) -> Mask:
        """Whether leaves stand in what was sent to a model."""
        content: U8 = self.table.content[self.leaves.key[rows]]
        if self._of_event is not None:
            content = np.where(content == Content.NONE, self._of_event[rows], content)
        inside: Mask = content == Content.REQUEST
        return inside

    def variants(self, found: Found) -> tuple[Mask, Mask]:
        """Per hit, whether no constant may take its place, and whether only secrets go."""
        leaves, leaf = self.leaves, found.leaf
        distinct = self.table.distinct[leaves.key[leaf]] | (leaves.kind[leaf] == Kind.KEY)
        distinct |= np.isin(leaves.place[leaf], _DISTINCT_PLACES)
        if leaves.signal is Signal.METRICS:  # a resource and a scope name a series, too
            distinct |= np.isin(leaves.place[leaf], (Place.RESOURCE_ATTRIBUTE, Place.SCOPE_ATTRIBUTE))
        return distinct, self.mode[leaf] == Mode.SECRETS

    def done(self, found: Found, comes_to: I64) -> U8:
        """What was done about each hit, for people and metrics."""
        done: U8 = self._policy.what[found.detector].copy()
        done[comes_to == STAYS] = What.OFF
        done[self.mode[found.leaf] == Mode.CONTENT] = What.DROP_VALUE
        return done

    def changes(self, found: Found, comes_to: I64, unscanned: dict[str, I64]) -> Changes:
        """What is done to the leaves."""
        leaves = self.leaves
        removed = self._removed(found, comes_to)
        attributes = int(leaves.attribute.max()) if len(removed) else -1
        gone = np.zeros(attributes + 2, np.bool_)
        gone[leaves.attribute[removed]] = True
        gone[-1] = False  # what stands in no attribute
        whole, whole_piece = self._whole(found, comes_to, unscanned)
        inline = (comes_to >= 0) & ~_among(found.leaf, whole, len(leaves))
        if len(removed):
            stays = ~gone[leaves.attribute[whole]]
            whole, whole_piece = whole[stays], whole_piece[stays]
            inline &= ~gone[leaves.attribute[found.leaf]]
        rows, made, begin = self._exchanged(found.taken(inline), comes_to[inline])
        # A field that is none, or an id that is none, cannot be a text: it goes.
        none = (leaves.kind[whole] == Kind.UNKNOWN) | (leaves.place[whole] == Place.ID)
        blob, (at, size) = self.pieces.blob, self.pieces.places
        return Changes(
            replaced=np.concatenate([whole[~none], rows]).astype(np.int32),
            blob=np.concatenate([blob, made]),
            at=np.concatenate([at[whole_piece[~none]], begin[:-1] + len(blob)]),
            size=np.concatenate([size[whole_piece[~none]], np.diff(begin)]),
            dropped=whole[none].astype(np.int32),
            removed=removed.astype(np.int32),
        )

    def _removed(self, found: Found, comes_to: I64) -> I64:
        """Leaves whose attributes go: by their key, as content, or for a hit in them."""
        leaves = self.leaves
        by_key = np.empty(0, np.int64)
        if self._modes & {Mode.DROP, Mode.CONTENT}:
            goes = (self.mode == Mode.DROP) | (self.mode == Mode.CONTENT)
            by_key = np.flatnonzero(goes & (leaves.kind == Kind.KEY) & (leaves.depth == 0) & (leaves.attribute >= 0))
        by_hit = found.leaf[comes_to == ATTRIBUTE_GOES]
        return np.unique(np.concatenate([by_key, by_hit[leaves.attribute[by_hit] >= 0]]))

    def _whole(self, found: Found, comes_to: I64, unscanned: dict[str, I64]) -> tuple[I64, I64]:
        """Leaves that are exchanged as a whole, and by which piece. Where several reasons meet, the first one holds."""
        parts = [(rows, np.full(len(rows), self.pieces.add(marker(UNSCANNABLE)))) for rows in unscanned.values()]
        by_hit = np.flatnonzero((comes_to == VALUE_GOES) | (comes_to == ATTRIBUTE_GOES))
        if len(by_hit):
            names = np.array([self.pieces.add(marker(detector.id)) for detector in self._policy.detectors])
            parts.append((found.leaf[by_hit], names[found.detector[by_hit]]))
        bodies = self._values(Mode.CONTENT)
        bodies = bodies[self.leaves.attribute[bodies] < 0]
        if len(bodies):
            gone = marker(CONTENT)
            there = [payload(self._data, self.leaves, row) == gone for row in bodies.tolist()]
            parts.append((bodies, np.where(there, STAYS, self.pieces.add(gone))))
        named = self._values(Mode.WHOLE)
        if len(named):
            parts.append((named, self._exchanged_values(named)))
        if not parts:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        all_: I64 = np.concatenate([rows for rows, _ in parts])
        rows, first = first_of_each(all_)
        piece = np.concatenate([piece for _, piece in parts])[first]
        return rows[piece >= 0], piece[piece >= 0]

    def _values(self, mode: Mode) -> I64:
        """The values, at any depth, that a mode is for."""
        if mode not in self._modes:
            return np.empty(0, np.int64)
        rows = np.flatnonzero(self.mode == mode)
        kind = self.leaves.kind[rows]
        values: I64 = rows[(kind != Kind.KEY) & (kind != Kind.UNKNOWN)]
        return values

    def _exchanged_values(self, rows: I64) -> I64:
        """The pieces that take the place of values, whatever these are; STAYS where it is there already."""
        leaves, data = self.leaves, self._data
        piece = np.full(len(rows), STAYS, np.int64)
        number = (leaves.kind[rows] == Kind.INT) | (leaves.kind[rows] == Kind.DOUBLE)
        texts = rows[~number]
        if len(texts):
            codes, first = interning.texts(data, Text(leaves.off[texts], leaves.size[texts]))
            known = [payload(data, leaves, row) for row in texts[first].tolist()]
            piece[~number] = self._by_key(codes, known, leaves.key[texts])
        numbers = rows[number]
        if len(numbers):
            which, first = distinct_numbers(leaves.number[numbers], leaves.kind[numbers])
            known = [value_of(data, leaves, row) for row in numbers[first].tolist()]
            piece[number] = self._by_key(which, known, leaves.key[numbers])
        return piece

    def _by_key(self, codes: NDArray[np.integer[Any]], known: Sequence[bytes], key: I32) -> I64:
        """The pieces of values known[code], by the rules of their keys; each pair of value and key once."""
        which, first = distinct_numbers(codes, key)
        made = [self._piece(known[code], rule) for code, rule in zip(codes[first].tolist(), key[first].tolist(), strict=True)]  # fmt: skip
        return np.array(made, np.int64)[which]

    def _piece(self, text: bytes, key: int) -> int:
        rule = self.table.rules[key]
        if text in self._ours:
            return STAYS
        if rule.action.what is What.PSEUDONYMISE:
            made = self._persons.token(rule.name, text)
        else:
            made = replacement(rule.action, rule.name, text, self._persons.pseudonyms)
        return STAYS if made == text else self.pieces.add(made)

    def _exchanged(self, found: Found, piece: I64) -> tuple[I64, U8, I64]:
        """Leaves in which parts are exchanged; their new texts one after the other, and where each begins."""
        rows, first = first_of_each(found.leaf)
        source, off, size = sources(self._data, self.leaves, rows)
        at, length = self.pieces.places
        parts = np.append(first, len(found)).astype(np.int64)
        made, begin = assemble(source, off, size, parts, found.start, found.end, piece, self.pieces.blob, at, length)
        return rows, made, begin


def _among(rows: I64, some: I64, count: int) -> Mask:
    """Which of the rows, all below `count`, are among some."""
    chosen = np.zeros(count, np.bool_)
    chosen[some] = True
    among: Mask = chosen[rows]
    return among
