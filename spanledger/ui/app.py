"""The site as an application by itself, where no admin port is around it."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from spanledger.ui.page import ROOT
from spanledger.ui.site import Site


def alone(site: Site) -> Starlette:
    """`/` leads to the pages; `/healthz` is for probes."""

    async def index(_request: Request) -> Response:
        return RedirectResponse(f"{ROOT}/", 303)

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    return Starlette(routes=[Route("/", index), Route("/healthz", healthz), Mount(ROOT, app=site.app)])
