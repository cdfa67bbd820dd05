"""`python -m benchmarks.queries`: how long every question of the dashboards and of the pages takes over 10 million calls.

The calls and their spans are made inside the embedded ClickHouse (`benchmarks.calls`, `benchmarks.spans`) and stay in the folder, so
that a second run only asks.
Each question is asked through the read-only gate, as Grafana and the browser ask: once cold, then warm; the best warm time
is printed, and what is over a second is marked. Pages are made as a whole, all their questions side by side, each time at
another moment, so that no answer is one that was kept; CPU is that of the whole process.

`--ingest` measures the other direction instead (`benchmarks.dashboard`): how much slower spans are taken in while somebody
has the overview open.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks import dashboard, spans
from benchmarks.calls import DAYS, fill
from exporters.clickhouse.client import Connection
from exporters.clickhouse.config import parse_dsn
from exporters.clickhouse.ddl import Layout
from exporters.clickhouse.engine import Handle
from exporters.clickhouse.migrate import migrate
from exporters.clickhouse.reader import Limits, Reader
from exporters.clickhouse.schema import CALLS
from spanledger.ui.ask import KEPT_SECONDS, PARALLEL, AskError, Embedded, Remembering, Store, Value
from spanledger.ui.auth import Visitor
from spanledger.ui.filters import Filters
from spanledger.ui.html import render
from spanledger.ui.page import Page, Source, View
from spanledger.ui.pages import registered
from spanledger.ui.pages.calls import SORTS
from spanledger.ui.shell import framed
from tests.grafana_kit import Period, dashboards, expand, targets, variables

SLOW_S = 1.0
DATABASE = "spanledger"


@dataclass(frozen=True, slots=True)
class Timing:
    """One question, or a page with all of its own: seconds cold and warm, and CPU seconds warm."""

    figure: str
    cold_s: float
    warm_s: float
    cpu_s: float


@dataclass(slots=True)
class Recorder:
    """A store that passes questions on and keeps them."""

    store: Embedded
    asked: list[tuple[str, Mapping[str, Value]]]
    where: str = ""

    def ask(self, sql: str, parameters: Mapping[str, Value]) -> pl.DataFrame:
        self.asked.append((sql, parameters))
        return self.store.ask(sql, parameters)

    def close(self) -> None: ...


def store(folder: Path, calls: int) -> tuple[datetime, str]:
    """The filled store: made where it is not there. Gives the time of the last call, and a trace of it."""
    engine = Handle(folder)
    layout = Layout(DATABASE)
    connection = Connection(parse_dsn(f"chdb://{folder.resolve()}"), timeout=60.0)
    migrate(layout, connection.command, connection.rows)
    connection.close()
    name = layout.name(CALLS)
    if int(engine.query(f"SELECT count() FROM {name}")) < calls:
        started = time.monotonic()
        fill(engine.query, layout, calls, time.time_ns())
        spans.fill(engine.query, layout)
        print(f"{calls:,} calls and their spans written in {time.monotonic() - started:.0f} s")
    newest, trace = engine.query(
        f"SELECT toUnixTimestamp64Nano(max(Timestamp)), argMax(TraceId, Timestamp) FROM {name}"
    ).split()
    engine.close()
    return datetime.fromtimestamp(int(newest) / 1e9, UTC), trace


def panels(end: datetime, days: int, trace: str) -> Iterator[tuple[str, str]]:
    """Every panel of every dashboard over the last so many days, its filters as they stand at first."""
    period = Period(end - timedelta(days=days), end, 3600 if days > 1 else 300)
    for name, board in dashboards().items():
        values = {**variables(board), "trace": (trace,)}
        for panel, target in targets(board, "grafana-clickhouse-datasource"):
            yield f"grafana {name}: {panel['title']}", expand(target["rawSql"], values, period)


def timed(figure: str, ask: Callable[[], object], rounds: int) -> Timing:
    """Ask once cold, then warm. What the gate's limits stop takes for ever."""
    times, used = [], []
    for _ in range(1 + rounds):
        started, cpu = time.perf_counter(), time.process_time()
        try:
            ask()
        except (RuntimeError, AskError) as error:
            print(f"{figure}: {' '.join(str(error).split())[:200]}")
            return Timing(figure, math.inf, math.inf, math.inf)
        times.append(time.perf_counter() - started)
        used.append(time.process_time() - cpu)
    return Timing(figure, times[0], min(times[1:]), min(used[1:]))


def pages(embedded: Embedded, end: datetime, days: int, trace: str, rounds: int) -> Iterator[Timing]:
    """Every page: as a whole, as its visitor waits for it, then question by question."""
    call, day, finding = (
        embedded.ask("SELECT argMax(CallId, Timestamp) AS c, toString(argMax(Day, Timestamp)) AS d, (SELECT argMax(FindingId, FirstSeen) FROM llm_findings) AS f FROM llm_calls", {}).row(0)
    )  # fmt: skip
    moments = (end + timedelta(seconds=KEPT_SECONDS * step) for step in count())
    with ThreadPoolExecutor(PARALLEL) as threads:
        for path, page in registered().items():
            id_ = finding if path.startswith("/finding/") else trace if path.startswith("/trace/") else call
            orders = [{"sort": sort} for sort in SORTS] if path == "/calls" else [{"day": day} if "{" in path else {}]
            for query in orders:
                recorder = Recorder(embedded, [])
                made = partial(_made, recorder, threads, page, days, {"id": id_} if "{" in path else {}, query, moments)
                title = " ".join(("page", page.title, *(query.values() if path == "/calls" else ())))
                yield timed(title, made, rounds)
                recorder.asked.clear()
                made()
                asked = {(sql, str(parameters)): (sql, parameters) for sql, parameters in recorder.asked}
                for number, (sql, parameters) in enumerate(asked.values(), 1):
                    yield timed(f"  {title}: question {number}", partial(embedded.ask, sql, parameters), rounds)


def _made(store: Store, threads: ThreadPoolExecutor, page: Page, days: int, arguments: Mapping[str, str], query: Mapping[str, str], moments: Iterator[datetime]) -> None:  # fmt: skip
    """A page, to its last byte, a few seconds after the one before."""
    filters = Filters(since=f"{days}d", now=next(moments))
    view = View(Source(Remembering(store), threads), page, Visitor("benchmark", admin=True), filters, arguments, query)
    for _ in view.stream(render(framed(view, page.body(view)))):
        pass


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queries", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--folder", type=Path, required=True, help="where the store is, or shall be (some GB)")
    parser.add_argument("--calls", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, nargs="*", default=[7, DAYS], help="periods that are asked for")
    parser.add_argument("--rounds", type=int, default=2, help="warm askings of each question")
    parser.add_argument("--only-pages", action="store_true", help="leave Grafana's panels out")
    parser.add_argument("--ingest", action="store_true", help="measure ingest beside an open overview instead")
    parser.add_argument("--json", type=Path, help="write the times here too")
    options = parser.parse_args()
    end, trace = store(options.folder, options.calls)
    if options.ingest:
        dashboard.run(options.folder)
        return 0
    reader = Reader(options.folder, DATABASE, Limits())
    embedded = Embedded(options.folder, DATABASE)
    found: dict[int, list[Timing]] = {}
    try:
        for days in options.days:
            found[days] = [
                timed(name, partial(reader.ask, sql, "JSONCompact"), options.rounds)
                for name, sql in (() if options.only_pages else panels(end, days, trace))
            ]
            found[days] += pages(embedded, end, days, trace, options.rounds)
    finally:
        embedded.close()
        reader.close()
    console = Console(highlight=False, soft_wrap=True)
    for days, timings in found.items():
        table = Table(
            title=f"{options.calls:,} calls and their spans, the last {days} days asked for",
            title_justify="left",
            box=None,
        )
        table.add_column("Figure")
        table.add_column("Cold s", justify="right")
        table.add_column("Warm s", justify="right")
        table.add_column("CPU s", justify="right")
        for one in sorted(timings, key=lambda timing: -timing.warm_s):
            slow = one.warm_s > SLOW_S
            table.add_row(one.figure, f"{one.cold_s:.2f}", f"{one.warm_s:.2f}{' slow' if slow else ''}", f"{one.cpu_s:.2f}", style="red" if slow else "")  # fmt: skip
        console.print(table)
    if options.json:
        options.json.write_text(json.dumps({days: [[t.figure, t.cold_s, t.warm_s, t.cpu_s] for t in timings] for days, timings in found.items()}, indent=1))  # fmt: skip
    return int(any(one.warm_s > SLOW_S for timings in found.values() for one in timings))


if __name__ == "__main__":
    raise SystemExit(main())
