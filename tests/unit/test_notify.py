"""The exporter `notify`: who is told of what, how it is said, when, and how it arrives at a real HTTP server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from collector.component import Context, Payload
from collector.errors import Permanent, Retryable
from collector.findings import Finding, Resolution, Severity, State, Transition
from exporters.notify import Notify, NotifyConfig, quiet
from exporters.notify.config import QuietHours
from tests.cli_kit import Server, run, serve
from tests.findings_kit import NOON_NS, S, finding
from tests.vendor_kit import span_batch

OPENED, RAISED, RESOLVED = Transition
HOOK = {"webhook": "http://127.0.0.1:1/hook"}
OPEN = finding(transitions=(OPENED,))
OVER = replace(
    OPEN, state=State.RESOLVED, resolution=Resolution.RECOVERED, resolved_ns=NOON_NS + 90 * S, transitions=(RESOLVED,), message="All is well."
)  # fmt: skip


def notify(**options: Any) -> Notify:
    options.setdefault("targets", {"hook": HOOK})
    return Notify(NotifyConfig.model_validate(options), Context("notify", Path(), CollectorRegistry()))


def encoded(exporter: Notify, *findings: Finding, received_s: float = 1000) -> list[Payload]:
    return list(exporter.encode(replace(span_batch(b""), received_ns=round(received_s * S), findings=findings)))


@pytest.fixture
def server() -> Iterator[Server]:
    with serve(lambda request: (200, {}, b"")) as running:
        yield running


# Who is told -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("routes", "found", "told"),
    [
        ([], OPEN, ["one", "two"]),
        ([], replace(OPEN, severity=Severity.INFO), []),
        ([], replace(OPEN, transitions=()), []),
        ([{"kinds": ["budget.*"], "to": ["one"]}], OPEN, ["one"]),
        ([{"kinds": ["routing.*"], "to": ["one"]}], OPEN, []),
        ([{"min_severity": "critical", "to": ["one"]}], OPEN, []),
        ([{"min_severity": "critical", "to": ["one"]}], replace(OPEN, severity=Severity.CRITICAL), ["one"]),
        ([{"teams": ["sea*"], "to": ["two"]}, {"to": ["two", "one"]}], OPEN, ["two", "one"]),
        ([{"teams": ["ads"], "to": ["one"]}], OPEN, []),
        ([{"teams": ["*"], "to": ["one"]}], replace(OPEN, subject=(("model", "gpt-4o"),)), []),
        ([{"transitions": ["resolved"], "to": ["one"]}], OPEN, []),
        ([{"transitions": ["resolved"], "to": ["one"]}], OVER, ["one"]),
        ([{"to": ["one"]}], replace(OVER, transitions=(OPENED, RESOLVED)), ["one", "one"]),
    ],
)
def test_each_transition_goes_to_each_target_of_a_fitting_route_once(
    routes: Any, found: Finding, told: list[str]
) -> None:
    exporter = notify(targets={"one": HOOK, "two": HOOK}, routes=routes)
    assert [payload.meta["target"] for payload in encoded(exporter, found)] == told


def test_the_same_batch_gives_the_same_payloads() -> None:
    assert encoded(notify(), OPEN, OVER) == encoded(notify(), OPEN, OVER)


# How it is said ----------------------------------------------------------------------------------------------------------


def test_a_webhook_gets_a_signed_cloud_event(server: Server) -> None:
    secret = "whsec_" + base64.b64encode(b"k" * 24).decode()
    exporter = notify(targets={"hook": {"webhook": f"http://{server.address}/hook", "secret": secret}})
    for payload in encoded(exporter, OPEN, OVER):
        exporter.send(payload)
    first, second = server.requests
    assert (first.method, first.path) == ("POST", "/hook")
    assert first.headers["content-type"].startswith("application/cloudevents+json")
    event = json.loads(first.body)
    assert (event["specversion"], event["type"], event["subject"]) == (
        "1.0",
        "spanledger.finding.opened",
        "budget.hard",
    )
    assert (event["id"], event["time"]) == ("ab" * 16 + "/opened", "2026-11-28T12:00:00.000000000Z")
    assert event["data"]["subject"] == {"model": "gpt-4o", "team": "search"}
    assert event["data"]["cost_usd"] == 20.5
    assert json.loads(second.body)["data"]["resolution"] == "recovered"
    signed = f"{first.headers['webhook-id']}.{first.headers['webhook-timestamp']}.".encode() + first.body
    expected = base64.b64encode(hmac.new(b"k" * 24, signed, hashlib.sha256).digest()).decode()
    assert first.headers["webhook-signature"] == f"v1,{expected}"
    assert first.headers["webhook-id"] == event["id"]


def test_a_service_gets_a_message_by_apprise(server: Server) -> None:
    exporter = notify(
        targets={"chat": {"url": f"json://{server.address}/chat"}},
        title="{team}: {kind}",
        body="{message} ({cost}) {{x}}{user}",
    )
    for payload in encoded(exporter, OPEN, OVER):
        exporter.send(payload)
    first, second = (json.loads(request.body) for request in server.requests)
    assert (first["title"], first["type"]) == ("search: budget.hard", "warning")
    assert first["message"] == "Team search spent 120.50 USD of 100. (20.50 USD) {x}"
    assert second["type"] == "success"


def test_the_default_message_says_what_whom_and_how_much() -> None:
    exporter = notify(targets={"chat": {"url": "json://127.0.0.1:1"}})
    (one,) = json.loads(encoded(exporter, OVER)[0].body)
    assert one["title"] == "warning: budget.hard resolved"
    assert one["text"].splitlines() == [
        "All is well.", "model=gpt-4o team=search; 20.50 USD at stake; 2026-11-28 12:00 UTC to 2026-11-28 12:01 UTC; recovered",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"body": "{nobody}"}, "nothing is known as {nobody}"),
        ({"body": "{message.__class__}"}, "nothing is known as"),
        ({"body": "{message!r}"}, "stands alone"),
        ({"title": "{kind:>99}"}, "stands alone"),
        ({"body": "{kind"}, "not a template"),
        ({"targets": {}}, "at least 1"),
        ({"targets": {"x": {}}}, "a url or a webhook"),
        ({"targets": {"x": {"url": "json://a", "webhook": "http://a"}}}, "a url or a webhook"),
        ({"targets": {"x": {"webhook": "ftp://a"}}}, "not a URL"),
        ({"targets": {"x": {"webhook": "http://a:xy"}}}, "not a URL"),
        ({"targets": {"x": {"webhook": "http://a", "secret": "short"}}}, "too short"),
        ({"targets": {"x": {"webhook": "http://a", "secret": "whsec_%%%%"}}}, "not base64"),
        ({"targets": {"x": {"url": "json://a", "secret": "x" * 20}}}, "has its own"),
        ({"targets": {"x": {"url": "somewhere"}}}, "begins with the service"),
        ({"targets": {"x": {"url": "nosuchservice://s3cr3t"}}}, "Apprise cannot read it"),
        ({"routes": [{"to": ["nobody"]}]}, "there is no target 'nobody'; there are hook"),
        ({"quiet_hours": {"start": "22:00", "end": "22:00"}}, "are the same"),
        ({"quiet_hours": {"start": "24:00", "end": "22:00"}}, "not a time of day"),
        ({"quiet_hours": {"start": "20:00", "end": "22:00", "time_zone": "Mars/Base"}}, "no such time zone"),
    ],
)  # fmt: skip
def test_mistakes_are_found_when_the_config_is_loaded(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=r"Value error|at least") as caught:
        notify(**options)
    messages = " ".join(error["msg"] for error in caught.value.errors())
    assert said in messages
    assert "s3cr3t" not in messages


# When --------------------------------------------------------------------------------------------------------------------


def at(
    exporter: Notify, monkeypatch: pytest.MonkeyPatch, now: float, waiting: list[Payload]
) -> tuple[list[int], float]:
    monkeypatch.setattr("exporters.notify.exporter.time.time", lambda: now)
    chosen, wait = exporter.choose(waiting)
    return list(chosen), wait


def test_a_digest_waits_for_its_time_and_joins_what_came_for_a_target(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook, chat = {"webhook": f"http://{server.address}/hook"}, {"url": f"json://{server.address}/chat"}
    exporter = notify(targets={"hook": hook, "chat": chat}, digest="10m")
    waiting = [*encoded(exporter, OPEN, received_s=1000), *encoded(exporter, OVER, received_s=1300)]
    assert at(exporter, monkeypatch, 1000, waiting) == ([], 600)
    assert at(exporter, monkeypatch, 1600, waiting) == ([0, 2], 0)
    assert at(exporter, monkeypatch, 1600, [waiting[1], waiting[3]]) == ([0, 1], 0)
    exporter.send(exporter.join([waiting[0], waiting[2]]))
    exporter.send(exporter.join([waiting[1], waiting[3]]))
    events, message = (json.loads(request.body) for request in server.requests)
    assert [event["type"] for event in events] == ["spanledger.finding.opened", "spanledger.finding.resolved"]
    assert server.requests[0].headers["content-type"].startswith("application/cloudevents-batch+json")
    assert message["title"] == "2 findings"
    assert message["type"] == "warning"
    assert "warning: budget.hard opened\nTeam search" in message["message"]
    joined = exporter.join([waiting[1]] * 60)
    exporter.send(joined)
    assert joined.items == 60
    assert "and 10 more" in json.loads(server.requests[2].body)["message"]


def test_what_is_urgent_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    critical = replace(OPEN, severity=Severity.CRITICAL)
    hours = {"start": "00:00", "end": "23:59"}
    exporter = notify(digest="10m", quiet_hours=hours)
    assert at(exporter, monkeypatch, 1000, encoded(exporter, OPEN, critical)) == ([1], 0)
    never = notify(digest="10m", urgent=None)
    assert at(never, monkeypatch, 1000, encoded(never, OPEN, critical)) == ([], 600)
    plain = notify()
    assert at(plain, monkeypatch, 1000, encoded(plain, OPEN, critical)) == ([0], 0)


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("hours", "now", "left"),
    [
        (("22:00", "07:00", "UTC"), "2026-11-28T21:59:59", 0),
        (("22:00", "07:00", "UTC"), "2026-11-28T22:00:00", 9 * 3600),
        (("22:00", "07:00", "UTC"), "2026-11-29T06:59:00", 60),
        (("22:00", "07:00", "UTC"), "2026-11-29T07:00:00", 0),
        (("12:00", "13:00", "UTC"), "2026-11-28T12:30:00", 1800),
        (("22:00", "07:00", "Europe/Berlin"), "2026-11-28T21:00:00", 9 * 3600),
        (("22:00", "07:00", "Europe/Berlin"), "2026-10-24T20:00:00", 10 * 3600),  # the night in which clocks go back
    ],
)
def test_quiet_hours_end_on_the_clock_of_their_zone(hours: tuple[str, str, str], now: str, left: float) -> None:
    start, end, zone = hours
    assert quiet.left(QuietHours(start=start, end=end, time_zone=zone), _moment(now)) == left


def test_what_came_in_quiet_hours_is_told_together_when_they_are_over(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = notify(quiet_hours={"start": "22:00", "end": "07:00"})
    night = _moment("2026-11-28T23:00:00")
    waiting = [*encoded(exporter, OPEN, received_s=night), *encoded(exporter, OVER, received_s=night + 60)]
    assert at(exporter, monkeypatch, night + 60, waiting) == ([], 8 * 3600 - 60)
    assert at(exporter, monkeypatch, night + 8 * 3600, waiting) == ([0, 1], 0)


# When it does not arrive -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error"), [(503, Retryable), (429, Retryable), (401, Retryable), (302, Retryable), (400, Permanent), (410, Permanent)]
)  # fmt: skip
def test_what_an_answer_means(status: int, error: type[Exception]) -> None:
    with serve(lambda request: (status, {"Retry-After": "7"}, b"")) as server:
        exporter = notify(targets={"hook": {"webhook": f"http://{server.address}/secret-path"}})
        with pytest.raises(error, match=f"target hook: the webhook answered {status}") as caught:
            exporter.send(encoded(exporter, OPEN)[0])
    assert "secret-path" not in str(caught.value)
    if isinstance(caught.value, Retryable):
        assert caught.value.retry_after == 7


def test_a_service_that_says_no_is_asked_again() -> None:
    with serve(lambda request: (500, {}, b"")) as server:
        exporter = notify(targets={"chat": {"url": f"json://{server.address}/s3cr3t"}})
        with pytest.raises(Retryable, match="target chat: the service did not take it") as caught:
            exporter.send(encoded(exporter, OPEN)[0])
    assert "s3cr3t" not in str(caught.value)


def test_a_target_that_the_config_lost_or_changed_gets_nothing() -> None:
    payload = encoded(notify(), OPEN)[0]
    with pytest.raises(Permanent, match="no target 'hook' any more"):
        notify(targets={"other": HOOK}).send(payload)
    with pytest.raises(Permanent, match="another kind of target"):
        notify(targets={"hook": {"url": "json://127.0.0.1:1"}}).send(payload)


# spanledger notify test --------------------------------------------------------------------------------------------------


def test_the_command_tries_each_target_and_says_which_failed(server: Server, tmp_path: Path, capsys: Any) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"""
receivers: {{otlp: }}
exporters:
  notify:
    targets:
      fine: {{webhook: "http://{server.address}/a"}}
      chat: {{url: "json://{server.address}/b"}}
      away: {{webhook: "http://127.0.0.1:1/c"}}
service:
  pipelines:
    traces: {{receivers: [otlp], exporters: [notify]}}
""")
    result = run(capsys, "notify", "test", "--config", str(config))
    assert result.code == 1
    assert "1 target did not take the test notification" in result.err
    assert [line.split()[0] for line in result.out.splitlines()] == ["sent", "sent", "failed"]
    assert {request.path for request in server.requests} == {"/a", "/b"}
    assert "sent" in run(capsys, "notify", "test", "--config", str(config), "--target", "fine").ok()
    assert run(capsys, "notify", "test", "--config", str(config), "--target", "nobody").code == 2


def test_the_command_needs_a_notify_exporter(capsys: Any) -> None:
    result = run(capsys, "notify", "test")
    assert result.code == 2
    assert "no notify exporter" in result.err
