"""Episodes: what the book of findings remembers of each kind and subject, and how it lies on disk."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from collector.findings import Evidence, Finding, Resolution, Severity, State, Subject

#: How many spans a finding keeps as evidence.
EVIDENCE = 5
#: How long a resolved finding still takes late evidence.
REMEMBER_NS = 24 * 3600 * 10**9


@dataclass(frozen=True, slots=True)
class Episode:
    """The last episode of a kind and subject."""

    finding: Finding  # as it was given out last, without its transitions
    changes: int  # observations that had an effect
    quiet_ns: int | None  # of the newest observation
    elsewhere: bool = False  # another collector tells of it
    told: bool = False  # that it was resolved; an episode that late evidence reopens is resolved once more, silently

    @property
    def until(self) -> int | None:
        """The last moment that belongs to it; None: it has no end yet."""
        finding = self.finding
        if finding.resolution is Resolution.RECOVERED:
            return finding.resolved_ns
        return None if self.quiet_ns is None else finding.last_seen_ns + self.quiet_ns

    @property
    def due(self) -> int | None:
        """When the clock has passed it, something is to be done: resolve the finding, or forget the episode."""
        resolved = self.finding.resolved_ns
        return self.until if resolved is None else resolved + REMEMBER_NS


def first(known: tuple[Evidence, ...], more: Iterable[Evidence]) -> tuple[Evidence, ...]:
    """The first few distinct ones."""
    return tuple(dict.fromkeys((*known, *more)))[:EVIDENCE] if len(known) < EVIDENCE else known


def digest(kind: str, subject: Subject, *more: str) -> bytes:
    """Tells one kind and subject from another."""
    text = json.dumps([kind, sorted(subject), *more], ensure_ascii=False, separators=(",", ":"))
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def written(episode: Episode) -> bytes:
    """As it lies in the state store."""
    return json.dumps(_fields(episode), default=_fields, separators=(",", ":")).encode()


def _fields(one: Any) -> dict[str, Any]:
    """As `dataclasses.asdict`, of one level: that one copies everything, which takes several times as long."""
    return {name: getattr(one, name) for name in one.__slots__}


def read(value: bytes) -> Episode:
    """What `written` wrote."""
    found = json.loads(value)
    finding = found.pop("finding")
    resolution = finding.pop("resolution")
    return Episode(
        finding=Finding(**finding | {
            "subject": tuple((name, text) for name, text in finding["subject"]),
            "evidence": tuple(Evidence(**one) for one in finding["evidence"]),
            "state": State(finding["state"]),
            "severity": Severity(finding["severity"]),
            "resolution": Resolution(resolution) if resolution else None,
            "transitions": (),
        }),
        **found,
    )  # fmt: skip
