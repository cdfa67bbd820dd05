"""What the exporter does when a ClickHouse server answers errors, late, half, or not at all: which failures are tried
again, and that trying again sends the same bytes and counts once."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from collector.component import Payload
from collector.errors import Permanent, Retryable
from exporters.clickhouse.client import explain
from exporters.clickhouse.config import ClickHouseConfig
from exporters.clickhouse.exporter import ClickHouse
from tests.clickhouse_kit import ClickHouseServer, clickhouse_server
from tests.ledger_rows import batch, call, context
from tests.spans_kit import request, span


class Between:
    """Stands between exporter and server: writes down the inserts, and does to one request what a test asks for."""

    def __init__(self, target: int) -> None:
        self.inserts: list[tuple[str, bytes]] = []
        self.next: list[
            Any
        ] = []  # (status, body, headers) instead of asking, "close", "lose" (asks, then closes), seconds to wait
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None: ...

            def do_GET(self) -> None:
                self.do_POST()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                if "INSERT" in self.path:
                    outer.inserts.append((self.path, body))
                what = outer.next.pop(0) if outer.next and "INSERT" in self.path else None
                if what == "close":
                    self.close_connection = True
                    return
                if isinstance(what, float):
                    time.sleep(what)
                if isinstance(what, tuple):
                    status, answer, headers = what
                else:
                    onward = http.client.HTTPConnection("127.0.0.1", target)
                    onward.request(self.command, self.path, body, {"Content-Type": "application/octet-stream"})
                    answered = onward.getresponse()
                    status, answer, headers = answered.status, answered.read(), dict(answered.getheaders())
                    onward.close()
                if what == "lose":
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower().startswith("x-clickhouse"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    with clickhouse_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def between(server: ClickHouseServer) -> Iterator[Between]:
    made = Between(server.port)
    yield made
    made.close()


@pytest.fixture
def exporter(between: Between, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ClickHouse]:
    database = "d" + str(abs(hash(request.node.name)))
    config = ClickHouseConfig.model_validate({"dsn": f"http://127.0.0.1:{between.port}/{database}", "timeout": 2.0})
    made = ClickHouse(config, context(tmp_path))
    made.start()
    between.inserts.clear()
    yield made
    made.close()


def counted(server: ClickHouseServer, exporter: ClickHouse) -> int:
    ((count,),) = server.sql(f"SELECT count() FROM {exporter.layout.database}.llm_calls_versions")
    return int(count)


def one(exporter: ClickHouse, id_: str = "a") -> Payload:
    return next(
        p for p in exporter.encode(batch(made=[call(id_, cost_pico=5)])) if p.meta["table"] == "llm_calls_versions"
    )


def error(code: int, name: str, status: int = 500) -> tuple[int, bytes, dict[str, str]]:
    return (
        status,
        f"Code: {code}. DB::Exception: it is so. ({name})".encode(),
        {"X-ClickHouse-Exception-Code": str(code)},
    )


RETRIED = {
    "too many parts": error(252, "TOO_MANY_PARTS"),
    "out of memory": error(241, "MEMORY_LIMIT_EXCEEDED"),
    "timeout": error(159, "TIMEOUT_EXCEEDED"),
    "read-only replica": error(242, "TABLE_IS_READ_ONLY"),
    "disk full": error(243, "NOT_ENOUGH_SPACE"),
    "wrong password": error(516, "AUTHENTICATION_FAILED", 403),
    "no grant": error(497, "ACCESS_DENIED"),
    "unknown error": error(31337, "NEVER_HEARD_OF"),
    "a proxy's page": (502, b"<html>Bad gateway</html>", {}),
    "unavailable": (503, b"", {}),
    "closed connection": "close",
    "slower than the timeout": 3.0,
}


@pytest.mark.parametrize("fault", RETRIED)
def test_what_may_pass_is_tried_again_with_the_same_bytes_and_counts_once(
    fault: str, exporter: ClickHouse, between: Between, server: ClickHouseServer
) -> None:
    payload = one(exporter)
    between.next = [RETRIED[fault]] * (
        1 if fault.startswith("slower") else 4
    )  # the client itself tries a closed connection again
    with pytest.raises(Retryable):
        exporter.send(payload)
    between.next = []
    exporter.send(payload)
    assert counted(server, exporter) == 1
    assert len(between.inserts) >= 2
    assert {body for _, body in between.inserts} == {payload.body}
    assert all(f"insert_deduplication_token={payload.meta['token']}" in path for path, _ in between.inserts)


def test_an_answer_that_got_lost_is_asked_for_again_and_the_rows_count_once(
    exporter: ClickHouse, between: Between, server: ClickHouseServer
) -> None:
    """The insert was done and nobody could say so: the token makes the second one a no-op."""
    payloads = list(exporter.encode(batch(request(spans=[span()]), made=[call("a", cost_pico=5)])))
    for payload in payloads:
        between.next = ["lose"] * 4
        with pytest.raises(Retryable):
            exporter.send(payload)
        between.next = []
        exporter.send(payload)
    database = exporter.layout.database
    assert server.sql(
        f"SELECT (SELECT count() FROM {database}.otel_traces), (SELECT count() FROM {database}.llm_calls_versions)"
    ) == [[1, 1]]
    assert server.sql(f"SELECT sum(Calls), toString(sum(CostUSD)) FROM {database}.llm_costs_hourly") == [
        [1, "0.000000000005"]
    ]


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (6, "CANNOT_PARSE_TEXT"),
        (53, "TYPE_MISMATCH"),
        (70, "CANNOT_CONVERT_TYPE"),
        (117, "INCORRECT_DATA"),
        (469, "VIOLATED_CONSTRAINT"),
    ],
)
def test_rows_that_are_wrong_are_given_up_and_the_next_payload_goes_in(
    code: int, name: str, exporter: ClickHouse, between: Between, server: ClickHouseServer
) -> None:
    between.next = [error(code, name)]
    with pytest.raises(Permanent, match=name):
        exporter.send(one(exporter))
    exporter.send(one(exporter, "b"))
    assert counted(server, exporter) == 1


def test_start_waits_for_a_server_that_is_away(tmp_path: Path, server: ClickHouseServer) -> None:
    gone = Between(server.port)
    config = ClickHouseConfig.model_validate(
        {"dsn": f"http://who:secret-pw@127.0.0.1:{gone.port}/later", "timeout": 2.0}
    )
    gone.close()
    made = ClickHouse(config, context(tmp_path))
    with pytest.raises(Retryable, match="does not answer") as raised:
        made.start()
    assert "secret-pw" not in str(raised.value)
    made.close()


def test_a_wrong_password_says_what_to_do() -> None:
    class Failed(Exception):
        code = 516

    assert "correct the DSN" in str(explain(Failed("Authentication failed"), "http://ch:8123"))


def test_a_payload_of_another_release_goes_to_the_dead_letters(exporter: ClickHouse) -> None:
    with pytest.raises(Permanent, match="another release"):
        exporter.send(Payload(b"", {"table": "llm_calls_versions"}))
