"""Large buffers that are used again, batch after batch.

glibc keeps no freed block of 32 MB or more, whatever it is told (`allocators.py`). A batch has several of about its own
size. Touching fresh pages was a fifth of what spans with 4 kB of text cost in all.
"""

from __future__ import annotations

import sys
import threading

import numpy as np
from numpy.typing import NDArray

_WORTH_BYTES = 2**20  # smaller buffers are left to the allocator
_KEPT = 4  # buffers a thread keeps


class _Kept(threading.local):
    def __init__(self) -> None:
        self.buffers: list[NDArray[np.uint8]] = []


_kept = _Kept()


def large_buffer(size: int) -> NDArray[np.uint8]:
    """`size` bytes of any content, in a block that nobody holds any more if this thread has one.

    Whoever has a view of it (a slice, an Arrow array) holds it: there is nothing to give back.
    """
    if size < _WORTH_BYTES:
        return np.empty(size, np.uint8)
    kept = _kept.buffers
    # Held by the list and by getrefcount's own argument, and by nobody else
    free = [place for place in range(len(kept)) if sys.getrefcount(kept[place]) == 2]
    fitting = [place for place in free if len(kept[place]) >= size]
    if fitting:
        return kept[min(fitting, key=lambda place: len(kept[place]))][:size]
    block = np.empty(size + size // 8, np.uint8)
    if free:
        kept[min(free, key=lambda place: len(kept[place]))] = block
    elif len(kept) < _KEPT:
        kept.append(block)
    return block[:size]
