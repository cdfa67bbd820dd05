"""A web server on a thread of its own, in front of an ASGI application."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import threading
import time
from typing import Any

import uvicorn

from collector.errors import SpanledgerError
from collector.receivers.tls import Tls
from config.types import parse_endpoint


class WebServer:
    """Listens from `start` to `stop`. `option` is what the endpoint is called in the config."""

    def __init__(self, app: Any, endpoint: str, option: str, most: int, tls: Tls | None = None) -> None:
        self._app = app
        self._tls = tls
        self.host, self._port = parse_endpoint(endpoint)
        self._asked, self._option, self._most = endpoint, option, most
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self.endpoint = ""  # with the real port, once it listens
        self.local = True  # whether only this machine reaches it

    def start(self) -> None:
        """Listen. Raises `SpanledgerError` where the address cannot be had."""
        try:
            listener = socket.create_server(
                (self.host or "127.0.0.1", self._port),
                family=socket.AF_INET6 if ":" in self.host else socket.AF_INET,
            )
        except OSError as error:
            raise SpanledgerError(
                f"{self._option}: cannot listen on {self._asked}: {os.strerror(error.errno) if error.errno else error}"
                + ("; is another collector running? Port 0 takes a free one" if error.errno == errno.EADDRINUSE else "")
            ) from None
        # Connections have it from the listener: the end of an answer must not wait until its head was acknowledged.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        address = listener.getsockname()
        self.endpoint = f"{f'[{address[0]}]' if ':' in address[0] else address[0]}:{address[1]}"
        self.local = address[0].startswith("127.") or address[0] == "::1"
        settings = uvicorn.Config(
            self._app,
            log_config=None,
            access_log=False,
            lifespan="off",
            http="httptools",
            ws="none",
            server_header=False,
            limit_concurrency=self._most,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=2,
        )
        if self._tls is not None:
            settings.load()
            settings.ssl = _following(self._tls)
        server = self._server = uvicorn.Server(settings)
        self._thread = threading.Thread(
            target=lambda: server.run(sockets=[listener]), name=self._option.split(".")[1], daemon=True
        )
        self._thread.start()
        while not server.started and self._thread.is_alive():
            time.sleep(0.005)

    def stop(self) -> None:
        """Close the port."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(5)


def _following(tls: Tls) -> ssl.SSLContext:
    """A context that gives each connection the certificates that are in the files when it comes."""

    def hello(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:  # noqa: ARG001
        tls.refresh()
        connection.context = tls.context

    tls.context.sni_callback = hello  # also where a client names no server
    return tls.context
