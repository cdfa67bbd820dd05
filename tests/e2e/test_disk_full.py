"""The disk runs full under load: senders are told to come back, and once there is room everything is there, once."""

from __future__ import annotations

import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clickhouse_kit import clickhouse_server
from tests.collector_kit import Collector
from tests.spans_kit import calls

CALLS = 10


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A collector's data directory on a disk of its own, of 40 MiB."""
    disk = tmp_path / "data"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m,mode=700", "tmpfs", disk], capture_output=True).returncode:  # fmt: skip
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def fill(disk: Path) -> Path:
    """Take what is left of a disk, to the last byte; gives the file to delete."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(os.urandom(4096)):
                pass
        except OSError:
            pass
    return filler


class Sender:
    """Sends requests of ten calls, and again later what was not taken."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._refused: list[bytes] = []
        self.made = 0

    def send(self, count: int) -> list[int]:
        """New requests; their statuses."""
        statuses = []
        for _ in range(count):
            ids = [f"call-{self.made}-{place}" for place in range(CALLS)]
            self.made += 1
            body = calls(ids, {"note": "x" * 2000})
            statuses.append(self._collector.post(body)[0])
            if statuses[-1] != 200:
                self._refused.append(body)
        return statuses

    def send_again(self) -> None:
        """What was refused, until it is taken."""
        until = time.monotonic() + 30
        for body in self._refused:
            while (status := self._collector.post(body)[0]) != 200:
                assert status == 503
                assert time.monotonic() < until, "there is room, and yet it is not taken"
                time.sleep(0.05)
        self._refused.clear()


def wish_to_wait(collector: Collector) -> str | None:
    """Retry-After of a request that is refused."""
    url = f"http://127.0.0.1:{collector.http}/v1/traces"
    request = urllib.request.Request(url, calls(["probe"]), {"content-type": "application/x-protobuf"})
    with pytest.raises(urllib.error.HTTPError, match="503") as refused:
        urllib.request.urlopen(request, timeout=30)
    return refused.value.headers["retry-after"]


@pytest.mark.parametrize("crash", [False, True], ids=["goes on", "killed meanwhile"])
def test_a_full_disk_loses_nothing_and_counts_nothing_twice(data: Path, crash: bool) -> None:
    with clickhouse_server(data.parent) as server:
        exporter = ", retry_on_failure: {initial_interval: 50ms, max_interval: 200ms}"
        collector = Collector(data.parent, server.dsn, exporter)
        sender = Sender(collector)
        try:
            collector.start()
            assert set(sender.send(20)) == {200}
            filler = fill(data)
            statuses = sender.send(60)
            assert set(statuses) <= {200, 503}
            assert statuses[-1] == 503, "a disk without a free byte takes nothing for long"
            assert wish_to_wait(collector) is not None
            status, body = collector.get("/readyz")
            assert (status, b"the inbox cannot be written" in body) == (503, True)
            assert b"the disk is full" in collector.get("/status")[1]
            if crash:
                collector.kill()
            filler.unlink()
            if crash:
                collector.start()
            sender.send_again()
            assert set(sender.send(20)) == {200}
            collector.settled()
            assert collector.get("/readyz")[0] == 200
            assert server.sql("SELECT count(), uniqExact(ResponseId) FROM spanledger.llm_calls") == [[sender.made * CALLS] * 2]  # fmt: skip
            assert server.sql("SELECT toUInt64(sum(Calls)) FROM spanledger.llm_costs_hourly") == server.sql("SELECT count() FROM spanledger.llm_calls")  # fmt: skip
        finally:
            collector.close()
