"""Signals that end a running command, in a process of their own."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

# A thread sends the signal a little later each round, so that it comes at every step of the main thread on its way to sleep. An event
# or a queue in place of the pipe hangs here within a few hundred rounds.
_ROUNDS = """
import os, queue, signal, threading
from spanledger.cli import stopping
rounds = queue.SimpleQueue()
def send():
    while number := rounds.get():
        for _ in range(number % 300):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=send, daemon=True).start()
wait = stopping.until_stopped()
stopping._handle_with(lambda *_: None)
for number in range(1, 10001):
    rounds.put(number)
    wait()
"""

_WAIT = """
from spanledger.cli.stopping import until_stopped
wait = until_stopped()
print("listening", flush=True)
wait()
print("stopping", flush=True)
import time
time.sleep(60)
"""


_START = """
import time
from spanledger.cli.stopping import until_stopped
until_stopped(lambda: print("given up", flush=True) is None)
print("starting", flush=True)
until = time.monotonic() + 60
while time.monotonic() < until:
    pass
"""


def test_no_signal_is_missed() -> None:
    subprocess.run([sys.executable, "-c", _ROUNDS], timeout=60, check=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_the_first_signal_asks_and_the_second_ends(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", _WAIT], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        process.send_signal(number)
        assert process.stdout.readline() == "stopping\n"
        process.send_signal(number)
        assert process.wait(10) == 128 + number


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_while_a_command_starts_the_first_signal_ends_it(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", _START], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "starting\n"
        process.send_signal(number)
        assert process.stdout.readline() == "given up\n"
        assert process.wait(10) == 128 + number
