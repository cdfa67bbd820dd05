"""`spanledger print-config` and `spanledger config-schema`: the config as it is understood, and as it may be."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from spanledger.cli.shell import ConfigOption, SetOption, examples

EPILOG = examples(
    ("with every default filled in", "spanledger print-config --config spanledger.yaml"),
    ("a file to start from", "spanledger print-config --shipped > spanledger.yaml"),
)
SCHEMA_EPILOG = examples(
    ("completion and checks in an editor", "spanledger config-schema > spanledger.schema.json"),
    ("then, as the first line of the config", "# yaml-language-server: $schema=spanledger.schema.json"),
)


def print_config(
    config: ConfigOption = None,
    set_: SetOption = None,
    shipped: Annotated[bool, typer.Option("--shipped", help="Print the file that ships, with its comments.")] = False,
) -> None:
    """Print the config as the collector understands it: defaults filled in, secrets as [REDACTED]."""
    if shipped:
        from config.loader import SHIPPED

        sys.stdout.write(SHIPPED.read_text())
        return
    from config import load
    from config import print_config as show

    sys.stdout.write(show(load(config, overrides=set_ or ())))


def config_schema() -> None:
    """Print the JSON Schema of the config, with the options of everything that is installed."""
    from config import json_schema

    sys.stdout.write(json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n")
