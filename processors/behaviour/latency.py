"""Answer times: whether a model of a provider takes longer than it used to, and which part of the call does.

The typical time (geometric mean) of a window is compared with those of past windows, which differ among each other too: by time of
day, by what is asked. A finding needs a window outside what these make likely, and the configured factor.
The parts are those that a call tells: the gateway's own time (its queue and guardrails are in it), from there to the first token, and
the rest, which is all of the provider's time where an answer is not streamed.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from math import sqrt

from processors.behaviour.config import BehaviourConfig
from processors.behaviour.evidence import deviations
from processors.behaviour.tallies import LOG_STEPS, TIME, Key
from processors.behaviour.usual import Usual, added
from processors.behaviour.windows import Said, Tallies, Tally

#: Windows that make a past.
PAST = 8
GATEWAY, FIRST, ANSWER, LONGER = "gateway", "first_token", "answer", "longer_answers"
KINDS = (GATEWAY, FIRST, ANSWER, LONGER)
_SAYS = {
    GATEWAY: "the gateway itself takes the time (its queue and guardrails included)",
    FIRST: "the provider takes longer to the first token",
    ANSWER: "the provider takes longer to answer",
    LONGER: "the answers are longer",
}
_S = 1e9


class Latency:
    """Judges the answer times of windows, and remembers what is usual."""

    def __init__(self, config: BehaviourConfig) -> None:
        self._config = config
        self._z = deviations(config.confidence)
        self._half = config.half_life / config.window

    def judge(self, window: int, tallies: Tallies, usual: MutableMapping[Key, Usual]) -> Iterator[Said]:
        """What a window says; `usual` is told of it afterwards."""
        for key in sorted(key for key in tallies if key[0] == TIME):
            tally = tallies[key]
            if tally.values[0] < self._config.least_calls:
                continue
            past = usual.get(key)
            if past is not None:
                yield from self._said(key, tally, past.at(window, self._half))
            usual[key] = added(past, window, _of(tally), self._half)

    def _said(self, key: Key, tally: Tally, past: tuple[float, ...]) -> Iterator[Said]:
        windows = past[0]
        if windows < PAST:
            return
        mean, _, *parts = (value / windows for value in past[1:])
        among = max(past[2] / windows - mean * mean, 0.0)
        _, now, _, *parts_now = _of(tally)
        calls = tally.values[0]
        within = max(tally.values[2] / calls / LOG_STEPS**2 - now * now, 0.0)
        error = self._z * sqrt(among * (1 + 1 / windows) + within / calls)
        times, at_least = 2 ** (now - mean), 2 ** (now - mean - error)
        longer = sum(parts_now[:3]) - sum(parts[:3])
        slow = times >= self._config.slower and at_least > 1 and longer >= self._config.slower_by * _S
        cause = _cause(parts_now, parts)
        _, model, provider = key
        for kind in KINDS:
            yield Said(
                f"latency.{kind}",
                (("model", model), ("provider", provider)),
                f"{model} at {provider} typically takes {_seconds(2**now)} instead of {_seconds(2**mean)}, {times:.1f} times as long "
                f"(surely {at_least:.1f}): {_SAYS[kind]}",
                holds=slow and kind == cause,
                measured=2**now / _S,
                expected=2**mean / _S,
                unit="s",
                shown=tally.shown,
            )


def _of(tally: Tally) -> tuple[float, ...]:
    """One window: 1, its mean log, the square of that, and the means of the three parts and of the tokens."""
    calls, log, _, *rest = tally.values
    mean = log / calls / LOG_STEPS
    return (1.0, mean, mean * mean, *(value / calls for value in rest))


def _cause(now: list[float], before: list[float]) -> str:
    """The part that grew most. Where it is the answer, and tokens grew by most of the factor by which it did: longer answers."""
    grown = [a - b for a, b in zip(now[:3], before[:3], strict=True)]
    part = (GATEWAY, FIRST, ANSWER)[grown.index(max(grown))]
    tokens, tokens_before = now[3], before[3]
    if (
        part == ANSWER
        and tokens_before > 0
        and before[2] > 0
        and (tokens / tokens_before) ** 2 >= now[2] / before[2] > 1
    ):
        return LONGER
    return part


def _seconds(ns: float) -> str:
    return f"{ns / _S:.2f} s"
