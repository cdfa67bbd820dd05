"""`spanledger redact`: what would be taken out of a capture, told without telling it."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pytest
from google.protobuf.json_format import MessageToJson
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanledger.cli.shell import out
from tests.cli_kit import Result, run
from tests.redaction_kit import attributes, message, texts
from tests.signals_kit import logs, record
from tests.spans_kit import request, span

EMAIL, CARD = "jane.doe@example.com", "4111 1111 1111 1111"
SPANS = request(
    spans=[
        span("one", {"note": f"mail {EMAIL}, card {CARD}", "enduser.id": "alice", "gen_ai.headers": "{'x': 1}", "n": 4111111111111111}),
        span("two", {"note": f"mail {EMAIL}, card {CARD}", "bytes": b"\xff"}),
    ]
)  # fmt: skip


@pytest.fixture
def body(tmp_path: Path) -> Path:
    path = tmp_path / "001-traces.pb"
    path.write_bytes(SPANS)
    return path


class Ran:
    def __init__(self, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        self.capsys, self.folder = capsys, folder

    def __call__(self, *words: str) -> Result:
        return run(self.capsys, "redact", "--set", f"service.data_dir={self.folder / 'data'}", *words)


@pytest.fixture
def redact(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Ran:
    return Ran(capsys, tmp_path)


def test_counts_by_detector_and_what_happens(redact: Ran, body: Path) -> None:
    lines = [line.split() for line in redact("--file", str(body)).ok().splitlines()]
    assert ["card", "replaced", "by", "a", "marker", "3"] in lines
    assert ["email", "replaced", "by", "a", "marker", "2"] in lines
    assert ["(not", "searchable)", "encoding", "1"] in lines
    told = json.loads(redact("--file", str(body), "--format", "json").ok())
    assert {"detector": "card", "action": "replace", "hits": 3} in told
    rows = list(csv.DictReader(io.StringIO(redact("--file", str(body), "-f", "csv").ok())))
    assert {"detector": "email", "action": "replace", "hits": "2"} in rows


def test_explain_says_where_and_what_becomes_of_it_but_not_what_it_was(redact: Ran, body: Path) -> None:
    """Unless it is asked to, or a person looks at a terminal."""
    shown = redact("--file", str(body), "--explain")
    assert "span attribute  note  email, card  ×2" in shown.out
    assert "after   mail [REDACTED:email], card [REDACTED:card]" in shown.out
    assert "span attribute  enduser.id  identity" in shown.out
    assert "span attribute  gen_ai.headers  header" in shown.out
    assert "(gone)" in shown.out
    assert "span attribute  bytes  not searchable: encoding" in shown.out
    assert not [text for text in (EMAIL, CARD, "alice") if text in shown.out + shown.err]
    assert "--before" in shown.err
    full = redact("--file", str(body), "--explain", "--before")
    assert f"before  mail {EMAIL}, card {CARD}" in full.out


def test_on_a_terminal_what_was_is_shown_in_colour(redact: Ran, body: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(out, "_force_terminal", True)
    monkeypatch.setattr(out, "_color_system", 3)
    shown = redact("--file", str(body), "--explain").ok()
    assert f"\x1b[1;31m{EMAIL}\x1b[0m" in shown
    assert "\x1b[1;32m[REDACTED:email]\x1b[0m" in shown


def test_json_gzip_and_other_signals(redact: Ran, tmp_path: Path) -> None:
    as_json = tmp_path / "traces.json.gz"
    text = json.loads(MessageToJson(ExportTraceServiceRequest.FromString(SPANS)))
    for one in text["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        one["traceId"], one["spanId"] = "ab" * 16, "cd" * 8
    as_json.write_bytes(gzip.compress(json.dumps(text).encode()))
    assert "card" in redact("--file", str(as_json)).ok()
    said = tmp_path / "logs.pb"
    said.write_bytes(logs(record(f"mail {EMAIL}")))
    both = redact("--file", str(as_json), "--file", str(said)).ok()
    assert ["email", "replaced", "by", "a", "marker", "3"] in [line.split() for line in both.splitlines()]


def test_profiles_configs_and_one_of_several_processors(redact: Ran, tmp_path: Path) -> None:
    path = tmp_path / "traces.pb"
    path.write_bytes(request(spans=[span("s", {"gen_ai.prompt": "hello", "note": EMAIL, "session.id": "s"})]))
    assert "gen_ai.prompt  content" in redact("--file", str(path), "--explain", "--profile", "strict").ok()
    config = tmp_path / "spanledger.yaml"
    config.write_text(
        "receivers: {otlp: }\nexporters: {debug: }\n"
        "processors: {redaction/one: {detectors: {email: off}}, redaction/two: {detectors: {email: pseudonymise}}, redaction/off: {profile: off}}\n"
        "service: {pipelines: {traces: {receivers: [otlp], processors: [redaction/one, redaction/two, redaction/off], exporters: [debug]}}}\n"
    )
    words = ("--file", str(path), "--config", str(config))
    assert redact(*words).ok() == "Nothing to take out.\n"
    assert "replaced by a pseudonym" in redact(*words, "--processor", "redaction/two").ok()
    unknown = redact(*words, "--processor", "redaction/three")
    assert (unknown.code, "redaction/one, redaction/two" in unknown.err) == (2, True)
    idle = redact(*words, "--processor", "redaction/off")
    assert (idle.code, "the profile is off" in idle.err) == (1, True)


def test_the_redacted_request_can_be_kept(redact: Ran, body: Path, tmp_path: Path) -> None:
    made = tmp_path / "out.pb"
    redact("--file", str(body), "--output", str(made)).ok()
    left = "\n".join(texts(message(made.read_bytes())))
    assert EMAIL not in left
    assert CARD not in left
    assert redact("--file", str(made), "--check").code == 0 or "user_k" in left, "a key of the moment"


def test_pseudonyms_are_the_collectors_where_it_has_a_key(redact: Ran, tmp_path: Path) -> None:
    from processors.redaction.pseudonyms import Pseudonyms, load_keys

    path = tmp_path / "traces.pb"
    path.write_bytes(request(spans=[span("s", {"enduser.id": "alice"})]))
    made = tmp_path / "out.pb"
    redact("--file", str(path), "--output", str(made)).ok()
    assert not (tmp_path / "data").exists(), "nothing is made there"
    keys = load_keys(None, None, tmp_path / "data")
    redact("--file", str(path), "--output", str(made)).ok()
    assert attributes(made.read_bytes())["enduser.id"] == Pseudonyms(keys).token("user", b"alice").decode()


def test_check_fails_where_there_is_something(redact: Ran, body: Path, tmp_path: Path) -> None:
    found = redact("--file", str(body), "--check")
    assert found.code == 1
    assert "values would be changed" in found.err
    clean = tmp_path / "clean-traces.pb"
    clean.write_bytes(request(spans=[span("s", {"n": 1})]))
    assert redact("--file", str(clean), "--check").ok() == "Nothing to take out.\n"


def test_detectors_are_listed_with_what_happens(redact: Ran) -> None:
    listed = redact("--detectors").ok()
    assert ["card", "pii", "replace", "Payment", "card", "number"] in [line.split() for line in listed.splitlines()]
    told = {row["detector"]: row["action"] for row in json.loads(redact("--detectors", "-f", "json").ok())}
    assert (told["card"], told["private_ip"]) == ("replace", "off")
    assert "card,pii,replace" in redact("--detectors", "-f", "csv").ok()


def test_what_was_typed_wrong(redact: Ran, body: Path, tmp_path: Path) -> None:
    assert "say which request: --file" in redact().err
    assert "no such file" in redact("--file", str(tmp_path / "x.pb")).err
    two = redact("--file", str(body), "--file", str(body), "--output", str(tmp_path / "o"))
    assert (two.code, "one --file" in two.err) == (2, True)
    broken = tmp_path / "broken-traces.pb"
    broken.write_bytes(b"\x0a\xff")
    assert "no OTLP request" in redact("--file", str(broken)).err


def test_a_persons_name_in_the_ledger(redact: Ran, body: Path) -> None:
    """It is what redaction puts in the place of the name; without a collector's key there is none to tell."""
    nobody = redact("--pseudonym", "alice")
    assert nobody.code == 1
    assert "there is no key of pseudonyms in" in nobody.err
    data = redact.folder / "data"
    data.mkdir()
    (data / "pseudonym.key").write_text("ab" * 32)
    (data / "pseudonym.key").chmod(0o600)
    name = redact("--pseudonym", "alice").ok().strip()
    assert name.startswith("user_k")
    assert f"after   {name}" in redact("--file", str(body), "--explain").out
