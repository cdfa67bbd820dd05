"""The ClickHouse exporter's matrix over a ClickHouse server in Docker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.clickhouse_matrix import *  # noqa: F403

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def dsn() -> Iterator[str]:
    docker = pytest.importorskip("docker")
    try:
        docker.from_env().ping()
    except Exception as error:
        pytest.skip(f"no Docker engine answers: {error}")
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.waiting_utils import wait_for_logs

    image = DockerContainer("clickhouse/clickhouse-server:latest").with_env("CLICKHOUSE_PASSWORD", "test")
    with image.with_exposed_ports(8123) as server:
        wait_for_logs(server, "Ready for connections", 60)
        yield f"http://default:test@{server.get_container_host_ip()}:{server.get_exposed_port(8123)}/"
