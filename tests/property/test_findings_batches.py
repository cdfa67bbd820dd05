"""The book of findings: the same observations give the same findings, wherever batches end and whatever restarts."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from collector.findings import Evidence, Finding, Observation, Severity, State, Transition
from tests.findings_kit import NOON_NS, Memory, S, new_book, observed

EVIDENCE = [Evidence(f"{n:032x}", f"{n:016x}") for n in range(1, 9)]
OBSERVATIONS = st.builds(
    observed,
    at=st.integers(0, 120),
    kind=st.sampled_from(["a.one", "b.two"]),
    team=st.sampled_from(["search", "ads"]),
    message=st.sampled_from(["One.", "Two."]),
    severity=st.sampled_from(Severity),
    holds=st.sampled_from([True, True, True, False]),
    measured=st.none() | st.integers(0, 9).map(float),
    cost_pico=st.none() | st.integers(0, 10**12),
    evidence=st.lists(st.sampled_from(EVIDENCE), max_size=3).map(tuple),
    quiet_ns=st.sampled_from([None, 5 * S, 20 * S, 60 * S]),
)
#: What a pipeline sees: observations, and calls that nothing is noticed about but that move the clock.
EVENTS = st.lists(OBSERVATIONS | st.integers(0, 150).map(lambda at: NOON_NS + at * S), min_size=1, max_size=25)
#: After each event: nothing, the batch ends; it is given up and done again; the process ends too.
CUTS = st.lists(st.sampled_from(["", "end", "again", "restart"]), min_size=25, max_size=25)


def run(events: list[Observation | int], cuts: list[str]) -> tuple[dict[str, Finding], Counter[tuple[str, Transition]]]:
    """The last state of each finding, and how often each was told what."""
    state = Memory()
    book = new_book(state)
    last: dict[str, Finding] = {}
    told: Counter[tuple[str, Transition]] = Counter()
    waiting: list[Observation | int] = []
    for event, cut in zip(events, [*cuts[: len(events) - 1], "end"], strict=True):
        waiting.append(event)
        if not cut:
            continue
        seen = [one for one in waiting if isinstance(one, Observation)]
        clock = max([one for one in waiting if isinstance(one, int)], default=0)
        if cut == "again":
            before = book.take(seen, clock)
            book.save(Memory())
            book.rollback()
            given_out = book.take(seen, clock)
            assert given_out == before
        else:
            given_out = book.take(seen, clock)
        book.save(state)
        for one in given_out:
            assert one.version > last[one.id].version if one.id in last else Transition.OPENED in one.transitions
            last[one.id] = replace(one, transitions=())
            told.update((one.id, transition) for transition in one.transitions)
        waiting.clear()
        if cut == "restart":
            book = new_book(state)
    return last, told


@settings(max_examples=150, deadline=None)
@given(EVENTS, CUTS)
def test_batches_and_restarts_change_no_finding_and_each_transition_is_told_once(
    events: list[Observation | int], cuts: list[str]
) -> None:
    whole, told_whole = run(events, [""] * 25)
    parts, told_parts = run(events, cuts)
    assert parts == whole
    for id_, finding in whole.items():
        for told in (told_whole, told_parts):
            assert told[id_, Transition.OPENED] == 1
            assert told[id_, Transition.RAISED] <= 2
            assert told[id_, Transition.RESOLVED] >= (finding.state is State.RESOLVED)
            assert told[id_, Transition.RESOLVED] <= 1


@settings(max_examples=100, deadline=None)
@given(EVENTS)
def test_findings_add_up_to_what_was_observed(events: list[Observation | int]) -> None:
    last, _ = run(events, [""] * 25)
    seen = [one for one in events if isinstance(one, Observation) and one.holds]
    assert sum(finding.observations for finding in last.values()) == len(seen)
    assert sum(f.cost_pico or 0 for f in last.values()) == sum(one.cost_pico or 0 for one in seen)
    open_ = Counter((f.kind, f.subject) for f in last.values() if f.state is State.OPEN)
    assert all(number == 1 for number in open_.values())
