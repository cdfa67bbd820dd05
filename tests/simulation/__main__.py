"""`python -m tests.simulation`: a month of traffic with sixty incidents, through the shipped detectors, scored kind by kind.

`--seed N` draws another company and other incidents; `-v` shows every incident, what was said of it, and every false alarm.
"""

from __future__ import annotations

import argparse
import logging
import time
from datetime import UTC, datetime
from statistics import median

from rich.console import Console
from rich.progress import track
from rich.table import Table

from spanledger.demo.company import World
from spanledger.demo.incidents import Kind
from spanledger.demo.rhythm import DAY_NS
from tests.simulation.incidents import plan
from tests.simulation.labels import Label, measured
from tests.simulation.scoring import Found, Machine, Row, Score, score, shipped, steps

#: A Monday.
START_NS = 1_793_577_600 * 10**9
#: What must be reached.
PRECISION, RECALL, DELAY_S, FALSE_A_DAY = 0.9, 0.9, 900, 1.0


def simulate(seed: int, console: Console | None = None, days: int = 30) -> Score:
    """Draw a company and its month by a seed, and score what the shipped processors say of it."""
    world = World.seeded(seed)
    labels = [Label(one) for one in plan(world, START_NS, seed, days)]
    machine = Machine(shipped(world))
    found: list[Found] = []
    calls = measured(world, START_NS, labels, days)
    for day in track(calls, "Simulating", days, console=console, transient=True, disable=console is None):
        for batch in steps(day.calls):
            found += machine.take(batch)
    return score(found, labels, days)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="another company, and other incidents (default: 1)")
    parser.add_argument("-v", "--verbose", action="store_true", help="every incident and every false alarm")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # one model has no price, and it says so
    console, began = Console(), time.monotonic()
    result = simulate(options.seed, console)
    console.print(_by_kind(result))
    if options.verbose:
        _print_all(console, result)
    _print_sums(console, result)
    console.print(f"[dim]seed {options.seed}, {result.days} days, {time.monotonic() - began:.0f} s[/]")


def _by_kind(result: Score) -> Table:
    table = Table("kind", "incidents", "found", "median delay", "findings", "cost USD", title="Incidents by kind")
    for column in table.columns[1:]:
        column.justify = "right"
    for kind in Kind:
        rows = [row for row in result.rows if row.label.incident.kind is kind]
        if rows:
            delays = [row.delay_s for row in rows if row.delay_s is not None]
            hit = sum(bool(row.found) for row in rows)
            style = None if hit == len(rows) else "yellow"
            table.add_row(
                kind.value, str(len(rows)), str(hit), _minutes(median(delays) if delays else None), str(sum(len(row.found) for row in rows)),
                f"{sum(max(row.label.cost_usd, 0) for row in rows):,.0f}", style=style,
            )  # fmt: skip
    return table


def _print_sums(console: Console, result: Score) -> None:
    dear = sum(row.label.dear for row in result.rows)
    delay = result.median_delay_s
    for name, value, reached in (
        ("precision", f"{result.precision:.3f} ({result.true} of {result.true + len(result.false)} findings; at least {PRECISION})", result.precision >= PRECISION),
        ("recall", f"{result.recall:.3f} ({sum(bool(r.found) for r in result.rows)} of {len(result.rows)} incidents; at least {RECALL})", result.recall >= RECALL),
        ("median delay", f"{_minutes(delay)} ({dear} incidents of more than 5% of the daily spend; below {_minutes(DELAY_S)})", delay is not None and delay < DELAY_S),
        ("false alarms", f"{result.false_a_day:.2f} a day (at most {FALSE_A_DAY:g})", result.false_a_day <= FALSE_A_DAY),
    ):  # fmt: skip
        console.print(f"{name:<13} [{'green' if reached else 'red'}]{value}[/]", highlight=False, soft_wrap=True)


def _print_all(console: Console, result: Score) -> None:
    for row in result.rows:
        console.print(_line(row), style=None if row.found else "yellow", highlight=False, markup=False, soft_wrap=True)
        for one in sorted(row.found, key=lambda one: one.at_ns):
            console.print(f"      {_when(one.at_ns)} {one.finding.kind}: {one.finding.message}", style="dim", highlight=False, markup=False, soft_wrap=True)  # fmt: skip
    for one in result.false:
        console.print(f"false {_when(one.at_ns)} {one.finding.kind} {dict(one.finding.subject)}: {one.finding.message}", style="red", highlight=False, markup=False, soft_wrap=True)  # fmt: skip


def _line(row: Row) -> str:
    one = row.label.incident
    return (
        f"{'found' if row.found else 'missed':<6} {_when(one.start_ns)} {one.kind.value:<19} {(one.end_ns - one.start_ns) / 3.6e12:5.1f} h  x{one.strength:<7.2f} "
        f"{row.label.changed:>6} calls {row.label.cost_usd:>9.2f} USD{'*' if row.label.dear else ' '} after {_minutes(row.delay_s):>7}  "
        f"{', '.join(f'{name}={value}' for name, value in one.where)}{' → ' + one.to if one.to else ''}"
    )


def _when(ns: int) -> str:
    return f"day {(ns - START_NS) // DAY_NS:>2} {datetime.fromtimestamp(ns / 1e9, UTC):%a %H:%M}"


def _minutes(seconds: float | None) -> str:
    return "–" if seconds is None else "never" if seconds == float("inf") else f"{seconds / 60:.1f} m"


if __name__ == "__main__":
    main()
