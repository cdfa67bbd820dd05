"""What a service has once, however many pipelines and components it has: kept with the registry of its metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from prometheus_client import CollectorRegistry

Made = TypeVar("Made")

_made: WeakKeyDictionary[CollectorRegistry, dict[Any, Any]] = WeakKeyDictionary()


def once(registry: CollectorRegistry, make: Callable[[CollectorRegistry], Made]) -> Made:
    """What `make` makes for a registry, made when it is asked for first: a metric can be registered once only."""
    made = _made.setdefault(registry, {})
    if make not in made:
        made[make] = make(registry)
    found: Made = made[make]
    return found
