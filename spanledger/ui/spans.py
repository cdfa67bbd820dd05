"""A trace's spans as a tree, what each of them is, and where its time went."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Interval = tuple[int, int]


@dataclass
class Span:
    """A span in its tree. Times in nanoseconds; `start` since the trace's."""

    id: str
    parent: str
    name: str
    service: str
    span_kind: str
    start: int
    duration: int
    failed: bool
    message: str
    call: str
    price_status: str
    attributes: Mapping[str, str]
    events: Sequence[tuple[int, str, Mapping[str, str]]]
    row: Mapping[str, Any]
    depth: int = 0
    kind: str = "app"
    children: list[Span] = field(default_factory=list)

    @property
    def end(self) -> int:
        return self.start + self.duration


#: Kinds and what they are called, in the order of a legend.
KINDS = {
    "app": "App", "gateway": "Gateway", "call": "Model call", "report": "Same call, reported again", "fallback": "Fallback to another model",
    "retry": "Retry", "failed": "Failed attempt", "guardrail": "Guardrail", "cache": "Cache", "tool": "Tool",
}  # fmt: skip


def tree(spans: Sequence[Span]) -> list[Span]:
    """All spans, each after its parent, children by start. A span whose parent is not there is a root; so is the first of
    spans that are each other's parents."""
    by_id = {span.id: span for span in spans}
    roots = []
    for span in spans:
        parent = by_id.get(span.parent)
        if parent is not None and parent is not span:
            parent.children.append(span)
        else:
            roots.append(span)
    found: list[Span] = []
    seen: set[int] = set()
    for root in [*sorted(roots, key=lambda s: s.start), *spans]:
        stack = [(root, 0)]
        while stack:
            span, depth = stack.pop()
            if id(span) in seen:
                continue
            seen.add(id(span))
            span.depth = depth
            found.append(span)
            stack += [(child, depth + 1) for child in sorted(span.children, key=lambda s: s.start, reverse=True)]
    return found


def classify(spans: Sequence[Span]) -> None:
    """Say what each span is."""
    gateways = {span.service for span in spans if span.span_kind == "Server" and any(s.call and s.service == span.service for s in spans)}  # fmt: skip
    for span in spans:
        span.kind = _kind(span, gateways)
    _attempts([span for span in spans if span.kind in ("call", "report")])


def _kind(span: Span, gateways: set[str]) -> str:
    name, keys = span.name.lower(), span.attributes
    if span.call:
        return "report" if span.price_status == "duplicate" else "call"
    if "guardrail" in name or any("guardrail" in key for key in keys):
        return "guardrail"
    if keys.get("gen_ai.operation.name") == "execute_tool" or "gen_ai.tool.name" in keys or "tool.name" in keys:
        return "tool"
    if "cache" in name:
        return "cache"
    return "gateway" if span.service in gateways else "app"


def _attempts(calls: Sequence[Span]) -> None:
    """Attempts of one request stand below one parent: those that failed, and what answered instead."""
    by_parent: dict[str, list[Span]] = {}
    for call in sorted(calls, key=lambda span: span.start):
        by_parent.setdefault(call.parent, []).append(call)
    for attempts in by_parent.values():
        before: Span | None = None
        for call in attempts:
            if before is not None:
                call.kind = "retry" if _model(call) == _model(before) else "fallback"
            if call.failed:
                call.kind = "failed"
                before = call
            else:
                before = None


def _model(span: Span) -> str:
    return str(span.row.get("ResponseModel") or span.row.get("RequestModel") or span.name)


def covered(intervals: Iterable[Interval]) -> int:
    """How long at least one of the intervals lasts."""
    total, end = 0, -1
    for start, stop in sorted(intervals):
        total += max(stop - max(start, end), 0)
        end = max(end, stop)
    return total


@dataclass(frozen=True, slots=True)
class Times:
    """Nanoseconds: from first to last, in models, in gateways beside them; None: not to be told."""

    whole: int
    models: int | None
    gateway: int | None


def times(spans: Sequence[Span]) -> Times:
    """Where the time went. Of the reports of a call, the innermost is nearest to the model."""
    whole = max((s.end for s in spans), default=0) - min((s.start for s in spans), default=0)
    nearest: dict[str, Span] = {}
    for span in spans:
        if span.call and (span.call not in nearest or span.duration <= nearest[span.call].duration):
            nearest[span.call] = span
    calls = [(span.start, span.end) for span in nearest.values()]
    doors = [s for s in spans if s.kind == "gateway" and s.span_kind == "Server"]
    beside = None
    if doors and calls:
        beside = sum(max(d.duration - covered((max(a, d.start), min(b, d.end)) for a, b in calls if a < d.end and b > d.start), 0) for d in doors)  # fmt: skip
    return Times(whole, covered(calls) if calls else None, beside)
