"""How the process deals with memory that it frees: it keeps it.

By default glibc gives freed blocks of some hundred kilobytes back to the kernel at once, which then zeroes and maps the
same pages again for the next batch. Batches come by the megabyte: measured on the inbox, keeping them halves the CPU time
per byte of writing (2.6 to 1.3 ms per MB) and of reading (1.3 to 0.7 ms per MB).

glibc keeps no block of 32 MB or more, whatever it is told. A batch has several of about its own size: `large_buffer` is for
those. Touching fresh pages was a fifth of what spans with 4 kB of text cost in all.
"""

from __future__ import annotations

import ctypes
import sys
import threading

import numpy as np
from numpy.typing import NDArray

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_KEEP_BYTES = 256 * 2**20  # freed memory at the end of a heap that is kept
_LARGE_BYTES = 32 * 2**20  # blocks from here on are mapped and unmapped one by one, as usual; glibc allows no more
_WORTH_BYTES = 2**20  # smaller buffers are left to the allocator
_KEPT = 4  # buffers a thread keeps


def keep_freed_memory() -> bool:
    """Tune the allocator of this process; False where it is not glibc's. Call once, before the threads start."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # One heap for all threads: the others' are of 64 MB, and an empty one goes back whole.
    mallopt(_M_ARENA_MAX, 1)
    return bool(mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)) and bool(mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES))


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
