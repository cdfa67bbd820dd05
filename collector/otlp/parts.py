"""One request as several smaller ones, of any signal: cut between records, with the resource and scope that they stand in.

    request ─1─▶ resource ─2─▶ scope ─2─▶ record        (ResourceSpans, ScopeSpans, Span; likewise logs and metrics)

A resource that fits is copied whole, byte for byte; one that does not is cut between its scopes, and such a scope between its
records. What was cut is repeated in front of every piece: the fields of the resource and of the scope besides their children.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from collector.errors import Malformed
from collector.otlp import layout as L
from collector.otlp.compiled import kernel, read_only
from collector.otlp.raw import Flag, Int, address, copy, store8
from collector.otlp.tables import I64, U8
from collector.otlp.wire import TOP, payload, put_varint, skip, tag, varint_size
from collector.signals import Signal

_RESOURCE = np.int64(1 << 3 | L.LEN)
_CHILD = np.int64(2 << 3 | L.LEN)  # a scope in a resource, a record in a scope
_POINTS = np.int64(1 << 3 | L.LEN)  # of a metric's data, whatever its kind
# A metric's data: gauge, sum, histogram, exponential histogram, summary
_DATA_KINDS = np.array([5, 7, 9, 10, 11], np.int64) << 3 | L.LEN
_PREFIX = np.int64(6)  # of a message: its tag, and its length at its longest

# Columns of the units: fields that go into a part as they are, and the cut messages that they stand in, -1 for none
U_LEVEL, U_START, U_END, U_ITEMS, U_RESOURCE, U_SCOPE = range(6)
UNIT = 6
# Columns of the heads: the cut messages, and how many bytes their fields have but for their children
H_START, H_END, H_OWN = range(3)
HEAD = 3
# Columns of the parts: the unit behind the last one, bytes at most, items
P_BEHIND, P_SIZE, P_ITEMS = range(3)
PART = 3


class Part(NamedTuple):
    """A request, and how many spans, log records or data points it has."""

    data: U8
    items: int


def split(signal: Signal, body: U8, items: int, most: int) -> list[Part]:
    """The request as requests of at most `most` bytes; as it is, if it fits.

    A part may be larger in two cases: it is a single record, or the resource and scope that are repeated in it are more than half
    of it. So repeating at most doubles the bytes, however large a resource is. Raises Malformed.
    """
    if len(body) <= most:
        return [Part(body, items)]
    units, heads = plan(body, most, signal is Signal.METRICS)
    if len(units) == 0:
        raise Malformed("the request is not well-formed: it cannot be cut")
    own, own_at = repeated(body, heads)
    found, first = [], 0
    for behind, size, count in pack(units, heads, most).tolist():
        found.append(Part(read_only(write(body, units, own, own_at, first, behind, size)), count))
        first = behind
    return found


@kernel
def _is_child(field: Int, level: Int) -> Flag:
    """Whether a field of a message (0 resource, 1 scope, 2 metric, 3 its data) is one of those that are counted through."""
    if level < 2:
        return field == _CHILD
    if level == 3:
        return field == _POINTS
    for kind in _DATA_KINDS:  # noqa: SIM110 (compiled code knows no `any`)
        if field == kind:
            return True
    return False


@kernel
def _items(data: Int, start: Int, end: Int, level: Int, points: bool) -> Int:
    """How many records are in a message of this level; with `points`, how many data points."""
    if level == 2 and not points:
        return 1
    last = 3 if points else 1  # the level whose children are the items
    ats, ends = np.empty(4, np.int64), np.empty(4, np.int64)
    ats[level], ends[level] = start, end
    here, count = level, 0
    while here >= level:
        if ats[here] >= ends[here]:
            here -= 1
            continue
        field, at = tag(data, ats[here], ends[here])
        if at < 0:
            return count
        if _is_child(field, here):
            begin, at = payload(data, at, ends[here])
            if begin < 0:
                return count
            ats[here] = at
            if here == last:
                count += 1
            else:
                here += 1
                ats[here], ends[here] = begin, at
        else:
            at = skip(data, at, ends[here], field, TOP)
            if at < 0:
                return count
            ats[here] = at
    return count


@kernel
def _field(data: Int, at: Int, end: Int) -> tuple[Int, Int, Int]:
    """The tag of the field at `at`, where what it holds begins, and the position behind it; -1: not well-formed."""
    field, begin = tag(data, at, end)
    if begin < 0:
        return field, begin, begin
    if field & 7 == L.LEN:
        begin, behind = payload(data, begin, end)
        return field, begin, behind
    return field, begin, skip(data, begin, end, field, TOP)


@kernel
def _cuttable(data: Int, begin: Int, end: Int) -> Flag:
    """Whether a resource or scope has children to be cut between."""
    at = begin
    while at < end:
        field, _, at = _field(data, at, end)
        if at < 0 or field == _CHILD:
            return at >= 0
    return False


@kernel
def _own(data: Int, begin: Int, end: Int) -> Int:
    """Bytes of a resource's fields but for its scopes; not well-formed ones count as nothing."""
    own, at = np.int64(0), begin
    while at < end:
        field, _, behind = _field(data, at, end)
        if behind < 0:
            return own
        if field != _CHILD:
            own += behind - at
        at = behind
    return own


@kernel
def plan(body: U8, most: Int, points: bool) -> tuple[I64, I64]:
    """The fields that the parts are made of, in order, each as large as fits; and the messages that were cut for it.
    No units: the body is not well-formed."""
    data, end = address(body), np.int64(len(body))
    none = np.empty((0, UNIT), np.int64)
    units, heads = np.empty((1024, UNIT), np.int64), np.empty((16, HEAD), np.int64)
    count = cut = 0
    at = np.int64(0)
    while at < end:
        field, begin, behind = _field(data, at, end)
        if behind < 0:
            return none, heads
        if field != _RESOURCE or behind - at <= most or not _cuttable(data, begin, behind):
            items = _items(data, begin, behind, 0, points) if field == _RESOURCE else TOP
            units = _put(units, count, 0, at, behind, items, -1, -1)
            count += 1
            at = behind
            continue
        resource = cut
        cut += 1
        heads = _open(heads, resource, begin, behind, _own(data, begin, behind))
        room = most - _PREFIX - heads[resource, H_OWN]  # of a part, beside the resource's own
        at, behind_resource = begin, behind
        while at < behind_resource:
            field, begin, behind = _field(data, at, behind_resource)
            if behind < 0:
                return none, heads
            if field != _CHILD:
                at = behind
                continue
            if behind - at <= room or not _cuttable(data, begin, behind):
                units = _put(units, count, 1, at, behind, _items(data, begin, behind, 1, points), resource, -1)
                count += 1
                at = behind
                continue
            scope = cut
            cut += 1
            heads = _open(heads, scope, begin, behind, TOP)
            at, behind_scope = begin, behind
            while at < behind_scope:
                field, begin, behind = _field(data, at, behind_scope)
                if behind < 0:
                    return none, heads
                if field == _CHILD:
                    units = _put(units, count, 2, at, behind, _items(data, begin, behind, 2, points), resource, scope)
                    count += 1
                else:
                    heads[scope, H_OWN] += behind - at
                at = behind
    return units[:count], heads[:cut]


@kernel
def _open(heads: I64, row: Int, start: Int, end: Int, own: Int) -> I64:
    """The heads with one more."""
    if row == len(heads):
        heads = _twice(heads)
    heads[row, H_START], heads[row, H_END], heads[row, H_OWN] = start, end, own
    return heads


@kernel
def _twice(rows: I64) -> I64:
    larger = np.empty((2 * len(rows), rows.shape[1]), np.int64)
    larger[: len(rows)] = rows
    return larger


@kernel
def _put(units: I64, row: Int, level: Int, start: Int, end: Int, items: Int, resource: Int, scope: Int) -> I64:
    """The units with one more."""
    if row == len(units):
        units = _twice(units)
    units[row, U_LEVEL], units[row, U_START], units[row, U_END], units[row, U_ITEMS] = level, start, end, items
    units[row, U_RESOURCE], units[row, U_SCOPE] = resource, scope
    return units


@kernel
def pack(units: I64, heads: I64, most: Int) -> I64:
    """Which units go together: a row per part."""
    parts = np.empty((len(units), PART), np.int64)
    count = -1
    size, content = np.int64(0), np.int64(0)
    for row in range(len(units)):
        own = units[row, U_END] - units[row, U_START]
        resource, scope = units[row, U_RESOURCE], units[row, U_SCOPE]
        repeated = np.int64(0)  # in this part, if it takes the unit
        for fresh in (False, True):
            opens_resource = fresh or row == 0 or units[row - 1, U_RESOURCE] != resource
            repeated = np.int64(0)
            if resource >= 0 and opens_resource:
                repeated += heads[resource, H_OWN] + _PREFIX
            if scope >= 0 and (opens_resource or units[row - 1, U_SCOPE] != scope):
                repeated += heads[scope, H_OWN] + _PREFIX
            fits = size + repeated + own <= most or content + own <= size - content + repeated
            if not fresh and count >= 0 and fits:
                break
            if not fresh:
                count += 1
                size, content = np.int64(0), np.int64(0)
                parts[count, P_ITEMS] = 0
        size += repeated + own
        content += own
        parts[count, P_BEHIND], parts[count, P_SIZE] = row + 1, size
        parts[count, P_ITEMS] += units[row, U_ITEMS]
    return parts[: count + 1]


@kernel
def repeated(body: U8, heads: I64) -> tuple[U8, I64]:
    """Of each cut message the fields but for its children, all in one, and where each one's begin."""
    data, starts = address(body), np.zeros(len(heads) + 1, np.int64)
    for head in range(len(heads)):
        starts[head + 1] = starts[head] + heads[head, H_OWN]
    buffer = np.empty(starts[-1], np.uint8)
    out, to = address(buffer), np.int64(0)
    for head in range(len(heads)):
        at, end = heads[head, H_START], heads[head, H_END]
        while at < end:
            field, _, behind = _field(data, at, end)
            if field != _CHILD:
                copy(out, to, data, at, behind - at)
                to += behind - at
            at = behind
    return buffer, starts


@kernel
def _scopes_size(units: I64, own_at: I64, first: Int, behind: Int) -> Int:
    """Bytes of the scopes that units of one resource make."""
    total, row = np.int64(0), first
    while row < behind:
        scope = units[row, U_SCOPE]
        size = np.int64(0)
        start = row
        while row < behind and units[row, U_SCOPE] == scope and (scope >= 0 or row == start):
            size += units[row, U_END] - units[row, U_START]
            row += 1
        if scope >= 0:
            size += own_at[scope + 1] - own_at[scope]
            size += 1 + varint_size(size)
        total += size
    return total


@kernel
def write(body: U8, units: I64, own: U8, own_at: I64, first: Int, behind: Int, most: Int) -> U8:
    """The request that units first..behind make, of at most `most` bytes. `own`: what `repeated` gave."""
    data, heads = address(body), address(own)
    buffer = np.empty(most, np.uint8)
    out, to, row = address(buffer), np.int64(0), first
    while row < behind:
        resource = units[row, U_RESOURCE]
        last = row + 1
        while resource >= 0 and last < behind and units[last, U_RESOURCE] == resource:
            last += 1
        if resource >= 0:
            size = own_at[resource + 1] - own_at[resource]
            store8(out, to, _RESOURCE)
            to = put_varint(out, to + 1, size + _scopes_size(units, own_at, row, last))
            copy(out, to, heads, own_at[resource], size)
            to += size
        while row < last:
            scope = units[row, U_SCOPE]
            stop = row + 1
            while scope >= 0 and stop < last and units[stop, U_SCOPE] == scope:
                stop += 1
            if scope >= 0:
                size = own_at[scope + 1] - own_at[scope]
                records = np.int64(0)
                for unit in range(row, stop):
                    records += units[unit, U_END] - units[unit, U_START]
                store8(out, to, _CHILD)
                to = put_varint(out, to + 1, size + records)
                copy(out, to, heads, own_at[scope], size)
                to += size
            while row < stop:
                size = units[row, U_END] - units[row, U_START]
                copy(out, to, data, units[row, U_START], size)
                to += size
                row += 1
    return buffer[:to]
