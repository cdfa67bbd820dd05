"""No personal data leaves or stays, with the real process: ClickHouse, two OTLP backends, dead letters, the log, the metrics, and
every file, byte by byte, before, while and after the data is processed, and after a kill."""

from __future__ import annotations

import gzip
import json
import re
import stat
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from tests.bill import CAPTURES, pipeline
from tests.collector_kit import Collector, running
from tests.leaks_kit import leaks
from tests.vendor_kit import Answer, Vendor, vendor

PERSONAL = (
    "jane.doe@example.com",
    "4111 1111 1111 1111",
    "4111111111111111",
    "078-05-1120",
    "alice@corp.example",
    "+1 415 555 2671",
)
CONFIG = """
receivers:
  otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{grpc}"}}, http: {{endpoint: "127.0.0.1:{http}"}}}}}}
processors:
  attribution:
  pricing:
  redaction: {{audit: true}}
  redaction/vendor: {{profile: strict, audit: true}}
exporters:
  clickhouse: {{dsn: "chdb://{data}/clickhouse"}}
  debug: {{verbosity: detailed}}
  otlphttp/home: {{endpoint: "{vendor}/home", {retry}}}
  otlphttp/vendor: {{endpoint: "{vendor}/vendor", {retry}}}
service:
  data_dir: {data}
  batch: {{timeout: 50ms}}
  admin: {{endpoint: "127.0.0.1:{admin}"}}
  pipelines:
    traces: {{receivers: [otlp], processors: [attribution, pricing, redaction], exporters: [clickhouse, debug, otlphttp/home]}}
    traces/vendor: {{receivers: [otlp], processors: [attribution, pricing, redaction/vendor], exporters: [otlphttp/vendor]}}
    logs: {{receivers: [otlp], processors: [redaction], exporters: [clickhouse, debug, otlphttp/home]}}
    logs/vendor: {{receivers: [otlp], processors: [redaction/vendor], exporters: [otlphttp/vendor]}}
    metrics: {{receivers: [otlp], processors: [redaction], exporters: [debug, otlphttp/home]}}
"""
RETRY = "retry_on_failure: {initial_interval: 100ms, max_interval: 300ms}"


def bodies() -> Iterator[tuple[str, bytes]]:
    """Signal and body of every captured request, folder by folder."""
    for path in sorted(CAPTURES.glob("*/*.pb*")):
        data = path.read_bytes()
        signal = re.search(r"traces|logs|metrics", path.name)
        assert signal
        yield signal[0], gzip.decompress(data) if path.suffix == ".gz" else data


@pytest.fixture(scope="module")
def unredacted() -> dict[str, tuple[Decimal, int, int]]:
    """What the calls of all captures cost, and their tokens, without redaction: per model."""
    sums: dict[str, tuple[Decimal, int, int]] = {}
    with pipeline() as pipe:
        for signal, body in bodies():
            if signal == "traces":
                pipe.take([body])
    for row in pipe.rows.values():
        model = row["upstream_model"] or row["response_model"] or row["request_model"] or ""
        cost, read, wrote = sums.get(model, (Decimal(0), 0, 0))
        sums[model] = (
            cost + Decimal(row["cost_pico"] or 0).scaleb(-12), read + (row["input_tokens"] or 0), wrote + (row["output_tokens"] or 0),
        )  # fmt: skip
    return sums


def start(folder: Path, other: Vendor) -> Collector:
    made = Collector(folder)
    made.config.write_text(
        CONFIG.format(
            grpc=made.grpc, http=made.http, admin=made.admin, data=folder / "data", vendor=other.address, retry=RETRY
        )
    )
    return made


def test_nothing_personal_leaves_or_stays_and_costs_are_the_same(
    tmp_path: Path, unredacted: dict[str, tuple[Decimal, int, int]]
) -> None:
    data = tmp_path / "data"
    sent = [(signal, body) for signal, body in bodies() if any(text.encode() in body for text in PERSONAL)]
    assert len(sent) > 20
    with vendor(Answer(503)) as other:
        made = start(tmp_path, other)
        try:
            made.start()
            assert "no redaction" not in made.log.read_text()
            assert [stat.S_IMODE(path.stat().st_mode) for path in (data, data / "inbox.key", data / "pseudonym.key")] == [0o700, 0o600, 0o600]  # fmt: skip
            assert leaks(data, PERSONAL) == []
            for signal, body in bodies():
                assert made.post(body, path=f"/v1/{signal}")[0] == 200
                if (signal, body) in sent[:6]:  # while it is taken in and processed
                    assert leaks(data, PERSONAL) == []
            made.kill()
            assert leaks(data, PERSONAL) == []
            other.answers[:] = [Answer(headers={"Content-Type": "application/x-protobuf"})]
            made.start()
            made.settled()
            assert leaks(tmp_path, PERSONAL) == []
            costs = {
                model: (Decimal(str(cost or 0)), int(read or 0), int(wrote or 0))
                for model, cost, read, wrote in made.sql(
                    "SELECT multiIf(UpstreamModel != '', UpstreamModel, ResponseModel != '', ResponseModel, RequestModel) AS m, "
                    "toString(sum(CostUSD)), sum(InputTokens), sum(OutputTokens) FROM llm_calls GROUP BY m"
                )
            }
            assert costs == unredacted
            assert_users_are_pseudonyms(made)
            assert_findings_are_told(made)
            metrics = made.get("/metrics")[1].decode()
            assert not [text for text in PERSONAL if text in metrics]
            assert "spanledger_redaction_audit_findings_total{" not in metrics
            assert made.stop() == 0
            assert leaks(tmp_path, PERSONAL) == []
        finally:
            made.close()
        out = {
            path: b"".join(got.body for got in other.taken if got.path.startswith(path))
            for path in ("/home", "/vendor")
        }
    for path, received in out.items():
        assert len(received) > 100_000, path
        assert not [text for text in PERSONAL if text.encode() in received], path
    assert b"Where is my refund" in out["/home"]
    assert b"Where is my refund" not in out["/vendor"], "content is dropped"
    assert b"spanledger.pii.email" in out["/vendor"]


def assert_users_are_pseudonyms(made: Collector) -> None:
    users = {user for (user,) in made.sql("SELECT DISTINCT User FROM llm_calls")}
    assert len(users) > 3
    assert all(user == "(unattributed)" or re.fullmatch(r"user_k[0-9a-f]{4}_[0-9a-f]{32}", user) for user in users)


def assert_findings_are_told(made: Collector) -> None:
    """Which detectors found how much, and that the provider has seen it where it stood in a prompt."""
    rows = made.sql("SELECT Detector, sum(Hits), sum(InRequestHits) FROM llm_pii GROUP BY Detector ORDER BY Detector")
    found = {detector: (int(hits), int(sent)) for detector, hits, sent in rows}
    assert {"email", "card", "us_ssn", "phone"} <= set(found)
    assert 0 < found["card"][1] <= found["card"][0]


def test_a_dead_letter_is_sealed_and_denied(tmp_path: Path) -> None:
    """A request that no pipeline can process is kept as it came: encrypted, and shown only to who insists."""
    from tests.spans_kit import request, span

    service = "  telemetry: {logs: {level: debug}}"
    with running(tmp_path, service=service) as made:
        assert "pipeline traces has no redaction" in made.log.read_text()
        body = request(spans=[span("s", {"prompt": PERSONAL[0]})])
        made.stop()
        break_processing(made)
        made.start(env={"PYTHONPATH": str(tmp_path)})
        assert made.post(body)[0] == 200
        until = time.monotonic() + 30
        while not json.loads(made.get("/status")[1])["dead_letters"]:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert leaks(tmp_path, PERSONAL[:1]) == []
        shown = made.cli("dead-letter", "show", "1")
        assert shown.returncode == 0
        assert PERSONAL[0] not in shown.stdout + shown.stderr
        revealed = made.cli("dead-letter", "show", "1", "--reveal")
        assert PERSONAL[0] in revealed.stdout


def break_processing(made: Collector) -> None:
    """A processor of reports that raises an error which quotes what it saw, as a stranger's may."""
    (made.folder / "sitecustomize.py").write_text(
        "from processors.attribution import Attribution\n"
        "def process(self, batch):\n"
        "    raise ValueError(batch.otlp.data.tobytes().decode('latin-1'))\n"
        "Attribution.process = process\n"
    )
