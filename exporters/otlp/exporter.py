"""Both exporters: a batch becomes compressed requests once, and each of them is sent until it is taken or never can be.

What an answer means follows the OTLP specification (`grpc.py`, `http.py`), with one addition: what is refused because of the
setup, such as a wrong key, says nothing about the data. It is held and tried again for a while before it is buried.
"""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, ClassVar, TypeVar

from collector.component import Context, Exporter, Payload
from collector.errors import DeliveryError, PartlyRefused, Permanent, Retryable
from collector.signals import Signal
from exporters.otlp.config import CommonConfig, OtlpConfig, OtlpHttpConfig
from exporters.otlp.errors import SetupError
from exporters.otlp.headers import Headers

if TYPE_CHECKING:
    from collector.batch import RequestBatch, SpanBatch
    from collector.otlp.tables import U8
    from exporters.otlp.answers import Partial
    from exporters.otlp.transport import Transport

# What needs the column engine, the kernels or libcurl is imported where it is used: reading a config does not need it.

logger = logging.getLogger(__name__)

ConfigT = TypeVar("ConfigT", bound=CommonConfig)
#: So many times, for spans of ordinary attributes, rounded up.
_JSON_IS_LARGER = 2


class _OtlpExporter(Exporter[ConfigT]):
    signals = frozenset(Signal)
    http2: ClassVar[bool]

    def __init__(self, config: ConfigT, context: Context) -> None:
        super().__init__(config, context)
        self._headers = Headers(config.headers, f"exporters.{context.id}.headers")
        self._transport: Transport | None = None
        self._refused_since: float | None = None  # the first setup error since the last success
        self._most = config.max_request_size  # bytes of protobuf in a request
        if config.tls.insecure_skip_verify:
            logger.warning("exporters.%s.tls.insecure_skip_verify: whoever is in between can read what is sent, and its headers", context.id)  # fmt: skip

    # In the pipeline --------------------------------------------------------------------------------------------------

    def encode(self, batch: SpanBatch) -> Iterable[Payload]:
        from exporters.otlp.additions import added_to

        request = added_to(batch, self.config.attributes, self.config.also_as)
        yield from self._payloads(Signal.TRACES, request, len(batch))
        if self.config.findings and any(finding.transitions for finding in batch.findings):
            from exporters.otlp.finding_records import finding_records

            records, count = finding_records(batch.findings, batch.received_ns)
            yield from self._payloads(Signal.LOGS, records, count)

    def encode_requests(self, batch: RequestBatch) -> Iterable[Payload]:
        return self._payloads(batch.signal, batch.data, batch.items)

    def _payloads(self, signal: Signal, data: U8, items: int) -> Iterator[Payload]:
        from collector.otlp.parts import split

        if len(data):
            for part in split(signal, data, items, self._most):
                yield from self._encoded(signal, part.data, part.items)

    @abstractmethod
    def _encoded(self, signal: Signal, data: U8, items: int) -> Iterable[Payload]:
        """One request, ready for the wire."""

    # From the outbox --------------------------------------------------------------------------------------------------

    def send(self, payload: Payload) -> None:
        try:
            partial = self._deliver(payload, self._open())
        except KeyError as error:
            raise Permanent(f"the payload has no {error.args[0]}: another release wrote it") from None
        except SetupError as error:
            raise self._held(self._said(str(error))) from None
        except Retryable as error:
            raise Retryable(self._said(str(error)), error.retry_after) from None
        except Permanent as error:
            raise Permanent(self._said(str(error))) from None
        self._refused_since = None
        if partial is not None and partial.rejected:
            why = partial.message or "it does not say why"
            raise PartlyRefused(self._said(f"refused {partial.rejected} of {payload.items} items: {why}"), partial.rejected)  # fmt: skip
        if partial is not None:
            logger.warning("exporter %s: %s", self.context.id, self._said(f"took everything, and warns: {partial.message}"))  # fmt: skip

    @abstractmethod
    def _deliver(self, payload: Payload, transport: Transport) -> Partial | None:
        """Send it; what is left to say about a success. Raises `Retryable`, `Permanent` and `SetupError`."""

    def _open(self) -> Transport:
        from exporters.otlp.transport import Transport

        if self._transport is None:
            self._transport = Transport(self.config.tls, self.config.timeout, http2=self.http2)
        return self._transport

    def _held(self, message: str) -> DeliveryError:
        """A setup error, as something that passes, until it has lasted too long."""
        now = time.monotonic()
        self._refused_since = now if self._refused_since is None else self._refused_since
        lasts = now - self._refused_since
        return Retryable(message) if lasts < self.config.retry_setup_errors_for else Permanent(message)

    def _said(self, message: str) -> str:
        """What went wrong, with where, without our secrets: servers quote what they refuse."""
        return f"{self}: {self._headers.hide(message)}"

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Otlp(_OtlpExporter[OtlpConfig]):
    """OTLP over gRPC: to a vendor, another OpenTelemetry Collector or another Spanledger."""

    Config = OtlpConfig
    http2 = True

    def _encoded(self, signal: Signal, data: U8, items: int) -> Iterable[Payload]:
        from exporters.otlp import grpc
        from exporters.otlp.compression import compressed

        codec = self.config.compression
        body = grpc.framed(compressed(data, codec), codec != "none")
        yield Payload(body, {"signal": signal.value, "encoding": codec}, items)

    def _deliver(self, payload: Payload, transport: Transport) -> Partial | None:
        from exporters.otlp import grpc

        url = f"{self.config.url}{grpc.PATHS[Signal(str(payload.meta['signal']))]}"
        headers = grpc.headers(self._headers.current(), str(payload.meta["encoding"]), self.config.timeout)
        return grpc.judge(transport.post(url, headers, payload.body))

    def __str__(self) -> str:
        return self.config.url


class OtlpHttp(_OtlpExporter[OtlpHttpConfig]):
    """OTLP over HTTP, as protobuf or JSON: to a vendor, another OpenTelemetry Collector or another Spanledger."""

    Config = OtlpHttpConfig
    http2 = False

    def __init__(self, config: OtlpHttpConfig, context: Context) -> None:
        super().__init__(config, context)
        if config.encoding == "json":
            self._most //= _JSON_IS_LARGER

    def _encoded(self, signal: Signal, data: U8, items: int) -> Iterable[Payload]:
        from exporters.otlp import http

        if self.config.encoding == "json":
            yield from self._as_json(signal, data, items)
        else:
            yield self._payload(signal, data, items, http.PROTOBUF)

    def _as_json(self, signal: Signal, data: U8, items: int) -> Iterator[Payload]:
        """What is too large as JSON all the same is halved until it fits."""
        from collector.otlp.json_writer import to_json
        from collector.otlp.parts import split
        from exporters.otlp import http

        text = to_json(signal, data)
        halves = split(signal, data, items, len(data) // 2) if len(text) > self.config.max_request_size else []
        if len(halves) > 1:
            for half in halves:
                yield from self._as_json(signal, half.data, half.items)
        else:
            yield self._payload(signal, text, items, http.JSON)

    def _payload(self, signal: Signal, body: U8, items: int, content_type: str) -> Payload:
        from exporters.otlp.compression import compressed

        codec = self.config.compression
        meta: dict[str, str | int] = {"signal": signal.value, "encoding": codec, "content_type": content_type}
        return Payload(compressed(body, codec), meta, items)

    def _deliver(self, payload: Payload, transport: Transport) -> Partial | None:
        from exporters.otlp import http

        meta = payload.meta
        url = self.config.url(Signal(str(meta["signal"])))
        if url is None:
            raise Retryable(f"there is nowhere to send {meta['signal']} to: set endpoint or {meta['signal']}_endpoint")
        headers = http.headers(self._headers.current(), str(meta["content_type"]), str(meta["encoding"]))
        return http.judge(transport.post(url, headers, payload.body))

    def __str__(self) -> str:
        config = self.config
        return config.endpoint or config.traces_endpoint or config.logs_endpoint or config.metrics_endpoint or ""


__all__ = ["Otlp", "OtlpHttp"]
