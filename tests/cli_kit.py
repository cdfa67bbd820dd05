"""The command as a user runs it, within this process; and the servers that it talks to, as small as they can be."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from spanledger.cli import main
from spanledger.cli.shell import err, out

WIDTH = 140


@dataclass(frozen=True, slots=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def ok(self) -> str:
        """Standard output of a command that worked."""
        assert self.code == 0, self.err
        return self.out


def run(capsys: pytest.CaptureFixture[str], *words: str) -> Result:
    """`spanledger WORDS` on a wide terminal. Never a traceback: anything but an exit is the test's failure."""
    before = out.width, err.width
    out.width = err.width = WIDTH
    code: Any = 0
    try:
        main(list(words))
    except SystemExit as stop:
        code = stop.code
    finally:
        out.width, err.width = before
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return Result(0 if code is None else int(code), captured.out, captured.err)


Answer = tuple[int, Mapping[str, str], bytes]


@dataclass
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Server:
    """An HTTP server that keeps what came and answers with what `answer` says."""

    answer: Callable[[Request], Answer]
    requests: list[Request] = field(default_factory=list)
    address: str = ""


@contextmanager
def serve(answer: Callable[[Request], Answer]) -> Iterator[Server]:
    """One such server, on a free port of this machine."""
    server = Server(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
            server.requests.append(request)
            status, headers, content = server.answer(request)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = handle_any

        def log_message(self, format: str, *args: Any) -> None: ...

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.address = f"127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


@contextmanager
def ledger(answer: Callable[[str], Mapping[str, Any]]) -> Iterator[Server]:
    """A collector's admin port whose query interface answers with `answer(sql)`, JSONCompact as data."""

    def handle(request: Request) -> Answer:
        if request.path == "/healthz":
            return 200, {}, b"ok"
        assert request.path.startswith("/clickhouse/?")
        try:
            return 200, {"Content-Type": "application/json"}, json.dumps(answer(request.body.decode())).encode()
        except ValueError as error:
            return 400, {"Content-Type": "text/plain"}, str(error).encode()

    with serve(handle) as server:
        yield server
