"""All leaves of a request in one pass, as `messages.RULES` says what they are.

Takes any bytes, and touches nothing outside of the body and the given arrays. The way back to a few of them: `planning.py`.
"""

from __future__ import annotations

import numpy as np

from collector.otlp import layout as L
from collector.otlp import messages as M
from collector.otlp.compiled import kernel
from collector.otlp.places import Kind, Place
from collector.otlp.plain import plain_pair
from collector.otlp.raw import Flag, Int, address, load64
from collector.otlp.tables import I32, I64, U8
from collector.otlp.wire import MAX_DEPTH, payload, skip, tag, varint

#: Kind of what is listed, by the number for it in a rule; 0 are unknown fields.
_KIND_OF = np.zeros(16, np.uint8)
_KIND_OF[0], _KIND_OF[M.INT], _KIND_OF[M.DOUBLE] = Kind.UNKNOWN, Kind.INT, Kind.DOUBLE
_KIND_OF[M.TEXT], _KIND_OF[M.KEY], _KIND_OF[M.BYTES :] = Kind.TEXT, Kind.KEY, Kind.BYTES
_UNKNOWN_FIELD, _KEY_LEAF = int(Place.UNKNOWN_FIELD), int(Kind.KEY)
#: Kind of the leaf that a plain value is, by `layout`'s number for it.
_KIND_OF_SCALAR = np.zeros(8, np.uint8)
_KIND_OF_SCALAR[L.STRING], _KIND_OF_SCALAR[L.INT], _KIND_OF_SCALAR[L.DOUBLE] = Kind.TEXT, Kind.INT, Kind.DOUBLE

_END, _TYPE, _PLACE, _NESTED, _OWNER, _ITEM = range(6)  # of a frame of the stack
_FRAME = 6


@kernel
def rule_of(type_: Int, field: Int) -> Int:
    """What is said about a field with this tag; 0 for an unknown one."""
    number = field >> 3
    rule = np.int64(M.RULES[type_, number]) if number < M.FIELDS else np.int64(0)
    wire = field & 7
    if (rule >> M.WIRE) & 7 != wire and not (
        (rule & M.PACKED_FIXED64 != 0 and wire == L.FIXED64) or (rule & M.PACKED_VARINT != 0 and wire == L.VARINT)
    ):
        return np.int64(0)
    return rule


@kernel
def walk(
    body: U8, request: Int, keys: Flag, pair_at: I64, pair_key: I32, next_: I64, behind: I64, room: Int, keys_room: Int
) -> tuple[Int, Int, Int, Int, Int, I64, I32, U8, U8, U8, U8, I64, I32, I32, I64, I32, I32]:
    """The leaves of a request of the message type `request`, in wire order, and the keys of the attributes around them.

    Gives how many leaves, attributes, items, keys beyond an attribute's first, and attributes that were not known there are;
    the columns of `strings.Strings` from `off` to `item`; and place and size of each attribute's key, and its number where it
    is known. -1 leaves: the request is not well-formed.

    keys:               whether the keys of attributes are listed among the leaves
    pair_at, pair_key:  attributes that are known: where they begin, and the numbers of their keys
    next_, behind:      by Place, which of these stand there, in wire order; `next_` is changed
    room, keys_room:    how many leaves and attributes are written down; more are only counted
    """
    off, size, head = np.empty(room, np.int64), np.empty(room, np.int32), np.empty(room, np.uint8)
    place, kind, depth = np.empty(room, np.uint8), np.empty(room, np.uint8), np.empty(room, np.uint8)
    number, attribute, item = np.empty(room, np.int64), np.empty(room, np.int32), np.empty(room, np.int32)
    key_at, key_size, key_number = (
        np.empty(keys_room, np.int64),
        np.empty(keys_room, np.int32),
        np.empty(keys_room, np.int32),
    )
    leaves = np.int64(-1)
    data = address(body)
    stack = np.empty((MAX_DEPTH + 1, _FRAME), np.int64)
    count, attributes, items = np.int64(0), np.int64(0), np.int64(0)
    repeated, named = np.int64(0), np.int64(-1)  # `named`: the attribute that had a key last
    unknown = np.int64(0)
    at, end, type_, level = np.int64(0), np.int64(len(body)), np.int64(request), np.int64(0)
    here, nested, owner, row = np.int64(_UNKNOWN_FIELD), np.int64(0), np.int64(-1), np.int64(-1)
    while True:
        if at >= end:
            if level == 0:
                leaves = count
                break
            level -= 1
            end, type_ = stack[level, _END], stack[level, _TYPE]
            here, nested = stack[level, _PLACE], stack[level, _NESTED]
            owner, row = stack[level, _OWNER], stack[level, _ITEM]
            continue
        field_at = at
        field, at = tag(data, at, end)
        if at < 0:
            break
        rule = rule_of(type_, field)
        if rule & M.MESSAGE != 0:
            start, at = payload(data, at, end)
            if at < 0 or level >= MAX_DEPTH:
                break
            if rule & M.TYPE == M.KEY_VALUE and nested == 0:
                where = here if rule >> M.PLACE == 0 else rule >> M.PLACE
                pair = next_[where]
                next_[where] += 1
                is_known = pair < behind[where] and pair_at[pair] == start
                unknown += not is_known
                if attributes < keys_room:
                    key_number[attributes] = pair_key[pair] if is_known else -1
                if level + 1 < MAX_DEPTH:
                    length, scalar, value, extent, bits = plain_pair(data, start, at)
                    if scalar >= 0:  # what follows below, in one go
                        if attributes < keys_room:
                            key_at[attributes], key_size[attributes] = start + 2, length
                        if keys:
                            if count < room:
                                off[count], head[count], size[count], number[count] = start + 2, 2, length, 0
                                place[count], kind[count], depth[count] = where, _KEY_LEAF, 0
                                attribute[count], item[count] = attributes, row
                            count += 1
                        if scalar != L.BOOL:
                            if count < room:
                                before = 2 if scalar == L.STRING else 1
                                off[count] = value if scalar == L.STRING else value + 1
                                head[count], size[count], number[count] = before, extent, bits
                                place[count], kind[count], depth[count] = where, _KIND_OF_SCALAR[scalar], 1
                                attribute[count], item[count] = attributes, row
                            count += 1
                        named = attributes
                        attributes += 1
                        continue
            stack[level, _END], stack[level, _TYPE] = end, type_
            stack[level, _PLACE], stack[level, _NESTED] = here, nested
            stack[level, _OWNER], stack[level, _ITEM] = owner, row
            level += 1
            end, type_, at = at, rule & M.TYPE, start
            if rule >> M.PLACE != 0:
                here = rule >> M.PLACE
            if type_ == M.ANY_VALUE:
                nested += 1
            elif type_ == M.KEY_VALUE:
                if nested == 0:
                    owner = attributes
                    attributes += 1
                    if owner < keys_room:
                        key_at[owner], key_size[owner] = start, 0
            elif type_ == M.SPAN or type_ == M.LOG_RECORD or type_ == M.METRIC:  # noqa: PLR1714 (compiles to less)
                row = items
                items += 1
            continue
        what = (rule >> M.LISTED) & 15
        if what == M.NOTHING:
            at = skip(data, at, end, field, level)
            if at < 0:
                break
            continue
        start, bits = at, np.int64(0)
        if field & 7 == L.LEN:
            start, at = payload(data, at, end)
        elif what == M.INT:
            bits, at = varint(data, at, end)
        elif what == M.DOUBLE:
            if at + 8 > end:
                break
            bits = load64(data, at)
            at += 8
        else:
            at = skip(data, at, end, field, level)
        if at < 0:
            break
        length = at - start
        where = rule >> M.PLACE
        if where == 0:
            where = here
        if what == 0:
            where, bits = np.int64(_UNKNOWN_FIELD), field
        elif what <= M.DOUBLE:
            length = np.int64(0)
        elif what == M.KEY:
            if nested == 0 and owner >= 0:
                if owner < keys_room:
                    key_at[owner], key_size[owner] = start, length
                repeated += owner == named
                named = owner
                if not keys:
                    continue
        elif what >= M.ID16:
            valid = 16 if what == M.ID16 else 8
            if length == 0 or length == valid:  # noqa: PLR1714 (compiles to less)
                continue
        if count < room:
            off[count], head[count] = start, start - field_at
            size[count], number[count] = length, bits
            place[count], kind[count], depth[count] = where, _KIND_OF[what], nested
            attribute[count], item[count] = owner, row
        count += 1
    return (
        leaves,
        attributes,
        items,
        repeated,
        unknown,
        off,
        size,
        head,
        place,
        kind,
        depth,
        number,
        attribute,
        item,
        key_at,
        key_size,
        key_number,
    )
