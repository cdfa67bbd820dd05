"""Peers that price spans too: Arize Phoenix, read by its GraphQL, and MLflow, read by its REST interface.

Both are released packages in a virtual environment of their own, run without network: no telemetry, no downloaded price list.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.processes import free_port
from benchmarks.systems import Shown, System, pico

PEERS = Path(__file__).parent / ".venv-peers"


class NotInstalled(Exception):
    """A peer is not there; the message says how to get it."""


class Phoenix(System):
    """Arize Phoenix. It answers before it stores, and prices later still."""

    name = "Phoenix"

    def version(self) -> str:
        return peer_version("arize-phoenix")

    def command(self) -> tuple[list[str], dict[str, str]]:
        env = {
            "PHOENIX_WORKING_DIR": str(self.folder),
            "PHOENIX_HOST": "127.0.0.1",
            "PHOENIX_PORT": str(self.port),
            "PHOENIX_GRPC_PORT": str(free_port()),
            "PHOENIX_TELEMETRY_ENABLED": "false",
            "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
        }
        return [peer_program("phoenix"), "serve"], env

    def ready(self) -> bool:
        with urllib.request.urlopen(self.url("/healthz"), timeout=10) as answer:
            return bool(answer.status == 200)

    def settle(self, spans: int) -> None:
        before, since = "", time.monotonic()

        def done() -> bool:
            nonlocal before, since
            projects = self._projects("recordCount costSummary { total { cost } }")
            if json.dumps(projects) != before:
                before, since = json.dumps(projects), time.monotonic()
            return sum(p["recordCount"] for p in projects) == spans and time.monotonic() - since > 5

        self._wait(done, 600, f"did not store {spans} spans")

    def shown(self) -> list[Shown]:
        query = """query ($id: ID!, $after: String) { node(id: $id) { ... on Project { spans(first: 500, after: $after) {
            pageInfo { hasNextPage endCursor }
            edges { node { trace { traceId } costSummary { total { cost } } } } } } } }"""
        found: list[Shown] = []
        for project in self._projects("id"):
            page: dict[str, Any] = {"hasNextPage": True, "endCursor": None}
            while page["hasNextPage"]:
                variables = {"id": project["id"], "after": page["endCursor"]}
                spans = self._graphql(query, variables)["node"]["spans"]
                page = spans["pageInfo"]
                costs = ((s["trace"]["traceId"], s["costSummary"]) for s in (edge["node"] for edge in spans["edges"]))
                found += [
                    Shown(trace, pico(sums["total"]["cost"])) for trace, sums in costs if sums and sums["total"]["cost"]
                ]
        return found

    def _projects(self, fields: str) -> list[dict[str, Any]]:
        answer = self._graphql(f"{{ projects {{ edges {{ node {{ {fields} }} }} }} }}")
        return [edge["node"] for edge in answer["projects"]["edges"]]

    def _graphql(self, query: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = self._post(self.url("/graphql"), {"query": query, "variables": variables or {}})
        if errors := answer.get("errors"):
            raise SystemExit(f"Phoenix: {errors}")
        data: dict[str, Any] = answer["data"]
        return data


class MLflow(System):
    """MLflow's tracking server on SQLite. Its overview sums the cost of spans; a trace has a cost of its own."""

    name = "MLflow"
    headers = {"x-mlflow-experiment-id": "0"}

    def version(self) -> str:
        return peer_version("mlflow")

    def command(self) -> tuple[list[str], dict[str, str]]:
        env = {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            "MLFLOW_MODEL_CATALOG_URI": "",  # the price list that it ships, no download
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "PATH": f"{PEERS / 'bin'}:{os.environ['PATH']}",
        }
        command = [peer_program("mlflow"), "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        return [*command, "--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"], env

    def ready(self) -> bool:
        with urllib.request.urlopen(self.url("/health"), timeout=10) as answer:
            return bool(answer.status == 200)

    def settle(self, spans: int) -> None:
        """It answers after it has stored."""

    def shown(self) -> list[Shown]:
        spans = [span for info in self._traces() for span in self._spans(info["trace_id"])]
        costs = ((base64.b64decode(span["trace_id"]).hex(), _total_cost(span.get("attributes", []))) for span in spans)
        return [Shown(trace, pico(cost)) for trace, cost in costs if cost]

    def traces(self) -> dict[str, int]:
        sums = {}
        for info in self._traces():
            cost = json.loads(info.get("trace_metadata", {}).get("mlflow.trace.cost", "{}")).get("total_cost")
            sums[info["trace_id"].removeprefix("tr-")] = pico(cost or 0)
        return sums

    def _spans(self, trace_id: str) -> list[dict[str, Any]]:
        query = urllib.parse.urlencode({"trace_id": trace_id})
        spans: list[dict[str, Any]] = self._get(self.url(f"/api/3.0/mlflow/traces/get?{query}"))["trace"]["spans"]
        return spans

    def _traces(self) -> Iterator[dict[str, Any]]:
        location = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}
        token = ""
        while True:
            body = {"locations": [location], "max_results": 500, **({"page_token": token} if token else {})}
            page = self._post(self.url("/api/3.0/mlflow/traces/search"), body)
            yield from page.get("traces", [])
            token = page.get("next_page_token", "")
            if not token:
                return


def _total_cost(attributes: list[dict[str, Any]]) -> float:
    """`total_cost` of MLflow's cost attribute: a list of pairs, or the same as JSON text; 0 without one."""
    value: dict[str, Any] = next((a["value"] for a in attributes if a["key"] == "mlflow.llm.cost"), {})
    if text := value.get("string_value"):
        return float(json.loads(text).get("total_cost") or 0)
    pairs = {pair["key"]: pair["value"] for pair in value.get("kvlist_value", {}).get("values", [])}
    return float(pairs.get("total_cost", {}).get("double_value") or 0)


# The peers' own environment ----------------------------------------------------------------------------------------
def install() -> None:
    """Phoenix and MLflow as released, into a virtual environment of their own (1.3 GB)."""
    subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True)
    requirements = Path(__file__).parent / "peers.txt"
    pip = [peer_program("pip"), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--requirement", str(requirements)], check=True)


def missing(names: Sequence[str]) -> list[str]:
    """Those of `names` whose program is not installed."""
    return [name for name in names if name != "spanledger" and not (PEERS / "bin" / name).exists()]


def peer_program(name: str) -> str:
    program = PEERS / "bin" / name
    if not program.exists():
        raise NotInstalled(f"{program} is not there: `python -m benchmarks.accuracy --install` gets it")
    return str(program)


def peer_version(package: str) -> str:
    """Of an installed peer."""
    question = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run(
        [peer_program("python"), "-c", question], check=True, capture_output=True, text=True
    ).stdout.strip()
