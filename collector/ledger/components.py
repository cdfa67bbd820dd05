"""Which reports are one call: the rules of merging, as a function of a set of reports.

    identity     a span is itself once: trace id and span id
    id           the same response id, over traces too; unless the id proves to be nobody's
    numbers      one trace, a common model name (of which one may be the other's with a date) and equal numbers: one above
                 the other, or side by side at one time
    half told    one above the other, as well, of which one succeeded and tells no numbers, as many do of streams; or
                 neither tells any, and one no model either
    copy         is a call, if no call stands above it
    wrapper      stands for one unknown call, while no call stands below it
    rollup       is a call, if nothing below it tells usage
    caller       who asked a gateway: of use to a call that no gateway reports, as when it refused it

Two reports of one source are two calls, two ids are two calls. Nothing but the set of reports goes in, so neither order
nor batches nor restarts can matter.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations
from typing import Any

Record = dict[str, Any]
Key = tuple[str, str]  # trace id, span id

GATEWAY = 1
#: How many reports on either side are looked at to find one that ran at the same time.
NEIGHBOURS = 32
#: One answer has at most a few reports; an id under which this many kinds of answer came is nobody's.
KINDS_PER_ID = 50
#: How the name of what was served ends, where only the model's name was asked for.
_DATED = re.compile(r"[-@](?:20\d{6}|20\d\d-\d\d-\d\d)$")


@lru_cache(4096)
def _spellings(model: str) -> tuple[str, str]:
    """A model's name without its provider, and that without its date."""
    name = model.lower().rpartition("/")[2]
    return name, _DATED.sub("", name)


@dataclass(eq=False, slots=True)
class Report:
    """One span's report. `above` is the nearest report on the way from its span to the root of the trace."""

    row: Record
    above: Report | None = None
    key: Key = field(init=False)
    role: str = field(init=False)
    start: int = field(init=False)
    end: int = field(init=False)
    usage: tuple[int, int] | None = field(init=False)
    names: frozenset[str] = field(init=False)
    undated: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        row = self.row
        self.key = (row["trace_id"], row["span_id"])
        self.role = row["role"]
        self.start = row["start_ns"] or 0
        self.end = self.start + (row.get("duration_ns") or 0)
        told = (row.get("input_tokens") or 0, row.get("output_tokens") or 0)
        self.usage = told if any(told) else None  # zero in and zero out is no usage
        models = (row.get("request_model"), row.get("response_model"), row.get("upstream_model"))
        spellings = [_spellings(model) for model in models if model]
        self.names = frozenset(name for name, _ in spellings)
        self.undated = frozenset(name for both in spellings for name in both)

    @property
    def order(self) -> tuple[int, Key]:
        return (self.start, self.key)

    @property
    def gateway(self) -> bool:
        return bool(self.row.get("rank") == GATEWAY)

    @property
    def calls(self) -> bool:
        """Whether it reports a call of its own."""
        return self.role == "call" or (self.role == "copy" and not any(a.role == "call" for a in self.ancestors()))

    @property
    def hit(self) -> bool:
        return bool(self.row.get("response_cache_hit"))

    def ancestors(self) -> Iterator[Report]:
        """The reports above, nearest first. Links may be in a circle: then it ends."""
        seen = {id(self)}
        above = self.above
        while above is not None and id(above) not in seen:
            yield above
            seen.add(id(above))
            above = above.above

    def below(self, other: Report) -> bool:
        return any(above is other for above in self.ancestors())

    def same_model(self, other: Report) -> bool:
        """Whether a name is common to both; two dates of one model are two models."""
        return bool(self.names & other.undated or self.undated & other.names)


@dataclass(eq=False, slots=True)
class Call:
    """The reports of one call. `replay`: the same answer was counted before, so nothing was billed for this one."""

    reports: list[Report]
    replay: bool = False
    id: str = ""  # the response id that made them one; empty where none did
    caller: Report | None = None  # who asked for it, as a gateway has it that does not report the call


def calls_of(reports: Sequence[Report]) -> list[Call]:
    """The calls of a component, each report in one of them at most; in order of their first report."""
    own = sorted((r for r in reports if r.calls), key=lambda r: r.order)
    calls = _by_id(own)
    calls = _by_numbers(calls)
    calls += [Call([report]) for report in _standing_for(reports, calls)]
    for call in calls:
        call.reports.sort(key=lambda r: r.order)
    _ask(reports, calls)
    return sorted(calls, key=lambda call: call.reports[0].order)


# By response id ------------------------------------------------------------------------------------------------------


def _by_id(own: Sequence[Report]) -> list[Call]:
    """One call per id; several, where one source gave the id to several answers; one per report without an id."""
    calls: list[Call] = []
    ids: defaultdict[str, list[Report]] = defaultdict(list)
    for report in own:
        if report.row.get("response_id"):
            ids[report.row["response_id"]].append(report)
        else:
            calls.append(Call([report]))
    for id_, members in ids.items():
        if len(members) > 1 and _nobodys(members):
            calls += [Call([report]) for report in members]
        else:
            calls += _answers(id_, members)
    return calls


def _nobodys(members: Sequence[Report]) -> bool:
    """Whether an id names nothing: one source gave it to different numbers, or it stands for strangers in several traces.

    A mock, or a server that answers with a constant.
    """
    by_source: defaultdict[str | None, list[Report]] = defaultdict(list)
    kinds: defaultdict[tuple[tuple[int, int], frozenset[str]], set[str]] = defaultdict(set)
    for report in members:
        if report.usage is not None and not report.hit:
            by_source[report.row.get("source")].append(report)
            kinds[report.usage, report.undated].add(report.key[0])
    if len(kinds) > KINDS_PER_ID:
        return True
    for (usage, names), (other, names_) in combinations(kinds, 2):
        strangers = usage != other and names and names_ and not names & names_
        if strangers and len(kinds[usage, names] | kinds[other, names_]) > 1:
            return True
    for reports in by_source.values():
        if len({r.usage for r in reports}) > 1:
            for one, other_ in combinations(reports[: 4 * KINDS_PER_ID], 2):
                if one.usage != other_.usage and not one.below(other_) and not other_.below(one):
                    return True
    return False


def _answers(id_: str, members: list[Report]) -> list[Call]:
    """The calls under one id: nearly always one. More: a cache gave the answer again; all but one were not billed."""
    groups = _Groups(members)
    for report in members:
        for above in report.ancestors():
            if above.row.get("source") == report.row.get("source") and above in groups:
                groups.join(report, above)
    for one, other in _pairs(members):
        if groups.sources(one).isdisjoint(groups.sources(other)):
            groups.join(one, other)
    calls = [Call(reports, id=id_) for reports in groups.all()]
    if len(calls) > 1:
        fresh = [call for call in calls if not any(r.hit for r in call.reports)]
        billed = min(fresh, key=lambda call: (all(r.usage is None for r in call.reports), min(r.order for r in call.reports)), default=None)  # fmt: skip
        for call in calls:
            call.replay = call is not billed
    return calls


# By numbers ----------------------------------------------------------------------------------------------------------


def _by_numbers(calls: list[Call]) -> list[Call]:
    """Join calls without a common id: one trace, a common model, equal numbers, nested or at the same time."""
    if len(calls) < 2:
        return calls
    alike: defaultdict[tuple[str, tuple[int, int] | None], list[Report]] = defaultdict(list)
    call_of = {report: call for call in calls for report in call.reports}
    for report in call_of:
        alike[report.key[0], report.usage].append(report)
    pairs: list[tuple[bool, int, Report, Report]] = []
    for reports in alike.values():
        if len(reports) > 1 and len({r.row.get("source") for r in reports}) > 1:
            pairs += _ranked(reports)
    half = [(False, _distance(one, other), one, other) for one, other in _half_told(call_of)]
    groups = _Groups(call_of)
    for call in calls:
        for report in call.reports[1:]:
            groups.join(call.reports[0], report)
    ids = {groups.root(call.reports[0]): {call.id} - {""} for call in calls}
    for beside, _, one, other in [*sorted(pairs, key=_pair_order), *sorted(half, key=_pair_order)]:
        a, b = groups.root(one), groups.root(other)
        akin = one.same_model(other) or (not beside and _unnamed(one, other))
        if a == b or not akin or not groups.sources(one).isdisjoint(groups.sources(other)):
            continue
        if one.usage != other.usage and groups.tells(one) and groups.tells(other):
            continue  # what the one lacks, another report of the same call has told
        if ids[a] and ids[b] and (ids[a] & ids[b] or beside or not (one.gateway and other.gateway)):
            continue  # different answers, or replays of one; but a gateway behind a gateway gives ids of its own
        groups.join(one, other)
        ids[groups.root(one)] = ids[a] | ids[b]
    return [Call(reports, any(call_of[r].replay for r in reports)) for reports in groups.all()]


def _unnamed(one: Report, other: Report) -> bool:
    """Whether neither tells numbers and one not even a model, as a framework does of a call that failed."""
    return one.usage is None and other.usage is None and not (one.names and other.names)


def _half_told(reports: Iterable[Report]) -> Iterator[tuple[Report, Report]]:
    """Reports of different sources, one above the other, of which one tells its numbers and one that did not fail does not."""
    known = set(reports)
    for report in known:
        for above in report.ancestors():
            mute = report if report.usage is None else above
            if (
                above in known
                and (report.usage is None) != (above.usage is None)
                and report.row.get("source") != above.row.get("source")
                and mute.row.get("status") != "Error"
            ):
                yield report, above


def _ranked(reports: list[Report]) -> Iterator[tuple[bool, int, Report, Report]]:
    """Pairs of different sources that are nested (False) or overlap in time (True), with their distance in time."""
    here = {id(r) for r in reports}
    nested = set()
    for report in reports:
        for above in report.ancestors():
            if id(above) in here:
                nested.add((id(report), id(above)))
                yield False, _distance(report, above), report, above
    for one, other in _neighbours(reports):
        apart = (id(one), id(other)) not in nested and (id(other), id(one)) not in nested
        if apart and _at_one_time(one, other):
            yield True, _distance(one, other), one, other


def _distance(one: Report, other: Report) -> int:
    return abs(one.start - other.start) + abs(one.end - other.end)


def _pair_order(pair: tuple[bool, int, Report, Report]) -> tuple[bool, int, Key, Key]:
    beside, distance, one, other = pair
    return (beside, distance, *sorted((one.key, other.key)))  # type: ignore[return-value]


def _pairs(members: Sequence[Report]) -> list[tuple[Report, Report]]:
    """Pairs that may be one answer, the likeliest first: nested, in one trace, nearest in time."""
    if len({r.row.get("source") for r in members}) == 1:
        return []
    found: list[tuple[int, tuple[bool, int, Report, Report]]] = []
    known = set(members)
    by_trace: defaultdict[str, list[Report]] = defaultdict(list)
    for report in members:
        by_trace[report.key[0]].append(report)
    for reports in by_trace.values():
        nested = [(False, _distance(r, above), r, above) for r in reports for above in r.ancestors() if above in known]
        found += [(0, pair) for pair in nested]
        found += [(1, (True, _distance(a, b), a, b)) for a, b in _neighbours(reports)]
    if len(by_trace) > 1:
        found += [(2, (True, _distance(a, b), a, b)) for a, b in _neighbours(members)]
    found.sort(key=lambda pair: (pair[0], _pair_order(pair[1])))
    return [(one, other) for _, (_, _, one, other) in found]


def _neighbours(reports: Iterable[Report]) -> Iterator[tuple[Report, Report]]:
    """Each report with the nearest by start, on both sides, of every other source."""
    by_source: defaultdict[str | None, list[Report]] = defaultdict(list)
    for report in reports:
        by_source[report.row.get("source")].append(report)
    for reports_ in by_source.values():
        reports_.sort(key=lambda r: r.order)
    for source, other_source in combinations(sorted(by_source, key=lambda s: s or ""), 2):
        others = by_source[other_source]
        starts = [r.start for r in others]
        for report in by_source[source]:
            at = bisect_left(starts, report.start)
            for other in others[max(at - NEIGHBOURS, 0) : at + NEIGHBOURS]:
                yield report, other


class _Groups:
    """Disjoint sets of reports."""

    def __init__(self, reports: Iterable[Report]) -> None:
        self._of = {report: number for number, report in enumerate(reports)}
        self._parent = list(range(len(self._of)))
        self._sources: dict[int, set[str | None]] = {n: {r.row.get("source")} for r, n in self._of.items()}
        self._tell = [report.usage is not None for report in self._of]

    def __contains__(self, report: Report) -> bool:
        return report in self._of

    def root(self, report: Report) -> int:
        number = self._of[report]
        while self._parent[number] != number:
            self._parent[number] = number = self._parent[self._parent[number]]
        return number

    def sources(self, report: Report) -> set[str | None]:
        return self._sources[self.root(report)]

    def tells(self, report: Report) -> bool:
        """Whether any report of the set tells numbers."""
        return self._tell[self.root(report)]

    def join(self, one: Report, other: Report) -> None:
        a, b = sorted((self.root(one), self.root(other)))
        if a != b:
            self._parent[b] = a
            self._tell[a] |= self._tell[b]
            self._sources[a] |= self._sources.pop(b)

    def all(self) -> list[list[Report]]:
        groups: defaultdict[int, list[Report]] = defaultdict(list)
        for report in self._of:
            groups[self.root(report)].append(report)
        return list(groups.values())


# Wrappers and rollups -------------------------------------------------------------------------------------------------


def _standing_for(reports: Sequence[Report], calls: Sequence[Call]) -> Iterator[Report]:
    """The wrappers and rollups below which nothing reported: the only witnesses of their calls."""
    above = [r for r in reports if r.role == "wrapper" or (r.role == "rollup" and r.usage is not None)]
    if not above:
        return
    hidden = covered(reports)
    ids = {r.row["response_id"] for call in calls for r in call.reports if r.row.get("response_id")}
    for report in above:
        if report not in hidden and report.row.get("response_id") not in ids:
            yield report


def covered(reports: Sequence[Report]) -> set[Report]:
    """The wrappers with a call below and the rollups with usage below. Once covered is covered, whatever is forgotten.

    A copy of an answer covers, too, also where a call above it reports that: what stands between them wraps the same call.
    """
    hidden = {r for r in reports if r.row.get("covered")}
    for report in reports:
        calls = report.role in ("call", "copy")
        tells = report.usage is not None and (calls or report.role in ("wrapper", "rollup"))
        if tells or calls or report.role == "wrapper":
            hidden.update(a for a in report.ancestors() if a.role == "wrapper" or (a.role == "rollup" and tells))
    return hidden


# Who asked ------------------------------------------------------------------------------------------------------------


def _ask(reports: Sequence[Report], calls: Sequence[Call]) -> None:
    """Give calls that no gateway reports their caller: above or below them, else at the same time, the nearest.

    A caller whose request a gateway did report is that call's own.
    """
    served = {above for call in calls for r in call.reports if r.gateway for above in r.ancestors()}
    free: defaultdict[str, list[Report]] = defaultdict(list)
    for report in sorted((r for r in reports if r.role == "caller" and r not in served), key=lambda r: r.order):
        free[report.key[0]].append(report)
    if not free:
        return
    call_of = {r: call for call in calls if not any(other.gateway for other in call.reports) for r in call.reports}
    found: defaultdict[Call, list[tuple[bool, int, Report]]] = defaultdict(list)
    for report, call in call_of.items():
        callers = free.get(report.key[0], [])
        at = bisect_left(callers, report.order, key=lambda r: r.order)
        beside = [c for c in callers[max(at - NEIGHBOURS, 0) : at + NEIGHBOURS] if _at_one_time(report, c)]
        above = [c for c in report.ancestors() if c.role == "caller" and c not in served]
        found[call] += [(False, abs(c.start - report.start), c) for c in above]
        found[call] += [(True, abs(c.start - report.start), c) for c in beside]
    for caller in (c for callers in free.values() for c in callers):
        for report in caller.ancestors():
            if report in call_of:
                found[call_of[report]].append((False, abs(caller.start - report.start), caller))
    for call, told in found.items():
        call.caller = min(told, key=lambda t: (*t[:2], t[2].order))[2] if told else None


def _at_one_time(one: Report, other: Report) -> bool:
    return one.start <= other.end and other.start <= one.end
