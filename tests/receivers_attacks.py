"""Attacks on the receivers, as data: what goes over the wire, and which answers are fine."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass

import zstandard

from tests.receivers_kit import body

_TYPE = "Content-Type: application/x-protobuf"
#: An inflated size far above every limit, and what is fast to make.
_LARGE = 2**26


@dataclass(frozen=True)
class HttpAttack:
    """Bytes for the HTTP port. `answers`: statuses one of which must come; 0 is a connection closed without a word.
    `answered`: how many answers may come at most, so that a hidden second request is not answered."""

    name: str
    wire: bytes
    answers: tuple[int, ...]
    answered: int = 1


def _post(*headers: str, content: bytes = b"", path: str = "/v1/traces", length: bool = True) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", *headers]
    if length:
        lines.append(f"Content-Length: {len(content)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + content


def _gzip_bomb() -> bytes:
    return gzip.compress(b"\0" * _LARGE, 9)


def _array(depth: int) -> bytes:
    """A value that is an array in an array …, as protobuf."""
    value = b"\x0a\x01x"
    for _ in range(depth):
        inner = b"\x0a" + _length(value) + value
        value = b"\x2a" + _length(inner) + inner
    return value


def _nested(depth: int) -> bytes:
    """A span's attribute value nested so deep."""
    value = _array(depth)
    attribute = b"\x0a\x01k\x12" + _length(value) + value
    span = b"\x0a\x10" + b"t" * 16 + b"\x12\x08" + b"s" * 8 + b"\x4a" + _length(attribute) + attribute
    scope = b"\x12" + _length(span) + span
    resource = b"\x12" + _length(scope) + scope
    return b"\x0a" + _length(resource) + resource


def _length(value: bytes) -> bytes:
    size, out = len(value), b""
    while size > 127:
        out, size = out + bytes((size & 127 | 128,)), size >> 7
    return out + bytes((size,))


def _empty_spans(count: int) -> bytes:
    scope = b"\x12\x00" * count
    resource = b"\x12" + _length(scope) + scope
    return b"\x0a" + _length(resource) + resource


def _attributes(count: int) -> bytes:
    """A request of one span with so many empty attributes."""
    span = b"\x0a\x10" + b"t" * 16 + b"\x12\x08" + b"s" * 8 + b"\x4a\x00" * count
    scope = b"\x12" + _length(span) + span
    resource = b"\x12" + _length(scope) + scope
    return b"\x0a" + _length(resource) + resource


def _item(content: bytes) -> bytes:
    """A request of one log record or one metric."""
    for tag in (b"\x12", b"\x12", b"\x0a"):
        content = tag + _length(content) + content
    return content


def _body_nested(depth: int) -> bytes:
    """A log record whose body is nested so deep."""
    value = _array(depth)
    return _item(b"\x2a" + _length(value) + value)


def _points(count: int) -> bytes:
    """A gauge of so many empty points."""
    points = b"\x0a\x00" * count
    return _item(b"\x2a" + _length(points) + points)


def _buckets(size: int) -> bytes:
    """An exponential histogram whose counts are one number without end."""
    counts = b"\x12" + _length(b"\xff" * size) + b"\xff" * size
    point = b"\x42" + _length(counts) + counts
    return _item(b"\x52" + _length(b"\x0a" + _length(point) + point) + b"\x0a" + _length(point) + point)


_HIDDEN = _post(_TYPE, content=b"")
_JSON = "Content-Type: application/json"

HTTP_ATTACKS: tuple[HttpAttack, ...] = (
    # bombs
    HttpAttack("gzip bomb", _post(_TYPE, "Content-Encoding: gzip", content=_gzip_bomb()), (413,)),
    HttpAttack(
        "gzip bomb in many members",
        _post(_TYPE, "Content-Encoding: gzip", content=gzip.compress(b"\0" * 2**22) * 20), (413,),
    ),
    HttpAttack(
        "a million empty gzip members", _post(_TYPE, "Content-Encoding: gzip", content=gzip.compress(b"") * 500_000), (413,)
    ),
    HttpAttack("deflate bomb", _post(_TYPE, "Content-Encoding: deflate", content=zlib.compress(b"\0" * _LARGE, 9)), (413,)),
    HttpAttack("zstd bomb", _post(_TYPE, "Content-Encoding: zstd", content=zstandard.compress(b"\0" * _LARGE)), (413,)),
    HttpAttack(
        "zstd frame that wants a window of 1 GiB",
        _post(_TYPE, "Content-Encoding: zstd", content=bytes.fromhex("28b52ffd00a0" "0100000a")), (413, 400),
    ),
    HttpAttack("bomb in a bomb", _post(_TYPE, "Content-Encoding: gzip, gzip", content=gzip.compress(_gzip_bomb())), (415,)),
    # work
    HttpAttack("values nested 60 deep", _post(_TYPE, content=_nested(60)), (400, 413)),
    HttpAttack("values nested 5,000 deep", _post(_TYPE, content=_nested(5000)), (400, 413)),
    HttpAttack("JSON nested 100,000 deep", _post(_JSON, content=b"[" * 100_000), (400,)),
    HttpAttack("JSON objects nested 100,000 deep", _post(_JSON, content=b'{"a":' * 100_000), (400,)),
    HttpAttack("JSON with a number of a million digits", _post(_JSON, content=b'{"a": ' + b"9" * 1_000_000 + b"}"), (200, 400)),
    HttpAttack("JSON of three million empty objects", _post(_JSON, content=b'{"resourceSpans": [' + b"{}," * 3_000_000 + b"{}]}"), (413,)),
    HttpAttack("a million empty spans", _post(_TYPE, content=_empty_spans(1_000_000)), (413,)),
    HttpAttack("a million empty resources", _post(_TYPE, content=b"\x0a\x00" * 1_000_000), (413,)),
    HttpAttack("three million attributes", _post(_TYPE, content=_attributes(3_000_000)), (413,)),
    # the same of logs and metrics
    HttpAttack("gzip bomb of logs", _post(_TYPE, "Content-Encoding: gzip", content=_gzip_bomb(), path="/v1/logs"), (413,)),
    HttpAttack("a log's body nested 60 deep", _post(_TYPE, content=_body_nested(60), path="/v1/logs"), (400, 413)),
    HttpAttack("a log's body nested 5,000 deep", _post(_TYPE, content=_body_nested(5000), path="/v1/logs"), (400, 413)),
    HttpAttack("a million empty log records", _post(_TYPE, content=_empty_spans(1_000_000), path="/v1/logs"), (413,)),
    HttpAttack("a million empty metrics", _post(_TYPE, content=_empty_spans(1_000_000), path="/v1/metrics"), (413,)),
    HttpAttack("a million empty points", _post(_TYPE, content=_points(1_000_000), path="/v1/metrics"), (413,)),
    HttpAttack("a bucket's count without end", _post(_TYPE, content=_buckets(1_000_000), path="/v1/metrics"), (400,)),
    HttpAttack("JSON of three million points", _post(_JSON, content=b'{"resourceMetrics": [' + b"{}," * 3_000_000 + b"{}]}", path="/v1/metrics"), (413,)),
    # lies about types
    HttpAttack("two content types", _post(_TYPE, _JSON, content=b"{}"), (400,)),
    HttpAttack("JSON said to be protobuf", _post(_TYPE, content=b'{"resourceSpans": []}'), (400,)),
    HttpAttack("protobuf said to be JSON", _post(_JSON, content=body()), (400,)),
    HttpAttack("unknown content type", _post("Content-Type: text/html", content=b"<x>"), (415,)),
    HttpAttack("unknown encoding", _post(_TYPE, "Content-Encoding: br", content=body()), (415,)),
    HttpAttack("two encodings", _post(_TYPE, "Content-Encoding: gzip", "Content-Encoding: identity", content=body()), (400,)),
    HttpAttack("garbage said to be gzip", _post(_TYPE, "Content-Encoding: gzip", content=b"\xff" * 500), (400,)),
    # framing
    HttpAttack(
        "Content-Length and Transfer-Encoding",
        _post(_TYPE, "Transfer-Encoding: chunked", "Content-Length: 5", content=b"0\r\n\r\n" + _HIDDEN, length=False), (400,),
    ),
    HttpAttack(
        "Transfer-Encoding and Content-Length",
        _post(_TYPE, "Content-Length: 5", "Transfer-Encoding: chunked", content=b"0\r\n\r\n" + _HIDDEN, length=False), (400,),
    ),
    HttpAttack("two lengths", _post(_TYPE, "Content-Length: 0", "Content-Length: 9", content=_HIDDEN, length=False), (400,)),
    HttpAttack("two equal lengths", _post(_TYPE, "Content-Length: 0", "Content-Length: 0", content=_HIDDEN, length=False), (400,)),
    HttpAttack("a negative length", _post(_TYPE, "Content-Length: -1", content=_HIDDEN, length=False), (400,)),
    HttpAttack("a length with a sign", _post(_TYPE, "Content-Length: +3", content=b"abc" + _HIDDEN, length=False), (400,)),
    HttpAttack("a length beyond 64 bits", _post(_TYPE, f"Content-Length: {2**64 + 1}", length=False), (400,)),
    HttpAttack("an announced exabyte", _post(_TYPE, f"Content-Length: {10**17}", length=False), (413,)),
    HttpAttack("Transfer-Encoding in disguise", _post(_TYPE, "Transfer-Encoding: xchunked", length=False), (400, 501)),
    HttpAttack("Transfer-Encoding behind a space", _post(_TYPE, "Transfer-Encoding : chunked", length=False), (400,)),
    HttpAttack("Transfer-Encoding folded", _post(_TYPE, "Transfer-Encoding:\r\n chunked", length=False), (400, 501)),
    HttpAttack("a chunk size that is none", _post(_TYPE, "Transfer-Encoding: chunked", content=b"xyz\r\n", length=False), (400,)),
    HttpAttack("a negative chunk size", _post(_TYPE, "Transfer-Encoding: chunked", content=b"-1\r\n", length=False), (400,)),
    HttpAttack(
        "a chunk of 2^63 bytes", _post(_TYPE, "Transfer-Encoding: chunked", content=b"8000000000000000\r\n", length=False), (400,)
    ),
    HttpAttack(
        "a chunk longer than it says",
        _post(_TYPE, "Transfer-Encoding: chunked", content=b"1\r\nabc\r\n0\r\n\r\n", length=False), (400,),
    ),
    HttpAttack(
        "a chunk extension of a megabyte",
        _post(_TYPE, "Transfer-Encoding: chunked", content=b"1;" + b"x" * 2**20, length=False), (400,),
    ),
    HttpAttack(
        "trailers without end",
        _post(_TYPE, "Transfer-Encoding: chunked", content=b"0\r\n" + b"a: b\r\n" * 100_000, length=False), (400,),
    ),
    HttpAttack(
        "a chunked body above the limit",
        _post(_TYPE, "Transfer-Encoding: chunked", content=(b"100000\r\n" + b"\n" * 2**20 + b"\r\n") * 20, length=False), (413,),
    ),
    # heads
    HttpAttack("a header of 8 MiB", b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 2**23, (431,)),
    HttpAttack("10,000 headers", _post(*(f"X-{i}: 1" for i in range(10_000))), (431,)),
    HttpAttack("1,000 short headers", _post(*(f"X-{i}: 1" for i in range(1000))), (431,)),
    HttpAttack("a URL of a megabyte", _post(_TYPE, path="/" + "a" * 2**20), (431,)),
    HttpAttack("NUL in a header", _post("X-A: a\0b"), (400,)),
    HttpAttack("a bare line feed in a header", _post("X-A: a\nX-B: b"), (400,)),
    HttpAttack("no Host", b"POST /v1/traces HTTP/1.1\r\nContent-Length: 0\r\n\r\n", (400,)),
    HttpAttack("two Hosts", _post("Host: y"), (400,)),
    HttpAttack("HTTP/2 on the HTTP port", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 100, (400, 505)),
    HttpAttack("TLS on the plain port", bytes.fromhex("16030100a5010000a10303") + b"\xab" * 160 + b"\r\n\r\n", (400,)),
    HttpAttack("line feeds without end", b"\r\n" * 500_000, (0, 408)),
    HttpAttack("random bytes", bytes(range(256)) * 400, (400, 431)),
    # paths
    *(
        HttpAttack(f"path {path}", _post(_TYPE, path=path), (400, 404))
        for path in (
            "/v1/traces/../../etc/passwd", "/v1/traces/", "//v1/traces", "/v1//traces", "/v1/traces%00", "/v1/traces;x",
            "/%76%31/traces", "/v1/traces\\", "/.%2e/v1/traces", "http://evil/v1/tracesx", "*",
        )
    ),
    HttpAttack("CONNECT", b"CONNECT 10.0.0.1:80 HTTP/1.1\r\nHost: x\r\n\r\n", (400, 404, 405)),
    HttpAttack("TRACE", b"TRACE /v1/traces HTTP/1.1\r\nHost: x\r\nCookie: secret\r\n\r\n", (400, 405)),
    HttpAttack("an expectation that is none", _post(_TYPE, "Expect: 200-ok", content=b""), (417,)),
)  # fmt: skip
