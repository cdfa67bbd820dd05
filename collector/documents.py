"""JSON, or Python's repr of a dict, inside a text: read once per distinct text, never evaluated."""

from __future__ import annotations

import ast
import json
import warnings
from typing import Any

MAX_DOCUMENT_CHARACTERS = 1 << 18


def parse(text: str) -> Any:
    """The value that a text spells as JSON or as a Python literal; None where it is neither, or too large or deep to read."""
    if len(text) > MAX_DOCUMENT_CHARACTERS or text[:1] not in ("{", "[", "("):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        with warnings.catch_warnings():  # of an odd escape in a stranger's text
            warnings.simplefilter("ignore")
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None


def look_up(text: str, path: str) -> str | None:
    """The text at a dotted path of keys; numbers and booleans as JSON writes them, lists and objects as JSON.

    A key may itself contain dots: the whole rest of the path is tried as one key first.
    """
    if path.rpartition(".")[2] not in text and "\\u" not in text and "\\x" not in text:
        return None  # a text that cannot have the key, as most that are asked, is not read
    value = parse(text)
    while path:
        if not isinstance(value, dict):
            return None
        key = path if path in value else path.partition(".")[0]
        value = value.get(key)
        path = path[len(key) + 1 :]
    return None if value is None else _text(value)


def string_list(text: str) -> list[str] | None:
    """The members of a list of texts and numbers; None where the text is something else."""
    value = parse(text)
    if isinstance(value, (list, tuple)) and all(isinstance(item, str | int | float) for item in value):
        return [_text(item) for item in value]
    return None


def _text(value: Any) -> str:
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, TypeError):  # keys that JSON cannot have
        text = str(value)
    # JSON can spell half a surrogate pair, UTF-8 cannot.
    return text.encode("utf-8", "replace").decode("utf-8")
