"""The verdict's process goes first: everything else in the collector becomes nicer, and stays as nice however often it is said."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import json, os, subprocess, sys, threading
from spanledger.verdict.priority import STEPS, give_way
own, go, said = os.getpriority(os.PRIO_PROCESS, 0), threading.Event(), {}
nice = lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
def wait(name):
    go.wait()
    said[name] = nice()
    said[name + " starts"] = int(subprocess.check_output([sys.executable, "-c", "import os; print(os.getpriority(os.PRIO_PROCESS, 0))"]))
first = threading.Thread(target=wait, args=("keeper",))
other = threading.Thread(target=wait, args=("other",))
first.start(); other.start()
give_way(but=first); give_way(but=first)
go.set(); first.join(); other.join()
later = threading.Thread(target=lambda: said.update(later=nice()))
later.start(); later.join()
print(json.dumps({name: value - own for name, value in said.items()} | {"main": nice() - own, "steps": min(STEPS, 19 - own)}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has niceness by thread")
def test_all_threads_but_the_one_that_starts_processes_become_nicer_once() -> None:
    found = json.loads(subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True).stdout)
    steps = found.pop("steps")
    assert found == {
        "keeper": 0,
        "keeper starts": 0,
        "other": steps,
        "other starts": steps,
        "later": steps,
        "main": steps,
    }


_ASK = """
import ctypes, struct
from spanledger.verdict.priority import go_first
def turn():
    found = ctypes.create_string_buffer(56)
    assert ctypes.CDLL(None).syscall({get}, 0, found, 56, 0) == 0
    return struct.unpack_from("=IIQiIQ", found.raw)
before = turn()
go_first()
print(turn()[5], turn()[1:4] == before[1:4])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has turns of a length of one's own")
def test_short_turns_and_all_else_as_it_was() -> None:
    """In a process of its own: it holds for all of its threads."""
    get = {"x86_64": 315, "aarch64": 275}.get(platform.machine())
    if get is None:
        pytest.skip(f"the number of the system call is not known for {platform.machine()}")
    done = subprocess.run([sys.executable, "-c", _ASK.format(get=get)], capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    turn, same = done.stdout.split()
    if turn == "0":
        pytest.skip("this kernel has no such turns (before Linux 6.12)")
    assert (turn, same) == ("100000", "True")
