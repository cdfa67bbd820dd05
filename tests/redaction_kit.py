"""Redaction as a pipeline runs it, on requests that a test writes down."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import Message
from prometheus_client import CollectorRegistry

from collector.batch import Position, RequestBatch, SpanBatch
from collector.component import Context
from collector.dialects import normalise
from collector.otlp.decode import decode
from collector.otlp.requests import REQUESTS
from collector.signals import Signal
from processors.attribution import Attribution, AttributionConfig
from processors.redaction import Redaction, RedactionConfig
from processors.redaction.engine import Outcome

KEY = bytes(range(32))


def redaction(
    folder: Path = Path("/nonexistent"), registry: CollectorRegistry | None = None, **options: Any
) -> Redaction:
    """The processor with these options, and a key that is the same in every test."""
    sources = options.pop("sources", {})
    options.setdefault("pseudonyms", {"key": base64.b64encode(KEY).decode()})
    config = RedactionConfig.model_validate(options)
    return Redaction(config, Context("redaction", folder, registry or CollectorRegistry(), sources=sources))


def batch(body: bytes, **attribution: Any) -> SpanBatch:
    """A decoded batch as it comes to redaction: normalised and attributed."""
    made = SpanBatch.blank(decode(body), Position(1, 1), 0)
    config = AttributionConfig.model_validate(attribution)
    return Attribution(config, Context("attribution", Path(), CollectorRegistry())).process(normalise(made))


def outcome(processor: Redaction, body: bytes, signal: Signal = Signal.TRACES) -> Outcome:
    """What the engine makes of a request."""
    data = np.frombuffer(body, np.uint8)
    return processor.parts.engine.redact(signal, data, decode(body) if signal is Signal.TRACES else None)


def redacted(body: bytes, signal: Signal = Signal.TRACES, **options: Any) -> bytes:
    """A request as it leaves the processor."""
    processor = redaction(**options)
    if signal is Signal.TRACES:
        return processor.process(batch(body)).otlp.data.tobytes()
    requests = RequestBatch(signal, np.frombuffer(body, np.uint8), 1, Position(1, 1), 0)
    return processor.process_requests(requests).data.tobytes()


def message(body: bytes, signal: Signal = Signal.TRACES) -> Any:
    """A request as protobuf has it."""
    made = REQUESTS[signal].message()
    made.ParseFromString(body)
    return made


def attributes(body: bytes) -> dict[str, Any]:
    """The attributes of the only span of a request, as Python values."""
    ((span,),) = [scope.spans for resource in message(body).resource_spans for scope in resource.scope_spans]
    return {pair.key: value_of(pair.value) for pair in span.attributes}


def value_of(value: Any) -> Any:
    """An AnyValue as a Python value."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [value_of(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: value_of(pair.value) for pair in value.kvlist_value.values}
    return getattr(value, kind) if kind else None


def texts(request: Message) -> Iterator[str]:
    """Every text and bytes of a message, also keys, and every number that is one of an attribute."""
    for field, value in request.ListFields():
        for one in value if field.is_repeated else [value]:
            if isinstance(one, Message):
                yield from texts(one)
            elif isinstance(one, bytes):
                yield one.decode("latin-1")
            elif isinstance(one, str) or field.name == "int_value":
                yield str(one)
