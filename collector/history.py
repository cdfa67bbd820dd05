"""What a store of calls knows of the time before, brought to processors that count and begin later than the ledger did.

A processor that has counted from the first call on holds, between two batches, sums over the calls in force: every batch
moves them by its calls minus what these replace. Once everything that a pipeline has committed is delivered, a store has
these very calls. So at that moment, and at no other, its sums are those that the processor would have.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from collector.counting import History
from collector.delivery import TICK_S, Outlet
from collector.errors import DeliveryError, StoreError
from collector.store import DeadLetters

logger = logging.getLogger(__name__)

#: How long a pipeline waits with its first batch for a store that does not answer; requests are taken in meanwhile.
WAIT_S = 30.0
#: How often it is asked again after that.
AGAIN_S = 60.0


class Recall:
    """Brings what a pipeline's processors lack of the time before them from the store behind one of its exporters.

    For the pipeline's thread, between two batches.
    """

    def __init__(
        self,
        letters: DeadLetters,
        outlet: Outlet,
        lacking: Callable[[], bool],
        recall: Callable[[History], None],
    ) -> None:
        """lacking: whether some processor lacks something; recall: have them take it over, in one transaction"""
        self._letters, self._outlet = letters, outlet
        self._lacking, self._recall = lacking, recall
        self._said = ""
        self._at = 0.0

    def first(self, waiting: Callable[[str | None], bool]) -> None:
        """Ahead of the first batch: until it is done, or for `WAIT_S`. `waiting` is told why it waits (None: no more),
        and says whether to go on."""
        until = time.monotonic() + WAIT_S
        while (why := self._attempt()) is not None:
            if time.monotonic() >= until or not waiting(why):
                logger.error(
                    "%s; budgets that are new count from now on, and are marked so, until it can be asked", why
                )
                break
            time.sleep(TICK_S)
        waiting(None)
        self._at = time.monotonic() + AGAIN_S

    def again(self) -> None:
        """Ahead of a later batch, or while there is none: once in a while, and only when the store has everything."""
        if self._outlet.outbox.count or time.monotonic() < self._at or not self._lacking():
            return
        self._at = time.monotonic() + AGAIN_S
        why = self._attempt()
        if why is not None and why != self._said:
            logger.warning("%s; budgets that are new are still marked as incomplete", why)
        self._said = why or ""

    def _attempt(self) -> str | None:
        """Why it cannot be done now; None: it is."""
        name = self._outlet.name
        try:
            if not self._lacking():
                return None
            if self._outlet.outbox.count:
                return f"exporter {name}: what waits for it has to be there before its calls are summed"
            if any(letter.kind == "payload" and letter.origin == name for letter in self._letters.list()):
                return (
                    f"exporter {name}: its calls are not all there, some are dead letters (spanledger dead-letter list)"
                )
            history = self._outlet.exporter.history()
            assert history is not None
            self._recall(history)
        except (DeliveryError, StoreError) as error:
            return f"exporter {name}: the calls of before cannot be summed: {error}"
        except Exception as error:  # the pipeline goes on whatever it is
            return f"exporter {name}: summing the calls of before raised {type(error).__name__}"
        return None
