"""Where the stores' keys come from: the config, a file, or one that is made at the first start."""

from __future__ import annotations

import base64
import binascii
import logging
import os
import secrets
from pathlib import Path

from collector.errors import ConfigError, StoreError
from config.model import EncryptionConfig

KEY_BYTES = 32
KEY_FILE = "inbox.key"

log = logging.getLogger(__name__)


def load_keys(config: EncryptionConfig, data_dir: Path) -> list[bytes]:
    """All keys that records may be sealed with, the current one first. Empty only where encryption is off.

    A key that was made in the data directory before one was configured stays readable.
    """
    try:
        make_private(data_dir)
        made = data_dir / KEY_FILE
        keys: list[bytes] = []
        if config.key is not None:
            keys.append(parse_key(config.key.get_secret_value(), "service.encryption.key"))
        elif config.key_file is not None:
            keys += read_keys(config.key_file)
        elif config.enabled and not made.exists():
            make_key(made, "what lies on disk; without it the stores cannot be read")
        if made.exists():
            keys += [key for key in read_keys(made) if key not in keys]
    except OSError as error:
        raise StoreError(f"{error.filename or data_dir}: {error.strerror}: no access to the encryption key") from error
    return keys


def parse_key(text: str, where: str) -> bytes:
    """32 bytes written as base64 (either alphabet, padded or not) or hex. The error never quotes the text."""
    text = text.strip()
    if len(text) == 2 * KEY_BYTES:
        try:
            return bytes.fromhex(text)
        except ValueError:
            pass
    try:
        alphabet = text.replace("-", "+").replace("_", "/")
        key = base64.b64decode(alphabet + "=" * (-len(alphabet) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ConfigError(f"{where}: not a key: neither base64 nor hex; {_how_to_make_one()}") from None
    if len(key) != KEY_BYTES:
        raise ConfigError(f"{where}: a key has {KEY_BYTES} bytes, this one {len(key)}; {_how_to_make_one()}")
    return key


def _how_to_make_one() -> str:
    return f"make one with `openssl rand -base64 {KEY_BYTES}`"


def read_keys(path: Path) -> list[bytes]:
    """The keys of a file, one a line; empty lines and `#` comments do not count. Raises `ConfigError`, `OSError`."""
    keys = [
        parse_key(line, f"{path}:{number}")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not keys:
        raise ConfigError(f"{path}: holds no key; {_how_to_make_one()}")
    return keys


def make_key(path: Path, purpose: str) -> None:
    """A new random key, readable by its owner only. Complete or not there at all, whatever happens meanwhile."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        os.link(temporary, path)  # unlike a rename it never replaces a key that another process has just made
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
    sync_directory(path.parent)
    log.info("made a key: %s, for %s", path, purpose)


def make_private(directory: Path) -> None:
    """Make the directory, for its owner only; take others' access away where it is there already."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    if directory.stat().st_mode & 0o077:
        directory.chmod(0o700)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
