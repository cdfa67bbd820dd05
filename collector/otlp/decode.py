"""Request bytes to tables, in one go for any number of requests.

Serialized requests concatenate: `b"".join(bodies)` is one request with the spans of all of them.
Level by level: the request's resources, their scopes, the scopes' spans, the spans' events and links; then all attributes.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import numpy as np

from collector.errors import Malformed
from collector.otlp import interning, kernels
from collector.otlp import layout as L
from collector.otlp.tables import (
    I8,
    I32,
    I64,
    U8,
    AttributeTable,
    EventTable,
    LinkTable,
    Owner,
    Ranges,
    ResourceTable,
    ScopeTable,
    SpanTable,
    Text,
    Traces,
)

SEED = secrets.randbits(62)  # of the hash tables, so that nobody can send values that collide


def decode(data: bytes) -> Traces:
    """The spans of one or more ExportTraceServiceRequest bodies that `check` has passed; rows stand in wire order.

    Raises Malformed for what is no well-formed request. Of repeated singular fields the last one counts (`check`
    merges repeated messages before they come here).
    """
    body = np.frombuffer(data, dtype=np.uint8)
    whole = Text(np.zeros(1, np.int64), np.array([len(body)], np.int32))
    request = _pick(body, whole, _REQUEST)
    resource_spans = _children(body, whole, L.REQUEST_RESOURCE_SPANS, request.counts[0])
    resources = _pick(body, resource_spans.message, _RESOURCE_SPANS)
    resource = _pick(body, resources.text(0), _RESOURCE)
    scope_spans = _children(body, resource_spans.message, L.RESOURCE_SPANS_SCOPE_SPANS, resources.counts[0])
    scopes = _pick(body, scope_spans.message, _SCOPE_SPANS)
    scope = _pick(body, scopes.text(0), _SCOPE)
    spans = _children(body, scope_spans.message, L.SCOPE_SPANS_SPANS, scopes.counts[0])
    span = _pick(body, spans.message, _SPAN)
    status = _pick(body, span.text(5), _STATUS)
    events = _children(body, spans.message, L.SPAN_EVENTS, span.counts[1])
    event = _pick(body, events.message, _EVENT)
    links = _children(body, spans.message, L.SPAN_LINKS, span.counts[2])
    link = _pick(body, links.message, _LINK)
    owners = (
        (resources.text(0), L.RESOURCE_ATTRIBUTES, resource.counts[0]),
        (scopes.text(0), L.SCOPE_ATTRIBUTES, scope.counts[0]),
        (spans.message, L.SPAN_ATTRIBUTES, span.counts[0]),
        (events.message, L.EVENT_ATTRIBUTES, event.counts[0]),
        (links.message, L.LINK_ATTRIBUTES, link.counts[0]),
    )
    attributes, ranges, keys = _attributes(data, body, owners)
    parent = span.text(3)
    kernels.known_ids(body, parent.off, parent.len)
    return Traces(
        data=body,
        resources=ResourceTable(resource_spans.message, resources.text(0), resources.text(1), ranges[Owner.RESOURCE]),
        scopes=ScopeTable(
            resource=scope_spans.parent,
            message=scope_spans.message,
            scope=scopes.text(0),
            name=scope.text(0),
            version=scope.text(1),
            schema_url=scopes.text(1),
            attributes=ranges[Owner.SCOPE],
        ),
        spans=SpanTable(
            scope=spans.parent,
            resource=scope_spans.parent[spans.parent],
            message=spans.message,
            trace_id=span.text(0),
            span_id=span.text(1),
            parent_span_id=parent,
            trace_state=span.text(2),
            name=span.text(4),
            kind=span.numbers(6).astype(np.int32),
            start_ns=span.numbers(7).view(np.uint64),
            end_ns=span.numbers(8).view(np.uint64),
            status_code=status.numbers(1).astype(np.int32),
            status_message=status.text(0),
            flags=span.numbers(9).astype(np.uint32),
            attributes=ranges[Owner.SPAN],
            event_start=events.ranges.start,
            event_end=events.ranges.end,
            link_start=links.ranges.start,
            link_end=links.ranges.end,
        ),
        events=EventTable(
            events.parent, events.message, event.numbers(1).view(np.uint64), event.text(0), ranges[Owner.EVENT]
        ),
        links=LinkTable(links.parent, links.message, link.text(0), link.text(1), link.text(2), ranges[Owner.LINK]),
        attributes=attributes,
        keys=keys,
    )


def empty() -> Traces:
    """No spans."""
    return decode(b"")


def _fields(*columns: int, counted: tuple[int, ...] = ()) -> I8:
    """tag → column, for `kernels.pick`."""
    table = np.full(max((*columns, *counted)) + 1, -1, np.int8)
    table[list(columns)] = np.arange(len(columns))
    table[list(counted)] = kernels.COUNTED - np.arange(len(counted))
    return table


_REQUEST = _fields(counted=(L.REQUEST_RESOURCE_SPANS,))
_RESOURCE_SPANS = _fields(
    L.RESOURCE_SPANS_RESOURCE, L.RESOURCE_SPANS_SCHEMA_URL, counted=(L.RESOURCE_SPANS_SCOPE_SPANS,)
)
_RESOURCE = _fields(counted=(L.RESOURCE_ATTRIBUTES,))
_SCOPE_SPANS = _fields(L.SCOPE_SPANS_SCOPE, L.SCOPE_SPANS_SCHEMA_URL, counted=(L.SCOPE_SPANS_SPANS,))
_SCOPE = _fields(L.SCOPE_NAME, L.SCOPE_VERSION, counted=(L.SCOPE_ATTRIBUTES,))
_SPAN = _fields(
    L.SPAN_TRACE_ID,
    L.SPAN_SPAN_ID,
    L.SPAN_TRACE_STATE,
    L.SPAN_PARENT_SPAN_ID,
    L.SPAN_NAME,
    L.SPAN_STATUS,
    L.SPAN_KIND,
    L.SPAN_START,
    L.SPAN_END,
    L.SPAN_FLAGS,
    counted=(L.SPAN_ATTRIBUTES, L.SPAN_EVENTS, L.SPAN_LINKS),
)
_STATUS = _fields(L.STATUS_MESSAGE, L.STATUS_CODE)
_EVENT = _fields(L.EVENT_NAME, L.EVENT_TIME, counted=(L.EVENT_ATTRIBUTES,))
_LINK = _fields(L.LINK_TRACE_ID, L.LINK_SPAN_ID, L.LINK_TRACE_STATE, counted=(L.LINK_ATTRIBUTES,))


@dataclass(frozen=True, slots=True)
class _Picked:
    """Fields of messages as columns: a row per message, a column per tag."""

    places: I64
    sizes: I32
    counts: list[int]

    def text(self, column: int) -> Text:
        return Text(self.places[column], self.sizes[column])

    def numbers(self, column: int) -> I64:
        numbers: I64 = self.places[column]
        return numbers


@dataclass(frozen=True, slots=True)
class _Children:
    """Messages one level below: where they stand, whose they are, and which ones each parent has."""

    message: Text
    parent: I32
    ranges: Ranges


def _pick(body: U8, messages: Text, fields: I8) -> _Picked:
    columns, rows = max(int(fields.max()) + 1, 0), len(messages.off)
    places, sizes = np.zeros((columns, rows), np.int64), np.zeros((columns, rows), np.int32)
    counts = kernels.pick(body, messages.off, messages.len, fields, places, sizes).tolist()
    if counts[0] < 0:
        raise _malformed()
    return _Picked(places, sizes, counts)


def _children(body: U8, messages: Text, wanted: int, count: int) -> _Children:
    parents = len(messages.off)
    found = _Children(
        Text(np.empty(count, np.int64), np.empty(count, np.int32)),
        np.empty(count, np.int32),
        Ranges(np.zeros(parents, np.int32), np.zeros(parents, np.int32)),
    )
    if count == 0:
        return found
    status = kernels.children(
        body,
        messages.off,
        messages.len,
        wanted,
        found.message.off,
        found.message.len,
        found.parent,
        found.ranges.start,
        found.ranges.end,
    )
    if status != count:
        raise _malformed()
    return found


def _attributes(
    data: bytes, body: U8, owners: tuple[tuple[Text, int, int], ...]
) -> tuple[AttributeTable, list[Ranges], list[str]]:
    """The attribute table, the ranges of each kind of owner, and the keys. `owners`: messages, tag, how many attributes."""
    total = sum(count for _, _, count in owners)
    key = Text(np.empty(total, np.int64), np.empty(total, np.int32))
    table = AttributeTable(
        owner_kind=np.repeat(np.arange(len(owners), dtype=np.uint8), [count for _, _, count in owners]),
        owner=np.empty(total, np.int32),
        key=np.empty(0, np.int32),
        type=np.empty(total, np.uint8),
        value=Text(np.empty(total, np.int64), np.empty(total, np.int32)),
        number=np.empty(total, np.int64),
        message=Text(np.empty(total, np.int64), np.empty(total, np.int32)),
    )
    row, ranges = 0, []
    for messages, wanted, count in owners:
        rows = len(messages.off)
        range_ = Ranges(np.full(rows, row, np.int32), np.full(rows, row, np.int32))
        ranges.append(range_)
        if count == 0:
            continue
        behind = kernels.attributes(
            body,
            messages.off,
            messages.len,
            wanted,
            range_.start,
            range_.end,
            row,
            table.owner,
            key.off,
            key.len,
            table.type,
            table.value.off,
            table.value.len,
            table.number,
            table.message.off,
            table.message.len,
        )
        if behind != row + count:
            raise _malformed()
        row = behind
    codes, first = interning.texts(body, key, SEED)
    ends = key.off[first] + key.len[first]
    keys = [
        data[start:end].decode("utf-8", "replace")
        for start, end in zip(key.off[first].tolist(), ends.tolist(), strict=True)
    ]
    return (
        AttributeTable(table.owner_kind, table.owner, codes, table.type, table.value, table.number, table.message),
        ranges,
        keys,
    )


def _malformed() -> Malformed:
    return Malformed("the body is no well-formed ExportTraceServiceRequest")
