"""Edits on any number of messages at once, said in rows of tables: what `splicing.splice` needs, worked out with NumPy.

The body must be as `check` leaves it: lengths in as few bytes as they need, so that a message's place says where its
length and its tag stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from collector.otlp import splicing
from collector.otlp.tables import I32, I64, U8, Text


@dataclass(frozen=True, slots=True)
class Level:
    """Messages that stand in messages of the level above (`parent`: their rows there; the top one stands in the request)."""

    message: Text
    parent: I32
    tag: int


@dataclass(frozen=True, slots=True)
class Edits:
    """body[start : end], in the message `row` of the level `level`, becomes blob[at : at + size]. Sorted or not."""

    start: I64
    end: I64
    level: int
    row: I32
    at: I64
    size: I64

    @classmethod
    def removing(cls, body: U8, message: Text, tag: int, level: int, row: I32) -> Edits:
        """Edits that take out the fields whose payloads are these messages."""
        zeros = np.zeros(len(row), np.int64)
        return cls(header(body, message, tag) - 1, message.off + message.len, level, row, zeros, zeros)

    @classmethod
    def inserting(cls, where: I64, level: int, row: I32, at: I64, size: I64) -> Edits:
        """Edits that put a piece of the blob at a position between two fields."""
        return cls(where, where, level, row, at, size)


def header(body: U8, message: Text, tag: int) -> I64:
    """Where the length of each message stands. Raises ValueError if the field is not `tag` with a length as short as it
    can be."""
    size = np.ones(len(message.len), np.int64)
    for bits in (7, 14, 21, 28):
        size += message.len >= 1 << bits
    places: I64 = message.off - size
    if len(places) and (places.min() < 1 or not (body[places - 1] == tag).all()):
        raise ValueError("the request was not checked: the length of a message takes more bytes than it needs")
    return places


def rewrite(body: U8, levels: Sequence[Level], edits: Sequence[Edits], blob: U8) -> U8:
    """The body with all edits done. Each edit range may be edited once."""
    touched = [np.zeros(len(level.message.off), np.bool_) for level in levels]
    for some in edits:
        touched[some.level][some.row] = True
    for number in range(len(levels) - 1, 0, -1):
        touched[number - 1][levels[number].parent[touched[number]]] = True
    rows = [np.flatnonzero(mask) for mask in touched]
    messages = [
        Text(level.message.off[some], level.message.len[some]) for level, some in zip(levels, rows, strict=True)
    ]
    headers = [header(body, message, level.tag) for level, message in zip(levels, messages, strict=True)]
    order = np.argsort(np.concatenate(headers), kind="stable")
    # Where each touched row comes to stand among the nodes
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    first = np.cumsum([0, *(len(some) for some in rows)])
    node_of = [np.full(len(mask), -1, np.int64) for mask in touched]
    for number, here in enumerate(rows):
        node_of[number][here] = place[first[number] : first[number + 1]]
    parents = [np.full(len(rows[0]), -1, np.int64)]
    parents += [node_of[number - 1][levels[number].parent[rows[number]]] for number in range(1, len(levels))]
    nodes = np.empty((splicing.NODE, len(order)), np.int64)
    nodes[splicing.N_HEADER] = np.concatenate(headers)[order]
    nodes[splicing.N_START] = np.concatenate([message.off for message in messages])[order]
    nodes[splicing.N_END] = np.concatenate([message.off + message.len for message in messages])[order]
    nodes[splicing.N_PARENT] = np.concatenate(parents)[order]
    matrix = np.empty((splicing.EDIT, sum(len(some.start) for some in edits)), np.int64)
    matrix[splicing.E_START] = np.concatenate([some.start for some in edits])
    matrix[splicing.E_END] = np.concatenate([some.end for some in edits])
    matrix[splicing.E_NODE] = np.concatenate([node_of[some.level][some.row] for some in edits])
    matrix[splicing.E_AT] = np.concatenate([some.at for some in edits])
    matrix[splicing.E_SIZE] = np.concatenate([some.size for some in edits])
    return splicing.Splice(matrix[:, np.argsort(matrix[splicing.E_START], kind="stable")], nodes, blob).applied(body)
