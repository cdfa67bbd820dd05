"""Who sends: bearer tokens, compared in constant time, and the attributes that a token stands for.

A token comes as `Authorization: Bearer TOKEN`; as the password of HTTP basic authentication, which is all that some SDKs
can send; or as `x-api-key`, likewise. Never in the URL: URLs are logged.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from collector.errors import SpanledgerError, Unauthenticated
from collector.receivers.files import Watched
from config.model import AuthConfig, ClientConfig

logger = logging.getLogger(__name__)

_MAX_FILE = 16 * 2**20
_CLIENTS: TypeAdapter[dict[str, ClientConfig]] = TypeAdapter(dict[str, ClientConfig])


@dataclass(frozen=True, slots=True)
class Client:
    """A sender that was let in. `attributes` go onto every resource that it sends."""

    name: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


ANYBODY = Client()


class Auth:
    """The tokens of one port. Without a config everybody is let in."""

    def __init__(self, config: AuthConfig | None, option: str) -> None:
        """`option` is the config path of the port's `auth`, for messages. Raises `SpanledgerError`."""
        self._config, self._option = config, option
        self._file = Watched((config.tokens_file,)) if config and config.tokens_file else None
        self._known = self._read() if config else ()

    @property
    def required(self) -> bool:
        """Whether a token is needed."""
        return self._config is not None

    def client(self, authorization: str | None, api_key: str | None = None) -> Client:
        """Who sends this `Authorization` or `x-api-key` header. Raises `Unauthenticated`."""
        if self._config is None:
            return ANYBODY
        if authorization is None and api_key is None:
            raise Unauthenticated("no token: send it as `Authorization: Bearer TOKEN`")
        digest = _digest(_token(authorization) if authorization is not None else api_key or "")
        found: Client | None = None
        for known, client in self._known:  # all of them, always: the time must not tell which one was near
            found = client if hmac.compare_digest(digest, known) else found
        if found is None:
            raise Unauthenticated("the token is not known here")
        return found

    def refresh(self) -> None:
        """Read the tokens file again if it has changed. A file that cannot be read leaves the old tokens valid."""
        if self._file is None or not self._file.changed():
            return
        try:
            self._known = self._read()
            logger.info("%s.tokens_file: read again, %d tokens", self._option, len(self._known))
        except SpanledgerError as error:
            logger.error("%s; the tokens that were read before stay valid", error)

    def _read(self) -> tuple[tuple[bytes, Client], ...]:
        assert self._config is not None
        clients = dict(self._config.clients)
        if self._config.tokens_file is not None:
            clients |= _read_file(self._config.tokens_file, f"{self._option}.tokens_file")
        known = [(c.token.get_secret_value(), Client(name, c.attributes)) for name, c in clients.items()]
        if self._config.token is not None:
            known.append((self._config.token.get_secret_value(), ANYBODY))
        by_token: dict[str, Client] = {}
        for token, client in known:
            if not token.strip():
                raise SpanledgerError(f"{self._option}: the token of {client.name or 'everybody'!r} is empty")
            if token in by_token:
                raise SpanledgerError(
                    f"{self._option}: {by_token[token].name or 'token'!r} and {client.name or 'token'!r} have the same token"
                )
            by_token[token] = client
        return tuple((_digest(token), client) for token, client in by_token.items())


def _read_file(path: Path, option: str) -> dict[str, ClientConfig]:
    """`client: token` or `client: {token, attributes}`, as YAML or JSON."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE + 1)
        data: Any = yaml.safe_load(text) if len(text) <= _MAX_FILE else None
    except OSError as error:
        raise SpanledgerError(f"{option}: cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, RecursionError, ValueError):
        raise SpanledgerError(f"{option}: {path} is neither YAML nor JSON") from None
    if not isinstance(data, dict):
        raise SpanledgerError(f"{option}: {path} is not a mapping of clients to tokens")
    data = {name: {"token": value} if isinstance(value, str) else value for name, value in data.items()}
    try:
        return _CLIENTS.validate_python(data)
    except ValidationError as error:
        # Only places and kinds of mistakes: the values are secrets.
        places = ", ".join(".".join(str(part) for part in e["loc"]) + f" ({e['type']})" for e in error.errors()[:5])
        raise SpanledgerError(
            f"{option}: {path}: expected `client: token` or `client: {{token, attributes}}`, wrong at {places}"
        ) from None


def _token(authorization: str) -> str:
    scheme, _, value = authorization.strip().partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer":
        return value
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            return ""
    raise Unauthenticated("send the token as `Authorization: Bearer TOKEN`")


def _digest(token: str) -> bytes:
    """Of equal length for all tokens, so that comparing takes the same time for all."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
