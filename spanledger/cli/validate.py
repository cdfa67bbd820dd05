"""`spanledger validate`: is this config right?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spanledger.cli.shell import ConfigOption, SetOption, err, examples, out

EPILOG = examples(("before a deployment", "spanledger validate --config spanledger.yaml"))


def validate(
    file: Annotated[Path | None, typer.Argument(help="Config file; the same as --config.", show_default=False)] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Check a config: every mistake at once, each as file:line:column: path: what is wrong and what to do.

    Exits with 0 if nothing is wrong with it (warnings go to standard error) and with 2 if something is. What the start alone
    can see (ports, certificates, whether a server answers) is not looked at.
    """
    from config import load

    loaded = load(file or config, overrides=set_ or ())
    for warning in loaded.warnings:
        err.print(str(warning), style="yellow", markup=False, soft_wrap=True)
    pipelines = ", ".join(loaded.service.pipelines)
    out.print(f"[green]OK[/] {file or config or 'the shipped config'}: {pipelines}", soft_wrap=True)
