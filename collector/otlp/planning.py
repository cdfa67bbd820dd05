"""From leaves that are to change to what changes them: edits, and nodes around them, for `splicing.splice`.

Only messages that have such a leaf in them are looked into. As `walking`, which listed the leaves, it follows `messages.RULES`,
takes any bytes, and touches nothing outside of the body and the given arrays.
"""

from __future__ import annotations

import numpy as np

from collector.otlp import layout as L
from collector.otlp import messages as M
from collector.otlp.compiled import kernel
from collector.otlp.raw import Int, address, copy, store8
from collector.otlp.splicing import (
    E_AT,
    E_END,
    E_NODE,
    E_SIZE,
    E_START,
    EDIT,
    N_END,
    N_HEADER,
    N_PARENT,
    N_START,
    NODE,
    with_room,
)
from collector.otlp.tables import I64, U8
from collector.otlp.walking import rule_of
from collector.otlp.wire import MAX_DEPTH, payload, put_varint, skip, tag

REPLACE, DROP, REMOVE = range(3)  # what is done with a leaf

_END, _TYPE, _NODE, _START, _EDITS, _NODES = range(6)  # of a frame of the stack
_FRAME = 6


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
    stack[0, _NODE] = -1
    level, done = np.int64(0), np.int64(0)
    at, end, type_ = np.int64(0), np.int64(len(body)), np.int64(request)
    while done < len(where):
        if at >= end:
            if level == 0:
                break
            level -= 1
            end, type_ = stack[level, _END], stack[level, _TYPE]
            continue
        field_at = at
        field, at = tag(data, at, end)
        if at < 0:
            break
        header = at
        rule = rule_of(type_, field)
        what = (rule >> M.LISTED) & 15
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
            if rule & M.MESSAGE == 0 or level >= MAX_DEPTH or where[done] < start:
                break
            stack[level, _END], stack[level, _TYPE] = end, type_
            level += 1
            stack[level, _START], stack[level, _EDITS], stack[level, _NODES] = field_at, n_edits, n_nodes
            stack[level, _NODE] = n_nodes
            nodes = with_room(nodes, n_nodes)
            nodes[N_HEADER, n_nodes], nodes[N_START, n_nodes] = header, start
            nodes[N_END, n_nodes], nodes[N_PARENT, n_nodes] = at, stack[level - 1, _NODE]
            n_nodes += 1
            end, type_, at = at, rule & M.TYPE, start
            continue
        if what == M.NOTHING:
            break
        order = np.int64(do[done])
        if order == REPLACE and what == 0:
            order = np.int64(DROP)
        done += 1
        if order == REPLACE:
            from_ = used
            if type_ == M.ANY_VALUE and what != M.TEXT:
                store8(out, used, np.int64(L.ANY_STRING))
                used += 1
                header = field_at
            length = text_size[done - 1]
            used = put_varint(out, used, length)
            copy(out, used, texts, text_at[done - 1], length)
            used += length
            edits[E_START, n_edits], edits[E_END, n_edits] = header, at
            edits[E_NODE, n_edits], edits[E_AT, n_edits] = stack[level, _NODE], from_
            edits[E_SIZE, n_edits] = used - from_
            n_edits += 1
            continue
        # The message that goes with the leaf, if there is one; what was planned inside of it is forgotten.
        stack[level, _END], stack[level, _TYPE] = end, type_
        inner: Int = np.int64(0)
        outer: Int = np.int64(0)
        for around in range(level, 0, -1):
            if stack[around, _TYPE] == M.KEY_VALUE or (
                stack[around, _TYPE] == M.ANY_VALUE and stack[around - 1, _TYPE] == M.ARRAY_VALUE
            ):
                inner, outer = around if inner == 0 else inner, np.int64(around)
        if order == REMOVE:
            inner = outer
        elif what == 0:
            inner = np.int64(0)
        if inner > 0:
            while done < len(where) and where[done] < stack[inner, _END]:
                if do[done] == REMOVE:
                    inner = outer
                done += 1
            level = inner - 1
            field_at, at = stack[inner, _START], stack[inner, _END]
            n_edits, n_nodes = stack[inner, _EDITS], stack[inner, _NODES]
            end, type_ = stack[level, _END], stack[level, _TYPE]
        edits[E_START, n_edits], edits[E_END, n_edits] = field_at, at
        edits[E_NODE, n_edits], edits[E_AT, n_edits], edits[E_SIZE, n_edits] = stack[level, _NODE], 0, 0
        n_edits += 1
    return done, edits, nodes, pieces, n_edits, n_nodes
