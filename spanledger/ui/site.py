"""The ASGI application: routes, who may see them, and the headers that every answer has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from config.model import UiConfig
from spanledger.ui.ask import KEPT_SECONDS, PARALLEL, AskError, Remembering, Store, kept_for
from spanledger.ui.auth import COOKIE, Access, Visitor, is_ours
from spanledger.ui.filters import FilterError, Filters
from spanledger.ui.html import Markup, Node, e, render
from spanledger.ui.page import ROOT, NotHere, Page, Source, View, as_csv
from spanledger.ui.pages import registered
from spanledger.ui.shell import document, framed
from spanledger.ui.weights import Weighted

_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
_HEADERS = {
    b"content-security-policy": _POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"permissions-policy": b"camera=(), geolocation=(), microphone=()",
}
_MAX_FORM = 4096
#: A wrong token costs this long, so that guessing gets nowhere.
_WRONG_TOKEN_SECONDS = 1.0


class Site:
    """The pages over a store. `close` lets go of it."""

    def __init__(
        self,
        store: Store,
        config: UiConfig,
        token: str | None,
        *,
        status: Callable[[], dict[str, Any]] | None = None,
        budgets: Callable[[], list[dict[str, Any]]] | None = None,
        weights: Sequence[Weighted] = (),
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._access = Access(config, token)
        self._clock = clock
        self._threads = ThreadPoolExecutor(PARALLEL, thread_name_prefix="ui")
        self._store = Remembering(store)
        self._source = Source(self._store, self._threads, status, budgets, weights)
        routes: list[BaseRoute] = [
            Route("/sign-in", self._sign_in, methods=["GET", "POST"]),
            Route("/sign-out", self._sign_out, methods=["POST"]),
            Mount("/static", StaticFiles(directory=Path(__file__).with_name("static"))),
            *(Route(path, self._page(page)) for path, page in registered().items()),
        ]
        self.app: ASGIApp = _Headers(Starlette(routes=routes, exception_handlers={HTTPException: self._failed}))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._source.store.close()

    def _page(self, page: Page) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            visitor = self._access.who(request)
            if visitor is None:
                return self._stranger(request)
            return await run_in_threadpool(self._answer, page, visitor, request)

        return answer

    def _answer(self, page: Page, visitor: Visitor, request: Request) -> Response:
        query = dict(request.query_params)
        theme = request.cookies.get("spanledger_theme", "auto")
        now = self._clock()
        try:
            filters = Filters.from_query(request.scope["query_string"].decode("latin-1"), now)
        except FilterError as error:
            return self._said("Not a period", str(error), 400, theme)
        # Who looks for a call looks for the newest.
        kept = KEPT_SECONDS if page.live else kept_for(filters.seconds)
        filters = replace(filters, now=_step(now, kept))
        csv = query.pop("csv", "")
        view = View(
            replace(self._source, store=self._store.standing(kept)),
            page,
            visitor,
            filters,
            request.path_params,
            query,
            theme,
            csv,
        )
        try:
            text = render(framed(view, page.body(view)))
        except NotHere as error:
            return self._said("Not found", str(error), 404, theme)
        except AskError as error:
            return self._said("The store did not answer", str(error), 503, theme)
        if csv:
            if view.csv is None:
                return self._said("Not found", "This page has no such figure.", 404, theme)
            name = f'attachment; filename="spanledger-{csv}.csv"'
            return Response(as_csv(view.csv), headers={"content-disposition": name, "content-type": "text/csv; charset=utf-8"})  # fmt: skip
        return StreamingResponse(view.stream(text), media_type="text/html", headers={"cache-control": "private, no-store"})  # fmt: skip

    def _stranger(self, request: Request) -> Response:
        """Nobody we know: to the form, where there is a token to give; else no."""
        if self._access.tokens:
            here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"{ROOT}/sign-in?to={quote(here, safe='')}", 303)
        return self._said("Not for this address", "These pages are open to this machine alone: set service.admin.auth, or a proxy that signs people in (docs/ui.md).", 403)  # fmt: skip

    async def _sign_in(self, request: Request) -> Response:
        to = request.query_params.get("to", "")
        to = to if to.startswith(f"{ROOT}/") and "\\" not in to else f"{ROOT}/"
        if not self._access.tokens:
            return RedirectResponse(f"{ROOT}/", 303)
        if request.method == "GET":
            return self._form(to)
        if not is_ours(request):
            return self._said("Not from here", "This form was not sent by a page of this collector.", 403)
        signed = self._access.sign_in(parse_qs(await _form_of(request)).get("token", [""])[0])
        if signed is None:
            await asyncio.sleep(_WRONG_TOKEN_SECONDS)
            return self._form(to, "This is not the token.", 403)
        answer = RedirectResponse(to, 303)
        secure = request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https"
        answer.set_cookie(COOKIE, signed[1], max_age=self._access.seconds, path=ROOT, secure=secure, httponly=True, samesite="strict")  # fmt: skip
        return answer

    async def _sign_out(self, request: Request) -> Response:
        if not is_ours(request):
            return self._said("Not from here", "This form was not sent by a page of this collector.", 403)
        answer = RedirectResponse(f"{ROOT}/", 303)
        answer.delete_cookie(COOKIE, path=ROOT)
        return answer

    def _form(self, to: str, wrong: str = "", status: int = 200) -> Response:
        form = e(
            "form",
            e("h1", "Spanledger"),
            e("p", "Sign in with the token of the admin port, or a viewer's."),
            e("p.failed", wrong, role="alert") if wrong else None,
            e("label", "Token", e("input", type="password", name="token", autocomplete="current-password", required=True, autofocus=True)),
            e("button", "Sign in", type="submit"),
            method="post",
            action=f"{ROOT}/sign-in?to={quote(to, safe='')}",
        )  # fmt: skip
        return HTMLResponse(render(document("Sign in", e("main.alone", form))), status)

    def _said(self, title: str, text: Node, status: int, theme: str = "auto") -> Response:
        inside = e("div", e("h1", title), e("p", text), e("a.button", "To the overview", href=f"{ROOT}/"))
        return HTMLResponse(render(document(title, e("main.alone", inside), theme=theme)), status)

    async def _failed(self, _request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        return self._said("Not found" if status == 404 else "Not possible", Markup("There is nothing here."), status)


def _step(now: datetime, seconds: float) -> datetime:
    """The end of the seconds in which answers stand: pages that are looked at within them ask the same."""
    return datetime.fromtimestamp(-(-now.timestamp() // seconds) * seconds, UTC)


async def _form_of(request: Request) -> str:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_FORM:
            return ""
    return body.decode(errors="replace")


class _Headers:
    """ASGI middleware: the security headers, on everything."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS.items()]
            await send(message)

        await self._app(scope, receive, with_headers)
