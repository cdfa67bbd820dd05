"""Windows of event time: what was counted in each until it is judged, and what a judge says of it."""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping
from typing import NamedTuple

from collector.findings import Severity, Subject
from processors.behaviour.tallies import TIME, Addition, Key, Shown

#: Calls that a key keeps to show; of time the slowest one alone, so that it is the same wherever batches end.
_SHOWN = 3
#: Keys in one window: whoever makes up names must not fill the memory.
MOST = 20_000


class Tally(NamedTuple):
    """What was counted of a key in a window, and calls that show it."""

    values: tuple[int, ...]
    shown: tuple[Shown, ...] = ()


Tallies = Mapping[Key, Tally]


class Said(NamedTuple):
    """What a judge says of one subject in one window; `holds`: whether it is a finding, or as it should be."""

    kind: str
    subject: Subject
    message: str
    holds: bool = True
    measured: float | None = None
    expected: float | None = None
    unit: str = ""
    severity: Severity = Severity.WARNING
    shown: tuple[Shown, ...] = ()


def add(tallies: dict[Key, Tally], one: Addition) -> bool:
    """Count it. False: there are too many keys already."""
    was = tallies.get(one.key)
    if was is None:
        if len(tallies) >= MOST:
            return False
        was = Tally((0,) * len(one.values))
    most = 1 if one.key[0] == TIME else _SHOWN
    shown = was.shown if one.shown is None else _with(was.shown, *one.shown, most)
    values = tuple(map(operator.add, was.values, one.values)) if any(one.values) else was.values
    tallies[one.key] = Tally(values, shown)
    return True


def _with(shown: tuple[Shown, ...], call: Shown, counts: bool, most: int) -> tuple[Shown, ...]:
    """The first few, with a call that counts now, or counts no more."""
    if counts and len(shown) == most and call >= shown[-1]:
        return shown
    others = {other for other in shown if other != call}
    return tuple(sorted({*others, call} if counts else others)[:most])


def written(tallies: Tallies) -> bytes:
    """As a window lies in the state store."""
    return json.dumps([[key, *tally] for key, tally in tallies.items()], separators=(",", ":")).encode()


def read(value: bytes) -> dict[Key, Tally]:
    """What `written` wrote."""
    return {
        tuple(key): Tally(tuple(values), tuple(Shown(*one) for one in shown))
        for key, values, shown in json.loads(value)
    }
