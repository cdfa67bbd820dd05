"""The admin port's pages, and the thread that serves them."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from collector.errors import StoreError
from config.model import AdminConfig
from config.types import parse_endpoint
from spanledger.admin.control import Control, new_key, publish, withdraw
from spanledger.admin.guard import Guard
from spanledger.admin.status import status
from spanledger.web import WebServer

if TYPE_CHECKING:
    from spanledger.parts import Parts
    from spanledger.ui.site import Site

logger = logging.getLogger(__name__)

_MAX_BODY = 2**20
_MOST_AT_ONCE = 100
_MOST_SUBJECTS = 1000
_INDEX = """Spanledger {version}

/ui/          pages for a browser
/healthz      200 while the collector works
/readyz       200 while it takes requests
/metrics      Prometheus
/status       what runs, what waits, what is wrong, as JSON
/budgets      what is used of budgets, as JSON
/clickhouse/  read-only SQL over the embedded store (ClickHouse's HTTP interface)
"""


class AdminServer:
    """Health, metrics, status and SQL, on a thread of its own."""

    def __init__(self, config: AdminConfig, parts: Parts) -> None:
        self._parts = parts
        self.host = parse_endpoint(config.endpoint)[0]
        token = config.auth.token.get_secret_value() if config.auth else None
        self._key = new_key()
        self._site = self._pages_for_people(config, token)
        app = Guard(self._pages(), self.host, config.allowed_hosts, token, self._key)
        self._web = WebServer(app, config.endpoint, "service.admin.endpoint", _MOST_AT_ONCE)
        self.endpoint = ""
        self._open = token is None

    def _pages(self) -> Any:
        routes: list[BaseRoute] = [
            Route("/", self._index),
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
            Route("/metrics", self._metrics),
            Route("/status", self._status),
            Route("/budgets", self._budgets),
            Route("/dead-letters/replay", self._replay, methods=["POST"]),
            Route("/dead-letters/drop", self._drop, methods=["POST"]),
        ]
        sql = next((app for d in self._parts.deliveries if (app := d.outlet.exporter.sql_app()) is not None), None)
        if sql is not None:
            routes.append(Mount("/clickhouse", app=sql))
        if self._site is not None:
            routes.append(Mount("/ui", app=self._site.app))
        return Starlette(routes=routes)

    def _pages_for_people(self, config: AdminConfig, token: str | None) -> Site | None:
        """The pages in a browser, over the first ClickHouse that the config writes calls to."""
        from exporters.clickhouse.config import ClickHouseConfig
        from processors.behaviour.config import BehaviourConfig
        from spanledger.ui.ask import open_store
        from spanledger.ui.site import Site
        from spanledger.ui.weights import Weighted

        specs = (spec.config for spec in self._parts.config.exporters.values())
        target = next((found for found in specs if isinstance(found, ClickHouseConfig)), None)
        if not config.ui.enabled or target is None:
            return None
        told = [
            spec.config for spec in self._parts.config.processors.values() if isinstance(spec.config, BehaviourConfig)
        ]
        weights = [Weighted(group.model, group.by, group.weights) for one in told for group in one.groups]
        store = open_store(target.dsn.get_secret_value(), target.database_name)
        parts = self._parts
        return Site(store, config.ui, token, status=lambda: status(parts), budgets=lambda: parts.budgets(time.time_ns(), _MOST_SUBJECTS), weights=weights)  # fmt: skip

    def start(self) -> None:
        """Listen. Raises `SpanledgerError` where the address cannot be had."""
        self._web.start()
        self.endpoint = self._web.endpoint
        if self._open and not self._web.local:
            logger.warning("the admin port listens on %s without a token: whoever reaches it can read the ledger; set service.admin.auth", self.endpoint)  # fmt: skip
        try:
            publish(self._parts.config.service.data_dir, Control(self.endpoint, self._key))
        except OSError as error:
            logger.warning("dead letters cannot be replayed or dropped while this runs: %s: %s", error.filename, error.strerror)  # fmt: skip

    @property
    def pages(self) -> str:
        """The address for browsers; empty where there is none."""
        return f"http://{self.endpoint}/ui/" if self._site is not None and self.endpoint else ""

    def stop(self) -> None:
        """Close the port."""
        if self._web.endpoint:
            withdraw(self._parts.config.service.data_dir)
            self._web.stop()
        if self._site is not None:
            self._site.close()

    async def _index(self, request: Request) -> Response:
        if self._site is not None and "text/html" in request.headers.get("accept", ""):
            return RedirectResponse("/ui/", 303)
        return PlainTextResponse(_INDEX.format(version=version("spanledger")))

    async def _healthz(self, _request: Request) -> Response:
        if self._parts.ready and not all(worker.alive for worker in self._parts.workers):
            return PlainTextResponse("a worker thread ended\n", 503)
        return PlainTextResponse("ok\n")

    async def _readyz(self, _request: Request) -> Response:
        if not self._parts.ready:
            return PlainTextResponse("not ready: starting or stopping\n", 503)
        if self._parts.inbox.failed:
            return PlainTextResponse("not ready: the inbox cannot be written\n", 503)
        return PlainTextResponse("ready\n")

    async def _metrics(self, _request: Request) -> Response:
        return Response(generate_latest(self._parts.metrics), media_type=CONTENT_TYPE_LATEST)

    async def _status(self, _request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(status, self._parts))

    async def _budgets(self, request: Request) -> Response:
        try:
            most = min(max(int(request.query_params.get("most", 20)), 0), _MOST_SUBJECTS)
        except ValueError:
            return PlainTextResponse("most: expected a number\n", 400)
        return JSONResponse(await run_in_threadpool(self._parts.budgets, time.time_ns(), most))

    async def _replay(self, request: Request) -> Response:
        return await self._on_letters(request, self._parts.replay_letters)

    async def _drop(self, request: Request) -> Response:
        return await self._on_letters(request, self._parts.drop_letters)

    async def _on_letters(self, request: Request, action: Callable[[list[int]], int]) -> Response:
        """Do something with the letters that `{"ids": […]}` names; `{"done": how many}`."""
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MAX_BODY:
                return PlainTextResponse(f"at most {_MAX_BODY} bytes\n", 413)
        try:
            ids = [int(id_) for id_ in json.loads(body)["ids"]]
            if not all(0 < id_ < 2**63 for id_ in ids):
                raise ValueError
        except (ValueError, TypeError, KeyError, RecursionError):
            return PlainTextResponse('expected {"ids": [1, 2]}\n', 400)
        try:
            return JSONResponse({"done": await run_in_threadpool(action, ids)})
        except StoreError as error:
            return PlainTextResponse(f"{error}\n", 409)
