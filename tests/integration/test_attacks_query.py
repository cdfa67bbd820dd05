"""Attacks on the query interface: each is refused or harmless, and spans go on being taken while they run."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from exporters.clickhouse.config import ClickHouseConfig
from exporters.clickhouse.exporter import ClickHouse
from exporters.clickhouse.gate import Gate
from exporters.clickhouse.reader import Limits, Reader
from tests.ledger_rows import batch, call, context
from tests.spans_kit import request, span

SECRET = "the-secret-of-the-house"
NASTY = "'; DROP TABLE llm_calls; -- \" ` \\' {x:String} /* \n"


class House:
    """An exporter on an embedded store, the gate before it, a file that nobody may read, and one that nobody may write."""

    def __init__(self, folder: Path) -> None:
        self.secret = folder / "secret.csv"
        self.secret.write_text(f"a,b\n1,{SECRET}\n")
        self.out = folder / "out.csv"
        path = folder / "clickhouse"
        config = ClickHouseConfig.model_validate({"dsn": f"chdb://{path}"})
        self.exporter = ClickHouse(config, context(folder))
        self.exporter.start()
        self.gate = Gate(
            Reader(path, "spanledger", Limits(seconds=1.0, memory_bytes=60 * 2**20, rows=5000, queue_seconds=5.0))
        )
        self.client = TestClient(self.gate.app)
        self._position = 0
        self.insert(NASTY)

    def insert(self, team: str) -> None:
        """A batch comes in, as if nothing were."""
        self._position += 1
        one = batch(
            request(spans=[span(team, {team: team})]),
            made=[call(f"c{self._position}", team=team, cost_pico=1)],
            position=self._position,
        )
        for payload in self.exporter.encode(one):
            self.exporter.send(payload)

    def ask(self, sql: str | bytes, **url: str) -> Any:
        return self.client.post("/", content=sql, params=url)

    def calls(self) -> int:
        return int(self.ask("SELECT count() FROM llm_calls").text)

    def close(self) -> None:
        self.gate.close()
        self.exporter.close()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House(tmp_path_factory.mktemp("house"))
    yield made
    made.close()


#: name → statement; {secret} and {out} are files. Every one of them must be refused.
REFUSED = {
    # reading files
    "file as a table": "SELECT * FROM file('{secret}', 'CSV')",
    "file as a function": "SELECT file('{secret}')",
    "file in odd case": "SELECT * FROM FiLe('{secret}', CSV)",
    "file in backticks": "SELECT `file`('{secret}')",
    "file in double quotes": "SELECT \"file\"('{secret}')",
    "file behind a comment": "SELECT/**/file/* x */('{secret}')",
    "file in a subquery": "SELECT * FROM (SELECT * FROM (SELECT file('{secret}')))",
    "file in a CTE": "WITH x AS (SELECT file('{secret}') AS y) SELECT y FROM x",
    "file in a scalar WITH": "WITH (SELECT file('{secret}')) AS y SELECT y",
    "file in a union": "SELECT '1' UNION ALL SELECT file('{secret}')",
    "file in a join": "SELECT * FROM llm_calls JOIN file('{secret}', 'CSV', 'a String') f ON 1",
    "file in view()": "SELECT * FROM view(SELECT * FROM file('{secret}', 'CSV'))",
    "file in a lambda": "SELECT arrayMap(x -> file(x), ['{secret}'])",
    "file in DESCRIBE": "DESCRIBE TABLE file('{secret}')",
    "file in EXPLAIN": "EXPLAIN PLAN SELECT file('{secret}')",
    "file in nested EXPLAIN": "SELECT * FROM (EXPLAIN SELECT file('{secret}'))",
    "file in EXPLAIN QUERY TREE": "EXPLAIN QUERY TREE SELECT * FROM file('{secret}', 'CSV')",
    "file in IN": "SELECT 1 IN (SELECT a FROM file('{secret}', 'CSV'))",
    "file in an alias's shade": "SELECT file('{secret}') AS `Literal (children 1)`",
    "a path as a table": "SELECT * FROM `{secret}`",
    "a path as a table in quotes": "SELECT * FROM '{secret}'",
    "a path in the default database": "SELECT * FROM default.`{secret}`",
    "a path at the right of IN": "SELECT 1 IN default.`{secret}`",
    "filesystem()": "SELECT * FROM filesystem('/etc')",
    "sqlite()": "SELECT * FROM sqlite('{secret}', 'x')",
    "parquet from a lake": "SELECT * FROM icebergLocal('{secret}')",
    # the network
    "url()": "SELECT * FROM url('http://127.0.0.1:9/', 'CSV', 'a String')",
    "s3()": "SELECT * FROM s3('http://127.0.0.1:9/bucket/key', 'CSV', 'a String')",
    "remote()": "SELECT * FROM remote('127.0.0.1', system.one)",
    "remoteSecure()": "SELECT * FROM remoteSecure('127.0.0.1', system.one)",
    "cluster()": "SELECT * FROM cluster('default', system.one)",
    "clusterAllReplicas()": "SELECT * FROM clusterAllReplicas('default', system.one)",
    "mysql()": "SELECT * FROM mysql('127.0.0.1:9', 'a', 'b', 'c', 'd')",
    "postgresql()": "SELECT * FROM postgresql('127.0.0.1:9', 'a', 'b', 'c', 'd')",
    "mongodb()": "SELECT * FROM mongodb('127.0.0.1:9', 'a', 'b', 'c', 'd', 'e String')",
    "redis()": "SELECT * FROM redis('127.0.0.1:9', 'k', 'k String')",
    "jdbc()": "SELECT * FROM jdbc('x', 'y', 'z')",
    "odbc()": "SELECT * FROM odbc('x', 'y', 'z')",
    "hdfs()": "SELECT * FROM hdfs('hdfs://127.0.0.1:9/x', 'CSV', 'a String')",
    "azureBlobStorage()": "SELECT * FROM azureBlobStorage('http://127.0.0.1:9', 'c', 'b', 'CSV')",
    "an AI function": "SELECT aiGenerate('hello')",
    "an AI function by its alias": "SELECT AIGenerate('hello')",
    "hasColumnInTable with a host": "SELECT hasColumnInTable('127.0.0.1', 'u', 'p', 'd', 't', 'c')",
    "EXPLAIN TABLE OVERRIDE": "EXPLAIN TABLE OVERRIDE mysql('127.0.0.1:9', 'a', 'b', 'c', 'd') PARTITION BY x",
    # running code
    "executable()": "SELECT * FROM executable('id', 'TSV', 'a String')",
    "python()": "SELECT * FROM Python(house)",
    "eval()": "SELECT * FROM eval('x')",
    "a dictionary": "SELECT * FROM dictionary('x')",
    "dictGet": "SELECT dictGet('x', 'y', 1)",
    "input()": "SELECT * FROM input('a String')",
    "evalMLMethod": "SELECT evalMLMethod(1, 2)",
    # other tables
    "merge() over all databases": "SELECT * FROM merge(REGEXP('.*'), '.*')",
    "loop()": "SELECT * FROM loop(system.users)",
    "users": "SELECT * FROM system.users",
    "users in backticks": "SELECT * FROM `system`.`users`",
    "users with spaces": "SELECT * FROM system . /* . */ users",
    "users at the right of IN": "SELECT 'default' IN system.users",
    "others' queries": "SELECT * FROM system.processes",
    "query log": "SELECT * FROM system.query_log",
    "the stack": "SELECT * FROM system.stack_trace",
    "an environment": "SELECT * FROM system.server_settings",
    "mergeTreeIndex of others": "SELECT * FROM mergeTreeIndex('system', 'query_log')",
    # writing
    "INTO OUTFILE": "SELECT 1 INTO OUTFILE '{out}' FORMAT CSV",
    "INTO OUTFILE in odd case": "SELECT 1 iNtO/**/oUtFiLe '{out}'",
    "INSERT": "INSERT INTO llm_calls_versions SELECT * FROM llm_calls_versions",
    "INSERT INTO FUNCTION": "INSERT INTO FUNCTION file('{out}', 'CSV', 'a String') SELECT '1'",
    "CREATE TABLE": "CREATE TABLE x (a Int8) ENGINE = Memory",
    "CREATE VIEW": "CREATE VIEW x AS SELECT 1",
    "CREATE FUNCTION": "CREATE FUNCTION x AS (a) -> a",
    "DROP": "DROP TABLE llm_calls_versions",
    "TRUNCATE": "TRUNCATE TABLE llm_calls_versions",
    "ALTER": "ALTER TABLE llm_calls_versions DELETE WHERE 1",
    "DELETE": "DELETE FROM llm_calls_versions WHERE 1",
    "RENAME": "RENAME TABLE llm_calls_versions TO x",
    "OPTIMIZE": "OPTIMIZE TABLE llm_calls_versions FINAL",
    "ATTACH": "ATTACH TABLE x FROM '{secret}' (a String) ENGINE = File(CSV)",
    "BACKUP": "BACKUP TABLE llm_calls_versions TO File('{out}')",
    # the session
    "SET": "SET readonly = 0",
    "USE": "USE system",
    "SYSTEM": "SYSTEM SHUTDOWN",
    "KILL": "KILL QUERY WHERE 1",
    "GRANT": "GRANT ALL ON *.* TO default",
    "EXECUTE AS": "EXECUTE AS default SELECT 1",
    "SHOW PROCESSLIST": "SHOW PROCESSLIST",
    "SHOW GRANTS": "SHOW GRANTS",
    # two statements
    "two statements": "SELECT 1; DROP TABLE llm_calls_versions",
    "two statements over lines": "SELECT 1\n;\n\nSELECT file('{secret}')",
    "a second one behind a heredoc": "SELECT $a$ ' $a$; DROP TABLE llm_calls_versions --'",
    "a second one behind typographic quotes": "SELECT \u2018a\u2019; DROP TABLE llm_calls_versions",
    "a second one behind a nested comment": "SELECT 1 /* /* */ ; DROP TABLE llm_calls_versions -- */",
    "a second one behind a hash": "SELECT 1 #'\n; DROP TABLE llm_calls_versions --'",
    "an escaped identifier": "SELECT `fi\\x6ce`('{secret}')",
    "an identifier with a line break": 'SELECT 1 AS "a\nFunction b"',
    "a full-width name": "SELECT \uff46\uff49\uff4c\uff45('{secret}')",
    "an unfinished string": "SELECT 'a",
    "an unfinished comment": "SELECT 1 /* a",
    "a NUL": "SELECT 1\x00; SELECT 2",
    # settings
    "readonly in SETTINGS": "SELECT 1 SETTINGS readonly = 0",
    "limits in a subquery's SETTINGS": "SELECT * FROM (SELECT count() FROM numbers(10) SETTINGS max_execution_time = 999)",
    "SETTINGS behind FORMAT": "SELECT 1 FORMAT CSV SETTINGS allow_ddl = 1",
    "introspection": "SELECT 1 SETTINGS allow_introspection_functions = 1",
    "a setting that logs": "SELECT 1 SETTINGS send_logs_level = 'trace'",
    "a schema file by format": "SELECT 1 SETTINGS format_schema = '{secret}', format_template_row = 'x' FORMAT Template",
    "sleeping": "SELECT sleep(3)",
    "sleeping for each row": "SELECT sleepEachRow(1) FROM numbers(1000)",
    "a random gigabyte": "SELECT * FROM generateRandom('a String', 1, 1000000)",
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, house: House) -> None:
    statement = REFUSED[name].replace("{secret}", str(house.secret)).replace("{out}", str(house.out))
    answer = house.ask(statement)
    assert answer.status_code in (400, 403, 404), answer.text
    assert answer.text.startswith(f"Code: {answer.headers['x-clickhouse-exception-code']}. DB::Exception: ")
    assert SECRET not in answer.text
    assert not house.out.exists()
    assert house.calls() >= 1


LIMITED = {
    "an endless count": ("SELECT count() FROM numbers(100000000000000) WHERE NOT ignore(number)", 159),
    "more rows than are given": ("SELECT * FROM numbers(5001)", 396),
    "all memory": ("SELECT groupArray(number) FROM numbers(1000000000)", 241),
    "one huge text": ("SELECT length(repeat('x', 1000000000))", None),
    "a cross join": ("SELECT sum(a.number * b.number) FROM numbers(1000000) a, numbers(1000000) b", 159),
    "limits lifted at the end": ("SELECT count() FROM numbers(100000000000000) WHERE NOT ignore(number) SETTINGS max_execution_time = 0, max_memory_usage = 0", 159),
    "an answer cut short without a word": ("SELECT * FROM numbers(5001) SETTINGS result_overflow_mode = 'break', max_result_rows = 0", 396),
    "deep parentheses": ("SELECT " + "(" * 5000 + "1" + ")" * 5000, None),
    "a long statement": ("SELECT '" + "x" * 300_000 + "'", 62),
}  # fmt: skip


@pytest.mark.parametrize("name", LIMITED)
def test_what_takes_too_much_ends_soon(name: str, house: House) -> None:
    statement, code = LIMITED[name]
    began = time.monotonic()
    answer = house.ask(statement)
    assert time.monotonic() - began < 15
    assert answer.status_code != 200
    assert code is None or answer.headers["x-clickhouse-exception-code"] == str(code)
    assert house.calls() >= 1


@pytest.mark.parametrize(
    ("sql", "url"),
    [
        ("SELECT 1", {"readonly": "0"}),
        ("SELECT 1", {"allow_ddl": "1"}),
        ("SELECT 1", {"max_execution_time": "1; DROP TABLE llm_calls_versions"}),
        ("SELECT 1", {"output_format_schema": "/etc/passwd"}),
        ("SELECT 1", {"database": "system"}),
        ("SELECT 1", {"database": "x`; DROP TABLE llm_calls_versions; --"}),
        ("SELECT 1", {"default_format": "Template"}),
        ("SELECT 1", {"default_format": "CSV INTO OUTFILE '/tmp/x'"}),
        ("SELECT * FROM {t:Identifier}", {"param_t": "system.users"}),
        ("SELECT * FROM {t:Identifier}", {"param_t": "x` ; DROP TABLE llm_calls_versions"}),
        ("SELECT {f:Identifier}('/etc/passwd')", {"param_f": "file"}),
        ("", {"query": "SELECT 1; DROP TABLE llm_calls_versions"}),
        ("; DROP TABLE llm_calls_versions", {"query": "SELECT 1"}),
        ("', file('/etc/passwd')", {"query": "SELECT '"}),
    ],
)
def test_what_the_url_brings_is_judged_too(sql: str, url: dict[str, str], house: House) -> None:
    answer = house.ask(sql, **url)
    assert answer.status_code >= 400
    assert house.calls() >= 1


def test_a_parameter_is_a_value_whatever_it_holds(house: House) -> None:
    answer = house.ask(
        "SELECT {x:String} AS x, Team FROM llm_calls WHERE Team = {x:String} FORMAT JSONCompact",
        param_x=NASTY.replace("\n", "\\n").replace("\\'", "\\\\'"),
    )
    assert answer.status_code == 200
    assert all(row[0] == row[1] for row in json.loads(answer.text)["data"])


def test_a_query_leaves_nothing_in_the_next_ones_session(house: House) -> None:
    assert house.ask("SELECT 1 SETTINGS output_format_json_quote_64bit_integers = 1").status_code == 200
    assert (
        house.ask("SELECT getSetting('readonly'), getSetting('max_result_rows'), currentDatabase()").text
        == "1\t5000\tspanledger\n"
    )
    assert '"1"' not in house.ask("SELECT toUInt64(1) FORMAT JSONCompactEachRow").text


def test_names_in_the_ledger_are_text_in_costs(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A team called like a statement is a line of the table, in the command line as in SQL."""
    from spanledger.cli import costs
    from spanledger.cli.cost_source import Period
    from spanledger.cli.ledger import Ledger

    ledger = Ledger("the house", lambda sql: house.ask(sql, default_format="JSONCompact").content)
    report = costs._ask(ledger, ["team", "model"], Period(None, None), 50)
    assert [NASTY, "gpt-4o"] in [keys for keys, _ in report.lines]


def test_batches_go_in_while_the_gate_is_under_attack(house: House) -> None:
    before = house.calls()
    done = threading.Event()
    statuses: list[int] = []

    def attack() -> None:
        statements = ["SELECT count() FROM numbers(10000000000) WHERE NOT ignore(number)", "DROP TABLE llm_calls_versions", "SELECT * FROM file('/etc/passwd')", "SELECT groupArray(number) FROM numbers(1000000000)"]  # fmt: skip
        while not done.is_set():
            statuses.extend(house.ask(s).status_code for s in statements)

    threads = [threading.Thread(target=attack) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(5):
        house.insert(f"team-{number}")
    done.set()
    for thread in threads:
        thread.join()
    assert house.calls() == before + 5
    assert statuses
    assert all(status >= 400 for status in statuses)


def test_more_at_once_than_allowed_is_turned_away_and_not_piled_up(house: House) -> None:
    reader = Reader(house.gate.reader.path, "spanledger", Limits(seconds=2.0, parallel=1, queue_seconds=0.1))
    client = TestClient(Gate(reader).app)
    slow = threading.Thread(
        target=lambda: client.post("/", content="SELECT count() FROM numbers(100000000000000) WHERE NOT ignore(number)")
    )
    assert client.post("/", content="SELECT 1").text == "1\n"
    slow.start()
    time.sleep(0.3)
    answers = []
    while slow.is_alive():
        answers.append(client.post("/", content="SELECT 1"))
    reader.close()
    assert any(a.status_code == 503 and "TOO_MANY_SIMULTANEOUS_QUERIES" in a.text for a in answers)


def test_no_file_was_written_anywhere_near(house: House) -> None:
    assert sorted(os.listdir(house.secret.parent)) == ["clickhouse", "secret.csv"]
