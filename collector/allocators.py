"""How the process deals with memory that it frees: it keeps it.

By default allocators give freed blocks of some hundred kilobytes back to the kernel at once, which then zeroes and maps the
same pages again for the next batch. Batches come by the megabyte: measured on the inbox, keeping them halves the CPU time
per byte of writing (2.6 to 1.3 ms per MB) and of reading (1.3 to 0.7 ms per MB). Zeroing pages was up to a tenth of what a
span costs.
"""

from __future__ import annotations

import ctypes
import os

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_KEEP_BYTES = 256 * 2**20  # freed memory at the end of the heap that is kept
_LARGE_BYTES = 32 * 2**20  # blocks from here on are mapped and unmapped one by one, as usual; glibc allows no more
#: Libraries that bring an allocator of their own read these when they are loaded.
_ENVIRONMENT = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",  # glibc's, which is told here
    "_RJEM_MALLOC_CONF": "dirty_decay_ms:5000,muzzy_decay_ms:5000",  # Polars': freed pages go back when batches stop coming
}


def keep_freed_memory() -> bool:
    """Tune the allocators of this process; False where malloc is not glibc's.

    Call it before anything else is imported: libraries start threads, and a thread that is there already has a heap of its
    own, which goes back whole as soon as it is empty.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    mallopt(_M_ARENA_MAX, 1)  # one heap for all threads
    return bool(mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)) and bool(mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES))
