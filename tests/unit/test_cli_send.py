"""`spanledger send`: bodies as they were, over HTTP and gRPC, to receivers that are busy, picky, or not there."""

from __future__ import annotations

import gzip
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from collector.signals import Signal
from spanledger.cli import sender as sending
from spanledger.cli.send import read_body
from spanledger.cli.shell import CommandError
from tests.cli_kit import Answer, Request, run, serve
from tests.receivers_kit import FakeIntake
from tests.receivers_kit import running as receiving
from tests.signals_kit import logs, metrics, record
from tests.spans_kit import request, span

TRACES = request(resource={"service.name": "x"}, spans=[span("one"), span("two")])
OK: Answer = (200, {"Content-Type": "application/x-protobuf"}, b"")
CAPTURES = Path(__file__).parents[1] / "captures"


@pytest.fixture
def naps(monkeypatch) -> list[float]:
    """How long the sender slept; nobody waits."""
    slept: list[float] = []

    def opened(*arguments: object) -> sending.Sender:
        sender = sending.open_sender(*arguments)
        sender.sleep = slept.append
        return sender

    monkeypatch.setattr("spanledger.cli.send.open_sender", opened)
    return slept


@pytest.fixture
def body(tmp_path) -> Path:
    path = tmp_path / "001-traces.pb"
    path.write_bytes(TRACES)
    return path


def script(*answers: Answer) -> Callable[[Request], Answer]:
    """These answers, one request after another; the last one from then on."""
    left = list(answers)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


# HTTP ----------------------------------------------------------------------------------------------------------------


def test_a_body_goes_out_as_it_came(tmp_path, capsys):
    """Protobuf, JSON and gzip keep their bytes and get their headers; a folder goes in the order of its names."""
    plain = json.dumps({"resourceSpans": []}).encode()
    (tmp_path / "2-logs.json").write_bytes(b'{"resourceLogs": []}')
    (tmp_path / "1-traces.pb").write_bytes(TRACES)
    (tmp_path / "3-traces.json").write_bytes(plain)
    (tmp_path / "4-traces.pb.gz").write_bytes(gzip.compress(TRACES))
    (tmp_path / "truth.json").write_text("{}")  # no body: its name says no signal
    with serve(script(OK)) as server:
        shown = run(
            capsys, "send", str(tmp_path), "--endpoint", f"http://{server.address}", "--token", "t0", "-H", "X-A=b"
        ).ok()
    got = [(r.path, r.headers["content-type"], r.headers.get("content-encoding")) for r in server.requests]
    protobuf, as_json = "application/x-protobuf", "application/json"
    assert got == [
        ("/v1/traces", protobuf, None),
        ("/v1/logs", as_json, None),
        ("/v1/traces", as_json, None),
        ("/v1/traces", protobuf, "gzip"),
    ]
    assert [r.body for r in server.requests][:3] == [TRACES, b'{"resourceLogs": []}', plain]
    assert all(r.headers["authorization"] == "Bearer t0" and r.headers["x-a"] == "b" for r in server.requests)
    assert shown.startswith("Sent 3 traces, 1 logs (")


def test_only_one_signal_and_a_path_of_its_own(tmp_path, capsys):
    """--signal skips the rest and says so; an endpoint may name the whole path."""
    (tmp_path / "1-traces.pb").write_bytes(TRACES)
    (tmp_path / "2-logs.json").write_bytes(b'{"resourceLogs": []}')
    with serve(script(OK)) as server:
        endpoint = f"http://{server.address}/custom/v1/traces"
        shown = run(capsys, "send", str(tmp_path), "--endpoint", endpoint, "--signal", "traces").ok()
    assert [r.path for r in server.requests] == ["/custom/v1/traces"]
    assert "1 skipped" in shown


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("signal", ["traces", "logs", "metrics"])
def test_each_signal_goes_where_it_belongs(signal, protocol, tmp_path, capsys):
    """Told by what is in a file, and by --signal where nothing tells: an empty body may be anything."""
    bodies = {"traces": TRACES, "logs": logs(record()), "metrics": metrics(2)}
    (tmp_path / "a.pb").write_bytes(bodies[signal])
    (tmp_path / "b.pb").write_bytes(b"")
    with receiving(intake=FakeIntake(frozenset(Signal))) as found:
        endpoint = found.http if protocol == "http" else found.grpc
        sent = run(capsys, "send", str(tmp_path), "--endpoint", endpoint, "--protocol", protocol, "--signal", signal)
        assert sent.ok().startswith(f"Sent 2 {signal} (")
        assert found.intake.taken == [signal]
        untold = run(capsys, "send", str(tmp_path / "b.pb"), "--endpoint", endpoint, "--protocol", protocol)
        assert (untold.code, "say with --signal" in untold.err) == (1, True)


def test_a_port_that_takes_no_otlp_ends_it(tmp_path, capsys):
    """The first file is enough to know, over either protocol, and the right port is named."""
    for number in (1, 2):
        (tmp_path / f"{number}-traces.pb").write_bytes(TRACES)
    with serve(script((404, {"Content-Type": "text/plain"}, b""))) as server:
        wrong = run(capsys, "send", str(tmp_path), "--endpoint", server.address)
    assert (wrong.code, len(server.requests)) == (1, 1)
    assert "error: 404: Not Found" in wrong.err
    assert "is it the right port (4318 by default)?" in wrong.err
    with receiving() as found:
        mixed = run(capsys, "send", str(tmp_path), "--protocol", "grpc", "--endpoint", found.http)
    assert mixed.code == 1
    assert "does not speak gRPC" in mixed.err
    assert "--protocol http" in mixed.err


def test_a_collector_that_starts_is_waited_for(tmp_path, monkeypatch, capsys):
    """Who has the data directory listens in the end, or ends itself; without anybody there is nothing to wait for."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setattr(sending, "_PORTS", {"http": port})
    monkeypatch.setenv("SPANLEDGER_DATA_DIR", str(tmp_path))
    sending.await_start("http", None)
    (tmp_path / "state").mkdir()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "spanledger"]) as collector:
        (tmp_path / "state" / "writer.pid").write_text(str(collector.pid))
        sending.await_start("http", "http://127.0.0.1:1")  # another one's is not waited for
        assert capsys.readouterr().err == ""
        timer = threading.Timer(0.5, collector.kill)
        timer.start()
        sending.await_start("http", None)
    assert "The collector is starting" in capsys.readouterr().err
    timer.join()


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_is_put_off_is_sent_again(status, body, naps, capsys):
    """Retry-After is honoured, as seconds or as a date; without one the pauses grow."""
    busy = (status, {"Retry-After": "7"}, b"")
    later = (status, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, b"")
    plain = (status, {}, b"")
    with serve(script(busy, later, plain, plain, OK)) as server:
        shown = run(capsys, "send", str(body), "--endpoint", server.address).ok()
    assert len(server.requests) == 5
    assert {r.body for r in server.requests} == {TRACES}
    assert naps[:2] == [7.0, 0.0]
    assert 0.7 < naps[2] < 1.3 < naps[3] < 2.6
    assert "4 retries" in shown


def test_it_gives_up_after_its_retries(body, naps, capsys):
    """Exit code 1, with what the receiver said last."""
    answer = (503, {"Content-Type": "application/json"}, b'{"code": 14, "message": "inbox is full"}')
    with serve(script(answer)) as server:
        result = run(capsys, "send", str(body), "--endpoint", server.address, "--retries", "2")
    assert (result.code, len(server.requests), len(naps)) == (1, 3, 2)
    assert "gave up after 3 attempts: 503: inbox is full" in result.err
    assert "error: 1 of 1 files were not taken" in result.err


def test_a_body_that_is_refused_does_not_stop_the_others(tmp_path, capsys):
    """400 is for that body alone; the message of a google.rpc.Status, in protobuf, is shown."""
    for number in (1, 2, 3):
        (tmp_path / f"{number}-traces.pb").write_bytes(TRACES)
    malformed = (400, {"Content-Type": "application/x-protobuf"}, b"\x08\x03\x12\x09bad bytes")
    with serve(script(OK, malformed, OK)) as server:
        result = run(capsys, "send", str(tmp_path), "--endpoint", server.address)
    assert (result.code, len(server.requests)) == (1, 3)
    assert "2-traces.pb: 400: bad bytes" in result.err
    assert result.out.startswith("Sent 2 traces")


def test_a_wrong_token_stops_at_once(tmp_path, capsys):
    """No other body would be taken either."""
    for number in (1, 2, 3):
        (tmp_path / f"{number}-traces.pb").write_bytes(TRACES)
    with serve(script((401, {}, b""))) as server:
        result = run(capsys, "send", str(tmp_path), "--endpoint", server.address)
    assert (result.code, len(server.requests)) == (1, 1)
    assert "Give the token with --token." in result.err


@pytest.mark.parametrize(
    "answer",
    [
        (
            200,
            {"Content-Type": "application/json"},
            b'{"partialSuccess": {"rejectedSpans": "300", "errorMessage": "ids"}}',
        ),
        (
            200,
            {"Content-Type": "application/x-protobuf"},
            ExportTraceServiceResponse(
                partial_success=ExportTracePartialSuccess(rejected_spans=300, error_message="ids")
            ).SerializeToString(),
        ),
    ],
    ids=["json", "protobuf"],
)
def test_a_partial_success_is_told(answer, body, capsys):
    """The body was taken, some of its spans were not."""
    with serve(script(answer)) as server:
        result = run(capsys, "send", str(body), "--endpoint", server.address)
    assert result.code == 0
    assert "refused 300 items" in result.err


# gRPC ----------------------------------------------------------------------------------------------------------------


@contextmanager
def grpc_server(
    handle: Callable[[bytes, grpc.ServicerContext], bytes],
) -> Iterator[tuple[str, list[tuple[str, bytes, dict]]]]:
    """An OTLP/gRPC server that keeps what came: method, body, metadata."""
    came: list[tuple[str, bytes, dict]] = []

    class Handler(grpc.GenericRpcHandler):
        def service(self, details):
            def export(body: bytes, context: grpc.ServicerContext) -> bytes:
                came.append((details.method, body, dict(context.invocation_metadata())))
                return handle(body, context)

            return grpc.unary_unary_rpc_method_handler(export)

    server = grpc.server(futures.ThreadPoolExecutor(1), handlers=[Handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}", came
    finally:
        server.stop(None)


def retry_info(seconds: int, nanos: int) -> bytes:
    """google.rpc.Status with a RetryInfo, as grpc-status-details-bin carries it."""
    inner = Duration(seconds=seconds, nanos=nanos).SerializeToString()
    detail = Any(type_url="type.googleapis.com/google.rpc.RetryInfo", value=b"\x0a" + bytes([len(inner)]) + inner)
    packed = detail.SerializeToString()
    return b"\x08\x0e\x1a" + bytes([len(packed)]) + packed


def test_grpc_sends_protobuf_inflated(tmp_path, capsys):
    """gRPC has a compression of its own: a gzipped body goes out plain; JSON is refused before it is sent."""
    (tmp_path / "1-traces.pb.gz").write_bytes(gzip.compress(TRACES))
    (tmp_path / "2-traces.json").write_bytes(b'{"resourceSpans": []}')
    with grpc_server(lambda body, context: b"") as (address, came):
        result = run(capsys, "send", str(tmp_path), "--protocol", "grpc", "--endpoint", address, "--token", "t0")
    method, data, metadata = came[0]
    assert (len(came), method) == (1, "/opentelemetry.proto.collector.trace.v1.TraceService/Export")
    assert data == TRACES
    assert metadata["authorization"] == "Bearer t0"
    assert result.code == 1
    assert "2-traces.json: gRPC takes protobuf; send JSON with --protocol http" in result.err


def test_grpc_honours_retry_info(body, naps, capsys):
    """UNAVAILABLE with a wish, then RESOURCE_EXHAUSTED with one, then it is taken."""
    codes = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED]

    def handle(body: bytes, context: grpc.ServicerContext) -> bytes:
        if codes:
            context.set_trailing_metadata([("grpc-status-details-bin", retry_info(2, 500_000_000))])
            context.abort(codes.pop(0), "come back")
        return b""

    with grpc_server(handle) as (address, came):
        shown = run(capsys, "send", str(body), "--protocol", "grpc", "--endpoint", address).ok()
    assert len(came) == 3
    assert naps == [2.5, 2.5]
    assert "2 retries" in shown


@pytest.mark.parametrize(
    ("code", "said", "calls"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "RESOURCE_EXHAUSTED: too large", 2),
        (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT: too large", 2),
        (grpc.StatusCode.UNAUTHENTICATED, "Give the token with --token.", 1),
    ],
)
def test_grpc_refusals_are_not_tried_again(code, said, calls, body, naps, capsys):
    """RESOURCE_EXHAUSTED without RetryInfo means: too large, for good. Without the token nothing more is sent."""
    with grpc_server(lambda _, context: context.abort(code, "too large")) as (address, came):
        result = run(capsys, "send", str(body), str(body), "--protocol", "grpc", "--endpoint", address)
    assert (result.code, len(came), naps) == (1, calls, [])
    assert said in result.err


# What a file is --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(CAPTURES.rglob("*.pb*")), ids=lambda p: f"{p.parent.name}-{p.name}")
def test_captures_are_told_by_content_too(path, tmp_path):
    """A body whose name says nothing is recognised by what is in it."""
    anonymous = tmp_path / ("body.pb.gz" if path.suffix == ".gz" else "body.pb")
    anonymous.write_bytes(path.read_bytes())
    named = read_body(path)
    assert named.signal == path.name.split("-")[1].split(".")[0]
    assert read_body(anonymous).signal == named.signal


def test_a_file_that_is_no_body(tmp_path):
    """Text, a damaged gzip file: refused before it is sent."""
    for content, message in ((b"hello", "not an OTLP request"), (b"\x1f\x8bxx", "not a gzip file")):
        (tmp_path / "x.pb").write_bytes(content)
        with pytest.raises(CommandError, match=message):
            read_body(tmp_path / "x.pb")
