"""Pseudonyms: keyed tokens that stand for a text, the same for the same text, and for nobody else to undo.

    user_k3fa9_5d41402abc4b2a76b9719d915e2d81f0
    what  key  HMAC-SHA256 of the text, 96 bits | of the token, 32 bits

The key's id is in the token, so that it can be told when keys were changed. The last 32 bits prove that the token was
made under the key: a token is never made into another token, here or in the next Spanledger that has the key, and no text
that merely looks like one gets past redaction.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from pathlib import Path

from collector.errors import StoreError
from collector.store.keys import make_key, make_private, parse_key, read_keys
from config.types import Secret

KEY_FILE = "pseudonym.key"
TOKEN = re.compile(rb"[a-z][a-z0-9_]{0,40}_(k[0-9a-f]{4})_([0-9a-f]{24})([0-9a-f]{8})")
#: The same, as detectors are written.
SHAPE = r"[a-z][a-z0-9_]{0,40}_k[0-9a-f]{4}_[0-9a-f]{32}"
_MOST = 200_000


class Pseudonyms:
    """Makes tokens under the first key, knows those of all keys. One thread."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        """`keys`: 32 bytes each, the current one first."""
        self._keys = {key_id(key): key for key in keys}
        self._id, self._key = key_id(keys[0]), keys[0]
        #: What every token under one of the keys has in it.
        self.signs = tuple(f"_{id_}_".encode() for id_ in self._keys)
        self._made: dict[bytes, str] = {}

    def token(self, name: str, text: bytes) -> bytes:
        """The token of a text. `name` says what it stands for and does not change the rest of it."""
        made = self._made.get(text)
        if made is None:
            value = hmac.digest(self._key, b"spanledger pseudonym\0" + text, "sha256")[:12].hex()
            made = f"_{self._id}_{value}{_proof(self._key, value)}"
            if len(self._made) >= _MOST:
                self._made.clear()
            self._made[text] = made
        return (name + made).encode()

    def is_token(self, text: bytes) -> bool:
        """Whether the text is a token that was made under one of the keys."""
        match = TOKEN.fullmatch(text)
        if match is None:
            return False
        key = self._keys.get(match[1].decode())
        return key is not None and hmac.compare_digest(_proof(key, match[2].decode()).encode(), match[3])


def _proof(key: bytes, value: str) -> str:
    return hmac.digest(key, b"spanledger token\0" + value.encode(), "sha256")[:4].hex()


def key_id(key: bytes) -> str:
    """Names a key without telling anything about it."""
    return "k" + hashlib.sha256(b"spanledger pseudonym key id\0" + key).hexdigest()[:4]


def load_keys(key: Secret | None, key_file: Path | None, data_dir: Path) -> list[bytes]:
    """The keys that the config names, or those of `pseudonym.key` in the data directory, which is made (0600) if it is missing.

    Raises `ConfigError` for a key that is none, `StoreError` where a file cannot be read or written.
    """
    try:
        if key is not None:
            return [parse_key(key.get_secret_value(), "pseudonyms.key")]
        if key_file is not None:
            return read_keys(key_file)
        made = data_dir / KEY_FILE
        if not made.exists():
            make_private(data_dir)
            make_key(made, "pseudonyms; under another one, everybody gets another pseudonym")
        return read_keys(made)
    except OSError as error:
        raise StoreError(
            f"{error.filename or data_dir}: {error.strerror}: no access to the key of pseudonyms"
        ) from error
