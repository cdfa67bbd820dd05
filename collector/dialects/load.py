"""Dialect files, read once and checked strictly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import yaml
from pydantic import ValidationError

from collector.dialects.model import HELPERS, NUMBERS, Dialect, Source, When
from collector.dialects.places import Place, place
from collector.errors import ConfigError

FOLDER = Path(__file__).parent
_VOCABULARY = "vocabulary.yaml"
#: What a child takes over whole from the dialect that it extends, where it says nothing itself.
_INHERITED = (
    "rank",
    "spans",
    "default_operation",
    "input",
    "output",
    "flags",
    "response_id_unless",
    "failed",
    "replayed",
)
#: Facts that a test reads.
_READ_BY = {
    "operation": ("operation",),
    "provider": ("provider",),
    "model": ("request_model", "response_model"),
    "usage": tuple(sorted(NUMBERS | HELPERS)),
}


@cache
def dialects() -> tuple[Dialect, ...]:
    """The shipped dialects, by name."""
    return read_folder(FOLDER)


def read_folder(folder: Path) -> tuple[Dialect, ...]:
    """Every dialect file of a folder. Raises ConfigError, which names the file and the place in it."""
    files = {path.stem: path for path in sorted(folder.glob("*.yaml")) if path.name != _VOCABULARY}
    raw = {stem: _mapping(path) for stem, path in files.items()}
    return tuple(_dialect(stem, files, raw) for stem in files)


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _mapping(path: Path) -> dict[str, object]:
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 (a safe loader)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ConfigError(f"{path}:{mark.line + 1 if mark else 1}: {getattr(error, 'problem', error)}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}:1: expected a mapping with name, about, source, match …")
    return data


def _dialect(stem: str, files: dict[str, Path], raw: dict[str, dict[str, object]]) -> Dialect:
    path = files[stem]
    try:
        dialect = Dialect.model_validate(_whole(stem, raw, ()))
        if dialect.name != stem:
            raise ValueError(f"name: expected {stem}, as the file is called, got {dialect.name}")
        _no_circles(dialect)
    except ValidationError as error:
        places = "; ".join(f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors())
        raise ConfigError(f"{path}: {places}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    return dialect


def _whole(stem: str, raw: dict[str, dict[str, object]], heirs: tuple[str, ...]) -> dict[str, object]:
    """A file's mapping with what it inherits."""
    own = raw[stem]
    parent = own.get("extends")
    if parent is None:
        return own
    if parent not in raw or parent in (stem, *heirs):
        raise ValueError(f"extends: no other dialect file is called {parent}")
    inherited = _whole(str(parent), raw, (*heirs, stem))
    facts = own.get("facts") or {}
    theirs = inherited.get("facts") or {}
    if not isinstance(facts, dict) or not isinstance(theirs, dict):
        raise ValueError("facts: expected a mapping of fact → sources")
    kept = {key: inherited[key] for key in _INHERITED if key in inherited}
    both = {**theirs, **facts}
    return {**kept, **own, "facts": {name: sources for name, sources in both.items() if sources is not None}}


def _no_circles(dialect: Dialect) -> None:
    """A source's `when` must not read the very fact that it is for."""
    reads = {name: {read for source in sources for read in _reads(source)} for name, sources in dialect.facts.items()}
    for name, first in reads.items():
        seen: set[str] = set()
        ahead = set(first)
        while ahead:
            fact = ahead.pop()
            if fact == name:
                raise ValueError(f"facts.{name}: a source's test reads {name} itself")
            if fact not in seen:
                seen.add(fact)
                ahead |= reads.get(fact, set())


def _reads(source: Source) -> Iterator[str]:
    for when in source.when:
        yield from _read_by(when)
    if source.strip_provider:
        yield "provider"


def _read_by(when: When) -> Iterator[str]:
    for test, facts in _READ_BY.items():
        if getattr(when, test) is not None:
            yield from facts
    if when.not_ is not None:
        yield from _read_by(when.not_)


def span_keys(dialect: Dialect) -> set[str]:
    """Every attribute key of a span that the dialect looks at."""
    keys = match_keys(dialect) | set(dialect.response_id_unless)
    sources = [source for sources in dialect.facts.values() for source in sources]
    for source in sources:
        keys |= _span_keys([source.from_, *(source.sum or ())])
    for when in _tests(dialect, sources):
        keys |= {*when.has, *when.any, *when.lacks} | _span_keys([*when.is_, *when.is_not])
    return keys


def fact_places(facts: Iterable[str]) -> list[Place]:
    """Where any shipped dialect finds one of these facts."""
    wanted = set(facts)
    found = [source for dialect in dialects() for name, sources in dialect.facts.items() if name in wanted for source in sources]  # fmt: skip
    texts = [text for source in found for text in (source.from_, *(source.sum or ())) if text]
    return [place(text) for text in dict.fromkeys(texts)]


def match_keys(dialect: Dialect) -> set[str]:
    """The keys that decide whether a span is of this dialect."""
    return {key for match in dialect.match for key in (*match.keys, *match.any, *match.lacks)}


def resource_keys(dialect: Dialect) -> set[str]:
    """Every resource attribute that the dialect looks at."""
    sources = [source for sources in dialect.facts.values() for source in sources]
    keys = {key for match in dialect.match for key in match.resource}
    keys |= {place(source.from_).key for source in sources if source.from_ and source.from_.startswith("resource:")}
    for when in _tests(dialect, sources):
        keys |= set(when.resource)
        keys |= {place(text).key for text in (*when.is_, *when.is_not) if text.startswith("resource:")}
    return keys


def _tests(dialect: Dialect, sources: Iterable[Source]) -> Iterator[When]:
    groups = [source.when for source in sources]
    groups += [rule.when for rule in dialect.spans] + [rule.when for rule in dialect.rank]
    groups += [rule.when for rule in (*dialect.input, *dialect.output)] + [rule.when for rule in dialect.flags]
    for whens in (*groups, dialect.failed, dialect.replayed):
        for when in whens:
            one: When | None = when
            while one is not None:
                yield one
                one = one.not_


def _span_keys(texts: Iterable[str | None]) -> set[str]:
    return {place(text).key for text in texts if text and place(text).owner == "span"}
