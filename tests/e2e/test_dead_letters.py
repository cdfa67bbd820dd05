"""Dead letters while the collector runs: they can be looked at, put back and deleted, by its own command alone."""

from __future__ import annotations

import json
from pathlib import Path

from collector.store import DeadLetter, StateStore, open_sealer
from config.model import EncryptionConfig
from spanledger.admin.control import Control, find, publish
from tests.collector_kit import Collector
from tests.spans_kit import calls


def test_a_running_collector_puts_back_and_deletes(tmp_path: Path) -> None:
    """Scenario: an upgrade mended what three requests failed on. They are put back without a stop and counted once; a
    fourth, of a pipeline that is no more, stays until it is deleted."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    store = StateStore(data / "state", open_sealer(EncryptionConfig(), data))
    with store.transaction() as transaction:
        for number in range(3):
            body = calls([f"letter-{number}-{n}" for n in range(10)])
            transaction.dead_letter(DeadLetter("request", "traces", "processing raised KeyError", 10, body))
        transaction.dead_letter(DeadLetter("request", "traces/old", "processing raised KeyError", 1, calls(["old"])))
    store.close()
    collector = Collector(tmp_path)
    try:
        collector.start()
        assert json.loads(collector.get("/status")[1])["dead_letters"] == 4
        assert b"spanledger_dead_letters 4.0" in collector.get("/metrics")[1]
        listed = collector.cli("dead-letter", "list", "--format", "json")
        assert [line["items"] for line in json.loads(listed.stdout)] == [10, 10, 10, 1]

        # Nobody else may: neither by being on this machine, nor with a key that is not this collector's.
        assert collector.get("/dead-letters/drop", b'{"ids": [1, 2, 3, 4]}')[0] == 403
        control = find(data)
        assert control is not None
        publish(data, Control(control.endpoint, "another key"))
        refused = collector.cli("dead-letter", "drop", "--all", "--yes")
        assert refused.returncode == 1
        assert f"in use by process {collector.pid}" in " ".join(refused.stderr.split())
        publish(data, control)

        refused = collector.cli("dead-letter", "replay", "--all")
        assert refused.returncode == 1
        assert "dead letter 4 is of pipeline traces/old" in " ".join(refused.stderr.split())
        replayed = collector.cli("dead-letter", "replay", "1", "2", "3")
        assert replayed.stdout == "Put back 3.\n", replayed.stderr
        dropped = collector.cli("dead-letter", "drop", "4", "--yes")
        assert dropped.stdout == "Deleted 1.\n", dropped.stderr
        collector.settled()
        assert collector.sql("SELECT count(), uniqExact(ResponseId) FROM llm_calls") == [[30, 30]]
        assert collector.stop() == 0
        assert find(data) is None
    finally:
        collector.close()
