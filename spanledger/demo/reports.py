"""How a month's calls are reported: by the gateway as LiteLLM's first instrumentation does it, and by the apps' own SDKs beside it.

app   handle_request ─ chat              what instrumented apps say
gateway                └ POST /v1/chat/completions ─ litellm_request, one for each attempt
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from spanledger.demo.company import World
from spanledger.demo.wire import (  # fmt: skip
    U8,
    Pieces,
    attributes,
    constant,
    each,
    field,
    fixed,
    flat,
    ids,
    joined,
    key_value,
    number,
    real,
    text,
    times,
)
from spanledger.demo.world import ANSWERS, APPS

I64 = NDArray[np.int64]
_SERVER, _CLIENT, _INTERNAL = 2, 3, 1
_ERROR = field(0x7A, b"\x18\x02")
_MS = 1_000_000
#: An app's spans have the ids of the gateway's request, with other bits.
_CHAT, _ROOT = np.uint8(0x5A), np.uint8(0xA5)
_SDK = {"telemetry.sdk.language": "python", "telemetry.sdk.name": "opentelemetry", "telemetry.sdk.version": "1.45.2"}
_MESSAGES = {
    "InternalServerError": "litellm.InternalServerError: The server had an error while processing your request",
    "RateLimitError": "litellm.RateLimitError: RateLimitError: Rate limit reached",
    "Timeout": "litellm.Timeout: APITimeoutError - Request timed out.",
}
_CODES = {"InternalServerError": "500", "RateLimitError": "429", "Timeout": "408", "HTTPException": "400"}
#: Prompts by what the call is for: those of the demo's world. One call in so many has one with (invented) personal data in it.
_PERSONAL_ONE_IN = 300
_PERSONAL = {task: APPS[app].prompts for task, app in (("general_chat", 0), ("classification", 1), ("extraction", 6), ("code", 3), ("agent", 3))}  # fmt: skip
_PLAIN = {
    "general_chat": ("How do I export last year's invoices?", "Which plan includes single sign-on?", "Do you ship to Iceland?"),
    "classification": ("Which queue does this ticket belong to: the app shows a blank page after signing in.",),
    "extraction": ("Extract vendor, amount and due date from the attached invoice.",),
    "code": ("Write a migration that adds an index on orders(customer_id) without a lock.", "Explain why this test is flaky and suggest a fix."),
    "agent": ("Move the retry settings into the config and update the callers.", "Find out why the nightly build became slower."),
    "rag": APPS[2].prompts, "summarization": APPS[2].prompts, "writing": APPS[5].prompts, "translation": APPS[5].prompts, "exploration": APPS[7].prompts,
}  # fmt: skip


class Reporter:
    """Makes OTLP requests of frames of calls, as `traffic.month` gives them."""

    def __init__(self, world: World) -> None:
        offers = (*world.offers, *world.unused)
        self._routes = {offer.upstream: offer.model.upstream for offer in offers}
        self._sdks = {offer.model.provider: offer.model.sdk for offer in offers}
        self._environments = {one.app: one.environment for one in world.workloads}

    def requests(self, calls: pl.DataFrame) -> Iterator[tuple[bytes, int]]:
        """OTLP requests with the number of their spans: what the gateway says of these calls, and what each app does."""
        # An answer from its own cache this gateway reports as the same answer once more, under the same id: it has nothing to add.
        calls = calls.filter(~pl.col("response_cache_hit").fill_null(False))
        if calls.is_empty():
            return
        asked = calls.sort("start_ns", maintain_order=True).unique("parent_span_id", keep="last", maintain_order=True)
        first = calls.group_by("parent_span_id").agg(pl.col("start_ns").min().alias("begin_ns"))
        asked = asked.join(first, on="parent_span_id", maintain_order="left")
        server = self._server(asked)
        attempts = self._attempts(calls)
        scopes = [_scope("fastapi", "0.165.0", flat(server)), _scope("litellm", "", flat(attempts))]
        yield (
            _resource({**_SDK, "service.name": "litellm-proxy", "deployment.environment.name": "production"}, scopes),
            len(server) + len(attempts),
        )
        for (app,), mine in asked.filter(pl.col("service_name") == pl.col("app")).group_by("app", maintain_order=True):
            name = str(app)
            resource = {**_SDK, "service.name": name, "deployment.environment.name": self._environments.get(name, "production")}  # fmt: skip
            scopes = [_scope(name, "", flat(self._roots(mine)))]
            for sdk, part in self._by_sdk(mine):
                scopes.append(_scope(f"opentelemetry.instrumentation.genai.{sdk}", "1.3b0", flat(self._chats(part)), "https://opentelemetry.io/schemas/1.37.0"))  # fmt: skip
            yield _resource(resource, scopes), 2 * len(mine)

    def _by_sdk(self, calls: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
        named = calls.with_columns(pl.col("provider").replace_strict(self._sdks, default="openai", return_dtype=pl.String()).alias("sdk"))  # fmt: skip
        for (sdk,), part in named.group_by("sdk", maintain_order=True):
            yield str(sdk), part

    # What the gateway says ----------------------------------------------------------------------------------------------

    def _server(self, asked: pl.DataFrame) -> pa.Array:
        begin, end = asked["begin_ns"].to_numpy() - 2 * _MS, _end(asked) + _MS
        instrumented = (asked["service_name"] == asked["app"]).to_numpy()
        own = _hex(asked["parent_span_id"])
        route = pl.select(pl.when(asked["operation"] == "embeddings").then(pl.lit("/v1/embeddings")).otherwise(pl.lit("/v1/chat/completions"))).to_series()  # fmt: skip
        status = asked["error_type"].replace_strict(_CODES, default="200", return_dtype=pl.String()).fill_null("200")
        return _spans(
            asked, own, _SERVER, begin, end, fixed(_of(0x22, own ^ _CHAT), instrumented),
            each(route, lambda path: field(0x2A, f"POST {path}".encode())), text("http.route", route), text("url.path", route),
            each(status, lambda code: field(0x4A, key_value("http.response.status_code", int(code)))),
            attributes({"server.address": "gateway.internal", "server.port": 4000, "url.scheme": "http", "http.request.method": "POST"}, len(asked)),
            wrong=status != "200",
        )  # fmt: skip

    def _attempts(self, calls: pl.DataFrame) -> pa.Array:
        count = len(calls)
        embeds = calls["operation"] == "embeddings"
        member = {"metadata.user_api_key_alias": "api_key", "metadata.user_api_key_team_alias": "team", "metadata.user_api_key_user_id": "user",
                  "metadata.user_api_key_end_user_id": "end_user", "gen_ai.conversation.id": "conversation_id", "gen_ai.operation.name": "operation",
                  "gen_ai.system": "provider", "litellm.model_group": "request_model", "gen_ai.request.model": "request_model",
                  "gen_ai.response.model": "response_model", "gen_ai.response.id": "response_id", "cloud.region": "region", "error.type": "error_type",
                  "gen_ai.response.finish_reasons": "finish_reason", "gen_ai.openai.response.service_tier": "service_tier"}  # fmt: skip
        purpose = pl.DataFrame([calls["app"], calls["task_type"]]).select(pl.struct("app", "task_type").struct.json_encode()).to_series()  # fmt: skip
        overhead = (calls["gateway_overhead_ns"] / 1e5).round() / 10
        deployment = ('"' + calls["deployment"] + '"').fill_null("null")
        hidden = '{"model_id": ' + deployment + ', "litellm_overhead_time_ms": ' + overhead.cast(pl.String()) + "}"
        upstream = calls["upstream_model"].replace_strict(self._routes, default=None, return_dtype=pl.String())
        streams = calls["streaming"].fill_null(False).replace_strict({True: "True", False: "False"}, return_dtype=pl.String())  # fmt: skip
        pieces: Pieces = [
            ids(0x22, _hex(calls["parent_span_id"])), constant(field(0x2A, b"litellm_request"), count),
            *(text(name, calls[column]) for name, column in member.items()),
            text("metadata.user_api_key_auth_metadata", purpose), text("hidden_params", hidden), text("litellm.provider.model", upstream),
            each(calls["api_key"], lambda key: field(0x4A, key_value("metadata.user_api_key_hash", hashlib.sha256(f"sk-demo-{key}".encode()).hexdigest()))),
            each(embeds, lambda is_one: field(0x4A, key_value("llm.request.type", "aembedding" if is_one else "acompletion"))),
            text("llm.is_streaming", streams), _messages(calls), _said(calls),
            number("gen_ai.usage.input_tokens", calls["input_tokens"]), number("gen_ai.usage.output_tokens", calls["output_tokens"]),
            number("gen_ai.usage.cache_read.input_tokens", calls["cache_read_tokens"]),
            number("gen_ai.usage.cache_creation.input_tokens", calls["cache_write_tokens"]), number("gen_ai.request.max_tokens", calls["output_limit"]),
            real("gen_ai.cost.original_cost", calls["reported_cost_pico"] / 1e12),
            real("gen_ai.response.time_to_first_chunk", calls["time_to_first_token_ns"] / 1e9), *_errors(calls),
        ]  # fmt: skip
        return _spans(calls, _hex(calls["span_id"]), _INTERNAL, calls["start_ns"].to_numpy(), _end(calls), *pieces, wrong=calls["status"] == "Error")  # fmt: skip

    # What apps say ------------------------------------------------------------------------------------------------------

    def _roots(self, asked: pl.DataFrame) -> pa.Array:
        begin, end = asked["begin_ns"].to_numpy() - 6 * _MS, _end(asked) + 5 * _MS
        return _spans(
            asked, _hex(asked["parent_span_id"]) ^ _ROOT, _INTERNAL, begin, end, constant(field(0x2A, b"handle_request"), len(asked)),
            text("session.id", asked["conversation_id"]), text("enduser.id", asked["end_user"]), wrong=asked["status"] == "Error",
        )  # fmt: skip

    def _chats(self, asked: pl.DataFrame) -> pa.Array:
        begin, end = asked["begin_ns"].to_numpy() - 4 * _MS, _end(asked) + 3 * _MS
        own, name = _hex(asked["parent_span_id"]), asked["operation"] + " " + asked["request_model"]
        answer = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
        spelt = ("input_tokens", "output_tokens", "cache_read.input_tokens", "cache_write.input_tokens", "reasoning.output_tokens")  # fmt: skip
        return _spans(
            asked, own ^ _CHAT, _CLIENT, begin, end, ids(0x22, own ^ _ROOT), each(name, lambda one: field(0x2A, one.encode())),
            text("gen_ai.operation.name", asked["operation"]), text("gen_ai.provider.name", asked["sdk"]), text("gen_ai.request.model", asked["request_model"]),
            text("gen_ai.response.model", asked["response_model"]), text("gen_ai.response.id", asked["response_id"]), text("error.type", asked["error_type"]),
            attributes({"server.address": "gateway.internal", "server.port": 4000}, len(asked)),
            *(number(f"gen_ai.usage.{spelling}", asked[column]) for column, spelling in zip(answer, spelt, strict=True)),
            each(asked["finish_reason"], lambda why: field(0x4A, key_value("gen_ai.response.finish_reasons", [why]))),
            real("gen_ai.response.time_to_first_chunk", (asked["time_to_first_token_ns"] + 3 * _MS) / 1e9), wrong=asked["status"] == "Error",
        )  # fmt: skip


def _messages(calls: pl.DataFrame) -> pa.Array:
    """Prompts, by what the call is for; embeddings have none."""
    number = calls["start_ns"] // 1000
    which = pl.DataFrame([calls["task_type"], ((number % _PERSONAL_ONE_IN) == 0).alias("personal"), (number // _PERSONAL_ONE_IN % 6).alias("n")])  # fmt: skip

    def prompt(one: Mapping[str, Any]) -> bytes:
        task = one["task_type"]
        prompts = _PERSONAL.get(task, ()) if one["personal"] else ()
        prompts = prompts or _PLAIN.get(task, ())
        if not prompts:
            return b""
        said = [{"role": "user", "content": prompts[one["n"] % len(prompts)]}]
        return field(0x4A, key_value("gen_ai.input.messages", json.dumps(said)))

    distinct = which.unique(maintain_order=True)
    made = pa.array([prompt(one) for one in distinct.to_dicts()], pa.large_binary())
    place = which.join(distinct.with_row_index("at"), on=which.columns, how="left", nulls_equal=True, maintain_order="left")["at"]  # fmt: skip
    return made.take(place.to_arrow())


def _said(calls: pl.DataFrame) -> pa.Array:
    """Answers of calls that have one in words."""
    texts = {str(n): json.dumps([{"role": "assistant", "content": answer}]) for n, answer in enumerate(ANSWERS)}
    which = (calls["start_ns"] // 1000 % len(ANSWERS)).cast(pl.String())
    spoken = (calls["output_tokens"].fill_null(0) > 1) & (calls["status"] != "Error")
    return text("gen_ai.output.messages", which.replace_strict(texts, return_dtype=pl.String()).zip_with(spoken, pl.Series([None], dtype=pl.String())))  # fmt: skip


def _errors(calls: pl.DataFrame) -> Pieces:
    """Of calls that failed: code and message; a guardrail's message names it, as Python writes it."""

    def refused(guardrail: str) -> bytes:
        named = {"error": "Violated guardrail policy", "guardrail": guardrail, "guardrail_name": guardrail, "guardrail_mode": "pre_call"}  # fmt: skip
        return field(0x4A, key_value("error.message", f"400: {named}"))

    message = calls["error_type"].replace_strict(_MESSAGES, default=None, return_dtype=pl.String())
    code = calls["error_type"].replace_strict(_CODES, default=None, return_dtype=pl.String())
    return [text("error.message", message), each(calls["refused_by"], refused), text("error.code", code)]


# Messages ---------------------------------------------------------------------------------------------------------------


def _spans(calls: pl.DataFrame, own: U8, kind: int, begin: I64, end: I64, *pieces: pa.Array, wrong: pl.Series) -> pa.Array:  # fmt: skip
    """Spans as fields of a ScopeSpans."""
    head = [ids(0x0A, _hex(calls["trace_id"])), ids(0x12, own), constant(bytes([0x30, kind]), len(calls)), times(0x39, begin), times(0x41, end)]  # fmt: skip
    status = each(wrong.fill_null(False), lambda is_one: _ERROR if is_one else b"")
    return joined(0x12, [*head, *pieces, status])


def _of(tag: int, values: U8) -> U8:
    """A field of ids, as rows of bytes."""
    return np.concatenate([np.tile(np.array([tag, values.shape[1]], np.uint8), (len(values), 1)), values], axis=1)


def _hex(values: pl.Series) -> U8:
    """Ids in hex, all as long, as bytes: [span, byte]."""
    data = bytes.fromhex(values.str.join("").item())
    return np.frombuffer(data, np.uint8).reshape(len(values), -1)


def _end(calls: pl.DataFrame) -> I64:
    found: I64 = (calls["start_ns"] + calls["duration_ns"]).to_numpy()
    return found


def _scope(name: str, version: str, spans: bytes, schema: str = "") -> bytes:
    """A ScopeSpans, as a field of a ResourceSpans."""
    scope = b"\x0a" + bytes([len(name)]) + name.encode() + (b"\x12" + bytes([len(version)]) + version.encode() if version else b"")  # fmt: skip
    return field(0x12, field(0x0A, scope) + spans + (field(0x1A, schema.encode()) if schema else b""))


def _resource(values: Mapping[str, object], scopes: list[bytes]) -> bytes:
    """A request with one ResourceSpans."""
    resource = b"".join(field(0x0A, key_value(name, value)) for name, value in values.items())
    return field(0x0A, field(0x0A, resource) + b"".join(scopes))


__all__ = ["Reporter"]
