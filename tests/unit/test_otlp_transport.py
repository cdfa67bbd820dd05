"""How the OTLP exporters connect: TLS and mTLS, files that change, proxies, deadlines, broken connections, endless answers."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from collector.errors import Retryable
from exporters.otlp import Otlp, OtlpHttp
from exporters.otlp.transport import MAX_ANSWER, system_authorities
from tests.certificates import Authority
from tests.receivers_kit import config, running
from tests.spans_kit import request, span
from tests.vendor_kit import OK, Answer, Told, grpc_exporter, grpc_vendor, http_exporter, payloads, vendor

BODY = request(spans=[span() for _ in range(10)])
AUTHORITY, STRANGER = Authority("ours"), Authority("strangers")


def send(exporter: Otlp | OtlpHttp) -> None:
    for payload in payloads(exporter, BODY):
        exporter.send(payload)


def files(folder: Path) -> dict[str, Any]:
    """A certificate for either side, and who signed it."""
    (folder / "ca.pem").write_bytes(AUTHORITY.pem)
    return AUTHORITY.write(folder, "cert") | {"ca_file": str(folder / "ca.pem")}


def server_context(folder: Path, clients: Authority | None = None) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    written = AUTHORITY.write(folder, "server")
    made.load_cert_chain(written["cert_file"], written["key_file"])
    if clients is not None:
        made.verify_mode = ssl.CERT_REQUIRED
        (folder / "clients.pem").write_bytes(clients.pem)
        made.load_verify_locations(folder / "clients.pem")
    return made


# TLS ----------------------------------------------------------------------------------------------------------------


def test_https_with_an_authority_of_ones_own(tmp_path: Path) -> None:
    with vendor(tls=server_context(tmp_path)) as there:
        exporter = http_exporter(there.address, tls={"ca_file": files(tmp_path)["ca_file"]})
        send(exporter)
        exporter.close()
    assert len(there.got) == 1


def test_a_certificate_that_nobody_trusted_signed_is_refused_and_nothing_is_sent(tmp_path: Path) -> None:
    with vendor(tls=server_context(tmp_path)) as there:
        (tmp_path / "other.pem").write_bytes(STRANGER.pem)
        for tls in ({}, {"ca_file": str(tmp_path / "other.pem")}):
            exporter = http_exporter(there.address, tls=tls)
            with pytest.raises(Retryable, match="the certificate is not trusted"):
                send(exporter)
            exporter.close()
        exporter = http_exporter(there.address, tls={"insecure_skip_verify": True})
        send(exporter)
        exporter.close()
    assert len(there.got) == 1


def test_a_name_that_the_certificate_does_not_have_is_refused_unless_it_is_overridden(tmp_path: Path) -> None:
    with vendor(tls=server_context(tmp_path)) as there:
        address = there.address.replace("localhost", "127.0.0.1")
        ca = {"ca_file": files(tmp_path)["ca_file"]}
        exporter = http_exporter(address, tls={**ca, "server_name_override": "elsewhere.example"})
        with pytest.raises(Retryable, match="not trusted"):
            send(exporter)
        exporter.close()
        exporter = http_exporter(address, tls={**ca, "server_name_override": "localhost"})
        send(exporter)
        exporter.close()
    assert there.got[0].headers["host"] == address.removeprefix("https://"), "only TLS gets the other name"


def test_mutual_tls(tmp_path: Path) -> None:
    with vendor(tls=server_context(tmp_path, clients=AUTHORITY)) as there:
        own = files(tmp_path)
        exporter = http_exporter(there.address, tls={"ca_file": own["ca_file"]})
        with pytest.raises(Retryable):
            send(exporter)
        exporter.close()
        exporter = http_exporter(there.address, tls=own)
        send(exporter)
        exporter.close()
    assert len(there.got) == 1


@pytest.mark.parametrize("mutual", [False, True])
def test_grpc_with_tls(tmp_path: Path, mutual: bool) -> None:
    key, certificate = AUTHORITY.issue()
    credentials = grpc.ssl_server_credentials([(key, certificate)], AUTHORITY.pem if mutual else None, mutual)
    own = files(tmp_path)
    with grpc_vendor(credentials=credentials) as there:
        exporter = grpc_exporter(there.address, tls=own if mutual else {"ca_file": own["ca_file"]})
        send(exporter)
        exporter.close()
        for tls in ({"insecure": True}, {}):
            exporter = grpc_exporter(there.address, tls=tls)
            with pytest.raises(Retryable):
                send(exporter)
            exporter.close()
    assert len(there.got) == 1


def test_a_scheme_stands_above_insecure(tmp_path: Path) -> None:
    assert str(grpc_exporter("https://h:1", tls={"insecure": True})) == "https://h:1"
    assert str(grpc_exporter("http://h:1", tls={})) == "http://h:1"
    assert str(grpc_exporter("h:1", tls={})) == "https://h:1"
    with grpc_vendor() as there:
        exporter = grpc_exporter(f"http://{there.address}", tls={})
        send(exporter)
        exporter.close()
    assert len(there.got) == 1


def test_certificates_that_change_are_read_again(tmp_path: Path) -> None:
    """A rotated client certificate is used without a restart; while files are missing the delivery waits."""
    with vendor(tls=server_context(tmp_path, clients=AUTHORITY)) as there:
        own = files(tmp_path)
        wrong = STRANGER.write(tmp_path, "wrong")
        shutil.copy(own["cert_file"], tmp_path / "good.pem")
        shutil.copy(own["key_file"], tmp_path / "good.key")
        shutil.copy(wrong["cert_file"], own["cert_file"])
        shutil.copy(wrong["key_file"], own["key_file"])
        exporter = http_exporter(there.address, tls={**own, "reload_interval": 0.1})
        with pytest.raises(Retryable):
            send(exporter)
        os.replace(tmp_path / "good.pem", own["cert_file"])
        os.replace(tmp_path / "good.key", own["key_file"])
        time.sleep(0.11)
        send(exporter)
        os.unlink(own["ca_file"])
        time.sleep(0.11)
        with pytest.raises(Retryable, match=r"tls\.ca_file cannot be used"):
            send(exporter)
        (tmp_path / "ca.pem").write_bytes(AUTHORITY.pem)
        time.sleep(0.11)
        send(exporter)
        exporter.close()
    assert len(there.got) == 2


def test_the_systems_authorities_are_found() -> None:
    assert Path(system_authorities()).read_text().count("BEGIN CERTIFICATE") > 10


# Headers from files -------------------------------------------------------------------------------------------------


def test_headers_from_files_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As secrets are mounted and rotated; a file that is missing or wrong holds the delivery, and is not quoted."""
    monkeypatch.setattr("exporters.otlp.headers._LOOK_EVERY_S", 0.0)
    key = tmp_path / "key"
    with vendor() as there:
        exporter = http_exporter(there.address, headers={"Authorization": {"file": str(key), "prefix": "Bearer "}})
        with pytest.raises(Retryable, match=r"headers\.Authorization\.file: cannot read"):
            send(exporter)
        key.write_text("first-key\n")
        send(exporter)
        key.write_text("two\nlines")
        with pytest.raises(Retryable, match="one line of printable ASCII") as raised:
            send(exporter)
        assert "lines" not in str(raised.value).replace("one line", "")
        key.write_text("second-key")
        send(exporter)
        exporter.close()
    assert [got.headers["authorization"] for got in there.got] == ["Bearer first-key", "Bearer second-key"]


# Broken connections -------------------------------------------------------------------------------------------------


def test_nobody_listens() -> None:
    for exporter in (http_exporter("http://127.0.0.1:1"), grpc_exporter("127.0.0.1:1")):
        with pytest.raises(Retryable, match=r"127\.0\.0\.1:1: cannot connect"):
            send(exporter)
        exporter.close()


def test_a_host_without_a_name() -> None:
    exporter = http_exporter("http://nowhere.invalid")
    with pytest.raises(Retryable, match="the host's name is not known"):
        send(exporter)
    exporter.close()


@pytest.mark.parametrize(
    ("misdeed", "text"),
    [("hang", "no answer in time"), ("trickle", "no answer in time"), ("reset", "the connection broke"), ("close", "without an answer")],
)  # fmt: skip
def test_a_vendor_that_does_not_answer_is_tried_again(misdeed: str, text: str) -> None:
    """Also one that sends a header line now and then: the deadline is over the whole. Afterwards a new connection works."""
    with vendor(Answer(misdeed=misdeed), OK) as there:
        exporter = http_exporter(there.address, timeout=0.4)
        started = time.monotonic()
        with pytest.raises(Retryable, match=text):
            send(exporter)
        assert time.monotonic() - started < 2
        send(exporter)
        exporter.close()
    assert len(there.got) == 2


def test_a_connection_that_was_closed_while_it_was_idle_costs_no_attempt() -> None:
    with vendor(Answer(headers={"Connection": "close"}), OK) as there:
        exporter = http_exporter(there.address)
        send(exporter)
        send(exporter)
        exporter.close()
    assert there.connections == 2


def test_a_grpc_server_that_hangs_or_goes_away() -> None:
    with grpc_vendor(Told(delay=1.0), Told()) as there:
        exporter = grpc_exporter(there.address, timeout=0.3)
        with pytest.raises(Retryable):
            send(exporter)
        send(exporter)
        port = int(there.address.rpartition(":")[2])
    with pytest.raises(Retryable):
        send(exporter)
    with grpc_vendor(port=port) as again:
        send(exporter)
        exporter.close()
    assert len(again.got) == 1


def test_an_answer_without_an_end_is_cut_off() -> None:
    """An error is judged by its status, a success is one: nobody fills our memory."""
    with vendor(Answer(503, {}, b"x" * (MAX_ANSWER + 10)), Answer(200, {}, b"x" * (MAX_ANSWER + 10)), OK) as there:
        exporter = http_exporter(there.address)
        with pytest.raises(Retryable, match="503"):
            send(exporter)
        send(exporter)
        send(exporter)
        exporter.close()
    assert len(there.got) == 3


def test_a_grpc_answer_that_is_too_long_is_tried_again() -> None:
    with grpc_vendor(Told(message=b"x" * (MAX_ANSWER + 10)), Told()) as there:
        exporter = grpc_exporter(there.address)
        with pytest.raises(Retryable, match="longer than 4 MiB"):
            send(exporter)
        send(exporter)
        exporter.close()
    assert len(there.got) == 2


# Proxies ------------------------------------------------------------------------------------------------------------


@contextmanager
def proxy() -> Iterator[tuple[str, list[str]]]:
    """A proxy that knows CONNECT; where it was asked to connect to. `vendor.test` is this machine."""
    listener = socket.create_server(("127.0.0.1", 0))
    asked: list[str] = []

    def pump(one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                other.sendall(data)
        except OSError:
            pass
        finally:
            other.close()

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(4096)
            asked.append(head.split(b"\r\n")[0].decode())
            port = int(head.split(b" ")[1].rpartition(b":")[2])
            upstream = socket.create_connection(("127.0.0.1", port))
            client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            for pair in ((client, upstream), (upstream, client)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
    finally:
        listener.close()


def test_a_proxy_of_the_environment_is_used_for_both_protocols(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Except for what is on this machine, and for what NO_PROXY names."""
    with proxy() as (url, asked), vendor(tls=server_context(tmp_path)) as web, grpc_vendor() as rpc:
        monkeypatch.setenv("http_proxy", url)
        monkeypatch.setenv("https_proxy", url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        web_port, rpc_port = web.address.rpartition(":")[2], rpc.address.rpartition(":")[2]
        exporter: Any = http_exporter(f"https://vendor.test:{web_port}", tls={"insecure_skip_verify": True})
        send(exporter)
        exporter.close()
        exporter = grpc_exporter(f"vendor.test:{rpc_port}")
        send(exporter)
        exporter.close()
        assert [line.split()[:2] for line in asked] == [
            ["CONNECT", f"vendor.test:{web_port}"],
            ["CONNECT", f"vendor.test:{rpc_port}"],
        ]
        exporter = grpc_exporter(rpc.address)
        send(exporter)
        exporter.close()
        monkeypatch.setenv("no_proxy", "vendor.test")
        exporter = grpc_exporter(f"vendor.test:{rpc_port}")
        with pytest.raises(Retryable, match="name is not known"):
            send(exporter)
        exporter.close()
    assert len(asked) == 2
    assert len(web.got) == 1
    assert len(rpc.got) == 2


# Our own receiver ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_spanledgers_own_receiver_takes_both_protocols(compression: str) -> None:
    """zstd over gRPC too, which grpcio's server does not know."""
    with running(config()) as there:
        web: Any = http_exporter(f"http://{there.http}", compression=compression, attributes=False)
        rpc: Any = grpc_exporter(there.grpc, compression=compression, attributes=False)
        for exporter in (web, rpc):
            send(exporter)
            send(exporter)
            exporter.close()
        assert there.intake.bodies == [BODY] * 4


def test_a_receiver_that_asks_for_a_token_and_gets_it_later() -> None:
    with running(config(grpc={"auth": {"token": "right-token"}})) as there:
        exporter = grpc_exporter(there.grpc, headers={"authorization": "Bearer wrong-token"})
        with pytest.raises(Retryable, match="UNAUTHENTICATED: the token is not known here"):
            send(exporter)
        exporter.close()
        exporter = grpc_exporter(there.grpc, headers={"authorization": "Bearer right-token"})
        send(exporter)
        exporter.close()
        assert len(there.intake.bodies) == 1
