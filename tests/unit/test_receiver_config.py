"""The receiver's options: what is on by default, and what is refused with which words."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from collector.receivers.config import OtlpConfig
from config.types import parse_endpoint


def test_nothing_at_all_is_a_whole_configuration() -> None:
    protocols = OtlpConfig().protocols
    assert protocols.grpc is not None
    assert protocols.http is not None
    assert (protocols.grpc.endpoint, protocols.http.endpoint) == ("127.0.0.1:4317", "127.0.0.1:4318")
    assert protocols.grpc.max_recv_msg_size == protocols.http.max_request_body_size == 64 * 2**20
    assert protocols.http.cors is None


@pytest.mark.parametrize("nothing", [None, {}])
@pytest.mark.parametrize(("name", "other"), [("grpc", "http"), ("http", "grpc")])
def test_a_protocol_that_is_named_is_on_and_only_that(name: str, other: str, nothing: Any) -> None:
    protocols = OtlpConfig.model_validate({"protocols": {name: nothing}}).protocols
    assert getattr(protocols, name).endpoint.startswith("127.0.0.1:431")
    assert getattr(protocols, other) is None


@pytest.mark.parametrize(
    ("protocols", "said"),
    [
        ({}, "nothing would listen"),
        ({"grpc": {"endpoint": "127.0.0.1:9"}, "http": {"endpoint": "127.0.0.1:9"}}, "cannot both listen"),
        ({"http": {"endpoint": "4318"}}, "write host:port"),
        ({"http": {"endpoint": "http://127.0.0.1:4318"}}, "not an endpoint"),
        ({"http": {"endpoint": "::1:4318"}}, "in brackets"),
        ({"http": {"endpoint": "127.0.0.1:65536"}}, "not an endpoint"),
        ({"http": {"endpoint": "127.0.0.1:"}}, "not an endpoint"),
        ({"http": {"traces_url_path": "v1/traces"}}, "leading slash"),
        ({"http": {"traces_url_path": "/v1/traces?x=1"}}, "not a URL path"),
        ({"http": {"logs_url_path": "/v1/traces"}}, "logs_url_path is /v1/traces, which is the path of traces"),
        ({"http": {"traces_url_path": "/x", "metrics_url_path": "/x"}}, "need paths of their own"),
        ({"http": {"auth": {}}}, "nobody could come in"),
        ({"http": {"cors": {"allowed_origins": []}}}, "at least 1"),
        ({"grpc": {"tls": {"cert_file": "c.pem"}}}, "Field required"),
        ({"grpc": {"tls": {"cert_file": "c", "key_file": "k", "min_version": "1.1"}}}, "'1.2' or '1.3'"),
        ({"grpc": {"max_recv_msg_size": "1KB"}}, "greater than or equal to 1024"),
        ({"grpc": {"max_recv_msg_size_mib": 64}}, "Extra inputs"),
    ],
)
def test_mistakes_are_named(protocols: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        OtlpConfig.model_validate({"protocols": protocols})
    assert said in str(caught.value)


def test_port_zero_may_be_asked_for_twice() -> None:
    OtlpConfig.model_validate({"protocols": {"grpc": {"endpoint": "[::1]:0"}, "http": {"endpoint": "[::1]:0"}}})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:4317", ("127.0.0.1", 4317)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:4317", ("::1", 4317)),
        (":4317", ("", 4317)),
        ("0.0.0.0:4317", ("0.0.0.0", 4317)),
    ],
)
def test_endpoints(text: str, expected: tuple[str, int]) -> None:
    assert parse_endpoint(text) == expected


def test_every_option_says_what_it_means() -> None:
    def check(schema: dict[str, Any], path: str) -> None:
        for name, option in schema.get("properties", {}).items():
            assert option.get("description"), f"{path}.{name}"

    whole = OtlpConfig.model_json_schema()
    check(whole, "otlp")
    for name, schema in whole["$defs"].items():
        assert schema.get("description"), name
        check(schema, name)
