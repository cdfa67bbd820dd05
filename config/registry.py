"""Which components are installed: found by entry point, ours in the same way as a stranger's.

A package that brings components names them in its pyproject.toml:

    [project.entry-points."spanledger.processors"]
    cost_limit = "acme.spanledger:CostLimit"

The class behind the name has a `Config` (a pydantic model, best a `StrictModel`); a processor has a `stage` too.
Nothing is imported before a config names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import BaseModel

#: The sections of a config that hold components, with what one of them is called.
SECTIONS: Mapping[str, str] = {"receivers": "receiver", "processors": "processor", "exporters": "exporter"}
#: Where a processor may stand; `collector.component.Stage` says what each means.
STAGES = ("reports", "redaction", "calls")


class BrokenComponent(Exception):
    """An installed component cannot be used; the message says why, for the person who configures it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One installed component type. `origin` is the distribution that brings it, with its version."""

    type: str
    origin: str
    _load: Callable[[], Any]

    def load(self, section: str) -> Any:
        """The class. Raises `BrokenComponent` where its code does not import or it is not a component."""
        try:
            cls = self._load()
        except Exception as error:
            raise BrokenComponent(
                f"{SECTIONS[section]} {self.type!r} is installed ({self.origin}) but its code does not import: "
                f"{type(error).__name__}: {error}"
            ) from error
        model = getattr(cls, "Config", None)
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise BrokenComponent(
                f"{SECTIONS[section]} {self.type!r} ({self.origin}) has no Config: expected a class whose `Config` "
                "is a pydantic model"
            )
        if section == "processors" and getattr(getattr(cls, "stage", None), "value", None) not in STAGES:
            raise BrokenComponent(
                f"processor {self.type!r} ({self.origin}) has no stage: expected Stage.REPORTS or Stage.CALLS"
            )
        return cls


@dataclass(frozen=True, slots=True)
class Registry:
    """Component types by section and name."""

    receivers: Mapping[str, Entry] = field(default_factory=dict)
    processors: Mapping[str, Entry] = field(default_factory=dict)
    exporters: Mapping[str, Entry] = field(default_factory=dict)

    def section(self, name: str) -> Mapping[str, Entry]:
        """The entries of `receivers`, `processors` or `exporters`."""
        entries: Mapping[str, Entry] = getattr(self, name)
        return entries

    @classmethod
    def of(cls, **sections: Mapping[str, Any]) -> Registry:
        """A registry of classes at hand, for tests and tutorials: `Registry.of(processors={"limit": CostLimit})`."""
        return cls(**{
            section: {name: Entry(name, "given", lambda found=found: found) for name, found in classes.items()}  # type: ignore[misc]
            for section, classes in sections.items()
        })  # fmt: skip

    @classmethod
    def installed(cls) -> Registry:
        """Every component type that an installed distribution declares."""
        return cls(**{section: _entries(section) for section in SECTIONS})

    def with_(self, other: Registry) -> Registry:
        """Both together; `other` wins where a name is in both."""
        return Registry(**{section: {**self.section(section), **other.section(section)} for section in SECTIONS})


def _entries(section: str) -> dict[str, Entry]:
    found: dict[str, EntryPoint] = {}
    clashes: dict[str, set[str]] = {}
    for point in entry_points(group=f"spanledger.{section}"):
        if point.name in found and found[point.name].value != point.value:
            clashes.setdefault(point.name, {_origin(found[point.name])}).add(_origin(point))
        found.setdefault(point.name, point)
    return {
        name: Entry(name, _origin(point), _clash(clashes[name]) if name in clashes else point.load)
        for name, point in sorted(found.items())
    }


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value


def _clash(origins: set[str]) -> Callable[[], Any]:
    def load() -> Any:
        raise ImportError(
            f"several packages bring one of this name: {', '.join(sorted(origins))}; uninstall all but one"
        )

    return load
