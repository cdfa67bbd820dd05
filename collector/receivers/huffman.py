"""The Huffman code of HPACK (RFC 7541, appendix B). It is canonical: the lengths say everything. Read four bits at a time."""

from __future__ import annotations

from functools import lru_cache

#: Bits of each symbol's code; the last symbol is the end of the string, which may not be sent.
_LENGTHS = bytes.fromhex(
    "0d171c1c1c1c1c1c1c181e1c1c1e1c1c1c1c1c1c1c1c1e1c1c1c1c1c1c1c1c1c060a0a0c0d06080b0a0a080b080606060505050606060606"
    "060607080f060c0a0d06070707070707070707070707070707070707070707070807080d130d0e060f050605060506060605070706060605"
    "06070605050607070707070f0b0e0d1c14161414161616171617171717171817181816171817171717151617161717181615141616171715"
    "1716161815161717151516151716171714161616171616171a1a1413161716191a1a1a1b1b1a181913151a1b1b1a1b1815151a1a1c1b1b1b"
    "14181415161515171616191918181a171a1b1a1a1b1b1b1b1b1c1b1b1b1b1b1a1e"
)
_END_OF_STRING = 256

_Step = tuple[int, bytes] | None


class BadHuffman(Exception):
    """The text is not Huffman-coded."""


class _Node:
    """A place within a symbol's code: what follows a 0 and a 1."""

    __slots__ = ("may_end", "next", "number")

    def __init__(self, number: int, may_end: bool) -> None:
        self.next: list[_Node | int | None] = [None, None]
        self.number = number
        self.may_end = may_end  # a text may end after fewer than eight ones that are no symbol


def _tree() -> list[_Node]:
    nodes = [_Node(0, True)]
    code = length = 0
    for symbol in sorted(range(len(_LENGTHS)), key=lambda s: (_LENGTHS[s], s)):
        code <<= _LENGTHS[symbol] - length
        length = _LENGTHS[symbol]
        node = nodes[0]
        for depth in range(length - 1, 0, -1):
            bit = code >> depth & 1
            found = node.next[bit]
            if not isinstance(found, _Node):
                found = node.next[bit] = _Node(len(nodes), node.may_end and bit == 1 and length - depth < 8)
                nodes.append(found)
            node = found
        node.next[code & 1] = symbol
        code += 1
    return nodes


def _steps(nodes: list[_Node]) -> list[list[_Step]]:
    """For each node and four bits: the node behind them and what they complete; None where they are no code."""
    return [[_step(nodes[0], start, four) for four in range(16)] for start in nodes]


def _step(root: _Node, node: _Node, four: int) -> _Step:
    found = b""
    for shift in (3, 2, 1, 0):
        step = node.next[four >> shift & 1]
        if isinstance(step, _Node):
            node = step
        elif step is None or step == _END_OF_STRING:
            return None
        else:
            node, found = root, found + bytes((step,))
    return node.number, found


_NODES = _tree()
_STEPS = _steps(_NODES)
_MAY_END = [node.may_end for node in _NODES]


@lru_cache(maxsize=1024)
def huffman(text: bytes) -> bytes:
    """The text behind its code. Senders repeat themselves, so the last ones are remembered. Raises `BadHuffman`."""
    out: list[bytes] = []
    node = 0
    for octet in text:
        for four in (octet >> 4, octet & 15):
            step = _STEPS[node][four]
            if step is None:
                raise BadHuffman("not Huffman-coded")
            node, found = step
            if found:
                out.append(found)
    if not _MAY_END[node]:
        raise BadHuffman("wrong padding")
    return b"".join(out)
