"""A ClickHouse server for tests where Docker does not run: the embedded engine behind ClickHouse's HTTP interface, in a
process of its own, with faults on request.

Faults: `error` answers 500 before anything is done; `late_error` does what was
asked and then answers 500, so that the sender cannot know; `slow` answers after a while; `ok` works.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from tests.collector_kit import free_ports

SLOW_S = 1.0


class ClickHouseServer:
    """The server, seen from a test. What it stored is still there after `stop` and `start`."""

    def __init__(self, folder: Path) -> None:
        (self.port,) = free_ports(1)
        self.dsn = f"http://127.0.0.1:{self.port}/spanledger"
        self._command = [
            sys.executable,
            "-m",
            "tests.clickhouse_kit",
            str(self.port),
            str(folder / "clickhouse-server"),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run it and wait until it answers."""
        self._process = subprocess.Popen(self._command)
        for _ in range(300):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ping", timeout=1):
                return
            time.sleep(0.1)
        raise AssertionError("the server did not start")

    def stop(self) -> None:
        """End it without warning."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def fault(self, mode: str, share: float = 1.0) -> None:
        """From now on this goes wrong, for a share of the requests."""
        urllib.request.urlopen(f"http://127.0.0.1:{self.port}/fault?mode={mode}&share={share}", timeout=10).read()

    def sql(self, statement: str) -> list[list[Any]]:
        """Rows of a query, whatever the fault."""
        url = f"http://127.0.0.1:{self.port}/direct?default_format=JSONCompact"
        with urllib.request.urlopen(url, statement.encode(), timeout=60) as answer:
            rows: list[list[Any]] = json.load(answer)["data"]
        return rows


@contextlib.contextmanager
def clickhouse_server(folder: Path) -> Iterator[ClickHouseServer]:
    """Run one for the length of a block."""
    server = ClickHouseServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def serve(port: int, path: str) -> None:
    """The server's process."""
    import random

    import uvicorn
    from chdb.session import Session

    engine = Session(path)
    fault = {"mode": "ok", "share": 1.0}

    def run(query: dict[str, str], body: bytes) -> tuple[int, bytes]:
        statement = query.get("query", "")
        settings = {k: v for k, v in query.items() if k in SETTINGS}
        try:
            if statement.lstrip().upper().startswith("INSERT"):
                clause = "SETTINGS " + ", ".join(f"{k} = '{v}'" for k, v in settings.items())
                head, _, format_ = statement.rpartition("FORMAT")
                with tempfile.NamedTemporaryFile(
                    dir=path
                ) as rows:  # the engine ends rows in a statement at a semicolon
                    rows.write(body)
                    rows.flush()
                    engine.query(
                        f"{head} FROM INFILE '{rows.name}' {clause if settings else ''} FORMAT {format_.strip()}"
                    )
                return 200, b""
            text = f"{statement} {body.decode()}".strip()
            params = {name.removeprefix("param_"): value for name, value in query.items() if name.startswith("param_")}
            return 200, bytes(engine.query(text, query.get("default_format", "TabSeparated"), params=params).bytes() or b"")  # fmt: skip
        except Exception as error:
            return 500, str(error).encode()

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        query = {k: v[-1] for k, v in parse_qs(scope["query_string"].decode()).items()}
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        mode = str(fault["mode"]) if scope["path"] == "/" and random.random() < float(fault["share"]) else "ok"
        if scope["path"] == "/fault":
            fault.update(mode=query["mode"], share=float(query["share"]))
            status, answer = 200, b""
        elif scope["path"] == "/ping":
            status, answer = 200, b"Ok.\n"
        elif mode == "error":
            status, answer = 500, b"Code: 999. DB::Exception: the test says no. (KEEPER_EXCEPTION)"
        else:
            if mode == "slow":
                await asyncio.sleep(SLOW_S)
            status, answer = run(query, body)
            if mode == "late_error":
                status, answer = 500, b"Code: 209. DB::Exception: the answer got lost. (SOCKET_TIMEOUT)"
        headers = [(b"content-length", str(len(answer)).encode()), (b"x-clickhouse-timezone", b"UTC")]
        if status != 200:
            code = answer.partition(b"Code: ")[2].partition(b".")[0]
            headers.append((b"x-clickhouse-exception-code", code or b"1"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="critical", access_log=False, lifespan="off")


#: What an insert may set; the rest of the URL is the client's business.
SETTINGS = (
    "insert_deduplication_token", "async_insert", "insert_deduplicate", "deduplicate_blocks_in_dependent_materialized_views",
    "max_partitions_per_insert_block", "input_format_null_as_default",
)  # fmt: skip

if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2])
