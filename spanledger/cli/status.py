"""`spanledger status`: what waits in a running collector, where it is stuck, and when it is tried again."""

from __future__ import annotations

import json
import sys
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spanledger.cli.admin import Admin, endpoint
from spanledger.cli.ledger import AdminOption, TokenOption, admin_of, load_config
from spanledger.cli.shell import CommandError, ConfigOption, SetOption, examples, out
from spanledger.cli.show import count

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

EPILOG = examples(
    ("once", "spanledger status"),
    ("again and again, every two seconds", "spanledger status --watch"),
    ("for a script: is anything stuck?", "spanledger status --format json | jq '.problems'"),
    ("a collector elsewhere", "spanledger status --admin collector.example:8787 --token \"$TOKEN\""),
)  # fmt: skip


class StatusFormat(StrEnum):
    TABLE = "table"
    JSON = "json"


def status(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it again and again, until Ctrl-C.")] = False,
    interval: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between two looks with --watch.")] = 2.0,
    format_: Annotated[StatusFormat, typer.Option("--format", "-f", help="A table, or what /status says.")] = StatusFormat.TABLE,
    config: ConfigOption = None,
    set_: SetOption = None,
    admin: AdminOption = None,
    token: TokenOption = None,
) -> None:  # fmt: skip
    """Show what a running collector has still to do: inbox, pipelines, queues of the exporters, dead letters.

    Age is how long the oldest thing has waited. An exporter that cannot deliver shows its last error, how often it has tried,
    and when it tries again. Exits with 1 while anything is stuck.
    """
    port = endpoint(admin, token) if admin is not None else admin_of(load_config(config, set_), None, token)
    if watch and format_ is StatusFormat.TABLE:
        _watch(port, interval)
    while True:
        found = _ask(port)
        if format_ is StatusFormat.JSON:
            sys.stdout.write(json.dumps(found, indent=None if watch else 2) + "\n")
            sys.stdout.flush()
        else:
            out.print(view(found))
        if not watch:
            break
        time.sleep(interval)
    if found["problems"]:
        raise typer.Exit(1)


def _watch(port: Admin, interval: float) -> None:
    """One table that changes. A collector that goes away is waited for."""
    from rich.live import Live
    from rich.text import Text

    with Live(console=out, auto_refresh=False, screen=False) as live:
        while True:
            try:
                shown: RenderableType = view(_ask(port))
            except CommandError as error:
                shown = Text(f"{error} — looking again", style="yellow")
            live.update(shown, refresh=True)
            time.sleep(interval)


def _ask(port: Admin) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(port.get("/status"))
    except ValueError:
        raise CommandError(f"{port.url}/status is not a collector's") from None
    if "exporters" not in found or "inbox" not in found:
        raise CommandError(f"{port.url}/status is not of this release", "Upgrade the older of the two.")
    return found


def view(found: dict[str, Any]) -> RenderableType:
    """What /status said, for people: a table of what waits, and below it what is wrong and where things go."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("")
    for name in ("Waiting", "Size", "Full", "Age"):
        table.add_column(name, justify="right")
    table.add_column("State")
    notes: list[Text] = []
    inbox = found["inbox"]
    table.add_row(
        "inbox", "", _size(inbox["bytes"]), _share(inbox["bytes"], inbox["capacity_bytes"]), "", _state(inbox["failed"])
    )
    for id_, pipeline in found["pipelines"].items():
        waiting, size = count(pipeline["waiting_items"]), _size(pipeline["waiting_bytes"])
        table.add_row(
            f"pipeline {id_}", waiting, size, "", _age(pipeline["oldest_seconds"]), _state(pipeline["failed"])
        )
    for id_, exporter in found["exporters"].items():
        size, share = _size(exporter["waiting_bytes"]), _share(exporter["waiting_bytes"], exporter["capacity_bytes"])
        table.add_row(f"exporter {id_}", count(exporter["waiting_items"]), size, share, _age(exporter["oldest_seconds"]), _state(exporter["failed"]))  # fmt: skip
        notes += _notes(id_, exporter)
    letters, size = found["dead_letters"], _size(found["dead_letter_bytes"])
    share = _share(found["dead_letter_bytes"], found["dead_letter_capacity_bytes"])
    table.add_row("dead letters", count(letters), size, share, "", Text("look" if letters else "none", style="yellow" if letters else "green"))  # fmt: skip
    for id_, part in (("inbox", inbox), *((f"pipeline {id_}", part) for id_, part in found["pipelines"].items())):
        notes += [Text(f"{id_}: {part['failed']}", style="red")] if part["failed"] else []
    notes += [Text("dead letters: `spanledger dead-letter list` shows them", style="yellow")] if letters else []
    ready = "takes requests" if found["ready"] else "starting or stopping"
    head = Text(f"Spanledger {found['version']}: {ready}", style="bold")
    return Group(head, Text("listens on " + ", ".join(found["receivers"]), style="dim"), table, *notes)


def _state(failed: str | None) -> Text:
    from rich.text import Text

    return Text("failing", style="red") if failed else Text("ok", style="green")


def _notes(id_: str, exporter: dict[str, Any]) -> list[Text]:
    """Where an exporter sends to, and what is wrong there, or was."""
    from rich.text import Text

    to, failed, last = exporter["to"], exporter["failed"], exporter["last_error"]
    attempts, wait = exporter["attempts"], exporter["next_attempt_seconds"]
    name = f"exporter {id_} → "
    if failed is None:
        ago = f"; {_age(last['seconds_ago'])} ago: {last['text']}" if last is not None else ""
        return [Text(f"{name}{to}{ago}", style="dim")]
    told = [f"{attempts} failed attempt{'s' if attempts != 1 else ''}"] if attempts else []
    told += [f"next in {_age(wait) or '0s'}"] if wait is not None else []
    error = failed if failed.startswith(to) else f"{to}: {failed}"
    return [Text(name + error + (f" ({', '.join(told)})" if told else ""), style="red")]


def _size(size: int) -> str:
    """`1.5 MiB`; nothing for none."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return "" if not size else f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def _share(size: int, most: int) -> str:
    return f"{100 * size / most:.0f}%" if most else ""


def _age(seconds: float) -> str:
    """`3.2s`, `4m10s`, `2h05m`, `3d04h`; nothing for none."""
    if not seconds:
        return ""
    if seconds < 60:
        return f"{seconds:.1f}s"
    if seconds < 3600:
        return f"{int(seconds // 60)}m{int(seconds % 60):02d}s"
    if seconds < 86_400:
        return f"{int(seconds // 3600)}h{int(seconds % 3600 // 60):02d}m"
    return f"{int(seconds // 86_400)}d{int(seconds % 86_400 // 3600):02d}h"


__all__ = ["EPILOG", "status", "view"]
