"""`python -m benchmarks.memory`: resident memory over an hour's worth of spans, sent as fast as they are taken.

Spanledger runs with its defaults and a ClickHouse HTTP sink. What may grow by design is the ledger's memory of spans, up
to `service.ledger.max_spans`: the run goes on until it has been full for a while, and the slope is of that part alone.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.__main__ import SHAPES
from benchmarks.payloads import Requests
from benchmarks.processes import free_port, load, process, rss_bytes, spanledger_command
from benchmarks.sink import Sink

MB = 1e6
EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the process: seconds since the start of the load; spans taken in, committed, remembered by the ledger; bytes."""

    at_s: float
    sent: int
    spans: int
    remembered: int
    rss: int


class Watch:
    """Samples on a thread of its own; `sent` is the sender's count."""

    def __init__(self, pid: int, admin: int) -> None:
        self.sent = 0
        self.samples: list[Sample] = []
        self._pid, self._metrics = pid, f"http://127.0.0.1:{admin}/metrics"
        self._started = time.monotonic()
        self._over = threading.Event()

    def look(self) -> Sample:
        """One sample, now."""
        with urllib.request.urlopen(self._metrics, timeout=30) as answer:
            page = answer.read().decode()
        committed, remembered = (
            sum(int(float(value)) for value in re.findall(rf"^{name}\S* (\S+)$", page, re.MULTILINE))
            for name in ("spanledger_pipeline_items_total", "spanledger_ledger_remembered_spans")
        )
        return Sample(time.monotonic() - self._started, self.sent, committed, remembered, rss_bytes(self._pid))

    @contextmanager
    def running(self) -> Iterator[None]:
        def loop() -> None:
            while not self._over.wait(EVERY_S):
                self.samples.append(self.look())

        thread = threading.Thread(target=loop)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()


def slope(samples: list[Sample]) -> float:
    """Bytes per span, by least squares; not a number where there is nothing to fit."""
    if len(samples) < 3 or samples[0].spans == samples[-1].spans:
        return float("nan")
    return float(np.polyfit([s.spans for s in samples], [s.rss for s in samples], 1)[0])


def measure(shape: str, per_request: int, spans: int, remember: int, folder: Path) -> list[Sample]:
    """Load a fresh Spanledger with so many spans; one sample a second, and a last one when all is done."""
    port, admin = free_port(), free_port()
    requests = Requests(SHAPES[shape], per_request)
    with Sink.running() as sink:
        service = f"  ledger: {{max_spans: {remember}}}"
        command = spanledger_command(folder, port, free_port(), admin, sink.url, service)
        with process(command, folder / "spanledger.log", port) as pid:
            watch = Watch(pid, admin)

            def bodies() -> Iterator[bytes]:
                while watch.sent < spans:
                    watch.sent += requests.spans
                    yield requests.next()

            with watch.running():
                load(port, bodies())
                sink.wait_until_quiet()
            return [*watch.samples, watch.look()]


def steady(samples: list[Sample], remember: int) -> list[Sample]:
    """The samples with a full ledger: since it first held (nearly) as many spans as it may."""
    full = next((n for n, sample in enumerate(samples) if sample.remembered >= 0.95 * remember), len(samples))
    return samples[full:]


def main() -> None:
    """Parse the command line, run, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--shape", choices=[*SHAPES], default="lean")
    parser.add_argument("--per-request", type=int, default=1000, help="spans per request (default 1000)")
    parser.add_argument("--spans", type=int, default=6_000_000, help="spans in all (default 6,000,000: an hour of 1,700 a second)")  # fmt: skip
    parser.add_argument("--remember", type=int, default=1_000_000, help="service.ledger.max_spans (default 1,000,000, as shipped)")  # fmt: skip
    options = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as folder, console.status(f"{options.shape}, {options.spans:,} spans"):
        samples = measure(options.shape, options.per_request, options.spans, options.remember, Path(folder))
    table = Table("seconds", "taken in", "committed", "remembered", "rss MB", title=f"Resident memory, {options.shape}")
    shown = np.unique(np.linspace(0, len(samples) - 1, 16).astype(int))
    for sample in [samples[n] for n in shown]:
        numbers = (sample.at_s, sample.sent, sample.spans, sample.remembered, sample.rss / MB)
        table.add_row(*(f"{number:,.0f}" for number in numbers))
    console.print(table)
    part = steady(samples, options.remember)
    took = samples[-1].at_s
    console.print(
        f"{samples[-1].spans:,} spans in {took:.0f} s ({samples[-1].spans / took:,.0f} a second); at most {max(s.rss for s in samples) / MB:.0f} MB. "
        f"With a full ledger: {slope(part):+.1f} MB per million spans, over {(part[-1].spans - part[0].spans) / 1e6 if part else 0:.1f} million"
    )  # fmt: skip


if __name__ == "__main__":
    main()
