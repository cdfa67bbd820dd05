"""A system that puts a price on spans, run as its users run it; Spanledger is the first.

It is a server process on loopback ports, with a temporary directory and otherwise its defaults. It gets OTLP/HTTP requests,
and what it shows is read back through its own interface.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from abc import ABC, abstractmethod
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from benchmarks.processes import free_port

PICO = Decimal(10) ** 12


@dataclass(frozen=True, slots=True)
class Shown:
    """An amount that a system shows for one span or call. `marked`: it says itself that the amount rests on an assumption."""

    trace_id: str
    usd_pico: int
    marked: bool = False


def pico(usd: float | str) -> int:
    """Dollars as an API gives them (a double, or decimal text) in whole pico-dollars."""
    return round(Decimal(str(usd)) * PICO)


class System(ABC):
    """A server under comparison. `with` starts and ends it; then `send` requests in order, `settle`, and read."""

    name: str
    headers: dict[str, str] = {}

    def __init__(self, folder: Path) -> None:
        self.folder = folder / self.name.lower()
        self.folder.mkdir()
        self.log = self.folder / "server.log"
        self.port = free_port()
        self._server: subprocess.Popen[bytes] | None = None

    # What each one does in its own way ---------------------------------------------------------------------------
    @abstractmethod
    def version(self) -> str: ...

    @abstractmethod
    def command(self) -> tuple[list[str], dict[str, str]]:
        """Command line and additional environment."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether it takes requests; raises OSError before it listens."""

    @abstractmethod
    def settle(self, spans: int) -> None:
        """Wait until all `spans` are stored and priced."""

    @abstractmethod
    def shown(self) -> list[Shown]:
        """Every priced span (or call)."""

    def traces(self) -> dict[str, int] | None:
        """Pico-dollars per trace, where the system has a sum of its own that is not that of `shown`."""
        return None

    # What all do in the same way ---------------------------------------------------------------------------------
    def __enter__(self) -> System:
        command, env = self.command()
        with self.log.open("wb") as log:
            self._server = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, env={**os.environ, **env}, start_new_session=True
            )
        try:
            self._wait(self.ready, 240, "not ready")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        group = self._server.pid  # the leader of a session of its own: MLflow's workers go with it
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGTERM)
        try:
            self._server.wait(30)
        except subprocess.TimeoutExpired:
            pass
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        self._server.wait()

    def send(self, body: bytes) -> None:
        """One OTLP/HTTP request. Raises on any answer but 200."""
        headers = {"content-type": "application/x-protobuf", **self.headers}
        request = urllib.request.Request(self.url("/v1/traces"), body, headers)
        with urllib.request.urlopen(request, timeout=120) as answer:
            assert answer.status == 200

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def _get(self, url: str) -> Any:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return json.load(answer)

    def _post(self, url: str, body: object) -> Any:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def _wait(self, done: Any, timeout: float, complaint: str) -> None:
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                if done():
                    return
            assert self._server is not None
            if self._server.poll() is not None:
                break
            time.sleep(0.25)
        raise SystemExit(f"{self.name}: {complaint}; its log ends: {self.log.read_text()[-2000:]}")


class Spanledger(System):
    """This collector with the shipped processors and the embedded store."""

    name = "Spanledger"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.admin = free_port()

    def version(self) -> str:
        from importlib.metadata import version

        return f"{version('spanledger')}, genai-prices {version('genai-prices')}"

    def command(self) -> tuple[list[str], dict[str, str]]:
        config, data = self.folder / "accuracy.yaml", self.folder / "data"
        config.write_text(
            f"""
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: "127.0.0.1:{free_port()}"}}
      http: {{endpoint: "127.0.0.1:{self.port}"}}
processors:
  attribution:
  pricing:
exporters:
  clickhouse: {{dsn: "chdb://{data}/clickhouse"}}
service:
  data_dir: {data}
  admin: {{endpoint: "127.0.0.1:{self.admin}"}}
  pipelines:
    traces: {{receivers: [otlp], processors: [attribution, pricing], exporters: [clickhouse]}}
"""
        )
        return [sys.executable, "-m", "spanledger", "run", "--config", str(config)], {}

    def ready(self) -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/readyz", timeout=10) as answer:
            return bool(answer.status == 200)

    def settle(self, spans: int) -> None:
        def done() -> bool:
            status = self._get(f"http://127.0.0.1:{self.admin}/status")
            waiting = sum(pipeline["waiting_items"] for pipeline in status["pipelines"].values())
            return not waiting + sum(exporter["waiting_deliveries"] for exporter in status["exporters"].values())

        self._wait(done, 120, "not everything was delivered")
        stored = int(self._sql("SELECT count() FROM otel_traces")[0][0])
        if stored != spans:
            raise SystemExit(f"Spanledger stored {stored} of {spans} spans")

    def shown(self) -> list[Shown]:
        rows = self._sql(
            "SELECT TraceId, toString(CostUSD), notEmpty(PriceAssumptions) FROM llm_calls WHERE CostUSD > 0"
        )
        return [Shown(trace, pico(cost), bool(marked)) for trace, cost, marked in rows]

    def _sql(self, statement: str) -> list[list[Any]]:
        url = f"http://127.0.0.1:{self.admin}/clickhouse/?default_format=JSONCompact"
        rows: list[list[Any]] = self._post(url, statement)["data"]
        return rows
