"""`@kernel`: a function compiled by Numba, without the GIL, kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Item = TypeVar("Item", bound=np.generic)
Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compile at the first call, once per machine and per state of the sources.

    Numba keeps compiled code for as long as the file of the function itself is unchanged. But a kernel holds copies of what it
    calls from other files, so all files of this package and of the function's own count.
    """
    compiled = njit(cache=True, nogil=True)(function)
    index: Any = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    if hasattr(index, "_source_stamp"):
        packages = {Path(__file__).parent, Path(function.__code__.co_filename).parent}
        index._source_stamp = (index._source_stamp, *map(_stamp, sorted(packages)))
    return cast(Function, compiled)


def read_only(data: NDArray[Item]) -> NDArray[Item]:
    """A view of an array that may not be written to.

    Numba compiles a kernel once more for arrays that may. So bytes of requests are read-only wherever they come from, and what
    a start compiled ahead is what the first batch runs.
    """
    view = data.view()
    view.flags.writeable = False
    return view


@cache
def _stamp(package: Path) -> str:
    stamps = [(path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in package.glob("*.py")]
    return hashlib.sha256(repr(sorted(stamps)).encode()).hexdigest()
