"""OTLP requests to measure with: fixed shapes, fresh trace, span and response ids in every request.

lean     every span a gateway's call of its own, 20 attributes, about 0.85 kB
content  the same with 4 kB of prompt and answer, 22 attributes
mix      traces of six spans as a gateway makes them, one of which is the call
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

MODELS = ("gpt-4o-mini", "gpt-4o", "gpt-4.1", "gpt-4.1-mini")
TEXT = (
    "Please summarise the ticket below for the shift that follows. The customer writes that the parcel was due on Monday, "
    "that the tracking page has shown the same depot since then, and asks for a refund of the shipping fee. "
)
_TRACE_MARK, _SPAN_MARK = b"\xfeT%05d%05d\xfe\xfe\xfe\xfe", b"\xfeS%05d\xfe"
_RESPONSE_MARK = "chatcmpl-%05d-0000000000000000000000"


@dataclass(frozen=True, slots=True)
class Shape:
    """What one kind of request holds. `attributes`: of a call, 20 or more, and two of content."""

    name: str
    attributes: int
    content_bytes: int = 0
    spans_per_trace: int = 1


LEAN = Shape("lean", 20)
CONTENT = Shape("content", 22, content_bytes=4000)
MIX = Shape("mix", 20, spans_per_trace=6)


class Requests:
    """Serialized requests of one shape. `next()` is a template with its ids overwritten: no protobuf work per request."""

    def __init__(self, shape: Shape, spans: int) -> None:
        self.spans = spans
        self._random = np.random.default_rng()
        body, marks = _template(shape, spans)
        self._template = np.frombuffer(body, dtype=np.uint8)
        self.bytes = len(body)
        self._traces = _places(body, marks["trace"])
        self._span_ids = _places(body, marks["span"])
        self._responses = _places(body, marks["response"])

    def next(self) -> bytes:
        """A request that was never sent before."""
        body = self._template.copy()
        for places in self._traces:
            body[places[:, None] + np.arange(16)] = np.frombuffer(os.urandom(16), dtype=np.uint8)
        ids = self._random.integers(1, 256, (len(self._span_ids), 8), dtype=np.uint8)
        for places, id_ in zip(self._span_ids, ids, strict=True):
            body[places[:, None] + np.arange(8)] = id_
        text = b"0123456789abcdefghijklmnopqrstuvwxyz"
        letters = np.frombuffer(text, dtype=np.uint8)[self._random.integers(0, len(text), (len(self._responses), 22))]
        for places, letter in zip(self._responses, letters, strict=True):
            body[places[:, None] + np.arange(15, 37)] = letter
        return body.tobytes()


def _places(body: bytes, marks: list[bytes]) -> list[np.ndarray]:
    """For each mark, where in the body it stands."""
    found = []
    for mark in marks:
        places, at = [], body.find(mark)
        while at >= 0:
            places.append(at)
            at = body.find(mark, at + 1)
        found.append(np.array(places, dtype=np.int64))
    return found


def _template(shape: Shape, spans: int) -> tuple[bytes, dict[str, list[bytes]]]:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    _set(resource.resource.attributes, {"service.name": "llm-gateway", "deployment.environment.name": "production"})
    scope = resource.scope_spans.add()
    scope.scope.name, scope.scope.version = "litellm", "1.106.2"
    now = time.time_ns()
    marks: dict[str, list[bytes]] = {"trace": [], "span": [], "response": []}
    for number in range(spans):
        trace, place = divmod(number, shape.spans_per_trace)
        span = scope.spans.add()
        if place == 0:
            marks["trace"].append(_TRACE_MARK % (trace, trace))
        marks["span"].append(_SPAN_MARK % number)
        span.trace_id, span.span_id = _TRACE_MARK % (trace, trace), _SPAN_MARK % number
        if place:
            span.parent_span_id = _SPAN_MARK % (number - place)
        span.start_time_unix_nano, span.end_time_unix_nano = now + number * 1000, now + number * 1000 + 800_000_000
        if place == shape.spans_per_trace - 1:
            response = _RESPONSE_MARK % number
            marks["response"].append(response.encode())
            _call(span, number, response, shape)
        else:
            _around(span, place)
    return request.SerializeToString(), marks


def _call(span: Span, number: int, response: str, shape: Shape) -> None:
    model = MODELS[number % len(MODELS)]
    span.name, span.kind = f"chat {model}", Span.SPAN_KIND_CLIENT
    attributes: dict[str, str | int | float | bool] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": model,
        "gen_ai.response.model": model,
        "litellm.provider.model": f"openai/{model}",
        "gen_ai.response.id": response,
        "gen_ai.usage.input_tokens": 500 + number % 977,
        "gen_ai.usage.output_tokens": 20 + number % 331,
        "gen_ai.usage.cache_read.input_tokens": (number % 3) * 128,
        "gen_ai.request.temperature": 0.2,
        "gen_ai.request.max_tokens": 1024,
        "gen_ai.response.finish_reasons": "stop",
        "litellm.request.streaming": number % 2 == 0,
        "litellm.team.alias": f"team-{number % 20}",
        "litellm.metadata.user_api_key_alias": f"key-{number % 60}",
        "litellm.metadata.user_api_key_user_id": f"user-{number % 500}",
        "openai.response.service_tier": "default",
        "gen_ai.conversation.id": f"conversation-{number % 1000:06d}",
        "server.address": "api.openai.com",
        "server.port": 443,
    }
    if shape.content_bytes:
        text = (TEXT * (shape.content_bytes // len(TEXT) + 1))[: shape.content_bytes]
        attributes["gen_ai.input.messages"] = '[{"role":"user","content":"' + text[: len(text) // 2] + '"}]'
        attributes["gen_ai.output.messages"] = '[{"role":"assistant","content":"' + text[len(text) // 2 :] + '"}]'
    for place in range(len(attributes), shape.attributes):
        attributes[f"app.detail.{place:03d}"] = f"what an app adds, {(number + place) % 97}"
    _set(span.attributes, attributes)


def _around(span: Span, place: int) -> None:
    name = ("POST /v1/chat/completions", "auth", "route", "guardrail", "db.read")[place]
    span.name, span.kind = name, Span.SPAN_KIND_SERVER if place == 0 else Span.SPAN_KIND_INTERNAL
    server = {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "url.path": "/v1/chat/completions",
        "url.scheme": "https",
        "client.address": "10.0.3.17",
        "user_agent.original": "OpenAI/Python 3.54.0",
        "network.protocol.version": "1.1",
    }
    _set(span.attributes, server if place == 0 else {"step": name, "cache": "miss", "attempt": 1, "duration_ms": 1.25})


def _set(target: object, attributes: Mapping[str, object]) -> None:
    for key, value in attributes.items():
        entry = target.add()  # type: ignore[attr-defined]
        entry.key = key
        kind = {bool: "bool_value", int: "int_value", float: "double_value", str: "string_value"}[type(value)]
        setattr(entry.value, kind, value)
