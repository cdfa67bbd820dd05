"""A ClickHouse and OTLP/HTTP endpoint that discards: inserts and OTLP requests are read, counted and thrown away, other
statements go to an embedded engine.

So whatever an exporter asks of a server (versions, settings, tables) gets a true answer, and no disk slows anybody. It runs
as a process of its own, whose CPU time is nobody's.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

from benchmarks.processes import free_port


class Sink:
    """A running sink, seen from the benchmark."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    @classmethod
    @contextlib.contextmanager
    def running(cls) -> Iterator[Sink]:
        """Start a sink, end it with the block."""
        port = free_port()
        server = subprocess.Popen([sys.executable, "-m", "benchmarks.sink", str(port)])
        sink = cls(port)
        try:
            for _ in range(300):
                with contextlib.suppress(OSError):
                    sink.stats()
                    break
                time.sleep(0.1)
            else:
                raise SystemExit("the sink did not start")
            yield sink
        finally:
            server.kill()
            server.wait()

    def stats(self) -> dict[str, int]:
        """`inserts` (or OTLP requests) and their `bytes` so far."""
        with urllib.request.urlopen(f"{self.url}/stats", timeout=5) as answer:
            found: dict[str, int] = json.load(answer)
        return found

    def wait_until_quiet(self, quiet_s: float = 2.5) -> None:
        """Until something has come and then nothing more for a while."""
        before, since = -1, time.monotonic()
        while time.monotonic() - since < quiet_s:
            now = self.stats()["bytes"]
            if now != before:
                before, since = now, time.monotonic()
            time.sleep(0.1)


def serve(port: int) -> None:
    """The sink's process."""
    import uvicorn
    from chdb.session import Session

    counted = {"inserts": 0, "bytes": 0}
    make: Any = Session
    engine = make(tempfile.mkdtemp(prefix="sink-"))

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        query = {k: v[-1] for k, v in parse_qs(scope["query_string"].decode()).items()}
        statement, kept, size = query.get("query", ""), [], 0
        # Every exporter measured here puts its INSERT into the URL, and the rows into the body.
        insert = statement.lstrip()[:6].upper() == "INSERT" or scope["path"] == "/v1/traces"
        while True:
            message = await receive()
            body = message.get("body", b"")
            size += len(body)
            if not insert:
                kept.append(body)
            if not message.get("more_body"):
                break
        status, answer = 200, b""
        if scope["path"] == "/stats":
            answer = json.dumps(counted).encode()
        elif insert:
            counted["inserts"] += 1
            counted["bytes"] += size
        elif scope["path"] == "/":
            text = (statement + " " + b"".join(kept).decode()).strip()
            try:
                answer = engine.query(text, query.get("default_format", "TabSeparated")).bytes() or b""
            except Exception as error:
                status, answer = 500, str(error).encode()
        else:
            answer = b"Ok.\n"
        headers = [(b"content-length", str(len(answer)).encode()), (b"x-clickhouse-timezone", b"UTC")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False, lifespan="off")


if __name__ == "__main__":
    serve(int(sys.argv[1]))
