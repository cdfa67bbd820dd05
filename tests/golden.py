"""Expected texts that stand in files. `UPDATE_GOLDEN=1` writes what came instead, and fails the run: look at it, then commit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def check(path: Path, got: str) -> None:
    """Compare with the file's text; exchange it when told to."""
    expected = path.read_text(encoding="utf-8") if path.exists() else ""
    if got == expected:
        return
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(got, encoding="utf-8")
        pytest.fail(f"{path.name} was written anew: read the difference, then run without UPDATE_GOLDEN")
    assert got == expected, f"{path} differs; UPDATE_GOLDEN=1 writes it anew"
