"""What a text says is searched whatever documents it stands in, and what is replaced in it leaves them readable."""

from __future__ import annotations

import ast
import html
import json
import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from processors.redaction.unescaping import MOST_LEVELS
from processors.redaction.views import Views, needs_quotes, views
from tests.fuzz import Fenced

modest = settings(deadline=None, max_examples=100)

# One level of escapes, in Python

_ESCAPE = re.compile(
    r"\\(?P<short>[\"'\\/nrtbf])|(?P<pair>\\u[dD][89abAB]..\\u[dD][c-fC-F]..)|\\u(?P<u>.{4})|\\U(?P<U>.{8})|\\x(?P<x>..)"
    r"|(?P<url>%(?:[cC][2-9a-fA-F]|[dD].)%..|%[eE].%..%..|%[fF][0-4]%..%..%..|%[0-7].)"
    r"|&(?P<entity>#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|amp|lt|gt|quot|apos|commat|period);",
    re.DOTALL,
)
_SHORT = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}


def _one(match: re.Match[str]) -> str:
    kind = match.lastgroup or ""
    found = match[kind]
    try:
        if kind == "short":
            return _SHORT.get(found, found)
        if kind == "url":
            return bytes(int(part, 16) for part in found[1:].split("%") if _hexadecimal(part)).decode()
        if kind == "entity":
            code = int(found[2:], 16) if found[1] in "xX" else int(found[1:]) if found[0] == "#" else -1
            return html.unescape(match[0]) if code < 0 else _character(code)
        if kind == "pair":
            high, low = found[2:6], found[8:]
            if not _hexadecimal(high) or not _hexadecimal(low):
                return match[0][:6].replace(match[0][:6], read(match[0][:6])) + read(match[0][6:])
            return json.loads(f'"{found}"')
        if not _hexadecimal(found) or int(found, 16) > 0x10FFFF:
            raise ValueError
        return _character(int(found, 16))
    except (ValueError, UnicodeDecodeError):
        return match[0][0] + read(match[0][1:])


def _hexadecimal(text: str) -> bool:
    if not re.fullmatch("[0-9a-fA-F]+", text):
        raise ValueError(text)
    return True


def _character(code: int) -> str:
    return "\ufffd" if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF else chr(code)


def read(text: str) -> str:
    """One level of escapes read."""
    out, at = [], 0
    while match := _ESCAPE.search(text, at):
        piece = _one(match)
        if piece == match[0] or (len(piece) >= len(match[0]) and match[0].startswith(piece[0])):
            # None: what begins behind its first character may be one.
            out.append(text[at : match.start() + 1])
            at = match.start() + 1
            continue
        out.append(text[at : match.start()] + piece)
        at = match.end()
    return "".join(out) + text[at:]


def viewed(*rows: bytes) -> Views:
    size = np.array([len(row) for row in rows], np.int32)
    return views(np.frombuffer(b"".join(rows), np.uint8), np.cumsum(size, dtype=np.int64) - size, size)


def texts(found: Views, row: int = 0) -> dict[int, bytes]:
    """Level → view."""
    return {
        int(found.level[view]): found.data[found.off[view] : found.off[view] + found.size[view]].tobytes()
        for view in np.flatnonzero(found.row == row).tolist()
    }


def hits(found: Views, wanted: re.Pattern[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """View, start and end of each match in the views."""
    matches = [
        (view, *match.span())
        for view in range(len(found.row))
        for match in wanted.finditer(found.data[found.off[view] : found.off[view] + found.size[view]].tobytes())
    ]
    view, start, end = zip(*matches, strict=True) if matches else ((), (), ())
    return np.array(view, np.int32), np.array(start, np.int32), np.array(end, np.int32)


def replaced(row: bytes, wanted: re.Pattern[bytes], token: bytes = b"[EMAIL]") -> bytes:
    """The row with all matches in its views, or in itself if it has none, replaced."""
    found = viewed(row)
    if found.plain[0]:
        return wanted.sub(token, row)
    ranges = found.to_raw(*hits(found, wanted))
    for start, end in zip(ranges.start.tolist()[::-1], ranges.end.tolist()[::-1], strict=True):
        row = row[:start] + token + row[end:]
    return row


# What is read

pieces = st.sampled_from(
    [
        *"abnrtfux/\"'\\ %&#;@.é€😀\n\0{[(",
        r"\n",
        r"\"",
        r"\\",
        r"\u0040",
        r"\u00e9",
        r"\ud83d\ude00",
        r"\ud83d",
        r"\U0001f600",
        r"\x40",
        r"\x4",
        r"\u12",
        r"\/",
        "%40",
        "%C3%A9",
        "%e2%82%ac",
        "%ff",
        "%F0%9F%98%80",
        "%ed%a0%80",
        "&#64;",
        "&#x40;",
        "&commat;",
        "&amp;",
        "&#x110000;",
        "\\" * 9,
        "0123456789abcdef",
    ]
)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.lists(pieces, max_size=12).map("".join), max_size=4))
@example([r"\ud83d\ude0", r"%C3%", r"&#", "\\", "%", "&", r"\U0010ffff", r"\U00110000"])
def test_views_are_what_the_text_says(rows: list[str]) -> None:
    """Each view is the one before with one level of escapes read; rows without escapes have none."""
    found = viewed(*(row.encode() for row in rows))
    assert (np.diff(found.row) >= 0).all()
    for number, row in enumerate(rows):
        levels = [row]
        while len(levels) <= MOST_LEVELS + 1 and read(levels[-1]) != levels[-1]:
            levels.append(read(levels[-1]))
        seen = texts(found, number)
        assert bool(found.plain[number]) == (len(levels) == 1)
        assert not seen.keys() - set(range(len(levels)))
        assert all(text == levels[level].encode() for level, text in seen.items())
        if len(levels) > 1:
            assert max(seen) == min(len(levels) - 1, MOST_LEVELS), "the deepest is always looked at"
        if len(levels) <= MOST_LEVELS + 1:
            assert not found.unreadable[number]


def test_what_looks_like_escapes() -> None:
    """Paths, patterns and formulas are plain text; what is none of it stays as it is."""
    for text in (
        r"\d+\s*\.\w",
        r"C:\Windows\System32",
        r"\alpha\gamma",
        "100% & more",
        "\\",
        "a%",
        "&;",
        r"\u12",
        "&copy;",
    ):
        assert viewed(text.encode()).plain[0], text
    path = viewed(rb"C:\new\table")
    assert texts(path) == {0: rb"C:\new\table", 1: b"C:\new\table"}
    assert not path.unreadable[0]


def test_only_what_may_be_meant() -> None:
    """In the literals of a document nobody means the escapes themselves; elsewhere both readings are searched."""
    assert list(texts(viewed(rb'{"a": "x\nb"}'))) == [1]
    assert list(texts(viewed(rb'say "x\nb"'))) == [0, 1]
    assert list(texts(viewed(rb'["%40\n"]'))) == [0, 1]
    assert list(texts(viewed(json.dumps({"a": json.dumps({"b": "x\ny"})}).encode()))) == [2]
    assert list(texts(viewed(json.dumps({"a": r"C:\new"}).encode()))) == [1, 2]
    assert list(texts(viewed(json.dumps({"a": r'"C:\new" he said'}).encode()))) == [1, 2], "a quote makes no document"


def test_nested_too_deep() -> None:
    """More levels than anybody writes cannot be read; backslashes alone are harmless however many."""
    row = "\n"
    for _ in range(MOST_LEVELS):
        row = json.dumps(row)
    assert not viewed(row.encode()).unreadable[0]
    assert viewed(json.dumps(row).encode()).unreadable[0]
    assert viewed(b"%" + b"25" * 9 + b"40").unreadable[0]
    assert not viewed(b"\\" * 5000).unreadable[0]
    assert viewed(b"ok", b"\\" * 1024 + b"n").unreadable.tolist() == [False, True]


# The way back

EMAIL = re.compile(rb"[a-z0-9]+@example\.com")
#: Any text, but for what would make another address, another escape, or a letter of the escape in front of the address.
around = st.text(st.characters(codec="utf-8", exclude_characters="@%&")).map(lambda text: text.replace("example", ""))
emails = st.sampled_from(["alice@example.com", "n@example.com", "0040@example.com"])

Document = tuple[Callable[[Any], str], Callable[[str], Any]]
DOCUMENTS: dict[str, Document] = {
    "json": (json.dumps, json.loads),
    "json of any letters": (lambda value: json.dumps(value, ensure_ascii=False), json.loads),
    "json with slashes": (lambda value: json.dumps(value).replace("/", r"\/"), json.loads),
    "repr": (repr, ast.literal_eval),
    "ascii": (ascii, ast.literal_eval),
}
SHAPES: list[tuple[Callable[[Any], Any], Callable[[Any], Any]]] = [
    (lambda text: text, lambda value: value),
    (lambda text: {"key": 1, "content": text, "more": ["\\", '"', "'"]}, lambda value: value["content"]),
    (lambda text: ["a\n", text], lambda value: value[1]),
]
nesting = st.lists(st.tuples(st.sampled_from(sorted(DOCUMENTS)), st.sampled_from(SHAPES)), min_size=1, max_size=3)


def wrapped(text: Any, layers: Sequence[Any]) -> str:
    for name, (shape, _) in layers:
        text = DOCUMENTS[name][0](shape(text))
    return text


def unwrapped(row: bytes, layers: Sequence[Any]) -> Any:
    text: Any = row.decode()
    for name, (_, part) in reversed(layers):
        text = part(DOCUMENTS[name][1](text))
    return text


@settings(deadline=None, max_examples=100)
@given(around, emails, around, nesting)
@example("foo\n", "alice@example.com", "", [("json", SHAPES[0])])
@example("\\", "n@example.com", "\\", [("json", SHAPES[0])] * 3)
@example('"\\', "n@example.com", "", [("repr", SHAPES[1]), ("json", SHAPES[1])])
@example("\ud83d\ude00", "alice@example.com", "😀", [("ascii", SHAPES[0]), ("json", SHAPES[2])])
def test_addresses_in_documents(before: str, email: str, behind: str, layers: list[Any]) -> None:
    """JSON and reprs, in one another: nothing of the address is left, all documents still parse, all else is what it was."""
    before = re.sub(r"[a-z0-9]+$", "", before.encode("utf-8", "replace").decode())
    row = wrapped(f"{before}{email}{behind}", layers).encode()
    out = replaced(row, EMAIL)
    assert b"example" not in out
    text = unwrapped(out, layers)
    if before.endswith("\\"):
        # It may be one of an escape: both readings go.
        assert text in {f"{before[: len(before) - n]}[EMAIL]{behind}" for n in range(len(before) + 1)}
    else:
        assert text == f"{before}[EMAIL]{behind}"


@modest
@given(around, st.lists(st.tuples(emails, around), min_size=1, max_size=4), nesting)
def test_several_in_one_row(before: str, parts: list[tuple[str, str]], layers: list[Any]) -> None:
    text = before + "".join(f" {email} {behind} " for email, behind in parts)
    out = replaced(wrapped(text, layers).encode(), EMAIL)
    assert unwrapped(out, layers) == before + "".join(f" [EMAIL] {behind} " for _, behind in parts)


@modest
@given(
    around,
    emails,
    st.sampled_from(["\\u0040", "\\x40", "%40", "&#64;", "&#x40;", "&commat;", "\\u0025\\u0034\\u0030"]),
    nesting,
)
def test_hidden_at(before: str, email: str, at: str, layers: list[Any]) -> None:
    """The at sign escaped in any way, whatever it stands in."""
    before = re.sub(r"[a-z0-9\\]+$", "", before)
    text = before + email.replace("@", at)
    assert unwrapped(replaced(wrapped(text, layers).encode(), EMAIL), layers) == f"{before}[EMAIL]"


def test_urls() -> None:
    """As a browser sends it; the letters around stay escaped."""
    row = b"https://example.org/?q=" + quote("é alice@example.com ü").encode()
    assert replaced(row, EMAIL) == b"https://example.org/?q=%C3%A9%20[EMAIL]%20%C3%BC"


def test_both_readings() -> None:
    """What may be a line break and an address, or a path: both go."""
    assert replaced(rb"C:\nalice@example.com", EMAIL) == b"C:[EMAIL]"
    assert replaced(rb"see alice@example.com\n", EMAIL) == rb"see [EMAIL]\n"


def test_no_escape_is_cut() -> None:
    """Halves of a character, and hits that end in the backslash of an escape."""
    row = rb'["\ud83d\ude00alice"]'
    found = viewed(row)
    (text,) = texts(found).values()
    face = text.index("😀".encode())
    ranges = found.to_raw(*(np.array([number], np.int32) for number in (0, face + 3, face + 6)))
    assert row[ranges.start[0] : ranges.end[0]] == rb"\ud83d\ude00al"
    row = rb"url=https://h/x\" y"
    assert replaced(row, re.compile(rb"https://[^ \"]*"), b"[URL]") == rb"url=[URL]\" y"
    assert replaced(row, re.compile(rb"https://h/x.\""), b"[URL]") == b"url=[URL] y"


def test_who_names_a_range() -> None:
    """The deepest view's hit, and of these the longest."""
    found = viewed(rb"x\nalice@example.com")
    view, start, end = hits(found, EMAIL)
    assert found.level[view].tolist() == [0, 1]
    ranges = found.to_raw(view, start, end)
    assert ranges.hit.tolist() == [1]
    three = [np.array(column, np.int32) for column in ([1, 1, 1], [2, 2, 18], [8, 9, 19])]
    ranges = found.to_raw(*three)
    assert ranges.hit.tolist() == [1, 2]
    assert (ranges.start.tolist(), ranges.end.tolist()) == ([3, 19], [10, 20])


@modest
@given(st.lists(st.lists(pieces, max_size=12).map("".join), max_size=4), st.data())
def test_any_range_of_any_view(rows: list[str], data: st.DataObject) -> None:
    """Comes back as bytes of its row that say it."""
    found = viewed(*(row.encode() for row in rows))
    if not len(found.row) or found.unreadable.any():
        return
    view = data.draw(st.integers(0, len(found.row) - 1))
    text = texts(found, int(found.row[view]))[int(found.level[view])].decode()
    if not text:
        return
    first = data.draw(st.integers(0, len(text) - 1))
    last = data.draw(st.integers(first + 1, len(text)))
    start, end = len(text[:first].encode()), len(text[:last].encode())
    ranges = found.to_raw(*(np.array([number], np.int32) for number in (view, start, end)))
    raw = rows[ranges.row[0]].encode()[ranges.start[0] : ranges.end[0]].decode()
    for _ in range(int(found.level[view])):
        raw = read(raw)
    if int(found.level[view]) == max(texts(found, int(found.row[view]))):
        assert raw == text[first:last]


# Quotes

CARD = 4111111111111111
numbers: list[Any] = [
    {"card": CARD},
    {"a": [CARD, CARD]},
    [CARD, "x", [CARD]],
    {"a": {"b": CARD}, "c": 1},
    {"text": 'say "hi" don\'t', "card": CARD},
    [float(CARD), -CARD],
    {"it's": ["[", CARD, "]"]},
]
LAYERS: dict[str, Document] = DOCUMENTS | {
    "indented": (lambda value: json.dumps(value, indent=2), json.loads),
    "dense": (lambda value: json.dumps(value, separators=(",", ":")), json.loads),
}


def with_quotes(row: bytes, wanted: re.Pattern[bytes]) -> bytes:
    matches = [match.span() for match in wanted.finditer(row)]
    start, end = (np.array([match[side] for match in matches], np.int32) for side in (0, 1))
    zero = np.zeros(1, np.int64)
    found = needs_quotes(
        np.frombuffer(row, np.uint8), zero, np.array([len(row)], np.int32), np.zeros(len(matches), np.int32), start, end
    )
    for slashes, low, high in reversed(list(zip(*(column.tolist() for column in found), strict=True))):
        mark = b"\\" * slashes + b'"' if slashes >= 0 else b""
        row = row[:low] + (mark + b"[CARD]" + mark if high > low else b"") + row[high:]
    return row


def swapped(value: Any) -> Any:
    """The document with tokens in the place of cards."""
    if isinstance(value, dict):
        return {key: swapped(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(swapped(member) for member in value)
    return "[CARD]" if isinstance(value, int | float) and abs(value) == CARD else value


@modest
@given(
    st.sampled_from(numbers),
    st.lists(st.tuples(st.sampled_from(sorted(LAYERS)), st.sampled_from(SHAPES)), max_size=2),
    st.sampled_from(sorted(LAYERS)),
)
def test_numbers_in_documents(value: Any, layers: list[Any], inner: str) -> None:
    """A number in a document, which may be a text in documents: all of them can be read afterwards, and say the token."""
    row = LAYERS[inner][0](value)
    for name, (shape, _) in layers:
        row = LAYERS[name][0](shape(row))
    text: Any = with_quotes(row.encode(), re.compile(str(CARD).encode())).decode()
    for name, (_, part) in reversed(layers):
        text = part(LAYERS[name][1](text))
    assert LAYERS[inner][1](text) == swapped(value)


def test_tuples_and_keys() -> None:
    """Python's own: tuples, and numbers as keys."""
    for value in ((CARD, 1), (1, CARD), {CARD: "x"}, {CARD}):
        out = with_quotes(repr(value).encode(), re.compile(str(CARD).encode()))
        assert ast.literal_eval(out.decode()) == ast.literal_eval(repr(value).replace(str(CARD), "'[CARD]'"))


@pytest.mark.parametrize(
    "text",
    [
        "my card is 4111111111111111",
        "card: 4111111111111111, thanks",
        "my card (4111111111111111), thanks",
        "[INFO] card: 4111111111111111, done",
        '{"card": "4111111111111111"}',
        '{"text": "my card is 4111111111111111, thanks"}',
        "'4111111111111111'",
        "4111111111111111",
        r'{"a": "[\"4111111111111111\"]"}',
    ],
)
def test_no_quotes_where_none_are_missing(text: str) -> None:
    card = str(CARD)
    assert with_quotes(text.encode(), re.compile(card.encode())).decode() == text.replace(card, "[CARD]")


def test_parts_of_one_number() -> None:
    """Two hits in one number are one replacement, and all of the number goes."""
    assert with_quotes(b'{"a": 123.456e7, "b": 123}', re.compile(rb"123|456")) == b'{"a": "[CARD]", "b": "[CARD]"}'


# Bounds


@modest
@given(st.lists(pieces, max_size=30).map("".join), st.booleans())
def test_nothing_outside_of_the_row_is_touched(row: str, at_end: bool) -> None:
    """Rows that stand at a page nobody may read, cut anywhere."""
    body = row.encode()
    array = _FENCE.holding(body, at_end=at_end)
    for cut in (len(body), len(body) // 2):
        zero, size = np.zeros(1, np.int64), np.array([cut], np.int32)
        if at_end:
            zero += len(body) - cut
        found = views(array, zero, size)
        if len(found.row):
            everything = np.arange(len(found.row), dtype=np.int32)
            full = everything[found.size > 0]
            found.to_raw(full, np.zeros(len(full), np.int32), found.size[full])
        if cut:
            needs_quotes(array, zero, size, *(np.array([number], np.int32) for number in (0, 0, cut)))


_FENCE = Fenced(1 << 16)
