"""Envoy's external authorization, `envoy.service.auth.v3.Authorization/Check`, over gRPC.

Who the call is of comes from the route's `context_extensions` (by name of the dimension), which the gateway's operator
writes, and from request headers as `service.verdict.headers` maps them; the former win. The few fields of the protocol that
are needed are declared here, by their numbers; whatever else a gateway sends is passed over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from collector.errors import SpanledgerError
from collector.sums import COUNTED_BY
from config.tls import TlsConfig
from config.types import parse_endpoint
from spanledger.admin.guard import matches
from spanledger.verdict.grpc_tls import credentials
from spanledger.verdict.judge import Judge, refusal

SERVICE = "envoy.service.auth.v3.Authorization"
_PERMISSION_DENIED = 7
_THREADS = 4
_KINDS = descriptor_pb2.FieldDescriptorProto
#: Message → its fields: name, number, type (a message's name, or one of the two scalars), repeated. A map is a list of pairs.
#: Texts that a client wrote are bytes: what is not UTF-8 must not spoil the message.
_MESSAGES: dict[str, list[tuple[str, int, str, bool]]] = {
    "Pair": [("key", 1, "bytes", False), ("value", 2, "bytes", False)],
    "HttpRequest": [("headers", 3, "Pair", True)],
    "Request": [("http", 2, "HttpRequest", False)],
    "AttributeContext": [("request", 4, "Request", False), ("context_extensions", 10, "Pair", True)],
    "CheckRequest": [("attributes", 1, "AttributeContext", False)],
    "Status": [("code", 1, "int32", False), ("message", 2, "bytes", False)],
    "HeaderValueOption": [("header", 1, "Pair", False)],
    "HttpStatus": [("code", 1, "int32", False)],
    "Denied": [("status", 1, "HttpStatus", False), ("headers", 2, "HeaderValueOption", True), ("body", 3, "bytes", False)],
    "Allowed": [("response_headers_to_add", 6, "HeaderValueOption", True)],
    "CheckResponse": [("status", 1, "Status", False), ("denied_response", 2, "Denied", False), ("ok_response", 3, "Allowed", False)],
}  # fmt: skip


def _classes() -> dict[str, Any]:
    """The messages as classes."""
    file = descriptor_pb2.FileDescriptorProto(name="check.proto", package="spanledger", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            label = _KINDS.LABEL_REPEATED if repeated else _KINDS.LABEL_OPTIONAL
            added = message.field.add(name=field, number=number, label=label)
            if kind in _MESSAGES:
                added.type, added.type_name = _KINDS.TYPE_MESSAGE, f".spanledger.{kind}"
            else:
                added.type = _KINDS.TYPE_BYTES if kind == "bytes" else _KINDS.TYPE_INT32
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {n: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"spanledger.{n}")) for n in _MESSAGES}


CLASSES = _classes()


class EnvoyServer:
    """The gRPC service, from `start` to `stop`."""

    def __init__(self, judge: Judge, token: str | None, endpoint: str, tls: TlsConfig | None = None) -> None:
        self._judge = judge
        self._credentials = credentials(tls) if tls is not None else None
        self._token = token.encode() if token is not None else None
        self._asked = endpoint
        self.endpoint = ""
        self._server: Any = None

    def start(self) -> None:
        """Listen. Raises `SpanledgerError` where the address cannot be had."""
        host, port = parse_endpoint(self._asked)
        host = host or "127.0.0.1"
        shown = f"[{host}]" if ":" in host else host
        server = grpc.server(
            ThreadPoolExecutor(_THREADS, "verdict gRPC"),
            options=[("grpc.so_reuseport", 0)],
            maximum_concurrent_rpcs=1000,
        )
        check = grpc.unary_unary_rpc_method_handler(
            self._check,
            request_deserializer=CLASSES["CheckRequest"].FromString,
            response_serializer=CLASSES["CheckResponse"].SerializeToString,
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Check": check}),))
        try:
            where = f"{shown}:{port}"
            secret = self._credentials
            bound = server.add_insecure_port(where) if secret is None else server.add_secure_port(where, secret)
        except RuntimeError:
            bound = 0
        if not bound:
            raise SpanledgerError(f"service.verdict.grpc_endpoint: cannot listen on {self._asked}")
        self.endpoint = f"{shown}:{bound}"
        server.start()
        self._server = server

    def stop(self) -> None:
        """Close the port."""
        if self._server is not None:
            self._server.stop(1).wait(2)

    def _check(self, request: Any, context: grpc.ServicerContext) -> Any:
        if self._token is not None:
            metadata = {name: value if isinstance(value, str) else "" for name, value in context.invocation_metadata()}
            if not matches(self._token, metadata):
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "a token is needed: Authorization: Bearer TOKEN")
        return self.answer(request)

    def answer(self, request: Any) -> Any:
        """CheckRequest → CheckResponse."""
        attributes = request.attributes
        headers = _pairs(attributes.request.http.headers)
        named = {name: value for name, value in _pairs(attributes.context_extensions).items() if name in COUNTED_BY}
        verdict, said = self._judge.ask({**self._judge.from_headers(headers), **named})
        options = [
            CLASSES["HeaderValueOption"](header={"key": name.encode(), "value": value.encode()})
            for name, value in said.items()
        ]
        if verdict.allow:
            return CLASSES["CheckResponse"](status={"code": 0}, ok_response={"response_headers_to_add": options})
        body = json.dumps({"error": refusal(verdict)}).encode()
        options.append(CLASSES["HeaderValueOption"](header={"key": b"content-type", "value": b"application/json"}))
        return CLASSES["CheckResponse"](
            status={"code": _PERMISSION_DENIED, "message": verdict.reason.encode()},
            denied_response={"status": {"code": self._judge.config.deny_status}, "headers": options, "body": body},
        )


def _pairs(pairs: Any) -> Mapping[str, str]:
    return {pair.key.decode(errors="replace").lower(): pair.value.decode(errors="replace") for pair in pairs}
