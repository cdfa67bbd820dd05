"""kill -9 while anomalies are watched: the findings of a simulated company are those of a run that nobody disturbed."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from spanledger.demo.company import World
from spanledger.demo.incidents import Incident, Kind
from spanledger.demo.reports import Reporter
from spanledger.demo.rhythm import DAY_NS, HOUR_NS
from spanledger.demo.traffic import by_day
from tests.cli_kit import Server, serve
from tests.collector_kit import Collector

SEED, DAYS, KILLS = 3, 2, 2
_DEFAULT = Path(__file__).parents[2] / "config" / "default.yaml"
#: All that is known of findings; not when a row came.
_FINDINGS = "SELECT * FROM llm_findings ORDER BY Kind, toString(Subject), FirstSeen"


def config(collector: Collector, hook: str) -> str:
    """As shipped, but for a shorter time to get to know the company, and somebody who is told."""
    made: dict[str, Any] = yaml.safe_load(_DEFAULT.read_text(encoding="utf-8").replace("${env:SPANLEDGER_DATA_DIR:-spanledger-data}", str(collector.folder / "data")))  # fmt: skip
    made["receivers"] = {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{collector.http}"}}}}
    made["processors"]["anomaly"] = {"warm_up": "12h"}
    made["exporters"]["notify"] = {"targets": {"hook": {"webhook": hook}}, "routes": [{"min_severity": "info", "to": ["hook"]}]}  # fmt: skip
    made["service"]["admin"]["endpoint"] = f"127.0.0.1:{collector.admin}"
    made["service"]["batch"] = {"timeout": "50ms"}
    made["service"]["pipelines"]["traces"]["exporters"].append("notify")
    return yaml.safe_dump(made)


def requests(start_ns: int) -> list[bytes]:
    """What the company's gateway and apps send, half an hour at a time; on the second day an agent loops and a provider is slow."""
    world = World.seeded(SEED, calls_a_day=1500)
    app = max(world.workloads, key=lambda one: one.calls_a_day)
    busiest = world.offer(app.models[0][0]).model.provider
    noon = start_ns + DAY_NS + 13 * HOUR_NS
    troubles = [
        Incident(Kind.RUNAWAY_LOOP, (("app", app.app), ("team", app.team)), noon, noon + HOUR_NS, 40.0),
        Incident(Kind.PROVIDER_SLOW, (("provider", busiest),), noon + 3 * HOUR_NS, noon + 6 * HOUR_NS, 5.0),
    ]
    reporter = Reporter(world)
    bodies: list[bytes] = []
    for day in by_day(world, start_ns, DAYS, troubles):
        part = day.calls["start_ns"] // (HOUR_NS // 2)
        parts = day.calls.with_columns(part.alias("part")).partition_by("part", maintain_order=True, include_key=False)
        bodies += [b"".join(body for body, _ in reporter.requests(calls)) for calls in parts]
    return bodies


def run(folder: Path, bodies: Sequence[bytes], kills: Mapping[int, float]) -> tuple[list[list[Any]], list[str]]:
    """Send it all; the process is killed so many seconds after some of the requests. All findings, and what was told of them."""
    folder.mkdir()
    collector = Collector(folder)
    hook: Server
    with serve(lambda request: (200, {}, b"")) as hook:
        collector.config.write_text(config(collector, f"http://{hook.address}/"))
        try:
            collector.start()
            for number, body in enumerate(bodies):
                assert collector.post(body)[0] == 200
                if number in kills:
                    time.sleep(kills[number])
                    collector.kill()
                    collector.start()
            collector.settled()
            found = collector.sql(_FINDINGS)
            assert collector.stop() == 0
        finally:
            collector.close()
    return found, sorted({json.loads(request.body)["id"] for request in hook.requests})


@pytest.mark.timeout(300)
def test_findings_are_those_of_an_undisturbed_run_whatever_is_killed_and_wherever_batches_end(tmp_path: Path) -> None:
    day = time.time_ns() // DAY_NS - DAYS - 1
    bodies = requests((day - (day + 3) % 7) * DAY_NS)  # from a Monday on
    found, told = run(tmp_path / "whole", bodies, {})
    said = json.dumps(found)
    assert {kind for kind in ("new", "input_tokens", "latency") if f'"anomaly.{kind}"' in said} == {
        "new",
        "input_tokens",
        "latency",
    }
    assert any(one.endswith("/opened") for one in told)
    assert any(one.endswith("/resolved") for one in told)
    dice = random.Random(SEED)
    joined, rest = [], list(bodies)
    while rest:  # the same spans in the same order, in other requests
        size = dice.randint(1, 5)
        joined.append(b"".join(rest[:size]))
        del rest[:size]
    second_day = range(len(joined) // 2, len(joined))
    kills = {number: dice.uniform(0.0, 0.15) for number in dice.sample(second_day, KILLS)}
    again, told_again = run(tmp_path / "killed", joined, kills)
    assert again == found
    assert told_again == told
