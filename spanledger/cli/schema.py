"""`spanledger schema`: the DDL of everything the ClickHouse exporter writes to."""

from __future__ import annotations

import sys

from spanledger.cli.ledger import DsnOption, load_config
from spanledger.cli.shell import CommandError, ConfigOption, SetOption, examples

EPILOG = examples(
    ("what the collector creates on start", "spanledger schema"),
    ("for a DBA who creates it by hand (create_schema: false)", "spanledger schema --config spanledger.yaml > spanledger.sql"),
    ("on a cluster", "spanledger schema --dsn http://ch:8123/llm --set exporters.clickhouse.cluster=main"),
)  # fmt: skip


def schema(config: ConfigOption = None, set_: SetOption = None, dsn: DsnOption = None) -> None:
    """Print tables and views as SQL, as the config's ClickHouse exporter creates them.

    Names, TTLs, cluster and database are the exporter's options. Nothing is connected to.
    """
    from exporters.clickhouse.config import ClickHouseConfig
    from exporters.clickhouse.ddl import Layout, statements

    overrides = [*(set_ or ()), *([f"exporters.clickhouse.dsn={dsn}"] if dsn is not None else [])]
    specs = load_config(config, overrides).exporters.values()
    found = next((spec.config for spec in specs if isinstance(spec.config, ClickHouseConfig)), None)
    if found is None:
        raise CommandError("the config has no clickhouse exporter", "Say which database is meant with --dsn.", 2)
    sys.stdout.write(";\n\n".join(statements(Layout.of(found))) + ";\n")
