"""Calls from other threads onto the event loop: many at once wake it once."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)


class Mailbox:
    """A group commit answers hundreds of requests in one go; waking the loop for each would cost more than the answer."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._woken = False

    def post(self, call: Callable[..., None], *args: Any) -> None:
        """Run `call(*args)` on the loop's thread, in order of posting. From any thread."""
        self._calls.append((call, args))
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:  # the loop is closed: nobody is left who waits
                self._calls.clear()

    def _deliver(self) -> None:
        self._woken = False
        while self._calls:
            call, args = self._calls.popleft()
            try:
                call(*args)
            except Exception:
                logger.exception("answering a request failed")
