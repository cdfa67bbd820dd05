"""Pydantic's errors in plain words: what was got, what is expected, what to do. Secrets and environment stay out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from config.annotations import at, fields, is_secret, models, unit
from config.document import Document, Path
from config.errors import Kind
from config.types import show_duration, show_size

_SECRET_NAME = re.compile(
    r"(pass(word|wd|phrase)?|token|secret|authorization|credentials?|api[_-]?key)s?$", re.IGNORECASE
)
_USERINFO = re.compile(r"(?<=://)(?!user:password@host)[^/\s'\"@]*:[^/\s'\"]*@")
_EXPECTED = {
    "string_type": "text", "string_sub_type": "text", "path_type": "a path",
    "int_type": "a whole number", "int_from_float": "a whole number", "int_parsing": "a whole number",
    "float_type": "a number", "decimal_type": "a number", "decimal_parsing": "a number", "bool_type": "true or false",
    "dict_type": "a mapping", "mapping_type": "a mapping", "model_type": "a mapping", "model_attributes_type": "a mapping",
    "list_type": "a list", "tuple_type": "a list", "set_type": "a list", "frozen_set_type": "a list", "none_required": "nothing",
    "date_from_datetime_parsing": "a date such as 2026-01-31", "date_parsing": "a date such as 2026-01-31",
    "date_type": "a date such as 2026-01-31", "date_from_datetime_inexact": "a date such as 2026-01-31",
    "datetime_from_date_parsing": "a time such as 2026-01-31T12:00:00Z", "datetime_parsing": "a time such as 2026-01-31T12:00:00Z",
    "datetime_type": "a time such as 2026-01-31T12:00:00Z",
}  # fmt: skip
_BOUNDS = {"greater_than": ("more than", "gt"), "greater_than_equal": ("at least", "ge"),
           "less_than": ("less than", "lt"), "less_than_equal": ("at most", "le")}  # fmt: skip


@dataclass(slots=True)
class Problem:
    """One thing that is wrong below a component: path relative to it, and whether its key is to blame."""

    path: Path
    kind: Kind
    message: str
    key: bool = False
    expected: str = ""


def suggest(word: str, known: Sequence[str], listed: str = "") -> str:
    """`; did you mean 'x'?`, or the known words behind `listed`, or nothing."""
    match = get_close_matches(word, known, n=1, cutoff=0.6)
    if match:
        return f"; did you mean '{match[0]}'?"
    return f"; {listed}: {', '.join(known)}" if known and listed else ""


def explain(error: ValidationError, model: type[BaseModel], data: Any, document: Document, base: Path) -> list[Problem]:
    """The error's problems. `data` is what was validated as `model`; it stands at `base` in the document."""
    problems: list[Problem] = []
    for detail in error.errors(include_url=False):
        path = _path(detail["loc"], data, detail["type"])
        problem = _problem(detail, path, model, document, base)
        twin = next((p for p in problems if p.path == path and p.expected and problem.expected), None)
        if twin is None:
            problems.append(problem)
        elif problem.expected not in twin.expected.split(" or "):  # one problem for all members of a union
            twin.message = twin.message.replace(twin.expected, f"{twin.expected} or {problem.expected}", 1)
            twin.expected += f" or {problem.expected}"
    # Where one member of a union was understood so far that something in it is wrong, the others' "wrong type" is noise.
    understood = [p.path for p in problems if not p.expected]
    inside = [p.path for p in problems]
    return [
        p for p in problems
        if not p.expected or not (p.path in understood or any(q[: len(p.path)] == p.path and len(q) > len(p.path) for q in inside))
    ]  # fmt: skip


def _path(loc: Sequence[str | int], data: Any, type_: str) -> Path:
    """Pydantic's location without the names of union members and validators that it mixes in."""
    path: list[str | int] = []
    for i, part in enumerate(loc):
        if (isinstance(data, dict) and part in data) or (
            isinstance(data, list) and isinstance(part, int) and part < len(data)
        ):
            path.append(part)
            data = data[part]  # type: ignore[index]
        elif i == len(loc) - 1 and type_ == "missing":
            path.append(part)
    return tuple(path)


def _problem(detail: ErrorDetails, path: Path, model: type[BaseModel], document: Document, base: Path) -> Problem:
    type_, got, context = detail["type"], detail["input"], detail.get("ctx", {})
    places = at(model, path)
    hidden = _hidden(path, places, document, base)
    if type_ == "extra_forbidden":
        known = fields(at(model, path[:-1]))
        return Problem(path, Kind.UNKNOWN_KEY, f"unknown key{suggest(str(path[-1]), known, 'known keys')}", key=True)
    if type_ == "missing":
        return Problem(path, Kind.MISSING_KEY, f"required key is missing{_meaning(model, path)}")
    if type_ in _EXPECTED:
        expected = _EXPECTED[type_]
        hint = "; put it in quotes" if expected == "text" and isinstance(got, int | float) else ""
        return Problem(path, Kind.WRONG_TYPE, f"expected {expected}, got {_show(got, hidden)}{hint}", expected=expected)
    if type_ in _BOUNDS:
        words, key = _BOUNDS[type_]
        measure = unit(places)
        show = {"duration": show_duration, "size": show_size}.get(measure or "", _figure)
        value = "" if hidden else f", got {show(got)}"
        return Problem(path, Kind.BAD_VALUE, f"must be {words} {show(context[key])}{value}")
    if type_ in ("literal_error", "enum"):
        choices = re.findall(r"'([^']*)'", str(context["expected"]))
        hint = suggest(got, choices) if isinstance(got, str) and not hidden else ""
        return Problem(path, Kind.BAD_VALUE, f"expected {context['expected']}, got {_show(got, hidden)}{hint}")
    if type_ in ("too_short", "too_long"):
        bound, length = ("at least", "min_length") if type_ == "too_short" else ("at most", "max_length")
        entries = f"{context[length]} {'entry' if context[length] == 1 else 'entries'}"
        return Problem(path, Kind.BAD_VALUE, f"needs {bound} {entries}, got {context['actual_length'] or 'none'}")
    if type_ in ("string_too_short", "string_too_long"):
        bound = (
            f"at least {context['min_length']}" if type_ == "string_too_short" else f"at most {context['max_length']}"
        )
        return Problem(path, Kind.BAD_VALUE, f"needs {bound} characters")
    if type_ == "string_pattern_mismatch":
        return Problem(
            path, Kind.BAD_VALUE, f"expected text that matches {context['pattern']}, got {_show(got, hidden)}"
        )
    message = str(context["error"]) if "error" in context else detail["msg"][:1].lower() + detail["msg"][1:]
    return Problem(path, Kind.BAD_VALUE, scrub(message, path, model, document, base))


def _figure(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _meaning(model: type[BaseModel], path: Path) -> str:
    """The first sentence of the missing option's description."""
    for annotation in at(model, path[:-1]):
        for owner in models(annotation):
            found = next((f for name, f in owner.model_fields.items() if path[-1] in (f.alias, name)), None)
            if found is not None and found.description:
                meaning = " ".join(found.description.split()).split(". ")[0].rstrip(".")
                word = meaning.split(" ")[0]
                return f": {meaning[0].lower()}{meaning[1:]}" if word[1:].islower() else f": {meaning}"
    return ""


def _hidden(path: Path, places: Sequence[Any], document: Document, base: Path) -> bool:
    return (*base, *path) in document.from_env or is_secret(places) or bool(path and _SECRET_NAME.search(str(path[-1])))


def _show(value: Any, hidden: bool) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if hidden:
        return "text" if isinstance(value, str) else "true or false" if isinstance(value, bool) else "a number"
    if isinstance(value, str):
        text = _USERINFO.sub("[REDACTED]@", value)
        return repr(text if len(text) <= 60 else f"{text[:57]}...")
    return str(value).lower() if isinstance(value, bool) else f"the number {value}"


def scrub(message: str, path: Path, model: type[BaseModel], document: Document, base: Path) -> str:
    """A component's own message without the secrets, and the values from the environment, at or below its place."""
    root = (*base, *path)
    value = _value(document, root)
    for here, leaf in _leaves(value, path):
        if leaf and leaf in message and _hidden(here, at(model, here), document, base):
            message = message.replace(leaf, "[REDACTED]")
    return _USERINFO.sub("[REDACTED]@", message)


def _value(document: Document, path: Path) -> Any:
    try:
        return document.get(path)
    except (KeyError, IndexError, TypeError):
        return None


def _leaves(value: Any, path: Path) -> list[tuple[Path, str]]:
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in _leaves(item, (*path, key))]
    if isinstance(value, list):
        return [leaf for i, item in enumerate(value) for leaf in _leaves(item, (*path, i))]
    return [(path, value if isinstance(value, str) else str(value))] if value is not None else []
