"""Who goes first when the processor is busy: the verdict's process, before the collector that it stands beside.

A gateway waits for an answer that takes a tenth of a millisecond; whoever sends spans waits for nothing. Where all cores are busy an
answer would still wait for a time slice, which is several milliseconds, unless the others are nicer than it is.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from pathlib import Path

#: Ten steps: a tenth of the weight, and whoever has more weight goes first when it wakes up.
STEPS = 10
_MOST = 19
_own = os.getpriority(os.PRIO_PROCESS, 0)  # as nice as we were started


def give_way(but: threading.Thread) -> None:
    """Make all threads of this process nicer, but one: it starts processes, which begin as nice as it is. Threads that come
    later are as nice as those that start them. Linux alone has this by thread."""
    if sys.platform != "linux":
        return
    for task in Path("/proc/self/task").iterdir():
        number = int(task.name)
        if number != but.native_id:
            with contextlib.suppress(OSError):  # it ended meanwhile
                os.setpriority(os.PRIO_PROCESS, number, min(_own + STEPS, _MOST))
