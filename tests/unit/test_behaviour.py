"""Behaviour: shares against weights, rate limits, stricter guardrails, slower answers and why; the same whatever the batches."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from collector.component import Context
from collector.findings import Evidence, Finding, Observation
from collector.findings_book import FindingsBook
from config.errors import ConfigError
from config.loader import load_part
from processors.behaviour import Behaviour, BehaviourConfig
from processors.behaviour.evidence import deviations, share_of
from processors.behaviour.windows import Tally
from tests.findings_kit import Memory, new_book
from tests.ledger_rows import batch, call
from tests.spans_kit import NOON_NS

S, MINUTE = 10**9, 60 * 10**9
WINDOW = 15 * MINUTE
START = NOON_NS - NOON_NS % WINDOW


def processor(state: Memory | None = None, **options: Any) -> Behaviour:
    made = Behaviour(BehaviourConfig.model_validate(options), Context("behaviour", Path(), CollectorRegistry()))
    made.load(state or Memory())
    return made


def row(window: float, number: int, **columns: Any) -> dict[str, Any]:
    """Call `number` of a window, a second after the one before."""
    at = START + round(window * WINDOW) + number * S
    ids = {"trace_id": f"{round(window * 100):016x}{number:016x}", "span_id": f"{number + 1:016x}"}
    return call(f"{window}-{number}-{sorted(columns.items())}", **{"start_ns": at, "app": "chat", **ids, **columns})


def observed(
    made: Behaviour, rows: Sequence[dict[str, Any]], replaced: Iterable[dict[str, Any]] = ()
) -> list[Observation]:
    """What the processor notices, once the windows of these calls are over."""
    found = list(take(made, rows, replaced))
    found += take(made, [row(1000, 0, app="clock", request_model="clock", provider="clock")])
    return found


def take(
    made: Behaviour, rows: Sequence[dict[str, Any]], replaced: Iterable[dict[str, Any]] = ()
) -> Sequence[Observation]:
    one = batch(made=rows, replaced=replaced)
    return made.process(replace(one, received_ns=START + 2000 * WINDOW)).observed


def held(found: Iterable[Observation], kind: str) -> list[dict[str, str]]:
    return [dict(one.subject) for one in found if one.kind == kind and one.holds]


def shared(shares: dict[str, int], window: float = 0, **columns: Any) -> list[dict[str, Any]]:
    names = [name for name, count in shares.items() for _ in range(count)]
    return [row(window, number, deployment=name, **columns) for number, name in enumerate(names)]


GROUPS = [{"model": "gpt-4o", "weights": {"eu": 3, "us": 1}}]


@pytest.mark.parametrize(
    ("shares", "skewed", "idle"),
    [
        ({"eu": 300, "us": 100}, [], []),
        ({"eu": 320, "us": 80}, [], []),  # five points off: within the tolerance
        ({"eu": 240, "us": 160}, ["eu", "us"], []),
        ({"eu": 24, "us": 16}, [], []),  # the same shares, of too few calls
        ({"eu": 400}, ["eu"], ["us"]),
        ({"eu": 240, "us": 80, "ap": 80}, ["ap", "eu"], []),  # one that nobody configured
    ],
)
def test_shares_against_weights(shares: dict[str, int], skewed: list[str], idle: list[str]) -> None:
    found = observed(processor(groups=GROUPS), shared(shares))
    assert [one["deployment"] for one in held(found, "load.skewed")] == skewed
    assert [one["deployment"] for one in held(found, "load.idle")] == idle


def test_a_skewed_share_says_how_sure_it_is() -> None:
    found = observed(processor(groups=GROUPS), shared({"eu": 240, "us": 160}))
    (one,) = [one for one in found if dict(one.subject) == {"deployment": "eu", "model": "gpt-4o"}]
    assert one.message == (
        "deployment eu takes 60.0% (49.0% to 70.1%) of gpt-4o's calls, with 99.999% confidence; configured are 75.0%"
    )
    assert (one.measured, one.expected, one.unit, one.at_ns) == (0.6, 0.75, "share", START + WINDOW)


def test_groups_by_provider_and_pattern() -> None:
    groups = [{"model": "Claude-*", "by": "provider", "weights": {"anthropic": 1, "aws.bedrock": 1}}]
    rows = [row(0, n, request_model="claude-3", provider="anthropic", deployment=f"d{n}") for n in range(100)]
    rows += [row(0, n, request_model="gpt-4o", provider="anthropic") for n in range(100)]
    found = observed(processor(groups=groups), rows)
    assert held(found, "load.idle") == [{"model": "claude-3", "provider": "aws.bedrock"}]


def test_rate_limits_and_where_there_is_room() -> None:
    def limited(count: int, deployment: str, first: int) -> list[dict[str, Any]]:
        return [
            row(0, first + n, deployment=deployment, status="Error", error_type="RateLimitError") for n in range(count)
        ]

    rows = [*limited(40, "eu", 0), *[row(0, 100 + n, deployment="eu") for n in range(60)]]
    alone = observed(processor(), rows)
    assert held(alone, "load.rate_limited") == [{"deployment": "eu", "model": "gpt-4o"}]
    assert held(alone, "load.overloaded") == []
    both = observed(processor(), [*rows, *[row(0, 200 + n, deployment="us") for n in range(200)]])
    assert held(both, "load.rate_limited") == []
    (one,) = [one for one in both if one.kind == "load.overloaded"]
    assert "refuses 40.0%" in one.message
    assert one.message.endswith("while us has room")
    assert one.evidence == tuple(Evidence(r["trace_id"], r["span_id"]) for r in rows[:3])
    few = observed(processor(), [*limited(4, "eu", 0), *[row(0, 100 + n, deployment="eu") for n in range(60)]])
    assert held(few, "load.rate_limited") == []
    other = [{**r, "error_type": "timeout"} if r["status"] == "Error" else r for r in rows]
    assert held(observed(processor(), other), "load.rate_limited") == []


def test_failed_calls_that_name_no_deployment_are_a_part_of_their_providers_calls() -> None:
    """As LiteLLM reports them: of a call that failed it names the provider alone."""
    good = [row(0, n, deployment="eu") for n in range(540)]
    failed = [row(0, 600 + n, deployment=None, status="Error", error_type="429") for n in range(60)]
    (one,) = [one for one in observed(processor(), [*good, *failed]) if one.kind.startswith("load.") and one.holds]
    assert (one.kind, dict(one.subject)) == ("load.rate_limited", {"model": "gpt-4o", "provider": "openai"})
    assert one.measured == pytest.approx(0.1)
    assert not [
        one for one in observed(processor(), [*good, *failed[:20]]) if one.kind.startswith("load.") and one.holds
    ]


def refusing(window: float, refused: int, calls: int = 200) -> list[dict[str, Any]]:
    return [row(window, n, refused_by="blocklist" if n < refused else None) for n in range(calls)]


def test_a_guardrail_that_turns_strict_and_back() -> None:
    made = processor()
    for window in range(8):
        assert held(take(made, refusing(window, 2)), "guardrail.stricter") == []
    found = [*take(made, refusing(8, 30)), *observed(made, refusing(9, 2))]
    strict, mild = (one for one in found if one.kind == "guardrail.stricter")
    assert (strict.holds, mild.holds) == (True, False)
    assert dict(strict.subject) == {"app": "chat", "guardrail": "blocklist"}
    assert strict.measured == 0.15
    assert strict.expected == pytest.approx(0.01)
    assert len(strict.evidence) == 3
    assert strict.at_ns == START + 9 * WINDOW


@pytest.mark.parametrize(
    ("history", "refused", "options"),
    [
        (8, 3, {}),  # more, but as chance has it
        (1, 30, {}),  # no past to compare with
        (8, 30, {"ignore_guardrails": ["blocklist"]}),
        (8, 30, {"stricter": 20}),
    ],
)
def test_no_stricter_guardrail(history: int, refused: int, options: dict[str, Any]) -> None:
    made = processor(**options)
    for window in range(history):
        take(made, refusing(window, 2))
    assert held(observed(made, refusing(history, refused)), "guardrail.stricter") == []


def test_a_models_own_refusals_are_none_of_a_guardrails() -> None:
    made = processor()
    for window in range(8):
        take(made, refusing(window, 0))
    rows = [one | {"refused_by": "model"} for one in refusing(8, 0)]
    assert held(observed(made, rows), "guardrail.stricter") == []


def timed(
    window: float, total: float, gateway: float = 0.01, first: float | None = None, tokens: int = 100
) -> list[dict[str, Any]]:
    """Sixty calls of about `total` seconds, with parts of so many."""
    return [
        row(
            window, n, duration_ns=round(total * S * (0.9 + 0.2 * n / 60)), gateway_overhead_ns=round(gateway * S), output_tokens=tokens,
            time_to_first_token_ns=None if first is None else round((gateway + first) * S), upstream_model="gpt-4o-2024",
        )
        for n in range(60)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("latency.gateway", {"total": 6, "gateway": 4, "first": 0.5}),
        ("latency.first_token", {"total": 6, "first": 4.5}),
        ("latency.answer", {"total": 6, "first": 0.5}),
        ("latency.longer_answers", {"total": 6, "first": 0.5, "tokens": 350}),
    ],
)
def test_which_part_became_slow(kind: str, changed: dict[str, Any]) -> None:
    made = processor()
    for window in range(10):
        assert not [one for one in take(made, timed(window, 2, first=0.5)) if one.holds]
    found = [*take(made, timed(10, **changed)), *observed(made, timed(11, 2, first=0.5))]
    slow, normal = (one for one in found if one.kind.startswith("latency."))
    assert (slow.kind, slow.holds, normal.kind, normal.holds) == (kind, True, kind, False)
    assert dict(slow.subject) == {"model": "gpt-4o-2024", "provider": "openai"}
    assert slow.measured == pytest.approx(6, rel=0.01)
    assert slow.expected == pytest.approx(2, rel=0.01)
    slowest = max(timed(10, **changed), key=lambda one: one["duration_ns"])
    assert slow.evidence == (Evidence(slowest["trace_id"], slowest["span_id"]),)


@pytest.mark.parametrize("usual", [[2, 6] * 5, [0.02] * 10, [2] * 5])
def test_not_slow_where_times_vary_or_are_short_or_unknown(usual: list[float]) -> None:
    made = processor()
    for window, total in enumerate(usual):
        take(made, timed(window, total, gateway=0))
    assert not [one for one in observed(made, timed(len(usual), 3 * usual[0], gateway=0)) if one.holds]


def test_failed_and_cached_calls_have_no_time() -> None:
    made = processor()
    for window in range(10):
        take(made, timed(window, 2))
    slow = timed(10, 20)
    failed = [one | {"status": "Error", "error_type": "timeout"} for one in slow]
    cached = [one | {"response_cache_hit": True, "call_id": f"c{one['call_id']}"} for one in slow]
    assert not [one for one in observed(made, [*failed, *cached]) if one.kind.startswith("latency.") and one.holds]


def test_a_better_version_takes_the_one_before_back() -> None:
    made = processor(groups=GROUPS)
    wrong = shared({"eu": 400})
    take(made, wrong)
    right = [one | {"deployment": "us" if n % 4 == 0 else "eu", "version": 2} for n, one in enumerate(wrong)]
    assert not [one for one in observed(made, right, wrong) if one.holds]
    made = processor(groups=GROUPS)
    take(made, wrong)
    gone = [one | {"withdrawn": True, "version": 2} for one in wrong]
    assert not observed(made, gone, wrong)


def test_late_calls_and_wrong_clocks_are_left_out() -> None:
    made = processor(groups=GROUPS)
    take(made, shared({"eu": 300, "us": 100}))
    take(made, [row(2, 0, request_model="clock")])
    assert not take(made, shared({"eu": 400}))  # its window was judged
    ahead = shared({"eu": 400}, window=5000)
    assert not observed(made, [*ahead, row(-START / WINDOW, -1)])


def test_a_made_up_flood_of_names_is_bounded(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("processors.behaviour.windows.MOST", 50)
    monkeypatch.setattr("processors.behaviour.processor.MOST", 5)
    made, state = processor(), Memory()
    for window in range(3):
        take(made, [row(window, n, app=f"app{window}-{n}") for n in range(100)])
        made.save(state)
    observed(made, [])
    made.save(state)
    assert caplog.text.count("too many models, deployments, apps or guardrails") == 1
    assert len([key for key in state.values if key.startswith(b"u")]) == 5


def test_windows_of_another_length_start_anew() -> None:
    made, state = processor(groups=GROUPS), Memory()
    for window in range(4):
        take(made, shared({"eu": 400}, window))
        made.save(state)
        made.committed()
    again = processor(state, groups=GROUPS, window="30m")
    take(again, shared({"eu": 300, "us": 100}, 5))
    again.save(state)
    assert {key[:1] for key in state.values} == {b"h", b"w"}
    assert len([key for key in state.values if key.startswith(b"w")]) == 1
    assert [one.holds for one in observed(again, []) if one.kind == "load.idle"] == [False]  # what was open is resolved


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("window: 15m\nquiet: 20m\n", 1, "at least two windows"),
        ("groups:\n  - model: gpt-4o\n    weights: {eu: 1}\n", 3, "at least 2"),
        ("groups:\n  - model: gpt-4o\n    weights: {eu: 0, us: 0}\n", 3, "above 0"),
        ("groups:\n  - model: gpt-4o\n    by: zone\n    weights: {eu: 1, us: 1}\n", 3, "deployment"),
        ("groups:\n  - weights: {eu: 1, us: -1}\n    model: m\n", 2, "must be at least 0"),
        ("window: 15m\nstricter: 1\n", 2, "must be more than 1"),
    ],
)
def test_what_is_wrong_with_the_config_is_said_where_it_stands(tmp_path: Path, text: str, line: int, says: str) -> None:
    path = tmp_path / "behaviour.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_part(path, BehaviourConfig)
    assert f"behaviour.yaml:{line}:" in str(caught.value)
    assert says in str(caught.value)


def test_intervals_hold_what_they_should() -> None:
    z = deviations(0.95)
    assert z == pytest.approx(1.959964, abs=1e-6)
    share = share_of(10, 100, z)  # Wilson: 5.52% to 17.44%
    assert share.low == pytest.approx(0.05523, abs=1e-4)
    assert share.high == pytest.approx(0.17437, abs=1e-4)
    assert (share_of(0, 50, z).low, share_of(50, 50, z).high) == (0, 1)


# Whatever the batches -------------------------------------------------------------------------------------------------------


def lifelike() -> list[dict[str, Any]]:
    """Fourteen windows in which a guardrail turns strict, a deployment starves, and answers become slow; out of order by minutes."""
    rows: list[dict[str, Any]] = []
    for window in range(14):
        odd = window >= 11
        for n in range(120):
            limited = odd and n % 5 == 0
            rows.append(row(
                window, n * 7, deployment="eu" if odd or n % 4 else "us", duration_ns=(5 if odd else 1) * S + n * 10**6,
                refused_by="blocklist" if n % 40 == 0 or (odd and n % 6 == 0) else None, status="Error" if limited else "Unset",
                error_type="429" if limited else None,
            ))  # fmt: skip
    return sorted(rows, key=lambda one: one["start_ns"] + hash_of(one) % (4 * MINUTE))


def hash_of(one: dict[str, Any]) -> int:
    return int(one["trace_id"], 16) * 2654435761 % 2**32 * 977


def run(
    rows: Sequence[dict[str, Any]], cuts: Sequence[int], restarts: Sequence[int] = (), failing: Sequence[int] = ()
) -> list[Finding]:
    """All findings, as the last version of each has them. After some cuts the process starts again, or a batch is given up first."""
    state, book_state = Memory(), Memory()
    made, book = processor(state, groups=GROUPS), new_book(book_state)
    found: dict[str, Finding] = {}
    ends = [*sorted(cuts), len(rows)]
    for number, (first, last) in enumerate(zip([0, *ends], ends, strict=False)):
        if number in failing:
            take(made, rows[first:last])
            made.rollback()
        one = replace(batch(made=rows[first:last]), received_ns=START + 2000 * WINDOW)
        done = book.observe(made.process(one))
        for each in (made, book):
            each.save(state if each is made else book_state)
        made.committed()
        found |= {one.id: one for one in done.findings}
        if number in restarts:
            made, book = processor(state, groups=GROUPS), new_book(book_state)
    assert isinstance(book, FindingsBook)
    return sorted((replace(one, transitions=()) for one in found.values()), key=lambda one: one.id)


ROWS = lifelike()
WHOLE = run(ROWS, [])


def test_what_a_lifelike_day_comes_to() -> None:
    """Found are the three things that went wrong, each once, and nothing else."""
    kinds = {(one.kind, one.state) for one in WHOLE}
    assert {kind for kind, _ in kinds} == {
        "load.idle",
        "load.skewed",
        "load.rate_limited",
        "guardrail.stricter",
        "latency.answer",
    }
    assert all(one.first_seen_ns >= START + 12 * WINDOW for one in WHOLE)


@settings(deadline=None, max_examples=15)
@given(
    st.lists(st.integers(1, len(ROWS) - 1), max_size=12, unique=True),
    st.sets(st.integers(0, 12), max_size=4),
    st.sets(st.integers(0, 12), max_size=4),
)
def test_the_same_findings_whatever_the_batches(cuts: list[int], restarts: set[int], failing: set[int]) -> None:
    """Wherever batches end, whatever is given up and done again, wherever the process starts anew."""
    assert run(ROWS, cuts, sorted(restarts), sorted(failing)) == WHOLE


def test_chance_says_next_to_nothing() -> None:
    """Four deployments that take their shares by chance alone, in ten thousand windows: more than three months of them."""
    draw, load, told = (
        random.Random(1),
        processor(groups=[{"model": "gpt-4o", "weights": dict.fromkeys("abcd", 1)}])._load,
        0,
    )
    for _ in range(10_000):
        calls = draw.choices("abcd", k=draw.randint(50, 400))
        tallies = {("load", "gpt-4o", "deployment", name): Tally((count, 0)) for name, count in Counter(calls).items()}
        told += sum(one.holds for one in load.judge(tallies))
    assert told <= 2
