"""The ledger's tables against plain dicts: entries come, are replaced and are forgotten; rings wrap around and grow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.ledger import index
from collector.ledger.index import Links, Place, Reports, places

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(st.tuples(st.integers(1, 6), st.integers(0, 4)), min_size=1, max_size=9)),
        st.tuples(st.just("forget"), st.integers(0, 12)),
        st.tuples(st.just("replace"), st.integers(0, 30)),
    ),
    max_size=40,
)
#: Hashes that share their lowest bits meet in the tables.
FAR = 1 << 40


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_reports_are_found_by_trace_response_and_span(steps: list[tuple[str, object]]) -> None:
    """Scenario: traces and ids that collide, in a ring that starts with 8 places."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "_SMALLEST", 8)
        reports = Reports()
    model: dict[int, tuple[int, int, int]] = {}  # entry: trace, response, span
    low = 0
    for number, (what, value) in enumerate(steps):
        if what == "forget":
            low = min(low + int(value), reports.high)  # type: ignore[call-overload]
            reports.forget(low)
            model = {entry: row for entry, row in model.items() if entry >= low}
            continue
        moved: list[int] = []
        if what == "replace":
            if not model:
                continue
            entry = sorted(model)[int(value) % len(model)]  # type: ignore[call-overload]
            rows = [model.pop(entry)]
            moved = [entry]
        else:
            rows = [(t * FAR, r * FAR, number * 100 + n) for n, (t, r) in enumerate(value)]  # type: ignore[call-overload]
        first = reports.high
        trace, response, span = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
        columns = {"trace": trace, "span": span, "response": response, "up": span + 1, "call": span + 2, "source": span, "place": places(number, number % 2, len(rows))}  # fmt: skip
        reports.append(columns, np.array(moved, dtype=np.int64))
        model |= {first + n: row for n, row in enumerate(rows)}
        assert reports.place(first) == Place(number, number % 2, 0)
        for key in range(1, 7):
            mine = sorted((e for e, row in model.items() if row[0] == key * FAR), reverse=True)
            assert reports.find_like("trace", key * FAR, 100) == mine
            assert reports.find_like("trace", key * FAR, 2) == mine[:2]
            spans = [model[e][2] for e in mine] + [-7]
            assert reports.find(key * FAR, spans) == [*mine, -1]
            if key < 5:
                same = sorted((e for e, row in model.items() if row[1] == key * FAR), reverse=True)
                assert reports.find_like("response", key * FAR, 100) == same
        assert len(reports) == reports.high - low


def test_a_million_spans_take_about_a_hundred_bytes_each() -> None:
    """Scenario: a million reports and a million links; then as many again, of which the first are forgotten."""
    reports, links = Reports(), Links()
    chance = np.random.default_rng(1)
    count, none = 50_000, np.zeros(0, dtype=np.int64)
    seen = []
    for step in range(40):
        columns = {name: chance.integers(1, 2**62, count) for name in Reports.NAMES}
        if step >= 20:
            reports.forget(reports.high - 19 * count)
            links.forget(links.high - 19 * count)
        reports.append(columns, none)
        links.append(columns["span"], columns["up"])
        seen.append(columns)
    assert reports.nbytes / len(reports) < 120
    assert links.nbytes / len(links) < 40
    last, first = seen[-1], seen[0]
    for row in range(0, count, 5000):
        assert reports.find_like("trace", int(last["trace"][row]), 9) == [39 * count + row]
        assert links.parent(int(last["span"][row])) == last["up"][row]
        assert reports.find_like("trace", int(first["trace"][row]), 9) == []
        assert links.parent(int(first["span"][row])) == 0
