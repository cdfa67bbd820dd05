"""`spanledger demo --history`: a collector of its own with a past, and a company that goes on calling."""

from __future__ import annotations

import itertools
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from spanledger.cli.sender import Body, Sender, SendError, open_sender
from spanledger.cli.shell import CommandError, err, usage
from spanledger.cli.show import count
from spanledger.cli.stopping import until_stopped

if TYPE_CHECKING:
    import polars as pl

    from config.model import LoadedConfig
    from spanledger.demo.company import World
    from spanledger.service import Service

MARK, CONFIG = "demo.json", "demo.yaml"
#: Of the last so many seconds, or half of the history, spans are sent, so that traces can be opened.
SPANS_S = 24 * 3600
HOUR_NS = 3600 * 10**9
TICK_S = 1.0
_MOST_S = 120 * 86400
CALLS_A_DAY = 30_000
#: Days that live traffic may go on for.
_ON_AND_ON = 3650


def demo_with_history(length_s: float, data_dir: Path, seed: int, limit_s: float | None, overrides: Sequence[str]) -> None:  # fmt: skip
    """Write the past, start the collector, and send what happens from then on until told to stop."""
    if not 3600 <= length_s <= _MOST_S:
        usage(f"--history: from an hour to {_MOST_S // 86400} days")
    known = _known(data_dir)
    from collector.allocators import keep_freed_memory

    keep_freed_memory()
    from spanledger.demo.company import World

    began = time.monotonic()
    now_ns = time.time_ns()
    start_ns = known["start_ns"] if known else now_ns // HOUR_NS * HOUR_NS - round(length_s * 1e9)
    world = World.seeded(known["seed"] if known else seed, CALLS_A_DAY)
    with _quiet():
        with err.status("Starting (the first start on a machine compiles the decoder, about a minute)"):
            loaded = _prepared(world, data_dir, start_ns, overrides, fresh=known is None)
        company = _Company(world, start_ns, now_ns)
        if known:
            err.print(f"{data_dir} has a demo's history already; going on with it.", markup=False, soft_wrap=True)
            company.skip(now_ns)
        else:
            calls = _write(loaded, company, now_ns - round(min(SPANS_S, length_s / 2) * 1e9), start_ns)
            _mark(data_dir, world.seed, start_ns, complete=True)
            err.print(f"{count(calls)} calls of the past are written in {time.monotonic() - began:.0f} s")
    _run(loaded, company, limit_s)


def _prepared(world: World, data_dir: Path, start_ns: int, overrides: Sequence[str], *, fresh: bool) -> LoadedConfig:
    """The demo's config, which is written into its directory once."""
    from config import load
    from spanledger.demo.history import config_text

    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if fresh:
        _mark(data_dir, world.seed, start_ns, complete=False)
        (data_dir / CONFIG).write_text(config_text(world, data_dir.resolve(), start_ns), "utf-8")
    return load(data_dir / CONFIG, overrides=overrides)


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing of what is logged: one model has no price, and the collector will say so again."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _known(data_dir: Path) -> dict[str, int] | None:
    """What a demo left there; None where there is nothing. Raises `CommandError` where there is something else."""
    if not data_dir.exists() or (data_dir.is_dir() and not any(data_dir.iterdir())):
        return None
    try:
        mark = json.loads((data_dir / MARK).read_text("utf-8"))
        found = {"seed": int(mark["seed"]), "start_ns": int(mark["start_ns"])}
        complete = bool(mark["complete"])
    except (OSError, ValueError, KeyError, TypeError):
        raise CommandError(f"{data_dir} holds other data, which a demo must not be mixed with", "Name another directory with --data-dir.") from None  # fmt: skip
    if not complete:
        raise CommandError(f"{data_dir} holds a demo whose history was not finished", "Remove the directory, or name another one with --data-dir.")  # fmt: skip
    return found


def _mark(data_dir: Path, seed: int, start_ns: int, *, complete: bool) -> None:
    (data_dir / MARK).write_text(json.dumps({"seed": seed, "start_ns": start_ns, "complete": complete}), "utf-8")


class _Company:
    """Hands out a company's calls in order of time, without end."""

    def __init__(self, world: World, start_ns: int, now_ns: int) -> None:
        from collector.batch import NO_CALLS
        from spanledger.demo.history import troubles
        from spanledger.demo.reports import Reporter
        from spanledger.demo.traffic import month

        self._frames = month(world, start_ns, _ON_AND_ON, troubles(world, now_ns))
        self._next: pl.DataFrame | None = None
        self._reporter = Reporter(world)
        self._waiting = NO_CALLS  # began, or soon will, and are not reported yet

    def hours(self, until_ns: int) -> Iterator[tuple[int, pl.DataFrame]]:
        """The next hours that end by then, and the ends of them."""
        while True:
            if self._next is None:
                self._next = next(self._frames)
            end_ns = (int(self._next["start_ns"][0]) // HOUR_NS + 1) * HOUR_NS
            if end_ns > until_ns:
                return
            frame, self._next = self._next, None
            yield end_ns, frame

    def skip(self, until_ns: int) -> None:
        """Go on from a moment, without what was before."""
        import polars as pl

        for _ in self.hours(until_ns):
            pass
        if self._next is not None:
            rest = self._next.filter(pl.col("start_ns") >= until_ns)
            self._next = None if rest.is_empty() else rest

    def over(self, now_ns: int) -> pl.DataFrame:
        """Calls that are over by now, and were not handed out before. The hour that goes on may have more."""
        import polars as pl

        calls = pl.concat([self._waiting, *(frame for _, frame in self.hours(now_ns + HOUR_NS))])
        over = (pl.col("start_ns") + pl.col("duration_ns")) <= now_ns
        self._waiting = calls.filter(~over)
        return calls.filter(over)

    def requests(self, calls: pl.DataFrame) -> Iterator[Body]:
        """What is sent of them."""
        for body, _ in self._reporter.requests(calls):
            yield Body("demo", "traces", body)


def _write(loaded: LoadedConfig, company: _Company, until_ns: int, start_ns: int) -> int:
    """Write the hours that end by then; how many calls there were."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from spanledger.demo.history import History

    bar = Progress(TextColumn("Writing the past"), BarColumn(), TextColumn("{task.fields[day]}"), TimeElapsedColumn(), console=err, transient=True)  # fmt: skip
    history, calls, keep = History(loaded), 0, False
    try:
        with bar:
            task = bar.add_task("", total=max(until_ns - start_ns, 1), day="")
            for end_ns, frame in _by_day(company.hours(until_ns)):
                history.take(frame, end_ns)
                calls += len(frame)
                bar.update(task, completed=end_ns - start_ns, day=time.strftime("%d %b", time.gmtime(end_ns / 1e9)))
        keep = True
    finally:
        history.close(keep=keep)
    return calls


def _by_day(hours: Iterator[tuple[int, pl.DataFrame]]) -> Iterator[tuple[int, pl.DataFrame]]:
    """Hours together as days; the last may be shorter."""
    import polars as pl

    while day := list(itertools.islice(hours, 24)):
        yield day[-1][0], pl.concat([frame for _, frame in day])


def _run(loaded: LoadedConfig, company: _Company, limit_s: float | None) -> None:
    from collector.telemetry import set_up_logs
    from spanledger.service import Service

    set_up_logs(loaded.service.telemetry.logs)
    service = Service(loaded)
    wait = until_stopped()
    service.start()
    live = _Live(service, company, limit_s)
    live.start()
    wait()
    err.print("Stopping.", markup=False)
    live.stop()
    service.stop()
    if live.failed is not None:
        raise CommandError(str(live.failed), live.failed.hint)


class _Live(threading.Thread):
    """Sends calls when they are over, on a thread of its own; those of the last hours first."""

    def __init__(self, service: Service, company: _Company, limit_s: float | None) -> None:
        super().__init__(name="demo", daemon=True)
        self.failed: SendError | None = None
        self._service, self._company, self._limit_s = service, company, limit_s
        self._over = threading.Event()

    def run(self) -> None:
        endpoint = next(one for one in self._service.parts.endpoints if one.startswith("http"))
        sender = open_sender("http", endpoint, None, {}, retries=20)
        try:
            self._catch_up(sender)
            self._go_on(sender)
        except SendError as error:
            self.failed = None if self._over.is_set() else error
        finally:
            sender.close()
            if not self._over.is_set():
                os.kill(os.getpid(), signal.SIGTERM)  # the main thread waits for being told

    def stop(self) -> None:
        """Send nothing more."""
        self._over.set()
        self.join(30)

    def _catch_up(self, sender: Sender) -> None:
        url = self._service.admin.pages or f"http://{self._service.admin.endpoint}"
        err.print(f"[bold green]Look at it:[/] [bold]{url}[/]", soft_wrap=True)
        sent = 0
        for _, frame in self._company.hours(time.time_ns() // HOUR_NS * HOUR_NS):
            if self._over.is_set():
                return
            for body in self._company.requests(frame):
                sender.send(body)
            sent += len(frame)
        err.print(f"{f'{count(sent)} calls since then are sent with their spans; live' if sent else 'Live'} traffic goes on, Ctrl-C stops it.", soft_wrap=True)  # fmt: skip

    def _go_on(self, sender: Sender) -> None:
        until = time.monotonic() + self._limit_s if self._limit_s is not None else float("inf")
        while not self._over.wait(TICK_S) and time.monotonic() < until:
            for body in self._company.requests(self._company.over(time.time_ns())):
                sender.send(body)
