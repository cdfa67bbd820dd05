"""Reading a statement as far as the query gate must: its words, its FORMAT and SETTINGS, and nothing that hides anything.

The statement is taken apart and put together again without comments. What reaches the engine is only what was understood
here, token by token: no second statement, no comment, no quoting that the two of us could see differently. What nobody
needs for asking (heredocs, typographic quotes, escapes in identifiers) is refused rather than understood.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from collector.errors import SpanledgerError


class Denied(SpanledgerError):
    """The gate does not run this statement. `code` and `name` are ClickHouse's."""

    def __init__(self, message: str, code: int = 497, name: str = "ACCESS_DENIED") -> None:
        super().__init__(message)
        self.code = code
        self.name = name


def _syntax(message: str) -> Denied:
    return Denied(message, 62, "SYNTAX_ERROR")


_TOKEN = re.compile(
    r"""
      (?P<space>[ \t\r\n\f\v]+)
    | (?P<comment>--[^\n]*|/\*)
    | (?P<text>'(?:[^'\\]|''|\\.)*')
    | (?P<quoted>`[^`\\\x00-\x1f\x7f]*`|"[^"\\\x00-\x1f\x7f]*")
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<number>[0-9](?:[eEpP][+-]?|[A-Za-z0-9_.])*)
    | (?P<sign>[-+*/%=<>!,.()\[\]{}:?|^&~@;])
    """,
    re.VERBOSE | re.DOTALL,
)
_FIRST = frozenset({"SELECT", "WITH", "SHOW", "DESCRIBE", "DESC", "EXPLAIN", "EXISTS", "FROM"})
_PARAMETER = re.compile(r"\{\s*(\w+)\s*:\s*Identifier\s*\}", re.ASCII)
#: Two signs that stand side by side stay so (`<=`, `::`, `->`); two that would begin a comment do not.
_COMMENT_SIGNS = frozenset({"--", "/*"})


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str
    spaced: bool  # white space or a comment stands before it
    depth: int

    @property
    def word(self) -> str:
        """A bare word in upper case, else empty."""
        return self.text.upper() if self.kind == "word" else ""


@dataclass(frozen=True, slots=True)
class Statement:
    """What is asked. `sql` has no comment, no FORMAT and no SETTINGS clause any more."""

    sql: str
    format: str | None = None
    settings: dict[str, str] = field(default_factory=dict)
    identifiers: tuple[str, ...] = ()  # parameters that stand for a name


def tokens(sql: str) -> list[Token]:
    """The tokens of a statement without comments. Raises `Denied` at what is not understood."""
    found: list[Token] = []
    at, depth, spaced = 0, 0, False
    while at < len(sql):
        match = _TOKEN.match(sql, at)
        if match is None:
            shown = sql[at : at + 1]
            what = "an unfinished quote" if shown in "'`\"" else f"the character {shown!r}"
            raise _syntax(f"{what} at position {at + 1} is not taken here")
        kind, text = match.lastgroup or "", match.group()
        at = match.end()
        if kind == "comment" and text == "/*":
            end = sql.find("*/", at)
            if end < 0 or "/*" in sql[at:end]:
                raise _syntax(f"a comment at position {at - 1} does not end, or holds another one")
            at = end + 2
        if kind in ("space", "comment"):
            spaced = True
            continue
        depth -= text in (")", "]", "}")
        found.append(Token(kind, text, spaced, depth))
        depth += text in ("(", "[", "{")
        spaced = False
    while found and found[-1].text == ";":
        found.pop()
    if not found:
        raise _syntax("there is no statement")
    if any(token.text == ";" for token in found):
        raise Denied("one statement at a time")
    return found


def read(sql: str) -> Statement:
    """Take a statement apart. Raises `Denied` for what does more than ask, as far as its words tell."""
    if "\x00" in sql:
        raise _syntax("a NUL character is not taken here")
    found = tokens(sql)
    first = next((token.word for token in found if token.text != "("), "")
    if first not in _FIRST:
        raise Denied("only SELECT, WITH, SHOW, DESCRIBE, EXPLAIN and EXISTS are answered here", 164, "READONLY")
    format_: str | None = None
    settings: dict[str, str] = {}
    # The clauses at the end, in either order: FORMAT name, SETTINGS name = value, …
    while (start := _last_clause(found)) is not None:
        clause = found[start:]
        if clause[0].word == "FORMAT":
            format_ = clause[1].text
        else:
            settings.update(_settings(clause[1:]))
        found = found[:start]
    for before, token, after in zip([None, *found], found, [*found[1:], None], strict=False):
        if token.word == "OUTFILE" or (token.word == "INTO" and after is not None and after.word == "OUTFILE"):
            raise Denied("INTO OUTFILE writes a file")
        qualified = before is not None and before.text == "."
        if token.word == "SETTINGS" and not qualified and after is not None and after.kind in ("word", "quoted"):
            raise Denied("SETTINGS may only stand at the end of the whole statement")
    text = _join(found)
    return Statement(text, format_, settings, tuple(_PARAMETER.findall(text)))


def _last_clause(found: list[Token]) -> int | None:
    """Where a FORMAT or SETTINGS clause that ends the statement begins."""
    if len(found) > 2 and found[-2].word == "FORMAT" and found[-2].depth == 0 and found[-1].kind == "word":
        return len(found) - 2
    for at in range(len(found) - 1, 0, -1):
        token = found[at]
        if token.depth == 0 and token.word == "SETTINGS" and found[at - 1].text != ".":
            return at if _is_settings(found[at + 1 :]) else None
        if not (token.kind in ("word", "number", "text") or token.text in ("=", ",", "-")):
            return None
    return None


def _is_settings(found: list[Token]) -> bool:
    return len(found) >= 3 and found[0].kind == "word" and found[1].text == "="


def _settings(found: list[Token]) -> dict[str, str]:
    settings: dict[str, str] = {}
    at = 0
    while at < len(found):
        name, equals, value = found[at : at + 3] if at + 2 < len(found) else (None, None, None)
        if name is None or equals is None or value is None or name.kind != "word" or equals.text != "=":
            raise _syntax("SETTINGS: expected name = value")
        if value.kind not in ("number", "text", "word"):
            raise _syntax(f"SETTINGS: {name.text} has no plain value")
        if value.kind == "text" and "\\" in value.text:
            raise _syntax(f"SETTINGS: the value of {name.text} holds an escape")
        settings[name.text] = value.text[1:-1].replace("''", "'") if value.kind == "text" else value.text
        at += 3
        if at < len(found) and found[at].text != ",":
            raise _syntax("SETTINGS: expected a comma")
        at += 1
    return settings


def _join(found: list[Token]) -> str:
    """The tokens as text, spaced as they were."""
    parts: list[str] = []
    last = ""
    for token in found:
        beside = last[-1:] + token.text[:1]
        if parts and (token.spaced or beside in _COMMENT_SIGNS or (token.kind != "sign" and last[-1:].isalnum())):
            parts.append(" ")
        parts.append(token.text)
        last = token.text
    return "".join(parts)
