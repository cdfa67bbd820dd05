"""Who goes first when the processor is busy: the verdict's process, before the collector that it stands beside.

A gateway waits for an answer that takes a tenth of a millisecond; whoever sends spans waits for nothing. Where all cores are busy an
answer would still wait for a time slice, which is several milliseconds, unless the others are nicer than it is.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import struct
import sys
import threading
from pathlib import Path

#: Ten steps: a tenth of the weight, and whoever has more weight goes first when it wakes up.
STEPS = 10
_MOST = 19
#: The least that Linux lets a thread ask to run at a time, in ns. It runs longer if nobody else wants to.
_SLICE_NS = 100_000
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}  # numbers of the system call, for which Python has no function
#: size, policy, flags, nice, priority, runtime, deadline, period: `struct sched_attr`
_ATTR = struct.Struct("=IIQiIQQQ")
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


def go_first() -> None:
    """Ask for short turns, for this thread and those that it starts: Linux (6.12 and later) lets who wants little go before who
    runs long, at once and not at the next tick, which is up to four milliseconds away. Elsewhere nothing changes."""
    number = _SCHED_SETATTR.get(platform.machine())
    if sys.platform != "linux" or number is None:
        return
    attr = _ATTR.pack(_ATTR.size, os.SCHED_OTHER, 0, _own, 0, _SLICE_NS, 0, 0)
    ctypes.CDLL(None).syscall(number, 0, attr, 0)  # a kernel that refuses leaves things as they are
