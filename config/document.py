"""A YAML file as plain data, with the place of every key and value, and everything that is wrong with it as YAML.

Scalars are typed by the YAML 1.2 core schema: `no` and `on` are text, `1:30` is text, `2026-01-01` is text. Keys are
always text. Work is bounded, aliases included, whatever the file holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.composer import ComposerError

from config.environment import EnvironmentProblem, expand
from config.errors import Finding, Kind, Severity

Path = tuple[str | int, ...]

MAX_BYTES = 2**20
MAX_DEPTH = 32
MAX_NODES = 50_000

_INT = re.compile(r"[-+]?[0-9]{1,18}|0o[0-7]{1,20}|0x[0-9a-fA-F]{1,15}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]{1,300}(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?")
_WORDS: dict[str, bool | None] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_TAGS: dict[type[yaml.Node], tuple[str, ...]] = {
    yaml.ScalarNode: ("", "!", "tag:yaml.org,2002:str"),
    yaml.SequenceNode: ("tag:yaml.org,2002:seq",),
    yaml.MappingNode: ("tag:yaml.org,2002:map",),
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands: line and column count from 1."""

    file: str
    line: int = 0
    column: int = 0


@dataclass(slots=True)
class Document:
    """`data` is None, bool, int, float, str, list and dict only. Places are by path from the root, `()`."""

    file: str
    data: Any = None
    keys: dict[Path, Place] = field(default_factory=dict)  # of the key that holds the value
    values: dict[Path, Place] = field(default_factory=dict)
    from_env: dict[Path, str] = field(default_factory=dict)  # the text that came, before it was typed
    findings: list[Finding] = field(default_factory=list)

    def place(self, path: Path, *, key: bool = False) -> Place:
        """Of the value (or key) at a path; what is not in the file stands where its nearest ancestor does."""
        first, second = (self.keys, self.values) if key else (self.values, self.keys)
        while path:
            if path in first or path in second:
                return first.get(path) or second[path]
            path = path[:-1]
            first, second = self.keys, self.values
        return self.values.get((), Place(self.file, 1, 1))

    def find(self, kind: Kind, path: Path, message: str, *, key: bool = False, warning: bool = False) -> None:
        """Note that something is wrong at a path."""
        self.find_at(self.place(path, key=key), kind, path, message, warning=warning)

    def find_at(self, place: Place, kind: Kind, path: Path, message: str, *, warning: bool = False) -> None:
        """The same, at a place of its own."""
        severity = Severity.WARNING if warning else Severity.ERROR
        self.findings.append(Finding(severity, kind, place.file, place.line, place.column, dotted(path), message))

    def get(self, path: Path) -> Any:
        """The value at a path that exists."""
        value = self.data
        for part in path:
            value = value[part]
        return value

    def put(self, path: Path, value: Any) -> None:
        """Exchange the value at a path; mappings on the way are made. Raises `TypeError` where something else is."""
        if not path:
            self.data = value
            return
        if self.data is None:
            self.data = {}
        target = self.data
        for part in path[:-1]:
            if isinstance(target, dict) and target.get(part) is None:
                target[part] = {}
            target = target[part]
        target[path[-1]] = value


def dotted(path: Path) -> str:
    """`('service', 'pipelines', 'traces', 'exporters', 0)` → `service.pipelines.traces.exporters[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def scalar(text: str) -> bool | int | float | str | None:
    """Type a plain scalar by the YAML 1.2 core schema."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def read(text: str, file: str, env: Mapping[str, str]) -> Document:
    """Read one YAML document. What is wrong with it stands in `findings`; `data` is None if it is not YAML at all."""
    document = Document(file)
    if len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        document.find_at(Place(file), Kind.LIMIT, (), f"larger than {MAX_BYTES // 2**20} MiB; a config is smaller")
        return document
    try:
        root = _Composer(text).get_single_node()
    except yaml.YAMLError as error:
        _syntax(document, error)
        return document
    except RecursionError:  # the parser's own, below our depth limit: cannot happen, and must not take us down
        document.find_at(Place(file), Kind.LIMIT, (), f"nested deeper than {MAX_DEPTH} levels")
        return document
    if root is not None:
        _Reader(document, env).into(root)
    return document


class _Composer(yaml.SafeLoader):
    """Nodes with their marks; stops at a depth that no config has, before anything recurses far."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.depth >= MAX_DEPTH:
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise _TooDeep(None, None, f"nested deeper than {MAX_DEPTH} levels", event.start_mark)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def compose_scalar_node(self, anchor: dict[Any, yaml.Node]) -> yaml.ScalarNode:
        """Keep the tag that was written (none: empty), not what YAML 1.1 makes of the text."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        node = super().compose_scalar_node(anchor)
        node.tag = event.tag or ""
        return node


class _TooDeep(ComposerError):
    pass


def _syntax(document: Document, error: yaml.YAMLError) -> None:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    place = Place(document.file, mark.line + 1, mark.column + 1) if mark else Place(document.file)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not readable"
    if isinstance(error, _TooDeep):
        document.find_at(place, Kind.LIMIT, (), problem)
        return
    if "expected a single document" in str(error):
        problem = "a second document begins (`---`); a config is one document"
    if problem.endswith("but got ':'") or problem.startswith("mapping values are not allowed"):
        problem += "; is a bracket not closed, or a text with `: ` in it not in quotes?"
    if problem.startswith("found character '\\t'"):
        problem = "a tab; indent with spaces"
    if problem.startswith("expected <block end>"):
        problem = "this line does not go on with what stands above it: is it, or a line before it, indented too little or too far?"
    if isinstance(error, yaml.reader.ReaderError):
        problem = f"the character #x{ord(error.character) if isinstance(error.character, str) else error.character:04x} is not allowed"
    document.find_at(place, Kind.SYNTAX, (), f"not valid YAML: {problem}")


class _Reader:
    """Turns nodes into data: depth first, counting every node as often as an alias repeats it."""

    def __init__(self, document: Document, env: Mapping[str, str]) -> None:
        self.document, self.env = document, env
        self.nodes = 0
        self.open: list[int] = []  # nodes that we are inside of: an alias to one of them has no end

    def into(self, root: yaml.Node) -> None:
        try:
            self.document.data = self.value(root, ())
        except _Stop as stop:
            self.document.data = None
            self.document.find_at(self.at(stop.node), Kind.LIMIT, stop.path, stop.message)

    def at(self, node: yaml.Node) -> Place:
        return Place(self.document.file, node.start_mark.line + 1, node.start_mark.column + 1)

    def count(self, node: yaml.Node, path: Path) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise _Stop(node, path, f"more than {MAX_NODES} values, aliases expanded; a config has fewer")
        if id(node) in self.open:
            raise _Stop(node, path, "an alias contains itself")

    def value(self, node: yaml.Node, path: Path) -> Any:
        self.count(node, path)
        if node.tag not in _TAGS[type(node)]:
            message = f"the tag {node.tag.replace('tag:yaml.org,2002:', '!!')} is not supported; write a plain value"
            self.document.find_at(self.at(node), Kind.SYNTAX, path, message)
        self.document.values[path] = self.at(node)
        self.open.append(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self.mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]
            assert isinstance(node, yaml.ScalarNode)
            return self.scalar(node, path)
        finally:
            self.open.pop()

    def scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        try:
            text, from_env = expand(node.value, self.env)
        except EnvironmentProblem as problem:
            self.document.find_at(self.at(node), Kind.ENVIRONMENT, path, str(problem))
            return node.value
        if from_env:
            self.document.from_env[path] = text
            return scalar(text)
        return scalar(text) if node.style is None and not node.tag else text

    def mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in self.pairs(node, path):
            here = (*path, key_node.value)
            if key_node.value in result:
                first = self.document.keys[here].line
                message = f"the key stands twice, first in line {first}; keep one"
                self.document.find_at(self.at(key_node), Kind.DUPLICATE_KEY, here, message)
                continue
            self.document.keys[here] = self.at(key_node)
            result[key_node.value] = self.value(value_node, here)
        return result

    def pairs(self, node: yaml.MappingNode, path: Path) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
        """The mapping's own pairs, then those that `<<` merges in and it does not have itself."""
        own: list[tuple[yaml.ScalarNode, yaml.Node]] = []
        sources: list[yaml.Node] = []
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.document.find_at(self.at(key), Kind.SYNTAX, path, "a key must be text")
            elif key.value == "<<" and key.style is None:
                sources += value.value if isinstance(value, yaml.SequenceNode) else [value]
            else:
                own.append((key, value))
        names = {key.value for key, _ in own}
        for source in sources:
            self.count(source, path)
            if not isinstance(source, yaml.MappingNode):
                self.document.find_at(self.at(source), Kind.SYNTAX, path, "`<<` takes a mapping or a list of mappings")
                continue
            self.open.append(id(source))
            merged = [pair for pair in self.pairs(source, path) if pair[0].value not in names]
            self.open.pop()
            names |= {key.value for key, _ in merged}
            own += merged
        return own


class _Stop(Exception):
    def __init__(self, node: yaml.Node, path: Path, message: str) -> None:
        self.node, self.path, self.message = node, path, message
