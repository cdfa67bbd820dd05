"""`GET /v1/verdict?team=search&model=gpt-4o`: 200 where the call may be made, else `deny_status`; JSON says why.

Proxies that ask with a copy of the client's request (nginx `auth_request`, Envoy's HTTP service, forward-auth) say who it
is by headers: those of `service.verdict.headers`. Below `/v1/verdict/` headers alone count, for there a proxy puts the
client's own path and query behind the path.
"""

from __future__ import annotations

import json
from urllib.parse import parse_qsl

from spanledger.admin.guard import Receive, Scope, Send, matches
from spanledger.verdict.judge import BadQuestion, Judge, refusal

PATH = "/v1/verdict"
_MOST_NAMES = 50


class VerdictApp:
    """ASGI, without a framework: it is asked before every call."""

    def __init__(self, judge: Judge, token: str | None) -> None:
        self._judge = judge
        self._token = token.encode() if token is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        if path == "/healthz":
            await _answer(send, 200, {"ok": True})
        elif path != PATH and not path.startswith(PATH + "/"):
            await _answer(send, 404, {"error": f"there is {PATH}"})
        elif path == PATH and scope["method"] not in ("GET", "HEAD", "POST"):
            await _answer(send, 405, {"error": "ask with GET"}, {"allow": "GET"})
        else:
            headers = {name.decode("latin-1"): _text(value) for name, value in scope["headers"]}
            if self._token is not None and not matches(self._token, headers):
                await _answer(
                    send,
                    401,
                    {"error": "a token is needed: Authorization: Bearer TOKEN"},
                    {"www-authenticate": "Bearer"},
                )
            else:
                await self._judged(send, headers, scope["query_string"] if path == PATH else b"")

    async def _judged(self, send: Send, headers: dict[str, str], query: bytes) -> None:
        try:
            question = {**self._judge.from_headers(headers), **_asked(query)}
            verdict, said = self._judge.ask(question)
        except BadQuestion as error:
            await _answer(send, 400, {"error": str(error)})
            return
        if verdict.allow:
            await _answer(send, 200, verdict.as_json(), said)
        else:
            body = {**verdict.as_json(), "error": refusal(verdict)}
            await _answer(send, self._judge.config.deny_status, body, said)


def _text(value: bytes) -> str:
    """A header's value: UTF-8, as names in the ledger come, or else what each byte stands for."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _asked(query: bytes) -> dict[str, str]:
    """The dimensions in a query string. Raises `BadQuestion`."""
    if not query:
        return {}
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=_MOST_NAMES)  # fmt: skip
    except ValueError:
        raise BadQuestion(
            "the query cannot be read; write it as team=search&model=gpt-4o, percent-encoded UTF-8"
        ) from None
    found = dict(pairs)
    if len(found) < len(pairs):
        raise BadQuestion("a dimension is named twice")
    return found


async def _answer(send: Send, status: int, body: dict[str, object], headers: dict[str, str] | None = None) -> None:
    data = json.dumps(body).encode() + b"\n"
    fields = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(data)).encode()),
        (b"cache-control", b"no-store"),
    ]
    fields += [(name.encode(), value.encode("latin-1", "replace")) for name, value in (headers or {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": data})
