"""One pass over a request: is it well-formed, is it within limits, and what has to change before it is kept.

The rules are those of protobuf's own parser. `messages.SCHEMA` says which field is a message, a string, or a member of a
oneof; the kernel walks it with a stack of its own. What it wants changed it writes down as edits, for `splicing.splice`.
"""

from __future__ import annotations

import numpy as np

from collector.otlp import layout as L
from collector.otlp.compiled import kernel
from collector.otlp.messages import (
    ANY_VALUE,
    FIELDS,
    KEY_VALUE,
    MESSAGE,
    ONEOF,
    PACKED_FIXED64,
    PACKED_VARINT,
    SCHEMA,
    SINGLE,
    SPAN,
    SPAN_ID,
    STRING,
    TRACE_ID,
    TYPE,
    WIRE,
)
from collector.otlp.raw import Flag, Int, address, all_zero, copy, load8, load64, store8
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
from collector.otlp.wire import MAX_DEPTH, payload, put_varint, skip, tag, varint, varint_size

OK, BAD, DEEP, NESTED = 0, -1, -2, -3
OVER = 100  # and above: more messages of the type status - OVER than the limit

# A frame of the stack
F_END, F_TYPE, F_SEEN, F_NODE, F_HEADER, F_START, F_TAG = range(7)
FRAME = 7

# What the kernel answers with
R_STATUS, R_ODD, R_REJECTED, R_REPAIRED, R_EDITS, R_NODES, R_BLOB = range(7)
RESULTS = 7

_HIGHS = np.int64(-0x7F7F7F7F7F7F7F80)


@kernel
def _sequence(data: Int, at: Int, end: Int) -> Int:
    """The size of the UTF-8 sequence at `at`; if it is none, minus the number of bytes that one U+FFFD stands for."""
    lead = load8(data, at)
    low, high = np.int64(0x80), np.int64(0xBF)
    if lead < 0x80:
        return 1
    if 0xC2 <= lead <= 0xDF:
        more = 1
    elif 0xE0 <= lead <= 0xEF:
        more = 2
        if lead == 0xE0:
            low = np.int64(0xA0)
        elif lead == 0xED:
            high = np.int64(0x9F)
    elif 0xF0 <= lead <= 0xF4:
        more = 3
        if lead == 0xF0:
            low = np.int64(0x90)
        elif lead == 0xF4:
            high = np.int64(0x8F)
    else:
        return -1
    for i in range(1, more + 1):
        if at + i >= end:
            return -i
        byte = load8(data, at + i)
        if byte < low or byte > high:
            return -i
        low, high = np.int64(0x80), np.int64(0xBF)
    return more + 1


@kernel
def is_utf8(data: Int, at: Int, end: Int) -> Flag:
    """Whether data[at : end] is UTF-8."""
    while at < end:
        if end - at >= 8:
            # ASCII, 8 bytes at a time; the last 8 overlap what was read.
            while at + 8 < end and load64(data, at) & _HIGHS == 0:
                at += 8
            if at + 8 >= end and load64(data, end - 8) & _HIGHS == 0:
                return True
        size = _sequence(data, at, end)
        if size < 0:
            return False
        at += size
    return True


@kernel
def _plain_attribute(data: Int, at: Int, end: Int) -> Flag:
    """Whether data[at : end] is a KeyValue as nearly all are, with nothing to remark on: a key and a string, bool, int or
    double, each field once and in order, its length in one byte (of the value, in as many as it needs), texts in UTF-8."""
    if end - at < 4 or load8(data, at) != L.KEY_VALUE_KEY:
        return False
    size = load8(data, at + 1)
    key = at + 2
    at = key + size
    if size >= 0x80 or at + 2 > end or load8(data, at) != L.KEY_VALUE_VALUE or not is_utf8(data, key, at):
        return False
    header = at + 1
    start, at = payload(data, header, end)
    if start < 0 or at != end or start == end or start - header != varint_size(end - start):
        return False
    field = load8(data, start)
    at = start + 1
    if field == L.ANY_STRING:
        start, at = payload(data, at, end)
        return start >= 0 and at == end and is_utf8(data, start, end)
    if field == L.ANY_INT or field == L.ANY_BOOL:  # noqa: PLR1714
        _, at = varint(data, at, end)
        return at == end
    return field == L.ANY_DOUBLE and at + 8 == end


@kernel
def _repair(data: Int, at: Int, end: Int, out: Int, to: Int) -> Int:
    """data[at : end] with U+FFFD where it is not UTF-8, three times as long at most; the position behind it."""
    while at < end:
        size = _sequence(data, at, end)
        if size > 0:
            copy(out, to, data, at, size)
            at += size
            to += size
        else:
            store8(out, to, 0xEF)
            store8(out, to + 1, 0xBF)
            store8(out, to + 2, 0xBD)
            to += 3
            at -= size
    return to


@kernel
def _open(nodes: I64, count: Int, stack: I64, depth: Int) -> tuple[I64, Int]:
    """Nodes for all messages on the stack that have none yet."""
    for level in range(1, depth + 1):
        if stack[level, F_NODE] < 0:
            nodes = with_room(nodes, count)
            nodes[N_HEADER, count], nodes[N_START, count] = stack[level, F_HEADER], stack[level, F_START]
            nodes[N_END, count], nodes[N_PARENT, count] = stack[level, F_END], stack[level - 1, F_NODE]
            stack[level, F_NODE] = count
            count += 1
    return nodes, count


@kernel
def _varints(data: Int, at: Int, end: Int) -> Flag:
    """Whether data[at : end] is varints, one after the other."""
    while 0 <= at < end:
        _, at = varint(data, at, end)
    return at == end


@kernel
def check(body: U8, request: Int, limits: I64, nesting: Int, counts: I64) -> tuple[I64, I64, I64, U8]:
    """Check a request, which is a message of the type `request`. `counts`, and `limits`: messages per type (counts of spans
    are without the rejected ones).

    Gives results (`R_…`), edits, nodes and blob. Edits take out each span without a valid trace id or span id, and put
    U+FFFD where a string is not UTF-8. Odd is a request in which a singular message stands twice, a oneof is set twice, or
    the length of a message takes more bytes than it needs: protobuf reads it, `decode` is not made for it.
    """
    data = address(body)
    results = np.zeros(RESULTS, np.int64)
    edits, nodes, blob = np.empty((EDIT, 16), np.int64), np.empty((NODE, 16), np.int64), np.empty(64, np.uint8)
    n_edits, n_nodes, n_blob = np.int64(0), np.int64(0), np.int64(0)
    rejected, repaired, odd = np.int64(0), np.int64(0), False
    stack = np.empty((MAX_DEPTH + 1, FRAME), np.int64)
    stack[0, F_NODE] = -1
    depth, nested = np.int64(0), np.int64(0)
    has_trace = has_span = False
    before_edits, before_nodes, before_blob, before_repaired = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    at, end, type_, seen = np.int64(0), np.int64(len(body)), np.int64(request), np.int64(0)
    while True:
        if at >= end:
            if depth == 0:
                break
            if type_ == SPAN and not (has_trace and has_span):
                # Forget what was to be repaired inside; nodes around it that came with it, too.
                n_edits, n_nodes, n_blob, repaired = before_edits, before_nodes, before_blob, before_repaired
                for level in range(1, depth + 1):
                    if stack[level, F_NODE] >= n_nodes:
                        stack[level, F_NODE] = -1
                nodes, n_nodes = _open(nodes, n_nodes, stack, depth - 1)
                edits = with_room(edits, n_edits)
                edits[E_START, n_edits], edits[E_END, n_edits] = stack[depth, F_TAG], end
                edits[E_NODE, n_edits], edits[E_AT, n_edits] = stack[depth - 1, F_NODE], 0
                edits[E_SIZE, n_edits] = 0
                n_edits += 1
                rejected += 1
            elif type_ == ANY_VALUE:
                nested -= 1
            depth -= 1
            end, type_, seen = stack[depth, F_END], stack[depth, F_TYPE], stack[depth, F_SEEN]
            if depth == 0:
                end = np.int64(len(body))
                type_ = np.int64(request)
            continue
        field_at = at
        field, at = tag(data, at, end)
        if at < 0:
            results[R_STATUS] = BAD
            return results, edits, nodes, blob
        number = field >> 3
        rule = np.int64(SCHEMA[type_, number]) if number < FIELDS else np.int64(0)
        if rule == 0 or rule >> WIRE != field & 7:
            at = skip(data, at, end, field, depth)
            if at < 0:
                results[R_STATUS] = BAD
                return results, edits, nodes, blob
            continue
        if rule & ONEOF != 0:
            odd |= seen & 1 != 0
            seen |= 1
        if field & 7 != L.LEN:
            at = skip(data, at, end, field, depth)
            if at < 0:
                results[R_STATUS] = BAD
                return results, edits, nodes, blob
            continue
        header = at
        start, at = payload(data, at, end)
        if start < 0:
            results[R_STATUS] = BAD
            return results, edits, nodes, blob
        child = rule & TYPE
        if child != 0:
            counts[child] += 1
            if counts[child] > limits[child]:
                results[R_STATUS] = OVER + child
                return results, edits, nodes, blob
        if child == KEY_VALUE and nesting > nested and depth + 2 <= MAX_DEPTH and _plain_attribute(data, start, at):
            counts[ANY_VALUE] += 1
            odd |= header - field_at != 1 or start - header != varint_size(at - start)
        elif rule & MESSAGE != 0:
            if rule & SINGLE != 0:
                odd |= seen & (1 << number) != 0
                seen |= 1 << number
            odd |= header - field_at != 1 or start - header != varint_size(at - start)
            if depth >= MAX_DEPTH:
                results[R_STATUS] = DEEP
                return results, edits, nodes, blob
            if child == ANY_VALUE:
                nested += 1
                if nested > nesting:
                    results[R_STATUS] = NESTED
                    return results, edits, nodes, blob
            elif child == SPAN:
                has_trace = has_span = False
                before_edits, before_nodes, before_blob, before_repaired = n_edits, n_nodes, n_blob, repaired
            stack[depth, F_END], stack[depth, F_TYPE], stack[depth, F_SEEN] = end, type_, seen
            depth += 1
            stack[depth, F_END], stack[depth, F_NODE] = at, -1
            stack[depth, F_HEADER], stack[depth, F_START], stack[depth, F_TAG] = header, start, field_at
            end, type_, seen = at, child, np.int64(0)
            at = start
        elif rule & STRING != 0:
            if not is_utf8(data, start, at):
                most = n_blob + 3 * (at - start) + 16
                if most > len(blob):
                    larger = np.empty(2 * most, np.uint8)
                    larger[:n_blob] = blob[:n_blob]
                    blob = larger
                out = address(blob)
                # The text first, five bytes further on than its length can reach.
                text = n_blob + 5
                size = _repair(data, start, at, out, text) - text
                behind = put_varint(out, n_blob, size)
                for i in range(size):
                    store8(out, behind + i, load8(out, text + i))
                nodes, n_nodes = _open(nodes, n_nodes, stack, depth)
                edits = with_room(edits, n_edits)
                edits[E_START, n_edits], edits[E_END, n_edits] = header, at
                edits[E_NODE, n_edits], edits[E_AT, n_edits] = stack[depth, F_NODE], n_blob
                edits[E_SIZE, n_edits] = behind + size - n_blob
                n_edits += 1
                n_blob = behind + size
                repaired += 1
        elif rule & TRACE_ID != 0:
            has_trace = at - start == 16 and not all_zero(data, start, np.int64(16))
        elif rule & SPAN_ID != 0:
            has_span = at - start == 8 and not all_zero(data, start, np.int64(8))
        elif (rule & PACKED_FIXED64 != 0 and (at - start) & 7 != 0) or (
            rule & PACKED_VARINT != 0 and not _varints(data, start, at)
        ):
            results[R_STATUS] = BAD
            return results, edits, nodes, blob
    counts[SPAN] -= rejected
    results[R_ODD] = 1 if odd else 0
    results[R_REJECTED], results[R_REPAIRED] = rejected, repaired
    results[R_EDITS], results[R_NODES], results[R_BLOB] = n_edits, n_nodes, n_blob
    return results, edits, nodes, blob
