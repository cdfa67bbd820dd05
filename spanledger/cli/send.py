"""`spanledger send`: captured OTLP bodies to a collector."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from spanledger.cli.sender import MAX_BODY, Body, SendError, await_start, inflate, open_sender
from spanledger.cli.shell import CommandError, err, examples, out, usage

SIGNALS = ("traces", "logs", "metrics")
_SUFFIXES = (".pb", ".pb.gz", ".json", ".json.gz", ".bin")
_NAMED = re.compile(r"(?:^|[^a-z])(traces|logs|metrics)(?:[^a-z]|$)")


class Protocol(StrEnum):
    HTTP = "http"
    GRPC = "grpc"


EndpointOption = Annotated[
    str | None,
    typer.Option("--endpoint", help="Where to. Default: http://127.0.0.1:4318, or 127.0.0.1:4317 for gRPC.", show_default=False),
]  # fmt: skip
TokenOption = Annotated[
    str | None, typer.Option("--token", envvar="SPANLEDGER_TOKEN", help="Bearer token of the receiver.", show_default=False)
]  # fmt: skip
ProtocolOption = Annotated[Protocol, typer.Option("--protocol", help="OTLP/HTTP or OTLP/gRPC.")]

EPILOG = examples(
    ("a folder of captured bodies, in the order of their names", "spanledger send captures/"),
    ("traces only, over gRPC", "spanledger send captures/*-traces.pb --protocol grpc"),
    ("to another collector", "spanledger send body.json --endpoint https://otlp.example:4318 --token \"$TOKEN\""),
)  # fmt: skip


def send(
    files: Annotated[
        list[Path], typer.Argument(help="Bodies: .pb (protobuf) or .json, .gz if gzipped; or folders of them.")
    ],
    endpoint: EndpointOption = None,
    token: TokenOption = None,
    header: Annotated[
        list[str] | None,
        typer.Option(
            "--header", "-H", metavar="NAME=VALUE", help="A further header. May be given again.", show_default=False
        ),
    ] = None,
    protocol: ProtocolOption = Protocol.HTTP,
    signal: Annotated[
        str | None,
        typer.Option(
            help="Only traces, logs or metrics. A file that does not tell what it holds is taken for this.",
            show_default=False,
        ),
    ] = None,
    retries: Annotated[
        int,
        typer.Option(min=0, max=100, help="How often to try a body again that is put off (429, 503, lost connection)."),
    ] = 8,
) -> None:
    """Send captured OTLP requests, each file one request, as a gateway would have sent them.

    Whether a file holds traces, logs or metrics is told by its name (001-traces.pb), else by what is in it.
    Exits with 1 if any was not taken.
    """  # fmt: skip
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    if signal not in (None, *SIGNALS):
        usage(f"--signal: {signal!r} is not traces, logs or metrics")
    paths = list(_paths(files))
    await_start(protocol.value, endpoint)
    sender = open_sender(protocol.value, endpoint, token, _headers(header or []), retries)
    sent: dict[str, int] = dict.fromkeys(SIGNALS, 0)
    size, skipped, failed = 0, 0, []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("[dim]{task.fields[name]}"),
    )
    try:
        with Progress(*columns, console=err, transient=True) as progress:
            task = progress.add_task("Sending", total=len(paths), name="")
            for path in paths:
                progress.update(task, name=path.name)
                try:
                    body = read_body(path, signal)
                    if signal in (None, body.signal):
                        sender.send(body)
                        sent[body.signal] += 1
                        size += len(body.data)
                    else:
                        skipped += 1
                except SendError as error:
                    if error.fatal:
                        raise CommandError(str(error), error.hint) from None
                    failed.append(f"{path}: {error}")
                except CommandError as error:
                    failed.append(f"{path}: {error}")
                progress.advance(task)
    finally:
        sender.close()
    what = ", ".join(f"{n} {s}" for s, n in sent.items() if n) or "nothing"
    notes = (
        [f"{size / 1024:,.0f} KiB"]
        + [f"{skipped} skipped"] * bool(skipped)
        + [f"{sender.retried} retries"] * bool(sender.retried)
    )
    out.print(f"Sent {what} ({', '.join(notes)}) to {sender.endpoint}", soft_wrap=True)
    if sender.rejected:
        err.print(
            f"[yellow]The receiver refused {sender.rejected} items in requests that it took (partial success).[/]"
        )
    if failed:
        for line in failed[:20]:
            err.print(line, style="red", markup=False, soft_wrap=True)
        raise CommandError(f"{len(failed)} of {len(paths)} files were not taken")


def _paths(files: list[Path]) -> Iterator[Path]:
    for path in files:
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.is_file() and p.name.endswith(_SUFFIXES) and _is_body(p))
            if not found:
                usage(f"{path}: no {', '.join(_SUFFIXES[:4])} files below this folder")
            yield from found
        elif path.is_file():
            yield path
        else:
            usage(f"{path}: no such file")


def _is_body(path: Path) -> bool:
    """A folder of captures may hold other JSON files; a body's name says its signal."""
    return ".json" not in path.name or bool(_NAMED.search(path.name))


def _headers(texts: list[str]) -> dict[str, str]:
    headers = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip() or "\n" in value or "\r" in value:
            usage("--header: expected NAME=VALUE")
        headers[name.strip()] = value.strip()
    return headers


def read_body(path: Path, untold: str | None = None) -> Body:
    """A file as the request it was; of the signal `untold` where neither its name nor its content says.

    Raises `CommandError` where it is no OTLP body.
    """
    if path.stat().st_size > MAX_BODY:
        raise CommandError(f"larger than {MAX_BODY // 2**20} MiB")
    data = path.read_bytes()
    gzipped = data[:2] == b"\x1f\x8b"
    plain = inflate(data) if gzipped else data
    as_json = path.name.removesuffix(".gz").endswith(".json") or plain[:64].lstrip()[:1] == b"{"
    named = _NAMED.search(path.name)
    signal = named[1] if named else _json_signal(plain) if as_json else _protobuf_signal(plain)
    signal = signal or untold
    if signal is None:
        raise CommandError(
            "not an OTLP request: neither its name nor its content says traces, logs or metrics; if it is one, say with --signal"
        )
    return Body(path.name, signal, data, "application/json" if as_json else "application/x-protobuf", gzipped)


def _json_signal(plain: bytes) -> str | None:
    try:
        keys = set(json.loads(plain))
    except ValueError:
        return None
    for signal, names in (
        ("traces", {"resourceSpans", "resource_spans"}),
        ("logs", {"resourceLogs", "resource_logs"}),
        ("metrics", {"resourceMetrics", "resource_metrics"}),
    ):
        if keys & names:
            return signal
    return None


def _protobuf_signal(plain: bytes) -> str | None:
    """The three requests have one shape; they differ in what their innermost records begin with."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    try:
        traces = ExportTraceServiceRequest.FromString(plain)
        spans = [s for r in traces.resource_spans for c in r.scope_spans for s in c.spans]
        if spans and all(len(s.trace_id) == 16 and len(s.span_id) == 8 for s in spans):
            return "traces"
    except DecodeError:
        pass
    try:
        logs = ExportLogsServiceRequest.FromString(plain)
        records = [x for r in logs.resource_logs for c in r.scope_logs for x in c.log_records]
        if records and any(x.time_unix_nano or x.observed_time_unix_nano for x in records):
            return "logs"
    except DecodeError:
        pass
    try:
        metrics = ExportMetricsServiceRequest.FromString(plain)
        found = [m for r in metrics.resource_metrics for c in r.scope_metrics for m in c.metrics]
        if found and all(m.name and m.WhichOneof("data") for m in found):
            return "metrics"
    except DecodeError:
        pass
    return None


__all__ = ["EPILOG", "read_body", "send"]
