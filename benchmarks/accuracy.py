"""`python -m benchmarks.accuracy`: how much of the providers' bill each system shows, call by call, on the captures.

A capture is OTLP as a gateway or SDK sent it, and `truth.json` what the provider billed for it. Every system runs as a real
server, gets all trace requests in order, and is read through its own interface. Amounts are compared, each once: a call is
exact when an amount equal to its bill (to the pico-dollar) was shown for its capture.

exact      knowable calls that are shown with their bill
left over  further priced spans or calls
marked     those of them that the system itself marks as resting on an assumption
error      what is wrong in sum, divided by the bill; `unmarked` without what is marked
shown      all that is shown, divided by the knowable bill: 1.00 is right
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmarks.peers import MLflow, Phoenix, install, missing
from benchmarks.systems import Shown, Spanledger, System, pico

CAPTURES = Path(__file__).parent.parent / "tests" / "captures"
SYSTEMS: dict[str, type[System]] = {"spanledger": Spanledger, "phoenix": Phoenix, "mlflow": MLflow}


@dataclass(frozen=True, slots=True)
class Capture:
    """Trace requests as they came, and the pico-dollars of each billed call that the spans let anyone know."""

    name: str
    requests: tuple[bytes, ...]
    spans: int
    trace_ids: frozenset[str]
    bill: tuple[int, ...]

    @classmethod
    def read(cls, folder: Path) -> Capture:
        truth = json.loads((folder / "truth.json").read_text())
        files = sorted(folder.glob("*-traces.pb*"))
        requests = tuple(gzip.decompress(f.read_bytes()) if f.suffix == ".gz" else f.read_bytes() for f in files)
        ids = Counter(
            span.trace_id.hex()
            for request in requests
            for resource in ExportTraceServiceRequest.FromString(request).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        )
        untold = truth["not_in_spans"]
        bill = tuple(pico(c["cost_usd"]) for c in truth["calls"] if c["billed"] and c["case"] not in untold)
        return cls(folder.name, requests, ids.total(), frozenset(ids), bill)


@dataclass(frozen=True, slots=True)
class Score:
    """What was shown for a capture, or for several, against their bill. Amounts in pico-dollars.

    left:    priced spans (or calls) that are no knowable call's bill
    marked:  those of them that the system itself marks as resting on an assumption
    error:   what is wrong in sum: see `errors`; `error_unmarked` leaves out the marked ones
    traces:  what the system's sums per trace come to, where it has any
    """

    calls: int
    bill: int
    exact: int
    left: int
    marked: int
    error: int
    error_unmarked: int
    shown: int
    traces: int | None = None

    @classmethod
    def of(cls, bill: Sequence[int], shown: Sequence[Shown], traces: int | None) -> Score:
        wanted = Counter(bill)
        left: list[Shown] = []
        for amount in sorted(shown, key=lambda amount: amount.marked):
            if wanted[amount.usd_pico] > 0:
                wanted[amount.usd_pico] -= 1
            else:
                left.append(amount)
        missed = sorted(wanted.elements())
        return cls(
            calls=len(bill),
            bill=sum(bill),
            exact=len(bill) - len(missed),
            left=len(left),
            marked=sum(amount.marked for amount in left),
            error=errors(missed, sorted(amount.usd_pico for amount in left)),
            error_unmarked=errors(missed, sorted(amount.usd_pico for amount in left if not amount.marked)),
            shown=sum(amount.usd_pico for amount in shown),
            traces=traces,
        )

    def __add__(self, other: Score) -> Score:
        sums = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self) if f.name != "traces"}
        traces = None if self.traces is None or other.traces is None else self.traces + other.traces
        return Score(**sums, traces=traces)


def errors(missed: Sequence[int], left: Sequence[int]) -> int:
    """Least sum of absolute errors: wrong amounts stand for missed calls, paired in the system's favour; the rest count whole.

    Both sorted. The best pairing of numbers on a line never crosses, so it is an alignment of the two lists.
    """
    best = [0]
    for amount in left:
        best.append(best[-1] + amount)
    for call in missed:
        row = [best[0] + call]
        for place, amount in enumerate(left):
            row.append(min(best[place] + abs(call - amount), best[place + 1] + call, row[place] + amount))
        best = row
    return best[-1]


def measure(system: System, captures: Sequence[Capture], console: Console) -> dict[str, Score]:
    """Send everything, wait, read back; a score per capture."""
    with console.status(f"{system.name}: starting") as status, system:
        for capture in captures:
            status.update(f"{system.name}: sending {capture.name}")
            for request in capture.requests:
                system.send(request)
        status.update(f"{system.name}: waiting until all is stored")
        system.settle(sum(capture.spans for capture in captures))
        status.update(f"{system.name}: reading back")
        shown, traces = system.shown(), system.traces()
    scores = {}
    for capture in captures:
        own = [amount for amount in shown if amount.trace_id in capture.trace_ids]
        total = None if traces is None else sum(cost for trace, cost in traces.items() if trace in capture.trace_ids)
        scores[capture.name] = Score.of(capture.bill, own, total)
    assert sum(score.shown for score in scores.values()) == sum(amount.usd_pico for amount in shown)
    return scores


def table(title: str, rows: Sequence[tuple[str, Score]]) -> Table:
    """One row per system."""
    result = Table(title=title, title_justify="left", box=SIMPLE)
    result.add_column("", no_wrap=True)
    for heading in ("exact", "left over", "marked", "error", "unmarked", "shown"):
        result.add_column(heading, justify="right", no_wrap=True)
    for name, score in rows:
        result.add_row(
            name,
            f"{score.exact} of {score.calls}",
            str(score.left),
            str(score.marked),
            f"{score.error / score.bill:.1%}",
            f"{score.error_unmarked / score.bill:.1%}",
            f"{score.shown / score.bill:.2f}",
        )
        if score.traces is not None:
            result.add_row(f"{name}, per trace", "", "", "", "", "", f"{score.traces / score.bill:.2f}")
    return result


def main() -> None:
    """Parse the command line, run the systems one after another, print a table per capture and one in total."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs="+", choices=[*SYSTEMS], default=[*SYSTEMS], metavar="SYSTEM", help="of: %(choices)s"
    )
    parser.add_argument(
        "--install", action="store_true", help="first install the peers (1.3 GB) into benchmarks/.venv-peers"
    )
    options = parser.parse_args()
    if options.install:
        install()
    if lacking := missing(options.only):
        raise SystemExit(
            f"not installed: {', '.join(lacking)}. Either `python -m benchmarks.accuracy --install` (1.3 GB, into "
            "benchmarks/.venv-peers) or `--only spanledger`."
        )
    console = Console()
    captures = [Capture.read(truth.parent) for truth in sorted(CAPTURES.glob("*/truth.json"))]
    versions: list[str] = []
    scores: dict[str, dict[str, Score]] = {}
    with tempfile.TemporaryDirectory(prefix="accuracy-") as folder:
        for name in options.only:
            system = SYSTEMS[name](Path(folder))
            versions.append(f"{system.name} {system.version()}")
            scores[system.name] = measure(system, captures, console)
    for capture in captures:
        title = f"{capture.name}: {len(capture.bill)} knowable calls, {sum(capture.bill) / 1e12:.6f} USD"
        console.print(table(title, [(name, found[capture.name]) for name, found in scores.items()]))
    totals = [(name, sum_of(list(found.values()))) for name, found in scores.items()]
    bill = sum(sum(capture.bill) for capture in captures) / 1e12
    console.print(table(f"All {len(captures)} captures: {totals[0][1].calls} knowable calls, {bill:.6f} USD", totals))
    console.print(f"Measured with {'; '.join(versions)}.")


def sum_of(scores: Sequence[Score]) -> Score:
    """Of one capture or more."""
    total = scores[0]
    for score in scores[1:]:
        total = total + score
    return total


if __name__ == "__main__":
    main()
