"""One export request from its complete body to its answer, the same for every protocol.

    body ─ inflate ─ JSON to protobuf ─ check ─ stamp ─▶ intake … done ─▶ answer

Small bodies are checked on the event loop, which costs less than handing them over; larger and compressed ones on a few
threads, so that the loop stays free and no more than a few of them are inflated at once, however many come.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from collector.component import Intake
from collector.errors import Overloaded, Refused, StoreError, TooLarge
from collector.otlp import otlp_json
from collector.otlp.check import Limits, check, stamp
from collector.receivers.admission import Held
from collector.receivers.auth import Client
from collector.receivers.inflate import IDENTITY, inflate
from collector.receivers.mailbox import Mailbox
from collector.receivers.status import Status, status_of
from collector.receivers.telemetry import Tally
from collector.signals import Signal

logger = logging.getLogger(__name__)

#: Threads that inflate and check. What they hold besides the bytes in flight is at most one largest request each.
WORKERS = 2
#: Bodies up to these sizes are worked on at once, compressed ones only as long as what comes out stays small, too. So
#: ordinary requests need not stand in line behind large ones and bombs.
INLINE_PLAIN = 2**20
INLINE_COMPRESSED = 2**17
_INLINE_INFLATED = 2**19
#: Bodies that may stand in line for the threads. Each may take a fraction of a second.
MAX_WAITING = 64
#: Values in one JSON body, by the look of it. Each becomes an object in memory, many times its size.
MAX_JSON_VALUES = 2_000_000
_QUIET_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Accepted:
    """The request is durable. `rejected` of its items were left out, for `reason`."""

    rejected: int = 0
    reason: str = ""


Answer = Callable[[Accepted | Status], None]


@dataclass(frozen=True, slots=True)
class Call:
    """How a request came."""

    signal: Signal
    client: Client
    tally: Tally
    held: Held
    max_size: int
    """Bytes of the body, and again after inflating."""
    answer: Answer
    """Called once, on the event loop's thread."""
    encoding: str = ""
    json: bool = False


class ExportService:
    """Works on export requests of one receiver. `take` is called on the event loop's thread.

    `signals` are those that somebody takes: the protocols refuse the others before their bodies come.
    """

    def __init__(self, intake: Intake, limits: Limits, mailbox: Mailbox) -> None:
        self._intake, self._limits, self._mailbox = intake, limits, mailbox
        self.signals = intake.signals
        self._count, self._waiting = threading.Lock(), 0
        self._one_json = threading.Lock()  # one at a time is in memory as objects
        self._quiet_until = 0.0  # a failing disk is logged now and then, not for each request
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="spanledger-check")

    def close(self) -> None:
        """Finish what is being worked on."""
        self._workers.shutdown(wait=True, cancel_futures=True)

    def take(self, call: Call, body: bytes) -> None:
        """Work on a body that has come completely. Never raises: every error is an answer."""
        call.tally.received_bytes += len(body)
        try:
            if call.encoding in IDENTITY:
                if len(body) <= INLINE_PLAIN and not call.json:
                    self._work(call, body, self._post_now)
                    return
            elif len(body) <= INLINE_COMPRESSED and not call.json:
                try:
                    plain = inflate(call.encoding, body, min(_INLINE_INFLATED, call.max_size))
                except TooLarge:  # too large for here; the worker finds out whether it is for us
                    pass
                else:
                    self._work(call, plain, self._post_now)
                    return
            with self._count:
                if self._waiting >= MAX_WAITING:
                    raise Overloaded("too many large requests are being worked on")
                self._waiting += 1
            self._workers.submit(self._work_later, call, body)
        except Exception as error:
            self._fail(call, error, 0)

    def _work_later(self, call: Call, body: bytes) -> None:
        with self._count:
            self._waiting -= 1
        if call.held.abandoned:  # nobody waits for the answer, nobody was told OK
            call.held.release()
            return
        try:
            plain = inflate(call.encoding, body, call.max_size)
            del body
            self._work(call, plain, self._mailbox.post)
        except Exception as error:
            self._mailbox.post(self._fail, call, error, 0)

    @staticmethod
    def _post_now(function: Callable[..., None], *args: object) -> None:
        function(*args)

    def _work(self, call: Call, body: bytes, post: Callable[..., None]) -> None:
        call.held.become(len(body))
        if call.json:
            body = self._from_json(body, call.signal)
            call.held.become(len(body))
        checked = check(call.signal, body, self._limits)
        body = checked.body
        if call.client.attributes and checked.items:
            body = stamp(body, call.client.attributes)
        if not checked.items:
            post(self._accept, call, 0, checked.rejected, checked.repaired, checked.reason)
            return
        call.held.become(len(body))
        items, result = checked.items, (checked.items, checked.rejected, checked.repaired, checked.reason)

        def done(error: Exception | None) -> None:  # must not hold on to the body
            if error is None:
                self._mailbox.post(self._accept, call, *result)
            else:
                self._mailbox.post(self._fail, call, error, items)

        try:
            self._intake.submit(call.signal, body, items, done)
        except Exception as error:
            post(self._fail, call, error, items)

    def _from_json(self, body: bytes, signal: Signal) -> bytes:
        values = body.count(b",") + body.count(b"{") + body.count(b"[")
        if values > MAX_JSON_VALUES:
            raise TooLarge(f"the JSON has more than {MAX_JSON_VALUES} values; send smaller batches, or protobuf")
        with self._one_json:
            return otlp_json.to_protobuf(body, signal)

    def _accept(self, call: Call, items: int, rejected: int, repaired: int, reason: str) -> None:
        call.held.release()
        tally = call.tally
        tally.accepted[call.signal] += items
        tally.rejected_spans += rejected
        tally.repaired_strings += repaired
        call.answer(Accepted(rejected, reason))

    def _fail(self, call: Call, error: Exception, items: int) -> None:
        call.held.release()
        call.tally.refused[call.signal] += items
        if not isinstance(error, Refused) and time.monotonic() > self._quiet_until:
            self._quiet_until = time.monotonic() + _QUIET_SECONDS
            if isinstance(error, StoreError):
                logger.error("requests cannot be kept, senders are told to come back: %s", error)
            else:
                logger.error("a request could not be worked on", exc_info=error)
        call.answer(status_of(error))
