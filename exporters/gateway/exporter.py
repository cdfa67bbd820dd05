"""Blocks whoever's budget is used up, and lets it go: one step for each transition and gateway, from the queue on disk.

With every block its end goes into the queue as well, held back until the budget's window is over: who is blocked makes no calls,
so that no call may ever come that says so. A resolution that comes earlier (the limit was raised) lets go at once.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from collector.component import Context, Exporter, Payload
from collector.errors import Permanent, Retryable
from collector.findings import Finding, Transition
from collector.windows import iso
from exporters.gateway.calls import At, at
from exporters.gateway.config import GatewayConfig
from exporters.gateway.journal import Journal, Whom

if TYPE_CHECKING:
    from collector.batch import SpanBatch

logger = logging.getLogger(__name__)

KIND = "budget.hard"
#: Steps that may be held back at once; those behind more of them wait.
SEES = 5000
#: What names nobody whom a gateway could block.
_NOBODY = frozenset({"", "(none)", "(unattributed)"})


class Gateway(Exporter[GatewayConfig]):
    """Blocks teams and keys at their gateway (LiteLLM's admin API, or a signed webhook) when a budget is used up, and lets them go."""

    Config = GatewayConfig
    sees = SEES

    def __init__(self, config: GatewayConfig, context: Context) -> None:
        super().__init__(config, context)
        self.journal = Journal(context.data_dir / f"{context.id.replace('/', '-')}.actions.jsonl")
        self._at: dict[str, At] = {name: at(target, config.timeout) for name, target in config.gateways.items()}

    # In the pipeline --------------------------------------------------------------------------------------------------

    def encode(self, batch: SpanBatch) -> Iterator[Payload]:
        for finding in batch.findings:
            if finding.kind != KIND or not finding.transitions:
                continue
            over = Transition.RESOLVED in finding.transitions
            opened = Transition.OPENED in finding.transitions
            ended = finding.ends_ns is not None and finding.ends_ns <= batch.received_ns
            if opened and (over or ended):  # the call that crossed the line came after the window
                continue
            for whom in self._whom(finding):
                if opened:
                    yield _step(whom, finding, "block", 0)
                    if finding.ends_ns is not None:
                        yield _step(whom, finding, "release", finding.ends_ns)
                elif over:
                    yield _step(whom, finding, "release", 0)

    def _whom(self, finding: Finding) -> list[Whom]:
        """Who is to be blocked where, each once."""
        subject = dict(finding.subject)
        budget = subject.pop("budget", "")
        subject.pop("threshold", None)
        found: dict[Whom, None] = {}
        for action in self.config.actions:
            if set(subject) == {action.block} and any(fnmatchcase(budget, one) for one in action.budgets):
                name = subject[action.block]
                found |= {Whom(gateway, action.block, name): None for gateway in action.at if name not in _NOBODY}
        return list(found)

    # From the outbox --------------------------------------------------------------------------------------------------

    def choose(self, waiting: Sequence[Payload]) -> tuple[Sequence[int], float]:
        now, shortest = time.time_ns(), float("inf")
        for number, payload in enumerate(waiting):
            wait = (_moment(payload, "not_before") - now) / 1e9
            if wait <= 0:
                return (number,), 0.0
            shortest = min(shortest, wait)
        return (), shortest

    def start(self) -> None:
        self.journal.open()

    def send(self, payload: Payload) -> None:
        self.journal.open()
        step = json.loads(payload.body)
        whom = Whom(step["gateway"], step["what"], step["name"])
        gateway = self._at.get(whom.gateway)
        if gateway is None:
            raise Permanent(f"the config has no gateway {whom.gateway!r} any more")
        try:
            if step["action"] == "block":
                self._block(whom, gateway, step["about"])
            else:
                self._release(whom, gateway, step["about"])
        except Retryable as error:
            raise Retryable(f"gateway {whom.gateway}: {error}", error.retry_after) from None
        except Permanent as error:
            self._note(whom, step["about"], step["action"], "failed", why=str(error))
            raise Permanent(f"gateway {whom.gateway}: {error}") from None
        except OSError as error:
            raise Retryable(f"{self.journal.path}: {error.strerror or error}") from None

    def _block(self, whom: Whom, gateway: At, about: dict[str, Any]) -> None:
        finding, ends_ns = about["finding"], about["ends_ns"]
        held = self.journal.held.get(whom)
        if self.journal.is_over(whom, finding) or (held is not None and finding in held.findings):
            return
        if ends_ns is not None and ends_ns <= time.time_ns():
            self._note(whom, about, "block", "passed over", why="its window is over")
            return
        if held is None:
            before = gateway.blocked(whom)
            self._note(whom, about, "block", "begun", before=before)
        elif held.findings:
            self._note(whom, about, "block", "done", why="it is blocked already, for another budget")
            return
        else:  # a crash, or an attempt that failed, came between
            before = held.before
        if not before:
            gateway.set(whom, True, _told(about))
        self._note(whom, about, "block", "done", **({"why": "it was blocked before"} if before else {}))

    def _release(self, whom: Whom, gateway: At, about: dict[str, Any]) -> None:
        finding = about["finding"]
        if self.journal.is_over(whom, finding):
            return
        held = self.journal.held.get(whom)
        why = None
        if held is None:
            why = "it is not blocked by this"
        elif held.findings - {finding}:
            why = "another budget holds it"
        elif held.before:
            why = "it was blocked before"
        if why is None:
            self._note(whom, about, "release", "begun")
            gateway.set(whom, False, _told(about))
        self._note(whom, about, "release", "done", **({"why": why} if why else {}))

    def _note(self, whom: Whom, about: dict[str, Any], action: str, state: str, **more: Any) -> None:
        """Into the journal, and into the log without a name."""
        self.journal.write(whom, about["finding"], action, state, budget=about["budget"], **more)
        if state != "begun":
            logger.info("gateway %s: %s of a %s for budget %s: %s%s", whom.gateway, action, whom.what, about["budget"], state, f" ({more['why']})" if "why" in more else "")  # fmt: skip

    def __str__(self) -> str:
        return ", ".join(self.config.gateways)

    def close(self) -> None:
        self.journal.close()


def _step(whom: Whom, finding: Finding, action: str, not_before: int) -> Payload:
    about = {
        "finding": finding.id, "budget": dict(finding.subject).get("budget", ""), "message": finding.message, "ends_ns": finding.ends_ns
    }  # fmt: skip
    body = {"gateway": whom.gateway, "what": whom.what, "name": whom.name, "action": action, "about": about}
    return Payload(json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"), {"not_before": str(not_before)}, 1)


def _moment(payload: Payload, name: str) -> int:
    return int(payload.meta.get(name, 0))


def _told(about: dict[str, Any]) -> dict[str, Any]:
    """What a webhook is told of the reason."""
    ends_ns = about["ends_ns"]
    return {name: about[name] for name in ("finding", "budget", "message")} | {"until": ends_ns and iso(ends_ns)}


__all__ = ["Gateway"]
