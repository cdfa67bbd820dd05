"""The command `spanledger`: one file a command, put together here."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import typer

from spanledger.cli import (
    anomaly,
    budgets,
    components,
    costs,
    dead_letter,
    demo,
    findings,
    notify,
    prices,
    print_config,
    query,
    redact,
    report,
    routes,
    run,
    schema,
    send,
    status,
    top,
    ui,
    validate,
    version,
    warmup,
)
from spanledger.cli.shell import CommandError, err

app = typer.Typer(
    name="spanledger",
    help="The cost ledger for LLM gateways: OTLP in, priced and attributed calls in ClickHouse.",
    epilog="Begin with [cyan]spanledger run[/], then, in another terminal, [cyan]spanledger demo[/] and "
    "[cyan]spanledger costs --by team,model[/]. Every command has examples in its [cyan]--help[/]; "
    "[cyan]--verbose[/] shows the traceback of an error.",
    rich_markup_mode="rich",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_PANELS: dict[str, list[tuple[str, Callable[..., Any], str | None]]] = {
    "Run": [
        ("run", run.run, run.EPILOG),
        ("status", status.status, status.EPILOG),
        ("validate", validate.validate, validate.EPILOG),
        ("print-config", print_config.print_config, print_config.EPILOG),
        ("config-schema", print_config.config_schema, print_config.SCHEMA_EPILOG),
        ("components", components.components, components.EPILOG),
        ("warmup", warmup.warmup, warmup.EPILOG),
    ],
    "Ask the ledger": [
        ("costs", costs.costs, costs.EPILOG),
        ("top", top.top, top.EPILOG),
        ("report", report.report, report.EPILOG),
        ("budgets", budgets.budgets, budgets.EPILOG),
        ("findings", findings.findings, findings.EPILOG),
        ("query", query.query, query.EPILOG),
        ("ui", ui.ui, ui.EPILOG),
        ("schema", schema.schema, schema.EPILOG),
    ],
    "Try it": [
        ("demo", demo.demo, demo.EPILOG),
        ("redact", redact.redact, redact.EPILOG),
        ("send", send.send, send.EPILOG),
        ("version", version.version, version.EPILOG),
    ],
}


def _flow(function: Callable[..., Any]) -> str:
    """A docstring as help: paragraphs without the source's line breaks."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in (function.__doc__ or "").split("\n\n"))


for _panel, _commands in _PANELS.items():
    for _name, _function, _epilog in _commands:
        app.command(_name, help=_flow(_function), epilog=_epilog, rich_help_panel=_panel)(_function)
app.add_typer(prices.app, name="prices", rich_help_panel="Ask the ledger")
app.add_typer(routes.app, name="routes", rich_help_panel="Ask the ledger")
app.add_typer(anomaly.app, name="anomaly", rich_help_panel="Ask the ledger")
app.add_typer(notify.app, name="notify", rich_help_panel="Try it")
app.add_typer(dead_letter.app, name="dead-letter", rich_help_panel="Run")


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point. What a user can do something about is one or two lines on standard error, not a traceback."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    verbose = "--verbose" in words or bool(os.environ.get("SPANLEDGER_VERBOSE"))
    words = [word for word in words if word != "--verbose"]
    if words[:1] in (["--version"], ["-V"]):  # as people try it; the command says more
        words = ["version"]
    try:
        app(args=words, prog_name="spanledger")
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of a pipe has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if verbose:
            raise
        sys.exit(_explain(error))


def _explain(error: Exception) -> int:
    from config.errors import ConfigError, Severity, SpanledgerError

    if isinstance(error, CommandError):
        err.print(f"[red]error:[/] {_plain(error)}", soft_wrap=True)
        if error.hint:
            err.print(f"  {error.hint}", markup=False, soft_wrap=True)
        return error.code
    if isinstance(error, ConfigError):
        for finding in error.findings:
            style = "yellow" if finding.severity is Severity.WARNING else "red"
            err.print(str(finding), style=style, markup=False, soft_wrap=True)
        if not error.findings:
            err.print(f"[red]error:[/] {_plain(error)}", soft_wrap=True)
        return 2
    if isinstance(error, SpanledgerError | OSError):
        err.print(f"[red]error:[/] {_plain(error)}", soft_wrap=True)
        return 1
    err.print(f"[red]internal error:[/] {type(error).__name__}: {_plain(error)}", soft_wrap=True)
    err.print("  Run it again with --verbose for the traceback, and please report it.", markup=False)
    return 1


def _plain(error: Exception) -> str:
    from rich.markup import escape

    return escape(str(error) or type(error).__name__)
