"""`spanledger dead-letter`: what could not be processed or delivered, and what to do with it."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spanledger.cli.shell import CommandError, ConfigOption, SetOption, examples, out
from spanledger.cli.show import Format, count, print_csv, print_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from collector.store import DeadLetters, Inbox, StateStore

app = typer.Typer(
    help="What could not be processed or delivered. Nothing is thrown away: it waits here until you say.",
    no_args_is_help=True,
)


@contextmanager
def _store(config: Path | None, set_: list[str] | None, *, change: bool) -> Iterator[tuple[StateStore, Inbox | None]]:
    """The state and inbox of the config's data directory. To change something, no collector may run there."""
    from collector.store import Inbox, StateStore, open_sealer
    from config import load

    settings = load(config, overrides=set_ or ()).service
    if not (settings.data_dir / "state").is_dir():
        raise CommandError(
            f"there is no collector's data in {settings.data_dir}", "Say which config it runs with: --config FILE."
        )
    with ExitStack() as stack:
        sealer = open_sealer(settings.encryption, settings.data_dir)
        store = StateStore(settings.data_dir / "state", sealer, read_only=not change)
        stack.callback(store.close)
        inbox = None
        if change:
            inbox = Inbox(settings.data_dir / "inbox", max_bytes=settings.inbox.max_size, sealer=sealer)
            stack.callback(inbox.close)
        yield store, inbox


@app.command("list", epilog=examples(("what waits, newest last", "spanledger dead-letter list")))
def list_(
    format_: Annotated[Format, typer.Option("--format", "-f", help="How to print.")] = Format.TABLE,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """List the dead letters: when, of what, how many spans or rows, and why. Works while the collector runs."""
    with _store(config, set_, change=False) as (store, _):
        found = store.dead_letters().list()
    names = ["id", "time", "kind", "origin", "items", "bytes", "reason"]
    rows: list[list[Any]] = [[m.id, _time(m.time_ns), m.kind, m.origin, m.items, m.size, m.reason] for m in found]
    if format_ is Format.JSON:
        print_json([dict(zip(names, row, strict=True)) for row in rows])
    elif format_ is Format.CSV:
        print_csv(names, rows)
    elif not rows:
        out.print("There are no dead letters.")
    else:
        from rich.table import Table
        from rich.text import Text

        table = Table(*(name.capitalize() for name in names), header_style="bold")
        for row in rows:
            table.add_row(*(Text(count(cell) if isinstance(cell, int) else str(cell)) for cell in row))
        out.print(table)


@app.command("show", epilog=examples(("what is known of one", "spanledger dead-letter show 3"), ("its body, to a file", "spanledger dead-letter show 3 --body > body.pb")))  # fmt: skip
def show(
    id_: Annotated[int, typer.Argument(metavar="ID", help="Id as `spanledger dead-letter list` shows it.")],
    body: Annotated[bool, typer.Option("--body", help="Write the body itself (decrypted) to standard output.")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Show one dead letter. A request's body is OTLP as it came: it may hold personal data and prompts."""
    with _store(config, set_, change=False) as (store, _):
        letter = store.dead_letters().get(id_)
    if letter is None:
        raise CommandError(f"there is no dead letter {id_}", "`spanledger dead-letter list` shows what there is.")
    if body:
        if sys.stdout.isatty():
            raise CommandError("the body is binary and may hold personal data", "Send it to a file: --body > body.pb")
        sys.stdout.buffer.write(letter.body)
        return
    out.print_json(json.dumps({
        "id": letter.id, "time": _time(letter.time_ns), "kind": letter.kind, "origin": letter.origin,
        "items": letter.items, "bytes": len(letter.body), "reason": letter.reason, "meta": letter.meta,
    }))  # fmt: skip


@app.command("replay", epilog=examples(("two of them, after their cause is mended", "spanledger dead-letter replay 3 4"), ("all", "spanledger dead-letter replay --all")))  # fmt: skip
def replay(
    ids: Annotated[list[int] | None, typer.Argument(help="Ids as `spanledger dead-letter list` shows them.", show_default=False)] = None,
    every: Annotated[bool, typer.Option("--all", help="Every dead letter.")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:  # fmt: skip
    """Put dead letters back into the queue that they came from; they are processed at the collector's next start.

    Stop the collector first. A request that comes twice counts once.
    """
    with _store(config, set_, change=True) as (store, inbox):
        letters = store.dead_letters()
        chosen = _chosen(letters, ids, every)
        letters.replay(chosen, inbox)
    out.print(f"Put back {count(len(chosen))}. They go on at the next start of the collector.")


@app.command("drop", epilog=examples(("one, for good", "spanledger dead-letter drop 3")))
def drop(
    ids: Annotated[list[int] | None, typer.Argument(help="Ids as `spanledger dead-letter list` shows them.", show_default=False)] = None,
    every: Annotated[bool, typer.Option("--all", help="Every dead letter.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:  # fmt: skip
    """Delete dead letters for good. Stop the collector first."""
    with _store(config, set_, change=True) as (store, _):
        letters = store.dead_letters()
        chosen = _chosen(letters, ids, every)
        if chosen and not yes and not typer.confirm(f"Delete {len(chosen)} dead letters for good?", err=True):
            raise CommandError("nothing was deleted")
        letters.drop(chosen)
    out.print(f"Deleted {count(len(chosen))}.")


def _chosen(letters: DeadLetters, ids: list[int] | None, every: bool) -> list[int]:
    known = [letter.id for letter in letters.list()]
    if every and not ids:
        return known
    if not ids or every:
        raise CommandError("say which: ids, or --all", code=2)
    missing = [id_ for id_ in ids if id_ not in known]
    if missing:
        raise CommandError(f"there is no dead letter {missing[0]}", "`spanledger dead-letter list` shows what there is.")  # fmt: skip
    return ids


def _time(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / 1e9, tz=UTC).isoformat(timespec="seconds")
