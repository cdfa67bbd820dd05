"""The exporter `gateway` against a LiteLLM admin API that remembers who is blocked, and against a webhook."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from collector.component import Context, Payload
from collector.delivery import Delivery, Outlet
from collector.errors import Permanent, Retryable
from collector.findings import Finding, Resolution, State, Transition
from collector.store import StateStore
from collector.telemetry import ExporterMetrics
from config.delivery import RetryConfig
from exporters.gateway import Gateway, GatewayConfig
from exporters.gateway import exporter as module
from exporters.gateway.journal import Journal
from tests.cli_kit import Server, serve
from tests.findings_kit import finding
from tests.store_kit import SEALER
from tests.vendor_kit import span_batch

HOUR = 3600 * 10**9
OPENED, _, RESOLVED = Transition
HASH = "9" * 64


#: What LiteLLM's proxy (1.108.7) takes: by method and path the fields of the body, all of them required texts, and the parameters of
#: the query with what it takes for them.
ROUTES: dict[tuple[str, str], tuple[tuple[str, ...], dict[str, str]]] = {
    ("GET", "/team/list"): ((), {"user_id": ".*", "organization_id": ".*"}),
    ("GET", "/key/list"): ((), {"key_alias": ".*", "key_hash": ".*", "return_full_object": "true|false", "page": r"[1-9]\d*", "size": r"[1-9]\d?|100"}),
    ("POST", "/team/block"): (("team_id",), {}),
    ("POST", "/team/unblock"): (("team_id",), {}),
    ("POST", "/key/block"): (("key",), {}),
    ("POST", "/key/unblock"): (("key",), {}),
}  # fmt: skip


class Proxy:
    """LiteLLM's admin API, as far as blocking goes: its paths, fields, answers and errors.

    `down`: answers 503. `lost`: does what was asked, then no answer.
    """

    def __init__(self) -> None:
        self.teams = {"t-1": ("search", False), "t-2": ("ads", True), "t-3": ("twice", False), "t-4": ("twice", False)}
        self.keys = {HASH: ("batch", False), "8" * 64: ("batch-2", True)}
        self.steps: list[tuple[str, str]] = []
        self.down = self.lost = False
        self.before = lambda: None  # what happens at the proxy just before it blocks

    def __call__(self, request: Any) -> tuple[int, dict[str, str], bytes]:
        status, answer = (503, None) if self.down else self._answer(request)
        return status, {"content-type": "application/json"}, json.dumps(answer).encode()

    def _answer(self, request: Any) -> tuple[int, Any]:
        url = urlsplit(request.path)
        route = ROUTES.get((request.method, url.path))
        if route is None:
            return 404, {"detail": "Not Found"}
        if request.headers.get("authorization") != "Bearer sk-admin":
            return 401, _error("Authentication Error, Invalid proxy server token passed.", "token_not_found_in_db", "key", 401)  # fmt: skip
        fields, parameters = route
        query = {name: values[-1] for name, values in parse_qs(url.query, strict_parsing=bool(url.query)).items()}
        body = json.loads(request.body) if request.body else {}
        typed = not fields or request.headers["content-type"] == "application/json"
        if not typed or set(body) != set(fields) or not all(isinstance(value, str) for value in body.values()):
            return 422, {"detail": [{"type": "missing", "loc": ["body"], "msg": "Field required"}]}
        if any(name not in parameters or not re.fullmatch(parameters[name], value) for name, value in query.items()):
            return 422, {"detail": [{"type": "int_parsing", "loc": ["query"], "msg": "Input should be valid"}]}
        if fields:
            return self._set(url.path, body[fields[0]])
        return 200, self._list(url.path, query)

    def _list(self, path: str, query: dict[str, str]) -> Any:
        if path == "/team/list":
            teams = [{"team_id": id_, "team_alias": name, "blocked": is_} for id_, (name, is_) in self.teams.items()]
            return [
                team | {"models": [], "members_with_roles": [], "team_memberships": [], "keys": []} for team in teams
            ]
        found = [
            {"token": token, "key_alias": name, "blocked": is_, "spend": 0.0, "models": []} for token, (name, is_) in self.keys.items()
            if query.get("key_alias", "") in name and query.get("key_hash", token) == token
        ]  # fmt: skip
        size = int(query.get("size", "10"))
        whole = query.get("return_full_object") == "true"
        keys = (found if whole else [key["token"] for key in found])[:size]
        return {"keys": keys, "total_count": len(found), "current_page": 1, "total_pages": -(-len(found) // size)}

    def _set(self, path: str, id_: str) -> tuple[int, Any]:
        self.before()
        what, _, action = path[1:].partition("/")
        table = self.teams if what == "team" else self.keys
        if id_ not in table:
            if what == "team":
                return 404, {"detail": {"error": f"Team not found, passed team_id={id_}"}}
            return 404, _error("Key not found.", "not_found_error", "key", 404)
        table[id_] = (table[id_][0], action == "block")
        self.steps.append((path, id_))
        return (502, None) if self.lost else (200, {"team_id" if what == "team" else "token": id_, "blocked": action == "block"})  # fmt: skip


def _error(message: str, type_: str, param: str, code: int) -> dict[str, Any]:
    """As LiteLLM's own exceptions answer."""
    return {"error": {"message": message, "type": type_, "param": param, "code": str(code)}}


@pytest.fixture
def proxy() -> Proxy:
    return Proxy()


@pytest.fixture
def server(proxy: Proxy) -> Iterator[Server]:
    with serve(proxy) as running:
        yield running


def gateway(folder: Path, server: Server, *actions: dict[str, Any]) -> Gateway:
    gateways = {"proxy": {"litellm": f"http://{server.address}/", "key": "sk-admin"}}
    config = {"gateways": gateways, "actions": list(actions) or [{"budgets": ["teams*"], "block": "team", "at": ["proxy"]}]}  # fmt: skip
    return Gateway(GatewayConfig.model_validate(config), Context("gateway", folder, CollectorRegistry()))


def used_up(id_: str = "1", budget: str = "teams", ends: int | None = HOUR, **subject: str) -> Finding:
    """A budget that was used up just now. `ends`: ns from now."""
    named = tuple(sorted({"budget": budget, "threshold": "100%", **(subject or {"team": "search"})}.items()))
    ends_ns = None if ends is None else time.time_ns() + ends
    return replace(finding(), id=id_, kind="budget.hard", subject=named, transitions=(OPENED,), ends_ns=ends_ns)


def over(of: Finding) -> Finding:
    return replace(of, state=State.RESOLVED, resolution=Resolution.RECOVERED, transitions=(RESOLVED,))


def steps(exporter: Gateway, *findings: Finding) -> list[Payload]:
    return list(exporter.encode(replace(span_batch(b""), received_ns=time.time_ns(), findings=findings)))


def act(exporter: Gateway, *findings: Finding) -> None:
    """Take the steps that are due."""
    for payload in steps(exporter, *findings):
        if exporter.choose([payload])[0]:
            exporter.send(payload)


def lines(exporter: Gateway) -> list[tuple[str, str]]:
    return [(one["action"], one["state"]) for one in map(json.loads, exporter.journal.path.read_text().splitlines())]


# Whom, and when ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "made"),
    [
        (used_up(), ["block", "release"]),
        (used_up(ends=None), ["block"]),
        (over(used_up()), ["release"]),
        (replace(used_up(), transitions=(OPENED, RESOLVED)), []),
        (used_up(ends=-1), []),  # a late call: the window is over
        (used_up(budget="other"), []),
        (used_up(team="search", model="gpt-4o"), []),  # says nothing of the team's other models
        (used_up(team="(unattributed)"), []),
        (used_up(team=""), []),
        (used_up(user="jane"), []),
        (replace(used_up(), kind="budget.soft"), []),
        (replace(used_up(), transitions=()), []),
    ],
)
def test_only_who_used_up_a_named_budget_is_blocked(
    tmp_path: Path, server: Server, found: Finding, made: list[str]
) -> None:
    exporter = gateway(tmp_path, server)
    found_steps = steps(exporter, found)
    assert [json.loads(step.body)["action"] for step in found_steps] == made
    assert found_steps == steps(exporter, found)


def test_a_release_waits_for_the_end_of_the_window_and_nothing_waits_for_it(tmp_path: Path, server: Server) -> None:
    exporter = gateway(tmp_path, server)
    block, release = steps(exporter, used_up())
    assert exporter.choose([release, block]) == ((1,), 0.0)
    numbers, wait = exporter.choose([release])
    assert numbers == ()
    assert 3590 < wait <= 3600


# What is done ------------------------------------------------------------------------------------------------------------


def test_a_team_is_blocked_once_and_let_go_when_the_limit_is_raised(
    tmp_path: Path, proxy: Proxy, server: Server
) -> None:
    exporter, found = gateway(tmp_path, server), used_up()
    block, release = steps(exporter, found)
    exporter.send(block)
    assert proxy.teams["t-1"] == ("search", True)
    exporter.send(block)  # after a crash that forgot that it was sent
    act(exporter, over(found))
    assert proxy.teams["t-1"] == ("search", False)
    exporter.send(release)  # the window's end comes later
    exporter.send(block)  # a dead letter, replayed too late
    assert proxy.steps == [("/team/block", "t-1"), ("/team/unblock", "t-1")]
    assert lines(exporter) == [("block", "begun"), ("block", "done"), ("release", "begun"), ("release", "done")]
    assert oct(exporter.journal.path.stat().st_mode)[-3:] == "600"


def test_keys_are_blocked_by_alias_or_hash(tmp_path: Path, proxy: Proxy, server: Server) -> None:
    exporter = gateway(tmp_path, server, {"budgets": ["keys"], "block": "api_key", "at": ["proxy"]})
    for name in ("batch", HASH):
        found = used_up(name, "keys", api_key=name)
        act(exporter, found)
        assert proxy.keys[HASH][1]
        act(exporter, over(found))
        assert not proxy.keys[HASH][1]
    assert Counter(path for path, _ in proxy.steps) == {"/key/block": 2, "/key/unblock": 2}


def test_who_two_budgets_hold_is_let_go_by_the_second(tmp_path: Path, proxy: Proxy, server: Server) -> None:
    exporter, one, two = gateway(tmp_path, server), used_up("1"), used_up("2", "teams-daily")
    act(exporter, one)
    act(exporter, two)
    exporter = gateway(tmp_path, server)  # a restart
    act(exporter, over(one))
    assert proxy.teams["t-1"][1]
    act(exporter, over(two))
    assert proxy.steps == [("/team/block", "t-1"), ("/team/unblock", "t-1")]


def test_what_somebody_else_blocked_stays_blocked(tmp_path: Path, proxy: Proxy, server: Server) -> None:
    exporter, found = gateway(tmp_path, server), used_up(team="ads")
    act(exporter, found, over(found))
    assert (proxy.steps, proxy.teams["t-2"]) == ([], ("ads", True))
    assert "before" in exporter.journal.path.read_text()


def test_a_key_that_is_there_no_more_is_a_dead_letter_and_holds_up_nobody(
    tmp_path: Path, proxy: Proxy, server: Server
) -> None:
    exporter = gateway(tmp_path, server, {"budgets": ["keys"], "block": "api_key", "at": ["proxy"]})
    with pytest.raises(Permanent, match="no such api key"):
        act(exporter, used_up(budget="keys", api_key="7" * 64))
    proxy.before = lambda: proxy.keys.clear()  # deleted while it is looked at
    with pytest.raises(Permanent, match="has it no more"):
        act(exporter, used_up(budget="keys", api_key="batch"))
    assert proxy.steps == []
    wrong = replace(server, address=f"{server.address}/elsewhere")
    with pytest.raises(Retryable, match="answered 404"):  # not LiteLLM's address: somebody mends the config
        act(gateway(tmp_path, wrong), used_up())


@pytest.mark.parametrize("name", ["nobody", "twice"])
def test_who_cannot_be_told_there_is_not_guessed_at(tmp_path: Path, proxy: Proxy, server: Server, name: str) -> None:
    exporter = gateway(tmp_path, server)
    with pytest.raises(Permanent, match="such team") as refused:
        act(exporter, used_up(team=name))
    assert name not in str(refused.value)
    assert proxy.steps == []
    act(exporter, over(used_up(team=name)))  # nothing holds it: nothing is asked
    assert proxy.steps == []


def test_a_block_that_could_not_be_made_in_time_is_not_made(tmp_path: Path, proxy: Proxy, server: Server) -> None:
    exporter, found = gateway(tmp_path, server), used_up(ends=300 * 10**6)
    proxy.down = True
    block, release = steps(exporter, found)
    with pytest.raises(Retryable, match="answered 503"):
        exporter.send(block)
    proxy.down = False
    time.sleep(0.31)
    exporter.send(block)
    exporter.send(release)
    assert proxy.steps == []
    assert lines(exporter)[0] == ("block", "passed over")


def test_a_crash_within_a_step_is_no_block_of_somebody_else(tmp_path: Path, proxy: Proxy, server: Server) -> None:
    """Scenario: the proxy blocks, its answer gets lost, the collector is killed while it writes a line."""
    exporter, found = gateway(tmp_path, server), used_up()
    proxy.lost = True
    with pytest.raises(Retryable, match="502"):
        act(exporter, found)
    proxy.lost = False
    with exporter.journal.path.open("ab") as file:
        file.write(b'{"at": "2026')
    exporter = gateway(tmp_path, server)
    act(exporter, found)
    act(exporter, over(found))
    assert proxy.teams["t-1"] == ("search", False)
    assert lines(exporter)[-1] == ("release", "done")


def test_a_wrong_key_is_tried_again_and_a_gateway_that_is_gone_is_a_dead_letter(tmp_path: Path, server: Server) -> None:
    config = {"gateways": {"proxy": {"litellm": f"http://{server.address}", "key": "sk-wrong"}}, "actions": [{"budgets": ["*"], "block": "team", "at": ["proxy"]}]}  # fmt: skip
    exporter = Gateway(GatewayConfig.model_validate(config), Context("gateway", tmp_path, CollectorRegistry()))
    with pytest.raises(Retryable, match="gateway proxy: the gateway answered 401"):
        act(exporter, used_up())
    exporter._at.clear()
    with pytest.raises(Permanent, match="no gateway 'proxy' any more"):
        act(exporter, used_up())
    closed = gateway(tmp_path / "other", replace(server, address="127.0.0.1:1"))
    (tmp_path / "other").mkdir()
    with pytest.raises(Retryable, match="does not answer"):
        act(closed, used_up())


def test_a_webhook_is_told_and_can_check_who_says_so(tmp_path: Path) -> None:
    with serve(lambda request: (204, {}, b"")) as server:
        config = {
            "gateways": {"ours": {"webhook": f"http://{server.address}/blocks", "secret": "k" * 24}},
            "actions": [{"budgets": ["teams"], "block": "team", "at": ["ours"]}],
        }
        exporter, found = Gateway(GatewayConfig.model_validate(config), Context("gateway", tmp_path, CollectorRegistry())), used_up()  # fmt: skip
        act(exporter, found, over(found))
        block, release = server.requests
    body = json.loads(block.body)
    assert (body["action"], body["what"], body["name"], body["budget"]) == ("block", "team", "search", "teams")
    assert body["until"].startswith("20")
    assert json.loads(release.body)["action"] == "release"
    assert (block.headers["webhook-id"], release.headers["webhook-id"]) == ("1/block/ours", "1/release/ours")
    signed = f"1/block/ours.{block.headers['webhook-timestamp']}.".encode() + block.body
    expected = base64.b64encode(hmac.new(b"k" * 24, signed, hashlib.sha256).digest()).decode()
    assert block.headers["webhook-signature"] == f"v1,{expected}"


@pytest.mark.parametrize("kill", [0, 1, 2, 3])
def test_each_step_is_taken_once_through_the_queue_whatever_ends(
    tmp_path: Path, proxy: Proxy, server: Server, kill: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scenario: blocks and their ends lie in the queue; the collector ends at each write of the journal in turn, and after the
    gateway was away."""
    metrics, found = ExporterMetrics(CollectorRegistry()), used_up()
    store = StateStore(tmp_path / "state", SEALER)
    (tmp_path / "data").mkdir()
    exporter = gateway(tmp_path / "data", server)
    with store.transaction() as writing:
        for payload in steps(exporter, found):
            writing.outbox_put("gateway", payload)
    proxy.down, writes = True, [0]
    write = Journal.write

    def dying(self: Any, *args: Any, **more: Any) -> None:
        if writes[0] == kill:
            writes[0] += 1
            raise OSError(5, "the process ends here")
        writes[0] += 1
        write(self, *args, **more)

    monkeypatch.setattr(Journal, "write", dying)
    now = [time.time_ns()]
    monkeypatch.setattr(module, "time", SimpleNamespace(time_ns=lambda: now[0]))
    for left in (2, 1, 0):  # steps in the queue at the end of each process
        exporter = gateway(tmp_path / "data", server)
        outlet = Outlet("gateway", exporter, store.outbox("gateway"), 2**20)
        delivery = Delivery(outlet, RetryConfig(initial_interval=0.02, max_interval=0.05), metrics)
        delivery.start()
        until = time.monotonic() + 10
        while store.outbox("gateway").count != left or (left == 2 and delivery.failed is None):
            assert time.monotonic() < until
            time.sleep(0.005)
        delivery.stop(time.monotonic())
        exporter.close()
        proxy.down = False
        now[0] += HOUR if left == 1 else 0
    store.close()
    assert proxy.teams["t-1"] == ("search", False)
    # What the journal could not note is asked for again: blocking twice is blocking.
    assert [path for path, _ in dict.fromkeys(proxy.steps)] == ["/team/block", "/team/unblock"]
    assert len(proxy.steps) <= 3


@pytest.mark.parametrize(
    ("gateways", "action", "said"),
    [
        ({"a": {"litellm": "litellm:4000", "key": "k"}}, {}, "not a URL"),
        ({"a": {"litellm": "http://x"}}, {}, "litellm needs it"),
        ({"a": {"webhook": "http://x", "key": "k"}}, {}, "key goes with litellm"),
        ({"a": {"webhook": "http://x", "secret": "short"}}, {}, "16 bytes"),
        ({"a": {}}, {}, "name one of them"),
        ({"a": {"webhook": "http://x"}}, {"at": ["b"]}, "no gateway 'b'; there are a"),
        ({"a": {"webhook": "http://x"}}, {"budgets": []}, "at least 1"),
        ({"a": {"webhook": "http://x"}}, {"block": "model"}, "'team' or 'api_key'"),
    ],
)
def test_mistakes_are_named(gateways: Any, action: Any, said: str) -> None:
    whole = {"budgets": ["teams"], "block": "team", "at": ["a"], **action}
    with pytest.raises(ValidationError, match=said):
        GatewayConfig.model_validate({"gateways": gateways, "actions": [whole]})
