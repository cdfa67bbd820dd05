"""A config becomes a running service.

Parts start from the end of the way to its beginning, so that whatever is taken in can go on; they stop in the other
order, so that what was taken in is worked off as far as the time for a stop allows. What is left lies on disk.
"""

from __future__ import annotations

import gc
import logging
import time

from collector.warmup import warm
from config.model import LoadedConfig
from spanledger.admin.server import AdminServer
from spanledger.parts import Parts
from spanledger.verdict import VerdictServer

logger = logging.getLogger(__name__)

#: How long the start waits for a store inside this process to have its tables: what an older release left may take its time.
STORE_S = 20.0


class Service:
    """Everything that `spanledger run` runs: the parts that a config asks for, and the ports that answer questions.

    `start` returns when all ports listen; `stop` when nothing runs any more. A service is started once.
    """

    def __init__(self, loaded: LoadedConfig) -> None:
        settings = loaded.service
        self.parts = Parts(loaded)
        try:
            self.admin = AdminServer(settings.admin, self.parts)
            self.verdict = VerdictServer(settings.verdict, self.parts) if settings.verdict is not None else None
        except BaseException:
            self.parts.close()
            raise

    def start(self) -> None:
        """Start every part; when one cannot, the others are stopped again and its error is raised."""
        parts = self.parts
        try:
            self.admin.start()
            warm()
            for pipeline in parts.pipelines:
                pipeline.load()
            for delivery in parts.deliveries:
                delivery.start()
            for pipeline in parts.pipelines:
                pipeline.start()
            for exchange in parts.exchanges:
                exchange.start()
            for receiver, intake in parts.receivers:
                receiver.start(intake)
            if self.verdict is not None:
                self.verdict.start()
                if self.verdict.child is not None:
                    self.verdict.child.goes_first()
        except BaseException:
            self.stop(0)
            raise
        # What is there by now stays: the collector of garbage need not look at it again after every few batches.
        gc.collect()
        gc.freeze()
        # Whoever asks the store as soon as this is ready finds its tables; requests are taken in already.
        stores = [delivery for delivery in parts.deliveries if delivery.outlet.exporter.sql_app() is not None]
        until = time.monotonic() + STORE_S
        for delivery in stores:
            delivery.began.wait(max(until - time.monotonic(), 0))
        parts.ready = True

    def stop(self, timeout: float | None = None) -> None:
        """Take nothing more, work off what is there for at most `timeout` seconds (the config's by default), close."""
        parts = self.parts
        parts.ready = False
        seconds = parts.config.service.shutdown_timeout if timeout is None else timeout
        deadline = time.monotonic() + seconds
        if self.verdict is not None:
            self.verdict.stop()
        for receiver, _ in parts.receivers:
            receiver.stop(min(seconds, 5.0))
        for exchange in parts.exchanges:
            exchange.stop()
        # The time is shared: pipelines may take half of what is left, exporters the rest.
        for pipeline in parts.pipelines:
            pipeline.stop(time.monotonic() + max(deadline - time.monotonic(), 0) / 2)
        for delivery in parts.deliveries:
            delivery.stop(deadline)
        self.admin.stop()
        left = sum(pipeline.waiting[0] for pipeline in parts.pipelines)
        waiting = sum(delivery.outlet.outbox.count for delivery in parts.deliveries)
        if left or waiting:
            logger.info("stopped; %d items and %d deliveries wait on disk for the next start", left, waiting)
        stuck = sum(worker.alive for worker in parts.workers)
        if stuck:
            logger.warning("%d threads did not end in time; what they hold is safe on disk", stuck)
            return  # closing a store under a running thread would crash: the process ends with it open, which is safe
        parts.close()
