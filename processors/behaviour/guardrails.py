"""Guardrails: whether one refuses a larger share of an app's calls than it used to.

Both shares have their intervals; a finding needs that they do not touch, that the share is so many times the usual one, and a few
refusals. A guardrail that never refused has 0 of the app's calls as its past.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping

from processors.behaviour.config import BehaviourConfig
from processors.behaviour.evidence import deviations, percent, share_of
from processors.behaviour.tallies import APP, REFUSED, Key
from processors.behaviour.usual import Usual, added
from processors.behaviour.windows import Said, Tallies, Tally

LEAST_REFUSALS = 5
#: So many times the calls that a window needs make a past.
_PAST = 10
_NONE = Tally((0,))


class Guardrails:
    """Judges the refusals of windows, and remembers what is usual."""

    def __init__(self, config: BehaviourConfig) -> None:
        self._config = config
        self._z = deviations(config.confidence)
        self._half = config.half_life / config.window

    def judge(self, window: int, tallies: Tallies, usual: MutableMapping[Key, Usual]) -> Iterator[Said]:
        """What a window says; `usual` is told of it afterwards. Per app its calls, per guardrail and app the refusals."""
        apps = {key[1]: tally.values[0] for key, tally in tallies.items() if key[0] == APP and tally.values[0] > 0}
        pairs = {key for keys in (tallies, usual) for key in keys if key[0] == REFUSED and key[2] in apps}
        for key in sorted(pairs):
            said = self._said(key, window, tallies.get(key, _NONE), apps[key[2]], usual)
            if said is not None:
                yield said
            refused = max(tallies.get(key, _NONE).values[0], 0)
            usual[key] = added(usual.get(key), window, (float(refused),), self._half)
        for app, calls in sorted(apps.items()):
            usual[APP, app] = added(usual.get((APP, app)), window, (float(calls),), self._half)

    def _said(self, key: Key, window: int, tally: Tally, calls: int, usual: MutableMapping[Key, Usual]) -> Said | None:
        _, guardrail, app = key
        past = usual.get((APP, app))
        if guardrail in self._config.ignore_guardrails or past is None or calls < self._config.least_calls:
            return None
        (before,) = past.at(window, self._half)
        if before < _PAST * self._config.least_calls:
            return None
        refusals = usual.get(key)
        refused = min(refusals.at(window, self._half)[0], before) if refusals is not None else 0.0
        was, now = share_of(refused, before, self._z), share_of(min(max(tally.values[0], 0), calls), calls, self._z)
        return Said(
            "guardrail.stricter",
            (("app", app), ("guardrail", guardrail)),
            f"the guardrail {guardrail} refuses {now} of {app}'s calls; usual are {percent(was.counted)}",
            holds=tally.values[0] >= LEAST_REFUSALS
            and now.low > was.high
            and now.counted >= self._config.stricter * was.counted,
            measured=now.counted,
            expected=was.counted,
            unit="share",
            shown=tally.shown,
        )
