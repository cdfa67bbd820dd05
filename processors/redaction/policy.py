"""The config as decisions: what happens to an attribute by its key, and to a hit by its detector.

Keys are judged once each, whatever the number of spans that have them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from collector.otlp.tables import U8
from processors.redaction.actions import Action, What
from processors.redaction.config import AttributeRule, Masked, Pattern, RedactionConfig, hit_action
from processors.redaction.content import NAME_OF, Content, Globs, Places, places
from processors.redaction.detector import Certainty, Detector, load_detectors
from processors.redaction.patterns import compiled
from processors.redaction.pseudonyms import SHAPE

Mask = NDArray[np.bool_]
#: Keys judged that are remembered: senders choose keys.
MOST_KEYS = 20_000
#: The detector of our own tokens: it is always on, and goes before all others.
TOKENS = Detector(
    id="pseudonym",
    title="A pseudonym that redaction made",
    kind="pii",
    patterns=(SHAPE,),
    boundary="word",
    certainty=Certainty.EXACT,
)
#: Id of the detector that says where the member of a document may name somebody: `persons.py` looks closer.
MEMBER = "member"
#: What is not told what to do.
_USUAL = Action(What.REPLACE)
_BY_RULE = "attribute"
_PSEUDONYM = Action(What.PSEUDONYMISE)


class Mode(IntEnum):
    """What happens to a value."""

    SCAN = 0  # hits go
    SECRETS = 1  # hits that are secrets go; others are counted
    LEAVE = 2  # nothing; it is not looked at
    WHOLE = 3  # something takes its place, whatever it is
    CONTENT = 4  # it goes, and what is found in it is counted
    DROP = 5  # its attribute goes


class KeyRule(NamedTuple):
    """What an attribute's key decides.

    action, name:  of WHOLE: what takes the value's place, and what that is called
    content:       whether it is what a model was sent or answered
    measure:       its numbers are measures, times or ids of machines
    document:      members of documents in it may name persons
    distinct:      things are told apart by its values: never a constant in their place
    kept_of_event: it is no content, even in an event that is content as a whole
    header:        it goes for being a header that may hold credentials
    """

    mode: Mode
    action: Action = _USUAL
    name: str = ""
    content: Content = Content.NONE
    measure: bool = False
    document: bool = False
    distinct: bool = False
    kept_of_event: bool = False
    header: bool = False

    @property
    def why(self) -> str:
        """What makes a value go in which nothing was found, in a word for people."""
        if self.name == _BY_RULE or (self.mode is Mode.DROP and not self.header):
            return "a rule of the config"
        if self.mode is Mode.DROP:
            return "header"
        return "identity" if self.mode is not Mode.CONTENT else "content"


@dataclass(frozen=True, slots=True)
class KeyTable:
    """The rules of a batch's keys as columns; the last row is for what stands under no key (-1)."""

    rules: Sequence[KeyRule]
    mode: U8
    content: U8
    measure: Mask
    document: Mask
    distinct: Mask
    kept_of_event: Mask


class Policy:
    """What the config says, ready to be asked. One thread."""

    def __init__(self, config: RedactionConfig, sources: Mapping[str, Sequence[str]] | None = None) -> None:
        """`sources`: attributes that the config's components take identities from, see `Context`."""
        self.places = places().with_(sources or {})
        self._rules = [(Globs(rule.patterns), _key_rule(rule)) for rule in config.attributes]
        self._keys: dict[str, KeyRule] = {}
        self.pseudonymised, self.kept = config.pseudonymised, frozenset(config.identities.keep)
        self.content = {"drop": Mode.CONTENT, "redact": Mode.SCAN, "keep": Mode.SECRETS}[config.content_action]
        found = [(d, _action_of(d, config)) for d in load_detectors()]
        found += [(pattern.detector, hit_action(pattern.action)) for pattern in config.patterns]
        active = [(d, action) for d, action in found if action.what is not What.OFF]
        self.detectors: tuple[Detector, ...] = (TOKENS, _members(self.places), *(detector for detector, _ in active))
        self.actions: tuple[Action, ...] = (_PSEUDONYM, _PSEUDONYM, *(action for _, action in active))
        self.what: U8 = np.array([action.what for action in self.actions], np.uint8)
        self.secret: Mask = np.array([detector.kind == "secret" for detector in self.detectors])
        self._allowed = frozenset(text.encode() for text in config.allow if isinstance(text, str))
        self._allowed_patterns = [compiled(allow.pattern) for allow in config.allow if not isinstance(allow, str)]

    def allowed(self, text: bytes) -> bool:
        """Whether a hit's text is on it."""
        return text in self._allowed or any(pattern.fullmatch(text) for pattern in self._allowed_patterns)

    def tells_itself(self, key: str) -> bool:
        """Whether it is known what an attribute holds: its key is no hint for detectors."""
        return key in self.places.numbers or key in self.places.ids or self.places.identity(key) is not None

    def rule(self, key: str) -> KeyRule:
        """What happens to an attribute of this key."""
        rule = self._keys.get(key)
        if rule is None:
            if len(self._keys) >= MOST_KEYS:
                self._keys.clear()
            rule = self._keys[key] = self._judge(key)
        return rule

    def _judge(self, key: str) -> KeyRule:
        content = self.places.content(key)
        known = KeyRule(
            Mode.SCAN,
            content=content,
            measure=key in self.places.numbers,
            document=content is not Content.NONE or key in self.places.documents,
            distinct=key in self.places.ids,
            kept_of_event=self.places.kept_of_events(key),
        )
        for globs, (mode, action) in self._rules:
            if key in globs:
                return known._replace(mode=mode, action=action, name=_BY_RULE)
        if key in self.places.headers:
            return known._replace(mode=Mode.DROP, header=True)
        identity = self.places.identity(key)
        if identity in self.pseudonymised:
            return known._replace(mode=Mode.WHOLE, action=Action(What.PSEUDONYMISE), name=NAME_OF[identity])
        if identity in self.kept:
            return known._replace(mode=Mode.SECRETS)
        if known.content is not Content.NONE:
            return known._replace(mode=self.content)
        return known

    def table(self, keys: Sequence[str]) -> KeyTable:
        """The rules of these keys."""
        rules = [*map(self.rule, keys), KeyRule(Mode.SCAN)]
        return KeyTable(
            rules,
            np.array([rule.mode for rule in rules], np.uint8),
            np.array([rule.content for rule in rules], np.uint8),
            np.array([rule.measure for rule in rules], np.bool_),
            np.array([rule.document for rule in rules], np.bool_),
            np.array([rule.distinct for rule in rules], np.bool_),
            np.array([rule.kept_of_event for rule in rules], np.bool_),
        )


def _members(known: Places) -> Detector:
    keys = "|".join(re.escape(member) for member in known.members)
    pattern = rf"""["'](?:{keys})\\{{0,15}}["']\s*:\s*(?:\\{{0,15}}["']|-?[0-9])"""
    return Detector(
        id=MEMBER,
        title="A member of a document that may name somebody",
        kind="pii",
        patterns=(pattern,),
        certainty=Certainty.GENERIC,
    )


def _key_rule(rule: AttributeRule) -> tuple[Mode, Action]:
    if isinstance(rule.action, Masked):
        return Mode.WHOLE, hit_action(rule.action)
    if rule.action in ("drop", "scan", "keep"):
        return {"drop": Mode.DROP, "scan": Mode.SCAN, "keep": Mode.LEAVE}[rule.action], _USUAL
    return Mode.WHOLE, Action(What[rule.action.upper()])


def _action_of(detector: Detector, config: RedactionConfig) -> Action:
    """The action named for the detector, else for its kind; else what is usual, or nothing where it is off by default."""
    told = config.detectors.get(detector.id)
    if told is None:
        if not detector.default:
            return Action(What.OFF)
        told = config.detectors.get(detector.kind)
    return _USUAL if told is None else hit_action(told)


__all__ = ["MEMBER", "TOKENS", "KeyRule", "KeyTable", "Mode", "Pattern", "Policy"]
