"""Attacks, cut up and spoilt at random: no connection ends in an error of ours, none leaves anything in flight."""

from __future__ import annotations

import collections
import contextlib
import logging
import random
import socket
import time

import pytest

from tests.receivers_attacks import HTTP_ATTACKS
from tests.receivers_kit import (
    DATA,
    HEADERS,
    PREFACE,
    SETTINGS,
    WINDOW_UPDATE,
    body,
    call_headers,
    config,
    connect,
    frame,
    message,
    post,
    running,
)

_HTTP = [attack.wire[:2000] for attack in HTTP_ATTACKS] + [
    b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}" * 3,
    b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2;x=y\r\n\x0a\x00\r\n0\r\na: b\r\n\r\n",
]
_GREETING = PREFACE + frame(SETTINGS, 0, 0, b"\x00\x04\x00\x00\x00\x01")
_GRPC = [
    _GREETING + frame(HEADERS, 4, 1, call_headers()) + frame(DATA, 1, 1, message(body(3))),
    _GREETING
    + frame(HEADERS, 0x2C, 1, b"\x03\0\0\0\0\x10" + call_headers() + b"\0\0\0")
    + frame(DATA, 9, 1, b"\x02" + message(body()) + b"\0\0")
    + frame(WINDOW_UPDATE, 0, 1, b"\0\0\1\0"),
    _GREETING
    + frame(HEADERS, 4, 1, call_headers("/grpc.health.v1.Health/Watch"))
    + frame(DATA, 1, 1, message(b""))
    + frame(3, 0, 1, b"\0\0\0\x08"),
    _GREETING + b"".join(frame(kind, 0, 1, b"\0" * size) for kind in range(11) for size in (4, 5, 8)),
]


def _spoil(chance: random.Random, wire: bytes) -> bytes:
    spoilt = bytearray(wire)
    for _ in range(chance.choice((0, 1, 1, 2, 5, 20))):
        at = chance.randrange(len(spoilt)) if spoilt else 0
        match chance.randrange(4):
            case 0:
                spoilt[at : at + 1] = chance.randbytes(1)
            case 1:
                del spoilt[at : at + chance.randrange(1, 30)]
            case 2:
                spoilt[at:at] = spoilt[at : at + chance.randrange(1, 60)]
            case _:
                spoilt[at:at] = chance.randbytes(chance.randrange(1, 8))
    return bytes(spoilt)


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_comes_nothing_breaks_and_nothing_stays(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    chance = random.Random(seed)
    quick = {"read_timeout": "500ms", "max_connections": 40}
    open_: collections.deque[socket.socket] = collections.deque()
    with caplog.at_level(logging.ERROR), running(config(quick, {**quick, "read_header_timeout": "500ms"})) as found:
        for _ in range(600):
            address, seeds = chance.choice(((found.http, _HTTP), (found.grpc, _GRPC)))
            wire = _spoil(chance, chance.choice(seeds))
            cut = chance.randrange(len(wire) + 1)
            sender = connect(address)
            open_.append(sender)
            with contextlib.suppress(OSError):
                sender.sendall(wire[:cut])
                sender.sendall(wire[cut:])
                if chance.random() < 0.3:
                    sender.shutdown(socket.SHUT_WR)
            if len(open_) > 60:
                open_.popleft().close()
        for sender in open_:
            sender.close()
        assert post(found.http, body()).status == 200
        until = time.monotonic() + 5
        while found.metrics.get_sample_value("spanledger_receiver_in_flight_requests", {"receiver": "otlp"}):
            assert time.monotonic() < until, "something stays in flight"
            time.sleep(0.05)
        assert found.metrics.get_sample_value("spanledger_receiver_in_flight_bytes", {"receiver": "otlp"}) == 0
    assert caplog.text == ""
