"""What is measured: whole processes, from outside, and the senders that load them."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import grpc

from benchmarks.payloads import Requests

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
TICKS = os.sysconf("SC_CLK_TCK")
IN_FLIGHT = 4


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: CPU in seconds of the whole process (user and system, all threads), resident memory in bytes."""

    spans: int
    cpu_s: float
    wall_s: float
    rss_bytes: int

    @property
    def us_per_span(self) -> float:
        """CPU microseconds per span."""
        return self.cpu_s / self.spans * 1e6


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_bytes(pid: int) -> int:
    """Resident memory without what is shared with files: the store's mapped pages are cache, not use."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


@contextlib.contextmanager
def process(command: list[str], log: Path, port: int, env: dict[str, str] | None = None) -> Iterator[int]:
    """Run a server until the block ends; yields its pid once `port` takes connections."""
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})})
        try:
            for _ in range(1200):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
                    break
                if server.poll() is not None:
                    raise SystemExit(f"{command[0]} ended: {log.read_text()[-2000:]}")
                time.sleep(0.1)
            else:
                raise SystemExit(f"{command[0]} did not listen on {port}: {log.read_text()[-2000:]}")
            yield server.pid
        finally:
            server.terminate()
            try:
                server.wait(60)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


@dataclass(frozen=True, slots=True)
class Setup:
    """What is set up between the same receivers and the same sink. `{sink}` in a text stands for the sink's URL."""

    title: str
    rotel: tuple[str, ...]  # its exporter; none: ours is compared with ours in the setup `store`
    processors: Mapping[str, str]  # ours, with their options as YAML
    exporters: str  # ours, as YAML


_PRICED = {"attribution": "", "pricing": ""}
#: Something of everything that watches calls, in numbers as companies have them.
_CONTROLS = {
    "anomaly": "",
    "behaviour": "{groups: [{model: gpt-4o, weights: {azure-eu: 3, azure-us: 1}}]}",
    "budgets": "{budgets: {teams: {per: [team], usd: 500, window: month}, users: {per: [team, user], tokens: 20000000, window: day}, keys: {per: [api_key], usd: 50, window: day}}}",
    "routing": '{routes: [{match: {team: team-1, input_tokens_lt: 1000}, route_to: gpt-4o-mini}, {match: {model: "gpt-4.1*"}, route_to: gpt-4o}]}',
}  # fmt: skip

SETUPS = {
    "store": Setup(
        "to a ClickHouse HTTP sink",
        ("--exporter", "clickhouse", "--clickhouse-exporter-endpoint", "{sink}"),
        _PRICED,
        'clickhouse: {dsn: "{sink}/spanledger"}',
    ),
    "chain": Setup(
        "redacted, to an OTLP/HTTP sink (gzip)",
        ("--exporter", "otlp", "--otlp-exporter-protocol", "http", "--otlp-exporter-endpoint", "{sink}"),
        {**_PRICED, "redaction": "", "privacy": ""},
        'otlphttp: {endpoint: "{sink}"}',
    ),
    "control": Setup(
        "with budgets, routing, anomalies, behaviour and guardrails, beside the same without",
        (),
        {"guardrails": "", **_PRICED, **_CONTROLS},
        'clickhouse: {dsn: "{sink}/spanledger"}',
    ),
    "broken": Setup(
        "as control, with rules that every call breaks",
        (),
        {"guardrails": "", **_PRICED, **_CONTROLS, "routing": '{rules: [{deny_models: ["*"], deny_providers: ["*"]}]}'},
        'clickhouse: {dsn: "{sink}/spanledger"}',
    ),
}


def rotel_command(port: int, http_port: int, sink: str, setup: Setup) -> list[str]:
    """Rotel's agent: OTLP in and out, nothing in between."""
    import rotel

    agent = Path(rotel.__file__).parent / "rotel-agent"
    return [
        str(agent),
        "start",
        *("--otlp-grpc-endpoint", f"127.0.0.1:{port}"),
        *("--otlp-http-endpoint", f"127.0.0.1:{http_port}"),
        *("--otlp-grpc-max-recv-msg-size-mib", "64"),
        *(argument.replace("{sink}", sink) for argument in setup.rotel),
    ]


def spanledger_command(
    folder: Path, port: int, http_port: int, admin: int, sink: str, service: str = "", setup: Setup = SETUPS["store"]
) -> list[str]:
    """The processors of a setup, durable inbox included, to the same sink. `service`: further lines of that section."""
    processors = "\n".join(f"  {name}: {options}" for name, options in setup.processors.items())
    exporter = setup.exporters.partition(":")[0]
    shutil.rmtree(folder / "data", ignore_errors=True)
    config = folder / "bench.yaml"
    config.write_text(
        f"""
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: "127.0.0.1:{port}"}}
      http: {{endpoint: "127.0.0.1:{http_port}"}}
processors:
{processors}
exporters:
  {setup.exporters.replace("{sink}", sink)}
service:
  data_dir: {folder / "data"}
  admin: {{endpoint: "127.0.0.1:{admin}"}}
{service}
  pipelines:
    traces: {{receivers: [otlp], processors: [{", ".join(setup.processors)}], exporters: [{exporter}]}}
"""
    )
    return [sys.executable, "-m", "spanledger", "run", "--config", str(config)]


class _Call(Protocol):
    """A gRPC call under way."""

    def done(self) -> bool: ...
    def result(self) -> object: ...


def load(port: int, bodies: Iterable[bytes]) -> None:
    """Send requests over gRPC, a few in flight, until all were answered OK. Raises on any other answer."""
    options = [("grpc.max_send_message_length", 256 << 20)]
    waiting = iter(bodies)
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        export: Any = channel.unary_unary(EXPORT)
        pending: set[_Call] = {export.future(body, timeout=60) for body in itertools.islice(waiting, IN_FLIGHT)}
        while pending:
            done, pending = _first_done(pending)
            for call in done:
                call.result()
                pending |= {export.future(body, timeout=60) for body in itertools.islice(waiting, 1)}


def _first_done(pending: set[_Call]) -> tuple[list[_Call], set[_Call]]:
    while True:
        done = [call for call in pending if call.done()]
        if done:
            return done, pending - set(done)
        time.sleep(0.0005)


def measure(pid: int, port: int, requests: Requests, spans: int, settled: object) -> Measured:
    """Load a server and wait until everything has arrived at the sink; `settled()` blocks until then."""
    # Made before: the two cores are for the server and the sending.
    bodies = [requests.next() for _ in range(-(-spans // requests.spans))]
    before, start = cpu_seconds(pid), time.monotonic()
    load(port, bodies)
    settled()  # type: ignore[operator]
    return Measured(len(bodies) * requests.spans, cpu_seconds(pid) - before, time.monotonic() - start, rss_bytes(pid))
