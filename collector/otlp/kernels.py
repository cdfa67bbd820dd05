"""From OTLP's wire format to columns: kernels that each go over all messages of one level.

`pick` reads single fields into columns, `children` finds the messages one level below, `attributes` reads KeyValues. `items`
does all three in one walk, for spans and log records, to which nearly all bytes belong.
All take any bytes: a message that is not well-formed ends the kernel with -1, and nothing outside of the body or of the
given arrays is touched. Work is linear in the size of the messages.
"""

from __future__ import annotations

import numpy as np

from collector.otlp import layout as L
from collector.otlp.compiled import kernel
from collector.otlp.plain import plain_pair
from collector.otlp.raw import Int, address, all_zero, load8, load64
from collector.otlp.tables import I8, I32, I64, U8
from collector.otlp.wire import TOP, payload, skip, tag, varint

NOTHING: Int = np.int64(0)
COUNTED = -2  # and below: see `pick`


@kernel
def number_of(data: Int, at: Int, end: Int, kind: Int) -> tuple[Int, Int, Int]:
    """A field's payload, by its wire type: offset and size of a LEN, number and 0 of the rest; and where it ends, -1 or
    beyond `end` if it is not well-formed."""
    number, size = NOTHING, NOTHING
    if kind == L.LEN:
        number, at = payload(data, at, end)
        size = at - number
    elif kind == L.VARINT:
        number, at = varint(data, at, end)
    elif kind == L.FIXED64:
        number = load64(data, at) if at + 8 <= end else TOP
        at += 8
    elif kind == L.FIXED32:
        for i in range(4 if at + 4 <= end else 0):
            number |= load8(data, at + i) << (8 * i)
        at += 4
    return number, size, at


@kernel
def pick(body: U8, offset: I64, size: I32, column: I8, out64: I64, out32: I32) -> I64:
    """Read fields of the messages body[offset : offset + size] into columns; the last one of a number counts.

    column[tag] says what to do with a field: below 128 columns, c: its offset goes to out64[c], its size to out32[c]
    (LEN), or its number to out64[c] (the rest); -1: nothing; -2, -3, -4: count it. Larger tags than `column` has are
    passed over. Gives the three counts; the first one is -1 if a message is not well-formed.
    """
    data = address(body)
    counts = np.zeros(3, np.int64)
    for row in range(len(offset)):
        at = offset[row]
        end = at + size[row]
        while at < end:
            field, at = tag(data, at, end)
            to = np.int64(-1)
            if 0 <= field < len(column):
                to = np.int64(column[field])
            if at >= 0 and to == -1:
                at = skip(data, at, end, field, TOP)
            elif at >= 0:
                number, length, at = number_of(data, at, end, field & 7)
                if to >= 0:
                    out64[to, row], out32[to, row] = number, length
                else:
                    counts[-2 - to] += 1
            if at < 0 or at > end:
                counts[0] = -1
                return counts
    return counts


@kernel
def items(
    body: U8,
    offset: I64,
    size: I32,
    group_column: I8,
    group64: I64,
    group32: I32,
    wanted: Int,
    column: I8,
    out64: I64,
    out32: I32,
    parent: I32,
    first: I32,
    behind: I32,
    message_at: I64,
    message_size: I32,
    nested: Int,
    first_attribute: I32,
    behind_attribute: I32,
    row: Int,
    owner: I32,
    key_at: I64,
    key_size: I32,
    type_: U8,
    value_at: I64,
    value_size: I32,
    number: I64,
    attribute_at: I64,
    attribute_size: I32,
) -> I64:
    """`pick`, `children`, `pick` of these and `attributes` of these in one walk, so that each byte comes from memory once.

    The groups body[offset : offset + size] are scopes, the items in them (tag `wanted`) spans or log records:

    - fields of the groups go into group64 and group32, as `group_column` says
    - items are found as by `children`, their fields go into out64 and out32, as `column` says
    - KeyValues of the items (tag `nested`) become rows as by `attributes`

    Gives how many items there are, the attribute row behind all, and the items' three counts. The first number is -1 if
    something is not well-formed, -2 if the arrays of items are too short, -3 if those of attributes are.
    """
    data = address(body)
    found = np.zeros(5, np.int64)
    item = 0
    for group in range(len(offset)):
        at = offset[group]
        end = at + size[group]
        first[group] = item
        while at < end:
            field, at = tag(data, at, end)
            if at < 0:
                found[0] = -1
                return found
            if field != wanted:
                to = np.int64(-1)
                if 0 <= field < len(group_column):
                    to = np.int64(group_column[field])
                if to < 0:
                    at = skip(data, at, end, field, TOP)
                else:
                    group64[to, group], group32[to, group], at = number_of(data, at, end, field & 7)
                if at < 0 or at > end:
                    found[0] = -1
                    return found
                continue
            start, at = payload(data, at, end)
            if start < 0:
                found[0] = -1
                return found
            if item >= len(parent):
                found[0] = -2
                return found
            message_at[item], message_size[item], parent[item] = start, at - start, group
            first_attribute[item] = row
            inner = start
            while inner < at:
                field, inner = tag(data, inner, at)
                to = np.int64(-1)
                if 0 <= field < len(column):
                    to = np.int64(column[field])
                if inner >= 0 and field == nested:
                    here, inner = payload(data, inner, at)
                    if here < 0:
                        found[0] = -1
                        return found
                    key = here + 2
                    length, kind, place, extent, bits = plain_pair(data, here, inner)
                    if kind < 0:
                        key, length, value, value_end = key_value(data, here, inner)
                        if key < 0:
                            found[0] = -1
                            return found
                        kind, place, extent, bits = any_value(data, value, value_end)
                        if kind < 0:
                            found[0] = -1
                            return found
                    if row >= len(owner):
                        found[0] = -3
                        return found
                    owner[row], type_[row], number[row] = item, kind, bits
                    key_at[row], key_size[row] = key, length
                    value_at[row], value_size[row] = place, extent
                    attribute_at[row], attribute_size[row] = here, inner - here
                    row += 1
                elif inner >= 0 and to == -1:
                    inner = skip(data, inner, at, field, TOP)
                elif inner >= 0:
                    figure, length, inner = number_of(data, inner, at, field & 7)
                    if to >= 0:
                        out64[to, item], out32[to, item] = figure, length
                    else:
                        found[-to] += 1
                if inner < 0 or inner > at:
                    found[0] = -1
                    return found
            behind_attribute[item] = row
            item += 1
        behind[group] = item
    found[0], found[1] = item, row
    return found


@kernel
def children(
    body: U8, offset: I64, size: I32, wanted: Int, out64: I64, out32: I32, parent: I32, first: I32, behind: I32
) -> Int:
    """The messages in the fields with tag `wanted`, in order: their place and their parent's row; and, per parent,
    its first child and the one behind its last. How many there are; -1 if a message is not well-formed or the arrays
    are too short."""
    data = address(body)
    count = 0
    for row in range(len(offset)):
        at = offset[row]
        end = at + size[row]
        first[row] = count
        while at < end:
            field, at = tag(data, at, end)
            if at < 0:
                return -1
            if field == wanted:
                start, at = payload(data, at, end)
                if start < 0 or count >= len(parent):
                    return -1
                out64[count], out32[count], parent[count] = start, at - start, row
                count += 1
            else:
                at = skip(data, at, end, field, TOP)
                if at < 0:
                    return -1
        behind[row] = count
    return count


@kernel
def any_value(data: Int, at: Int, end: Int) -> tuple[Int, Int, Int, Int]:
    """Kind, offset and size of the payload, and number of the AnyValue in data[at : end]; kind -1: not well-formed."""
    kind, offset, size, number = NOTHING, at, NOTHING, NOTHING
    while at < end:
        field, at = tag(data, at, end)
        if at < 0:
            return -1, 0, 0, 0
        if field & 7 == L.LEN:
            start, at = payload(data, at, end)
            if start < 0:
                return -1, 0, 0, 0
            now = L.EMPTY
            if field == L.ANY_STRING:
                now = L.STRING
            elif field == L.ANY_ARRAY:
                now = L.ARRAY
            elif field == L.ANY_KVLIST:
                now = L.KVLIST
            elif field == L.ANY_BYTES:
                now = L.BYTES
            if now != L.EMPTY:
                kind, offset, size, number = now, start, at - start, 0
        elif field == L.ANY_INT:
            number, at = varint(data, at, end)
            kind, size = L.INT, 0
        elif field == L.ANY_BOOL:
            number, at = varint(data, at, end)
            kind, size, number = L.BOOL, 0, 1 if number != 0 else 0
        elif field == L.ANY_DOUBLE:
            if at + 8 > end:
                return -1, 0, 0, 0
            kind, size, number = L.DOUBLE, 0, load64(data, at)
            at += 8
        else:
            if field == L.ANY_STRING_INDEX:
                kind, size, number = L.EMPTY, 0, 0
            at = skip(data, at, end, field, TOP)
        if at < 0:
            return -1, 0, 0, 0
    return kind, offset, size, number


@kernel
def key_value(data: Int, at: Int, end: Int) -> tuple[Int, Int, Int, Int]:
    """Of the KeyValue in data[at : end]: offset and size of its key, start and end of its AnyValue. Offset -1: not well-formed."""
    key, key_size, value, value_end = at, NOTHING, at, at
    while at < end:
        field, at = tag(data, at, end)
        if at < 0:
            return -1, 0, 0, 0
        if field == L.KEY_VALUE_KEY:
            key, at = payload(data, at, end)
            key_size = at - key
        elif field == L.KEY_VALUE_VALUE:
            value, at = payload(data, at, end)
            value_end = at
        else:
            at = skip(data, at, end, field, TOP)
        if at < 0:
            return -1, 0, 0, 0
    return key, key_size, value, value_end


@kernel
def attributes(
    body: U8,
    offset: I64,
    size: I32,
    wanted: Int,
    first: I32,
    behind: I32,
    row: Int,
    owner: I32,
    key_at: I64,
    key_size: I32,
    type_: U8,
    value_at: I64,
    value_size: I32,
    number: I64,
    message_at: I64,
    message_size: I32,
) -> Int:
    """The KeyValues in the fields with tag `wanted`, as rows of the attribute table from `row` on; and, per message,
    its first row and the one behind its last. The row behind all; -1 if something is not well-formed or the table is
    too short."""
    data = address(body)
    for i in range(len(offset)):
        at = offset[i]
        end = at + size[i]
        first[i] = row
        while at < end:
            field, at = tag(data, at, end)
            if at < 0:
                return -1
            if field == wanted:
                start, at = payload(data, at, end)
                if start < 0 or row >= len(owner):
                    return -1
                key, length, value, value_end = key_value(data, start, at)
                if key < 0:
                    return -1
                kind, place, extent, bits = any_value(data, value, value_end)
                if kind < 0:
                    return -1
                owner[row], type_[row], number[row] = i, kind, bits
                key_at[row], key_size[row] = key, length
                value_at[row], value_size[row] = place, extent
                message_at[row], message_size[row] = start, at - start
                row += 1
            else:
                at = skip(data, at, end, field, TOP)
                if at < 0:
                    return -1
        behind[i] = row
    return row


@kernel
def any_values(body: U8, offset: I64, size: I32, type_: U8, value_at: I64, value_size: I32, number: I64) -> Int:
    """Read the AnyValues body[offset : offset + size]; nothing is EMPTY. How many; -1 if one is not well-formed."""
    data = address(body)
    for row in range(len(offset)):
        kind, place, extent, bits = any_value(data, offset[row], offset[row] + size[row])
        if kind < 0:
            return -1
        type_[row], value_at[row], value_size[row], number[row] = kind, place, extent, bits
    return len(offset)


@kernel
def ids(
    body: U8, trace: I64, trace_size: I32, span: I64, span_size: I32, parent: I64, parent_size: I32, words: I64
) -> None:
    """The ids of spans as words [4, spans]: two of the trace, the span's, the parent's; 0 for an id of another width.

    Sets the size of every parent's id that is none to 0, as `known_ids` does.
    """
    data = address(body)
    for row in range(len(trace)):
        words[0, row] = load64(data, trace[row]) if trace_size[row] == 16 else NOTHING
        words[1, row] = load64(data, trace[row] + 8) if trace_size[row] == 16 else NOTHING
        words[2, row] = load64(data, span[row]) if span_size[row] == 8 else NOTHING
        words[3, row] = load64(data, parent[row]) if parent_size[row] == 8 else NOTHING
        if words[3, row] == 0:
            parent_size[row] = 0


@kernel
def known_ids(body: U8, offset: I64, size: I32, width: Int) -> None:
    """Set the size of every id that is not `width` bytes, or is zeros only, to 0."""
    data = address(body)
    for row in range(len(offset)):
        if size[row] != width or all_zero(data, offset[row], width):
            size[row] = 0
