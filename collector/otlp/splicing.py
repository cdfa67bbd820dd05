"""New bytes from old ones: ranges are replaced, and the lengths of all messages around them are put right.

An edit replaces body[start : end], whole fields or what stands behind a tag, by a piece of `blob`, and names the node
it stands in. A node is a message that changes its size: where its length stands (header), where it starts and ends, and
the node around it. Nodes and edits stand in the order of the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from collector.memory import large_buffer
from collector.otlp.compiled import kernel, read_only
from collector.otlp.raw import Int, address, copy
from collector.otlp.tables import I64, U8
from collector.otlp.wire import put_varint, varint_size

E_START, E_END, E_NODE, E_AT, E_SIZE = range(5)  # rows of the matrix of edits; node -1: directly in the request
EDIT = 5
N_HEADER, N_START, N_END, N_PARENT = range(4)  # rows of the matrix of nodes
NODE = 4


@kernel
def with_room(matrix: I64, count: Int) -> I64:
    """The matrix, or a larger copy of it, with room for one more column behind `count`."""
    if count < matrix.shape[1]:
        return matrix
    larger = np.empty((matrix.shape[0], 2 * matrix.shape[1]), np.int64)
    larger[:, :count] = matrix[:, :count]
    return larger


@kernel
def new_sizes(edits: I64, nodes: I64, size: Int) -> I64:
    """How many bytes each node holds once the edits are made [m + 1]; last, where -1 leads, a body that had `size`."""
    sizes = np.zeros(nodes.shape[1] + 1, np.int64)  # at first by how much they grow
    sizes[-1] = size
    for edit in range(edits.shape[1]):
        sizes[edits[E_NODE, edit]] += edits[E_SIZE, edit] - (edits[E_END, edit] - edits[E_START, edit])
    for node in range(nodes.shape[1] - 1, -1, -1):  # from the inside out
        sizes[node] += nodes[N_END, node] - nodes[N_START, node]
        now = varint_size(sizes[node]) + sizes[node]
        sizes[nodes[N_PARENT, node]] += now - (nodes[N_END, node] - nodes[N_HEADER, node])
    return sizes


@kernel
def splice(body: U8, edits: I64, nodes: I64, blob: U8, buffer: U8) -> Int:
    """The edited body into the buffer: how long it is; -1 for edits or nodes that overlap or reach beyond the body, or a
    buffer that is too short."""
    data, pieces, out = address(body), address(blob), address(buffer)
    sizes = new_sizes(edits, nodes, len(body))
    total = sizes[-1]
    if total < 0 or total > len(buffer):
        return -1
    at, to, node, edit = np.int64(0), np.int64(0), 0, 0
    while node < nodes.shape[1] or edit < edits.shape[1]:
        is_edit = node == nodes.shape[1] or (edit < edits.shape[1] and edits[E_START, edit] <= nodes[N_HEADER, node])
        start = edits[E_START, edit] if is_edit else nodes[N_HEADER, node]
        behind = edits[E_END, edit] if is_edit else nodes[N_START, node]
        if is_edit:
            size = edits[E_SIZE, edit]
            good = edits[E_AT, edit] >= 0 and edits[E_AT, edit] + size <= len(blob)
        else:
            size = varint_size(sizes[node])
            good = sizes[node] >= 0
        if not good or start < at or behind < start or behind > len(body) or to + start - at + size > total:
            return -1
        copy(out, to, data, at, start - at)
        to += start - at
        if is_edit:
            copy(out, to, pieces, edits[E_AT, edit], size)
            edit += 1
        else:
            put_varint(out, to, sizes[node])
            node += 1
        to += size
        at = behind
    if to + len(body) - at != total:
        return -1
    copy(out, to, data, at, len(body) - at)
    return total


@dataclass(frozen=True, slots=True)
class Splice:
    """Edits [EDIT, n], the nodes [NODE, m] around them, and the pieces that they put in."""

    edits: I64
    nodes: I64
    blob: U8

    def applied(self, body: U8) -> U8:
        """The edited body. Raises ValueError for edits that overlap, or reach beyond it."""
        edits, nodes = np.ascontiguousarray(self.edits), np.ascontiguousarray(self.nodes)
        # A node's length takes five bytes at most.
        buffer = large_buffer(max(len(body) + int(edits[E_SIZE].sum()) + 5 * nodes.shape[1], 0))
        size = splice(body, edits, nodes, np.ascontiguousarray(self.blob), buffer)
        if size < 0:
            raise ValueError("edits overlap, or reach beyond the body")
        return read_only(buffer[:size])
