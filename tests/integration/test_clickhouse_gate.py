"""The read-only ClickHouse HTTP interface as its clients use it: curl, clickhouse-connect, Grafana's requests, our command line."""

from __future__ import annotations

import gzip
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import clickhouse_connect
import pytest
import uvicorn
from clickhouse_connect.driver.exceptions import DatabaseError
from starlette.testclient import TestClient

from exporters.clickhouse.config import ClickHouseConfig
from exporters.clickhouse.exporter import ClickHouse
from spanledger.cli.ledger import open_ledger
from spanledger.cli.shell import CommandError
from tests.integration.clickhouse_matrix import log_batch
from tests.ledger_rows import batch, call, context
from tests.signals_kit import logs, record
from tests.spans_kit import request, span


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    folder = tmp_path_factory.mktemp("gate")
    made = ClickHouse(ClickHouseConfig.model_validate({"dsn": f"chdb://{folder / 'clickhouse'}"}), context(folder))
    made.start()
    rows = [call(f"c{i}", team=f"team-{i % 3}", cost_pico=i * 10**9, input_tokens=9 * 10**11 + i) for i in range(300)]
    for payload in made.encode(batch(request(spans=[span("chat", {"k": "v"})]), made=rows)):
        made.send(payload)
    for payload in made.encode_requests(log_batch(logs(record("said", event_name="e")))):
        made.send(payload)
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(exporter: ClickHouse) -> TestClient:
    app = exporter.sql_app()
    assert app is not None
    return TestClient(app)


@pytest.fixture(scope="module")
def port(exporter: ClickHouse) -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(exporter.sql_app(), log_level="error", lifespan="off"))
    thread = threading.Thread(target=lambda: server.run(sockets=[listener]), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join()


def test_a_server_has_no_sql_of_ours(exporter: ClickHouse) -> None:
    assert ClickHouse(ClickHouseConfig.model_validate({"dsn": "http://ch/"}), exporter.context).sql_app() is None


def test_ping_and_a_question_without_words_answer_ok(client: TestClient) -> None:
    assert client.get("/ping").text == client.get("/").text == "Ok.\n"


def test_get_and_post_url_and_body_give_the_same(client: TestClient) -> None:
    sql = "SELECT count(), sum(CostUSD) FROM llm_calls"
    answers = {
        client.get("/", params={"query": sql}).text,
        client.post("/", content=sql).text,
        client.post("/", params={"query": sql}).text,
        client.post("/", params={"query": "SELECT count(), sum(CostUSD)"}, content="FROM llm_calls").text,
        client.post("/", content=f"-- a comment\n{sql} ;\n").text,
    }
    assert answers == {"300\t44.85\n"}


@pytest.mark.parametrize(
    ("sql", "url", "format_", "kind"),
    [
        ("SELECT 1 AS a", {}, "TabSeparated", "text/tab-separated-values"),
        ("SELECT 1 AS a", {"default_format": "JSONCompact"}, "JSONCompact", "application/json"),
        ("SELECT 1 AS a FORMAT CSVWithNames", {"default_format": "JSON"}, "CSVWithNames", "text/csv"),
        ("SELECT 1 AS a SETTINGS max_threads = 1 FORMAT JSON", {}, "JSON", "application/json"),
        ("SELECT 1 AS a FORMAT JSON SETTINGS max_threads = 1, join_use_nulls=1", {}, "JSON", "application/json"),
        ("select 1 as a format native", {}, "Native", "application/octet-stream"),
        ("SELECT 1 AS a", {"default_format": "ArrowStream"}, "ArrowStream", "application/octet-stream"),
        ("SHOW TABLES", {"default_format": "JSONCompact"}, "JSONCompact", "application/json"),
    ],
)  # fmt: skip
def test_the_format_is_the_statements_else_the_urls(
    client: TestClient, sql: str, url: dict[str, str], format_: str, kind: str
) -> None:
    answer = client.post("/", content=sql, params=url)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-clickhouse-format"] == format_
    assert answer.headers["content-type"].startswith(kind)
    assert int(json.loads(answer.headers["x-clickhouse-summary"])["read_rows"]) >= 0
    assert answer.headers["x-clickhouse-query-id"]
    assert answer.headers["x-clickhouse-timezone"]


def test_an_answer_is_packed_when_both_sides_said_so(client: TestClient) -> None:
    sql = "SELECT CallId FROM llm_calls ORDER BY ALL"
    plain = client.post("/", content=sql, headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    with client.stream(
        "POST",
        "/",
        content=sql,
        params={"enable_http_compression": "1"},
        headers={"accept-encoding": "zstd, gzip;q=0.5"},
    ) as packed:
        assert packed.headers["content-encoding"] == "gzip"
        assert gzip.decompress(b"".join(packed.iter_raw())) == plain.content


@pytest.mark.parametrize(
    ("sql", "status", "code", "words"),
    [
        ("SELECT nope FROM llm_calls", 404, 47, "UNKNOWN_IDENTIFIER"),
        ("SELECT * FROM nope", 404, 60, "UNKNOWN_TABLE"),
        ("SELECT (", 400, 62, "SYNTAX_ERROR"),
        ("SELECT nope(1)", 404, 46, "UNKNOWN_FUNCTION"),
        ("SELECT throwIf(1, 'no')", 500, 395, "no"),
        ("DROP TABLE llm_calls", 403, 164, "READONLY"),
        ("SELECT 1 FORMAT Nope", 404, 73, "UNKNOWN_FORMAT"),
    ],
)
def test_errors_are_told_as_clickhouse_tells_them(
    client: TestClient, sql: str, status: int, code: int, words: str
) -> None:
    answer = client.post("/", content=sql)
    assert (answer.status_code, answer.headers["x-clickhouse-exception-code"]) == (status, str(code))
    assert answer.text.startswith(f"Code: {code}. DB::Exception: ")
    assert words in answer.text


def test_clickhouse_connect_reads_it(port: int) -> None:
    with clickhouse_connect.get_client(host="127.0.0.1", port=port, database="spanledger") as connect:
        found = connect.query(
            "SELECT Team, count() AS n, sum(CostUSD) FROM llm_calls WHERE Team = {team:String} GROUP BY Team",
            parameters={"team": "team-1"},
        )
        assert found.result_rows == [("team-1", 100, Decimal("14.95"))]
        assert connect.query_arrow("SELECT * FROM llm_calls").num_rows == 300
        assert connect.query("SELECT SpanAttributes FROM otel_traces").result_rows == [({"k": "v"},)]
        with pytest.raises(DatabaseError, match="READONLY"):
            connect.command("TRUNCATE TABLE llm_calls_versions")
        with pytest.raises(DatabaseError):
            connect.insert("llm_calls_versions", [["x"]], column_names=["CallId"])


def test_grafanas_questions_are_answered(client: TestClient) -> None:
    """What the data source asks of a schema, how it looks traces up, and logs of either generation of the Collector's table."""
    for sql in (
        "SELECT name FROM system.databases",
        "SELECT name FROM system.tables WHERE database = 'spanledger'",
        "DESC TABLE `spanledger`.`otel_traces`",
        "SELECT version()",
        "SELECT DISTINCT arrayJoin(mapKeys(SpanAttributes)) AS keys FROM spanledger.otel_traces LIMIT 1000",
        "WITH '00' AS trace_id, (SELECT min(Start) FROM spanledger.otel_traces_trace_id_ts WHERE TraceId = trace_id) AS trace_start, "
        "(SELECT max(End) + 1 FROM spanledger.otel_traces_trace_id_ts WHERE TraceId = trace_id) AS trace_end SELECT TraceId AS traceID, "
        "SpanId AS spanID, ParentSpanId AS parentSpanID, ServiceName AS serviceName, SpanName AS operationName, "
        "multiply(toUnixTimestamp64Nano(Timestamp), 0.000001) AS startTime, multiply(Duration, 0.000001) AS duration, "
        "arrayMap(key -> map('key', key, 'value', SpanAttributes[key]), mapKeys(SpanAttributes)) AS tags "
        "FROM spanledger.otel_traces WHERE traceID = trace_id AND Timestamp >= trace_start AND Timestamp <= trace_end LIMIT 1000",
        "SELECT toStartOfInterval(toDateTime(Timestamp), INTERVAL 60 second) AS time, count() FROM spanledger.otel_traces "
        "WHERE Timestamp >= toDateTime64(1732406400, 3) GROUP BY time ORDER BY time",
    ):
        answer = client.post("/", content=sql, params={"default_format": "JSON", "max_execution_time": "60"})
        assert answer.status_code == 200, answer.text
    for time_column in ("TimestampTime", "Timestamp"):
        sql = (
            f"SELECT Timestamp AS timestamp, Body AS body, SeverityText AS level, TraceId AS traceID, ResourceAttributes, LogAttributes "
            f"FROM spanledger.otel_logs WHERE ( {time_column} >= toDateTime(1732406400) AND {time_column} <= toDateTime(1832406400) ) "
            f"AND ( ServiceName = 'chat-app' ) ORDER BY {time_column} DESC LIMIT 1000"
        )
        answer = client.post("/", content=sql, params={"default_format": "JSON"})
        assert [row["body"] for row in answer.json()["data"]] == ["said"], answer.text


def test_the_command_line_reads_the_files_by_the_same_rules(exporter: ClickHouse) -> None:
    dsn = f"chdb://{exporter.dsn.path}"
    with open_ledger(dsn=dsn) as ledger:
        answer = ledger.query(
            "SELECT Team, 1000 * sum(InputTokens) AS MilliTokens, sum(CostUSD) FROM llm_calls GROUP BY Team ORDER BY Team LIMIT 1"
        )
        assert answer.columns == ("Team", "MilliTokens", "sum(CostUSD)")
        tokens = 1000 * (100 * 9 * 10**11 + 14850)
        assert tokens > 2**53, "no double has it"
        assert answer.rows == [["team-0", tokens, Decimal("14.85")]]
        for sql in (
            "SELECT file('/etc/passwd')",
            "DROP TABLE llm_calls",
            "SELECT nope FROM llm_calls",
            "SELECT (",
            "SELECT 1; SELECT 2",
        ):
            with pytest.raises(CommandError):
                ledger.query(sql)


def test_the_command_line_says_who_holds_the_files(exporter: ClickHouse, tmp_path: Path) -> None:
    run = [sys.executable, "-m", "spanledger", "query", "SELECT 1", "--dsn"]
    held = subprocess.run([*run, f"chdb://{exporter.dsn.path}"], capture_output=True, text=True, timeout=120)
    assert held.returncode == 1
    assert "another process holds the ledger" in held.stderr
    none = subprocess.run([*run, f"chdb://{tmp_path / 'none'}"], capture_output=True, text=True, timeout=120)
    assert none.returncode == 1
    assert "nothing was ever written there" in " ".join(none.stderr.split())


def test_the_command_line_asks_a_server(port: int) -> None:
    with open_ledger(dsn=f"http://127.0.0.1:{port}/spanledger") as ledger:
        assert ledger.query("SELECT count() FROM llm_calls").rows == [[300]]
        with pytest.raises(CommandError, match="READONLY"):
            ledger.query("DROP TABLE llm_calls")


def test_grafanas_driver_gets_blocks_of_its_revision(client: TestClient) -> None:
    """Go's driver says hello so, and reads the answer with block info and a byte before each column's data."""
    url = {
        "default_format": "Native",
        "client_protocol_version": "54483",
        "database": "spanledger",
        "limit": "0",
        "enable_http_compression": "1",
    }
    answer = client.post("/", content="SELECT displayName(), version(), revision(), timezone()", params=url)
    assert answer.status_code == 200
    assert answer.content.startswith(b"\x01\x00\x02\xff\xff\xff\xff\x00\x04\x01\rdisplayName()\x06String\x00")
    assert client.post("/", content="SELECT 1::Dynamic", params=url).headers["x-clickhouse-exception-code"] == "48"


@pytest.mark.parametrize("where", ["1", "0"])
def test_totals_come_behind_the_rows_also_when_there_are_none(client: TestClient, where: str) -> None:
    sql = f"SELECT Team, count(), sum(CostUSD) FROM llm_calls WHERE {where} GROUP BY Team WITH TOTALS"
    for _ in range(5):
        answer = json.loads(client.post("/", content=sql, params={"default_format": "JSONCompact"}).text)
        assert list(answer)[:3] == ["meta", "data", "totals"]
        assert len(answer["data"]) == (3 if where == "1" else 0)
