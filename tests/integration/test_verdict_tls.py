"""TLS on the verdict ports, by clients that check: who is served, who is not, and new certificates without a restart."""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path
from typing import Any

import grpc
import pytest

from collector.errors import SpanledgerError
from tests.certificates import Authority
from tests.pipeline_kit import wait_for
from tests.unit.test_verdict import field, pair, serving

REFUSED = (OSError, grpc.RpcError, http.client.HTTPException)


def ask(running: Any, authority: Path, client: dict[str, str] | None = None) -> int:
    """Over HTTP, as `broke`: the status."""
    context = ssl.create_default_context(cafile=str(authority))
    if client is not None:
        context.load_cert_chain(client["cert_file"], client["key_file"])
    connection = http.client.HTTPSConnection(running.http, timeout=5, context=context)
    try:
        connection.request("GET", "/v1/verdict?team=broke")
        return connection.getresponse().status
    finally:
        connection.close()


def check(running: Any, authority: Path, client: dict[str, str] | None = None) -> bytes:
    """Over gRPC, as `broke`: the answer."""
    files = {name: Path(path).read_bytes() for name, path in (client or {}).items()}
    secret = grpc.ssl_channel_credentials(authority.read_bytes(), files.get("key_file"), files.get("cert_file"))
    with grpc.secure_channel(running.grpc, secret) as channel:
        call: Any = channel.unary_unary("/envoy.service.auth.v3.Authorization/Check")
        answer: bytes = call(field(1, pair(10, "team", b"broke")), timeout=5)
    return answer


def works(running: Any, *how: Any) -> bool:
    try:
        return ask(running, *how) == 429 and b"budget_exceeded" in check(running, *how)
    except REFUSED:
        return False


def written(folder: Path, name: str) -> tuple[Authority, Path]:
    authority = Authority(name)
    (folder / f"{name}-ca.pem").write_bytes(authority.pem)
    return authority, folder / f"{name}-ca.pem"


def test_certificates_are_shown_and_exchanged_without_a_restart(tmp_path: Path) -> None:
    (first, first_ca), (second, second_ca) = written(tmp_path, "first"), written(tmp_path, "second")
    tls = {**first.write(tmp_path, "server"), "reload_interval": "100ms"}
    with serving(grpc_endpoint="127.0.0.1:0", tls=tls) as running:
        assert works(running, first_ca)
        with pytest.raises(ssl.SSLError):
            ask(running, second_ca)
        with pytest.raises(grpc.RpcError):
            check(running, second_ca)
        Path(tls["cert_file"]).write_text("half of it")  # what does not fit together leaves the old ones in use
        assert works(running, first_ca)
        second.write(tmp_path, "server")
        wait_for(lambda: works(running, second_ca))
        with pytest.raises(ssl.SSLError):
            ask(running, first_ca)


def test_with_an_authority_of_clients_only_those_it_signed_are_answered(tmp_path: Path) -> None:
    (ours, ca), (others, others_ca) = written(tmp_path, "ours"), written(tmp_path, "others")
    trusted = tmp_path / "clients.pem"
    trusted.write_bytes(ours.pem)
    tls = {**ours.write(tmp_path, "server"), "client_ca_file": str(trusted), "reload_interval": "100ms"}
    friend, stranger = ours.write(tmp_path, "friend"), others.write(tmp_path, "stranger")
    with serving(grpc_endpoint="127.0.0.1:0", tls=tls) as running:
        assert works(running, ca, friend)
        for client in (None, stranger):
            with pytest.raises(REFUSED):
                ask(running, ca, client)
            with pytest.raises(REFUSED):
                check(running, ca, client)
        trusted.write_bytes(others_ca.read_bytes())  # and from then on, those that another one signed
        wait_for(lambda: works(running, ca, stranger))
        with pytest.raises(REFUSED):
            ask(running, ca, friend)


def test_what_cannot_be_used_is_an_error_at_the_start(tmp_path: Path) -> None:
    authority, _ = written(tmp_path, "ours")
    files = authority.write(tmp_path, "server")
    with pytest.raises(SpanledgerError, match=r"service\.verdict\.tls: cannot use cert_file /nowhere"), serving(tls={**files, "cert_file": "/nowhere"}):  # fmt: skip
        pass
    with pytest.raises(SpanledgerError, match=r"service\.verdict\.tls\.min_version"), serving(grpc_endpoint="127.0.0.1:0", tls={**files, "min_version": "1.3"}):  # fmt: skip
        pass
    with serving(tls={**files, "min_version": "1.3"}) as running:
        assert ask(running, tmp_path / "ours-ca.pem") == 429
