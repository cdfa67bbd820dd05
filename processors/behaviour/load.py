"""Load: whether the members of a model group take the shares that are configured, and whom the providers turn away.

Judged by one window alone. A finding needs the configured share outside the interval of the counted one, and further away than the
tolerance: with enough calls any share is a little off with certainty.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate

from collector.findings import Severity
from processors.behaviour.config import BehaviourConfig, Group
from processors.behaviour.evidence import Share, deviations, percent, share_of
from processors.behaviour.tallies import LOAD
from processors.behaviour.windows import Said, Tallies, Tally

#: Refusals for a rate limit that are worth a finding, however large their share.
LEAST_HITS = 5
_NAMES = {"api_key": "key"}


@dataclass(frozen=True, slots=True)
class _Of:
    """A model group in a window."""

    model: str
    by: str
    members: Mapping[str, Tally]

    @property
    def calls(self) -> int:
        return sum(tally.values[0] for tally in self.members.values())

    def said(self, kind: str, member: str, message: str, **more: object) -> Said:
        tally = self.members.get(member)
        return Said(
            f"load.{kind}",
            ((self.by, member), ("model", self.model)),
            message,
            shown=tally.shown if tally else (),
            **more,  # type: ignore[arg-type]
        )


class Load:
    """Judges the load of windows."""

    def __init__(self, config: BehaviourConfig) -> None:
        self._config = config
        self._z = deviations(config.confidence)
        self._groups = [(re.compile(translate(group.model.lower())), group) for group in config.groups]
        self._known: dict[str, Group | None] = {}

    def group(self, model: str) -> Group | None:
        """The configured group that a model belongs to."""
        if model not in self._known:
            if len(self._known) > 10_000:
                self._known.clear()
            self._known[model] = next((group for pattern, group in self._groups if pattern.match(model.lower())), None)
        return self._known[model]

    def by(self, model: str) -> str:
        """Among what the calls of a model are shared."""
        group = self.group(model)
        return "deployment" if group is None else group.by

    def judge(self, tallies: Tallies) -> Iterator[Said]:
        """What a window says: also what is as it should be, which resolves."""
        groups: dict[tuple[str, str], dict[str, Tally]] = {}
        for key, tally in tallies.items():
            if key[0] == LOAD and tally.values[0] > 0:
                groups.setdefault((key[1], key[2]), {})[key[3]] = tally
        limited: set[str] = set()  # models of which a deployment is known to be; its provider says no more
        for (model, by), members in sorted(groups.items()):
            one = _Of(model, by, members)
            if one.calls >= self._config.least_calls:
                configured = self.group(model)
                if configured is not None and configured.by == by:
                    yield from self._shares(one, configured.weights)
                for said in self._limits(one):
                    if by == "deployment" and said.holds:
                        limited.add(model)
                    yield said._replace(holds=False) if by == "provider" and model in limited else said

    def _shares(self, one: _Of, weights: Mapping[str, float]) -> Iterator[Said]:
        total, calls = sum(weights.values()), one.calls
        for member in sorted({*weights, *one.members}):
            tally = one.members.get(member)
            expected = weights.get(member, 0) / total
            share = share_of(tally.values[0] if tally else 0, calls, self._z)
            idle = tally is None and (1 - expected) ** calls < 1 - self._config.confidence
            off = not share.low <= expected <= share.high and abs(share.counted - expected) > self._config.tolerance
            yield one.said(
                "idle", member, f"{_name(one.by)} {member} takes none of {calls} calls of {one.model}; configured are {percent(expected)}",
                holds=idle, measured=0.0, expected=expected, unit="share",
            )  # fmt: skip
            wanted = f"configured are {percent(expected)}" if member in weights else "it is not configured"
            yield one.said(
                "skewed", member,
                f"{_name(one.by)} {member} takes {share} of {one.model}'s calls, with {_sure(self._config)} confidence; {wanted}",
                holds=off and not idle, measured=share.counted, expected=expected, unit="share",
            )  # fmt: skip

    def _limits(self, one: _Of) -> Iterator[Said]:
        shares = {
            name: share_of(min(max(tally.values[1], 0), tally.values[0]), tally.values[0], self._z)
            for name, tally in one.members.items()
        }
        for member, share in sorted(shares.items()):
            enough = one.members[member].values[0] >= self._config.least_calls
            limited = enough and one.members[member].values[1] >= LEAST_HITS and share.low > 0 and share.counted >= self._config.rate_limited  # fmt: skip
            others = [
                name for name, other in sorted(shares.items()) if name != member and self._room(one, name, other, share)
            ]
            yield one.said(
                "rate_limited", member, f"{_name(one.by)} {member} refuses {share} of its {one.model} calls for a rate limit",
                holds=limited and not others, measured=share.counted, expected=self._config.rate_limited, unit="share",
            )  # fmt: skip
            yield one.said(
                "overloaded", member,
                f"{_name(one.by)} {member} refuses {share} of its {one.model} calls for a rate limit, while {_few(others)} has room",
                holds=limited and bool(others), measured=share.counted, expected=self._config.rate_limited, unit="share",
                severity=Severity.CRITICAL if share.counted >= 0.5 else Severity.WARNING,
            )  # fmt: skip

    def _room(self, one: _Of, name: str, other: Share, share: Share) -> bool:
        """Whether another member is surely refused less: its calls must be enough to say so."""
        return one.members[name].values[0] >= self._config.least_calls and other.high < share.low


def _name(by: str) -> str:
    return _NAMES.get(by, by)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _sure(config: BehaviourConfig) -> str:
    return f"{100 * config.confidence:.6g}%"
