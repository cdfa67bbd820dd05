"""The search for leaks finds what is there, in every spelling and inside what is compressed: else it would prove nothing."""

from __future__ import annotations

import base64
import gzip
from pathlib import Path

import lz4.frame
import pytest
import zstandard
from chdb.session import Session

from tests.leaks_kit import leaks

TEXT = "jane.doe@example.com"


SPELLINGS = {
    "plain": b"..." + TEXT.encode() + b"...",
    "utf-16": TEXT.encode("utf-16"),
    "utf-16-be": TEXT.encode("utf-16-be"),
    **{f"base64-{n}-{m}": base64.b64encode(b"x" * n + TEXT.encode() + b"y" * m) for n in range(3) for m in range(3)},
    "lz4": b"head" + lz4.frame.compress(b"a" * 50 + TEXT.encode()),
    "zstd": b"head" + zstandard.compress(b"a" * 50 + TEXT.encode()),
    "gzip": b"head" + gzip.compress(b"a" * 50 + TEXT.encode()),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_is_found(spelling: str, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(SPELLINGS[spelling])
    assert leaks(tmp_path, [TEXT])
    assert not leaks(tmp_path, ["john.doe@example.com"])


@pytest.mark.parametrize("codec", ["LZ4", "ZSTD(1)", "NONE"])
def test_clickhouses_columns_are_opened(codec: str, tmp_path: Path) -> None:
    session = Session(str(tmp_path / "db"))
    session.query(
        f"CREATE TABLE t (a String CODEC({codec}), n UInt64 CODEC(Delta, ZSTD(1))) ENGINE = MergeTree ORDER BY n"
    )
    session.query("INSERT INTO t SELECT concat('some padding before ', '{text}', toString(number)), number FROM numbers(5000)".replace("{text}", TEXT))  # fmt: skip
    found = leaks(tmp_path, [TEXT])
    session.close()
    assert [where for where in found if ".bin" in where]
