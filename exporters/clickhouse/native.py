"""ClickHouse's Native format as a client of a given protocol revision reads it.

The embedded engine writes Native without a revision. Clients that name one (`client_protocol_version`: Go's driver, and with
it Grafana; clickhouse-connect) expect each block to begin with block info, and from 54454 on a byte before each column's
data. So the blocks are walked, column by column, to find where these belong. Nothing else differs.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from collector.errors import SpanledgerError

#: Revisions: block info is there from the first on; a byte for custom serialization stands before each column's data.
CUSTOM_SERIALIZATION = 54_454
#: Field 1, is_overflows: 0; field 2, bucket_num: -1; end.
_BLOCK_INFO = b"\x01\x00\x02\xff\xff\xff\xff\x00"
_WIDTHS = {
    "Nothing": 1, "Bool": 1, "Int8": 1, "UInt8": 1, "Enum8": 1, "Int16": 2, "UInt16": 2, "Enum16": 2, "Date": 2, "BFloat16": 2,
    "Int32": 4, "UInt32": 4, "Float32": 4, "Date32": 4, "DateTime": 4, "IPv4": 4, "Time": 4, "Decimal32": 4, "Int64": 8, "UInt64": 8,
    "Float64": 8, "DateTime64": 8, "Time64": 8, "Decimal64": 8, "Int128": 16, "UInt128": 16, "UUID": 16, "IPv6": 16,
    "Decimal128": 16, "Int256": 32, "UInt256": 32, "Decimal256": 32,
}  # fmt: skip
_NAMED = {
    "Point": "Tuple(Float64, Float64)",
    "Ring": "Array(Tuple(Float64, Float64))",
    "LineString": "Array(Tuple(Float64, Float64))",
    "Polygon": "Array(Array(Tuple(Float64, Float64)))",
    "MultiLineString": "Array(Array(Tuple(Float64, Float64)))",
    "MultiPolygon": "Array(Array(Array(Tuple(Float64, Float64))))",
}
_TYPE = re.compile(r"(\w+)(?:\((.*)\))?", re.DOTALL)
_ELEMENT_NAME = re.compile(r"(?:`(?:[^`\\]|\\.)*`|[A-Za-z_]\w*)\s+(?=\S)")


class Unframed(SpanledgerError):
    """The answer has a column that cannot be walked; another format can carry it."""


class Type(NamedTuple):
    """A type as far as its bytes go: `kind` is fixed, text, nullable, low, array or tuple."""

    kind: str
    width: int = 0
    inner: tuple[Type, ...] = ()


@lru_cache(maxsize=1000)
def parse(text: str) -> Type:
    """A type's name. Raises `Unframed` for one whose bytes are not known here."""
    match = _TYPE.fullmatch(text.strip())
    if match is None:
        raise Unframed(f"the type {text} is not served in the Native format")
    name, inside = match[1], match[2] or ""
    if name in _NAMED:
        return parse(_NAMED[name])
    if name == "Decimal":
        precision = int(inside.partition(",")[0])
        return Type("fixed", 4 if precision <= 9 else 8 if precision <= 18 else 16 if precision <= 38 else 32)
    if name in _WIDTHS or name.startswith("Interval"):
        return Type("fixed", _WIDTHS.get(name, 8))
    if name == "FixedString":
        return Type("fixed", int(inside))
    if name == "String":
        return Type("text")
    if name in ("Nullable", "LowCardinality", "Array"):
        return Type({"Nullable": "nullable", "LowCardinality": "low", "Array": "array"}[name], 0, (parse(inside),))
    if name == "SimpleAggregateFunction":
        return parse(_split(inside)[1])
    if name in ("Tuple", "Map", "Nested"):
        elements = tuple(parse(_unnamed(part)) for part in _split(inside))
        made = Type("tuple", 0, elements)
        return made if name == "Tuple" else Type("array", 0, (made,))
    raise Unframed(f"the type {text} is not served in the Native format")


def _split(text: str) -> list[str]:
    """The arguments of a type: parted by the commas outside parentheses and quotes."""
    parts, depth, quote, start, at = [], 0, "", 0, 0
    while at < len(text):
        letter = text[at]
        if quote:
            at += letter == "\\"
            quote = "" if letter == quote else quote
        elif letter in "'`":
            quote = letter
        elif letter == "," and depth == 0:
            parts.append(text[start:at])
            start = at + 1
        else:
            depth += (letter == "(") - (letter == ")")
        at += 1
    return [part.strip() for part in (*parts, text[start:])]


def _unnamed(element: str) -> str:
    """An element of a tuple without its name."""
    return _ELEMENT_NAME.sub("", element, count=1) if _ELEMENT_NAME.match(element) else element


def framed(body: bytes, revision: int) -> bytes:
    """The blocks of `body` as a client of this revision expects them; 0 leaves them as they are. Raises `Unframed`."""
    if revision <= 0:
        return body
    walk = _Walk(body)
    parts: list[bytes] = []
    while walk.at < len(body):
        start = walk.at
        columns, rows = walk.varint(), walk.varint()
        parts += (_BLOCK_INFO, body[start : walk.at])
        for _ in range(columns):
            start = walk.at
            walk.text()
            kind = parse(walk.text().decode())
            parts.append(body[start : walk.at])
            if revision >= CUSTOM_SERIALIZATION:
                parts.append(b"\x00")
            start = walk.at
            if rows:
                walk.prefix(kind)
                walk.column(kind, rows)
            parts.append(body[start : walk.at])
    if not parts:  # no row and no header: a client still reads one block
        parts = [_BLOCK_INFO, b"\x00\x00"]
    return b"".join(parts)


class _Walk:
    """Where the reading stands."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.at = 0

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.body[self.at]
            self.at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    def text(self) -> bytes:
        length = self.varint()
        self.at += length
        return self.body[self.at - length : self.at]

    def number(self) -> int:
        self.at += 8
        return int.from_bytes(self.body[self.at - 8 : self.at], "little")

    def prefix(self, kind: Type) -> None:
        """What a column says once before its data: the version of a dictionary."""
        if kind.kind == "low":
            self.at += 8
        for inner in kind.inner if kind.kind != "low" else ():
            self.prefix(inner)

    def column(self, kind: Type, rows: int) -> None:
        match kind.kind:
            case "fixed":
                self.at += kind.width * rows
            case "text":
                self._texts(rows)
            case "nullable":
                self.at += rows
                self.column(kind.inner[0], rows)
            case "array":
                self.at += 8 * (rows - 1)
                inside = self.number()
                if inside:
                    self.column(kind.inner[0], inside)
            case "tuple":
                for inner in kind.inner:
                    self.column(inner, rows)
            case _:
                self._low(kind, rows)

    def _low(self, kind: Type, rows: int) -> None:
        """A dictionary and an index per row. A dictionary of nullables keeps no null map."""
        flags = self.number()
        keys = self.number()
        nested = kind.inner[0]
        self.column(nested.inner[0] if nested.kind == "nullable" else nested, keys)
        self.number()
        self.at += rows << (flags & 0xFF)

    def _texts(self, rows: int) -> None:
        body, at = self.body, self.at
        for _ in range(rows):
            length = body[at]
            at += 1
            if length >= 128:
                self.at = at - 1
                length = self.varint()
                at = self.at
            at += length
        self.at = at
