"""`spanledger ui` against a ClickHouse server: parameters as the server reads them, errors in its words, nothing without a
token."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from spanledger.ui.ask import AskError, open_store
from tests.cli_kit import run
from tests.clickhouse_kit import ClickHouseServer, clickhouse_server

pytestmark = pytest.mark.timeout(120)
HOSTILE = ["p'q", "back\\slash", "tab\tline\n", "]),('"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    with clickhouse_server(tmp_path_factory.mktemp("ui")) as server:
        for statement in (
            "CREATE TABLE llm_calls (CallId String) ENGINE = MergeTree ORDER BY CallId",
        ):  # this server knows one database
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/direct", statement.encode(), timeout=30).read()
        yield server


@pytest.mark.parametrize("kind", ["server", "embedded"])
def test_parameters_arrive_as_they_are(server: ClickHouseServer, kind: str, tmp_path: Path) -> None:
    store = open_store(server.dsn if kind == "server" else f"chdb://{tmp_path}/clickhouse")
    when = datetime(2026, 11, 27, 12, 30, 1, 250_000, tzinfo=UTC)
    try:
        frame = store.ask(
            "SELECT {texts:Array(String)} AS texts, {text:String} AS text, {at:DateTime64(6, 'UTC')} AS at, toDecimal64(1.5, 12) AS money, CAST('x', 'LowCardinality(String)') AS low, {n:Int32} AS n",
            {"texts": HOSTILE, "text": "".join(HOSTILE), "at": when, "n": -3},
        )  # fmt: skip
        row = frame.row(0, named=True)
        assert (row["texts"], row["text"], row["money"], row["low"], row["n"]) == (HOSTILE, "".join(HOSTILE), 1.5, "x", -3)  # fmt: skip
        assert row["at"].replace(tzinfo=UTC) == when
        assert frame.schema["money"] == pl.Float64
        with pytest.raises(AskError, match="nowhere"):
            store.ask("SELECT 1 FROM nowhere", {})
    finally:
        store.close()


def test_it_serves_with_a_token_and_ends(server: ClickHouseServer) -> None:
    command = [sys.executable, "-m", "spanledger", "ui", "--dsn", server.dsn, "--listen", "127.0.0.1:0", "--token", "t"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            match = re.search(r"http://127\.0\.0\.1:\d+/ui/", line)
            assert match is not None, line + process.stderr.read()
            with urllib.request.urlopen(match[0], timeout=30) as answer:
                assert answer.url.endswith("/ui/sign-in?to=%2Fui%2F")
            request = urllib.request.Request(match[0], headers={"Authorization": "Bearer t"})
            with urllib.request.urlopen(request, timeout=30) as answer:
                assert "did not answer" in answer.read().decode()  # this server has none of the views
            with pytest.raises(urllib.error.HTTPError, match="421"):
                urllib.request.urlopen(urllib.request.Request(match[0], headers={"Host": "evil.example"}), timeout=30)
        finally:
            process.terminate()
            assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--dsn", "ftp://x"), "not a ClickHouse DSN"),
        (("--dsn", "chdb:///nowhere/at/all"), "does not answer"),
        (("--dsn", "http://127.0.0.1:9/x"), "does not answer"),
        (("--dsn", "http://127.0.0.1:9/x", "--listen", "http://x"), "not an endpoint"),
    ],
)
def test_what_cannot_be_is_said(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str) -> None:
    result = run(capsys, "ui", *words)
    assert result.code != 0
    assert said in result.err
