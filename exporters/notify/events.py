"""Findings as CloudEvents (v1.0, JSON), signed as Standard Webhooks has it.

`webhook-signature: v1,<base64 of HMAC-SHA256 over "id.timestamp.body">`, with `webhook-id` and `webhook-timestamp` beside it:
libraries that check it are there for most languages. The id of an event is the same whenever it is sent, so that a receiver
can tell one that it has.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
from datetime import UTC, datetime
from typing import Any

from collector.columns import PICO_PER_USD
from collector.findings import Finding, Transition

ONE = "application/cloudevents+json; charset=utf-8"
SEVERAL = "application/cloudevents-batch+json; charset=utf-8"


def event(finding: Finding, made: Transition) -> dict[str, Any]:
    """What became of a finding. Raised more than once it is as many events."""
    moments = {Transition.OPENED: finding.first_seen_ns, Transition.RESOLVED: finding.resolved_ns}
    raised = f"/{finding.severity.value}" if made is Transition.RAISED else ""
    return {
        "specversion": "1.0",
        "id": f"{finding.id}/{made.value}{raised}",
        "source": "spanledger",
        "type": f"spanledger.finding.{made.value}",
        "subject": finding.kind,
        "time": _rfc3339(moments.get(made) or finding.last_seen_ns),
        "datacontenttype": "application/json",
        "data": {
            "id": finding.id,
            "kind": finding.kind,
            "state": finding.state.value,
            "severity": finding.severity.value,
            "resolution": finding.resolution.value if finding.resolution else None,
            "subject": dict(finding.subject),
            "message": finding.message,
            "measured": _number(finding.measured),
            "expected": _number(finding.expected),
            "unit": finding.unit,
            "cost_usd": None if finding.cost_pico is None else finding.cost_pico / PICO_PER_USD,
            "observations": finding.observations,
            "first_seen": _rfc3339(finding.first_seen_ns),
            "last_seen": _rfc3339(finding.last_seen_ns),
            "evidence": [{"trace_id": one.trace_id, "span_id": one.span_id} for one in finding.evidence],
        },
    }


def signature(key: bytes, id_: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`."""
    digest = hmac.new(key, f"{id_}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _number(value: float | None) -> float | None:
    """JSON knows no infinity."""
    return value if value is not None and math.isfinite(value) else None


def _rfc3339(ns: int) -> str:
    seconds, rest = divmod(min(max(ns, 0), 4_102_444_800 * 10**9), 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
