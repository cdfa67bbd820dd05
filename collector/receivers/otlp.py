"""The OTLP receiver: both protocols on one event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from collector.component import Context, Intake, Receiver
from collector.errors import SpanledgerError
from collector.otlp.check import Limits
from collector.receivers.admission import Admission
from collector.receivers.auth import Auth
from collector.receivers.config import GrpcConfig, HttpConfig, OtlpConfig
from collector.receivers.export_service import ExportService
from collector.receivers.listener import TICK_SECONDS, Listener
from collector.receivers.mailbox import Mailbox
from collector.receivers.otlp_grpc import GrpcServer
from collector.receivers.otlp_http import HttpServer
from collector.receivers.telemetry import ReceiverMetrics, Room
from collector.receivers.tls import Tls
from config.types import parse_endpoint

logger = logging.getLogger(__name__)

_FILES_SECONDS = 0.5


@dataclass(slots=True)
class _Port:
    """One protocol's port, and what is read again while it is open."""

    name: str
    listener: Listener
    auth: Auth
    tls: Tls | None


class OtlpReceiver(Receiver[OtlpConfig]):
    """OTLP/gRPC and OTLP/HTTP, for traces, logs and metrics: senders of a signal that no pipeline takes are told so."""

    Config = OtlpConfig

    def __init__(self, config: OtlpConfig, context: Context) -> None:
        super().__init__(config, context)
        self._admission = Admission(config.limits)
        self._metrics = ReceiverMetrics.of(context.metrics)
        self._metrics.rooms.append(
            Room(context.id, lambda: self._admission.requests, lambda: self._admission.bytes)
        )  # fmt: skip
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._service: ExportService | None = None
        self._ports: list[_Port] = []
        self._reading: asyncio.Future[object] | None = None

    @property
    def endpoints(self) -> Sequence[str]:
        """Such as `grpc://127.0.0.1:4317` and `https://127.0.0.1:4318`; `grpcs` and `https` with TLS."""
        return [f"{p.name}{'s' if p.tls else ''}://{p.listener.address}" for p in self._ports]

    def start(self, intake: Intake) -> None:
        loop = asyncio.new_event_loop()
        limits = self.config.limits
        service = ExportService(
            intake, Limits(limits.max_items, limits.max_attributes, limits.max_depth), Mailbox(loop)
        )  # fmt: skip
        try:
            if self.config.protocols.grpc is not None:
                self._ports.append(self._grpc(self.config.protocols.grpc, service))
            if self.config.protocols.http is not None:
                self._ports.append(self._http(self.config.protocols.http, service))
        except SpanledgerError:
            for port in self._ports:
                port.listener.release()
            self._ports.clear()
            loop.close()
            service.close()
            raise
        for port in self._ports:
            self._warn(port)
        self._loop, self._service = loop, service
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), name=f"spanledger-{self.context.id}")
        self._thread.start()
        started.wait()

    def stop(self, grace_seconds: float) -> None:
        if self._loop is None or self._thread is None or self._service is None:
            return
        asyncio.run_coroutine_threadsafe(self._close(grace_seconds), self._loop).result()
        self._service.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = self._thread = self._service = None
        self._ports.clear()

    # ── building ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _http(self, config: HttpConfig, service: ExportService) -> _Port:
        option = f"receivers.{self.context.id}.protocols.http"
        auth = Auth(config.auth, f"{option}.auth")
        tls = Tls(config.tls, ["http/1.1"], f"{option}.tls") if config.tls else None
        tally = self._metrics.tally(self.context.id, "http")
        server = HttpServer(config, auth, service, self._admission, tally)
        listener = Listener(config.endpoint, f"{option}.endpoint", server, tally, config.max_connections, tls)
        listener.bind()
        return _Port("http", listener, auth, tls)

    def _grpc(self, config: GrpcConfig, service: ExportService) -> _Port:
        option = f"receivers.{self.context.id}.protocols.grpc"
        auth = Auth(config.auth, f"{option}.auth")
        tls = Tls(config.tls, ["h2"], f"{option}.tls") if config.tls else None
        tally = self._metrics.tally(self.context.id, "grpc")
        server = GrpcServer(config, auth, service, self._admission, tally)
        listener = Listener(config.endpoint, f"{option}.endpoint", server, tally, config.max_connections, tls)
        listener.bind()
        return _Port("grpc", listener, auth, tls)

    def _warn(self, port: _Port) -> None:
        host = parse_endpoint(port.listener.endpoint)[0]
        if _loopback(host) or port.auth.required or (port.tls is not None and port.tls.config.client_ca_file):
            return
        logger.warning(
            "receivers.%s.protocols.%s listens on %s WITHOUT AUTHENTICATION: whoever reaches the port can write into "
            "the ledger. Set `auth` (tokens) or `tls.client_ca_file` (client certificates), or listen on 127.0.0.1.",
            self.context.id, port.name, port.listener.address,
        )  # fmt: skip

    # ── running ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _run(self, started: threading.Event) -> None:
        assert self._loop is not None
        asyncio.set_event_loop(self._loop)
        self._loop.call_soon(self._begin, started)
        self._loop.run_forever()

    def _begin(self, started: threading.Event) -> None:
        for port in self._ports:
            port.listener.listen()
        self._tick(0.0)
        started.set()

    def _tick(self, files_at: float) -> None:
        assert self._loop is not None
        now = time.monotonic()
        if now >= files_at and (self._reading is None or self._reading.done()):
            files_at = now + _FILES_SECONDS
            self._reading = self._loop.run_in_executor(None, self._refresh)
        self._ticking = self._loop.call_later(TICK_SECONDS, self._tick, files_at)
        for port in self._ports:
            port.listener.tick(now)

    def _refresh(self) -> None:
        for port in self._ports:
            port.auth.refresh()
            if port.tls is not None:
                port.tls.refresh()

    async def _close(self, grace_seconds: float) -> None:
        self._ticking.cancel()
        await asyncio.gather(*(port.listener.close(grace_seconds) for port in self._ports))


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
