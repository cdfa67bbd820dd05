"""Routing: the policy's shape, verdicts and their money, rules, and what is noticed, through decoding, ledger and pricing."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from collector.columns import PICO_PER_USD
from collector.component import Context, Processor
from collector.findings import Finding, Observation, Severity
from config.errors import ConfigError
from config.loader import load_part, loads
from processors.routing import Policy, PolicyConfig, Routing, RoutingConfig
from processors.routing import attempts as attempts_module
from processors.routing import files as policy_files
from processors.routing.attempts import Attempts
from processors.routing.names import same_model
from processors.routing.policy import OK, UNKNOWN
from tests import ledger_rows
from tests.bill import CAPTURES, Pipeline, pipeline, requests
from tests.findings_kit import new_book
from tests.ledger_kit import Memory
from tests.spans_kit import NOON_NS, request, span

#: The article's, unchanged.
ARTICLE = """
routes:
  - match: {task_type: summarization, input_tokens_lt: 1000}
    route_to: claude-3-haiku
  - match: {task_type: general_chat, user_priority: low}
    route_to: gpt-3.5-turbo
  - match: {task_type: general_chat, user_priority: high, input_tokens_gt: 2000}
    route_to: gpt-4
"""


#: What tells LiteLLM's call.
LITELLM = {"litellm.call_id": "c", "llm.request.type": "acompletion"}


def policy_of(tmp_path: Path, text: str) -> PolicyConfig:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    return load_part(path, PolicyConfig)


@contextmanager
def routed(config: RoutingConfig) -> Iterator[Pipeline]:
    """A pipeline from bytes to observations, over its real state."""

    def more() -> Sequence[Processor[Any]]:
        return [Routing(config, Context("routing", Path(), CollectorRegistry()))]

    with pipeline(more=more) as running:
        yield running


def chat(id_: str, model: str = "gpt-4", tokens: tuple[int, int] = (1000, 100), **more: Any) -> Any:
    """One call, as OpenTelemetry's conventions have it."""
    spans = {name: more.pop(name) for name in ("status", "parent", "trace", "start_ns", "duration_ns") if name in more}
    attributes = {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": model, "gen_ai.response.id": id_,
        "gen_ai.usage.input_tokens": tokens[0], "gen_ai.usage.output_tokens": tokens[1],
    }  # fmt: skip
    return span("chat", attributes | {k.replace("__", "."): v for k, v in more.items()}, kind="client", **spans)


def body(*spans: Any, team: str = "search", app: str = "helpdesk") -> bytes:
    return request(resource={"service.name": app, "team": team}, scope="app", spans=spans)


def usd(pico: int) -> Decimal:
    return Decimal(pico) / PICO_PER_USD


def test_the_articles_policy_flags_a_premium_model_for_low_priority_chat_and_prices_the_waste(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, ARTICLE)
    with routed(RoutingConfig(routes=policy.routes)) as running:
        batch = running.take([body(
            chat("waste", task_type="general_chat", user_priority="low"),
            chat("right", "gpt-3.5-turbo-0125", task_type="general_chat", user_priority="low"),
            chat("wanted", tokens=(3000, 10), task_type="general_chat", user_priority="high"),
            chat("short", tokens=(2000, 10), task_type="general_chat", user_priority="high"),
            chat("thrifty", "gpt-4o-mini", task_type="summarization", tokens=(999, 1)),
            chat("plain"),
        )])  # fmt: skip
        rows = {row["response_id"]: row for row in running.rows.values()}
    # gpt-4: 30 and 60 USD a million, gpt-3.5-turbo: 0.50 and 1.50.
    waste = rows["waste"]
    assert (waste["route"], waste["expected_model"], waste["route_verdict"]) == (
        "2",
        "gpt-3.5-turbo",
        "premium_instead",
    )
    assert usd(waste["cost_pico"]) == Decimal("0.036")
    assert usd(waste["expected_cost_pico"]) == Decimal("0.00065")
    assert usd(waste["avoidable_cost_pico"]) == Decimal("0.03535")
    assert {id_: row["route_verdict"] for id_, row in rows.items()} == {
        "waste": "premium_instead", "right": "ok", "wanted": "ok", "short": "unknown_route", "thrifty": "cheaper_instead",
        "plain": "unknown_route",
    }  # fmt: skip
    assert rows["right"]["avoidable_cost_pico"] == 0
    assert (
        rows["thrifty"]["avoidable_cost_pico"]
        == 0
        < rows["thrifty"]["expected_cost_pico"] - rows["thrifty"]["cost_pico"]
    )
    assert rows["plain"]["avoidable_cost_pico"] is None
    # On the spans too, the money once.
    spans = batch.spans.filter(batch.spans["route_verdict"] == "premium_instead")
    assert spans["avoidable_cost_pico"].to_list() == [waste["avoidable_cost_pico"]]
    (seen,) = batch.observed
    assert seen.kind == "routing.premium_instead"
    assert dict(seen.subject) == {"team": "search", "app": "helpdesk", "route": "2"}
    assert seen.cost_pico == waste["avoidable_cost_pico"]
    assert (seen.measured, seen.expected, seen.unit) == (0.036, 0.00065, "USD")
    assert "gpt-3.5-turbo" in seen.message
    assert seen.quiet_ns == 3600 * 10**9
    assert seen.evidence[0].span_id == waste["span_id"]


@pytest.mark.parametrize(
    ("attributes", "resource"),
    [
        ({"task_type": "a", "user_priority": "b"}, {}),
        ({"metadata.task_type": "a", "metadata.user_priority": "b"}, {}),
        ({"gen_ai.task_type": "a", "gen_ai.user_priority": "b"}, {}),
        ({"metadata": '{"task_type": "a", "user_priority": "b"}'}, {}),
        ({"metadata": '{"task\\u005ftype": "a", "user_priority": "b"}'}, {}),
        ({"traceloop.association.properties.task_type": "a", "traceloop.association.properties.user_priority": "b"}, {}),
        (LITELLM | {"metadata.requester_metadata": "{'task_type': 'a', 'user_priority': 'b'}"}, {}),
        (LITELLM | {"metadata.requester_metadata": "{'task_type': 'a', 'user_priority': 'z'}",
                    "metadata.user_api_key_auth_metadata": "{'user_priority': 'b'}"}, {}),
        ({}, {"task_type": "a", "user_priority": "b"}),
    ],
)  # fmt: skip
def test_where_task_type_and_priority_are_said(attributes: dict[str, str], resource: dict[str, str]) -> None:
    """In an attribute, in LiteLLM's request metadata or what an administrator attached to the key, on the resource."""
    with routed(RoutingConfig()) as running:
        scope = "litellm" if "litellm.call_id" in attributes else "app"
        batch = running.take([request(resource=resource, scope=scope, spans=[chat("x", **attributes)])])
        (row,) = running.rows.values()
    assert (row["task_type"], row["user_priority"]) == ("a", "b")
    assert batch.spans["task_type"].to_list() == ["a"]


def test_a_better_version_of_a_call_moves_the_money_by_the_difference() -> None:
    config = RoutingConfig.model_validate({"routes": [{"route_to": "gpt-3.5-turbo"}]})
    outer = span("app", kind="server")
    first = chat("a", tokens=(1000, 0), parent=outer)
    again = chat("a", tokens=(1000, 100), parent=outer)
    again.span_id = first.span_id
    with routed(config) as running:
        one = running.take([body(first)])
        running.restart()
        two = running.take([body(again)])
        (row,) = running.rows.values()
        assert one.observed[0].cost_pico + two.observed[0].cost_pico == row["avoidable_cost_pico"]
        assert not running.take([body(again)]).observed


@pytest.mark.parametrize(
    ("match", "holds"),
    [
        ({"team": "SEARCH"}, True),
        ({"team": ["growth", "se*"]}, True),
        ({"team": "sea"}, False),
        ({"app": "helpdesk", "provider": "openai", "operation": "chat"}, True),
        ({"model": "gpt-4"}, True),
        ({"environment": ""}, True),  # has none
        ({"environment": "*"}, True),
        ({"environment": "prod"}, False),
        ({"tags": ["x", "batch-*"]}, True),
        ({"input_tokens_lt": 1000}, False),
        ({"input_tokens_lte": 1000, "input_tokens_gte": 1000}, True),
        ({"output_tokens_gt": 99, "output_tokens_lt": 101}, True),
        ({"cache_read_tokens_gte": 0}, False),  # not known
        ({}, True),
    ],
)
def test_matching(match: dict[str, Any], holds: bool) -> None:
    policy = Policy(PolicyConfig.model_validate({"routes": [{"match": match, "route_to": "gpt-4"}]}))
    calls = ledger_rows.calls([
        ledger_rows.call("a", team="search", app="helpdesk", operation="chat", tags=["batch-1"], input_tokens=1000, output_tokens=100, request_model="gpt-4"),
        ledger_rows.call("b", team=None, app=None, operation="other", tags=None, request_model=None),
    ])  # fmt: skip
    assert policy.judge(calls, None).verdict[0] == (OK if holds else UNKNOWN)


@pytest.mark.parametrize(
    ("expected", "served", "same"),
    [
        ("claude-3-haiku", "claude-3-haiku-20240307", True),
        ("claude-3-haiku", "eu.anthropic.claude-3-haiku-20240307-v1:0", True),
        ("claude-3-haiku", "anthropic/claude-3-haiku@20240307", True),
        ("gpt-4", "gpt-4-0613", True),
        ("gpt-4", "openai/gpt-4", True),
        ("gpt-4", "gpt-4o", False),
        ("gpt-4", "gpt-4-turbo-2024-04-09", False),
        ("gpt-4", "gpt-4-1106-preview", False),
        ("gpt-3.5-turbo", "gpt-3.5-turbo-16k", False),
        ("gpt-4o-2024-08-06", "gpt-4o-2024-11-20", False),
        ("gpt-4o-2024-08-06", "gpt-4o-2024-08-06", True),
    ],
)
def test_one_model_in_many_spellings(expected: str, served: str, same: bool) -> None:
    assert same_model(expected, served) is same


def test_an_alias_of_the_gateway_is_what_it_stands_for() -> None:
    config = RoutingConfig.model_validate(
        {"routes": [{"name": "all", "route_to": "fast"}], "aliases": {"fast": "gpt-4o-mini"}}
    )
    with routed(config) as running:
        for number, at in enumerate(requests(CAPTURES / "litellm-v1")):
            running.take([at])
            assert number < 20
        rows = list(running.rows.values())
    served = {row["upstream_model"]: row["route_verdict"] for row in rows if row["status"] != "Error"}
    assert served["gpt-4o-mini"] == "ok"
    assert served["gpt-4o"] == "premium_instead"


RULES = """
rules:
  - match: {team: search}
    allow_models: [gpt-4o-mini, "claude-*-haiku"]
    require_max_tokens: true
  - deny_models: [gpt-3.5-turbo]
  - deny_providers: [deepseek]
    deny_regions: ["us-*"]
"""


def kinds(observed: Sequence[Observation]) -> list[tuple[str, dict[str, str]]]:
    return sorted(((one.kind, dict(one.subject)) for one in observed), key=str)


def test_rules_about_models_limits_providers_and_regions(tmp_path: Path) -> None:
    policy_of(tmp_path, RULES)
    config = RoutingConfig(policy_file=tmp_path / "policy.yaml")
    limit = {"gen_ai__request__max_tokens": 10}
    with routed(config) as running:
        good = running.take([body(chat("1", "gpt-4o-mini", **limit), chat("2", "claude-3-haiku-20240307", **limit))])
        assert good.observed == ()
        bad = running.take([
            body(chat("3", "gpt-4o", **limit), chat("4", "gpt-4o-mini")),
            body(chat("5", "gpt-3.5-turbo"), chat("6", "gpt-4o", status="error", tokens=(0, 0)), team="growth"),
            body(chat("7", "deepseek-chat", gen_ai__provider__name="deepseek"), team="growth"),
            body(chat("8", server__address="bedrock-runtime.us-east-1.amazonaws.com"), team="growth"),
            body(chat("9", server__address="bedrock-runtime.eu-west-1.amazonaws.com"), team="growth"),
        ])  # fmt: skip
    assert kinds(bad.observed) == [
        ("routing.model_not_allowed", {"team": "growth", "model": "gpt-3.5-turbo"}),
        ("routing.model_not_allowed", {"team": "search", "model": "gpt-4o"}),
        ("routing.no_max_tokens", {"team": "search", "app": "helpdesk", "model": "gpt-4o-mini"}),
        ("routing.provider_banned", {"team": "growth", "provider": "deepseek"}),
        ("routing.region_banned", {"team": "growth", "region": "us-east-1"}),
    ]
    assert {one.severity for one in bad.observed if "banned" in one.kind} == {Severity.CRITICAL}


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("routes:\n  - match: {task_typ: x}\n    route_to: gpt-4\n", 2, "task_type"),
        ("routes:\n  - match: {team: x}\n", 2, "route_to"),
        ("routes:\n  - route_to: gpt-4\n    match:\n      input_tokens_lt: many\n", 4, "many"),
        ("routes:\n  - {route_to: gpt-4, name: a}\n  - {route_to: gpt-4o, name: a}\n", 1, "'a'"),
        ("routes:\n  - route_to: 'gpt-*'\n", 2, "priced"),
        ("routes: [", 1, "not valid YAML"),
        ("- a", 1, "expected a mapping"),
        ("tiers:\n  - {tier: 0, models: x}\n", 2, "1"),
    ],
)
def test_what_is_wrong_with_a_policy_is_said_where_it_stands(tmp_path: Path, text: str, line: int, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        policy_of(tmp_path, text)
    assert says in str(caught.value)
    assert caught.value.findings[0].line == line


def test_a_policy_file_stands_alone_and_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="policy_file"):
        RoutingConfig.model_validate({"policy_file": str(tmp_path / "x"), "routes": [{"route_to": "gpt-4"}]})
    with pytest.raises(ValueError, match="none: cannot be read"):
        RoutingConfig(policy_file=tmp_path / "none")
    (tmp_path / "wrong").write_text("routes:\n  - {rout_to: gpt-4}\n")
    with pytest.raises(ValueError, match=r"wrong:2:6: .*did you mean 'route_to'"):
        RoutingConfig(policy_file=tmp_path / "wrong")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_part(tmp_path / "bytes", PolicyConfig)


def test_a_changed_file_takes_effect_and_a_broken_one_does_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(ARTICLE)
    source = policy_files.PolicySource(RoutingConfig(policy_file=path), check_every=0)
    before = source.policy()
    assert source.policy() is before
    for text, routes in (("routes:\n  - route_to: gpt-4\n", 1), ("routes: [", 1), (ARTICLE + "\n", 3)):
        with caplog.at_level(logging.INFO):
            path.write_text(text)
            os.utime(path, ns=(routes, len(text)))
            assert len(source.policy().names) == routes
    assert "stays in force" in caplog.text
    path.unlink()
    assert len(source.policy().names) == 3


def test_without_prices_nothing_is_compared_and_the_log_says_why(caplog: pytest.LogCaptureFixture) -> None:
    routing = Routing(RoutingConfig.model_validate({"routes": [{"route_to": "gpt-3.5-turbo"}]}), Context("routing", Path(), CollectorRegistry()))  # fmt: skip
    with pipeline() as plain:
        batch = plain.take([body(chat("a"))])
    assert routing.process(batch.with_(quote=None)).calls["route_verdict"].to_list() == ["other_model"]
    assert "put `pricing` before it" in caplog.text


def test_the_config_takes_the_articles_shape_inline() -> None:
    text = "\n".join(f"    {line}" for line in ARTICLE.strip().splitlines())
    loaded = loads(
        "receivers: {otlp: {protocols: {http: }}}\nprocessors:\n  attribution:\n  pricing:\n  routing:\n" + text + "\n"
        "exporters: {nop: }\nservice:\n  pipelines:\n    traces: {receivers: [otlp], processors: [attribution, pricing, routing], exporters: [nop]}\n",
        "config.yaml", {},
    )  # fmt: skip
    config = loaded.processors["routing"].config
    assert isinstance(config, RoutingConfig)
    assert [route.route_to[0] for route in config.routes] == ["claude-3-haiku", "gpt-3.5-turbo", "gpt-4"]


def test_quality_tiers_are_data_and_yours_come_first() -> None:
    policy = Policy(PolicyConfig.model_validate({"tiers": [{"tier": 1, "models": ["my-llama*"]}]}))
    tiers = {name: policy.tier(name) for name in ("gpt-4", "gpt-4o", "gpt-4o-mini", "my-llama-8b", "eu.anthropic.claude-3-opus-20240229-v1:0", "fast", "")}  # fmt: skip
    assert tiers == {"gpt-4": 1, "gpt-4o": 2, "gpt-4o-mini": 3, "my-llama-8b": 1, "eu.anthropic.claude-3-opus-20240229-v1:0": 1, "fast": None, "": None}  # fmt: skip


# Fallbacks and guardrails ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capture", ["litellm-v1", "litellm-v2"])
def test_the_captures_fallbacks_guardrail_block_and_wrong_model_are_told_apart(capture: str) -> None:
    with routed(RoutingConfig()) as running:
        observed: list[Observation] = []
        for one in requests(CAPTURES / capture):
            observed += running.take([one]).observed
            running.restart()
        rows = list(running.rows.values())
    fallbacks = [one for one in observed if one.kind == "routing.fallback"]
    broken = [row for row in rows if row["request_model"] == "premium-broken"]
    assert len(fallbacks) == len(broken) == 4
    for one in fallbacks:
        subject = dict(one.subject)
        assert (subject["model"], subject["served"]) == ("premium-broken", "gpt-4o-mini")
        assert subject["team"] in ("Support", "Search")
        assert "InternalServerError" in one.message
        assert (one.expected, one.measured, one.severity) == (1.0, 3.0, Severity.WARNING)
    assert {one.evidence[0].span_id for one in fallbacks} == {row["span_id"] for row in broken}
    if capture == "litellm-v2":
        return  # what the proxy refuses before it calls a model has no call's span, and no span says why
    (blocked,) = [one for one in observed if one.kind == "guardrail.blocked"]
    assert dict(blocked.subject) == {"guardrail": "blocklist", "app": "rag-bot"}
    (nope,) = [row for row in rows if row["request_model"] == "nope"]
    assert (nope["error_type"], nope["refused_by"]) == ("ProxyModelNotFoundError", None)
    (by,) = [row for row in rows if row["refused_by"]]
    assert (by["refused_by"], by["error_type"]) == ("blocklist", "HTTPException")
    assert {row["deployment"] is None for row in rows if row["status"] != "Error"} == {False}


def test_a_fallback_behind_an_instrumented_app_is_found() -> None:
    """The app's call spans both attempts of the gateway and is one with the second: it begins before the one that failed."""
    with routed(RoutingConfig()) as running:
        observed = [one for part in requests(CAPTURES / "chain-app-litellm") for one in running.take([part]).observed]
    assert [(one.kind, dict(one.subject)["model"], dict(one.subject)["served"]) for one in observed] == [
        ("routing.fallback", "premium", "claude-haiku-4-5")
    ]


def attempts() -> tuple[Any, Any, Any]:
    above = span("request", kind="server")
    failed = chat("", "gpt-4", (0, 0), parent=above, status="error", error__type="rate_limit", duration_ns=10**9)
    answered = chat("b", "gpt-4o-mini", parent=above, start_ns=NOON_NS + 2 * 10**9)
    return above, failed, answered


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
@pytest.mark.parametrize("together", [True, False])
def test_a_fallback_is_found_whatever_comes_first(order: tuple[int, ...], together: bool) -> None:
    spans = attempts()
    bodies = [body(spans[number]) for number in order]
    with routed(RoutingConfig()) as running:
        seen: list[Observation] = []
        for part in [bodies] if together else [[one] for one in bodies]:
            seen += running.take(part).observed
            running.restart()
        seen += running.take(bodies).observed  # again, as after a lost answer
    assert kinds(seen) == [("routing.fallback", {"model": "gpt-4", "served": "gpt-4o-mini", "team": "search"})]
    assert seen[0].at_ns == NOON_NS


def test_what_is_noticed_does_not_depend_on_batches_or_restarts() -> None:
    """Thirty requests of one to three attempts each, some premium, some failing: cut in any way they show the same."""
    random = Random(5)
    bodies = []
    for number in range(30):
        above = span("request", kind="server")
        for place in range(random.randint(1, 3)):
            error = {"status": "error", "tokens": (0, 0), "error__type": "timeout"} if random.random() < 0.4 else {}
            model = random.choice(["gpt-4", "gpt-4o-mini", "gpt-3.5-turbo"])
            at = NOON_NS + number * 10**9 + place * 10**8
            bodies.append(body(chat(f"{number}-{place}", model, parent=above, start_ns=at, duration_ns=10**7, **error), team=random.choice("ab")))  # fmt: skip
    config = RoutingConfig.model_validate(
        {"routes": [{"route_to": "gpt-3.5-turbo"}], "rules": [{"deny_models": ["gpt-4"]}]}
    )
    seen: list[dict[str, Finding]] = []
    for size in (len(bodies), 1, 7):
        with routed(config) as running:
            found: list[Observation] = []
            book = new_book()
            findings: dict[str, Finding] = {}
            for start in range(0, len(bodies), size):
                observed = running.take(bodies[start : start + size]).observed
                findings |= {one.id: replace(one, transitions=()) for one in book.take(observed, 0)}
                found += observed
                running.restart()
        assert (max(one.count for one in found) > 1) == (size > 1), "calls of a batch are told of together"
        seen.append(findings)
    assert seen[0] == seen[1] == seen[2]
    assert {one.kind for one in found} == {"routing.fallback", "routing.premium_instead", "routing.model_not_allowed"}


def test_retries_later_calls_and_other_requests_are_no_fallbacks() -> None:
    above, failed, _ = attempts()
    late = chat("c", "gpt-4o-mini", parent=above, start_ns=NOON_NS + 200 * 10**9)
    earlier = chat("d", "gpt-4o-mini", parent=above, start_ns=NOON_NS - 10**9)
    retry = chat("e", "gpt-4", parent=above, start_ns=NOON_NS + 2 * 10**9)
    next_ = chat("g", "gpt-4o-mini", parent=above, start_ns=NOON_NS + 4 * 10**9)
    other = chat("f", "gpt-4o-mini", parent=span("request", trace=above), start_ns=NOON_NS + 2 * 10**9)
    with routed(RoutingConfig()) as running:
        assert not running.take([body(above, failed, late, earlier, retry, next_, other)]).observed


def test_a_rolled_back_batch_is_forgotten() -> None:
    _, failed, answered = attempts()
    routing = Routing(RoutingConfig(), Context("routing", Path(), CollectorRegistry()))
    with pipeline() as plain:
        first, second = plain.take([body(failed)]), plain.take([body(answered)])
    routing.process(first)
    assert len(routing.process(second).observed) == 1
    routing.rollback()
    assert len(routing.process(second).observed) == 1
    routing.rollback()
    routing.process(first.with_(calls=first.calls.clear()))
    routing.rollback()
    assert len(routing.process(second).observed) == 1


@pytest.mark.parametrize("bounded", [False, True])
def test_what_nothing_can_come_to_any_more_is_forgotten(bounded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the time that a fallback may take, or more than may be remembered: memory and state are free again."""
    state, seen = Memory(), Attempts(10 * 10**9)

    def take(number: int, status: str, at_s: int) -> int:
        row = ledger_rows.call(
            str(number), status=status, parent_span_id=f"{number:016x}", start_ns=NOON_NS + at_s * 10**9
        )
        found = len(seen.take(ledger_rows.calls([row])))
        seen.save(state)
        return found

    take(1, "Error", 0)
    take(2, "Ok", 0)
    assert len(state.values) == 3  # and the clock
    if bounded:
        monkeypatch.setattr(attempts_module, "MOST", 1)
        monkeypatch.setattr(attempts_module, "MOST_FAILED", 0)
    take(3, "Ok", 1 if bounded else 100)
    kinds = sorted(key[:1] for key in state.values)
    assert kinds == [b"a", b"h"]
    again = Attempts(10 * 10**9)
    again.load(state)
    assert not again.take(ledger_rows.calls([ledger_rows.call("1", status="Ok", parent_span_id=f"{1:016x}", start_ns=NOON_NS)]))  # fmt: skip


def test_who_refused() -> None:
    with routed(RoutingConfig()) as running:
        batch = running.take([body(
            chat("a", gen_ai__response__finish_reasons=["content_filter"]), chat("b", gen_ai__response__finish_reasons=["stop"]),
            chat("c", error__type="ContentPolicyViolationError", status="error"), chat("d", error__type="timeout", status="error"),
        )])  # fmt: skip
        found = {row["response_id"]: row["refused_by"] for row in running.rows.values()}
        assert found == {"a": "model", "b": None, "c": "model", "d": None}
    assert batch.spans["refused_by"].drop_nulls().to_list() == ["model", "model"]
    assert not batch.observed
