"""`validate`, `print-config`, `config-schema`, `components`, `prices` and `version`, with what is really installed."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.cli_kit import run

CONFIG = """
receivers: {otlp: }
processors:
  attribution:
  pricing: {overrides: [{model: "my-llama*", provider: vllm, input_mtok: 0.1, output_mtok: 0.4, tier_multipliers: {batch: 0.5}}]}
exporters:
  clickhouse: {dsn: "http://me:hunter2@h:8123/db"}
  debug:
service:
  pipelines:
    traces: {receivers: [otlp], processors: [attribution, pricing], exporters: [clickhouse]}
"""


@pytest.fixture
def config(tmp_path) -> Path:
    path = tmp_path / "spanledger.yaml"
    path.write_text(CONFIG)
    return path


def test_validate(config, capsys):
    """OK on standard output, warnings on standard error; either way of naming the file; the shipped one without."""
    result = run(capsys, "validate", "--config", str(config))
    assert result.ok() == f"OK {config}: traces\n"
    assert result.err == f"{config}:8:3: exporters.debug: warning: defined, but no pipeline uses this exporter\n"
    assert run(capsys, "validate", str(config)).ok() == f"OK {config}: traces\n"
    assert run(capsys, "validate").ok() == "OK the shipped config: traces, logs, metrics\n"


def test_validate_says_all_that_is_wrong(config, capsys):
    """Exit code 2, one line a finding, in the order of the file."""
    config.write_text(
        CONFIG.replace("overrides", "overides").replace("http://", "ftp://").replace("traces:", "tracing:")
    )
    result = run(capsys, "validate", str(config))
    assert (result.code, result.out) == (2, "")
    lines = [line.removeprefix(f"{config}:") for line in result.err.splitlines()]
    assert [line.split(": ")[1] for line in lines] == [
        "processors.pricing.overides", "exporters.clickhouse.dsn", "exporters.debug", "service.pipelines.tracing"
    ]  # fmt: skip
    assert "hunter2" not in result.err


def test_validate_with_an_override(config, capsys):
    """--set stands above the file, and its mistakes are findings too."""
    assert run(capsys, "validate", str(config), "--set", "service.batch.timeout=50ms").code == 0
    result = run(capsys, "validate", str(config), "--set", "service.batch.timeout=fast")
    assert result.code == 2
    assert "--set service.batch.timeout: service.batch.timeout: not a duration" in result.err


def test_print_config(config, capsys):
    """Every default, no secret; what is shown is YAML. --shipped is the file itself, comments and all."""
    shown = run(capsys, "print-config", "--config", str(config)).ok()
    data = yaml.safe_load(shown)
    assert data["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"] == "127.0.0.1:4317"
    assert data["exporters"]["clickhouse"]["timeout"] == "1m"
    assert data["exporters"]["clickhouse"]["dsn"] == "[REDACTED]"
    assert "hunter2" not in shown
    assert run(capsys, "print-config", "--shipped").ok().startswith("# What runs without a config file")


def test_config_schema(capsys):
    """A JSON Schema that takes the shipped config."""
    schema = json.loads(run(capsys, "config-schema").ok())
    shipped = run(capsys, "print-config", "--shipped").ok()
    Draft202012Validator(schema).validate(yaml.safe_load(shipped))


def test_components(capsys):
    """All of them with what they do and who brings them; one section; the dialects."""
    shown = run(capsys, "components").ok()
    for name in ("Receivers", "otlp", "attribution", "pricing", "clickhouse", "debug", "Dialects", "litellm_v2"):
        assert name in shown
    assert "cannot be used" not in shown
    only = run(capsys, "components", "exporters").ok()
    assert "clickhouse" in only
    assert "attribution" not in only
    assert "spanledger 0.1.0" in only


# prices ------------------------------------------------------------------------------------------------------------------


def test_prices_lookup_says_why(capsys):
    """What was tried, which rule matched, and the rates."""
    shown = run(capsys, "prices", "lookup", "openai/gpt-4o-mini").ok()
    assert "tried openai/gpt-4o-mini: openai/gpt-4o-mini (the name says openai)" in shown
    assert re.search(r"genai-prices \S+ openai/gpt-4o-mini at 20\d\d-", shown)
    assert re.search(r"input +0\.15\n", shown)
    assert re.search(r"output +0\.6\n", shown)
    assert re.search(r"cache read +0\.075\n", shown)


def test_prices_lookup_by_day_tier_provider_and_threshold(capsys):
    """Prices change with the day and the tier; long prompts have a column of their own."""
    flex = ["prices", "lookup", "gpt-5-mini", "--provider", "openai", "--tier", "flex"]
    assert "No price for the tier 'flex'" in run(capsys, *flex, "--at", "2026-09-01").ok()
    assert "No price for the tier" not in run(capsys, *flex, "--at", "2026-11-01T12:00").ok()
    assert "above 200,000 input tokens" in run(capsys, "prices", "lookup", "gemini-2.5-pro").ok()
    assert "served as priority" in run(capsys, "prices", "lookup", "gpt-4o").ok()


def test_prices_lookup_with_overrides(config, capsys):
    """The config's own prices come first."""
    words = ["prices", "lookup", "my-llama-70b", "--provider", "vllm", "--config", str(config)]
    shown = run(capsys, *words).ok()
    assert "override for 'my-llama*'" in shown
    assert "override my-llama* at" in shown
    assert "override my-llama* batch at" in run(capsys, *words, "--tier", "Batch").ok()


def test_prices_lookup_without_a_price(capsys):
    """Exit code 1, what was tried, and the line to add."""
    result = run(capsys, "prices", "lookup", "nobody-knows-me")
    assert result.code == 1
    assert "tried nobody-knows-me: no provider in the book is named or suggested" in result.out
    assert "error: no price for 'nobody-knows-me' at" in result.err
    assert "{model: 'nobody-knows-me', input_mtok: 1.0, output_mtok: 2.0}" in result.err


def test_prices_list(config, capsys):
    """The book, overrides first; by provider; for a spreadsheet."""
    rows = list(
        csv.DictReader(io.StringIO(run(capsys, "prices", "list", "--format", "csv", "--config", str(config)).ok()))
    )
    assert rows[0] == {
        "provider": "vllm", "model": "my-llama*", "input": "0.1", "output": "0.4", "cache_read": "0.1", "cache_write": "0.1"
    }  # fmt: skip
    assert len(rows) > 1000
    only = json.loads(run(capsys, "prices", "list", "--provider", "anthropic", "--format", "json").ok())
    assert {row["provider"] for row in only} == {"anthropic"}
    assert "claude-sonnet-4-5" in run(capsys, "prices", "list", "--provider", "anthropic").ok()
    result = run(capsys, "prices", "list", "--provider", "nobody")
    assert result.code == 2
    assert "--provider: no provider 'nobody' in the book\n  There are " in result.err


def test_version(capsys):
    """Ours and what the figures depend on."""
    shown = run(capsys, "version").ok()
    assert shown.startswith("spanledger 0.1.0\n")
    assert "genai-prices" in shown


def test_what_is_between_colons_is_shown_as_it_is(config, capsys):
    """`${env:V:-default}` holds `:V:`, which a terminal library takes for the name of a picture."""
    config.write_text(CONFIG.replace("hunter2", "${env:V}"))
    assert "or give a default: ${env:V:-default}" in run(capsys, "validate", str(config)).err


@pytest.mark.parametrize("words", [["version"], ["--version"], ["-V"]])
def test_the_version_however_it_is_asked_for(words, capsys):
    """The command, and the option that every other program has."""
    assert run(capsys, *words).ok().startswith("spanledger 0.1.0\n")
