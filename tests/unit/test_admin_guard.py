"""Who the admin port answers: its own Host names only, and only with the token where one is set; who may change something."""

from __future__ import annotations

import base64

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from spanledger.admin.guard import Guard


async def page(_request: object) -> PlainTextResponse:
    return PlainTextResponse("secret figures")


KEY = "key of the data directory"
DROP = "/dead-letters/drop"
PAGES = Starlette(
    routes=[*(Route(path, page) for path in ("/metrics", "/healthz", "/readyz")), Route(DROP, page, methods=["POST"])]
)


def client(token: str | None = None, host: str = "127.0.0.1", allowed: tuple[str, ...] = ()) -> TestClient:
    return TestClient(Guard(PAGES, host, allowed, token, KEY), base_url="http://127.0.0.1:8787")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8787", "localhost", "LocalHost:1", "[::1]:8787", "127.0.0.53"]
)
def test_its_own_names_are_answered(host: str) -> None:
    assert client().get("/metrics", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8787", "127.0.0.1.evil.example", "localhost.evil.example", "10.1.2.3", "", "[::1", "0.0.0.0@evil"]
)  # fmt: skip
def test_strangers_names_are_refused_on_every_path(host: str) -> None:
    for path in ("/metrics", "/healthz", "/readyz"):
        answer = client().get(path, headers={"host": host})
        assert answer.status_code == 421
        assert "secret" not in answer.text


def test_further_names_can_be_allowed() -> None:
    assert client(allowed=("spanledger.internal",)).get("/metrics", headers={"host": "spanledger.internal:8787"}).status_code == 200  # fmt: skip
    assert client(host="ledger.example").get("/metrics", headers={"host": "ledger.example"}).status_code == 200


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"any:{password}".encode()).decode()


@pytest.mark.parametrize(
    "headers", [{"authorization": "Bearer s3cret"}, {"authorization": "bearer s3cret"}, {"authorization": basic("s3cret")}, {"x-clickhouse-key": "s3cret"}]
)  # fmt: skip
def test_the_token_opens(headers: dict[str, str]) -> None:
    assert client("s3cret").get("/metrics", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": "Bearer"}, {"authorization": "Bearer wrong"}, {"authorization": "s3cret"}, {"authorization": basic("")},
     {"authorization": "Basic s3cret"}, {"authorization": "Basic ////"}, {"x-clickhouse-key": ""}, {"x-token": "s3cret"}],
)  # fmt: skip
def test_without_the_token_nothing_is_served_but_health(headers: dict[str, str]) -> None:
    guarded = client("s3cret")
    answer = guarded.get("/metrics?password=s3cret", headers=headers)
    assert answer.status_code == 401
    assert "secret figures" not in answer.text
    assert guarded.get("/healthz", headers=headers).status_code == 200
    assert guarded.get("/nothing", headers=headers).status_code == 401


@pytest.mark.parametrize("token", [None, "s3cret"], ids=["open", "with a token"])
def test_a_change_needs_the_key_of_the_data_directory(token: str | None) -> None:
    """Neither being on this machine nor the token that reads is enough; a browser's page cannot send the key at all."""
    guarded = client(token)
    for headers in ({}, {"authorization": "Bearer s3cret"}, {"authorization": f"Bearer {KEY}x"}, {"authorization": "Bearer"}):  # fmt: skip
        answer = guarded.post(DROP, json={"ids": [1]}, headers=headers)
        assert answer.status_code == 403
        assert "secret figures" not in answer.text
    page = {"origin": "https://evil.example", "access-control-request-method": "POST", "access-control-request-headers": "authorization"}  # fmt: skip
    preflight = guarded.options(DROP, headers=page)
    assert preflight.status_code == 403
    assert not [name for name in preflight.headers if name.startswith("access-control")]
    assert guarded.post(DROP, headers={"authorization": f"Bearer {KEY}"}).status_code == 200
    assert guarded.post(DROP, headers={"authorization": f"Bearer {KEY}", "host": "evil.example"}).status_code == 421
    assert guarded.get(DROP, headers={"authorization": f"Bearer {KEY}"}).status_code == 405
