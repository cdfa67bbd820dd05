"""What the kernels read from all messages of one level, as NumPy arrays: fields, messages below, attributes.

Each function raises Malformed if one of the messages is not well-formed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from collector.errors import Malformed
from collector.otlp import interning, kernels
from collector.otlp import layout as L
from collector.otlp.tables import I8, I32, I64, U8, AttributeTable, Ranges, ResourceTable, ScopeTable, Text, ValueTable


@dataclass(frozen=True, slots=True)
class Fields:
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
class Children:
    """Messages one level below: where they stand, whose they are, and which ones each parent has."""

    message: Text
    parent: I32
    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Groups:
    """What stands around the items of a request, the same in all signals: resources, their scopes, and the items' places."""

    resource_groups: Children
    resources: Fields
    scope_groups: Children
    scopes: Fields
    scope: Fields
    items: Children
    owners: tuple[tuple[Text, int, int], ...]

    @property
    def resource_of_items(self) -> I32:
        """For each item the row of its resource."""
        rows: I32 = self.scope_groups.parent[self.items.parent]
        return rows

    def resource_table(self, attributes: Ranges) -> ResourceTable:
        return ResourceTable(self.resource_groups.message, self.resources.text(0), self.resources.text(1), attributes)

    def scope_table(self, attributes: Ranges) -> ScopeTable:
        return ScopeTable(
            resource=self.scope_groups.parent,
            message=self.scope_groups.message,
            scope=self.scopes.text(0),
            name=self.scope.text(0),
            version=self.scope.text(1),
            schema_url=self.scopes.text(1),
            attributes=attributes,
        )


def groups(body: U8) -> Groups:
    """The resources and scopes of a request of any signal, and where its items stand. Its `owners` are for `attributes`."""
    whole = Text(np.zeros(1, np.int64), np.array([len(body)], np.int32))
    request = pick(body, whole, _REQUEST)
    resource_groups = children(body, whole, L.REQUEST_RESOURCE_SPANS, request.counts[0])
    resources = pick(body, resource_groups.message, _RESOURCE_GROUP)
    resource = pick(body, resources.text(0), _RESOURCE)
    scope_groups = children(body, resource_groups.message, L.RESOURCE_SPANS_SCOPE_SPANS, resources.counts[0])
    scopes = pick(body, scope_groups.message, _SCOPE_GROUP)
    scope = pick(body, scopes.text(0), _SCOPE)
    items = children(body, scope_groups.message, L.SCOPE_SPANS_SPANS, scopes.counts[0])
    owners = (
        (resources.text(0), L.RESOURCE_ATTRIBUTES, resource.counts[0]),
        (scopes.text(0), L.SCOPE_ATTRIBUTES, scope.counts[0]),
    )
    return Groups(resource_groups, resources, scope_groups, scopes, scope, items, owners)


def pick(body: U8, messages: Text, fields: I8) -> Fields:
    columns, rows = max(int(fields.max()) + 1, 0), len(messages.off)
    places, sizes = np.zeros((columns, rows), np.int64), np.zeros((columns, rows), np.int32)
    counts = kernels.pick(body, messages.off, messages.len, fields, places, sizes).tolist()
    if counts[0] < 0:
        raise malformed()
    return Fields(places, sizes, counts)


def children(body: U8, messages: Text, wanted: int, count: int) -> Children:
    parents = len(messages.off)
    found = Children(
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
        raise malformed()
    return found


def attributes(body: U8, owners: tuple[tuple[Text, int, int], ...]) -> tuple[AttributeTable, list[Ranges], list[str]]:
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
            raise malformed()
        row = behind
    codes, first = interning.texts(body, key)
    ends = key.off[first] + key.len[first]
    keys = [
        body[start:end].tobytes().decode("utf-8", "replace")
        for start, end in zip(key.off[first].tolist(), ends.tolist(), strict=True)
    ]
    return (
        AttributeTable(table.owner_kind, table.owner, codes, table.type, table.value, table.number, table.message),
        ranges,
        keys,
    )


def values(body: U8, messages: Text) -> ValueTable:
    """The AnyValues that these messages are; EMPTY where there is none."""
    rows = len(messages.off)
    table = ValueTable(
        np.empty(rows, np.uint8), Text(np.empty(rows, np.int64), np.empty(rows, np.int32)), np.empty(rows, np.int64)
    )
    found = kernels.any_values(
        body, messages.off, messages.len, table.type, table.value.off, table.value.len, table.number
    )
    if found != rows:
        raise malformed()
    return table


def malformed() -> Malformed:
    return Malformed("the body is no well-formed OTLP request")


def fields(*columns: int, counted: tuple[int, ...] = ()) -> I8:
    """tag → column, for `kernels.pick`."""
    table = np.full(max((*columns, *counted)) + 1, -1, np.int8)
    table[list(columns)] = np.arange(len(columns))
    table[list(counted)] = kernels.COUNTED - np.arange(len(counted))
    return table


_REQUEST = fields(counted=(L.REQUEST_RESOURCE_SPANS,))
_RESOURCE_GROUP = fields(
    L.RESOURCE_SPANS_RESOURCE, L.RESOURCE_SPANS_SCHEMA_URL, counted=(L.RESOURCE_SPANS_SCOPE_SPANS,)
)
_RESOURCE = fields(counted=(L.RESOURCE_ATTRIBUTES,))
_SCOPE_GROUP = fields(L.SCOPE_SPANS_SCOPE, L.SCOPE_SPANS_SCHEMA_URL, counted=(L.SCOPE_SPANS_SPANS,))
_SCOPE = fields(L.SCOPE_NAME, L.SCOPE_VERSION, counted=(L.SCOPE_ATTRIBUTES,))
