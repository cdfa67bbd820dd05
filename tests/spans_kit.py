"""Spans for tests, written down as data and sent as the bytes that an SDK would send.

```python
body = request(
    resource={"service.name": "support-bot"},
    scope="openinference.instrumentation.openai",
    spans=[span("ChatCompletion", {"openinference.span.kind": "LLM", "llm.token_count.prompt": 12})],
)
```

Bodies of several requests concatenate: `request(...) + request(...)` is what a pipeline decodes at once.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

#: Tuesday 2026-11-24, 12:00 UTC.
NOON_NS = 1_795_521_600 * 10**9
KINDS = {"unspecified": 0, "internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}
STATUSES = {"unset": Status.STATUS_CODE_UNSET, "ok": Status.STATUS_CODE_OK, "error": Status.STATUS_CODE_ERROR}
_numbers = itertools.count(1)


def span(
    name: str = "span",
    attributes: Mapping[str, Any] | None = None,
    *,
    kind: str = "internal",
    parent: Span | bytes | None = None,
    trace: Span | bytes | None = None,
    span_id: bytes | None = None,
    events: Iterable[Span.Event] = (),
    status: str = "unset",
    message: str = "",
    start_ns: int = NOON_NS,
    duration_ns: int = 800_000_000,
) -> Span:
    """One span with ids of its own; a `parent` span hands down its trace, `trace` may be a span of that trace.

    Attribute values: str, bool, int, float, bytes, list, dict, or None for a value that is not set.
    """
    made = Span(name=name, kind=KINDS[kind])  # type: ignore[arg-type]
    number = next(_numbers)
    made.span_id = span_id or number.to_bytes(8, "big")
    if isinstance(parent, Span):
        made.parent_span_id, made.trace_id = parent.span_id, parent.trace_id
    elif parent is not None:
        made.parent_span_id = parent
    if trace is not None:
        made.trace_id = trace.trace_id if isinstance(trace, Span) else trace
    if not made.trace_id:
        made.trace_id = (0xFACE << 96 | number).to_bytes(16, "big")
    made.start_time_unix_nano, made.end_time_unix_nano = start_ns, start_ns + duration_ns
    made.status.code, made.status.message = STATUSES[status], message
    made.attributes.extend(_key_values(attributes or {}))
    made.events.extend(events)
    return made


def event(name: str, attributes: Mapping[str, Any] | None = None, *, at_ns: int = NOON_NS) -> Span.Event:
    """One event of a span."""
    return Span.Event(name=name, time_unix_nano=at_ns, attributes=_key_values(attributes or {}))


def request(
    *,
    resource: Mapping[str, Any] | None = None,
    scope: str = "",
    version: str = "",
    schema_url: str = "",
    scope_attributes: Mapping[str, Any] | None = None,
    spans: Sequence[Span] = (),
) -> bytes:
    """An ExportTraceServiceRequest of one resource and one scope."""
    message = ExportTraceServiceRequest()
    spans_of_resource = message.resource_spans.add()
    spans_of_resource.resource.attributes.extend(_key_values(resource or {}))
    spans_of_scope = spans_of_resource.scope_spans.add()
    spans_of_scope.scope.name, spans_of_scope.scope.version = scope, version
    spans_of_scope.schema_url = schema_url
    spans_of_scope.scope.attributes.extend(_key_values(scope_attributes or {}))
    spans_of_scope.spans.extend(spans)
    return message.SerializeToString()


def calls(ids: Iterable[str], attributes: Mapping[str, Any] | None = None) -> bytes:
    """A request of a gateway, now: one call a span with these response ids, 1,000 tokens in and 100 out of gpt-4o-mini."""
    return request(
        resource={"service.name": "gateway"},
        scope="litellm",
        spans=[
            span(
                "chat gpt-4o-mini",
                {
                    "gen_ai.operation.name": "chat",
                    "gen_ai.provider.name": "openai",
                    "gen_ai.request.model": "gpt-4o-mini",
                    "gen_ai.response.model": "gpt-4o-mini",
                    "gen_ai.response.id": id_,
                    "gen_ai.usage.input_tokens": 1000,
                    "gen_ai.usage.output_tokens": 100,
                    "openai.response.service_tier": "default",
                    "litellm.team.alias": f"team-{place % 3}",
                    **(attributes or {}),
                },
                kind="client",
                start_ns=time.time_ns(),
            )
            for place, id_ in enumerate(ids)
        ],
    )


def _key_values(attributes: Mapping[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=any_value(value)) for key, value in attributes.items()]


def any_value(value: Any) -> AnyValue:
    """The AnyValue that spells a Python value."""
    made = AnyValue()
    if isinstance(value, bool):
        made.bool_value = value
    elif isinstance(value, int):
        made.int_value = value
    elif isinstance(value, float):
        made.double_value = value
    elif isinstance(value, str):
        made.string_value = value
    elif isinstance(value, bytes):
        made.bytes_value = value
    elif isinstance(value, list):
        made.array_value.values.extend(any_value(item) for item in value)
        made.array_value.SetInParent()
    elif isinstance(value, dict):
        made.kvlist_value.values.extend(_key_values(value))
        made.kvlist_value.SetInParent()
    elif value is not None:
        raise TypeError(f"no AnyValue for {type(value).__name__}")
    return made
