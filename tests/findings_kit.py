"""Observations and findings to test with, and a component's state in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry

from collector.findings import Evidence, Finding, Observation, Severity, State
from collector.findings_book import FindingsBook

S = 10**9
NOON_NS = 1_795_867_200 * S


class Memory:
    """A component's namespace."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        return self.values.get(key)

    def items(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted(item for item in self.values.items() if item[0].startswith(prefix)))

    def put(self, key: bytes, value: bytes) -> None:
        self.values[key] = value

    def delete(self, key: bytes) -> None:
        self.values.pop(key, None)


def observed(at: float = 0, kind: str = "test.kind", team: str = "search", **changes: Any) -> Observation:
    """An observation `at` seconds after noon."""
    values: dict[str, Any] = {"subject": (("team", team),), "message": "Something is off.", **changes}
    return Observation(kind=kind, at_ns=NOON_NS + round(at * S), **values)


def finding(**changes: Any) -> Finding:
    """A finding as a book gives it out."""
    values: dict[str, Any] = {
        "id": "ab" * 16, "kind": "budget.hard", "subject": (("model", "gpt-4o"), ("team", "search")), "state": State.OPEN,
        "severity": Severity.WARNING, "first_seen_ns": NOON_NS, "last_seen_ns": NOON_NS + 60 * S, "observations": 2, "measured": 120.5,
        "expected": 100.0, "unit": "USD", "cost_pico": 20_500_000_000_000, "message": "Team search spent 120.50 USD of 100.",
        "evidence": (Evidence("0a" * 16, "0b" * 8),), "version": 4,
    }  # fmt: skip
    return Finding(**{**values, **changes})


def new_book(state: Memory | None = None, **options: Any) -> FindingsBook:
    """A book as it starts over a state."""
    book = FindingsBook(CollectorRegistry(), **options)
    book.load(state or Memory())
    return book
