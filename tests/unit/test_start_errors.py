"""What keeps a collector from starting is said with the option that it is about, and what to do."""

from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from config import load
from config.errors import SpanledgerError
from config.loader import SHIPPED
from spanledger.cli.run import reached, welcome
from spanledger.service import Service
from spanledger.web import WebServer


def test_a_data_directory_that_cannot_be_made(tmp_path):
    """The option and the reason, not a bare errno."""
    (tmp_path / "file").touch()
    loaded = load(overrides=[f"service.data_dir={tmp_path}/file/data"])
    with pytest.raises(SpanledgerError, match=rf"^service\.data_dir: cannot make the directory {tmp_path}/file/data: Not a directory$"):  # fmt: skip
        Service(loaded)


def test_a_data_directory_that_may_not_be_written(tmp_path, monkeypatch):
    """As a volume that belongs to root is to a container's user: who it is, before anything is made there."""
    monkeypatch.setattr(
        "os.access", lambda path, mode: path != tmp_path
    )  # the tests may run as root, whom nothing stops
    with pytest.raises(SpanledgerError, match=rf"^service\.data_dir: {tmp_path} cannot be written by the user who runs this \(uid \d+\)"):  # fmt: skip
        Service(load(overrides=[f"service.data_dir={tmp_path}"]))
    assert list(tmp_path.iterdir()) == []


def test_a_port_of_a_web_server_that_is_taken():
    """The option, the address, and what it probably is."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        server = WebServer(None, address, "service.admin.endpoint", 1)
        with pytest.raises(SpanledgerError) as caught:
            server.start()
    assert str(caught.value) == (
        f"service.admin.endpoint: cannot listen on {address}: Address already in use; is another collector running? Port 0 takes a free one"
    )


@pytest.mark.parametrize(
    ("listens", "shown"),
    [
        ("0.0.0.0:4317", "127.0.0.1:4317"),
        ("http://[::]:8787/ui/", "http://[::1]:8787/ui/"),
        ("10.0.0.0:4317", "10.0.0.0:4317"),
    ],
)
def test_an_address_that_is_every_interface_is_shown_as_one_to_open(listens, shown):
    """What a start prints is there to be copied."""
    assert reached(listens) == shown


@pytest.mark.parametrize(("source", "hinted"), [(SHIPPED, True), (Path("own.yaml"), False)])
def test_commands_are_named_only_where_they_would_reach_this_collector(source, hinted, capsys):
    """Their defaults are the shipped config's ports and store."""
    config = SimpleNamespace(source=source, service=SimpleNamespace(data_dir=Path("data")))
    parts = SimpleNamespace(endpoints=["grpcs://0.0.0.0:4317"], deliveries=[], config=config)
    welcome(SimpleNamespace(parts=parts, admin=SimpleNamespace(pages="", endpoint="0.0.0.0:8787")))  # type: ignore[arg-type]
    shown = capsys.readouterr().err
    assert "export OTEL_EXPORTER_OTLP_ENDPOINT=https://127.0.0.1:4317\n" in shown
    assert ("demo" in shown) == hinted
