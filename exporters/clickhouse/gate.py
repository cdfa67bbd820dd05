"""The read-only ClickHouse HTTP interface of the embedded store, as an ASGI application that the admin port mounts.

It speaks enough of the protocol for curl, clickhouse-connect and Grafana's data source. Who may ask at all (token, Host
header) is the admin port's business.
"""

from __future__ import annotations

import gzip
import json
import re
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from collector.errors import SpanledgerError
from exporters.clickhouse.native import Unframed, framed
from exporters.clickhouse.reader import Answer, Reader
from exporters.clickhouse.sql import Denied

#: Of the URL's parameters, those that are not settings and mean nothing to a gate without sessions.
_TRANSPORT = frozenset({
    "query", "database", "default_format", "query_id", "session_id", "session_timeout", "session_check",
    "user", "password", "quota_key", "role", "enable_http_compression", "compress", "decompress", "wait_end_of_query", "buffer_size",
    "send_progress_in_http_headers", "http_headers_progress_interval_ms", "client_protocol_version", "http_make_head_request",
    "cancel_http_readonly_queries_on_client_close", "max_http_get_redirects", "http_response_buffer_size", "send_timeout",
    "receive_timeout", "http_write_exception_in_output_format", "stacktrace", "network_compression_method",
    "http_zlib_compression_level", "http_native_compression_disable_checksumming_on_decompress", "param",
})  # fmt: skip
_EXCEPTION = re.compile(r"Code: (\d+)\. DB::Exception: (?:Code: \d+\. DB::Exception: )?(.*)", re.DOTALL)
_VERSION = re.compile(r"\s*\(version [^()]*(?:\([^()]*\))?\)(?=\. \()")
#: ClickHouse's codes as HTTP statuses, as its own server gives them.
_STATUS = {
    400: {6, 26, 27, 33, 36, 38, 41, 42, 43, 44, 53, 62, 69, 70, 72, 130, 131, 153, 168, 179, 182, 184, 215, 306, 386, 456},
    403: {164, 291, 452, 497, 516},
    404: {16, 46, 47, 50, 60, 63, 73, 81, 115, 170, 701},
    408: {159},
    501: {48},
    503: {202, 203},
}  # fmt: skip
_STATUS_BY_CODE = {code: status for status, codes in _STATUS.items() for code in codes}


class Gate:
    """`app` answers; `close` lets go of the store."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.app: Callable[..., Any] = Starlette(
            routes=[
                Route("/", self._query, methods=["GET", "POST"]),
                Route("/ping", self._ping, methods=["GET"]),
                Route("/replicas_status", self._ping, methods=["GET"]),
            ]
        )

    def close(self) -> None:
        self.reader.close()

    async def _ping(self, _request: Request) -> Response:
        return PlainTextResponse("Ok.\n")

    async def _query(self, request: Request) -> Response:
        id_ = str(uuid.uuid4())
        try:
            asked = await self._asked(request)
            if not asked["sql"].strip():
                return PlainTextResponse("Ok.\n")
            answer = await run_in_threadpool(self._answer, asked)
            return await run_in_threadpool(self._response, request, asked, answer, id_)
        except Denied as error:
            return _failed(error.code, f"{error}. ({error.name})", id_)
        except Unframed as error:
            return _failed(48, f"{error}. (NOT_IMPLEMENTED)", id_)
        except SpanledgerError as error:
            return _failed(210, f"{error}. (NETWORK_ERROR)", id_, 503)
        except RuntimeError as error:
            return _failed(*_said(str(error)), id_)

    def _answer(self, asked: dict[str, Any]) -> Answer:
        return self.reader.ask(
            asked["sql"],
            asked["format"],
            params=asked["params"],
            settings=asked["settings"],
            database=asked["database"],
        )

    async def _asked(self, request: Request) -> dict[str, Any]:
        """Statement, format, parameters and settings of a request. Raises `Denied`."""
        pairs = parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
        limit = self.reader.limits.statement_bytes
        body = await _body(request, limit)
        if request.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
            raise Denied("a compressed statement is not taken here", 48, "NOT_IMPLEMENTED")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "multipart/form-data":
            raise Denied("external data is not taken here", 48, "NOT_IMPLEMENTED")
        url = dict(pairs)
        try:
            sql = "\n".join(part for part in (url.get("query", ""), body.decode()) if part)
        except UnicodeDecodeError:
            raise Denied("the statement is not UTF-8", 62, "SYNTAX_ERROR") from None
        formats = (url.get("default_format"), request.headers.get("x-clickhouse-format"), "TabSeparated")
        return {
            "sql": sql,
            "format": next(name for name in formats if name),
            "database": url.get("database") or request.headers.get("x-clickhouse-database", ""),
            "params": {name[6:]: value for name, value in pairs if name.startswith("param_")},
            "revision": int(revision) if (revision := url.get("client_protocol_version", "")).isdecimal() else 0,
            "settings": {n: v for n, v in pairs if n not in _TRANSPORT and not n.startswith("param_")},
        }

    def _response(self, request: Request, asked: dict[str, Any], answer: Answer, id_: str) -> Response:
        result = answer.result
        summary = {
            "read_rows": str(result.rows_read),
            "read_bytes": str(result.bytes_read),
            "result_bytes": str(len(result.body)),
        }
        headers = {
            **_common(id_),
            "X-ClickHouse-Timezone": answer.timezone,
            "X-ClickHouse-Format": answer.format,
            "X-ClickHouse-Summary": json.dumps(summary, separators=(",", ":")),
            "Content-Type": answer.content_type,
        }
        body = result.body
        if answer.format == "Native":
            body = framed(body, asked["revision"])
        wants = request.query_params.get("enable_http_compression") == "1"
        codings = {part.partition(";")[0].strip() for part in request.headers.get("accept-encoding", "").split(",")}
        if wants and "gzip" in codings and len(body) > 1024:
            body = gzip.compress(body, 3)
            headers["Content-Encoding"] = "gzip"
        return Response(body, headers=headers)


def _common(id_: str) -> dict[str, str]:
    return {"X-ClickHouse-Query-Id": id_, "X-ClickHouse-Server-Display-Name": "spanledger"}


def _failed(code: int, message: str, id_: str, status: int | None = None) -> Response:
    """An error as ClickHouse's server tells it."""
    headers = {**_common(id_), "X-ClickHouse-Exception-Code": str(code)}
    text = f"Code: {code}. DB::Exception: {message}\n"
    return PlainTextResponse(text, status or _STATUS_BY_CODE.get(code, 500), headers)


def _said(message: str) -> tuple[int, str]:
    """Code and message of what the engine says."""
    match = _EXCEPTION.search(message)
    if match is None:
        return 1002, f"{message.strip()}. (UNKNOWN_EXCEPTION)"
    return int(match[1]), _VERSION.sub("", match[2].strip())


async def _body(request: Request, limit: int) -> bytes:
    """The body, up to the limit. Raises `Denied` as soon as it is longer."""
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise Denied(f"the statement has more than {limit} bytes", 62, "SYNTAX_ERROR")
            parts.append(part)
    except ClientDisconnect:
        raise Denied("the client went away", 210, "NETWORK_ERROR") from None
    return b"".join(parts)


__all__ = ["Gate"]
