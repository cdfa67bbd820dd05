"""Distinct values by number: of every shape a column may have, equal to what Python finds, without compiling anew."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector import distinct
from collector.otlp import interning, warmup

TEXT = st.one_of(st.none(), st.sampled_from(["", "a", "b", "é" * 9, "a\0b"]), st.text(max_size=20))


def shapes(values: list, dtype: pl.DataType) -> list[pl.Series]:
    """The same values as they come: whole, a slice, several chunks."""
    whole = pl.Series("x", values, dtype=dtype)
    return [whole, whole[len(whole) // 3 :], pl.concat([whole, whole]) if len(whole) else whole]


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXT, max_size=30))
def test_texts(values):
    """Each once, null is -1, the empty text is a text."""
    for column in shapes(values, pl.String()):
        codes, found = distinct.texts(column)
        assert [None if code < 0 else found[int(code)] for code in codes] == column.to_list()
        assert found.n_unique() == len(found)
        assert found.null_count() == 0
        assert distinct.valid(column).tolist() == column.is_not_null().to_list()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.none(), st.lists(TEXT.filter(lambda t: t is not None), max_size=3)), max_size=20))
def test_lists(values):
    """Order and repetition count: ["a", "b"], ["b", "a"] and ["a\\0b"] are three."""
    for column in shapes(values, pl.List(pl.String())):
        codes, found = distinct.lists(column)
        assert [None if code < 0 else found[code] for code in codes] == column.to_list()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), max_size=40))
def test_integers(values):
    """No float in between: every int64 stays what it is, null is 0 and marked."""
    for column in shapes(values, pl.Int64()):
        found, known = distinct.integers(column)
        assert [int(v) if k else None for v, k in zip(found, known, strict=True)] == column.to_list()
        assert all(v == 0 for v, k in zip(found, known, strict=True) if not k)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT, st.integers(0, 2)), min_size=1, max_size=30))
def test_combinations(rows):
    """Rows have one number if and only if they are equal in every column; the first row with it is given."""
    frame = pl.DataFrame([row[:2] for row in rows], schema={"a": pl.String(), "b": pl.String()}, orient="row")
    numbers = np.array([row[2] for row in rows], dtype=np.int64)
    codes, first = distinct.combinations(frame, ["a", "b"], [numbers])
    seen: dict[tuple, int] = {}
    assert codes.tolist() == [seen.setdefault(row, len(seen)) for row in rows]
    assert [rows[row] for row in first] == list(seen)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3).flatmap(
        lambda width: st.lists(st.lists(st.integers(-1, 1), min_size=width, max_size=width), min_size=1)
    )
)
def test_rows(rows):
    """Of matrices of any width; also where it is the transpose of one."""
    seen: dict[tuple, int] = {}
    wanted = [seen.setdefault(tuple(row), len(seen)) for row in rows]
    for matrix in (np.array(rows, np.int64), np.array(rows, np.int64).T.copy().T):
        codes, first = distinct.rows(matrix)
        assert codes.tolist() == wanted
        assert [rows[row] for row in first] == list(map(list, seen))


def test_nothing_to_combine():
    """Columns that are null throughout make one combination."""
    frame = pl.DataFrame({"a": [None, None]}, schema={"a": pl.String()})
    assert [found.tolist() for found in distinct.combinations(frame, ["a"])] == [[0, 0], [0]]


@pytest.mark.parametrize("column", [["a", None, "b"], ["a", "b"], [None, None]])
def test_nothing_is_compiled_anew(column):
    """Warming up the decoder warms this up too: the first batch does not wait for a compiler."""
    warmup.warm()
    before = set(interning.intern.signatures)
    texts = pl.Series("a", column, dtype=pl.String())
    distinct.texts(texts)
    distinct.lists(pl.Series([[text] for text in column], dtype=pl.List(pl.String())))
    distinct.combinations(texts.to_frame(), ["a"], [np.arange(len(column))])
    assert set(interning.intern.signatures) == before


def test_numbers_that_differ_in_single_bits_are_told_apart() -> None:
    """Sums of products would lose high bits of one number against those of another."""
    bits = np.concatenate([[0], np.int64(1) << np.arange(63, dtype=np.int64), [np.iinfo(np.int64).min]])
    one, other = (grid.ravel().astype(np.int64) for grid in np.meshgrid(bits, bits))
    frame = pl.DataFrame({"text": ["same"] * len(one)})
    codes, first = distinct.combinations(frame, ["text"], [one, other])
    assert len(first) == len(one) == len(set(codes.tolist())) == 65 * 65
