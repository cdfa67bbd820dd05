"""Where compiled code is kept, for a process that may write next to nothing.

Numba keeps it in NUMBA_CACHE_DIR, else beside the package, else in the user's cache directory, and refuses to compile where
none of these can be written: in a container with a read-only file system. There a temporary directory has to do. What the
image compiled when it was built is copied into it, so that the start stays short.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

VARIABLE = "NUMBA_CACHE_DIR"


def keep_somewhere() -> None:
    """Point Numba to a place that can be written, if it would find none. Before Numba is imported."""
    given = os.environ.get(VARIABLE)
    places = [Path(given)] if given else [Path(__file__).parent / "__pycache__", Path.home() / ".cache" / "numba"]
    if any(_writable(place) for place in places):
        return
    try:
        # Nobody else may write there: what lies in it is run.
        temporary = tempfile.mkdtemp(prefix="spanledger-code-")
    except OSError:
        return  # then Numba says what it looks for
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    for file in Path(given).rglob("*.nb[ic]") if given else ():
        copy = Path(temporary, file.relative_to(given or ""))
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)  # the contents alone: that they may not be written is what this is about
    os.environ[VARIABLE] = temporary


def _writable(place: Path) -> bool:
    """Whether it is a directory to write to, or can be made one: what Numba will ask."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            return True
    except OSError:
        return False
