"""The headers that say who sends: from the config, or from files that are read again when they change. Never shown."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from collector.errors import Retryable
from collector.receivers.files import Watched
from config.types import Secret
from exporters.otlp.config import HeaderFile

_MAX_BYTES = 64 * 1024
_LOOK_EVERY_S = 1.0
#: Shorter values are words such as `llmobs`, which are no secrets, and would hide harmless text.
_SECRET_LENGTH = 8


class Headers:
    """The headers of every request. For the sending thread."""

    def __init__(self, configured: Mapping[str, Secret | HeaderFile], option: str) -> None:
        """`option` is the config path of the headers, for messages."""
        self._configured, self._option = dict(configured), option
        paths = [value.file for value in self._configured.values() if isinstance(value, HeaderFile)]
        self._watched = Watched(paths) if paths else None
        self._look_at = 0.0
        self._values: dict[str, str] | None = None

    def current(self) -> dict[str, str]:
        """Names and values. Raises `Retryable` where a file cannot be read or holds no header value."""
        now = time.monotonic()
        if self._watched is not None and now >= self._look_at:
            self._look_at = now + _LOOK_EVERY_S
            if self._watched.changed():
                self._values = None
        if self._values is None:
            self._values = {name: self._value(name, value) for name, value in self._configured.items()}
        return self._values

    def _value(self, name: str, value: Secret | HeaderFile) -> str:
        if not isinstance(value, HeaderFile):
            return value.get_secret_value()
        return value.prefix + _read(value.file, f"{self._option}.{name}.file")

    def hide(self, text: str) -> str:
        """The text without any of the values: servers quote what they refuse."""
        for value in (self._values or {}).values():
            for part in {value, value.rpartition(" ")[2]}:
                if len(part) >= _SECRET_LENGTH:
                    text = text.replace(part, "***")
        return text


def _read(path: Path, option: str) -> str:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1).decode("ascii").rstrip("\r\n")
    except OSError as error:
        raise Retryable(f"{option}: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        text = ""
    if not text or not text.isprintable() or len(text) > _MAX_BYTES:
        raise Retryable(f"{option}: {path} does not hold one line of printable ASCII")
    return text
