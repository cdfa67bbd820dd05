"""What the OTLP exporters send, byte for byte, and what they make of every answer."""

from __future__ import annotations

import base64
import json
import logging
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from collector.component import Payload
from collector.errors import PartlyRefused, Permanent, Retryable
from collector.otlp.otlp_json import to_protobuf
from collector.signals import Signal
from exporters.otlp import Otlp, OtlpHttp
from tests.fuzz import seeds
from tests.spans_kit import request, span
from tests.vendor_kit import (
    OK,
    Answer,
    Told,
    grpc_exporter,
    grpc_vendor,
    http_exporter,
    payloads,
    request_batch,
    vendor,
)

BODY = request(
    resource={"service.name": "gateway"}, scope="litellm", spans=[span(f"s{n}", {"n": n}) for n in range(50)]
)
PROTOBUF = {"Content-Type": "application/x-protobuf"}


def send(exporter: Otlp | OtlpHttp, body: bytes = BODY) -> None:
    for payload in payloads(exporter, body):
        exporter.send(payload)


def partial(rejected: int, message: str) -> bytes:
    made = ExportTraceServiceResponse()
    made.partial_success.rejected_spans, made.partial_success.error_message = rejected, message
    return made.SerializeToString()


def status_details(delay: float | None, message: str = "") -> bytes:
    """A google.rpc.Status, with RetryInfo if there is a delay."""
    details = b""
    if delay is not None:
        duration = duration_pb2.Duration()
        duration.FromNanoseconds(round(delay * 1e9))
        info = b"\x0a" + bytes([duration.ByteSize()]) + duration.SerializeToString()
        any_ = any_pb2.Any(type_url="type.googleapis.com/google.rpc.RetryInfo", value=info).SerializeToString()
        details = b"\x1a" + bytes([len(any_)]) + any_
    return b"\x08\x0e\x12" + bytes([len(message)]) + message.encode() + details


# What is sent -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_http_sends_the_bytes_that_came(compression: str) -> None:
    """Without additions the joined request leaves as it came, compressed once, with the headers that the spec asks for."""
    with vendor() as there:
        exporter = http_exporter(there.address, compression=compression, attributes=False, headers={"x-tenant": "blue"})
        send(exporter)
        send(exporter)
        exporter.close()
    assert [got.body for got in there.got] == [BODY, BODY]
    got = there.got[0]
    assert got.path == "/v1/traces"
    assert got.headers["content-type"] == "application/x-protobuf"
    assert got.headers.get("content-encoding", "none") == compression
    assert got.headers["x-tenant"] == "blue"
    assert "expect" not in got.headers
    assert there.connections == 1, "a connection is kept"


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_grpc_sends_the_bytes_that_came(compression: str) -> None:
    with grpc_vendor() as there:
        exporter = grpc_exporter(there.address, compression=compression, attributes=False, headers={"X-Tenant": "blue"})
        send(exporter)
        send(exporter)
        exporter.close()
    assert [got.body for got in there.got] == [BODY, BODY]
    assert there.got[0].path == "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
    assert there.got[0].headers["x-tenant"] == "blue"


@pytest.mark.parametrize("signal", list(Signal))
def test_every_signal_has_its_path(signal: Signal) -> None:
    body = b"\x0a\x00"  # an empty resource
    with vendor() as web, grpc_vendor() as rpc:
        for exporter in (http_exporter(f"{web.address}/otlp/"), grpc_exporter(rpc.address)):
            for payload in exporter.encode_requests(request_batch(signal, body)):
                assert payload.items == 1
                exporter.send(payload)
            exporter.close()
    assert [(got.path, got.body) for got in web.got] == [(f"/otlp/v1/{signal}", body)]
    name = {"traces": "trace.v1.TraceService", "logs": "logs.v1.LogsService", "metrics": "metrics.v1.MetricsService"}
    assert rpc.got[0].path == f"/opentelemetry.proto.collector.{name[signal]}/Export"


def test_endpoints_of_a_signal_are_taken_whole() -> None:
    with vendor() as there:
        exporter = http_exporter("http://127.0.0.1:1", traces_endpoint=f"{there.address}/api/spans")
        send(exporter)
        exporter.close()
    assert there.got[0].path == "/api/spans"


def test_a_signal_without_an_endpoint_waits_and_says_why() -> None:
    exporter = OtlpHttp(OtlpHttp.Config(traces_endpoint="http://127.0.0.1:1/x"), http_exporter("http://h").context)
    (payload,) = exporter.encode_requests(request_batch(Signal.LOGS, b"\x0a\x00"))
    with pytest.raises(Retryable, match="nowhere to send logs to: set endpoint or logs_endpoint"):
        exporter.send(payload)


def test_json() -> None:
    with vendor() as there:
        exporter = http_exporter(there.address, encoding="json", attributes=False)
        send(exporter)
        exporter.close()
    assert there.got[0].headers["content-type"] == "application/json"
    assert to_protobuf(there.got[0].body) == BODY


@pytest.mark.parametrize("encoding", ["proto", "json"])
def test_large_batches_are_cut_between_spans(encoding: str) -> None:
    body = b"".join(seeds())
    spans = [s.SerializeToString() for s in spans_of(body)]
    exporter = http_exporter(
        "http://h", max_request_size=100_000, encoding=encoding, compression="none", attributes=False
    )
    made = payloads(exporter, body)
    parts = [to_protobuf(p.body) if encoding == "json" else p.body for p in made]
    assert [s.SerializeToString() for part in parts for s in spans_of(part)] == spans
    assert [p.items for p in made] == [len(spans_of(part)) for part in parts]
    assert len(made) > 5
    for payload, part in zip(made, parts, strict=True):
        assert len(payload.body) <= 100_000 or len(spans_of(part)) == 1


def spans_of(body: bytes) -> list[Any]:
    message = ExportTraceServiceRequest.FromString(body)
    return [s for r in message.resource_spans for c in r.scope_spans for s in c.spans]


def test_the_same_batch_gives_the_same_payloads() -> None:
    for codec in ("gzip", "zstd"):
        one, two = (payloads(http_exporter("http://h", compression=codec), BODY) for _ in range(2))
        assert one == two
        time.sleep(1.01 if codec == "gzip" else 0)  # gzip has a field for the time
        assert payloads(http_exporter("http://h", compression=codec), BODY) == one


def test_nothing_is_sent_of_nothing() -> None:
    assert payloads(http_exporter("http://h"), b"") == []


# HTTP answers -------------------------------------------------------------------------------------------------------


def after(status: int, said: dict[str, str] | None = None, body: bytes = b"", **options: Any) -> None:
    """Send one payload to a vendor that answers so."""
    with vendor(Answer(status, said or {}, body)) as there:
        exporter = http_exporter(there.address, **options)
        try:
            send(exporter)
        finally:
            exporter.close()


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_http_success(status: int) -> None:
    after(status)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_http_retryable(status: int) -> None:
    with pytest.raises(Retryable, match=str(status)) as raised:
        after(status)
    assert raised.value.retry_after is None


@pytest.mark.parametrize(
    "status", [400, 402, 406, 408, 409, 410, 411, 413, 414, 415, 422, 431, 499, 500, 501, 505, 511]
)
def test_http_permanent(status: int) -> None:
    with pytest.raises(Permanent, match=str(status)):
        after(status)


@pytest.mark.parametrize("status", [301, 302, 307, 308, 401, 403, 404, 405, 407])
def test_http_setup_errors_are_held_for_as_long_as_the_option_says(status: int) -> None:
    """A redirect is not followed: the headers hold keys."""
    headers = {"Location": "http://127.0.0.1:1/elsewhere"} if status < 400 else {}
    with pytest.raises(Retryable, match=str(status)):
        after(status, headers)
    with pytest.raises(Permanent, match=str(status)):
        after(status, headers, retry_setup_errors_for=0.0)


def test_what_is_held_too_long_is_buried_and_a_success_begins_anew() -> None:
    with vendor(Answer(403), Answer(403), OK, Answer(403)) as there:
        exporter = http_exporter(there.address, retry_setup_errors_for=0.2)
        (payload,) = payloads(exporter, BODY)
        with pytest.raises(Retryable):
            exporter.send(payload)
        time.sleep(0.25)
        with pytest.raises(Permanent):
            exporter.send(payload)
        exporter.send(payload)
        with pytest.raises(Retryable):
            exporter.send(payload)
        exporter.close()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("3", 3.0), (" 120 ", 120.0), ("0", 0.0), ("99999999999", 3600.0), ("-1", None), ("1.5", None), ("soon", None), ("", None), ("٣", None)],
)  # fmt: skip
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_in_seconds(text: str, seconds: float | None, status: int) -> None:
    from exporters.otlp.answers import retry_after

    assert retry_after(text) == seconds
    if text.strip().isascii() and text.strip():
        with pytest.raises(Retryable) as raised:
            after(status, {"Retry-After": text})
        assert raised.value.retry_after == seconds


def test_retry_after_as_a_date() -> None:
    """All three forms that HTTP allows."""
    from exporters.otlp.answers import retry_after

    moment = datetime.now(UTC) + timedelta(seconds=90)
    for text in (
        format_datetime(moment, usegmt=True),
        moment.strftime("%A, %d-%b-%y %H:%M:%S GMT"),
        moment.strftime("%a %b %e %H:%M:%S %Y"),
    ):
        assert 85 < (retry_after(text) or 0) <= 90, text
    assert retry_after("Sun, 06 Nov 1994 08:49:37 GMT") == 0
    assert retry_after("Fri, 31 Dec 9999 23:59:59 GMT") == 3600


@pytest.mark.parametrize("as_json", [True, False])
def test_what_the_vendor_says_is_told_short_and_clean(as_json: bool) -> None:
    text = "no\nway \x1b[31m" + "x" * 1000
    if as_json:
        body, headers = json.dumps({"code": 3, "message": text}).encode(), {"Content-Type": "application/json"}
    else:
        made = text[:120]
        body, headers = status_details(None, made), PROTOBUF
    with pytest.raises(Permanent) as raised:
        after(400, headers, body)
    assert "400 Bad Request: no way [31mxxx" in str(raised.value)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 400


def test_a_key_that_a_vendor_quotes_is_not_told() -> None:
    with pytest.raises(Retryable) as raised:
        after(401, {"Content-Type": "text/plain"}, b"unknown key sk-abcdef123456", headers={"authorization": "Bearer sk-abcdef123456"})  # fmt: skip
    assert "unknown key ***" in str(raised.value)
    assert "abcdef" not in str(raised.value)


# Partial success -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_json", [True, False])
def test_partial_success_over_http(as_json: bool, caplog: pytest.LogCaptureFixture) -> None:
    """What was refused is an error with the number; a warning is logged; neither is sent again."""
    answers = (
        (b'{"partialSuccess":{"rejectedSpans":"3","errorMessage":"too old"}}', b'{"partialSuccess":{"errorMessage":"use zstd"}}', b'{"partialSuccess":{}}')
        if as_json
        else (partial(3, "too old"), partial(0, "use zstd"), b"\x0a\x00")
    )  # fmt: skip
    headers = {"Content-Type": "application/json"} if as_json else PROTOBUF
    with pytest.raises(PartlyRefused, match="refused 3 of 50 items: too old") as raised:
        after(200, headers, answers[0])
    assert raised.value.rejected == 3
    with caplog.at_level(logging.WARNING):
        after(200, headers, answers[1])
    assert "use zstd" in caplog.text
    caplog.clear()
    after(200, headers, answers[2])
    assert not caplog.records


@pytest.mark.parametrize("field", ["rejectedLogRecords", "rejectedDataPoints"])
def test_partial_success_of_other_signals(field: str) -> None:
    with pytest.raises(PartlyRefused, match="refused 2 of 50 items: it does not say why"):
        after(200, {"Content-Type": "application/json"}, b'{"partialSuccess":{"%s":2}}' % field.encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff" * 40,
        b"\x0a\x7f",
        b"<html>",
        b"\x0a\x02\x08\x80",
        b"\x0a\x0b\x08" + b"\xff" * 9 + b"\x01",
        b"[]",
        b"\x0b\x0c",
    ],
)
@pytest.mark.parametrize("content_type", ["application/x-protobuf", "application/json", "text/html"])
def test_an_answer_that_cannot_be_read_says_nothing(body: bytes, content_type: str) -> None:
    after(200, {"Content-Type": content_type}, body)


@pytest.mark.parametrize(
    "body",
    [b'{"partialSuccess":[1]}', b'{"partialSuccess":{"rejectedSpans":"x","errorMessage":5}}', b'{"partialSuccess":{"rejectedSpans":-4}}',
     b'{"partialSuccess":{"rejectedSpans":NaN}}', b"[" * 100_000],
)  # fmt: skip
def test_json_of_odd_shapes_says_nothing(body: bytes) -> None:
    after(200, {"Content-Type": "application/json"}, body)


def test_partial_success_over_grpc(caplog: pytest.LogCaptureFixture) -> None:
    with grpc_vendor(Told(message=partial(7, "span too large")), Told(message=partial(0, "slow down"))) as there:
        exporter = grpc_exporter(there.address)
        with pytest.raises(PartlyRefused, match="refused 7 of 50 items: span too large"):
            send(exporter)
        with caplog.at_level(logging.WARNING):
            send(exporter)
        exporter.close()
    assert "slow down" in caplog.text


# gRPC answers -------------------------------------------------------------------------------------------------------

CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
RETRYABLE = {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}
SETUP = {"PERMISSION_DENIED", "UNAUTHENTICATED", "UNIMPLEMENTED"}


def test_every_grpc_code() -> None:
    """As the table in the OTLP specification has it; RESOURCE_EXHAUSTED only with RetryInfo."""
    with grpc_vendor(*(Told(code, f"it is {code.name} – ü") for code in CODES), Told()) as there:
        exporter = grpc_exporter(there.address)
        (payload,) = payloads(exporter, BODY)
        for code in CODES:
            wanted = Retryable if code.name in RETRYABLE | SETUP else Permanent
            with pytest.raises(wanted, match=f"{code.name}: it is {code.name} – ü"):
                exporter.send(payload)
        exporter.send(payload)
        exporter.close()


def test_grpc_setup_errors_are_permanent_where_the_specification_is_wanted_to_the_letter() -> None:
    codes = [code for code in CODES if code.name in SETUP]
    with grpc_vendor(*(Told(code) for code in codes), Told()) as there:
        exporter = grpc_exporter(there.address, retry_setup_errors_for=0.0)
        for code in codes:
            with pytest.raises(Permanent, match=code.name):
                send(exporter)
        exporter.close()


@pytest.mark.parametrize(
    ("code", "details", "kind", "seconds"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, status_details(2.5), Retryable, 2.5),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, status_details(None), Permanent, None),
        (grpc.StatusCode.UNAVAILABLE, status_details(30), Retryable, 30.0),
        (grpc.StatusCode.UNAVAILABLE, status_details(10**6), Retryable, 3600.0),
        (grpc.StatusCode.UNAVAILABLE, status_details(None), Retryable, None),
        (grpc.StatusCode.UNAVAILABLE, b"\xff\xff\xff", Retryable, None),
        (grpc.StatusCode.INVALID_ARGUMENT, status_details(1), Permanent, None),
    ],
)  # fmt: skip
def test_retry_info(code: grpc.StatusCode, details: bytes, kind: type[Exception], seconds: float | None) -> None:
    with grpc_vendor(Told(code, "busy", [("grpc-status-details-bin", details)])) as there:
        exporter = grpc_exporter(there.address)
        with pytest.raises(kind) as raised:
            send(exporter)
        exporter.close()
    assert getattr(raised.value, "retry_after", None) == seconds


def test_status_details_with_and_without_padding() -> None:
    from exporters.otlp.answers import status_trailer

    encoded = base64.b64encode(status_details(2, "xx")).decode()
    assert encoded.endswith("=")
    assert status_trailer(encoded) == status_trailer(encoded.rstrip("=")) == ("xx", 2.0)
    assert status_trailer("not base64!") == ("", None)


@pytest.mark.parametrize(
    ("status", "kind", "text"),
    [(200, Retryable, "no gRPC status"), (301, Retryable, "redirect"), (401, Retryable, "UNAUTHENTICATED"), (404, Retryable, "UNIMPLEMENTED"),
     (400, Permanent, "INTERNAL"), (418, Permanent, "UNKNOWN"), (429, Retryable, "UNAVAILABLE"), (502, Retryable, "UNAVAILABLE")],
)  # fmt: skip
def test_a_proxy_that_answers_in_the_servers_place(status: int, kind: type[Exception], text: str) -> None:
    """HTTP statuses without a gRPC status, as gRPC over HTTP/2 maps them."""
    from exporters.otlp.errors import SetupError
    from exporters.otlp.grpc import judge
    from exporters.otlp.transport import Reply

    with pytest.raises((kind, SetupError), match=text):
        judge(Reply(status, http2=True))


def test_an_http_port_is_no_grpc_port() -> None:
    """And the message names the exporter that is meant."""
    from exporters.otlp.errors import SetupError
    from exporters.otlp.grpc import judge
    from exporters.otlp.transport import Reply

    with pytest.raises(SetupError, match="otlphttp"):
        judge(Reply(200))
    with vendor() as there:
        exporter = grpc_exporter(there.address.removeprefix("http://"))
        with pytest.raises(Retryable):
            send(exporter)
        exporter.close()


def test_payloads_of_another_release_are_no_endless_loop() -> None:
    exporter = http_exporter("http://127.0.0.1:1")
    with pytest.raises(Permanent, match="has no signal"):
        exporter.send(Payload(b"x", {}, 1))
