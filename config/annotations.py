"""What a config model says about the place at a path: its models, whether it is secret, a duration, a size."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, SecretBytes, SecretStr
from pydantic.fields import FieldInfo

from config.types import parse_size, read_duration


class NullSaysSomething:
    """Metadata of an annotation where nothing behind a key is not short for no options, as with an entry that it takes out."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return {"anyOf": [handler(schema), {"type": "null"}]}


def members(annotation: Any) -> Iterator[Any]:
    """The single types that an annotation is made of: `X | None` → X, None; metadata taken off."""
    if get_origin(annotation) is Annotated:
        yield from members(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from members(member)
    else:
        yield annotation


def models(annotation: Any) -> list[type[BaseModel]]:
    """The models among the members."""
    return [m for m in members(annotation) if isinstance(m, type) and issubclass(m, BaseModel)]


def step(annotation: Any, part: str | int) -> list[Any]:
    """The annotations that a value's part at a key or index may have."""
    found: list[Any] = []
    for member in members(annotation):
        origin, args = get_origin(member), get_args(member)
        if isinstance(member, type) and issubclass(member, BaseModel):
            found += [_whole(f) for name, f in member.model_fields.items() if part in (name, f.alias)]
        elif isinstance(origin, type) and issubclass(origin, Mapping) and len(args) == 2:
            found.append(args[1])
        elif origin is tuple and isinstance(part, int) and args and args[-1] is not Ellipsis:
            found += args[part : part + 1]
        elif isinstance(origin, type) and issubclass(origin, Sequence | set | frozenset) and args:
            found.append(args[0])
    return found


def _whole(field: FieldInfo) -> Any:
    """The annotation with the metadata that pydantic has taken off it."""
    annotation: Any = field.annotation
    for item in field.metadata:
        annotation = Annotated[annotation, item]
    return annotation


def at(annotation: Any, path: Sequence[str | int]) -> list[Any]:
    """The annotations that the place at a path may have; empty where the model knows no such place."""
    found = [annotation]
    for part in path:
        found = [inner for outer in found for inner in step(outer, part)]
    return found


def fields(annotations: Sequence[Any]) -> list[str]:
    """The keys that a mapping may have which is one of these."""
    return [f.alias or name for a in annotations for m in models(a) for name, f in m.model_fields.items()]


def is_secret(annotations: Sequence[Any]) -> bool:
    """Whether one of these hides its value."""
    return any(m in (SecretStr, SecretBytes) for a in annotations for m in members(a))


def unit(annotations: Sequence[Any]) -> Literal["duration", "size"] | None:
    """Whether one of these is a `Duration` or a `ByteSize`."""
    for annotation in annotations:
        validators = _validators(annotation)
        if read_duration in validators:
            return "duration"
        if parse_size in validators:
            return "size"
    return None


def _validators(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        return [m.func for m in metadata if isinstance(m, BeforeValidator)] + _validators(inner)
    if get_origin(annotation) in (Union, types.UnionType):
        return [v for member in get_args(annotation) for v in _validators(member)]
    return []


def fill(annotations: Sequence[Any], data: Any) -> Any:
    """The data with `key:` (nothing behind it) read as `key: {}` where the model wants a mapping of options."""
    if data is None and any(models(a) for a in annotations):
        return None if any(isinstance(m, NullSaysSomething) for a in annotations for m in get_args(a)[1:]) else {}
    if isinstance(data, dict):
        return {key: fill([s for a in annotations for s in step(a, key)], value) for key, value in data.items()}
    if isinstance(data, list):
        return [fill([s for a in annotations for s in step(a, i)], value) for i, value in enumerate(data)]
    return data
