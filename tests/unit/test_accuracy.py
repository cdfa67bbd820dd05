"""The benchmark's arithmetic: amounts against a bill, each once, errors paired in the system's favour."""

from __future__ import annotations

from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.accuracy import CAPTURES, Capture, Score, errors
from benchmarks.systems import Shown, pico

AMOUNTS = st.lists(st.integers(1, 30), max_size=4).map(sorted)


def test_a_double_is_the_pico_dollar_it_stands_for() -> None:
    assert pico(0.00020009999999999998) == pico("0.000200100000") == 200_100_000


def test_a_call_shown_twice_is_exact_once_and_left_over_once() -> None:
    score = Score.of([100, 100, 70], [Shown("t", 100), Shown("t", 100), Shown("t", 100)], None)
    assert (score.exact, score.left, score.shown) == (2, 1, 300)
    assert score.error == 30, "the third amount stands for the missed call"


def test_what_a_system_marks_counts_apart() -> None:
    score = Score.of([100], [Shown("t", 40, marked=True), Shown("t", 100, marked=True)], None)
    assert (score.exact, score.left, score.marked, score.error, score.error_unmarked) == (1, 1, 1, 40, 0)


def test_of_two_equal_amounts_the_unmarked_one_is_the_call() -> None:
    score = Score.of([100], [Shown("t", 100, marked=True), Shown("t", 100)], None)
    assert (score.left, score.marked, score.error_unmarked) == (1, 1, 0)


@settings(deadline=None, max_examples=60)
@given(AMOUNTS, AMOUNTS)
def test_the_error_is_the_least_of_all_pairings(missed: list[int], left: list[int]) -> None:
    """Against all of them, tried out: pad the shorter list with nothing shown, or nothing owed."""
    size = len(missed) + len(left)
    owed, shown = missed + [0] * (size - len(missed)), left + [0] * (size - len(left))
    least = min((sum(abs(a - b) for a, b in zip(owed, p, strict=True)) for p in set(permutations(shown))), default=0)
    assert errors(missed, left) == least


def test_scores_add_up() -> None:
    one = Score.of([100], [Shown("t", 100)], 90)
    two = Score.of([50, 60], [Shown("u", 50)], 10)
    assert one + two == Score(3, 210, 2, 0, 0, 60, 60, 150, 100)


def test_a_capture_leaves_out_what_no_span_lets_anyone_know() -> None:
    capture = Capture.read(CAPTURES / "openai-v2")
    assert len(capture.bill) == 8, "of 15 billed"
    assert capture.spans == 16
    assert len(capture.requests) == 2
