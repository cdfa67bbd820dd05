"""What senders are answered, compared with protobuf's own reading of google.rpc.Status and the export response."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import json_format
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status as RpcStatus
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from collector.errors import (
    Malformed,
    Overloaded,
    Refused,
    StoreError,
    StoreFull,
    TooLarge,
    Unauthenticated,
    UnsupportedMedia,
)
from collector.grpc_status import Code
from collector.receivers.status import JSON, PROTOBUF, Status, export_response, export_response_json, status_of
from collector.signals import Signal


@pytest.mark.parametrize(
    ("error", "code", "http", "retry"),
    [
        (Unauthenticated("who"), Code.UNAUTHENTICATED, 401, False),
        (Malformed("bad"), Code.INVALID_ARGUMENT, 400, False),
        (UnsupportedMedia("what"), Code.UNIMPLEMENTED, 415, False),
        (TooLarge("big"), Code.RESOURCE_EXHAUSTED, 413, False),
        (Overloaded("full", 2.5), Code.UNAVAILABLE, 503, True),
        (StoreError("disk"), Code.UNAVAILABLE, 503, True),
        (StoreFull("disk"), Code.UNAVAILABLE, 503, True),
        (KeyError("a bug"), Code.UNAVAILABLE, 503, True),
    ],
)
def test_each_error_has_its_codes_and_only_what_helps_is_tried_again(
    error: Exception, code: Code, http: int, retry: bool
) -> None:
    status = status_of(error)
    assert (status.code, status.http) == (code, http)
    assert (status.retry_after is not None) is retry
    assert (status.retry_after_header is not None) is retry


def test_every_refusal_of_the_error_tree_is_mapped() -> None:
    for kind in Refused.__subclasses__():
        assert status_of(kind("x")).message == "x"


def test_inner_errors_are_not_told_to_senders() -> None:
    assert "secret" not in status_of(RuntimeError("secret")).message
    assert "/var/lib" not in status_of(StoreError("/var/lib/x: no space")).message


@pytest.mark.parametrize("retry_after", [None, 0.25, 1.0, 90.0])
@pytest.mark.parametrize("message", ["", "no", "größer als 64 MiB: 日本語", "x" * 200])
def test_the_body_is_google_rpc_status_in_both_encodings(message: str, retry_after: float | None) -> None:
    status = Status(Code.UNAVAILABLE, 503, message, retry_after)
    expected = RpcStatus(code=14, message=message)
    if retry_after is not None:
        info = RetryInfo()
        info.retry_delay.FromNanoseconds(round(retry_after * 1e9))
        expected.details.add().Pack(info)
    assert RpcStatus.FromString(status.body(PROTOBUF)) == expected
    assert json_format.Parse(status.body(JSON), RpcStatus()) == expected


def test_long_messages_are_cut_at_a_character() -> None:
    status = Status(Code.UNAVAILABLE, 503, "ü" * 5000)
    told = RpcStatus.FromString(status.protobuf()).message
    assert len(told.encode()) <= 1024
    assert set(told) == {"ü"}
    assert len(status.json()) < 4096


@pytest.mark.parametrize(("retry_after", "header"), [(0.1, "1"), (1.0, "1"), (1.2, "2"), (60.0, "60")])
def test_retry_after_is_whole_seconds_and_never_zero(retry_after: float, header: str) -> None:
    assert Status(Code.UNAVAILABLE, 503, "", retry_after).retry_after_header == header


def test_full_success_leaves_partial_success_unset() -> None:
    assert export_response(0, "") == b""
    assert json.loads(export_response_json(Signal.TRACES, 0, "")) == {}


@pytest.mark.parametrize(
    ("signal", "response", "field"),
    [
        (Signal.TRACES, ExportTraceServiceResponse, "rejected_spans"),
        (Signal.LOGS, ExportLogsServiceResponse, "rejected_log_records"),
        (Signal.METRICS, ExportMetricsServiceResponse, "rejected_data_points"),
    ],
)
@pytest.mark.parametrize(("rejected", "reason"), [(3, "invalid ids"), (0, "a warning"), (2**40, "ü" * 3)])
def test_partial_success_is_read_by_protobuf(
    signal: Signal, response: Any, field: str, rejected: int, reason: str
) -> None:
    expected = response()
    setattr(expected.partial_success, field, rejected)
    expected.partial_success.error_message = reason
    assert response.FromString(export_response(rejected, reason)) == expected
    assert json_format.Parse(export_response_json(signal, rejected, reason), response()) == expected


def test_answers_stay_small_whatever_the_reason() -> None:
    assert len(export_response(1, "x" * 10**6)) < 2048
    assert len(export_response_json(Signal.LOGS, 1, "x" * 10**6)) < 2048
