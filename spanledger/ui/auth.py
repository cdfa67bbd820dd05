"""Who looks: by session, by token, by the header of a proxy that signed them in, or from this machine where nothing is set.

A session is a cookie that says role, end and name, signed with a key that comes from the tokens: it survives a restart and
ends when a token changes. It is HttpOnly and SameSite=Strict; what changes something (signing in and out) must come from a
page of ours as well.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import HTTPConnection, Request

from config.model import UiConfig
from spanledger.admin.guard import matches

COOKIE = "spanledger_session"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who may look. Only admins see what was said to models and what they answered."""

    name: str
    admin: bool
    session: bool = False


class Access:
    """The rules. `token` is the admin port's."""

    def __init__(self, config: UiConfig, token: str | None, clock: Callable[[], float] = time.time) -> None:
        self._admin = token.encode() if token is not None else None
        self._viewer = config.viewer_token.get_secret_value().encode() if config.viewer_token else None
        self._header = config.proxy_header.lower() if config.proxy_header else None
        self._proxies = [ipaddress.ip_network(text) for text in config.trusted_proxies]
        self._admins = frozenset(name.lower() for name in config.admins)
        self._seconds = config.session
        self._clock = clock
        base = (
            b"\0".join(part or b"" for part in (self._admin, self._viewer)) if self.tokens else secrets.token_bytes(32)
        )
        self._key = hmac.digest(base, b"spanledger ui session", hashlib.sha256)

    @property
    def tokens(self) -> bool:
        """Whether one may sign in with a token."""
        return self._admin is not None or self._viewer is not None

    def who(self, request: HTTPConnection) -> Visitor | None:
        """Who asks; None: nobody that is known."""
        if self._header is not None and self._from(request, self._proxies):
            name = request.headers.get(self._header, "").strip()
            if name:
                return Visitor(name[:200], name.lower() in self._admins)
        if (found := self._session(request.cookies.get(COOKIE, ""))) is not None:
            return found
        headers = dict(request.headers.items())
        if self._admin is not None and matches(self._admin, headers):
            return Visitor("token", True)
        if self._viewer is not None and matches(self._viewer, headers):
            return Visitor("viewer token", False)
        if not self.tokens and self._header is None and request.client and _loopback(request.client.host):
            return Visitor("this machine", True)
        return None

    def sign_in(self, token: str) -> tuple[Visitor, str] | None:
        """A visitor and their cookie for a right token."""
        given = token.strip().encode()
        admin = self._admin is not None and hmac.compare_digest(given, self._admin)
        viewer = self._viewer is not None and hmac.compare_digest(given, self._viewer)
        if not (admin or viewer):
            return None
        visitor = Visitor("admin" if admin else "viewer", admin, True)
        body = f"{'a' if admin else 'v'}.{int(self._clock() + self._seconds)}"
        return visitor, f"{body}.{self._signature(body)}"

    @property
    def seconds(self) -> int:
        """How long a session lasts."""
        return int(self._seconds)

    def _session(self, cookie: str) -> Visitor | None:
        body, _, signature = cookie.rpartition(".")
        if not body or not hmac.compare_digest(signature.encode(), self._signature(body).encode()):
            return None
        role, _, end = body.partition(".")
        if int(end) <= self._clock():
            return None
        return Visitor("admin" if role == "a" else "viewer", role == "a", True)

    def _signature(self, body: str) -> str:
        digest = hmac.digest(self._key, body.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def _from(self, request: HTTPConnection, networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
        try:
            address = ipaddress.ip_address(request.client.host if request.client else "")
        except ValueError:
            return False
        return any(address in network for network in networks)


def is_ours(request: Request) -> bool:
    """Whether a form was sent by a page of this very origin: browsers say so, and a page elsewhere cannot lie about it."""
    if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return False
    origin = request.headers.get("origin", "")
    return origin.partition("://")[2] == request.headers.get("host")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
