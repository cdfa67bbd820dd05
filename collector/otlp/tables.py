"""Decoded OTLP traces and logs as columns: where things stand in the joined request bytes, and what they are.

Nothing is copied: a text is an (offset, length) pair into `data`. All tables are in wire order; rows refer to
their owner by row number. `decode.py` and `logs.py` fill the tables, `gather.py` turns parts of them into Arrow arrays,
`encode.py` writes them back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
I32 = NDArray[np.int32]
U64 = NDArray[np.uint64]
U32 = NDArray[np.uint32]
U8 = NDArray[np.uint8]
I8 = NDArray[np.int8]


class Owner(IntEnum):
    """Whose attribute a row of the attribute table is."""

    RESOURCE = 0
    SCOPE = 1
    SPAN = 2
    EVENT = 3
    LINK = 4
    RECORD = 2  # of logs, where there are no spans


class ValueType(IntEnum):
    """The kind of an AnyValue; EMPTY is a value that is not set."""

    EMPTY = 0
    STRING = 1
    BOOL = 2
    INT = 3
    DOUBLE = 4
    ARRAY = 5
    KVLIST = 6
    BYTES = 7


@dataclass(frozen=True, slots=True)
class Text:
    """Texts as offsets and byte lengths into `data`; length 0 where a text is absent or empty."""

    off: I64
    len: I32


@dataclass(frozen=True, slots=True)
class Ranges:
    """For each owner row, its attributes: rows start[i]..end[i] of the attribute table."""

    start: I32
    end: I32


@dataclass(frozen=True, slots=True)
class ResourceTable:
    message: Text  # the whole ResourceSpans message, without its tag and length
    resource: Text  # the Resource message inside it (len 0: absent)
    schema_url: Text
    attributes: Ranges


@dataclass(frozen=True, slots=True)
class ScopeTable:
    resource: I32  # row of the resource table
    message: Text  # the whole ScopeSpans message
    scope: Text  # the InstrumentationScope message inside it
    name: Text
    version: Text
    schema_url: Text
    attributes: Ranges


@dataclass(frozen=True, slots=True)
class SpanTable:
    scope: I32  # row of the scope table
    resource: I32  # row of the resource table
    message: Text  # the whole Span message
    trace_id: Text  # 16 bytes
    span_id: Text  # 8 bytes
    parent_span_id: Text  # 8 bytes, or length 0 (also where it was all zeros)
    ids: I64  # [4, spans]: these ids as little-endian words, read once: two of the trace, the span's, the parent's (0: none)
    trace_state: Text
    name: Text
    kind: I32
    start_ns: U64
    end_ns: U64
    status_code: I32
    status_message: Text
    flags: U32
    attributes: Ranges
    event_start: I32  # rows of the event table
    event_end: I32
    link_start: I32
    link_end: I32


@dataclass(frozen=True, slots=True)
class EventTable:
    span: I32
    message: Text
    time_ns: U64
    name: Text
    attributes: Ranges


@dataclass(frozen=True, slots=True)
class LinkTable:
    span: I32
    message: Text
    trace_id: Text
    span_id: Text
    trace_state: Text
    attributes: Ranges


@dataclass(frozen=True, slots=True)
class AttributeTable:
    """One row per attribute of a resource, scope, span, event or link.

    `value` is the payload: the bytes of a STRING or BYTES, the ArrayValue or KeyValueList message of an ARRAY or
    KVLIST, nothing for the rest. `number` is the int64 of an INT, 0 or 1 of a BOOL, the bits of a DOUBLE.
    """

    owner_kind: U8  # Owner
    owner: I32  # row of the owner's table
    key: I32  # row of `Traces.keys`
    type: U8  # ValueType
    value: Text
    number: I64
    message: Text  # the whole KeyValue message, for splicing


@dataclass(frozen=True, slots=True)
class ValueTable:
    """One AnyValue per row, as in the attribute table."""

    type: U8  # ValueType
    value: Text
    number: I64


@dataclass(frozen=True, slots=True)
class RecordTable:
    scope: I32  # row of the scope table
    resource: I32  # row of the resource table
    message: Text  # the whole LogRecord message
    time_ns: U64
    observed_ns: U64
    severity_number: I32
    severity_text: Text
    body: ValueTable
    flags: U32
    trace_id: Text  # 16 bytes, or length 0 (also where it was all zeros, or of another size)
    span_id: Text  # 8 bytes, or length 0, likewise
    event_name: Text
    attributes: Ranges


@dataclass(frozen=True, kw_only=True)
class Decoded(ABC):
    """One decoded batch. `data` must outlive it; every offset has been checked against its length."""

    data: U8
    resources: ResourceTable
    scopes: ScopeTable
    attributes: AttributeTable
    keys: Sequence[str]  # the distinct attribute keys, in order of first appearance

    @abstractmethod
    def ranges(self, owner: Owner) -> Ranges:
        """The attribute ranges of one kind of owner."""

    @cached_property
    def key_ids(self) -> dict[str, int]:
        """Key text → row of `keys`."""
        return {key: i for i, key in enumerate(self.keys)}


@dataclass(frozen=True, kw_only=True)
class Traces(Decoded):
    """Spans."""

    spans: SpanTable
    events: EventTable
    links: LinkTable

    def __len__(self) -> int:
        return len(self.spans.scope)

    def ranges(self, owner: Owner) -> Ranges:
        return (self.resources, self.scopes, self.spans, self.events, self.links)[owner].attributes


@dataclass(frozen=True, kw_only=True)
class Logs(Decoded):
    """Log records."""

    records: RecordTable

    def __len__(self) -> int:
        return len(self.records.scope)

    def ranges(self, owner: Owner) -> Ranges:
        return (self.resources, self.scopes, self.records)[owner].attributes
