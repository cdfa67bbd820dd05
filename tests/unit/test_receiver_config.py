"""The receiver's options: what is on by default, and what is refused with which words."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from collector.receivers.config import CorsConfig, OtlpConfig
from config.loader import loads
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


def test_every_option_of_a_port_can_be_written_in_a_file() -> None:
    """Files are read strictly: what a list, a path or a choice is in YAML has to be taken at any depth."""
    text = """
receivers:
  otlp:
    protocols:
      grpc:
        endpoint: "127.0.0.1:0"
        tls: {cert_file: a.pem, key_file: b.pem, client_ca_file: c.pem, min_version: "1.3", reload_interval: 5s}
        auth: {token: t, tokens_file: tokens.yaml, clients: {search: {token: u, attributes: {team: search}}}}
        keepalive: {server_parameters: {max_connection_idle: 1m, time: 10s}}
      http:
        endpoint: "127.0.0.1:0"
        traces_url_path: /traces
        cors: {allowed_origins: ["https://*.example.com"], allowed_headers: [X-Team], max_age: 10m}
exporters: {nop: }
service: {pipelines: {traces: {receivers: [otlp], exporters: [nop]}}}
"""
    config = loads(text, "ports.yaml").receivers["otlp"].config
    assert isinstance(config, OtlpConfig)
    assert config.protocols.http is not None
    assert config.protocols.http.cors == CorsConfig(
        allowed_origins=["https://*.example.com"], allowed_headers=["X-Team"], max_age=600.0
    )
