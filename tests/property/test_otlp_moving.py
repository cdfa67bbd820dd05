"""Tables that moved with the texts that were exchanged are those that decoding reads from the new bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.otlp.check import Limits, check
from collector.otlp.decode import read
from collector.otlp.strings import Kind, strings
from collector.otlp.tables import U8
from collector.signals import Signal
from tests.otlp_strategies import requests_of, texts
from tests.strings_oracle import array, moves

CAPTURES = sorted(Path(__file__).parents[1].joinpath("captures").glob("*/*-traces.pb"))


def texts_of(body: U8) -> list[int]:
    """The rows of texts that are no keys, and not empty."""
    leaves = strings(Signal.TRACES, body)
    rows: list[int] = np.flatnonzero((leaves.kind == Kind.TEXT) & (leaves.size > 0)).tolist()
    return rows


@settings(deadline=None, max_examples=100)
@given(st.lists(requests_of[Signal.TRACES], min_size=1, max_size=3), st.data())
def test_any_texts_of_any_requests(requests: list[Any], data: st.DataObject) -> None:
    body = array(b"".join(check(Signal.TRACES, r.SerializeToString(), Limits()).body for r in requests))
    rows = texts_of(body)
    lengths = st.sampled_from(["", "x" * 127, "y" * 128, "z" * 20_000])
    chosen = data.draw(st.dictionaries(st.sampled_from(rows), texts | lengths, max_size=12)) if rows else {}
    moves(body, {row: text.encode() for row, text in chosen.items()})


@pytest.mark.parametrize("length", [0, 1, 127, 128, 16383, 16384])
def test_texts_of_captures(length: int) -> None:
    """Of all of them at once, with lengths around those at which a length takes a byte more."""
    body = array(b"".join(path.read_bytes() for path in CAPTURES))
    assert len(read(body)) > 500
    moves(body, dict.fromkeys(texts_of(body)[:: 1 + length // 100], b"x" * length))
