"""The Dockerfile and the compose file against the project that they pack: no Docker here, so what can be read is compared."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from config.loader import loads

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICE = COMPOSE["services"]["spanledger"]
ENV = {"CLICKHOUSE_PASSWORD": "x", "SPANLEDGER_ADMIN_TOKEN": "t"}


def test_the_image_is_built_from_everything_that_the_package_is_made_of() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = {*project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"], "pyproject.toml", project["project"]["readme"], "LICENSE"}  # fmt: skip
    copied = {word for line in re.findall(r"^COPY (?!--)(.*)$", DOCKERFILE, re.M) for word in line.split()[:-1]}
    assert copied == wanted
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_runs_as_a_numbered_user_who_owns_where_it_writes() -> None:
    (uid,) = re.findall(r"^USER (\d+)$", DOCKERFILE, re.M)
    assert f"--uid {uid}" in DOCKERFILE
    written = {re.search(rf"{name}=(\S+)", DOCKERFILE)[1] for name in ("NUMBA_CACHE_DIR", "SPANLEDGER_DATA_DIR")}  # type: ignore[index]
    owned = set(re.findall(r"install -d -o spanledger -g spanledger (?:-m 0700 )?(\S+)", DOCKERFILE))
    assert written == owned
    assert f"VOLUME {next(path for path in written if 'lib' in path)}" in DOCKERFILE


def test_the_images_own_command_listens_where_a_published_port_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from config import load

    words: list[str] = yaml.safe_load(re.findall(r"^CMD (.*)$", DOCKERFILE, re.M)[-1])
    assert words[0] == "run"
    overrides = [word for word in words[1:] if word != "--set"]
    monkeypatch.setenv("SPANLEDGER_DATA_DIR", "/var/lib/spanledger")
    protocols = load(None, overrides=overrides).receivers["otlp"].config.protocols  # type: ignore[attr-defined]
    exposed = re.findall(r"^EXPOSE (.*)$", DOCKERFILE, re.M)[0].split()
    assert [protocols.grpc.endpoint, protocols.http.endpoint] == [f"0.0.0.0:{port}" for port in exposed]


def test_the_health_check_asks_the_admin_port_of_the_shipped_and_of_the_composed_config() -> None:
    asked = re.search(r"http://(\S+?)/readyz", DOCKERFILE)[1]  # type: ignore[index]
    for path in (ROOT / "config" / "default.yaml", ROOT / "deploy" / "spanledger.yaml"):
        loaded = loads(path.read_text(encoding="utf-8"), path.name, ENV)
        host, _, port = loaded.service.admin.endpoint.rpartition(":")
        assert f"127.0.0.1:{port}" == asked
        assert host == "127.0.0.1" or loaded.service.admin.auth is not None, "an open port without a token"


def test_the_composed_service_mounts_and_publishes_what_its_config_says() -> None:
    mounts = dict(mount.split(":")[:2] for mount in SERVICE["volumes"])
    config = ROOT / next(source for source, target in mounts.items() if target == SERVICE["command"][-1])
    loaded = loads(config.read_text(encoding="utf-8"), config.name, ENV)
    protocols = loaded.receivers["otlp"].config.protocols  # type: ignore[attr-defined]
    ports = (protocols.grpc.endpoint, protocols.http.endpoint, loaded.service.admin.endpoint)
    listening = {endpoint.rpartition(":")[2] for endpoint in ports}
    published = [port.split(":") for port in SERVICE["ports"]]
    assert {target for _, _, target in published} == listening
    assert {address for address, _, _ in published} == {"127.0.0.1"}, "on the host's loopback, unless somebody decides"
    assert mounts["spanledger-data"] == re.search(r"SPANLEDGER_DATA_DIR=(\S+)", DOCKERFILE)[1]  # type: ignore[index]
    assert "spanledger-data" in COMPOSE["volumes"]


def test_both_composed_services_know_the_same_server_and_password() -> None:
    clickhouse = COMPOSE["services"]["clickhouse"]["environment"]
    assert clickhouse["CLICKHOUSE_PASSWORD"] == SERVICE["environment"]["CLICKHOUSE_PASSWORD"]
    loaded = loads((ROOT / "deploy" / "spanledger.yaml").read_text(), "deploy", ENV | {"CLICKHOUSE_PASSWORD": "s3cret"})
    dsn = loaded.exporters["clickhouse"].config.dsn.get_secret_value()  # type: ignore[attr-defined]
    assert dsn == f"http://{clickhouse['CLICKHOUSE_USER']}:s3cret@clickhouse:8123/{clickhouse['CLICKHOUSE_DB']}"
    seconds = int(SERVICE["stop_grace_period"].removesuffix("s"))
    assert seconds > loaded.service.shutdown_timeout, "Docker kills what is still draining"


def test_grafana_asks_as_a_reader_and_prometheus_with_the_admin_ports_token() -> None:
    services, deploy = COMPOSE["services"], ROOT / "deploy"
    for service in ("clickhouse", "grafana", "prometheus"):
        for source in (volume.split(":")[0] for volume in services[service]["volumes"]):
            assert source in COMPOSE["volumes"] or (ROOT / source).exists(), source
    sources = yaml.safe_load((deploy / "grafana/provisioning/datasources/spanledger.yaml").read_text())["datasources"]
    (asked,) = (one for one in sources if one["type"] == "grafana-clickhouse-datasource")
    users = (deploy / "grafana/clickhouse-reader.xml").read_text(encoding="utf-8")
    (user,) = ElementTree.fromstring(users).findall("./users/*")
    password = user.find("password").get("from_env")  # type: ignore[union-attr]
    assert asked["jsonData"]["username"] == user.tag != services["clickhouse"]["environment"]["CLICKHOUSE_USER"]
    assert asked["secureJsonData"]["password"] == f"${{{password}}}"
    assert services["clickhouse"]["environment"][password] == services["grafana"]["environment"][password]
    assert asked["jsonData"]["defaultDatabase"] == services["clickhouse"]["environment"]["CLICKHOUSE_DB"]
    assert [grant.text for grant in user.findall("./grants/query")] == [
        f"GRANT SELECT ON {asked['jsonData']['defaultDatabase']}.*"
    ]
    assert services["grafana"]["environment"]["GF_AUTH_ANONYMOUS_ENABLED"] == "false"

    scrape = yaml.safe_load((deploy / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"][0]
    (config,) = services["prometheus"]["configs"]
    assert config["target"] == scrape["authorization"]["credentials_file"]
    assert COMPOSE["configs"][config["source"]]["content"] == SERVICE["environment"]["SPANLEDGER_ADMIN_TOKEN"]
    admin = loads((deploy / "spanledger.yaml").read_text(), "deploy", ENV).service.admin
    (target,) = scrape["static_configs"][0]["targets"]
    host, _, port = target.rpartition(":")
    assert host in admin.allowed_hosts
    assert port == admin.endpoint.rpartition(":")[2]
    (url,) = (one["url"] for one in sources if one["type"] == "prometheus")
    assert url.split("/")[2].split(":")[0] in services
