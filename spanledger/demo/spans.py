"""How the demo's calls are reported: as LiteLLM's OTLP exporter does (v2 spans), and by the apps' own SDKs beside it.

Both carry the same response id, so that the ledger can tell that they are one call.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from spanledger.demo.calls import Call, Outcome, key_hash
from spanledger.demo.world import Model

SERVER, CLIENT, INTERNAL = Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_INTERNAL
_SDK = {"telemetry.sdk.language": "python", "telemetry.sdk.name": "opentelemetry", "telemetry.sdk.version": "1.45.2"}
_SCHEMA = "https://opentelemetry.io/schemas/1.37.0"
_ERRORS = {
    Outcome.RATE_LIMITED: (429, "RateLimitError", "litellm.RateLimitError: RateLimitError: OpenAIException - Rate limit reached"),
    Outcome.FALLBACK: (500, "InternalServerError", "litellm.InternalServerError: The server had an error while processing your request"),
    Outcome.BLOCKED: (400, "HTTPException", "Violated guardrail policy"),
}  # fmt: skip

Scopes = dict[tuple[str, str, str], list[Span]]  # name, version, schema URL


def requests(calls: Iterable[Call], draw: random.Random) -> list[tuple[bytes, int]]:
    """The OTLP requests that report these calls, with their span counts: one of the gateway, one of each app."""
    gateway: Scopes = defaultdict(list)
    apps: dict[tuple[str, str, str], Scopes] = defaultdict(lambda: defaultdict(list))
    for call in calls:
        parent = b""
        if call.app.instrumented:
            service = (call.app.name, call.app.environment, call.app.team)
            parent = _app_spans(call, apps[service], draw)
        _gateway_spans(call, gateway, parent, draw)
    bodies = [_request({**_SDK, "service.name": "litellm-proxy", "service.version": "1.106.2"}, gateway)]
    for (name, environment, team), scopes in apps.items():
        resource = {"service.name": name, "deployment.environment.name": environment, "service.namespace": team.lower()}
        bodies.append(_request({**_SDK, **resource}, scopes))
    draw.shuffle(bodies)
    return bodies


def _request(resource: Mapping[str, Any], scopes: Scopes) -> tuple[bytes, int]:
    spans = ResourceSpans()
    spans.resource.attributes.extend(_attributes(resource))
    for (name, version, schema), members in scopes.items():
        scope = ScopeSpans(spans=members, schema_url=schema)
        scope.scope.name, scope.scope.version = name, version
        spans.scope_spans.append(scope)
    return ExportTraceServiceRequest(resource_spans=[spans]).SerializeToString(), sum(map(len, scopes.values()))


def _app_spans(call: Call, scopes: Scopes, draw: random.Random) -> bytes:
    """The app's own span and its SDK's below it; gives back the span that the gateway's will stand under."""
    end = call.start_ns + call.duration_ns + draw.randrange(1_000_000, 9_000_000)
    root = _span(call, "handle_request", INTERNAL, b"", draw, call.start_ns - 4_000_000, end + 1_000_000)
    root.attributes.extend(_attributes({"enduser.id": call.end_user, "session.id": call.session}))
    asked = (call.failed or call.model).alias
    name = f"embeddings {asked}" if call.model.embeds else f"chat {asked}"
    span = _span(call, name, CLIENT, root.span_id, draw, call.start_ns - 2_000_000, end)
    operation = "embeddings" if call.model.embeds else "chat"
    sdk = (call.failed or call.model).sdk
    facts: dict[str, Any] = {
        "gen_ai.operation.name": operation, "gen_ai.provider.name": sdk, "gen_ai.request.model": asked,
        "server.address": "gateway.internal", "server.port": 4000,
    }  # fmt: skip
    if call.outcome in (Outcome.RATE_LIMITED, Outcome.BLOCKED):
        error = "RateLimitError" if call.outcome is Outcome.RATE_LIMITED else "BadRequestError"
        facts["error.type"] = f"{sdk}.{error}"
        span.status.code = root.status.code = Status.STATUS_CODE_ERROR
    elif call.model.embeds:
        facts |= {"gen_ai.response.model": call.model.alias, "gen_ai.usage.input_tokens": call.input_tokens}
    else:
        facts |= _answer(call) | {"gen_ai.response.model": call.model.alias}
        facts["openai.response.service_tier" if sdk == "openai" else "anthropic.response.service_tier"] = (
            "default" if sdk == "openai" else "standard"
        )
    if not call.model.embeds:
        facts["gen_ai.input.messages"] = json.dumps(
            [{"role": "user", "parts": [{"type": "text", "content": call.prompt}]}]
        )
    if call.first_chunk_ns is not None:
        facts |= {
            "gen_ai.request.stream": True,
            "gen_ai.response.time_to_first_chunk": (call.first_chunk_ns + 2e6) / 1e9,
        }
    span.attributes.extend(_attributes(facts))
    scopes[f"opentelemetry.instrumentation.genai.{sdk}", "1.3b0", _SCHEMA].append(span)
    scopes[call.app.name, "", ""].append(root)
    return root.span_id


def _answer(call: Call) -> dict[str, Any]:
    """What an SDK's span tells of an answer, in the conventions' words."""
    usage = {
        "gen_ai.response.id": call.response_id, "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": call.input_tokens, "gen_ai.usage.output_tokens": call.output_tokens,
        "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": call.answer}], "finish_reason": "stop"}]),
    }  # fmt: skip
    if call.model.caches:
        usage["gen_ai.usage.cache_read.input_tokens"] = call.cache_read_tokens
    if call.cache_write_tokens:
        usage["gen_ai.usage.cache_write.input_tokens"] = call.cache_write_tokens
    if call.reasoning_tokens:
        usage["gen_ai.usage.reasoning.output_tokens"] = call.reasoning_tokens
    return usage


def _gateway_spans(call: Call, scopes: Scopes, parent: bytes, draw: random.Random) -> None:
    """The request as LiteLLM reports it: SERVER span, its phases, one CLIENT span for each attempt."""
    end = call.start_ns + call.duration_ns
    route = "/v1/embeddings" if call.model.embeds else "/v1/chat/completions"
    server = _span(call, f"POST {route}", SERVER, parent, draw, call.start_ns, end)
    status = _ERRORS[call.outcome][0] if call.outcome in (Outcome.RATE_LIMITED, Outcome.BLOCKED) else 200
    server.attributes.extend(_attributes({
        "server.address": "gateway.internal", "server.port": 4000, "url.path": route, "url.scheme": "http",
        "http.request.method": "POST", "network.protocol.version": "1.1", "http.route": route,
        "http.response.status_code": status,
    }))  # fmt: skip
    phases = _span(
        call, "fastapi.dependencies", INTERNAL, server.span_id, draw, call.start_ns, call.start_ns + 2_000_000
    )
    work = _span(call, "fastapi.endpoint", INTERNAL, server.span_id, draw, call.start_ns + 2_000_000, end)
    auth = _span(call, f"auth {route}", INTERNAL, phases.span_id, draw, call.start_ns, call.start_ns + 1_500_000)
    asked = (call.failed or call.model).alias
    phases.attributes.extend(_attributes({**_identity(call), "gen_ai.request.model": asked}))
    work.attributes.extend(_attributes({"code.function.name": "litellm.proxy.proxy_server.chat_completion"}))
    scopes["fastapi", "0.165.0", "https://opentelemetry.io/schemas/1.44.0"] += [phases, work, server]
    litellm = scopes["litellm", "1.106.2", ""]
    litellm.append(auth)
    if call.outcome is Outcome.BLOCKED:
        work.status.code = Status.STATUS_CODE_ERROR
        work.attributes.extend(
            _attributes({"error.type": "HTTPException", "error.message": _ERRORS[Outcome.BLOCKED][2]})
        )
        return
    start = call.start_ns + 3_000_000
    if call.failed is not None:
        middle = start + (end - start) // 4
        litellm.append(_attempt(call, call.failed, asked, phases.span_id, draw, (start, middle), Outcome.FALLBACK))
        start = middle
    failure = call.outcome if call.outcome is Outcome.RATE_LIMITED else None
    litellm.append(_attempt(call, call.model, call.model.alias, phases.span_id, draw, (start, end), failure))
    router = _span(call, f"route {call.model.alias}", INTERNAL, work.span_id, draw, start, start + 600_000)
    router.attributes.extend(_attributes({**_identity(call), "gen_ai.request.model": asked}))
    litellm.append(router)


def _attempt(
    call: Call,
    model: Model,
    alias: str,
    parent: bytes,
    draw: random.Random,
    times: tuple[int, int],
    failure: Outcome | None,
) -> Span:
    """The gateway's CLIENT span of one try of one model."""
    operation = "embeddings" if model.embeds else "chat"
    span = _span(call, f"{operation} {alias}", CLIENT, parent, draw, *times)
    tokens = (0, 0) if failure else (call.input_tokens, call.output_tokens)
    cost = 0.0 if failure else call.reported_cost
    facts: dict[str, Any] = {
        **_identity(call), "gen_ai.operation.name": operation, "gen_ai.provider.name": model.provider,
        "gen_ai.conversation.id": call.session, "gen_ai.request.model": alias,
        "gen_ai.usage.input_tokens": tokens[0], "gen_ai.usage.output_tokens": tokens[1], "server.address": model.server,
        "litellm.call_id": call.call_id, "litellm.call_type": "aembedding" if model.embeds else "acompletion",
        "litellm.provider.model": model.upstream, "litellm.cost.total": cost,
        "litellm.request.route": "/v1/embeddings" if model.embeds else "/v1/chat/completions",
        "gen_ai.system": model.provider, "gen_ai.usage.prompt_tokens": tokens[0],
        "gen_ai.usage.completion_tokens": tokens[1], "gen_ai.usage.total_tokens": sum(tokens),
    }  # fmt: skip
    if not model.embeds:
        facts["gen_ai.input.messages"] = json.dumps([{"role": "user", "content": call.prompt}])
    if failure:
        status, type_, message = _ERRORS[failure]
        facts |= {"error.type": type_, "error.message": message, "litellm.provider.error.code": str(status),
                  "litellm.provider.error.llm_provider": model.provider}  # fmt: skip
        span.status.code, span.status.message = Status.STATUS_CODE_ERROR, message
        event = span.events.add(name="exception", time_unix_nano=times[1])
        event.attributes.extend(_attributes({"exception.type": type_, "exception.message": message}))
    else:
        facts |= {"gen_ai.response.model": alias, "litellm.cost.original": cost, "litellm.cost.discount_amount": 0.0,
                  "litellm.cost.margin_total_amount": 0.0}  # fmt: skip
    if not failure and not model.embeds:
        facts |= {"gen_ai.response.id": call.response_id, "gen_ai.response.finish_reasons": ["stop"],
                  "gen_ai.output.messages": json.dumps([{"role": "assistant", "content": call.answer}])}  # fmt: skip
        if model.caches:
            facts["gen_ai.usage.cache_read.input_tokens"] = call.cache_read_tokens
        if call.cache_write_tokens:
            facts["gen_ai.usage.cache_creation.input_tokens"] = call.cache_write_tokens
    if call.outcome is Outcome.REPLAYED:
        facts["litellm.cache_hit"] = True
    if call.first_chunk_ns is not None and not failure:
        facts |= {"litellm.request.streaming": True, "llm.is_streaming": True,
                  "gen_ai.response.time_to_first_chunk": call.first_chunk_ns / 1e9}  # fmt: skip
    span.attributes.extend(_attributes(facts))
    return span


def _identity(call: Call) -> dict[str, Any]:
    """Whom the gateway has authenticated."""
    if not call.app.key:
        return {"litellm.api_key.hash": "litellm_proxy_master_key"}
    return {
        "litellm.team.id": f"team-{call.app.team.lower()}", "litellm.team.alias": call.app.team,
        "litellm.api_key.hash": key_hash(call.app.key), "litellm.metadata.user_api_key_org_id": "acme",
        "litellm.metadata.user_api_key_user_id": call.user, "litellm.metadata.user_api_key_alias": call.app.key,
        "litellm.metadata.user_api_key_end_user_id": call.end_user,
    }  # fmt: skip


def _span(call: Call, name: str, kind: Any, parent: bytes, draw: random.Random, start: int, end: int) -> Span:
    return Span(
        trace_id=call.trace_id, span_id=draw.randbytes(8), parent_span_id=parent, name=name, kind=kind,
        start_time_unix_nano=start, end_time_unix_nano=max(start, end), flags=0x101,
    )  # fmt: skip


def _attributes(values: Mapping[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in values.items() if value != ""]


def _value(value: Any) -> AnyValue:
    match value:
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case list():
            return AnyValue(array_value=ArrayValue(values=[_value(item) for item in value]))
        case _:
            return AnyValue(string_value=str(value))
