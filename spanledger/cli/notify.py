"""`spanledger notify test`: sends a test notification to the config's targets, and says which of them took it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spanledger.cli.shell import CommandError, ConfigOption, SetOption, examples, out, usage

if TYPE_CHECKING:
    from config import LoadedConfig
    from exporters.notify import Notify

app = typer.Typer(help="Try out notifications.", no_args_is_help=True)

_EPILOG = examples(
    ("all targets of all notify exporters", "spanledger notify test --config spanledger.yaml"),
    ("one target", "spanledger notify test --target chat"),
)  # fmt: skip


@app.callback()
def notify() -> None:
    """Try out notifications."""


@app.command("test", epilog=_EPILOG)
def send_test(
    target: Annotated[
        list[str] | None, typer.Option(help="Only this target. May be given again.", show_default=False)
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Send a test notification to the targets of the config, whatever routes, digest and quiet hours say. Once, without further attempts."""
    from config import load

    loaded = load(config, overrides=set_ or ())
    exporters = list(_exporters(loaded))
    if not exporters:
        raise CommandError("the config has no notify exporter", "docs/findings.md shows one.", 2)
    names = [name for exporter in exporters for name in exporter.config.targets]
    for name in target or ():
        if name not in names:
            usage(f"--target: there is no target {name!r}", f"There are {', '.join(names)}")
    refused = 0
    for exporter in exporters:
        for name in exporter.config.targets:
            if not target or name in target:
                refused += not _tried(exporter, name)
        exporter.close()
    if refused:
        raise CommandError(f"{refused} target{'' if refused == 1 else 's'} did not take the test notification")


def _exporters(loaded: LoadedConfig) -> list[Notify]:
    from prometheus_client import CollectorRegistry

    from collector.component import Context
    from exporters.notify import Notify, NotifyConfig

    return [
        Notify(spec.config, Context(id_, Path(), CollectorRegistry()))
        for id_, spec in loaded.exporters.items()
        if isinstance(spec.config, NotifyConfig)
    ]


def _tried(exporter: Notify, name: str) -> bool:
    """Send to one target, and say how it went."""
    from rich.markup import escape

    from collector.findings import Transition
    from config.errors import SpanledgerError
    from exporters.notify.exporter import sample

    label = escape(f"{exporter.context.id} {name}")
    try:
        exporter.send(exporter.payload(name, sample(), Transition.OPENED, 0))
    except SpanledgerError as error:
        out.print(f"[red]failed[/] {label}: {escape(str(error))}", soft_wrap=True)
        return False
    out.print(f"[green]sent[/]   {label}")
    return True
