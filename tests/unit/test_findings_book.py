"""The book of findings, case by case. That batches and restarts change nothing is in property/test_findings_batches.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
from prometheus_client import CollectorRegistry

from collector.batch import Position, SpanBatch
from collector.columns import CALL_COLUMNS, schema
from collector.component import Context, Processor
from collector.episodes import EVIDENCE, REMEMBER_NS
from collector.errors import StoreError
from collector.evidence import marked
from collector.findings import Evidence, Resolution, Severity, State, Transition
from collector.findings_book import AHEAD_NS, FindingsBook
from collector.otlp import decode
from config.types import StrictModel
from tests.findings_kit import NOON_NS, Memory, S, new_book, observed
from tests.pipeline_kit import Tally, rig
from tests.spans_kit import calls, request, span

OPENED, RAISED, RESOLVED = Transition


def test_more_of_the_same_updates_the_open_finding() -> None:
    book = new_book()
    (first,) = book.take([observed(0, cost_pico=5, measured=1.0, message="One.")], 0)
    (second,) = book.take([observed(9, cost_pico=7, measured=2.0, message="Two."), observed(4, message="Late.")], 0)
    assert first.transitions == (OPENED,)
    assert second.id == first.id
    assert second.transitions == ()
    assert (second.cost_pico, second.measured, second.message, second.observations) == (12, 2.0, "Two.", 3)
    assert (second.first_seen_ns, second.last_seen_ns) == (NOON_NS, NOON_NS + 9 * S)


def test_severity_rises_and_never_falls() -> None:
    book = new_book()
    book.take([observed(0)], 0)
    (raised,) = book.take([observed(1, severity=Severity.CRITICAL)], 0)
    (after,) = book.take([observed(2, severity=Severity.INFO)], 0)
    assert (raised.severity, raised.transitions) == (Severity.CRITICAL, (RAISED,))
    assert (after.severity, after.transitions) == (Severity.CRITICAL, ())


def test_a_recovery_resolves_and_what_comes_after_it_is_another_finding() -> None:
    book = new_book()
    (opened,) = book.take([observed(0)], 0)
    (resolved,) = book.take([observed(5, holds=False, message="All is well.")], 0)
    assert (resolved.id, resolved.state, resolved.resolution) == (opened.id, State.RESOLVED, Resolution.RECOVERED)
    assert (resolved.message, resolved.resolved_ns) == ("All is well.", NOON_NS + 5 * S)
    assert book.open == 0
    (again,) = book.take([observed(6)], 0)
    assert again.id != opened.id
    assert book.take([observed(7, team="ads", holds=False)], 0) == ()  # nothing was open


def test_a_recovery_that_is_older_than_the_last_observation_says_nothing() -> None:
    book = new_book()
    book.take([observed(5, quiet_ns=60 * S)], 0)
    assert book.take([observed(4, holds=False)], 0) == ()
    (late,) = book.take([observed(65, quiet_ns=60 * S)], 0)  # the last moment that belongs to it
    assert (late.observations, late.transitions, late.version) == (2, (), 4)
    (over,) = book.take([observed(70, holds=False)], 0)
    (more,) = book.take([observed(66, cost_pico=3)], 0)  # it was so before that
    assert (more.id, more.state, more.cost_pico, more.version) == (over.id, State.RESOLVED, 3, 9)


def test_what_was_quiet_for_long_enough_is_resolved_by_the_calls_that_come() -> None:
    book = new_book()
    book.take([observed(0, quiet_ns=60 * S)], 0)
    assert book.take([], NOON_NS + 60 * S) == ()
    (resolved,) = book.take([], NOON_NS + 61 * S)
    assert (resolved.resolution, resolved.resolved_ns) == (Resolution.QUIET, NOON_NS + 60 * S)
    (late,) = book.take([observed(30, quiet_ns=60 * S, cost_pico=3)], 0)  # it ends later than was thought
    assert (late.id, late.state, late.transitions, late.cost_pico) == (resolved.id, State.OPEN, (), 3)
    (over,) = book.take([], NOON_NS + 91 * S)
    assert (over.state, over.transitions) == (State.RESOLVED, ())  # that it was resolved has been told


def test_a_resolved_finding_is_forgotten_after_a_day() -> None:
    state = Memory()
    book = new_book(state)
    book.take([observed(0, quiet_ns=S)], 0)
    book.save(state)
    book.take([], NOON_NS + 2 * S)
    book.save(state)
    assert len(state.values) == 2
    assert book.take([], NOON_NS + S + REMEMBER_NS + 1) == ()
    book.save(state)
    assert list(state.values) == [b"clock"]


def test_evidence_is_the_first_few_distinct_spans() -> None:
    spans = [Evidence(f"{n:032x}", f"{n:016x}") for n in range(9)]
    book = new_book()
    book.take([observed(0, evidence=(spans[0], spans[0], spans[1]))], 0)
    (found,) = book.take([observed(1, evidence=tuple(spans))], 0)
    assert found.evidence == tuple(spans[:EVIDENCE])


def test_a_full_book_resolves_what_was_seen_least_recently() -> None:
    state = Memory()
    book = new_book(state, most=2)
    book.take([observed(0, team="a"), observed(9, team="b"), observed(1, team="c", holds=True)], 0)
    book.save(state)
    out = book.take([observed(3, team="d")], 0)
    book.save(state)
    evicted = [one for one in out if one.resolution is Resolution.EVICTED]
    assert [dict(one.subject)["team"] for one in evicted] == ["c"]
    assert evicted[0].transitions == (RESOLVED,)
    assert len(new_book(state)._episodes) == book.open == 2


def test_what_a_batch_gave_up_changed_is_undone() -> None:
    state = Memory()
    book = new_book(state, most=3)
    book.take([observed(0, quiet_ns=60 * S), observed(0, team="ads")], 0)
    book.save(state)
    before = dict(state.values)
    tried = [observed(5, team="x"), observed(6, team="y"), observed(7, holds=False)]
    first = book.take(tried, NOON_NS + 90 * S)
    book.rollback()
    book.save(state)
    assert state.values == before
    assert book.take(tried, NOON_NS + 90 * S) == first
    book.rollback()
    (resolved,) = book.take([], NOON_NS + 61 * S)  # the queue still has it
    assert resolved.resolution is Resolution.QUIET


def test_metrics_count_what_was_saved_once() -> None:
    registry = CollectorRegistry()
    book = FindingsBook(registry, most=1)
    book.load(Memory())
    book.take([observed(0), observed(1, team="ads")], 0)
    assert not registry.get_sample_value("spanledger_findings_total", {"kind": "test.kind", "transition": "opened"})
    book.save(Memory())
    book.save(Memory())
    assert registry.get_sample_value("spanledger_findings_total", {"kind": "test.kind", "transition": "opened"}) == 2
    assert registry.get_sample_value("spanledger_findings_evicted_total") == 1
    assert registry.get_sample_value("spanledger_findings_open") == 1


def _batch(starts: list[int], received_ns: int) -> SpanBatch:
    empty = SpanBatch.blank(decode.decode(b""), Position(1, 1), received_ns)
    return empty.with_(calls=pl.DataFrame({"start_ns": starts}, schema_overrides=schema(CALL_COLUMNS)))


def test_a_clock_that_is_years_ahead_ends_nothing() -> None:
    book = new_book()
    (opened,) = book.observe(_batch([], NOON_NS).with_(observed=(observed(0, quiet_ns=60 * S),))).findings
    ahead = NOON_NS + 10**18
    assert book.observe(_batch([ahead, NOON_NS + 30 * S], NOON_NS)).findings == ()
    (wrong,) = book.observe(_batch([], NOON_NS).with_(observed=(observed(10**9, team="ads"),))).findings[:1]
    assert wrong.last_seen_ns == NOON_NS + AHEAD_NS
    assert book.observe(_batch([ahead], NOON_NS)).findings == ()
    assert opened.state is State.OPEN


class Watcher(Processor[StrictModel]):
    """Observes every call that is new."""

    Config = StrictModel

    def __init__(self) -> None:
        super().__init__(StrictModel(), Context("watcher", Path(), CollectorRegistry()))

    def process(self, batch: SpanBatch) -> SpanBatch:
        new = len(batch.calls) - len(batch.replaced)
        return batch.with_(observed=(*batch.observed, *(observed(0, cost_pico=1) for _ in range(new))))


def test_findings_outlive_the_process_and_count_nothing_twice(tmp_path: Path) -> None:
    faults: list[Exception] = [StoreError("written again"), RuntimeError("halved, and done again")]

    def fails(ids: set[str]) -> None:
        if "c" in ids and faults:
            raise faults.pop(0)

    with rig(tmp_path, Watcher()) as running:
        late = running.processors[-1]
        assert isinstance(late, Tally)
        late.save_fault = fails
        running.start()
        first = calls(["a", "b"])
        for bodies in ((first,), (first, calls(["c"]), calls(["d"]))):
            running.put(*bodies)
            running.settle()
            running.restart()
        with running.store.reader() as reader:
            ((_, value),) = reader.component("traces/findings").items(b"e")
    assert json.loads(value)["finding"]["cost_pico"] == 4
    assert not faults


def test_spans_say_what_they_are_evidence_of() -> None:
    one, other = span("chat"), span("chat")
    batch = SpanBatch.blank(decode.decode(request(spans=[one, other, one])), Position(1, 1), NOON_NS)
    evidence = Evidence(one.trace_id.hex(), one.span_id.hex())
    elsewhere = Evidence("00" * 16, other.span_id.hex())
    seen = (
        observed(kind="b.two", evidence=(evidence,)),
        observed(kind="a.one", evidence=(elsewhere, evidence)),
        observed(kind="c.over", evidence=(Evidence(other.trace_id.hex(), other.span_id.hex()),), holds=False),
    )
    assert marked(batch.with_(observed=seen)).spans["findings"].to_list() == ["a.one,b.two", None, "a.one,b.two"]
    assert marked(batch) is batch
    unseen = batch.with_(observed=(observed(evidence=(elsewhere,)),))
    assert marked(unseen) is unseen


def test_the_processor_that_the_page_shows_works() -> None:
    page = (Path(__file__).parents[2] / "docs" / "findings.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    exec(page.partition("```python\n")[2].partition("```")[0], names)
    rows = {
        "start_ns": [NOON_NS],
        "team": ["(unattributed)"],
        "app": ["chat"],
        "cost_pico": [5],
        "trace_id": ["a"],
        "span_id": ["b"],
    }
    batch = _batch([], NOON_NS).with_(calls=pl.DataFrame(rows, schema_overrides=schema(CALL_COLUMNS)))
    processor = names["NoTeam"](StrictModel(), Context("no_team", Path(), CollectorRegistry()))
    (found,) = new_book().observe(processor.process(batch)).findings
    assert (found.kind, found.cost_pico, found.message) == (
        "acme.no_team",
        5,
        "chat makes calls that no team pays for.",
    )
