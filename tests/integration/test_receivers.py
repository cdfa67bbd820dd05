"""The receiver as senders see it: OpenTelemetry's own exporters, plain HTTP, gRPC, TLS, tokens, and what is answered when."""

from __future__ import annotations

import gzip
import http.client
import json
import logging
import os
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import zstandard
from google.protobuf import json_format
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status as RpcStatus
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from collector.errors import Overloaded, SpanledgerError, StoreError
from tests.certificates import Authority
from tests.receivers_kit import (
    EXPORT,
    HEADERS,
    JSON,
    PING,
    PROTOBUF,
    FakeIntake,
    Http2,
    Running,
    body,
    call_headers,
    config,
    connect,
    frame,
    json_body,
    message,
    post,
    raw,
    read_all,
    request,
    running,
)


@pytest.fixture(scope="module")
def receiver() -> Iterator[Running]:
    """One receiver with defaults for the tests that change nothing about it."""
    with running() as found:
        yield found


@pytest.fixture(autouse=True)
def _forget(request: pytest.FixtureRequest) -> None:
    if "receiver" in request.fixturenames:
        kept = request.getfixturevalue("receiver").intake
        kept.bodies.clear()
        kept.spans = 0


def export(address: str, content: bytes, method: str = EXPORT, **options: Any) -> bytes:
    """One unary gRPC call by grpcio."""
    with grpc.insecure_channel(address) as channel:
        answer: bytes = channel.unary_unary(method)(content, timeout=20, **options)
        return answer


def refused(address: str, content: bytes, method: str = EXPORT, **options: Any) -> grpc.RpcError:
    """The error that such a call ends in."""
    with pytest.raises(grpc.RpcError) as caught:
        export(address, content, method, **options)
    return caught.value


# ── OpenTelemetry's own exporters ───────────────────────────────────────────────────────────────────────────────────


def _exporters(found: Running) -> dict[str, SpanExporter]:
    url = f"http://{found.http}/v1/traces"
    return {
        "grpc": GrpcExporter(endpoint=found.grpc, insecure=True),
        "grpc-gzip": GrpcExporter(endpoint=found.grpc, insecure=True, compression=grpc.Compression.Gzip),
        "grpc-deflate": GrpcExporter(endpoint=found.grpc, insecure=True, compression=grpc.Compression.Deflate),
        "http": HttpExporter(endpoint=url),
        "http-gzip": HttpExporter(endpoint=url, compression=Compression.Gzip),
        "http-deflate": HttpExporter(endpoint=url, compression=Compression.Deflate),
    }


@pytest.mark.parametrize("name", ["grpc", "grpc-gzip", "grpc-deflate", "http", "http-gzip", "http-deflate"])
def test_the_sdks_exporters_are_answered_and_their_spans_arrive_as_sent(receiver: Running, name: str) -> None:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(_exporters(receiver)[name], max_export_batch_size=100))
    tracer = provider.get_tracer("test")
    for number in range(250):
        with tracer.start_as_current_span(f"chat {number}", attributes={"gen_ai.request.model": "größe", "n": number}):
            pass
    provider.shutdown()
    spans = [s for r in receiver.intake.requests for rs in r.resource_spans for ss in rs.scope_spans for s in ss.spans]
    assert sorted(s.name for s in spans) == sorted(f"chat {n}" for n in range(250))
    assert {s.attributes[0].value.string_value for s in spans} == {"größe"}


# ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_full_success_leaves_partial_success_unset(receiver: Running) -> None:
    assert export(receiver.grpc, body()) == b""
    reply = post(receiver.http, body())
    assert (reply.status, reply.headers["content-type"], reply.body) == (200, "application/x-protobuf", b"")
    reply = post(receiver.http, json_body(), JSON)
    assert (reply.status, reply.headers["content-type"], json.loads(reply.body)) == (200, "application/json", {})


def test_spans_without_valid_ids_are_left_out_and_told_of(receiver: Running) -> None:
    mixed = request(3)
    mixed.MergeFrom(request(2, ids=False))
    for answer in (
        export(receiver.grpc, mixed.SerializeToString()),
        post(receiver.http, mixed.SerializeToString()).body,
    ):
        partial = ExportTraceServiceResponse.FromString(answer).partial_success
        assert partial.rejected_spans == 2
        assert partial.error_message
    as_json = {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "", "spanId": "00", "name": "x"}]}]}]}
    reply = post(receiver.http, json.dumps(as_json).encode(), JSON)
    assert json.loads(reply.body)["partialSuccess"]["rejectedSpans"] == "1"
    assert receiver.intake.spans == 6


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b"", PROTOBUF), (b"", JSON), (b"{}", JSON), (b"", {}), (b"", {"X-Test-Connection": "true"}),
        (b"", {**JSON, "X-Test-Connection": "true"}), (b"{}", {**JSON, "X-Test-Connection": "true"}),
        (b"", {**PROTOBUF, "Content-Encoding": "gzip"}), (gzip.compress(b""), {**PROTOBUF, "Content-Encoding": "gzip"}),
    ],
)  # fmt: skip
def test_an_empty_request_succeeds(receiver: Running, content: bytes, headers: dict[str, str]) -> None:
    assert post(receiver.http, content, headers).status == 200
    assert receiver.intake.bodies == []


def test_an_empty_grpc_request_succeeds(receiver: Running) -> None:
    assert export(receiver.grpc, b"") == b""


@pytest.mark.parametrize(
    "media",
    [
        "application/x-protobuf", "application/protobuf", "Application/X-Protobuf", "application/x-protobuf; charset=utf-8",
        "application/x-protobuf;proto=ExportTraceServiceRequest",
    ],
)  # fmt: skip
def test_content_types_of_protobuf(receiver: Running, media: str) -> None:
    assert post(receiver.http, body(), {"Content-Type": media}).status == 200
    assert receiver.intake.spans == 1


@pytest.mark.parametrize(
    "media", ["application/json", "application/json; charset=utf-8", 'APPLICATION/JSON;charset="UTF-8"']
)
def test_content_types_of_json(receiver: Running, media: str) -> None:
    assert post(receiver.http, json_body(2), {"Content-Type": media}).status == 200
    assert receiver.intake.spans == 2


@pytest.mark.parametrize(
    "media", ["text/plain", "application/xml", "", "application/json; charset=utf-16", "*/*", "json"]
)
def test_other_content_types_are_refused(receiver: Running, media: str) -> None:
    reply = post(receiver.http, body(), {"Content-Type": media})
    assert reply.status == 415
    assert "content-type" in json.loads(reply.body)["message"].lower() or "charset" in json.loads(reply.body)["message"]


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("identity", bytes), ("gzip", gzip.compress), ("GZIP", gzip.compress), ("deflate", zlib.compress),
        ("zstd", zstandard.compress), ("gzip", lambda b: gzip.compress(b[:40]) + gzip.compress(b[40:])),
    ],
)  # fmt: skip
@pytest.mark.parametrize("spans", [1, 3000])
def test_encodings(receiver: Running, encoding: str, compress: Any, spans: int) -> None:
    sent = body(spans)
    assert post(receiver.http, compress(sent), {**PROTOBUF, "Content-Encoding": encoding}).status == 200
    assert receiver.intake.bodies == [sent]


def test_zstd_over_grpc(receiver: Running) -> None:
    """grpcio cannot send it, other senders do."""
    sent = body(100)
    with Http2(receiver.grpc) as client:
        client.open(1, EXPORT, (b"grpc-encoding", b"zstd"))
        client.send(frame(0, 1, 1, message(zstandard.compress(sent), compressed=True)))
        assert b"grpc-status\x010" in client.trailers(1)
    assert receiver.intake.bodies == [sent]


@pytest.mark.parametrize("encoding", ["br", "lz4", "gzip, gzip", "compress"])
def test_unknown_encodings_are_refused(receiver: Running, encoding: str) -> None:
    reply = post(receiver.http, body(), {**PROTOBUF, "Content-Encoding": encoding})
    assert reply.status == 415
    assert "gzip" in RpcStatus.FromString(reply.body).message


def test_unknown_grpc_encodings_are_refused_with_those_that_are_known(receiver: Running) -> None:
    with Http2(receiver.grpc) as client:
        client.open(1, EXPORT, (b"grpc-encoding", b"snappy"))
        trailers = client.trailers(1)
    assert b"grpc-status\x0212" in trailers
    assert b"identity,gzip,deflate,zstd" in trailers


@pytest.mark.parametrize("headers", [PROTOBUF, JSON], ids=["protobuf", "json"])
def test_bad_data_is_answered_in_its_own_content_type(receiver: Running, headers: dict[str, str]) -> None:
    reply = post(receiver.http, b"\xff\xff", headers)
    assert (reply.status, reply.headers["content-type"]) == (400, headers["Content-Type"])
    told = RpcStatus.FromString(reply.body) if headers is PROTOBUF else json_format.Parse(reply.body, RpcStatus())
    assert told.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert told.message
    assert "retry-after" not in reply.headers


def test_bad_data_over_grpc(receiver: Running) -> None:
    error = refused(receiver.grpc, b"\xff\xff")
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
@pytest.mark.parametrize("spoil", [lambda b: b"\x01" * 50, lambda b: b[:-3]], ids=["garbage", "truncated"])
def test_a_spoilt_compressed_body_is_bad_data(receiver: Running, encoding: str, spoil: Any) -> None:
    compress = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstandard.compress}[encoding]
    reply = post(receiver.http, spoil(compress(body(5000))), {**PROTOBUF, "Content-Encoding": encoding})
    assert reply.status == 400
    assert receiver.intake.bodies == []


def test_paths(receiver: Running) -> None:
    for path in ("/v1/traces", "/api/public/otel/v1/traces", "/api/public/otel", "/otel/v1/traces", "/v1/traces?a=b"):
        assert post(receiver.http, body(), path=path).status == 200, path
    for path in (
        "/",
        "/v1",
        "/v1/traces/",
        "/V1/traces",
        "//v1/traces",
        "/v1/../v1/traces",
        "/v1/traces%2f",
        "/v1/%74races",
    ):
        reply = post(receiver.http, body(), path=path)
        assert reply.status == 404, path
        assert "/v1/traces" in RpcStatus.FromString(reply.body).message


def test_a_configured_path_comes_beside_the_usual_ones() -> None:
    with running(config(http={"traces_url_path": "/intake/spans"})) as found:
        assert post(found.http, body(), path="/intake/spans").status == 200
        assert post(found.http, body()).status == 200


@pytest.mark.parametrize("signal", ["logs", "metrics"])
def test_other_signals_are_told_that_no_pipeline_takes_them(receiver: Running, signal: str) -> None:
    reply = post(receiver.http, b"", path=f"/v1/{signal}")
    assert reply.status == 404
    assert RpcStatus.FromString(reply.body).message == f"no {signal} pipeline is configured"
    service = f"/opentelemetry.proto.collector.{signal}.v1.{signal.title()}Service/Export"
    error = refused(receiver.grpc, ExportLogsServiceRequest().SerializeToString(), service)
    assert (error.code(), error.details()) == (grpc.StatusCode.UNIMPLEMENTED, f"no {signal} pipeline is configured")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH"])
def test_other_methods_are_told_which_are_allowed(receiver: Running, method: str) -> None:
    reply = post(receiver.http, None, {}, method=method)
    assert (reply.status, reply.headers["allow"]) == (405, "POST, OPTIONS")
    assert bool(reply.body) is (method != "HEAD")


def test_too_large_is_not_to_be_sent_again(receiver: Running) -> None:
    small = config({"max_recv_msg_size": 20_000}, {"max_request_body_size": 20_000})
    with running(small) as found:
        large = body(1000)
        for content, headers in ((large, {}), (gzip.compress(large), {"Content-Encoding": "gzip"})):
            reply = post(found.http, content, {**PROTOBUF, **headers})
            assert reply.status == 413
            assert "retry-after" not in reply.headers
            assert RpcStatus.FromString(reply.body).code == 8
        for compression in (None, grpc.Compression.Gzip):
            error = refused(found.grpc, large, compression=compression)
            assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "20000B" in error.details()
            assert "grpc-status-details-bin" not in dict(error.trailing_metadata())
        assert post(found.http, body()).status == 200


@pytest.mark.parametrize("when", ["at once", "on disk"])
def test_overload_and_a_failing_disk_tell_senders_to_come_back(when: str) -> None:
    intake = (
        FakeIntake(fail=Overloaded("the inbox is full", 7.0)) if when == "at once" else FakeIntake(lose=StoreError("x"))
    )
    seconds = 7 if when == "at once" else 5
    with running(intake=intake) as found:
        for content, headers in ((body(), PROTOBUF), (json_body(), JSON)):
            reply = post(found.http, content, headers)
            assert (reply.status, reply.headers["retry-after"]) == (503, str(seconds))
            told = (
                RpcStatus.FromString(reply.body) if headers is PROTOBUF else json_format.Parse(reply.body, RpcStatus())
            )
            info = RetryInfo()
            assert told.details[0].Unpack(info)
            assert info.retry_delay.seconds == seconds
        error = refused(found.grpc, body())
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        details = RpcStatus.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
        info = RetryInfo()
        assert details.code == 14
        assert details.details[0].Unpack(info)
        assert info.retry_delay.seconds == seconds
        assert found.metric("refused_spans_total", transport="grpc") == 1
        assert found.metric("refused_spans_total", transport="http") == 2
        assert found.metric("accepted_spans_total", transport="http") == 0


def test_an_error_of_the_collectors_own_is_never_an_ok() -> None:
    with running(intake=FakeIntake(fail=RuntimeError("a bug: secret"))) as found:
        reply = post(found.http, body())
        assert reply.status == 503
        assert b"secret" not in reply.body
        assert refused(found.grpc, body()).code() == grpc.StatusCode.UNAVAILABLE


def test_the_sdks_exporter_comes_back_after_an_overload() -> None:
    intake = FakeIntake(fail=Overloaded("full", 0.2))
    with running(intake=intake) as found:
        threading.Timer(0.5, lambda: setattr(intake, "fail", None)).start()
        provider = TracerProvider()
        exporter = GrpcExporter(endpoint=found.grpc, insecure=True, timeout=10)
        with provider.get_tracer("x").start_as_current_span("chat") as span:
            pass
        assert exporter.export([span]) is SpanExportResult.SUCCESS  # type: ignore[list-item]
        exporter.shutdown()
    assert intake.spans == 1


def test_the_answer_comes_after_the_disk_and_not_before() -> None:
    hold = threading.Event()
    with running(intake=FakeIntake(hold=hold)) as found, connect(found.http) as sender:
        content = body()
        sender.sendall(b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content))  # fmt: skip
        assert read_all(sender, 0.3) == b""
        with grpc.insecure_channel(found.grpc) as channel:
            call = channel.unary_unary(EXPORT).future(content, timeout=10)
            time.sleep(0.2)
            assert not call.done()
            assert found.receiver.context.metrics.get_sample_value("spanledger_receiver_in_flight_requests", {"receiver": "otlp"}) == 2  # fmt: skip
            hold.set()
            assert call.result() == b""
        assert read_all(sender, 0.5).startswith(b"HTTP/1.1 200 OK")


def test_many_calls_at_once_on_one_connection_are_all_answered(receiver: Running) -> None:
    with grpc.insecure_channel(receiver.grpc) as channel:
        call = channel.unary_unary(EXPORT)
        answers = [call.future(body(spans), timeout=20) for spans in [1, 2000, 1, 300] * 50]
        assert [answer.result() for answer in answers] == [b""] * 200
    assert receiver.intake.spans == 50 * 2302


def test_a_message_as_large_as_allowed_arrives(receiver: Running) -> None:
    sent = request()
    sent.resource_spans[0].scope_spans[0].spans[0].attributes.add(key="x").value.bytes_value = os.urandom(48 * 2**20)
    content = sent.SerializeToString()
    export(receiver.grpc, content)
    assert post(receiver.http, content).status == 200
    assert receiver.intake.bodies == [content, content]


# ── HTTP/1 as clients speak it ──────────────────────────────────────────────────────────────────────────────────────


def _plain(content: bytes, *more: str, version: str = "1.1", path: str = "/v1/traces") -> bytes:
    lines = [f"POST {path} HTTP/{version}", "Host: x", "Content-Type: application/x-protobuf", *more]
    return "\r\n".join([*lines, f"Content-Length: {len(content)}", "", ""]).encode() + content


def test_pipelined_requests_are_answered_in_order(receiver: Running) -> None:
    wire = _plain(body(1)) + _plain(b"\xff") + _plain(body(2), path="/nowhere") + _plain(body(3), "Connection: close")
    answers = raw(receiver.http, wire).split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == [b"200", b"400", b"404", b"200"]
    assert receiver.intake.spans == 4


def test_a_thousand_small_pipelined_requests_are_all_answered(receiver: Running) -> None:
    wire = _plain(body(1)) * 999 + _plain(body(1), "Connection: close")
    assert raw(receiver.http, wire, 20).count(b"HTTP/1.1 200 OK") == 1000


def test_chunked_bodies(receiver: Running) -> None:
    content = body(200)
    pieces = [content[i : i + 777] for i in range(0, len(content), 777)]
    wire = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nTransfer-Encoding: chunked\r\n\r\n"
    wire += b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    answers = raw(receiver.http, wire + _plain(body(1), "Connection: close"))
    assert answers.count(b"HTTP/1.1 200 OK") == 2
    assert receiver.intake.bodies[0] == content


def test_a_body_is_waited_for_with_100_continue(receiver: Running) -> None:
    content = body()
    with connect(receiver.http) as sender:
        head, _, rest = _plain(content, "Expect: 100-continue").partition(b"\r\n\r\n")
        sender.sendall(head + b"\r\n\r\n")
        assert read_all(sender, 0.3) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sender.sendall(rest)
        assert read_all(sender, 0.5).startswith(b"HTTP/1.1 200 OK")


def test_a_refused_body_is_not_asked_for(receiver: Running) -> None:
    with connect(receiver.http) as sender:
        sender.sendall(
            b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n"
        )  # fmt: skip
        answer = read_all(sender, 3)
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"Connection: close" in answer


@pytest.mark.parametrize(("more", "kept"), [([], False), (["Connection: keep-alive"], True)])
def test_http_1_0(receiver: Running, more: list[str], kept: bool) -> None:
    with connect(receiver.http) as sender:
        sender.sendall(_plain(body(), *more, version="1.0"))
        answer = read_all(sender, 0.5)
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert (b"Connection: keep-alive" in answer) is kept
        if kept:
            sender.sendall(_plain(body(), version="1.0"))
            assert read_all(sender, 2).startswith(b"HTTP/1.1 200 OK")


def test_an_answer_reaches_a_sender_that_is_still_sending(receiver: Running) -> None:
    """It is refused by its headers, and would lose the answer if the connection were closed at once."""
    with connect(receiver.http) as sender:
        sender.sendall(
            b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 500000\r\n\r\n"
        )
        for _ in range(5):
            sender.sendall(b"x" * 50_000)
            time.sleep(0.02)
        assert read_all(sender, 3).startswith(b"HTTP/1.1 415 ")


def test_a_sender_that_has_closed_its_side_is_answered(receiver: Running) -> None:
    with connect(receiver.http) as sender:
        sender.sendall(_plain(body(5000)))
        sender.shutdown(socket.SHUT_WR)
        assert read_all(sender, 3).startswith(b"HTTP/1.1 200 OK")


def test_options_and_cors_are_off_by_default(receiver: Running) -> None:
    reply = post(
        receiver.http, None, {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}, method="OPTIONS"
    )
    assert (reply.status, reply.headers["allow"]) == (204, "POST, OPTIONS")
    assert not [name for name in reply.headers if name.startswith("access-control")]


def test_cors_lets_the_named_origins_in() -> None:
    options = {"cors": {"allowed_origins": ["https://*.example.com"], "allowed_headers": ["X-Team"], "max_age": "10m"}}
    with running(config(http=options)) as found:
        for origin, allowed in (("https://app.example.com", True), ("https://app.example.com.evil.org", False)):
            asked = post(
                found.http, None, {"Origin": origin, "Access-Control-Request-Method": "POST"}, method="OPTIONS"
            )
            sent = post(found.http, body(), {**PROTOBUF, "Origin": origin})
            assert asked.headers.get("access-control-allow-origin") == (origin if allowed else None)
            assert sent.headers.get("access-control-allow-origin") == (origin if allowed else None)
            assert ("X-Team" in asked.headers.get("access-control-allow-headers", "")) is allowed
            assert asked.headers["vary"] == sent.headers["vary"] == "Origin"
            assert asked.headers.get("access-control-max-age") == ("600" if allowed else None)


# ── health and reflection ───────────────────────────────────────────────────────────────────────────────────────────


def test_health(receiver: Running) -> None:
    with grpc.insecure_channel(receiver.grpc) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "opentelemetry.proto.collector.trace.v1.TraceService"):
            assert (
                stub.Check(health_pb2.HealthCheckRequest(service=service)).status
                == health_pb2.HealthCheckResponse.SERVING
            )
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(service="nobody"))
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        unknown = stub.Watch(health_pb2.HealthCheckRequest(service="nobody"))
        assert next(unknown).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        unknown.cancel()


def test_those_who_watch_are_told_when_it_stops() -> None:
    with running() as found, grpc.insecure_channel(found.grpc) as channel:
        watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watching).status == health_pb2.HealthCheckResponse.SERVING
        found.receiver.stop(1.0)
        assert next(watching).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.RpcError):
            next(watching)


def test_reflection_tells_enough_to_call(receiver: Running) -> None:
    with grpc.insecure_channel(receiver.grpc) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert "opentelemetry.proto.collector.trace.v1.TraceService" in database.get_services()
        file = database.FindFileContainingSymbol("opentelemetry.proto.collector.trace.v1.TraceService")
        assert file.name == "opentelemetry/proto/collector/trace/v1/trace_service.proto"


# ── tokens ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_tokens_on_both_protocols(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.yaml"
    tokens.write_text("search: {token: s3cret, attributes: {team: search, environment: prod}}\n")
    auth = {"auth": {"tokens_file": str(tokens)}}
    with running(config(auth, auth)) as found:
        mine = request()
        mine.resource_spans[0].resource.attributes.add(key="team").value.string_value = "somebody else"
        content = mine.SerializeToString()

        reply = post(found.http, content)
        assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
        assert RpcStatus.FromString(reply.body).code == 16
        assert refused(found.grpc, content).code() == grpc.StatusCode.UNAUTHENTICATED
        wrong = refused(found.grpc, content, metadata=[("authorization", "Bearer wrong")])
        assert wrong.code() == grpc.StatusCode.UNAUTHENTICATED
        assert post(found.http, content, PROTOBUF, "/v1/traces?token=s3cret&access_token=s3cret").status == 401
        assert found.intake.bodies == []

        assert post(found.http, content, {**PROTOBUF, "Authorization": "Bearer s3cret"}).status == 200
        export(found.grpc, content, metadata=[("authorization", "Bearer s3cret")])
        for kept in found.intake.requests:
            attributes = kept.resource_spans[0].resource.attributes
            assert [a.value.string_value for a in attributes if a.key == "team"] == ["search"]
            assert [a.value.string_value for a in attributes if a.key == "environment"] == ["prod"]
            assert [a.value.string_value for a in attributes if a.key == "service.name"] == ["test"]

        # Health is for probes, which have no token; reflection is not.
        assert export(found.grpc, b"", "/grpc.health.v1.Health/Check") == b"\x08\x01"
        with grpc.insecure_channel(found.grpc) as channel, pytest.raises(grpc.RpcError) as caught:
            next(iter(channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")(iter([b""]))))
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED

        tokens.write_text("search: changed-token\n")
        _wait(lambda: post(found.http, content, {**PROTOBUF, "Authorization": "Bearer changed-token"}).status == 200)
        assert post(found.http, content, {**PROTOBUF, "Authorization": "Bearer s3cret"}).status == 401


def _wait(condition: Any, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.05)


# ── TLS ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _tls_post(address: str, context: ssl.SSLContext) -> int:
    connection = http.client.HTTPSConnection(address, timeout=10, context=context)
    try:
        connection.request("POST", "/v1/traces", body(), PROTOBUF)
        return connection.getresponse().status
    finally:
        connection.close()


def test_tls_on_both_protocols_and_new_certificates_without_a_restart(tmp_path: Path) -> None:
    first, second = Authority("first"), Authority("second")
    files = first.write(tmp_path, "server")
    tls = {"tls": {**files, "reload_interval": "100ms"}}
    with running(config(tls, tls)) as found:
        assert {e.partition("://")[0] for e in found.receiver.endpoints} == {"grpcs", "https"}
        old = ssl.create_default_context(cadata=first.pem.decode())
        new = ssl.create_default_context(cadata=second.pem.decode())
        address = found.http.replace("127.0.0.1", "localhost")
        assert _tls_post(address, old) == 200
        with grpc.secure_channel(
            found.grpc.replace("127.0.0.1", "localhost"), grpc.ssl_channel_credentials(first.pem)
        ) as channel:
            assert channel.unary_unary(EXPORT)(body(2000), timeout=10) == b""
            second.write(tmp_path, "server")

            def renewed() -> bool:
                try:
                    return _tls_post(address, new) == 200
                except ssl.SSLError:
                    return False

            _wait(renewed)
            with pytest.raises(ssl.SSLError):
                _tls_post(address, old)
            assert channel.unary_unary(EXPORT)(body(), timeout=10) == b""  # open connections stay
        with grpc.secure_channel(
            found.grpc.replace("127.0.0.1", "localhost"), grpc.ssl_channel_credentials(second.pem)
        ) as channel:
            assert channel.unary_unary(EXPORT)(body(), timeout=10) == b""
        (tmp_path / "server.key").write_text("not a key")  # a mistake does not take the port away
        time.sleep(0.4)
        assert _tls_post(address, new) == 200


def test_mtls_lets_only_signed_senders_in(tmp_path: Path) -> None:
    authority, stranger = Authority("ours"), Authority("theirs")
    files = authority.write(tmp_path, "server")
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.pem)
    tls = {"tls": {**files, "client_ca_file": str(ca), "reload_interval": "100ms"}}
    with running(config(tls, tls)) as found:
        address = found.http.replace("127.0.0.1", "localhost")

        def context(signed_by: Authority | None) -> ssl.SSLContext:
            made = ssl.create_default_context(cadata=authority.pem.decode())
            if signed_by is not None:
                client = signed_by.write(tmp_path, f"client-{signed_by.name}")
                made.load_cert_chain(client["cert_file"], client["key_file"])
            return made

        assert _tls_post(address, context(authority)) == 200
        for wrong in (None, stranger):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                _tls_post(address, context(wrong))
        key, certificate = authority.issue()
        with grpc.secure_channel(
            found.grpc.replace("127.0.0.1", "localhost"), grpc.ssl_channel_credentials(authority.pem, key, certificate)
        ) as channel:
            assert channel.unary_unary(EXPORT)(body(), timeout=10) == b""
        with grpc.secure_channel(
            found.grpc.replace("127.0.0.1", "localhost"), grpc.ssl_channel_credentials(authority.pem)
        ) as channel:
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(EXPORT)(body(), timeout=5)
            assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
        # The authority changes: who was let in is out, and the other way round.
        ca.write_bytes(stranger.pem)

        def let_in() -> bool:
            try:
                return _tls_post(address, context(stranger)) == 200
            except (ssl.SSLError, ConnectionError):
                return False

        _wait(let_in)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            _tls_post(address, context(authority))


def test_certificates_that_do_not_fit_are_named_at_start(tmp_path: Path) -> None:
    files = Authority("x").write(tmp_path, "server")
    Authority("y").write(tmp_path, "other")
    wrong = {**files, "key_file": str(tmp_path / "other.key")}
    with (
        pytest.raises(SpanledgerError, match=r"receivers\.otlp\.protocols\.http\.tls.*other\.key"),
        running(config(http={"tls": wrong})),
    ):
        pass
    with (
        pytest.raises(SpanledgerError, match=r"cannot use cert_file"),
        running(config(http={"tls": {**files, "cert_file": "/nowhere"}})),
    ):
        pass


# ── start and stop ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_port_in_use_is_named_with_its_option(protocol: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SpanledgerError) as caught, running(config(**{protocol: {"endpoint": address}})):
            pass
    assert f"receivers.otlp.protocols.{protocol}.endpoint: cannot listen on {address}: address already in use" in str(
        caught.value
    )


def test_an_open_port_is_said_loudly(caplog: pytest.LogCaptureFixture) -> None:
    ports = config(http={"endpoint": "0.0.0.0:0"}, grpc={"endpoint": "0.0.0.0:0", "auth": {"token": "x"}})
    with caplog.at_level(logging.WARNING), running(ports):
        pass
    assert "http listens on" in caplog.text
    assert "WITHOUT AUTHENTICATION" in caplog.text
    assert "grpc listens on" not in caplog.text


def test_loopback_is_not_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), running(config(http={"endpoint": "localhost:0"})) as found:
        assert post(found.http, body()).status == 200
    assert caplog.text == ""


def test_what_was_taken_is_answered_before_it_stops() -> None:
    hold = threading.Event()
    with running(intake=FakeIntake(hold=hold)) as found, grpc.insecure_channel(found.grpc) as channel:
        address = found.http
        calls = [channel.unary_unary(EXPORT).future(body(), timeout=10) for _ in range(3)]
        posted: list[int] = []
        sender = threading.Thread(target=lambda: posted.append(post(found.http, body()).status))
        sender.start()
        _wait(lambda: len(found.intake.bodies) == 4)
        threading.Timer(0.3, hold.set).start()
        found.receiver.stop(5.0)
        assert [call.result() for call in calls] == [b""] * 3
        sender.join()
        assert posted == [200]
        with pytest.raises(ConnectionRefusedError):
            connect(address).close()


def test_stop_does_not_wait_longer_than_its_grace() -> None:
    hold = threading.Event()
    with running(intake=FakeIntake(hold=hold)) as found, connect(found.http) as sender:
        sender.sendall(_plain(body()))
        _wait(lambda: found.intake.bodies)
        began = time.monotonic()
        found.receiver.stop(0.3)
        assert time.monotonic() - began < 2
        assert read_all(sender, 1) == b""
        hold.set()


# ── metrics ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_metrics_count_what_happened() -> None:
    with running() as found:
        mixed = request(3)
        mixed.MergeFrom(request(2, ids=False))
        broken = request(1, name="caf").SerializeToString().replace(b"caf", b"ca\xff")
        post(found.http, mixed.SerializeToString())
        post(found.http, b"\xff")
        post(found.http, broken)
        export(found.grpc, body(7))
        refused(found.grpc, b"\xff")
        assert found.metric("accepted_spans_total", transport="http") == 4
        assert found.metric("rejected_spans_total", transport="http") == 2
        assert found.metric("repaired_strings_total", transport="http") == 1
        assert found.metric("accepted_spans_total", transport="grpc") == 7
        assert found.metric("requests_total", transport="http", code="200") == 2
        assert found.metric("requests_total", transport="http", code="400") == 1
        assert found.metric("requests_total", transport="grpc", code="OK") == 1
        assert found.metric("requests_total", transport="grpc", code="INVALID_ARGUMENT") == 1
        assert found.metric("received_bytes_total", transport="grpc") > 0
        assert found.metrics.get_sample_value("spanledger_receiver_in_flight_bytes", {"receiver": "otlp"}) == 0


# ── HTTP/2 as other clients speak it ────────────────────────────────────────────────────────────────────────────────


def test_padding_priority_continuation_and_odd_cuts_are_understood(receiver: Running) -> None:
    """What nghttp2, Netty and Go may send and grpcio does not."""
    block, content = call_headers(), message(body(10))
    wire = frame(HEADERS, 0x8 | 0x20, 1, b"\x03" + b"\x00\x00\x00\x00\x10" + block[:20] + b"\0\0\0")
    wire += frame(9, 0, 1, block[20:50]) + frame(9, 4, 1, block[50:])
    wire += frame(2, 0, 1, b"\x00\x00\x00\x00\x10")  # PRIORITY
    wire += frame(0, 0x8, 1, b"\x05" + content[:7] + b"\0" * 5) + frame(0, 0, 1, content[7:]) + frame(0, 1, 1)
    wire += frame(PING, 0, 0, b"12345678") + frame(0x77, 0, 0, b"unknown")
    with Http2(receiver.grpc) as client:
        for start in range(0, len(wire), 13):
            client.send(wire[start : start + 13])
        seen = list(client.frames(1.0))
    assert (PING, 1, 0, b"12345678") in seen
    assert any(kind == HEADERS and b"grpc-status\x010" in payload for kind, _, _, payload in seen)
    assert receiver.intake.spans == 10


def test_an_answer_waits_for_the_senders_window(receiver: Running) -> None:
    with Http2(receiver.grpc, greet=False) as client:
        client.send(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"\x00\x04\x00\x00\x00\x02")
        )  # window: 2 octets
        client.open(1)
        client.send(frame(0, 1, 1, message(body())))
        assert client.trailers(1, 0.5) == b""
        client.send(frame(8, 0, 1, b"\x00\x00\x00\x01") * 3)
        assert b"grpc-status\x010" in client.trailers(1)


def test_grpc_web_is_not_taken_for_grpc(receiver: Running) -> None:
    block = call_headers().replace(b"\x10application/grpc", b"\x14application/grpc-web")
    with Http2(receiver.grpc) as client:
        client.send(frame(HEADERS, 5, 1, block))
        assert b"415" in client.trailers(1)


def _keepalive(**parameters: str) -> Any:
    return config({"keepalive": {"server_parameters": parameters}})


def test_a_connection_that_answers_no_ping_is_cut() -> None:
    with running(_keepalive(time="1s", timeout="500ms")) as found, Http2(found.grpc) as client:
        client.open(1)
        began = time.monotonic()
        kinds = [kind for kind, flags, _, _ in client.frames(8.0) if kind == PING and not flags]
        assert kinds == [PING]
        assert time.monotonic() - began < 6


def test_a_connection_without_calls_is_closed_in_order() -> None:
    with running(_keepalive(max_connection_idle="1s")) as found, Http2(found.grpc) as client:
        assert client.goodbye(5.0) == 0


def test_an_old_connection_is_sent_away_and_its_calls_are_finished() -> None:
    hold = threading.Event()
    with running(_keepalive(max_connection_age="1s"), FakeIntake(hold=hold)) as found, Http2(found.grpc) as client:
        client.open(1)
        client.send(frame(0, 1, 1, message(body())))
        assert client.goodbye(5.0) == 0
        client.open(3)
        assert (3, 0, 3, b"\0\0\0\7") in client.frames(0.5)  # not taken: may be sent again elsewhere
        hold.set()
        assert b"grpc-status\x010" in client.trailers(1)


def test_refusals_are_logged_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), running() as found:
        for _ in range(20):
            post(found.http, b"\xff")
        refused(found.grpc, b"\xff")
    assert caplog.text.count("refused a request over http with 400") == 1
    assert caplog.text.count("refused a request over grpc with INVALID_ARGUMENT") == 1


def test_http1_on_the_grpc_port_is_told_where_it_is(receiver: Running) -> None:
    answer = raw(receiver.grpc, b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"4318" in answer
