"""`python -m benchmarks.series`: memory that the processor `anomaly` takes for a million series.

The processor alone, over a store on disk, with the shipped scopes and one of users, as a pipeline drives it: batches of calls, each
saved and committed. Counted is the memory that is the process' own (RssAnon, looked at all the time), above what it was before the
first call. Each pattern runs in a process of its own:

steady:  a million users, some of whom call in every bucket
fresh:   50,000 users in every bucket that were never seen before, until a quarter more have come than there is room for
busy:    as many users in every bucket as a bucket takes (`buckets.MOST`), each time others of the million
all:     calls of which no two share an app, model, key or provider, as many as a bucket takes: eight series each, 800,000 judged at once
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from prometheus_client import CollectorRegistry
from rich.console import Console
from rich.table import Table

from collector.batch import Position, SpanBatch
from collector.columns import CALL_COLUMNS, nulls
from collector.component import Context
from collector.otlp.decode import decode
from collector.otlp.tables import I64
from collector.store.crypto import Sealer
from collector.store.state import StateStore
from processors.anomaly import Anomaly, AnomalyConfig
from processors.anomaly.buckets import MOST

SERIES = 1_000_000
FRESH = 50_000
BATCH = 10_000  # calls
START_S = 1_793_577_600
PATTERNS = ("steady", "fresh", "busy", "all")
_SCOPES = 8  # of the shipped ones


def own_bytes() -> int:
    """Memory of this process that is no file's."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no RssAnon")


class Peak:
    """The most memory that there was, looked at on a thread of its own."""

    def __init__(self) -> None:
        self.bytes = 0
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while True:
            self.bytes = max(self.bytes, own_bytes())
            time.sleep(0.005)


def buckets(pattern: str, series: int) -> Iterator[I64]:
    """Numbers of the callers, bucket by bucket; of equal numbers nothing is new."""
    each = MOST if pattern == "busy" else FRESH
    if pattern == "all":
        yield np.arange(series // _SCOPES - MOST)
        for _ in range(4):
            yield np.arange(series // _SCOPES)[-MOST:]
        return
    known = np.arange(series)
    until = series * 5 // 4 if pattern == "fresh" else series
    for first in range(0, until, each):
        yield np.arange(first, min(first + each, until))
    if pattern != "fresh":
        draw = np.random.default_rng(1)
        for _ in range(6):
            yield draw.choice(known, min(each, series), replace=False)


class Calls:
    """Makes batches of calls; all but what differs is made once."""

    def __init__(self, pattern: str) -> None:
        self._all = pattern == "all"
        self._columns = nulls(CALL_COLUMNS, BATCH)
        self._nothing = decode(b"")
        self._batches = 0

    def batch(self, at_s: int, numbers: I64) -> SpanBatch:
        """One call each of these callers."""
        count, texts = len(numbers), [f"{number:09d}" for number in numbers.tolist()]
        values: dict[str, Any] = {
            "start_ns": np.full(count, at_s * 10**9), "duration_ns": 10**9 + numbers % 7 * 10**8, "cost_pico": 10**9 + numbers % 11 * 10**8,
            "input_tokens": 1000 + numbers % 13, "output_tokens": 100 + numbers % 17, "time_to_first_token_ns": np.full(count, 4 * 10**8),
            "call_id": texts, "trace_id": [text.zfill(32) for text in texts], "span_id": [text.zfill(16) for text in texts],
            "status": ["Unset"] * count, "withdrawn": [False] * count, "team": ["search"] * count,
            "user": [f"user-{text}@example.com" for text in texts], "app": ["chat"] * count, "api_key": ["search-prod"] * count,
            "response_model": ["gpt-4o"] * count, "provider": ["openai"] * count, "deployment": ["eu-1"] * count,
        }  # fmt: skip
        if self._all:
            for name in ("team", "app", "api_key", "response_model", "provider", "deployment"):
                values[name] = [f"{name}-{text}" for text in texts]
        columns = {name: column[:count] for name, column in self._columns.items()}
        columns |= {name: pl.Series(name, value, dtype=columns[name].dtype) for name, value in values.items()}
        self._batches += 1
        position = Position(self._batches, self._batches)
        return SpanBatch.blank(self._nothing, position, at_s * 10**9).with_(calls=pl.DataFrame(list(columns.values())))


def run(pattern: str, series: int, folder: Path) -> dict[str, float]:
    """Drive the processor; what it took."""
    logging.disable(logging.WARNING)
    scopes = {} if pattern == "all" else {"users": {"per": ["team", "user"], "measures": ["cost"]}}
    config = AnomalyConfig.model_validate({"scopes": scopes, "max_series": series})
    store = StateStore(folder, Sealer([b"k" * 32]))
    made, calls = Anomaly(config, Context("anomaly", folder, CollectorRegistry())), Calls(pattern)

    def take(batch: SpanBatch) -> None:
        made.process(batch)
        with store.transaction() as transaction:
            made.save(transaction.component("anomaly"))
        made.committed()

    take(calls.batch(START_S, np.arange(BATCH)))
    before, peak, began, at_s, slowest = own_bytes(), Peak(), time.process_time(), START_S, 0.0
    taken = 0
    for numbers in buckets(pattern, series):
        at_s += round(config.bucket)
        for first in range(0, len(numbers), BATCH):
            then = time.process_time()
            take(calls.batch(at_s, numbers[first : first + BATCH]))
            slowest = max(slowest, time.process_time() - then)
        taken += len(numbers)
    time.sleep(0.02)
    seconds = time.process_time() - began
    count = made.context.metrics.get_sample_value("spanledger_anomaly_series") or 0
    return {"series": count, "calls": taken, "peak": peak.bytes - before, "after": own_bytes() - before, "us": 1e6 * seconds / taken, "slowest": slowest}  # fmt: skip


def main() -> None:
    """Parse the command line, run each pattern in a process of its own, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.series", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--pattern", choices=PATTERNS, nargs="+", default=PATTERNS)
    parser.add_argument("--series", type=int, default=SERIES, help=f"room for so many (default {SERIES:,})")
    parser.add_argument("--here", action="store_true", help="one pattern, in this process, as JSON")
    options = parser.parse_args()
    if options.here:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(run(options.pattern[0], options.series, Path(folder))))
        return
    table = Table("pattern", "series", "calls", "peak MB", "after MB", "µs a call", "longest batch s", title=f"Memory of {options.series:,} series")  # fmt: skip
    console = Console()
    for pattern in options.pattern:
        with console.status(pattern):
            command = [
                sys.executable,
                "-m",
                "benchmarks.series",
                "--here",
                "--pattern",
                pattern,
                "--series",
                str(options.series),
            ]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        table.add_row(
            pattern, f"{found['series']:,.0f}", f"{found['calls']:,}", f"{found['peak'] / 1e6:,.0f}", f"{found['after'] / 1e6:,.0f}",
            f"{found['us']:.0f}", f"{found['slowest']:.1f}",
        )  # fmt: skip
    console.print(table)


if __name__ == "__main__":
    main()
