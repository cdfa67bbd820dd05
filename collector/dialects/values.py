"""Values inside texts: JSON and Python reprs, a path through them, numbers, money and durations as people write them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any

from collector import documents

UNREAD: Any = object()
_PICO = Decimal(10) ** -12
_LARGEST = 2**62
_OUTSIDE = re.compile(r"\b(None|True|False)\b")
_IN_JSON = {"None": "null", "True": "true", "False": "false"}
_DEBUG = re.compile(r"(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?(?:(\d+(?:\.\d+)?)(?:us|µs))?(?:(\d+)ns)?")


def read(text: str) -> Any:
    """What a text spells as JSON or as a Python literal; the text itself where it spells neither."""
    if len(text) > documents.MAX_DOCUMENT_CHARACTERS:
        return None
    start = text[:1]
    if start not in "{[(":
        return _scalar(text)
    if start == "{" and text[1:2] == "'":
        as_json = _repr_as_json(text)
        if as_json is not None:
            try:
                return json.loads(as_json)
            except (ValueError, RecursionError):
                pass
    return documents.parse(text)


def _scalar(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _repr_as_json(text: str) -> str | None:
    # Without escapes and double quotes, every single quote opens or closes a string: what stands between is code.
    if '"' in text or "\\" in text:
        return None
    parts = text.split("'")
    parts[::2] = [_OUTSIDE.sub(lambda found: _IN_JSON[found[0]], part) for part in parts[::2]]
    return '"'.join(parts)


def descend(value: Any, path: Sequence[str]) -> Any:
    """What stands at a path of keys (or list places); `*` is any key, the first where the rest of the path leads on."""
    for place, key in enumerate(path):
        if key == "*" and isinstance(value, dict):
            below = (descend(part, path[place + 1 :]) for part in value.values())
            return next((found for found in below if found is not None), None)
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, (list, tuple)) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value


def steps(path: str) -> tuple[str, ...]:
    """A path as its keys. A key that has dots itself is written in quotes: `"gen_ai.x".y`."""
    found = re.findall(r'"([^"]*)"|([^."]+)', path)
    return tuple(quoted or plain for quoted, plain in found)


def text_of(value: Any) -> str | None:
    """A value of a document as text: lists and objects as JSON."""
    if value is None:
        return None
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError, TypeError):
        return None
    # JSON can spell half a surrogate pair, UTF-8 cannot.
    return text.encode("utf-8", "replace").decode("utf-8")


def count_of(value: Any) -> int | None:
    """A count: whole numbers, also as float or text."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"-?\d{1,18}", value.strip()) else None
    if isinstance(value, float):
        return int(value) if math.isfinite(value) and value == int(value) and abs(value) < _LARGEST else None
    return value if isinstance(value, int) and abs(value) < _LARGEST else None


def pico_of(value: Any) -> int | None:
    """US dollars as pico-dollars, rounded to 12 decimals; None for zero, for less, and for what is no number."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    try:
        dollars = Decimal(str(value).strip().removeprefix("$"))
        if not dollars.is_finite() or not 0 < dollars < 10**6:
            return None
        return int(dollars.quantize(_PICO, ROUND_HALF_EVEN).scaleb(12)) or None
    except (InvalidOperation, ValueError):
        return None


def number_of(value: Any) -> float | None:
    """A number, also as text."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def debug_ns(text: str) -> int | None:
    """A duration as Rust's Debug writes it: `1.23s`, `45.6ms`, `12µs`."""
    found = _DEBUG.fullmatch(text.strip())
    if not found or not any(found.groups()):
        return None
    return round(sum(float(part or 0) * unit for part, unit in zip(found.groups(), (1e9, 1e6, 1e3, 1), strict=True)))


def moment_ns(text: str) -> int | None:
    """An ISO 8601 moment, in quotes or not, as Unix nanoseconds; UTC where it names no zone."""
    try:
        moment = datetime.fromisoformat(text.strip().strip('"'))
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return (since.days * 86400 + since.seconds) * 10**9 + since.microseconds * 1000


def flag_of(text: str) -> bool | None:
    """A yes or no."""
    word = text.strip().lower()
    if word in ("true", "1", "yes", "on"):
        return True
    return False if word in ("false", "0", "no", "off") else None


def list_of(text: str, separator: str | None) -> list[str] | None:
    """The members of a list that a text spells (`key:value` of an object's); sorted, each once. None where there are none."""
    value = documents.parse(text) if text[:1] in ("[", "(", "{") else None
    if isinstance(value, (list, tuple, set)):
        members = [text_of(member) for member in value]
    elif isinstance(value, dict):
        members = [f"{text_of(key)}:{text_of(member)}" for key, member in value.items()]
    elif separator is not None:
        members = [part.strip() for part in text.split(separator)]
    else:
        members = [text.strip()]
    return sorted({member for member in members if member}) or None
