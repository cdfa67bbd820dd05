"""`spanledger run`: the collector, in the foreground."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from spanledger.cli.shell import ConfigOption, SetOption, err, examples, program
from spanledger.cli.stopping import until_stopped

if TYPE_CHECKING:
    from spanledger.service import Service

logger = logging.getLogger(__name__)

STARTING = "Starting (the first start on a machine compiles the decoder, about a minute)"

EPILOG = examples(
    ("with the config that ships and the embedded ClickHouse", "spanledger run"),
    ("with a config of your own", "spanledger run --config spanledger.yaml"),
    ("the same, one option changed", "spanledger run --config spanledger.yaml --set service.telemetry.logs.level=debug"),
)  # fmt: skip


def run(config: ConfigOption = None, set_: SetOption = None) -> None:
    """Run the collector until it is told to stop.

    A first Ctrl-C (or SIGTERM) stops it gracefully: it takes nothing more and works off what is there, for as long as
    service.shutdown_timeout says. A second one stops it at once, as the first one does while it starts. Either way nothing is lost:
    what is left lies on disk and goes on at the next start.
    """
    from collector.allocators import keep_freed_memory

    keep_freed_memory()
    from config import load

    loaded = load(config, overrides=set_ or ())
    for warning in loaded.warnings:
        err.print(str(warning), style="yellow", markup=False, soft_wrap=True)
    with err.status(STARTING):
        from collector.telemetry import set_up_logs
        from spanledger.service import Service

        set_up_logs(loaded.service.telemetry.logs)
        if not err.is_terminal:  # nobody sees the line above
            logger.info(STARTING)
        service: Service | None = None
        wait = until_stopped(lambda: not (service and service.parts.ready) and _given_up())
        service = Service(loaded)
        service.start()
    welcome(service)
    wait()
    err.print("Stopping: nothing new is taken, working off what is there. Once more to stop at once.", markup=False)
    service.stop()
    err.print("Stopped.")


def _given_up() -> bool:
    """Told to stop while it starts: who changed their mind does not wait for a compiler."""
    err.show_cursor(True)
    err.print("\nStopped before it had started.", markup=False)
    return True


def welcome(service: Service) -> None:
    """Where it listens, and what to set so that a gateway sends there."""
    from rich.table import Table

    from config.loader import SHIPPED

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for endpoint in service.parts.endpoints:
        table.add_row("OTLP in", endpoint)
    for exporter in dict.fromkeys(
        f"{d.outlet.exporter.context.id}: {d.outlet.exporter}" for d in service.parts.deliveries
    ):
        table.add_row("Out", exporter)
    table.add_row("Data", str(service.parts.config.service.data_dir))
    if service.admin.pages:
        table.add_row("Look", f"[bold]{reached(service.admin.pages)}[/]")
    table.add_row("Admin", f"http://{reached(service.admin.endpoint)}  (/readyz, /metrics, SQL at /clickhouse/)")
    err.print()
    err.print("[bold green]Spanledger is ready.[/]")
    err.print(table)
    lines = _environment(service)
    if lines:
        err.print("\nPoint a gateway or an OpenTelemetry SDK at it:\n")
        for line in lines:
            err.print(f"  {line}", markup=False, soft_wrap=True)
    if service.parts.config.source == SHIPPED:  # the commands' defaults reach no other
        name = program()
        err.print(
            f"\nNothing at hand? In another terminal: [cyan]{name} demo[/], then [cyan]{name} costs --by team,model[/]",
            soft_wrap=True,
        )
    err.print()


def reached(address: str) -> str:
    """An address that listens on every interface, as it is reached on this machine."""
    return re.sub(r"(?<![\d.])0\.0\.0\.0:", "127.0.0.1:", address).replace("[::]:", "[::1]:")


def _environment(service: Service) -> list[str]:
    """The two lines that make an OpenTelemetry exporter send here."""
    for scheme, protocol in (("grpc", "grpc"), ("http", "http/protobuf")):
        for endpoint in service.parts.endpoints:
            if endpoint.startswith(scheme):
                address = reached(endpoint.partition("://")[2])
                secure = "s" if endpoint.partition("://")[0].endswith("s") else ""
                return [f"export OTEL_EXPORTER_OTLP_ENDPOINT=http{secure}://{address}", f"export OTEL_EXPORTER_OTLP_PROTOCOL={protocol}"]  # fmt: skip
    return []
