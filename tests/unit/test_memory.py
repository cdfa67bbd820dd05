"""Buffers that are used again: only when nobody holds them."""

from __future__ import annotations

import pyarrow as pa

from collector.memory import large_buffer

MIB = 2**20


def address(array: object) -> int:
    return int(array.__array_interface__["data"][0])  # type: ignore[attr-defined]


def test_a_buffer_that_nobody_holds_is_used_again() -> None:
    first = large_buffer(3 * MIB)
    place = address(first)
    del first
    assert address(large_buffer(2 * MIB)) == place


def test_a_buffer_that_somebody_holds_is_not() -> None:
    first = large_buffer(5 * MIB)
    first[:] = 1
    part = pa.py_buffer(first[1 * MIB : 2 * MIB])
    del first
    second = large_buffer(5 * MIB)
    second[:] = 2
    assert set(part.to_pybytes()) == {1}
    del second
    third = large_buffer(5 * MIB)
    third[:] = 3
    assert set(part.to_pybytes()) == {1}


def test_no_more_than_a_few_are_kept_and_every_size_is_served() -> None:
    held = [large_buffer(size * MIB) for size in range(1, 9)]
    assert [len(buffer) for buffer in held] == [size * MIB for size in range(1, 9)]
    assert len({address(buffer) for buffer in held}) == len(held)
