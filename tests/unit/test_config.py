"""A config that is right: what is read from it, what is shown of it, and how strangers' components get in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from collector.signals import Signal
from config import ConfigError, Registry, json_schema, load, loader, print_config
from config.errors import Kind
from config.loader import loads
from config.types import parse_duration, parse_size, show_duration, show_size
from tests.config_kit import REGISTRY

BAD = Path(__file__).parents[1] / "configs" / "bad"
BASE = """
receivers: {otlp: }
processors: {attribution: , pricing: }
exporters: {clickhouse: , debug: }
service:
  pipelines:
    traces: {receivers: [otlp], processors: [attribution, pricing], exporters: [clickhouse, debug]}
"""


def read(text: str, env: dict[str, str] | None = None, *overrides: str):
    return loads(text, "test.yaml", env or {}, REGISTRY, overrides)


def messages(text: str, env: dict[str, str] | None = None, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text, env, *overrides)
    return str(caught.value)


def test_an_option_left_empty_is_a_whole_configuration():
    """`clickhouse:` alone takes every default, and the service has working ones."""
    loaded = read(BASE)
    assert loaded.exporters["clickhouse"].config.timeout == 5.0
    assert loaded.service.data_dir == Path("spanledger-data")
    assert loaded.service.shutdown_timeout == 30.0
    assert loaded.pipelines("traces")["traces"].exporters == ("clickhouse", "debug")
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    ("processors", "option"),
    [
        ("attribution, redaction, pricing", ""),
        ("attribution, pricing, redaction", ""),
        ("redaction, attribution, pricing", "{idle: true}"),
    ],
)
def test_redaction_may_stand_anywhere_behind_what_reads_raw_values(processors, option):
    """Processors of calls run behind it in any case. One that takes nothing out may stand before all."""
    text = BASE.replace("pricing: }", f"pricing: , redaction: {option or ' '}}}")
    assert read(text.replace("attribution, pricing", processors)).warnings == ()
    if option:
        with pytest.raises(ConfigError, match="'redaction' takes them out; put 'attribution' before"):
            read(text.replace("attribution, pricing", processors).replace("idle: true", "idle: false"))


def test_what_is_defined_and_not_used_is_a_warning():
    """The config loads all the same; the finding has its place."""
    loaded = read(BASE.replace("clickhouse, debug]", "clickhouse]"))
    assert [str(w) for w in loaded.warnings] == [
        "test.yaml:4:27: exporters.debug: warning: defined, but no pipeline uses this exporter"
    ]
    assert "debug" in loaded.exporters


def test_several_of_one_type_and_several_pipelines():
    """`type/name` ids, each with its own options; pipelines are picked by signal."""
    loaded = read("""
receivers: {otlp: , otlp/inner: {protocols: {grpc: {endpoint: "0.0.0.0:1"}}}}
processors: {pricing: {rules: [a]}, pricing/b: {rules: [b]}}
exporters: {debug: }
service:
  pipelines:
    traces: {receivers: [otlp], processors: [pricing], exporters: [debug]}
    traces/inner: {receivers: [otlp/inner], processors: [pricing/b], exporters: [debug]}
""")
    assert list(loaded.pipelines("traces")) == ["traces", "traces/inner"]
    assert loaded.pipelines("logs") == {}
    assert loaded.processors["pricing/b"].config.rules == ("b",)
    assert loaded.receivers["otlp/inner"].config.protocols.grpc.endpoint == "0.0.0.0:1"


def test_pipelines_of_several_signals_share_components():
    """One receiver, one exporter, three signals; a signal may have several pipelines."""
    loaded = read("""
receivers: {otlp: }
processors: {pricing: }
exporters: {debug: , clickhouse: }
service:
  pipelines:
    traces: {receivers: [otlp], processors: [pricing], exporters: [clickhouse, debug]}
    logs: {receivers: [otlp], exporters: [clickhouse]}
    logs/vendor: {receivers: [otlp], exporters: [debug]}
    metrics: {receivers: [otlp], exporters: [debug]}
""")
    assert loaded.warnings == ()
    assert list(loaded.pipelines("logs")) == ["logs", "logs/vendor"]
    assert set(loader.SIGNALS) == set(Signal)


# The environment -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "env", "got"),
    [
        ("${env:DSN}", {"DSN": "chdb://x"}, "chdb://x"),
        ("chdb://${env:A}/${env:B}", {"A": "a", "B": "b"}, "chdb://a/b"),
        ("${env:DSN:-chdb://fallback}", {}, "chdb://fallback"),
        ("${env:DSN:-chdb://fallback}", {"DSN": ""}, "chdb://fallback"),
        ("${env:DSN:-}", {}, ""),
        ("$$HOME/$${env:X}", {}, "$HOME/${env:X}"),
        ("${env:DSN}", {"DSN": "a$b${env:OTHER}"}, "a$b${env:OTHER}"),
        ("${env:DSN}", {"DSN": "007"}, "007"),
        ("${env:DSN}", {"DSN": "true"}, "true"),
        ("plain $5", {}, "plain $5"),
    ],
)
def test_a_text_from_the_environment(written, env, got):
    """References are replaced once, `$$` is a dollar sign, and a text option takes what looks like a number as text."""
    text = BASE.replace("clickhouse: ,", f'clickhouse: {{dsn: "{written}"}},')
    assert read(text, env).exporters["clickhouse"].config.dsn == got


def test_numbers_and_durations_from_the_environment():
    """A number option takes a number that the environment spells."""
    text = BASE + '  ledger: {max_spans: "${env:SPANS}", window: "${env:WINDOW:-2h}"}\n'
    loaded = read(text, {"SPANS": "5000"})
    assert (loaded.service.ledger.max_spans, loaded.service.ledger.window) == (5000, 7200.0)


# Overrides -----------------------------------------------------------------------------------------------------------


def test_overrides_stand_above_the_file():
    """`--set path=value`, typed as YAML would; lists and mappings too; keys on the way are made."""
    loaded = read(
        BASE,
        {"DIR": "/data"},
        "service.batch.timeout=50ms",
        "service.ledger.max_spans=9000",
        "service.data_dir=${env:DIR}/x",
        "exporters.clickhouse.dsn=http://h:8123/db",
        "processors.pricing.rules=[a, b]",
        "service.pipelines.traces.exporters=['clickhouse', 'debug']",
    )
    assert loaded.service.batch.timeout == 0.05
    assert loaded.service.ledger.max_spans == 9000
    assert loaded.service.data_dir == Path("/data/x")
    assert loaded.exporters["clickhouse"].config.dsn == "http://h:8123/db"
    assert loaded.processors["pricing"].config.rules == ("a", "b")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("service.batch.timeout", "--set service.batch.timeout: expected path=value, such as service.batch.timeout=50ms"),
        ("=5", "--set : expected path=value, such as service.batch.timeout=50ms"),
        ("service..x=5", "--set service..x: expected path=value, such as service.batch.timeout=50ms"),
        (
            "service.batch.timeot=5s",
            "--set service.batch.timeot: service.batch.timeot: unknown key; did you mean 'timeout'?",
        ),
        (
            "service.batch.timeout=2h",
            "--set service.batch.timeout: service.batch.timeout: must be at most 1m",
        ),
        (
            "service.batch.timeout=${env:NO}",
            "--set service.batch.timeout: service.batch.timeout: the environment variable NO is not set; set it, or give "
            "a default: ${env:NO:-default}",
        ),
        (
            "service.data_dir.x=5",
            "--set service.data_dir.x: service.data_dir.x: there is no mapping to put this into",
        ),
    ],
)  # fmt: skip
def test_a_wrong_override_names_itself(override, message):
    """The place of such a finding is the option on the command line, not a line of the file."""
    text = BASE + "  data_dir: here\n"
    assert messages(text, {}, override) == message


# Secrets -------------------------------------------------------------------------------------------------------------

SECRETS = """
receivers: {otlp: {headers: {x-key: hunter2-header}}}
exporters: {debug: {dsn: "https://me:hunter2-dsn@host/db"}}
service:
  encryption: {key: hunter2-key}
  admin: {auth: {token: "${env:TOKEN}"}}
  pipelines:
    traces: {receivers: [otlp], exporters: [debug]}
"""


def test_secrets_never_print():
    """Not in print-config, not in the repr of what was loaded."""
    loaded = read(SECRETS, {"TOKEN": "hunter2-token"})
    assert loaded.service.admin.auth.token.get_secret_value() == "hunter2-token"
    shown = print_config(loaded)
    assert "hunter2" not in shown + repr(loaded.service) + repr(loaded.receivers)
    assert shown.count("[REDACTED]") == 4
    assert "https://me:[REDACTED]@host/db" in shown


@pytest.mark.parametrize(
    "mistake",
    [
        "receivers.otlp.headers=[hunter2-x]",
        "service.encryption.key=['hunter2-y']",
        "service.admin.auth.token={hunter2-z: 1}",
        "service.shutdown_timeout=${env:TOKEN}",
        "service.ledger.max_spans=${env:TOKEN}",
        "service.telemetry.logs.level=${env:TOKEN}",
        "exporters.debug.timeout=https://me:hunter2-w@host/",
    ],
)
def test_secrets_never_print_in_a_finding(mistake):
    """A mistake beside a secret, or at the place of a value from the environment, does not quote it."""
    assert "hunter2" not in messages(SECRETS, {"TOKEN": "hunter2-token"}, mistake).replace(mistake, "")


# Shown ---------------------------------------------------------------------------------------------------------------


def test_print_config_means_the_same_config():
    """What print-config shows loads to the same, and has every default with its unit."""
    loaded = read(BASE, None, "service.batch.timeout=1500ms", "service.batch.max_size=3MiB")
    shown = print_config(loaded)
    again = read(shown)
    assert (again.service, again.exporters, again.processors) == (loaded.service, loaded.exporters, loaded.processors)
    assert yaml.safe_load(shown)["service"]["batch"] == {
        "max_size": "3MiB",
        "max_items": 64_000,
        "timeout": "1500ms",
    }


def test_the_schema_takes_what_the_loader_takes():
    """JSON Schema for editors: the empty option, `${env:…}` for a number, ids with a name."""
    schema = json_schema(REGISTRY)
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    good = BASE.replace("debug: ", "debug/x: {timeout: 5s}").replace("debug]", "debug/x]")
    good += '  ledger: {max_spans: "${env:SPANS}"}\n  admin:\n'
    validator.validate(yaml.safe_load(good))
    read(good, {"SPANS": "5000"})


@pytest.mark.parametrize(
    "name",
    [
        "unknown-key", "unknown-key-deep", "unknown-section", "unknown-component", "text-for-a-list", "text-for-a-number",
        "list-for-a-mapping", "not-a-choice", "number-out-of-range", "no-service", "no-pipelines", "bad-id",
        "pipeline-without-receivers", "duration-unknown-unit", "component-not-a-mapping", "secret-wrong-type",
    ],
)  # fmt: skip
def test_the_schema_refuses_what_the_loader_refuses(name):
    """The bad configs that a schema can tell: an editor underlines them."""
    validator = Draft202012Validator(json_schema(REGISTRY))
    assert not validator.is_valid(yaml.safe_load((BAD / f"{name}.yaml").read_text()))


def test_the_schema_describes_every_option():
    """Descriptions come from the models' docstrings: an editor shows them."""
    definitions = json_schema(REGISTRY)["$defs"]
    for name, definition in definitions.items():
        if name.startswith("service"):
            assert definition["description"], name
            for option, schema in definition["properties"].items():
                assert schema.get("description") or "anyOf" in schema, f"{name}.{option}"
    assert json.dumps(definitions)


@pytest.mark.parametrize(("text", "seconds"), [("5s", 5), ("1m30s", 90), ("200ms", 0.2), ("24h", 86400), ("1.5h", 5400), ("10us", 1e-5), ("0", 0)])  # fmt: skip
def test_durations(text, seconds):
    """Numbers with units; shown again they mean the same."""
    assert parse_duration(text if text != "0" else 0) == pytest.approx(seconds)
    assert parse_duration(show_duration(seconds) if seconds else 0) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "size"), [("64MiB", 2**26), ("1.5KiB", 1536), ("2 GB", 2 * 10**9), ("512", 512), (7, 7), ("1tib", 2**40)]
)
def test_sizes(text, size):
    """Binary and decimal units, any case; shown again they mean the same."""
    assert parse_size(text) == size
    assert parse_size(show_size(size)) == size


# Strangers' components -----------------------------------------------------------------------------------------------

PLUGIN = '''
from typing import ClassVar
from spanledger import Exporter, Processor, Stage, StrictModel


class LimitConfig(StrictModel):
    """A limit."""

    usd: float = 5.0
    """Dollars a day."""


class Limit(Processor[LimitConfig]):
    """Notes calls above a limit."""

    Config = LimitConfig
    stage = Stage.CALLS

    def process(self, batch):
        return batch


class FileConfig(StrictModel):
    path: str


class File(Exporter[FileConfig]):
    """Writes a file."""

    Config = FileConfig

    def encode(self, batch):
        return []

    def send(self, payload):
        pass
'''
PLUGIN_CONFIG = """
receivers: {otlp: }
processors: {acme_limit: {usd: 2.5}}
exporters: {acme_file: {path: out.txt}}
service:
  pipelines:
    traces: {receivers: [otlp], processors: [acme_limit], exporters: [acme_file]}
"""


def distribution(folder: Path, name: str, module: str, code: str, *points: str) -> None:
    """An installed distribution, as pip leaves it."""
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{name.replace('-', '_')}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("\n".join(points))


def installed() -> Registry:
    """What is installed, with the tests' own receivers and exporters in the place of the real ones."""
    return Registry.installed().with_(REGISTRY)


def test_a_strangers_components_are_found_by_entry_point(tmp_path, monkeypatch):
    """A processor and an exporter of another distribution configure, validate and show like ours."""
    distribution(
        tmp_path, "acme-spanledger", "acme_plugin", PLUGIN,
        "[spanledger.processors]", "acme_limit = acme_plugin:Limit",
        "[spanledger.exporters]", "acme_file = acme_plugin:File",
    )  # fmt: skip
    monkeypatch.syspath_prepend(tmp_path)
    registry = installed()
    loaded = loads(PLUGIN_CONFIG, "test.yaml", {}, registry)
    assert loaded.processors["acme_limit"].cls.__name__ == "Limit"
    assert loaded.processors["acme_limit"].config.usd == 2.5
    assert registry.processors["acme_limit"].origin == "acme-spanledger 1.2"
    assert "usd: 2.5" in print_config(loaded)
    Draft202012Validator(json_schema(registry)).validate(yaml.safe_load(PLUGIN_CONFIG))
    with pytest.raises(ConfigError, match=r"processors\.acme_limit\.us: unknown key; did you mean 'usd'\?"):
        loads(PLUGIN_CONFIG.replace("usd", "us"), "test.yaml", {}, registry)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "import does_not_exist_anywhere",
            "processor 'acme' is installed (acme 1.2) but its code does not import: ModuleNotFoundError: "
            "No module named 'does_not_exist_anywhere'",
        ),
        ("class Limit: pass", "processor 'acme' (acme 1.2) has no Config: expected a class whose `Config` is a pydantic model"),
        (
            "from config.types import StrictModel\nclass Limit:\n  class Config(StrictModel): pass",
            "processor 'acme' (acme 1.2) has no stage: expected Stage.REPORTS or Stage.CALLS",
        ),
    ],
)  # fmt: skip
def test_a_component_that_is_broken_says_whose_it_is(code, message, tmp_path, monkeypatch, request):
    """Installed and not usable: the finding names the distribution and the reason, at the config's line."""
    module = f"acme_broken_{abs(hash(request.node.name))}"
    distribution(tmp_path, "acme", module, code, "[spanledger.processors]", f"acme = {module}:Limit")
    monkeypatch.syspath_prepend(tmp_path)
    text = PLUGIN_CONFIG.replace("acme_limit: {usd: 2.5}", "acme: ").replace("acme_limit", "acme")
    with pytest.raises(ConfigError) as caught:
        loads(text.replace("acme_file", "debug").replace("{path: out.txt}", ""), "test.yaml", {}, installed())
    assert [(f.kind, f.message) for f in caught.value.findings] == [(Kind.BROKEN_COMPONENT, message)]


def test_two_distributions_with_one_name_clash(tmp_path, monkeypatch):
    """Which one is meant cannot be known: the finding names both."""
    distribution(tmp_path, "acme", "acme_one", PLUGIN, "[spanledger.processors]", "acme_limit = acme_one:Limit")
    distribution(tmp_path, "bcme", "acme_two", PLUGIN, "[spanledger.processors]", "acme_limit = acme_two:Limit")
    monkeypatch.syspath_prepend(tmp_path)
    text = PLUGIN_CONFIG.replace("acme_file: {path: out.txt}", "debug: ").replace("acme_file", "debug")
    with pytest.raises(ConfigError, match=r"several packages bring one of this name: acme 1\.2, bcme 1\.2"):
        loads(text, "test.yaml", {}, installed())


# Files ---------------------------------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_read(tmp_path):
    """No such file, not UTF-8: one line that says so."""
    with pytest.raises(ConfigError, match=r"nope\.yaml: cannot read the config: No such file or directory"):
        load(tmp_path / "nope.yaml", {}, REGISTRY)
    (tmp_path / "latin.yaml").write_bytes(b"# caf\xe9\n")
    with pytest.raises(ConfigError, match=r"latin\.yaml: not UTF-8 text \(byte 5\)"):
        load(tmp_path / "latin.yaml", {}, REGISTRY)


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    """Editors on Windows write one."""
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbf" + BASE.encode())
    assert load(tmp_path / "bom.yaml", {}, REGISTRY).source == tmp_path / "bom.yaml"


def test_plain_words_are_text():
    """YAML 1.2: `no`, `on`, `1:30` and dates are texts; a merge key works."""
    loaded = read(BASE.replace("pricing: }", "pricing: {rules: [no, on, 1:30, 2026-01-01, y]}}"))
    assert loaded.processors["pricing"].config.rules == ("no", "on", "1:30", "2026-01-01", "y")
    merged = read("""
receivers: {otlp: }
exporters: {debug: &base {timeout: 7s, dsn: one}, debug/b: {<<: *base, dsn: two}}
service: {pipelines: {traces: {receivers: [otlp], exporters: [debug, debug/b]}}}
""")
    assert [(e.config.dsn, e.config.timeout) for e in merged.exporters.values()] == [("one", 7.0), ("two", 7.0)]
