"""A config shown: as YAML with every default filled in, and as a JSON Schema for editors."""

from __future__ import annotations

import re
from typing import Any

import yaml
from pydantic import BaseModel

from config.model import LoadedConfig, ServiceConfig
from config.registry import SECTIONS, BrokenComponent, Registry

REDACTED = "[REDACTED]"
_SECRET_KEY = re.compile(r"(^|[_-])(password|passphrase|secret|token|authorization|credentials?|api[_-]?key)$", re.I)
_USERINFO = re.compile(r"(?<=://)([^/\s'\"@:]*):[^/\s'\"]*@")
_PYDANTIC_MASK = "**********"
_FROM_ENV = {"type": "string", "pattern": r"\$\{env:"}


def print_config(loaded: LoadedConfig) -> str:
    """The config as YAML: defaults filled in, durations and sizes with units, secrets as `[REDACTED]`.

    Options that are not set and have no default are left out: the text means the same config when it is loaded.
    """
    data: dict[str, Any] = {
        section: {id_: _plain(spec.config) for id_, spec in getattr(loaded, section).items()} for section in SECTIONS
    }
    data["service"] = _plain(loaded.service)
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)


def _plain(model: BaseModel) -> Any:
    return _redact(model.model_dump(mode="json", by_alias=True, exclude_none=True), "")


def _redact(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return {k: _redact(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [_redact(item, key) for item in value]
    if not isinstance(value, str):
        return value
    if value == _PYDANTIC_MASK or (value and _SECRET_KEY.search(key)):
        return REDACTED
    return _USERINFO.sub(rf"\1:{REDACTED}@", value)


def json_schema(registry: Registry | None = None) -> dict[str, Any]:
    """JSON Schema (2020-12) of the whole config, for the component types of a registry (default: all installed).

    A component whose code does not import is allowed with any options.
    """
    registry = registry or Registry.installed()
    definitions: dict[str, Any] = {}
    sections: dict[str, Any] = {}
    for section, noun in SECTIONS.items():
        types: dict[str, Any] = {}
        for name, entry in registry.section(section).items():
            try:
                cls = entry.load(section)
            except BrokenComponent:
                types[rf"^{name}(/[a-zA-Z][a-zA-Z0-9_]*)?$"] = {}
                continue
            schema = _definition(cls.Config, f"{section}.{name}", definitions)
            types[rf"^{name}(/[a-zA-Z][a-zA-Z0-9_]*)?$"] = {"anyOf": [schema, {"type": "null"}]}
        sections[section] = {
            "type": ["object", "null"],
            "description": f"The {noun}s, by id: `type` or `type/name`.",
            "patternProperties": types,
            "additionalProperties": False,
        }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Spanledger config",
        "type": "object",
        "properties": {**sections, "service": _definition(ServiceConfig, "service", definitions)},
        "required": ["service"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _definition(model: type[BaseModel], prefix: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """Put a model and what it is made of into `definitions` under names of their own; give back a reference."""
    schema = model.model_json_schema(ref_template=f"#/$defs/{prefix}.{{model}}")
    for name, inner in schema.pop("$defs", {}).items():
        definitions[f"{prefix}.{name}"] = _as_written(inner)
    definitions[prefix] = _as_written(schema)
    return {"$ref": f"#/$defs/{prefix}"}


def _as_written(schema: Any) -> Any:
    """Allow what a file may hold and the model never sees: `${env:NAME}` for a number, an option mapping left empty."""
    if isinstance(schema, list):
        return [_as_written(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("default", "examples", "enum", "const"):
            inner[key] = value
        elif key in ("properties", "patternProperties"):  # names of options, not words of JSON Schema
            inner[key] = {name: _as_written(option) for name, option in value.items()}
        else:
            inner[key] = _as_written(value)
    schema = inner
    about = {k: schema.pop(k) for k in ("title", "description", "default") if k in schema}
    if schema.get("type") in ("integer", "number", "boolean"):
        schema = {"anyOf": [schema, _FROM_ENV]}
    elif "$ref" in schema:
        schema = {"anyOf": [schema, {"type": "null"}]}
    return {**about, **schema}
