"""`spanledger components`: what is installed, ours and others'."""

from __future__ import annotations

import inspect
from typing import Annotated

import typer

from spanledger.cli.shell import examples, out

EPILOG = examples(("only the exporters", "spanledger components exporters"))


def components(
    section: Annotated[
        str | None,
        typer.Argument(help="receivers, processors, exporters or dialects. Default: all.", show_default=False),
    ] = None,
) -> None:
    """List what a config can name: receivers, processors and exporters, and the dialects that are understood."""  # fmt: skip
    from rich.table import Table

    from config.registry import SECTIONS, BrokenComponent, Registry
    from spanledger.cli.shell import usage

    if section not in (None, *SECTIONS, "dialects"):
        usage(f"no section {section!r}", "There are receivers, processors, exporters and dialects.")
    registry = Registry.installed()
    for name in SECTIONS if section is None else [section] if section in SECTIONS else []:
        table = Table(
            title=name.capitalize(),
            title_justify="left",
            title_style="bold",
            box=None,
            pad_edge=False,
            show_header=False,
        )
        table.add_column(style="cyan", no_wrap=True, min_width=16)
        table.add_column()
        table.add_column(style="dim")
        for type_, entry in registry.section(name).items():
            try:
                about = (inspect.getdoc(entry.load(name)) or "").partition("\n")[0]
            except BrokenComponent as broken:
                about = f"[red]cannot be used: {broken}[/]"
            table.add_row(type_, about, entry.origin)
        out.print(table)
        out.print()
    if section in (None, "dialects"):
        _dialects()


def _dialects() -> None:
    from rich.table import Table

    from collector.dialects import describe

    table = Table(
        title="Dialects", title_justify="left", title_style="bold", box=None, pad_edge=False, show_header=False
    )
    table.add_column(style="cyan", no_wrap=True, min_width=16)
    table.add_column()
    for name, about in describe():
        table.add_row(name, about)
    out.print(table)
