"""All leaves of a request in one pass, and the way back to a few of them.

`walk` lists every leaf. `plan` finds the messages around the leaves that are to change, and writes down edits and nodes
for `splicing.splice`; it looks only into messages that have such a leaf in them. Both follow `schema.TABLE`, take any
bytes, and touch nothing outside of the body and the given arrays.
"""

from __future__ import annotations

import numpy as np

from collector.otlp import layout as L
from collector.otlp import schema as S
from collector.otlp.compiled import kernel
from collector.otlp.splicing import E_AT, E_END, E_NODE, E_SIZE, E_START, EDIT, N_END, N_HEADER, N_PARENT, N_START, NODE
from collector.otlp.tables import I32, I64, U8
from collector.otlp.wire import MAX_DEPTH, Int, address, copy, load64, payload, put_varint, skip, store8, tag, varint

TABLE = S.TABLE
FIELDS = S.FIELDS
KEY_VALUE, ANY_VALUE, ARRAY_VALUE = int(S.Message.KEY_VALUE), int(S.Message.ANY_VALUE), int(S.Message.ARRAY_VALUE)
SPAN, METRIC = int(S.Message.SPAN), int(S.Message.METRIC)  # and between them: the items
K_TEXT, K_BYTES, K_KEY, K_INT, K_DOUBLE, K_UNKNOWN = (int(kind) for kind in S.Kind)
P_UNKNOWN = int(S.Place.UNKNOWN_FIELD)

REPLACE, DROP, REMOVE = range(3)  # what `plan` does with a leaf

_F_END, _F_TYPE, _F_PLACE, _F_NODE, _F_START, _F_EDITS, _F_NODES = range(7)
_FRAME = 7


@kernel
def _rule(type_: Int, field: Int) -> Int:
    """What the schema says about a field with this tag; 0 for an unknown one."""
    number = field >> 3
    rule = np.int64(TABLE[type_, number]) if number < FIELDS else np.int64(0)
    if rule & 7 != field & 7 and not ((rule >> S.ACTION) & 31 == S.PACKED and field & 7 == L.LEN):
        return np.int64(0)
    return rule


@kernel
def walk(
    body: U8,
    request: Int,
    off: I64,
    size: I32,
    head: U8,
    place: U8,
    kind: U8,
    depth: U8,
    number: I64,
    attribute: I32,
    item: I32,
    key_at: I64,
    key_size: I32,
) -> tuple[Int, Int, Int]:
    """The leaves of a request of the message type `request`, in wire order, and the attributes they stand in.

    Gives how many leaves, attributes and items there are; -1 for leaves if the request is not well-formed. Rows that the
    arrays have no room for are counted and not written.
    """
    data = address(body)
    stack = np.empty((MAX_DEPTH + 1, 3), np.int64)
    room, keys_room = len(off), len(key_at)
    leaves, attributes, items = np.int64(0), np.int64(0), np.int64(0)
    level, nested, owner, row = np.int64(0), np.int64(0), np.int64(-1), np.int64(-1)
    at, end, type_, here = np.int64(0), np.int64(len(body)), np.int64(request), np.int64(0)
    while True:
        if at >= end:
            if level == 0:
                break
            if type_ == ANY_VALUE:
                nested -= 1
            elif type_ == KEY_VALUE:
                if nested == 0:
                    owner = np.int64(-1)
            elif SPAN <= type_ <= METRIC:
                row = np.int64(-1)
            level -= 1
            end, type_, here = stack[level, _F_END], stack[level, _F_TYPE], stack[level, _F_PLACE]
            continue
        field_at = at
        field, at = tag(data, at, end)
        if at < 0:
            return -1, 0, 0
        rule = _rule(type_, field)
        action = (rule >> S.ACTION) & 31
        if 0 < action <= S.PACKED:
            at = skip(data, at, end, field, level)
            if at < 0:
                return -1, 0, 0
            continue
        where = (rule >> S.PLACE) & 255
        if where == 0:
            where = here
        start, bits, what = at, np.int64(0), np.int64(K_TEXT)
        if action == 0:
            what, where, bits = np.int64(K_UNKNOWN), np.int64(P_UNKNOWN), field
            if field & 7 == L.LEN:
                start, at = payload(data, at, end)
            else:
                at = skip(data, at, end, field, level)
        elif action == S.INT:
            what = np.int64(K_INT)
            bits, at = varint(data, at, end)
        elif action == S.DOUBLE:
            what = np.int64(K_DOUBLE)
            if at + 8 > end:
                return -1, 0, 0
            bits = load64(data, at)
            at += 8
        else:
            start, at = payload(data, at, end)
        if at < 0:
            return -1, 0, 0
        if action == S.CHILD:
            if level >= MAX_DEPTH:
                return -1, 0, 0
            stack[level, _F_END], stack[level, _F_TYPE], stack[level, _F_PLACE] = end, type_, here
            level += 1
            end, type_, here, at = at, (rule >> S.CHILD_TYPE) & 63, where, start
            if type_ == ANY_VALUE:
                nested += 1
            elif type_ == KEY_VALUE:
                if nested == 0:
                    owner = attributes
                    if owner < keys_room:
                        key_at[owner], key_size[owner] = start, 0
                    attributes += 1
            elif SPAN <= type_ <= METRIC:
                row = items
                items += 1
            continue
        length = at - start
        if action == S.KEY:
            what = np.int64(K_KEY)
            if nested == 0 and 0 <= owner < keys_room:
                key_at[owner], key_size[owner] = start, length
        elif action == S.BYTES:
            what = np.int64(K_BYTES)
        elif action >= S.TRACE_ID:
            valid = 16 if action == S.TRACE_ID else 8
            if length == 0 or length == valid:  # noqa: PLR1714 (compiles to less)
                continue
            what = np.int64(K_BYTES)
        if leaves < room:
            off[leaves], head[leaves], size[leaves] = start, start - field_at, length
            place[leaves], kind[leaves], depth[leaves] = where, what, nested
            attribute[leaves], item[leaves] = owner, row
            if what >= K_INT:
                number[leaves] = bits
                if what != K_UNKNOWN:
                    size[leaves] = 0
        leaves += 1
    return leaves, attributes, items


@kernel
def _room(matrix: I64, count: Int) -> I64:
    """The matrix, or a larger copy of it, with room for one more column behind `count`."""
    if count < matrix.shape[1]:
        return matrix
    larger = np.empty((matrix.shape[0], 2 * matrix.shape[1]), np.int64)
    larger[:, :count] = matrix[:, :count]
    return larger


@kernel
def plan(
    body: U8, request: Int, where: I64, do: U8, blob: U8, text_at: I64, text_size: I64
) -> tuple[Int, I64, I64, U8, Int, Int]:
    """Edits, nodes and pieces for the fields that begin at `where` (ascending, each once), and how many edits and nodes.

    do[i]: REPLACE the payload by blob[text_at : text_at + text_size], as text; DROP the field, or the member of an array
    or map that holds nothing else; REMOVE the whole attribute. What cannot be replaced (unknown fields) is dropped. The
    first number is how many of the fields were found: all, or the request or the places are wrong.
    """
    data, texts = address(body), address(blob)
    most = np.int64(0)
    for i in range(len(where)):
        if do[i] == REPLACE:
            if text_at[i] < 0 or text_size[i] < 0 or text_size[i] > len(blob) - text_at[i]:
                return -1, np.empty((EDIT, 0), np.int64), np.empty((NODE, 0), np.int64), blob, 0, 0
            most += text_size[i] + 6
    pieces = np.empty(most, np.uint8)
    out = address(pieces)
    edits, nodes = np.empty((EDIT, len(where) + 1), np.int64), np.empty((NODE, 4 * len(where) + 4), np.int64)
    n_edits, n_nodes, used = np.int64(0), np.int64(0), np.int64(0)
    stack = np.empty((MAX_DEPTH + 1, _FRAME), np.int64)
    stack[0, _F_NODE] = -1
    level, done = np.int64(0), np.int64(0)
    at, end, type_ = np.int64(0), np.int64(len(body)), np.int64(request)
    while done < len(where):
        if at >= end:
            if level == 0:
                break
            level -= 1
            end, type_ = stack[level, _F_END], stack[level, _F_TYPE]
            continue
        field_at = at
        field, at = tag(data, at, end)
        if at < 0:
            break
        header = at
        rule = _rule(type_, field)
        action = (rule >> S.ACTION) & 31
        start = at
        if field & 7 == L.LEN:
            start, at = payload(data, at, end)
        else:
            at = skip(data, at, end, field, level)
        if at < 0:
            break
        if where[done] >= at:
            continue
        if where[done] != field_at:
            # In a message, or nowhere
            if action != S.CHILD or level >= MAX_DEPTH or where[done] < start:
                break
            stack[level, _F_END], stack[level, _F_TYPE] = end, type_
            level += 1
            stack[level, _F_START], stack[level, _F_EDITS], stack[level, _F_NODES] = field_at, n_edits, n_nodes
            stack[level, _F_NODE] = n_nodes
            nodes = _room(nodes, n_nodes)
            nodes[N_HEADER, n_nodes], nodes[N_START, n_nodes] = header, start
            nodes[N_END, n_nodes], nodes[N_PARENT, n_nodes] = at, stack[level - 1, _F_NODE]
            n_nodes += 1
            end, type_, at = at, (rule >> S.CHILD_TYPE) & 63, start
            continue
        if action == S.CHILD or 0 < action <= S.PACKED:
            break
        what = do[done]
        if what == REPLACE and action == 0:
            what = np.uint8(DROP)
        done += 1
        if what == REPLACE:
            from_ = used
            if type_ == ANY_VALUE and action != S.TEXT:
                store8(out, used, np.int64(L.ANY_STRING))
                used += 1
                header = field_at
            length = text_size[done - 1]
            used = put_varint(out, used, length)
            copy(out, used, texts, text_at[done - 1], length)
            used += length
            edits[E_START, n_edits], edits[E_END, n_edits] = header, at
            edits[E_NODE, n_edits], edits[E_AT, n_edits] = stack[level, _F_NODE], from_
            edits[E_SIZE, n_edits] = used - from_
            n_edits += 1
            continue
        # The message that goes with the leaf, if there is one; what was planned inside of it is forgotten.
        stack[level, _F_END], stack[level, _F_TYPE] = end, type_
        gone = np.int64(0)
        if action != 0 or what == REMOVE:
            for outer in range(1, level + 1):
                if stack[outer, _F_TYPE] == KEY_VALUE or (
                    stack[outer, _F_TYPE] == ANY_VALUE and stack[outer - 1, _F_TYPE] == ARRAY_VALUE
                ):
                    gone = np.int64(outer)
                    if what == REMOVE:
                        break
        if gone > 0:
            field_at, at = stack[gone, _F_START], stack[gone, _F_END]
            n_edits, n_nodes = stack[gone, _F_EDITS], stack[gone, _F_NODES]
            level = np.int64(gone - 1)
            end, type_ = stack[level, _F_END], stack[level, _F_TYPE]
            while done < len(where) and where[done] < at:
                done += 1
        edits[E_START, n_edits], edits[E_END, n_edits] = field_at, at
        edits[E_NODE, n_edits], edits[E_AT, n_edits], edits[E_SIZE, n_edits] = stack[level, _F_NODE], 0, 0
        n_edits += 1
    return done, edits, nodes, pieces, n_edits, n_nodes
