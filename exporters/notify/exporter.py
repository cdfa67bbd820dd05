"""Tells of findings: one payload for each transition and target, held back and joined as digest and quiet hours have it.

Every payload lies in the exporter's queue on disk until its target has taken it: nothing is lost in a restart, and each
transition is told once. A crash in the moment between the two tells it again; events have ids for that.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from collector.component import Context, Exporter, Payload
from collector.errors import Permanent, Retryable
from collector.findings import Finding, Severity, Transition
from exporters.notify import apprise, quiet
from exporters.notify.config import NotifyConfig, Route, Target, signing_key
from exporters.notify.events import ONE, SEVERAL, event, signature
from exporters.notify.templates import filled

if TYPE_CHECKING:
    from collector.batch import SpanBatch
    from exporters.otlp.transport import Transport


#: How many notifications a digest can have; an urgent one behind more of them waits.
SEES = 1000
#: Of a digest as text, findings that are told one by one; the rest is counted.
SHOWN = 50
_LEVELS = list(Severity)
_TYPES = {Severity.INFO: "info", Severity.WARNING: "warning", Severity.CRITICAL: "failure"}


class Notify(Exporter[NotifyConfig]):
    """Tells people (Apprise: chats, e-mail, pagers) and systems (signed webhooks) of findings, each transition once."""

    Config = NotifyConfig

    def __init__(self, config: NotifyConfig, context: Context) -> None:
        super().__init__(config, context)
        self._routes = config.all_routes
        self._together = config.digest > 0 or config.quiet_hours is not None
        self.sees = SEES if self._together else 1
        self._transport: Transport | None = None

    # In the pipeline --------------------------------------------------------------------------------------------------

    def encode(self, batch: SpanBatch) -> Iterator[Payload]:
        for finding in batch.findings:
            for made in finding.transitions:
                for name in self._targets(finding, made):
                    yield self.payload(name, finding, made, batch.received_ns / 1e9)

    def _targets(self, finding: Finding, made: Transition) -> list[str]:
        """Where one transition goes, each target once."""
        return list(dict.fromkeys(name for route in self._routes if _fits(route, finding, made) for name in route.to))

    def payload(self, target: str, finding: Finding, made: Transition, at: float) -> Payload:
        """One transition for one target. `at` (Unix time) is when it came to be known."""
        one: dict[str, Any]
        if self.config.targets[target].webhook is not None:
            one = {"event": event(finding, made)}
        else:
            kind = "success" if made is Transition.RESOLVED else _TYPES[finding.severity]
            title, text = (filled(template, finding, made) for template in (self.config.title, self.config.body))
            one = {"title": title, "text": text, "kind": kind}
        urgent = self.config.urgent is not None and _LEVELS.index(finding.severity) >= _LEVELS.index(self.config.urgent)
        meta: dict[str, str | int] = {"target": target, "at": int(at), "urgent": int(urgent)}
        return Payload(json.dumps([one], ensure_ascii=False).encode("utf-8", "replace"), meta, 1)

    # From the outbox --------------------------------------------------------------------------------------------------

    def choose(self, waiting: Sequence[Payload]) -> tuple[Sequence[int], float]:
        if not self._together:
            return (0,), 0.0
        now = time.time()
        hours = self.config.quiet_hours
        still = quiet.left(hours, now) if hours is not None else 0.0
        held: dict[object, list[int]] = {}
        for number, payload in enumerate(waiting):
            if payload.meta.get("urgent"):
                return (number,), 0.0
            held.setdefault(payload.meta.get("target"), []).append(number)
        shortest = float("inf")
        for numbers in held.values():
            wait = max(still, int(waiting[numbers[0]].meta.get("at", 0)) + self.config.digest - now)
            if wait <= 0:
                return numbers, 0.0
            shortest = min(shortest, wait)
        return (), shortest

    def join(self, payloads: Sequence[Payload]) -> Payload:
        parts = [one for payload in payloads for one in json.loads(payload.body)]
        body = json.dumps(parts, ensure_ascii=False).encode()
        return Payload(body, payloads[0].meta, sum(payload.items for payload in payloads))

    def start(self) -> None:
        if any(target.url is not None for target in self.config.targets.values()):
            apprise.module()

    def send(self, payload: Payload) -> None:
        name = str(payload.meta.get("target"))
        target = self.config.targets.get(name)
        if target is None:
            raise Permanent(f"the config has no target {name!r} any more")
        try:
            parts = json.loads(payload.body)
            if target.webhook is not None:
                self._post(target, [one["event"] for one in parts])
            else:
                _message(target, parts)
        except KeyError:
            raise Permanent(f"it was made for another kind of target than {name!r} is now") from None
        except Retryable as error:
            raise Retryable(f"target {name}: {error}", error.retry_after) from None
        except Permanent as error:
            raise Permanent(f"target {name}: {error}") from None

    def _post(self, target: Target, events: list[dict[str, Any]]) -> None:
        """Send events to a webhook. Raises `Retryable`, `Permanent`."""
        from exporters.otlp.answers import retry_after
        from exporters.otlp.config import TlsConfig
        from exporters.otlp.transport import Transport

        assert target.webhook is not None
        if self._transport is None:
            self._transport = Transport(TlsConfig(), self.config.timeout, http2=False)
        body = json.dumps(events[0] if len(events) == 1 else events, ensure_ascii=False).encode()
        headers = {"Content-Type": ONE if len(events) == 1 else SEVERAL}
        if target.secret is not None:
            id_, now = str(events[0]["id"]), int(time.time())
            signed = signature(signing_key(target.secret), id_, now, body)
            headers |= {"webhook-id": id_, "webhook-timestamp": str(now), "webhook-signature": signed}
        reply = self._transport.post(target.webhook.get_secret_value(), headers, body)
        if 200 <= reply.status < 300:
            return
        text = f"the webhook answered {reply.status}"
        # What is refused because of the setup (a wrong path, a redirect) says nothing about the event: somebody mends it.
        if reply.status < 400 or reply.status >= 500 or reply.status in (401, 403, 404, 405, 407, 408, 425, 429):
            raise Retryable(text, retry_after(reply.headers.get("retry-after")))
        raise Permanent(text)

    def __str__(self) -> str:
        return ", ".join(self.config.targets)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def _fits(route: Route, finding: Finding, made: Transition) -> bool:
    team = dict(finding.subject).get("team")
    return (
        made in route.transitions
        and _LEVELS.index(finding.severity) >= _LEVELS.index(route.min_severity)
        and any(fnmatchcase(finding.kind, kind) for kind in route.kinds)
        and (route.teams is None or (team is not None and any(fnmatchcase(team, one) for one in route.teams)))
    )


def _message(target: Target, parts: list[dict[str, Any]]) -> None:
    """Send one message of one finding or of several. Raises `Retryable`."""
    assert target.url is not None
    title, text, kind = parts[0]["title"], parts[0]["text"], parts[0]["kind"]
    if len(parts) > 1:
        title = f"{len(parts)} findings"
        shown = [f"{one['title']}\n{one['text']}" for one in parts[:SHOWN]]
        if len(parts) > SHOWN:
            shown.append(f"… and {len(parts) - SHOWN} more: spanledger findings")
        text = "\n\n".join(shown)
        kind = next((k for k in ("failure", "warning", "info") if any(one["kind"] == k for one in parts)), "success")
    apprise.send(target.url.get_secret_value(), title, text, kind)


def sample() -> Finding:
    """A finding that shows what notifications look like."""
    from collector.findings import Evidence, State

    now = time.time_ns()
    return Finding(
        id="0" * 32, kind="spanledger.test", subject=(("team", "platform"),), state=State.OPEN, severity=Severity.INFO, first_seen_ns=now,
        last_seen_ns=now, observations=1, measured=1.0, expected=1.0, unit="", cost_pico=0,
        message="This is a test of Spanledger's notifications.", evidence=(Evidence("0" * 32, "0" * 16),), version=2,
    )  # fmt: skip


__all__ = ["Notify", "sample"]
