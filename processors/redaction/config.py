"""The options of redaction: profiles, what becomes of content and identities, of each detector's hits, of attributes by key.

Names of detectors are read from the files that ship, so a misspelt one is an error with a suggestion, not a hole.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, GetJsonSchemaHandler, Tag, model_validator
from pydantic_core import CoreSchema

from config.explain import suggest
from config.types import ByteSize, Secret, StrictModel
from processors.redaction.actions import Action, What
from processors.redaction.content import IDENTITIES, IdentityName
from processors.redaction.detector import Detector, load_detectors, user_detector
from processors.redaction.patterns import defects
from processors.redaction.unescaping import MOST_LEVELS

#: Names under `detectors` that mean all of a kind.
KINDS = ("pii", "secret")


def _detector_name(name: str) -> str:
    known = [*KINDS, *(detector.id for detector in load_detectors())]
    if name not in known:
        raise ValueError(
            f"no detector is called {name!r}{suggest(name, known) or '; `spanledger redact --detectors` lists them'}"
        )
    return name


class Mask(StrictModel):
    """How to mask."""

    keep_last: int = Field(default=0, ge=0, le=8)
    """Letters and digits at the end that stay readable; never more than half of them."""


class Masked(StrictModel):
    """Stars in the place of letters and digits."""

    mask: Mask
    """How."""


def _form(value: object) -> str:
    return "mask" if isinstance(value, dict | Masked) else "word"


_Masked = Annotated[Masked, Tag("mask")]
#: `mask` alone keeps nothing readable.
HitAction = Annotated[
    Annotated[Literal["replace", "pseudonymise", "mask", "drop_value", "drop_attribute", "off"], Tag("word")] | _Masked,
    Discriminator(_form),
]
KeyAction = Annotated[
    Annotated[Literal["drop", "drop_value", "replace", "pseudonymise", "mask", "scan", "keep"], Tag("word")] | _Masked,
    Discriminator(_form),
]


class AttributeRule(StrictModel):
    """What happens to attributes whose key matches, wherever they stand. The first rule that matches holds."""

    match: str | list[str]
    """The key, with `*`, `?` and `[0-9]`; case does not matter. Or a list of them."""
    action: KeyAction
    """`drop`: the attribute goes. `drop_value`, `replace`: a marker takes the place of the value. `pseudonymise`: a pseudonym does.
    `{mask: {keep_last: 4}}`. `scan`: what detectors find goes, whatever else would happen to the attribute. `keep`: the value
    leaves as it is, not even looked at."""

    @property
    def patterns(self) -> list[str]:
        """The keys' patterns."""
        return [self.match] if isinstance(self.match, str) else self.match


class Identities(StrictModel):
    """Who is readable. `pseudonymise` is short for `{}`, `keep` for all of them under `keep`."""

    keep: list[IdentityName] = []
    """Columns that stay readable, with the attributes that they come from. Secrets are taken out of them all the same."""
    pseudonymise: list[IdentityName] = []
    """Columns that get pseudonyms, too, beside `user` and `end_user` (and, with the profile `strict`, all)."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The short forms too, for editors."""
        reference = handler(core)
        schema = handler.resolve_ref_schema(reference)
        whole = dict(schema)
        schema.clear()
        schema.update(description=whole["description"], anyOf=[whole, {"enum": ["pseudonymise", "keep"]}])
        return reference

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        if value == "keep":
            return {"keep": list(IDENTITIES)}
        return {} if value == "pseudonymise" else value

    @model_validator(mode="after")
    def _one_of_two(self) -> Identities:
        if both := [name for name in self.keep if name in self.pseudonymise]:
            raise ValueError(f"{both[0]} cannot be kept and pseudonymised")
        return self


class Pattern(StrictModel):
    """A pattern of your own: what it matches is personal data, or a secret."""

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
    """What it is called in markers, metrics and columns."""
    pattern: str
    """Regular expression in RE2's syntax, which cannot blow up. A group named `value` says what of a match goes, if not all."""
    kind: Literal["pii", "secret"] = "pii"
    """Secrets go even from content and identities that are kept."""
    action: HitAction = "replace"
    """What happens to what is found."""
    keywords: list[str] = []
    """Words one of which must stand near a match, in any case. None: wherever it matches."""

    @property
    def detector(self) -> Detector:
        """The pattern as a detector. Raises ValueError for one that does not compile or could match anything."""
        return user_detector(self.id, self.pattern, kind=self.kind, keywords=self.keywords)

    @model_validator(mode="after")
    def _sound(self) -> Pattern:
        if self.id in KINDS or any(detector.id == self.id for detector in load_detectors()):
            raise ValueError(f"there is a detector {self.id!r}; give yours another id")
        _ = self.detector
        return self


def _re2(text: str) -> str:
    if found := defects(text):
        raise ValueError(found)
    return text


class AllowedPattern(StrictModel):
    """Texts that are never redacted, by pattern."""

    pattern: Annotated[str, AfterValidator(_re2)]
    """Regular expression in RE2's syntax that a whole hit must match."""


class PseudonymKey(StrictModel):
    """Where the key of pseudonyms comes from. The same key gives the same pseudonyms, here and in another Spanledger."""

    key: Secret | None = None
    """32 bytes, base64 or hex. Without it and without `key_file`, a key is made in the data directory (`pseudonym.key`)."""
    key_file: Path | None = None
    """File of keys, one a line: the first one makes pseudonyms, those of the others are left as they are."""

    @model_validator(mode="after")
    def _one_key(self) -> PseudonymKey:
        if self.key is not None and self.key_file is not None:
            raise ValueError("set key or key_file, not both")
        return self


class RedactionConfig(StrictModel):
    """What leaves and what does not. `redaction:` alone is the profile `default`."""

    profile: Literal["strict", "default", "off"] = "default"
    """`default`: detectors everywhere, users as pseudonyms, so that cost per user still adds up. `strict`: content goes as a whole,
    and all identities are pseudonyms. `off`: nothing is redacted, which a warning says at each start."""
    content: Literal["drop", "redact", "keep"] | None = None
    """Prompts, answers, tool calls as a whole. `drop`: they go (strict's default). `redact`: what detectors find in them goes
    (default's default). `keep`: only secrets go; personal data in them stays, and is counted. Token counts and costs never change."""
    identities: Identities = Identities()
    """Which identities are readable: `keep`, `pseudonymise`, or `{keep: [user]}`."""
    detectors: dict[Annotated[str, AfterValidator(_detector_name)], HitAction] = {}
    """What happens to hits, by detector, or for all of a kind (`pii`, `secret`): `replace` (a marker, the default), `pseudonymise`,
    `{mask: {keep_last: 4}}`, `drop_value`, `drop_attribute`, `off`."""
    attributes: list[AttributeRule] = []
    """Rules by attribute key, before anything else."""
    allow: list[str | AllowedPattern] = []
    """Texts that are never redacted although a detector finds them, such as your support address; or `{pattern: …}`."""
    patterns: list[Pattern] = []
    """Patterns of your own."""
    pseudonyms: PseudonymKey = PseudonymKey()
    """The key of pseudonyms."""
    max_value_size: ByteSize = Field(default=16 * 2**20, ge=2**10, le=2**28)
    """A value larger than this is not searched: it goes, and is counted."""
    max_depth: int = Field(default=MOST_LEVELS, ge=1, le=MOST_LEVELS)
    """How often a text may be a document in another one (JSON in JSON …). Deeper ones are not searched: the value goes, and is
    counted."""
    audit: bool = False
    """Search what leaves once more. What is found then is taken out, logged as an error (place and detector, never the value) and
    counted. Costs as much again."""

    @property
    def idle(self) -> bool:
        """Whether nothing is taken out."""
        return self.profile == "off"

    @property
    def content_action(self) -> Literal["drop", "redact", "keep"]:
        """What becomes of content."""
        return self.content or ("drop" if self.profile == "strict" else "redact")

    @property
    def pseudonymised(self) -> frozenset[IdentityName]:
        """The identities that get pseudonyms."""
        usual: Sequence[IdentityName] = IDENTITIES if self.profile == "strict" else ("user", "end_user")
        return frozenset({*usual, *self.identities.pseudonymise} - set(self.identities.keep))

    @model_validator(mode="after")
    def _each_pattern_once(self) -> RedactionConfig:
        ids = [pattern.id for pattern in self.patterns]
        if twice := {id_ for id_ in ids if ids.count(id_) > 1}:
            raise ValueError(f"two patterns have the id {min(twice)!r}")
        return self


def hit_action(action: str | Masked) -> Action:
    """An option as what is done."""
    if isinstance(action, Masked):
        return Action(What.MASK, action.mask.keep_last)
    return Action(What[action.upper()])
