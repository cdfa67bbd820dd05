"""Which words of a row a scope's series keep: those of what is watched, and of what that is compared with.

A user whose cost alone is watched takes half of what an app takes; of a million series, most are of one such scope.
"""

from __future__ import annotations

from collections.abc import Mapping

from processors.anomaly.config import Scope
from processors.anomaly.measures import MEASURES, MONEY, PLACES, Scale
from processors.anomaly.rows import Layout

_VOLUMES = frozenset(place for place, measure in enumerate(MEASURES) if measure.scale is Scale.VOLUME)


def layouts(scopes: Mapping[str, Scope], alike: str | None) -> list[Layout]:
    """One for each scope, in their order. `alike`: the scope that others are compared with."""
    wholes = {scope.per[:-1] for scope in scopes.values() if scope.shares}
    return [_layout(scope, name == alike, scope.per in wholes) for name, scope in scopes.items()]


def _layout(scope: Scope, alike: bool, whole: bool) -> Layout:
    places = {PLACES[name] for name in scope.measures}
    season = not places.isdisjoint(_VOLUMES)
    if PLACES["latency"] in places:  # longer answers may explain it
        places.add(PLACES["output_tokens"])
    if any(MONEY[place] for place in places - _VOLUMES):  # what is too much of the cost of a call is what is at stake
        places.add(PLACES["cost_per_call"])
    if alike:
        places.update(place for place, measure in enumerate(MEASURES) if measure.alike)
    if whole:  # others have shares of its calls: how long it was seen
        places.add(PLACES["error_rate"])
    return Layout(season, scope.single, tuple(sorted(places)))
