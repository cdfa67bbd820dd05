"""`spanledger schema` prints the DDL that the collector would run, and connects to nothing."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from exporters.clickhouse.ddl import Layout, statements
from spanledger.cli import app


def printed(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["schema", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


@pytest.fixture(autouse=True)
def no_config_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SPANLEDGER_CONFIG", "SPANLEDGER_DSN", "SPANLEDGER_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)


def test_without_a_config_it_is_the_shipped_ones_schema() -> None:
    assert printed() == ";\n\n".join(statements(Layout("spanledger"))) + ";\n"


def test_options_of_the_exporter_and_a_dsn_shape_it() -> None:
    made = printed(
        "--dsn",
        "http://nowhere.invalid:8123/llm",
        "--set",
        "exporters.clickhouse.cluster=main",
        "--set",
        "exporters.clickhouse.ttl=30d",
    )
    assert made == ";\n\n".join(statements(Layout("llm", ttl_days=30, cluster="main"))) + ";\n"
