"""What a notification says: format strings over a closed set of names, checked when the config is loaded."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from string import Formatter

from collector.findings import Finding, Transition

#: Dimensions of the subject that a template may name; all of them stand in `{subject}`.
DIMENSIONS = ("team", "app", "user", "model", "provider", "route", "deployment")
NAMES = (
    "id", "kind", "severity", "state", "transition", "resolution", "subject", "message", "details", "measured", "expected", "unit", "cost",
    "observations", "first_seen", "last_seen", "trace_id", "span_id", *DIMENSIONS,
)  # fmt: skip


def check(template: str) -> str:
    """The template. Raises `ValueError` for one that could not be filled, or that reaches into what it names."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"not a template: {error}; braces that are meant are doubled: {{{{ and }}}}") from None
    for _, name, spec, conversion in parts:
        if name is None:
            continue
        if name not in NAMES:
            raise ValueError(f"nothing is known as {{{name}}}; there are {', '.join(NAMES)}")
        if spec or conversion:
            raise ValueError(f"{{{name}}} stands alone: without a format behind : or !")
    return template


def filled(template: str, finding: Finding, made: Transition) -> str:
    """The template with what is known; nothing where nothing is."""
    return template.format_map(_values(finding, made)).strip()


def _values(finding: Finding, made: Transition) -> dict[str, str]:
    subject = dict(finding.subject)
    shown = " ".join(f"{name}={value}" for name, value in finding.subject)
    cost = "" if finding.cost_pico is None else f"{Decimal(finding.cost_pico).scaleb(-12):.2f} USD"
    first, last = moment(finding.first_seen_ns), moment(finding.last_seen_ns)
    details = [
        shown,
        cost and f"{cost} at stake",
        f"since {first}" if first == last else f"{first} to {last}",
        f"{finding.resolution.value}" if made is Transition.RESOLVED and finding.resolution else "",
    ]
    evidence = finding.evidence[0] if finding.evidence else None
    return {
        "id": finding.id,
        "kind": finding.kind,
        "severity": finding.severity.value,
        "state": finding.state.value,
        "transition": made.value,
        "resolution": finding.resolution.value if finding.resolution else "",
        "subject": shown,
        "message": finding.message,
        "details": "; ".join(filter(None, details)),
        "measured": "" if finding.measured is None else f"{finding.measured:g}",
        "expected": "" if finding.expected is None else f"{finding.expected:g}",
        "unit": finding.unit,
        "cost": cost,
        "observations": str(finding.observations),
        "first_seen": first,
        "last_seen": last,
        "trace_id": evidence.trace_id if evidence else "",
        "span_id": evidence.span_id if evidence else "",
        **{name: subject.get(name, "") for name in DIMENSIONS},
    }


def moment(ns: int) -> str:
    """A time for people, in UTC."""
    return f"{datetime.fromtimestamp(min(max(ns, 0), 4_102_444_800 * 10**9) // 10**9, UTC):%Y-%m-%d %H:%M} UTC"
