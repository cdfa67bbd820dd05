"""Where content, identities and measures stand, as attribute keys: `content.yaml`, and what the dialects' own facts say.

Keys mean the same wherever they stand (resource, span, event, log record, data point), so that what was redacted on one
span of a trace is redacted on all of them.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict

from collector.columns import CONVERSATION, DIMENSIONS
from collector.dialects.load import dialects, fact_places
from collector.dialects.model import FACTS, HELPERS, MONEY, NUMBERS, TIME
from collector.dialects.vocabulary import words

IdentityName = Literal["user", "end_user", "api_key", "conversation_id"]
IDENTITIES: tuple[IdentityName, ...] = get_args(IdentityName)
#: The facts of a dialect that name one.
FACTS_OF: dict[IdentityName, tuple[str, ...]] = {
    "user": ("gateway_user", "claimed_user"),
    "end_user": ("gateway_end_user",),
    "api_key": ("gateway_key_alias", "gateway_key_hash"),
    "conversation_id": ("conversation_id",),
}
#: What a pseudonym is called. A caller's claim may be charged as user and as end user: one person, one name.
NAME_OF: dict[IdentityName, str] = {
    "user": "user",
    "end_user": "user",
    "api_key": "key",
    "conversation_id": "conversation",
}
_FILE = Path(__file__).with_name("content.yaml")


class Content(IntEnum):
    """Whether a place is what was said to a model, or what it answered."""

    NONE = 0
    REQUEST = 1
    ANSWER = 2


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Events(_Model):
    request: tuple[str, ...]
    answer: tuple[str, ...]
    keeps: tuple[str, ...]


class _Lists(_Model):
    """The file."""

    request: tuple[str, ...]
    answer: tuple[str, ...]
    events: _Events
    headers: tuple[str, ...]
    identities: dict[IdentityName, tuple[str, ...]]
    documents: tuple[str, ...]
    members: Annotated[tuple[str, ...], BeforeValidator(tuple)]
    numbers: tuple[str, ...]


class Globs:
    """Patterns of keys as one expression. `in` asks whether a key matches one of them."""

    def __init__(self, patterns: Iterable[str], others: Globs | None = None) -> None:
        self._pattern = re.compile("|".join(map(fnmatch.translate, patterns)) or r"(?!)", re.IGNORECASE)
        self._others = others

    def __contains__(self, key: str) -> bool:
        return self._pattern.match(key) is not None or (self._others is not None and key in self._others)


class Places:
    """What an attribute key, or the name of an event, says about what stands there."""

    def __init__(self) -> None:
        lists = _Lists.model_validate(yaml.safe_load(_FILE.read_text(encoding="utf-8")))
        self.headers = Globs(lists.headers)
        self._content = {Content.REQUEST: Globs(lists.request), Content.ANSWER: Globs(lists.answer)}
        self._events = {Content.REQUEST: Globs(lists.events.request), Content.ANSWER: Globs(lists.events.answer)}
        self._facts = Globs(_keys(sorted(FACTS)))
        measured = [*NUMBERS, *HELPERS, MONEY, TIME]
        self.numbers = Globs([*_keys(measured), *lists.numbers])
        self._kept_of_events = Globs([*lists.events.keeps, *lists.numbers, *_keys(_OF_A_CALL)])
        self._identities = {
            name: Globs([*_keys(FACTS_OF[name]), *lists.identities.get(name, ()), *_written_by_us(name)])
            for name in IDENTITIES
        }
        facts = [fact for name in ("user", "end_user") for fact in FACTS_OF[name]]
        paths = [place for place in fact_places(facts) if place.path]
        self.documents = Globs([*(place.key for place in paths), *lists.documents])
        self.members: tuple[str, ...] = tuple(
            dict.fromkeys([*lists.members, *(str(place.path[-1]) for place in paths if place.path)])
        )
        self.ids = Globs(_keys(("response_id", "call_hint")))
        self.nobody = frozenset(_nobody())

    def with_(self, sources: Mapping[str, Sequence[str]]) -> Places:
        """These, and attributes that a config takes identities from: `span.employee`; `span.account.name`, which may also be
        `name` in the document `account`."""
        names = {name: [text.partition(".")[2] for text in sources.get(name, ())] for name in IDENTITIES}
        if not any(names.values()):
            return self
        made = copy(self)
        made._identities = {name: Globs(map(_exactly, names[name]), globs) for name, globs in self._identities.items()}
        parts = [key.split(".") for keys in names.values() for key in keys]
        documents = {".".join(part[:cut]) for part in parts for cut in range(1, len(part))}
        made.documents = Globs(map(_exactly, documents), self.documents)
        made.members = tuple(dict.fromkeys([*self.members, *(part[-1] for part in parts if len(part) > 1)]))
        return made

    def content(self, key: str) -> Content:
        """Whether an attribute holds what was said to a model, or its answer. What a dialect reads a fact from does not."""
        return Content.NONE if key in self._facts else _first(self._content, key)

    def event(self, name: str) -> Content:
        """The same of all that an event or log record of this name says, but for what `kept_of_events` names."""
        return _first(self._events, name)

    def kept_of_events(self, key: str) -> bool:
        """Whether an attribute of such an event is no content."""
        return key in self._kept_of_events

    def identity(self, key: str) -> IdentityName | None:
        """Whom an attribute names, if anybody."""
        return next((name for name, globs in self._identities.items() if key in globs), None)


#: Facts that a content event may tell beside the content.
_OF_A_CALL = (
    "operation",
    "provider",
    "request_model",
    "response_model",
    "response_id",
    "finish_reason",
    "service_tier",
)


def _first(globs: dict[Content, Globs], text: str) -> Content:
    return next((content for content, patterns in globs.items() if text in patterns), Content.NONE)


def _keys(facts: Sequence[str]) -> list[str]:
    """The attributes that facts are the whole text of, in any dialect, as patterns that match nothing else."""
    found = {place.key for place in fact_places(facts) if not place.path and place.owner in ("span", "resource", "scope", "event")}  # fmt: skip
    return [_exactly(key) for key in sorted(found) if key]


def _exactly(key: str) -> str:
    """The pattern that matches a key and no other."""
    return re.sub(r"([*?\[])", r"[\1]", key)


def _written_by_us(name: IdentityName) -> list[str]:
    """The attribute that an identity leaves as on OTLP output, and comes in as from another Spanledger."""
    return [column.attribute for column in (*DIMENSIONS, CONVERSATION) if column.name == name and column.attribute]


def _nobody() -> Iterator[str]:
    """What senders write where there is nobody, in lower case."""
    yield from (word.lower() for word in words().absent if not word.endswith("*"))
    facts = {fact for names in FACTS_OF.values() for fact in names}
    for dialect in dialects():
        for fact in facts & dialect.facts.keys():
            for source in dialect.facts[fact]:
                yield from (text.lower() for text, meaning in source.map.items() if not meaning)


@cache
def places() -> Places:
    """The shipped ones, read once."""
    return Places()
