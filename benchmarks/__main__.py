"""`python -m benchmarks`: CPU per span of the whole process, beside Rotel in the same run.

Both take the same requests over OTLP/gRPC and write to the same sink, which counts and discards. Runs alternate, so that what else the machine does hits both. The figure is the median; `ratio` is Spanledger over its peer.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.payloads import CONTENT, LEAN, MIX, Requests, Shape
from benchmarks.processes import SETUPS, Measured, Setup, free_port, measure, process, rotel_command, spanledger_command
from benchmarks.sink import Sink

SHAPES = {shape.name: shape for shape in (LEAN, MIX, CONTENT)}
MOST_REQUESTS = 2000  # of a run
MOST_REQUEST_BYTES = 16e6
MOST_RUN_BYTES = 5e8  # requests are made before a run


@contextlib.contextmanager
def rotel(folder: Path, sink: str, setup: Setup) -> Iterator[tuple[int, int]]:
    """Rotel, running; yields its pid and gRPC port."""
    port = free_port()
    with process(rotel_command(port, free_port(), sink, setup), folder / "rotel.log", port) as pid:
        yield pid, port


@contextlib.contextmanager
def spanledger(folder: Path, sink: str, setup: Setup) -> Iterator[tuple[int, int]]:
    """Spanledger, running; yields its pid and gRPC port."""
    port = free_port()
    command = spanledger_command(folder, port, free_port(), free_port(), sink, setup=setup)
    with process(command, folder / "spanledger.log", port) as pid:
        yield pid, port


@contextlib.contextmanager
def without(folder: Path, sink: str, setup: Setup) -> Iterator[tuple[int, int]]:  # noqa: ARG001
    """Spanledger in the setup `store`, in a folder of its own."""
    (folder / "without").mkdir()
    with spanledger(folder / "without", sink, SETUPS["store"]) as running:
        yield running


Target = Callable[[Path, str, Setup], contextlib.AbstractContextManager[tuple[int, int]]]


def targets(setup: Setup) -> dict[str, Target]:
    """What runs side by side: the peer, then Spanledger."""
    return {"rotel" if setup.rotel else "without": rotel if setup.rotel else without, "spanledger": spanledger}


def compare(
    shape: Shape, setup: Setup, per_request: int, spans: int, runs: int, folder: Path
) -> dict[str, list[Measured]]:
    """Alternating runs of every target on one shape; the first, which warms up, is not counted."""
    results: dict[str, list[Measured]] = {name: [] for name in targets(setup)}
    requests = Requests(shape, per_request)
    with contextlib.ExitStack() as stack:
        running = {}
        for name, target in targets(setup).items():
            sink = stack.enter_context(Sink.running())
            running[name] = (sink, *stack.enter_context(target(folder, sink.url, setup)))
        for run in range(runs + 1):
            for name, (sink, pid, port) in running.items():
                measured = measure(pid, port, requests, spans, sink.wait_until_quiet)
                if run:
                    results[name].append(measured)
    return results


def variants(options: argparse.Namespace) -> list[Shape]:
    """What is to be sent: shapes by name, or one that grows."""
    if options.attributes:
        return [replace(LEAN, name=f"{count} attributes", attributes=count) for count in options.attributes]
    if options.content_kb:
        return [replace(CONTENT, name=f"{kb:g} kB content", content_bytes=int(kb * 1000)) for kb in options.content_kb]  # fmt: skip
    return list(SHAPES.values()) if options.shape == "all" else [SHAPES[options.shape]]


def fitting(shape: Shape, wanted: int, spans: int) -> tuple[int, int]:
    """Spans per request and per run: whole traces, requests that every server takes, and a run that fits into memory."""
    bytes_per_span = Requests(shape, shape.spans_per_trace).bytes / shape.spans_per_trace
    size = (
        max(1, min(wanted, int(MOST_REQUEST_BYTES / bytes_per_span)) // shape.spans_per_trace) * shape.spans_per_trace
    )
    return size, min(spans, size * MOST_REQUESTS, int(MOST_RUN_BYTES / bytes_per_span))


def main() -> None:
    """Parse the command line, run, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--shape", choices=[*SHAPES, "all"], default="all")
    what.add_argument("--attributes", type=int, nargs="+", help="lean with so many attributes: 20 40 80 160")
    what.add_argument("--content-kb", type=float, nargs="+", help="content with so many kB of prompt and answer: 1 4 16 64")  # fmt: skip
    parser.add_argument(
        "--setup",
        choices=SETUPS,
        default="store",
        help="store: to ClickHouse; chain: redacted, to OTLP; control: store with what watches calls, beside store without; broken: as control, with rules that every call breaks",
    )
    parser.add_argument("--per-request", type=int, nargs="+", default=[1000], help="spans per request (default 1000)")
    parser.add_argument("--spans", type=int, default=100_000, help="spans per run")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    console = Console()
    setup = SETUPS[options.setup]
    peer = next(iter(targets(setup)))
    headings = ("shape", "spans/req", "bytes/span", f"{peer} µs", "ours µs", "ratio", "spans/s", "rss MB")
    table = Table(*headings, title=f"CPU per span, whole process, OTLP/gRPC {setup.title} (median)")
    for shape in variants(options):
        for per_request in options.per_request:
            size, spans = fitting(shape, per_request, options.spans)
            with tempfile.TemporaryDirectory() as folder, console.status(f"{shape.name}, {size} spans a request"):
                results = compare(shape, setup, size, spans, options.runs, Path(folder))
            median = {k: statistics.median(m.us_per_span for m in v) for k, v in results.items()}
            ours = results["spanledger"]
            table.add_row(
                shape.name,
                str(size),
                f"{Requests(shape, size).bytes / size:.0f}",
                f"{median[peer]:.1f}",
                f"{median['spanledger']:.1f}",
                f"{median['spanledger'] / median[peer]:.2f}",
                f"{statistics.median(m.spans / m.wall_s for m in ours):,.0f}",
                f"{max(m.rss_bytes for m in ours) / 1e6:.0f}",
            )
    console.print(table)


if __name__ == "__main__":
    main()
