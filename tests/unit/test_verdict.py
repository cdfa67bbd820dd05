"""The verdict port over the wire: HTTP, and Envoy's external authorization with messages put together byte by byte."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import polars as pl
import pytest
from prometheus_client import CollectorRegistry

from collector.component import Context
from collector.errors import SpanledgerError
from collector.findings import Observation
from collector.verdict import Renamed, decide
from config.model import VerdictConfig
from processors.budgets.answers import Answers
from processors.redaction import Redaction
from processors.redaction.config import RedactionConfig
from spanledger.verdict import VerdictServer
from tests.budgets_kit import spent, started, take
from tests.findings_kit import NOON_NS, Memory

TEAMS = {"teams": {"per": ["team"], "usd": 10, "projected": None}, "pairs": {"per": ["team", "model"], "calls": 5}}


@contextmanager
def serving(**options: Any) -> Iterator[Any]:
    """A verdict port over budgets of which team `rich` has used 2 and `broke` has used 12 of 10 dollars this month."""
    state = Memory()
    budgets = started(TEAMS, state)
    now = time.time_ns() - NOON_NS
    observed: list[Observation] = take(
        budgets, state, [spent("a", 2, now, team="rich"), spent("b", 12, now, team="broke")]
    )
    assert observed
    pipeline = SimpleNamespace(id="traces", failed=None, alive=True, lag=0.0)
    service: Any = SimpleNamespace(ready=True, verdicts=[(pipeline, budgets.verdicts)])
    config = VerdictConfig.model_validate({"endpoint": "127.0.0.1:0", **options})
    server = VerdictServer(config, service)
    server.start()
    try:
        yield SimpleNamespace(
            http=server.listening.http, grpc=server.listening.grpc, service=service, pipeline=pipeline, budgets=budgets
        )
    finally:
        server.stop()


def get(
    running: Any, path: str, headers: Mapping[str, str | bytes] | None = None, method: str = "GET"
) -> tuple[int, dict[str, Any], Mapping[str, str]]:
    connection = http.client.HTTPConnection(running.http, timeout=5)
    try:
        connection.request(method, path, headers=dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"{}"), {k.lower(): v for k, v in answer.getheaders()}
    finally:
        connection.close()


def test_a_team_with_money_left_may_call_and_one_without_may_not() -> None:
    with serving() as running:
        status, body, headers = get(running, "/v1/verdict?team=rich")
        assert (status, body["allow"], body["budgets"][0]["remaining"], body["unasked"]) == (200, True, "8", ["pairs"])
        assert (headers["x-spanledger-verdict"], headers["x-spanledger-remaining"]) == ("allow", "8 USD")
        status, body, headers = get(running, "/v1/verdict?team=broke&model=gpt-4o")
        assert (status, body["allow"]) == (429, False)
        assert body["error"] == {"message": body["reason"], "type": "insufficient_quota", "code": "budget_exceeded"}
        assert body["reason"].startswith("budget teams: team broke used 12 of 10 USD until ")
        assert (headers["x-spanledger-verdict"], headers["x-spanledger-budget"]) == ("deny", "teams")
        assert 0 < int(headers["retry-after"]) <= 31 * 86400
        assert get(running, "/v1/verdict?team=new")[0] == 200
        assert get(running, "/healthz")[:2] == (200, {"ok": True})


def test_of_several_budgets_that_are_used_up_the_one_that_ends_last_says_when_to_come_back() -> None:
    state = Memory()
    limits = {name: {"usd": 1, "window": name} for name in ("day", "month", "hour")} | {
        "last": {"usd": 1, "rolling": "24h"}
    }
    budgets = started(limits, state)
    take(budgets, state, [spent("a", 2)])
    verdict = decide([budgets.verdicts.ask({}, NOON_NS)])
    headers = verdict.headers(NOON_NS)
    assert (headers["x-spanledger-budget"], headers["x-spanledger-resets-at"]) == ("month", "2026-12-01T00:00:00Z")
    assert headers["retry-after"] == str(60 * 3600)


@pytest.mark.parametrize(
    ("path", "method", "status", "told"),
    [
        ("/v1/verdict?tema=rich", "GET", 400, "no such dimension; there are team"),
        ("/v1/verdict?team=a&team=b", "GET", 400, "named twice"),
        ("/v1/verdict?team", "GET", 400, "cannot be read"),
        ("/v1/verdict?team=%ff", "GET", 400, "cannot be read"),
        ("/v1/other", "GET", 404, "/v1/verdict"),
        ("/v1/verdict?team=a", "DELETE", 405, "GET"),
    ],
)
def test_a_question_that_cannot_be_understood_is_an_error(path: str, method: str, status: int, told: str) -> None:
    with serving() as running:
        got, body, _ = get(running, path, method=method)
        assert got == status
        assert told in body["error"]


def test_proxies_say_by_headers_who_it_is_and_what_the_client_wrote_does_not_count() -> None:
    with serving(headers={"team": "X-Team"}, deny_status=403) as running:
        assert get(running, "/v1/verdict/v1/chat/completions?team=rich", {"x-team": "broke"}, "POST")[0] == 403
        assert get(running, "/v1/verdict", {"x-team": "rich"})[0] == 200
        asked = [
            get(running, "/v1/verdict", {"x-team": name})[1]["budgets"][0]["subject"]
            for name in (b"s\xc3\xbcd", b"s\xfcd")
        ]
        assert asked == [{"team": "süd"}] * 2


def test_a_token_is_asked_for_and_without_one_the_host_must_be_ours() -> None:
    with serving(auth={"token": "t0p"}) as running:
        assert get(running, "/v1/verdict?team=rich")[0] == 401
        assert (
            get(running, "/v1/verdict?team=rich", {"Authorization": "Bearer t0p", "Host": "gateway.example"})[0] == 200
        )
    with serving() as running:
        connection = http.client.HTTPConnection(running.http, timeout=5)
        connection.request("GET", "/v1/verdict?team=rich", headers={"Host": "rebound.example"})
        answer = connection.getresponse()
        assert (answer.status, b"service.verdict.auth" in answer.read()) == (421, True)


@pytest.mark.parametrize(("on_error", "status"), [("allow", 200), ("deny", 429)])
def test_where_counters_cannot_be_trusted_the_config_decides(
    on_error: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spanledger.verdict.judge._LOOK_EVERY_S", -1)
    with serving(on_error=on_error, max_lag=5.0) as running:
        for broken, told in (
            (lambda: setattr(running.pipeline, "failed", "disk full"), "stands still"),
            (lambda: setattr(running.pipeline, "lag", 6.0), "is behind"),
            (lambda: setattr(running.service, "ready", False), "starting"),
        ):
            broken()
            got, body, _ = get(running, "/v1/verdict?team=broke")
            assert (got, body["known"], body["allow"]) == (status, False, on_error == "allow")
            assert told in body["reason"]
            running.pipeline.failed, running.pipeline.lag, running.service.ready = None, 0.0, True
        monkeypatch.setattr(Answers, "ask", None)
        got, body, _ = get(running, "/v1/verdict?team=rich")
        assert (got, body["reason"]) == (status, "budgets are not known: asking them raised TypeError")


def test_a_person_is_asked_for_by_name_and_counted_under_a_pseudonym(tmp_path: Path) -> None:
    redaction = Redaction(
        RedactionConfig.model_validate({"detectors": {"pii": "off", "secret": "off"}}),
        Context("redaction", tmp_path, CollectorRegistry()),
    )
    names = ["jane@acme.example", "", "(unattributed)"]
    frame = pl.DataFrame({"user": names, "user_rule": ["gateway", "gateway", "default"], "team": ["search"] * 3})
    stored = redaction.parts.columns.redact([frame])[0]["user"].to_list()
    assert stored[0] != names[0]
    assert [redaction.called("user", name) for name in names] == stored
    assert redaction.called("team", "search") == "search"
    assert Redaction(RedactionConfig(profile="off"), redaction.context).called("user", "jane") == "jane"
    state = Memory()
    budgets = started({"users": {"per": ["user"], "usd": 1}}, state)
    take(budgets, state, [spent("a", 2, user=stored[0])])
    verdicts = Renamed(budgets.verdicts, redaction.called)
    assert not decide([verdicts.ask({"user": names[0]}, NOON_NS)]).allow
    assert decide([verdicts.ask({"user": "joe"}, NOON_NS)]).allow
    assert verdicts.report(NOON_NS, 1)[0]["subjects"][0]["subject"] == {"user": stored[0]}


def field(number: int, value: bytes) -> bytes:
    """A length-delimited field of protobuf."""
    size, length = len(value), b""
    while size >= 128:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + value


def pair(number: int, key: str, value: bytes) -> bytes:
    return field(number, field(1, key.encode()) + field(2, value))


def check(endpoint: str, extensions: Mapping[str, str], headers: Mapping[str, bytes], token: str = "") -> bytes:
    """What Envoy sends, with fields besides that nobody here knows; the answer as bytes."""
    http_request = (
        field(1, b"id")
        + field(2, b"POST")
        + b"".join(pair(3, k, v) for k, v in headers.items())
        + field(11, b"x" * 300)
    )
    attributes = (
        field(1, b"")
        + field(4, field(2, http_request))
        + b"".join(pair(10, k, v.encode()) for k, v in extensions.items())
    )
    with grpc.insecure_channel(endpoint) as channel:
        call = channel.unary_unary("/envoy.service.auth.v3.Authorization/Check")
        metadata = [("authorization", f"Bearer {token}")] if token else []
        answer: bytes = call(field(1, attributes), metadata=metadata, timeout=5)
    return answer


def test_envoy_is_answered_in_its_own_protocol() -> None:
    with serving(
        grpc_endpoint="127.0.0.1:0", headers={"team": "X-Team", "model": "x-ai-eg-model"}, auth={"token": "t0p"}
    ) as running:
        with pytest.raises(grpc.RpcError) as refused:
            check(running.grpc, {"team": "rich"}, {})
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        allowed = check(running.grpc, {"team": "rich", "note": "x"}, {"x-team": b"broke", "x-bad": b"\xff"}, "t0p")
        # status {} , ok_response {response_headers_to_add: [{header: {…}}, …]}
        assert allowed.startswith(field(1, b""))
        assert field(6, field(1, field(1, b"x-spanledger-verdict") + field(2, b"allow"))) in allowed
        denied = check(running.grpc, {}, {"x-team": b"broke"}, "t0p")
        # status {code: 7}, denied_response {status {code: 429}, …}
        assert denied[2:4] == b"\x08\x07"
        assert field(1, b"\x08\xad\x03") in denied
        assert field(2, field(1, field(1, b"content-type") + field(2, b"application/json"))) in denied
        assert b'"code": "budget_exceeded"' in denied


def test_a_verdict_port_without_budgets_or_with_a_wrong_header_is_a_mistake() -> None:
    empty: Any = SimpleNamespace(ready=True, verdicts=[])
    with pytest.raises(SpanledgerError, match="no traces pipeline has the processor budgets"):
        VerdictServer(VerdictConfig(), empty)
    with pytest.raises(SpanledgerError, match="no dimension 'tema'"), serving(headers={"tema": "x-team"}):
        pass
    with serving(grpc_endpoint="127.0.0.1:0") as running:
        for options, told in (
            ({"endpoint": running.http}, "endpoint"),
            ({"grpc_endpoint": running.grpc}, "grpc_endpoint"),
        ):
            with pytest.raises(SpanledgerError, match=rf"service.verdict.{told}: cannot listen"), serving(**options):
                pass
