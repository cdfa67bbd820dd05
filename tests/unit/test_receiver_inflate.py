"""Compressed bodies: every encoding comes out whole or is refused, within a bound, at a bounded cost."""

from __future__ import annotations

import gzip
import os
import time
import zlib
from collections.abc import Callable

import pytest
import zstandard

from collector.errors import Malformed, Refused, TooLarge, UnsupportedMedia
from collector.receivers.inflate import inflate, known

PLAIN = os.urandom(700) * 300 + b"spans " * 20_000
LIMIT = 2**20


def _raw_deflate(data: bytes) -> bytes:
    return zlib.compress(data, wbits=-15)


def _zstd_unsized(data: bytes) -> bytes:
    """As a stream writes it: without the content's size, with a checksum."""
    stream = zstandard.ZstdCompressor(write_checksum=True, write_content_size=False).compressobj()
    return stream.compress(data) + stream.flush()


CODECS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", _raw_deflate),
    ("zstd", zstandard.compress),
    ("zstd", _zstd_unsized),
]
NAMES = ["gzip", "x-gzip", "zlib", "raw-deflate", "zstd", "zstd-unsized"]
codecs = pytest.mark.parametrize(("encoding", "compress"), CODECS, ids=NAMES)


@codecs
@pytest.mark.parametrize("plain", [b"", b"\n", PLAIN], ids=["nothing", "one-byte", "large"])
def test_what_was_compressed_comes_out(encoding: str, compress: Callable[[bytes], bytes], plain: bytes) -> None:
    assert inflate(encoding, compress(plain), LIMIT) == plain


@pytest.mark.parametrize("encoding", ["", "identity", "gzip", "deflate", "zstd"])
def test_an_empty_body_is_empty_in_every_encoding(encoding: str) -> None:
    assert inflate(encoding, b"", LIMIT) == b""


@pytest.mark.parametrize(("encoding", "compress"), [CODECS[0], CODECS[4], CODECS[5]], ids=["gzip", "zstd", "unsized"])
def test_all_parts_are_read_not_only_the_first(encoding: str, compress: Callable[[bytes], bytes]) -> None:
    parts = compress(PLAIN[:1000]) + compress(b"") + compress(PLAIN[1000:])
    assert inflate(encoding, parts, LIMIT) == PLAIN


def test_skippable_zstd_frames_are_skipped() -> None:
    skippable = (0x184D2A53).to_bytes(4, "little") + (5).to_bytes(4, "little") + b"notes"
    assert inflate("zstd", skippable + zstandard.compress(PLAIN) + skippable, LIMIT) == PLAIN


@codecs
def test_a_body_that_is_cut_short_is_refused_wherever_it_is_cut(
    encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    whole = compress(PLAIN)
    for cut in [*range(1, 64), *range(64, len(whole), len(whole) // 50), *range(len(whole) - 12, len(whole))]:
        with pytest.raises(Malformed):
            inflate(encoding, whole[:cut], LIMIT)


@codecs
@pytest.mark.parametrize("tail", [b"x", b"\0" * 9, b"(\xb5/\xfd"], ids=["byte", "zeros", "magic"])
def test_bytes_behind_the_end_are_refused(encoding: str, compress: Callable[[bytes], bytes], tail: bytes) -> None:
    with pytest.raises(Malformed):
        inflate(encoding, compress(PLAIN) + tail, LIMIT)


@codecs
def test_a_damaged_body_never_ends_in_any_other_error(encoding: str, compress: Callable[[bytes], bytes]) -> None:
    whole = bytearray(compress(PLAIN))
    for position in range(0, len(whole), len(whole) // 40):
        damaged = bytes(whole[:position]) + bytes((whole[position] ^ 0x55,)) + bytes(whole[position + 1 :])
        try:
            inflate(encoding, damaged, LIMIT)  # raw deflate and sized zstd have no checksum
        except Refused:
            continue


@codecs
def test_garbage_is_refused(encoding: str, compress: Callable[[bytes], bytes]) -> None:
    with pytest.raises(Malformed):
        inflate(encoding, b"\xff" * 1000, LIMIT)


@codecs
def test_the_limit_is_exact(encoding: str, compress: Callable[[bytes], bytes]) -> None:
    body = compress(PLAIN)
    assert len(inflate(encoding, body, len(PLAIN))) == len(PLAIN)
    with pytest.raises(TooLarge, match="after inflating"):
        inflate(encoding, body, len(PLAIN) - 1)


def test_identity_obeys_the_limit_too() -> None:
    with pytest.raises(TooLarge):
        inflate("identity", b"12345", 4)


@pytest.mark.parametrize("encoding", ["br", "compress", "gzip, gzip", "snappy", "GZIP "])
def test_other_encodings_are_not_known(encoding: str) -> None:
    assert not known(encoding)
    with pytest.raises(UnsupportedMedia):
        inflate(encoding, b"x", LIMIT)


def test_a_zstd_window_above_eight_mebibytes_is_refused() -> None:
    options = zstandard.ZstdCompressionParameters(window_log=27)
    stream = zstandard.ZstdCompressor(compression_params=options).compressobj()
    body = stream.compress(PLAIN) + stream.flush()
    with pytest.raises(TooLarge, match="window"):
        inflate("zstd", body, LIMIT)


@pytest.mark.parametrize(
    ("encoding", "part"),
    [("gzip", gzip.compress(b"")), ("zstd", zstandard.compress(b""))],
    ids=["gzip-members", "zstd-frames"],
)
def test_a_million_empty_parts_cost_no_more_than_some(encoding: str, part: bytes) -> None:
    began = time.process_time()
    with pytest.raises(TooLarge, match="parts"):
        inflate(encoding, part * 1_000_000, 64 * 2**20)
    assert time.process_time() - began < 2.0


def test_a_bomb_is_given_up_at_the_limit() -> None:
    # 256 MiB in 8 kB, as run-length blocks: one piece of input is enough for all of it.
    bomb = zstandard.compress(b"\0" * 2**28)
    began = time.process_time()
    with pytest.raises(TooLarge):
        inflate("zstd", bomb, LIMIT)
    assert time.process_time() - began < 0.5
