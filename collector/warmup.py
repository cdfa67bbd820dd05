"""Compile ahead what is compiled: every inner loop runs once, on calls made up for it.

Numba keeps what it compiled beside the installed package (or where NUMBA_CACHE_DIR says), so this takes long only once on
a machine: afterwards it loads.
"""

from __future__ import annotations

from collections.abc import Iterator

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client import CollectorRegistry

from collector.batch import Position, SpanBatch
from collector.dialects import normalise
from collector.ledger import Ledger
from collector.otlp import warmup
from collector.otlp.decode import decode
from config.model import LedgerConfig

#: Enough that columns are packed as those of a real batch.
CALLS = 300
_START_NS = 1_700_000_000 * 10**9


class _Memory(dict[bytes, bytes]):
    """A component's state, forgotten afterwards."""

    def items(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:  # type: ignore[override]
        return ((key, self[key]) for key in self.keys(prefix))

    def keys(self, prefix: bytes = b"") -> list[bytes]:  # type: ignore[override]
        return sorted(key for key in dict.keys(self) if key.startswith(prefix))

    def put(self, key: bytes, value: bytes) -> None:
        self[key] = value

    def delete(self, key: bytes) -> None:
        self.pop(key, None)


def warm() -> None:
    """Run everything compiled, from the wire to the ledger: new calls, then further reports of the same."""
    warmup.warm()
    ledger, state = Ledger(LedgerConfig(), CollectorRegistry()), _Memory()
    ledger.load(state)
    for number in (1, 2):
        traces = decode(_request(f"opentelemetry.instrumentation.warm{number}", number))
        batch = normalise(SpanBatch.blank(traces, Position(number, number), _START_NS))
        batch = ledger.annotate(ledger.merge(batch, state))
        ledger.save(state, batch)
    ledger.load(state)


def _request(scope: str, first: int) -> bytes:
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add()
    spans.scope.name = scope
    for number in range(1, CALLS + 1):
        span = spans.spans.add(
            name="chat", start_time_unix_nano=_START_NS + number, end_time_unix_nano=_START_NS + 10**9 + number
        )
        span.trace_id, span.span_id = number.to_bytes(16, "big"), (number << 8 | first).to_bytes(8, "big")
        if number % 2:
            span.parent_span_id = (number << 8 | 255).to_bytes(8, "big")
        for key, text in {"operation.name": "chat", "request.model": "gpt-4o-mini", "response.id": f"warm-{number}"}.items():  # fmt: skip
            span.attributes.add(key=f"gen_ai.{key}").value.string_value = text
        for key, tokens in {"input_tokens": 100, "output_tokens": 10}.items():
            span.attributes.add(key=f"gen_ai.usage.{key}").value.int_value = tokens
    return request.SerializeToString()
