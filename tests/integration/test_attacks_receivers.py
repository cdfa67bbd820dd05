"""Abuse of the receivers: each attack is refused or harmless, memory stays bounded, and ordinary senders are answered.

The receiver runs in a process of its own, so that its memory can be measured; its limits are small, so that the tests
are fast. Half of the attacks are data (`tests/receivers_attacks.py`).
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import os
import socket
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
import zstandard
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.receivers_attacks import HTTP_ATTACKS, HttpAttack
from tests.receivers_kit import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    EXPORT,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Http2,
    Served,
    body,
    call_headers,
    config,
    connect,
    frame,
    literal,
    message,
    post,
    raw,
    read_all,
    running,
    served,
)

MIB = 2**20
SIZE = 16 * MIB
IN_FLIGHT = 48 * MIB
OPTIONS = {
    "protocols": {
        "grpc": {"endpoint": "127.0.0.1:0", "max_recv_msg_size": SIZE, "read_timeout": "1500ms", "max_connections": 64},
        "http": {
            "endpoint": "127.0.0.1:0", "max_request_body_size": SIZE, "read_header_timeout": "1s", "read_timeout": "2s",
            "idle_timeout": "3s", "max_connections": 64,
        },
    },
    "limits": {"max_in_flight_size": IN_FLIGHT, "max_in_flight_requests": 400},
}  # fmt: skip
#: What may come on top of the bytes in flight: two bodies that are being inflated, each once more as it is put together,
#: and what the allocator keeps.
SLACK_MIB = 150


@pytest.fixture(scope="module")
def victim() -> Iterator[Served]:
    """A receiver that has seen ordinary requests of each kind before it is attacked."""
    with served(OPTIONS) as found:
        for _ in range(3):
            _ordinary(found)
        yield found


@pytest.fixture(autouse=True)
def _unharmed(victim: Served) -> Iterator[None]:
    """Around every attack: memory does not grow beyond what may be in flight, and ordinary senders are answered."""
    victim.forget_peak()
    before = victim.memory
    yield
    _ordinary(victim)
    assert victim.peak - before < IN_FLIGHT / MIB + SLACK_MIB, "memory"


def _ordinary(victim: Served, seconds: float = 5.0) -> None:
    began = time.monotonic()
    assert post(victim.http, body(), timeout=seconds).status == 200
    compressed = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
    assert post(victim.http, gzip.compress(body(300)), compressed, timeout=seconds).status == 200
    with Http2(victim.grpc) as client:
        client.open(1)
        client.send(frame(DATA, END_STREAM, 1, message(body())))
        assert b"grpc-status\x010" in client.trailers(1, seconds)
    assert time.monotonic() - began < seconds


# ── HTTP, as data ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("attack", HTTP_ATTACKS, ids=lambda attack: attack.name)
def test_http(victim: Served, attack: HttpAttack) -> None:
    answer = raw(victim.http, attack.wire, 6.0)
    answers = [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:] if part[:3].isdigit()]
    assert len(answers) <= attack.answered, answers
    assert (answers or [0])[0] in attack.answers, answer[:200]


# ── slowness and numbers ────────────────────────────────────────────────────────────────────────────────────────────


def test_slow_headers_are_cut(victim: Served) -> None:
    with connect(victim.http) as sender:
        began = time.monotonic()
        answer = _drip(sender, b"POST /v1/traces HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 1000, 0.1)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - began < 3


def test_a_slow_body_is_cut(victim: Served) -> None:
    with connect(victim.http) as sender:
        sender.sendall(
            b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n"
        )
        began = time.monotonic()
        answer = _drip(sender, b" " * 9999, 0.1)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"application/json" in answer
    assert time.monotonic() - began < 4


def _drip(sender: socket.socket, content: bytes, pause: float) -> bytes:
    """A few bytes at a time, until there is an answer."""
    sender.settimeout(pause)
    for start in range(0, len(content), 4):
        try:
            sender.sendall(content[start : start + 4])
            answer = sender.recv(4096)
        except TimeoutError:
            continue
        except ConnectionError:
            return b""
        return answer
    return b""


def test_silent_connections_are_closed(victim: Served) -> None:
    for address, seconds in ((victim.http, 2.5), (victim.grpc, 4.5)):
        with connect(address) as sender:
            began = time.monotonic()
            answer = read_all(sender, 10)
            assert time.monotonic() - began < seconds, address
            assert answer == b"" or answer.startswith(b"HTTP/1.1 408 ")


def test_a_thousand_connections_do_not_lock_anybody_out(victim: Served) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(500):
            for address in (victim.http, victim.grpc):
                sender = stack.enter_context(connect(address))
                if number % 2:
                    with contextlib.suppress(ConnectionError):
                        sender.sendall(b"POST /v1/traces HTTP/1.1\r\nHo" if address is victim.http else PREFACE[:10])
        _ordinary(victim)


def test_three_hundred_stalled_bodies_do_not_lock_anybody_out(victim: Served) -> None:
    head = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 16000000\r\n\r\n"
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            with contextlib.suppress(ConnectionError):
                stack.enter_context(connect(victim.http)).sendall(head + b"\n" * 1000)
        _ordinary(victim)


def test_large_bodies_that_are_held_back_give_way(victim: Served) -> None:
    """Each sends 15 of 16 MB and stops: together four times what may be in flight."""
    head = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 16000000\r\n\r\n"
    content = head + b"\n" * 15_000_000
    with contextlib.ExitStack() as stack:
        senders = [stack.enter_context(connect(victim.http)) for _ in range(14)]

        def send(sender: socket.socket) -> None:
            with contextlib.suppress(ConnectionError, TimeoutError):
                sender.sendall(content)

        with ThreadPoolExecutor(14) as pool:
            list(pool.map(send, senders))
        _ordinary(victim)


def test_large_messages_that_are_held_back_give_way(victim: Served) -> None:
    """The same over gRPC, two streams on each of seven connections."""
    content = message(b"\n" * 16_000_000)[:15_000_000]
    with contextlib.ExitStack() as stack:

        def send(client: Http2) -> None:
            with contextlib.suppress(ConnectionError, TimeoutError):
                for stream in (1, 3):
                    client.open(stream)
                    client.send(
                        b"".join(
                            frame(DATA, 0, stream, content[n : n + 16_000]) for n in range(0, len(content), 16_000)
                        )
                    )

        with ThreadPoolExecutor(7) as pool:
            list(pool.map(send, [stack.enter_context(Http2(victim.grpc)) for _ in range(7)]))
        _ordinary(victim)


def test_many_bombs_at_once_do_not_add_up(victim: Served) -> None:
    bombs = {
        "gzip": gzip.compress(b"\0" * 2**26),
        "zstd": zstandard.compress(b"\0" * 2**26),
    }

    def send(number: int) -> int:
        encoding = ("gzip", "zstd")[number % 2]
        headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": encoding}
        return post(victim.http, bombs[encoding], headers, timeout=60).status

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(send, range(32))) <= {413, 503}


def test_senders_that_go_before_they_are_answered_leave_nothing_behind(victim: Served) -> None:
    """What is still worked on for them counts as in flight, so that coming and going does not get around the bound."""
    content = gzip.compress(b"\0" * 15_000_000)
    wire = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Encoding: gzip\r\n"
    wire += b"Content-Length: %d\r\n\r\n" % len(content) + content
    for _ in range(100):
        with connect(victim.http) as sender:
            sender.sendall(wire)
    with Http2(victim.grpc) as client:
        for stream in range(1, 81, 2):
            client.open(stream, EXPORT, (b"grpc-encoding", b"gzip"))
            client.send(frame(DATA, END_STREAM, stream, message(content, compressed=True)))
            client.send(frame(RST_STREAM, 0, stream, b"\0\0\0\x08"))


def test_half_a_million_one_byte_chunks_cost_no_more_than_their_bytes(victim: Served) -> None:
    head = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nTransfer-Encoding: chunked\r\n\r\n"
    began = victim.memory
    answer = raw(victim.http, head + b"1\r\n\n\r\n" * 500_000 + b"0\r\n\r\n", 10)
    assert answer[:13] in (b"HTTP/1.1 400 ", b"HTTP/1.1 408 ")
    assert victim.peak - began < 64


def test_a_sender_that_never_reads_its_answers_is_paused(victim: Served) -> None:
    wire = b"GET /v1/traces HTTP/1.1\r\nHost: x\r\n\r\n" * 2000
    before = victim.memory
    with connect(victim.http, 2.0) as sender, contextlib.suppress(TimeoutError, ConnectionError):
        for _ in range(60):
            sender.sendall(wire)
    assert victim.peak - before < 40


# ── gRPC and HTTP/2 ─────────────────────────────────────────────────────────────────────────────────────────────────


def _export_error(victim: Served, content: bytes, **options: object) -> grpc.RpcError:
    with grpc.insecure_channel(victim.grpc) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(EXPORT)(content, timeout=20, **options)
    return caught.value


def test_an_oversized_grpc_message(victim: Served) -> None:
    assert _export_error(victim, b"\n" * (SIZE + 1)).code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_compressed_grpc_bomb(victim: Served) -> None:
    error = _export_error(victim, b"\0" * 2**25, compression=grpc.Compression.Gzip)
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "after inflating" in (error.details() or "")


def test_many_grpc_bombs_at_once_do_not_add_up(victim: Served) -> None:
    bomb = message(gzip.compress(b"\0" * 2**26), compressed=True)
    with Http2(victim.grpc) as client:
        for stream in range(1, 81, 2):
            client.open(stream, EXPORT, (b"grpc-encoding", b"gzip"))
            for start in range(0, len(bomb), 16_000):
                last = start + 16_000 >= len(bomb)
                client.send(frame(DATA, END_STREAM if last else 0, stream, bomb[start : start + 16_000]))
        answers = (p for kind, flags, _, p in client.frames(30) if kind == HEADERS and flags & END_STREAM)
        ended = list(itertools.islice(answers, 40))
    assert len(ended) == 40
    assert all(b"grpc-status\x018" in p or b"grpc-status\x0214" in p for p in ended)


@pytest.mark.parametrize(
    "sent", [b"", message(b"\n" * 5000)[:3], message(b"\n" * 5000)[:3000]], ids=["nothing", "prefix", "half"]
)
def test_stalled_grpc_calls_do_not_block_others(victim: Served, sent: bytes) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Http2(victim.grpc)) for _ in range(10)]
        for client in clients:
            for stream in range(1, 101, 2):
                client.open(stream)
                if sent:
                    client.send(frame(DATA, 0, stream, sent))
            client.send(frame(PING, 0, 0, bytes(8)))
        # All of it is read by now: no more of them come between the headers of an ordinary call and its message.
        assert all(any(kind == PING for kind, *_ in client.frames(10)) for client in clients)
        _ordinary(victim)
        # They are cut, too.
        assert b"grpc-status" in clients[-1].trailers(99, 6.0)


def test_a_flood_of_health_watches(victim: Served) -> None:
    channels = [grpc.insecure_channel(victim.grpc, [("test", n)]) for n in range(20)]
    watching = [
        health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        for channel in channels
        for _ in range(60)
    ]
    time.sleep(1.0)
    _ordinary(victim)
    with grpc.insecure_channel(victim.grpc) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=3)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    for call in watching:
        call.cancel()
    for channel in channels:
        channel.close()
    # Those that went made room for others.
    with grpc.insecure_channel(victim.grpc) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=5)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()


def _block(*fields: tuple[bytes, bytes]) -> bytes:
    return b"".join(literal(*field) for field in fields)


PROTOCOL_ERROR, FLOW_CONTROL, STREAM_CLOSED, FRAME_SIZE, COMPRESSION, CALM = 1, 3, 5, 6, 9, 11
GREETING = PREFACE + frame(SETTINGS, 0, 0)
OPEN = frame(HEADERS, END_HEADERS, 1, call_headers())

#: Frames, and the error codes of the GOAWAY that may answer them; None: the connection may also just go on or close.
HTTP2_ATTACKS: list[tuple[str, bytes, set[int | None]]] = [
    ("no settings first", PREFACE + OPEN, {PROTOCOL_ERROR}),
    ("a frame of 16 MiB", GREETING + b"\xff\xff\xff\x01\x04\x00\x00\x00\x01", {FRAME_SIZE}),
    ("settings of a wrong length", PREFACE + frame(SETTINGS, 0, 0, b"12345"), {FRAME_SIZE}),
    ("settings on a stream", PREFACE + frame(SETTINGS, 0, 1), {FRAME_SIZE, PROTOCOL_ERROR}),
    ("a window beyond 2^31", GREETING + frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff") * 2, {FLOW_CONTROL}),
    ("a window update of zero", GREETING + frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\0"), {FLOW_CONTROL, PROTOCOL_ERROR}),
    ("an initial window beyond 2^31", PREFACE + frame(SETTINGS, 0, 0, b"\x00\x04\xff\xff\xff\xff"), {FLOW_CONTROL}),
    ("a frame size of one", PREFACE + frame(SETTINGS, 0, 0, b"\x00\x05\x00\x00\x00\x01"), {PROTOCOL_ERROR}),
    ("headers on stream 0", GREETING + frame(HEADERS, END_HEADERS, 0, call_headers()), {PROTOCOL_ERROR, STREAM_CLOSED}),
    ("headers on an even stream", GREETING + frame(HEADERS, END_HEADERS, 2, call_headers()), {PROTOCOL_ERROR, STREAM_CLOSED}),
    ("data on a stream that is none", GREETING + frame(DATA, 0, 7, b"x"), {STREAM_CLOSED, PROTOCOL_ERROR}),
    ("data on stream 0", GREETING + frame(DATA, 0, 0, b"x"), {STREAM_CLOSED, PROTOCOL_ERROR}),
    ("more padding than data", GREETING + OPEN + frame(DATA, 0x8, 1, b"\xffab"), {PROTOCOL_ERROR}),
    ("a continuation of nothing", GREETING + frame(CONTINUATION, END_HEADERS, 1, b""), {PROTOCOL_ERROR}),
    ("a ping in the middle of headers", GREETING + frame(HEADERS, 0, 1, b"") + frame(PING, 0, 0, b"12345678"), {PROTOCOL_ERROR}),
    ("headers that are not HPACK", GREETING + frame(HEADERS, END_HEADERS, 1, b"\xff" * 20), {COMPRESSION}),
    ("a push from a client", GREETING + frame(5, 4, 1, b"\0\0\0\2"), {PROTOCOL_ERROR}),
    (
        "continuations without end",
        GREETING + frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, 0, 1, b"x" * 8000) * 500, {CALM},
    ),
    (
        "empty continuations without end",
        GREETING + frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, 0, 1, b"") * 20_000, {CALM},
    ),
    ("headers of a megabyte", GREETING + frame(HEADERS, END_HEADERS, 1, _block((b"a", b"b" * 2**20))), {FRAME_SIZE, CALM}),
    (
        "an HPACK bomb",
        GREETING + frame(HEADERS, END_HEADERS, 1, b"\x40" + _block((b"n", b"v" * 4000))[1:] + b"\xbe" * 12_000),
        {COMPRESSION, CALM},
    ),
    (
        "rapid resets",
        GREETING + b"".join(
            frame(HEADERS, END_HEADERS, n, call_headers()) + frame(RST_STREAM, 0, n, b"\0\0\0\x08") for n in range(1, 30_000, 2)
        ),
        {CALM},
    ),
    ("pings without end", GREETING + frame(PING, 0, 0, b"12345678") * 30_000, {CALM}),
    ("settings without end", PREFACE + frame(SETTINGS, 0, 0) * 30_000, {CALM}),
    ("empty data without end", GREETING + OPEN + frame(DATA, 0, 1) * 30_000, {CALM}),
    ("priorities without end", GREETING + frame(2, 0, 3, b"\0\0\0\0\x10") * 30_000, {CALM}),
    ("random bytes", bytes(range(1, 256)) * 100, {None}),
    ("random frames", GREETING + bytes(range(256)) * 400, {None, PROTOCOL_ERROR, FRAME_SIZE, STREAM_CLOSED, FLOW_CONTROL, COMPRESSION}),
    ("TLS on the plain port", bytes.fromhex("16030100a5010000a10303") + b"\xab" * 160, {None}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "wire", "codes"), HTTP2_ATTACKS, ids=[name for name, _, _ in HTTP2_ATTACKS])
def test_http2(victim: Served, name: str, wire: bytes, codes: set[int | None]) -> None:
    with Http2(victim.grpc, greet=False) as client:
        with contextlib.suppress(ConnectionError, TimeoutError):
            client.send(wire)
        assert client.goodbye(4.0) in codes


def test_random_frames_are_never_too_much(victim: Served) -> None:
    chance = __import__("random").Random(7)
    for _ in range(150):
        wire = GREETING + OPEN
        for _ in range(30):
            kind, flags, stream = (
                chance.randrange(11),
                chance.choice((0, 1, 4, 5, 8, 0x20, 0x2D)),
                chance.choice((0, 1, 1, 3, 5)),
            )
            wire += frame(kind, flags, stream, chance.randbytes(chance.choice((0, 1, 4, 5, 6, 8, 40))))
        with Http2(victim.grpc, greet=False) as client, contextlib.suppress(ConnectionError):
            client.send(wire)
            client.goodbye(0.02)


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ([(b":method", b"GET"), (b":scheme", b"http"), (b":path", EXPORT.encode())], b":status\x03405"),
        ([(b":method", b"POST"), (b":scheme", b"http"), (b":path", EXPORT.encode()), (b"content-type", b"text/html")], b"415"),
        ([(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/../../x"), (b"content-type", b"application/grpc")], b"grpc-status\x0212"),
        ([(b":method", b"POST")], b"405"),
    ],
)  # fmt: skip
def test_calls_that_are_none(victim: Served, fields: list[tuple[bytes, bytes]], answer: bytes) -> None:
    with Http2(victim.grpc) as client:
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, _block(*fields)))
        assert answer in client.trailers(1)


def test_doubled_pseudo_headers_and_tokens_reset_the_stream(victim: Served) -> None:
    for double in ((b":path", b"/x"), (b"content-type", b"application/grpc"), (b"authorization", b"Bearer x")):
        with Http2(victim.grpc) as client:
            client.open(1, EXPORT, double, double)
            assert any(kind == RST_STREAM and id_ == 1 for kind, _, id_, _ in client.frames(1.0)), double


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (message(b"", False) + message(b"", False), b"\x013"),  # two messages
        (b"\x00\x00\x00", b"\x013"),  # a prefix that is cut short
        (message(b"abc")[:-1], b"\x013"),
        (b"\x02\x00\x00\x00\x00", b"\x013"),  # no such flag
        (message(gzip.compress(b""), True), b"\x013"),  # compressed, without an encoding
        (b"\x00\xff\xff\xff\xff", b"\x018"),  # 4 GiB announced
        (message(b"\xff\xff"), b"\x013"),
    ],
)
def test_messages_that_are_none(victim: Served, wire: bytes, status: bytes) -> None:
    with Http2(victim.grpc) as client:
        client.open(1)
        client.send(frame(DATA, END_STREAM, 1, wire))
        assert b"grpc-status" + status in client.trailers(1)


def test_a_call_without_a_message(victim: Served) -> None:
    with Http2(victim.grpc) as client:
        client.open(1, end=True)
        assert b"grpc-status\x013" in client.trailers(1)


def test_a_flood_of_new_streams_beyond_the_limit_is_refused(victim: Served) -> None:
    with Http2(victim.grpc) as client:
        for stream in range(1, 401, 2):
            client.open(stream)
        refused = sum(kind == RST_STREAM and p == b"\0\0\0\7" for kind, _, _, p in client.frames(0.5))
    assert refused == 100


def test_streams_whose_answers_are_never_read_are_cut(victim: Served) -> None:
    with Http2(victim.grpc, greet=False) as client:
        client.send(PREFACE + frame(SETTINGS, 0, 0, b"\x00\x04\x00\x00\x00\x00"))  # no window for any answer
        for stream in range(1, 101, 2):
            client.open(stream)
            client.send(frame(DATA, END_STREAM, stream, message(body())))
        cut = itertools.islice((kind for kind, _, _, _ in client.frames(8.0) if kind == RST_STREAM), 50)
        assert len(list(cut)) == 50


# ── tokens ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_token_nothing_of_a_body_is_kept() -> None:
    """Refused by its headers: neither does a bomb get inflated nor a large body get in."""
    auth = {"auth": {"clients": {f"c{n}": {"token": f"token-{n:04}"} for n in range(50)}}}
    with running(config(auth, auth)) as found:
        head = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 60000000\r\n\r\n"
        with connect(found.http) as sender:
            sender.sendall(head)
            assert read_all(sender, 3).startswith(b"HTTP/1.1 401 ")
        with Http2(found.grpc) as client:
            client.open(1)
            assert b"grpc-status\x0216" in client.trailers(1)
        bomb = gzip.compress(b"\0" * 2**26)
        headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
        assert post(found.http, bomb, headers).status == 401
        assert post(found.http, b"", {}, "/v1/traces?token=token-0001").status == 401
        for odd in ("Bearer token-0001, Bearer x", "Bearer", "Basic Og==", "bearer\ttoken-0001"):
            assert post(found.http, body(), {**headers, "Authorization": odd}).status == 401
        twice = raw(found.http, b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\nAuthorization: Bearer token-0001\r\nContent-Length: 0\r\n\r\n", 2)  # fmt: skip
        assert twice.startswith(b"HTTP/1.1 400 ")
        assert found.intake.bodies == []


def test_a_wrong_token_takes_as_long_wherever_it_is_wrong() -> None:
    from collector.errors import Unauthenticated
    from collector.receivers.auth import Auth
    from config.model import AuthConfig

    tokens = {f"c{n}": {"token": f"{n:032x}"} for n in range(200)}
    auth = Auth(AuthConfig.model_validate({"clients": tokens}), "auth")

    def cost(token: str) -> float:
        times = []
        for _ in range(60):
            began = time.perf_counter_ns()
            with contextlib.suppress(Unauthenticated):
                auth.client(f"Bearer {token}")
            times.append(time.perf_counter_ns() - began)
        return statistics.median(times)

    costs = [cost(t) for t in (f"{0:032x}", f"{199:032x}", f"{199:032x}"[:-1] + "x", "x" * 32)]
    assert max(costs) < 1.5 * min(costs) + 20_000


# ── TLS ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_garbage_and_silence_on_tls_ports(tmp_path: object) -> None:
    import http.client
    import pathlib
    import ssl

    from tests.certificates import Authority

    authority = Authority("x")
    tls = {"tls": authority.write(pathlib.Path(str(tmp_path)), "server")}
    with running(config(tls, tls)) as found, contextlib.ExitStack() as stack:
        for address in (found.http, found.grpc):
            for content in (
                b"\0" * 5000,
                b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                os.urandom(3000),
                PREFACE,
                b"\x16\x03\x01\xff\xff",
            ):
                sender = stack.enter_context(connect(address))
                with contextlib.suppress(ConnectionError):
                    sender.sendall(content)
            for _ in range(200):
                stack.enter_context(connect(address))
        context = ssl.create_default_context(cadata=authority.pem.decode())
        connection = http.client.HTTPSConnection(
            found.http.replace("127.0.0.1", "localhost"), timeout=5, context=context
        )
        connection.request("POST", "/v1/traces", body(), {"Content-Type": "application/x-protobuf"})
        assert connection.getresponse().status == 200
        connection.close()
        with grpc.secure_channel(
            found.grpc.replace("127.0.0.1", "localhost"), grpc.ssl_channel_credentials(authority.pem)
        ) as channel:
            assert channel.unary_unary(EXPORT)(body(), timeout=5) == b""
