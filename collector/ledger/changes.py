"""From one set of reports to the next: which calls are new, better, withdrawn, and what must be written anew.

The calls of a component are made twice, of the reports that were known and of those with the batch's; only the difference
matters. A call keeps its id through that: an id belongs to the call that holds the report it was named after, else to
the one that took most of its reports. Of two ids that turn out to be one call the one of the earlier day stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from collector.ledger.components import Call, Key, Record, Report, calls_of, covered
from collector.ledger.fields import day_of, row_of
from collector.ledger.rows import KEPT, MONEY


@dataclass(eq=False, slots=True)
class Unit:
    """Reports that are stored together: those of a call, or one that belongs to none.

    call_id:   None: no call
    committed: the call's row as it was last saved, priced; None: it has none
    row:       the row that this batch writes; None: nothing changed
    shown:     whether a span already went out with the call's cost on it
    stored:    whether it must be written
    number:    the row's place in the batch's calls
    """

    reports: list[Report]
    call_id: str | None = None
    committed: Record | None = None
    shown: bool = False
    row: Record | None = None
    stored: bool = False
    number: int = -1


@dataclass(frozen=True, slots=True)
class Spot:
    """The hashes by which a report is found. `up`: of its parent, or of the farthest span above it that was
    known. `source`: of the call's source, 0 of what is no call."""

    trace: int
    span: int
    response: int
    up: int
    source: int


@dataclass(eq=False, slots=True)
class Known:
    """A report that is remembered, with its call's row, and whether a span shows that call's cost."""

    entry: int
    row: Record
    spot: Spot
    committed: Record | None
    shown: bool


@dataclass(slots=True)
class Component:
    """Reports that may be one call, and what became of them.

    fresh:     the batch's reports
    spans:     their rows among the batch's spans
    withdrawn: rows that say that a call is none
    replaced:  committed rows that are no longer in force
    entries:   which entry of the index a report had
    spots:     the hashes that it is to be found by from now on
    """

    known: list[Known]
    fresh: list[tuple[Record, Spot]]
    spans: dict[Key, list[int]]
    units: list[Unit] = field(default_factory=list)
    withdrawn: list[Record] = field(default_factory=list)
    replaced: list[Record] = field(default_factory=list)
    entries: dict[Key, int] = field(default_factory=dict)
    spots: dict[Report, Spot] = field(default_factory=dict)


ParentOf = Callable[[int], int]


def settle(component: Component, before: ParentOf, after: ParentOf, version: int) -> None:
    """Fill `units`, `withdrawn` and `replaced`. `before` and `after` give the parent of a span without the batch and with it."""
    old = {_key(known.row): known for known in component.known}
    component.entries = {key: known.entry for key, known in old.items()}
    latest, news = _latest(component, old)
    reports_before = {key: Report(known.row) for key, known in old.items()}
    reports_after = {key: Report(row) for key, (row, _) in latest.items()}
    _connect(reports_before, {key: known.spot for key, known in old.items()}, before)
    component.spots = _connect(reports_after, {key: spot for key, (_, spot) in latest.items()}, after)

    calls = calls_of(list(reports_after.values()))
    hidden = covered(list(reports_after.values()))
    rows_before = {}
    for call in calls_of(list(reports_before.values())):
        committed = old[call.reports[0].key].committed
        if committed is not None:
            rows_before[committed["call_id"]] = row_of(call)
    component.units = _name(calls, old)
    used = {report for call in calls for report in call.reports}
    component.units += [Unit([r]) for r in sorted(reports_after.values(), key=lambda r: r.order) if r not in used]

    for unit, call in zip(component.units, calls, strict=False):
        row = row_of(call)
        if unit.committed is None or row != rows_before.get(unit.call_id):
            day = unit.committed["day"] if unit.committed else day_of(row["start_ns"] or 0)
            unit.row = {**row, "call_id": unit.call_id, "day": day, "version": version, "withdrawn": False}
            if unit.committed is not None:
                component.replaced.append(unit.committed)
    kept = {unit.call_id for unit in component.units}
    gone = {known.committed["call_id"]: known.committed for known in component.known if known.committed is not None}
    for call_id, committed in gone.items():
        if call_id not in kept:
            component.replaced.append(committed)
            withdrawn = {**committed, "version": version, "withdrawn": True}
            component.withdrawn.append(withdrawn | dict.fromkeys(MONEY))

    members = Counter(known.committed["call_id"] for known in old.values() if known.committed is not None)
    for unit in component.units:
        same = sum(1 for r in unit.reports if r.key in old and _call_id(old[r.key]) == unit.call_id)
        regrouped = same != len(unit.reports) or (unit.call_id is not None and same != members[unit.call_id])
        moved = regrouped or any(_moved(r, old, reports_before, news, hidden) for r in unit.reports)
        unit.stored = unit.row is not None or moved
        for report in unit.reports:
            if report in hidden and not report.row.get("covered"):
                report.row = {**report.row, "covered": True}
    _keep_originals(component.units, calls)


def _latest(component: Component, old: dict[Key, Known]) -> tuple[dict[Key, tuple[Record, Spot]], set[Key]]:
    """Each span's report once; of two that differ, the one that tells more. And whose report is new or different."""
    latest = {key: (known.row, known.spot) for key, known in old.items()}
    news = set()
    for record, spot in component.fresh:
        key = _key(record)
        if key not in latest:
            latest[key] = (record, spot)
        elif _told(record) > _told(latest[key][0]):
            latest[key] = (record, replace(spot, up=latest[key][1].up))
        else:
            continue
        news.add(key)
    return latest, news


def _call_id(known: Known) -> str | None:
    return known.committed["call_id"] if known.committed is not None else None


def _key(record: Record) -> Key:
    return (record["trace_id"], record["span_id"])


def _told(record: Record) -> tuple[bool, int, str]:
    """What makes one version of a span's report better than another. The text decides between equals, for good."""
    told = [(name, record[name]) for name in KEPT if record.get(name) is not None]
    return (bool(record.get("input_tokens") or record.get("output_tokens")), len(told), repr(told))


def _connect(reports: dict[Key, Report], spots: dict[Key, Spot], parent_of: ParentOf) -> dict[Report, Spot]:
    """Set each report's `above`. Gives the spots with `up` at the next span above that is a report or has no link."""
    by_span = {spot.span: reports[key] for key, spot in spots.items()}
    farther = {}
    for key, spot in spots.items():
        node, seen = spot.up, {spot.span}
        while node and node not in by_span and node not in seen:
            seen.add(node)
            node = parent_of(node) or node
        report, above = reports[key], by_span.get(node)
        report.above = above if above is not report else None
        farther[report] = replace(spot, up=node)
    return farther


def _name(calls: Sequence[Call], old: dict[Key, Known]) -> list[Unit]:
    """A unit per call, with the id that is its by right, and the row that is in force under that id."""
    units = [Unit(call.reports) for call in calls]
    claims: dict[str, Counter[int]] = {}
    rows: dict[str, Record] = {}
    shown: dict[str, bool] = {}
    for number, call in enumerate(calls):
        for report in call.reports:
            known = old.get(report.key)
            if known is not None and known.committed is not None:
                id_ = known.committed["call_id"]
                rows[id_], shown[id_] = known.committed, known.shown
                claims.setdefault(id_, Counter())[number] += 1
                units[number].shown |= known.shown
    holders = {f"{r.key[0]}-{r.key[1]}": number for number, call in enumerate(calls) for r in call.reports}
    for id_ in sorted(claims, key=lambda i: (rows[i]["day"], i)):
        holder = holders.get(id_, -1)
        free = [n for n in claims[id_] if units[n].call_id is None]
        if not free:
            continue
        owner = holder if holder in free else min(free, key=lambda n: (-claims[id_][n], n))
        units[owner].call_id, units[owner].committed = id_, rows[id_]
    taken = {unit.call_id for unit in units} | set(rows)
    for unit in units:
        if unit.call_id is None:
            unit.call_id = _new_id(unit.reports, taken)
            taken.add(unit.call_id)
    return units


def _new_id(reports: Sequence[Report], taken: Iterable[str | None]) -> str:
    """Named after the call's first report; after another, where that name is in use."""
    names = [f"{r.key[0]}-{r.key[1]}" for r in reports]
    names += [f"{names[0]}-{number}" for number in range(2, len(names) + 3)]
    return next((name for name in names if name not in taken), names[-1])


def _moved(
    report: Report, old: dict[Key, Known], before: dict[Key, Report], news: set[Key], hidden: set[Report]
) -> bool:
    """Whether what is stored of a report no longer holds."""
    if report.key in news or report.key not in old:
        return True
    above, was = report.above, before[report.key].above
    if (above and above.key) != (was and was.key):
        return True
    return report in hidden and not report.row.get("covered")


def _keep_originals(units: Sequence[Unit], calls: Sequence[Call]) -> None:
    """Write the call that was billed again with a new replay of it, so that it is not forgotten before its replays."""
    fresh = {r.row.get("response_id") for u, call in zip(units, calls, strict=False) if call.replay and u.stored for r in u.reports}  # fmt: skip
    for unit, call in zip(units, calls, strict=False):
        if not call.replay and any(r.row.get("response_id") in fresh for r in unit.reports):
            unit.stored = unit.stored or bool(fresh - {None})
