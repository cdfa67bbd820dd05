"""What the kernels read from all messages of one level, as NumPy arrays: fields, messages below, attributes.

Each function raises Malformed if one of the messages is not well-formed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from collector.errors import Malformed
from collector.otlp import interning, kernels
from collector.otlp.tables import I8, I32, I64, U8, AttributeTable, Ranges, Text


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


def malformed() -> Malformed:
    return Malformed("the body is no well-formed OTLP request")


def fields(*columns: int, counted: tuple[int, ...] = ()) -> I8:
    """tag → column, for `kernels.pick`."""
    table = np.full(max((*columns, *counted)) + 1, -1, np.int8)
    table[list(columns)] = np.arange(len(columns))
    table[list(counted)] = kernels.COUNTED - np.arange(len(counted))
    return table
