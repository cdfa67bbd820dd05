"""What all commands share: the consoles, how a command fails, and the options that many have.

Exit codes: 0 done, 1 it did not work out, 2 the command line or the config is wrong, 130 interrupted.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

#: Results go to standard output, everything said about them to standard error: pipes stay clean.
out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)


class CommandError(Exception):
    """A command cannot go on; the message is for the person who typed it. `hint` says what to do next."""

    def __init__(self, message: str, hint: str = "", code: int = 1) -> None:
        super().__init__(message)
        self.hint = hint
        self.code = code


def usage(message: str, hint: str = "") -> NoReturn:
    """Give up because of what was typed."""
    raise CommandError(message, hint, code=2)


ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar="SPANLEDGER_CONFIG", help="Config file. Without it: the one that ships.", show_default=False),
]  # fmt: skip
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Stand above one value of the config. May be given again.", show_default=False),
]  # fmt: skip


def program() -> str:
    """What to type for this command: its name, or, where the shell does not find it by that, the path that it was called by."""
    called = Path(sys.argv[0])
    return str(called) if called.name == "spanledger" and shutil.which("spanledger") is None else "spanledger"


def examples(*lines: tuple[str, str]) -> str:
    """An epilog of command lines, each with what it is for."""
    return "\n\n".join(["[bold]Examples[/]", *(f"[dim]{why}[/]\n\n  [cyan]{line}[/]" for why, line in lines)])
