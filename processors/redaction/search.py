"""Looks for what must not leave, in every leaf of a request: in texts, in texts inside texts, numbers, keys, documents.

What cannot be searched is named with the reason: its value goes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collector.otlp import interning
from collector.otlp.compiled import read_only
from collector.otlp.strings import Kind, Place, Strings
from collector.otlp.tables import I32, I64, U8, Text
from processors.redaction import hits
from processors.redaction.detector import Detector
from processors.redaction.hits import Found
from processors.redaction.patterns import compiled
from processors.redaction.persons import Persons
from processors.redaction.policy import MOST_KEYS, KeyTable, Mode, Policy
from processors.redaction.texts import Searched, Texts, TextSearch, joined

Mask = NDArray[np.bool_]
TOO_LARGE, ENCODING, UNKNOWN_FIELD = "too_large", "encoding", "unknown_field"
#: Numbers below it are no card and no national id, but for those whose key says what they are.
_LEAST_NUMBER = 10**9
#: Values longer than this bring their own context along.
_LONGEST_NAMED = 256
#: Per mode, whether values are searched.
_LOOK = np.isin(np.arange(len(Mode)), (Mode.SCAN, Mode.SECRETS, Mode.CONTENT))
_WORDS = re.compile(r"[._\-/:\s]+|(?<=[a-z])(?=[A-Z])")


class Search:
    """Searches leaves for what the policy's detectors describe. One thread."""

    def __init__(self, policy: Policy, texts: TextSearch, persons: Persons | None, max_size: int) -> None:
        """`persons`: whose names are looked for in documents; None: nobody's. `max_size`: of a value, in bytes."""
        self._texts_in = texts
        self._policy = policy
        self._persons = persons
        self._max_size = max_size
        self._context = _context_words(policy.detectors)
        self._named: dict[str, bytes] = {}
        self._clean_keys: set[str] = set()

    def leaves(self, data: U8, leaves: Strings, table: KeyTable, mode: U8) -> tuple[Found, dict[str, I64], Texts]:
        """The hits in all leaves that are looked at, the leaves that could not be, by reason, and texts that are clean."""
        look = _LOOK[mode]
        if leaves.has_keys:
            look = np.where(_top_keys(leaves), self._to_search(leaves)[leaves.key], look)
        unscanned: dict[str, I64] = {}
        texts = self._texts(data, leaves, look, unscanned)
        plain = self._in_leaves(data, leaves, texts, unscanned)
        found = [
            self._members(data, leaves, plain.members, table),
            plain.found,
            self._named_values(data, leaves, texts),
            self._numbers(data, leaves, look, table),
        ]
        return hits.merged(found), {reason: rows for reason, rows in unscanned.items() if len(rows)}, plain.clean

    # What is searched ------------------------------------------------------------------------------------------------

    def _texts(self, data: U8, leaves: Strings, look: Mask, unscanned: dict[str, I64]) -> I64:
        """The leaves whose payloads are texts to be searched; the others that should be are noted as unscanned."""
        kind = leaves.kind
        rows = np.flatnonzero(look & (leaves.size > 0))  # numbers have no size
        large = leaves.size[rows] > self._max_size
        if large.any():
            unscanned[TOO_LARGE] = rows[large]
            rows = rows[~large]
        binary = np.flatnonzero((kind[rows] == Kind.BYTES) | (kind[rows] == Kind.UNKNOWN))
        if len(binary):
            bad = binary[[not _is_text(data, leaves, row) for row in rows[binary].tolist()]]
            unknown = kind[rows[bad]] == Kind.UNKNOWN
            unscanned[UNKNOWN_FIELD], unscanned[ENCODING] = rows[bad[unknown]], rows[bad[~unknown]]
            rows = np.delete(rows, bad)
        return rows

    def _in_leaves(self, data: U8, leaves: Strings, rows: I64, unscanned: dict[str, I64]) -> Searched:
        """What there is in the texts of some leaves, by leaf."""
        keys = leaves.key[rows] + 1  # 0 for none
        searched = self._texts_in.search(
            data, leaves.off[rows], leaves.size[rows], group=keys, groups=len(leaves.keys) + 1
        )
        for reason, at in searched.failed.items():
            unscanned[reason] = np.union1d(unscanned.get(reason, at[:0]), rows[at])
        found = replace(searched.found, leaf=rows[searched.found.leaf])
        return replace(searched, found=found, members=rows[searched.members])

    def dirty(self, keys: Sequence[str]) -> Sequence[int]:
        """Which keys of attributes have something in them. Each distinct key is searched once for ever."""
        fresh = [number for number, key in enumerate(keys) if key not in self._clean_keys]
        if not fresh:
            return []
        searched = self._texts_in.search(*joined([keys[number].encode() for number in fresh]))
        dirty = set(np.concatenate([searched.found.leaf, *searched.failed.values()]).tolist())
        if len(self._clean_keys) > MOST_KEYS:
            self._clean_keys.clear()
        self._clean_keys.update(keys[number] for place, number in enumerate(fresh) if place not in dirty)
        return [fresh[place] for place in sorted(dirty)]

    def _to_search(self, leaves: Strings) -> Mask:
        """Per key, and for none, whether it is searched where it stands: it has something in it, or is said beside others."""
        if leaves.repeated:  # the keys that do not count are in the request, too
            return np.ones(len(leaves.keys) + 1, np.bool_)
        wanted = np.zeros(len(leaves.keys) + 1, np.bool_)
        wanted[self.dirty(leaves.keys)] = True
        return wanted

    def _numbers(self, data: U8, leaves: Strings, look: Mask, table: KeyTable) -> Found:
        """Numbers that are cards or national ids, by their digits."""
        rows = np.flatnonzero((leaves.kind == Kind.INT) | (leaves.kind == Kind.DOUBLE))
        rows = rows[look[rows] & ~table.measure[leaves.key[rows]]]
        if not len(rows):
            return hits.nothing()
        named = np.array([*(bool(self._name(key)) for key in leaves.keys), False])
        value = np.where(leaves.kind[rows] == Kind.INT, leaves.number[rows].astype(np.float64), leaves.number[rows].view(np.float64))  # fmt: skip
        with np.errstate(invalid="ignore"):
            rows = rows[(np.abs(value) >= _LEAST_NUMBER) | (named[leaves.key[rows]] & (np.abs(value) >= 1000))]
        if not len(rows):
            return hits.nothing()
        codes, first = distinct_numbers(leaves.number[rows], leaves.kind[rows], leaves.key[rows])
        keys = leaves.key[rows[first]].tolist()
        names = [self._name(leaves.keys[key]) if key >= 0 else b"" for key in keys]
        return self._beside(names, [value_of(data, leaves, row) for row in rows[first].tolist()], rows, codes)

    def _named_values(self, data: U8, leaves: Strings, rows: I64) -> Found:
        """Hits that only the attribute's key gives away: `user.ssn`, `dateOfBirth`."""
        names = [self._name(key) for key in leaves.keys]
        if not any(names):
            return hits.nothing()
        named = np.array([*(bool(name) for name in names), False])
        rows = rows[named[leaves.key[rows]] & (leaves.size[rows] <= _LONGEST_NAMED) & (leaves.kind[rows] != Kind.KEY)]
        if not len(rows):
            return hits.nothing()
        codes, first = interning.texts(data, Text(leaves.off[rows], leaves.size[rows]))
        pairs, inverse = np.unique(codes.astype(np.int64) << 32 | leaves.key[rows], return_inverse=True)
        texts = [payload(data, leaves, int(rows[first[pair >> 32]])) for pair in pairs.tolist()]
        return self._beside([names[pair & 0xFFFFFFFF] for pair in pairs.tolist()], texts, rows, inverse)

    def _beside(
        self, names: Sequence[bytes], texts: Sequence[bytes], rows: I64, code: NDArray[np.integer[Any]]
    ) -> Found:
        """Hits in texts that stand behind names; row i has the text of number code[i]."""
        blob, off, size = joined([name + text for name, text in zip(names, texts, strict=True)])
        before = np.array([len(name) for name in names], np.int64)
        found, _ = self._texts_in.scanner.scan(
            blob, off[code], size[code]
        )  # what fails here, fails without its name, too
        number = code[found.row]
        start, end = np.maximum(found.start - before[number], 0), found.end - before[number]
        at = off[number] + before[number] + start
        inside = np.flatnonzero(end > 0)
        detector = found.detector.astype(np.int64)
        return hits.of(rows[found.row], start, end, detector, blob, at, np.maximum(end - start, 0)).taken(inside)

    def _members(self, data: U8, leaves: Strings, rows: I64, table: KeyTable) -> Found:
        """What names somebody inside documents."""
        in_document = table.document[leaves.key[rows]] | (leaves.place[rows] == Place.LOG_BODY)
        rows = rows[in_document & (leaves.kind[rows] == Kind.TEXT)]
        if self._persons is None or not len(rows):
            return hits.nothing()
        codes, first = interning.texts(data, Text(leaves.off[rows], leaves.size[rows]))
        members = [(number, member) for number, row in enumerate(first.tolist()) for member in self._persons.members(payload(data, leaves, int(rows[row])))]  # fmt: skip
        if not members:
            return hits.nothing()
        row, which = hits.spread(np.array([number for number, _ in members], np.int64), codes)
        start, end = (np.array([getattr(m, side) for _, m in members], np.int64)[which] for side in ("start", "end"))
        none, person = np.full(len(which), -1), np.full(len(which), hits.PERSON)
        return Found(rows[row], start, end, person, which, none, [member.piece for _, member in members])

    def _name(self, key: str) -> bytes:
        """What stands before a value whose key has a word that a detector waits for; empty for other keys."""
        name = self._named.get(key)
        if name is None:
            if len(self._named) > MOST_KEYS:
                self._named.clear()
            spelt = _WORDS.sub(" ", key).encode()
            named = self._context and self._context.search(spelt) and not self._policy.tells_itself(key)
            name = self._named[key] = spelt + b": " if named else b""
        return name


def distinct_numbers(*columns: NDArray[np.integer[Any]]) -> tuple[I32, I64]:
    """Per row the number of its combination of values, and for each combination a row that has it."""
    words = np.stack([column.astype(np.int64) for column in columns], axis=1)
    width = 8 * len(columns)
    at, size = np.arange(len(words)) * width, np.full(len(words), width, np.int32)
    found: tuple[I32, I64] = interning.texts(read_only(words.reshape(-1).view(np.uint8)), Text(at, size))
    return found


def _top_keys(leaves: Strings) -> Mask:
    """Which leaves are keys of attributes."""
    top: Mask = (leaves.kind == Kind.KEY) & (leaves.depth == 0) & (leaves.attribute >= 0)
    return top


def sources(data: U8, leaves: Strings, rows: I64) -> tuple[U8, I64, I64]:
    """Where the texts of leaves stand: in the request, but for numbers, whose digits follow it."""
    off, size = leaves.off[rows], leaves.size[rows].astype(np.int64)
    numbers = np.flatnonzero((leaves.kind[rows] == Kind.INT) | (leaves.kind[rows] == Kind.DOUBLE))
    if not len(numbers):
        return data, off, size
    texts = [digits(int(leaves.number[row]), int(leaves.kind[row])) for row in rows[numbers].tolist()]
    blob, at, length = joined(texts)
    off[numbers], size[numbers] = at + len(data), length
    return np.concatenate([data, blob]), off, size


def digits(number: int, kind: int) -> bytes:
    """An INT, or the bits of a DOUBLE, as people write it."""
    if kind == Kind.INT:
        return str(number).encode()
    value = float(np.int64(number).view(np.float64))
    return str(int(value)).encode() if value.is_integer() and abs(value) < 1e19 else repr(value).encode()


def value_of(data: U8, leaves: Strings, row: int) -> bytes:
    """A leaf's text; of a number, its digits."""
    if leaves.kind[row] in (Kind.INT, Kind.DOUBLE):
        return digits(int(leaves.number[row]), int(leaves.kind[row]))
    return payload(data, leaves, row)


def payload(data: U8, leaves: Strings, row: int) -> bytes:
    """The bytes of a leaf."""
    return data[leaves.off[row] : leaves.off[row] + leaves.size[row]].tobytes()


def _is_text(data: U8, leaves: Strings, row: int) -> bool:
    """Whether bytes are UTF-8 that detectors can read. Text in 16 bits is valid, too, with a zero beside every letter."""
    if leaves.kind[row] == Kind.UNKNOWN and leaves.number[row] & 7 != _LEN:
        return False
    found = payload(data, leaves, row)
    try:
        found.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in found


_LEN = 2  # the wire type of what may be text


def _context_words(detectors: Iterable[Detector]) -> Any:
    """One expression for keys that end in a word that detectors wait for; None where none waits."""
    words = sorted({word for detector in detectors if detector.context for word in detector.context.words})
    return compiled(rf"(?i)(?:\b|_)(?:{'|'.join(words)})(?: (?:number|num|no|nr|id|value|code))?$") if words else None
