"""What is wrong with a config: findings with their place in the file, and the error that carries them.

This module holds the root of the error tree, because nothing stands below `config`; the tree itself is drawn in
`collector/errors.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class SpanledgerError(Exception):
    """The root: whatever Spanledger raises on purpose."""


class Severity(StrEnum):
    ERROR = "error"  # the config is not loaded
    WARNING = "warning"  # it is, and this is probably not meant


class Kind(StrEnum):
    """Everything that can be wrong with a config. Closed: a test has a bad config for each."""

    SYNTAX = "syntax"  # not YAML, or not a mapping
    LIMIT = "limit"  # too large, too deep, too many aliases
    DUPLICATE_KEY = "duplicate_key"
    ENVIRONMENT = "environment"  # a variable is not set, or `${…}` is misspelt
    UNKNOWN_KEY = "unknown_key"
    MISSING_KEY = "missing_key"
    WRONG_TYPE = "wrong_type"
    BAD_VALUE = "bad_value"  # the right type, out of range or not understood
    BAD_ID = "bad_id"  # not `type` or `type/name`
    UNKNOWN_COMPONENT = "unknown_component"  # no such type is installed
    BROKEN_COMPONENT = "broken_component"  # installed, and its code does not import
    UNDEFINED = "undefined"  # a pipeline names what no section defines
    UNUSED = "unused"  # a section defines what no pipeline names
    EMPTY_PIPELINE = "empty_pipeline"
    SIGNAL = "signal"  # a component stands in a pipeline whose signal it does not take
    TWICE = "twice"  # an exporter gets from two pipelines what one receiver took
    ORDER = "order"  # processors stand in an order that cannot work


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong (or looks it), where it stands. `line` and `column` count from 1; 0: no place in a file.

    `path` is dotted (`receivers.otlp.protocols.grpc.endpoint`, `service.pipelines.traces.exporters[0]`), empty for the
    whole file. `message` never holds a secret, nor a value that came from the environment.
    """

    severity: Severity
    kind: Kind
    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}: " if self.line else f"{self.file}: "
        path = f"{self.path}: " if self.path else ""
        warning = "warning: " if self.severity is Severity.WARNING else ""
        return f"{place}{path}{warning}{self.message}"


class ConfigError(SpanledgerError):
    """The config is wrong. `str()` is one finding a line, `file:line:col: path: message`."""

    def __init__(self, findings: Sequence[Finding] | str) -> None:
        self.findings: tuple[Finding, ...] = () if isinstance(findings, str) else tuple(findings)
        super().__init__(findings if isinstance(findings, str) else "\n".join(map(str, findings)))
