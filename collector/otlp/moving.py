"""Tables of a request in which texts were exchanged, from the tables before: what stands behind a text has moved, that is all.

Reading the new bytes instead costs two to five times as much.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np

from collector.otlp.compiled import kernel
from collector.otlp.raw import Int
from collector.otlp.splicing import E_END, E_SIZE, E_START, N_HEADER, N_START, Splice, new_sizes
from collector.otlp.tables import I32, I64, U8, Text, Traces
from collector.otlp.wire import varint_size

START, END, MOVED, INSIDE = range(4)  # rows of the matrix of changes
_FAR = np.int64(2**62)
_NEAR = 8  # changes that are looked at one by one


def moved(traces: Traces, splice: Splice, data: U8) -> Traces:
    """What `decode.read(data)` would give, where `data` is what `splice` makes of the bytes of `traces`.

    The edits may do one thing only: put another text in the place of one that is no key and not empty.
    """
    changes = _changes(splice.edits, splice.nodes)

    def texts(table: Any) -> Any:
        found = {f.name: getattr(table, f.name) for f in fields(table)}
        return replace(table, **{name: text(old) for name, old in found.items() if isinstance(old, Text)})

    def text(old: Text) -> Text:
        new = Text(np.empty_like(old.off), np.empty_like(old.len))
        _move(changes, old.off, old.len, new.off, new.len)
        return new

    return replace(
        traces,
        data=data,
        resources=texts(traces.resources),
        scopes=texts(traces.scopes),
        spans=texts(traces.spans),
        events=texts(traces.events),
        links=texts(traces.links),
        attributes=texts(traces.attributes),
    )


@kernel
def _changes(edits: I64, nodes: I64) -> I64:
    """What changes [4, n], in the order of the bytes: each exchanged text together with its length, and the length of each message
    around one.

    START, END: where that stood in the old bytes
    MOVED:      by how much everything behind it has moved
    INSIDE:     how many bytes the new text has; 0 for a message
    """
    sizes = new_sizes(edits, nodes, 0)
    changes = np.empty((4, edits.shape[1] + nodes.shape[1]), np.int64)
    edit, node, by = 0, 0, np.int64(0)
    for place in range(changes.shape[1]):
        if node == nodes.shape[1] or (edit < edits.shape[1] and edits[E_START, edit] < nodes[N_HEADER, node]):
            start, end, size = edits[E_START, edit], edits[E_END, edit], edits[E_SIZE, edit]
            text = size - 1
            while text + varint_size(text) > size:
                text -= 1
            by += size - (end - start)
            edit += 1
        else:
            start, end, text = nodes[N_HEADER, node], nodes[N_START, node], np.int64(0)
            by += varint_size(sizes[node]) - (end - start)
            node += 1
        changes[START, place], changes[END, place] = start, end
        changes[MOVED, place], changes[INSIDE, place] = by, text
    return changes


@kernel
def _before(changes: I64, at: Int, place: Int) -> Int:
    """The last change that begins before a position, -1 for none; found soon if it is `place` or one of the next."""
    count = np.int64(changes.shape[1])
    low, high = np.int64(0), count
    if place < 0 or changes[START, place] < at:
        low, high = place + 1, min(place + 1 + _NEAR, count)
        while low < high and changes[START, low] < at:
            low += 1
        if low < high or high == count:
            return low - 1
        high = count
    while low < high:
        middle = (low + high) // 2
        if changes[START, middle] < at:
            low = middle + 1
        else:
            high = middle
    return low - 1


@kernel
def _move(changes: I64, off: I64, size: I32, new_off: I64, new_size: I32) -> None:
    """Where texts and messages stand now. Fast where they come in the order of the bytes."""
    place = np.int64(-1)
    behind, before, by = np.int64(0), np.int64(0), np.int64(0)  # between two changes: where, and how far it has moved
    for row in range(len(off)):
        at, end = off[row], off[row] + size[row]
        if behind < at and end <= before:
            new_off[row], new_size[row] = at + by, size[row]
            continue
        if at == 0:  # absent
            new_off[row], new_size[row] = at, size[row]
            continue
        place = _before(changes, at, place)
        behind = changes[END, place] if place >= 0 else np.int64(0)
        before = changes[START, place + 1] if place + 1 < changes.shape[1] else _FAR
        by = changes[MOVED, place] if place >= 0 else np.int64(0)
        # A text that was exchanged ends what it became; a message begins behind its length.
        now = at + by if at > behind else behind + by - changes[INSIDE, place]
        end += changes[MOVED, _before(changes, end, place)] if end > before else by
        # A number may stand where a text was that it took the place of (the last value of several counts).
        new_off[row], new_size[row] = now, end - now if size[row] > 0 else 0
