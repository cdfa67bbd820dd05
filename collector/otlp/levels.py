"""What the kernels read from all messages of one level, as NumPy arrays: fields, messages below, attributes.

Each function raises Malformed if one of the messages is not well-formed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
    Owner,
    Ranges,
    ResourceTable,
    ScopeTable,
    Text,
    ValueTable,
)


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
class Items:
    """Spans or log records: where they stand, the row of their scope, their fields and their attributes."""

    message: Text
    parent: I32
    fields: Fields
    attributes: Ranges


class Attributes:
    """The attribute table while it is filled, one kind of owner after the other; those of a kind stand together."""

    _ROOM = 1024

    def __init__(self, body: U8) -> None:
        self._body = body
        self._kinds: list[tuple[int, int]] = []  # owner, how many
        self.row = 0  # behind the last one
        self.columns: tuple[Any, ...] = tuple(np.empty(self._ROOM, dtype) for dtype in _ATTRIBUTE)

    def make_room(self, rows: int) -> None:
        """Have room for so many more."""
        wanted = self.row + rows
        if wanted <= len(self.columns[0]):
            return
        larger = tuple(np.empty(wanted, column.dtype) for column in self.columns)
        for new, old in zip(larger, self.columns, strict=True):
            new[: self.row] = old[: self.row]
        self.columns = larger

    def filled(self, owner: int, row: int) -> None:
        """The rows up to this one are of this kind of owner."""
        self._kinds.append((owner, row - self.row))
        self.row = row

    def add(self, owner: int, messages: Text, wanted: int, count: int) -> Ranges:
        """Read the KeyValues in the fields with tag `wanted` of all messages of one kind, `count` of them."""
        rows = len(messages.off)
        ranges = Ranges(np.full(rows, self.row, np.int32), np.full(rows, self.row, np.int32))
        behind = self.row
        if count:
            self.make_room(count)
            behind = kernels.attributes(
                self._body, messages.off, messages.len, wanted, ranges.start, ranges.end, self.row, *self.columns
            )
            if behind != self.row + count:
                raise malformed()
        self.filled(owner, behind)
        return ranges

    def table(self) -> tuple[AttributeTable, Sequence[str]]:
        """All of it, and the distinct keys."""
        owner, key_at, key_size, type_, value_at, value_size, number, at, size = (c[: self.row] for c in self.columns)
        codes, keys = interning.distinct(self._body, Text(key_at, key_size))
        kinds, counts = zip(*self._kinds, strict=True)
        owner_kind = np.repeat(np.array(kinds, np.uint8), counts)
        value, message = Text(value_at, value_size), Text(at, size)
        return AttributeTable(owner_kind, owner, codes, type_, value, number, message), keys


# As `kernels.attributes` takes them: owner, key's place and size, type, value's place and size, number, message's place and size.
_ATTRIBUTE = (np.int32, np.int64, np.int32, np.uint8, np.int64, np.int32, np.int64, np.int64, np.int32)


@dataclass(frozen=True, slots=True)
class Groups:
    """What stands around the items of a request, the same in all signals: resources, their scopes, and the items."""

    resources: ResourceTable
    scopes: ScopeTable
    items: Items

    @property
    def resource_of_items(self) -> I32:
        """For each item the row of its resource."""
        rows: I32 = self.scopes.resource[self.items.parent]
        return rows


def groups(body: U8, wanted: I8, nested: int, attributes: Attributes, count: int | None) -> Groups:
    """The resources, scopes and items of a request of any signal, with their attributes.

    wanted: the items' fields, see `fields`; nested: tag of their attributes; count: how many items there are, if that is known.
    """
    whole = Text(np.zeros(1, np.int64), np.array([len(body)], np.int32))
    request = pick(body, whole, _REQUEST)
    resource_groups = children(body, whole, L.REQUEST_RESOURCE_SPANS, request.counts[0])
    resources = pick(body, resource_groups.message, _RESOURCE_GROUP)
    resource = pick(body, resources.text(0), _RESOURCE)
    of_resources = attributes.add(Owner.RESOURCE, resources.text(0), L.RESOURCE_ATTRIBUTES, resource.counts[0])
    scope_groups = children(body, resource_groups.message, L.RESOURCE_SPANS_SCOPE_SPANS, resources.counts[0])
    scopes, items_ = _items(body, scope_groups.message, wanted, nested, attributes, count)
    scope = pick(body, scopes.text(0), _SCOPE)
    return Groups(
        ResourceTable(resource_groups.message, resources.text(0), resources.text(1), of_resources),
        ScopeTable(
            resource=scope_groups.parent,
            message=scope_groups.message,
            scope=scopes.text(0),
            name=scope.text(0),
            version=scope.text(1),
            schema_url=scopes.text(1),
            attributes=attributes.add(Owner.SCOPE, scopes.text(0), L.SCOPE_ATTRIBUTES, scope.counts[0]),
        ),
        items_,
    )


def _items(
    body: U8, groups_: Text, wanted: I8, nested: int, attributes: Attributes, count: int | None
) -> tuple[Fields, Items]:
    """The fields of the scopes' groups, and the items in them. Too little room is found out, and is made."""
    room = len(body) // _ITEM_BYTES + 1 if count is None else count
    attributes.make_room(room * _ITEM_ATTRIBUTES)
    parents = len(groups_.off)
    scopes = Fields(np.zeros((2, parents), np.int64), np.zeros((2, parents), np.int32), [])
    of_groups = Ranges(np.zeros(parents, np.int32), np.zeros(parents, np.int32))
    width = max(int(wanted.max()) + 1, 0)
    while True:
        places, sizes = np.zeros((width, room), np.int64), np.zeros((width, room), np.int32)
        parent, message = np.empty(room, np.int32), Text(np.empty(room, np.int64), np.empty(room, np.int32))
        ranges = Ranges(np.empty(room, np.int32), np.empty(room, np.int32))
        found, row, *counts = kernels.items(
            body, groups_.off, groups_.len, _SCOPE_GROUP, scopes.places, scopes.sizes, L.SCOPE_SPANS_SPANS, wanted, places, sizes,
            parent, of_groups.start, of_groups.end, message.off, message.len, nested, ranges.start, ranges.end, attributes.row,
            *attributes.columns,
        ).tolist()  # fmt: skip
        if found == _NO_ROOM_FOR_ITEMS:
            room *= 2
        elif found == _NO_ROOM_FOR_ATTRIBUTES:
            attributes.make_room(2 * len(attributes.columns[0]))
        elif found < 0:
            raise malformed()
        else:
            break
    attributes.filled(Owner.SPAN, row)
    message, parent = Text(message.off[:found], message.len[:found]), parent[:found]
    fields_ = Fields(places[:, :found], sizes[:, :found], counts)
    return scopes, Items(message, parent, fields_, Ranges(ranges.start[:found], ranges.end[:found]))


_NO_ROOM_FOR_ITEMS, _NO_ROOM_FOR_ATTRIBUTES = -2, -3
_ITEM_BYTES = 256  # an item takes about so many or more
_ITEM_ATTRIBUTES = 24  # and has about so many attributes or fewer


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
_SCOPE_GROUP = fields(L.SCOPE_SPANS_SCOPE, L.SCOPE_SPANS_SCHEMA_URL)
_SCOPE = fields(L.SCOPE_NAME, L.SCOPE_VERSION, counted=(L.SCOPE_ATTRIBUTES,))
