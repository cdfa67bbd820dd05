"""A real collector process, as a user runs it, for end-to-end tests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CONFIG = """
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: "127.0.0.1:{grpc}"}}
      http: {{endpoint: "127.0.0.1:{http}"}}
processors:
  attribution:
  pricing:
exporters:
  clickhouse: {{dsn: "{dsn}"{exporter}}}
  nop:
service:
  data_dir: {data}
  batch: {{timeout: 50ms}}
  admin: {{endpoint: "127.0.0.1:{admin}"}}
{service}
  pipelines:
    traces: {{receivers: [otlp], processors: [attribution, pricing], exporters: [clickhouse]}}
    logs: {{receivers: [otlp], exporters: [clickhouse]}}
    metrics: {{receivers: [otlp], exporters: [nop]}}
"""


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


class Collector:
    """`spanledger run` in a process of its own. `start` and `kill` may be called again and again on the same data."""

    def __init__(self, folder: Path, dsn: str | None = None, exporter: str = "", service: str = "") -> None:
        self.grpc, self.http, self.admin = free_ports(3)
        self.folder = folder
        self.log = folder / "collector.log"
        self.config = folder / "spanledger.yaml"
        data = folder / "data"
        self.config.write_text(
            CONFIG.format(
                grpc=self.grpc, http=self.http, admin=self.admin, data=data,
                dsn=dsn or f"chdb://{data}/clickhouse", exporter=exporter, service=service,
            )
        )  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, timeout: float = 90, env: dict[str, str] | None = None) -> None:
        """Run it and wait until it is ready."""
        command = [sys.executable, "-m", "spanledger", "run", "--config", str(self.config)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **(env or {})})
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                if self.get("/readyz")[0] == 200:
                    return
            if self._process.poll() is not None:
                raise AssertionError(f"the collector ended: {self.log.read_text()[-3000:]}")
            time.sleep(0.05)
        raise AssertionError(f"not ready after {timeout} s: {self.log.read_text()[-3000:]}")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End it as a power cut would, as far as the process goes."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self, timeout: float = 60) -> int:
        """Ask it to stop; its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def get(self, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Status and body of a page of the admin port."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", body, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def sql(self, statement: str) -> list[list[Any]]:
        """Rows of a query to the embedded store."""
        status, body = self.get("/clickhouse/?default_format=JSONCompact", statement.encode())
        assert status == 200, body.decode()
        rows: list[list[Any]] = json.loads(body)["data"]
        return rows

    def metric(self, name: str, **labels: str) -> float:
        """A sample of the admin port's metrics, 0 where there is none."""
        pairs = ",".join(f'{key}="{value}"' for key, value in labels.items())
        wanted = f"{name}{{{pairs}}} "
        lines = self.get("/metrics")[1].decode().splitlines()
        return next((float(line.removeprefix(wanted)) for line in lines if line.startswith(wanted)), 0.0)

    def settled(self, timeout: float = 180) -> None:
        """Wait until everything that was taken in has been delivered."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            status = json.loads(self.get("/status")[1])
            assert not status["dead_letters"], f"dead letters: {self.log.read_text()[-6000:]}"
            waiting = sum(p["waiting_items"] for p in status["pipelines"].values())
            waiting += sum(e["waiting_deliveries"] for e in status["exporters"].values())
            if not waiting:
                return
            time.sleep(0.05)
        raise AssertionError(f"still waiting after {timeout} s: {self.get('/status')[1]!r}")

    def post(self, body: bytes, headers: dict[str, str] | None = None, path: str = "/v1/traces") -> tuple[int, bytes]:
        """Send one OTLP/HTTP request; status and body of the answer."""
        url = f"http://127.0.0.1:{self.http}{path}"
        request = urllib.request.Request(url, body, {"content-type": "application/x-protobuf", **(headers or {})})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run another command of Spanledger: with the same config, or, for those that send, to this receiver."""
        if words[0] in ("send", "demo"):
            options = ["--endpoint", f"http://127.0.0.1:{self.http}"]
        else:
            options = ["--config", str(self.config)]
        command = [sys.executable, "-m", "spanledger", *words, *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@contextlib.contextmanager
def running(folder: Path, dsn: str | None = None, exporter: str = "", service: str = "") -> Iterator[Collector]:
    """A collector for the length of a block."""
    collector = Collector(folder, dsn, exporter, service)
    try:
        collector.start()
        yield collector
    finally:
        collector.close()
