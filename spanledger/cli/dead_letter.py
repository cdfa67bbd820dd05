"""`spanledger dead-letter`: what could not be processed or delivered, and what to do with it."""

from __future__ import annotations

import base64
import json
import sys
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from spanledger.cli.admin import endpoint
from spanledger.cli.ledger import load_config
from spanledger.cli.shell import CommandError, ConfigOption, SetOption, examples, out
from spanledger.cli.show import Format, count, print_csv, print_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from collector.store import DeadLetter, DeadLetters
    from config import LoadedConfig

app = typer.Typer(
    help="What could not be processed or delivered. Nothing is thrown away: it waits here until you say.",
    no_args_is_help=True,
)


def _settings(config: Path | None, set_: list[str] | None) -> LoadedConfig:
    """The config, whose data directory must be some collector's."""
    loaded = load_config(config, set_)
    if not (loaded.service.data_dir / "state").is_dir():
        raise CommandError(
            f"there is no collector's data in {loaded.service.data_dir}",
            "Say which config it runs with: --config FILE.",
        )
    return loaded


@contextmanager
def _reading(loaded: LoadedConfig) -> Iterator[DeadLetters]:
    """The letters, to look at; a collector may run."""
    from collector.store import DeadLetters, StateStore, open_sealer

    settings = loaded.service
    sealer = open_sealer(settings.encryption, settings.data_dir)
    store = StateStore(settings.data_dir / "state", sealer, read_only=True)
    try:
        yield DeadLetters(store)
    finally:
        store.close()


def _change(loaded: LoadedConfig, action: Literal["replay", "drop"], ids: list[int]) -> tuple[int, bool]:
    """Do it: the collector that runs on this data, else this process. How many there were, and whether one runs."""
    from spanledger.admin.control import find

    control = find(loaded.service.data_dir)
    if control is not None:
        port = endpoint(control.endpoint, control.key)
        try:
            status, _, body = port.request("POST", f"/dead-letters/{action}", json.dumps({"ids": ids}).encode())
        except (OSError, HTTPException):
            status, body = 0, b""  # it ended without cleaning up
        if status == 200:
            return int(json.loads(body)["done"]), True
        if status == 409:
            raise CommandError(body.decode(errors="replace").strip())
    return _change_here(loaded, action, ids), False


def _change_here(loaded: LoadedConfig, action: Literal["replay", "drop"], ids: list[int]) -> int:
    from collector.store import DeadLetters, Inbox, StateStore, open_sealer

    settings = loaded.service
    with ExitStack() as stack:
        sealer = open_sealer(settings.encryption, settings.data_dir)
        # Fails, and says which process it is, where a collector runs that could not be asked.
        store = StateStore(settings.data_dir / "state", sealer, dead_letter_bytes=settings.dead_letters.max_size)
        stack.callback(store.close)
        if action == "drop":
            return DeadLetters(store).drop(ids)
        inbox = Inbox(settings.data_dir / "inbox", max_bytes=settings.inbox.max_size, sealer=sealer)
        stack.callback(inbox.close)
        pipelines = settings.pipelines
        outboxes = {f"{id_}/{name}" for id_, pipeline in pipelines.items() for name in pipeline.exporters}
        return DeadLetters(store).replay(ids, inbox, pipelines.keys() | outboxes)


@app.command("list", epilog=examples(("what waits, newest last", "spanledger dead-letter list")))
def list_(
    format_: Annotated[Format, typer.Option("--format", "-f", help="How to print.")] = Format.TABLE,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """List the dead letters: when, of what, how many items, and why. Works while the collector runs."""
    with _reading(_settings(config, set_)) as letters:
        found = letters.list()
    names = ["id", "time", "kind", "origin", "items", "bytes", "reason"]
    rows: list[list[Any]] = [[m.id, _time(m.time_ns), m.kind, m.origin, m.items, m.size, m.reason] for m in found]
    if format_ is Format.JSON:
        print_json([dict(zip(names, row, strict=True)) for row in rows])
    elif format_ is Format.CSV:
        print_csv(names, rows)
    elif not rows:
        out.print("There are no dead letters.")
    else:
        for id_, time, kind, origin, items, size, reason in rows:  # a line each: reasons are too long for a table
            about = f"{kind} of {origin}, {count(items)} items, {count(size)} bytes"
            out.print(f"[bold]{id_}[/]  {time}  {about}", soft_wrap=True)
            out.print(f"   {reason}", style="yellow", markup=False, soft_wrap=True)


@app.command("show", epilog=examples(("what is known of one", "spanledger dead-letter show 3"), ("what the request says, too", "spanledger dead-letter show 3 --reveal"), ("its body, to a file", "spanledger dead-letter show 3 --reveal --body > body.pb")))  # fmt: skip
def show(
    id_: Annotated[int, typer.Argument(metavar="ID", help="Id as `spanledger dead-letter list` shows it.")],
    reveal: Annotated[bool, typer.Option("--reveal", help="Print what a request says, as OTLP/JSON: it may hold personal data and prompts.")] = False,
    body: Annotated[bool, typer.Option("--body", help="With --reveal: write the body itself (decrypted) to standard output.")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:  # fmt: skip
    """Show one dead letter: what is known of it, without what it says. Works while the collector runs."""
    with _reading(_settings(config, set_)) as letters:
        letter = letters.get(id_)
    if letter is None:
        raise CommandError(f"there is no dead letter {id_}", "`spanledger dead-letter list` shows what there is.")
    if body:
        if not reveal:
            raise CommandError("the body is as it came, before redaction: it may hold personal data", "If you mean it: --reveal --body > body.pb")  # fmt: skip
        if sys.stdout.isatty():
            raise CommandError("the body is binary and may hold personal data", "Send it to a file: --reveal --body > body.pb")  # fmt: skip
        sys.stdout.buffer.write(letter.body)
        return
    known = {
        "id": letter.id, "time": _time(letter.time_ns), "kind": letter.kind, "origin": letter.origin,
        "items": letter.items, "bytes": len(letter.body), "reason": letter.reason, "meta": letter.meta,
    }  # fmt: skip
    out.print_json(json.dumps(known | ({"request": _request(letter)} if reveal else {})))


@app.command("replay", epilog=examples(("two of them, after their cause is mended", "spanledger dead-letter replay 3 4"), ("all", "spanledger dead-letter replay --all")))  # fmt: skip
def replay(
    ids: Annotated[list[int] | None, typer.Argument(help="Ids as `spanledger dead-letter list` shows them.", show_default=False)] = None,
    every: Annotated[bool, typer.Option("--all", help="Every dead letter that has something to send.")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:  # fmt: skip
    """Put dead letters back into the queue that they came from, while the collector runs or when it does not.

    What cannot be processed or delivered this time either becomes a dead letter again. A request that comes twice counts once.
    """
    loaded = _settings(config, set_)
    with _reading(loaded) as letters:
        chosen = _chosen([letter for letter in letters.list() if not (every and letter.lost)], ids, every)
    done, running = _change(loaded, "replay", chosen) if chosen else (0, True)
    out.print(f"Put back {count(done)}." + ("" if running else " They go on at the next start of the collector."))


@app.command("drop", epilog=examples(("one, for good", "spanledger dead-letter drop 3")))
def drop(
    ids: Annotated[list[int] | None, typer.Argument(help="Ids as `spanledger dead-letter list` shows them.", show_default=False)] = None,
    every: Annotated[bool, typer.Option("--all", help="Every dead letter.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:  # fmt: skip
    """Delete dead letters for good, while the collector runs or when it does not."""
    loaded = _settings(config, set_)
    with _reading(loaded) as letters:
        chosen = _chosen(letters.list(), ids, every)
    if chosen and not yes and not typer.confirm(f"Delete {len(chosen)} dead letters for good?", err=True):
        raise CommandError("nothing was deleted")
    done, _ = _change(loaded, "drop", chosen) if chosen else (0, True)
    out.print(f"Deleted {count(done)}.")


def _chosen(letters: list[DeadLetter], ids: list[int] | None, every: bool) -> list[int]:
    known = [letter.id for letter in letters]
    if every and not ids:
        return known
    if not ids or every:
        raise CommandError("say which: ids, or --all", code=2)
    missing = [id_ for id_ in ids if id_ not in known]
    if missing:
        raise CommandError(f"there is no dead letter {missing[0]}", "`spanledger dead-letter list` shows what there is.")  # fmt: skip
    return ids


def _request(letter: DeadLetter) -> dict[str, Any]:
    """What a request says, as OTLP/JSON has it."""
    from google.protobuf.json_format import MessageToDict
    from google.protobuf.message import DecodeError, Message
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    if letter.kind != "request":
        raise CommandError(
            "a delivery's body is in its exporter's own format", f"Send it to a file: spanledger dead-letter show {letter.id} --reveal --body > body"
        )  # fmt: skip
    kinds: dict[str, type[Message]] = {"traces": ExportTraceServiceRequest, "logs": ExportLogsServiceRequest, "metrics": ExportMetricsServiceRequest}  # fmt: skip
    try:
        message = kinds[letter.origin.partition("/")[0]]()
        message.ParseFromString(letter.body)
    except (DecodeError, KeyError):
        raise CommandError(f"the body of dead letter {letter.id} is no OTLP request") from None
    said: dict[str, Any] = json.loads(json.dumps(MessageToDict(message)), object_hook=_with_hex_ids)
    return said


def _with_hex_ids(message: dict[str, Any]) -> dict[str, Any]:
    """Ids are hexadecimal in OTLP/JSON, unlike other bytes."""
    ids = {name: base64.b64decode(message[name]).hex() for name in ("traceId", "spanId", "parentSpanId") if name in message}  # fmt: skip
    return message | ids


def _time(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / 1e9, tz=UTC).isoformat(timespec="seconds")
