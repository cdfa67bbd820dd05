"""Logs and metrics come in as traces do: SDKs are served, and whatever is wrong is answered in the signal's own terms."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import zstandard
from google.protobuf.json_format import MessageToDict
from google.rpc.status_pb2 import Status as RpcStatus
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

from collector.errors import Overloaded, StoreError
from collector.otlp.requests import REQUESTS
from collector.signals import Signal
from tests.receivers_kit import JSON, PROTOBUF, FakeIntake, Reply, Running, config, post, running
from tests.signals_kit import application, logs, metrics, record

BODIES = {Signal.LOGS: logs(record(), record({"k": [1, "x"]})), Signal.METRICS: metrics(3)}
ITEMS = {Signal.LOGS: 2, Signal.METRICS: 3}
BOTH = pytest.mark.parametrize("signal", BODIES)


@pytest.fixture(scope="module")
def receiver() -> Iterator[Running]:
    """One receiver of all signals."""
    with running(intake=FakeIntake(frozenset(Signal))) as found:
        yield found


@pytest.fixture(autouse=True)
def _forget(receiver: Running) -> None:
    receiver.intake.bodies.clear()
    receiver.intake.taken.clear()
    receiver.intake.spans = 0


def service(signal: Signal) -> str:
    return f"opentelemetry.proto.collector.{signal}.v1.{signal.title()}Service"


def call(address: str, signal: Signal, content: bytes, **options: Any) -> bytes:
    """One unary gRPC call by grpcio."""
    with grpc.insecure_channel(address) as channel:
        answer: bytes = channel.unary_unary(f"/{service(signal)}/Export")(content, timeout=20, **options)
        return answer


def send(found: Running, signal: Signal, content: bytes, headers: dict[str, str] | None = None) -> Reply:
    return post(found.http, content, headers, f"/v1/{signal}")


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_whole_sdk_exports_without_an_error(receiver: Running, protocol: str) -> None:
    endpoint = receiver.grpc if protocol == "grpc" else f"http://{receiver.http}"
    assert application(protocol, endpoint) == []
    assert set(receiver.intake.taken) == set(Signal)
    requests = [
        REQUESTS[s].message.FromString(b) for s, b in zip(receiver.intake.taken, receiver.intake.bodies, strict=True)
    ]
    said = [r for q in requests for g in getattr(q, "resource_logs", ()) for s in g.scope_logs for r in s.log_records]
    assert [r.event_name for r in said] == ["gen_ai.client.inference.operation.details"] * 3
    names = {
        m.name for q in requests for g in getattr(q, "resource_metrics", ()) for s in g.scope_metrics for m in s.metrics
    }
    assert {"gen_ai.client.token.usage", "gateway.cost", "active"} <= names


@BOTH
@pytest.mark.parametrize(
    ("encoding", "compress"),
    [("identity", bytes), ("gzip", gzip.compress), ("deflate", zlib.compress), ("zstd", zstandard.compress)],
)
def test_encodings(receiver: Running, signal: Signal, encoding: str, compress: Any) -> None:
    """Kept as it was sent, under its signal, and answered with nothing but OK."""
    reply = send(receiver, signal, compress(BODIES[signal]), {**PROTOBUF, "Content-Encoding": encoding})
    assert (reply.status, reply.headers["content-type"], reply.body) == (200, "application/x-protobuf", b"")
    assert (receiver.intake.bodies, receiver.intake.taken) == ([BODIES[signal]], [signal])
    assert receiver.intake.spans == ITEMS[signal]


@BOTH
def test_json(receiver: Running, signal: Signal) -> None:
    request = REQUESTS[signal].message.FromString(BODIES[signal])
    reply = send(receiver, signal, json.dumps(MessageToDict(request)).encode(), JSON)
    assert (reply.status, reply.headers["content-type"], json.loads(reply.body)) == (200, "application/json", {})
    assert REQUESTS[signal].message.FromString(receiver.intake.bodies[0]) == request


@BOTH
def test_grpc(receiver: Running, signal: Signal) -> None:
    assert call(receiver.grpc, signal, BODIES[signal]) == b""
    assert call(receiver.grpc, signal, BODIES[signal], compression=grpc.Compression.Gzip) == b""
    assert receiver.intake.bodies == [BODIES[signal]] * 2
    assert receiver.intake.taken == [signal] * 2


@BOTH
def test_an_empty_request_succeeds(receiver: Running, signal: Signal) -> None:
    assert send(receiver, signal, b"").status == 200
    assert send(receiver, signal, b"{}", JSON).status == 200
    assert call(receiver.grpc, signal, b"") == b""
    assert receiver.intake.bodies == []


@BOTH
def test_repaired_texts_are_told_of_in_the_signals_own_response(receiver: Running, signal: Signal) -> None:
    broken = (
        BODIES[signal].replace(b"chat-app", b"chat-\xff\xfep").replace(b"gateway.cost", b"gateway\xff\xfe\xfd\xfct")
    )
    response = ExportLogsServiceResponse if signal is Signal.LOGS else ExportMetricsServiceResponse
    for answer in (send(receiver, signal, broken).body, call(receiver.grpc, signal, broken)):
        partial = response.FromString(answer).partial_success
        assert "not UTF-8" in partial.error_message
        assert [field.name for field, _ in partial.ListFields()] == ["error_message"]
    assert "\ufffd".encode() in receiver.intake.bodies[0]


@BOTH
@pytest.mark.parametrize("headers", [PROTOBUF, JSON], ids=["protobuf", "json"])
def test_bad_data(receiver: Running, signal: Signal, headers: dict[str, str]) -> None:
    reply = send(receiver, signal, b"\xff\xff", headers)
    assert (reply.status, reply.headers["content-type"]) == (400, headers["Content-Type"])
    if headers is PROTOBUF:
        kind = f"Export{signal.title()}ServiceRequest"
        assert RpcStatus.FromString(reply.body).message == f"the body is no well-formed {kind}"
        with pytest.raises(grpc.RpcError) as caught:
            call(receiver.grpc, signal, b"\xff\xff")
        assert (caught.value.code(), kind in caught.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, True)


@BOTH
def test_limits(signal: Signal) -> None:
    nested: Any = "x"
    for _ in range(9):
        nested = [nested]
    deep = logs(record(nested)) if signal is Signal.LOGS else metrics(9)
    limits = {"max_items": ITEMS[signal], "max_depth": 8}
    with running(config(limits=limits), FakeIntake(frozenset(Signal))) as found:
        assert send(found, signal, BODIES[signal]).status == 200
        for content, said in ((BODIES[signal] * 2, f"more than {ITEMS[signal]} "), (deep, "more than ")):
            reply = send(found, signal, content)
            assert reply.status == 413
            assert said in RpcStatus.FromString(reply.body).message


@BOTH
def test_no_room_and_a_failing_disk(signal: Signal) -> None:
    """Senders are told to come back, and what was refused is counted."""
    intake = FakeIntake(frozenset(Signal))
    with running(intake=intake) as found:
        intake.fail = Overloaded("full", retry_after=3)
        reply = send(found, signal, BODIES[signal])
        assert (reply.status, reply.headers["retry-after"]) == (503, "3")
        intake.fail, intake.lose = None, StoreError("disk")
        assert send(found, signal, BODIES[signal]).status == 503
        noun = {Signal.LOGS: "log_records", Signal.METRICS: "metric_points"}[signal]
        assert found.metric(f"refused_{noun}_total", transport="http") == 2 * ITEMS[signal]
        intake.lose = None
        assert send(found, signal, BODIES[signal]).status == 200
        assert found.metric(f"accepted_{noun}_total", transport="http") == ITEMS[signal]
        assert found.metric("accepted_spans_total", transport="http") == 0


def test_trusted_attributes_stand_on_every_resource() -> None:
    auth = {"auth": {"clients": {"search": {"token": "s3cret", "attributes": {"team": "search"}}}}}
    with running(config(auth, auth), FakeIntake(frozenset(Signal))) as found:
        for signal, content in BODIES.items():
            assert send(found, signal, content).status == 401
            assert send(found, signal, content, {**PROTOBUF, "Authorization": "Bearer s3cret"}).status == 200
            kept = REQUESTS[signal].message.FromString(found.intake.bodies[-1])
            for group in getattr(kept, f"resource_{signal}"):
                assert {a.key: a.value.string_value for a in group.resource.attributes}["team"] == "search"


def test_paths(receiver: Running) -> None:
    for path in ("/v1/logs", "/otlp/v1/logs", "/v1/metrics", "/api/v1/otel/v1/metrics?a=b"):
        assert post(receiver.http, b"", path=path).status == 200, path
    reply = post(receiver.http, b"", path="/v1/log")
    message = RpcStatus.FromString(reply.body).message
    assert (reply.status, message) == (
        404,
        "no such path; traces go to /v1/traces, logs go to /v1/logs, metrics go to /v1/metrics",
    )
    paths = {"logs_url_path": "/intake/logs", "metrics_url_path": "/intake/metrics"}
    with running(config(http=paths), FakeIntake(frozenset(Signal))) as found:
        for signal, content in BODIES.items():
            assert post(found.http, content, path=f"/intake/{signal}").status == 200
            assert send(found, signal, content).status == 200
        assert found.intake.taken == [Signal.LOGS] * 2 + [Signal.METRICS] * 2


def test_only_what_somebody_takes_is_there() -> None:
    """A receiver that feeds a logs pipeline alone refuses the rest, and its health and reflection do not name it."""
    with running(intake=FakeIntake(frozenset({Signal.LOGS}))) as found:
        assert send(found, Signal.LOGS, BODIES[Signal.LOGS]).status == 200
        for signal in (Signal.TRACES, Signal.METRICS):
            reply = send(found, signal, b"")
            assert (reply.status, RpcStatus.FromString(reply.body).message) == (
                404,
                f"no {signal} pipeline is configured",
            )
        with pytest.raises(grpc.RpcError) as caught:
            call(found.grpc, Signal.METRICS, b"")
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
        with grpc.insecure_channel(found.grpc) as channel:
            ours = {
                s for s in ProtoReflectionDescriptorDatabase(channel).get_services() if s.startswith("opentelemetry")
            }
            health = health_pb2_grpc.HealthStub(channel)
            with pytest.raises(grpc.RpcError) as unknown:
                health.Check(health_pb2.HealthCheckRequest(service=service(Signal.METRICS)))
        assert ours == {service(Signal.LOGS)}
        assert unknown.value.code() == grpc.StatusCode.NOT_FOUND


def test_health_and_reflection(receiver: Running) -> None:
    with grpc.insecure_channel(receiver.grpc) as channel:
        database, health = ProtoReflectionDescriptorDatabase(channel), health_pb2_grpc.HealthStub(channel)
        for signal in BODIES:
            assert service(signal) in database.get_services()
            assert f"/{signal}/v1/" in database.FindFileContainingSymbol(service(signal)).name
            answer = health.Check(health_pb2.HealthCheckRequest(service=service(signal)))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
