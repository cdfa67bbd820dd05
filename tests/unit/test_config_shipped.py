"""The configs that ship and that the documentation shows: they load, and the schema of what is installed takes them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from config import ConfigError, Registry, json_schema, load, print_config
from config.loader import SHIPPED, loads

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BAD = Path(__file__).parents[1] / "configs" / "bad" / "components"
ENV = {
    "CLICKHOUSE_PASSWORD": "hunter2",
    "CLICKHOUSE_USER": "me",
    "CLICKHOUSE_HOST": "h",
    "SEARCH_TOKEN": "t",
    "SPANLEDGER_ADMIN_TOKEN": "t",
    "VERDICT_TOKEN": "t",
}
#: What the configs for vendors ask the environment for.
ENV |= dict.fromkeys(
    ("DD_API_KEY", "GRAFANA_CLOUD_BASIC", "HONEYCOMB_API_KEY", "LANGFUSE_BASIC", "NEW_RELIC_LICENSE_KEY"), "hunter2"
)
REGISTRY = Registry.installed()
SCHEMA = Draft202012Validator(json_schema(REGISTRY))


def documented() -> dict[str, str]:
    """Every whole config of the README and the docs, and every component's own example, made whole."""
    found = {"default": SHIPPED.read_text(), "deploy": (ROOT / "deploy" / "spanledger.yaml").read_text()}
    found |= {path.stem: path.read_text() for path in sorted((ROOT / "deploy" / "configs").glob("*.yaml"))}
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for number, text in enumerate(re.findall(r"```yaml\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)):
            if "pipelines:" in text and "acme" not in text:
                found[f"{path.name}-{number}"] = text
    modules = [
        "processors/attribution.py",
        "processors/pricing.py",
        "exporters/debug.py",
        "exporters/nop.py",
        "collector/receivers/config.py",
        "exporters/otlp/config.py",
    ]
    for module in modules:
        for example in re.findall(r"```yaml\n(.*?)```", (ROOT / module).read_text(encoding="utf-8"), re.DOTALL):
            found[module] = _whole(example)
    return found


def _whole(example: str) -> str:
    """A component's example, with what a config needs besides."""
    data = yaml.safe_load(example)
    for section, default in (("receivers", "otlp"), ("processors", None), ("exporters", "debug")):
        if section not in data:
            data[section] = {default: None} if default else {}
    names = {section: list(data[section]) for section in ("receivers", "processors", "exporters")}
    return yaml.safe_dump({**data, "service": {"pipelines": {"traces": names}}})


@pytest.mark.parametrize("name", documented())
def test_every_config_that_we_show_loads(name, tmp_path, monkeypatch):
    """No finding, no warning; the schema takes it; what print-config shows of it loads to the same."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owners.csv").write_text("key,team,cost_centre\nk1,search,0042\n")
    (tmp_path / "policy.yaml").write_text("routes: [{route_to: gpt-4o-mini}]\n")
    text = documented()[name]
    loaded = loads(text, name, ENV, REGISTRY)
    assert loaded.warnings == ()
    SCHEMA.validate(yaml.safe_load(text))
    shown = print_config(loaded)
    assert "hunter2" not in shown
    if "[REDACTED]" not in shown:
        again = loads(shown, name, ENV, REGISTRY)
        assert again.service == loaded.service
        for section in ("receivers", "processors", "exporters"):
            ours, theirs = getattr(loaded, section), getattr(again, section)
            assert {id_: spec.config for id_, spec in ours.items()} == {
                id_: spec.config for id_, spec in theirs.items()
            }


def test_what_runs_without_a_config():
    """No --config: the shipped file, with every component that the issue of who pays what needs."""
    loaded = load(None, {})
    assert loaded.source == SHIPPED
    assert list(loaded.receivers) == ["otlp"]
    assert list(loaded.service.pipelines["traces"].processors) == [
        "attribution",
        "pricing",
        "redaction",
        "privacy",
        "anomaly",
    ]
    assert {id_: p.exporters for id_, p in loaded.service.pipelines.items()} == {
        "traces": ("clickhouse",),
        "logs": ("clickhouse",),
        "metrics": ("nop",),
    }
    assert str(loaded.service.data_dir) == "spanledger-data"
    assert str(load(None, {"SPANLEDGER_DATA_DIR": "/data"}).service.data_dir) == "/data"


@pytest.mark.parametrize(
    "name",
    ["attribution-dimension-unknown", "mapping-number-for-text", "otlp-protocol-unknown", "otlp-tls-without-key", "otlp-limits",
     "pricing-override-unknown-kind", "pricing-reported-cost", "debug-unknown-key"],
)  # fmt: skip
def test_the_schema_refuses_mistakes_of_components(name):
    """What an editor can underline."""
    assert not SCHEMA.is_valid(yaml.safe_load((BAD / f"{name}.yaml").read_text()))


def test_every_option_of_every_component_is_described():
    """Each option says what it is, in the schema and so in an editor and in docs/config.md."""
    for name, definition in SCHEMA.schema["$defs"].items():
        for option, schema in definition.get("properties", {}).items():
            assert schema.get("description") or "anyOf" in schema, f"{name}.{option}"


def test_only_what_keeps_nothing_may_take_the_same_from_two_pipelines():
    """Spans that are there twice, and calls that count twice, are refused; lines on a terminal are not."""
    text = """
receivers: {otlp: }
exporters: {clickhouse: , debug: , nop: }
service:
  pipelines:
    traces: {receivers: [otlp], exporters: [clickhouse, debug, nop]}
    traces/more: {receivers: [otlp], exporters: [%s]}
"""
    loads(text % "debug, nop", "two.yaml")
    with pytest.raises(
        ConfigError, match="pipeline 'traces' gives exporter 'clickhouse' already what receiver 'otlp' takes"
    ):
        loads(text % "debug, clickhouse", "two.yaml")


def test_exporters_whose_options_are_wrong_share_no_place():
    """What they would have meant is not known: only the mistakes themselves are told."""
    text = """
receivers: {otlp: }
exporters: {clickhouse/a: {timeout: soon}, clickhouse/b: {timeout: late}}
service: {pipelines: {traces: {receivers: [otlp], exporters: [clickhouse/a, clickhouse/b]}}}
"""
    with pytest.raises(ConfigError) as caught:
        loads(text, "wrong.yaml")
    assert {finding.path for finding in caught.value.findings} == {
        "exporters.clickhouse/a.timeout",
        "exporters.clickhouse/b.timeout",
    }
