"""The verdict's process goes first: everything else in the collector becomes nicer, and stays as nice however often it is said."""

from __future__ import annotations

import json
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
