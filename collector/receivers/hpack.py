"""HPACK (RFC 7541): header blocks of HTTP/2 read within bounds, and answers' fields written in the plainest form.

What a block may cost is bounded by the decoder, not by the sender: the table it fills, the size of the list that comes out
(a short block can name one large entry a thousand times), the length of a number, and the characters of names.
"""

from __future__ import annotations

from collections import deque

from collector.receivers.huffman import BadHuffman, huffman

TABLE_SIZE = 4096
#: Octets of names and values in one list, 32 more for each field, as RFC 9113 counts them.
MAX_LIST_SIZE = 32 * 1024
_ENTRY_OVERHEAD = 32

Field = tuple[bytes, bytes]

_STATIC: tuple[Field, ...] = tuple(
    (name, value)
    for name, values in (
        (b":authority", (b"",)), (b":method", (b"GET", b"POST")), (b":path", (b"/", b"/index.html")),
        (b":scheme", (b"http", b"https")), (b":status", (b"200", b"204", b"206", b"304", b"400", b"404", b"500")),
        (b"accept-charset", (b"",)), (b"accept-encoding", (b"gzip, deflate",)), (b"accept-language", (b"",)),
        (b"accept-ranges", (b"",)), (b"accept", (b"",)), (b"access-control-allow-origin", (b"",)), (b"age", (b"",)),
        (b"allow", (b"",)), (b"authorization", (b"",)), (b"cache-control", (b"",)), (b"content-disposition", (b"",)),
        (b"content-encoding", (b"",)), (b"content-language", (b"",)), (b"content-length", (b"",)),
        (b"content-location", (b"",)), (b"content-range", (b"",)), (b"content-type", (b"",)), (b"cookie", (b"",)),
        (b"date", (b"",)), (b"etag", (b"",)), (b"expect", (b"",)), (b"expires", (b"",)), (b"from", (b"",)),
        (b"host", (b"",)), (b"if-match", (b"",)), (b"if-modified-since", (b"",)), (b"if-none-match", (b"",)),
        (b"if-range", (b"",)), (b"if-unmodified-since", (b"",)), (b"last-modified", (b"",)), (b"link", (b"",)),
        (b"location", (b"",)), (b"max-forwards", (b"",)), (b"proxy-authenticate", (b"",)),
        (b"proxy-authorization", (b"",)), (b"range", (b"",)), (b"referer", (b"",)), (b"refresh", (b"",)),
        (b"retry-after", (b"",)), (b"server", (b"",)), (b"set-cookie", (b"",)), (b"strict-transport-security", (b"",)),
        (b"transfer-encoding", (b"",)), (b"user-agent", (b"",)), (b"vary", (b"",)), (b"via", (b"",)),
        (b"www-authenticate", (b"",)),
    )
    for value in values
)  # fmt: skip


class HpackError(Exception):
    """The block is not HPACK, or wants more than it may."""


class Decoder:
    """One direction of one connection. After an `HpackError` the connection is of no use any more."""

    def __init__(self) -> None:
        self._dynamic: deque[Field] = deque()  # newest first
        self._size = 0
        self._limit = TABLE_SIZE
        self._seen: tuple[bytes, list[Field]] | None = None

    def decode(self, block: bytes) -> list[Field]:
        """The fields in order, names as they were sent. Raises `HpackError`."""
        if self._seen is not None and self._seen[0] == block:
            return self._seen[1]
        fields: list[Field] = []
        size = position = 0
        changed = False
        while position < len(block):
            first = block[position]
            if first & 0x80:
                index, position = _integer(block, position, 7)
                field = self._entry(index)
            elif first & 0xE0 == 0x20:
                if fields:
                    raise HpackError("a table size update behind a field")
                limit, position = _integer(block, position, 5)
                if limit > TABLE_SIZE:
                    raise HpackError("a larger table than was offered")
                self._limit, changed = limit, True
                self._shrink(limit)
                continue
            else:
                index, position = _integer(block, position, 6 if first & 0x40 else 4)
                if index:
                    name = self._entry(index)[0]
                else:
                    name, position = _string(block, position)
                value, position = _string(block, position)
                field = (name, value)
                if first & 0x40:
                    self._add(field)
                    changed = True
            size += len(field[0]) + len(field[1]) + _ENTRY_OVERHEAD
            if size > MAX_LIST_SIZE:
                raise HpackError("the headers are too large")
            fields.append(field)
        # A sender's second and later requests are the same few references, as long as the table stays as it is.
        self._seen = None if changed else (block, fields)
        return fields

    def _entry(self, index: int) -> Field:
        if 0 < index <= len(_STATIC):
            return _STATIC[index - 1]
        index -= len(_STATIC) + 1
        if 0 <= index < len(self._dynamic):
            return self._dynamic[index]
        raise HpackError("no such entry")

    def _add(self, field: Field) -> None:
        size = len(field[0]) + len(field[1]) + _ENTRY_OVERHEAD
        self._shrink(self._limit - size)
        if size <= self._limit:
            self._dynamic.appendleft(field)
            self._size += size

    def _shrink(self, limit: int) -> None:
        while self._dynamic and self._size > limit:
            name, value = self._dynamic.pop()
            self._size -= len(name) + len(value) + _ENTRY_OVERHEAD


def encode(fields: list[Field]) -> bytes:
    """A block of literals that enter no table: the same bytes mean the same on every connection."""
    out = bytearray()
    for name, value in fields:
        if (name, value) in _STATIC:
            out.append(0x80 | _STATIC.index((name, value)) + 1)
            continue
        out.append(0)
        for text in (name, value):
            out += _length(len(text)) + text
    return bytes(out)


def _length(value: int) -> bytes:
    """The length of a string that is not Huffman-coded."""
    if value < 127:
        return bytes((value,))
    out, value = bytearray((127,)), value - 127
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _integer(block: bytes, position: int, bits: int) -> tuple[int, int]:
    mask = (1 << bits) - 1
    value = block[position] & mask
    position += 1
    if value < mask:
        return value, position
    for shift in (0, 7, 14, 21):  # more than any length or index may need
        if position == len(block):
            break
        octet = block[position]
        position += 1
        value += (octet & 127) << shift
        if octet < 128:
            return value, position
    raise HpackError("a number that is cut short or too large")


def _string(block: bytes, position: int) -> tuple[bytes, int]:
    if position >= len(block):
        raise HpackError("cut short")
    coded = bool(block[position] & 0x80)
    length, start = _integer(block, position, 7)
    end = start + length
    if end > len(block):
        raise HpackError("cut short")
    text = block[start:end]
    if coded:
        try:
            text = huffman(text)
        except BadHuffman as error:
            raise HpackError(str(error)) from None
    return text, end
