"""Tables that moved with the texts that were exchanged are those that decoding reads from the new bytes."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.errors import Malformed
from collector.otlp.check import Limits, check
from collector.otlp.decode import read
from collector.otlp.moving import moved
from collector.otlp.strings import Kind, planned, strings
from collector.otlp.tables import U8
from collector.signals import Signal
from tests.fuzz import bodies
from tests.otlp_strategies import requests_of, texts
from tests.strings_oracle import array

CAPTURES = sorted(Path(__file__).parents[1].joinpath("captures").glob("*/*-traces.pb"))


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two tables differ."""
    if is_dataclass(one):
        pairs = [(f.name, getattr(one, f.name), getattr(other, f.name)) for f in fields(one)]
        return [found for name, a, b in pairs for found in differences(a, b, f"{path}.{name}")]
    same = np.array_equal(one, other) if isinstance(one, np.ndarray) else list(one) == list(other)
    return [] if same else [path]


def exchange(body: U8, chosen: dict[int, str]) -> None:
    """Exchange texts (by their number among the texts, whatever that is), and compare."""
    traces = read(body)
    leaves = strings(Signal.TRACES, body, keys=False, decoded=traces)
    rows = np.flatnonzero(leaves.kind == Kind.TEXT)
    if not len(rows):
        return
    of = {int(rows[number % len(rows)]): text.encode() for number, text in chosen.items()}
    size = np.array([len(text) for text in of.values()], np.int64)
    splice = planned(
        body, leaves, replaced=np.array(list(of), np.int32), blob=array(b"".join(of.values())),
        at=np.cumsum(size) - size, size=size,
    )  # fmt: skip
    if splice is None:
        return
    new = splice.applied(body)
    assert differences(moved(traces, splice, new), read(new)) == []


some = st.dictionaries(
    st.integers(0, 10_000), texts | st.sampled_from(["", "x" * 127, "y" * 128, "z" * 20_000]), max_size=12
)


@settings(deadline=None, max_examples=100)
@given(st.lists(requests_of[Signal.TRACES], min_size=1, max_size=3), some)
def test_any_texts_of_any_requests(requests: list[Any], chosen: dict[int, str]) -> None:
    joined = b"".join(check(Signal.TRACES, request.SerializeToString(), Limits()).body for request in requests)
    exchange(array(joined), chosen)


@pytest.mark.parametrize("long", [0, 1, 127, 128, 16383, 16384])
def test_every_text_of_captures(long: int) -> None:
    """With lengths around those at which a length takes a byte more."""
    body = array(b"".join(path.read_bytes() for path in CAPTURES))
    assert len(read(body)) > 500
    exchange(body, dict.fromkeys(range(0, 5000, 1 + long // 100), "é"[: long & 1] + "x" * long))


def test_what_senders_should_not_send() -> None:
    """Bodies that were changed at random, as the receivers leave them: repeated fields, empty texts, unknown fields."""
    random, tried = Random(7), 0
    for body in islice(bodies(random), 400):
        try:
            taken = check(Signal.TRACES, body, Limits()).body
        except Malformed:
            continue
        tried += 1
        exchange(array(taken), {random.randrange(500): "x" * random.choice([0, 3, 130]) for _ in range(6)})
    assert tried > 50
