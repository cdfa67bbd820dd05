"""Being told to stop: Ctrl-C (SIGINT) and SIGTERM of a command that runs until then."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def until_stopped(gives_up: Callable[[], bool] = lambda: False) -> Callable[[], None]:
    """Listen for the signals from here on; what to call to wait for the first (at once where it has come already).

    The first asks for a graceful stop, the second ends the process at once; so does the first where `gives_up` says that
    there is nothing to stop gracefully yet. A crash is safe, so an exit without cleaning up is too. To be called in the
    main thread, once in a process.

    No `threading.Event`: Python runs a handler when its main thread next gets to it, which one that has just gone to
    sleep on a lock never does. The number of a signal comes through a pipe from the operating system's own handler, and
    a read from the pipe cannot miss it.
    """
    numbers, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)

    def first(number: int, frame: object) -> None:
        if gives_up():
            _end_at_once(number, frame)
        _handle_with(_end_at_once)

    _handle_with(first)

    def wait() -> None:
        while os.read(numbers, 1)[0] not in _SIGNALS:
            pass

    return wait


def _handle_with(handler: signal._HANDLER) -> None:
    for number in _SIGNALS:
        signal.signal(number, handler)


def _end_at_once(number: int, _: object) -> None:
    os._exit(128 + number)
