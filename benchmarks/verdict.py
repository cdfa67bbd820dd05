"""How fast the verdict port answers beside ingest: p50, p99 and the worst of so many questions a second.

`python -m benchmarks.verdict` has a collector take spans as fast as it can, and asks meanwhile, from a process of its own and at
fixed moments: an answer that is late delays no question, so waiting counts (no coordinated omission). Whoever sends the spans is
as nice as the collector is, and whoever asks gets its turn as the verdict's process does; gateways and senders are elsewhere in
real life.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.payloads import LEAN, Requests
from benchmarks.processes import SETUPS, free_port, load, process, spanledger_command
from benchmarks.sink import Sink
from spanledger.verdict.priority import go_first

TEAMS = 50
CONNECTIONS = 16
REQUEST_SPANS = 500
NICER = 10
BUDGETS = "{budgets: {teams: {per: [team], usd: 1000000}, models: {per: [team, model], tokens: 1000000000}}}"


async def ask(port: int, rate: int, seconds: float) -> list[float]:
    """Seconds from the moment at which a question was due until its answer was read."""
    go_first()  # what it waits for is an answer, not its own turn
    waits: list[float] = []
    count, start = int(rate * seconds), time.perf_counter() + 0.2

    async def one(first: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in range(first, count, CONNECTIONS):
            due = start + number / rate
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            target = f"/v1/verdict?team=team-{number % TEAMS}&model=gpt-4o"
            writer.write(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            body = json.loads(await reader.readexactly(length))
            waits.append(time.perf_counter() - due)
            if not (head.startswith(b"HTTP/1.1 200") and body["known"]):
                raise SystemExit(f"a question was not answered: {body}")
        writer.close()

    await asyncio.gather(*(one(first) for first in range(CONNECTIONS)))
    return waits


def send(port: int, seconds: float) -> float:
    """Spans a second that the collector takes, sent one request after another, a few at once."""
    os.nice(NICER)
    requests, spans = Requests(LEAN, REQUEST_SPANS), 0
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        bodies = [requests.next() for _ in range(20)]
        load(port, bodies)
        spans += len(bodies) * requests.spans
    return spans / (time.monotonic() - start)


def measured(own_process: bool, ingest: bool, rate: int, seconds: float) -> str:
    """One run as a row."""
    with tempfile.TemporaryDirectory() as name, Sink.running() as sink:
        folder = Path(name)
        grpc, http, admin, verdict = (free_port() for _ in range(4))
        service = f'  verdict: {{endpoint: "127.0.0.1:{verdict}", own_process: {str(own_process).lower()}}}'
        setup = replace(SETUPS["store"], processors={**SETUPS["store"].processors, "budgets": BUDGETS})
        command = spanledger_command(folder, grpc, http, admin, sink.url, service, setup)
        with process(command, folder / "log", verdict):
            requests = Requests(LEAN, REQUEST_SPANS)
            load(grpc, [requests.next() for _ in range(10)])  # compiled, and budgets have something to say
            time.sleep(3)
            sending = _again("--send", grpc, rate, seconds + 3) if ingest else None
            time.sleep(2 if ingest else 0)
            asking = _again("--ask", verdict, rate, seconds)
            p50, p99, worst = json.loads(_answer(asking))
            beside = f"{json.loads(_answer(sending)):,.0f} spans/s" if sending is not None else "nothing"
    place = "own process" if own_process else "in the collector"
    return f"| {place} | {beside} | {p50:.2f} | {p99:.2f} | {worst:.1f} |"


def _again(what: str, port: int, rate: int, seconds: float) -> subprocess.Popen[bytes]:
    """This program in a process of its own, with another task."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.verdict",
        what,
        str(port),
        "--rate",
        str(rate),
        "--seconds",
        str(seconds),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def _answer(running: subprocess.Popen[bytes]) -> bytes:
    output, _ = running.communicate()
    if running.returncode:
        raise SystemExit(running.returncode)
    return output


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=1000, help="questions a second")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--ask", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--send", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask is not None:
        waits = asyncio.run(ask(options.ask, options.rate, options.seconds))
        print(json.dumps(np.percentile(np.array(waits) * 1e3, [50, 99, 100]).tolist()))
    elif options.send is not None:
        print(json.dumps(send(options.send, options.seconds)))
    else:
        print("| Verdict ports | Beside | p50 ms | p99 ms | worst ms |\n| --- | --- | ---: | ---: | ---: |")
        for own_process in (False, True):
            for ingest in (False, True):
                print(measured(own_process, ingest, options.rate, options.seconds), flush=True)


if __name__ == "__main__":
    main()
