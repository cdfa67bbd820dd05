"""An Arrow stream is written into a buffer of a size that is worked out before: no block may need more."""

from __future__ import annotations

import os

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.clickhouse.encode import Compression, write

CODECS: tuple[Compression, ...] = ("lz4", "zstd", "none")


def columns(rows: int, width: int) -> list[pa.Array]:
    """What compresses worst: random bytes as text, in every shape that the tables have."""
    texts = pa.array([os.urandom(width).hex() for _ in range(rows)])
    raw = pa.array([os.urandom(width) for _ in range(rows)])
    offsets = pa.array(range(rows + 1), pa.int32())
    maps = pa.MapArray.from_arrays(offsets, texts.dictionary_encode(), texts)
    return [
        texts,
        raw,
        texts.dictionary_encode(),
        maps,
        pa.ListArray.from_arrays(offsets, maps),
        pa.nulls(rows, pa.int64()),
    ]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 400), st.integers(0, 300), st.integers(1, 30), st.sampled_from(CODECS), st.integers(0, 3))
def test_any_block_fits_and_reads_back(rows: int, width: int, times: int, codec: Compression, cut: int) -> None:
    arrays = columns(rows, width) * times
    block = pa.RecordBatch.from_arrays(arrays, [f"c{number}" for number in range(len(arrays))]).slice(min(cut, rows))
    assert pa.ipc.open_stream(write(block, codec)).read_all().to_batches() in ([block], [])


@pytest.mark.parametrize("codec", CODECS)
def test_a_large_block_of_random_bytes_fits(codec: Compression) -> None:
    block = pa.RecordBatch.from_arrays([pa.array([os.urandom(4096) for _ in range(5000)])], ["c"])
    assert pa.ipc.open_stream(write(block, codec)).read_all().num_rows == 5000
