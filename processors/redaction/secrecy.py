"""Is it a secret? What stands where a secret may stand is often a placeholder, a variable, a word, or a name of something."""

from __future__ import annotations

import base64
import json
import math
import re
from collections import Counter
from collections.abc import Callable

_PLACEHOLDER = re.compile(
    r"""[*x.•\-_#?0]+ | [<\[{(].* | \$.* | %[\w(%].* | .*(?:\.\.\.|…|\*\*\*).* | @?\w*\{.*
      | .*(?:your|redacted|placeholder|changeme|change_me|example_|dummy|insert).*
      | (?:none|null|nil|undefined|true|false|string|str|text|optional|required|hidden|masked|secret|password|token|value|empty)[\])},;.:]*
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_CODE = re.compile(
    r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+[\[(]?.*|[A-Za-z_]\w*[\[(].*|&?[a-z]\w*->.*|[a-z]+(?:\|[a-z:\d]+)+", re.DOTALL
)
_PATH = re.compile(r"(?:~|\.{1,2})?/[\w./-]*|[A-Za-z]:\\.*|\w+://.*")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


def entropy(text: str) -> float:
    """Bits per character, from how often each occurs."""
    return -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values())


def placeholder(text: str) -> bool:
    """Whether something only stands for a secret: stars, a variable, a word for one."""
    return _PLACEHOLDER.fullmatch(text) is not None


def random(text: str) -> bool:
    """Whether a piece of it, without separators, was drawn at random: ten characters or more, letters and digits mixed."""
    if placeholder(text):
        return False
    return any(
        len(piece) >= 10 and re.search(r"\d", piece) and re.search(r"[A-Za-z]", piece) and entropy(piece) >= 2.7
        for piece in re.split(r"[^A-Za-z0-9+/=]+|(?<=[a-z])_(?=[a-z])", text)
    )


def issued(text: str) -> bool:
    """Whether it is no row of words: a piece of it mixes small and capital letters, or is long and has digits too."""
    if placeholder(text):
        return False
    pieces = re.split(r"[-_]", text)
    return _UUID.search(text) is not None or any(
        re.search(r"[a-z][A-Z].*[a-z]|[a-z]\d.*[A-Z]|[A-Z]\d.*[a-z]", piece)
        or (len(piece) >= 12 and re.search(r"\d", piece) and re.search(r"[A-Za-z]", piece))
        for piece in pieces
    )


def secret(text: str) -> bool:
    """What is given for a key or a token: random, or a UUID, and no path, expression or name with a date in it."""
    if _PATH.fullmatch(text) and not re.fullmatch(r"/?[A-Za-z0-9+/]{40,}={0,2}", text):
        return False
    return _UUID.fullmatch(text) is not None or (random(text) and not _CODE.fullmatch(text))


def password(text: str) -> bool:
    """What is given for a password: six characters or more, not all letters, no path or expression."""
    if len(text) < 6 or placeholder(text) or _PATH.fullmatch(text) or _CODE.fullmatch(text):
        return False
    return not re.fullmatch(r"[A-Za-z]+(?:[-_'][A-Za-z]+)*[.:!?]?|[\d.,:]+[a-z]?", text)


def userinfo(text: str) -> bool:
    """`user:password` of a URL, where the password is one."""
    return not placeholder(text.partition(":")[2])


def basic(text: str) -> bool:
    """Credentials of HTTP's Basic scheme: base64 of `user:password`."""
    try:
        plain = base64.b64decode(text + "=" * (-len(text) % 4), validate=True).decode()
    except ValueError:  # no base64, or no text in it
        return False
    return ":" in plain and plain.isprintable()


def cookies(text: str) -> bool:
    """Cookies of which one's value is a secret."""
    return any(secret(cookie.partition("=")[2]) for cookie in text.split(";"))


def jwt(text: str) -> bool:
    """Whose first part is base64 of a JSON object with an algorithm."""
    head = text.partition(".")[0]
    try:
        header = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except ValueError:
        return False
    return isinstance(header, dict) and ("alg" in header or "typ" in header)


CHECKS: dict[str, Callable[[str], bool]] = {
    "basic": basic,
    "cookies": cookies,
    "issued": issued,
    "jwt": jwt,
    "password": password,
    "random": random,
    "secret": secret,
    "userinfo": userinfo,
}
