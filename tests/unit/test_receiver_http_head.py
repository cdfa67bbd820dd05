"""Heads and chunks of HTTP/1: what can be read in two ways is refused, what honest clients send is taken."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.receivers.body import Body
from collector.receivers.http_chunks import BadChunk, Chunks
from collector.receivers.http_head import BadHead, HeadReader, read_head


def _head(*lines: str, start: str = "POST /v1/traces HTTP/1.1", host: str | None = "x") -> bytes:
    hosts = [] if host is None else [f"Host: {host}"]
    return "\r\n".join([start, *hosts, *lines, "", ""]).encode("latin-1")


@pytest.mark.parametrize(
    ("lines", "length", "chunked"),
    [
        (["Content-Length: 12"], 12, False),
        (["content-length:12"], 12, False),
        (["Content-Length: 0"], 0, False),
        ([], 0, False),
        (["Transfer-Encoding: chunked"], 0, True),
        (["Transfer-Encoding: Chunked "], 0, True),
    ],
)
def test_framing_is_read(lines: list[str], length: int, chunked: bool) -> None:
    head = read_head(_head(*lines))
    assert (head.length, head.chunked, head.method, head.path) == (length, chunked, b"POST", b"/v1/traces")


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["Content-Length: 5", "Transfer-Encoding: chunked"], 400),
        (["Transfer-Encoding: chunked", "Content-Length: 5"], 400),
        (["Content-Length: 5", "Content-Length: 5"], 400),
        (["Content-Length: 5", "Content-Length: 6"], 400),
        (["Content-Length: 5, 5"], 400),
        (["Content-Length: -1"], 400),
        (["Content-Length: +5"], 400),
        (["Content-Length: 0x5"], 400),
        (["Content-Length: 5 5"], 400),
        (["Content-Length: "], 400),
        (["Content-Length: 99999999999999999999"], 400),
        (["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], 400),
        (["Transfer-Encoding: gzip, chunked"], 501),
        (["Transfer-Encoding: identity"], 400),
        (["Transfer-Encoding: xchunked"], 400),
        (["Transfer-Encoding : chunked"], 400),
        (["Transfer-Encoding:\x0bchunked"], 400),
        (["Content-Type: application/json", "Content-Type: application/x-protobuf"], 400),
        (["Content-Encoding: gzip", "Content-Encoding: identity"], 400),
        (["Authorization: Bearer a", "Authorization: Bearer b"], 400),
        (["Host: y"], 400),
        (["X-A: a\0b"], 400),
        (["X-A: a\nX-B: b"], 400),
        (["X-A: a\rb"], 400),
        (["X A: b"], 400),
        ([": b"], 400),
        (["nothing"], 400),
        ([" folded: yes"], 400),
        ([f"X-{i}: 1" for i in range(200)], 431),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(lines: list[str], status: int) -> None:
    with pytest.raises(BadHead) as caught:
        read_head(_head(*lines))
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("start", "host", "status"),
    [
        ("POST /v1/traces HTTP/1.1", None, 400),
        ("POST /v1/traces HTTP/0.9", "x", 400),
        ("POST /v1/traces HTTP/2.0", "x", 400),
        ("POST /v1/traces HTTP/1.2", "x", 400),
        ("POST /v1/traces", "x", 400),
        ("POST  HTTP/1.1", "x", 400),
        ("BREW /v1/traces HTTP/1.1", "x", 400),
        ("POST /v1/ traces HTTP/1.1", "x", 400),
        ("POST /v1/tra\0ces HTTP/1.1", "x", 400),
        ("\x16\x03\x01\x02\x00\x01\x00", "x", 400),
    ],
)
def test_a_wrong_request_line_is_refused(start: str, host: str | None, status: int) -> None:
    with pytest.raises(BadHead) as caught:
        read_head(_head(start=start, host=host))
    assert caught.value.status in (status, 505)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/v1/traces", b"/v1/traces"),
        ("/v1/traces?x=1", b"/v1/traces"),
        ("http://gateway:4318/v1/traces", b"/v1/traces"),
        ("http://gateway:4318", b"/"),
        ("/v1/./traces", b"/v1/./traces"),
        ("/v1/%74races", b"/v1/%74races"),
        ("//v1/traces", b"//v1/traces"),
    ],
)
def test_the_path_is_taken_as_it_was_sent(url: str, path: bytes) -> None:
    assert read_head(_head(start=f"POST {url} HTTP/1.1")).path == path


@pytest.mark.parametrize(
    ("start", "lines", "keep"),
    [
        ("POST / HTTP/1.1", [], True),
        ("POST / HTTP/1.1", ["Connection: close"], False),
        ("POST / HTTP/1.1", ["Connection: TE", "Connection: Close"], False),
        ("POST / HTTP/1.0", [], False),
        ("POST / HTTP/1.0", ["Connection: keep-alive"], True),
    ],
)
def test_keep_alive(start: str, lines: list[str], keep: bool) -> None:
    assert read_head(_head(*lines, start=start)).keep_alive is keep


def test_the_offer_to_upgrade_that_java_makes_is_ignored() -> None:
    head = read_head(
        _head("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA", "Content-Length: 3")
    )
    assert head.length == 3


def test_a_connections_next_head_is_read_anew_where_more_than_the_length_differs() -> None:
    reader = HeadReader()
    heads = [
        _head("Content-Length: 5"),
        _head("Content-Length: 77"),
        _head("Content-Length: 77", "Content-Type: application/json"),
        _head("Content-Length: 8", "Content-Type: application/json"),
        _head("content-length: 9"),
        _head(),
        _head("Transfer-Encoding: chunked"),
        _head("Content-Length: 3", start="POST /v1/logs HTTP/1.1"),
        _head("Content-Length: 4", start="POST /v1/logs HTTP/1.1"),
    ]
    for data in heads:
        read, expected = reader.read(data), read_head(data)
        assert (read.length, read.path, read.chunked) == (expected.length, expected.path, expected.chunked)
        assert read.headers.get(b"content-type") == expected.headers.get(b"content-type")


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 5", "Content-Length: 5"],
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Content-Length: 5x"],
        ["Content-Length: 5", "X-A: a\0b"],
    ],
)
def test_what_is_remembered_lets_nothing_else_in(lines: list[str]) -> None:
    reader = HeadReader()
    reader.read(_head("Content-Length: 5"))
    for _ in range(2):
        with pytest.raises(BadHead):
            reader.read(_head(*lines))


# ── chunks ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=8),
    st.lists(st.integers(1, 30), max_size=60),
    st.sampled_from([b"", b";ext", b'; a="b"', b" "]),
    st.sampled_from([b"", b"X-Checksum: 1\r\n"]),
)
@settings(deadline=None, max_examples=150)
def test_chunks_come_out_whole_however_they_are_cut(
    pieces: list[bytes], cuts: list[int], extension: bytes, trailer: bytes
) -> None:
    wire = b"".join(b"%X%s\r\n%s\r\n" % (len(p), extension, p) for p in pieces) + b"0\r\n" + trailer + b"\r\n" + b"REST"
    chunks, found, position = Chunks(), [], 0
    for cut in [*cuts, len(wire)]:
        found += chunks.feed(wire[position : position + cut])
        position += cut
        if chunks.rest is not None:
            break
    assert b"".join(found) == b"".join(pieces)
    assert chunks.rest is not None
    assert b"REST".startswith(chunks.rest)


@pytest.mark.parametrize(
    "wire",
    [
        b"-5\r\nhello\r\n", b"+5\r\nhello\r\n", b"0x5\r\nhello\r\n", b"g\r\n", b"\r\n", b" 5\r\nhello\r\n", b"5\r\nhelloX\r\n",
        b"5\r\nhello\n0\r\n\r\n", b"123456789\r\n", b"5;a\x00\r\nhello\r\n", b"5 5\r\nhello\r\n", b"5" * 3000,
        b"0\r\n" + b"a: b\r\n" * 3000,
    ],
)  # fmt: skip
def test_what_is_no_chunk_is_refused(wire: bytes) -> None:
    with pytest.raises(BadChunk):
        Chunks().feed(wire)


@given(st.lists(st.tuples(st.integers(0, 255), st.sampled_from([0, 1, 7, 4095, 4096, 5000])), max_size=12))
@settings(deadline=None, max_examples=50)
def test_a_body_is_its_pieces_in_order(made_of: list[tuple[int, int]]) -> None:
    pieces = [bytes((octet,)) * size for octet, size in made_of]
    body = Body()
    for piece in pieces:
        body.add(piece)
    assert body.size == sum(map(len, pieces))
    assert body.take() == b"".join(pieces)
    assert (body.size, body.take()) == (0, b"")
