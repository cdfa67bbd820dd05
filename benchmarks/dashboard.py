"""How much slower spans are taken in while somebody has the overview open: `python -m benchmarks.queries --ingest`.

A collector writes into the embedded store of millions of calls, loaded as fast as it takes spans. Runs with and without a
visitor take turns; the visitor's browser asks for the overview again and again, which makes it ask its questions anew.
What counts is spans until all of them can be queried, in a second.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.payloads import MIX, Requests
from benchmarks.processes import Setup, cpu_seconds, free_port, load, process, spanledger_command

LOAD_S = 30.0
ROUNDS = 3
#: Seconds between two looks: as often as the most impatient of Grafana's choices.
EVERY_S = 5.0
_PER_REQUEST = 600
_PROCESSORS = {"attribution": "", "pricing": "", "routing": ""}


@dataclass(frozen=True, slots=True)
class Run:
    """One load. `looks`: seconds that each look at the overview took; `cpu_s`: of the collector."""

    spans: int
    wall_s: float
    cpu_s: float
    looks: tuple[float, ...]

    @property
    def rate(self) -> float:
        return self.spans / self.wall_s


def run(folder: Path) -> None:
    """Measure over the store in `folder`, which keeps what is sent, and print it."""
    setup = Setup("", (), _PROCESSORS, f'clickhouse: {{dsn: "chdb://{folder.resolve()}"}}')
    port, http, admin = free_port(), free_port(), free_port()
    alone, watched = list[Run](), list[Run]()
    with tempfile.TemporaryDirectory() as scratch:
        command = spanledger_command(Path(scratch), port, http, admin, "", setup=setup)
        with process(command, Path(scratch) / "log", port) as pid:
            _one(pid, port, admin, LOAD_S / 3, every=None)  # compiled code, caches, the first merges
            for _ in range(ROUNDS):
                alone.append(_one(pid, port, admin, LOAD_S, every=None))
                watched.append(_one(pid, port, admin, LOAD_S, every=EVERY_S))
    _show(alone, watched)


def _one(pid: int, port: int, admin: int, seconds: float, every: float | None) -> Run:
    requests, sent = Requests(MIX, _PER_REQUEST), 0
    started, cpu = time.monotonic(), cpu_seconds(pid)

    def bodies() -> Iterator[bytes]:
        nonlocal sent
        while time.monotonic() - started < seconds:
            sent += requests.spans
            yield requests.next()

    with _visitor(admin, every) as looks:
        load(port, bodies())
        while not _settled(admin):
            time.sleep(0.05)
        wall = time.monotonic() - started
    return Run(sent, wall, cpu_seconds(pid) - cpu, tuple(looks))


def _settled(admin: int) -> bool:
    """Whether everything that was sent can be queried."""
    status = json.loads(_get(admin, "/status"))
    waiting = sum(p["waiting_items"] for p in status["pipelines"].values())
    return not waiting and not sum(x["waiting_deliveries"] for x in status["exporters"].values())


@contextmanager
def _visitor(admin: int, every: float | None) -> Iterator[list[float]]:
    """Somebody who has the overview open, loaded again every so many seconds; nobody for None."""
    looks: list[float] = []
    gone = threading.Event()

    def look() -> None:
        while not gone.wait(every):
            started = time.monotonic()
            if b'class="failed"' in _get(admin, "/ui/"):
                raise RuntimeError("the overview has a figure that failed")
            looks.append(time.monotonic() - started)

    thread = threading.Thread(target=look) if every is not None else None
    if thread is not None:
        thread.start()
    try:
        yield looks
    finally:
        gone.set()
        if thread is not None:
            thread.join()


def _get(admin: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}{path}", timeout=60) as answer:
        body: bytes = answer.read()
        return body


def _show(alone: list[Run], watched: list[Run]) -> None:
    table = Table(title=f"Traces of six spans into the embedded store, {ROUNDS} runs of {LOAD_S:.0f} s each in turn", title_justify="left", box=None)  # fmt: skip
    for title in ("", "Spans a second", "of runs", "CPU µs a span", "A look, s"):
        table.add_column(title, justify="left" if not title else "right")
    for name, runs in (("nobody looks", alone), (f"the overview, every {EVERY_S:.0f} s", watched)):
        rates = [one.rate for one in runs]
        looks = [look for one in runs for look in one.looks]
        cpu = statistics.median(one.cpu_s / one.spans * 1e6 for one in runs)
        table.add_row(name, f"{statistics.median(rates):,.0f}", f"{min(rates):,.0f} to {max(rates):,.0f}", f"{cpu:.1f}", f"{statistics.median(looks):.2f}" if looks else "")  # fmt: skip
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    lost = 1 - statistics.median(one.rate for one in watched) / statistics.median(one.rate for one in alone)
    console.print(f"Slower by {lost:.1%} while it is open.")
