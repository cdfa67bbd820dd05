"""Asking a gateway: LiteLLM's admin API, or a webhook. Errors never quote whom it is about."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from typing import Any, Protocol
from urllib.parse import quote

from collector.errors import Permanent, Retryable
from exporters.gateway.config import Target
from exporters.gateway.journal import Whom
from exporters.notify.config import signing_key
from exporters.notify.events import signature

#: Answers that speak of the setup or of the moment, not of what was asked: somebody mends it, and it is tried again.
_MENDED = (401, 403, 405, 407, 408, 425, 429)
_MOST_BYTES = 64 * 2**20
_HASH_DIGITS = 64


class At(Protocol):
    """A gateway. Both may be called again for what is so already. Raise `Retryable`, `Permanent`."""

    def blocked(self, whom: Whom) -> bool:
        """Whether it is blocked now."""
        ...

    def set(self, whom: Whom, block: bool, about: dict[str, Any]) -> None:
        """Block it, or let it go. `about`: why, as JSON can hold it."""
        ...


class LiteLLM:
    """`/team/…` and `/key/…` of the proxy. The ledger's name of a team is its alias or id, of a key its alias or hash."""

    def __init__(self, target: Target, timeout: float) -> None:
        assert target.litellm is not None
        assert target.key is not None
        self._url, self._timeout = target.litellm, timeout
        self._headers = {"Authorization": f"Bearer {target.key.get_secret_value()}", "Content-Type": "application/json"}

    def blocked(self, whom: Whom) -> bool:
        return self._find(whom)[1]

    def set(self, whom: Whom, block: bool, about: dict[str, Any]) -> None:  # noqa: ARG002
        id_, _ = self._find(whom)
        path, field = ("/team/", "team_id") if whom.what == "team" else ("/key/", "key")
        self._ask(f"{path}{'block' if block else 'unblock'}", {field: id_})

    def _find(self, whom: Whom) -> tuple[str, bool]:
        """Its id at the gateway, and whether it is blocked."""
        if whom.what == "team":
            found = [
                (str(team["team_id"]), bool(team.get("blocked")))
                for team in self._ask("/team/list") if whom.name in (team.get("team_alias"), team.get("team_id"))
            ]  # fmt: skip
        else:
            found = self._keys("key_alias", whom.name)
            if not found and len(whom.name) == _HASH_DIGITS:
                found = self._keys("token", whom.name)
        if len(found) != 1:
            raise Permanent(f"LiteLLM has {'several of' if found else 'no'} such {whom.what.replace('_', ' ')}")
        return found[0]

    def _keys(self, field: str, name: str) -> list[tuple[str, bool]]:
        """Keys by alias or hash. Some releases look for aliases that have the name in them: there may be more than the one."""
        wanted = "key_alias" if field == "key_alias" else "key_hash"
        asked = self._ask(f"/key/list?{wanted}={quote(name, safe='')}&return_full_object=true&size=100")
        return [(str(key["token"]), bool(key.get("blocked"))) for key in asked["keys"] if key.get(field) == name]

    def _ask(self, path: str, body: dict[str, str] | None = None) -> Any:
        sent = None if body is None else json.dumps(body).encode()
        try:
            answer = _request(self._url + path, self._headers, sent, self._timeout)
        except _NotFound:
            if body is None:  # that there is no such path is the setup's fault
                raise
            raise Permanent("LiteLLM has it no more") from None
        if body is not None:
            return None
        try:
            return json.loads(answer)
        except ValueError:
            raise Retryable("what answered is not LiteLLM's admin API") from None


class Webhook:
    """Tells a URL, signed as Standard Webhooks has it. `webhook-id` is the same whenever it is told the same."""

    def __init__(self, target: Target, timeout: float) -> None:
        assert target.webhook is not None
        self._url, self._timeout = target.webhook, timeout
        self._key = signing_key(target.secret) if target.secret is not None else None

    def blocked(self, whom: Whom) -> bool:  # noqa: ARG002
        return False

    def set(self, whom: Whom, block: bool, about: dict[str, Any]) -> None:
        action = "block" if block else "release"
        body = json.dumps(
            {"action": action, "what": whom.what, "name": whom.name, **about}, ensure_ascii=False
        ).encode()
        id_, now = f"{about['finding']}/{action}/{whom.gateway}", int(time.time())
        headers = {"Content-Type": "application/json; charset=utf-8", "webhook-id": id_, "webhook-timestamp": str(now)}
        if self._key is not None:
            headers["webhook-signature"] = signature(self._key, id_, now, body)
        _request(self._url, headers, body, self._timeout)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A key must not be carried elsewhere."""

    def redirect_request(self, *_: Any) -> None:
        return None


class _NotFound(Retryable):
    """404."""


_OPENER = urllib.request.build_opener(_NoRedirects())


def _request(url: str, headers: dict[str, str], body: bytes | None, timeout: float) -> bytes:
    request = urllib.request.Request(url, body, headers)  # noqa: S310 (the config allows http and https alone)
    try:
        with _OPENER.open(request, timeout=timeout) as answer:
            found: bytes = answer.read(_MOST_BYTES)
            return found
    except urllib.error.HTTPError as error:
        error.close()
        text = f"the gateway answered {error.code}"
        if error.code == 404:
            raise _NotFound(text) from None
        if error.code < 400 or error.code >= 500 or error.code in _MENDED:
            raise Retryable(text) from None
        raise Permanent(text) from None
    except (OSError, http.client.HTTPException) as error:
        raise Retryable(f"the gateway does not answer: {type(error).__name__}") from None


def at(target: Target, timeout: float) -> At:
    """The gateway that the config means."""
    return LiteLLM(target, timeout) if target.litellm is not None else Webhook(target, timeout)
