"""Who may ask the admin port: the right Host header (against DNS rebinding), and the token where one is set.

Who wants to change something needs the key that lies in the data directory (`spanledger.admin.control`), token or not.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

from spanledger.admin.control import CHANGES

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Asked by probes that know no token; they tell nothing but whether all is well.
OPEN_PATHS = frozenset({"/healthz", "/readyz"})
#: Pages for people: they have sessions beside the token, and know their visitors themselves (`spanledger.ui.auth`).
PAGES = "/ui/"


class Guard:
    """ASGI middleware. A browser that was tricked into resolving a stranger's name to this address still sends the
    stranger's name as Host; an address as Host cannot be a trick, so the address that was connected to is allowed."""

    def __init__(
        self,
        app: App,
        host: str,
        allowed_hosts: Sequence[str],
        token: str | None,
        key: str,
        see: str = "service.admin.allowed_hosts",
    ) -> None:
        self._app = app
        self._names = {name.lower() for name in ("localhost", host, *allowed_hosts) if name}
        self._token = token.encode() if token is not None else None
        self._key = key.encode()
        self._see = see.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or not self._host_is_ours(headers["host"], scope):
            await _answer(send, 421, b"this Host is not served here; see %s\n" % self._see)
        elif scope["path"].startswith(CHANGES):
            if matches(self._key, headers):
                await self._app(scope, receive, send)
            else:
                await _answer(send, 403, b"this changes data: it needs the key in the collector's data directory; use the spanledger command there\n")  # fmt: skip
        elif (
            scope["path"] in OPEN_PATHS
            or scope["path"].startswith(PAGES)
            or self._token is None
            or matches(self._token, headers)
        ):
            await self._app(scope, receive, send)
        else:
            await _answer(send, 401, b"a token is needed: Authorization: Bearer TOKEN\n", {b"www-authenticate": b'Basic realm="spanledger"'})  # fmt: skip

    def _host_is_ours(self, text: str, scope: Scope) -> bool:
        name = text.strip().lower()
        name = name[1 : name.find("]")] if name.startswith("[") else name.partition(":")[0]
        if name.rstrip(".") in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
            server = scope.get("server")
            return address.is_loopback or (server is not None and address == ipaddress.ip_address(server[0]))
        except ValueError:
            return False


def matches(secret: bytes, headers: Mapping[str, str]) -> bool:
    """Whether a request comes with a secret: as a bearer token, a password, or in the header that ClickHouse clients have."""
    # Each given credential is compared, whatever the others were (no early end).
    given = [_credential(headers.get("authorization", "")), headers.get("x-clickhouse-key", "").encode()]
    return any([hmac.compare_digest(secret, value) for value in given])  # noqa: C419


def _credential(authorization: str) -> bytes:
    """The token of a Bearer header, or the password of a Basic one."""
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip().encode()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest.strip(), validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return b""


async def _answer(send: Send, status: int, body: bytes, headers: Mapping[bytes, bytes] | None = None) -> None:
    fields = {b"content-type": b"text/plain; charset=utf-8", b"content-length": str(len(body)).encode(), **(headers or {})}  # fmt: skip
    await send({"type": "http.response.start", "status": status, "headers": list(fields.items())})
    await send({"type": "http.response.body", "body": body})
