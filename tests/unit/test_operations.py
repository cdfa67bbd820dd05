"""What docs/operations.md and deploy/ say about running it, against what runs: metrics, ports, paths, times."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.loader import loads
from spanledger.service import Service

ROOT = Path(__file__).parents[2]
ENV = {"SPANLEDGER_ADMIN_TOKEN": "admin", "SPANLEDGER_OTLP_TOKEN": "otlp"}
#: Names that begin like a metric: a table, and a cluster in a config of Envoy.
NO_METRICS = {"spanledger_schema", "spanledger_verdict"}
EVERYTHING = """
receivers: {{otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:0"}}}}}}}}
processors:
  attribution:
  redaction:
  pricing:
  privacy:
  anomaly:
  budgets: {{shared: true, budgets: {{teams: {{per: [team], usd: 5}}}}}}
exporters: {{clickhouse: {{dsn: "http://127.0.0.1:1/spanledger"}}}}
service:
  data_dir: {data}
  pipelines: {{traces: {{receivers: [otlp], processors: [attribution, redaction, pricing, privacy, anomaly, budgets], exporters: [clickhouse]}}}}
"""


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of the samples that a collector with everything has at /metrics; without a sample yet, of their families."""
    service = Service(loads(EVERYTHING.format(data=tmp_path_factory.mktemp("data")), "everything.yaml"))
    found: set[str] = set()
    for family in service.parts.metrics.collect():
        found |= {sample.name for sample in family.samples} | {
            f"{family.name}_total" if family.type == "counter" else family.name
        }
    service.stop(0)
    return found


@pytest.mark.parametrize("page", ["README.md", "deploy/alerts.yml", *sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "docs").glob("*.md"))])  # fmt: skip
def test_metrics_have_the_names_that_are_written(page: str, metrics: set[str]) -> None:
    """As they stand at /metrics, `_total` included: they are pasted into alerts."""
    named = set(re.findall(r"\bspanledger_[a-z_]+[a-z]", (ROOT / page).read_text(encoding="utf-8"))) - NO_METRICS
    assert named <= metrics
    if page == "deploy/alerts.yml":
        assert len(named) > 5


def test_the_unit_gives_a_stop_its_time_and_a_place_to_write() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ROOT / "deploy" / "spanledger.service")
    service = unit["Service"]
    assert service["ExecStart"].split()[1:3] == ["run", "--config"]
    environment = dict(word.split("=") for word in service["Environment"].split())
    assert environment["SPANLEDGER_DATA_DIR"] == f"/var/lib/{service['StateDirectory']}"
    assert environment["NUMBA_CACHE_DIR"] == f"/var/cache/{service['CacheDirectory']}"
    assert int(service["TimeoutStopSec"]) > loads("service: {pipelines: {traces: {receivers: [otlp], exporters: [nop]}}}\nreceivers: {otlp: }\nexporters: {nop: }", "x").service.shutdown_timeout  # fmt: skip
    assert "MemoryDenyWriteExecute" not in service, "kernels are compiled while it runs"


def test_the_pod_runs_the_image_as_it_is_built() -> None:
    """Config, ports, probes, user and volume agree with one another and with the Dockerfile."""
    config, front, pod = yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text(encoding="utf-8"))
    loaded = loads(config["data"]["spanledger.yaml"], "kubernetes", ENV)
    assert not loaded.warnings
    settings = loaded.service
    spec: dict[str, Any] = pod["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    protocols = loaded.receivers["otlp"].config.protocols  # type: ignore[attr-defined]
    listens = {int(e.rpartition(":")[2]) for e in (protocols.grpc.endpoint, protocols.http.endpoint, settings.admin.endpoint)}  # fmt: skip
    named = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert set(named.values()) == listens
    assert {port["targetPort"]: port["port"] for port in front["spec"]["ports"]} == named
    assert front["spec"]["selector"] == spec_labels(pod) == pod["spec"]["selector"]["matchLabels"]
    assert front["metadata"]["name"] == pod["spec"]["serviceName"]
    assert protocols.grpc.auth is not None, "every pod of the cluster reaches it"
    assert settings.admin.auth is not None
    assert front["metadata"]["name"] in settings.admin.allowed_hosts
    assert {probe["httpGet"]["path"] for name, probe in container.items() if name.endswith("Probe")} == {"/readyz", "/healthz"}  # fmt: skip
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts["data"] == str(settings.data_dir)
    assert {"data", *(volume["name"] for volume in spec["volumes"])} == set(mounts)
    assert container["args"] == ["run", "--config", f"{mounts['config']}/{next(iter(config['data']))}"]
    assert f"USER {spec['securityContext']['runAsUser']}\n" in (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert spec["terminationGracePeriodSeconds"] > settings.shutdown_timeout
    assert {e["name"] for e in container["env"]} == set(ENV)


def spec_labels(pod: dict[str, Any]) -> dict[str, str]:
    labels: dict[str, str] = pod["spec"]["template"]["metadata"]["labels"]
    return labels
