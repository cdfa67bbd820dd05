"""Compiled code is kept somewhere, also where the file system cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

#: Runs a kernel; says where its code is kept, and whether it was there already.
PROGRAM = """
import os
from collector.ledger.kernels import members
import numpy as np
members(np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(16, np.int64))
print(os.environ.get("NUMBA_CACHE_DIR"), sum(members.stats.cache_hits.values()), sum(members.stats.cache_misses.values()))
"""


def ask(cache: str | Path, home: str | Path, temporary: Path) -> tuple[str, int, int]:
    """In a process of its own: the directory, hits and misses."""
    env = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "HOME": str(home), "TMPDIR": str(temporary)}
    found = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=True)
    place, hits, misses = found.stdout.split()
    return place, int(hits), int(misses)


def test_a_place_that_can_be_written_is_used_as_it_is(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert ask(cache, tmp_path, tmp_path) == (str(cache), 0, 1)
    assert ask(cache, tmp_path, tmp_path) == (str(cache), 1, 0)


def test_without_any_place_it_compiles_all_the_same_and_leaves_nothing_behind(tmp_path: Path) -> None:
    place, _, misses = ask("/proc/no/such/place", "/proc/nobody", tmp_path)
    assert Path(place).parent == tmp_path
    assert misses == 1
    assert list(tmp_path.iterdir()) == []


def test_what_an_image_compiled_is_used_though_its_place_is_read_only(tmp_path: Path) -> None:
    cache, mounted, temporary = tmp_path / "cache", tmp_path / "mounted", tmp_path / "tmp"
    ask(cache, tmp_path, tmp_path)
    for path in (cache, *cache.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    mounted.mkdir()
    temporary.mkdir()
    mount = ["mount", "--bind", "-o", "ro", str(cache), str(mounted)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a read-only mount needs root")
    try:
        place, hits, misses = ask(mounted, "/proc/nobody", temporary)
    finally:
        subprocess.run(["umount", str(mounted)], check=True)
    assert Path(place).parent == temporary
    assert (hits, misses) == (1, 0)
    assert list(temporary.iterdir()) == []
