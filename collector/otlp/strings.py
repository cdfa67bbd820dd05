"""Every text of a request, and a request with some of its texts changed.

`strings` lists the leaves of a serialized Export{Trace,Logs,Metrics}ServiceRequest: what `messages.RULES` calls a
text, a key, bytes, or the number of an attribute; and unknown fields. `planned` says what changes leaves and leaves all else byte
for byte as it came. Requests are those that `check` has passed; several that are joined are one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from collector.otlp import interning, messages, planning, walking
from collector.otlp.places import Kind, Place
from collector.otlp.requests import REQUESTS
from collector.otlp.splicing import Splice
from collector.otlp.tables import I32, I64, U8, Decoded, Owner, Text
from collector.signals import Signal

__all__ = ["Kind", "Place", "Strings", "first_of_each", "planned", "strings"]

Rows = TypeVar("Rows", I32, I64)
_NONE = np.empty(0, np.int32)
#: Where the attributes of spans, and of what is around and in them, stand.
_PLACES = {
    Owner.RESOURCE: Place.RESOURCE_ATTRIBUTE,
    Owner.SCOPE: Place.SCOPE_ATTRIBUTE,
    Owner.SPAN: Place.SPAN_ATTRIBUTE,
    Owner.EVENT: Place.EVENT_ATTRIBUTE,
    Owner.LINK: Place.LINK_ATTRIBUTE,
}


@dataclass(frozen=True, slots=True)
class Strings:
    """One row per leaf, in wire order.

    off, size:  its payload in the request; size 0 for numbers
    head:       how many bytes before `off` its field begins
    place:      Place
    kind:       Kind
    depth:      values around it in its attribute or body: 0 for the attribute's key, 1 for its value, more inside of that
    number:     the int64 of an INT, the bits of a DOUBLE, the tag of an UNKNOWN field
    attribute:  number of the attribute it stands in, counted over the request in wire order; -1: in none
    key:        row of `keys`: the key of that attribute, however deep the leaf is; -1: none
    item:       row of its span, log record or metric; -1: it belongs to a resource or a scope

    keys, items: the distinct keys of attributes, and how many items there are
    has_keys:    whether the keys of attributes are leaves
    repeated:    how many attributes' keys are said again; the last one counts, and is the one in `keys`
    """

    signal: Signal
    off: I64
    size: I32
    head: U8
    place: U8
    kind: U8
    depth: U8
    number: I64
    attribute: I32
    key: I32
    item: I32
    keys: Sequence[str]
    items: int
    has_keys: bool
    repeated: int

    def __len__(self) -> int:
        return len(self.off)


def strings(signal: Signal, data: U8, *, keys: bool = True, decoded: Decoded | None = None) -> Strings:
    """The leaves of a request. Raises Malformed for what is no well-formed one.

    `keys`: whether the keys of attributes (not those inside of values) are among them. They are half of all leaves; without
    them `Strings.keys` still says what they are. `decoded`: the same array, of spans, as tables, in which keys are numbered already.

    A trace or span id is a leaf (bytes) only if it is none, being of another length than 16 or 8 bytes. A field that stands
    in a message twice is two leaves: both leave with it.
    """
    if decoded is not None and decoded.data is not data:
        decoded = None
    room, keys_room = len(data) // (16 if keys else 32) + 64, len(data) // 32 + 32
    found = _walked(signal, data, keys, decoded, room, keys_room)
    if found[0] > room or found[1] > keys_room:
        found = _walked(signal, data, keys, decoded, found[0], found[1])
    leaves, attributes, items, repeated, unknown, off, size, head, place, kind, depth, number, attribute, item, *of_keys = found  # fmt: skip
    if leaves < 0:
        raise REQUESTS[signal].malformed()
    rows = slice(leaves)
    key_at, key_size, codes = (column[:attributes] for column in of_keys)
    names: Sequence[str] = [] if decoded is None else decoded.keys
    if decoded is None or unknown:
        codes, names = interning.distinct(data, Text(key_at, key_size))
    return Strings(
        signal=signal,
        off=off[rows],
        size=size[rows],
        head=head[rows],
        place=place[rows],
        kind=kind[rows],
        depth=depth[rows],
        number=number[rows],
        attribute=attribute[rows],
        key=np.append(codes, np.int32(-1))[attribute[rows]],
        item=item[rows],
        keys=names,
        items=items,
        has_keys=keys,
        repeated=repeated,
    )


def _walked(
    signal: Signal, data: U8, keys: bool, decoded: Decoded | None, room: int, keys_room: int
) -> tuple[Any, ...]:
    """As `walking.walk`."""
    next_, behind = np.zeros(len(Place), np.int64), np.zeros(len(Place), np.int64)
    pair_at, pair_key = _NONE.astype(np.int64), _NONE
    if decoded is not None:
        pair_at, pair_key = decoded.attributes.message.off, decoded.attributes.key
        for owner, place in _PLACES.items():
            ranges = decoded.ranges(owner)
            if len(ranges.start):
                next_[place], behind[place] = ranges.start[0], ranges.end[-1]
    return walking.walk(data, messages.REQUESTS[signal], keys, pair_at, pair_key, next_, behind, room, keys_room)


def planned(
    data: U8,
    leaves: Strings,
    *,
    replaced: I32 = _NONE,
    blob: U8 | None = None,
    at: I64 | None = None,
    size: I64 | I32 | None = None,
    dropped: I32 = _NONE,
    removed: I32 = _NONE,
) -> Splice | None:
    """What makes of the request one with some leaves changed; None where none is. Rows come in any order.

    replaced: leaves that get the text blob[at : at + size], UTF-8; an INT, DOUBLE or BYTES value becomes a string value
    dropped:  leaves that go, with the array member or key-value pair they are; what else is around them stays
    removed:  leaves whose whole attribute goes (in a log body that is a map or an array: its outermost member)

    What is said twice of a leaf: removed counts before dropped, dropped before replaced; an unknown field that is replaced
    is dropped. Raises ValueError if the leaves are not those of the data, or a text is not in the blob.
    """
    blob = np.empty(0, np.uint8) if blob is None else blob
    at = np.empty(0, np.int64) if at is None else at.astype(np.int64)
    size = np.empty(0, np.int64) if size is None else size.astype(np.int64)
    if not len(replaced) == len(at) == len(size):
        raise ValueError("each replaced leaf needs one text")
    rows = np.concatenate([removed, dropped, replaced])
    if len(rows) == 0:
        return None
    what = np.repeat(
        np.array([planning.REMOVE, planning.DROP, planning.REPLACE], np.uint8),
        [len(removed), len(dropped), len(replaced)],
    )
    rows, first = first_of_each(rows)
    others = np.zeros(len(removed) + len(dropped), np.int64)
    where = leaves.off[rows] - leaves.head[rows]
    done, edits, nodes, pieces, n_edits, n_nodes = planning.plan(
        data,
        messages.REQUESTS[leaves.signal],
        where,
        what[first],
        np.ascontiguousarray(blob),
        np.concatenate([others, at])[first],
        np.concatenate([others, size])[first],
    )
    if done != len(rows):
        raise ValueError("these are no leaves of this request, or texts that are not in the blob")
    return Splice(edits[:, :n_edits], nodes[:, :n_nodes], pieces)


def first_of_each(rows: Rows) -> tuple[Rows, I64]:
    """The distinct rows, ascending, and where each stands first. Costs a look where they are that already."""
    if len(rows) == 0 or (rows[1:] > rows[:-1]).all():
        return rows, np.arange(len(rows))
    distinct, first = np.unique(rows, return_index=True)
    return distinct, first
