"""The head of an HTTP/1 request, parsed and judged: anything that two parsers could read in two ways is refused.

httptools (llhttp, strict) reads the syntax. What it takes but an honest sender never sends is refused here: two framings,
two lengths, two content types.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import httptools

MAX_HEADERS = 128
_LENGTH = re.compile(rb"(?<=\r\n)[Cc]ontent-[Ll]ength: ([0-9]{1,18})(?=\r\n)")
#: Headers of which a second one, even an equal one, makes the request ambiguous.
_SINGLE = frozenset((
    b"authorization", b"content-encoding", b"content-length", b"content-type", b"expect", b"host", b"origin",
    b"transfer-encoding", b"x-api-key",
))  # fmt: skip


class BadHead(Exception):
    """The request cannot be understood. `status` is the HTTP status to answer with before closing."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass(slots=True)
class Head:
    """Method, path, headers (lower-case names), and how the body is framed."""

    method: bytes = b""
    path: bytes = b""
    version: str = "1.1"
    keep_alive: bool = False
    headers: dict[bytes, bytes] = field(default_factory=dict)
    chunked: bool = False
    length: int = 0

    def text(self, name: bytes) -> str | None:
        """A header as text; None where it is absent."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")


class HeadReader:
    """Reads the heads of one connection. A sender's heads differ in nothing but the length of the body: the last one is
    remembered without it, and read again only when something else is different."""

    def __init__(self) -> None:
        self._template: bytes | None = None
        self._head = Head()

    def read(self, data: bytes) -> Head:
        """The head of a request, given up to and with its empty line. Raises `BadHead`."""
        template, count = _LENGTH.subn(b"", data)
        if count == 1 and template == self._template:
            known, match = self._head, _LENGTH.search(data)
            assert match is not None
            return Head(known.method, known.path, known.version, known.keep_alive, known.headers, False, int(match[1]))
        head = read_head(data)
        self._template, self._head = (template, head) if count == 1 else (None, head)
        return head


class _Reader:
    """What httptools calls."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: dict[bytes, bytes] = {}
        self.count = 0
        self.twice: bytes | None = None

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.count += 1
        name = name.lower()
        if name in self.headers and name in _SINGLE:
            self.twice = name
        known = self.headers.get(name)
        self.headers[name] = value if known is None else known + b", " + value


def read_head(data: bytes) -> Head:
    """The head of a request, given up to and with its empty line. Raises `BadHead`."""
    reader = _Reader()
    parser = httptools.HttpRequestParser(reader)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass  # an offer that may be ignored: Java's client makes it with every first request
    except httptools.HttpParserError as error:
        raise BadHead(400, f"not an HTTP/1.1 request: {error}") from None
    headers = reader.headers
    if reader.count > MAX_HEADERS:
        raise BadHead(431, f"more than {MAX_HEADERS} headers")
    if reader.twice is not None:
        raise BadHead(400, f"two {reader.twice.decode('latin-1')} headers")
    version = parser.get_http_version()
    if version not in ("1.0", "1.1"):
        raise BadHead(505, "this port speaks HTTP/1.1")
    if version == "1.1" and b"host" not in headers:
        raise BadHead(400, "no Host header")
    options = {option.strip() for option in headers.get(b"connection", b"").lower().split(b",")}
    keep_alive = b"close" not in options and (version == "1.1" or b"keep-alive" in options)
    head = Head(parser.get_method(), _path(reader.url), version, keep_alive, headers)
    _framing(head)
    return head


def _path(url: bytes) -> bytes:
    """The path as it was sent, nothing decoded or resolved: what is not spelled like a route is none."""
    if not url.startswith(b"/") and b"://" in url:  # what clients send to a proxy
        try:
            url = httptools.parse_url(url).path or b"/"
        except httptools.HttpParserInvalidURLError:
            raise BadHead(400, "not a URL") from None
    return url.partition(b"?")[0]


def _framing(head: Head) -> None:
    length, encoding = head.headers.get(b"content-length"), head.headers.get(b"transfer-encoding")
    if encoding is not None:
        if length is not None:
            raise BadHead(400, "both Content-Length and Transfer-Encoding")
        if encoding.strip().lower() != b"chunked":
            raise BadHead(501, "unknown Transfer-Encoding; understood is chunked")
        if head.version == "1.0":
            raise BadHead(400, "Transfer-Encoding in HTTP/1.0")
        head.chunked = True
    elif length is not None:
        length = length.strip()
        if not length.isdigit() or len(length) > 18:
            raise BadHead(400, "Content-Length is not a number")
        head.length = int(length)
