"""Sealing: what lies in the stores is encrypted and bound to its place (AES-256-GCM).

A sealed record, version 1:

    version 1 | key id 4 | session 16 | counter 8 | cipher text | tag 16

A configured key never encrypts anything itself. Each `Sealer` draws a random session and encrypts under a key derived
from both, with a counter as the nonce: a nonce cannot repeat, neither within a process nor across restarts, however
many records there are (random 96-bit nonces would be used up after 2^32 of them: weeks, at a gateway's rates).

The context (store, database, key) is authenticated with the record, so that records cannot be swapped. Version 0 is a
plain record with a checksum, written where encryption is off. Both versions can always be read, so that encryption may be
switched on and off over existing data: sealing keeps secrets from who reads the disk; who can write it can do worse.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import os
import struct
import weakref
import zlib
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from collector.errors import StoreError
from collector.store.keys import load_keys
from config.model import EncryptionConfig

Buffer = bytes | bytearray | memoryview

KEY_ID_BYTES = 4
_HEADER_BYTES = 29
_SESSION = slice(1, 21)  # in the header: key id and random bytes
_COUNTER = slice(21, 29)
_PLAIN = struct.Struct(">BI")
_TAG_BYTES = 16
_NONCE_PAD = bytes(4)
_LARGE = 1 << 16  # from here on an output buffer of its own is cheaper than another copy
_MAX_SESSIONS = 1024  # derived keys kept ready; each start of the collector makes one

_sealers: weakref.WeakSet[Sealer] = weakref.WeakSet()


class Damaged(StoreError):
    """A record is not what was written, or its key is not there."""


class Sealer:
    """Seals under the first key, opens under all. Thread-safe."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        """`keys`: 32 bytes each, the current one first."""
        self._keys = {key_id(key): key for key in keys}
        self.current: bytes | None = key_id(keys[0]) if keys else None
        self._sessions: dict[bytes, AESGCM] = {}
        self._start_session()
        _sealers.add(self)

    @property
    def known(self) -> frozenset[bytes]:
        """Ids of the keys that records can be opened with."""
        return frozenset(self._keys)

    def _start_session(self) -> None:
        """A new derived key and its counter, together: `seal` takes both or neither."""
        if self.current is not None:
            session = self.current + os.urandom(16)
            self._session = (session, self._derive(session), itertools.count())  # `next` on a count is atomic

    def _derive(self, session: bytes) -> AESGCM:
        """The cipher of a session, named by key id and random bytes."""
        if len(self._sessions) >= _MAX_SESSIONS:
            self._sessions.clear()
        key = self._keys[session[:KEY_ID_BYTES]]
        aead = self._sessions[session] = AESGCM(hmac.digest(key, b"spanledger seal 1\0" + session, "sha256"))
        return aead

    def seal(self, plain: Buffer, context: bytes, prefix: bytes = b"") -> bytes | bytearray:
        """The record of `plain`. `prefix` comes before it in the clear, to save the caller a copy."""
        assert self.current is not None
        session, aead, counter = self._session
        number = next(counter).to_bytes(8)
        header = b"\1" + session + number
        nonce = _NONCE_PAD + number
        if len(plain) < _LARGE:
            return prefix + header + aead.encrypt(nonce, plain, header + context)
        start = len(prefix) + len(header)
        sealed = bytearray(start + len(plain) + _TAG_BYTES)
        sealed[:start] = prefix + header
        aead.encrypt_into(nonce, plain, header + context, memoryview(sealed)[start:])
        return sealed

    def open(self, sealed: Buffer, context: bytes) -> bytes:
        """What was sealed in this context. Raises `Damaged`."""
        if len(sealed) < _HEADER_BYTES + _TAG_BYTES or sealed[0] != 1:
            return _open_plain(sealed, context)
        header = bytes(sealed[:_HEADER_BYTES])
        session = header[_SESSION]
        aead = self._sessions.get(session)
        if aead is None:
            key = session[:KEY_ID_BYTES]
            if key not in self._keys:
                raise Damaged(f"record is sealed with key {key.hex()}, which is not configured")
            aead = self._derive(session)
        try:
            return aead.decrypt(_NONCE_PAD + header[_COUNTER], sealed[_HEADER_BYTES:], header + context)
        except InvalidTag:
            raise Damaged("record does not match its seal: damaged, or moved from another place") from None


class NullSealer(Sealer):
    """Writes plain records with a checksum. Opens sealed ones too, as far as it was given keys."""

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        super().__init__(keys)
        self.current = None

    def seal(self, plain: Buffer, context: bytes, prefix: bytes = b"") -> bytes:
        header = _PLAIN.pack(0, zlib.crc32(plain, zlib.crc32(context)))
        return b"".join((prefix, header, plain))


def _open_plain(record: Buffer, context: bytes) -> bytes:
    if len(record) < _PLAIN.size:
        raise Damaged(f"record of {len(record)} bytes is cut short")
    if record[0] != 0:
        raise Damaged(f"record of {len(record)} bytes and version {record[0]} is none")
    _, checksum = _PLAIN.unpack_from(record)
    plain = bytes(memoryview(record)[_PLAIN.size :])
    if zlib.crc32(plain, zlib.crc32(context)) != checksum:
        raise Damaged("record does not match its checksum: damaged, or moved from another place")
    return plain


def key_id(key: bytes) -> bytes:
    """Names a key without telling anything about it."""
    return hashlib.sha256(b"spanledger key id\0" + key).digest()[:KEY_ID_BYTES]


def key_of(sealed: Buffer) -> bytes | None:
    """Id of the key that a record (or its beginning) needs; None for a plain or unknown one."""
    return bytes(sealed[1 : 1 + KEY_ID_BYTES]) if len(sealed) > KEY_ID_BYTES and sealed[0] == 1 else None


def open_sealer(config: EncryptionConfig, data_dir: Path) -> Sealer:
    """The sealer that the config asks for. Makes `data_dir` (0700) and, where no key is configured, `inbox.key` in it.

    Raises `ConfigError` for a key that is none, `StoreError` where a file cannot be read or written.
    """
    keys = load_keys(config, data_dir)
    return Sealer(keys) if config.enabled else NullSealer(keys)


def _renew_sessions() -> None:
    for sealer in list(_sealers):
        sealer._start_session()


# A forked child would go on with its parent's counter, under the same key.
os.register_at_fork(after_in_child=_renew_sessions)
