"""The words that all dialects are brought to, read from `vocabulary.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from collector.dialects.model import OperationClass
from collector.errors import ConfigError

PATH = Path(__file__).with_name("vocabulary.yaml")
_DISTINCT = 8192  # texts come from outside: what is remembered of them is bounded


class Vocabulary(BaseModel):
    """As the file has it: a word, and the other words for it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    absent: tuple[str, ...]
    operations: Mapping[OperationClass, Mapping[str, tuple[str, ...]]]
    providers: Mapping[str, tuple[str, ...]]
    finish_reasons: Mapping[str, tuple[str, ...]]
    tiers: Mapping[str, tuple[str, ...]]


def read(path: Path) -> Vocabulary:
    """The vocabulary in a file. Raises ConfigError, also where one text has two meanings."""
    try:
        words = Vocabulary.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        for table in (*words.operations.values(), words.providers, words.finish_reasons, words.tiers):
            _turned(table)
        _turned({word: others for table in words.operations.values() for word, others in table.items()})
    except (OSError, yaml.YAMLError, ValidationError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error
    return words


def _turned(table: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    meanings: dict[str, str] = {}
    for word, others in table.items():
        for text in (word, *others):
            if meanings.setdefault(text.lower(), word) != word:
                raise ValueError(f"{text!r} means both {meanings[text.lower()]!r} and {word!r}")
    return meanings


@cache
def words() -> Vocabulary:
    """The shipped vocabulary."""
    return read(PATH)


@cache
def _meanings(table: str) -> dict[str, str]:
    if table == "operations":
        return _turned({word: others for part in words().operations.values() for word, others in part.items()})
    return _turned(getattr(words(), table))


@cache
def _classes() -> dict[str, OperationClass]:
    return {word: kind for kind, table in words().operations.items() for word in table}


@lru_cache(_DISTINCT)
def operation(text: str) -> str | None:
    """The convention's word for an operation."""
    return _meanings("operations").get(text.strip().lower(), text.strip()) or None


@lru_cache(_DISTINCT)
def operation_class(word: str) -> OperationClass:
    """What kind of operation the convention's word names."""
    return _classes().get(word, "unknown")


@lru_cache(_DISTINCT)
def provider(text: str) -> str | None:
    """The conventions' name of a provider; None where the text names none."""
    known = _meanings("providers")
    name = text.strip().lower()
    while name:
        if name in known:
            return known[name] or None
        name, _, _ = name.rpartition(".")
    return text.strip() or None


@lru_cache(_DISTINCT)
def finish_reason(text: str) -> str | None:
    """The convention's word for why a model stopped."""
    return _meanings("finish_reasons").get(text.strip().lower(), text.strip()) or None


@lru_cache(_DISTINCT)
def tier(text: str) -> str | None:
    """The common word for a service tier, in lower case."""
    name = text.strip().lower()
    return _meanings("tiers").get(name, name) or None
